use super::*;
use fabric::Block;
use proptest::prelude::*;
use replay::accounting;

const ALL: [By; 4] = [By::Block, By::Partition, By::Account, By::Qos];
const HOUR: u64 = 3600;

/// Two racks of four, and `c1` in none.
fn racks() -> BlockTopology {
    let block = |name: &str, nodes: &str| Block {
        name: BlockName::new(name).unwrap(),
        nodes: HostList::parse(nodes).unwrap(),
    };
    BlockTopology { sizes: None, blocks: vec![block("z", "n[1-4]"), block("a", "n[5-8]")] }
}

/// A record: number, nodes, GPUs, start and end in hours.
fn record(id: u64, nodes: &str, gpus: u64, start: u64, end: u64) -> Record {
    let elapsed = end.saturating_sub(start) * HOUR;
    let text = format!(
        "{{\"job_id\":{id},\"cluster\":\"c\",\"partition\":\"p\",\"account\":\"x\",\"qos\":\"q\",\"nodes\":\"{nodes}\",\
         \"time\":{{\"elapsed\":{elapsed},\"submission\":1,\"start\":{},\"end\":{}}},\
         \"tres\":{{\"allocated\":[{{\"type\":\"gres\",\"name\":\"gpu\",\"count\":{gpus}}}]}}}}",
        start * HOUR,
        end * HOUR
    );
    accounting::records(&format!("{{\"jobs\":[{text}]}}")).unwrap().remove(0)
}

/// The rows as text.
fn rows(records: &[Record], window: Window, by: &[By]) -> Vec<String> {
    let report = gpu_hours(records, &racks(), window, by).unwrap();
    let line = |row: &Row| {
        let block = row.block.as_ref().map(|block| block.as_ref().map_or("-", |name| name.as_str()));
        let names = [block, row.partition.as_deref(), row.account.as_deref(), row.qos.as_deref()];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        let Sums { gpu_hours, jobs, spanning_jobs } = row.sums;
        format!("{} {gpu_hours:.3} {jobs} {spanning_jobs}", names.join("/"))
    };
    report.rows.iter().map(line).collect()
}

fn whole(records: &[Record], by: &[By]) -> Vec<String> {
    rows(records, Window::default(), by)
}

#[test]
fn a_job_counts_where_its_nodes_are() {
    let records = [
        record(1, "n[1-2]", 8, 1, 3),
        record(2, "n[3-6]", 16, 1, 2),
        record(3, "n8,c1", 8, 1, 2),
        record(4, "c1", 2, 1, 2),
    ];
    assert_eq!(whole(&records, &[By::Block]), ["z 24.000 2 1", "a 12.000 2 1", "- 6.000 2 0"]);
    assert_eq!(whole(&records, &[By::Account]), ["x 42.000 4 1"]);
    let total = gpu_hours(&records, &racks(), Window::default(), &ALL).unwrap().total;
    assert_eq!(total, Sums { gpu_hours: 42.0, jobs: 4, spanning_jobs: 1 });
}

#[test]
fn rows_are_divided_by_all_names_that_are_asked_for() {
    let mut other = record(2, "n1", 4, 1, 2);
    other.account = "b".into();
    other.qos = "spare".into();
    let records = [record(1, "n1", 4, 1, 2), other];
    assert_eq!(whole(&records, &ALL), ["z/p/b/spare 4.000 1 0", "z/p/x/q 4.000 1 0"]);
    assert_eq!(whole(&records, &[By::Qos]), ["q 4.000 1 0", "spare 4.000 1 0"]);
    assert_eq!(whole(&records, &[]), [" 8.000 2 0"]);
}

#[test]
fn only_the_window_counts() {
    let records = [record(1, "n1", 4, 10, 20), record(2, "n1", 4, 1, 10), record(3, "n1", 4, 25, 30)];
    let window = |since, until| Window { since: since * HOUR, until: until * HOUR };
    assert_eq!(rows(&records, window(10, 20), &[By::Block]), ["z 40.000 1 0"]);
    assert_eq!(rows(&records, window(9, 12), &[By::Block]), ["z 12.000 2 0"]);
    assert_eq!(rows(&records, window(15, 90), &[By::Block]), ["z 40.000 2 0"]);
    let report = gpu_hours(&records, &racks(), window(20, 25), &[By::Block]).unwrap();
    assert_eq!((report.rows.len(), report.left_out.outside_window), (0, 3));
    assert_eq!(report.total, Sums::default());
}

#[test]
fn a_job_that_runs_lasts_until_sacct_was_asked() {
    let mut running = record(1, "n1", 4, 10, 13);
    running.time.end = 0;
    assert_eq!(whole(&[running.clone()], &[]), [" 12.000 1 0"]);
    let window = Window { since: 12 * HOUR, until: 99 * HOUR };
    assert_eq!(rows(&[running.clone()], window, &[]), [" 4.000 1 0"]);
    // 3 hours in 6, of which half is in the window.
    running.time.suspended = 3 * HOUR;
    let window = Window { since: 13 * HOUR, until: 99 * HOUR };
    assert_eq!(rows(&[running], window, &[]), [" 6.000 1 0"]);
}

#[test]
fn all_runs_of_a_requeued_job_count_and_it_counts_once() {
    let records = [record(1, "n1", 4, 1, 2), record(1, "n[4-5]", 8, 3, 4)];
    assert_eq!(whole(&records, &[By::Block]), ["z 8.000 1 1", "a 4.000 1 1"]);
}

#[test]
fn what_does_not_count_is_counted() {
    let mut waits = record(1, "None assigned", 4, 0, 0);
    waits.time.elapsed = 0;
    let records = [waits, record(2, "n1", 0, 1, 2), record(3, "n1", 4, 1, 2)];
    let report = gpu_hours(&records, &racks(), Window::default(), &ALL).unwrap();
    assert_eq!(report.left_out, LeftOut { never_ran: 1, outside_window: 0, without_gpus: 1 });
    assert_eq!(report.total.jobs, 1);
}

#[test]
fn what_cannot_be_counted_is_named() {
    let said =
        |records: &[Record]| gpu_hours(records, &racks(), Window::default(), &ALL).unwrap_err().to_string();
    assert_eq!(said(&[record(7, "None assigned", 4, 1, 2)]), "job 7 ran, and its nodes are not named");
    assert_eq!(said(&[record(7, "", 4, 1, 2)]), "job 7 ran, and its nodes are not named");
    assert_eq!(said(&[record(7, "n[2-1]", 4, 1, 2)]), "job 7: its nodes cannot be read");
    let mut backwards = record(7, "n1", 4, 1, 2);
    backwards.time.end = 1;
    assert_eq!(said(&[backwards]), "job 7 ended before it started");
    let mut endless = record(7, "n1", 4, 1, 2);
    (endless.time.end, endless.time.elapsed) = (0, u64::MAX);
    assert_eq!(said(&[endless]), "job 7 ran for longer than time lasts");
    let mut other = record(8, "n1", 4, 1, 2);
    other.cluster = "d".into();
    assert_eq!(
        said(&[record(7, "n1", 4, 1, 2), other]),
        "jobs of two clusters, \"c\" and \"d\"; the blocks are those of one"
    );
}

proptest! {
    /// However the hours are divided, and however the time is cut, they add up.
    #[test]
    fn the_parts_add_up(
        jobs in proptest::collection::vec((1u64..9, 1u64..9, 1u64..99, 1u64..50, 0u64..50), 1..20),
        cut in 1u64..120,
    ) {
        let records: Vec<Record> = jobs
            .iter()
            .zip(1..)
            .map(|(&(first, more, gpus, start, long), id)| {
                record(id, &format!("n[{first}-{}]", first + more), gpus, start, start + long)
            })
            .collect();
        let all = gpu_hours(&records, &racks(), Window::default(), &ALL).unwrap();
        let sum = |report: &GpuHours| report.rows.iter().map(|row| row.sums.gpu_hours).sum::<f64>();
        prop_assert!((sum(&all) - all.total.gpu_hours).abs() < 1e-6);
        let window = |since, until| gpu_hours(&records, &racks(), Window { since, until }, &[By::Block]).unwrap();
        let (before, after) = (window(0, cut * HOUR), window(cut * HOUR, u64::MAX));
        let both = before.total.gpu_hours + after.total.gpu_hours;
        prop_assert!((both - all.total.gpu_hours).abs() < 1e-6);
    }
}
