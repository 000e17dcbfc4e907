//! Reads what a test binary prints.

use std::{fmt, iter::Sum, ops::Add};

/// What a test prints, in a line of its own, when it cannot run here: `SKIP: name: reason`.
const SKIP: &str = "SKIP: ";

/// Numbers of tests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Ran and held.
    pub(crate) passed: u64,
    /// Ran and did not hold, or could not be run.
    pub(crate) failed: u64,
    /// Did not run: ignored, or something was missing.
    pub(crate) skipped: u64,
}

impl Summary {
    /// One check that passed or failed.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 }
    }
}

impl Add for Summary {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl Sum for Summary {
    fn sum<I: Iterator<Item = Self>>(summaries: I) -> Self {
        summaries.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Follows the output of one test binary that was started with `--show-output`.
#[derive(Debug, Default)]
pub(super) struct Reader {
    result: Option<Summary>,
    skips: Vec<String>,
    failures: Vec<String>,
    in_successes: bool,
}

/// What became of one test binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) summary: Summary,
    /// `name: reason` of each test that skipped itself.
    pub(super) skips: Vec<String>,
    /// Names of the tests that failed.
    pub(super) failures: Vec<String>,
}

/// What a line is, for the one who decides what to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A test that passed or was ignored.
    Passed,
    /// Output of tests that passed, their list, and empty lines.
    Noise,
    /// Everything that has to do with failures.
    Failure,
    /// The closing line or the heading.
    Frame,
}

impl Reader {
    pub(super) fn feed(&mut self, line: &str) -> Line {
        if let Some(at) = line.find(SKIP) {
            let skip = line[at + SKIP.len()..].trim().to_owned();
            if !self.skips.contains(&skip) {
                self.skips.push(skip);
            }
            return Line::Noise;
        }
        if let Some(rest) = line.strip_prefix("test result: ") {
            let counts = counts(rest);
            // A binary of doc tests prints one result for each of its groups.
            self.result = Some(self.result.unwrap_or_default() + counts);
            self.in_successes = false;
            return Line::Frame;
        }
        self.failures.extend(failed(line).map(str::to_owned));
        match line {
            "successes:" => self.in_successes = true,
            "failures:" => self.in_successes = false,
            _ => {}
        }
        if self.in_successes || line.is_empty() {
            Line::Noise
        } else if line.starts_with("test ") && (line.ends_with(" ok") || line.contains(" ... ignored")) {
            Line::Passed
        } else if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            Line::Frame
        } else {
            Line::Failure
        }
    }

    /// The sum, and the reasons of skips. `success` is the binary's exit status: one that ends without a result, or
    /// fails without a failed test, counts as one failure.
    pub(super) fn finish(self, success: bool) -> Outcome {
        let mut summary = self.result.unwrap_or_default();
        // A test that skips itself passes in libtest's eyes.
        let skips = summary.passed.min(self.skips.len() as u64);
        summary.passed -= skips;
        summary.skipped += skips;
        if summary.failed == 0 && (!success || self.result.is_none()) {
            summary.failed = 1;
        }
        Outcome { summary, skips: self.skips, failures: self.failures }
    }
}

/// The name in `test name ... FAILED`.
fn failed(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// Reads `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s`.
fn counts(rest: &str) -> Summary {
    let count = |word: &str| {
        let part = rest.split([';', '.']).map(str::trim).find(|part| part.ends_with(word));
        part.and_then(|part| part.split(' ').next()?.parse().ok()).unwrap_or(0)
    };
    Summary { passed: count(" passed"), failed: count(" failed"), skipped: count(" ignored") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str, success: bool) -> Outcome {
        let mut reader = Reader::default();
        for line in output.lines() {
            reader.feed(line);
        }
        reader.finish(success)
    }

    #[test]
    fn passed_failed_and_ignored_are_counted() {
        let output = "\nrunning 4 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored, slow\ntest d ... ok\n\nfailures:\n\n\
            ---- b stdout ----\nboom\n\ntest result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; \
            finished in 0.01s\n";
        let outcome = read(output, false);
        assert_eq!(outcome.summary, Summary { passed: 2, failed: 1, skipped: 1 });
        assert_eq!(outcome.failures, ["b"]);
    }

    #[test]
    fn a_test_that_skips_itself_did_not_pass() {
        let output = "running 2 tests\ntest a ... ok\ntest b ... ok\n\nsuccesses:\n\n---- a stdout ----\n\
            SKIP: a: needs root\n\n\nsuccesses:\n    a\n    b\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; \
            0 filtered out; finished in 0.00s\n";
        let outcome = read(output, true);
        assert_eq!(outcome.summary, Summary { passed: 1, failed: 0, skipped: 1 });
        assert_eq!(outcome.skips, ["a: needs root"]);
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        let failed = Summary { passed: 0, failed: 1, skipped: 0 };
        assert_eq!(read("running 2 tests\ntest a ... ", false).summary, failed, "killed by a signal");
        assert_eq!(read("", true).summary, failed, "no result is no success");
        let output = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(read(output, false).summary, Summary { passed: 1, failed: 1, skipped: 0 }, "died after the tests");
    }

    #[test]
    fn doc_tests_print_several_results() {
        let result = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(read(&result.repeat(2), true).summary.passed, 2);
    }

    #[test]
    fn output_of_passing_tests_is_noise_and_that_of_failing_ones_is_not() {
        let mut reader = Reader::default();
        let lines = [
            "running 2 tests",
            "test a ... ok",
            "",
            "successes:",
            "---- a stdout ----",
            "chatter",
            "failures:",
            "boom",
        ];
        let kinds: Vec<Line> = lines.iter().map(|line| reader.feed(line)).collect();
        use Line::{Failure, Frame, Noise, Passed};
        assert_eq!(kinds, [Frame, Passed, Noise, Noise, Noise, Noise, Failure, Failure]);
    }

    #[test]
    fn sums_read_as_promised() {
        let sum: Summary =
            [Summary::one(true), Summary::one(false), Summary { skipped: 2, ..Summary::default() }].into_iter().sum();
        assert_eq!(sum.to_string(), "1 passed, 1 failed, 2 skipped");
    }
}
