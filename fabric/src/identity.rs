//! Fabric identity: which NVLink domain, and which NVLink partition in it.
//!
//! The pair is the key. A partition id (NVML: clique ID) alone is not unique: 32766 is the default partition of every
//! rack. Neither 0 nor 32766 means anything special here; only an all-zero domain does.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

/// Why a text is not a fabric identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not 32 hex digits, with or without the four dashes of a UUID.
    #[error("{text:?} is not a UUID")]
    Domain {
        /// The text as given.
        text: String,
    },
    /// Not a decimal number of 32 bits.
    #[error("{text:?} is not an NVLink partition number from 0 to 4294967295")]
    Partition {
        /// The text as given.
        text: String,
    },
    /// No dot between UUID and partition number.
    #[error("{text:?} is not of the form <cluster uuid>.<clique id>")]
    Pair {
        /// The text as given.
        text: String,
    },
}

/// An NVLink domain: NVML's cluster UUID, the same on all GPUs of one NVLink fabric.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct DomainId(pub [u8; 16]);

impl DomainId {
    /// True for the all-zero UUID, with which NVML says "no multi-node NVLink".
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }

    /// The 32 lower-case hex digits without dashes.
    pub fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DomainId {
    type Err = IdentityError;

    /// Reads the dashed form or 32 bare hex digits, upper or lower case.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let fault = || IdentityError::Domain { text: text.to_owned() };
        let bytes = text.as_bytes();
        let digits: Vec<u8> = match bytes.len() {
            32 => bytes.to_vec(),
            36 if [8, 13, 18, 23].iter().all(|at| bytes.get(*at) == Some(&b'-')) => {
                bytes.iter().copied().filter(|b| *b != b'-').collect()
            }
            _ => return Err(fault()),
        };
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut id = [0u8; 16];
        if digits.len() != 32 {
            return Err(fault());
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return Err(fault()) };
            *byte = digit(*high).ok_or_else(fault)? << 4 | digit(*low).ok_or_else(fault)?;
        }
        Ok(Self(id))
    }
}

impl TryFrom<String> for DomainId {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<DomainId> for String {
    fn from(id: DomainId) -> String {
        id.to_string()
    }
}

/// An NVLink partition inside a domain: NVML's clique ID, all 32 bits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for PartitionId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(id) if plain => Ok(Self(id)),
            _ => Err(IdentityError::Partition { text: text.to_owned() }),
        }
    }
}

/// One NVLink partition of one domain: the whole key. Text form `<cluster uuid>.<clique id>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct FabricId {
    /// The NVLink domain.
    pub domain: DomainId,
    /// The NVLink partition in it.
    pub partition: PartitionId,
}

impl fmt::Display for FabricId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.domain, self.partition)
    }
}

impl fmt::Debug for FabricId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for FabricId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let (domain, partition) =
            text.split_once('.').ok_or_else(|| IdentityError::Pair { text: text.to_owned() })?;
        Ok(Self { domain: domain.parse()?, partition: partition.parse()? })
    }
}

impl TryFrom<String> for FabricId {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<FabricId> for String {
    fn from(id: FabricId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_identity_are_the_same_thing(bytes in any::<[u8; 16]>(), clique in any::<u32>()) {
            let id = FabricId { domain: DomainId(bytes), partition: PartitionId(clique) };
            prop_assert_eq!(id.to_string().parse::<FabricId>().unwrap(), id);
            prop_assert_eq!(id.domain.hex().to_uppercase().parse::<DomainId>().unwrap(), id.domain);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,50}") {
            let _ = text.parse::<FabricId>();
        }
    }

    #[test]
    fn the_whole_range_of_partitions_is_read_and_nothing_else() {
        assert_eq!("4294967295".parse(), Ok(PartitionId(u32::MAX)));
        for bad in ["", "-1", "+1", "4294967296", "N/A", "1 "] {
            assert!(bad.parse::<PartitionId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn words_that_tools_print_for_no_fabric_are_not_identities() {
        for bad in [
            "N/A",
            "",
            "7e1c0f5a-9d3b-4e52-8f01-2a6b5c4d3e2f",
            "7e1c0f5a9-d3b-4e52-8f01-2a6b5c4d3e2f.1",
            "é.1",
        ] {
            assert!(bad.parse::<FabricId>().is_err(), "{bad:?}");
        }
        assert!("00000000-0000-0000-0000-000000000000".parse::<DomainId>().unwrap().is_zero());
    }
}
