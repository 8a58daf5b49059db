//! Slurm's node table.

use std::slice;

use super::api::{address_in_slurmctld, api};
use super::{bitmap, record};
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
    let place = address_in_slurmctld(c"idle_node_bitmap")?.cast::<*const bitstr_t>();
    // SAFETY: slurmctld's own variable of this type; it holds its node lock while it calls the plugin.
    let idle = unsafe { place.read() };
    // SAFETY: NULL, or a live bitmap that nobody changes while the lock is held.
    unsafe { bitmap::words(idle) }
}

/// The node table for the length of one entry point.
pub(crate) struct NodeTable<'a> {
    records: &'a [*mut node_record_t],
    layout: NodeLayout,
}

impl NodeTable<'_> {
    pub(crate) fn new(layout: NodeLayout) -> Self {
        // SAFETY: Slurm's own variable; the node lock is held.
        let first = unsafe { *api().node_record_table };
        let records = if first.is_null() {
            &[][..]
        } else {
            // SAFETY: the table has `node_record_count` places while the node lock is held.
            unsafe { slice::from_raw_parts(first, count()) }
        };
        // A table whose first record does not look like one is not looked at any further.
        let valid = records
            .iter()
            .find(|record| !record.is_null())
            .is_some_and(|&record| Node::new(record, layout).is_some());
        Self { records: if valid { records } else { &[] }, layout }
    }

    /// The lowest scheduling weight of the nodes; `u64::MAX` when there are none.
    ///
    /// A large cluster has this read for thousands of nodes in a call, so it touches nothing else of their records: the
    /// magic number of one record was checked when the table was taken. A fold, because it keeps more of these reads in
    /// flight than `min` does.
    pub(crate) fn lightest(&self, nodes: impl Iterator<Item = usize>) -> u64 {
        nodes.fold(u64::MAX, |lightest, index| match self.records.get(index) {
            Some(&record) if !record.is_null() => {
                // SAFETY: what is in the table is a node record, of the layout that was checked on another of them.
                lightest.min(unsafe { record::read(record, self.layout.sched_weight) })
            }
            _ => lightest,
        })
    }

    /// The node at `index`; None for an empty place or a record that does not look like one.
    pub(crate) fn get(&self, index: usize) -> Option<Node> {
        Node::new(*self.records.get(index)?, self.layout)
    }
}

/// One node record.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    record: *mut node_record_t,
    layout: NodeLayout,
}

impl Node {
    /// Checks the magic number of a record of Slurm.
    pub(crate) fn new(record: *mut node_record_t, layout: NodeLayout) -> Option<Self> {
        // SAFETY: a non-NULL node record that Slurm passes or keeps in its table is live while the lock is held.
        let valid = unsafe { record::has_magic(record, layout.magic, NODE_MAGIC_VALUE) };
        valid.then_some(Self { record, layout })
    }

    /// Place in the node table, equal to the bit in every node bitmap.
    pub(crate) fn index(self) -> Option<usize> {
        // SAFETY: a checked record has its index there; every bit pattern is an i32.
        let index: i32 = unsafe { record::read(self.record, self.layout.index) };
        usize::try_from(index).ok()
    }

    /// Scheduling weight; lower is preferred.
    pub(crate) fn weight(self) -> u64 {
        // SAFETY: a checked record has its weight there; every bit pattern is a u64.
        unsafe { record::read(self.record, self.layout.sched_weight) }
    }

    /// Not down, draining, failing or silent: it will take jobs again without anybody's help.
    pub(crate) fn is_healthy(self) -> bool {
        // SAFETY: a checked record has its state there; every bit pattern is a u32.
        let state: u32 = unsafe { record::read(self.record, self.layout.node_state) };
        healthy(state)
    }
}

fn healthy(state: u32) -> bool {
    !matches!(state & STATE_BASE, STATE_DOWN | STATE_ERROR | STATE_FUTURE)
        && state & (STATE_DRAIN | STATE_NO_RESPOND | STATE_FAIL) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
