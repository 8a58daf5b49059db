//! Checked names: nodes, blocks, jobs.
//!
//! A name that reached one of these types can be written into a host list, a `topology.yaml`, a nodes file or a log line
//! without any further thought: it holds no separator of any of them.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::identity::{DomainId, FabricId, PartitionId};

/// Longest node or block name in bytes. Host names end at 255 bytes; Slurm itself sets no bound.
pub const NAME_LEN_MAX: usize = 255;

/// Why a text is not a usable name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing in it.
    #[error("name is empty")]
    Empty,
    /// Longer than [`NAME_LEN_MAX`] bytes.
    #[error("name of {len} bytes is longer than {NAME_LEN_MAX}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Holds a character that means something to a host list, a shell or a file path.
    #[error("name {name:?} holds {character:?}, which cannot be part of a name")]
    Character {
        /// The text as given.
        name: String,
        /// The first character that is not allowed.
        character: char,
    },
    /// `.` or `..`, which mean a folder.
    #[error("name {name:?} means a folder")]
    Folder {
        /// The text as given.
        name: String,
    },
    /// The digits at the end exceed 64 bits: Slurm would read the name as another one.
    #[error(
        "name {name:?} ends in a number above 18446744073709551615, which Slurm would turn into another name"
    )]
    NumberTooLarge {
        /// The text as given.
        name: String,
    },
    /// A job id is a decimal number from 1 to 4294967295.
    #[error("job id {text:?} is not a number from 1 to 4294967295")]
    JobId {
        /// The text as given.
        text: String,
    },
}

/// Splits off the run of decimal digits at the end; `None` when there is none.
pub(crate) fn split_number(name: &str) -> Option<(&str, &str)> {
    let at = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    (at < name.len()).then(|| name.split_at(at))
}

fn check(name: &str, allowed: fn(char) -> bool) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong { len: name.len() });
    }
    if let Some(character) = name.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character { name: name.to_owned(), character });
    }
    if name == "." || name == ".." {
        return Err(NameError::Folder { name: name.to_owned() });
    }
    match split_number(name) {
        Some((_, digits))
            if digits.trim_start_matches('0').parse::<u64>().is_err()
                && !digits.bytes().all(|b| b == b'0') =>
        {
            Err(NameError::NumberTooLarge { name: name.to_owned() })
        }
        _ => Ok(()),
    }
}

fn node_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '+' | '@' | '%' | '~')
}

fn block_character(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !matches!(c, ',' | '[' | ']' | '{' | '}' | '"' | '\'' | '\\')
}

macro_rules! text_name {
    ($(#[$doc:meta])* $type:ident, $allowed:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
        pub struct $type(String);

        impl $type {
            /// Takes the text as a name.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, too long, holds a character with a meaning of its own, or ends in a
            /// number that Slurm cannot hold.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check(&name, $allowed)?;
                Ok(Self(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

text_name!(
    /// A Slurm node (`NodeName`), normally one per compute tray.
    ///
    /// Letters, digits and `-_.:+@%~`, at most [`NAME_LEN_MAX`] bytes.
    NodeName,
    node_character
);

text_name!(
    /// A block of `topology.yaml`.
    ///
    /// Any text without white space, comma, bracket, brace, quote or backslash. Slurm joins block names with commas and
    /// reads the result as a host list to name aggregated blocks (Slurm 26.05.3 src/plugins/topology/block), which is why
    /// those are refused.
    BlockName,
    block_character
);

/// Hex digits of the cluster UUID in a block name that [`BlockName::for_fabric`] makes.
const FABRIC_HEX_LEN: usize = 8;
/// Hex digits of a whole cluster UUID.
const FABRIC_HEX_MAX: usize = 32;
const FABRIC_PREFIX: &str = "nvl-";

impl BlockName {
    /// The name of the block for one NVLink partition: `nvl-<first 8 hex digits of the cluster UUID>-<clique>`.
    pub fn for_fabric(id: &FabricId) -> Self {
        Self::for_fabric_with(id, FABRIC_HEX_LEN)
    }

    /// As [`BlockName::for_fabric`] with more hex digits (8 to 32), for two domains that agree in the first eight.
    pub fn for_fabric_with(id: &FabricId, hex_len: usize) -> Self {
        let hex = id.domain.hex();
        let len = hex_len.clamp(FABRIC_HEX_LEN, hex.len());
        Self(format!("{FABRIC_PREFIX}{}-{}", hex.get(..len).unwrap_or(&hex), id.partition))
    }

    /// Which NVLink partitions the name can stand for; `None` when it is not of the form that [`BlockName::for_fabric`] makes
    /// and so says nothing.
    ///
    /// More than one domain is possible: eight hex digits are not the whole UUID.
    pub fn fabrics(&self) -> Option<NamedFabrics> {
        let (hex, clique) = self.0.strip_prefix(FABRIC_PREFIX)?.split_once('-')?;
        let hex_form = (FABRIC_HEX_LEN..=FABRIC_HEX_MAX).contains(&hex.len())
            && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let number: u32 = clique.parse().ok()?;
        if !hex_form || number.to_string() != clique {
            return None;
        }
        let filled = |digit: &str| {
            let text = format!("{hex}{}", digit.repeat(FABRIC_HEX_MAX - hex.len()));
            u128::from_str_radix(&text, 16).ok().map(|bits| DomainId(bits.to_be_bytes()))
        };
        Some(NamedFabrics { first: filled("0")?, last: filled("f")?, partition: PartitionId(number) })
    }

    /// Whether the name says that this block is that NVLink partition; `None` when it says nothing.
    pub fn names_fabric(&self, id: &FabricId) -> Option<bool> {
        self.fabrics().map(|named| named.contains(id))
    }
}

/// The NVLink partitions that a block name can stand for: one partition number in domains whose UUIDs begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedFabrics {
    first: DomainId,
    last: DomainId,
    partition: PartitionId,
}

impl NamedFabrics {
    /// Whether this is one of them.
    pub fn contains(&self, id: &FabricId) -> bool {
        (self.first..=self.last).contains(&id.domain) && id.partition == self.partition
    }

    /// A range of ids in which all of them lie.
    pub fn range(&self) -> RangeInclusive<FabricId> {
        let end = |domain, partition| FabricId { domain, partition: PartitionId(partition) };
        end(self.first, 0)..=end(self.last, u32::MAX)
    }
}

/// A Slurm job id, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u32", into = "u32"))]
pub struct JobId(u32);

impl JobId {
    /// Takes the number as a job id.
    ///
    /// # Errors
    /// [`NameError::JobId`] for 0, which Slurm never gives.
    pub fn new(id: u32) -> Result<Self, NameError> {
        if id == 0 { Err(NameError::JobId { text: id.to_string() }) } else { Ok(Self(id)) }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for JobId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let id = if plain { text.parse().unwrap_or(0) } else { 0 };
        Self::new(id).map_err(|_| NameError::JobId { text: text.to_owned() })
    }
}

impl TryFrom<u32> for JobId {
    type Error = NameError;

    fn try_from(id: u32) -> Result<Self, NameError> {
        Self::new(id)
    }
}

impl From<JobId> for u32 {
    fn from(id: JobId) -> u32 {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_separators_are_taken_and_others_refused() {
        for good in
            ["n1", "tray-007.example.org", "a", "n18446744073709551615", "n000000000000000000000000000000"]
        {
            assert_eq!(NodeName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "n[1]", "a,b", "a/b", "..", "n\n", "é", "n18446744073709551616"] {
            assert!(NodeName::new(bad).is_err(), "{bad:?}");
        }
        assert!(NodeName::new("x".repeat(255)).is_ok());
        assert_eq!(NodeName::new("x".repeat(256)), Err(NameError::TooLong { len: 256 }));
    }

    #[test]
    fn block_names_are_wider_but_never_break_an_aggregate() {
        for good in ["rack1", "row1/rack2", "blk::rack:ab12", "7e1c.32766"] {
            assert!(BlockName::new(good).is_ok(), "{good}");
        }
        for bad in ["rack[1", "a,b", "a b", "", "b{1}"] {
            assert!(BlockName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_block_name_made_for_a_partition_names_it_and_no_other() {
        let id: FabricId = "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f.32766".parse().unwrap();
        let other: FabricId = "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f.1".parse().unwrap();
        let name = BlockName::for_fabric(&id);
        assert_eq!(name.as_str(), "nvl-7e1c0f5a-32766");
        let named = name.fabrics().unwrap();
        assert!(named.contains(&id) && !named.contains(&other));
        let near: FabricId = "7e1c0f5b-0000-4e52-8f01-2a6b5c4d3e2f.32766".parse().unwrap();
        assert!(!named.contains(&near) && !named.range().contains(&near) && named.range().contains(&other));
        let long = BlockName::for_fabric_with(&id, 12);
        assert_eq!(long.as_str(), "nvl-7e1c0f5a9d3b-32766");
        assert!(long.fabrics().unwrap().contains(&id));
        for silent in ["rack1", "nvl-7e1c0f5a-032766", "nvl-7e1c-1", "nvl-7E1C0F5A-1", "nvl-7e1c0f5a-"] {
            assert_eq!(BlockName::new(silent).unwrap().fabrics(), None, "{silent}");
        }
    }

    #[test]
    fn job_ids_are_positive_decimal_numbers() {
        assert_eq!("4294967295".parse::<JobId>().unwrap().get(), u32::MAX);
        for bad in ["0", "", "+1", "-1", "1.0", "4294967296", " 1"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_names_the_character() {
        let error = NodeName::new("n[1]").unwrap_err();
        assert_eq!(error.to_string(), "name \"n[1]\" holds '[', which cannot be part of a name");
    }
}
