//! Runs a program under ptrace and tells of each of its steps when it is done.
//!
//! Its threads are followed, its child processes are not: they run as always.
#![allow(unsafe_code, reason = "a hook between fork and exec has no safe form")]

use super::steps::{Call, step_of, without_numbers};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

/// Longest path that is read from the program's memory, in bytes.
const PATH_MAX: usize = 4096;

/// Runs `command`; `on_step` hears of each step and says whether the program may go on. One that may not is killed there.
///
/// # Errors
/// It cannot be started or traced; it is not left behind.
pub(super) fn run(command: &mut Command, mut on_step: impl FnMut(String) -> bool) -> io::Result<ExitStatus> {
    // SAFETY: what runs between fork and exec is one system call without memory of ours, which is allowed there.
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(io::Error::from));
    }
    let child = command.spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    match waitpid(pid, None)? {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
        other => return Err(io::Error::other(format!("the program did not stop at its begin: {other:?}"))),
    }
    // A tracer that dies takes the program with it.
    let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
    ptrace::setoptions(pid, options)?;
    ptrace::syscall(pid, None)?;
    follow(pid, &mut on_step)
}

fn follow(main: Pid, on_step: &mut impl FnMut(String) -> bool) -> io::Result<ExitStatus> {
    // The call that each thread is in.
    let mut inside: HashMap<Pid, Call> = HashMap::new();
    // Threads as well, and only what this very thread traces.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        let status = waitpid(None, Some(flags))?;
        let (thread, signal) = match status {
            WaitStatus::Exited(pid, code) if pid == main => return Ok(ExitStatus::from_raw(code << 8)),
            WaitStatus::Signaled(pid, signal, _) if pid == main => {
                return Ok(ExitStatus::from_raw(signal as i32));
            }
            WaitStatus::PtraceSyscall(thread) => {
                if let Some(words) = step_at(thread, &mut inside)
                    && !on_step(words)
                {
                    kill(main, Signal::SIGKILL)?;
                }
                (thread, None)
            }
            WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            // A new thread's first stop, and the program's own at its begin.
            WaitStatus::Stopped(thread, Signal::SIGSTOP | Signal::SIGTRAP) => (thread, None),
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            _ => continue,
        };
        match ptrace::syscall(thread, signal) {
            // Killed meanwhile.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Called at the begin and at the end of each call; at the end of one that was a step, the step in words.
fn step_at(thread: Pid, inside: &mut HashMap<Pid, Call>) -> Option<String> {
    let registers = registers(thread)?;
    let Some(call) = inside.remove(&thread) else {
        inside.insert(thread, registers.call);
        return None;
    };
    // The kernel's errors are the last 4095 numbers.
    if (-4095..0).contains(&registers.result) {
        return None;
    }
    let step = step_of(&call)?;
    let path = step.path.and_then(|position| path_at(thread, call.arguments[position]));
    Some(match path {
        Some(path) => format!("{} {}", step.words, without_numbers(&path)),
        None => step.words.to_owned(),
    })
}

struct Registers {
    call: Call,
    result: i64,
}

#[cfg(target_arch = "x86_64")]
fn registers(thread: Pid) -> Option<Registers> {
    let regs = ptrace::getregs(thread).ok()?;
    let arguments = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let call = Call { number: regs.orig_rax.cast_signed(), arguments };
    Some(Registers { call, result: regs.rax.cast_signed() })
}

#[cfg(target_arch = "aarch64")]
fn registers(thread: Pid) -> Option<Registers> {
    let regs = ptrace::getregs(thread).ok()?.regs;
    let arguments = [regs[0], regs[1], regs[2], regs[3], regs[4], regs[5]];
    Some(Registers { call: Call { number: regs[8].cast_signed(), arguments }, result: regs[0].cast_signed() })
}

/// The text that a pointer of the program leads to.
fn path_at(thread: Pid, pointer: u64) -> Option<String> {
    let memory = std::fs::File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = vec![0; PATH_MAX];
    // What lies behind the text may not be mapped, so a part will do.
    let length = memory.read_at(&mut bytes, pointer).ok()?;
    let text = bytes.get(..length)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}
