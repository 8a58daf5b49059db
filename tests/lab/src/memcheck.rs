#![forbid(unsafe_code)]
//! Valgrind's memcheck: how it is started, and whose what it found is.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Options for every process that is looked at.
pub const OPTIONS: [&str; 7] = [
    "--tool=memcheck",
    "--leak-check=full",
    "--show-leak-kinds=definite",
    "--errors-for-leak-kinds=definite",
    "--num-callers=40",
    // Whose code it is shows by the folders of its sources, also when the plugin has been unloaded.
    "--fullpath-after=",
    "--keep-debuginfo=yes",
];

/// Our plugin in a line of a stack: its file on a test cluster and in the lab, or the folder of its sources where memcheck
/// knows the line.
const OURS: [&str; 3] =
    ["/usr/lib/slurm-nvlink/topology_block.so", "/mnt/plugin/topology_block.so", "slurm-plugin/src/"];

/// The errors of all processes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    processes: usize,
    /// Kind and innermost functions of each error with our plugin in its stack, and how often it was seen.
    ours: BTreeMap<String, u32>,
    /// The same of the others.
    others: BTreeMap<String, u32>,
}

impl Report {
    /// Whether nothing lies in or below our plugin.
    pub fn is_clean(&self) -> bool {
        self.ours.is_empty()
    }

    /// Takes the log of one process.
    ///
    /// # Errors
    /// It has no end: memcheck or the process was killed.
    pub fn take(&mut self, log: &str) -> Result<()> {
        ensure!(log.contains("ERROR SUMMARY: "), "a log of memcheck has no summary at its end");
        self.processes += 1;
        // Each line begins with the number of the process between signs, and an empty one ends an error.
        let lines: Vec<&str> =
            log.lines().map(|line| line.split_once("== ").map_or("", |(_, rest)| rest)).collect();
        for error in lines.split(|line| line.trim().is_empty()) {
            let Some(stack) = error.iter().position(|line| line.trim_start().starts_with("at 0x")) else {
                continue;
            };
            let is_ours = |line: &str| OURS.iter().any(|ours| line.contains(ours));
            let ours = error.iter().any(|line| is_ours(line));
            // Of the stack of an error of ours the part from our own code on tells most.
            let stack = &error[stack..];
            let telling = stack.iter().position(|line| ours && is_ours(line)).unwrap_or(0);
            let functions: Vec<&str> =
                stack[telling..].iter().filter_map(|line| function(line)).take(4).collect();
            let words = format!("{}: {}", kind(error[0]), functions.join(" < "));
            *if ours { &mut self.ours } else { &mut self.others }.entry(words).or_default() += 1;
        }
        Ok(())
    }
}

/// The function of a line of a stack: `by 0x4B4499D: slurm_xcalloc (in ...)`.
fn function(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("0x")?.1.split_once(": ")?;
    Some(rest.rsplit_once(" (").map_or(rest, |(function, _)| function))
}

/// What an error's first line says, without sizes and counts.
fn kind(line: &str) -> &str {
    if line.contains("definitely lost") { "leak" } else { line.trim() }
}

/// Reads the logs in a folder.
///
/// # Errors
/// There are none, or they cannot be read.
pub fn read(folder: &Path) -> Result<Report> {
    let mut report = Report::default();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.file_stem().is_some_and(|stem| stem == "memcheck") {
            let log = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            report.take(&String::from_utf8_lossy(&log)).with_context(|| format!("in {}", path.display()))?;
        }
    }
    ensure!(report.processes > 0, "memcheck has written nothing into {}", folder.display());
    Ok(report)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "memcheck looked at {} processes", self.processes)?;
        for (whose, errors) in [("in or below our plugin", &self.ours), ("elsewhere in Slurm", &self.others)]
        {
            writeln!(f, "errors {whose}: {}", errors.len())?;
            for (words, count) in errors {
                writeln!(f, "  {count} x {words}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
==3== Command: slurmctld --systemd
==3== 
==3== Invalid read of size 8
==3==    at 0x4B4499D: bit_set (in /usr/lib/x86_64-linux-gnu/slurm-wlm/libslurmfull.so)
==3==    by 0x5B4499D: topology_block::entry::eval (slurm-plugin/src/entry.rs:7)
==3==  Address 0x5d43170 is 0 bytes after a block of size 16 alloc'd
==3==    at 0x4999DC3: calloc (vg_replace_malloc.c:1616)
==3== 
==3== 1,655 (128 direct, 1,527 indirect) bytes in 1 blocks are definitely lost in loss record 1,124 of 1,221
==3==    at 0x4999FFF: realloc (vg_replace_malloc.c:1741)
==3==    by 0x4A48D77: block_record_validate (in /usr/lib/x86_64-linux-gnu/slurm-wlm/topology_block.so)
==3== 
==3== LEAK SUMMARY:
==3==    definitely lost: 360 bytes in 3 blocks
==3== 
==3== ERROR SUMMARY: 2 errors from 2 contexts (suppressed: 0 from 0)
";

    #[test]
    fn an_error_below_our_plugin_is_ours() {
        let mut report = Report::default();
        report.take(LOG).unwrap();
        report.take(LOG).unwrap();
        assert!(!report.is_clean());
        assert_eq!(
            report.to_string(),
            "memcheck looked at 2 processes\n\
             errors in or below our plugin: 1\n  \
             2 x Invalid read of size 8: topology_block::entry::eval < calloc\n\
             errors elsewhere in Slurm: 1\n  \
             2 x leak: realloc < block_record_validate\n"
        );
    }

    #[test]
    fn a_log_that_was_cut_off_is_no_clean_run() {
        assert!(Report::default().take("==3== Command: slurmctld --systemd\n").is_err());
    }

    #[test]
    fn no_log_is_no_clean_run() {
        let folder = std::env::temp_dir().join(format!("memcheck-report-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(read(&folder).is_err());
        fs::remove_dir(folder).unwrap();
    }
}
