//! Slurm's configuration for a test cluster: slurm.conf, gres.conf, cgroup.conf, the first topology.yaml, hosts.
#![forbid(unsafe_code)]

use crate::paths;
use crate::profile::{PlannedNode, Profile};
use crate::spec::{CONTROLLER, Content, Entry};
use anyhow::bail;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Address of the controller.
pub(crate) const CONTROLLER_IP: Ipv4Addr = Ipv4Addr::new(10, 75, 0, 1);
/// Port of slurmctld.
pub(crate) const PORT: u16 = 6817;
/// Name of the topology that follows the NVLink fabric.
pub(crate) const FABRIC_TOPOLOGY: &str = "nvlink";
/// Name of the topology of nodes without fabric, as topology-gen calls it.
pub(crate) const FLAT_TOPOLOGY: &str = "flat";
/// Slurm partition of the nodes without fabric.
pub(crate) const PLAIN: &str = "plain";
/// Slurm partition of the trays.
pub(crate) const TRAYS: &str = "trays";

/// What slurm.conf depends on.
pub(crate) struct Settings<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) profile: &'a Profile,
    /// Slurm's own plugin directory.
    pub(crate) stock_plugins: &'a Path,
    /// Whether our plugin directory comes first.
    pub(crate) our_plugin: bool,
    pub(crate) prolog: Option<PathBuf>,
    pub(crate) epilog: Option<PathBuf>,
    /// Keys of slurm.conf that replace ours or come in addition.
    pub(crate) overrides: &'a [(String, String)],
}

/// All files of the controller's `/etc/slurm`.
pub(crate) fn controller_files(settings: &Settings<'_>) -> anyhow::Result<Vec<Entry>> {
    let etc = |name: &str, text: String| Entry::text(Path::new(paths::SLURM_ETC).join(name), text);
    Ok(vec![
        etc("slurm.conf", slurm_conf(settings)?),
        etc("gres.conf", gres_conf(settings.profile)),
        etc("cgroup.conf", "CgroupPlugin=disabled\n".to_owned()),
        etc("topology.yaml", first_topology(settings.profile)),
    ])
}

/// Files that every node has: host names and the key of auth/slurm.
pub(crate) fn shared_files(profile: &Profile) -> Vec<Entry> {
    let mut hosts = format!("127.0.0.1 localhost\n{CONTROLLER_IP} {CONTROLLER}\n");
    for node in profile.nodes() {
        let _ = writeln!(hosts, "{} {}", node.ip, node.name);
    }
    vec![
        Entry::text("/etc/hosts", hosts),
        Entry { path: "/etc/slurm/slurm.key".into(), mode: 0o600, content: Content::Random(1024) },
        // Debian's own has a pattern that Slurm does not know, and each daemon complains of it.
        Entry::text("/etc/slurm/plugstack.conf", ""),
        Entry::directory(paths::PLUGIN_DIR),
    ]
}

fn slurm_conf(settings: &Settings<'_>) -> anyhow::Result<String> {
    let mut lines = base(settings);
    for (key, value) in settings.overrides {
        if !key.chars().all(|c| c.is_ascii_alphanumeric()) || key.is_empty() || value.contains('\n') {
            bail!("{key}={value}: not a setting of slurm.conf");
        }
        match lines.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(key)) {
            Some((_, known)) => *known = value.clone(),
            None => lines.push((key.clone(), value.clone())),
        }
    }
    let mut text = String::from("# Made by the test cluster; gone with it.\n");
    for (key, value) in lines {
        writeln!(text, "{key}={value}")?;
    }
    text.push_str(&node_lines(settings.profile));
    Ok(text)
}

/// The settings in front of nodes and partitions. Keys must be distinct, or overrides would not find them.
fn base(settings: &Settings<'_>) -> Vec<(String, String)> {
    let stock = settings.stock_plugins.display();
    let plugins =
        if settings.our_plugin { format!("{}:{stock}", paths::PLUGIN_DIR) } else { stock.to_string() };
    let fixed = [
        ("SlurmctldHost", format!("{CONTROLLER}({CONTROLLER_IP})")),
        ("ClusterName", settings.cluster.to_owned()),
        ("PluginDir", plugins),
        ("SlurmUser", "root".to_owned()),
        ("AuthType", "auth/slurm".to_owned()),
        ("CredType", "cred/slurm".to_owned()),
        ("SlurmctldParameters", "enable_configless".to_owned()),
        // A slurmd that reconfigures while a prolog runs spins from this time on: dozens at once leave no processor to anybody.
        ("SlurmdParameters", "config_overrides,conmgr_quiesce_timeout=300".to_owned()),
        ("StateSaveLocation", "/var/spool/slurmctld".to_owned()),
        ("SlurmdSpoolDir", "/var/spool/slurmd".to_owned()),
        ("SlurmctldLogFile", "/var/log/slurm/slurmctld.log".to_owned()),
        ("SlurmdLogFile", "/var/log/slurm/slurmd.log".to_owned()),
        ("SlurmctldDebug", "verbose".to_owned()),
        ("SlurmdDebug", "verbose".to_owned()),
        ("LogTimeFormat", "iso8601_ms".to_owned()),
        ("SelectType", "select/cons_tres".to_owned()),
        ("SelectTypeParameters", "CR_CPU".to_owned()),
        ("TopologyPlugin", "topology/block".to_owned()),
        ("SchedulerType", "sched/backfill".to_owned()),
        // A job on an idle cluster starts in well under a second instead of after 2 to 4.
        ("SchedulerParameters", "batch_sched_delay=0,sched_interval=1,bf_interval=1".to_owned()),
        ("GresTypes", "gpu".to_owned()),
        ("ReturnToService", "2".to_owned()),
        ("ProctrackType", "proctrack/linuxproc".to_owned()),
        ("TaskPlugin", "task/none".to_owned()),
        ("MailProg", "/bin/true".to_owned()),
        ("MpiDefault", "none".to_owned()),
        ("JobCompType", "jobcomp/none".to_owned()),
        ("PrologFlags", "Alloc".to_owned()),
        ("PrologEpilogTimeout", "120".to_owned()),
    ];
    let hooks = [("Prolog", &settings.prolog), ("Epilog", &settings.epilog)];
    let hooks = hooks.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?.display().to_string())));
    fixed.into_iter().chain(hooks).map(|(key, value)| (key.to_owned(), value)).collect()
}

fn node_lines(profile: &Profile) -> String {
    let shape = &profile.node;
    let mut text = String::new();
    let (mut trays, mut plain) = (Vec::new(), Vec::new());
    for PlannedNode { name, ip, gpus, fabric } in profile.nodes() {
        let gres = if gpus == 0 { String::new() } else { format!(" Gres=gpu:{gpus}") };
        let (sockets, cores, memory) = (shape.sockets, shape.cores_per_socket, shape.memory_mib);
        let _ = writeln!(
            text,
            "NodeName={name} NodeAddr={ip} Sockets={sockets} CoresPerSocket={cores} RealMemory={memory}{gres}"
        );
        if fabric.is_some() { trays.push(name) } else { plain.push(name) }
    }
    if !trays.is_empty() {
        let _ = writeln!(
            text,
            "PartitionName={TRAYS} Nodes={} Default=YES Topology={FABRIC_TOPOLOGY}",
            trays.join(",")
        );
    }
    if !plain.is_empty() {
        let default = if trays.is_empty() { "YES" } else { "NO" };
        let _ = writeln!(
            text,
            "PartitionName={PLAIN} Nodes={} Default={default} Topology={FLAT_TOPOLOGY}",
            plain.join(",")
        );
    }
    text
}

/// One line for each group of nodes with equally many GPUs.
fn gres_conf(profile: &Profile) -> String {
    let nodes = profile.nodes();
    let mut counts: Vec<u32> = nodes.iter().map(|node| node.gpus).filter(|gpus| *gpus > 0).collect();
    counts.sort_unstable();
    counts.dedup();
    let mut text = String::from("AutoDetect=off\n");
    for count in counts {
        let names: Vec<&str> =
            nodes.iter().filter(|node| node.gpus == count).map(|node| node.name.as_str()).collect();
        let _ = writeln!(text, "NodeName={} Name=gpu File=/dev/nvidia[0-{}]", names.join(","), count - 1);
    }
    text
}

/// The topology before anybody has looked at the fabric: no blocks yet. The names are there from the beginning,
/// because a partition that names an unknown topology ends slurmctld.
fn first_topology(profile: &Profile) -> String {
    let mut text = format!("---\n- topology: {FABRIC_TOPOLOGY}\n  cluster_default: true\n  flat: true\n");
    if profile.plain.is_some() {
        let _ = writeln!(text, "- topology: {FLAT_TOPOLOGY}\n  cluster_default: false\n  flat: true");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(profile: &str, our_plugin: bool, overrides: &[(String, String)]) -> anyhow::Result<String> {
        let profile = Profile::load(profile)?;
        slurm_conf(&Settings {
            cluster: "t",
            profile: &profile,
            stock_plugins: Path::new("/usr/lib/x/slurm-wlm"),
            our_plugin,
            prolog: Some("/usr/sbin/imex-prolog".into()),
            epilog: None,
            overrides,
        })
    }

    #[test]
    fn the_stock_run_differs_only_in_the_plugin_directory() {
        let (ours, stock) = (conf("mixed", true, &[]).unwrap(), conf("mixed", false, &[]).unwrap());
        let different: Vec<(&str, &str)> = ours.lines().zip(stock.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!(
            different,
            [("PluginDir=/usr/lib/slurm-nvlink:/usr/lib/x/slurm-wlm", "PluginDir=/usr/lib/x/slurm-wlm")]
        );
    }

    #[test]
    fn an_override_replaces_in_any_spelling_and_an_unknown_key_is_added() {
        let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let text =
            conf("small-2x4", true, &[set("prologflags", "Alloc,Contain"), set("KillWait", "5")]).unwrap();
        assert_eq!(text.matches("PrologFlags").count(), 1);
        assert!(text.contains("PrologFlags=Alloc,Contain\n") && text.contains("KillWait=5\n"), "{text}");
        assert!(conf("small-2x4", true, &[set("A B", "1")]).is_err());
    }

    #[test]
    fn plain_nodes_have_a_partition_and_a_topology_of_their_own() {
        let text = conf("mixed", true, &[]).unwrap();
        assert!(
            text.ends_with("PartitionName=plain Nodes=p01,p02,p03,p04 Default=NO Topology=flat\n"),
            "{text}"
        );
        assert!(text.contains("Epilog=").eq(&false) && text.contains("Prolog=/usr/sbin/imex-prolog\n"));
        let topologies = first_topology(&Profile::load("mixed").unwrap());
        assert_eq!(topologies.matches("flat: true").count(), 2);
    }

    #[test]
    fn gres_lines_follow_the_gpus_of_a_tray() {
        let text = gres_conf(&Profile::load("nvl8").unwrap());
        assert_eq!(
            text,
            "AutoDetect=off\nNodeName=r01n01,r01n02,r01n03,r01n04 Name=gpu File=/dev/nvidia[0-7]\n"
        );
    }
}
