//! The log, on standard error.
//!
//! | level | for |
//! | --- | --- |
//! | error | something failed and needs a person |
//! | warn | something is wrong, and the agent goes on |
//! | info | what an operator wants to know: changes of ports, peers, hooks, configuration |
//! | debug | why the agent did what it did: netlink messages, map writes |
//! | trace | everything, down to single FDB events; never per packet, for packets never reach the agent |

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat, LogLevel};

/// Overrides the level, with the directives of `tracing_subscriber::EnvFilter`.
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

/// Starts logging; once per process.
///
/// # Errors
/// [`ENV`] is wrong, or logging was started before.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let filter = match std::env::var(ENV) {
        Ok(text) if !text.is_empty() => EnvFilter::builder()
            .parse(&text)
            .with_context(|| format!("{ENV}={text} is wrong: write a level (debug), or target=level,…"))?,
        _ => EnvFilter::builder().parse(directives(log.level)).context("logging")?,
    };
    let colors = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colors);
    let started = match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("cannot start logging: {e}"))
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
}
