//! The base size: what is asked for, and the block sizes that follow.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use fabric::topology::BlockTopology;
use fabric::{BlockSizes, Topology};

use super::{Plan, PlanError, PlannedBlock};

/// A base size as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseSize {
    /// So many trays.
    Trays(u32),
    /// So many trays fewer than the largest NVLink partition has: these may be away and a job of the base size still runs.
    Spares(u32),
}

/// Why a text is no base size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither a number from 1 to 65535 nor one with a minus sign in front")]
pub struct BaseSizeError {
    text: String,
}

impl FromStr for BaseSize {
    type Err = BaseSizeError;

    fn from_str(text: &str) -> Result<Self, BaseSizeError> {
        let number = |digits: &str| digits.parse().ok().filter(|number| (1..=65_535).contains(number));
        let size = match text.strip_prefix('-') {
            Some(digits) => number(digits).map(Self::Spares),
            None => number(text).map(Self::Trays),
        };
        size.ok_or_else(|| BaseSizeError { text: text.to_owned() })
    }
}

impl BaseSize {
    /// The number of trays, with so many in the largest partition.
    pub(crate) fn resolve(self, largest: u32) -> Result<u32, PlanError> {
        match self {
            Self::Trays(base) => Ok(base),
            Self::Spares(spares) if spares < largest => Ok(largest - spares),
            Self::Spares(spares) => Err(PlanError::Spares { spares, largest }),
        }
    }
}

/// What is asked for one service tier: another topology over the same blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierWish {
    /// Name of the topology.
    pub name: String,
    /// Its base size; `None` takes the tier out of the file.
    pub base: Option<BaseSize>,
}

/// Why a text is no tier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TierError {
    /// No name, no sign between the two, or a name that Slurm cannot take apart.
    #[error("{text:?} is not of the form NAME=SIZE")]
    Form {
        /// The text as given.
        text: String,
    },
    /// The size.
    #[error("the size of tier {name} is wrong")]
    Size {
        /// The tier.
        name: String,
        /// Why.
        source: BaseSizeError,
    },
}

impl FromStr for TierWish {
    type Err = TierError;

    fn from_str(text: &str) -> Result<Self, TierError> {
        let plain = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let parts = text.split_once('=').filter(|(name, _)| plain(name));
        let (name, size) = parts.ok_or_else(|| TierError::Form { text: text.to_owned() })?;
        let name = name.to_owned();
        let base = match size {
            "none" => None,
            size => Some(size.parse().map_err(|source| TierError::Size { name: name.clone(), source })?),
        };
        Ok(Self { name, base })
    }
}

/// One service tier of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Name of its topology.
    pub name: String,
    /// Its block sizes.
    pub sizes: BlockSizes,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topology {}: up to {} trays", self.name, self.sizes.base())
    }
}

/// Trays of the largest block.
fn largest(blocks: &[PlannedBlock]) -> u32 {
    let trays = blocks.iter().map(|block| block.nodes.len()).max().unwrap_or(0);
    u32::try_from(trays).unwrap_or(u32::MAX)
}

/// The base size asked for, else one with as many trays to spare in the largest partition as in the previous file, else all of
/// its trays. `levels` are the aggregated sizes as multiples of the base; without them those of the previous file stay.
pub(super) fn block_sizes(
    blocks: &[PlannedBlock],
    previous: Option<&BlockTopology>,
    wish: Option<BaseSize>,
    levels: Option<&[u32]>,
) -> Result<BlockSizes, PlanError> {
    let largest = largest(blocks);
    let before = previous.and_then(|topology| topology.sizes.as_ref());
    let wish = wish.map(|wish| wish.resolve(largest)).transpose()?;
    if let Some(base) = wish.filter(|base| *base > largest && before.is_none_or(|sizes| sizes.base() < *base))
    {
        return Err(PlanError::BaseTooLarge { base, largest });
    }
    let kept = || previous.and_then(|previous| spared(previous, largest));
    let base = wish.or_else(kept).unwrap_or(largest);
    let before = before.map(ratios).unwrap_or_default();
    multiples(base, levels.unwrap_or(&before))
}

/// The sizes as multiples of the base.
fn ratios(sizes: &BlockSizes) -> Vec<u32> {
    sizes.as_slice().iter().map(|size| size / sizes.base()).collect()
}

/// The base size with as many trays to spare as the file has. Half a rack to spare is no policy: it is what is left of a rack
/// that was small once, or of a tool that took the smallest one.
fn spared(file: &BlockTopology, largest: u32) -> Option<u32> {
    let before = file.blocks.iter().map(|block| block.nodes.len()).max().unwrap_or(0);
    let before = u32::try_from(before).unwrap_or(u32::MAX);
    // A file without sizes says nothing about a policy.
    let base = file.sizes.as_ref().map(BlockSizes::base).filter(|base| base.saturating_mul(2) > before)?;
    Some(largest.saturating_sub(before.saturating_sub(base)).max(1))
}

/// The base and its multiples, as far as Slurm can hold them.
fn multiples(base: u32, levels: &[u32]) -> Result<BlockSizes, PlanError> {
    let mut sizes = vec![base];
    for level in levels {
        let size = base.saturating_mul(*level);
        if size <= fabric::sizes::BLOCK_SIZE_MAX && sizes.last().is_some_and(|last| *last < size) {
            sizes.push(size);
        }
    }
    BlockSizes::new(sizes).map_err(|source| PlanError::Base { base, source })
}

/// The service tiers: those of the previous file, which are the topologies over the same blocks as ours, changed and added to
/// as asked for.
///
/// # Errors
/// A size that no tray can serve.
pub fn tiers(
    plan: &Plan,
    previous: &[Topology],
    ours: &str,
    wishes: &[TierWish],
) -> Result<Vec<Tier>, PlanError> {
    let levels = ratios(&plan.sizes);
    let largest = largest(&plan.blocks);
    let mut tiers = Vec::new();
    for (name, block) in tiers_of(previous, ours) {
        if !wishes.iter().any(|wish| wish.name == name) {
            let as_it_was = || block.base_size().unwrap_or(largest).min(largest);
            let base = spared(block, largest).unwrap_or_else(as_it_was);
            tiers.push(Tier { name: name.to_owned(), sizes: multiples(base, &levels)? });
        }
    }
    for wish in wishes {
        let Some(base) = wish.base else { continue };
        let base = base.resolve(largest)?;
        let known = tiers_of(previous, ours).find(|(name, _)| *name == wish.name);
        if base > largest && known.and_then(|(_, block)| block.base_size()).is_none_or(|before| before < base)
        {
            return Err(PlanError::BaseTooLarge { base, largest });
        }
        tiers.retain(|tier: &Tier| tier.name != wish.name);
        tiers.push(Tier { name: wish.name.clone(), sizes: multiples(base, &levels)? });
    }
    Ok(tiers)
}

/// The topologies of a file over the same blocks as the one called `ours`, in the same order.
pub fn tiers_of<'a>(
    file: &'a [Topology],
    ours: &'a str,
) -> impl Iterator<Item = (&'a str, &'a BlockTopology)> {
    let names = |block: &'a BlockTopology| block.blocks.iter().map(|block| &block.name);
    let own = file.iter().find(|topology| topology.name == ours).and_then(Topology::block);
    file.iter().filter_map(move |topology| {
        let block = topology.block().filter(|_| topology.name != ours)?;
        own.is_some_and(|own| names(own).eq(names(block))).then_some((topology.name.as_str(), block))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_tiers_as_typed() {
        assert_eq!("17".parse(), Ok(BaseSize::Trays(17)));
        assert_eq!("-1".parse(), Ok(BaseSize::Spares(1)));
        for text in ["", "0", "-0", "65536", "--1", "x", "1.5", "-"] {
            assert!(text.parse::<BaseSize>().is_err(), "{text}");
        }
        let tier = |text: &str| text.parse::<TierWish>();
        assert_eq!(tier("spare=-1").unwrap().base, Some(BaseSize::Spares(1)));
        assert_eq!(tier("spare=none").unwrap(), TierWish { name: "spare".into(), base: None });
        for text in ["spare", "=1", "a b=1", "a,b=1", "a:b=1", "spare=", "spare=0"] {
            assert!(tier(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spares_are_taken_from_the_largest() {
        assert_eq!(BaseSize::Spares(1).resolve(18), Ok(17));
        assert_eq!(BaseSize::Spares(2).resolve(2), Err(PlanError::Spares { spares: 2, largest: 2 }));
        assert_eq!(multiples(18, &[1, 8, 8, 16, 8192]).unwrap().as_slice(), [18, 144, 288]);
    }
}
