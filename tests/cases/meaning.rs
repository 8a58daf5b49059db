//! What Slurm's own options mean, ours keeps: weights, reservations, topology to oneself, named trays, GRES, shared trays.
#![forbid(unsafe_code)]

use crate::harness::Case;
use crate::placement::{Expect, PAIRS, PLAIN, Scene, Stock, cases};

const SCENES: &[Scene] = &[
    Scene {
        name: "meaning::a_lower_weight_wins_over_the_fuller_partition",
        before: &[&["scontrol", "update", "nodename=r01n[01-18]", "weight=10"]],
        after: &[&["scontrol", "update", "nodename=r01n[01-18]", "weight=1"]],
        held: &[&["-N4", "-wr01n[01-04]"]],
        asked: &["-N8"],
        ours: Expect::AwayFromTheFirst,
        ..PLAIN
    },
    Scene {
        name: "meaning::a_lower_weight_wins_for_a_job_of_1",
        before: &[&["scontrol", "update", "nodename=r01n[01-18]", "weight=10"]],
        after: &[&["scontrol", "update", "nodename=r01n[01-18]", "weight=1"]],
        asked: &["-N1"],
        ours: Expect::Racks(&["r02"]),
        ..PLAIN
    },
    Scene {
        name: "meaning::inside_a_partition_the_lower_weight_wins",
        before: &[&["scontrol", "update", "nodename=r01n[01-17],r02n[01-17]", "weight=10"]],
        after: &[&["scontrol", "update", "nodename=r01n[01-17],r02n[01-17]", "weight=1"]],
        held: &[&["-N1", "-wr01n18"]],
        asked: &["-N1"],
        ours: Expect::Racks(&["r02n18"]),
        ..PLAIN
    },
    Scene {
        name: "meaning::weights_choose_the_partitions_of_a_larger_job",
        setup: PAIRS,
        before: &[&["scontrol", "update", "nodename=r01n[01-02],r03n[01-02]", "weight=10"]],
        after: &[&["scontrol", "update", "nodename=r01n[01-02],r03n[01-02]", "weight=1"]],
        asked: &["-N4"],
        ours: Expect::Racks(&["r02", "r04"]),
        ..PLAIN
    },
    Scene {
        name: "meaning::weights_choose_the_partitions_of_segments",
        setup: PAIRS,
        before: &[&["scontrol", "update", "nodename=r01n[01-02],r03n[01-02]", "weight=10"]],
        after: &[&["scontrol", "update", "nodename=r01n[01-02],r03n[01-02]", "weight=1"]],
        asked: &["-N4", "--segment=2"],
        ours: Expect::Racks(&["r02", "r04"]),
        ..PLAIN
    },
    Scene {
        name: "meaning::a_job_lies_in_its_reservation",
        before: &[&[
            "scontrol",
            "create",
            "reservation",
            "reservationname=r",
            "users=alice",
            "starttime=now",
            "duration=60",
            "nodes=r02n[01-18]",
        ]],
        after: &[&["scontrol", "delete", "reservationname=r"]],
        held: &[&["-N4", "-wr01n[01-04]"]],
        asked: &["-N8", "--reservation=r"],
        ours: Expect::Racks(&["r02"]),
        ..PLAIN
    },
    Scene {
        name: "meaning::what_a_reservation_leaves_of_a_partition_is_filled_first",
        before: &[&[
            "scontrol",
            "create",
            "reservation",
            "reservationname=r",
            "users=root",
            "starttime=now",
            "duration=60",
            "nodes=r02n[01-16]",
        ]],
        after: &[&["scontrol", "delete", "reservationname=r"]],
        asked: &["-N1"],
        ours: Expect::Racks(&["r02"]),
        stock: Stock::Differs {
            expect: Expect::Racks(&["r01"]),
            why: "one-node jobs bypass stock's block placement; ours spares the partition that is free as a whole",
        },
        ..PLAIN
    },
    Scene {
        name: "meaning::a_job_of_1_gets_a_partition_to_itself",
        held: &[&["-N1", "-wr01n07"]],
        asked: &["-N1", "--exclusive=topo"],
        ours: Expect::AwayFromTheFirst,
        ..PLAIN
    },
    Scene {
        name: "meaning::named_trays_choose_the_partitions_of_a_larger_job",
        setup: PAIRS,
        asked: &["-N4", "-wr01n01,r04n02"],
        ours: Expect::Racks(&["r01", "r04"]),
        ..PLAIN
    },
    Scene {
        name: "meaning::named_trays_are_in_a_jobs_segments",
        setup: PAIRS,
        asked: &["-N4", "--segment=2", "-wr03n01"],
        ours: Expect::Takes(&[2, 2]),
        stock: Stock::Differs {
            expect: Expect::Rejected,
            why: "stock takes named nodes with segments only when all nodes of the job are named",
        },
        ..PLAIN
    },
    Scene {
        name: "meaning::gpus_of_tasks_are_found_in_one_partition",
        setup: PAIRS,
        shared: true,
        held: &[&["-N1", "-n1", "-wr01n01", "--gpus-per-node=2"]],
        asked: &["-N2", "--ntasks-per-node=3", "--gpus-per-task=1"],
        ours: Expect::AwayFromTheFirst,
        ..PLAIN
    },
    Scene {
        name: "meaning::a_job_that_shares_trays_spares_free_partitions",
        setup: PAIRS,
        shared: true,
        held: &[&["-N1", "-n1", "-wr03n02", "--gres=gpu:1"]],
        asked: &["-N1", "-n1", "--gres=gpu:1"],
        ours: Expect::BesideTheFirst,
        stock: Stock::Differs {
            expect: Expect::AwayFromTheFirst,
            why: "one-node jobs bypass stock's block placement and take the first tray with room, here of a partition that \
                  is free as a whole",
        },
        ..PLAIN
    },
];

pub(crate) const CASES: &[Case] = cases!(0 1 2 3 4 5 6 7 8 9 10 11);
const _: () = assert!(CASES.len() == SCENES.len(), "each scene is a case");
