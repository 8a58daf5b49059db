//! Packets that the kernel has thrown away on their way from node to node.
//!
//! All network namespaces of a machine share a queue for each processor, which holds 1,000 packets
//! (`net.core.netdev_max_backlog`, Linux' Documentation/admin-guide/sysctl/net). When dozens of daemons begin to connect at once it can
//! overflow. TCP sends again after 1, 2, 4, 8 s, and until then a daemon without any fault does not answer. Trays have a kernel
//! each: this is a fault of test clusters only.
#![forbid(unsafe_code)]

use std::fs;
use std::sync::OnceLock;

/// For each processor a line of numbers, of which the second counts packets that found the queue full (Linux net/core/net-procfs.c).
const COUNTS: &str = "/proc/net/softnet_stat";

/// How many the machine has lost since this was asked first; 0 where it cannot be told.
pub fn since_first_asked() -> u64 {
    static FIRST: OnceLock<u64> = OnceLock::new();
    let now = fs::read_to_string(COUNTS).ok().and_then(|text| count(&text)).unwrap_or(0);
    now.saturating_sub(*FIRST.get_or_init(|| now))
}

/// What to tell of so many, and what helps; empty for none.
#[must_use]
pub fn in_words(lost: u64) -> String {
    match lost {
        0 => String::new(),
        lost => format!(
            "the kernel has lost {lost} packets, so daemons may have seemed dead for seconds; as root: sysctl net.core.netdev_max_backlog=20000\n"
        ),
    }
}

fn count(text: &str) -> Option<u64> {
    text.lines().map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_added_up() {
        assert_eq!(count("072c1016 00000010 0000002d\n07184da3 0000000f 0000001f\n"), Some(31));
        assert_eq!(count(""), Some(0));
        assert_eq!(count("072c1016\n"), None);
    }

    #[test]
    fn this_kernel_is_understood() {
        assert!(count(&fs::read_to_string(COUNTS).unwrap()).is_some());
    }

    #[test]
    fn none_is_not_worth_a_word() {
        assert_eq!(in_words(0), "");
        assert!(in_words(7).contains("lost 7 packets"));
    }
}
