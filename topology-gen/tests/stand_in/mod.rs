//! A controller made of two shell scripts (simulated), so that `apply` can be stopped, refused and misled at will.

#![allow(dead_code, reason = "each of the test files uses a part of it")]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use topology_gen::apply::backup::Backups;
use topology_gen::apply::{ApplyError, Order, Outcome, Step, Watch, apply};
use topology_gen::controller::Controller;

pub(crate) const OLD: &str = "topology: t\nblock:\n  block_sizes: [4]\n  blocks:\n    - block: a\n      nodes: \"n[1-4]\"\n    - block: b\n      nodes: \"n[5-8]\"\n";
pub(crate) const NEW: &str = "topology: t\nblock:\n  block_sizes: [4]\n  blocks:\n    - block: a\n      nodes: \"n[1-4]\"\n    - block: b\n      nodes: \"n[5-7]\"\n    - block: c\n      nodes: \"n8\"\n";

/// A controller that has loaded [`OLD`].
pub(crate) struct Site {
    pub(crate) dir: PathBuf,
}

/// What a run may do.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) move_running_jobs: bool,
    pub(crate) dry_run: bool,
    pub(crate) allow_foreground: bool,
    /// Waits only for a moment for what the controller reports: for runs in which it never reports it.
    pub(crate) hasty: bool,
    pub(crate) without_reload: bool,
}

impl Site {
    pub(crate) fn new(dir: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in");
        for program in ["scontrol", "squeue"] {
            // They find their folder by the name they are called by.
            std::os::unix::fs::symlink(source.join(program), dir.join(program)).unwrap();
        }
        let site = Self { dir: dir.to_owned() };
        for (name, text) in [
            ("topology.yaml", OLD),
            ("loaded", OLD),
            ("starts", "1\n"),
            ("log", ""),
            ("calls", ""),
            ("jobs", ""),
        ] {
            site.put(name, text);
        }
        fs::create_dir_all(dir.join("proc/44")).unwrap();
        site.put("proc/44/cmdline", "slurmctld\0--systemd\0");
        site
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    pub(crate) fn get(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.dir.join("topology.yaml")
    }

    pub(crate) fn backups(&self) -> Backups {
        Backups::at(&self.dir.join("old"), &self.target())
    }

    pub(crate) fn reloads(&self) -> usize {
        self.get("calls").lines().count()
    }

    /// Names in the folder of the target that begin with a dot.
    pub(crate) fn hidden(&self) -> Vec<String> {
        let names = fs::read_dir(&self.dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with('.')).collect()
    }

    pub(crate) fn apply(
        &self,
        text: &str,
        options: Options,
        step: &dyn Fn(Step),
    ) -> (Result<Outcome, ApplyError>, Vec<String>) {
        let controller =
            Controller { scontrol: self.dir.join("scontrol"), deadline: Duration::from_secs(20) };
        let order = Order {
            target: &self.target(),
            backups: &self.dir.join("old"),
            controller: &controller,
            conf: None,
            proc: &self.dir.join("proc"),
            deadline: if options.hasty { Duration::from_secs(2) } else { Duration::from_secs(20) },
            allow_foreground: options.allow_foreground,
            without_reload: options.without_reload,
            move_running_jobs: options.move_running_jobs,
            accept_wrong: true,
            dry_run: options.dry_run,
        };
        let lines = RefCell::new(Vec::new());
        let mut say = |line: &dyn std::fmt::Display| lines.borrow_mut().push(line.to_string());
        let done = apply(&order, text, &mut Watch { say: &mut say, step });
        (done, lines.into_inner())
    }
}
