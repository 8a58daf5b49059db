//! Slurm's environment of a prolog or epilog, read strictly.
//!
//! Nothing that a user can write gets past this module: comment, constraints, extra information, file names and
//! `SPANK_*` are not read at all, and what is read is a number, a checked name or a word of a fixed list.
//! Variables from the job credential may be missing, in an epilog above all (Slurm 26.05.3
//! src/plugins/prep/script/prep_script_slurmd.c); so each of them is optional here.
#![forbid(unsafe_code)]

use fabric::hostlist::{HostList, HostListError};
use fabric::names::{JobId, NameError, NodeName};
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Component, PathBuf};
use thiserror::Error;

/// The environment is not that of a prolog or epilog.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JobError {
    /// A variable that Slurm always sets is missing.
    #[error("{name} is not set; is this run by slurmd?")]
    Missing {
        /// The variable.
        name: &'static str,
    },
    /// A number is none.
    #[error("{name} is {value:?}, not a number below 4294967296")]
    Number {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A name or job id is not usable.
    #[error("{name} is not usable")]
    Name {
        /// The variable.
        name: &'static str,
        /// Why.
        #[source]
        source: NameError,
    },
    /// A host list cannot be read.
    #[error("{name} is not a host list")]
    Hosts {
        /// The variable.
        name: &'static str,
        /// Why.
        #[source]
        source: HostListError,
    },
    /// A path is relative or climbs.
    #[error("{name} is {value:?}, not a plain absolute path")]
    Path {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A list of GPUs holds something else.
    #[error("{name} is {value:?}, not a list of GPU numbers")]
    Gpus {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

/// What Slurm says about sharing the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The job has the node alone.
    WholeNode,
    /// Other jobs may be on the node.
    Shared,
    /// Slurm did not say.
    Unknown,
}

/// A job as the prolog or epilog of one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobContext {
    /// Job id.
    pub id: JobId,
    /// How often the job was restarted.
    pub restarts: Option<u32>,
    /// When Slurm started this run, in seconds since 1970.
    pub started: Option<u64>,
    /// User id of the job.
    pub uid: u32,
    /// Group id of the job.
    pub gid: u32,
    /// This node.
    pub node: NodeName,
    /// All nodes of the job in Slurm's order.
    pub nodes: HostList,
    /// Whether the job has the node alone.
    pub sharing: Sharing,
    /// GPUs of this node that the job was given; `None`: none, or GPUs are not Slurm's business here.
    pub gpus: Option<Vec<u32>>,
    /// Slurm partition, for messages.
    pub partition: Option<NodeName>,
    /// slurmd's `slurm.conf`; `topology.yaml` lies beside it.
    pub conf: PathBuf,
}

/// Variables by name. Values that are not UTF-8 are missing: none of ours can be such.
#[derive(Debug, Default)]
pub struct Environment(HashMap<String, String>);

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        let text = |os: OsString| os.into_string().ok();
        Self(
            pairs
                .into_iter()
                .filter_map(|(key, value)| Some((text(key.into())?, text(value.into())?)))
                .collect(),
        )
    }
}

impl Environment {
    fn get(&self, name: &'static str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn need(&self, name: &'static str) -> Result<&str, JobError> {
        self.get(name).ok_or(JobError::Missing { name })
    }

    /// The job id alone: all that an epilog must have.
    ///
    /// # Errors
    /// [`JobError`] when it is missing or no job id.
    pub fn job_id(&self) -> Result<JobId, JobError> {
        let name = "SLURM_JOB_ID";
        self.need(name)?.parse().map_err(|source| JobError::Name { name, source })
    }

    /// This node's name, when Slurm gave a usable one.
    #[must_use]
    pub fn node(&self) -> Option<NodeName> {
        self.get("SLURMD_NODENAME").and_then(|name| NodeName::new(name).ok())
    }

    /// slurmd's `slurm.conf`.
    ///
    /// # Errors
    /// [`JobError`] when it is missing or not a plain absolute path.
    pub fn conf(&self) -> Result<PathBuf, JobError> {
        let name = "SLURM_CONF";
        let value = self.need(name)?;
        let path = PathBuf::from(value);
        let plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
        if plain { Ok(path) } else { Err(JobError::Path { name, value: value.to_owned() }) }
    }

    /// Everything that a prolog needs.
    ///
    /// # Errors
    /// [`JobError`] with the first variable that is missing or makes no sense.
    pub fn job(&self) -> Result<JobContext, JobError> {
        let node = "SLURMD_NODENAME";
        let nodes = "SLURM_JOB_NODELIST";
        Ok(JobContext {
            id: self.job_id()?,
            restarts: self
                .get("SLURM_JOB_RESTART_COUNT")
                .map(|text| number("SLURM_JOB_RESTART_COUNT", text))
                .transpose()?,
            // Slurm's own number; anything else tells nothing.
            started: self
                .get("SLURM_JOB_START_TIME")
                .and_then(|text| text.parse().ok())
                .filter(|time| *time > 0),
            uid: number("SLURM_JOB_UID", self.need("SLURM_JOB_UID")?)?,
            gid: number("SLURM_JOB_GID", self.need("SLURM_JOB_GID")?)?,
            node: NodeName::new(self.need(node)?).map_err(|source| JobError::Name { name: node, source })?,
            nodes: HostList::parse(self.need(nodes)?)
                .map_err(|source| JobError::Hosts { name: nodes, source })?,
            sharing: self.sharing(),
            gpus: self.gpus()?,
            partition: self.get("SLURM_JOB_PARTITION").and_then(|name| NodeName::new(name).ok()),
            conf: self.conf()?,
        })
    }

    /// `SLURM_JOB_EXCLUSIVE` (Slurm 26.05: NO, NODE, USER, MCS, TOPO) decides. Older versions have only
    /// `SLURM_JOB_OVERSUBSCRIBE`, where NO meant the whole node; since 26.05 it says NO for shared jobs too.
    fn sharing(&self) -> Sharing {
        match (self.get("SLURM_JOB_EXCLUSIVE"), self.get("SLURM_JOB_OVERSUBSCRIBE")) {
            (Some("NODE" | "TOPO"), _) | (None, Some("NO" | "TOPO")) => Sharing::WholeNode,
            (Some(_), _) | (None, Some(_)) => Sharing::Shared,
            (None, None) => Sharing::Unknown,
        }
    }

    fn gpus(&self) -> Result<Option<Vec<u32>>, JobError> {
        let name = "SLURM_JOB_GPUS";
        let Some(text) = self.get(name) else { return Ok(None) };
        let fault = || JobError::Gpus { name, value: text.to_owned() };
        let mut gpus = Vec::new();
        for item in text.split(',') {
            match item.split_once('-') {
                None => gpus.push(plain_number(item).ok_or_else(fault)?),
                Some((first, last)) => {
                    let (first, last) =
                        (plain_number(first).ok_or_else(fault)?, plain_number(last).ok_or_else(fault)?);
                    if first > last || last - first > 1024 {
                        return Err(fault());
                    }
                    gpus.extend(first..=last);
                }
            }
        }
        gpus.sort_unstable();
        gpus.dedup();
        Ok(Some(gpus))
    }
}

impl JobContext {
    /// Whether the job has this tray to itself as far as NVLink goes: alone on the node, or holding all its GPUs.
    #[must_use]
    pub fn holds_tray(&self, gpus_of_tray: u32) -> bool {
        let all_gpus =
            self.gpus.as_ref().is_some_and(|gpus| gpus.len() >= gpus_of_tray as usize && gpus_of_tray > 0);
        self.sharing == Sharing::WholeNode || all_gpus
    }
}

fn plain_number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn number(name: &'static str, text: &str) -> Result<u32, JobError> {
    plain_number(text).ok_or_else(|| JobError::Number { name, value: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usual() -> Vec<(&'static str, &'static str)> {
        vec![
            ("SLURM_JOB_ID", "17"),
            ("SLURM_JOB_UID", "1000"),
            ("SLURM_JOB_GID", "100"),
            ("SLURMD_NODENAME", "h002"),
            ("SLURM_JOB_NODELIST", "h[001-003]"),
            ("SLURM_JOB_EXCLUSIVE", "NODE"),
            ("SLURM_JOB_GPUS", "0-2,3"),
            ("SLURM_JOB_RESTART_COUNT", "2"),
            ("SLURM_CONF", "/run/slurm/conf/slurm.conf"),
        ]
    }

    fn environment(changes: &[(&'static str, &'static str)]) -> Environment {
        let mut pairs: HashMap<&str, &str> = usual().into_iter().collect();
        pairs.extend(changes.iter().copied());
        pairs.into_iter().collect()
    }

    #[test]
    fn the_usual_environment_is_understood() {
        let job = environment(&[]).job().unwrap();
        assert_eq!((job.id.get(), job.uid, job.gid, job.restarts), (17, 1000, 100, Some(2)));
        assert_eq!(job.gpus, Some(vec![0, 1, 2, 3]));
        assert_eq!(job.nodes.len(), 3);
        assert_eq!(job.sharing, Sharing::WholeNode);
    }

    #[test]
    fn everything_from_the_credential_may_be_missing() {
        let empty = [("SLURM_JOB_EXCLUSIVE", ""), ("SLURM_JOB_GPUS", ""), ("SLURM_JOB_RESTART_COUNT", "")];
        let job = environment(&empty).job().unwrap();
        assert_eq!((job.sharing, job.gpus, job.restarts), (Sharing::Unknown, None, None));
    }

    #[test]
    fn exclusiveness_comes_from_its_own_variable_where_there_is_one() {
        let sharing = |exclusive, oversubscribe| {
            environment(&[("SLURM_JOB_EXCLUSIVE", exclusive), ("SLURM_JOB_OVERSUBSCRIBE", oversubscribe)])
                .sharing()
        };
        assert_eq!(sharing("NODE", "OK"), Sharing::WholeNode);
        assert_eq!(sharing("TOPO", "NO"), Sharing::WholeNode);
        for shared in ["NO", "USER", "MCS", "something new"] {
            assert_eq!(sharing(shared, "NO"), Sharing::Shared, "{shared}");
        }
        assert_eq!(sharing("", "NO"), Sharing::WholeNode);
        assert_eq!(sharing("", "OK"), Sharing::Shared);
    }

    #[test]
    fn a_tray_is_held_alone_or_by_all_its_gpus() {
        let job = |exclusive, gpus| {
            environment(&[("SLURM_JOB_EXCLUSIVE", exclusive), ("SLURM_JOB_GPUS", gpus)]).job().unwrap()
        };
        assert!(job("NODE", "0").holds_tray(4));
        assert!(job("NO", "0,1,2,3").holds_tray(4));
        assert!(!job("NO", "0,1,2").holds_tray(4));
        assert!(!job("NO", "0,0,0,0").holds_tray(4));
        assert!(!job("NO", "").holds_tray(0));
    }

    #[test]
    fn each_fault_names_its_variable() {
        let fault = |name, value| environment(&[(name, value)]).job().unwrap_err().to_string();
        assert_eq!(fault("SLURM_JOB_ID", ""), "SLURM_JOB_ID is not set; is this run by slurmd?");
        assert_eq!(fault("SLURM_JOB_UID", "-1"), "SLURM_JOB_UID is \"-1\", not a number below 4294967296");
        assert_eq!(fault("SLURM_JOB_ID", "17; rm"), "SLURM_JOB_ID is not usable");
        assert_eq!(fault("SLURM_CONF", "../x"), "SLURM_CONF is \"../x\", not a plain absolute path");
        assert_eq!(fault("SLURM_JOB_GPUS", "3-1"), "SLURM_JOB_GPUS is \"3-1\", not a list of GPU numbers");
        assert_eq!(fault("SLURM_JOB_NODELIST", "h[3-1]"), "SLURM_JOB_NODELIST is not a host list");
    }

    proptest! {
        #[test]
        fn no_environment_makes_it_panic(values in proptest::collection::vec(".{0,30}", 9)) {
            let pairs = usual().into_iter().map(|(name, _)| name).zip(values);
            let _ = pairs.collect::<Environment>().job();
        }
    }
}
