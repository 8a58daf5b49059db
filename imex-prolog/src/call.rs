//! Calls of other programs, each with a hard bound: nothing that they do or leave behind can hold a run up.
#![forbid(unsafe_code)]

use crate::deadline::{Deadline, Pauses};
use crate::wait::readable;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::OsStr;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Most that is read from one call, in bytes. A matrix of n trays has n x n entries of about 80 bytes: enough for 576
/// trays twice over.
const OUTPUT_MAX: usize = 64 << 20;

/// What a call gave.
#[derive(Debug)]
pub struct Answer {
    /// Standard output and error.
    pub text: String,
    /// Whether it ended with 0.
    pub success: bool,
    /// How it ended, in words.
    pub status: String,
}

/// A program that was started. Dropping it ends it, unless it is left ([`Call::finish_or_leave`]).
#[derive(Debug)]
pub struct Call {
    child: Child,
    reader: PipeReader,
    collected: bool,
}

impl Call {
    /// Starts `program` without environment and input.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> io::Result<Self> {
        Self::start_in(program, arguments, [])
    }

    /// Starts `program` without input and with nothing but `environment`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_in<'a, A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment).current_dir("/");
        Self::of(command)
    }

    /// Starts what `command` says, without input.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn of(mut command: Command) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        // The command still holds the pipe's other end.
        drop(command);
        Ok(Self { child, reader, collected: false })
    }

    /// Waits for its end; `None` when the deadline came first or its output has no end. It is ended then.
    ///
    /// # Errors
    /// That of a system call.
    pub fn finish(mut self, deadline: Deadline) -> io::Result<Option<Answer>> {
        let answer = self.collect(deadline)?;
        self.collected = answer.is_some();
        Ok(answer)
    }

    /// Waits for its end; `None` when the deadline came first: then it goes on by itself, and nobody reads what it says.
    ///
    /// # Errors
    /// That of a system call.
    pub fn finish_or_leave(mut self, deadline: Deadline) -> io::Result<Option<Answer>> {
        let answer = self.collect(deadline);
        self.collected = true;
        answer
    }

    /// Its end counts and not that of its output: a program that it left behind may hold the pipe.
    fn collect(&mut self, deadline: Deadline) -> io::Result<Option<Answer>> {
        let pid =
            Pid::from_raw(self.child.id().cast_signed()).ok_or_else(|| io::Error::other("no process id"))?;
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let mut bytes = Vec::new();
        let mut open = true;
        while bytes.len() <= OUTPUT_MAX {
            let [has_ended, has_output] = if open {
                readable([ended.as_fd(), self.reader.as_fd()], deadline)?
            } else {
                let [has_ended] = readable([ended.as_fd()], deadline)?;
                [has_ended, false]
            };
            if has_output {
                let mut piece = [0; 16 << 10];
                let length = self.reader.read(&mut piece)?;
                open = length > 0;
                bytes.extend(piece.iter().take(length));
            } else if has_ended {
                let status = self.child.wait()?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Some(Answer { text, success: status.success(), status: status.to_string() }));
            } else {
                return Ok(None);
            }
            if deadline.has_passed() {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

impl Drop for Call {
    /// It is our child and not collected, so its id is still its own.
    fn drop(&mut self) {
        if !self.collected && self.child.kill().is_ok() {
            // After SIGKILL the wait is short unless the kernel holds the process; it is then collected when we end.
            let deadline = Deadline::after(Duration::from_millis(200));
            let mut pauses = Pauses::new(Duration::from_millis(1), Duration::from_millis(20));
            while matches!(self.child.try_wait(), Ok(None)) && !deadline.has_passed() {
                pauses.pause(deadline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::Proc;

    fn shell(script: &str) -> Call {
        Call::start(Path::new("/bin/sh"), ["-c", script]).unwrap()
    }

    #[test]
    fn the_answer_has_both_outputs_and_the_exit_status() {
        let answer = shell("echo one; echo two >&2; exit 3")
            .finish(Deadline::after(Duration::from_secs(20)))
            .unwrap()
            .unwrap();
        assert_eq!((answer.text.as_str(), answer.success), ("one\ntwo\n", false));
        assert_eq!(answer.status, "exit status: 3");
    }

    #[test]
    fn one_that_is_left_goes_on() {
        let proc = Proc::new(Path::new("/proc"));
        let call = shell("exec sleep 1000");
        let pid = call.child.id().cast_signed();
        assert!(call.finish_or_leave(Deadline::after(Duration::from_millis(20))).unwrap().is_none());
        assert!(proc.process(pid).unwrap().is_some());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        let answer = shell("echo one").finish_or_leave(Deadline::after(Duration::from_secs(20))).unwrap();
        assert_eq!(answer.unwrap().text, "one\n");
    }

    #[test]
    fn one_that_hangs_and_one_that_nobody_waits_for_are_ended() {
        let proc = Proc::new(Path::new("/proc"));
        let call = shell("exec sleep 1000");
        let pid = call.child.id().cast_signed();
        assert!(call.finish(Deadline::after(Duration::from_millis(20))).unwrap().is_none());
        assert_eq!(proc.process(pid).unwrap(), None);
        let call = shell("exec sleep 1000");
        let pid = call.child.id().cast_signed();
        drop(call);
        assert_eq!(proc.process(pid).unwrap(), None);
    }
}
