//! The per-job record: what was begun on this tray for one job, so that anybody later can end it.
//!
//! Written before each step that cannot be taken back unseen, erased as the very last step of an end. The first
//! version of a record already holds all that an end needs (channel, directory by job id); the daemon's process id
//! is added when it is known, and a daemon without one is found by its arguments.
//!
//! Form: one header line `slurm-nvlink-imex 1 <crc32> <length>`, then JSON. Every damage of the file, a lost tail and a
//! flipped bit included, is noticed; a damaged record is still a record, since the job id is in its file name.
#![forbid(unsafe_code)]

use crate::procfs::{Process, Started};
use fabric::names::{BlockName, JobId, NodeName};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use thiserror::Error;

/// First word of every record.
const MAGIC: &str = "slurm-nvlink-imex";
/// The only version so far.
const VERSION: &str = "1";
/// Largest record that is read, in bytes: a member costs about 70, a domain has at most some hundred.
pub const LEN_MAX: usize = 1 << 20;

/// A record that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// No header, or one of something else.
    #[error("not a record of this program")]
    Header,
    /// Written by another version of this program.
    #[error("record version {version:?} is not known")]
    Version {
        /// What the header says.
        version: String,
    },
    /// Length or checksum differ from the header.
    #[error("the record is damaged: its text does not match its header")]
    Damaged,
    /// The text is intact but does not say what a record says.
    #[error("the record's text is not understood: {why}")]
    Body {
        /// The JSON reader's words.
        why: String,
    },
}

/// How far a job's domain has come on this tray.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Files, daemon or channel may exist, in this order.
    Starting,
    /// All peers are connected and the channel exists; the roll call may still be under way.
    Ready,
    /// Given up for want of a peer: the job runs without a channel.
    NoDomain,
    /// Being taken down.
    Stopping,
}

/// Whose domain a record is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The job's own, which begins and ends with it.
    #[default]
    Own,
    /// The standing one of this NVLink partition, in which the job is a guest: it has a channel but no daemon.
    Guest,
    /// The standing one itself; the job is the one that had it started.
    Standing,
}

/// One tray of the domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its Slurm name.
    pub node: NodeName,
    /// The address that all members list for it.
    pub address: IpAddr,
}

/// The IMEX channel of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its number, the device's minor.
    pub number: u32,
    /// Owner: the job's user.
    pub uid: u32,
    /// Group of the job.
    pub gid: u32,
}

/// What is known about one job's domain on this tray.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The job.
    pub job: JobId,
    /// Whose domain this is about.
    #[serde(default)]
    pub kind: Kind,
    /// How often Slurm had restarted the job, when the prolog was told.
    pub restarts: Option<u32>,
    /// Boot in which this was written; process ids of another boot mean nothing.
    pub boot: String,
    /// When the prolog that wrote this was started. An epilog ends only what was begun before it.
    pub prolog_started: Started,
    /// How far it came.
    pub state: State,
    /// The block, that is the NVLink partition.
    pub block: BlockName,
    /// All members in nodes-file order.
    pub members: Vec<Member>,
    /// This tray's position in `members`.
    pub own_index: usize,
    /// The channel that is or will be made; `None` where Slurm makes them.
    pub channel: Option<Channel>,
    /// The daemon, once started.
    pub daemon: Option<Process>,
    /// Why the state is what it is, for operators.
    pub note: Option<String>,
}

impl Record {
    /// Name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self.kind {
            Kind::Standing => STANDING_FILE.to_owned(),
            Kind::Own | Kind::Guest => file_name(self.job),
        }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`RecordError::Body`] never in practice: all parts have a JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let body =
            serde_json::to_string(self).map_err(|error| RecordError::Body { why: error.to_string() })?;
        Ok(format!("{MAGIC} {VERSION} {:08x} {}\n{body}", crc32(body.as_bytes()), body.len()).into_bytes())
    }

    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// [`RecordError`] for anything else, down to a single changed bit.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Damaged)?;
        let (header, body) = text.split_once('\n').ok_or(RecordError::Header)?;
        let [MAGIC, version, checksum, length] = header.split(' ').collect::<Vec<_>>()[..] else {
            return Err(RecordError::Header);
        };
        if version != VERSION {
            return Err(RecordError::Version { version: version.to_owned() });
        }
        if checksum != format!("{:08x}", crc32(body.as_bytes())) || length != body.len().to_string() {
            return Err(RecordError::Damaged);
        }
        serde_json::from_str(body).map_err(|error| RecordError::Body { why: error.to_string() })
    }
}

/// CRC-32 (IEEE 802.3, reflected), bit by bit: records are small.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// File name of the record of the standing domain.
pub const STANDING_FILE: &str = "standing.record";

/// File name of a job's record.
#[must_use]
pub fn file_name(job: JobId) -> String {
    format!("job-{job}.record")
}

/// The job whose record has this file name.
#[must_use]
pub fn job_of_file(name: &str) -> Option<JobId> {
    let text = name.strip_prefix("job-")?.strip_suffix(".record")?;
    // Only the spelling that `file_name` writes, so that one job has one file.
    text.parse().ok().filter(|job: &JobId| job.to_string() == text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample() -> Record {
        Record {
            job: "1234".parse().unwrap(),
            kind: Kind::Own,
            restarts: Some(1),
            boot: "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f".to_owned(),
            prolog_started: Started { ticks: 123_456, nanos: 1_234_560_000_001 },
            state: State::Starting,
            block: BlockName::new("nvl-7e1c0f5a-32766").unwrap(),
            members: vec![
                Member { node: NodeName::new("h001").unwrap(), address: "10.75.1.1".parse().unwrap() },
                Member { node: NodeName::new("h002").unwrap(), address: "10.75.1.2".parse().unwrap() },
            ],
            own_index: 1,
            channel: Some(Channel { number: 0, uid: 1000, gid: 100 }),
            daemon: Some(Process { pid: 4321, started: 123_500 }),
            note: None,
        }
    }

    #[test]
    fn checksum_is_the_common_crc32() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_record_is_read_back() {
        let record = sample();
        assert_eq!(Record::decode(&record.encode().unwrap()).unwrap(), record);
    }

    #[test]
    fn every_lost_tail_is_noticed() {
        let bytes = sample().encode().unwrap();
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes[..length]).is_err(), "first {length} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample().encode().unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                assert!(Record::decode(&damaged).is_err(), "byte {position}, bit {bit}");
            }
        }
    }

    #[test]
    fn added_bytes_and_other_versions_are_noticed() {
        let mut bytes = sample().encode().unwrap();
        bytes.push(b' ');
        assert_eq!(Record::decode(&bytes), Err(RecordError::Damaged));
        assert_eq!(
            Record::decode(b"slurm-nvlink-imex 2 00000000 0\n"),
            Err(RecordError::Version { version: "2".into() })
        );
    }

    #[test]
    fn a_job_has_exactly_one_file_name() {
        let job: JobId = "17".parse().unwrap();
        assert_eq!(job_of_file(&file_name(job)), Some(job));
        for other in [
            "job-017.record",
            "job-+17.record",
            "job-.record",
            "job-17.record.new",
            ".job-17.record",
            "job-17",
        ] {
            assert_eq!(job_of_file(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Record::decode(&bytes).is_err());
        }
    }
}
