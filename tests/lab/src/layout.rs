#![forbid(unsafe_code)]
//! Where the members of Slurm's records lie, for the very build that the lab can run.
//!
//! The lab makes job and node records itself, so it needs more members than the plugin reads. The figures are those of
//! the headers of Slurm 26.05.3, with the eight bytes that 26.05.5 has after `bit_flags` in the job record.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use object::Object as _;

/// A member of a record: offset and size in bytes.
pub type Member = (usize, usize);

/// `job_record_t`.
pub mod job {
    use super::Member;
    /// Bytes of the record.
    pub const SIZE: usize = 1296;
    /// Value of `magic`.
    pub const MAGIC_VALUE: u64 = 0xf0b7_392c;
    #[allow(missing_docs, reason = "Slurm's names")]
    pub const MAGIC: Member = (24, 4);
    #[allow(missing_docs, reason = "Slurm's names")]
    pub const BIT_FLAGS: Member = (144, 8);
    #[allow(missing_docs, reason = "Slurm's names")]
    pub const DETAILS: Member = (264, 8);
    #[allow(missing_docs, reason = "Slurm's names")]
    pub const GRES_LIST_REQ: Member = (352, 8);
    #[allow(missing_docs, reason = "Slurm's names")]
    pub const HRES_SELECT: Member = (448, 8);
    #[allow(missing_docs, reason = "Slurm's names")]
    pub const JOB_ID: Member = (456, 4);
    #[allow(missing_docs, reason = "Slurm's names")]
    pub const PART_PTR: Member = (784, 8);
    /// `--spread-segments` in `bit_flags`.
    pub const SPREAD_SEGMENTS: u64 = 1 << 43;
    /// `--consolidate-segments` in `bit_flags`.
    pub const CONSOLIDATE_SEGMENTS: u64 = 1 << 44;
}

/// `job_details_t`.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod details {
    use super::Member;
    pub const SIZE: usize = 560;
    pub const MAGIC_VALUE: u64 = 0x0dea_84e7;
    pub const MAGIC: Member = (0, 4);
    pub const CPUS_PER_TASK: Member = (96, 2);
    pub const MAX_CPUS: Member = (232, 4);
    pub const MAX_NODES: Member = (240, 4);
    pub const MC_PTR: Member = (248, 8);
    pub const MIN_CPUS: Member = (272, 4);
    pub const MIN_NODES: Member = (288, 4);
    pub const NTASKS_PER_NODE: Member = (296, 2);
    pub const NUM_TASKS: Member = (300, 4);
    pub const PN_MIN_CPUS: Member = (308, 4);
    pub const REQ_NODE_BITMAP: Member = (392, 8);
    pub const SEGMENT_SIZE: Member = (440, 2);
    pub const WHOLE_NODE: Member = (512, 1);
}

/// `part_record_t`.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod part {
    use super::Member;
    pub const SIZE: usize = 368;
    pub const MAGIC_VALUE: u64 = 0xaefe_8495;
    pub const MAGIC: Member = (0, 4);
    pub const TOPOLOGY_IDX: Member = (328, 4);
}

/// `node_record_t`. Its memory is Slurm's.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod node {
    use super::Member;
    pub const MAGIC_VALUE: u64 = 0x0de5_75ed;
    pub const MAGIC: Member = (256, 4);
    pub const BOARDS: Member = (16, 2);
    pub const CORES: Member = (90, 2);
    pub const CPUS: Member = (120, 2);
    pub const GRES_LIST: Member = (208, 8);
    pub const NAME: Member = (280, 8);
    pub const NODE_STATE: Member = (328, 4);
    pub const SCHED_WEIGHT: Member = (472, 8);
    pub const THREADS: Member = (544, 2);
    pub const TOPOLOGY_STR: Member = (512, 8);
    pub const TOT_CORES: Member = (552, 2);
    pub const TOT_SOCKETS: Member = (554, 2);
    pub const TPC: Member = (568, 2);
    pub const WEIGHT: Member = (572, 4);
    pub const STATE_IDLE: u64 = 2;
    pub const STATE_ALLOCATED: u64 = 3;
    pub const STATE_DRAIN: u64 = 1 << 9;
}

/// `avail_res_t`: what a node can give to the job.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod resources {
    use super::Member;
    pub const SIZE: usize = 56;
    pub const AVAIL_CPUS: Member = (0, 2);
    pub const AVAIL_GPUS: Member = (2, 2);
    pub const AVAIL_RES_PROD: Member = (8, 8);
    pub const AVAIL_CORES_PER_SOCK: Member = (16, 8);
    pub const MAX_CPUS: Member = (32, 2);
    pub const MIN_CPUS: Member = (34, 2);
    pub const SOCK_CNT: Member = (36, 2);
    pub const SOCK_GRES_LIST: Member = (40, 8);
    pub const TPC: Member = (50, 2);
    pub const HRES_LEAF_IDX: Member = (52, 2);
}

/// `hres_select_t`: a job's hierarchical resource.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod hres {
    use super::Member;
    pub const SIZE: usize = 56;
    pub const AVAIL_HRES: Member = (0, 8);
    pub const AVAIL_HRES_ORIG: Member = (8, 8);
    pub const DEPTH: Member = (16, 2);
    pub const HRES_PER_NODE: Member = (20, 4);
    pub const LAYERS_CNT: Member = (24, 2);
    pub const TOPOLOGY_IDX: Member = (48, 4);
}

/// `gres_mc_data_t`.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod mc {
    use super::Member;
    pub const SIZE: usize = 40;
    pub const CPUS_PER_TASK: Member = (10, 2);
    pub const NTASKS_PER_NODE: Member = (16, 2);
}

/// `gres_state_t` and, behind its `gres_data`, a node's `gres_node_state_t`.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod gres {
    use super::Member;
    pub const GRES_DATA: Member = (8, 8);
    pub const CNT_AVAIL: Member = (32, 8);
    pub const CNT_ALLOC: Member = (48, 8);
    pub const BIT_ALLOC: Member = (56, 8);
    pub const TOPO_CNT: Member = (64, 2);
    pub const TOPO_CNT_ALLOC: Member = (104, 8);
}

/// Arguments of `gres_job_state_validate`: texts, then places of numbers, then the place of the list.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod gres_job {
    use super::Member;
    pub const SIZE: usize = 136;
    pub const TRES_PER_JOB: Member = (24, 8);
    pub const TRES_PER_NODE: Member = (32, 8);
    pub const TRES_PER_TASK: Member = (48, 8);
    pub const CPUS_PER_TASK: Member = (56, 8);
    pub const MAX_NODES: Member = (64, 8);
    pub const MIN_CPUS: Member = (72, 8);
    pub const MIN_NODES: Member = (80, 8);
    pub const NTASKS_PER_NODE: Member = (88, 8);
    pub const NTASKS_PER_SOCKET: Member = (96, 8);
    pub const NTASKS_PER_TRES: Member = (104, 8);
    pub const NUM_TASKS: Member = (112, 8);
    pub const SOCKETS_PER_NODE: Member = (120, 8);
    pub const GRES_LIST: Member = (128, 8);
}

/// Arguments of `gres_sock_list_create`.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod sock_list {
    use super::Member;
    pub const SIZE: usize = 112;
    pub const CORES_PER_SOCK: Member = (0, 2);
    pub const CORE_BITMAP: Member = (8, 8);
    pub const CR_TYPE: Member = (16, 2);
    pub const JOB_GRES_LIST: Member = (32, 8);
    pub const NODE_GRES_LIST: Member = (48, 8);
    pub const NODE_INX: Member = (56, 4);
    pub const NODE_NAME: Member = (64, 8);
    pub const REQ_SOCK_MAP: Member = (80, 8);
    pub const SOCKETS: Member = (92, 2);
    pub const SOCK_GRES_LIST: Member = (96, 8);
}

/// Arguments of `gres_select_filter_remove_unusable`.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod sock_filter {
    use super::Member;
    pub const SIZE: usize = 72;
    pub const AVAIL_GPUS: Member = (8, 8);
    pub const AVAIL_MEM: Member = (16, 8);
    pub const CORES_PER_SOCK: Member = (24, 2);
    pub const CORE_BITMAP: Member = (32, 8);
    pub const CPUS_PER_CORE: Member = (40, 2);
    pub const CPUS_PER_TASK: Member = (42, 2);
    pub const MAX_CPUS: Member = (46, 2);
    pub const NEAR_GPUS: Member = (48, 8);
    pub const SOCKETS: Member = (56, 2);
    pub const SOCK_PER_NODE: Member = (60, 4);
    pub const TASK_PER_NODE: Member = (64, 2);
    pub const WHOLE_NODE: Member = (66, 1);
}

/// `topology_eval_t`.
#[allow(missing_docs, reason = "Slurm's names")]
pub mod eval {
    use super::Member;
    pub const SIZE: usize = 112;
    pub const AVAIL_CORE: Member = (0, 8);
    pub const AVAIL_RES_ARRAY: Member = (16, 8);
    pub const CR_TYPE: Member = (24, 2);
    pub const EVAL_ACTION: Member = (28, 4);
    pub const JOB_PTR: Member = (48, 8);
    pub const MAX_NODES: Member = (56, 4);
    pub const MC_PTR: Member = (64, 8);
    pub const MIN_NODES: Member = (72, 4);
    pub const NODE_MAP: Member = (80, 8);
    pub const REQ_NODES: Member = (92, 4);
    pub const TCTX: Member = (104, 8);
    /// Cores are what is given out (`SELECT_CORE`).
    pub const CR_CORE: u64 = 4;
}

/// First word of a bitmap.
pub const BITMAP_MAGIC: u64 = 0x4243_4445;
/// "Not set" of 16-bit members.
pub const NO_VAL16: u64 = 0xfffe;
/// "Not set" of 32-bit members.
pub const NO_VAL: u64 = 0xffff_fffe;
/// "Not set" of 64-bit members.
pub const NO_VAL64: u64 = 0xffff_ffff_ffff_fffe;

/// GNU build ids of the `libslurmfull.so` that the figures were seen on: Debian 26.05.5-1 for amd64 and arm64.
const BUILDS: [&str; 2] =
    ["03b303c2fa1141bf272910a18507eeecd7e4b0e7", "8401813c1c22cb303f4ed5b82e1305037093b401"];

/// Checks that the library is of a build whose records the lab can make.
///
/// # Errors
/// It is of another build, or cannot be read.
pub fn check(library: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(library).with_context(|| format!("cannot read {}", library.display()))?;
    let file = object::File::parse(&*bytes)
        .with_context(|| format!("{} is not a shared library", library.display()))?;
    let id: String = file.build_id()?.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
    if !BUILDS.contains(&id.as_str()) {
        bail!(
            "the lab does not know the records of this build of Slurm: {} has build id \"{id}\", known are {}",
            library.display(),
            BUILDS.join(" and ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_other_build_is_refused() {
        let other = std::env::current_exe().unwrap();
        let why = check(&other).unwrap_err().to_string();
        assert!(why.starts_with("the lab does not know the records of this build of Slurm"), "{why}");
        assert!(check(Path::new("/nowhere")).is_err());
    }
}
