//! Sockets of the daemon: what it listens on, and how it dials.
#![forbid(unsafe_code)]

use crate::config::Config;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// The listening sockets, all non-blocking.
#[derive(Debug)]
pub(super) struct Ports {
    /// SERVER_PORT on the own address.
    pub(super) peers: TcpListener,
    /// IMEX_CMD_PORT.
    pub(super) commands: Option<TcpListener>,
    /// IMEX_CMD_UNIX_DOMAIN_PATH.
    pub(super) socket: Option<UnixListener>,
    socket_path: Option<PathBuf>,
}

/// A port that does not open.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The peer port.
    #[error("failed to bind the IMEX server to {address}")]
    Peers {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The command port.
    #[error("failed to bind the IMEX command service to {address}")]
    Commands {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The command socket.
    #[error("failed to bind the IMEX command service to {path}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Ports {
    /// Opens what the config asks for.
    ///
    /// # Errors
    /// An address is taken or not local.
    pub(super) fn open(config: &Config, own: IpAddr) -> Result<Self, PortError> {
        let address = SocketAddr::new(own, config.server_port);
        let peers = listen(address).map_err(|source| PortError::Peers { address, source })?;
        let every = if own.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let commands = match config.cmd_port {
            None => None,
            Some(port) => {
                let address = SocketAddr::new(config.cmd_ip.unwrap_or(every), port);
                Some(listen(address).map_err(|source| PortError::Commands { address, source })?)
            }
        };
        let socket = match &config.cmd_socket {
            None => None,
            Some(path) => {
                Some(listen_at(path).map_err(|source| PortError::Socket { path: path.clone(), source })?)
            }
        };
        Ok(Self { peers, commands, socket, socket_path: config.cmd_socket.clone() })
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        if let Some(path) = &self.socket_path {
            // Left over it would only be replaced by the next daemon.
            let _ = fs::remove_file(path);
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn listen_at(path: &PathBuf) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Begins a connection from the own address; it is open, or has failed, when it becomes writable.
///
/// # Errors
/// The connection fails at once.
pub(super) fn dial(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if from.is_ipv4() == to.is_ipv4() {
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    }
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error.into()),
    }
}
