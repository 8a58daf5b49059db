//! From member names to the addresses that every member lists.
//!
//! All members must compute the same list, byte for byte: a different one keeps peers apart until every daemon is restarted
//! (AWS PCS user guide, "capacity-blocks-nvidia-imex"). So the choice among several addresses depends on nothing but the
//! addresses: IPv4 before IPv6, then the smallest. Addresses that mean "this machine" are left out; a tray's own name
//! often has one in its own `/etc/hosts` and nowhere else.
#![forbid(unsafe_code)]

use crate::deadline::Deadline;
use crate::record::Member;
use crate::slurm_conf::SlurmConf;
use fabric::names::NodeName;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc;
use thiserror::Error;

/// Addresses could not be found.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// Name resolution failed.
    #[error("cannot find the address of {name} for node {node}")]
    Lookup {
        /// The node.
        node: NodeName,
        /// The name that was asked for.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Only addresses that mean the asking machine itself.
    #[error("node {node} has no address that its peers can use, only {found}")]
    OnlyLocal {
        /// The node.
        node: NodeName,
        /// The addresses.
        found: String,
    },
    /// The resolver did not answer in time.
    #[error("name resolution of {node} took longer than {seconds} s")]
    Slow {
        /// The first node without an answer.
        node: NodeName,
        /// The bound.
        seconds: u64,
    },
    /// Two members share one address.
    #[error("nodes {first} and {second} have the same address {address}")]
    Twice {
        /// One node.
        first: NodeName,
        /// The other node.
        second: NodeName,
        /// Their address.
        address: IpAddr,
    },
}

impl ResolveError {
    /// The node that the fault is about.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        match self {
            Self::Lookup { node, .. } | Self::OnlyLocal { node, .. } | Self::Slow { node, .. } => node,
            Self::Twice { second, .. } => second,
        }
    }
}

/// Asks the system for the addresses of a name.
pub type Lookup = fn(&str) -> io::Result<Vec<IpAddr>>;

/// The system's name resolution (getaddrinfo).
///
/// # Errors
/// The resolver's.
pub fn system_lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Addresses of all `nodes`, in their order.
///
/// # Errors
/// [`ResolveError`] for the first node in order that has none.
pub fn resolve(
    nodes: &[NodeName],
    conf: &SlurmConf,
    lookup: Lookup,
    deadline: Deadline,
) -> Result<Vec<Member>, ResolveError> {
    let seconds = deadline.remaining().as_secs();
    let (sender, receiver) = mpsc::channel();
    for (index, node) in nodes.iter().enumerate() {
        let (sender, name) = (sender.clone(), conf.address_of(node.as_ref()).to_owned());
        if let Ok(address) = name.parse::<IpAddr>() {
            // Nobody needs to be asked.
            let _received = sender.send((index, name, Ok(vec![address])));
            continue;
        }
        // getaddrinfo has no bound of its own. A thread that hangs in it ends with the process; nobody waits for it.
        std::thread::spawn(move || {
            let answer = lookup(&name);
            // A closed channel means that the deadline has passed: nobody wants the answer.
            let _unwanted = sender.send((index, name, answer));
        });
    }
    drop(sender);
    let mut answers: Vec<Option<(String, io::Result<Vec<IpAddr>>)>> = nodes.iter().map(|_| None).collect();
    while let Ok((index, name, answer)) = receiver.recv_timeout(deadline.remaining()) {
        if let Some(slot) = answers.get_mut(index) {
            *slot = Some((name, answer));
        }
    }
    let alone = nodes.len() == 1;
    let mut members: Vec<Member> = Vec::new();
    for (node, answer) in nodes.iter().zip(answers) {
        let (name, answer) = answer.ok_or_else(|| ResolveError::Slow { node: node.clone(), seconds })?;
        let found = answer.map_err(|source| ResolveError::Lookup { node: node.clone(), name, source })?;
        let address = choose(&found, alone).ok_or_else(|| ResolveError::OnlyLocal {
            node: node.clone(),
            found: found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "),
        })?;
        members.push(Member { node: node.clone(), address });
    }
    refuse_twins(&members)?;
    Ok(members)
}

/// The address to list; with `alone` an address of this machine only will do, if there is no other.
fn choose(found: &[IpAddr], alone: bool) -> Option<IpAddr> {
    let best = |usable: &dyn Fn(&IpAddr) -> bool| {
        found
            .iter()
            .copied()
            .filter(|address| usable(address))
            .min_by_key(|address| (address.is_ipv6(), *address))
    };
    best(&is_reachable).or_else(|| if alone { best(&|address| !address.is_unspecified()) } else { None })
}

fn is_reachable(address: &IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

fn refuse_twins(members: &[Member]) -> Result<(), ResolveError> {
    let mut seen = HashSet::new();
    for member in members {
        if !seen.insert(member.address) {
            let first = members.iter().find(|other| other.address == member.address).unwrap_or(member);
            return Err(ResolveError::Twice {
                first: first.node.clone(),
                second: member.node.clone(),
                address: member.address,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn fake(name: &str) -> io::Result<Vec<IpAddr>> {
        let list = |text: &str| Ok(text.split(' ').map(|address| address.parse().unwrap()).collect());
        match name {
            "a" => list("fd00::1 10.0.0.9 10.0.0.2"),
            "b" => list("127.0.1.1 fe80::1 fd00::2"),
            "c" => list("127.0.1.1 ::1"),
            "d" => list("10.0.0.2"),
            "slow" => {
                std::thread::park_timeout(Duration::from_secs(20));
                list("10.0.0.77")
            }
            _ => Err(io::Error::other("unknown name")),
        }
    }

    fn resolved(names: &[&str]) -> Result<String, String> {
        let nodes: Vec<NodeName> = names.iter().map(|name| NodeName::new(*name).unwrap()).collect();
        let wait = if names.contains(&"slow") { Duration::from_millis(50) } else { Duration::from_secs(10) };
        let members =
            resolve(&nodes, &SlurmConf::default(), fake, Deadline::after(wait)).map_err(|e| e.to_string())?;
        Ok(members.iter().map(|member| member.address.to_string()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_smallest_reachable_v4_address_is_taken_else_v6() {
        assert_eq!(resolved(&["a", "b"]).unwrap(), "10.0.0.2 fd00::2");
    }

    #[test]
    fn a_loopback_address_serves_only_a_domain_of_one() {
        assert_eq!(resolved(&["c"]).unwrap(), "127.0.1.1");
        assert_eq!(
            resolved(&["a", "c"]).unwrap_err(),
            "node c has no address that its peers can use, only 127.0.1.1, ::1"
        );
    }

    #[test]
    fn faults_name_the_node() {
        assert_eq!(resolved(&["a", "x"]).unwrap_err(), "cannot find the address of x for node x");
        assert_eq!(resolved(&["a", "d"]).unwrap_err(), "nodes a and d have the same address 10.0.0.2");
        assert_eq!(resolved(&["a", "slow"]).unwrap_err(), "name resolution of slow took longer than 0 s");
    }

    #[test]
    fn the_system_reads_plain_addresses() {
        assert_eq!(system_lookup("192.0.2.7").unwrap(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    }
}
