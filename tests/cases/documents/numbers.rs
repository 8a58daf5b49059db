//! Workloads: what `simulate` and `gpu-hours` say, and that the numbers in `docs/replay.md` are those that come out today.
#![forbid(unsafe_code)]

use super::step::{FILE, FOLDER, STEP, Step, file, finds, prints, put, succeeds};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::Cluster;
use tests::documents;

/// Accounting of a test cluster with trays of the same names, as Slurm 26.05.5 wrote it.
const RECORDED: &str = include_str!("../../../topology-gen/replay/tests/sacct/slurm-26.05.5.json");
const JOBS: &str = "submit,trays,run,limit\n0,1,600,1200\n0,16,7200,9000\n60,32,3600,7200\n90,20,1800,3600\n";
/// Where steps have the report of `simulate` written.
const REPORT: &str = "report.json";
/// Racks with a drained tray, and jobs that may span then, as the lab's command there says it.
const SPANNING: &str = "simulate --placer ours --seed 1,2,3 --drained 1 --topology-param nvlink_span=degraded --json report.json";
const DRAINED: &str = "One tray of 18 drained in every rack";
const ROOM: &str = "Room for large jobs";
const PATIENCE: &str = "Patience";
const LOAD: &str = "How much load a site can take";

pub(super) const STEPS: &[Step] = &[
    Step {
        typed: "topology-gen simulate --workload jobs.csv --file topology.yaml --segments 17-:16 --spares 1 --html out.html",
        before: |cluster| {
            put(cluster, "jobs.csv", JOBS)?;
            cluster.ctl(&["cp", "/etc/slurm/topology.yaml", FOLDER]).map(drop)
        },
        then: |cluster, said| {
            prints(said, &["topology.yaml; jobs of jobs.csv (simulated time, real placement)", "17-:16"])?;
            ensure!(file(cluster, "out.html")?.starts_with("<!DOCTYPE html>"), "out.html is no page");
            Ok(())
        },
        ..STEP
    },
    // The test cluster has no database: sacct understands all of it, and then has nobody to ask.
    Step {
        typed: "sacct --allusers --duplicates --starttime=2026-11-01 --endtime=2026-12-01 --json >jobs.json",
        then: |cluster, said| {
            finds(said, &["Slurm accounting storage is disabled"])?;
            ensure!(file(cluster, "jobs.json")?.is_empty());
            put(cluster, "jobs.json", RECORDED)
        },
        ..STEP
    },
    Step {
        typed: "topology-gen gpu-hours jobs.json --since 2026-11-01 --until 2026-12-01",
        then: |_, said| {
            prints(said, &["\nnvl-3c9b1e52-32766  trays  ", "\nnvl-a45f0d97-32766  trays  ", "\ntotal "])
        },
        ..STEP
    },
    Step {
        typed: "topology-gen gpu-hours jobs.json --by account,qos --csv",
        then: |_, said| prints(said, &["account,qos,", "\nchem,normal,"]),
        ..STEP
    },
    Step {
        typed: "topology-gen gpu-hours FILE",
        with: &[FILE],
        before: |cluster| put(cluster, "file", RECORDED),
        then: |_, said| prints(said, &["BLOCK ", "\ntotal "]),
        ..STEP
    },
    Step {
        typed: "topology-gen simulate",
        with: &[("simulate", "simulate --seed 1,2,3 --json report.json")],
        then: |cluster, said| {
            prints(said, &["278 racks of 18 trays", "15000 jobs in 7 days"])?;
            all(cluster, 6)?
                .iter()
                .try_for_each(|run| table_has(run, "The reference scenario", &run.whole_row()?))
        },
        ..STEP
    },
    Step {
        typed: "topology-gen simulate --placer ours --seed 1,2,3 --topology-param nvlink_room=16",
        with: &[("nvlink_room=16", "nvlink_room=16 --json report.json")],
        then: |cluster, said| {
            succeeds(said)?;
            all(cluster, 3)?.iter().try_for_each(|run| table_has(run, ROOM, &run.whole_row()?))
        },
        ..STEP
    },
    Step {
        typed: "topology-gen simulate --placer ours --seed 1,2,3 --topology-param nvlink_room=16,nvlink_patience=180",
        with: &[("nvlink_patience=180", "nvlink_patience=180 --json report.json")],
        then: |cluster, said| {
            succeeds(said)?;
            all(cluster, 3)?.iter().try_for_each(|run| {
                table_has(run, PATIENCE, &run.whole_row()?)?;
                let small = [run.waits(8)?, run.waits(12)?].map(|waits| format!("{waits} |")).join(" ");
                has_line(PATIENCE, &format!("| {} | {small}", run.0["seed"]))
            })
        },
        ..STEP
    },
    Step {
        typed: "topology-gen simulate --load 0.9 --seed 1,2,3",
        with: &[("--seed 1,2,3", "--seed 1,2,3 --json report.json")],
        then: |cluster, said| {
            succeeds(said)?;
            has_line(LOAD, &load_row("0.9", &all(cluster, 6)?)?)
        },
        ..STEP
    },
    Step {
        typed: "topology-gen simulate",
        with: &[("simulate", SPANNING)],
        then: |cluster, said| {
            succeeds(said)?;
            all(cluster, 3)?.iter().try_for_each(|run| table_has(run, DRAINED, &run.short_row()?))
        },
        ..STEP
    },
    Step {
        typed: "topology-gen simulate",
        with: &[("simulate", "simulate --placer ours --seed 1,2,3 --drained 1 --json report.json")],
        then: |cluster, said| {
            succeeds(said)?;
            let runs = all(cluster, 3)?;
            says(DRAINED, &format!("occupancy is {} %", of(&runs, "ours", Run::occupancy)?))
        },
        ..STEP
    },
    Step {
        typed: "topology-gen simulate --drained 1 --base-size -1",
        then: |_, said| prints(said, &["278 racks of 18 trays, 1 drained in each", "\nours ", "\nnaive "]),
        ..STEP
    },
    Step {
        typed: "topology-gen simulate --split-racks 2 --seed 1,2,3",
        with: &[("--seed 1,2,3", "--seed 1,2,3 --json report.json")],
        then: |cluster, said| {
            succeeds(said)?;
            split_racks(&all(cluster, 6)?)
        },
        ..STEP
    },
];

/// A replay of one placer with one seed.
struct Run(Value);

/// The runs in the report; so many must be there.
fn all(cluster: &Cluster, count: usize) -> anyhow::Result<Vec<Run>> {
    let report: Value = serde_json::from_str(&file(cluster, REPORT)?)?;
    let runs: Vec<Run> = report["runs"].as_array().context("no runs")?.iter().cloned().map(Run).collect();
    ensure!(runs.len() == count, "{} runs", runs.len());
    Ok(runs)
}

impl Run {
    fn number(&self, name: &str) -> anyhow::Result<f64> {
        self.0[name].as_f64().with_context(|| format!("no {name}"))
    }

    fn is_of(&self, placer: &str) -> bool {
        self.0["placer"] == placer
    }

    /// This percentile of the wait of jobs of so many trays, in hours.
    fn wait(&self, trays: u64, percentile: &str) -> anyhow::Result<f64> {
        let classes = self.0["classes"].as_array().context("no classes")?;
        let class = classes.iter().find(|class| class["trays"] == serde_json::json!([trays, trays]));
        let wait = &class.with_context(|| format!("no jobs of {trays} trays"))?["wait"];
        Ok(wait[percentile].as_f64().context("no wait")? / 3600.0)
    }

    /// Median and 95th percentile of that wait, as the document writes them.
    fn waits(&self, trays: u64) -> anyhow::Result<String> {
        Ok(format!("{:.1} / {:.1}", self.wait(trays, "p50")?, self.wait(trays, "p95")?))
    }

    /// In per cent.
    fn occupancy(&self) -> anyhow::Result<String> {
        Ok(format!("{:.2}", self.number("occupancy")? * 100.0))
    }

    /// The row of the reference scenario.
    fn whole_row(&self) -> anyhow::Result<String> {
        let split = self.0["broken"].as_u64().context("no split jobs")?;
        let split =
            if split < 1000 { split.to_string() } else { format!("{},{:03}", split / 1000, split % 1000) };
        let [one, sixteen, rack] = [self.waits(1)?, self.waits(16)?, self.waits(18)?];
        Ok(format!("{} {one} | {sixteen} | {rack} | {} | {split} |", self.row_begins()?, self.partitions()?))
    }

    /// The row of a table without jobs of one tray and split ones.
    fn short_row(&self) -> anyhow::Result<String> {
        let [sixteen, rack] = [self.waits(16)?, self.waits(18)?];
        Ok(format!("{} {sixteen} | {rack} | {} |", self.row_begins()?, self.partitions()?))
    }

    fn row_begins(&self) -> anyhow::Result<String> {
        let placer = self.0["placer"].as_str().context("no placer")?;
        Ok(format!("| {placer} | {} | {} % |", self.0["seed"], self.occupancy()?))
    }

    /// Of a job, and the fewest that it could have.
    fn partitions(&self) -> anyhow::Result<String> {
        Ok(format!("{:.2} ({:.2})", self.number("partitions_used")?, self.number("partitions_fewest")?))
    }
}

/// The text of a section of `docs/replay.md`.
fn section(title: &str) -> anyhow::Result<String> {
    let text = documents::named("docs/replay.md")?.text;
    let (_, section) =
        text.split_once(&format!("\n## {title}\n")).with_context(|| format!("no {title:?}"))?;
    Ok(section.split("\n## ").next().unwrap_or_default().to_owned())
}

/// A row of the table in a section is what came out of this run.
fn table_has(run: &Run, title: &str, row: &str) -> anyhow::Result<()> {
    has_line(title, row).with_context(|| format!("seed {}", run.0["seed"]))
}

/// A section has this line.
fn has_line(title: &str, line: &str) -> anyhow::Result<()> {
    let has = section(title)?.lines().any(|has| has == line);
    ensure!(has, "docs/replay.md, {title:?}, has no line\n{line}");
    Ok(())
}

/// A section says this, wherever its lines end.
fn says(title: &str, words: &str) -> anyhow::Result<()> {
    ensure!(
        section(title)?.replace('\n', " ").contains(words),
        "docs/replay.md, {title:?}, does not say {words:?}"
    );
    Ok(())
}

/// A number of the three runs of a placer, as the document lists them.
fn of(runs: &[Run], placer: &str, number: impl Fn(&Run) -> anyhow::Result<String>) -> anyhow::Result<String> {
    let [first, second, third] = three(runs, placer, number)?;
    Ok(format!("{first}, {second} and {third}"))
}

/// Something of the three runs of a placer.
fn three<T: std::fmt::Debug>(
    runs: &[Run],
    placer: &str,
    number: impl Fn(&Run) -> anyhow::Result<T>,
) -> anyhow::Result<[T; 3]> {
    let all: Vec<T> =
        runs.iter().filter(|run| run.is_of(placer)).map(number).collect::<anyhow::Result<_>>()?;
    all.try_into().map_err(|all| anyhow::anyhow!("{placer} has other than three runs: {all:?}"))
}

/// The row of a load, made of means of the three runs of each placer.
fn load_row(load: &str, runs: &[Run]) -> anyhow::Result<String> {
    let mean = |placer: &str, number: &dyn Fn(&Run) -> anyhow::Result<f64>| -> anyhow::Result<f64> {
        Ok(three(runs, placer, number)?.iter().sum::<f64>() / 3.0)
    };
    let occupancy = |placer| Ok(format!("{:.2} %", mean(placer, &|run| run.number("occupancy"))? * 100.0));
    let wait = |placer, trays| Ok(format!("{:.1}", mean(placer, &|run| run.wait(trays, "p95"))?));
    let cells: [anyhow::Result<String>; 6] = [
        occupancy("ours"),
        occupancy("naive"),
        wait("ours", 16),
        wait("naive", 16),
        wait("ours", 18),
        wait("naive", 18),
    ];
    let cells: Vec<String> = cells.into_iter().collect::<anyhow::Result<_>>()?;
    Ok(format!("| {load} | {} |", cells.join(" | ")))
}

/// The numbers of the section on racks that are split in two are what came out.
fn split_racks(runs: &[Run]) -> anyhow::Result<()> {
    let used = |run: &Run| Ok(format!("{:.2}", run.number("partitions_used")?));
    let fewest = |run: &Run| Ok(format!("{:.2}", run.number("partitions_fewest")?));
    for words in [
        format!("Ours has {} %", of(runs, "ours", Run::occupancy)?),
        format!("naive {} %", of(runs, "naive", Run::occupancy)?),
        format!("ours uses {} partitions", of(runs, "ours", used)?),
        format!("(fewest {})", of(runs, "ours", fewest)?),
    ] {
        says("Racks split in two", &words)?;
    }
    Ok(())
}
