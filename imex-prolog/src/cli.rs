//! The programs' few arguments. slurmd gives none.
#![forbid(unsafe_code)]

use crate::config::{ConfigError, Settings};
use crate::ctl::is_program;
use crate::job::Environment;
use crate::lifecycle::{Stored, World};
use crate::paths::Paths;
use crate::procfs::Proc;
use crate::resolve::system_lookup;
use crate::run::{Hook, Surroundings, run};
use crate::secure_fs::Dir;
use std::ffi::OsString;
use std::fmt::Write;
use std::process::ExitCode;

/// Exit code of a command that found problems.
const PROBLEMS: u8 = 1;
/// Exit code of a command that could not be done.
const USAGE: u8 = 2;

/// What the arguments ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    Run,
    Help,
    Version,
    CheckConfig,
    Status,
    Refused(String),
}

fn parse(hook: Hook, arguments: &[OsString]) -> Request {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (hook, words.as_slice()) {
        (_, []) => Request::Run,
        (_, ["--help" | "-h"]) => Request::Help,
        (_, ["--version" | "-V"]) => Request::Version,
        (Hook::Prolog, ["check-config"]) => Request::CheckConfig,
        (Hook::Prolog, ["status"]) => Request::Status,
        (_, other) => Request::Refused(other.join(" ")),
    }
}

fn name(hook: Hook) -> &'static str {
    match hook {
        Hook::Prolog => "imex-prolog",
        Hook::Epilog => "imex-epilog",
    }
}

fn help(hook: Hook) -> String {
    let name = name(hook);
    let purpose = match hook {
        Hook::Prolog => {
            "Brings up a job's IMEX domain on this node. Run by slurmd as Prolog with PrologFlags=Alloc."
        }
        Hook::Epilog => "Takes down a job's IMEX domain on this node. Run by slurmd as Epilog.",
    };
    let commands = match hook {
        Hook::Prolog => {
            "  imex-prolog check-config    print the effective settings, or every fault in them\n  \
             imex-prolog status          print what runs on this node for which job\n"
        }
        Hook::Epilog => "",
    };
    format!(
        "{purpose}\n\nUsage:\n  {name}                 as slurmd runs it, with Slurm's environment\n{commands}  \
         {name} --help\n  {name} --version\n\nSettings: /etc/slurm-nvlink/imex.toml. Log: /var/log/slurm-nvlink/imex.log.\n\
         Exit: 0 unless this node itself is at fault (1); wrong arguments 2.\n"
    )
}

/// A text for standard output or error, and an exit code.
struct Answer {
    out: String,
    err: String,
    code: u8,
}

impl Answer {
    fn out(out: String) -> Self {
        Self { out, err: String::new(), code: 0 }
    }

    fn err(err: String, code: u8) -> Self {
        Self { out: String::new(), err, code }
    }

    fn print(&self) -> ExitCode {
        use std::io::Write;
        // A reader that has gone is no fault of ours.
        let _reader_gone = std::io::stdout().write_all(self.out.as_bytes());
        let _reader_gone = std::io::stderr().write_all(self.err.as_bytes());
        ExitCode::from(self.code)
    }
}

fn check_config(paths: &Paths) -> Answer {
    match Settings::load(&paths.settings) {
        Ok(settings) => {
            let mut err = String::new();
            for program in [&settings.daemon.program, &settings.daemon.control] {
                if !is_program(program) {
                    // Writing to a String cannot fail.
                    let _infallible =
                        writeln!(err, "{} is not an executable file on this node", program.display());
                }
            }
            let code = if err.is_empty() { 0 } else { PROBLEMS };
            Answer { out: settings.to_text(), err, code }
        }
        Err(ConfigError::Faults { path, faults }) => {
            let lines: String = faults.iter().map(|fault| format!("{}: {fault}\n", path.display())).collect();
            Answer::err(lines, PROBLEMS)
        }
        Err(error) => {
            let report = fabric::report::Report::of_error(fabric::report::Blame::Config, &error);
            Answer::err(format!("{report}\n"), PROBLEMS)
        }
    }
}

fn status(paths: &Paths) -> Answer {
    match status_text(paths) {
        Ok(text) => Answer::out(text),
        Err(error) => {
            let report = fabric::report::Report::of_error(fabric::report::Blame::Node, error.as_ref());
            Answer::err(format!("{report}\nhint: run it as root\n"), USAGE)
        }
    }
}

fn status_text(paths: &Paths) -> Result<String, Box<dyn std::error::Error>> {
    const NOTHING: &str = "no job has an IMEX domain on this node\n";
    if !paths.run_dir.exists() {
        return Ok(NOTHING.to_owned());
    }
    let proc = Proc::new(&paths.proc_dir);
    let owner = crate::daemon::DirectOwner::new(proc.clone(), Dir::open(&paths.run_dir)?);
    let mut tray = crate::tray::Tray {
        paths: paths.clone(),
        state: Dir::open(&paths.run_dir)?,
        settings: Settings::default(),
        owner,
        boot: proc.boot_id()?,
        budget: crate::deadline::Deadline::after(std::time::Duration::ZERO),
    };
    let mut text = String::new();
    for job in tray.jobs()? {
        match tray.load(job)? {
            Stored::Record(record) => {
                let daemon = match record.daemon {
                    Some(process) if tray.is_daemon_alive(&record)? => format!("daemon {} runs", process.pid),
                    Some(process) => format!("daemon {} is gone", process.pid),
                    None => "no daemon yet".to_owned(),
                };
                text.push_str(&describe(&record, &daemon));
            }
            Stored::Damaged(why) => text.push_str(&format!("job {job}: record cannot be read: {why}\n")),
            Stored::FilesOnly => text.push_str(&format!("job {job}: files without a record\n")),
            Stored::Nothing => {}
        }
    }
    Ok(if text.is_empty() { NOTHING.to_owned() } else { text })
}

fn describe(record: &crate::record::Record, daemon: &str) -> String {
    let state = match record.state {
        crate::record::State::Starting => "starting",
        crate::record::State::Ready => "ready",
        crate::record::State::NoDomain => "without a domain, a member was missing",
        crate::record::State::Stopping => "being taken down",
    };
    let channel = record
        .channel
        .map_or_else(|| "Slurm's channel".to_owned(), |channel| format!("channel {}", channel.number));
    let mut text = format!("job {}: {state}; block {}, {daemon}, {channel}\n", record.job, record.block);
    if let Some(note) = &record.note {
        text.push_str(&format!("  note: {note}\n"));
    }
    for (index, member) in record.members.iter().enumerate() {
        let own = if index == record.own_index { " (this node)" } else { "" };
        text.push_str(&format!("  member {index}: {} {}{own}\n", member.node, member.address));
    }
    text
}

fn as_slurmd_runs_it(hook: Hook, paths: Paths) -> ExitCode {
    crate::log::init(&paths);
    let surroundings = Surroundings {
        paths,
        environment: std::env::vars_os().collect::<Environment>(),
        read_tray: fabric::nvml::read_tray,
        lookup: system_lookup,
    };
    ExitCode::from(run(hook, &surroundings).exit_code())
}

/// All of `imex-prolog` and `imex-epilog`.
#[must_use]
pub fn main(hook: Hook) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let paths = Paths::system();
    match parse(hook, &arguments) {
        Request::Run => as_slurmd_runs_it(hook, paths),
        Request::Help => Answer::out(help(hook)).print(),
        Request::Version => Answer::out(format!("{} {}\n", name(hook), env!("CARGO_PKG_VERSION"))).print(),
        Request::CheckConfig => check_config(&paths).print(),
        Request::Status => status(&paths).print(),
        Request::Refused(words) => {
            let name = name(hook);
            Answer::err(
                format!("{name}: unknown arguments: {words}\n{name} --help shows what there is\n"),
                USAGE,
            )
            .print()
        }
    }
}

#[cfg(test)]
mod tests;
