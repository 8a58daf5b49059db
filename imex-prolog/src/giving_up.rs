//! After a domain was given up for a peer's sake: the job must not run without it.
//!
//! Failing this prolog would drain a healthy tray, and ending it well would let Slurm start the job. So it goes on
//! until Slurm ends the job, which it does by itself when the peer's prolog has failed. Where that does not come,
//! because the peer cannot even fail, one member asks Slurm to put the job back, as Slurm itself does after a failed
//! prolog: requeued and held, or cancelled if it cannot be requeued. That is the only request to slurmctld that a
//! prolog ever makes.
//!
//! A process of its own makes it and goes on when no answer comes before the prolog must end. A slurmd that is told to reconfigure
//! waits for its prologs and meanwhile gives nobody the credential that each command of Slurm begins with (`auth/slurm`, Slurm
//! 26.05.3 src/slurmd/slurmd/slurmd.c, `_try_to_reconfig`): the request is heard as soon as the prolog has ended. A command that is
//! killed while it waits for its credential may take slurmd with it: the new slurmd writes to it and gets SIGPIPE (seen on Slurm
//! 26.05.5), for which it has no handler in its first moments. One slurmd of eight was gone then, without a word.
#![forbid(unsafe_code)]

use crate::call::Call;
use crate::config::Slurm;
use crate::ctl::quote;
use crate::deadline::Deadline;
use crate::helper::Helper;
use fabric::names::JobId;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// Slurm's own end of the job takes well below a second after a peer's failure.
const ASK_AFTER: Duration = Duration::from_secs(3);
/// How much later each further member asks, in case the first one cannot, and when one that was refused asks again: a slurmd that has
/// just been started has no socket for credentials yet.
const ASK_NEXT: Duration = Duration::from_secs(2);
/// Members that ask.
const ASKING_MAX: u32 = 4;
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a request stands: a slurmd that waits for this prolog is back within a second of its end, one that waits for another
/// prolog or epilog later.
const STANDS: Duration = Duration::from_secs(60);
/// What the process that asks is called among the program's arguments.
pub const WORD: &str = "end-job";

/// What became of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Slurm has ended this run of it.
    Ended,
    /// Slurm has ended it at this tray's request; what was done, in words.
    EndedOnRequest(String),
    /// Slurm has not answered yet; the request stands.
    AskedFor,
    /// It goes on; why, in words.
    GoesOn(String),
}

/// What giving up needs of the tray.
pub trait Site {
    /// Time since the domain was given up.
    fn elapsed(&self) -> Duration;
    /// Time that is left.
    fn remaining(&self) -> Duration;
    /// Pauses.
    fn pause(&mut self);
    /// Whether Slurm is ending this run of the job.
    fn has_ended(&mut self) -> bool;
    /// Asks Slurm to end it; what was done, or `None`: no answer yet, and the request stands.
    ///
    /// # Errors
    /// Why nothing was done, in words.
    fn ask(&mut self) -> Result<Option<String>, String>;
}

/// Waits until Slurm ends the job, and asks for it in turn, again and again while that is refused. `rank` is this tray's place among
/// those that are not missing; `None`: it must not ask.
pub fn wait_for_end(site: &mut impl Site, rank: Option<usize>) -> Fate {
    let mut turn =
        rank.map(|rank| ASK_AFTER + ASK_NEXT * u32::try_from(rank).unwrap_or(u32::MAX).min(ASKING_MAX));
    let mut asked = None;
    loop {
        if site.has_ended() {
            return asked.and_then(Result::ok).flatten().map_or(Fate::Ended, Fate::EndedOnRequest);
        }
        let is_due = |turn| match &asked {
            None => site.elapsed() >= turn || site.remaining() < ASK_NEXT,
            // Not with so little time that an answer would come too late to be told.
            Some(Err(_)) => site.elapsed() >= turn && site.remaining() >= ASK_NEXT,
            Some(Ok(_)) => false,
        };
        if turn.is_some_and(is_due) {
            asked = Some(site.ask());
            turn = Some(site.elapsed() + ASK_NEXT);
        }
        if site.remaining().is_zero() {
            return match asked {
                Some(Ok(None)) => Fate::AskedFor,
                Some(Err(why)) => Fate::GoesOn(why),
                Some(Ok(Some(_))) | None => Fate::GoesOn("Slurm did not end it in time".to_owned()),
            };
        }
        site.pause();
    }
}

/// Has a process of its own ask Slurm to end the job ([`ask_slurm`]), with that `slurm.conf`; what was done, or `None`: no answer
/// by then, and the request stands for a minute.
///
/// # Errors
/// Why nothing was done, in words.
pub fn ask(helper: &Helper, conf: &Path, job: JobId, deadline: Deadline) -> Result<Option<String>, String> {
    let mut command = helper.command([WORD, &job.to_string()]);
    command.env("SLURM_CONF", conf);
    let call = Call::of(command).and_then(|call| call.finish_or_leave(deadline.within(ANSWER)));
    match call.map_err(|error| error.to_string())? {
        Some(answer) if answer.success => Ok(Some(answer.text.trim().to_owned())),
        Some(answer) if answer.text.is_empty() => Err(answer.status),
        Some(answer) => Err(answer.text.trim().to_owned()),
        None => Ok(None),
    }
}

/// Asks Slurm's commands to end the job; what was done, in words.
///
/// # Errors
/// What they said.
pub fn ask_slurm(slurm: &Slurm, conf: &Path, job: JobId) -> Result<String, String> {
    let deadline = Deadline::after(STANDS);
    let run = |program: &Path, arguments: &[&str]| -> Result<(), String> {
        let told = |why: String| format!("{} {}: {why}", program.display(), arguments.join(" "));
        let environment = [(OsStr::new("SLURM_CONF"), conf.as_os_str())];
        let call = Call::start_in(program, arguments, environment);
        match call.and_then(|call| call.finish(deadline)) {
            Ok(Some(answer)) if answer.success => Ok(()),
            Ok(Some(answer)) => Err(told(format!("{} ({})", quote(&answer.text), answer.status))),
            Ok(None) => Err(told("no answer in time".to_owned())),
            Err(error) => Err(told(error.to_string())),
        }
    };
    let id = job.to_string();
    // "Incomplete" leaves a job alone that has ended or has been put back meanwhile: without it a cancelled job would
    // come back, and of two members that ask at once the second would cancel what the first one has put back.
    let requeue = || run(&slurm.scontrol, &["requeuehold", "Incomplete", &id]);
    // A command that had to wait for its credential finds that slurmctld has closed its connection meanwhile.
    match requeue().or_else(|_| requeue()) {
        Ok(()) => Ok("requeued and held it".to_owned()),
        Err(requeue) => match run(&slurm.scancel, &[&id]) {
            Ok(()) => Ok(format!("told Slurm to cancel it, as it was not requeued: {requeue}")),
            Err(cancel) => Err(format!("{requeue}; {cancel}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Pauses;
    use std::os::unix::fs::PermissionsExt;

    struct Script {
        now: u64,
        ends_at: u64,
        answer: Result<Option<&'static str>, String>,
        asked_at: Vec<u64>,
    }

    impl Site for Script {
        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.now)
        }
        fn remaining(&self) -> Duration {
            Duration::from_secs(15_u64.saturating_sub(self.now))
        }
        fn pause(&mut self) {
            self.now += 1;
        }
        fn has_ended(&mut self) -> bool {
            self.now >= self.ends_at
        }
        fn ask(&mut self) -> Result<Option<String>, String> {
            self.asked_at.push(self.now);
            self.answer.clone().map(|what| what.map(str::to_owned))
        }
    }

    fn wait(
        ends_at: u64,
        answer: Result<Option<&'static str>, String>,
        rank: Option<usize>,
    ) -> (Fate, Vec<u64>) {
        let mut script = Script { now: 0, ends_at, answer, asked_at: Vec::new() };
        (wait_for_end(&mut script, rank), script.asked_at)
    }

    #[test]
    fn nobody_asks_when_slurm_ends_the_job_by_itself() {
        assert_eq!(wait(2, Ok(Some("x")), Some(0)), (Fate::Ended, vec![]));
        assert_eq!(wait(0, Ok(Some("x")), Some(0)), (Fate::Ended, vec![]));
    }

    #[test]
    fn each_asks_once_in_its_turn() {
        assert_eq!(wait(6, Ok(Some("x")), Some(0)), (Fate::EndedOnRequest("x".to_owned()), vec![3]));
        assert_eq!(wait(8, Ok(Some("x")), Some(2)), (Fate::EndedOnRequest("x".to_owned()), vec![7]));
        assert_eq!(wait(8, Ok(Some("x")), Some(9)), (Fate::Ended, vec![]));
        assert_eq!(wait(12, Ok(Some("x")), Some(999)).1, [11]);
    }

    #[test]
    fn a_job_that_cannot_be_ended_goes_on_and_it_is_said_why() {
        let refused = || Err("no".to_owned());
        assert_eq!(wait(99, refused(), Some(0)), (Fate::GoesOn("no".to_owned()), vec![3, 5, 7, 9, 11, 13]));
        assert_eq!(wait(99, refused(), Some(999)), (Fate::GoesOn("no".to_owned()), vec![11, 13]));
        // Another member was heard.
        assert_eq!(wait(6, refused(), Some(0)), (Fate::Ended, vec![3, 5]));
        let late = Fate::GoesOn("Slurm did not end it in time".to_owned());
        assert_eq!(wait(99, Ok(Some("x")), Some(0)), (late.clone(), vec![3]));
        assert_eq!(wait(99, Ok(Some("x")), None), (late, vec![]));
    }

    #[test]
    fn a_request_without_an_answer_stands() {
        assert_eq!(wait(99, Ok(None), Some(0)), (Fate::AskedFor, vec![3]));
        assert_eq!(wait(9, Ok(None), Some(0)), (Fate::Ended, vec![3]));
    }

    #[test]
    fn the_process_that_asks_is_heard_or_its_request_stands() {
        let ask_within = |script: &str, time| {
            let arguments = ["-c", script, "sh"].map(Into::into).to_vec();
            let helper = Helper { program: "/bin/sh".into(), arguments };
            ask(&helper, Path::new("/etc/x.conf"), JobId::new(17).unwrap(), Deadline::after(time))
        };
        let enough = Duration::from_secs(20);
        let words = ask_within("echo \"$SLURM_CONF $*\"", enough);
        assert_eq!(words, Ok(Some("/etc/x.conf end-job 17".to_owned())));
        assert_eq!(ask_within("echo no; exit 1", enough), Err("no".to_owned()));
        assert_eq!(ask_within("exit 3", enough), Err("exit status: 3".to_owned()));
        let temp = tempfile::tempdir().unwrap();
        let (go, went) = (temp.path().join("go"), temp.path().join("went"));
        let waits = format!("until [ -e {} ]; do sleep 0.01; done; touch {}", go.display(), went.display());
        assert_eq!(ask_within(&waits, Duration::from_millis(50)), Ok(None));
        // It goes on although nobody reads its answer.
        std::fs::write(go, "").unwrap();
        let end = Deadline::after(enough);
        let mut pauses = Pauses::new(Duration::from_millis(5), Duration::from_millis(50));
        while !went.exists() && !end.has_passed() {
            pauses.pause(end);
        }
        assert!(went.exists());
    }

    #[test]
    fn a_job_that_cannot_be_requeued_is_cancelled() {
        let temp = tempfile::tempdir().unwrap();
        let script = |name: &str, body: &str| {
            let path = temp.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let right = "[ \"$SLURM_CONF $*\" = \"/etc/x.conf requeuehold Incomplete 17\" ]";
        let slurm = |scontrol: &str, scancel: &str| Slurm {
            scontrol: script("scontrol", scontrol),
            scancel: script("scancel", scancel),
            ..Slurm::default()
        };
        let ask = |slurm: &Slurm| {
            let job = JobId::new(17).unwrap();
            ask_slurm(slurm, Path::new("/etc/x.conf"), job)
        };
        assert_eq!(ask(&slurm(right, "exit 1")).unwrap(), "requeued and held it");
        let second = format!(
            "{right} && {{ [ -e {0} ] || {{ touch {0}; exit 1; }}; }}",
            temp.path().join("first").display()
        );
        assert_eq!(ask(&slurm(&second, "exit 1")).unwrap(), "requeued and held it");
        let cancelled = ask(&slurm("echo Batch only >&2; exit 1", "[ \"$*\" = 17 ]")).unwrap();
        assert!(cancelled.starts_with("told Slurm to cancel it, as it was not requeued: "), "{cancelled}");
        assert!(
            cancelled.ends_with("scontrol requeuehold Incomplete 17: \"Batch only\" (exit status: 1)"),
            "{cancelled}"
        );
        let why = ask(&slurm("exit 1", "echo Unable to contact slurm controller; exit 1")).unwrap_err();
        assert!(why.contains("scancel 17: \"Unable to contact slurm controller\""), "{why}");
    }
}
