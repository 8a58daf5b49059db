#![forbid(unsafe_code)]
//! A small site: a controller and four trays, each a clean Debian with Slurm from Debian's packages and a systemd of its own.
//!
//! Simulated on the trays: GPUs, NVML, `nvidia-imex` with its service, `/proc/devices`. Nothing of this project is installed.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::machine::{Machine, Network};
use tests::stage::{self, Artifact};
use tests::tree::Tree;
use tests::wait_for;

use super::readme::{Block, Place};

/// How long something may take that is done in seconds.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// Trays with their NVLink domain: two racks of two.
const TRAYS: [(&str, &str); 4] = [
    ("r1n1", "3c9b1e52-7a41-4d0e-9f63-5b1d8ae20c01"),
    ("r1n2", "3c9b1e52-7a41-4d0e-9f63-5b1d8ae20c01"),
    ("r2n1", "a45f0d97-61c8-4b3a-8e15-0c7e94d3b602"),
    ("r2n2", "a45f0d97-61c8-4b3a-8e15-0c7e94d3b602"),
];

/// As Debian's packages leave it, with the least that makes it a cluster.
const SLURM_CONF: &str = "ClusterName=site
SlurmctldHost=ctl(10.76.0.1)
AuthType=auth/slurm
CredType=cred/slurm
SlurmUser=slurm
SlurmctldParameters=enable_configless
SlurmdParameters=config_overrides
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
GresTypes=gpu
MpiDefault=none
ReturnToService=2
NodeName=r[1-2]n[1-2] CPUs=4 Gres=gpu:4
PartitionName=trays Nodes=ALL Default=YES State=UP OverSubscribe=EXCLUSIVE
";

/// NVIDIA's own service, which a site has running before it knows of this project. Simulated.
const IMEX_SERVICE: &str = "[Unit]\nDescription=IMEX daemon (simulated)\n[Service]\n\
    ExecStart=/usr/bin/nvidia-imex -c /etc/nvidia-imex/config.cfg\nType=forking\n[Install]\nWantedBy=multi-user.target\n";

/// The machines.
pub(super) struct Site {
    pub(super) controller: Machine,
    pub(super) trays: Vec<Machine>,
    /// Ends last.
    _network: Network,
}

impl Site {
    /// Boots it, with the packages in `folder` lying in `/root/packages` of each machine.
    ///
    /// # Errors
    /// A machine does not boot.
    pub(super) fn boot() -> Result<Self> {
        let tree = Tree::ensure()?;
        let network = Network::new(&tree)?;
        let key = random_key()?;
        let put = |root: &Path| put_common(root, &tree, &key);
        let controller = Machine::boot(&tree, "ctl", Some((&network, address(0))), |root| {
            put(root)?;
            let slurm = root.join("etc/slurm");
            fs::write(slurm.join("slurm.conf"), SLURM_CONF)?;
            fs::write(slurm.join("cgroup.conf"), "CgroupPlugin=disabled\n")?;
            Ok(fs::write(slurm.join("gres.conf"), "Name=gpu File=/dev/nvidia[0-3]\n")?)
        })?;
        let mut trays = Vec::new();
        for (number, (name, domain)) in (1..).zip(TRAYS) {
            trays.push(Machine::boot(&tree, name, Some((&network, address(number))), |root| {
                put(root)?;
                put_hardware(root, number, domain)
            })?);
        }
        Ok(Self { controller, trays, _network: network })
    }

    /// The controller and the trays.
    pub(super) fn machines(&self) -> impl Iterator<Item = &Machine> {
        std::iter::once(&self.controller).chain(&self.trays)
    }

    /// Copies the packages to `folder` of every machine, which is emptied before.
    pub(super) fn bring(&self, packages: &[std::path::PathBuf]) -> Result<()> {
        for machine in self.machines() {
            machine.text(&["sh", "-c", "rm -rf /root/packages && mkdir -p /root/packages"])?;
            for package in packages {
                let name = package.file_name().context("a package has no name")?;
                let place = machine.file("/root/packages").join(name);
                fs::copy(package, &place).with_context(|| format!("copy {}", package.display()))?;
            }
        }
        Ok(())
    }

    /// Types a block of commands where it belongs; gives what was printed, machine by machine.
    ///
    /// # Errors
    /// A command fails.
    pub(super) fn typed(&self, block: &Block) -> Result<String> {
        let machines: Vec<&Machine> = match block.place {
            Place::Everywhere => self.machines().collect(),
            Place::Controller => vec![&self.controller],
            Place::Trays => self.trays.iter().collect(),
        };
        let mut printed = String::new();
        for machine in machines {
            printed.push_str(&shell(machine, &block.lines)?);
        }
        Ok(printed)
    }

    /// Waits until all trays can take jobs.
    ///
    /// # Errors
    /// Not so within [`SOON`].
    pub(super) fn wait_idle(&self) -> Result<()> {
        wait_for("all four trays are idle", SOON, || {
            let seen = self.controller.run(&["sinfo", "--noheader", "--Node", "--format=%T"])?;
            let text = String::from_utf8_lossy(&seen.stdout).into_owned();
            let idle = text.lines().filter(|state| *state == "idle").count();
            Ok(if idle == TRAYS.len() { Ok(()) } else { Err(format!("{seen:?}")) })
        })
    }

    /// What slurmctld's log says.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn log(&self) -> Result<String> {
        let log = self.controller.file("/var/log/slurm/slurmctld.log");
        fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))
    }
}

/// Runs lines of shell as somebody who types them: the first that fails is an error.
pub(super) fn shell(machine: &Machine, lines: &str) -> Result<String> {
    let script = format!("set -e\ncd /root/packages 2>/dev/null || cd /root\nexec 2>&1\n{lines}");
    let output =
        machine.run(&["env", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", &script])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {}\n{lines}\n--- printed\n{text}", machine.name(), output.status);
    Ok(text)
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 76, 0, number + 1)
}

fn random_key() -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut key = vec![0; 1024];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

/// What every machine of a site has before it hears of this project.
fn put_common(root: &Path, tree: &Tree, key: &[u8]) -> Result<()> {
    for folder in ["etc/slurm", "etc/apt/apt.conf.d", "etc/dpkg/dpkg.cfg.d"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let mut hosts = "127.0.0.1 localhost\n10.76.0.1 ctl\n".to_owned();
    for (number, (name, _)) in (1..).zip(TRAYS) {
        hosts.push_str(&format!("{} {name}\n", address(number)));
    }
    fs::write(root.join("etc/hosts"), hosts)?;
    let file = root.join("etc/slurm/slurm.key");
    fs::write(&file, key)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let slurm = owner_of(&tree.root().join("var/lib/slurm"))?;
    chown(&file, Some(slurm), Some(slurm))?;
    // Debian's own has a pattern that Slurm does not know, and each command complains of it.
    fs::write(root.join("etc/slurm/plugstack.conf"), "")?;
    // The tree was made without documents; packages that come now are to bring theirs.
    fs::write(root.join("etc/dpkg/dpkg.cfg.d/99mmdebstrap"), "")?;
    // A machine in a namespace is no place for systemd to make another /dev in.
    let drop_in = root.join("etc/systemd/system/topology-gen-watch.service.d");
    fs::create_dir_all(&drop_in)?;
    fs::write(drop_in.join("devices.conf"), "[Service]\nPrivateDevices=no\n")?;
    // Nobody is here to say yes, and there is no network.
    Ok(fs::write(root.join("etc/apt/apt.conf.d/99yes"), "APT::Get::Assume-Yes \"true\";\n")?)
}

fn owner_of(path: &Path) -> Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(path.metadata().with_context(|| path.display().to_string())?.uid())
}

/// What is simulated on a tray.
fn put_hardware(root: &Path, number: u8, domain: &str) -> Result<()> {
    let places = [
        (Artifact::Imex, "usr/bin/nvidia-imex"),
        (Artifact::ImexCtl, "usr/bin/nvidia-imex-ctl"),
        (Artifact::Nvml, "usr/lib/libnvidia-ml.so.1"),
    ];
    stage::put(root, &places)?;
    for folder in ["etc/nvidia-imex", "etc/nvlink-sim", "etc/systemd/system/multi-user.target.wants"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(
        root.join("etc/proc-devices"),
        "Character devices:\n195 nvidia\n234 nvidia-caps-imex-channels\n\nBlock devices:\n",
    )?;
    let fabric = sim::nvml::Fabric { cluster_uuid: domain.to_owned(), ..Default::default() };
    sim::nvml::Settings::tray(number.into(), 4, &fabric).save(&root.join("etc/nvlink-sim"))?;
    fs::write(root.join("etc/systemd/system/nvidia-imex.service"), IMEX_SERVICE)?;
    fs::write(
        root.join("etc/nvidia-imex/config.cfg"),
        "IMEX_NODE_CONFIG_FILE=/etc/nvidia-imex/nodes_config.cfg\n",
    )?;
    Ok(fs::write(root.join("etc/nvidia-imex/nodes_config.cfg"), format!("{}\n", address(number)))?)
}
