//! Several simulated trays on loopback addresses, each with its own directory, for the integration tests.
//!
//! Every domain has its own addresses in 127/8, so tests can run side by side on the same ports.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use serde_json::Value;
use sim::imex::Settings;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// SERVER_PORT of every tray.
pub const PORT: u16 = 20_000;
/// IMEX_CMD_PORT of every tray.
pub const CMD_PORT: u16 = 20_005;
/// Longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

static DOMAINS: AtomicU8 = AtomicU8::new(0);

/// Waits until `check` gives something; says what was waited for when it never does.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "polls a condition until a deadline")]
pub fn wait<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        match check() {
            Ok(found) => return found,
            Err(last) if Instant::now() > until => panic!("waited in vain for {what}; last: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Settings with short waits.
pub fn fast() -> Settings {
    Settings { quick_attempts: 0, quick_ms: 20, backoff_ms: vec![20], ..Settings::default() }
}

/// One tray.
pub struct Tray {
    dir: TempDir,
    pub ip: Ipv4Addr,
    child: Option<Child>,
}

/// A domain of trays.
pub struct Domain {
    pub trays: Vec<Tray>,
}

impl Domain {
    /// `count` trays (at most 5) that list each other; none runs yet.
    pub fn new(count: u8) -> Self {
        let pid = std::process::id().to_be_bytes();
        let first = DOMAINS.fetch_add(1, Ordering::SeqCst) * 6 + 1;
        let tray = |id: u8| Tray {
            dir: tempfile::tempdir().unwrap(),
            ip: Ipv4Addr::new(127, 64 + pid[2] % 128, pid[3], first + id),
            child: None,
        };
        let domain = Self { trays: (0..count).map(tray).collect() };
        let all: Vec<usize> = (0..domain.trays.len()).collect();
        for tray in &domain.trays {
            tray.configure("");
            tray.set(&fast());
            tray.write_nodes(&domain.addresses(&all));
        }
        domain
    }

    /// The addresses of some trays.
    pub fn addresses(&self, ids: &[usize]) -> Vec<String> {
        ids.iter().map(|id| self.trays[*id].ip.to_string()).collect()
    }

    /// Starts all trays.
    pub fn start_all(&mut self) {
        self.trays.iter_mut().for_each(Tray::start);
    }

    /// Starts all and waits until the first sees the domain UP.
    pub fn up(count: u8) -> Self {
        let mut domain = Self::new(count);
        domain.start_all();
        domain.trays[0].wait_status("UP");
        domain
    }
}

impl Tray {
    /// Path of the tray's directory, which is also its NVLINK_SIM_DIR.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the config file; the lines of `more` win over the usual ones.
    pub fn configure(&self, more: &str) {
        let ip = self.ip;
        let (log, nodes) = (self.path("log"), self.path("nodes"));
        let text = format!(
            "# written by the tests\nDAEMONIZE=0\nBIND_INTERFACE_IP={ip}\nSERVER_PORT={PORT}\n\
             IMEX_CMD_BIND_INTERFACE_IP={ip}\nIMEX_CMD_PORT={CMD_PORT}\nLOG_FILE_NAME={}\n\
             IMEX_NODE_CONFIG_FILE={}\nIMEX_CONN_WAIT_TIMEOUT=70\n{more}\n",
            log.display(),
            nodes.display()
        );
        fs::write(self.path("config.cfg"), text).unwrap();
    }

    pub fn write_nodes(&self, lines: &[String]) {
        fs::write(self.path("nodes"), lines.join("\n") + "\n").unwrap();
    }

    /// Replaces the tray's IMEX settings.
    pub fn set(&self, settings: &Settings) {
        settings.save(self.dir()).unwrap();
    }

    /// A program of the tray with its settings directory.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env(sim::DIR_VARIABLE, self.dir()).stdin(Stdio::null());
        command
    }

    pub fn daemon(&self) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_nvidia-imex"));
        command.arg("-c").arg(self.path("config.cfg"));
        command
    }

    /// Starts the daemon in the foreground.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "already started");
        self.child = Some(self.daemon().stderr(Stdio::null()).spawn().unwrap());
    }

    /// Runs the daemon until it ends by itself, which it must.
    #[track_caller]
    pub fn start_in_vain(&self) -> ExitStatus {
        let mut child = self.daemon().stderr(Stdio::null()).spawn().unwrap();
        let status = wait("the daemon to refuse", || child.try_wait().unwrap().ok_or("it runs".to_owned()));
        assert!(!status.success(), "{}", self.log());
        status
    }

    /// Process id of the started daemon.
    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.as_ref().unwrap().id().try_into().unwrap())
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the started daemon.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        wait("the daemon to end", || child.try_wait().unwrap().ok_or("it runs".to_owned()))
    }

    /// SIGTERM, and the exit status.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.ended()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The control tool with the tray's config.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_nvidia-imex-ctl"));
        command.arg("-c").arg(self.path("config.cfg")).args(arguments).output().unwrap()
    }

    /// `-q`: standard output and error together, and the exit code.
    pub fn state(&self) -> (String, Option<i32>) {
        let output = self.ctl(&["-q"]);
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8(text).unwrap(), output.status.code())
    }

    #[track_caller]
    pub fn wait_state(&self, word: &str) {
        let expected = (format!("{word}\n"), Some(0));
        wait(word, || {
            let seen = self.state();
            if seen == expected { Ok(()) } else { Err(format!("{seen:?}\n{}", self.log())) }
        });
    }

    /// `-N -j`, which always exits 0.
    #[track_caller]
    pub fn view(&self) -> View {
        let output = self.ctl(&["-N", "-j"]);
        assert!(output.status.success(), "{output:?}");
        View(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits for a view that fulfils all of `expected`.
    #[track_caller]
    pub fn wait_view(&self, expected: &[(&str, &str)]) -> View {
        wait("a view of the domain", || {
            let view = self.view();
            let wrong = expected.iter().find(|(at, word)| view.at(at) != *word);
            match wrong {
                None => Ok(view),
                Some((at, word)) => Err(format!("{at} is not {word} in {}\n{}", view.0, self.log())),
            }
        })
    }

    /// Waits for a state of the domain.
    #[track_caller]
    pub fn wait_status(&self, word: &str) -> View {
        self.wait_view(&[("status", word)])
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        wait(text, || if self.log().contains(text) { Ok(()) } else { Err(self.log()) });
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Already dead is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A domain view.
pub struct View(pub Value);

impl View {
    /// A word: `status`, `N` (state of node N) or `N>M` (its connection to M).
    pub fn at(&self, place: &str) -> &str {
        let value = match place.split_once('>') {
            _ if place == "status" => &self.0["status"],
            Some((from, to)) => &self.0["nodes"][from]["connections"][to]["status"],
            None => &self.0["nodes"][place]["status"],
        };
        value.as_str().unwrap_or("absent")
    }
}
