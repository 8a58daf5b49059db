//! What the documents say to type exists: every command of ours in them, every option of it, and every metric.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use tests::documents::{self, Document};

/// The programs that parse their own few arguments: what may stand behind their names.
const SMALL: &[(&str, &[&str])] = &[
    ("imex-prolog", &["check-config", "status", "health", "--json", "--help", "--version"]),
    ("imex-epilog", &["--help", "--version"]),
    ("slurm-nvlink-confirm", &["--plugins", "--folder", "--dry-run", "--help", "--version"]),
];

/// Where a command ends.
const ENDS: &[&str] = &["|", "||", "&&", ";", "#", ">", "<<'END'", "2>&1"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The documents: where they are, and themselves.
fn documents() -> Vec<(PathBuf, Document)> {
    let all = documents::all().unwrap();
    all.into_iter().map(|document| (root().join(&document.name), document)).collect()
}

/// What follows each mention of a program as a command of its own, word by word.
fn calls(line: &str, program: &str) -> Vec<Vec<String>> {
    // `page(8)` is a manual page.
    let line = (1..=8).fold(line.to_owned(), |line, number| line.replace(&format!("({number})"), ";"));
    let separated = line.replace(['(', ')', '"', '\'', '`'], " ").replace(';', " ; ");
    let words: Vec<&str> = separated.split_whitespace().collect();
    let name: Vec<&str> = program.split(' ').collect();
    let mut calls = Vec::new();
    for (at, window) in words.windows(name.len()).enumerate() {
        if window == name {
            let rest = words[at + name.len()..].iter().take_while(|word| !ENDS.contains(word));
            calls.push(rest.map(|word| (*word).to_owned()).collect());
        }
    }
    calls
}

/// The first word of a call that the program does not know.
fn unknown(program: &Command, call: &[String]) -> Option<String> {
    let mut command = program;
    for word in call {
        if let Some(sub) = command.get_subcommands().find(|sub| sub.get_name() == word) {
            command = sub;
            continue;
        }
        let option = word.split('=').next().unwrap_or(word);
        let known = match option.strip_prefix("--") {
            // What follows belongs to another program.
            Some("") => return None,
            Some(long) => {
                matches!(long, "help" | "version")
                    || command.get_arguments().any(|argument| argument.get_long() == Some(long))
            }
            None => match option.strip_prefix('-').and_then(|rest| rest.chars().next()) {
                Some(short) if short.is_ascii_alphabetic() => {
                    command.get_arguments().any(|argument| argument.get_short() == Some(short))
                }
                _ => !command.has_subcommands() || !word.bytes().all(|byte| byte.is_ascii_lowercase()),
            },
        };
        if !known {
            return Some(word.clone());
        }
    }
    None
}

#[test]
fn every_command_and_option_in_the_documents_exists() {
    let programs = [("topology-gen", topology_gen::cli::command()), ("cargo xtask", packaging::command())];
    let mut checked = 0;
    for (_, document) in documents() {
        let name = &document.name;
        for line in document.code().into_iter().map(|code| code.text) {
            for (program, command) in &programs {
                for call in calls(&line, program) {
                    checked += usize::from(!call.is_empty());
                    let word = unknown(command, &call);
                    assert!(word.is_none(), "{name}: {program} has no {:?}: {line}", word.unwrap());
                }
            }
            for (program, known) in SMALL {
                for call in calls(&line, program) {
                    for word in call.iter().filter(|word| word.starts_with("--")) {
                        assert!(known.contains(&word.as_str()), "{name}: {program} has no {word}: {line}");
                    }
                    let first = call.first().filter(|word| !word.starts_with('-'));
                    let is_ours = first.is_none_or(|word| known.contains(&word.as_str()));
                    let is_list = line.starts_with("apt ");
                    assert!(is_ours || is_list, "{name}: {program} {first:?}: {line}");
                }
            }
        }
    }
    assert!(checked >= 60, "only {checked} commands were found: the documents are read wrongly");
}

#[test]
fn what_does_not_exist_is_found() {
    let program = topology_gen::cli::command();
    let first = |line: &str| {
        let call = calls(line, "topology-gen").remove(0);
        unknown(&program, &call)
    };
    assert_eq!(first("topology-gen apply --dry-run"), None);
    assert_eq!(first("x \"$(topology-gen probe --extra)\" --y"), Some("--y".to_owned()));
    assert_eq!(first("topology-gen aply"), Some("aply".to_owned()));
    assert_eq!(first("topology-gen why -N 16 -Q"), Some("-Q".to_owned()));
}

#[test]
fn the_guide_lists_the_metrics_that_there_are() {
    let mut made = BTreeSet::new();
    for (file, prefix) in [
        ("imex-prolog/src/metrics.rs", "slurm_nvlink_imex_"),
        ("topology-gen/src/watch/metrics.rs", "slurm_nvlink_topology_"),
        ("slurm-plugin/src/metrics.rs", "slurm_nvlink_plugin_"),
    ] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let names = text.lines().filter_map(|line| {
            let (name, rest) = line.trim().strip_prefix("(\"")?.split_once('"')?;
            let kind = rest.trim_start_matches(", ");
            (kind.starts_with("\"counter\"") || kind.starts_with("\"gauge\""))
                .then(|| format!("{prefix}{name}"))
        });
        made.extend(names);
    }
    let guide = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let listed: BTreeSet<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `slurm_nvlink_"))
        .filter_map(|line| line.split(['{', '`']).next())
        .map(|name| format!("slurm_nvlink_{name}"))
        .collect();
    assert_eq!(listed, made);
    for name in ["slurm-nvlink.rules.yml", "slurm-nvlink.test.yml", "slurm-nvlink.dashboard.json"] {
        let text = fs::read_to_string(root().join("packaging/monitoring").join(name)).unwrap();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let used = text.split(|c| !is_part(c)).filter(|word| word.starts_with("slurm_nvlink_"));
        let unknown: Vec<&str> = used.filter(|word| !made.contains(*word)).collect();
        assert!(unknown.is_empty() && text.contains("slurm_nvlink_"), "{name}: {unknown:?}");
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    for (file, document) in documents() {
        let (name, folder) = (&document.name, file.parent().unwrap());
        for target in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (other, heading) = target.split_once('#').unwrap_or((target, ""));
            if other.starts_with("http") {
                continue;
            }
            let there = fs::read_to_string(if other.is_empty() { file.clone() } else { folder.join(other) });
            assert!(there.is_ok(), "{name}: {target}");
            let anchor = |line: &str| {
                let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                title.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect::<String>()
            };
            let known = there
                .unwrap()
                .lines()
                .filter(|line| line.starts_with('#'))
                .any(|line| anchor(line) == heading);
            assert!(heading.is_empty() || known, "{name}: no heading for {target}");
        }
    }
}
