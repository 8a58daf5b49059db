//! The system calls that no safe interface covers. The only unsafe code of this crate.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the program that `command` starts independent of this one and of slurmd: a session of its own, and no open
/// file but standard input, output and error.
///
/// slurmd reads a prolog's output until every holder of the pipe has closed it, and ends a late prolog by a signal to its process
/// group (Slurm 26.05.3 src/common/run_command.c): a daemon must have neither.
pub fn detach(command: &mut Command) {
    let in_child = || {
        nix::unistd::setsid()?;
        mark_close_on_exec_from(3)
    };
    // SAFETY: between fork and exec only async-signal-safe calls may be made. The closure makes two system calls,
    // allocates nothing, takes no lock and touches no memory of the parent; making an io::Error from a number does not either.
    unsafe { command.pre_exec(in_child) };
}

/// Lets the program that `command` starts have the processor only where nobody else wants it.
pub fn give_way(command: &mut Command) {
    const LEAST: libc::c_int = 19;
    let in_child = || {
        // SAFETY: setpriority takes three numbers and no pointer; it is a plain system call.
        let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LEAST) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: as for `detach`: one system call, nothing allocated, no lock, no memory of the parent.
    unsafe { command.pre_exec(in_child) };
}

/// Marks every open descriptor from `first` on to be closed by exec.
fn mark_close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: close_range takes three numbers and no pointer. With CLOEXEC nothing is closed in this process image, so
    // no owner of a descriptor loses it; Linux 5.11 and later.
    let result =
        unsafe { libc::close_range(first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::process::Stdio;

    #[test]
    fn a_detached_program_has_its_own_session_and_no_further_open_file() {
        let inherited = std::fs::File::open("/dev/null").unwrap();
        let fd = nix::unistd::dup(&inherited).unwrap();
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let number = fd.as_raw_fd();
        assert!(number > 2);
        let mut command = Command::new("/bin/sh");
        // The shell's own view: session id of itself, and whether the descriptor is open.
        command.args(["-c", &format!("read -r a b c d e session f < /proc/self/stat; echo $$ $session; test -e /proc/self/fd/{number} && echo open || echo closed")]);
        command.stdin(Stdio::null());
        detach(&mut command);
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let words: Vec<&str> = output.split_whitespace().collect();
        assert_eq!(words.len(), 3, "{output}");
        assert_eq!(words[0], words[1], "{output}");
        assert_eq!(words[2], "closed");
    }
}
