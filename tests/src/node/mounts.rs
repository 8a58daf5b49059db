//! The file system of a node: an overlay over the shared tree, and the kernel's own file systems on it.
//!
//! Runs in the node's own mount namespace, whose mounts are private, so that nothing of it is seen outside.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Majors of the simulated devices, as an NVIDIA driver would have them.
const GPU_MAJOR: u64 = 195;
/// Major of the IMEX channels; one that no driver of the host answers for, so opening a channel gives ENXIO.
const IMEX_CHANNEL_MAJOR: u64 = 234;

/// What a node's root is made of.
pub(crate) struct RootPlan {
    /// Lower layers, the topmost first; the last one is the tree.
    pub(crate) layers: Vec<PathBuf>,
    /// Directory on a tmpfs for what the node writes, and for the mount point.
    pub(crate) scratch: PathBuf,
    /// The shared home directory.
    pub(crate) home: PathBuf,
    /// Directory on the host that becomes the node's `/var/log`.
    pub(crate) logs: PathBuf,
    /// Host name.
    pub(crate) name: String,
    /// Number of GPUs; absent: no simulated NVIDIA driver at all.
    pub(crate) gpus: Option<u32>,
    /// What the kernel calls this boot; another one after each reboot of the node.
    pub(crate) boot_id: String,
}

/// Makes the root and moves this process into it; the host's file system is gone from its sight afterwards.
pub(crate) fn enter_root(plan: &RootPlan) -> anyhow::Result<()> {
    let root = mount_overlay(plan)?;
    mount_kernel_file_systems(&root)?;
    make_devices(&root, plan.gpus)?;
    bind(&plan.home, &root.join("home"))?;
    bind(&plan.logs, &root.join("var/log"))?;
    for directory in ["run/slurm", "var/spool/slurmd", "var/spool/slurmctld", "var/log/slurm"] {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("cannot make /{directory}"))?;
    }
    if plan.gpus.is_some() {
        let devices = root.join("run/nvlink-sim/proc-devices");
        fs::create_dir_all(root.join("run/nvlink-sim"))?;
        fs::write(&devices, proc_devices())?;
        bind(&devices, &root.join("proc/devices"))?;
    }
    let boot_id = root.join("run/boot-id");
    fs::write(&boot_id, format!("{}\n", plan.boot_id))?;
    bind(&boot_id, &root.join("proc/sys/kernel/random/boot_id"))?;
    fs::write(root.join("etc/hostname"), format!("{}\n", plan.name))?;
    pivot(&root)
}

fn mount_overlay(plan: &RootPlan) -> anyhow::Result<PathBuf> {
    let [upper, work, root] = ["upper", "work", "root"].map(|name| plan.scratch.join(name));
    for directory in [&upper, &work, &root] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    // The node's / takes its owner and permissions from the topmost directory.
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
    let layers: Vec<String> = plan.layers.iter().map(|layer| layer.display().to_string()).collect();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", layers.join(":"), upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("cannot mount the overlay ({options})"))?;
    Ok(root)
}

fn mount_kernel_file_systems(root: &Path) -> anyhow::Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let at = |place: &str, kind: &str, flags: MsFlags, options: &str| -> anyhow::Result<()> {
        let target = root.join(place);
        fs::create_dir_all(&target).with_context(|| format!("cannot make /{place}"))?;
        mount(Some(kind), &target, Some(kind), flags, Some(options))
            .with_context(|| format!("cannot mount {kind} on /{place}"))
    };
    at("proc", "proc", quiet, "")?;
    at("sys", "sysfs", quiet | MsFlags::MS_RDONLY, "")?;
    at("run", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    at("dev", "tmpfs", MsFlags::MS_NOSUID, "mode=755")?;
    at("dev/pts", "devpts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")?;
    at("dev/shm", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777")
}

fn make_devices(root: &Path, gpus: Option<u32>) -> anyhow::Result<()> {
    let dev = root.join("dev");
    let node = |name: &str, major: u64, minor: u64| -> anyhow::Result<()> {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(major, minor))
            .with_context(|| format!("cannot make the device node /dev/{name}"))?;
        // The umask does not count here.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
            .with_context(|| format!("cannot open up /dev/{name}"))
    };
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        node(name, major, minor)?;
    }
    let links = [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1")];
    for (name, target) in links.into_iter().chain([("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx")]) {
        symlink(target, dev.join(name)).with_context(|| format!("cannot link /dev/{name}"))?;
    }
    let Some(gpus) = gpus else { return Ok(()) };
    for gpu in 0..gpus {
        node(&format!("nvidia{gpu}"), GPU_MAJOR, u64::from(gpu))?;
    }
    node("nvidiactl", GPU_MAJOR, 255)?;
    fs::create_dir(dev.join("nvidia-caps-imex-channels"))
        .context("cannot make the directory of the IMEX channels")
}

/// The simulated `/proc/devices`: only what our programs look for must be right.
fn proc_devices() -> String {
    format!(
        "Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n{GPU_MAJOR} nvidia\n{IMEX_CHANNEL_MAJOR} \
         nvidia-caps-imex-channels\n\nBlock devices:\n  7 loop\n259 blkext\n"
    )
}

fn bind(from: &Path, to: &Path) -> anyhow::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot bind {} on {}", from.display(), to.display()))
}

/// Makes `root` this mount namespace's root and lets go of the old one.
fn pivot(root: &Path) -> anyhow::Result<()> {
    std::env::set_current_dir(root).context("cannot enter the new root")?;
    // With both arguments the same directory, the old root ends up on top of the new one and can be detached there.
    nix::unistd::pivot_root(".", ".").context("cannot pivot into the new root")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot let go of the old root")?;
    std::env::set_current_dir("/").context("cannot enter /")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_imex_channels_are_among_the_character_devices() {
        let text = super::proc_devices();
        let (characters, blocks) = text.split_once("\n\n").unwrap();
        assert!(characters.lines().any(|line| line == "234 nvidia-caps-imex-channels"), "{text}");
        assert!(blocks.starts_with("Block devices:"));
    }
}
