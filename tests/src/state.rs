//! What is known outside of a running cluster: its directory under [`paths::CLUSTERS`].
//!
//! The supervisor holds a lock on the directory for as long as it lives, so a directory without a lock is a left-over
//! of a supervisor that was killed. All making and removing of such directories happens under a lock on their parent.
#![forbid(unsafe_code)]

use crate::limits;
use crate::paths;
use crate::process::Process;
use crate::spec::About;
use crate::wait_for;
use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Name of the file that describes a cluster.
const FILE: &str = "state.json";

/// A running cluster, as its supervisor describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    /// The supervisor on the host.
    pub(crate) supervisor: HostProcess,
    /// What it was made from.
    pub(crate) about: About,
    /// The controller first.
    pub(crate) nodes: Vec<NodeState>,
}

/// A process on the host.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct HostProcess {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
}

/// A node on the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeState {
    pub(crate) name: String,
    pub(crate) ip: Ipv4Addr,
    /// Its first process.
    pub(crate) process: HostProcess,
    /// Directory with its logs.
    pub(crate) logs: PathBuf,
}

impl State {
    /// Reads the description of a cluster.
    pub(crate) fn load(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes it, in one step.
    pub(crate) fn save(&self, dir: &Path) -> anyhow::Result<()> {
        let temporary = dir.join(".state.json");
        fs::write(&temporary, serde_json::to_string_pretty(self)?).context("cannot write the state")?;
        fs::rename(&temporary, dir.join(FILE)).context("cannot write the state")
    }

    /// A node by name.
    pub(crate) fn node(&self, name: &str) -> anyhow::Result<&NodeState> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            format!("no node is called {name}; there are {}", names.join(" "))
        })
    }
}

impl HostProcess {
    /// The process itself, if it still is the one that was written down.
    pub(crate) fn open(self) -> io::Result<Process> {
        Process::open(self.pid, self.start_time)
    }
}

/// Directory of a cluster.
pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(paths::CLUSTERS).join(name)
}

/// Whether a name can be a cluster's.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 32 || !name.chars().all(good) {
        bail!("the cluster's name {name:?} must be 1 to 32 letters, digits, - or _");
    }
    Ok(())
}

/// The lock under which directories of clusters come and go.
pub(crate) struct Registry(#[expect(dead_code, reason = "holds the lock")] Flock<File>);

impl Registry {
    /// Takes the lock; makes the parent directory if need be.
    pub(crate) fn lock() -> anyhow::Result<Self> {
        let path = Path::new(paths::CLUSTERS);
        loop {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .with_context(|| format!("cannot make {} (the test cluster needs root)", path.display()))?;
            let lock = match File::open(path) {
                Ok(file) => Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
            };
            // The last cluster's end may have removed the directory while we waited.
            match fs::metadata(path) {
                Ok(now) if now.ino() == lock.metadata()?.ino() => return Ok(Self(lock)),
                _ => {}
            }
        }
    }

    /// Makes the directory of a new cluster; a left-over of a dead one is removed first.
    pub(crate) fn create(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = directory(name);
        if dir.exists() {
            if is_locked(&dir)? {
                bail!(
                    "a cluster called {name} is running; end it with `cargo xtask cluster down --name {name}`"
                );
            }
            remove(&dir)?;
        }
        for part in ["logs", "mnt"] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir.join(part))
                .with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(dir)
    }

    /// Names of the clusters that run; left-overs of dead ones are removed.
    pub(crate) fn running(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(paths::CLUSTERS)? {
            let entry = entry?;
            if is_locked(&entry.path())? {
                names.push(entry.file_name().to_string_lossy().into_owned());
            } else {
                remove(&entry.path())?;
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Ends a cluster and removes its directory. Whether there was one.
    pub(crate) fn end(&self, name: &str) -> anyhow::Result<bool> {
        let dir = directory(name);
        if !dir.exists() {
            return Ok(false);
        }
        // A supervisor that is just starting, or ending by itself, has the lock and no description.
        wait_for(&format!("the end of the cluster {name}"), limits::TEARDOWN, || {
            if !is_locked(&dir)? {
                return Ok(Ok(()));
            }
            let supervisor = match State::load(&dir) {
                Ok(state) => state.supervisor,
                Err(error) => return Ok(Err(format!("{error:#}"))),
            };
            kill_and_wait(supervisor).map(|()| Err("the supervisor was killed".to_owned()))
        })?;
        remove(&dir)?;
        Ok(true)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Succeeds only when no cluster is left.
        let _ = fs::remove_dir(paths::CLUSTERS);
    }
}

/// Takes the lock that says "the supervisor of this directory lives".
pub(crate) fn hold(dir: &Path) -> anyhow::Result<Flock<File>> {
    let file = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("{} belongs to another supervisor", dir.display()))
}

/// Whether a supervisor holds the directory; one that is not there is held by nobody.
fn is_locked(dir: &Path) -> anyhow::Result<bool> {
    let file = match File::open(dir) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", dir.display())),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => {
            Err(errno).with_context(|| format!("cannot look at the lock of {}", dir.display()))
        }
    }
}

fn kill_and_wait(supervisor: HostProcess) -> anyhow::Result<()> {
    match supervisor.open() {
        Ok(process) => {
            match process.signal(Signal::SIGKILL) {
                Err(error) if error.raw_os_error() != Some(nix::errno::Errno::ESRCH as i32) => {
                    return Err(error).context("cannot kill the supervisor");
                }
                _ => {}
            }
            // As the first process of its pid namespace it is gone only when all others in there are.
            process.wait_gone(limits::TEARDOWN).context("the cluster does not end")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context("cannot reach the supervisor"),
    }
}

/// Removes the directory of a dead cluster.
pub(crate) fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        assert!(check_name("demo-2_x").is_ok());
        for bad in ["", ".", "..", "a/b", "a b", &"x".repeat(33)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
