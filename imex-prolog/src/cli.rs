//! The programs' few arguments. slurmd gives none.
#![forbid(unsafe_code)]

use crate::config::{ConfigError, Settings};
use crate::ctl::is_program;
use crate::giving_up;
use crate::health::Ground;
use crate::helper::Helper;
use crate::job::Environment;
use crate::paths::Paths;
use crate::ports::LocalPorts;
use crate::procfs::Started;
use crate::resolve::system_lookup;
use crate::run::{self, Hook, Surroundings, run};
use crate::status::TrayStatus;
use crate::watch;
use fabric::names::{JobId, NodeName};
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
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
    Status(Form),
    Health,
    /// For ourselves only.
    Watch(JobId, Started),
    /// For ourselves only.
    EndJob(JobId),
    Refused(String),
}

/// For whom the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

fn parse(hook: Hook, arguments: &[OsString]) -> Request {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (hook, words.as_slice()) {
        (_, []) => Request::Run,
        (_, ["--help" | "-h"]) => Request::Help,
        (_, ["--version" | "-V"]) => Request::Version,
        (Hook::Prolog, ["check-config"]) => Request::CheckConfig,
        (Hook::Prolog, ["status"]) => Request::Status(Form::Text),
        (Hook::Prolog, ["status", "--json"]) => Request::Status(Form::Json),
        (Hook::Prolog, ["health"]) => Request::Health,
        (Hook::Prolog, [watch::WORD, job, prolog]) => match (job.parse(), serde_json::from_str(prolog)) {
            (Ok(job), Ok(prolog)) => Request::Watch(job, prolog),
            _ => Request::Refused(words.join(" ")),
        },
        (Hook::Prolog, [giving_up::WORD, job]) => {
            job.parse().map_or_else(|_| Request::Refused(words.join(" ")), Request::EndJob)
        }
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
             imex-prolog status [--json] print what runs on this node for which job\n  \
             imex-prolog health          say in one line why this node should take no jobs, and exit 1\n"
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
            let ports = LocalPorts::read(&paths.proc_dir);
            if let Some(words) = ports.and_then(|ports| ports.warning(settings.all_ports())) {
                let _infallible = writeln!(err, "warning: {words}");
            }
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

fn status(paths: &Paths, form: Form) -> Answer {
    let settings = Settings::load(&paths.settings).unwrap_or_default();
    let program = settings.daemon.program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let text = TrayStatus::read(paths, program).and_then(|status| match form {
        Form::Text => Ok(status.to_text()),
        Form::Json => status.to_json(),
    });
    match text {
        Ok(text) => Answer::out(text),
        Err(error) => {
            let report = fabric::report::Report::of_error(fabric::report::Blame::Node, &error);
            Answer::err(format!("{report}\nhint: run it as root\n"), USAGE)
        }
    }
}

/// The reason on standard output, since that is what slurmd logs; warnings on standard error.
fn health(ground: &Ground) -> Answer {
    let health = crate::health::check(ground);
    let err = health.warnings.iter().map(|line| format!("warning: {line}\n")).collect();
    match health.reason() {
        Some(reason) => Answer { out: format!("{reason}\n"), err, code: PROBLEMS },
        None => Answer { out: format!("ok: {}\n", health.summary.join(", ")), err, code: 0 },
    }
}

/// slurmd tells the node's name (Slurm 26.05.3 src/slurmd/slurmd/slurmd.c, `run_script_health_check`) and not where its
/// configuration is; by hand neither is known.
fn health_ground(paths: Paths) -> Ground {
    const PLACES: [&str; 2] = ["/run/slurm/conf/slurm.conf", "/etc/slurm/slurm.conf"];
    let environment = std::env::vars_os().collect::<Environment>();
    let place = PLACES.iter().map(PathBuf::from).find(|path| path.exists());
    let host = std::fs::read_to_string(paths.proc_dir.join("sys/kernel/hostname")).ok();
    let short = host.and_then(|name| NodeName::new(name.trim().split('.').next().unwrap_or_default()).ok());
    Ground {
        paths,
        node: environment.node().or(short),
        conf: environment.conf().ok().or(place).unwrap_or_else(|| PathBuf::from(PLACES[1])),
        read_tray: fabric::nvml::read_tray,
    }
}

fn as_slurmd_runs_it(hook: Hook, paths: Paths) -> ExitCode {
    crate::log::init(&paths, name(hook));
    let surroundings = Surroundings {
        paths,
        environment: std::env::vars_os().collect::<Environment>(),
        read_tray: fabric::nvml::read_tray,
        lookup: system_lookup,
        helper: Helper::own(),
    };
    ExitCode::from(run(hook, &surroundings).exit_code())
}

fn watch_run(paths: &Paths, job: JobId, prolog: Started) -> ExitCode {
    crate::log::init(paths, "imex-prolog");
    match run::watch(paths, job, prolog, std::io::stdin()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::warn!(%job, %error, "the IMEX daemon is not watched any more");
            ExitCode::from(PROBLEMS)
        }
    }
}

fn end_job(paths: &Paths, job: JobId) -> ExitCode {
    crate::log::init(paths, "imex-prolog");
    let conf = std::env::var_os("SLURM_CONF").unwrap_or_default();
    let done = run::end_job(paths, job, conf.as_ref(), std::io::stdout());
    ExitCode::from(if done { 0 } else { PROBLEMS })
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
        Request::Status(form) => status(&paths, form).print(),
        Request::Watch(job, prolog) => watch_run(&paths, job, prolog),
        Request::EndJob(job) => end_job(&paths, job),
        Request::Health => health(&health_ground(paths)).print(),
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
