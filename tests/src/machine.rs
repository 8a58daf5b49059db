//! A machine with a real systemd as its first process, in namespaces of its own, and a network for several of them.
//!
//! The nodes of a [`crate::Cluster`] start in milliseconds because nothing of a distribution runs in them. A machine is for
//! what needs one: units, the journal, packages. It has the shared root tree below it and writes to memory.
#![forbid(unsafe_code)]

use crate::tree::Tree;
use crate::wait_for;
use anyhow::{Context as _, bail, ensure};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::Duration;

/// systemd starts in one or two seconds.
pub const BOOT: Duration = Duration::from_secs(30);

/// In a mount namespace: enters a control group of its own, then namespaces of its own. `$1` is the room.
const ENTER: &str = r#"set -e
mount -t cgroup2 cgroup2 "$1/cg"
mkdir "$1/cg/$2"
echo $$ > "$1/cg/$2/cgroup.procs"
exec unshare --cgroup --mount --uts --ipc --net --pid --fork --kill-child sh "$1/boot" "$1" "$3" "$4"
"#;

/// As process 1 of the new namespaces: a root of its own over the tree `$2`, then systemd. The fifo opens when the
/// network is there. Slurm's services, which the tree's packages have enabled, wait until somebody starts them. Where
/// devices are simulated, there are nodes of four GPUs.
const BOOT_SCRIPT: &str = r#"set -e
mount -t tmpfs tmpfs "$1/upper" -o mode=755
mkdir -m 755 "$1/upper/files" "$1/upper/work"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper/files,workdir=$1/upper/work" "$1/root"
cp -a "$1/files/." "$1/root/"
read -r address < "$1/go"
cd "$1/root"
rm -f etc/systemd/system/multi-user.target.wants/slurm*.service
hostname "$3"
echo "$3" > etc/hostname
mount -t proc proc proc
[ ! -e etc/proc-devices ] || mount --bind etc/proc-devices proc/devices
mount -t tmpfs tmpfs run -o mode=755
[ ! -e etc/nvlink-sim ] || cp -a etc/nvlink-sim run/
mount -t tmpfs tmpfs tmp -o mode=1777
mount -t tmpfs tmpfs dev -o mode=755
node() { mknod -m 666 "dev/$1" c "$2" "$3"; }
node null 1 3; node zero 1 5; node full 1 7; node random 1 8; node urandom 1 9; node tty 5 0
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666,mode=620
mount -t tmpfs tmpfs dev/shm -o mode=1777
[ ! -e etc/proc-devices ] || for gpu in 0 1 2 3; do node nvidia$gpu 195 $gpu; done
mount -t sysfs sysfs sys -o ro
mount -t cgroup2 cgroup2 sys/fs/cgroup
: > etc/machine-id
chroot . ip link set lo up
[ -z "$address" ] || { chroot . ip address add "$address/16" dev eth0; chroot . ip link set eth0 up; }
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd systemd.unit=multi-user.target
"#;

/// Everything of the control group goes; what is in it has ended.
const LEAVE: &str = r#"mount -t cgroup2 cgroup2 "$1/cg" && find "$1/cg/$2" -depth -type d -exec rmdir {} +"#;

/// A network namespace with a bridge, for machines that talk to each other. It ends when dropped.
#[derive(Debug)]
pub struct Network {
    holder: Child,
    /// Closing it ends the holder.
    stdin: Option<ChildStdin>,
    tree: PathBuf,
}

impl Network {
    /// Makes one; the programs that do it are the tree's.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(tree: &Tree) -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        // ip finds the namespace of a process in /proc.
        command.args([
            "--net",
            "--mount",
            "sh",
            "-c",
            "mount -t proc proc \"$1/proc\" && echo made; exec cat",
            "sh",
        ]);
        command.arg(tree.root());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = holder.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let network = Self { holder, stdin, tree: tree.root().to_owned() };
        ensure!(
            line.trim() == "made",
            "the kernel gives no network namespace (unshare failed; root is needed)"
        );
        network.ip("link add bridge type bridge")?;
        network.ip("link set bridge up")?;
        Ok(network)
    }

    /// Gives the namespace of a process an `eth0` on the bridge.
    fn connect(&self, pid: i32) -> anyhow::Result<()> {
        self.ip(&format!("link add v{pid} type veth peer name eth0 netns {pid}"))?;
        self.ip(&format!("link set v{pid} master bridge up"))
    }

    fn ip(&self, words: &str) -> anyhow::Result<()> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount", "chroot"]);
        command.arg(&self.tree).arg("ip");
        let output = command.args(words.split(' ')).stdin(Stdio::null()).output().context("run nsenter")?;
        ensure!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ended = self.holder.wait();
    }
}

/// A machine that systemd runs. It ends when dropped, and nothing of it is left.
#[derive(Debug)]
pub struct Machine {
    name: String,
    room: tempfile::TempDir,
    group: String,
    unshare: Child,
    /// systemd, as this machine counts.
    init: i32,
}

impl Machine {
    /// Boots a machine called `name` and waits until systemd is up. `put_files` fills the folder that is laid over the tree;
    /// what it puts into `etc/proc-devices` becomes `/proc/devices`, and `etc/nvlink-sim` the settings of what is simulated.
    ///
    /// # Errors
    /// The kernel refuses namespaces or mounts, or systemd does not come up in [`BOOT`].
    pub fn boot(
        tree: &Tree,
        name: &str,
        place: Option<(&Network, Ipv4Addr)>,
        put_files: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let room = tempfile::tempdir()?;
        for folder in ["cg", "upper", "root", "files"] {
            fs::create_dir(room.path().join(folder))?;
        }
        fs::write(room.path().join("enter"), ENTER)?;
        fs::write(room.path().join("boot"), BOOT_SCRIPT)?;
        nix::unistd::mkfifo(&room.path().join("go"), nix::sys::stat::Mode::S_IRWXU)?;
        put_files(&room.path().join("files"))?;
        let group = format!("slurm-nvlink-{}", room.path().file_name().unwrap_or_default().display());
        let log = room.path().join("log");
        let unshare = Command::new("unshare")
            .args(["--mount", "sh"])
            .arg(room.path().join("enter"))
            .arg(room.path())
            .args([group.as_ref(), tree.root().as_os_str()])
            .arg(name)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log)?)
            .stderr(fs::File::options().append(true).open(&log)?)
            .spawn()?;
        // From here on, dropping it cleans up.
        let mut machine = Self { name: name.to_owned(), room, group, unshare, init: 0 };
        machine.begin(place, &log).with_context(|| format!("machine {name}"))?;
        Ok(machine)
    }

    fn begin(&mut self, place: Option<(&Network, Ipv4Addr)>, log: &Path) -> anyhow::Result<()> {
        let said = || fs::read_to_string(log).unwrap_or_default();
        let pid = self.unshare.id();
        let (unshare, init) = (&mut self.unshare, &mut self.init);
        wait_for("its process 1", BOOT, || {
            ensure!(unshare.try_wait()?.is_none(), "no namespaces: {}", said());
            let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            let mut children = text.split_whitespace().filter_map(|word| word.parse().ok());
            Ok(match children.find(|child| is_process_1(*child)) {
                Some(child) => {
                    *init = child;
                    Ok(())
                }
                None => Err("no child yet".to_owned()),
            })
        })?;
        let address = match place {
            Some((network, address)) => {
                network.connect(self.init)?;
                address.to_string()
            }
            None => String::new(),
        };
        // A fifo opens when its reader is there; a machine that has failed meanwhile has none.
        let go = self.room.path().join("go");
        let writer = std::thread::spawn(move || fs::write(go, format!("{address}\n")));
        wait_for("it has begun to boot", BOOT, || {
            ensure!(self.unshare.try_wait()?.is_none(), "it ended: {}", said());
            Ok(if writer.is_finished() {
                Ok(())
            } else {
                Err("it has not asked for its network yet".to_owned())
            })
        })?;
        match writer.join() {
            Ok(written) => written?,
            Err(_) => bail!("the thread that lets it boot has panicked"),
        }
        wait_for("systemd is up", BOOT, || {
            ensure!(self.unshare.try_wait()?.is_none(), "it ended: {}", said());
            let output = self.run(&["systemctl", "is-system-running"])?;
            let word = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            // Some unit of the distribution may not like such a small machine.
            Ok(if ["running", "degraded"].contains(&word.as_str()) {
                Ok(())
            } else {
                Err(format!("{output:?}"))
            })
        })
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command in it as root, whatever its outcome.
    ///
    /// # Errors
    /// It cannot be entered.
    pub fn run(&self, argv: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "env", "--ignore-environment"]);
        command.arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin").args(argv);
        Ok(command.stdin(Stdio::null()).output()?)
    }

    /// What a command prints that must succeed.
    ///
    /// # Errors
    /// It fails, or prints what is no text.
    pub fn text(&self, argv: &[&str]) -> anyhow::Result<String> {
        let output = self.run(argv)?;
        ensure!(output.status.success(), "{argv:?} on {}: {output:?}", self.name);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A file of it, as this machine reaches it.
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(path.trim_start_matches('/'))
    }
}

impl Drop for Machine {
    /// unshare ends systemd, and with it everything of its namespace.
    fn drop(&mut self) {
        let _ended = self.unshare.kill();
        let _ended = self.unshare.wait();
        let room = self.room.path();
        let left = wait_for("the machine's control group is gone", BOOT, || {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", LEAVE, "sh"]).arg(room).arg(&self.group);
            let output = command.output()?;
            Ok(if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) })
        });
        if let Err(error) = left {
            eprintln!("{error:#}");
        }
    }
}

/// Whether a process is the first one of a process namespace: the last number in its line.
fn is_process_1(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| {
        let mut words = numbers.split_whitespace();
        words.next_back() == Some("1") && words.next().is_some()
    })
}
