//! Simulated `nvidia-imex`.
//!
//! Start: settings and config, node list and own line, background (DAEMONIZE=1), session, persistence file, driver
//! version, ports, peers, GPUs. Everything up to the own line fails before the fork and so in the exit status of
//! the program that was started; everything later only in the log, as with the real daemon.
#![deny(unsafe_code)]

pub mod fork;
pub mod gpu;
mod incoming;
pub mod log;
pub mod options;
mod outgoing;
pub mod peer;
pub mod persist;
pub mod ports;
pub mod server;
pub mod session;
mod signals;
mod sockets;
pub mod startup;
pub mod watch;

use crate::config::Config;
use crate::imex::{Fault, Settings};
use crate::nodes::{self, NodeList, Own};
use crate::nvml;
use crate::wire::Hello;
use fork::Side;
use log::{Level, Log};
use options::{Options, Request};
use persist::{Earlier, Persistence};
use server::{Plan, ServeError, Server};
use session::{Session, state_dir};
use startup::Startup;
use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use watch::Watch;

/// Why the daemon does not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The simulation's settings.
    #[error("simulation settings are not usable")]
    Settings(#[source] io::Error),
    /// A fault of the settings.
    #[error("{0}")]
    Refused(String),
    /// The config file.
    #[error("Unable to open configuration file at {path}")]
    ReadConfig {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A value in it.
    #[error("configuration file {path} is not usable")]
    Config {
        /// Where.
        path: PathBuf,
        /// Why.
        source: crate::config::ConfigError,
    },
    /// A file of TLS.
    #[error("failed to load {path} (simulated: nothing is encrypted)")]
    ReadKey {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The node list.
    #[error("Failed to read node configuration file {path}")]
    ReadNodes {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No line of the list is this machine.
    #[error("No matching network interface found for any IP addresses in the node configuration file {0}")]
    NoOwnLine(PathBuf),
    /// The interfaces.
    #[error("failed to list the network interfaces")]
    Interfaces(#[source] io::Error),
    /// The fork.
    #[error("failed to go into the background")]
    Background(#[source] io::Error),
    /// The directory of the daemon's files.
    #[error("failed to create {path}")]
    StateDirectory {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon runs on this tray.
    #[error("Failed to allocate Imex session")]
    Session(#[source] io::Error),
    /// The driver does not fit.
    #[error("{0}")]
    Driver(String),
    /// Serving.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// The program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match options::parse(arguments) {
        Ok(Request::Help) => print!("{}", options::USAGE),
        Ok(Request::Version) => match Settings::load(&crate::dir()) {
            Ok(settings) => {
                println!("IMEX version is: {}", settings.version);
                println!("simulated: part of the slurm-nvlink test cluster, not NVIDIA software");
            }
            Err(error) => return fail(&error),
        },
        Ok(Request::Run(options)) => {
            let mut log = Log::stderr();
            if let Err(error) = run(&options, &mut log) {
                log.line(Level::Critical, &chain(&error));
                return ExitCode::FAILURE;
            }
        }
        Err(error) => {
            eprint!("{error}\n{}", options::USAGE);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn fail(error: &dyn Error) -> ExitCode {
    eprintln!("nvidia-imex (simulated): {error}");
    ExitCode::FAILURE
}

/// An error with everything under it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}

fn run(options: &Options, log: &mut Log) -> Result<(), DaemonError> {
    let settings_dir = crate::dir();
    let settings_dir = std::path::absolute(&settings_dir).unwrap_or(settings_dir);
    let settings = Settings::load(&settings_dir).map_err(DaemonError::Settings)?;
    if let Some(Fault::Refuse { message }) = &settings.fault {
        let message = if message.is_empty() { "start refused" } else { message };
        return Err(DaemonError::Refused(format!("{message} (simulated fault)")));
    }
    let config = read_config(options)?;
    for path in &config.tls_files {
        fs::read(path).map_err(|source| DaemonError::ReadKey { path: path.clone(), source })?;
    }
    *log = Log::open(&config);
    banner(log, &config, &settings);
    let (nodes, own) = read_nodes(log, &config)?;

    if config.daemonize {
        match fork::into_background(log.is_stderr()).map_err(DaemonError::Background)? {
            Side::Parent => return Ok(()),
            Side::Daemon => {}
        }
    }
    let state_dir = state_dir(&settings_dir);
    fs::create_dir_all(&state_dir)
        .map_err(|source| DaemonError::StateDirectory { path: state_dir.clone(), source })?;
    let _session = Session::allocate(&state_dir).map_err(DaemonError::Session)?;
    let pid_file = PidFile::write(&state_dir);

    let persistence = Persistence::new(state_dir.join("persist.dat"), &nodes);
    let awaited = read_persistence(log, &persistence, config.wait_for_recovery);
    check_driver(log, options, &settings, &settings_dir)?;
    let hello = Hello {
        node: own.id,
        version: if options.no_gpu { "NO_GPU".to_owned() } else { settings.version.clone() },
        map: nodes.key(),
        incarnation: incarnation(),
    };
    let watch = Watch::new(settings_dir.clone(), settings);
    let host_name =
        nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let startup = Startup::new(awaited);
    let no_gpu = options.no_gpu;
    let plan =
        Plan { config, nodes, own, hello, host_name, no_gpu, settings_dir, persistence, startup, watch };
    let mut server = Server::new(plan, std::mem::replace(log, Log::stderr()))?;
    let served = server.run();
    *log = server.into_log();
    drop(pid_file);
    Ok(served?)
}

fn read_config(options: &Options) -> Result<Config, DaemonError> {
    let path = options.config.clone();
    let text =
        fs::read_to_string(&path).map_err(|source| DaemonError::ReadConfig { path: path.clone(), source })?;
    let mut config = Config::parse(&text).map_err(|source| DaemonError::Config { path, source })?;
    if let Some(port) = options.port {
        config.server_port = port;
    }
    Ok(config)
}

/// The first lines of the log: what runs here, and how it was told to.
fn banner(log: &mut Log, config: &Config, settings: &Settings) {
    let shown = |value: &Option<std::net::IpAddr>| value.map(|ip| ip.to_string()).unwrap_or_default();
    let file = config.log_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let lines = [
        format!(
            "IMEX version {} is running with the following configuration options (simulated)",
            settings.version
        ),
        format!("Logging level = {}", config.log_level),
        format!("Logging file name/path = {file}"),
        format!("Append to log file = {}", u8::from(config.log_append)),
        format!(
            "Authentication / encryption = {} (simulated: nothing is encrypted)",
            config.encryption.as_deref().unwrap_or("off")
        ),
        format!("Bind interface = {}", shown(&config.bind_ip)),
        format!("Bind port = {}", config.server_port),
    ];
    for line in lines {
        log.info(&format!("{line}\n"));
    }
}

fn read_nodes(log: &mut Log, config: &Config) -> Result<(NodeList, Own), DaemonError> {
    let path = &config.nodes_file;
    let text =
        fs::read_to_string(path).map_err(|source| DaemonError::ReadNodes { path: path.clone(), source })?;
    let nodes = NodeList::parse(&text, |name| {
        log.info(&format!("Treating node config entry '{name}' as a host name."));
        let found = nodes::resolve(name);
        if found.is_empty() {
            log.line(Level::Warning, &format!("host name '{name}' was not found"));
        }
        found
    });
    let local = nodes::local_addresses().map_err(DaemonError::Interfaces)?;
    let own = nodes.find_own(&local, config.bind_ip).ok_or_else(|| DaemonError::NoOwnLine(path.clone()))?;
    log.info(&format!(
        "Identified this node as ID {}, using bind IP of '{}', and network interface of {}",
        own.id, own.ip, own.interface
    ));
    Ok((nodes, own))
}

/// The importers to wait for.
fn read_persistence(log: &mut Log, persistence: &Persistence, wait: bool) -> BTreeSet<usize> {
    let path = persistence.path().display().to_string();
    let importers = match persistence.earlier() {
        Earlier::None => {
            let text = "does not exist.  Assuming no previous importers.";
            log.info(&format!("nvidia-imex persistence file {path} {text}"));
            return BTreeSet::new();
        }
        Earlier::Foreign => {
            log.info(&format!("nvidia-imex persistence file {path} is of another node list, thrown away."));
            return BTreeSet::new();
        }
        Earlier::Importers(importers) => importers,
    };
    log.info(&format!("nvidia-imex persistence file {path} names {} previous importers.", importers.len()));
    if !wait {
        return BTreeSet::new();
    }
    importers.into_iter().filter_map(|id| usize::try_from(id).ok()).collect()
}

fn check_driver(
    log: &mut Log,
    options: &Options,
    settings: &Settings,
    dir: &Path,
) -> Result<(), DaemonError> {
    if options.no_gpu {
        log.info("running without GPU");
        return Ok(());
    }
    let driver = nvml::Settings::load(dir).map_err(DaemonError::Settings)?;
    if let Some(fault) = gpu::driver_fault(&driver, &settings.version) {
        return Err(DaemonError::Driver(fault));
    }
    log.info("NvGpu Library version matched with GPU Driver version");
    Ok(())
}

/// A number that the next daemon on this tray does not get.
fn incarnation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) ^ (u64::from(std::process::id()) << 48)
}

/// The file with the daemon's process id; gone after a graceful end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(dir: &Path) -> Self {
        let path = dir.join("nvidia-imex.pid");
        // Only a convenience: a daemon without its pid file serves as well.
        let _ = fs::write(&path, format!("{}\n", std::process::id()));
        Self(path)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
