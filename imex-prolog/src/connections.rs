//! TCP sockets of this tray, as the kernel lists them (proc_pid_net(5)).
//!
//! A hint and never a proof: that the daemon's connections stand says when it is worth asking its control tool, which costs two
//! processes each time. What the tool says decides.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Most that is read of each list, in bytes: some 6,000 sockets. A longer one gives no hint.
const LEN_MAX: u64 = 1 << 20;
/// The kernel's numbers of the states (include/net/tcp_states.h).
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// Whether somebody listens at `own`'s port `port`, and connections stand from `own` to that port of each of `peers`.
#[must_use]
pub fn all_stand(proc_dir: &Path, own: IpAddr, peers: &HashSet<IpAddr>, port: u16) -> bool {
    let mut text = String::new();
    // Sockets for both kinds of addresses, which gRPC makes, are in the second one, also with IPv4 addresses.
    for name in ["net/tcp", "net/tcp6"] {
        let Ok(file) = std::fs::File::open(proc_dir.join(name)) else { continue };
        match file.take(LEN_MAX).read_to_string(&mut text) {
            Ok(length) if (length as u64) < LEN_MAX => {}
            _ => return false,
        }
    }
    stand_in(&text, own, peers, port)
}

fn stand_in(text: &str, own: IpAddr, peers: &HashSet<IpAddr>, port: u16) -> bool {
    let mut listens = false;
    let mut connected = HashSet::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(remote), Some(state)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let of_own = |socket: SocketAddr| socket.ip() == own || socket.ip().is_unspecified();
        match (state, socket(local), socket(remote)) {
            (LISTEN, Some(local), _) => listens |= local.port() == port && of_own(local),
            (ESTABLISHED, Some(local), Some(remote)) if local.ip() == own && remote.port() == port => {
                connected.extend(peers.get(&remote.ip()).copied());
            }
            _ => {}
        }
    }
    listens && connected.len() == peers.len()
}

/// An address as the kernel prints it: 32-bit words in this machine's byte order, then the port.
fn socket(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn set(all: &[&str]) -> HashSet<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn real_connections_are_seen_and_a_missing_one_is_missed() {
        let port = TcpListener::bind("127.0.7.1:0").unwrap().local_addr().unwrap().port();
        let own: IpAddr = "127.0.7.1".parse().unwrap();
        let proc = Path::new("/proc/self");
        let stand = |peers: &[&str]| all_stand(proc, own, &set(peers), port);
        assert!(!stand(&[]), "nobody listens");
        let _listeners =
            ["127.0.7.1", "127.0.7.2", "127.0.7.3"].map(|ip| TcpListener::bind((ip, port)).unwrap());
        assert!(stand(&[]) && !stand(&["127.0.7.2"]));
        // The kernel takes 127.0.0.1 where nobody chooses, which is not the own address.
        let _stranger = TcpStream::connect(("127.0.7.2", port)).unwrap();
        assert!(!stand(&["127.0.7.2"]));
    }

    #[test]
    fn the_kernels_form_is_read() {
        if cfg!(target_endian = "big") {
            return;
        }
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
            0: 0200000A:C350 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
            1: 0200000A:8F4C 0300000A:C350 01 00000000:00000000 00:00000000 00000000     0\n   \
            2: 0200000A:8F4D 0400000A:C350 02 00000000:00000000 00:00000000 00000000     0\n\nnonsense\n";
        let own = "10.0.0.2".parse().unwrap();
        assert!(stand_in(text, own, &set(&["10.0.0.3"]), 50_000));
        assert!(!stand_in(text, own, &set(&["10.0.0.3", "10.0.0.4"]), 50_000), "still being dialled");
        assert!(!stand_in(text, own, &set(&["10.0.0.3"]), 50_001));
        // The same, mapped into IPv6, and somebody who listens at all addresses.
        let mapped = "  0: 00000000000000000000000000000000:C350 00000000000000000000000000000000:0000 0A 0\n  \
            1: 0000000000000000FFFF00000200000A:8F4C 0000000000000000FFFF00000300000A:C350 01 0\n";
        assert!(stand_in(mapped, own, &set(&["10.0.0.3"]), 50_000));
        assert_eq!(
            socket("B80D01200000000067452301EFCDAB89:0016"),
            Some("[2001:db8::123:4567:89ab:cdef]:22".parse().unwrap())
        );
        for odd in ["", "1:2", "0200000A", "0200000A:x", "zz00000A:0001"] {
            assert_eq!(socket(odd), None, "{odd:?}");
        }
    }
}
