//! Child programs: their output read line by line, under a deadline.
//!
//! A child that outlives its deadline is killed with everything that descends from it. Children stay in the process
//! group of the terminal, so an interrupt from the keyboard reaches them as well.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often the loop looks whether the child has ended, and how long output may trail behind its end.
const POLL: Duration = Duration::from_millis(50);
const TRAIL: Duration = Duration::from_secs(1);

/// Who watches a child.
pub(crate) trait Watch {
    /// A line of its stdout or stderr, without the line's end.
    fn line(&mut self, line: &str);

    /// It lives and has said nothing for a moment.
    fn quiet(&mut self) {}

    /// Whether it is to be ended before it ends by itself.
    fn has_enough(&self) -> bool {
        false
    }
}

/// Runs `command`, hands each line of its stdout and stderr (in the order written) to `watch`, and writes all of it
/// to `log`. Standard input is empty.
///
/// # Errors
/// When the command cannot be started, the log cannot be written, `limit` has passed, or the watch has enough; then the
/// child and its descendants are killed first.
pub(crate) fn run(
    command: &mut Command,
    log: &Path,
    limit: Duration,
    watch: &mut dyn Watch,
) -> Result<ExitStatus> {
    let shown = show(command);
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut log_file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open the log {}", log.display()))?;
    writeln!(log_file, "$ {shown}")?;

    let started = Instant::now();
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("start `{shown}`"))?;
    // The command holds the writing end of the pipe; while it lives, the reader would never see the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });

    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => {
                writeln!(log_file, "{line}")?;
                watch.line(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => watch.quiet(),
        }
        match ended {
            None => {
                ended = child.try_wait().context("wait for a child")?.map(|status| (status, Instant::now()))
            }
            // Something that the child left behind holds the pipe open.
            Some((_, at)) if at.elapsed() > TRAIL => break,
            Some(_) => {}
        }
        if ended.is_none() && watch.has_enough() {
            kill_with_descendants(&mut child);
            bail!("`{shown}` was stopped: it is wanted no longer");
        }
        if ended.is_none() && started.elapsed() > limit {
            kill_with_descendants(&mut child);
            bail!("`{shown}` was stopped after {} s, its time limit", limit.as_secs());
        }
    }
    match ended {
        Some((status, _)) => Ok(status),
        None => child.wait().context("wait for a child"),
    }
}

/// The command as a person would type it; of a script only that there is one.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    words
        .map(|word| if word.contains('\n') { "<script>".to_owned() } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

fn kill_with_descendants(child: &mut Child) {
    let mut doomed = vec![child.id()];
    let mut next = 0;
    while let Some(&parent) = doomed.get(next) {
        doomed.extend(children_of(parent));
        next += 1;
    }
    for pid in doomed {
        if let Ok(pid) = i32::try_from(pid) {
            // A process that has ended meanwhile is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = child.wait();
}

fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces and parentheses: count from the last one.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines(Vec<String>);

    impl Watch for Lines {
        fn line(&mut self, line: &str) {
            self.0.push(line.to_owned());
        }
    }

    /// Runs shell text; returns how it ended, its lines, and the log.
    fn shell(text: &str, limit: Duration) -> (Result<ExitStatus>, Vec<String>, String) {
        let log = std::env::temp_dir().join(format!("xtask-child-{}-{}", std::process::id(), text.len()));
        let mut lines = Lines::default();
        let status = run(Command::new("sh").args(["-c", text]), &log, limit, &mut lines);
        let logged = fs::read_to_string(&log).unwrap();
        fs::remove_file(log).unwrap();
        (status, lines.0, logged)
    }

    #[test]
    fn both_streams_arrive_in_the_order_written_and_in_the_log() {
        let (status, lines, log) = shell("echo a; echo b >&2; echo c; exit 3", Duration::from_secs(20));
        assert_eq!(status.unwrap().code(), Some(3));
        assert_eq!(lines, ["a", "b", "c"]);
        assert_eq!(log, "$ sh -c echo a; echo b >&2; echo c; exit 3\na\nb\nc\n");
    }

    #[test]
    fn a_child_over_its_deadline_dies_with_its_descendants() {
        let (status, lines, _) = shell("sleep 600 & echo $!; wait", Duration::from_millis(300));
        assert!(status.unwrap_err().to_string().contains("its time limit"));
        // The signal is on its way; afterwards the grandchild is gone, or a zombie of pid 1 for a moment.
        ::tests::wait_for("the grandchild has ended", Duration::from_secs(20), || {
            let state = fs::read_to_string(format!("/proc/{}/stat", lines[0])).unwrap_or_default();
            Ok(if state.is_empty() || state.contains(") Z ") { Ok(()) } else { Err(state) })
        })
        .unwrap();
    }

    #[test]
    fn a_child_is_ended_when_its_watch_has_enough() {
        struct Once(bool);
        impl Watch for Once {
            fn line(&mut self, _: &str) {
                self.0 = true;
            }
            fn has_enough(&self) -> bool {
                self.0
            }
        }
        let log = std::env::temp_dir().join(format!("xtask-child-{}-enough", std::process::id()));
        let mut shell = Command::new("sh");
        let ran =
            run(shell.args(["-c", "echo a; sleep 600"]), &log, Duration::from_secs(60), &mut Once(false));
        assert!(ran.unwrap_err().to_string().contains("wanted no longer"));
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_process_left_behind_does_not_hold_us_up() {
        let started = Instant::now();
        shell("sleep 20 & exit 0", Duration::from_secs(30)).0.unwrap();
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
}
