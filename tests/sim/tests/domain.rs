//! What the control tool shows of a domain, for each situation that IMEX users meet.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test: a failed step ends it")]

mod common;

use common::{CMD_PORT, Domain, PORT, Tray, fast};
use sim::imex::Settings;
use sim::nvml;
use std::net::Ipv4Addr;

#[test]
fn one_node_alone_is_up() {
    let domain = Domain::up(1);
    domain.trays[0].wait_view(&[("status", "UP"), ("0", "READY"), ("0>0", "CONNECTED")]);
    assert_eq!(domain.trays[0].state(), ("READY\n".to_owned(), Some(0)));
}

#[test]
fn all_running_is_up_from_every_node() {
    let domain = Domain::up(4);
    for tray in &domain.trays {
        let view = tray.wait_status("UP");
        for node in ["0", "1", "2", "3"] {
            assert_eq!(view.at(node), "READY");
            assert_eq!(view.at(&format!("{node}>2")), "CONNECTED");
        }
    }
    let text = String::from_utf8(domain.trays[1].ctl(&["-N", "-H"]).stdout).unwrap();
    assert!(text.ends_with("       3        C   C   C   C\nDomain State: UP\n"), "{text}");
    assert!(text.contains(&format!("Node #1   * {:<15} * READY", domain.trays[1].ip)), "{text}");
    assert!(text.contains(" - Version: 580.95.05 - Hostname: "), "{text}");
}

#[test]
fn a_missing_node_degrades_the_domain_until_it_comes() {
    let mut domain = Domain::new(3);
    domain.trays[0].start();
    domain.trays[1].start();
    let expected = [
        ("status", "DEGRADED"),
        ("0", "READY"),
        ("1", "READY"),
        ("2", "UNAVAILABLE"),
        ("0>1", "CONNECTED"),
        ("1>0", "CONNECTED"),
        ("0>2", "NEVER_CONNECTED"),
        ("1>2", "NEVER_CONNECTED"),
        ("2>0", "INVALID"),
        ("2>2", "INVALID"),
    ];
    domain.trays[0].wait_view(&expected);
    assert_eq!(domain.trays[0].state().0, "READY\n", "the own state says nothing about peers");
    let version = &domain.trays[0].view().0["nodes"]["2"]["version"];
    assert_eq!(version, "");

    domain.trays[2].start();
    domain.trays[0].wait_status("UP");
}

#[test]
fn a_blocked_command_port_hides_a_peer_that_is_connected() {
    let domain = Domain::up(2);
    let blocked = vec![domain.trays[0].ip.to_string(), "127.0.0.1".to_owned()];
    domain.trays[1].set(&Settings { block_commands_from: blocked, ..fast() });
    domain.trays[0].set(&Settings { ctl_timeout_ms: 200, ..fast() });
    let expected = [
        ("status", "DEGRADED"),
        ("0", "READY"),
        ("1", "UNAVAILABLE"),
        ("0>1", "CONNECTED"),
        ("1>0", "INVALID"),
        ("1>1", "INVALID"),
    ];
    domain.trays[0].wait_view(&expected);
}

#[test]
fn without_a_local_daemon_everything_is_down() {
    let mut domain = Domain::new(2);
    domain.trays[1].start();
    domain.trays[1].wait_state("READY");
    let expected = [
        ("status", "DOWN"),
        ("0", "UNAVAILABLE"),
        ("1", "UNAVAILABLE"),
        ("0>0", "INVALID"),
        ("1>1", "INVALID"),
    ];
    domain.trays[0].wait_view(&expected);
    assert_eq!(domain.trays[0].state(), ("Query Status returned error code: 14\n".to_owned(), Some(255)));
}

#[test]
fn a_library_that_does_not_match_the_driver_does_not_start() {
    let domain = Domain::new(1);
    let driver = nvml::Settings { driver_version: "570.1".to_owned(), ..nvml::Settings::default() };
    driver.save(domain.trays[0].dir()).unwrap();
    domain.trays[0].start_in_vain();
    let text = "NvGpu Library version 580.95.05 is not matching with current GPU driver version 570.1";
    domain.trays[0].wait_log(text);
    domain.trays[0].wait_status("DOWN");
}

#[test]
fn a_peer_that_stopped_is_recovering_and_its_successor_connects() {
    let mut domain = Domain::up(3);
    assert!(domain.trays[2].stop().success());
    let expected = [
        ("status", "DEGRADED"),
        ("0", "READY"),
        ("2", "UNAVAILABLE"),
        ("0>2", "RECOVERING"),
        ("2>0", "INVALID"),
    ];
    domain.trays[0].wait_view(&expected);
    domain.trays[1].wait_view(&[("1>2", "RECOVERING"), ("1>0", "CONNECTED")]);
    domain.trays[2].start();
    domain.trays[0].wait_status("UP");
    domain.trays[0].wait_log("Node 2 with address");
    domain.trays[0].wait_log("Number of times connected: 2");
}

#[test]
fn grace_time_zero_disconnects_at_once() {
    let mut domain = Domain::new(2);
    domain.trays[0].configure("IMEX_NODE_DISCONNECTED_GRACE_TIME=0");
    domain.start_all();
    domain.trays[0].wait_status("UP");
    domain.trays[1].kill();
    domain.trays[0].wait_view(&[("0>1", "DISCONNECTED"), ("status", "DEGRADED")]);
}

#[test]
fn a_one_way_block_makes_connections_invalid() {
    let quick = Settings { heartbeat_ms: 50, answer_timeout_ms: 100, ..fast() };
    let mut domain = Domain::new(2);
    domain.trays.iter().for_each(|tray| tray.set(&quick));
    domain.start_all();
    domain.trays[0].wait_status("UP");
    let from = domain.trays[0].ip.to_string();
    domain.trays[1].set(&Settings { block_peers_from: vec![from], ..quick.clone() });
    let expected =
        [("status", "DEGRADED"), ("0", "READY"), ("1", "READY"), ("0>1", "INVALID"), ("1>0", "CONNECTED")];
    domain.trays[0].wait_view(&expected);
    domain.trays[1].set(&quick);
    domain.trays[0].wait_status("UP");
}

/// Both ways of differing: another order, and a member less.
#[test]
fn different_lists_stay_mismatched_until_every_daemon_restarts() {
    for other in [[1, 0].as_slice(), &[0]] {
        let mut domain = Domain::new(2);
        let lines = domain.addresses(other);
        domain.trays[0].write_nodes(&lines);
        domain.start_all();
        let there = domain.trays[1].wait_view(&[("1>0", "MAP_MISMATCH")]);
        assert_ne!(there.at("status"), "UP");
        domain.trays[1].wait_log("Node configuration mapping mismatch");
        let text = String::from_utf8(domain.trays[1].ctl(&["-N"]).stdout).unwrap();
        assert!(text.contains("!M!"), "{text}");

        assert!(domain.trays[0].stop().success());
        let right = domain.addresses(&[0, 1]);
        domain.trays[0].write_nodes(&right);
        domain.trays[0].start();
        domain.trays[0].wait_view(&[("0>1", "CONNECTED"), ("1>0", "MAP_MISMATCH"), ("status", "DEGRADED")]);
        domain.trays[1].stop();
        domain.trays[1].start();
        domain.trays[0].wait_status("UP");
    }
}

#[test]
fn different_versions_do_not_talk() {
    let mut domain = Domain::new(2);
    let version = "570.1".to_owned();
    domain.trays[1].set(&Settings { version: version.clone(), ..fast() });
    nvml::Settings { driver_version: version, ..nvml::Settings::default() }
        .save(domain.trays[1].dir())
        .unwrap();
    domain.start_all();
    let expected = [("0>1", "VERSION_MISMATCH"), ("1>0", "VERSION_MISMATCH"), ("status", "DEGRADED")];
    domain.trays[0].wait_view(&expected);
    assert_eq!(domain.trays[0].view().0["nodes"]["1"]["version"], "570.1");
    domain.trays[1].stop();
    domain.trays[1].set(&fast());
    nvml::Settings::default().save(domain.trays[1].dir()).unwrap();
    domain.trays[1].start();
    domain.trays[0].wait_status("UP");
}

#[test]
fn a_command_service_on_another_address_answers_q_and_not_n() {
    let mut domain = Domain::new(1);
    let [a, b, c, d] = domain.trays[0].ip.octets();
    let elsewhere = Ipv4Addr::new(a, b, c, d + 4);
    domain.trays[0].configure(&format!("IMEX_CMD_BIND_INTERFACE_IP={elsewhere}"));
    domain.trays[0].start();
    domain.trays[0].wait_state("READY");
    domain.trays[0].wait_status("DOWN");
    let asked = |arguments: &[&str]| {
        let mut command = domain.trays[0].command(env!("CARGO_BIN_EXE_nvidia-imex-ctl"));
        let output = command.args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (ip, port) = (elsewhere.to_string(), CMD_PORT.to_string());
    assert_eq!(asked(&["-q", "-i", &ip, &port]), "READY\n");
    assert!(asked(&["-N", "-i", &ip, &port]).ends_with("Domain State: UP\n"));
}

#[test]
fn a_unix_socket_serves_the_local_control_tool() {
    let mut domain = Domain::new(1);
    let tray: &mut Tray = &mut domain.trays[0];
    let socket = tray.path("ctl.sock");
    tray.configure(&format!("IMEX_CMD_PORT=\nIMEX_CMD_UNIX_DOMAIN_PATH={}", socket.display()));
    tray.start();
    tray.wait_state("READY");
    tray.wait_status("UP");
    let mut command = tray.command(env!("CARGO_BIN_EXE_nvidia-imex-ctl"));
    let output = command.args(["-q", &format!("--u={}", socket.display())]).output().unwrap();
    assert_eq!(output.stdout, b"READY\n");
    assert!(tray.stop().success());
    assert!(!socket.exists());
}

#[test]
fn port_option_overrides_the_config() {
    let domain = Domain::new(1);
    domain.trays[0].configure("SERVER_PORT=1\nDAEMONIZE=1");
    let status = domain.trays[0].daemon().args(["-p", &PORT.to_string()]).status().unwrap();
    assert!(status.success());
    domain.trays[0].wait_log("Bind port = 20000");
    domain.trays[0].wait_state("READY");
    let pid: i32 =
        std::fs::read_to_string(domain.trays[0].path("nvidia-imex.pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT).unwrap();
    domain.trays[0].wait_log("SIGINT received, shutting down");
    domain.trays[0].wait_log("IMEX daemon has ended");
}
