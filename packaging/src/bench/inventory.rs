//! A recorded inventory of a large cluster (simulated): racks of 18 trays, some of them cut into two NVLink partitions.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Trays of a rack.
const RACK: u32 = 18;
/// Each rack with this number as a divisor of its own is cut into two halves.
const CUT: u32 = 10;
/// What else Slurm 26.05 says of a node, so that a record is as long as a real one.
const REST: &str = r#""architecture":"aarch64","burstbuffer_network_address":"","boards":1,"boot_time":{"set":true,"infinite":false,"number":1795324388},"tls_cert_last_renewal":{"set":true,"infinite":false,"number":0},"cert_flags":[],"cluster_name":"","cores":72,"specialized_cores":0,"cpu_binding":0,"cpu_load":929,"free_mem":{"set":true,"infinite":false,"number":20180},"cpus":144,"effective_cpus":144,"specialized_cpus":"","energy":{"average_watts":0,"base_consumed_energy":0,"consumed_energy":0,"current_watts":{"set":true,"infinite":false,"number":0},"previous_consumed_energy":0,"last_collected":0},"features":[],"active_features":[],"gpu_spec":"","gres":"gpu:gb200:4","gres_drained":"N/A","gres_used":"gpu:gb200:0","instance_id":"","instance_type":"","last_busy":{"set":true,"infinite":false,"number":1795336606},"mcs_label":"","specialized_memory":0,"next_state_after_reboot":["INVALID"],"operating_system":"Linux 6.8.0-1013-nvidia-64k #14-Ubuntu SMP PREEMPT_DYNAMIC","owner":"","partitions":["trays"],"port":6818,"real_memory":960000,"res_cores_per_gpu":0,"comment":"","reason":"","reason_changed_at":{"set":true,"infinite":false,"number":0},"reason_set_by_user":"","resume_after":{"set":true,"infinite":false,"number":0},"reservation":"","state":["IDLE"],"suspend_time":{"set":false,"infinite":true,"number":0},"alloc_memory":0,"alloc_cpus":0,"alloc_idle_cpus":144,"tres_used":"","slurmd_start_time":{"set":true,"infinite":false,"number":1795336605},"sockets":2,"threads":1,"temporary_disk":0,"weight":1,"topology":"","tres":"cpu=144,mem=937.50G,billing=144,gres/gpu=4","version":"26.05.5""#;

/// The files.
pub(super) struct Inventory {
    pub(super) nodes: u32,
    /// As `scontrol show nodes --json` prints it.
    pub(super) nodes_json: PathBuf,
    /// A program that prints them, in the place of scontrol (simulated).
    pub(super) scontrol: PathBuf,
    /// A folder with what `topology-gen probe` prints on a tray, by rack and half.
    probes: PathBuf,
}

impl Inventory {
    /// Writes them for so many nodes, rounded up to whole racks.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn write(folder: &Path, nodes: u32) -> anyhow::Result<Self> {
        let racks = nodes.div_ceil(RACK).max(1);
        let probes = folder.join("probes");
        fs::create_dir_all(&probes).with_context(|| format!("cannot make {}", probes.display()))?;
        let template = template()?;
        let nodes_json = folder.join("nodes.json");
        let mut list = BufWriter::new(File::create(&nodes_json)?);
        write!(list, "{{\"nodes\":[")?;
        for rack in 1..=racks {
            for half in 0..2 {
                fs::write(
                    probes.join(format!("r{rack:05}{}", ["a", "b"][half as usize])),
                    probe(rack, half),
                )?;
            }
            for tray in 1..=RACK {
                let comma = if (rack, tray) == (1, 1) { "" } else { "," };
                write!(list, "{comma}{}", record(&template, rack, tray))?;
            }
        }
        write!(
            list,
            "],\"last_update\":{{\"set\":true,\"infinite\":false,\"number\":1795336609}},\"meta\":{{\"slurm\":{{\"version\":{{\"major\":\"26\",\"micro\":\"5\",\"minor\":\"05\"}},\"release\":\"26.05.5\",\"cluster\":\"simulated\"}}}},\"errors\":[],\"warnings\":[]}}"
        )?;
        list.flush()?;
        let scontrol = folder.join("scontrol");
        fs::write(&scontrol, format!("#!/bin/sh\nexec cat '{}'\n", nodes_json.display()))?;
        fs::set_permissions(&scontrol, fs::Permissions::from_mode(0o755))?;
        Ok(Self { nodes: racks * RACK, nodes_json, scontrol, probes })
    }

    /// A shell command that prints a tray's recorded reading.
    pub(super) fn command(&self) -> String {
        format!("n={{}}; exec cat '{}'/${{n%t*}}", self.probes.display())
    }
}

/// NVLink domain and partition of a tray. A rack that is not cut has the partition that the fabric makes by itself.
fn fabric(rack: u32, half: u32) -> (String, u32) {
    let spread = rack.wrapping_mul(0x9e37_79b1);
    let domain = format!("{spread:08x}-7a41-4d0e-9f63-{rack:012x}");
    (domain, if rack.is_multiple_of(CUT) { half + 1 } else { 32766 })
}

fn probe(rack: u32, half: u32) -> String {
    let (domain, partition) = fabric(rack, half);
    let gpu = |index: u32| {
        format!(
            "{{\"index\":{index},\"uuid\":\"GPU-{rack:08x}-0000-4000-8000-{index:012x}\",\"name\":\"NVIDIA GB200 (simulated)\",\"fabric\":{{\"domain\":\"{domain}\",\"partition\":{partition},\"state\":3,\"status\":0,\"health\":{{\"mask\":426,\"summary\":1}}}}}}"
        )
    };
    let gpus: Vec<String> = (0..4).map(gpu).collect();
    format!("{{\"driver_version\":\"580.95.05\",\"gpus\":[{}]}}\n", gpus.join(","))
}

/// A node's record with the words NAME and EXTRA in the place of what differs, in lines as scontrol prints it.
fn template() -> anyhow::Result<String> {
    let compact = format!(
        "{{\"nodes\":[{{\"name\":\"NAME\",\"hostname\":\"NAME\",\"address\":\"NAME\",\"extra\":\"EXTRA\",{REST}}}]}}"
    );
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&compact)?)?;
    let record = pretty.split_once('[').and_then(|(_, rest)| rest.rsplit_once(']'));
    Ok(record.context("no record in the list")?.0.trim_end().to_owned())
}

fn record(template: &str, rack: u32, tray: u32) -> String {
    let half = u32::from(tray > RACK / 2);
    let (domain, partition) = fabric(rack, half);
    let name = format!("r{rack:05}{}t{tray:02}", if half == 0 { "a" } else { "b" });
    let extra = format!(
        "{{\\\"nvlink\\\":{{\\\"v\\\":1,\\\"driver\\\":\\\"580.95.05\\\",\\\"gpus\\\":[{{\\\"i\\\":[0,1,2,3],\\\"id\\\":\\\"{domain}.{partition}\\\",\\\"state\\\":3,\\\"status\\\":0,\\\"mask\\\":426,\\\"health\\\":1}}]}}}}"
    );
    template.replace("NAME", &name).replace("EXTRA", &extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_cluster_is_json_with_whole_racks() {
        let folder = std::env::temp_dir().join(format!("xtask-inventory-{}", std::process::id()));
        let inventory = Inventory::write(&folder, 200).unwrap();
        assert_eq!(inventory.nodes, 216);
        let text = fs::read_to_string(&inventory.nodes_json).unwrap();
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let nodes = list["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 216);
        assert!(text.len() / 216 > 2000, "a record is as long as a real one");
        assert!(inventory.command().ends_with("/probes'/${n%t*}"), "{}", inventory.command());
        assert_eq!(nodes[9]["name"], "r00001bt10");
        assert!(folder.join("probes/r00001b").is_file());
        let probe: serde_json::Value = serde_json::from_str(&super::probe(10, 1)).unwrap();
        assert_eq!(probe["gpus"][3]["fabric"]["partition"], 2);
        fs::remove_dir_all(folder).unwrap();
    }
}
