//! Reads what `cargo test` prints: libtest's own format and that of libtest-mimic, which is the same.
//!
//! ```text
//! Running unittests src/lib.rs (target/debug/deps/fabric-1f2e)      one binary begins
//! test names::tests::a_name_is_checked ... ok         FAILED | ignored[, reason] | ignored (reason)
//! test result: ok. 3 passed; 0 failed; 1 ignored; ...               it has ended
//! ```
//! A binary that begins and never prints its result has crashed: that counts as one failure, never as nothing.

#![forbid(unsafe_code)]

/// What the tests of one or more binaries came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u32,
    /// Tests that failed, and binaries that crashed.
    pub(crate) failed: u32,
    /// Tests that did not run: name and reason.
    pub(crate) skipped: Vec<(String, String)>,
    /// The names of what failed.
    pub(crate) failures: Vec<String>,
    /// What tests want people to know: lines that begin with `difference: `.
    pub(crate) remarks: Vec<String>,
    /// The binary that has begun and not ended.
    running: Option<String>,
}

/// One binary that has ended: its name and its own counts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Binary {
    /// The package or integration test, as far as cargo's line tells.
    pub(crate) name: String,
    /// Tests that passed in it.
    pub(crate) passed: u32,
    /// Tests that failed in it.
    pub(crate) failed: u32,
}

impl Tally {
    /// Takes one line of output; returns the binary whose result the line is.
    pub(crate) fn line(&mut self, line: &str) -> Option<Binary> {
        let line = line.trim();
        if let Some(name) = binary_name(line) {
            self.close();
            self.running = Some(name);
            return None;
        }
        if line.starts_with("difference: ") {
            self.remarks.push(line.to_owned());
            return None;
        }
        if let Some(rest) = line.strip_prefix("test result: ") {
            return self.result(rest);
        }
        if let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            self.verdict(name, verdict);
        }
        None
    }

    /// The command has ended, with success or without.
    pub(crate) fn end(&mut self, success: bool) {
        self.close();
        if !success && self.failed == 0 {
            self.failed += 1;
            self.failures.push("the command failed before any test did".to_owned());
        }
    }

    fn verdict(&mut self, name: &str, verdict: &str) {
        if verdict == "FAILED" {
            self.failures.push(name.trim_end().to_owned());
        } else if let Some(rest) = verdict.strip_prefix("ignored") {
            let in_brackets = || rest.strip_prefix(" (")?.strip_suffix(')');
            let reason = rest.strip_prefix(", ").or_else(in_brackets);
            let reason = reason.unwrap_or("marked as ignored, without a reason");
            self.skipped.push((name.trim_end().to_owned(), reason.to_owned()));
        }
    }

    fn result(&mut self, rest: &str) -> Option<Binary> {
        let count = |word: &str| {
            let before = rest.split_once(word)?.0;
            before.trim_end().rsplit([' ', ';', '.']).next()?.parse::<u32>().ok()
        };
        let binary = Binary {
            name: self.running.take().unwrap_or_default(),
            passed: count(" passed")?,
            failed: count(" failed")?,
        };
        self.passed += binary.passed;
        self.failed += binary.failed;
        Some(binary)
    }

    /// A binary that is still running when the next begins, or the command ends, has crashed.
    fn close(&mut self) {
        if let Some(name) = self.running.take() {
            self.failed += 1;
            self.failures.push(format!("{name}: ended without a result"));
        }
    }
}

/// `Running unittests src/lib.rs (target/debug/deps/fabric-1f2e)` -> `fabric`; `Doc-tests fabric` -> `fabric (doc)`.
fn binary_name(line: &str) -> Option<String> {
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package} (doc)"));
    }
    let rest = line.strip_prefix("Running ")?;
    let (_, path) = rest.rsplit_once('(')?;
    let file = path.strip_suffix(')')?.rsplit('/').next()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _hash)| name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, success: bool) -> (Tally, Vec<Binary>) {
        let mut tally = Tally::default();
        let binaries = text.lines().filter_map(|line| tally.line(line)).collect();
        tally.end(success);
        (tally, binaries)
    }

    #[test]
    fn binaries_are_summed_and_named() {
        let text = "\
     Running unittests src/lib.rs (target/debug/deps/fabric-1f2e3d)

running 3 tests
test a ... ok
test b ... ignored, issue 7
test c ... ok

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/cli.rs (target/debug/deps/cli-99)
test d ... FAILED
test result: FAILED. 10 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
   Doc-tests fabric
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        let (tally, binaries) = read(text, false);
        assert_eq!((tally.passed, tally.failed), (12, 1));
        assert_eq!(tally.skipped, [("b".to_owned(), "issue 7".to_owned())]);
        assert_eq!(tally.failures, ["d"]);
        let names: Vec<_> = binaries.iter().map(|binary| binary.name.as_str()).collect();
        assert_eq!(names, ["fabric", "cli", "fabric (doc)"]);
    }

    #[test]
    fn names_in_columns_and_reasons_in_brackets_are_read() {
        let (tally, _) = read("test a: b (c)   ... ignored (an hour (or two))\ntest d   ... FAILED", true);
        assert_eq!(tally.skipped, [("a: b (c)".to_owned(), "an hour (or two)".to_owned())]);
        assert_eq!(tally.failures, ["d"]);
    }

    #[test]
    fn remarks_are_kept() {
        let (tally, _) = read("difference: a: stock waits, ours runs: because\ntest a ... ok", true);
        assert_eq!(tally.remarks, ["difference: a: stock waits, ours runs: because"]);
    }

    #[test]
    fn a_crash_counts_as_a_failure() {
        let text =
            "     Running unittests src/lib.rs (target/debug/deps/fabric-1f)\nrunning 3 tests\ntest a ... ok";
        let (tally, _) = read(text, false);
        assert_eq!((tally.passed, tally.failed), (0, 1));
        assert_eq!(tally.failures, ["fabric: ended without a result"]);
    }

    #[test]
    fn a_build_that_fails_counts_as_a_failure() {
        let (tally, _) = read("error[E0308]: mismatched types", false);
        assert_eq!((tally.passed, tally.failed), (0, 1));
        assert_eq!(read("", true).0, Tally::default());
    }
}
