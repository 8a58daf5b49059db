//! A site's rules for segments: which `--segment` a job gets that has none of its own, by its size.
//!
//! Written as `SIZES:SEGMENT`, separated by commas: `17-:16,8-16:4,2-7:1`. The first rule whose sizes hold the job's and whose
//! segment divides it counts. `SIZES` is a number, `LOW-HIGH` or `LOW-`; a segment of 0 takes the job's segment away.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::job::Job;

/// Rules, the first that holds counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentRules(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    sizes: RangeInclusive<u32>,
    segment: u32,
}

/// A rule that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule:?} is no rule such as 17-:16 (jobs of 17 trays and more: segments of 16) or 2-7:1")]
pub struct SegmentRuleError {
    rule: String,
}

impl SegmentRules {
    /// Gives jobs without a segment the one of the rules.
    pub fn apply(&self, jobs: &mut [Job]) {
        for job in jobs.iter_mut().filter(|job| job.segment == 0) {
            job.segment = self.of(job.trays);
        }
    }

    /// The segment of a job of so many trays; 0 for none.
    pub fn of(&self, trays: u32) -> u32 {
        let holds = |rule: &&Rule| {
            rule.sizes.contains(&trays) && (rule.segment == 0 || trays.is_multiple_of(rule.segment))
        };
        self.0.iter().find(holds).map_or(0, |rule| rule.segment)
    }
}

impl FromStr for SegmentRules {
    type Err = SegmentRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = |text: &str| {
            let (sizes, segment) = text.trim().split_once(':')?;
            let (low, high) = match sizes.split_once('-') {
                None => (sizes, sizes),
                Some((low, "")) => (low, "4294967295"),
                Some(both) => both,
            };
            let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
            let sizes = (low <= high).then_some(low..=high)?;
            Some(Rule { sizes, segment: segment.parse().ok()? })
        };
        text.split(',')
            .filter(|text| !text.trim().is_empty())
            .map(|text| rule(text).ok_or_else(|| SegmentRuleError { rule: text.to_owned() }))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for SegmentRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Rule { sizes, segment }) in self.0.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let (low, high) = (sizes.start(), sizes.end());
            if low == high {
                write!(f, "{comma}{low}:{segment}")?;
            } else if *high == u32::MAX {
                write!(f, "{comma}{low}-:{segment}")?;
            } else {
                write!(f, "{comma}{low}-{high}:{segment}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_rule_that_divides_the_job_counts() {
        let rules: SegmentRules = "17-:16, 8-16:4,2-7:1".parse().unwrap();
        assert_eq!([1, 2, 8, 12, 10, 16, 18, 32].map(|trays| rules.of(trays)), [0, 1, 4, 4, 0, 4, 0, 16]);
        assert_eq!(rules.to_string(), "17-:16,8-16:4,2-7:1");
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for text in ["17", "17-:", ":4", "9-8:2", "a:1", "1-2-3:1", "5:-1"] {
            let error = format!("2:1,{text}").parse::<SegmentRules>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
        assert_eq!("".parse::<SegmentRules>().unwrap(), SegmentRules::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9:, -]{0,40}") {
            if let Ok(rules) = text.parse::<SegmentRules>() {
                prop_assert_eq!(rules.to_string().parse::<SegmentRules>().unwrap(), rules);
            }
        }
    }
}
