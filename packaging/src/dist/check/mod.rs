#![forbid(unsafe_code)]
//! `cargo xtask dist --check`: the packages in a clean Debian, by the commands of the README as they stand there.
//!
//! ```text
//! a cluster on stock Slurm -> the five steps -> a job in one NVLink partition with its IMEX domain
//!   -> upgrade under a running job -> downgrade -> a Slurm of another release -> back to stock -> nothing left
//! ```
//! Real: Debian, apt, systemd, Slurm, the packages. Simulated: GPUs, NVML, `nvidia-imex`, and the other release of Slurm.

mod readme;
mod site;
mod stamp;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tests::documents::{self, Document, PLAYED, PLAYED_SECTIONS as SECTIONS};
use tests::machine::Machine;
use tests::wait_for;

use readme::blocks;
use site::{SOON, Site, shell};

/// The job that shows it: every tray says which domain it has.
const JOB: &str = "timeout 60 srun --label --exclusive --time=1 --nodes";
const WATCH: &str = "topology-gen-watch";
/// What a site keeps when everything of ours is gone: what it or topology-gen has written there for it.
const KEPT: [&str; 3] = ["/etc/slurm/", "/etc/slurm-nvlink", "/etc/systemd/system/slurmd.service.d"];

/// Packages of this version, and of a higher one.
pub(super) struct Packages {
    pub(super) these: Vec<PathBuf>,
    pub(super) higher: Vec<PathBuf>,
    pub(super) higher_version: &'static str,
    /// A package by the name of Slurm's plugins with a higher version and nothing in it.
    pub(super) other_slurm: PathBuf,
}

/// Plays it; tells of each part that went well, and how long it took.
///
/// # Errors
/// The first thing that is not as it must be.
pub(super) fn run(packages: &Packages, tell: &mut dyn FnMut(&str, Duration)) -> Result<()> {
    let readme = documents::named("README.md")?;
    let mut play = Play { readme, packages, site: Site::boot()?, typed: RefCell::default(), tell };
    play.part("a cluster of Debian's Slurm, without anything of ours", Play::stock)?;
    let before = play.files()?;
    play.part("the five steps of the README", Play::install)?;
    play.part("jobs in NVLink partitions, with their IMEX domains (simulated)", Play::jobs)?;
    play.part("the plugin's metrics, in the folder of Debian's service", Play::metrics)?;
    play.part("an upgrade under a running job, and settings of the site", Play::upgrade)?;
    play.part("a downgrade", Play::downgrade)?;
    play.part("a Slurm of another release (simulated) without ours", Play::other_slurm)?;
    play.part("back to stock in one line, and ours again", Play::back)?;
    play.part("everything removed", |play| play.remove(&before))?;
    play.part("every command that is claimed for this was typed", Play::all_typed)
}

struct Play<'a> {
    readme: Document,
    packages: &'a Packages,
    site: Site,
    /// What was typed of [`PLAYED`].
    typed: RefCell<BTreeSet<&'static str>>,
    tell: &'a mut dyn FnMut(&str, Duration),
}

impl Play<'_> {
    fn part(&mut self, what: &str, run: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        run(self).map_err(|error| {
            let log = self.site.log().unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            error.context(format!("{what}\n--- slurmctld.log, its end\n{}\n---", tail.join("\n")))
        })?;
        (self.tell)(what, begun.elapsed());
        Ok(())
    }

    /// Types a line of the documents, word by word one of [`PLAYED`].
    fn type_line(&self, machine: &Machine, line: &str) -> Result<String> {
        let said = shell(machine, line)?;
        self.was_typed(line)?;
        Ok(said)
    }

    fn was_typed(&self, line: &str) -> Result<()> {
        let known = PLAYED.iter().find(|known| **known == line);
        self.typed.borrow_mut().insert(known.with_context(|| format!("{line:?} is not claimed"))?);
        Ok(())
    }

    fn all_typed(&self) -> Result<()> {
        let typed = self.typed.borrow();
        let missing: Vec<&&str> = PLAYED.iter().filter(|line| !typed.contains(**line)).collect();
        ensure!(missing.is_empty(), "{missing:?}");
        Ok(())
    }

    fn typed(&self, title: &str) -> Result<String> {
        let mut printed = String::new();
        for block in blocks(&self.readme, title)? {
            let text = self.site.typed(&block).with_context(|| format!("README, {title:?}"))?;
            printed.push_str(&text);
            for line in block.lines.lines().filter(|line| PLAYED.contains(line)) {
                self.was_typed(line)?;
            }
        }
        Ok(printed)
    }

    fn stock(&self) -> Result<()> {
        for tray in &self.site.trays {
            shell(tray, "systemctl enable --now nvidia-imex")?;
        }
        shell(&self.site.controller, "systemctl start slurmctld")?;
        for tray in &self.site.trays {
            shell(
                tray,
                "echo 'SLURMD_OPTIONS=\"--conf-server ctl:6817\"' >/etc/default/slurmd\nsystemctl start slurmd",
            )?;
        }
        self.site.wait_idle()?;
        let said = shell(&self.site.controller, &format!("{JOB}=4 hostname"))?;
        ensure!(said.lines().count() == 4, "{said}");
        Ok(())
    }

    fn install(&self) -> Result<()> {
        self.site.bring(&self.packages.these)?;
        self.typed(SECTIONS[0])?;
        self.site.wait_idle()?;
        self.steered()?;
        self.confirmed()?;
        for tray in &self.site.trays {
            let imex = tray.run(&["systemctl", "is-active", "nvidia-imex"])?;
            ensure!(!imex.status.success(), "{}: NVIDIA's own service still runs", tray.name());
        }
        for machine in self.site.machines() {
            let changed = shell(
                machine,
                "dpkg --verify slurm-nvlink-plugin slurm-nvlink-plugin-dir imex-prolog topology-gen",
            )?;
            ensure!(changed.is_empty(), "{}: not as packed:\n{changed}", machine.name());
        }
        Ok(())
    }

    /// The program of the plugin's package does what its page says.
    fn confirmed(&self) -> Result<()> {
        let controller = &self.site.controller;
        let said = self.type_line(controller, "slurm-nvlink-confirm")?;
        ensure!(said.contains("confirmed: /var/lib/slurm-nvlink/layout/"), "{said}");
        const FOLDERS: &str = "slurm-nvlink-confirm --plugins DIR --folder DIR --dry-run";
        let folders = FOLDERS.replacen("DIR", "/usr/lib/slurm-nvlink/stock", 1).replacen("DIR", "/root", 1);
        let said = shell(controller, &folders)?;
        self.was_typed(FOLDERS)?;
        ensure!(said.contains("nothing was written (--dry-run)"), "{said}");
        let said = self.type_line(controller, "slurm-nvlink-confirm --help")?;
        ensure!(["--plugins", "--folder", "--dry-run"].iter().all(|option| said.contains(option)), "{said}");
        let said = self.type_line(controller, "slurm-nvlink-confirm --version")?;
        ensure!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
        Ok(())
    }

    /// The plugin has loaded into the running slurmctld and knows both racks.
    fn steered(&self) -> Result<()> {
        let shown = shell(&self.site.controller, "scontrol show topology")?;
        ensure!(shown.matches("BlockName=nvl-").count() == 2, "two NVLink partitions:\n{shown}");
        ensure!(self.mapped()?, "slurmctld has not loaded our plugin");
        let log = self.site.log()?;
        let last = log.rfind("slurm-nvlink").map_or("", |at| &log[at..]);
        ensure!(log.contains("it steers jobs"), "{last}");
        Ok(())
    }

    /// Whether the running slurmctld has our plugin in memory.
    fn mapped(&self) -> Result<bool> {
        let lines = "cat /proc/$(systemctl show --property=MainPID --value slurmctld)/maps";
        Ok(shell(&self.site.controller, lines)?.contains("/usr/lib/slurm-nvlink/topology_block.so"))
    }

    fn jobs(&self) -> Result<()> {
        self.domains(2, 1)?;
        self.domains(3, 2)?;
        self.nothing_runs()
    }

    /// A job of so many trays lies in so many NVLink partitions, and has a domain of its trays in each.
    fn domains(&self, trays: usize, racks: usize) -> Result<()> {
        let said =
            shell(&self.site.controller, &format!("{JOB}={trays} sh -c 'hostname; imex-prolog status'"))?;
        let ready = said.lines().filter(|line| line.contains(": ready; block nvl-")).count();
        ensure!(ready == trays, "{trays} trays of the job are not ready:\n{said}");
        let names: BTreeSet<&str> = said
            .lines()
            .filter_map(|line| line.split_once(": ").map(|(_, rest)| rest))
            .filter(|rest| self.site.trays.iter().any(|tray| tray.name() == *rest))
            .collect();
        let seen: BTreeSet<&str> = names.iter().filter_map(|name| name.get(..2)).collect();
        ensure!(names.len() == trays && seen.len() == racks, "{names:?}:\n{said}");
        // A tray tells of those with which it shares an NVLink partition, and of no other.
        let members = said.lines().filter(|line| line.contains("member ")).count();
        let of_racks = |rack: &&str| names.iter().filter(|name| name.starts_with(*rack)).count().pow(2);
        ensure!(members == seen.iter().map(of_racks).sum::<usize>(), "{members} members:\n{said}");
        Ok(())
    }

    fn nothing_runs(&self) -> Result<()> {
        self.site.wait_idle()?;
        for tray in &self.site.trays {
            wait_for(&format!("{}: nothing of the jobs is left", tray.name()), SOON, || {
                let status = shell(tray, "imex-prolog status; pgrep -x nvidia-imex || :")?;
                let none = status == "no job has an IMEX domain on this node\n";
                Ok(if none { Ok(()) } else { Err(status) })
            })?;
        }
        Ok(())
    }

    fn metrics(&self) -> Result<()> {
        const LINE: &str = "TopologyParam=nvlink_metrics=/run/slurmctld";
        let controller = &self.site.controller;
        shell(controller, &format!("echo {LINE} >>/etc/slurm/slurm.conf\nsystemctl restart slurmctld"))?;
        self.was_typed(LINE)?;
        self.site.wait_idle()?;
        wait_for("the plugin writes its metrics", SOON, || {
            let said = shell(
                controller,
                &format!("{JOB}=1 true\ncat /run/slurmctld/slurm_nvlink_plugin.prom || :"),
            )?;
            let steers = said.contains("slurm_nvlink_plugin_steering{topology=\"nvlink\"} 1\n");
            Ok(if steers { Ok(()) } else { Err(said) })
        })
    }

    fn upgrade(&self) -> Result<()> {
        self.site.bring(&self.packages.higher)?;
        for tray in &self.site.trays {
            shell(
                tray,
                "echo '# of the site' >>/etc/logrotate.d/imex-prolog\nmkdir -p /etc/slurm-nvlink\necho 'single_tray = \"start\"' >/etc/slurm-nvlink/imex.toml",
            )?;
        }
        let end = "/root/end";
        let wait = format!("until [ -e {end} ]; do read -t 1 line </dev/zero; done");
        let submit = format!("sbatch --parsable --nodes=2 --exclusive --output=/dev/null --wrap={wait:?}");
        let job = shell(&self.site.controller, &submit)?.trim().to_owned();
        self.job_is(&job, "RUNNING")?;
        self.type_line(&self.site.controller, "systemctl enable --now topology-gen-watch")?;
        self.typed(SECTIONS[1])?;
        self.job_is(&job, "RUNNING")?;
        let program = format!("readlink /proc/$(systemctl show --property=MainPID --value {WATCH})/exe");
        let program = shell(&self.site.controller, &program)?;
        ensure!(
            program.trim() == "/usr/bin/topology-gen",
            "{WATCH} does not run the new program: {program:?}"
        );
        self.type_line(&self.site.controller, "systemctl reload topology-gen-watch")?;
        wait_for("the service goes on", SOON, || {
            let said = shell(&self.site.controller, &format!("journalctl --quiet --output=cat -u {WATCH}"))?;
            Ok(if said.contains("told to go on") { Ok(()) } else { Err(said) })
        })?;
        self.version_is(self.packages.higher_version)?;
        for tray in &self.site.trays {
            let kept = shell(tray, "tail -n 1 /etc/logrotate.d/imex-prolog /etc/slurm-nvlink/imex.toml")?;
            ensure!(kept.contains("# of the site") && kept.contains("single_tray"), "{kept}");
            shell(tray, &format!("touch {end}"))?;
        }
        self.nothing_runs()?;
        self.steered()?;
        self.jobs()
    }

    fn downgrade(&self) -> Result<()> {
        self.site.bring(&self.packages.these)?;
        for machine in self.site.machines() {
            self.type_line(machine, "apt install --allow-downgrades ./*.deb")?;
        }
        shell(&self.site.controller, "systemctl restart slurmctld")?;
        self.version_is(env!("CARGO_PKG_VERSION"))?;
        self.steered()?;
        self.jobs()
    }

    fn version_is(&self, version: &str) -> Result<()> {
        for machine in self.site.machines() {
            let said = shell(
                machine,
                "dpkg-query --show --showformat='${Version}\\n' topology-gen slurm-nvlink-plugin",
            )?;
            ensure!(said.lines().all(|line| line.starts_with(version)), "{}: {said}", machine.name());
        }
        Ok(())
    }

    fn other_slurm(&self) -> Result<()> {
        let controller = &self.site.controller;
        // apt knows: it takes ours away, and would leave the folder that slurm.conf names.
        let name = self.packages.other_slurm.file_name().context("no name")?;
        fs::copy(&self.packages.other_slurm, controller.file("/root").join(name))?;
        let said =
            shell(controller, &format!("apt-get --simulate install /root/{}", name.to_string_lossy()))?;
        let gone = |name: &str| said.lines().any(|line| line.starts_with(&format!("Remv {name} ")));
        ensure!(gone("slurm-nvlink-plugin") && !gone("slurm-nvlink-plugin-dir"), "{said}");
        // Where it came about all the same, slurmctld says so and takes its own plugin.
        let place = controller.file("/usr/lib/slurm-nvlink/topology_block.so");
        let bytes = stamp::of_another_release(&fs::read(&place)?)?;
        shell(controller, "cp /usr/lib/slurm-nvlink/topology_block.so /root/ours")?;
        fs::write(place.with_extension("new"), bytes)?;
        shell(
            controller,
            "mv /usr/lib/slurm-nvlink/topology_block.new /usr/lib/slurm-nvlink/topology_block.so",
        )?;
        let before = self.site.log()?.len();
        shell(controller, "systemctl restart slurmctld")?;
        self.site.wait_idle()?;
        let log = self.site.log()?.split_off(before);
        let told = log
            .lines()
            .filter(|line| line.contains("Incompatible Slurm plugin") && line.contains("slurm-nvlink"));
        let told: Vec<&str> = told.collect();
        ensure!(told.len() == 1, "slurmctld does not say once that it cannot take ours: {told:?}\n{log}");
        println!("           it says: {}", told[0]);
        ensure!(!self.mapped()?, "slurmctld has loaded a plugin of another release");
        self.domains(2, 1)?;
        shell(
            controller,
            "mv /root/ours /usr/lib/slurm-nvlink/topology_block.so\nsystemctl restart slurmctld",
        )?;
        self.site.wait_idle()?;
        self.steered()
    }

    fn back(&self) -> Result<()> {
        let topology = shell(&self.site.controller, "scontrol show topology")?;
        self.typed(SECTIONS[2])?;
        self.site.wait_idle()?;
        ensure!(!self.mapped()?, "slurmctld has loaded our plugin");
        let stock = shell(&self.site.controller, "scontrol show topology")?;
        ensure!(stock == topology, "the same blocks on stock:\n{stock}");
        self.domains(2, 1)?;
        self.nothing_runs()?;
        shell(&self.site.controller, "apt install ./*.deb\nsystemctl restart slurmctld")?;
        self.site.wait_idle()?;
        self.steered()
    }

    fn remove(&self, before: &[BTreeSet<String>]) -> Result<()> {
        let printed = self.typed(SECTIONS[3])?;
        self.site.wait_idle()?;
        ensure!(!printed.contains("still names"), "{printed}");
        let said = shell(&self.site.controller, &format!("{JOB}=4 hostname"))?;
        ensure!(said.lines().count() == 4, "{said}");
        for (machine, (before, after)) in self.site.machines().zip(before.iter().zip(self.files()?)) {
            let kept = |file: &String| KEPT.iter().any(|kept| file.starts_with(kept));
            let left: Vec<&String> = after.difference(before).filter(|file| !kept(file)).collect();
            ensure!(left.is_empty(), "{}: left behind: {left:?}", machine.name());
            let units = shell(machine, "systemctl list-unit-files --no-legend 'topology-gen*' || :")?;
            ensure!(units.is_empty(), "{}: {units}", machine.name());
            let runs = shell(machine, "pgrep -x topology-gen || :")?;
            ensure!(runs.is_empty(), "{}: topology-gen still runs: {runs}", machine.name());
            let known = shell(machine, "dpkg-query --show 'slurm-nvlink*' imex-prolog topology-gen || :")?;
            ensure!(known.lines().all(|line| line.starts_with("dpkg-query: no packages")), "{known}");
        }
        Ok(())
    }

    fn job_is(&self, job: &str, state: &str) -> Result<()> {
        wait_for(&format!("job {job} is {state}"), SOON, || {
            let seen = shell(&self.site.controller, &format!("squeue --noheader --jobs={job} --format=%T"))?;
            Ok(if seen.trim() == state { Ok(()) } else { Err(seen) })
        })
    }

    /// The files of each machine that a package may have brought.
    fn files(&self) -> Result<Vec<BTreeSet<String>>> {
        self.site.machines().map(files_of).collect()
    }
}

fn files_of(machine: &Machine) -> Result<BTreeSet<String>> {
    let list = "find /etc /usr /opt /srv /var /run/slurm-nvlink -xdev \\( -path /var/lib/slurm -o -path /var/log -o -path /var/cache \
                -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /var/tmp \\) -prune -o -print 2>/dev/null || :";
    let logs = "find /var/log -path '*slurm-nvlink*'";
    Ok(shell(machine, &format!("{list}\n{logs}"))?.lines().map(str::to_owned).collect())
}
