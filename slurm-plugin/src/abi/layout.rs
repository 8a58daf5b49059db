#![forbid(unsafe_code)]
//! Where the members of Slurm's job and node records lie, for builds on which that was confirmed.
//!
//! `job_record_t` changed by eight bytes inside the 26.05 series: a plugin that trusts the offsets of the headers of
//! 26.05.3 kills the slurmctld of 26.05.5. So a layout belongs to a *build*, known by the GNU build id of
//! `libslurmfull.so` (slurmctld, slurmd and the stock plugins come from the same build), and never to a version. On
//! any other build a layout measured on that very build is taken ([`super::confirmation`]); without one nothing of these
//! records is read and [`crate::init`] refuses, which makes Slurm go on with its own plugin. At run time records are
//! checked before a member is believed ([`crate::host::record`]).

/// Declares the records, their members and the table of all members from one list.
macro_rules! records {
    ($( $(#[$about:meta])* $record:ident: $type:ident { $( $(#[$says:meta])* $member:ident: $width:literal, )* } )*) => {
        /// Offsets in bytes from the start of each record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Layout {
            $( $(#[$about])* pub $record: $type, )*
        }

        $(
            $(#[$about])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $type {
                $( $(#[$says])* pub $member: usize, )*
            }

            impl $type {
                /// Bytes from the start of the record to the end of its last member.
                pub const fn extent(&self) -> usize {
                    let mut extent = 0;
                    $( if self.$member + $width > extent { extent = self.$member + $width; } )*
                    extent
                }
            }
        )*

        /// Every member of every record.
        pub const MEMBERS: &[Member] = &[$( $( Member {
            name: concat!(stringify!($record), ".", stringify!($member)),
            width: $width,
            of: |layout| layout.$record.$member,
            of_mut: |layout| &mut layout.$record.$member,
        }, )* )*];

        impl Layout {
            /// A layout with every member at the start of its record: what [`MEMBERS`] are filled into.
            pub const UNKNOWN: Self = Self { $( $record: $type { $( $member: 0, )* }, )* };
        }
    };
}

records! {
    /// `job_record_t`.
    job: JobLayout {
        /// `magic`, u32.
        magic: 4,
        /// `bit_flags`, u64.
        bit_flags: 8,
        /// `details`, pointer to `job_details_t`.
        details: 8,
        /// `hres_select`, pointer.
        hres_select: 8,
        /// `job_id`, u32.
        job_id: 4,
        /// `network`, string pointer.
        network: 8,
    }
    /// `job_details_t`.
    details: DetailsLayout {
        /// `magic`, u32.
        magic: 4,
        /// `arbitrary_tpn`, pointer.
        arbitrary_tpn: 8,
        /// `contiguous`, u16.
        contiguous: 2,
        /// `min_cpus`, u32.
        min_cpus: 4,
        /// `req_node_bitmap`, bitmap pointer.
        req_node_bitmap: 8,
        /// `segment_size`, u16.
        segment_size: 2,
    }
    /// `node_record_t`.
    node: NodeLayout {
        /// `magic`, u32.
        magic: 4,
        /// `index`, i32: position in the node table.
        index: 4,
        /// `node_state`, u32.
        node_state: 4,
        /// `sched_weight`, u64.
        sched_weight: 8,
    }
    /// `slurm_conf_t`.
    conf: ConfLayout {
        /// `topology_param`, string pointer.
        topology_param: 8,
    }
}

/// One member of one record.
pub struct Member {
    /// Record and member, for example `job.magic`.
    pub name: &'static str,
    /// Its size in bytes; members are aligned to it.
    pub width: usize,
    /// Its offset in a layout.
    pub of: fn(&Layout) -> usize,
    /// The same, to be set.
    pub of_mut: fn(&mut Layout) -> &mut usize,
}

/// No record that is read is longer; those of Slurm 25.05 to 26.11 have at most 1,296 bytes.
pub const LONGEST_RECORD: usize = 4096;

impl Layout {
    /// What keeps this from being the layout of any build: members that lie outside of every record, across their own
    /// alignment or over each other.
    pub fn implausible(&self) -> Option<String> {
        for (position, member) in MEMBERS.iter().enumerate() {
            let offset = (member.of)(self);
            if !offset.is_multiple_of(member.width) || offset > LONGEST_RECORD - member.width {
                return Some(format!("{} cannot lie at {offset}", member.name));
            }
            let record = member.name.split('.').next();
            let other = MEMBERS[..position].iter().find(|other| {
                let begin = (other.of)(self);
                other.name.split('.').next() == record
                    && begin < offset + member.width
                    && offset < begin + other.width
            });
            if let Some(other) = other {
                return Some(format!("{} and {} cannot both lie at {offset}", other.name, member.name));
            }
        }
        None
    }
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
    conf: ConfLayout { topology_param: 1568 },
};

/// Members that tell how long a job keeps its nodes and where it stands in the queue: of `job_record_t`, where nothing else is
/// said. `slurm-nvlink-confirm` cannot measure them: no topology plugin of Slurm reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimesLayout {
    /// `begin_time` of `job_details_t`, `time_t`: of a job that waits, since when it could start (`EligibleTime`).
    pub begin_time: usize,
    /// `end_time`, `time_t`: of a job that runs, when it reaches its time limit.
    pub end_time: usize,
    /// `job_state`, u32.
    pub job_state: usize,
    /// `node_bitmap`, bitmap pointer: the nodes that it has.
    pub node_bitmap: usize,
    /// `part_ptr`, pointer to the Slurm partition in which it waits or runs.
    pub part_ptr: usize,
    /// `priority`, u32: higher is earlier.
    pub priority: usize,
    /// `time_limit`, u32, minutes.
    pub time_limit: usize,
}

impl TimesLayout {
    /// Offset and size of each member of `job_record_t`.
    const fn of_jobs(&self) -> [(usize, usize); 6] {
        [
            (self.end_time, 8),
            (self.job_state, 4),
            (self.node_bitmap, 8),
            (self.part_ptr, 8),
            (self.priority, 4),
            (self.time_limit, 4),
        ]
    }

    /// Bytes from the start of the job's details to the end of the last of their members.
    pub fn extent_of_details(&self) -> usize {
        self.begin_time + 8
    }

    /// Bytes from the start of the job's record to the end of the last of its members.
    pub fn extent(&self) -> usize {
        self.of_jobs().into_iter().map(|(offset, width)| offset + width).max().unwrap_or(0)
    }
}

/// The same of [`DEBIAN_26_05_5`]: the headers of 26.05.3 plus eight bytes, and what the job list of a slurmctld at work has there.
const DEBIAN_26_05_5_TIMES: TimesLayout = TimesLayout {
    begin_time: 48,
    end_time: 280,
    job_state: 520,
    node_bitmap: 664,
    part_ptr: 784,
    priority: 840,
    time_limit: 1112,
};

/// A build of Slurm on which a layout was confirmed.
pub struct KnownBuild {
    build_id: [u8; 20],
    /// What it is.
    pub name: &'static str,
    /// Where the members are that placement cannot do without.
    pub layout: Layout,
    /// Where a job's times are, for those who look ahead.
    pub times: TimesLayout,
}

const KNOWN_BUILDS: &[KnownBuild] = &[
    KnownBuild {
        build_id: hex("03b303c2fa1141bf272910a18507eeecd7e4b0e7"),
        name: "Debian 26.05.5-1 amd64",
        layout: DEBIAN_26_05_5,
        times: DEBIAN_26_05_5_TIMES,
    },
    // Both are LP64 with the same alignment rules; the displacements in the arm64 code of the stock plugins agree.
    KnownBuild {
        build_id: hex("8401813c1c22cb303f4ed5b82e1305037093b401"),
        name: "Debian 26.05.5-1 arm64",
        layout: DEBIAN_26_05_5,
        times: DEBIAN_26_05_5_TIMES,
    },
];

/// The build whose `libslurmfull.so` has this GNU build id.
pub fn of_build(build_id: &[u8]) -> Option<&'static KnownBuild> {
    KNOWN_BUILDS.iter().find(|known| known.build_id == build_id)
}

/// A real layout, for tests of what does not depend on which one.
#[cfg(test)]
pub(crate) fn known_layout_for_tests() -> Layout {
    DEBIAN_26_05_5
}

/// Places of times that no build has, after those of [`known_layout_for_tests`]: for tests of what does not depend on which ones.
#[cfg(test)]
pub(crate) const TIMES_FOR_TESTS: TimesLayout = TimesLayout {
    begin_time: 0,
    end_time: 656,
    job_state: 664,
    node_bitmap: 648,
    part_ptr: 672,
    priority: 680,
    time_limit: 668,
};

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
    fn known_layouts_are_plausible_and_members_are_listed_once() {
        for known in KNOWN_BUILDS {
            assert_eq!(known.layout.implausible(), None, "{}", known.name);
            let of_jobs = MEMBERS.iter().filter(|member| member.name.starts_with("job."));
            let of_jobs = of_jobs.map(|member| ((member.of)(&known.layout), member.width));
            let of_details = MEMBERS.iter().filter(|member| member.name.starts_with("details."));
            let of_details = of_details.map(|member| ((member.of)(&known.layout), member.width));
            for mut members in [
                of_jobs.chain(known.times.of_jobs()).collect::<Vec<_>>(),
                of_details.chain([(known.times.begin_time, 8)]).collect(),
            ] {
                members.sort_unstable();
                assert!(
                    members.iter().all(|(offset, width)| offset.is_multiple_of(*width)),
                    "{}",
                    known.name
                );
                assert!(members.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{}", known.name);
            }
        }
        let mut copy = Layout::UNKNOWN;
        for member in MEMBERS {
            *(member.of_mut)(&mut copy) = (member.of)(&DEBIAN_26_05_5);
        }
        assert_eq!(copy, DEBIAN_26_05_5);
        assert_eq!((copy.job.extent(), copy.details.extent(), copy.node.extent()), (640, 442, 480));
    }

    #[test]
    fn members_do_not_overlap_and_are_aligned() {
        let wrong = |change: &dyn Fn(&mut Layout)| {
            let mut layout = DEBIAN_26_05_5;
            change(&mut layout);
            layout.implausible().unwrap_or_default()
        };
        assert_eq!(wrong(&|l| l.job.details = 260), "job.details cannot lie at 260");
        assert_eq!(wrong(&|l| l.node.sched_weight = 4096), "node.sched_weight cannot lie at 4096");
        assert_eq!(wrong(&|l| l.job.job_id = 268), "job.details and job.job_id cannot both lie at 268");
        assert_eq!(
            wrong(&|l| l.details.magic = 24),
            "details.magic and details.arbitrary_tpn cannot both lie at 24"
        );
    }

    #[test]
    fn build_ids_are_distinct() {
        for (i, a) in KNOWN_BUILDS.iter().enumerate() {
            assert!(KNOWN_BUILDS[..i].iter().all(|b| a.build_id != b.build_id), "{}", a.name);
        }
    }
}
