//! Jobs as pictures show them.
#![forbid(unsafe_code)]

use fabric::HostList;
use serde::Deserialize;

/// A job and the nodes it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id as text, so that array and heterogeneous jobs can be shown too.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who started it; empty when that is not known.
    pub user: String,
    /// Its nodes.
    pub nodes: HostList,
}

/// Why a file of job placements cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// Not JSON of the form `{"jobs":[{"id":1,"name":"a","nodes":"n[1-4]"}]}`.
    #[error(
        "job placement is not JSON of the form {{\"jobs\":[{{\"id\":1,\"name\":\"a\",\"nodes\":\"n[1-4]\"}}]}}"
    )]
    Json {
        /// The parser's words.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct JobsFile {
    jobs: Vec<JobEntry>,
}

#[derive(Deserialize)]
struct JobEntry {
    id: IdText,
    #[serde(default)]
    name: String,
    #[serde(default)]
    user: String,
    nodes: HostList,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IdText {
    Number(u64),
    Text(String),
}

/// Reads job placements.
///
/// # Errors
/// [`JobsError`].
pub fn parse_jobs(text: &str) -> Result<Vec<Job>, JobsError> {
    let file: JobsFile = serde_json::from_str(text).map_err(|source| JobsError::Json { source })?;
    let job = |entry: JobEntry| Job {
        id: match entry.id {
            IdText::Number(id) => id.to_string(),
            IdText::Text(id) => id,
        },
        name: entry.name,
        user: entry.user,
        nodes: entry.nodes,
    };
    Ok(file.jobs.into_iter().map(job).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_form_is_said_so() {
        let error = parse_jobs("[1]").unwrap_err().to_string();
        assert!(error.starts_with("job placement is not JSON of the form {\"jobs\":"), "{error}");
        assert_eq!(parse_jobs(r#"{"jobs":[{"id":"8_1","nodes":"n2"}]}"#).unwrap()[0].id, "8_1");
    }
}
