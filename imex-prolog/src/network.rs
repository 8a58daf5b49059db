//! Whether this tray's own network is at fault, from what can be seen on the tray.
#![forbid(unsafe_code)]

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// What a knock at a peer's port gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knock {
    /// Somebody listens.
    Listening,
    /// The peer is there, and nobody listens.
    Refused,
    /// No answer at all.
    Silent,
}

/// Knocks at all of `addresses` at the same time; each answer takes at most `limit`.
#[must_use]
pub fn knock(addresses: &[SocketAddr], limit: Duration) -> Vec<Knock> {
    let one = |address: &SocketAddr| match TcpStream::connect_timeout(address, limit) {
        Ok(_) => Knock::Listening,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Knock::Refused,
        Err(_) => Knock::Silent,
    };
    if limit.is_zero() {
        return vec![Knock::Silent; addresses.len()];
    }
    std::thread::scope(|scope| {
        let knocks: Vec<_> = addresses.iter().map(|address| scope.spawn(move || one(address))).collect();
        knocks.into_iter().map(|knock| knock.join().unwrap_or(Knock::Silent)).collect()
    })
}

/// What is wrong with the interface that has this tray's address, if anything; `None` also when it cannot be told.
#[must_use]
pub fn interface_fault(own: IpAddr) -> Option<String> {
    let mut seen = false;
    for interface in getifaddrs().ok()? {
        let storage = interface.address.as_ref();
        let v4 =
            storage.and_then(|address| address.as_sockaddr_in()).map(|address| IpAddr::from(address.ip()));
        let v6 =
            storage.and_then(|address| address.as_sockaddr_in6()).map(|address| IpAddr::from(address.ip()));
        if v4.or(v6) != Some(own) {
            continue;
        }
        if interface.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING) {
            return None;
        }
        seen = true;
    }
    Some(if seen {
        format!("the network interface with its address {own} is down")
    } else {
        format!("none of its network interfaces has its address {own} any more")
    })
}

/// Why this tray itself must be what is cut off: a knock at each of the other members gave `knocks`, in any order. With
/// two others or more, of which not one answers in any way, it is far likelier to be this tray than all of them.
#[must_use]
pub fn cut_off(own: IpAddr, knocks: &[Knock]) -> Option<String> {
    if knocks.iter().any(|knock| *knock != Knock::Silent) {
        return None;
    }
    let all_silent = || format!("none of the {} other members answers in any way", knocks.len());
    interface_fault(own).or_else(|| (knocks.len() >= 2).then(all_silent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_knock_tells_a_listener_from_a_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let knocks = knock(&[listener.local_addr().unwrap(), closed], Duration::from_secs(5));
        assert_eq!(knocks, [Knock::Listening, Knock::Refused]);
        assert_eq!(knock(&[closed], Duration::ZERO), [Knock::Silent]);
    }

    #[test]
    fn an_address_that_no_interface_has_is_a_fault_and_a_working_one_is_none() {
        assert_eq!(
            interface_fault("203.0.113.77".parse().unwrap()).unwrap(),
            "none of its network interfaces has its address 203.0.113.77 any more"
        );
        assert_eq!(interface_fault("127.0.0.1".parse().unwrap()), None);
    }

    #[test]
    fn only_a_tray_that_hears_nobody_blames_itself_and_never_for_a_single_peer() {
        use Knock::{Listening, Refused, Silent};
        let own = "127.0.0.1".parse().unwrap();
        assert_eq!(
            cut_off(own, &[Silent, Silent]).unwrap(),
            "none of the 2 other members answers in any way"
        );
        for knocks in [[Silent, Refused], [Listening, Silent]] {
            assert_eq!(cut_off(own, &knocks), None);
        }
        assert_eq!(cut_off(own, &[Silent]), None);
        assert!(cut_off("203.0.113.77".parse().unwrap(), &[Silent]).is_some());
    }
}
