//! The node list: one member per line, and the line number is the member's id.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, ToSocketAddrs};

/// One line of the node list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The line as written.
    pub text: String,
    /// Whether the line is a host name.
    pub is_name: bool,
    /// Its addresses; empty when a name was not found.
    pub addresses: Vec<IpAddr>,
}

/// All members in file order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeList {
    /// Index = node id.
    pub members: Vec<Member>,
}

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address.
    pub ip: IpAddr,
    /// Name of its interface.
    pub interface: String,
}

/// Which line this machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Line number from 0.
    pub id: usize,
    /// The address that matched.
    pub ip: IpAddr,
    /// Its interface.
    pub interface: String,
}

impl NodeList {
    /// Reads a node list; `resolve` is asked for lines that are no addresses.
    ///
    /// Empty lines and lines that begin with `#` are no members.
    pub fn parse(text: &str, mut resolve: impl FnMut(&str) -> Vec<IpAddr>) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let member = |line: &str| match line.parse() {
            Ok(ip) => Member { text: line.to_owned(), is_name: false, addresses: vec![ip] },
            Err(_) => Member { text: line.to_owned(), is_name: true, addresses: resolve(line) },
        };
        Self { members: lines.map(member).collect() }
    }

    /// Asks again for the addresses of the names; the lines themselves stay.
    pub fn resolve_again(&mut self, mut resolve: impl FnMut(&str) -> Vec<IpAddr>) {
        for member in self.members.iter_mut().filter(|member| member.is_name) {
            member.addresses = resolve(&member.text);
        }
    }

    /// A number that two lists share only when members and order are the same (64-bit FNV-1a of the lines).
    pub fn key(&self) -> u64 {
        let lines = self.members.iter().flat_map(|member| member.text.bytes().chain([b'\n']));
        lines
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// This machine's line: the first with the bind address if one is configured, else the first with any of
    /// `local`.
    pub fn find_own(&self, local: &[LocalAddress], bind: Option<IpAddr>) -> Option<Own> {
        let own = |ip: IpAddr| match bind {
            Some(bind) if bind != ip => None,
            // The whole of 127/8 is local on Linux, though the interface lists only 127.0.0.1.
            Some(IpAddr::V4(bind)) if bind.is_loopback() => Some("lo".to_owned()),
            _ => local.iter().find(|address| address.ip == ip).map(|address| address.interface.clone()),
        };
        self.members.iter().enumerate().find_map(|(id, member)| {
            let matched = member.addresses.iter().find_map(|ip| own(*ip).map(|interface| (*ip, interface)));
            matched.map(|(ip, interface)| Own { id, ip, interface })
        })
    }
}

/// Asks the system's resolver for a host name; not found is an empty list.
pub fn resolve(name: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> =
        (name, 0).to_socket_addrs().map(|all| all.map(|address| address.ip()).collect()).unwrap_or_default();
    found.dedup();
    found
}

/// The addresses of this machine's interfaces.
///
/// # Errors
/// The kernel does not list them.
pub fn local_addresses() -> io::Result<Vec<LocalAddress>> {
    let addresses = nix::ifaddrs::getifaddrs()?;
    let local = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some(LocalAddress { ip, interface: interface.interface_name })
    };
    Ok(addresses.filter_map(local).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn local(text: &str) -> LocalAddress {
        LocalAddress { ip: ip(text), interface: "eth0".to_owned() }
    }

    #[test]
    fn line_order_is_the_node_id() {
        let list = NodeList::parse("10.0.0.3\n\n# spare\n 10.0.0.1 \nfd00::2\ntray7\n", |name| {
            assert_eq!(name, "tray7");
            vec![ip("10.0.0.7")]
        });
        let texts: Vec<&str> = list.members.iter().map(|member| member.text.as_str()).collect();
        assert_eq!(texts, ["10.0.0.3", "10.0.0.1", "fd00::2", "tray7"]);
        let own = |address: &str| list.find_own(&[local(address)], None).map(|own| own.id);
        assert_eq!(own("10.0.0.1"), Some(1));
        assert_eq!(own("fd00::2"), Some(2));
        assert_eq!(own("10.0.0.7"), Some(3));
        assert_eq!(own("10.0.0.9"), None);
    }

    #[test]
    fn a_placeholder_list_has_no_line_of_this_machine() {
        let list = NodeList::parse("0.0.0.0\n0.0.0.0\n", |_| Vec::new());
        assert_eq!(list.find_own(&[local("10.0.0.1")], None), None);
    }

    #[test]
    fn a_bind_address_decides_between_several_lines_of_this_machine() {
        let list = NodeList::parse("127.0.0.2\n127.0.0.3\n10.0.0.1\n", |_| Vec::new());
        let own = |bind: &str| list.find_own(&[local("10.0.0.1")], Some(ip(bind))).map(|own| own.id);
        assert_eq!(own("127.0.0.3"), Some(1));
        assert_eq!(own("10.0.0.1"), Some(2));
        assert_eq!(own("10.0.0.2"), None);
    }

    #[test]
    fn localhost_resolves() {
        assert!(resolve("localhost").iter().any(IpAddr::is_loopback));
        assert_eq!(resolve("no-such-host.invalid"), Vec::<IpAddr>::new());
    }

    proptest! {
        #[test]
        fn the_key_follows_members_and_order(mut names in prop::collection::vec("[a-z]{1,6}", 2..6), at in 0usize..5) {
            let key = |names: &[String]| NodeList::parse(&names.join("\n"), |_| Vec::new()).key();
            let before = key(&names);
            let at = at % (names.len() - 1);
            prop_assert_eq!(before, key(&names.clone()));
            let differ = names[at] != names[at + 1];
            names.swap(at, at + 1);
            prop_assert_eq!(before != key(&names), differ);
            names.pop();
            prop_assert_ne!(before, key(&names));
        }
    }
}
