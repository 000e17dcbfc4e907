//! Errors in a configuration: each knows where it is, and all are shown together.

use std::{fmt, ops::Range};

use crate::{api::model::Problem, output::counted};

/// Where in the configuration something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Bytes of the file's text.
    Span(Range<usize>),
    /// A flag as given on the command line.
    Flag(String),
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: At,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub at: At,
    /// The key, as `port.vlan`; empty for errors of syntax.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// The errors found so far.
#[derive(Debug, Default)]
pub(super) struct Diagnostics(pub(super) Vec<Diagnostic>);

impl Diagnostics {
    pub(super) fn add(&mut self, at: &At, key: impl Into<String>, message: impl Into<String>) -> &mut Diagnostic {
        let index = self.0.len();
        self.0.push(Diagnostic { at: at.clone(), key: key.into(), message: message.into(), help: None });
        &mut self.0[index]
    }
}

impl Diagnostic {
    /// Adds what to do.
    pub(super) fn help(&mut self, help: impl Into<String>) {
        self.help = Some(help.into());
    }
}

/// Every error of one configuration; `Display` shows them with lines and carets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file's name; `None` for flags.
    pub file: Option<String>,
    /// The file's text; empty for flags.
    pub text: String,
    /// In the order of the file.
    pub errors: Vec<Diagnostic>,
}

impl std::error::Error for ConfigErrors {}

/// So many errors are shown in full.
const SHOWN: usize = 50;
/// So many errors are told to programs.
const PROBLEMS: usize = 1000;

impl ConfigErrors {
    /// Sorts the errors by place.
    pub(super) fn new(file: Option<String>, text: String, mut errors: Vec<Diagnostic>) -> ConfigErrors {
        errors.sort_by_key(|d| match &d.at {
            At::Span(s) => s.start,
            At::Flag(_) => 0,
        });
        ConfigErrors { file, text, errors }
    }

    /// Line and column, counted from one, columns in characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        position(&self.text, offset)
    }

    /// The errors for programs, no more than a thousand.
    pub fn problems(&self) -> Vec<Problem> {
        // The errors are in order: the text is gone through once.
        let (mut seen, mut line, mut column) = (0, 1, 1);
        let mut place = |offset: usize| {
            let to = self.text.floor_char_boundary(offset).max(seen);
            for c in self.text.get(seen..to).unwrap_or_default().chars() {
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            seen = to;
            (line, column)
        };
        let problem = |d: &Diagnostic| {
            let (at, key) = match &d.at {
                At::Span(span) => (Some(place(span.start)), &d.key),
                At::Flag(flag) => (None, flag),
            };
            let (line, column) = at.unzip();
            let (key, message, help) = (key.clone(), d.message.clone(), d.help.clone());
            Problem { file: self.file.clone(), line, column, key, message, help }
        };
        self.errors.iter().take(PROBLEMS).map(problem).collect()
    }

    /// How many there are, in words.
    pub fn summary(&self) -> String {
        let name = self.file.as_deref().unwrap_or("the command line");
        format!("{name} has {}", counted(self.errors.len() as u64, "error"))
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, d: &Diagnostic) -> fmt::Result {
        writeln!(f, "error: {}", d.message)?;
        match &d.at {
            At::Flag(flag) => writeln!(f, "  --> {flag}")?,
            At::Span(span) => {
                let (line, column) = self.position(span.start);
                let source = self.text.lines().nth(line - 1).unwrap_or_default();
                let gutter = line.to_string().len();
                let key = if d.key.is_empty() { String::new() } else { format!(" (key `{}`)", d.key) };
                let file = self.file.as_deref().unwrap_or("configuration");
                writeln!(f, "{:gutter$}--> {file}:{line}:{column}{key}", "")?;
                writeln!(f, "{:gutter$} |", "")?;
                writeln!(f, "{line} | {source}")?;
                // Tabs stay tabs, so that the carets stand below what they mean.
                let pad: String = source.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
                let width = self.text.get(span.clone()).map_or(1, |s| s.lines().next().unwrap_or("").chars().count());
                let room = source.chars().count().saturating_sub(column - 1);
                writeln!(f, "{:gutter$} | {pad}{}", "", "^".repeat(width.min(room).max(1)))?;
            }
        }
        match &d.help {
            Some(help) => writeln!(f, "  = help: {help}"),
            None => Ok(()),
        }
    }
}

/// Line and column of a byte, counted from one.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for d in self.errors.iter().take(SHOWN) {
            self.show(f, d)?;
            writeln!(f)?;
        }
        f.write_str(&self.summary())?;
        match self.errors.len() {
            n if n > SHOWN => write!(f, ", of which the first {SHOWN} are shown"),
            _ => Ok(()),
        }
    }
}

/// How another place is called in a message: `line 12`, or the flag.
pub(super) fn describe(at: &At, text: &str) -> String {
    match at {
        At::Span(span) => format!("in line {}", position(text, span.start).0),
        At::Flag(flag) => format!("by {flag}"),
    }
}
