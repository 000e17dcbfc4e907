//! Seeds: one number from which a scenario can be repeated, and running it for many of them.

use std::{
    env, fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use crate::Rng;

/// The environment variable that says which seed to take.
const VARIABLE: &str = "WAVNET_SEED";

/// What everything random in a scenario comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The one that the environment variable `WAVNET_SEED` asks for (decimal, or hexadecimal after `0x`), else `default`.
    ///
    /// # Panics
    ///
    /// If the variable holds no number: whoever set it wants that very run, and not another.
    #[must_use]
    pub fn from_env_or(default: u64) -> Seed {
        Seed::from_env().unwrap_or(Seed(default))
    }

    fn from_env() -> Option<Seed> {
        let text = env::var(VARIABLE).ok()?;
        match parse(&text) {
            Some(n) => Some(Seed(n)),
            None => panic!("{VARIABLE} is `{text}`, which is no number below 2^64"),
        }
    }

    /// Random numbers for the scenario itself.
    #[must_use]
    pub const fn rng(self) -> Rng {
        Rng::new(self.0)
    }

    /// Runs a scenario for the seeds 0 to `count` - 1, or for the one alone that the environment asks for. The first that fails ends it,
    /// and is named on standard error.
    pub fn each(count: u64, mut scenario: impl FnMut(Seed)) {
        let failed = match Seed::from_env() {
            Some(seed) => first_failure([seed], &mut scenario),
            None => first_failure((0..count).map(Seed), &mut scenario),
        };
        if let Err((seed, panic)) = failed {
            eprintln!("failed with {seed}");
            resume_unwind(panic);
        }
    }
}

/// As the environment variable that makes it happen again.
impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VARIABLE}={}", self.0)
    }
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

type Panic = Box<dyn std::any::Any + Send>;

fn first_failure(seeds: impl IntoIterator<Item = Seed>, scenario: &mut impl FnMut(Seed)) -> Result<(), (Seed, Panic)> {
    for seed in seeds {
        // Nothing that a scenario leaves half done is looked at any more.
        catch_unwind(AssertUnwindSafe(|| scenario(seed))).map_err(|panic| (seed, panic))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_nonsense_is_not() {
        assert_eq!(parse("17"), Some(17));
        assert_eq!(parse(" 0xff\n"), Some(255));
        assert_eq!(parse("18446744073709551615"), Some(u64::MAX));
        for bad in ["", "0x", "-1", "seventeen", "18446744073709551616"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(Seed(17).to_string(), "WAVNET_SEED=17");
    }

    #[test]
    fn the_first_seed_that_fails_is_named() {
        let mut ran = Vec::new();
        let failed = first_failure((0..10).map(Seed), &mut |seed| {
            ran.push(seed.0);
            assert!(seed.0 < 3, "told to");
        });
        let (seed, panic) = failed.unwrap_err();
        assert_eq!((seed, ran), (Seed(3), vec![0, 1, 2, 3]));
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"told to"));
        assert!(first_failure((0..3).map(Seed), &mut |_| ()).is_ok());
    }
}
