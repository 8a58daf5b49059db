//! slurmd's own note of which jobs are over: `cred_state` in its spool directory.
//!
//! Slurm never tells a prolog that its job was cancelled. But slurmd revokes the job's credential, and writes that
//! down, as its first act on a request to end a job and before it waits for the job's prolog (Slurm 26.05.3
//! src/slurmd/slurmd/req.c, `_rpc_terminate_job`). The form is Slurm's packed one (src/slurmd/slurmd/cred_context.c,
//! `_cred_context_pack`): numbers in network byte order, a version, the jobs, then the steps' credentials. A file that
//! does not end exactly where it should is not believed.
#![forbid(unsafe_code)]

use fabric::names::JobId;
use thiserror::Error;

/// File name in slurmd's spool directory.
pub const FILE: &str = "cred_state";

/// Protocol version of Slurm 25.11, the first with a job's SLUID here (src/common/slurm_protocol_common.h).
const V25_11: u16 = 44 << 8;
/// Protocol version of Slurm 26.05, the first with a fourth time for each job.
const V26_05: u16 = 45 << 8;
/// Protocol version of Slurm 24.05, the oldest whose form was looked at.
const V24_05: u16 = 41 << 8;
/// How Slurm packs a list that does not exist (NO_VAL).
const NO_LIST: u32 = 0xffff_fffe;

/// The file is not what this module knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CredStateError {
    /// From another Slurm.
    #[error("protocol version {0:#06x} is older than any that is known")]
    Version(u16),
    /// Too short, too long, or not this form at all.
    #[error("the file does not have the form that its version should have")]
    Form,
}

/// When the credential of `job` was revoked, in seconds since 1970 by slurmctld's clock; `None`: it was not. Of several
/// runs of one job the latest counts.
///
/// # Errors
/// [`CredStateError`] when the file cannot be believed.
pub fn revoked(bytes: &[u8], job: JobId) -> Result<Option<u64>, CredStateError> {
    let mut rest = Rest(bytes);
    let version = u16::from_be_bytes(rest.take()?);
    let (has_sluid, times) = match version {
        V26_05.. => (true, 4),
        V25_11.. => (true, 3),
        V24_05.. => (false, 3),
        older => return Err(CredStateError::Version(older)),
    };
    let mut latest = None;
    for _ in 0..rest.count()? {
        let id = if has_sluid {
            let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = rest.take::<20>()?;
            u32::from_be_bytes([a, b, c, d])
        } else {
            u32::from_be_bytes(rest.take()?)
        };
        let revoked = u64::from_be_bytes(rest.take()?);
        for _ in 1..times {
            rest.take::<8>()?;
        }
        if id == job.get() && revoked != 0 {
            latest = latest.max(Some(revoked));
        }
    }
    for _ in 0..rest.count()? {
        // SLUID, job, step, component; then two times.
        if has_sluid {
            rest.take::<36>()?;
        } else {
            rest.take::<28>()?;
        }
    }
    if rest.0.is_empty() { Ok(latest) } else { Err(CredStateError::Form) }
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CredStateError> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(CredStateError::Form)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Number of a list's items.
    fn count(&mut self) -> Result<u32, CredStateError> {
        let count = u32::from_be_bytes(self.take()?);
        Ok(if count == NO_LIST { 0 } else { count })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file of Slurm 26.05 with these jobs and one step credential.
    pub(crate) fn file(jobs: &[(u32, u64)]) -> Vec<u8> {
        let mut bytes = V26_05.to_be_bytes().to_vec();
        bytes.extend(u32::try_from(jobs.len()).unwrap().to_be_bytes());
        for (job, revoked) in jobs {
            bytes.extend([7; 8]);
            bytes.extend(job.to_be_bytes());
            bytes.extend([0xff; 8]);
            bytes.extend(revoked.to_be_bytes());
            bytes.extend([1; 24]);
        }
        bytes.extend(1_u32.to_be_bytes());
        bytes.extend([9; 36]);
        bytes
    }

    fn job(id: u32) -> JobId {
        JobId::new(id).unwrap()
    }

    #[test]
    fn a_revoked_job_is_found_and_its_latest_run_counts() {
        let bytes = file(&[(17, 0), (18, 1_790_000_000), (18, 1_790_000_100), (18, 0)]);
        assert_eq!(revoked(&bytes, job(17)), Ok(None));
        assert_eq!(revoked(&bytes, job(18)), Ok(Some(1_790_000_100)));
        assert_eq!(revoked(&bytes, job(19)), Ok(None));
    }

    #[test]
    fn older_forms_are_read_and_unknown_ones_are_not() {
        let mut old = (43_u16 << 8).to_be_bytes().to_vec();
        old.extend(1_u32.to_be_bytes());
        old.extend(17_u32.to_be_bytes());
        old.extend(5_u64.to_be_bytes());
        old.extend([0; 16]);
        old.extend(NO_LIST.to_be_bytes());
        assert_eq!(revoked(&old, job(17)), Ok(Some(5)));
        let mut newer = (44_u16 << 8).to_be_bytes().to_vec();
        newer.extend(1_u32.to_be_bytes());
        newer.extend([0; 8]);
        newer.extend(17_u32.to_be_bytes());
        newer.extend([0; 8]);
        newer.extend(6_u64.to_be_bytes());
        newer.extend([0; 16]);
        newer.extend(0_u32.to_be_bytes());
        assert_eq!(revoked(&newer, job(17)), Ok(Some(6)));
        assert_eq!(revoked(&[0x27, 0, 0, 0, 0, 0], job(1)), Err(CredStateError::Version(0x2700)));
    }

    #[test]
    fn every_lost_tail_and_every_added_byte_is_noticed() {
        let mut bytes = file(&[(17, 3), (18, 4)]);
        for length in 0..bytes.len() {
            assert!(revoked(&bytes[..length], job(17)).is_err(), "first {length} bytes");
        }
        bytes.push(0);
        assert_eq!(revoked(&bytes, job(17)), Err(CredStateError::Form));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = revoked(&bytes, job(1));
        }
    }
}
