//! The log, on standard error. CONTRIBUTING.md says what each level is for.

use std::{
    io::{self, IsTerminal, Write},
    thread,
    time::Duration,
};

use anyhow::Context;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::failure::Usage;
use crate::config::{Log, LogFormat, LogLevel, value};

/// Overrides the level: `level`, `target=level`, or several of them with commas.
pub const ENV: &str = "WAVNET_LOG";

/// What is logged: our own crates at the level, others when they warn.
fn directives(level: LogLevel) -> String {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let others = if level == "error" { "error" } else { "warn" };
    format!("{others},wavnet={level},wavnet_user={level},wavnet_proto={level},wavnet_ebpf={level}")
}

/// What [`ENV`] asks for: a level alone means what it does in the configuration, targets go before it.
///
/// # Errors
/// In words.
fn overridden(text: &str, mut level: LogLevel) -> Result<String, String> {
    let mut targets = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            None => level = value::word(&part.to_ascii_lowercase())?,
            Some((target, wanted)) => {
                let path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
                if target.is_empty() || !target.chars().all(path) {
                    return Err(format!("\"{}\" is no module, such as wavnet_user::netlink", target.escape_debug()));
                }
                if !wanted.eq_ignore_ascii_case("off") {
                    value::word::<LogLevel>(&wanted.to_ascii_lowercase())?;
                }
                targets.push(part);
            }
        }
    }
    Ok(std::iter::once(directives(level).as_str()).chain(targets).collect::<Vec<_>>().join(","))
}

/// Lines that wait for a reader who is slow; what comes beyond is lost, and counted.
const WAITING: usize = 20_000;
/// How often it is looked whether lines were lost.
const LOST: Duration = Duration::from_secs(10);

/// Standard error as long as somebody takes what is written there; then nothing. An agent does not end, nor wait, because the disk of
/// its log is full or the log's reader has died.
struct Patient(io::Stderr);

impl Write for Patient {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // What cannot be said cannot be complained of either.
        let _ = self.0.write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Says how many lines were lost, once somebody reads again.
fn tell_of_losses(lost: &ErrorCounter) {
    let mut told = 0;
    loop {
        thread::sleep(LOST);
        let now = lost.dropped_lines();
        if now > told {
            tracing::warn!(lines = now - told, "lines of the log were lost: whoever reads it is too slow");
            told = now;
        }
    }
}

/// Starts logging; once per process. Lines that wait are written when the guard is dropped.
///
/// # Errors
/// [`ENV`] is wrong, or logging was started before.
pub fn init(log: &Log) -> anyhow::Result<WorkerGuard> {
    let wanted = wanted(log.level)?;
    let filter = EnvFilter::builder().parse(wanted).context("logging")?;
    let colors = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING).thread_name("log");
    let (writer, guard) = queue.finish(Patient(io::stderr()));
    let lost = writer.error_counter();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colors);
    let started = match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("cannot start logging: {e}"))?;
    thread::Builder::new()
        .name("log losses".into())
        .spawn(move || tell_of_losses(&lost))
        .context("starting a thread")?;
    Ok(guard)
}

/// What is to be logged, [`ENV`] considered.
///
/// # Errors
/// [`ENV`] is wrong.
pub(super) fn wanted(level: LogLevel) -> Result<String, Usage> {
    match std::env::var_os(ENV) {
        Some(text) if !text.is_empty() => {
            let text = text.to_string_lossy();
            overridden(&text, level).map_err(|why| {
                Usage(format!("{ENV}={text} is wrong: {why}; write a level, or target=level, or several with commas"))
            })
        }
        _ => Ok(directives(level)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_a_filter() {
        use clap::ValueEnum;
        for level in LogLevel::value_variants() {
            EnvFilter::builder().parse(directives(*level)).unwrap();
        }
    }

    #[test]
    fn a_level_in_the_environment_means_what_it_does_in_the_file() {
        let info = LogLevel::Info;
        assert_eq!(overridden("debug", info), Ok(directives(LogLevel::Debug)));
        assert_eq!(overridden(" WARN ", info), Ok(directives(LogLevel::Warn)));
        let both = overridden("wavnet_user::netlink=trace,warn", info).unwrap();
        assert_eq!(both, directives(LogLevel::Warn) + ",wavnet_user::netlink=trace");
        EnvFilter::builder().parse(&both).unwrap();
        let module = overridden("aya=off", info).unwrap();
        assert_eq!(module, directives(info) + ",aya=off", "the rest stays as configured");
        EnvFilter::builder().parse(&module).unwrap();
    }

    #[test]
    fn words_that_are_no_level_are_refused() {
        for wrong in
            ["warning", "loud", "wavnet_user", "foo=bar=baz", "foo=", "=info", "a b=info", "x=verbose", "debug,loud"]
        {
            assert!(overridden(wrong, LogLevel::Info).is_err(), "{wrong}");
        }
    }
}
