use super::*;
use fabric::Verdict;

const ID: &str = "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f";

fn q(state: &str, status: &str, clique: &str, cluster: &str, health: &str) -> String {
    let gpu = |at: u32| {
        format!(
            "GPU 0000000{at}:01:00.0\n    Product Name                          : NVIDIA GB200 (simulated)\n    GPU UUID                              : GPU-{at}\n    ECC Mode\n        State                             : Enabled\n    Fabric\n        State                             : {state}\n        Status                            : {status}\n        CliqueId                          : {clique}\n        ClusterUUID                       : {cluster}\n{health}    Processes                             : None\n"
        )
    };
    format!(
        "\n==============NVSMI LOG==============\n\nDriver Version                            : 580.95.05\nAttached GPUs                             : 2\n{}{}",
        gpu(0),
        gpu(1)
    )
}

#[test]
fn the_full_output_is_read_like_nvml() {
    let health = "        Health\n            Summary                       : Unhealthy\n            Bandwidth                     : Degraded\n            Route Recovery in progress    : False\n";
    let tray = tray(&q("Completed", "Success", "32766", ID, health)).unwrap();
    assert_eq!((tray.driver_version.as_str(), tray.gpus.len()), ("580.95.05", 2));
    let Verdict::Member { id, gpus, warnings } = tray.judge(Some(2)) else { panic!("{tray:?}") };
    assert_eq!((id.to_string(), gpus), (format!("{ID}.32766"), 2));
    assert_eq!(warnings[0], "GPU 0 (GPU-0): unhealthy, bandwidth degraded");
    assert_eq!(tray.gpus[0].fabric.unwrap().health.mask, 0b1001);
}

#[test]
fn each_row_of_the_table_of_readings_is_judged() {
    let judged = |state, status, clique, cluster| {
        tray(&q(state, status, clique, cluster, "")).map(|tray| match tray.judge(None) {
            Verdict::Member { .. } => "member".to_owned(),
            Verdict::NoFabric { why } | Verdict::Rejected { why } => why,
        })
    };
    let zero = "00000000-0000-0000-0000-000000000000";
    assert_eq!(
        judged("Completed", "Success", "0", zero).unwrap(),
        "no multi-node NVLink: the cluster UUID is zero"
    );
    assert!(judged("In Progress", "N/A", "N/A", "N/A").unwrap().contains("fabric not ready"));
    assert!(judged("Completed", "Timeout", "1", ID).unwrap().contains("NVML error 999"));
    assert!(judged("N/A", "N/A", "N/A", "N/A").unwrap().contains("no fabric query"));
    assert!(judged("Confused", "Success", "1", ID).unwrap().contains("unknown state"));
    assert_eq!(judged("Completed", "Success", "N/A", ID).unwrap_err(), "GPU 0: completed without a clique");
    assert!(
        tray("NVIDIA-SMI has failed because it couldn't communicate")
            .unwrap_err()
            .starts_with("not understood: NVIDIA-SMI")
    );
    assert_eq!(tray("  \n").unwrap_err(), "no answer");
}

#[test]
fn many_nodes_as_pdsh_prints_them() {
    let row = |node: &str, at: u32, clique: &str| {
        format!("{node}: {at}, GPU-{at}, NVIDIA GB200, 580.95.05, Completed, Success, {clique}, {ID}\n")
    };
    let header = "n1: index, uuid, name, driver_version, fabric.state, fabric.status, fabric.clique_id, fabric.cluster_uuid\n";
    let text = [
        header.to_owned(),
        row("n1", 0, "7"),
        // The nodes answer in any order.
        row("n2", 0, "7"),
        row("n1", 1, "7"),
        row("n2", 1, "8"),
        "n3: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n".to_owned(),
        "pdsh@admin timed out\n".to_owned(),
        "n4: \n".to_owned(),
    ]
    .concat();
    let inventory = nodes(&text, FIELDS);
    assert_eq!(inventory.notes, ["no node in front of \"pdsh@admin timed out\""]);
    let told: Vec<String> = inventory
        .observations
        .iter()
        .map(|o| match &o.seen {
            Seen::Reading(tray) => match tray.judge(None) {
                Verdict::Member { id, .. } => format!("{} {}", o.node, id.partition),
                Verdict::NoFabric { why } | Verdict::Rejected { why } => {
                    format!("{} {}", o.node, shortened(&why))
                }
            },
            Seen::Silent(why) | Seen::NoGpus(why) => format!("{} silent: {why}", o.node),
        })
        .collect();
    assert_eq!(told[0], "n1 7");
    assert!(told[1].starts_with("n2 GPUs do not agree"), "{}", told[1]);
    assert!(told[2].starts_with("n3 silent: 1 columns instead of 8"), "{}", told[2]);
    assert_eq!(told[3], "n4 silent: no GPU in the output of nvidia-smi");
    let odd = format!(
        "n1: {ID}, 7\r\nn1: {ID}, 7\r\nn2: 8, {}\n\nn3: N/A, N/A\n--------------\nn[4-5],n9\n--------------\n{ID}, 9\n\
         ---------------\nn[6-7] (2)\n---------------\nNVIDIA-SMI has failed\n----------\n----------\nn8:\n",
        ID.to_uppercase()
    );
    let inventory = nodes(&odd, FIELDS);
    assert_eq!(inventory.notes, ["no host list between dashes: \"\""]);
    let told: Vec<String> = inventory
        .observations
        .iter()
        .map(|o| match &o.seen {
            Seen::Reading(tray) => {
                let clique = tray.gpus[0].fabric.map_or("-".to_owned(), |f| f.partition.to_string());
                format!("{} {} x {clique}", o.node, tray.gpus.len())
            }
            Seen::Silent(why) | Seen::NoGpus(why) => format!("{} silent: {why}", o.node),
        })
        .collect();
    assert_eq!(
        told,
        [
            "n1 2 x 7",
            "n2 1 x 8",
            "n3 1 x -",
            "n4 1 x 9",
            "n5 1 x 9",
            "n6 silent: 1 columns instead of 8: NVIDIA-SMI has failed",
            "n7 silent: 1 columns instead of 8: NVIDIA-SMI has failed",
            "n8 silent: no GPU in the output of nvidia-smi",
            "n9 1 x 9",
        ]
    );
    let short = nodes(&format!("n1: {ID}, 3\nn2: N/A, N/A\n"), "fabric.clusterUuid,fabric.cliqueId");
    assert!(
        matches!(&short.observations[0].seen, Seen::Reading(tray) if tray.gpus[0].fabric.unwrap().partition == PartitionId(3))
    );
    assert!(matches!(&short.observations[1].seen, Seen::Reading(tray) if tray.gpus[0].fabric.is_none()));
}
