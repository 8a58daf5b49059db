//! The network between the nodes: every node has one neighbour, the router, which is the supervisor's bridge.
//!
//! Nodes that saw each other directly would fill the kernel's table of neighbours: it is one for all network namespaces
//! of a machine, and holds 1,024 (net.ipv4.neigh.default.gc_thresh3, Linux' Documentation/networking/ip-sysctl). 72 trays that
//! all talk to each other are 5,184, and above the limit a connection is refused or late. Behind a router they are 144.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// Address of the bridge; every node's network is [`NETWORK`].
const ROUTER: &str = "10.75.255.254";
const NETWORK: &str = "10.75.0.0/16";

/// Settings of the router's namespace, as files below `/proc/sys/net/ipv4`: it passes on what comes from one node for another,
/// does not tell them of each other, and says of every packet when its node cannot be reached.
pub(crate) const ROUTER_SETTINGS: [(&str, &str); 4] = [
    ("ip_forward", "1"),
    ("conf/all/send_redirects", "0"),
    ("conf/default/send_redirects", "0"),
    ("icmp_ratelimit", "0"),
];

/// The same of a node: no outgoing connection gets a port of the IMEX daemons, as the operator's guide has it.
pub(crate) const NODE_SETTINGS: [(&str, &str); 1] = [("ip_local_reserved_ports", "50000,50005,50010,50015")];

/// Makes such a setting in the namespace of this process.
pub(crate) fn set(file: &str, value: &str) -> anyhow::Result<()> {
    let file = Path::new("/proc/sys/net/ipv4").join(file);
    fs::write(&file, value).with_context(|| format!("cannot write {}", file.display()))
}

/// iproute2's commands that make the bridge, with these interfaces of nodes.
pub(crate) fn router(ports: &[Port]) -> String {
    let mut commands = format!("link set lo up\nlink add br0 type bridge\naddr add {ROUTER}/16 dev br0\n");
    for port in ports {
        commands.push_str(&port.plug_in());
    }
    commands + "link set br0 up\n"
}

/// Where a node is plugged in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Port {
    /// The node's number.
    pub(crate) number: usize,
    /// How often it was booted: the interface of an earlier boot goes when the kernel gets round to it, so each boot has one
    /// with a name of its own.
    pub(crate) boots: u32,
    /// A process of the node.
    pub(crate) pid: i32,
}

impl Port {
    /// The commands that give the node its `eth0`.
    pub(crate) fn plug_in(&self) -> String {
        let Self { number, boots, pid } = self;
        format!(
            "link add n{number}b{boots} type veth peer name eth0 netns {pid}\nlink set n{number}b{boots} master br0 up\n"
        )
    }
}

/// The commands in a node that give it its address and bring it up.
pub(crate) fn node(address: Ipv4Addr) -> String {
    format!("link set lo up\naddr add {address}/32 dev eth0\n{}", up(address))
}

/// The commands in a node that bring it up, also after [`DOWN`]: its route has gone with the link.
pub(crate) fn up(address: Ipv4Addr) -> String {
    let mut commands = String::from("link set eth0 up\n");
    let _ = writeln!(commands, "route add {NETWORK} via {ROUTER} dev eth0 onlink src {address}");
    commands
}

/// The command in a node that takes it off the network.
pub(crate) const DOWN: &str = "link set eth0 down\n";
