//! Every kind of reading that NVML is known to give, and what must come of it.

use super::*;

const RACK: &str = "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f";
const ZERO: &str = "00000000-0000-0000-0000-000000000000";
/// Four flags "false" and configuration "none": a healthy mask.
const HEALTHY: FabricHealth = FabricHealth { mask: 0x1aa, summary: 1 };

fn fabric(domain: &str, clique: u32, state: u8, status: u32) -> Option<GpuFabric> {
    Some(GpuFabric {
        domain: domain.parse().unwrap(),
        partition: PartitionId(clique),
        state: state.into(),
        status,
        health: HEALTHY,
    })
}

fn tray(gpus: impl IntoIterator<Item = Option<GpuFabric>>) -> TrayReading {
    let gpus = gpus.into_iter().zip(0u32..).map(|(fabric, index)| GpuReading {
        index,
        uuid: format!("GPU-{index}"),
        name: "NVIDIA GB200 (simulated)".into(),
        fabric,
    });
    TrayReading { driver_version: "580.95.05".into(), gpus: gpus.collect() }
}

fn rejected(reading: &TrayReading, expected: Option<u32>) -> String {
    match reading.judge(expected) {
        Verdict::Rejected { why } => why,
        other => panic!("{other:?}"),
    }
}

fn no_fabric(reading: &TrayReading) -> String {
    match reading.judge(Some(4)) {
        Verdict::NoFabric { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn completed_success_and_a_uuid_make_a_member() {
    for clique in [0, 1, 32_766, u32::MAX] {
        let reading = tray([fabric(RACK, clique, 3, 0); 4]);
        let id = format!("{RACK}.{clique}").parse().unwrap();
        assert_eq!(reading.judge(Some(4)), Verdict::Member { id, gpus: 4, warnings: vec![] });
        assert_eq!(reading.judge(None), Verdict::Member { id, gpus: 4, warnings: vec![] });
    }
}

#[test]
fn bad_health_warns_and_does_not_reject() {
    let mut reading = tray([fabric(RACK, 7, 3, 0); 2]);
    reading.gpus[1].fabric.as_mut().unwrap().health = FabricHealth { mask: 0x4a9, summary: 3 };
    let Verdict::Member { warnings, .. } = reading.judge(None) else { panic!("not a member") };
    assert_eq!(
        warnings,
        ["GPU 1 (GPU-1): limited capacity, bandwidth degraded, wrong configuration: no partition"]
    );
}

#[test]
fn a_healthy_mask_of_0xaa_is_not_a_degradation() {
    for mask in [0, 0xaa, 0x1aa, 0x11aa] {
        assert!(!FabricHealth { mask, summary: 0 }.is_degraded(), "{mask:#x}");
        assert!(!FabricHealth { mask, summary: 1 }.is_degraded(), "{mask:#x}");
    }
    let words = FabricHealth { mask: 0x11aa, summary: 1 }.words();
    assert_eq!(
        words,
        [
            "healthy",
            "bandwidth full",
            "no route recovery",
            "route healthy",
            "no access timeout recovery",
            "configuration correct",
            "partition assigned"
        ]
    );
    assert!(FabricHealth::default().words().is_empty());
}

#[test]
fn each_health_field_alone_is_a_degradation() {
    let flags = [0x1, 0x4, 0x10, 0x40].map(|mask| FabricHealth { mask, summary: 1 });
    let configurations = (2..=15).map(|value| FabricHealth { mask: value << 8, summary: 0 });
    let summaries = [2, 3, 9].map(|summary| FabricHealth { mask: 0, summary });
    for health in flags.into_iter().chain(configurations).chain(summaries) {
        assert_eq!(health.faults().len(), 1, "{health:?}");
        assert!(health.words().contains(&health.faults()[0]), "{health:?}");
    }
}

#[test]
fn a_zero_uuid_is_no_multi_node_nvlink_and_no_fault() {
    assert_eq!(
        no_fabric(&tray([fabric(ZERO, 0, 3, 0); 4])),
        "no multi-node NVLink: the cluster UUID is zero"
    );
    assert_eq!(
        no_fabric(&tray([fabric(ZERO, 32_766, 3, 0); 4])),
        "no multi-node NVLink: the cluster UUID is zero"
    );
}

#[test]
fn completed_with_an_error_status_is_a_fault() {
    let reading = tray([fabric(RACK, 1, 3, 0), fabric(RACK, 1, 3, 999)]);
    assert_eq!(rejected(&reading, None), "GPU 1: fabric registration ended with NVML error 999");
    assert!(!reading.is_pending());
}

#[test]
fn a_fabric_that_is_not_ready_names_the_side_at_fault() {
    for (state, word) in [(1, "not started"), (2, "in progress")] {
        let reading = tray([fabric(RACK, 1, 3, 0), fabric(ZERO, 0, state, 0)]);
        assert_eq!(
            rejected(&reading, None),
            format!(
                "fabric not ready, the fabric manager or a switch has not assigned a partition: GPU 1: fabric state {word}"
            )
        );
        assert!(reading.is_pending());
    }
}

#[test]
fn not_supported_on_all_gpus_is_no_identity() {
    assert_eq!(
        no_fabric(&tray([fabric(ZERO, 0, 0, 0); 4])),
        "no multi-node NVLink: fabric state not supported"
    );
}

#[test]
fn not_supported_beside_a_member_is_a_fault() {
    let reading = tray([fabric(RACK, 5, 3, 0), fabric(ZERO, 0, 0, 0)]);
    assert_eq!(
        rejected(&reading, None),
        format!(
            "GPUs do not agree on one NVLink partition: GPU 0 -> {RACK}.5, GPU 1 -> none (fabric state not supported)"
        )
    );
}

#[test]
fn gpus_without_any_fabric_query_have_no_block() {
    assert_eq!(no_fabric(&tray([None; 4])), "no multi-node NVLink: the driver answers no fabric query");
    assert_eq!(tray([]).judge(None), Verdict::NoFabric { why: "no GPU".into() });
}

#[test]
fn an_unknown_state_is_never_a_member() {
    assert_eq!(rejected(&tray([fabric(RACK, 1, 4, 0)]), None), "GPU 0: fabric state: unknown state 4");
}

#[test]
fn gpus_that_differ_are_listed_with_their_pairs() {
    let reading = tray([fabric(RACK, 1, 3, 0), fabric(RACK, 2, 3, 0)]);
    assert_eq!(
        rejected(&reading, Some(2)),
        format!("GPUs do not agree on one NVLink partition: GPU 0 -> {RACK}.1, GPU 1 -> {RACK}.2")
    );
}

#[test]
fn the_same_clique_in_another_domain_is_another_partition() {
    let other = "11111111-0000-0000-0000-000000000000";
    let reading = tray([fabric(RACK, 32_766, 3, 0), fabric(other, 32_766, 3, 0)]);
    assert!(rejected(&reading, None).contains(&format!("GPU 1 -> {other}.32766")));
}

#[test]
fn a_lost_gpu_never_agrees_by_absence() {
    assert_eq!(rejected(&tray([fabric(RACK, 1, 3, 0); 3]), Some(4)), "3 of 4 GPUs answer");
    assert_eq!(rejected(&tray([]), Some(4)), "0 of 4 GPUs answer");
}

#[test]
fn more_gpus_than_expected_are_a_warning() {
    let Verdict::Member { warnings, gpus, .. } = tray([fabric(RACK, 1, 3, 0); 5]).judge(Some(4)) else {
        panic!("not a member")
    };
    assert_eq!((gpus, warnings), (5, vec!["5 GPUs answer, 4 were expected".to_owned()]));
}

/// All trays of up to three GPUs over all kinds of answers: a member means that all agree.
#[test]
fn a_member_always_means_that_every_gpu_agrees() {
    let kinds = [
        None,
        fabric(RACK, 1, 3, 0),
        fabric(RACK, 2, 3, 0),
        fabric(ZERO, 0, 3, 0),
        fabric(RACK, 1, 3, 1),
        fabric(RACK, 1, 2, 0),
        fabric(RACK, 1, 0, 0),
        fabric(RACK, 1, 9, 0),
    ];
    for a in kinds {
        for b in kinds {
            for c in kinds {
                let all_first = [a, b, c].iter().all(|k| *k == a);
                let good = a == kinds[1] || a == kinds[2];
                let member = matches!(tray([a, b, c]).judge(Some(3)), Verdict::Member { .. });
                assert_eq!(member, all_first && good, "{a:?} {b:?} {c:?}");
            }
        }
    }
}
