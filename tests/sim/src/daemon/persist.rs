//! The persistence file: which nodes imported memory of this one, for the start after an unclean end.
//!
//! It holds a key made from the node list, and the importers. A clean end leaves only the key; a killed daemon
//! leaves the importers. A file with another key is thrown away.
#![forbid(unsafe_code)]

use crate::nodes::NodeList;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    simulated: bool,
    key: String,
    importers: Vec<u32>,
}

/// The file of one daemon.
#[derive(Debug)]
pub struct Persistence {
    path: PathBuf,
    key: String,
    written: Option<Vec<u32>>,
}

/// What an earlier daemon left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// No file.
    None,
    /// A file of another node list, or one that is not readable; thrown away.
    Foreign,
    /// A file of this list with these importers.
    Importers(Vec<u32>),
}

impl Persistence {
    /// The file at `path` for this node list.
    pub fn new(path: PathBuf, nodes: &NodeList) -> Self {
        Self { path, key: format!("{:016x}", nodes.key()), written: None }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what an earlier daemon left.
    pub fn earlier(&self) -> Earlier {
        let Ok(text) = fs::read(&self.path) else {
            return Earlier::None;
        };
        match serde_json::from_slice::<Content>(&text) {
            Ok(content) if content.key == self.key => Earlier::Importers(content.importers),
            _ => {
                // Absent or not removable makes no difference: the next write replaces it.
                let _ = fs::remove_file(&self.path);
                Earlier::Foreign
            }
        }
    }

    /// Writes the importers, if they differ from what was written last.
    ///
    /// # Errors
    /// The file cannot be replaced.
    pub fn record(&mut self, importers: &[u32]) -> io::Result<()> {
        if self.written.as_deref() == Some(importers) {
            return Ok(());
        }
        let content = Content { simulated: true, key: self.key.clone(), importers: importers.to_vec() };
        let temporary = self.path.with_extension("new");
        fs::write(&temporary, serde_json::to_vec(&content)?)?;
        fs::rename(&temporary, &self.path)?;
        self.written = Some(importers.to_vec());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> NodeList {
        NodeList::parse(text, |_| Vec::new())
    }

    #[test]
    fn importers_survive_for_the_same_list_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("persist.dat");
        let file = |nodes: &str| Persistence::new(path.clone(), &list(nodes));
        assert_eq!(file("10.0.0.1").earlier(), Earlier::None);
        file("10.0.0.1\n10.0.0.2").record(&[1]).unwrap();
        assert_eq!(file("10.0.0.1\n10.0.0.2").earlier(), Earlier::Importers(vec![1]));
        assert_eq!(file("10.0.0.2\n10.0.0.1").earlier(), Earlier::Foreign);
        assert_eq!(file("10.0.0.1\n10.0.0.2").earlier(), Earlier::None);
    }

    #[test]
    fn a_damaged_file_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("persist.dat");
        fs::write(&path, b"\0\0").unwrap();
        assert_eq!(Persistence::new(path.clone(), &list("a")).earlier(), Earlier::Foreign);
        assert!(!path.exists());
    }
}
