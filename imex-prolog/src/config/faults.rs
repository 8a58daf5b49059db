//! Finding all faults of a settings file instead of the first one.
#![forbid(unsafe_code)]

use super::{ChannelPolicy, Mode, Settings};
use std::path::Path;
use toml::{Table, Value};

/// Longest deadline in seconds: a day. Anything longer is a slip of the keyboard, and keeps clock arithmetic safe.
const SECONDS_MAX: u64 = 86_400;
/// Channel numbers are minors of one device region; the driver allows at most 65536 of them.
const CHANNELS_MAX: u32 = 65_536;

/// Reads settings, or says everything that is wrong with them.
pub(super) fn parse(text: &str) -> Result<Settings, Vec<String>> {
    let table: Table =
        text.parse().map_err(|error: toml::de::Error| vec![error.to_string().trim_end().to_owned()])?;
    let faults: Vec<String> = leaves(&table).into_iter().filter_map(key_fault).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let settings: Settings = table.try_into().map_err(|error| vec![one_line(&error)])?;
    let faults = value_faults(&settings);
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

/// One key with all tables above it, and the table that holds only this key.
fn leaves(table: &Table) -> Vec<(String, Table)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                for (path, below) in leaves(inner) {
                    let wrapped = Table::from_iter([(key.clone(), Value::Table(below))]);
                    found.push((format!("{key}.{path}"), wrapped));
                }
            }
            other => found.push((key.clone(), Table::from_iter([(key.clone(), other.clone())]))),
        }
    }
    found
}

/// Tries one key alone against the types; the rest stays at its default.
fn key_fault((path, table): (String, Table)) -> Option<String> {
    let result: Result<Settings, toml::de::Error> = table.try_into();
    result.err().map(|error| format!("{path}: {}", one_line(&error)))
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Faults in values that have the right type.
fn value_faults(settings: &Settings) -> Vec<String> {
    let mut faults = Vec::new();
    let mut demand = |holds: bool, text: String| {
        if !holds {
            faults.push(text);
        }
    };
    let daemon = &settings.daemon;
    for (key, path) in [("daemon.program", &daemon.program), ("daemon.control", &daemon.control)] {
        demand(is_plain(path), format!("{key}: {} is not an absolute path without \"..\"", path.display()));
    }
    demand(daemon.server_port != 0, "daemon.server_port: 0 is not a port".to_owned());
    demand(daemon.command_port != 0, "daemon.command_port: 0 is not a port".to_owned());
    demand(
        daemon.server_port != daemon.command_port,
        format!("daemon.command_port: {} is already daemon.server_port", daemon.command_port),
    );
    demand(daemon.disconnect_grace_seconds >= -1, "daemon.disconnect_grace_seconds: below -1".to_owned());
    demand(daemon.log_level <= 4, format!("daemon.log_level: {} is above 4", daemon.log_level));

    let rotation = daemon.port_rotation.max(1);
    demand(
        daemon.server_port.max(daemon.command_port).checked_add(rotation - 1).is_some(),
        format!("daemon.port_rotation: {rotation} leads beyond port 65535"),
    );
    let distance = daemon.server_port.abs_diff(daemon.command_port);
    demand(
        distance == 0 || distance >= rotation,
        format!(
            "daemon.port_rotation: {rotation} is more than daemon.server_port and daemon.command_port are apart"
        ),
    );
    let standing = &settings.standing;
    for (key, port) in [("server_port", standing.server_port), ("command_port", standing.command_port)] {
        let jobs = [daemon.server_port, daemon.command_port];
        let taken = |first: u16| (first..=first.saturating_add(rotation - 1)).contains(&port);
        demand(port != 0, format!("standing.{key}: 0 is not a port"));
        demand(
            !jobs.into_iter().any(taken),
            format!("standing.{key}: {port} is a port of the jobs' daemons"),
        );
    }
    demand(
        standing.server_port != standing.command_port,
        format!("standing.command_port: {} is already standing.server_port", standing.command_port),
    );
    let encryption = &settings.encryption;
    for (key, _, path, _) in encryption.files() {
        demand(
            is_plain(path) && !path.to_string_lossy().contains(['\n', '=', '#']),
            format!(
                "encryption.{key}: {} is not an absolute path without \"..\", \"=\" and \"#\"",
                path.display()
            ),
        );
    }
    demand(
        encryption.target_name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)),
        format!("encryption.target_name: {:?} is not the name of a host", encryption.target_name),
    );
    demand(
        !(encryption.enabled && encryption.is_by_job() && settings.uses(|mode| mode == Mode::PerPartition)),
        "encryption: keys by job (%j) do not suit mode \"per-partition\", whose domain outlives jobs"
            .to_owned(),
    );
    for (key, path) in
        [("slurm.scontrol", &settings.slurm.scontrol), ("slurm.scancel", &settings.slurm.scancel)]
    {
        demand(is_plain(path), format!("{key}: {} is not an absolute path without \"..\"", path.display()));
    }
    let roll = &settings.roll_call;
    demand(
        (1..=1024).contains(&roll.ports),
        format!("roll_call.ports: {} is not from 1 to 1024", roll.ports),
    );
    demand(
        roll.port.checked_add(roll.ports.saturating_sub(1)).is_some(),
        format!("roll_call.ports: {} lead beyond port 65535", roll.ports),
    );
    let rolls = roll.port..=roll.port.saturating_add(roll.ports.saturating_sub(1));
    let others = [daemon.server_port, daemon.command_port, standing.server_port, standing.command_port];
    let span = |first: u16| first..=first.saturating_add(rotation - 1);
    let apart = others.into_iter().all(|first| !span(first).any(|port| rolls.contains(&port)));
    demand(
        roll.port == 0 || apart,
        format!("roll_call.port: {} and the next {} are also ports of IMEX daemons", roll.port, roll.ports),
    );
    if let Some(directory) = &settings.metrics.directory {
        demand(
            is_plain(directory),
            format!("metrics.directory: {} is not an absolute path without \"..\"", directory.display()),
        );
    }
    for name in settings.partitions.keys() {
        demand(
            fabric::names::NodeName::new(name.as_str()).is_ok(),
            format!("partitions.{name:?}: not the name of a Slurm partition"),
        );
    }

    let channel = &settings.channel;
    demand(
        (1..=CHANNELS_MAX).contains(&channel.count),
        format!("channel.count: {} is not from 1 to {CHANNELS_MAX}", channel.count),
    );
    demand(
        channel.policy != ChannelPolicy::ByJob || channel.count >= 2,
        "channel.count: policy \"by-job\" needs at least 2".to_owned(),
    );
    demand(
        channel.policy != ChannelPolicy::Fixed || channel.number < channel.count,
        format!("channel.number: {} is not below channel.count {}", channel.number, channel.count),
    );

    let d = &settings.deadlines;
    demand(
        (1..=SECONDS_MAX).contains(&standing.verify_seconds),
        format!("standing.verify_seconds: {} is not from 1 to {SECONDS_MAX}", standing.verify_seconds),
    );
    for (key, seconds) in [
        ("ready_seconds", d.ready_seconds),
        ("own_ready_seconds", d.own_ready_seconds),
        ("resolve_seconds", d.resolve_seconds),
        ("fabric_seconds", d.fabric_seconds),
        ("peer_lost_seconds", d.peer_lost_seconds),
        ("peer_absent_seconds", d.peer_absent_seconds),
        ("job_end_seconds", d.job_end_seconds),
        ("control_call_seconds", d.control_call_seconds),
        ("stop_seconds", d.stop_seconds),
        ("lock_seconds", d.lock_seconds),
    ] {
        demand(
            (1..=SECONDS_MAX).contains(&seconds),
            format!("deadlines.{key}: {seconds} is not from 1 to {SECONDS_MAX}"),
        );
    }
    demand(
        d.control_call_seconds < d.ready_seconds,
        "deadlines.control_call_seconds: must be shorter than deadlines.ready_seconds".to_owned(),
    );
    faults
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|part| part != std::path::Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_found_at_once_each_with_its_key() {
        let text = "mode = \"sometimes\"\nports = 3\n[daemon]\nserver_port = 70000\nprogram = 1\n[deadlines]\nstop_seconds = -1\n";
        let faults = parse(text).unwrap_err();
        let keys: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(keys, ["daemon.program", "daemon.server_port", "deadlines.stop_seconds", "mode", "ports"]);
        assert_eq!(
            faults[3],
            "mode: unknown variant `sometimes`, expected one of `per-job`, `per-partition`, `off`"
        );
    }

    #[test]
    fn values_of_the_right_type_are_checked_too() {
        let text = "[daemon]\nprogram = \"nvidia-imex\"\ncontrol = \"/a/../b\"\nserver_port = 1\ncommand_port = 1\nlog_level = 9\n\
                    [channel]\nnumber = 9\ncount = 9\n[deadlines]\nready_seconds = 1\n";
        assert_eq!(
            parse(text).unwrap_err(),
            [
                "daemon.program: nvidia-imex is not an absolute path without \"..\"",
                "daemon.control: /a/../b is not an absolute path without \"..\"",
                "daemon.command_port: 1 is already daemon.server_port",
                "daemon.log_level: 9 is above 4",
                "channel.number: 9 is not below channel.count 9",
                "deadlines.control_call_seconds: must be shorter than deadlines.ready_seconds",
            ]
        );
    }

    #[test]
    fn ports_of_jobs_and_of_the_standing_domain_are_kept_apart() {
        let text = "[daemon]\nport_rotation = 6\n[standing]\nserver_port = 50007\ncommand_port = 0\n[metrics]\ndirectory = \"x\"\n\
                    [partitions]\n\"a b\" = \"off\"\n";
        assert_eq!(
            parse(text).unwrap_err(),
            [
                "daemon.port_rotation: 6 is more than daemon.server_port and daemon.command_port are apart",
                "standing.server_port: 50007 is a port of the jobs' daemons",
                "standing.command_port: 0 is not a port",
                "metrics.directory: x is not an absolute path without \"..\"",
                "partitions.\"a b\": not the name of a Slurm partition",
            ]
        );
    }

    #[test]
    fn encryption_and_roll_call_are_checked() {
        let text = "[encryption]\nenabled = true\nserver_key = \"k=1\"\nclient_ca = \"/keys/%j/ca\"\ntarget_name = \"a b\"\n\
                    [partitions]\nshared = \"per-partition\"\n[roll_call]\nport = 49990\n[slurm]\nscancel = \"scancel\"\n";
        assert_eq!(
            parse(text).unwrap_err(),
            [
                "encryption.server_key: k=1 is not an absolute path without \"..\", \"=\" and \"#\"",
                "encryption.target_name: \"a b\" is not the name of a host",
                "encryption: keys by job (%j) do not suit mode \"per-partition\", whose domain outlives jobs",
                "slurm.scancel: scancel is not an absolute path without \"..\"",
                "roll_call.port: 49990 and the next 16 are also ports of IMEX daemons",
            ]
        );
        assert!(parse("[roll_call]\nport = 0\n").is_ok());
        assert_eq!(
            parse("[roll_call]\nport = 65530\n").unwrap_err(),
            ["roll_call.ports: 16 lead beyond port 65535"]
        );
    }

    #[test]
    fn broken_text_is_one_fault_with_its_place() {
        let faults = parse("mode = \n").unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("line 1"), "{}", faults[0]);
    }

    #[test]
    fn an_empty_table_is_no_fault_unless_it_is_unknown() {
        assert!(parse("[daemon]\n").is_ok());
        assert_eq!(parse("[demon]\n").unwrap_err().len(), 1);
    }
}
