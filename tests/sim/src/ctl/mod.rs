//! Simulated `nvidia-imex-ctl`.
//!
//! Exit status: 0 whenever a view could be produced, also for a domain that is DOWN; 255 when the node list cannot
//! be read or `-q` gets no answer; 1 for `-h`, a wrong command line or an unreadable config file. The status of a
//! `-q` without answer is not public for the real tool.
#![forbid(unsafe_code)]

pub mod json;
pub mod options;
pub mod query;
pub mod table;
pub mod view;

use crate::clock::Stamp;
use crate::config::Config;
use crate::imex::{Fault, Settings};
use crate::nodes::{self, NodeList};
use options::{Ask, Options, Request, Target};
use query::Endpoint;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use view::View;

/// Time between two looks of `-n`.
const FOLLOW: Duration = Duration::from_millis(500);

/// What the `ctl-garbage` fault prints.
pub const GARBAGE: &str =
    "{\"nodes\":{\"0\":{\"status\":\"READ\u{fffd}\nsegment 0x7ffe: #!%& (simulated fault)\n";

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The simulation's settings.
    #[error("simulation settings are not usable: {0}")]
    Settings(#[source] io::Error),
    /// The config file.
    #[error("Unable to open configuration file at {0}")]
    Config(PathBuf),
    /// The node list.
    #[error("Failed to read node configuration file")]
    NodeList,
    /// No answer to `-q`.
    #[error("Query Status returned error code: {0}")]
    State(u8),
    /// Standard output.
    #[error("failed to write to standard output")]
    Output(#[source] io::Error),
}

impl CtlError {
    fn exit(&self) -> ExitCode {
        match self {
            Self::NodeList | Self::State(_) => ExitCode::from(255),
            Self::Settings(_) | Self::Config(_) | Self::Output(_) => ExitCode::FAILURE,
        }
    }
}

/// The program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match options::parse(arguments) {
        Request::Usage => {
            print!("{}", options::USAGE);
            return ExitCode::FAILURE;
        }
        Request::Version => version(),
        Request::Query(options) => run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            if matches!(error, CtlError::Config(_)) {
                eprint!("{}", options::USAGE);
            }
            error.exit()
        }
    }
}

fn version() -> Result<(), CtlError> {
    let settings = Settings::load(&crate::dir()).map_err(CtlError::Settings)?;
    println!("IMEX version is: {}", settings.version);
    println!("simulated: part of the slurm-nvlink test cluster, not NVIDIA software");
    Ok(())
}

fn run(options: &Options) -> Result<(), CtlError> {
    let settings = Settings::load(&crate::dir()).map_err(CtlError::Settings)?;
    match settings.fault {
        Some(Fault::CtlHang {}) => hang(),
        Some(Fault::CtlGarbage {}) => return show(GARBAGE),
        _ => {}
    }
    let timeout = Duration::from_millis(settings.ctl_timeout_ms.max(1));
    match options.ask {
        Ask::State => {
            let report = state_endpoint(&options.target)?
                .ask(timeout)
                .map_err(|error| CtlError::State(query::error_code(&error)))?;
            show(&format!("{}\n", report.state))
        }
        Ask::Domain => show(&render(options, &settings, &look(&options.target, timeout)?)),
        Ask::Follow => {
            let mut last = None;
            loop {
                let seen = look(&options.target, timeout)?;
                if last.as_ref() != Some(&seen) {
                    show(&render(options, &settings, &seen))?;
                    last = Some(seen);
                }
                pause(FOLLOW);
            }
        }
    }
}

fn hang() -> ! {
    loop {
        pause(Duration::from_secs(3600));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "-n looks at intervals until it is interrupted; a hung tool hangs"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn show(text: &str) -> Result<(), CtlError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CtlError::Output)
}

fn render(options: &Options, settings: &Settings, view: &View) -> String {
    let now = Stamp::now().slashed();
    if options.json {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let seed = settings.json_seed.unwrap_or(u64::try_from(clock).unwrap_or(u64::MAX));
        json::render(view, &now, options.host_names, settings.json, seed)
    } else {
        table::render(view, &now, options.host_names)
    }
}

fn read_config(path: &PathBuf) -> Result<Config, CtlError> {
    let text = fs::read_to_string(path).map_err(|_| CtlError::Config(path.clone()))?;
    Config::parse(&text).map_err(|_| CtlError::Config(path.clone()))
}

/// The command service of the daemon on this tray, for `-q`.
fn state_endpoint(target: &Target) -> Result<Endpoint, CtlError> {
    let config = match target {
        Target::Address(address) => return Ok(Endpoint::Tcp(*address)),
        Target::Socket(path) => return Ok(Endpoint::Unix(path.clone())),
        Target::Config(path) => read_config(path)?,
    };
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = |port| Endpoint::Tcp(SocketAddr::new(config.cmd_ip.unwrap_or(here), port));
    let service = config.cmd_port.map(address).or(config.cmd_socket.clone().map(Endpoint::Unix));
    service.ok_or(CtlError::State(query::UNAVAILABLE))
}

/// Asks every node of the domain.
fn look(target: &Target, timeout: Duration) -> Result<View, CtlError> {
    let Target::Config(path) = target else {
        return look_through(&state_endpoint(target)?, timeout);
    };
    let config = read_config(path)?;
    let text = fs::read_to_string(&config.nodes_file).map_err(|_| CtlError::NodeList)?;
    let list = NodeList::parse(&text, nodes::resolve);
    let interfaces = nodes::local_addresses().map_err(|_| CtlError::NodeList)?;
    let own = list.find_own(&interfaces, config.bind_ip);
    let hosts: Vec<String> = list.members.iter().map(|member| member.text.clone()).collect();
    let own_socket = config.cmd_socket.clone().map(Endpoint::Unix).filter(|_| config.cmd_port.is_none());
    let endpoint = |id: usize| match &own {
        Some(own) if own.id == id && own_socket.is_some() => own_socket.clone(),
        Some(own) if own.id == id => config.cmd_port.map(|port| Endpoint::Tcp(SocketAddr::new(own.ip, port))),
        _ => peer(&list, id, config.cmd_port),
    };
    Ok(ask_all(&hosts, own.as_ref().map(|own| own.id), endpoint, timeout))
}

/// Asks one daemon, and then the nodes of its list.
fn look_through(first: &Endpoint, timeout: Duration) -> Result<View, CtlError> {
    let report = first.ask(timeout).map_err(|error| CtlError::State(query::error_code(&error)))?;
    let list = NodeList::parse(&report.hosts.join("\n"), nodes::resolve);
    let endpoint =
        |id: usize| if id == report.node { Some(first.clone()) } else { peer(&list, id, report.cmd_port) };
    Ok(ask_all(&report.hosts, Some(report.node), endpoint, timeout))
}

fn peer(list: &NodeList, id: usize, port: Option<u16>) -> Option<Endpoint> {
    let ip = list.members.get(id)?.addresses.first()?;
    Some(Endpoint::Tcp(SocketAddr::new(*ip, port?)))
}

fn ask_all(
    hosts: &[String],
    local: Option<usize>,
    endpoint: impl Fn(usize) -> Option<Endpoint>,
    timeout: Duration,
) -> View {
    let ask = |id: usize| endpoint(id).and_then(|endpoint| endpoint.ask(timeout).ok());
    let own = local.and_then(ask);
    let alive = own.is_some();
    let mut reports: Vec<_> =
        (0..hosts.len()).map(|id| if alive && Some(id) != local { ask(id) } else { None }).collect();
    if let Some(slot) = local.and_then(|id| reports.get_mut(id)) {
        *slot = own;
    }
    view::assemble(hosts, local, reports)
}
