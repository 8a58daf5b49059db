//! A tray with a real systemd as its first process: the (simulated) IMEX daemon is a unit of its own, and the journal has
//! what prolog and epilog say.
//!
//! No cluster: Slurm's environment is given by hand, in namespaces with nothing but a loopback network.
#![forbid(unsafe_code)]

use crate::harness::{Body, Case, Setup};
use crate::imex::SMALL;
use anyhow::{Context as _, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tests::stage::Artifact;
use tests::tree::Tree;
use tests::wait_for;

pub(crate) const CASES: &[Case] = &[
    Case { name: "imex_systemd::the_daemon_is_a_unit", body: Body::Own(SMALL, a_unit) },
    Case { name: "imex_systemd::a_prolog_killed_at_any_time_leaves_no_unit", body: Body::Own(SMALL, killed) },
];

/// systemd starts in one or two seconds.
pub(crate) const BOOT: Duration = Duration::from_secs(30);

/// In a mount namespace: enters a control group of its own, then namespaces of its own. `$1` is the room.
const ENTER: &str = r#"set -e
mount -t cgroup2 cgroup2 "$1/cg"
mkdir "$1/cg/$2"
echo $$ > "$1/cg/$2/cgroup.procs"
exec unshare --cgroup --mount --uts --ipc --net --pid --fork --kill-child sh "$1/boot" "$1" "$3"
"#;

/// As process 1 of the new namespaces: a root of its own over the tree `$2`, then systemd.
const BOOT_SCRIPT: &str = r#"set -e
mount -t tmpfs tmpfs "$1/upper"
mkdir "$1/upper/files" "$1/upper/work"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper/files,workdir=$1/upper/work" "$1/root"
cp -a "$1/files/." "$1/root/"
cd "$1/root"
mount -t proc proc proc
mount --bind etc/proc-devices proc/devices
mount -t tmpfs tmpfs run -o mode=755
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev -o mode=755
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mount -t sysfs sysfs sys -o ro
mount -t cgroup2 cgroup2 sys/fs/cgroup
: > etc/machine-id
ip link set lo up
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd systemd.unit=multi-user.target
"#;

/// Everything of the control group goes; what is in it has ended.
const LEAVE: &str = r#"mount -t cgroup2 cgroup2 "$1/cg" && find "$1/cg/$2" -depth -type d -exec rmdir {} +"#;

/// A tray that systemd runs.
pub(crate) struct Tray {
    room: tempfile::TempDir,
    group: String,
    unshare: Child,
    /// systemd, as this machine counts.
    init: i32,
}

impl Tray {
    pub(crate) fn boot() -> anyhow::Result<Self> {
        let tree = Tree::ensure()?;
        let room = tempfile::tempdir()?;
        for name in ["cg", "upper", "root", "files/etc/slurm"] {
            fs::create_dir_all(room.path().join(name))?;
        }
        fs::write(room.path().join("enter"), ENTER)?;
        fs::write(room.path().join("boot"), BOOT_SCRIPT)?;
        put_files(&room.path().join("files"))?;
        let group = format!("slurm-nvlink-{}", room.path().file_name().unwrap_or_default().display());
        let mut unshare = Command::new("unshare")
            .args(["--mount", "sh"])
            .arg(room.path().join("enter"))
            .arg(room.path())
            .args([group.as_ref(), tree.root().as_os_str()])
            .stdin(Stdio::null())
            .stdout(fs::File::create(room.path().join("log"))?)
            .stderr(fs::File::options().append(true).open(room.path().join("log"))?)
            .spawn()?;
        let pid = unshare.id();
        let log = room.path().join("log");
        let mut init = None;
        let found = wait_for("process 1 of the tray", BOOT, || {
            ensure!(unshare.try_wait()?.is_none(), "no namespaces: {}", fs::read_to_string(&log)?);
            let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            let children = text.split_whitespace().filter_map(|word| word.parse().ok());
            init = children.into_iter().find(|child| is_process_1(*child));
            Ok(init.map(drop).ok_or_else(|| "no child yet".to_owned()))
        });
        let tray = Self { room, group, unshare, init: init.unwrap_or(0) };
        found?;
        wait_for("systemd is up", BOOT, || {
            let said = tray.run(&["systemctl", "is-system-running"])?;
            let word = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            // Some unit of the distribution may not like such a small machine.
            Ok(if ["running", "degraded"].contains(&word.as_str()) {
                Ok(())
            } else {
                Err(format!("{said:?}"))
            })
        })?;
        Ok(tray)
    }

    pub(crate) fn run(&self, argv: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "env", "--ignore-environment"]);
        command.arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin").args(argv);
        Ok(command.stdin(Stdio::null()).output()?)
    }

    /// A file of the tray, as this machine reaches it.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(path.trim_start_matches('/'))
    }

    /// What a command prints.
    pub(crate) fn text(&self, argv: &[&str]) -> anyhow::Result<String> {
        let output = self.run(argv)?;
        ensure!(output.status.success(), "{argv:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A hook as slurmd would run it for job 7; `before` goes in front of the program.
    fn hook(&self, before: &[&str], program: &str) -> anyhow::Result<Output> {
        let variables = [
            "SLURM_JOB_ID=7",
            "SLURM_JOB_UID=1000",
            "SLURM_JOB_GID=1000",
            "SLURMD_NODENAME=t1",
            "SLURM_JOB_NODELIST=t1",
            "SLURM_JOB_EXCLUSIVE=NODE",
            "SLURM_JOB_GPUS=0,1,2,3",
            "SLURM_CONF=/etc/slurm/slurm.conf",
        ];
        self.run(&[&["env"], variables.as_slice(), before, &[program]].concat())
    }

    /// Our units, as `name active-state`.
    pub(crate) fn units(&self) -> anyhow::Result<Vec<String>> {
        let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "slurm-nvlink-*"];
        let text = self.text(&list)?;
        let of_line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {}", words.first().unwrap_or(&""), words.get(2).unwrap_or(&""))
        };
        Ok(text.lines().map(of_line).collect())
    }

    pub(crate) fn wait_no_units(&self) -> anyhow::Result<()> {
        wait_for("no unit is left", BOOT, || {
            let units = self.units()?;
            Ok(if units.is_empty() { Ok(()) } else { Err(format!("{units:?}")) })
        })
    }
}

impl Drop for Tray {
    /// unshare ends systemd, and with it everything of its namespace.
    fn drop(&mut self) {
        let _ended = self.unshare.kill();
        let _ended = self.unshare.wait();
        let room = self.room.path();
        let left = wait_for("the tray's control group is gone", BOOT, || {
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

/// All files that the tray has beside the tree's.
fn put_files(root: &Path) -> anyhow::Result<()> {
    let places = [
        (Artifact::Prolog, "usr/sbin/imex-prolog"),
        (Artifact::Epilog, "usr/sbin/imex-epilog"),
        (Artifact::Imex, "usr/bin/nvidia-imex"),
        (Artifact::ImexCtl, "usr/bin/nvidia-imex-ctl"),
        (Artifact::Nvml, "usr/lib/libnvidia-ml.so.1"),
    ];
    for (artifact, place) in places {
        let target = root.join(place);
        fs::create_dir_all(target.parent().context("no parent")?)?;
        fs::copy(artifact.find().context("not staged")?, &target)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(
        root.join("etc/proc-devices"),
        "Character devices:\n234 nvidia-caps-imex-channels\n\nBlock devices:\n",
    )?;
    fs::write(root.join("etc/slurm/slurm.conf"), "GresTypes=gpu\nNodeName=t1 NodeAddr=127.0.0.1\n")?;
    // The simulated NVML library shows this NVLink partition where nobody has told it another one.
    let block = format!("nvl-{}-{}", &sim::nvml::DEFAULT_CLUSTER_UUID[..8], sim::nvml::DEFAULT_CLIQUE);
    let text = format!(
        "- topology: t\n  cluster_default: true\n  block:\n    block_sizes: [1]\n    blocks:\n    - block: {block}\n      nodes: t1\n"
    );
    Ok(fs::write(root.join("etc/slurm/topology.yaml"), text)?)
}

fn a_unit(_: &Setup) -> anyhow::Result<()> {
    let tray = Tray::boot()?;
    let prolog = tray.hook(&[], "imex-prolog")?;
    ensure!(prolog.status.code() == Some(0), "{prolog:?}");
    let units = tray.units()?;
    let [unit] = units.as_slice() else { anyhow::bail!("{units:?}; {prolog:?}") };
    let (name, state) = unit.split_once(' ').context("no state")?;
    ensure!(name.starts_with("slurm-nvlink-imexd-job-7-") && state == "active", "{unit}");
    let group = tray.text(&["systemctl", "show", "--property=ControlGroup", "--value", name])?;
    ensure!(group.trim() == format!("/system.slice/{name}"), "{group}");
    let status = tray.text(&["imex-prolog", "status"])?;
    ensure!(status.starts_with("job 7: ready; "), "{status}");
    let health = tray.text(&["env", "SLURMD_NODENAME=t1", "imex-prolog", "health"])?;
    ensure!(health.starts_with("ok: t1 in block nvl-"), "{health}");
    let epilog = tray.hook(&[], "imex-epilog")?;
    ensure!(epilog.status.code() == Some(0), "{epilog:?}");
    ensure!(String::from_utf8_lossy(&epilog.stderr).contains("the daemon has ended in order"), "{epilog:?}");
    tray.wait_no_units()?;
    wait_for("the journal has both closing lines", BOOT, || {
        let said =
            |name: &str| tray.text(&["journalctl", "--quiet", "--output=cat", "-t", name, "IMEX_JOB=7"]);
        let (prolog, epilog) = (said("imex-prolog")?, said("imex-epilog")?);
        let right = prolog.contains("outcome=ready") && epilog.contains("outcome=removed");
        Ok(if right { Ok(()) } else { Err(format!("{prolog}{epilog}")) })
    })
}

fn killed(_: &Setup) -> anyhow::Result<()> {
    let tray = Tray::boot()?;
    let mut killed = 0;
    for millis in (5..200).step_by(15) {
        let span = format!("0.{millis:03}");
        let prolog = tray.hook(&["timeout", "--signal=KILL", &span], "imex-prolog")?;
        killed += usize::from(prolog.status.code() != Some(0));
        let epilog = tray.hook(&[], "imex-epilog")?;
        ensure!(epilog.status.code() == Some(0), "after {millis} ms: {epilog:?}");
        tray.wait_no_units().with_context(|| format!("after {millis} ms"))?;
        let left = tray.text(&[
            "sh",
            "-c",
            "ls /run/slurm-nvlink/imex /dev/nvidia-caps-imex-channels 2>/dev/null; true",
        ])?;
        let of_job = |line: &&str| {
            line.starts_with("job-7") && !line.ends_with(".ended") || line.starts_with("channel")
        };
        ensure!(left.lines().find(of_job).is_none(), "after {millis} ms: {left}");
    }
    ensure!(killed > 0, "no prolog was killed in time");
    Ok(())
}
