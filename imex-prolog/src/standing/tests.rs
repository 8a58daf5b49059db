use super::*;
use crate::lifecycle::end;
use crate::procfs::{Process, Started};
use crate::readiness::Missing;
use crate::record::Channel;
use crate::record::tests::sample;
use fabric::names::JobId;
use std::collections::{BTreeMap, BTreeSet};

/// The program was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Killed;

/// What outlives a killed program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tray {
    guests: BTreeMap<JobId, Record>,
    standing: Option<Record>,
    files: bool,
    daemon: Option<Process>,
    channels: BTreeSet<u32>,
    daemons_started: i32,
}

/// A program on the tray that is killed after a number of changes.
struct Program<'a> {
    tray: &'a mut Tray,
    left: usize,
    outcome: Readiness,
}

impl Program<'_> {
    fn change(&mut self, change: impl FnOnce(&mut Tray)) -> Result<(), Killed> {
        self.left = self.left.checked_sub(1).ok_or(Killed)?;
        change(self.tray);
        let Tray { standing, files, daemon, channels, guests, .. } = &*self.tray;
        assert!(standing.is_some() || !(*files || daemon.is_some()), "untold: {:?}", self.tray);
        let told: BTreeSet<u32> =
            guests.values().filter_map(|guest| guest.channel.map(|channel| channel.number)).collect();
        assert!(channels.is_subset(&told), "untold: {:?}", self.tray);
        Ok(())
    }
}

impl World for Program<'_> {
    type Error = Killed;

    fn has_ended(&mut self, _job: JobId, _prolog_started: Started) -> Result<bool, Killed> {
        Ok(false)
    }
    fn jobs(&mut self) -> Result<Vec<JobId>, Killed> {
        Ok(self.tray.guests.keys().copied().collect())
    }
    fn load(&mut self, job: JobId) -> Result<Stored, Killed> {
        let found = self.tray.guests.get(&job).cloned();
        Ok(found.map_or(Stored::Nothing, |record| Stored::Record(Box::new(record))))
    }
    fn save(&mut self, record: &Record) -> Result<(), Killed> {
        self.change(|tray| match record.kind {
            Kind::Standing => tray.standing = Some(record.clone()),
            Kind::Guest | Kind::Own => drop(tray.guests.insert(record.job, record.clone())),
        })
    }
    fn erase(&mut self, job: JobId) -> Result<(), Killed> {
        self.change(|tray| drop(tray.guests.remove(&job)))
    }
    fn make_files(&mut self, _record: &Record) -> Result<(), Killed> {
        self.change(|tray| tray.files = true)
    }
    fn drop_files(&mut self, _job: JobId) -> Result<(), Killed> {
        Ok(())
    }
    fn start_daemon(&mut self, _record: &Record) -> Result<Process, Killed> {
        assert!(self.tray.daemon.is_none(), "one daemon for each system: {:?}", self.tray);
        let process = Process { pid: self.tray.daemons_started + 1, started: 1 };
        self.change(|tray| {
            tray.daemons_started += 1;
            tray.daemon = Some(process);
        })?;
        // Killed here: the daemon runs and nobody has its process id.
        if self.left == 0 { Err(Killed) } else { Ok(process) }
    }
    fn is_daemon_alive(&mut self, record: &Record) -> Result<bool, Killed> {
        Ok(record.daemon.is_some() && self.tray.daemon == record.daemon)
    }
    fn wait_ready(&mut self, _record: &Record, _refused: Option<Duration>) -> Readiness {
        self.outcome.clone()
    }
    fn agree(&mut self, _record: &Record) -> Result<Duration, Readiness> {
        Ok(Duration::ZERO)
    }
    fn ask_daemon_to_stop(&mut self, _record: &Record) -> Result<(), Killed> {
        Ok(())
    }
    fn stop_daemon(&mut self, _job: JobId, record: Option<&Record>) -> Result<Ended, Killed> {
        assert!(record.is_none_or(|record| record.daemon.is_none()), "a guest has no daemon");
        Ok(Ended::Already)
    }
    fn make_channel(&mut self, record: &Record) -> Result<(), Killed> {
        assert!(self.tray.daemon.is_some(), "a channel without a daemon");
        let number = record.channel.map(|channel| channel.number);
        self.change(|tray| tray.channels.extend(number))
    }
    fn drop_channel(&mut self, _job: JobId, record: Option<&Record>) -> Result<(), Killed> {
        let number = record.and_then(|record| record.channel).map(|channel| channel.number);
        self.change(|tray| tray.channels.retain(|channel| Some(*channel) != number))
    }
}

impl StandingWorld for Program<'_> {
    fn load_standing(&mut self) -> Result<Stored, Killed> {
        let found = self.tray.standing.clone();
        Ok(found.map_or(Stored::Nothing, |record| Stored::Record(Box::new(record))))
    }
    fn drop_standing(&mut self, _record: Option<&Record>) -> Result<Ended, Killed> {
        self.change(|tray| tray.daemon = None)?;
        self.change(|tray| tray.files = false)?;
        self.change(|tray| tray.standing = None)?;
        Ok(Ended::Gracefully)
    }
    fn wait_joined(&mut self, _standing: &Record, _guest: &Record) -> Readiness {
        self.outcome.clone()
    }
}

fn wanted(job: u32) -> Wanted {
    let record = Record { job: JobId::new(job).unwrap(), daemon: None, ..sample() };
    let channel = Some(Channel { number: job, uid: 1000, gid: 100 });
    Wanted {
        standing: Record { kind: Kind::Standing, channel: None, ..record.clone() },
        guest: Record { kind: Kind::Guest, channel, ..record },
    }
}

fn ready() -> Readiness {
    Readiness::Ready { after: std::time::Duration::from_millis(1), domain: "UP".to_owned() }
}

/// One round, killed after `changes` changes. `None`: once more.
fn join(
    tray: &mut Tray,
    wanted: &Wanted,
    changes: usize,
    outcome: &Readiness,
) -> Result<Option<Begun>, Killed> {
    let mut program = Program { tray, left: changes, outcome: outcome.clone() };
    match prepare(&mut program, wanted)? {
        Prepared::Settled(begun) => Ok(Some(begun)),
        Prepared::Daemon { record, fresh } => {
            let readiness = program.wait_joined(&record, &wanted.guest);
            settle(&mut program, wanted, &record, fresh, readiness)
        }
    }
}

fn with_guests(jobs: &[u32]) -> Tray {
    let mut tray = Tray::default();
    for job in jobs {
        assert!(matches!(
            join(&mut tray, &wanted(*job), usize::MAX, &ready()),
            Ok(Some(Begun::Ready { .. }))
        ));
    }
    tray
}

fn never_ready() -> Readiness {
    Readiness::NotReady { last: "INIT_GPU".to_owned() }
}

fn refused() -> Readiness {
    Readiness::Refused { missing: vec![] }
}

#[test]
fn a_daemon_that_refuses_members_is_started_anew_unless_others_are_here() {
    let mut tray = Tray::default();
    assert_eq!(join(&mut tray, &wanted(1), usize::MAX, &refused()), Ok(None));
    assert!(tray.daemon.is_none() && tray.standing.is_none());
    assert!(matches!(join(&mut tray, &wanted(1), usize::MAX, &ready()), Ok(Some(Begun::Ready { .. }))));
    let mut tray = with_guests(&[7]);
    let daemon = tray.daemon;
    assert_eq!(join(&mut tray, &wanted(1), usize::MAX, &refused()), Ok(Some(Begun::NoDomain(refused()))));
    assert_eq!(tray.daemon, daemon);
}

#[test]
fn a_kill_at_any_step_leaves_what_the_epilog_and_the_next_guest_can_deal_with() {
    let outcomes = [
        ready(),
        never_ready(),
        Readiness::DaemonDied,
        refused(),
        Readiness::PeersMissing { missing: vec![], why: Missing::Late },
    ];
    for begun in [Tray::default(), with_guests(&[7]), Tray { daemon: None, ..with_guests(&[7]) }] {
        for outcome in &outcomes {
            for changes in 0..20 {
                let mut tray = begun.clone();
                let _killed = join(&mut tray, &wanted(1), changes, outcome);
                let mut epilog = Program { tray: &mut tray, left: usize::MAX, outcome: ready() };
                end(&mut epilog, JobId::new(1).unwrap(), Started { ticks: u64::MAX, nanos: 0 }).unwrap();
                assert!(!tray.channels.contains(&1) && !tray.guests.contains_key(&JobId::new(1).unwrap()));
                assert!(matches!(
                    join(&mut tray, &wanted(2), usize::MAX, &ready()),
                    Ok(Some(Begun::Ready { .. }))
                ));
                let mut other = Program { tray: &mut tray, left: usize::MAX, outcome: ready() };
                give_way(&mut other).unwrap();
                assert!(tray.standing.is_none() && tray.daemon.is_none() && !tray.files, "{tray:?}");
            }
        }
    }
}

#[test]
fn one_daemon_serves_all_guests_and_a_second_prolog_changes_nothing() {
    let mut tray = with_guests(&[1, 2]);
    assert_eq!((tray.daemons_started, tray.channels.len()), (1, 2));
    let before = tray.clone();
    join(&mut tray, &wanted(2), usize::MAX, &ready()).unwrap();
    assert_eq!(tray, before);
}

#[test]
fn a_daemon_that_does_not_serve_is_replaced_only_when_nobody_else_is_here() {
    let mut tray = with_guests(&[7]);
    assert_eq!(
        join(&mut tray, &wanted(1), usize::MAX, &never_ready()),
        Ok(Some(Begun::Failed(never_ready())))
    );
    assert!(tray.daemon.is_some());
    tray.guests.clear();
    tray.channels.clear();
    assert_eq!(join(&mut tray, &wanted(1), usize::MAX, &never_ready()), Ok(None));
    assert_eq!(tray.daemon, None);
    // The new one is not replaced again.
    assert_eq!(
        join(&mut tray, &wanted(1), usize::MAX, &never_ready()),
        Ok(Some(Begun::Failed(never_ready())))
    );
}

#[test]
fn other_members_wait_until_the_last_guest_has_gone() {
    let mut tray = with_guests(&[7]);
    let mut new = wanted(1);
    new.standing.members.pop();
    new.standing.own_index = 0;
    let occupied = join(&mut tray, &new, usize::MAX, &ready());
    assert_eq!(occupied, Ok(Some(Begun::Outdated(JobId::new(7).unwrap()))));
    tray.guests.clear();
    tray.channels.clear();
    assert!(matches!(join(&mut tray, &new, usize::MAX, &ready()), Ok(Some(Begun::Ready { .. }))));
    assert_eq!((tray.daemons_started, tray.standing.unwrap().members.len()), (2, 1));
}

#[test]
fn a_channel_is_one_jobs_alone() {
    let mut tray = with_guests(&[7]);
    let mut same = wanted(1);
    same.guest.channel = Some(Channel { number: 7, uid: 1001, gid: 100 });
    let before = tray.clone();
    assert_eq!(
        join(&mut tray, &same, usize::MAX, &ready()),
        Ok(Some(Begun::ChannelTaken(JobId::new(7).unwrap())))
    );
    assert_eq!(tray, before);
}

#[test]
fn leftovers_of_jobs_that_had_the_tray_alone_are_removed() {
    let mut tray = Tray::default();
    let own =
        Record { kind: Kind::Own, channel: Some(Channel { number: 0, uid: 1, gid: 1 }), ..wanted(9).guest };
    tray.guests.insert(own.job, own);
    tray.channels.insert(0);
    join(&mut tray, &wanted(1), usize::MAX, &ready()).unwrap();
    assert_eq!(tray.channels, BTreeSet::from([1]));
    assert_eq!(tray.guests.len(), 1);
}
