#![forbid(unsafe_code)]
//! Where the members of Slurm's job and node records lie, for builds on which that was confirmed.
//!
//! `job_record_t` changed by eight bytes inside the 26.05 series: a plugin that trusts the offsets of the headers of
//! 26.05.3 kills the slurmctld of 26.05.5. So a layout belongs to a *build*, known by the GNU build id of
//! `libslurmfull.so` (slurmctld, slurmd and the stock plugins come from the same build), and never to a version. On
//! any other build nothing of these records is read and [`crate::init`] refuses, which makes Slurm go on with its own
//! plugin. At run time each record is checked by its magic number before a member is read.

/// Offsets in bytes from the start of each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// `job_record_t`.
    pub job: JobLayout,
    /// `job_details_t`.
    pub details: DetailsLayout,
    /// `node_record_t`.
    pub node: NodeLayout,
}

/// Members of `job_record_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobLayout {
    /// `magic`, u32.
    pub magic: usize,
    /// `bit_flags`, u64.
    pub bit_flags: usize,
    /// `details`, pointer to `job_details_t`.
    pub details: usize,
    /// `hres_select`, pointer.
    pub hres_select: usize,
    /// `job_id`, u32.
    pub job_id: usize,
    /// `network`, string pointer.
    pub network: usize,
}

/// Members of `job_details_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetailsLayout {
    /// `magic`, u32.
    pub magic: usize,
    /// `arbitrary_tpn`, pointer.
    pub arbitrary_tpn: usize,
    /// `contiguous`, u16.
    pub contiguous: usize,
    /// `min_cpus`, u32.
    pub min_cpus: usize,
    /// `req_node_bitmap`, bitmap pointer.
    pub req_node_bitmap: usize,
    /// `segment_size`, u16.
    pub segment_size: usize,
}

/// Members of `node_record_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLayout {
    /// `magic`, u32.
    pub magic: usize,
    /// `index`, i32: position in the node table.
    pub index: usize,
    /// `node_state`, u32.
    pub node_state: usize,
    /// `sched_weight`, u64.
    pub sched_weight: usize,
}

/// 26.05.5 as Debian builds it: the headers of 26.05.3 plus eight bytes after `bit_flags` in the job record. Seen in
/// live jobs and in the displacements of the stock plugins' code.
const DEBIAN_26_05_5: Layout = Layout {
    job: JobLayout { magic: 24, bit_flags: 144, details: 264, hres_select: 448, job_id: 456, network: 632 },
    details: DetailsLayout {
        magic: 0,
        arbitrary_tpn: 24,
        contiguous: 64,
        min_cpus: 272,
        req_node_bitmap: 392,
        segment_size: 440,
    },
    node: NodeLayout { magic: 256, index: 216, node_state: 328, sched_weight: 472 },
};

/// A build of Slurm on which a layout was confirmed.
struct KnownBuild {
    build_id: [u8; 20],
    name: &'static str,
    layout: Layout,
}

const KNOWN_BUILDS: &[KnownBuild] = &[
    KnownBuild {
        build_id: hex("03b303c2fa1141bf272910a18507eeecd7e4b0e7"),
        name: "Debian 26.05.5-1 amd64",
        layout: DEBIAN_26_05_5,
    },
    // Both are LP64 with the same alignment rules; the displacements in the arm64 code of the stock plugins agree.
    KnownBuild {
        build_id: hex("8401813c1c22cb303f4ed5b82e1305037093b401"),
        name: "Debian 26.05.5-1 arm64",
        layout: DEBIAN_26_05_5,
    },
];

/// The layout of the build whose `libslurmfull.so` has this GNU build id, and the name of that build.
pub fn of_build(build_id: &[u8]) -> Option<(&'static str, Layout)> {
    KNOWN_BUILDS.iter().find(|known| known.build_id == build_id).map(|known| (known.name, known.layout))
}

/// Reads 40 hexadecimal digits at compile time.
const fn hex(text: &str) -> [u8; 20] {
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => panic!("a build id is written in lower-case hexadecimal digits"),
        }
    }
    let text = text.as_bytes();
    assert!(text.len() == 40, "a build id has 40 digits");
    let mut bytes = [0; 20];
    let mut i = 0;
    while i < 20 {
        bytes[i] = digit(text[2 * i]) * 16 + digit(text[2 * i + 1]);
        i += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_build_has_a_layout() {
        let mut id = KNOWN_BUILDS[0].build_id;
        assert!(of_build(&id).is_some());
        id[19] ^= 1;
        assert!(of_build(&id).is_none());
        assert!(of_build(&id[..19]).is_none());
        assert!(of_build(&[]).is_none());
    }

    #[test]
    fn build_ids_are_distinct() {
        for (i, a) in KNOWN_BUILDS.iter().enumerate() {
            assert!(KNOWN_BUILDS[..i].iter().all(|b| a.build_id != b.build_id), "{}", a.name);
        }
    }
}
