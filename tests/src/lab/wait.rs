//! Waiting for a condition instead of for a time.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

const PERIOD: Duration = Duration::from_millis(20);

/// Waits until `condition` gives `Ok(value)` and gives that value.
///
/// # Errors
/// After `timeout`: what was waited for and the last error of `condition`.
pub fn poll_until<T>(what: &str, timeout: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + timeout;
    loop {
        let error = match condition() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if Instant::now() >= end {
            bail!("waited {timeout:?} for {what}; last: {error:#}");
        }
        sleep(PERIOD);
    }
}

/// Waits until `condition` is true.
///
/// # Errors
/// After `timeout`, or when `condition` fails: what was waited for.
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    poll_until(what, timeout, || match condition() {
        Ok(true) => Ok(()),
        Ok(false) => bail!("not yet"),
        Err(error) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_value_once_there_is_one_and_names_what_never_came() {
        let mut n = 0;
        let value = poll_until("three", Duration::from_secs(5), || {
            n += 1;
            if n < 3 { bail!("only {n}") } else { Ok(n) }
        });
        assert_eq!(value.unwrap(), 3);
        let error = wait_until("rain", Duration::ZERO, || Ok(false)).unwrap_err().to_string();
        assert!(error.contains("rain") && error.contains("not yet"), "{error}");
    }
}
