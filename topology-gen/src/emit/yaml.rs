//! `topology.yaml`.
#![forbid(unsafe_code)]

use fabric::Topology;

/// The text of the file, with comments on what the base sizes promise. It holds no date: the same plan gives the same bytes.
pub fn text(topologies: &[Topology], promises: &[String]) -> String {
    fabric::slurm_yaml::emit_with_comments(topologies, promises)
}
