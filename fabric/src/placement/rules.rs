#![forbid(unsafe_code)]
//! What a site decides once, for all jobs: its aggregated blocks, and four settings.

use crate::sizes::BlockSizes;

/// The site's part of the policy. The default has no aggregated blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Aggregated blocks.
    pub levels: Levels,
    /// How a job over several partitions is divided.
    pub split: Split,
    /// Which jobs may lie in several partitions.
    pub span: Span,
    /// Trays of the segments for which smaller jobs leave room; 0: none is kept.
    pub room: u32,
    /// Minutes for which a smaller job waits, behind a large one, rather than take that room; 0: it never does.
    pub patience: u32,
}

/// How a job over several partitions is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Split {
    /// As evenly as the free trays allow: 20 trays as 10 and 10.
    #[default]
    Even,
    /// One partition is filled before the next: 20 trays as 18 and 2, as Slurm does it.
    Packed,
}

/// Which jobs without segments may lie in several partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Span {
    /// Those that are larger than every partition, and those above the base size that no partition can hold until drained
    /// trays are back.
    #[default]
    Larger,
    /// All that no partition can hold until drained trays are back.
    Degraded,
}

/// All settings, for people.
pub const SETTINGS: &str = "nvlink_split=even|packed, nvlink_span=larger|degraded, nvlink_room=TRAYS, nvlink_patience=MINUTES and \
                            nvlink_metrics=FOLDER";

/// What the settings are called in a list of `name=value`; everything else in the list is somebody else's.
const PREFIX: &str = "nvlink_";
/// The setting that is no rule: where the plugin's metrics go.
const METRICS: &str = "nvlink_metrics=";

/// The settings with a number.
const ROOM: &str = "nvlink_room=";
const PATIENCE: &str = "nvlink_patience=";

/// The folder that `nvlink_metrics=FOLDER` names in a list as in Slurm's `TopologyParam`; the last one counts.
pub fn metrics_folder(parameters: &str) -> Option<&str> {
    let folder = |given: &'_ str| {
        let is_it = given.get(..METRICS.len())?.eq_ignore_ascii_case(METRICS);
        is_it.then_some(METRICS.len())
    };
    parameters.rsplit(',').map(str::trim).find_map(|given| given.get(folder(given)?..))
}

impl Rules {
    /// Takes the settings `nvlink_split=even|packed`, `nvlink_span=larger|degraded`, `nvlink_room=TRAYS` and
    /// `nvlink_patience=MINUTES` out of a list that is separated by commas, as in Slurm's `TopologyParam`. Letter case does not
    /// matter.
    ///
    /// Returns what begins with `nvlink_` and is neither such a setting nor `nvlink_metrics`; it changes nothing.
    pub fn read(&mut self, parameters: &str) -> Vec<String> {
        let mut unknown = Vec::new();
        for given in parameters.split(',').map(str::trim) {
            let setting = given.to_ascii_lowercase();
            match setting.as_str() {
                "nvlink_split=even" => self.split = Split::Even,
                "nvlink_split=packed" => self.split = Split::Packed,
                "nvlink_span=larger" => self.span = Span::Larger,
                "nvlink_span=degraded" => self.span = Span::Degraded,
                other if other.starts_with(METRICS) => {}
                other => {
                    let number = |name| other.strip_prefix(name).map(str::parse::<u32>);
                    match (number(ROOM), number(PATIENCE)) {
                        (Some(Ok(trays)), _) => self.room = trays,
                        (_, Some(Ok(minutes))) => self.patience = minutes,
                        _ if other.starts_with(PREFIX) => unknown.push(given.to_owned()),
                        _ => {}
                    }
                }
            }
        }
        unknown
    }

    /// Whether a job of so many trays, without segments, may span while no partition has so many healthy trays.
    pub fn may_span_degraded(&self, trays: u32) -> bool {
        self.span == Span::Degraded || self.levels.promised().is_some_and(|promised| trays > promised)
    }
}

/// Aggregated blocks: aligned groups of neighbouring partitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Levels {
    /// Trays of a base block by `block_sizes`; 0 without sizes.
    base: u32,
    /// Whether a site has written that down.
    is_written: bool,
    /// Partitions of one group on each level above the base, ascending.
    groups: Vec<usize>,
}

impl Levels {
    /// The levels of these sizes.
    pub fn new(sizes: &BlockSizes) -> Self {
        let groups = sizes.levels().into_iter().filter(|&level| level > 0).map(|level| 1 << level).collect();
        Self { base: sizes.base(), is_written: true, groups }
    }

    /// Those that Slurm takes when `block_sizes` is missing: groups of 2, 4, 8 and 16 blocks. `base` is the node count of
    /// the first block that has nodes.
    pub fn by_default(base: u32) -> Self {
        Self { base, is_written: false, groups: vec![2, 4, 8, 16] }
    }

    /// Trays of a base block by `block_sizes`; 0 when not known.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// Up to so many trays the site promises that a job which fits a partition lies in one, whatever is drained; to every
    /// job where no size is written down.
    pub fn promised(&self) -> Option<u32> {
        self.is_written.then_some(self.base)
    }

    /// Whether there are any above the base.
    pub fn exist(&self) -> bool {
        !self.groups.is_empty()
    }

    /// How many base blocks hold so many trays.
    pub(super) fn base_blocks(&self, trays: u32) -> u32 {
        trays.div_ceil(self.base.max(1))
    }

    /// Sizes of groups, in partitions, in which a job that takes `base_blocks` may lie: the smallest that holds them by its
    /// size, then the larger ones, at last all partitions. What is too small for the job by its size is left out, as
    /// Slurm does.
    pub(super) fn for_blocks(&self, base_blocks: u32) -> impl Iterator<Item = usize> + '_ {
        let least = usize::try_from(base_blocks).unwrap_or(usize::MAX);
        let groups = self.groups.iter().copied().skip_while(move |&group| group < least);
        groups.chain([usize::MAX])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_among_others_and_unknown_ones_named() {
        let mut rules = Rules::default();
        let unknown =
            rules.read("BlockAsNodeRank, NVLink_split=packed,nvlink_span=degraded,TopoMaxSizeUnroll=4");
        assert_eq!((rules.split, rules.span, unknown), (Split::Packed, Span::Degraded, vec![]));
        let unknown = rules.read("nvlink_split=odd,nvlink_spam=1,nvlink_span=larger,nvlink_split=even,,");
        assert_eq!((rules.split, rules.span), (Split::Even, Span::Larger));
        assert_eq!(unknown, ["nvlink_split=odd", "nvlink_spam=1"]);
        assert_eq!(
            rules.read("nvlink_room=sixteen,nvlink_room=-1,nvlink_room="),
            ["nvlink_room=sixteen", "nvlink_room=-1", "nvlink_room="]
        );
        assert_eq!(rules.read("nvlink_patience=1h"), ["nvlink_patience=1h"]);
        assert_eq!((rules.room, rules.patience), (0, 0));
        assert!(rules.read("NVLINK_ROOM=16,nvlink_patience=240").is_empty());
        assert_eq!((rules.room, rules.patience), (16, 240));
    }

    #[test]
    fn all_settings_are_listed() {
        let listed = SETTINGS.replace(" and ", ", ").replace("TRAYS", "1").replace("MINUTES", "1");
        for setting in listed.split(", ").map(|setting| setting.split('|').next().unwrap()) {
            assert_eq!(Rules::default().read(setting), [""; 0], "{setting}");
        }
        let names = [
            PREFIX.to_owned() + "split=",
            PREFIX.to_owned() + "span=",
            ROOM.into(),
            PATIENCE.into(),
            METRICS.into(),
        ];
        assert!(names.iter().all(|name| SETTINGS.contains(name)));
    }

    #[test]
    fn the_folder_of_the_metrics_is_no_rule() {
        let text = "BlockAsNodeRank, NVLink_Metrics=/run/A,nvlink_split=packed,nvlink_metrics=/run/b";
        assert_eq!(metrics_folder(text), Some("/run/b"));
        assert_eq!(metrics_folder(&text[..40]), Some("/run/A"));
        assert_eq!(["", "nvlink_metric=/x", "\u{e4}"].map(metrics_folder), [None; 3]);
        assert_eq!((Rules::default().read(text), metrics_folder("nvlink_metrics=")), (vec![], Some("")));
    }

    #[test]
    fn levels_begin_with_the_smallest_that_holds_the_job_by_size() {
        let levels = Levels::new(&BlockSizes::new(vec![18, 36, 144]).unwrap());
        let sizes = |trays| levels.for_blocks(levels.base_blocks(trays)).collect::<Vec<_>>();
        assert_eq!(sizes(18), [2, 8, usize::MAX]);
        assert_eq!(sizes(36), [2, 8, usize::MAX]);
        assert_eq!(sizes(37), [8, usize::MAX]);
        assert_eq!(sizes(145), [usize::MAX]);
        assert!(!Levels::new(&BlockSizes::new(vec![18]).unwrap()).exist());
        assert_eq!(Levels::by_default(4).for_blocks(3).collect::<Vec<_>>(), [4, 8, 16, usize::MAX]);
        assert_eq!(Levels::default().for_blocks(3).collect::<Vec<_>>(), [usize::MAX]);
    }
}
