//! `topology.yaml`.
#![forbid(unsafe_code)]

use fabric::Topology;

/// The text of the file, with a comment on what the base size promises. It holds no date: the same plan gives the same bytes.
pub fn text(topologies: &[Topology], guarantee: &str) -> String {
    fabric::slurm_yaml::emit_with_comments(topologies, &[guarantee.to_owned()])
}
