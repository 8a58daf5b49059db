//! Measures where the members of Slurm's records lie in the installed build, and writes that down for the plugin.
//!
//! ```text
//! this process   finds the build, judges the result, writes the file     never touches a record of Slurm
//!   measuring    loads Slurm and its own topology plugins                may be ended by them: nothing is written then
//!     trials     one for each place that a member could have             most of them crash; that is no answer
//! ```
//! Unsafe code is in `slurm`, `memory`, `trial` and `stand_in` only.

mod file;
mod install;
mod log_options;
mod measure;
mod memory;
mod question;
mod slurm;
mod stand_in;
mod trial;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use topology_block::abi::SLURM_VERSION_NUMBER;
use topology_block::abi::confirmation::{self, Confirmation, Void, hex, release};
use topology_block::abi::layout::{self, MEMBERS};

const USAGE: &str = "\
Measures where the members of Slurm's records lie in the installed build of Slurm, and confirms that to the plugin.

Usage: slurm-nvlink-confirm [OPTIONS]

Options:
      --plugins DIR  folder of Slurm's own plugins and libslurmfull.so (found by itself where slurmctld, slurmd or
                     scontrol is installed)
      --folder DIR   where to write [default: /var/lib/slurm-nvlink/layout, the only place where the plugin looks]
      --dry-run      measure and compare, write nothing
  -h, --help         this text
  -V, --version      version, and the release of Slurm that the plugin is for

Exit code: 0 confirmed, 1 not confirmed (Slurm goes on with its own topology/block), 2 wrong usage.
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Text(String),
    Confirmation(Options),
}

/// How the layout is to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    plugins: Option<PathBuf>,
    folder: PathBuf,
    dry_run: bool,
    measure: bool,
}

/// Why nothing is confirmed.
#[derive(Debug)]
enum Failure {
    NoSlurm(install::NotFound),
    Start(std::io::Error),
    Crashed(std::process::ExitStatus),
    NotMeasured,
    Unreadable(Option<Void>),
    Disagrees { name: &'static str, members: Vec<String> },
    Write(file::WriteError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlurm(why) => write!(f, "{why}"),
            Self::Start(source) => write!(f, "the measuring process cannot be started: {source}"),
            Self::Crashed(status) => write!(f, "Slurm's own code ended the measuring process ({status})"),
            Self::NotMeasured => write!(f, "the layout could not be measured; the reason is above"),
            Self::Unreadable(Some(void)) => write!(f, "the measuring process gave a text of which {void}"),
            Self::Unreadable(None) => write!(f, "the measuring process gave no build id"),
            Self::Disagrees { name, members } => write!(
                f,
                "the measured layout is not that of the known build {name}: {}; one of the two is wrong",
                members.join(", ")
            ),
            Self::Write(error) => write!(f, "{error}"),
        }
    }
}

fn main() -> ExitCode {
    let options = match parse(std::env::args_os().skip(1)) {
        Ok(Asked::Confirmation(options)) => options,
        Ok(Asked::Text(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("slurm-nvlink-confirm: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.measure {
        return measure::main(options.plugins.as_deref().unwrap_or(Path::new(".")));
    }
    match confirm(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("slurm-nvlink-confirm: {failure}");
            eprintln!(
                "slurm-nvlink-confirm: nothing was written; without a confirmation Slurm runs its own topology/block"
            );
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let mut options =
        Options { plugins: None, folder: confirmation::FOLDER.into(), dry_run: false, measure: false };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut folder = || {
            arguments
                .next()
                .map(PathBuf::from)
                .ok_or_else(|| format!("{} needs a folder", argument.display()))
        };
        match argument.to_str() {
            Some("--plugins") => options.plugins = Some(folder()?),
            Some("--folder") => options.folder = folder()?,
            Some("--dry-run") => options.dry_run = true,
            Some("--measure") => options.measure = true,
            Some("-h" | "--help") => return Ok(Asked::Text(USAGE.to_owned())),
            Some("-V" | "--version") => return Ok(Asked::Text(version())),
            _ => return Err(format!("what is {}?", argument.display())),
        }
    }
    Ok(Asked::Confirmation(options))
}

fn version() -> String {
    format!(
        "slurm-nvlink-confirm {} for Slurm {}\n",
        env!("CARGO_PKG_VERSION"),
        release(SLURM_VERSION_NUMBER)
    )
}

fn confirm(options: &Options) -> Result<(), Failure> {
    let plugins = match &options.plugins {
        Some(given) => given.clone(),
        None => install::plugin_folder().map_err(Failure::NoSlurm)?,
    };
    let measured = measured(&plugins)?;
    println!(
        "Slurm {}, {}, build id {}",
        release(SLURM_VERSION_NUMBER),
        plugins.join("libslurmfull.so").display(),
        hex(&measured.build_id)
    );
    for member in MEMBERS {
        println!("{:24}{:5}  {}", member.name, (member.of)(&measured.layout), measure::proof(member.name));
    }
    match layout::of_build(&measured.build_id) {
        Some(known) if known.layout == measured.layout => {
            println!("the known build {} has the same layout", known.name)
        }
        Some(known) => {
            let differ =
                |member: &&layout::Member| (member.of)(&known.layout) != (member.of)(&measured.layout);
            let members = MEMBERS.iter().filter(differ);
            let members = members.map(|m| format!("{} at {} there", m.name, (m.of)(&known.layout))).collect();
            return Err(Failure::Disagrees { name: known.name, members });
        }
        None => println!("this build is not among the known ones"),
    }
    if options.dry_run {
        println!("nothing was written (--dry-run)");
    } else {
        let place = file::write(&options.folder, &measured).map_err(Failure::Write)?;
        println!("confirmed: {}", place.display());
    }
    Ok(())
}

/// Has another process measure the layout.
fn measured(plugins: &Path) -> Result<Confirmation, Failure> {
    let ourselves = std::env::current_exe().map_err(Failure::Start)?;
    let output = Command::new(ourselves)
        .args(["--measure".as_ref(), "--plugins".as_ref(), plugins.as_os_str()])
        // Before the C library, as in Slurm's own programs: both have a function error().
        .env("LD_PRELOAD", plugins.join("libslurmfull.so"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(Failure::Start)?;
    match output.status.code() {
        Some(0) => {}
        Some(measure::NOT_MEASURED) => return Err(Failure::NotMeasured),
        _ => return Err(Failure::Crashed(output.status)),
    }
    let build_id = build_id_in(&output.stdout).ok_or(Failure::Unreadable(None))?;
    Confirmation::parse(&output.stdout, SLURM_VERSION_NUMBER, &build_id)
        .map_err(|void| Failure::Unreadable(Some(void)))
}

/// The build id that a confirmation's text names.
fn build_id_in(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.lines().find_map(|line| line.strip_prefix("build-id "))?;
    let pair = |i: usize| digits.get(i..i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Asked, String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_understood_or_explained() {
        let Ok(Asked::Confirmation(options)) = parsed(&["--plugins", "/p", "--dry-run"]) else { panic!() };
        assert_eq!(options.plugins.as_deref(), Some(Path::new("/p")));
        assert!(options.dry_run && !options.measure);
        assert_eq!(options.folder, Path::new("/var/lib/slurm-nvlink/layout"));
        assert_eq!(parsed(&["--help"]), Ok(Asked::Text(USAGE.to_owned())));
        let Ok(Asked::Text(version)) = parsed(&["-V"]) else { panic!() };
        let numbers = version
            .strip_prefix("slurm-nvlink-confirm ")
            .and_then(|rest| rest.trim().split_once(" for Slurm "));
        let is_version = |text: &str| text.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3;
        assert!(numbers.is_some_and(|(ours, slurm)| is_version(ours) && is_version(slurm)), "{version}");
        assert_eq!(parsed(&["--folder"]), Err("--folder needs a folder".to_owned()));
        assert_eq!(parsed(&["x"]), Err("what is x?".to_owned()));
    }

    #[test]
    fn a_crash_of_the_measuring_process_is_told() {
        let status = std::os::unix::process::ExitStatusExt::from_raw(libc::SIGSEGV);
        let words = Failure::Crashed(status).to_string();
        assert!(words.starts_with("Slurm's own code ended the measuring process (signal: 11"), "{words}");
    }

    #[test]
    fn the_build_id_is_taken_from_the_text() {
        assert_eq!(build_id_in(b"a\nbuild-id 0aff\nb"), Some(vec![0x0a, 0xff]));
        assert_eq!(build_id_in(b"build-id 0af"), None);
        assert_eq!(build_id_in(b"build-id xy"), None);
        assert_eq!(build_id_in(b""), None);
    }
}
