//! The least that any prolog can do for an IMEX domain: starts a daemon whose files lie ready, waits without pauses worth
//! mentioning until it is connected to all others, and nothing else. No checks, no records, no cleaning up after anything.
//!
//! What a real prolog takes beyond this is its own.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::ctl::query::Endpoint;
use crate::state::{Connection, DaemonState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Configuration of the daemon, below [`crate::dir`]; whoever wants a floor puts it there.
pub const CONFIG: &str = "floor.cfg";
/// Milliseconds that the domain took to form, one line for each start.
pub const FORMED: &str = "floor-formed";
const PID: &str = "floor-pid";
const DAEMON: &str = "/usr/bin/nvidia-imex";
/// Nobody waits longer.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(3);
const ASK: Duration = Duration::from_secs(1);

/// Starts the daemon and waits until it is connected to all members.
pub(super) fn prolog(dir: &Path) -> io::Result<()> {
    let begin = Instant::now();
    let config = dir.join(CONFIG);
    let child = Command::new(DAEMON)
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    fs::write(dir.join(PID), child.id().to_string())?;
    let endpoint = command_port(&config)?;
    while !endpoint.ask(ASK).is_ok_and(|report| {
        report.state == DaemonState::Ready
            && report.connections.iter().all(|connection| *connection == Connection::Connected)
    }) {
        if begin.elapsed() > LIMIT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        super::pause(PAUSE);
    }
    let formed = begin.elapsed();
    let mut file = fs::OpenOptions::new().create(true).append(true).open(dir.join(FORMED))?;
    writeln!(file, "{}", formed.as_millis())
}

/// Ends the daemon.
pub(super) fn epilog(dir: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(dir.join(PID)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    let pid = Pid::from_raw(text.parse().map_err(io::Error::other)?);
    let begin = Instant::now();
    while kill(pid, Signal::SIGTERM).is_ok() {
        if begin.elapsed() > LIMIT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        super::pause(PAUSE);
    }
    fs::remove_file(dir.join(PID))
}

fn command_port(config: &Path) -> io::Result<Endpoint> {
    let config = Config::parse(&fs::read_to_string(config)?).map_err(io::Error::other)?;
    let address = config.cmd_ip.ok_or_else(|| io::Error::other("no address for the command port"))?;
    let port = config.cmd_port.ok_or_else(|| io::Error::other("no command port"))?;
    Ok(Endpoint::Tcp(SocketAddr::new(address, port)))
}
