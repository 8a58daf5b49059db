//! Tells systemd how the service is, as sd_notify(3) does: a datagram to the socket that `NOTIFY_SOCKET` names.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The way to systemd; without one nothing is told.
#[derive(Debug, Default)]
pub struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// To the socket of that name; `@` in front means a name without a file.
    pub fn to(socket: Option<&OsStr>) -> Self {
        let address = |name: &[u8]| match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(OsStr::from_bytes(name)),
        };
        let open = |name: &OsStr| Some((UnixDatagram::unbound().ok()?, address(name.as_bytes()).ok()?));
        Self(socket.and_then(open))
    }

    /// As the environment says.
    pub fn from_env() -> Self {
        Self::to(std::env::var_os("NOTIFY_SOCKET").as_deref())
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.0 {
            // Nobody to hear it is no reason to stop.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }

    /// The service works.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", line.replace('\n', " ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(Some(path.as_os_str()));
        notify.ready();
        notify.status("two\nlines");
        let mut bytes = [0; 100];
        let mut next = || {
            let len = socket.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        assert_eq!((next().as_str(), next().as_str()), ("READY=1", "STATUS=two lines"));
        Notify::to(None).stopping();
        Notify::to(Some(OsStr::new("/no/such/socket"))).ready();
    }
}
