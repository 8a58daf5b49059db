//! Start, signals, ends and faults of single daemons.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test: a failed step ends it")]

mod common;

use common::{Domain, PORT, fast, wait};
use nix::sys::signal::Signal;
use sim::imex::{Fault, Settings};
use sim::nvml;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

fn faulty(fault: Fault) -> Settings {
    Settings { fault: Some(fault), ..fast() }
}

#[test]
fn programs_say_that_they_are_simulated() {
    let domain = Domain::new(1);
    for program in [env!("CARGO_BIN_EXE_nvidia-imex"), env!("CARGO_BIN_EXE_nvidia-imex-ctl")] {
        let output = domain.trays[0].command(program).arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, "IMEX version is: 580.95.05");
        assert!(rest.contains("simulated"), "{text}");
        assert_eq!(output.status.code(), Some(0));
    }
    let help = |program| domain.trays[0].command(program).arg("-h").output().unwrap();
    assert_eq!(help(env!("CARGO_BIN_EXE_nvidia-imex")).status.code(), Some(0));
    assert_eq!(help(env!("CARGO_BIN_EXE_nvidia-imex-ctl")).status.code(), Some(1));
}

#[test]
fn log_lines_come_in_the_vendor_order() {
    let domain = Domain::up(2);
    let log = domain.trays[0].log();
    let marks = [
        "IMEX Log initializing at: ",
        "IMEX version 580.95.05 is running with the following configuration options",
        "Identified this node as ID 0, using bind IP of '",
        "does not exist.  Assuming no previous importers.",
        "NvGpu Library version matched with GPU Driver version",
        "Started processing of incoming messages.",
        "Creating gRPC channels to all peers (nPeers = 2).",
        "IMEX_WAIT_FOR_QUORUM != FULL, continuing initialization without waiting for connections to all nodes.",
        "GPU event successfully subscribed",
        "Connection established to node 1 with ip address ",
    ];
    let mut from = 0;
    for mark in marks {
        let at = log[from..].find(mark).unwrap_or_else(|| panic!("no {mark:?} after byte {from} of\n{log}"));
        from += at;
    }
    assert_eq!(log.matches("Started processing of incoming messages.").count(), 4);
}

#[test]
fn a_second_daemon_is_refused() {
    let domain = Domain::up(1);
    domain.trays[0].start_in_vain();
    domain.trays[0].wait_log("Failed to allocate Imex session");
    assert_eq!(domain.trays[0].state().0, "READY\n", "the first one does not notice");
}

#[test]
fn a_busy_port_ends_the_start() {
    let mut domain = Domain::new(1);
    let holder = TcpListener::bind((domain.trays[0].ip, PORT)).unwrap();
    domain.trays[0].start_in_vain();
    domain.trays[0].wait_log("failed to bind the IMEX server to ");
    drop(holder);
    // A process that another test is just starting may still hold a copy of the socket.
    let address = (domain.trays[0].ip, PORT);
    wait("the port to be free", || {
        TcpStream::connect(address).err().map(drop).ok_or("it is held".to_owned())
    });
    domain.trays[0].start();
    domain.trays[0].wait_state("READY");
}

#[test]
fn a_list_without_this_machine_ends_the_start() {
    let domain = Domain::new(1);
    domain.trays[0].write_nodes(&["0.0.0.0".to_owned(), "0.0.0.0".to_owned()]);
    domain.trays[0].configure("DAEMONIZE=1");
    domain.trays[0].start_in_vain();
    domain.trays[0]
        .wait_log("No matching network interface found for any IP addresses in the node configuration file");
}

#[test]
fn missing_files_are_named() {
    let domain = Domain::new(1);
    let tray = &domain.trays[0];
    std::fs::remove_file(tray.path("nodes")).unwrap();
    tray.start_in_vain();
    tray.wait_log("Failed to read node configuration file");
    let output = tray.ctl(&["-N"]);
    assert_eq!(output.status.code(), Some(255));
    assert_eq!(output.stderr, b"Failed to read node configuration file\n");
    std::fs::remove_file(tray.path("config.cfg")).unwrap();
    let output = tray.ctl(&["-q"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("Unable to open configuration file at /") && text.contains("Usage:"), "{text}");
    let output = tray.daemon().output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("Unable to open configuration file at /"));
}

#[test]
fn in_the_background_the_parent_returns_before_anything_can_fail_at_the_port() {
    let domain = Domain::new(1);
    let tray = &domain.trays[0];
    let holder = TcpListener::bind((tray.ip, PORT)).unwrap();
    tray.configure("DAEMONIZE=1");
    let output = tray.daemon().stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "reading the pipes to their end shows that the daemon keeps none");
    tray.wait_log("failed to bind the IMEX server to ");
    drop(holder);
}

#[test]
fn fabric_in_progress_holds_the_daemon_in_init_gpu() {
    let mut domain = Domain::new(1);
    let mut driver = nvml::Settings::default();
    driver.gpus[3].fabric.state = nvml::state::IN_PROGRESS;
    driver.save(domain.trays[0].dir()).unwrap();
    domain.trays[0].start();
    domain.trays[0].wait_state("INIT_GPU");
    domain.trays[0].wait_log("fabric of GPU 3");
    nvml::Settings::default().save(domain.trays[0].dir()).unwrap();
    domain.trays[0].wait_state("READY");
}

#[test]
fn without_gpu_the_driver_is_not_asked() {
    let domain = Domain::new(1);
    let tray = &domain.trays[0];
    nvml::Settings { init_error: Some(9), ..nvml::Settings::default() }.save(tray.dir()).unwrap();
    tray.start_in_vain();
    let mut child = tray.daemon().arg("--nogpu").spawn().unwrap();
    tray.wait_state("READY");
    assert_eq!(tray.view().0["nodes"]["0"]["version"], "NO_GPU");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn after_a_kill_the_daemon_waits_for_its_importers() {
    let mut domain = Domain::new(2);
    let importing = Settings { importers: vec![1], ..fast() };
    domain.trays[0].set(&importing);
    domain.start_all();
    domain.trays[0].wait_status("UP");
    let file = domain.trays[0].path("persist.dat");
    wait("importers on disk", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if text.contains("[1]") { Ok(()) } else { Err(text) }
    });
    domain.trays[0].kill();
    domain.trays[1].stop();
    domain.trays[0].start();
    domain.trays[0].wait_state("WAITING_FOR_RECOVERY");
    domain.trays[1].start();
    domain.trays[0].wait_state("READY");

    assert!(domain.trays[0].stop().success());
    domain.trays[1].stop();
    domain.trays[0].start();
    domain.trays[0].wait_state("READY");
    domain.trays[0].wait_log("names 0 previous importers");
    domain.trays[0].kill();

    domain.trays[0].configure("IMEX_WAIT_FOR_QUORUM=NONE");
    domain.trays[0].start();
    domain.trays[0].wait_state("READY");
    domain.trays[0].kill();

    domain.trays[0].configure("");
    let alone = domain.addresses(&[0]);
    domain.trays[0].write_nodes(&alone);
    domain.trays[0].start();
    domain.trays[0].wait_status("UP");
    domain.trays[0].wait_log("is of another node list, thrown away");
}

#[test]
fn signals_dump_and_restart_connections() {
    let domain = Domain::up(2);
    let tray = &domain.trays[0];
    tray.signal(Signal::SIGHUP);
    tray.wait_log("verbose log dump, state READY");
    tray.signal(Signal::SIGUSR1);
    tray.wait_log("SIGUSR1 received, restarting connections to all nodes");
    tray.wait_log("Number of times connected: 2");
    tray.signal(Signal::SIGUSR1);
    tray.wait_log("SIGUSR1 ignored");
    tray.wait_status("UP");
}

#[test]
fn a_refused_start_says_why() {
    let domain = Domain::new(1);
    domain.trays[0].set(&faulty(Fault::Refuse { message: "no licence for today".to_owned() }));
    let output = domain.trays[0].daemon().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no licence for today (simulated fault)"));
}

#[test]
fn a_running_daemon_can_be_struck_dead() {
    let mut domain = Domain::up(2);
    domain.trays[1].set(&faulty(Fault::Die { after_ms: 10 }));
    assert_eq!(domain.trays[1].ended().signal(), Some(9));
    domain.trays[0].wait_view(&[("0>1", "RECOVERING"), ("status", "DEGRADED")]);
}

#[test]
fn a_hang_keeps_a_daemon_from_ready_and_lets_go() {
    let mut domain = Domain::new(2);
    domain.trays[1].set(&faulty(Fault::Hang {}));
    domain.start_all();
    domain.trays[0].wait_view(&[("1", "INIT_GPU"), ("0>1", "CONNECTED"), ("status", "DEGRADED")]);
    domain.trays[1].set(&fast());
    domain.trays[0].wait_status("UP");
    domain.trays[1].set(&faulty(Fault::Hang {}));
    domain.trays[1].wait_state("INIT_GPU");
}

#[test]
fn a_frozen_daemon_answers_nobody() {
    let quick = Settings { heartbeat_ms: 50, answer_timeout_ms: 100, ctl_timeout_ms: 100, ..fast() };
    let mut domain = Domain::new(2);
    domain.trays.iter().for_each(|tray| tray.set(&quick));
    domain.start_all();
    domain.trays[0].wait_status("UP");
    domain.trays[1].set(&Settings { fault: Some(Fault::Freeze {}), ..quick.clone() });
    domain.trays[0].wait_view(&[("0>1", "INVALID"), ("1", "UNAVAILABLE"), ("status", "DEGRADED")]);
    assert_eq!(domain.trays[1].state(), ("Query Status returned error code: 4\n".to_owned(), Some(255)));
    domain.trays[1].set(&quick);
    domain.trays[0].wait_status("UP");
}

#[test]
fn a_slow_start_can_be_ended() {
    let mut domain = Domain::new(1);
    domain.trays[0].set(&faulty(Fault::SlowStart { delay_ms: 3_600_000 }));
    domain.trays[0].start();
    domain.trays[0].wait_log("NvGpu Library version matched");
    assert_eq!(domain.trays[0].state().0, "Query Status returned error code: 14\n");
    wait("signals to be taken", || {
        let pid = domain.trays[0].pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim().to_owned();
        if blocked == "0000000000000000" { Err(status) } else { Ok(()) }
    });
    assert!(domain.trays[0].stop().success());
    domain.trays[0].set(&faulty(Fault::SlowStart { delay_ms: 50 }));
    domain.trays[0].start();
    domain.trays[0].wait_state("READY");
}

#[test]
fn a_daemon_that_ignores_sigterm_needs_sigkill() {
    let mut domain = Domain::new(1);
    domain.trays[0].set(&faulty(Fault::IgnoreSigterm {}));
    domain.trays[0].start();
    domain.trays[0].wait_state("READY");
    domain.trays[0].signal(Signal::SIGTERM);
    domain.trays[0].wait_log("SIGTERM ignored (simulated fault)");
    domain.trays[0].wait_state("READY");
    domain.trays[0].kill();
}

#[test]
fn a_slow_end_shows_shutting_down() {
    let mut domain = Domain::new(1);
    domain.trays[0].set(&Settings { shutdown_delay_ms: 3_600_000, ..fast() });
    domain.trays[0].start();
    domain.trays[0].wait_state("READY");
    domain.trays[0].signal(Signal::SIGTERM);
    domain.trays[0].wait_state("SHUTTING_DOWN");
}

#[test]
fn the_control_tool_can_hang_and_lie() {
    let domain = Domain::up(1);
    let tray = &domain.trays[0];
    tray.set(&faulty(Fault::CtlGarbage {}));
    let output = tray.ctl(&["-N", "-j"]);
    assert!(output.status.success());
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).is_err());
    tray.set(&faulty(Fault::CtlHang {}));
    let mut command = tray.command(env!("CARGO_BIN_EXE_nvidia-imex-ctl"));
    let mut child = command.arg("-c").arg(tray.path("config.cfg")).arg("-q").spawn().unwrap();
    wait("the tool to sleep", || {
        let call = std::fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap_or_default();
        let state = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        if state.contains(") S ") { Ok(()) } else { Err(format!("{state} {call}")) }
    });
    tray.set(&fast());
    tray.wait_state("READY");
    assert!(child.try_wait().unwrap().is_none(), "it hangs");
    child.kill().unwrap();
    child.wait().unwrap();
}
