//! Waiting for descriptors with a deadline.
#![forbid(unsafe_code)]

use crate::deadline::Deadline;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::BorrowedFd;

/// Waits until one of `fds` can be read (or has been hung up); which ones can, in their order.
///
/// # Errors
/// That of the system call.
pub fn readable<const N: usize>(fds: [BorrowedFd<'_>; N], deadline: Deadline) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        // Rounded up, so that the last round does not spin; longer waits than poll can do are made in pieces.
        let millis = deadline.remaining().as_micros().div_ceil(1000);
        let timeout = u16::try_from(millis).unwrap_or(u16::MAX);
        match poll(&mut polled, PollTimeout::from(timeout)) {
            Ok(0) if !deadline.has_passed() => {}
            Ok(_) => return Ok(polled.each_ref().map(|fd| fd.any().unwrap_or(true))),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until `fd` can be read; false when the deadline came first.
///
/// # Errors
/// That of the system call.
pub fn is_readable(fd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<bool> {
    readable([fd], deadline).map(|[ready]| ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn it_tells_which_one_is_ready_and_stops_at_the_deadline() {
        let (one, _keep) = std::io::pipe().unwrap();
        let (two, mut writer) = std::io::pipe().unwrap();
        let both = [one.as_fd(), two.as_fd()];
        assert_eq!(readable(both, Deadline::after(Duration::from_millis(5))).unwrap(), [false, false]);
        writer.write_all(b"x").unwrap();
        assert_eq!(readable(both, Deadline::after(Duration::from_secs(20))).unwrap(), [false, true]);
    }
}
