//! A room: the cross tree as root folder, in mount, network and (where the kernel can) user namespaces of its own, in
//! which programs for aarch64 run by emulation.
//!
//! ```text
//! holder (cat)  keeps the namespaces; ends when its standard input closes, that is with us
//!   room.sh     mounts and registers qemu, once
//!   commands    nsenter + chroot, as many as wanted
//! ```
//! Nothing of it can be seen from outside, with one exception: on Linux before 6.7 the emulation has to be registered
//! for the whole machine; then that is said, and undone at the end.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};

const PREPARE: &str = include_str!("room.sh");

/// Exit code of `room.sh` when emulation cannot be registered for the namespace alone.
const NO_OWN_BINFMT: i32 = 3;

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
    tree: PathBuf,
    own_users: bool,
    /// Name of the emulation's entry.
    entry: String,
}

impl Room {
    /// Makes a room over `tree`.
    ///
    /// # Errors
    /// When the kernel refuses a namespace, a mount or the emulation; the failing program's words are in the error.
    pub(super) fn open(tree: &Path, inside: &Inside<'_>) -> Result<Self> {
        let room = Self::hold(tree, true)?;
        if room.prepare(inside)? {
            return Ok(room);
        }
        drop(room);
        eprintln!(
            "    this kernel cannot emulate in a namespace alone: registering qemu-aarch64 for the machine, for the time of this stage"
        );
        let room = Self::hold(tree, false)?;
        if !room.prepare(inside)? {
            bail!("this kernel has no binfmt_misc, which is needed to run programs for aarch64");
        }
        Ok(room)
    }

    /// A command inside the room, in the source folder.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = self.enter();
        command.arg("chroot").arg(&self.tree).args(["env", "-i"]).args(ENVIRONMENT);
        command.args(["sh", "-c", "cd /mnt/source && exec \"$@\"", "sh", program]);
        command
    }

    fn hold(tree: &Path, own_users: bool) -> Result<Self> {
        let mut command = Command::new("unshare");
        if own_users {
            command.arg("--user");
        }
        // The line says that the namespaces exist.
        command.args(["--mount", "--net", "sh", "-c", "echo made; exec cat"]);
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start unshare")?;
        let stdin = holder.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            // Either the line or the end of the stream comes: unshare does not wait for anything.
            BufReader::new(stdout).read_line(&mut line).context("read from the holder of the namespaces")?;
        }
        let entry = format!("slurm-nvlink-{}", std::process::id());
        let room = Self { holder, stdin, tree: tree.to_owned(), own_users, entry };
        if line.trim() != "made" {
            bail!("the kernel gives no namespaces for the build (unshare failed; root is needed)");
        }
        if own_users {
            // All ids as they are: the room is about mounts and emulation, not about users.
            for map in ["uid_map", "gid_map"] {
                let path = format!("/proc/{}/{map}", room.holder.id());
                fs::write(&path, "0 0 4294967295\n").with_context(|| format!("write {path}"))?;
            }
        }
        Ok(room)
    }

    /// Mounts all that the room needs. False when only the emulation cannot be registered there.
    fn prepare(&self, inside: &Inside<'_>) -> Result<bool> {
        let mut command = self.enter();
        command.args(["sh", "-c", PREPARE, "room.sh"]);
        command.args([&self.tree, inside.source, inside.cargo_home, inside.target]).arg(&self.entry);
        let output = command.stdin(Stdio::null()).output().context("run nsenter")?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(NO_OWN_BINFMT) => Ok(false),
            _ => bail!("prepare the room for aarch64: {}", String::from_utf8_lossy(&output.stderr).trim()),
        }
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount", "--net"]);
        if self.own_users {
            command.arg("--user");
        }
        command.arg("--");
        command
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.own_users {
            let entry = format!("/proc/sys/fs/binfmt_misc/{}", self.entry);
            // Where preparing failed there is no entry; the machine loses nothing by the failure of this.
            let _ = self
                .enter()
                .args(["sh", "-c", "echo -1 >\"$1\"", "sh", &entry])
                .stderr(Stdio::null())
                .status();
        }
        drop(self.stdin.take());
        let _ = self.holder.wait();
    }
}
