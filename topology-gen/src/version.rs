//! Slurm's version numbers: which rules a controller follows.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// A version such as 26.05.5. A release candidate counts as the release that it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlurmVersion {
    /// Year, for example 26.
    pub year: u32,
    /// Month, for example 5.
    pub month: u32,
    /// Maintenance release.
    pub micro: u32,
}

/// Why a text is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a Slurm version such as 26.05.5")]
pub struct VersionError {
    text: String,
}

impl SlurmVersion {
    /// A version from its three numbers.
    pub const fn new(year: u32, month: u32, micro: u32) -> Self {
        Self { year, month, micro }
    }

    /// First version that reads topology.yaml.
    pub const YAML: Self = Self::new(25, 5, 0);
    /// First version with ring, torus3d and options below flat.
    pub const MORE_KINDS: Self = Self::new(26, 5, 0);
    /// First version that refuses a wrong later block size.
    pub const SIZES_CHECKED: Self = Self::new(26, 5, 3);

    /// Whether a file of a multiple of 4096 bytes ends this version (Slurm ticket 25019).
    pub fn dies_of_whole_pages(self) -> bool {
        (Self::YAML..Self::new(25, 6, 0)).contains(&self)
            || (Self::new(25, 11, 0)..Self::new(25, 11, 6)).contains(&self)
    }
}

impl fmt::Display for SlurmVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}.{}", self.year, self.month, self.micro)
    }
}

impl FromStr for SlurmVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = || VersionError { text: text.to_owned() };
        let plain = text.strip_prefix("slurm ").unwrap_or(text).trim();
        let plain = plain.split_once('-').map_or(plain, |(release, _)| release);
        let mut numbers = plain.split('.').map(str::parse);
        let mut next = || numbers.next().map(|number| number.map_err(|_| error()));
        let version = Self {
            year: next().ok_or_else(error)??,
            month: next().ok_or_else(error)??,
            micro: next().unwrap_or(Ok(0))?,
        };
        if next().is_some() { Err(error()) } else { Ok(version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_people_and_slurm_write_them() {
        for (text, shown) in [
            ("26.05.5", "26.05.5"),
            ("25.11", "25.11.0"),
            ("slurm 25.05.3", "25.05.3"),
            ("26.11.0-0rc1", "26.11.0"),
        ] {
            assert_eq!(text.parse::<SlurmVersion>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "26", "26.x.1", "1.2.3.4", "twenty"] {
            assert!(text.parse::<SlurmVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn whole_pages_end_some_versions() {
        let dies = |text: &str| text.parse::<SlurmVersion>().unwrap().dies_of_whole_pages();
        assert!(["25.05.0", "25.05.9", "25.11.0", "25.11.5"].into_iter().all(dies));
        assert!(!["24.11.5", "25.11.6", "26.05.0"].into_iter().any(dies));
    }
}
