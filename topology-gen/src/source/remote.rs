//! Asks every node by a command of the site's own, for example ssh: in parallel, each with a deadline and another try.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fabric::{NodeName, TrayReading};

use super::nvidia_smi;
use crate::command;

/// Stands for the node in a template.
pub const PLACE: &str = "{}";

/// How nodes are asked.
#[derive(Debug, Clone)]
pub struct Template {
    /// A shell command; [`PLACE`] is the node.
    pub command: String,
    /// Nodes asked at the same time.
    pub parallel: usize,
    /// Longest time for one try.
    pub deadline: Duration,
    /// More tries for a node that gives no reading.
    pub retries: u32,
}

/// Asks all nodes. A node that gives no reading has the reason of its last try. `progress` is told now and then how many have
/// answered, and how many of these gave no reading. After `stop` is set no more nodes are asked; those are missing in the answer.
pub fn ask(
    template: &Template,
    nodes: &[NodeName],
    stop: &AtomicBool,
    every: Duration,
    progress: &mut dyn FnMut(usize, usize),
) -> BTreeMap<NodeName, Result<TrayReading, String>> {
    let next = AtomicUsize::new(0);
    let (done, wait) = mpsc::channel();
    let mut answers = BTreeMap::new();
    std::thread::scope(|scope| {
        for _ in 0..template.parallel.clamp(1, nodes.len().max(1)) {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed)
                    && let Some(node) = nodes.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    // The receiver lives until all threads have ended.
                    let _ = done.send((node.clone(), ask_one(template, node)));
                }
            });
        }
        drop(done);
        let mut silent = 0;
        let mut told = Instant::now();
        loop {
            match wait.recv_timeout(every.saturating_sub(told.elapsed())) {
                Ok((node, answer)) => {
                    silent += usize::from(answer.is_err());
                    answers.insert(node, answer);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if told.elapsed() >= every {
                progress(answers.len(), silent);
                told = Instant::now();
            }
        }
    });
    answers
}

fn ask_one(template: &Template, node: &NodeName) -> Result<TrayReading, String> {
    if node.as_str().starts_with('-') {
        return Err("a name that begins with a dash would be an option".to_owned());
    }
    // Node names hold no character that means something to a shell, a leading ~ apart, which the quotes take away.
    let script = template.command.replace(PLACE, &format!("'{node}'"));
    let mut last = String::new();
    for _ in 0..=template.retries {
        match command::run(Command::new("sh").args(["-c", &script]), template.deadline) {
            // A tray without a usable partition ends its probe with another code than 0 and still has a reading.
            Ok(done) => match nvidia_smi::tray(&done.stdout) {
                Ok(reading) => return Ok(reading),
                Err(why) if done.status.success() => last = why,
                Err(_) => last = format!("{}: {}", done.status, done.last_words()),
            },
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{RACK_A, reading};
    use fabric::HostList;

    #[test]
    fn one_bad_node_does_not_keep_the_others_waiting() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("reading"), serde_json::to_string(&reading(&[RACK_A; 4])).unwrap())
            .unwrap();
        let folder = dir.path().display();
        let command = format!(
            "case {{}} in n2) sleep 100 ;; n3) echo no route to host >&2; exit 255 ;; n4) [ -e {folder}/tried ] || {{ touch {folder}/tried; exit 1; }}; cat {folder}/reading ;; n5) cat {folder}/reading; exit 1 ;; *) cat {folder}/reading ;; esac"
        );
        let template = Template { command, parallel: 4, deadline: Duration::from_millis(700), retries: 1 };
        let nodes: Vec<NodeName> = HostList::parse("n[1-9]").unwrap().into_iter().collect();
        let begin = Instant::now();
        let mut told = Vec::new();
        let answers = ask(
            &template,
            &nodes,
            &AtomicBool::new(false),
            Duration::from_millis(200),
            &mut |done, silent| told.push((done, silent)),
        );
        assert!(told.iter().any(|(done, _)| *done < 9) && told.is_sorted(), "{told:?}");
        assert!(begin.elapsed() < Duration::from_secs(20));
        let bad: Vec<String> = answers
            .iter()
            .filter_map(|(node, answer)| Some(format!("{node}: {}", answer.as_ref().err()?)))
            .collect();
        assert_eq!(bad.len(), 2, "{bad:?}");
        assert!(bad[0].starts_with("n2: sh -c") && bad[0].ends_with("does not end within 0 s"), "{bad:?}");
        assert_eq!(bad[1], "n3: exit status: 255: no route to host");
        let stopped = ask(&template, &nodes, &AtomicBool::new(true), Duration::from_secs(9), &mut |_, _| {});
        assert!(stopped.is_empty());
    }
}
