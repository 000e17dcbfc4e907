//! Standard output, whose reader may go away (`wavnet fdb | head`).

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
use serde::Serialize;

use super::args::{ColorChoice, Global};

/// The reader of our output is gone: nothing to say, and no failure.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(super) struct Stop;

/// Writes answers.
pub(super) struct Printer {
    /// JSON is wanted.
    pub(super) json: bool,
    /// Colours are wanted.
    pub(super) color: bool,
    out: Box<dyn Write>,
}

impl Printer {
    pub(super) fn new(global: &Global) -> Printer {
        let color = match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        };
        Printer { json: global.json, color, out: Box::new(io::stdout()) }
    }

    /// To somewhere else than standard output.
    #[cfg(test)]
    pub(super) fn to(global: &Global, out: impl Write + 'static) -> Printer {
        Printer { json: global.json, color: global.color == ColorChoice::Always, out: Box::new(out) }
    }

    /// Text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<()> {
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Stop.into()),
            other => other.context("cannot write to standard output"),
        }
    }

    /// One line of JSON.
    pub(super) fn value(&mut self, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(value).context("cannot write JSON")?;
        text.push('\n');
        self.text(&text)
    }
}
