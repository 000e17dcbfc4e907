//! Reading tables of TOML key by key: what is asked for is checked, what nobody asked for is an unknown key.

use std::ops::RangeInclusive;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::diagnostic::{At, Diagnostics, Located};

/// One table and the keys read from it so far.
pub(super) struct Section<'a, 'i> {
    path: String,
    at: At,
    table: &'a DeTable<'i>,
    known: Vec<&'static str>,
}

/// What a value must be, for "expected …, found …".
fn wrong_type(expected: &str, found: &DeValue<'_>) -> String {
    format!("expected {expected}, found {}", found.type_str())
}

/// Text.
pub(super) fn text<'v>(v: &'v DeValue<'_>) -> Result<&'v str, String> {
    v.as_str().ok_or_else(|| wrong_type("text in quotes", v))
}

/// An integer.
pub(super) fn integer(v: &DeValue<'_>) -> Result<i64, String> {
    let n = v.as_integer().ok_or_else(|| wrong_type("an integer", v))?;
    i64::from_str_radix(n.as_str(), n.radix()).map_err(|_| format!("{} is too large", n.as_str()))
}

/// An integer of a range.
pub(super) fn within(range: RangeInclusive<u32>) -> impl Fn(&DeValue<'_>) -> Result<u32, String> {
    move |v| {
        let n = integer(v)?;
        let fits = u32::try_from(n).ok().filter(|n| range.contains(n));
        fits.ok_or_else(|| format!("{n} is out of range: write a number from {} to {}", range.start(), range.end()))
    }
}

/// `true` or `false`.
pub(super) fn boolean(v: &DeValue<'_>) -> Result<bool, String> {
    v.as_bool().ok_or_else(|| wrong_type("true or false", v))
}

/// Text that a function understands.
pub(super) fn parsed<T>(parse: impl Fn(&str) -> Result<T, String>) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |v| parse(text(v)?)
}

impl<'a, 'i> Section<'a, 'i> {
    /// A table at a path (`""` for the document).
    pub(super) fn new(path: impl Into<String>, at: At, table: &'a DeTable<'i>) -> Section<'a, 'i> {
        Section { path: path.into(), at, table, known: Vec::new() }
    }

    /// Where the table begins.
    pub(super) fn at(&self) -> &At {
        &self.at
    }

    /// The full name of a key.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn find(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.known.push(key);
        self.table.iter().find(|(k, _)| k.get_ref() == key).map(|(_, v)| v)
    }

    /// A value, or `None` if it is absent or wrong (which is noted).
    pub(super) fn get<T>(
        &mut self,
        d: &mut Diagnostics,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let found = self.find(key)?;
        let at = At::Span(found.span());
        match parse(found.get_ref()) {
            Ok(value) => Some(Located { value, at }),
            Err(message) => {
                d.add(&at, self.key(key), message);
                None
            }
        }
    }

    /// Replaces a default by the value, if there is one.
    pub(super) fn set<T>(
        &mut self,
        d: &mut Diagnostics,
        key: &'static str,
        target: &mut T,
        parse: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) {
        if let Some(found) = self.get(d, key, parse) {
            *target = found.value;
        }
    }

    /// As [`Section::get`]; absence is an error.
    pub(super) fn require<T>(
        &mut self,
        d: &mut Diagnostics,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let errors = d.0.len();
        let found = self.get(d, key, parse);
        if found.is_none() && d.0.len() == errors {
            d.add(&self.at, self.key(key), format!("the key `{key}` is missing"));
        }
        found
    }

    /// The elements of an array; wrong ones are noted and left out.
    pub(super) fn list<T>(
        &mut self,
        d: &mut Diagnostics,
        key: &'static str,
        parse: impl Fn(&DeValue<'i>) -> Result<T, String>,
    ) -> Option<Located<Vec<Located<T>>>> {
        let found = self.find(key)?;
        let at = At::Span(found.span());
        let Some(array) = found.get_ref().as_array() else {
            d.add(&at, self.key(key), wrong_type("a list in brackets", found.get_ref()));
            return None;
        };
        let mut value = Vec::new();
        for item in array.iter() {
            let at = At::Span(item.span());
            match parse(item.get_ref()) {
                Ok(v) => value.push(Located { value: v, at }),
                Err(message) => drop(d.add(&at, self.key(key), message)),
            }
        }
        Some(Located { value, at })
    }

    /// The table `[key]`.
    pub(super) fn table(&mut self, d: &mut Diagnostics, key: &'static str) -> Option<Section<'a, 'i>> {
        let found = self.find(key)?;
        let at = At::Span(found.span());
        match found.get_ref().as_table() {
            Some(table) => Some(Section::new(self.key(key), at, table)),
            None => {
                let found = wrong_type(&format!("a table, `[{key}]`"), found.get_ref());
                d.add(&at, self.key(key), found);
                None
            }
        }
    }

    /// The tables `[[key]]`.
    pub(super) fn tables(&mut self, d: &mut Diagnostics, key: &'static str) -> Vec<Section<'a, 'i>> {
        let Some(found) = self.find(key) else { return Vec::new() };
        let Some(array) = found.get_ref().as_array() else {
            let message = wrong_type(&format!("tables, `[[{key}]]` with double brackets"), found.get_ref());
            d.add(&At::Span(found.span()), self.key(key), message);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in array.iter() {
            let at = At::Span(item.span());
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section::new(self.key(key), at, table)),
                None => {
                    d.add(&at, self.key(key), wrong_type(&format!("a table, `[[{key}]]`"), item.get_ref()));
                }
            }
        }
        sections
    }

    /// Notes every key that was not asked for.
    pub(super) fn finish(self, d: &mut Diagnostics) {
        for key in self.table.keys().filter(|k| !self.known.contains(&&**k.get_ref())) {
            let name = key.get_ref();
            let of = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
            let error =
                d.add(&At::Span(key.span()), self.key(name), format!("unknown key `{}`{of}", name.escape_debug()));
            let near = self
                .known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
            match near {
                Some(near) if strsim::jaro_winkler(near, name) > 0.8 => error.help(format!("did you mean `{near}`?")),
                _ => error.help(format!("known keys are: {}", self.known.join(", "))),
            }
        }
    }
}
