//! Slurm's node table.

use std::slice;

use super::api::{self, api};
use super::bitmap;
use super::record::{Record, Records};
use crate::abi::layout::NodeLayout;
use crate::abi::{NODE_MAGIC_VALUE, bitstr_t, node_record_t};

/// Base states and flags of a node that can run no job (`slurm/slurm.h`, 26.05.5).
const STATE_BASE: u32 = 0xf;
const STATE_DOWN: u32 = 1;
const STATE_ERROR: u32 = 4;
const STATE_FUTURE: u32 = 6;
const STATE_DRAIN: u32 = 1 << 9;
const STATE_NO_RESPOND: u32 = 1 << 11;
const STATE_FAIL: u32 = 1 << 13;

/// How many nodes the running Slurm has (places in the table).
pub(crate) fn count() -> usize {
    // SAFETY: Slurm's own variable; Slurm holds its node lock while it calls the plugin.
    let count = unsafe { *api().node_record_count };
    usize::try_from(count).unwrap_or(0)
}

/// The nodes that run nothing now, as words of a node bitmap, for the length of one entry point; None outside slurmctld.
pub(crate) fn idle<'a>() -> Option<&'a [u64]> {
    words_of(api::get()?.idle_node_bitmap?)
}

/// Nodes that are neither drained nor down, failing or silent, as words of a node bitmap, for the length of one entry point;
/// None outside slurmctld. Not all such nodes: while it looks for a job's nodes slurmctld leaves some out, and it leaves
/// out those that are being powered down (26.05.3 `src/slurmctld/{node_mgr,node_scheduler,job_scheduler}.c`).
pub(crate) fn available<'a>() -> Option<&'a [u64]> {
    words_of(api::get()?.avail_node_bitmap?)
}

/// The words of a bitmap of slurmctld's.
fn words_of<'a>(place: *mut *const bitstr_t) -> Option<&'a [u64]> {
    // SAFETY: slurmctld's own variable of this type; it holds its node lock while it calls the plugin.
    let bitmap = unsafe { place.read() };
    // SAFETY: NULL, or a live bitmap that nobody changes while the lock is held.
    unsafe { bitmap::words(bitmap) }
}

/// The node table for the length of one entry point.
pub(crate) struct NodeTable<'a> {
    records: &'a [*mut node_record_t],
    layout: NodeLayout,
}

impl NodeTable<'_> {
    /// The table; None when its records are not as the layout says.
    pub(crate) fn new(records: &Records) -> Option<Self> {
        // SAFETY: Slurm's own variable; the node lock is held.
        let first = unsafe { *api().node_record_table };
        let table = if first.is_null() {
            &[][..]
        } else {
            // SAFETY: the table has `node_record_count` places while the node lock is held.
            unsafe { slice::from_raw_parts(first, count()) }
        };
        let layout = records.layout().node;
        let in_place = |(index, &record): (usize, &*mut node_record_t)| {
            record.is_null() || Node::new(record, records).and_then(Node::index) == Some(index)
        };
        // All records once; a table without any proves nothing.
        if !records.nodes_are_proven() && !table.iter().enumerate().all(in_place) {
            return None;
        }
        Some(Self { records: table, layout })
    }

    /// Fills in the scheduling weights of nodes, `u64::MAX` for an empty place, as far as there is room.
    ///
    /// A large cluster has this read for thousands of nodes in a call, and each read waits for memory. So it touches nothing
    /// else of their records, and does so little between two of them that many are in flight at once.
    pub(crate) fn weights(&self, nodes: impl Iterator<Item = usize>, weights: &mut [u64]) {
        let mut filled = 0;
        nodes.for_each(|index| {
            let Some(weight) = weights.get_mut(filled) else { return };
            filled += 1;
            *weight = match self.records.get(index) {
                Some(record) if !record.is_null() => {
                    let place = record.cast::<u8>().wrapping_add(self.layout.sched_weight).cast::<u64>();
                    // SAFETY: the table holds live node records, proven when it was first taken, and the layout's extent
                    // covers this member.
                    unsafe { place.read_unaligned() }
                }
                _ => u64::MAX,
            };
        });
    }

    /// The node at `index`; None for an empty place or a record that does not look like one.
    pub(crate) fn get(&self, index: usize) -> Option<Node> {
        let record = self.record(index)?;
        record.has_magic(self.layout.magic, NODE_MAGIC_VALUE).then_some(Node { record, layout: self.layout })
    }

    fn record(&self, index: usize) -> Option<Record> {
        let record = self.records.get(index).copied().filter(|record| !record.is_null())?;
        // SAFETY: the table holds live node records, which were proven when the table was first taken.
        Some(unsafe { Record::proven(record, self.layout.extent()) })
    }
}

/// One node record.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    record: Record,
    layout: NodeLayout,
}

impl Node {
    /// A record that Slurm passes or keeps in its table; None when it is not as the layout says.
    pub(crate) fn new(record: *mut node_record_t, records: &Records) -> Option<Self> {
        let layout = records.layout().node;
        let unproven = Record::unproven(record, layout.extent());
        let record = if records.nodes_are_proven() {
            // SAFETY: a node record of Slurm is live while the node lock is held, and its kind is proven.
            unsafe { Record::proven(record, layout.extent()) }
        } else {
            unproven
        };
        if !record.has_magic(layout.magic, NODE_MAGIC_VALUE) {
            return None;
        }
        if !records.nodes_are_proven() {
            if !unproven.is_allocated() {
                return None;
            }
            records.prove_nodes();
        }
        Some(Self { record, layout })
    }

    /// Place in the node table, equal to the bit in every node bitmap.
    pub(crate) fn index(self) -> Option<usize> {
        let index = self.record.u32(self.layout.index)?;
        usize::try_from(index.cast_signed()).ok()
    }

    /// Scheduling weight; lower is preferred.
    pub(crate) fn weight(self) -> u64 {
        self.record.u64(self.layout.sched_weight).unwrap_or(u64::MAX)
    }

    /// Not down, draining, failing or silent: it will take jobs again without anybody's help.
    pub(crate) fn is_healthy(self) -> bool {
        self.record.u32(self.layout.node_state).is_some_and(healthy)
    }
}

fn healthy(state: u32) -> bool {
    !matches!(state & STATE_BASE, STATE_DOWN | STATE_ERROR | STATE_FUTURE)
        && state & (STATE_DRAIN | STATE_NO_RESPOND | STATE_FAIL) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::layout::{LONGEST_RECORD, MEMBERS, known_layout_for_tests};
    use crate::host::peek::tests::Edge;

    #[test]
    fn drained_down_and_silent_nodes_are_not_healthy() {
        const IDLE: u32 = 2;
        const ALLOCATED: u32 = 3;
        const COMPLETING: u32 = 1 << 10;
        for state in [IDLE, ALLOCATED, IDLE | COMPLETING] {
            assert!(healthy(state), "{state:#x}");
        }
        for state in
            [STATE_DOWN, IDLE | STATE_DRAIN, ALLOCATED | STATE_NO_RESPOND, IDLE | STATE_FAIL, STATE_FUTURE]
        {
            assert!(!healthy(state), "{state:#x}");
        }
    }

    /// Every member moved to every other place, on a record that ends where memory ends: nothing crashes, and a place
    /// outside of the record is not believed.
    #[test]
    fn no_wrong_offset_makes_it_touch_what_is_not_there() {
        const LENGTH: usize = 576;
        let right = known_layout_for_tests();
        let memory = Edge::new(1);
        memory.put(LENGTH + 16, &0x42u64.to_ne_bytes());
        memory.put(LENGTH + 8, &(LENGTH as u64).to_ne_bytes());
        let record = memory.put(LENGTH, &[0; LENGTH]);
        memory.put(LENGTH - right.node.magic, &NODE_MAGIC_VALUE.to_ne_bytes());
        memory.put(LENGTH - right.node.index, &7u32.to_ne_bytes());
        let look = |records: &Records| {
            let node = Node::new(std::ptr::with_exposed_provenance_mut(record), records)?;
            Some((node.index(), node.weight(), node.is_healthy()))
        };
        assert_eq!(look(&Records::new(right)), Some((Some(7), 0, true)));
        for member in MEMBERS.iter().filter(|member| member.name.starts_with("node.")) {
            for offset in 0..LONGEST_RECORD {
                let mut layout = right;
                *(member.of_mut)(&mut layout) = offset;
                let records = Records::new(layout);
                let first = look(&records);
                assert!(first.is_none() || offset + member.width <= LENGTH, "{} at {offset}", member.name);
                assert_eq!(records.nodes_are_proven(), first.is_some());
                assert_eq!(look(&records), first, "{} at {offset}", member.name);
            }
        }
    }
}
