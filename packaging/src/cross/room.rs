//! A room: the cross tree as root folder, in mount, network and host name namespaces of its own, in which programs for
//! aarch64 run by emulation.
//!
//! ```text
//! holder      keeps the namespaces; ends when its standard input closes, that is with us, however we end
//!   room.sh   mounts, and registers qemu with the kernel, once
//!   commands  nsenter + chroot, as many as wanted
//! ```
//! Nothing of it can be seen from outside, with one exception: the kernel's table of interpreters is one for the machine
//! (a user namespace can have its own since Linux 6.7, but no device nodes can be made in one). The holder removes our
//! entry from it when it ends.

#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};

const PREPARE: &str = include_str!("room.sh");

/// Keeps the namespaces until its standard input closes, then takes the entry back. It ignores an interrupt from the
/// keyboard, which reaches us as well. The line says that the namespaces exist.
const HOLD: &str = "trap '' INT TERM HUP; echo made; cat; entry=/proc/sys/fs/binfmt_misc/$1; \
    [ ! -e $entry ] || echo -1 >$entry";

/// What every command in a room finds in its environment, which is otherwise empty.
const ENVIRONMENT: &[&str] = &[
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/tmp",
    "LC_ALL=C.UTF-8",
    "RUST_BACKTRACE=1",
    "CARGO_HOME=/mnt/cargo",
    "CARGO_TARGET_DIR=/mnt/target",
    "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc",
    "CARGO_TERM_COLOR=never",
    "CARGO_PROFILE_DEV_DEBUG=0",
    // Release builds made here are only packed, never debugged.
    "CARGO_PROFILE_RELEASE_STRIP=debuginfo",
    "SLURM_NVLINK_INCLUDE=/mnt/include",
    "BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu=-isystem /usr/aarch64-linux-gnu/include",
];

/// What a room shows of this machine beside the tree.
pub(super) struct Inside<'a> {
    /// The workspace, read-only at `/mnt/source`.
    pub(super) source: &'a Path,
    /// Cargo's home with the fetched packages, read-only.
    pub(super) cargo_home: &'a Path,
    /// The folder for all that is built, at `/mnt/target`.
    pub(super) target: &'a Path,
}

/// A room that is ready. Dropping it ends its holder.
pub(super) struct Room {
    holder: Child,
    /// Closing it ends the holder.
    stdin: Option<ChildStdin>,
    root: PathBuf,
}

impl Room {
    /// Makes a room over `tree`.
    ///
    /// # Errors
    /// When the kernel refuses a namespace, a mount or the emulation; the failing program's words are in the error.
    pub(super) fn open(tree: &Path, inside: &Inside<'_>) -> Result<Self> {
        let entry = format!("slurm-nvlink-{}", std::process::id());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--uts", "sh", "-c", HOLD, "holder", &entry]);
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start unshare")?;
        let stdin = holder.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            // Either the line or the end of the stream comes: unshare does not wait for anything.
            BufReader::new(stdout).read_line(&mut line).context("read from the holder of the namespaces")?;
        }
        let room = Self { holder, stdin, root: tree.join("mnt/root") };
        if line.trim() != "made" {
            bail!("the kernel gives no namespaces for the build (unshare failed; root is needed)");
        }
        room.prepare(tree, inside, &entry)?;
        Ok(room)
    }

    /// A command inside the room, in the source folder.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = self.enter();
        command.arg("chroot").arg(&self.root).args(["env", "-i"]).args(ENVIRONMENT);
        command.args(["sh", "-c", "cd /mnt/source && exec \"$@\"", "sh", program]);
        command
    }

    fn prepare(&self, tree: &Path, inside: &Inside<'_>, entry: &str) -> Result<()> {
        let mut command = self.enter();
        command.args(["sh", "-c", PREPARE, "room.sh"]);
        command.args([tree, inside.source, inside.cargo_home, inside.target]).arg(entry);
        let output = command.stdin(Stdio::null()).output().context("run nsenter")?;
        if !output.status.success() {
            bail!("prepare the room for aarch64: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount", "--net", "--uts", "--"]);
        command
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.holder.wait();
    }
}
