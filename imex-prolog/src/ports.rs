//! The daemon's ports and the kernel's own use of them.
//!
//! A port in the range from which outgoing connections take theirs may be held by one by chance when a daemon starts.
//! `net.ipv4.ip_local_reserved_ports` keeps it free.
#![forbid(unsafe_code)]

use std::path::Path;

/// The kernel's settings on local ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalPorts {
    first: u16,
    last: u16,
    reserved: Vec<(u16, u16)>,
}

impl LocalPorts {
    /// Reads them below a mounted process file system; `None` where they cannot be read.
    #[must_use]
    pub fn read(proc_dir: &Path) -> Option<Self> {
        let file = |name: &str| std::fs::read_to_string(proc_dir.join("sys/net/ipv4").join(name)).ok();
        Self::parse(&file("ip_local_port_range")?, &file("ip_local_reserved_ports").unwrap_or_default())
    }

    /// `range` is `first<TAB>last`; `reserved` is `a,b-c,...` or empty (Linux Documentation/networking/ip-sysctl.rst).
    fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut words = range.split_whitespace().map(str::parse);
        let (first, last) = (words.next()?.ok()?, words.next()?.ok()?);
        let span = |item: &str| -> Option<(u16, u16)> {
            let (from, to) = item.split_once('-').unwrap_or((item, item));
            Some((from.trim().parse().ok()?, to.trim().parse().ok()?))
        };
        let reserved = reserved.trim().split(',').filter_map(span).collect();
        Some(Self { first, last, reserved })
    }

    /// Whether an outgoing connection may be given this port.
    #[must_use]
    pub fn may_take(&self, port: u16) -> bool {
        let within = |(from, to): &(u16, u16)| (*from..=*to).contains(&port);
        (self.first..=self.last).contains(&port) && !self.reserved.iter().any(within)
    }

    /// What to tell an operator about these ports, if anything.
    #[must_use]
    pub fn warning(&self, ports: impl IntoIterator<Item = u16>) -> Option<String> {
        let open: Vec<String> =
            ports.into_iter().filter(|port| self.may_take(*port)).map(|port| port.to_string()).collect();
        (!open.is_empty()).then(|| {
            format!(
                "outgoing connections may be given the IMEX daemon's port(s) {0}: reserve them with sysctl net.ipv4.ip_local_reserved_ports={0}",
                open.join(",")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_the_range_is_taken_unless_it_is_reserved() {
        let ports = LocalPorts::parse("32768\t60999\n", "50000,50003-50004\n").unwrap();
        let taken: Vec<u16> = [1101, 32_768, 50_000, 50_003, 50_004, 50_005]
            .into_iter()
            .filter(|p| ports.may_take(*p))
            .collect();
        assert_eq!(taken, [32_768, 50_005]);
        assert!(LocalPorts::parse("32768", "").is_none());
    }

    #[test]
    fn the_warning_names_the_ports_and_the_setting() {
        let ports = LocalPorts::parse("32768 60999", "").unwrap();
        assert_eq!(
            ports.warning([50_000, 1101, 50_005]).unwrap(),
            "outgoing connections may be given the IMEX daemon's port(s) 50000,50005: reserve them with sysctl \
             net.ipv4.ip_local_reserved_ports=50000,50005"
        );
        assert_eq!(ports.warning([1101]), None);
    }

    #[test]
    fn this_machine_has_such_settings() {
        assert!(LocalPorts::read(Path::new("/proc")).is_some());
        assert!(LocalPorts::read(Path::new("/none")).is_none());
    }
}
