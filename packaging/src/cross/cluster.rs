//! Does arm64 Slurm load the arm64 plugin, and do jobs go where they should? The facts come from `cluster.sh`.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::room::Room;
use crate::child;
use crate::console::Progress;
use crate::outcome::Outcome;

const SCRIPT: &str = include_str!("cluster.sh");
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Who has to say in its log that it runs the plugin, and what marks its lines.
const LOADERS: &[(&str, &[&str])] = &[
    ("slurmctld", &["slurmctld.log: "]),
    ("slurmd", &["slurmd.log: "]),
    ("slurmstepd", &["slurmd.log: ", "[1.0]"]),
];

/// What must be among the facts, and what that means.
const EXPECTED: &[(&str, &str)] = &[
    ("slurmctld machine: 183", "slurmctld is an aarch64 program"),
    ("loaded: slurmctld", "arm64 slurmctld has the plugin mapped"),
    ("loaded: slurmd", "arm64 slurmd has the plugin mapped"),
    (
        "measured: the known build Debian 26.05.5-1 arm64 has the same layout",
        "the layout of arm64 Slurm is measured as it is known",
    ),
    (
        "topology: BlockName=nvl-00000001-1 BlockIndex=0 Nodes=r1n[01-18] BlockSize=18",
        "the blocks are in force",
    ),
    (concat!("tray runs: topology-gen ", env!("CARGO_PKG_VERSION")), "a step runs on the emulated tray"),
    ("job 24 --segment=12: r1=12 r2=12", "24 trays lie in segments of 12"),
];

/// Boots the emulated cluster, and checks.
///
/// # Errors
/// When the script cannot be run or outlives its limit.
pub(super) fn check(room: &Room, programs: &str, log: &Path) -> Result<Outcome> {
    let mut command = room.command("sh");
    command.args(["-c", SCRIPT, "cluster.sh", programs]);
    let before = fs::read_to_string(log)?.len();
    let status = child::run(&mut command, log, LIMIT, &mut Progress::new())?;
    let text = fs::read_to_string(log)?.split_off(before);
    let facts: Vec<&str> = text.lines().collect();
    let mut outcome = Outcome::check(status.success(), text.clone());
    for (program, lines) in LOADERS {
        let wrong = format!("no line says that {program} has loaded the plugin\n");
        outcome.add(Outcome::check(says_loaded(&facts, lines), wrong));
    }
    for trays in [18, 16] {
        let wrong = format!("{trays} trays do not lie in one NVLink partition\n");
        outcome.add(Outcome::check(in_one_rack(&facts, trays), wrong));
    }
    for (fact, meaning) in EXPECTED {
        outcome.add(Outcome::check(facts.contains(fact), format!("not seen: {meaning} ({fact})\n")));
    }
    Ok(outcome)
}

fn says_loaded(facts: &[&str], program: &[&str]) -> bool {
    let words = || program.iter().chain(&["slurm-nvlink ", " loaded; running ", " arm64"]);
    facts.iter().any(|line| words().all(|word| line.contains(word)))
}

/// Which of the two racks a job takes is the plugin's choice.
fn in_one_rack(facts: &[&str], trays: u32) -> bool {
    [1, 2].iter().any(|rack| facts.contains(&format!("job {trays}: r{rack}={trays}").as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_over_two_racks_is_not_in_one() {
        assert!(in_one_rack(&["job 16: r2=16"], 16));
        assert!(!in_one_rack(&["job 16: r1=8 r2=8"], 16));
        assert!(!in_one_rack(&[], 16));
    }

    #[test]
    fn a_refusal_is_not_a_load() {
        let loaded = "slurmctld.log: [t] topology_block: slurm-nvlink 0.1.0 loaded; running Debian 1 arm64";
        let refused = "slurmctld.log: [t] error: topology_block: slurm-nvlink 0.1.0 refuses to load: y";
        assert!(says_loaded(&[loaded], &["slurmctld.log: "]));
        assert!(!says_loaded(&[loaded], &["slurmd.log: "]));
        assert!(!says_loaded(&[refused], &["slurmctld.log: "]));
    }
}
