//! Order of names as people count: `n2` before `n10`.
#![forbid(unsafe_code)]

use std::cmp::Ordering;

/// Compares runs of digits by their number and everything else by bytes; equal only for equal texts.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let (one, left_rest) = chunk(left);
        let (two, right_rest) = chunk(right);
        let order = if is_number(one) && is_number(two) {
            let (one, two) = (one.trim_start_matches('0'), two.trim_start_matches('0'));
            one.len().cmp(&two.len()).then_with(|| one.cmp(two))
        } else {
            one.cmp(two)
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

fn is_number(chunk: &str) -> bool {
    chunk.starts_with(|c: char| c.is_ascii_digit())
}

/// The leading run of digits or of other characters, and what follows.
fn chunk(text: &str) -> (&str, &str) {
    let number = is_number(text);
    text.split_at(text.find(|c: char| c.is_ascii_digit() != number).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_and_equal_numbers_fall_back_to_bytes() {
        let mut names = ["n10", "n2", "n02", "m99", "n2-10", "n2-9", "n", "é1"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(names, ["m99", "n", "n02", "n2", "n2-9", "n2-10", "n10", "é1"]);
    }

    #[test]
    fn the_order_is_total() {
        let names = ["", "a", "a1", "a01", "a1b", "a01b", "1", "01", "b2a10", "b2a9"];
        for a in names {
            for b in names {
                assert_eq!(compare(a, b), compare(b, a).reverse(), "{a} {b}");
                assert_eq!(compare(a, b) == Ordering::Equal, a == b, "{a} {b}");
            }
        }
    }
}
