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
        let (key, message) = (cut(key.into()), cut(message.into()));
        self.0.push(Diagnostic { at: at.clone(), key, message, help: None });
        &mut self.0[index]
    }
}

impl Diagnostic {
    /// Adds what to do.
    pub(super) fn help(&mut self, help: impl Into<String>) {
        self.help = Some(cut(help.into()));
    }
}

/// No text is longer, in characters: a value that a message quotes may be.
const TEXT: usize = 500;

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
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
/// So many characters of a line are shown before what is wrong, if the line is long.
const BEFORE: usize = 40;
/// So many from there on.
const AFTER: usize = 80;
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

    /// Line and column of each error in the file, counted from one, columns in characters. The errors are in order: the text is gone
    /// through once.
    pub(super) fn places(&self) -> impl Iterator<Item = (&Diagnostic, Option<(usize, usize)>)> {
        let (mut seen, mut line, mut column) = (0, 1, 1);
        self.errors.iter().map(move |d| {
            let At::Span(span) = &d.at else { return (d, None) };
            let to = self.text.floor_char_boundary(span.start).max(seen);
            for c in self.text.get(seen..to).unwrap_or_default().chars() {
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            seen = to;
            (d, Some((line, column)))
        })
    }

    /// The errors for programs, no more than a thousand.
    pub fn problems(&self) -> Vec<Problem> {
        let told = self.places().take(PROBLEMS).map(|(d, place)| {
            let key = match &d.at {
                At::Span(_) => &d.key,
                At::Flag(flag) => flag,
            };
            let (line, column) = place.map(|(line, column)| (line as u64, column as u64)).unzip();
            let (key, message, help) = (key.clone(), d.message.clone(), d.help.clone());
            Problem { file: self.file.clone(), line, column, key, message, help }
        });
        told.collect()
    }

    /// How many there are, in words.
    pub fn summary(&self) -> String {
        let name = self.file.as_deref().unwrap_or("the command line");
        format!("{name} has {}", counted(self.errors.len() as u64, "error"))
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, d: &Diagnostic, place: Option<(usize, usize)>) -> fmt::Result {
        writeln!(f, "error: {}", d.message)?;
        match (&d.at, place) {
            (At::Span(span), Some((line, column))) => {
                let gutter = line.to_string().len();
                let key = if d.key.is_empty() { String::new() } else { format!(" (key `{}`)", d.key) };
                let file = self.file.as_deref().unwrap_or("configuration");
                writeln!(f, "{:gutter$}--> {file}:{line}:{column}{key}", "")?;
                let [before, after] = self.around(span.start);
                writeln!(f, "{:gutter$} |", "")?;
                writeln!(f, "{line} | {before}{after}")?;
                // Tabs stay tabs, so that the carets stand below what they mean.
                let pad: String = before.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
                let value = self.text.get(span.clone()).and_then(|s| s.lines().next()).unwrap_or("");
                let width = value.chars().take(AFTER).count().min(after.chars().count()).max(1);
                writeln!(f, "{:gutter$} | {pad}{}", "", "^".repeat(width))?;
            }
            (At::Span(_), None) => {}
            (At::Flag(flag), _) => writeln!(f, "  --> {flag}")?,
        }
        match &d.help {
            Some(help) => writeln!(f, "  = help: {help}"),
            None => Ok(()),
        }
    }

    /// The line of a byte, before it and from it on; cut where it is long.
    fn around(&self, at: usize) -> [String; 2] {
        let (before, after) = self.text.split_at(self.text.floor_char_boundary(at));
        let line = |c: &char| *c != '\n' && *c != '\r';
        let mut start: Vec<char> = before.chars().rev().take_while(line).take(BEFORE + 1).collect();
        start.reverse();
        let mut end: Vec<char> = after.chars().take_while(line).take(AFTER + 1).collect();
        if start.len() > BEFORE {
            start[0] = '…';
        }
        if end.len() > AFTER {
            end[AFTER] = '…';
        }
        [start.into_iter().collect(), end.into_iter().collect()]
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
        for (d, place) in self.places().take(SHOWN) {
            self.show(f, d, place)?;
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
