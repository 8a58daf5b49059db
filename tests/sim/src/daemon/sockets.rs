//! Which of the daemon's sockets have something, by `epoll(7)`: an idle daemon with hundreds of connections costs
//! nothing.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::{AsFd, BorrowedFd};

/// Events taken at once; more come with the next call.
const BATCH: usize = 64;

/// What a socket belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Peers dial.
    Peers,
    /// Control tools dial.
    Commands,
    /// Control tools dial the Unix socket.
    Socket,
    /// The own connection to this node.
    Link(u32),
    /// The accepted connection with this key.
    PeerCall(u32),
    /// The accepted question with this key.
    CommandCall(u32),
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, key) = match self {
            Self::Peers => (0, 0),
            Self::Commands => (1, 0),
            Self::Socket => (2, 0),
            Self::Link(key) => (3, key),
            Self::PeerCall(key) => (4, key),
            Self::CommandCall(key) => (5, key),
        };
        kind << 32 | u64::from(key)
    }

    fn decode(data: u64) -> Option<Self> {
        let key = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        match data >> 32 {
            0 => Some(Self::Peers),
            1 => Some(Self::Commands),
            2 => Some(Self::Socket),
            3 => Some(Self::Link(key)),
            4 => Some(Self::PeerCall(key)),
            5 => Some(Self::CommandCall(key)),
            _ => None,
        }
    }
}

/// What to wait for on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// Something to read, or somebody to accept.
    Read,
    /// The end of a dial.
    Dial,
}

impl Interest {
    fn event(self, token: Token) -> EpollEvent {
        let flags = match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::Dial => EpollFlags::EPOLLOUT,
        };
        EpollEvent::new(flags, token.encode())
    }
}

/// The set of watched sockets; a closed socket leaves it by itself.
#[derive(Debug)]
pub(super) struct Sockets {
    epoll: Epoll,
}

impl Sockets {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    pub(super) fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        self.epoll.add(fd, interest.event(token))
    }

    pub(super) fn change(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        self.epoll.modify(fd, &mut interest.event(token))
    }

    /// Sockets that have something now.
    pub(super) fn ready(&self) -> Result<Vec<Token>, Errno> {
        let mut events = [EpollEvent::empty(); BATCH];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno),
        };
        Ok(events.iter().take(count).filter_map(|event| Token::decode(event.data())).collect())
    }
}

impl AsFd for Sockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [Token::Peers, Token::Commands, Token::Socket, Token::Link(7), Token::PeerCall(u32::MAX)]
        {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(6 << 32), None);
    }

    #[test]
    fn only_sockets_with_something_are_ready_and_closed_ones_are_forgotten() {
        let sockets = Sockets::new().unwrap();
        let (mut here, there) = UnixStream::pair().unwrap();
        sockets.add(&there, Token::CommandCall(3), Interest::Read).unwrap();
        assert_eq!(sockets.ready().unwrap(), []);
        here.write_all(b"x").unwrap();
        assert_eq!(sockets.ready().unwrap(), [Token::CommandCall(3)]);
        drop(there);
        assert_eq!(sockets.ready().unwrap(), []);
    }
}
