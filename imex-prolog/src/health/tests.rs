use super::*;
use crate::fit::tests::{BLOCK, reading};
use crate::record::tests::sample;
use crate::record::{Record, file_name};
use fabric::names::JobId;
use std::os::unix::fs::PermissionsExt;

fn healthy_gpus() -> Result<TrayReading, NvmlError> {
    Ok(reading())
}

fn pending_gpus() -> Result<TrayReading, NvmlError> {
    let mut reading = reading();
    if let Some(gpu) = reading.gpus.iter_mut().find_map(|gpu| gpu.fabric.as_mut()) {
        gpu.state = fabric::reading::FabricState::InProgress;
    }
    Ok(reading)
}

fn no_library() -> Result<TrayReading, NvmlError> {
    Err(NvmlError::Load { source: "no such file".into() })
}

struct Site {
    temp: tempfile::TempDir,
    ground: Ground,
}

impl Site {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        let paths = Paths::below(root);
        for dir in [&paths.settings, &paths.devices] {
            std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
        }
        std::fs::write(&paths.devices, "Character devices:\n234 nvidia-caps-imex-channels\n").unwrap();
        std::fs::write(root.join("slurm.conf"), "GresTypes=gpu\n").unwrap();
        let ground = Ground {
            paths,
            node: Some(NodeName::new("t1").unwrap()),
            conf: root.join("slurm.conf"),
            read_tray: healthy_gpus,
        };
        let site = Self { temp, ground };
        site.block(BLOCK);
        site.daemon("580.95.05");
        site
    }

    fn block(&self, name: &str) {
        let text = format!(
            "- topology: t\n  cluster_default: true\n  block:\n    block_sizes: [2]\n    blocks:\n    - block: {name}\n      nodes: t[1-2]\n"
        );
        std::fs::write(self.temp.path().join("topology.yaml"), text).unwrap();
    }

    /// A daemon's program that knows its version.
    fn daemon(&self, version: &str) {
        let program = self.temp.path().join("imexd-of-health-test");
        std::fs::write(&program, format!("#!/bin/sh\necho IMEX version is: {version}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = program.display();
        let ports = "server_port = 1101\ncommand_port = 1102\n";
        let text = format!("[daemon]\nprogram = \"{program}\"\ncontrol = \"{program}\"\n{ports}");
        std::fs::write(&self.ground.paths.settings, text).unwrap();
    }

    fn record(&self, change: impl Fn(&mut Record)) -> JobId {
        let dir = Dir::create(&self.ground.paths.run_dir, 0o700).unwrap();
        let mut record = Record { boot: Proc::new("/proc".as_ref()).boot_id().unwrap(), ..sample() };
        record.daemon = None;
        change(&mut record);
        dir.write_atomic(&file_name(record.job), &record.encode().unwrap(), 0o600).unwrap();
        record.job
    }

    fn check(&self) -> Health {
        check(&self.ground)
    }
}

#[test]
fn a_tray_in_its_block_without_jobs_is_healthy() {
    let health = Site::new().check();
    assert_eq!((health.reason(), health.warnings.as_slice()), (None, [].as_slice()));
    assert_eq!(
        health.summary,
        [
            "t1 in block nvl-7e7e7e7e-32766",
            "NVLink partition 7e7e7e7e-7e7e-7e7e-7e7e-7e7e7e7e7e7e.32766",
            "0 job(s) with a domain"
        ]
    );
}

#[test]
fn the_fabric_and_another_clique_are_faults_in_one_line() {
    let mut site = Site::new();
    site.block("nvl-7e7e7e7e-7");
    let reason = site.check().reason().unwrap();
    assert_eq!(
        reason,
        "imex: this node is in block nvl-7e7e7e7e-7, but its GPUs are in another NVLink partition (NVML: \
         7e7e7e7e-7e7e-7e7e-7e7e-7e7e7e7e7e7e.32766, whose block would be nvl-7e7e7e7e-32766)"
    );
    site.block(BLOCK);
    site.ground.read_tray = pending_gpus;
    let reason = site.check().reason().unwrap();
    assert!(reason.starts_with("imex: this node's NVLink fabric cannot be used"), "{reason}");
    assert!(!reason.contains('\n'));
}

#[test]
fn gpus_that_cannot_be_read_are_a_fault_only_where_a_fabric_must_be() {
    let mut site = Site::new();
    site.ground.read_tray = no_library;
    assert_eq!(
        site.check().reason().unwrap(),
        "imex: GPUs cannot be read: cannot load libnvidia-ml.so.1: no such file"
    );
    site.block("cpu-rack");
    assert_eq!(site.check().reason(), None);
    site.ground.node = Some(NodeName::new("elsewhere").unwrap());
    assert_eq!(site.check().reason(), None);
}

#[test]
fn another_version_a_missing_program_and_a_missing_device_class_are_faults() {
    let site = Site::new();
    site.daemon("570.1");
    assert!(
        site.check()
            .reason()
            .unwrap()
            .contains("is version 570.1, but the NVIDIA driver is version 580.95.05")
    );
    std::fs::write(&site.ground.paths.settings, "[daemon]\nprogram = \"/none/imexd\"\n").unwrap();
    assert!(site.check().reason().unwrap().contains("/none/imexd is not an executable file"));
    site.daemon("580.95.05");
    std::fs::write(&site.ground.paths.devices, "Character devices:\n").unwrap();
    assert!(
        site.check().reason().unwrap().ends_with("has no character device class nvidia-caps-imex-channels")
    );
    std::fs::write(site.temp.path().join("slurm.conf"), "SwitchType=switch/nvidia_imex\n").unwrap();
    assert_eq!(site.check().reason(), None);
}

#[test]
fn what_is_wrong_on_all_trays_is_only_a_warning() {
    let site = Site::new();
    std::fs::write(&site.ground.paths.settings, "mode = 1\n").unwrap();
    std::fs::write(site.temp.path().join("topology.yaml"), "x: [").unwrap();
    let health = site.check();
    // Without settings the daemon has its usual name, and others on this machine may run such tests as well.
    let ours = health.faults.iter().filter(|fault| !fault.starts_with("another IMEX daemon")).count();
    assert_eq!((ours, health.warnings.len()), (0, 2), "{health:?}");
}

#[test]
fn what_a_dead_job_left_is_a_fault_and_a_running_job_is_none() {
    let site = Site::new();
    let job = site.record(|_| {});
    assert_eq!(site.check().reason(), None);
    let dir = Dir::open(&site.ground.paths.run_dir).unwrap();
    let started = Proc::new("/proc".as_ref()).my_start().unwrap();
    let boot = Proc::new("/proc".as_ref()).boot_id().unwrap();
    crate::mark::Mark { epilog_started: started, boot }.leave(&dir, job).unwrap();
    let reason = site.check().reason().unwrap();
    assert_eq!(reason, "imex: job 1234 has ended, but its IMEX domain is still here");
    // While a prolog or epilog is at work, nothing of that is judged.
    let _lock = TrayLock::take(&dir, Deadline::after(Duration::ZERO)).unwrap();
    assert_eq!(site.check().reason(), None);
}

#[test]
fn a_domain_that_no_epilog_removed_is_a_warning_as_soon_as_slurmd_knows_the_job_to_be_over() {
    let site = Site::new();
    let spool = site.temp.path().display();
    std::fs::write(site.temp.path().join("slurm.conf"), format!("GresTypes=gpu\nSlurmdSpoolDir={spool}\n"))
        .unwrap();
    let now = Proc::new("/proc".as_ref()).my_start().unwrap();
    let job = site.record(|record| record.prolog_started = now);
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let revoked = |at: u64| {
        let bytes = crate::cred_state::tests::file(&[(job.get(), at)]);
        std::fs::write(site.temp.path().join(crate::cred_state::FILE), bytes).unwrap();
        let health = site.check();
        assert_eq!(health.reason(), None, "the next prolog clears it");
        health.warnings
    };
    // That of an earlier run of the same job.
    assert_eq!(revoked(seconds - 600), [""; 0]);
    let words = format!(
        "Slurm has ended job {job}, and no epilog has removed its IMEX domain yet; the next prolog does"
    );
    assert_eq!(revoked(seconds + 60), [words]);
}

#[test]
fn the_standing_daemon_must_be_ready_and_a_dead_one_is_replaced_by_the_next_prolog() {
    let site = Site::new();
    let control = site.temp.path().join("ctl-of-health-test");
    let says = |word: &str| {
        std::fs::write(&control, format!("#!/bin/sh\necho {word}\n")).unwrap();
        std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let program = site.temp.path().join("imexd-of-health-test");
    let text = format!(
        "mode = \"per-partition\"\n[daemon]\nprogram = \"{}\"\ncontrol = \"{}\"\n",
        program.display(),
        control.display()
    );
    std::fs::write(&site.ground.paths.settings, text).unwrap();
    let proc = Proc::new("/proc".as_ref());
    let dir = Dir::create(&site.ground.paths.run_dir, 0o700).unwrap();
    let put = |daemon| {
        let record =
            Record { kind: crate::record::Kind::Standing, boot: proc.boot_id().unwrap(), daemon, ..sample() };
        dir.write_atomic(&record.file_name(), &record.encode().unwrap(), 0o600).unwrap();
    };
    put(Some(proc.myself().unwrap()));
    says("READY");
    let health = site.check();
    assert_eq!(health.reason(), None);
    assert!(health.summary.contains(&"standing domain READY".to_owned()), "{health:?}");
    says("INIT_GPU");
    assert_eq!(site.check().reason().unwrap(), "imex: the standing domain's IMEX daemon is INIT_GPU");
    put(None);
    let health = site.check();
    assert_eq!(health.reason(), None);
    assert!(health.warnings.iter().any(|line| line.contains("daemon is gone")), "{health:?}");
}

#[test]
fn a_daemon_without_a_record_and_one_of_somebody_else_are_faults() {
    let site = Site::new();
    Dir::create(&site.ground.paths.run_dir, 0o700).unwrap();
    let program = site.temp.path().join("imexd-of-health-test");
    std::fs::write(
        &program,
        "#!/bin/sh\necho IMEX version is: 580.95.05\n[ \"$1\" = --version ] || read x\n",
    )
    .unwrap();
    // As the kernel has it for a script: the interpreter first; a link makes the name right.
    let shell = site.temp.path().join("imexd-of-health-test-shell");
    std::os::unix::fs::symlink("/bin/sh", &shell).unwrap();
    let text = format!("[daemon]\nprogram = \"{0}\"\ncontrol = \"{0}\"\n", shell.display());
    std::fs::write(&site.ground.paths.settings, text).unwrap();
    let start = |config: &str| {
        std::process::Command::new(&shell)
            .args(["-c", "read x", "imexd", "-c", config])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let ours = site.ground.paths.run_dir.join("job-9/config.cfg");
    let mut children = [start(ours.to_str().unwrap()), start("/etc/nvidia-imex/config.cfg")];
    let deadline = Deadline::after(Duration::from_secs(20));
    let mut reason = String::new();
    while !(reason.contains("IMEX daemon of a dead job runs: ")
        && reason.contains("another IMEX daemon holds this node: "))
    {
        assert!(!deadline.has_passed(), "{reason}");
        reason = site.check().reason().unwrap_or_default();
    }
    for child in &mut children {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
