//! The roll call's sockets: lines of text, never waited for without a deadline.
#![forbid(unsafe_code)]

use crate::deadline::Deadline;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Longest line in bytes; ours have about 150.
const LINE_MAX: usize = 1024;
/// Source ports that are tried for one connection.
const TRIES: u16 = 64;

/// A connection with what was said on it so far.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    pub(super) from: SocketAddr,
    heard: Vec<u8>,
    /// Which of those whom a caller waits for is at the other end, once it has said so.
    pub(super) voice: Option<usize>,
}

impl Line {
    pub(super) fn new(stream: TcpStream, from: SocketAddr) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, from, heard: Vec::new(), voice: None })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn say(&mut self, words: &str) -> io::Result<()> {
        self.stream.write_all(format!("{words}\n").as_bytes())
    }

    /// The whole lines that have come; an error when the other end has hung up without any, or says too much.
    pub(super) fn hear(&mut self) -> io::Result<Vec<String>> {
        let mut piece = [0; LINE_MAX];
        loop {
            match self.stream.read(&mut piece) {
                // Its last words count.
                Ok(0) if self.heard.contains(&b'\n') => break,
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its prolog has hung up")),
                Ok(length) => self.heard.extend(piece.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.heard.len() > LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it says too much"));
            }
        }
        let mut said = Vec::new();
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let rest = self.heard.split_off(end + 1);
            let line = std::mem::replace(&mut self.heard, rest);
            said.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        Ok(said)
    }
}

/// Waits until one of `fds` has something, at most until the deadline.
pub(super) fn wait_for_any(fds: &[BorrowedFd<'_>], deadline: Deadline) -> io::Result<()> {
    poll_all(fds, PollFlags::POLLIN, deadline).map(drop)
}

fn poll_all(fds: &[BorrowedFd<'_>], events: PollFlags, deadline: Deadline) -> io::Result<bool> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, events)).collect();
    loop {
        let millis = deadline.remaining().as_micros().div_ceil(1000);
        match poll(&mut polled, PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))) {
            Ok(0) if !deadline.has_passed() => {}
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects from one of root's ports of `own`.
pub(super) fn dial(
    own: IpAddr,
    to: SocketAddr,
    ports: &RangeInclusive<u16>,
    deadline: Deadline,
) -> io::Result<TcpStream> {
    let family = if own.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    bind_to_one(&fd, own, ports)?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => {
            if !poll_all(&[fd.as_fd()], PollFlags::POLLOUT, deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(fd);
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// Another first port for each process and each moment, so that two dials seldom meet.
fn bind_to_one(fd: &OwnedFd, own: IpAddr, ports: &RangeInclusive<u16>) -> io::Result<()> {
    let span = u32::from(ports.end() - ports.start()) + 1;
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let first = std::process::id().wrapping_mul(31).wrapping_add(moment.subsec_micros());
    let mut fault = Errno::EADDRINUSE;
    for offset in 0..u32::from(TRIES) {
        let offset = u16::try_from(first.wrapping_add(offset) % span).unwrap_or(0);
        match bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(own, ports.start() + offset))) {
            Ok(()) => return Ok(()),
            Err(Errno::EADDRINUSE) => {}
            Err(other) => {
                fault = other;
                break;
            }
        }
    }
    Err(fault.into())
}
