//! A tray on the loopback network: moved paths, simulated daemon and control tool, Slurm's environment.

use anyhow::{Context, Result, ensure};
use fabric::identity::{DomainId, FabricId, PartitionId};
use fabric::nvml::NvmlError;
use fabric::reading::{FabricHealth, FabricState, GpuFabric, GpuReading, TrayReading};
use imex_prolog::helper::Helper;
use imex_prolog::job::Environment;
use imex_prolog::paths::Paths;
use imex_prolog::procfs::Proc;
use imex_prolog::resolve::system_lookup;
use imex_prolog::run::{Hook, Surroundings, end_job, run, watch};
use imex_prolog::{giving_up, watch as watching};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

/// First argument of a hook process.
pub(crate) const HOOK_FLAG: &str = "--hook";
/// First argument of a process that does what outlives a run.
pub(crate) const HELPER_FLAG: &str = "--helper";
/// Node names of the trays.
const NODES: &str = "t[1-3]";

/// Moves this program into a network of its own, where the addresses of all trays are this machine's, and into a mount
/// namespace of its own.
///
/// Before any thread is started: a namespace belongs to a thread and is inherited.
pub(crate) fn enter_network() -> Result<()> {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    // What is mounted from now on is this program's alone, and gone with it.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)?;
    let mut batch = "link set lo up\n".to_owned();
    for network in 1..=NETWORKS_MAX {
        for tray in 1..=3 {
            batch.push_str(&format!("addr add 10.77.{network}.{tray}/32 dev lo\n"));
        }
    }
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("ip (iproute2) is needed")?;
    ip.stdin.take().context("no standard input")?.write_all(batch.as_bytes())?;
    ensure!(ip.wait()?.success(), "ip -batch failed");
    Ok(())
}

/// The fabric that every tray here reads.
fn fabric_id() -> FabricId {
    FabricId { domain: DomainId([0x7e; 16]), partition: PartitionId(32_766) }
}

#[expect(clippy::unnecessary_wraps, reason = "stands in for the NVML query")]
fn read_tray() -> Result<TrayReading, NvmlError> {
    let id = fabric_id();
    let gpu = |index| GpuReading {
        index,
        uuid: format!("GPU-{index}"),
        name: "simulated GPU".to_owned(),
        fabric: Some(GpuFabric {
            domain: id.domain,
            partition: id.partition,
            state: FabricState::Completed,
            status: 0,
            health: FabricHealth { mask: 0xaa, summary: 1 },
        }),
    };
    Ok(TrayReading { driver_version: "580.95.05".to_owned(), gpus: (0..4).map(gpu).collect() })
}

/// The body of a hook process.
pub(crate) fn run_hook(hook: &str, root: &Path, node: &str, job: &str) -> ExitCode {
    let paths = Paths::below(root);
    imex_prolog::log::init(&paths, "imex-test");
    let hook = if hook == "prolog" { Hook::Prolog } else { Hook::Epilog };
    let nodes = std::fs::read_to_string(root.join("nodes")).unwrap_or_default();
    let conf = root.join("slurm.conf");
    let partition = std::fs::read_to_string(root.join("partition")).unwrap_or_default();
    let extra = std::fs::read_to_string(root.join("environment")).unwrap_or_default();
    let extra = extra.lines().filter_map(|line| line.split_once('='));
    let environment: Environment = [
        ("SLURM_JOB_ID", OsStr::new(job)),
        ("SLURM_JOB_UID", OsStr::new("1000")),
        ("SLURM_JOB_GID", OsStr::new("100")),
        ("SLURMD_NODENAME", OsStr::new(node)),
        ("SLURM_JOB_NODELIST", OsStr::new(nodes.trim())),
        ("SLURM_JOB_EXCLUSIVE", OsStr::new("NODE")),
        ("SLURM_JOB_GPUS", OsStr::new("0,1,2,3")),
        ("SLURM_JOB_PARTITION", OsStr::new(partition.trim())),
        ("SLURM_CONF", conf.as_os_str()),
    ]
    .into_iter()
    .chain(extra.map(|(name, value)| (name, OsStr::new(value))))
    .collect();
    let Ok(program) = std::env::current_exe() else { return ExitCode::FAILURE };
    let helper = Helper { program, arguments: vec![HELPER_FLAG.into(), root.as_os_str().to_owned()] };
    let surroundings = Surroundings { paths, environment, read_tray, lookup: system_lookup, helper };
    ExitCode::from(run(hook, &surroundings).exit_code())
}

/// The body of a process that does what outlives a run.
pub(crate) fn run_helper(root: &Path, words: &[String]) -> ExitCode {
    let paths = Paths::below(root);
    imex_prolog::log::init(&paths, "imex-test");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [watching::WORD, job, prolog] => match (job.parse(), serde_json::from_str(prolog)) {
            (Ok(job), Ok(prolog)) => watch(&paths, job, prolog, std::io::stdin()).is_ok(),
            _ => false,
        },
        [giving_up::WORD, job] => {
            job.parse().is_ok_and(|job| end_job(&paths, job, &root.join("slurm.conf"), std::io::stdout()))
        }
        _ => false,
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Where the simulated programs are; built on demand, since they belong to another package.
fn simulated(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let built = own.ancestors().nth(2).context("no target directory")?.join(name);
    if !built.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo).args(["build", "--quiet", "--package", "sim", "--bins"]).status()?;
        ensure!(status.success() && built.exists(), "cannot build the simulated {name}");
    }
    Ok(built)
}

/// One tray.
pub(crate) struct Site {
    temp: tempfile::TempDir,
    node: &'static str,
    /// Where its things lie.
    pub(crate) paths: Paths,
}

/// slurmd's file with one job, as Slurm 26.05 packs it.
fn cred_state(job: u32, time: u64) -> Vec<u8> {
    let mut bytes = vec![45, 0, 0, 0, 0, 1];
    bytes.extend([0; 8]);
    bytes.extend(job.to_be_bytes());
    bytes.extend([0xff; 8]);
    bytes.extend(time.to_be_bytes());
    bytes.extend([0; 24]);
    bytes.extend([0; 4]);
    bytes
}

/// How a hook process ended.
pub(crate) struct Ran {
    /// Exit code; `None` when it was killed.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) text: String,
}

/// Most tests with a network of their own.
const NETWORKS_MAX: u8 = 96;
/// Gives each test its own part of 10.77.0.0/16.
static NETWORKS: AtomicU8 = AtomicU8::new(1);

impl Site {
    /// A tray alone in its block, with `settings` beside the paths of the simulated programs.
    pub(crate) fn alone(settings: &str) -> Result<Self> {
        let network = NETWORKS.fetch_add(1, Ordering::Relaxed);
        Self::new("t1", "t1", network, settings)
    }

    /// The trays of a job on `nodes`, each with its own settings.
    pub(crate) fn several<const N: usize>(
        nodes: &str,
        trays: [(&'static str, &str); N],
    ) -> Result<[Self; N]> {
        let network = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let sites: Result<Vec<Self>> =
            trays.into_iter().map(|(node, settings)| Self::new(node, nodes, network, settings)).collect();
        sites?.try_into().map_err(|_| anyhow::anyhow!("another number of trays"))
    }

    fn new(node: &'static str, nodes: &str, network: u8, settings: &str) -> Result<Self> {
        ensure!(network <= NETWORKS_MAX, "more tests than networks: raise NETWORKS_MAX");
        let temp = tempfile::tempdir()?;
        let root = temp.path();
        let paths = Paths::below(root);
        for dir in [&paths.settings, &paths.devices] {
            std::fs::create_dir_all(dir.parent().context("no parent")?)?;
        }
        std::fs::create_dir(root.join("sim"))?;
        std::fs::write(
            &paths.devices,
            "Character devices:\n234 nvidia-caps-imex-channels\n\nBlock devices:\n",
        )?;
        for name in ["nvidia-imex", "nvidia-imex-ctl"] {
            let sim = root.join("sim");
            // The programs get no environment from us, as on a real tray; the simulation's own setting is put in here.
            let wrapper = format!(
                "#!/bin/sh\nNVLINK_SIM_DIR={} exec {} \"$@\"\n",
                sim.display(),
                simulated(name)?.display()
            );
            std::fs::write(root.join(name), wrapper)?;
            std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o755))?;
        }
        std::fs::write(
            root.join("slurm.conf"),
            format!(
                "GresTypes=gpu\nSlurmdSpoolDir={}\nNodeName={NODES} NodeAddr=10.77.{network}.[1-3]\n",
                root.display()
            ),
        )?;
        std::fs::write(
            root.join("topology.yaml"),
            format!(
                "- topology: fabric\n  cluster_default: true\n  block:\n    block_sizes: [2]\n    blocks:\n    - block: nvl-7e7e7e7e-32766\n      nodes: {NODES}\n"
            ),
        )?;
        std::fs::write(root.join("nodes"), nodes)?;
        let programs = format!(
            "[daemon]\nowner = \"direct\"\nprogram = \"{0}/nvidia-imex\"\ncontrol = \"{0}/nvidia-imex-ctl\"\n\
             [slurm]\nscontrol = \"{0}/scontrol\"\nscancel = \"{0}/scancel\"\n",
            root.display()
        );
        std::fs::write(&paths.settings, format!("{programs}{settings}"))?;
        let site = Self { temp, node, paths };
        for name in ["scontrol", "scancel"] {
            site.script(name, "exit 1")?;
        }
        Ok(site)
    }

    /// A command of Slurm's: writes down what it is asked, then does `body`.
    fn script(&self, name: &str, body: &str) -> Result<()> {
        let path = self.temp.path().join(name);
        let asked = self.temp.path().join("asked");
        std::fs::write(&path, format!("#!/bin/sh\necho \"$*\" >> {}\n{body}\n", asked.display()))?;
        Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
    }

    /// What Slurm's commands were asked.
    pub(crate) fn asked(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(self.temp.path().join("asked")).unwrap_or_default();
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// slurmd writes down that it has revoked a job's credential.
    pub(crate) fn revoke(&self, job: u32, time: u64) -> Result<()> {
        let new = self.temp.path().join("cred_state.new");
        std::fs::write(&new, cred_state(job, time))?;
        Ok(std::fs::rename(new, self.temp.path().join("cred_state"))?)
    }

    /// From now on Slurm ends a job when it is asked to.
    pub(crate) fn slurm_hears(&self, job: u32, time: u64) -> Result<()> {
        let prepared = self.temp.path().join("revoked");
        std::fs::write(&prepared, cred_state(job, time))?;
        let target = self.temp.path().join("cred_state");
        self.script("scontrol", &format!("mv {} {}", prepared.display(), target.display()))
    }

    /// Sets the simulated daemon's settings.
    pub(crate) fn simulate(&self, json: &str) -> Result<()> {
        Ok(std::fs::write(self.temp.path().join("sim/imex.json"), json)?)
    }

    /// Sets variables of Slurm's environment, one `NAME=value` a line.
    pub(crate) fn environment(&self, lines: &str) -> Result<()> {
        Ok(std::fs::write(self.temp.path().join("environment"), lines)?)
    }

    /// The directory below which everything of this tray lies.
    pub(crate) fn root(&self) -> &Path {
        self.temp.path()
    }

    /// Sets the Slurm partition of the jobs to come.
    pub(crate) fn partition(&self, name: &str) -> Result<()> {
        Ok(std::fs::write(self.temp.path().join("partition"), name)?)
    }

    /// Process ids of the standing daemon.
    pub(crate) fn standing(&self) -> Result<Vec<i32>> {
        let config = self.paths.run_dir.join("standing/config.cfg");
        let found = Proc::new(Path::new("/proc")).started_with_config(&config)?;
        Ok(found.iter().map(|process| process.pid).collect())
    }

    /// Names of the channels that exist.
    pub(crate) fn channels(&self) -> Result<Vec<String>> {
        let Ok(entries) = std::fs::read_dir(&self.paths.channel_dir) else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Starts a hook.
    pub(crate) fn start(&self, hook: &str, job: u32) -> Result<Child> {
        Ok(self.command(hook, job)?.spawn()?)
    }

    /// What starts a hook.
    pub(crate) fn command(&self, hook: &str, job: u32) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([HOOK_FLAG, hook])
            .arg(self.temp.path())
            .args([self.node, &job.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// Runs a hook to its end. Comes back only when nobody holds its output any more, as slurmd does.
    pub(crate) fn hook(&self, hook: &str, job: u32) -> Result<Ran> {
        Ran::of(self.start(hook, job)?)
    }

    /// Process ids of this tray's daemons.
    pub(crate) fn daemons(&self, job: u32) -> Result<Vec<i32>> {
        let config = self.paths.run_dir.join(format!("job-{job}/config.cfg"));
        let found = Proc::new(Path::new("/proc")).started_with_config(&config)?;
        Ok(found.iter().map(|process| process.pid).collect())
    }

    /// Whether the channel exists.
    pub(crate) fn channel(&self) -> Option<std::fs::Metadata> {
        std::fs::metadata(self.paths.channel_dir.join("channel0")).ok()
    }

    /// Nothing of the job is left but logs and the ending mark.
    pub(crate) fn ensure_clean(&self, job: u32) -> Result<()> {
        ensure!(self.channel().is_none(), "the channel is still there");
        ensure!(self.daemons(job)?.is_empty(), "a daemon still runs");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.paths.run_dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| !name.ends_with(".lock") && !name.ends_with(".ended"));
        ensure!(names.is_empty(), "left behind: {names:?}");
        Ok(())
    }
}

impl Ran {
    /// Waits for a hook process.
    pub(crate) fn of(child: Child) -> Result<Self> {
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Self { code: output.status.code(), text })
    }

    /// Its exit code and a text that it must have said.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, text: &str) -> Result<()> {
        ensure!(self.code == Some(code) && self.text.contains(text), "exit {:?}:\n{}", self.code, self.text);
        Ok(())
    }
}

impl Drop for Site {
    /// A failed test must not leave its daemon behind.
    fn drop(&mut self) {
        let jobs = (1..=3).flat_map(|job| self.daemons(job).unwrap_or_default());
        for pid in jobs.chain(self.standing().unwrap_or_default()) {
            kill(pid);
        }
    }
}

/// Ends a process at once.
pub(crate) fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
}
