//! Asks daemons over the command service, with a deadline for each.
#![forbid(unsafe_code)]

use crate::wire::{Inbox, NodeReport, Query, Received, send};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Where a command service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A port.
    Tcp(SocketAddr),
    /// A socket.
    Unix(PathBuf),
}

/// Number that the real tool prints for a daemon that cannot be reached (gRPC unavailable).
pub const UNAVAILABLE: u8 = 14;
/// Number for a daemon that does not answer in time (gRPC deadline exceeded).
pub const DEADLINE_EXCEEDED: u8 = 4;

impl Endpoint {
    /// Asks for the daemon's report. The whole exchange takes at most `timeout`.
    ///
    /// # Errors
    /// Not reachable, not in time, or not understood.
    pub fn ask(&self, timeout: Duration) -> io::Result<NodeReport> {
        let until = Instant::now() + timeout;
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, timeout)?;
                exchange(stream, until, |stream, left| stream.set_read_timeout(Some(left)))
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                exchange(stream, until, |stream, left| stream.set_read_timeout(Some(left)))
            }
        }
    }
}

/// The number that stands for an error of [`Endpoint::ask`].
pub fn error_code(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => DEADLINE_EXCEEDED,
        _ => UNAVAILABLE,
    }
}

fn exchange<S: Read + Write>(
    mut stream: S,
    until: Instant,
    limit: impl Fn(&S, Duration) -> io::Result<()>,
) -> io::Result<NodeReport> {
    send(&mut stream, &Query::Report)?;
    let mut inbox = Inbox::default();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        limit(&stream, left)?;
        let received = inbox.fill(&mut stream)?;
        if let Some(answer) = inbox.take()? {
            return Ok(answer);
        }
        if received == Received::Closed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_silent_daemon_costs_the_timeout_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap());
        let begun = Instant::now();
        let error = endpoint.ask(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error_code(&error), DEADLINE_EXCEEDED);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn nobody_there_is_unavailable() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Endpoint::Tcp(address).ask(Duration::from_secs(5)).unwrap_err();
        assert_eq!(error_code(&error), UNAVAILABLE);
        let error = Endpoint::Unix("/no/such/socket".into()).ask(Duration::from_secs(5)).unwrap_err();
        assert_eq!(error_code(&error), UNAVAILABLE);
    }
}
