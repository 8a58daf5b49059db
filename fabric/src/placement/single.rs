#![forbid(unsafe_code)]
//! Jobs that must lie in one partition.

use super::{Candidate, Partition, Refusal, Request, Share, candidate};

/// One candidate per partition that can hold the job: lowest weight first, then fewest free trays, so that whole
/// free partitions are broken last; equal ones in order of position.
pub(super) fn candidates(partitions: &[Partition], request: &Request) -> Result<Vec<Candidate>, Refusal> {
    if request.required > 0 && !partitions.iter().any(|p| p.required == request.required) {
        return Err(Refusal::RequiredTraysApart { required: request.required });
    }
    let mut fitting: Vec<usize> = (0..partitions.len())
        .filter(|&i| partitions[i].free >= request.trays && partitions[i].required == request.required)
        .collect();
    if fitting.is_empty() {
        return Err(refusal(partitions, request));
    }
    fitting.sort_by_key(|&i| (partitions[i].weight, partitions[i].free, i));
    Ok(fitting
        .into_iter()
        .map(|partition| candidate(vec![Share { partition, trays: request.trays }]))
        .collect())
}

fn refusal(partitions: &[Partition], request: &Request) -> Refusal {
    let best = partitions.iter().filter(|p| p.required == request.required).max_by_key(|p| p.free);
    Refusal::NoPartitionFree {
        wanted: request.trays,
        best_free: best.map_or(0, |p| p.free),
        best_unhealthy: best.map_or(0, |p| p.trays - p.healthy),
    }
}
