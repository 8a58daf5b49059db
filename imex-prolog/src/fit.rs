//! Whether this tray's GPUs are where its block says: the NVML reading against the block of `topology.yaml`.
#![forbid(unsafe_code)]

use fabric::identity::{DomainId, FabricId, PartitionId};
use fabric::names::BlockName;
use fabric::reading::{TrayReading, Verdict};
use fabric::report::{Blame, Report};

/// What the comparison gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// The GPUs are in one NVLink partition, and the block does not name another one.
    Fits {
        /// The partition.
        id: FabricId,
        /// What is not as it should be and still works.
        warnings: Vec<String>,
    },
    /// A block that is not named after a fabric, and GPUs without multi-node NVLink: nothing to manage. In words.
    NoFabric(String),
    /// This tray is at fault, or not where it was.
    Unfit(Report),
}

/// Compares a reading with the block. `expected` is the number of GPUs that the tray must have.
#[must_use]
pub fn fit(reading: &TrayReading, expected: Option<u32>, block: &BlockName) -> Fit {
    match reading.judge(expected) {
        Verdict::Member { id, warnings, .. } => match block.names_fabric(&id) {
            Some(false) => Fit::Unfit(wrong_block(block, &id)),
            Some(true) | None => Fit::Fits { id, warnings },
        },
        Verdict::NoFabric { why } if is_named_after_fabric(block) => Fit::Unfit(
            Report::new(Blame::Node, format!("this node is in block {block} but has no multi-node NVLink: {why}"))
                .with_hint("look at the Fabric section of nvidia-smi -q; if the node was moved, run topology-gen generate again"),
        ),
        Verdict::NoFabric { why } => Fit::NoFabric(why),
        Verdict::Rejected { why } => Fit::Unfit(
            Report::new(Blame::Node, format!("this node's NVLink fabric cannot be used: {why}"))
                .with_hint("look at the Fabric section of nvidia-smi -q and at the NVLink fabric manager"),
        ),
    }
}

/// Whether the block's name is one that topology-gen makes from a fabric identity.
#[must_use]
pub fn is_named_after_fabric(block: &BlockName) -> bool {
    let any = FabricId { domain: DomainId([0; 16]), partition: PartitionId(0) };
    block.names_fabric(&any).is_some()
}

fn wrong_block(block: &BlockName, id: &FabricId) -> Report {
    Report::new(
        Blame::Node,
        format!("this node is in block {block}, but its GPUs are in another NVLink partition"),
    )
    .with_detail(format!("NVML: {id}, whose block would be {}", BlockName::for_fabric(id)))
    .with_hint(
        "if the NVLink partitions were changed, run topology-gen generate; if not, reset the GPUs or reboot",
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fabric::reading::{FabricHealth, FabricState, GpuFabric, GpuReading};

    pub(crate) const BLOCK: &str = "nvl-7e7e7e7e-32766";

    /// A tray of four GPUs in clique 32766 of a domain of bytes `7e`.
    pub(crate) fn reading() -> TrayReading {
        let gpu = |index| GpuReading {
            index,
            uuid: format!("GPU-{index}"),
            name: "simulated GPU".to_owned(),
            fabric: Some(GpuFabric {
                domain: DomainId([0x7e; 16]),
                partition: PartitionId(32_766),
                state: FabricState::Completed,
                status: 0,
                health: FabricHealth { mask: 0xaa, summary: 1 },
            }),
        };
        TrayReading { driver_version: "580.95.05".to_owned(), gpus: (0..4).map(gpu).collect() }
    }

    fn against(block: &str, change: impl Fn(&mut GpuFabric)) -> Fit {
        let mut reading = reading();
        reading.gpus.iter_mut().filter_map(|gpu| gpu.fabric.as_mut()).for_each(change);
        fit(&reading, None, &BlockName::new(block).unwrap())
    }

    fn message(fit: Fit) -> String {
        match fit {
            Fit::Unfit(report) => report.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tray_fits_its_own_block_and_any_block_with_a_name_of_its_own() {
        for block in [BLOCK, "rack7"] {
            assert!(matches!(against(block, |_| {}), Fit::Fits { .. }), "{block}");
        }
    }

    #[test]
    fn another_clique_or_domain_does_not_fit_and_both_names_are_told() {
        let text = message(against(BLOCK, |gpu| gpu.partition = PartitionId(7)));
        assert_eq!(
            text,
            "this node is in block nvl-7e7e7e7e-32766, but its GPUs are in another NVLink partition\n  \
             NVML: 7e7e7e7e-7e7e-7e7e-7e7e-7e7e7e7e7e7e.7, whose block would be nvl-7e7e7e7e-7\n\
             hint: if the NVLink partitions were changed, run topology-gen generate; if not, reset the GPUs or reboot"
        );
        let text = message(against(BLOCK, |gpu| gpu.domain = DomainId([1; 16])));
        assert!(text.contains("another NVLink partition"), "{text}");
    }

    #[test]
    fn no_fabric_is_a_fault_only_in_a_block_that_is_named_after_one() {
        let none = |gpu: &mut GpuFabric| gpu.domain = DomainId([0; 16]);
        assert!(message(against(BLOCK, none)).contains("but has no multi-node NVLink"));
        assert!(matches!(against("rack7", none), Fit::NoFabric(_)));
    }

    #[test]
    fn a_fabric_that_is_not_complete_or_a_missing_gpu_is_a_fault() {
        let pending = |gpu: &mut GpuFabric| gpu.state = FabricState::InProgress;
        assert!(message(against("rack7", pending)).contains("cannot be used"));
        let few = fit(&reading(), Some(8), &BlockName::new(BLOCK).unwrap());
        assert!(message(few).contains("cannot be used"));
    }
}
