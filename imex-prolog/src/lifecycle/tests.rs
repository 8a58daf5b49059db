use super::*;
use crate::readiness::Missing;
use crate::record::tests::sample;
use std::collections::{BTreeMap, BTreeSet};

/// The program was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Killed;

/// What outlives a killed program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tray {
    records: BTreeMap<JobId, Record>,
    damaged: BTreeSet<JobId>,
    files: BTreeSet<(JobId, &'static str)>,
    daemons: BTreeMap<JobId, Process>,
    channels: BTreeSet<(JobId, u32)>,
    marks: BTreeMap<JobId, Started>,
    daemons_started: i32,
}

impl Tray {
    fn holds_nothing(&self) -> bool {
        let Self { records, damaged, files, daemons, channels, .. } = self;
        records.is_empty()
            && damaged.is_empty()
            && files.is_empty()
            && daemons.is_empty()
            && channels.is_empty()
    }

    /// Nothing exists without a record that tells of it.
    #[track_caller]
    fn assert_nothing_is_untold(&self) {
        let told = |job: &JobId| self.records.contains_key(job) || self.damaged.contains(job);
        assert!(self.files.iter().all(|(job, _)| told(job)), "{self:?}");
        assert!(self.daemons.keys().all(told), "{self:?}");
        assert!(self.channels.iter().all(|(job, _)| told(job)), "{self:?}");
    }
}

/// A program on the tray that is killed after a number of changes.
struct Program<'a> {
    tray: &'a mut Tray,
    changes_left: usize,
    outcome: Readiness,
    agreement: Option<Readiness>,
}

impl Program<'_> {
    /// One change to the tray; every one is a point at which the program can be killed: before it, which is the same as
    /// after the one before.
    fn change(&mut self, change: impl FnOnce(&mut Tray)) -> Result<(), Killed> {
        self.changes_left = self.changes_left.checked_sub(1).ok_or(Killed)?;
        change(self.tray);
        self.tray.assert_nothing_is_untold();
        Ok(())
    }

    fn alive(&self) -> Result<(), Killed> {
        if self.changes_left == 0 { Err(Killed) } else { Ok(()) }
    }
}

impl World for Program<'_> {
    type Error = Killed;

    fn has_ended(&mut self, job: JobId, prolog_started: Started) -> Result<bool, Killed> {
        Ok(self.tray.marks.get(&job).is_some_and(|epilog| prolog_started <= *epilog))
    }
    fn jobs(&mut self) -> Result<Vec<JobId>, Killed> {
        let Tray { records, damaged, files, .. } = &*self.tray;
        let jobs: BTreeSet<JobId> =
            records.keys().chain(damaged).copied().chain(files.iter().map(|(job, _)| *job)).collect();
        Ok(jobs.into_iter().collect())
    }
    fn load(&mut self, job: JobId) -> Result<Stored, Killed> {
        if self.tray.damaged.contains(&job) {
            return Ok(Stored::Damaged("damaged".to_owned()));
        }
        let files = self.tray.files.iter().any(|(other, _)| *other == job);
        Ok(match self.tray.records.get(&job) {
            Some(record) => Stored::Record(Box::new(record.clone())),
            None if files => Stored::FilesOnly,
            None => Stored::Nothing,
        })
    }
    fn save(&mut self, record: &Record) -> Result<(), Killed> {
        self.change(|tray| {
            tray.damaged.remove(&record.job);
            tray.records.insert(record.job, record.clone());
        })
    }
    fn erase(&mut self, job: JobId) -> Result<(), Killed> {
        self.change(|tray| {
            tray.damaged.remove(&job);
            tray.records.remove(&job);
        })
    }
    fn make_files(&mut self, record: &Record) -> Result<(), Killed> {
        let job = record.job;
        for file in ["directory", "nodes", "config"] {
            self.change(|tray| {
                tray.files.insert((job, file));
            })?;
        }
        Ok(())
    }
    fn drop_files(&mut self, job: JobId) -> Result<(), Killed> {
        for file in ["nodes", "config", "directory"] {
            self.change(|tray| {
                tray.files.remove(&(job, file));
            })?;
        }
        Ok(())
    }
    fn start_daemon(&mut self, record: &Record) -> Result<Process, Killed> {
        let job = record.job;
        self.change(|tray| {
            tray.daemons_started += 1;
            let process = Process { pid: tray.daemons_started, started: 1 };
            let second = tray.daemons.insert(job, process);
            assert!(second.is_none() && tray.daemons.len() == 1, "one daemon for each system: {tray:?}");
        })?;
        // Killed here: the daemon runs and nobody has its process id.
        self.alive()?;
        Ok(self.tray.daemons[&job])
    }
    fn is_daemon_alive(&mut self, record: &Record) -> Result<bool, Killed> {
        Ok(self.tray.daemons.get(&record.job) == record.daemon.as_ref())
    }
    fn wait_ready(&mut self, _record: &Record, refused: Option<Duration>) -> Readiness {
        match &self.outcome {
            // Each time but the last one.
            Readiness::Refused { .. } if refused.is_none() => ready(),
            outcome => outcome.clone(),
        }
    }
    fn agree(&mut self, record: &Record) -> Result<Duration, Readiness> {
        assert!(self.tray.channels.iter().any(|(job, _)| *job == record.job) || record.channel.is_none());
        self.agreement.clone().map_or(Ok(Duration::ZERO), Err)
    }
    fn ask_daemon_to_stop(&mut self, record: &Record) -> Result<(), Killed> {
        let job = record.job;
        self.change(|tray| {
            tray.daemons.remove(&job);
        })
    }
    fn stop_daemon(&mut self, job: JobId, _record: Option<&Record>) -> Result<Ended, Killed> {
        let running = self.tray.daemons.contains_key(&job);
        self.change(|tray| {
            tray.daemons.remove(&job);
        })?;
        Ok(if running { Ended::Gracefully } else { Ended::Already })
    }
    fn make_channel(&mut self, record: &Record) -> Result<(), Killed> {
        assert!(self.tray.daemons.contains_key(&record.job), "a channel without a daemon");
        let entry = record.channel.map(|channel| (record.job, channel.number));
        self.change(|tray| tray.channels.extend(entry))
    }
    fn drop_channel(&mut self, job: JobId, record: Option<&Record>) -> Result<(), Killed> {
        let number = record.map_or(Some(0), |record| record.channel.map(|channel| channel.number));
        self.change(|tray| {
            if let Some(number) = number {
                tray.channels.remove(&(job, number));
            }
        })
    }
}

const NEVER: usize = usize::MAX;
/// More changes than any run makes.
const STEPS_MAX: usize = 40;
const EPILOG: Started = Started { ticks: 1_000_000, nanos: 0 };
const LATER: Started = Started { nanos: 1, ..EPILOG };

fn plan(job: u32) -> Record {
    Record { job: JobId::new(job).unwrap(), daemon: None, ..sample() }
}

fn ready() -> Readiness {
    Readiness::Ready { after: Duration::from_secs(1), domain: "UP".to_owned() }
}

fn begun_ready() -> Begun {
    Begun::Ready { after: Duration::from_secs(1), agreed: Duration::ZERO, domain: "UP".to_owned() }
}

fn refused() -> Readiness {
    Readiness::Refused { missing: vec![(0, "missing".to_owned())] }
}

fn outcomes() -> [Readiness; 8] {
    [
        ready(),
        refused(),
        Readiness::RunEnded,
        Readiness::CutOff { why: String::new() },
        Readiness::DaemonDied,
        Readiness::NotReady { last: String::new() },
        Readiness::PeersMissing { missing: vec![(0, "missing".to_owned())], why: Missing::Late },
        Readiness::NoView { last: String::new() },
    ]
}

fn begin_killed(tray: &mut Tray, record: Record, kill: usize, outcome: &Readiness) -> Result<Begun, Killed> {
    begin(&mut Program { tray, changes_left: kill, outcome: outcome.clone(), agreement: None }, record)
}

/// A begin whose own part is complete, but not everybody's.
fn begin_alone(tray: &mut Tray, kill: usize, why: &Readiness) -> Result<Begun, Killed> {
    let agreement = Some(why.clone());
    begin(&mut Program { tray, changes_left: kill, outcome: ready(), agreement }, plan(1))
}

fn end_killed(tray: &mut Tray, job: u32, kill: usize) -> Result<Closed, Killed> {
    end(
        &mut Program { tray, changes_left: kill, outcome: ready(), agreement: None },
        JobId::new(job).unwrap(),
        EPILOG,
    )
}

/// Every tray that a begin can leave behind, killed anywhere or not at all.
fn after_begin() -> Vec<Tray> {
    let mut trays = Vec::new();
    for outcome in outcomes() {
        for kill in 0..STEPS_MAX {
            let mut tray = Tray::default();
            let _killed = begin_killed(&mut tray, plan(1), kill, &outcome);
            trays.push(tray);
            let mut tray = Tray::default();
            let _killed = begin_alone(&mut tray, kill, &outcome);
            trays.push(tray);
        }
    }
    trays
}

#[test]
fn the_kills_reach_every_step() {
    let mut tray = Tray::default();
    let steps = (0..STEPS_MAX)
        .filter(|kill| begin_killed(&mut tray.clone(), plan(1), *kill, &ready()) == Err(Killed));
    // save, three files, daemon, its process id returned, save, channel, save; nothing after the roll call.
    assert_eq!(steps.count(), 8);
    assert_eq!(begin_killed(&mut tray, plan(1), NEVER, &ready()), Ok(begun_ready()));
    assert!(tray.channels.len() == 1 && tray.daemons.len() == 1);
}

#[test]
fn a_daemon_that_refuses_members_is_started_anew_a_few_times() {
    let mut tray = Tray::default();
    assert_eq!(begin_killed(&mut tray, plan(1), NEVER, &refused()), Ok(begun_ready()));
    assert_eq!((tray.daemons_started, tray.daemons.len()), (5, 1));
    assert_eq!(tray.records.values().next().unwrap().daemon, tray.daemons.values().next().copied());
}

#[test]
fn after_a_kill_at_any_step_an_epilog_leaves_nothing() {
    for mut tray in after_begin() {
        end_killed(&mut tray, 1, NEVER).unwrap();
        assert!(tray.holds_nothing(), "{tray:?}");
    }
}

#[test]
fn an_epilog_killed_at_any_step_is_finished_by_the_next_one() {
    for begun in after_begin() {
        for kill in 0..STEPS_MAX {
            let mut tray = begun.clone();
            let _killed = end_killed(&mut tray, 1, kill);
            end_killed(&mut tray, 1, NEVER).unwrap();
            assert!(tray.holds_nothing(), "{tray:?}");
        }
    }
}

#[test]
fn the_next_job_removes_whatever_any_kill_left_behind() {
    for begun in after_begin() {
        for kill in 0..STEPS_MAX {
            let mut tray = begun.clone();
            let _killed = end_killed(&mut tray, 1, kill);
            assert_eq!(begin_killed(&mut tray, plan(2), NEVER, &ready()), Ok(begun_ready()));
            assert_eq!(tray.records.keys().map(|job| job.get()).collect::<Vec<_>>(), [2]);
            assert!(tray.files.iter().all(|(job, _)| job.get() == 2), "{tray:?}");
            assert_eq!((tray.daemons.len(), tray.channels.len()), (1, 1));
            end_killed(&mut tray, 2, NEVER).unwrap();
            assert!(tray.holds_nothing(), "{tray:?}");
        }
    }
}

#[test]
fn a_second_prolog_of_the_same_run_keeps_the_complete_domain() {
    let mut tray = Tray::default();
    begin_killed(&mut tray, plan(1), NEVER, &ready()).unwrap();
    let before = tray.clone();
    assert_eq!(begin_killed(&mut tray, plan(1), NEVER, &Readiness::DaemonDied), Ok(Begun::AlreadyReady));
    assert_eq!(tray, before);
}

#[test]
fn a_second_prolog_begins_anew_when_anything_differs_or_the_daemon_is_gone() {
    let changes: [fn(&mut Record); 4] = [
        |record| record.restarts = Some(9),
        |record| record.own_index = 0,
        |record| record.boot = "another".to_owned(),
        |record| record.channel = None,
    ];
    for change in changes {
        let mut tray = Tray::default();
        begin_killed(&mut tray, plan(1), NEVER, &ready()).unwrap();
        let mut again = plan(1);
        change(&mut again);
        assert_eq!(begin_killed(&mut tray, again, NEVER, &ready()), Ok(begun_ready()));
        assert_eq!(tray.daemons_started, 2);
    }
    let mut tray = Tray::default();
    begin_killed(&mut tray, plan(1), NEVER, &ready()).unwrap();
    tray.daemons.clear();
    begin_killed(&mut tray, plan(1), NEVER, &ready()).unwrap();
    assert_eq!(tray.daemons_started, 2);
}

#[test]
fn a_second_epilog_and_one_without_a_prolog_find_nothing() {
    let mut tray = Tray::default();
    assert_eq!(end_killed(&mut tray, 1, NEVER), Ok(Closed::Nothing));
    begin_killed(&mut tray, plan(1), NEVER, &ready()).unwrap();
    let gone = Closed::Gone { daemon: Ended::Gracefully, was: Some(State::Ready), lost: false };
    assert_eq!(end_killed(&mut tray, 1, NEVER), Ok(gone));
    begin_killed(&mut tray, plan(1), NEVER, &ready()).unwrap();
    tray.daemons.clear();
    let lost = Closed::Gone { daemon: Ended::Already, was: Some(State::Ready), lost: true };
    assert_eq!(end_killed(&mut tray, 1, NEVER), Ok(lost));
    assert_eq!(end_killed(&mut tray, 1, NEVER), Ok(Closed::Nothing));
}

#[test]
fn an_epilog_of_another_job_or_of_an_earlier_run_touches_nothing() {
    let mut tray = Tray::default();
    let later = Record { prolog_started: LATER, ..plan(1) };
    begin_killed(&mut tray, later, NEVER, &ready()).unwrap();
    let before = tray.clone();
    assert_eq!(end_killed(&mut tray, 2, NEVER), Ok(Closed::Nothing));
    assert_eq!(end_killed(&mut tray, 1, NEVER), Ok(Closed::LaterRun));
    assert_eq!(tray, before);
}

#[test]
fn a_prolog_whose_run_an_epilog_has_ended_begins_nothing_but_the_next_run_does() {
    let mut tray = Tray::default();
    tray.marks.insert(JobId::new(1).unwrap(), EPILOG);
    assert_eq!(begin_killed(&mut tray, plan(1), NEVER, &ready()), Ok(Begun::RunEnded));
    assert!(tray.holds_nothing());
    let next = Record { prolog_started: LATER, ..plan(1) };
    assert_eq!(begin_killed(&mut tray, next, NEVER, &ready()), Ok(begun_ready()));
}

#[test]
fn a_damaged_record_is_taken_down_all_the_same() {
    for begun in after_begin() {
        for damage_and_begin_other in [false, true] {
            let mut tray = begun.clone();
            let jobs: Vec<JobId> = tray.records.keys().copied().collect();
            tray.records.clear();
            tray.damaged.extend(jobs);
            if damage_and_begin_other {
                begin_killed(&mut tray, plan(2), NEVER, &ready()).unwrap();
                end_killed(&mut tray, 2, NEVER).unwrap();
            } else {
                end_killed(&mut tray, 1, NEVER).unwrap();
            }
            assert!(tray.holds_nothing(), "{tray:?}");
        }
    }
}

#[test]
fn a_channel_exists_only_after_the_domain_is_complete() {
    for outcome in outcomes() {
        let mut tray = Tray::default();
        let begun = begin_killed(&mut tray, plan(1), NEVER, &outcome).unwrap();
        assert_eq!(tray.channels.len(), usize::from(matches!(begun, Begun::Ready { .. })), "{outcome:?}");
    }
}

#[test]
fn without_the_others_word_the_channel_goes_again() {
    let missing = Readiness::PeersMissing { missing: vec![], why: Missing::Unanswered };
    for (why, begun) in [
        (missing.clone(), Begun::NoDomain(missing)),
        (Readiness::RunEnded, Begun::RunEnded),
        (Readiness::DaemonDied, Begun::Failed(Readiness::DaemonDied)),
    ] {
        let mut tray = Tray::default();
        assert_eq!(begin_alone(&mut tray, NEVER, &why), Ok(begun));
        assert!(tray.channels.is_empty(), "{tray:?}");
    }
}

#[test]
fn who_gives_up_leaves_the_domain_at_once_and_says_so_in_the_record() {
    let missing = Readiness::PeersMissing { missing: vec![], why: Missing::Left };
    for (outcome, state) in
        [(missing, State::NoDomain), (Readiness::NotReady { last: String::new() }, State::Stopping)]
    {
        let mut tray = Tray::default();
        begin_killed(&mut tray, plan(1), NEVER, &outcome).unwrap();
        let record = &tray.records[&JobId::new(1).unwrap()];
        assert_eq!((record.state, &record.note), (state, &Some(outcome.words())));
        assert!(tray.daemons.is_empty());
    }
}

#[test]
fn only_the_arrows_of_the_picture_are_allowed() {
    use State::{NoDomain, Ready, Starting, Stopping};
    let all = [Starting, Ready, NoDomain, Stopping];
    let arrows: Vec<(State, State)> = all
        .iter()
        .flat_map(|from| all.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| may_become(*from, *to))
        .collect();
    assert_eq!(
        arrows,
        [
            (Starting, Ready),
            (Starting, NoDomain),
            (Starting, Stopping),
            (Ready, NoDomain),
            (Ready, Stopping),
            (NoDomain, Stopping),
            (Stopping, Stopping)
        ]
    );
}
