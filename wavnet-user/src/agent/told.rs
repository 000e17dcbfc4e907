//! Lasting conditions as the log tells of them: when they come and when they go, name by name.

use std::collections::{BTreeMap, BTreeSet};

use wavnet_common::reason::Reason;

use crate::firsts::Firsts;

/// More names than this are counted rather than listed.
pub(super) const NAMES: usize = 5;

/// Something to look at. What is the matter with several ports or peers is one sentence with all their names; but the log, which says
/// what is new, names those alone that it is new of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Warning {
    sentence: Sentence,
    /// Empty: the sentence is whole without.
    names: Vec<String>,
}

/// `{}` stands for the names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sentence {
    one: String,
    many: String,
}

impl Warning {
    /// About things of these names, with `{}` in their place in the sentence about one and in that about several; `None` without any.
    pub(super) fn about(names: Vec<String>, one: impl Into<String>, many: impl Into<String>) -> Option<Warning> {
        let sentence = Sentence { one: one.into(), many: many.into() };
        (!names.is_empty()).then_some(Warning { sentence, names })
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        self.sentence.about(&self.names)
    }
}

impl From<String> for Warning {
    fn from(words: String) -> Warning {
        Warning { sentence: Sentence { one: words, many: String::new() }, names: Vec::new() }
    }
}

impl Sentence {
    fn about(&self, names: &[String]) -> String {
        match names {
            [] => self.one.clone(),
            [name] => self.one.replacen("{}", name, 1),
            _ => self.many.replacen("{}", &list(names), 1),
        }
    }
}

fn list(names: &[String]) -> String {
    let shown = names.get(..NAMES.min(names.len())).unwrap_or_default().join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => shown,
        n => format!("{shown} and {n} more"),
    }
}

/// What is the matter with one thing; the name is missing where the sentence has none.
type Matter = (Sentence, Option<String>);

/// What the log has said.
#[derive(Default)]
pub(super) struct Told {
    said: BTreeSet<Matter>,
    /// Seen the last time, and not said yet: a state that lasts no longer than that is none.
    seen: BTreeSet<Matter>,
    /// Reasons for which the kernel's programs drop frames.
    pub(super) drops: Firsts,
}

/// What is to be said now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) came: Vec<String>,
    pub(super) went: Vec<String>,
}

impl Told {
    /// After an earlier agent, whose programs have dropped so much.
    pub(super) fn after(drops: &[(Reason, u64)]) -> Told {
        let mut told = Told::default();
        told.drops.begin(drops.iter().map(|(reason, n)| (reason.label(), *n)));
        told
    }

    /// What is news if this is what there is now.
    pub(super) fn news(&mut self, now: &[Warning]) -> News {
        let now: BTreeSet<Matter> = now.iter().flat_map(single).collect();
        let came: Vec<Matter> = now.intersection(&self.seen).cloned().collect();
        let went: Vec<Matter> = self.said.difference(&now).cloned().collect();
        self.said.retain(|one| now.contains(one));
        self.said.extend(came.iter().cloned());
        self.seen = now.difference(&self.said).cloned().collect();
        News { came: sentences(came), went: sentences(went) }
    }
}

fn single(warning: &Warning) -> Vec<Matter> {
    let of = |name| (warning.sentence.clone(), name);
    if warning.names.is_empty() {
        return vec![of(None)];
    }
    warning.names.iter().cloned().map(Some).map(of).collect()
}

/// Things of which the same is said, in one sentence.
fn sentences(all: Vec<Matter>) -> Vec<String> {
    let mut names: BTreeMap<Sentence, Vec<String>> = BTreeMap::new();
    for (sentence, name) in all {
        names.entry(sentence).or_default().extend(name);
    }
    names.iter().map(|(sentence, names)| sentence.about(names)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(words: &[&str]) -> Vec<Warning> {
        words.iter().map(|w| Warning::from((*w).to_owned())).collect()
    }

    fn down(names: &[&str]) -> Vec<Warning> {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        Warning::about(names, "port {} is down", "ports {} are down").into_iter().collect()
    }

    fn came(words: &[&str]) -> News {
        News { came: words.iter().map(|w| (*w).to_owned()).collect(), went: Vec::new() }
    }

    #[test]
    fn what_lasts_is_said_once_and_its_end_too() {
        let mut told = Told::default();
        assert_eq!(told.news(&plain(&["a", "b {}"])), News::default());
        assert_eq!(told.news(&plain(&["a"])), came(&["a"]));
        assert_eq!(told.news(&plain(&["a", "b {}"])), News::default());
        assert_eq!(told.news(&plain(&["b {}"])), News { went: vec!["a".into()], ..came(&["b {}"]) });
        assert_eq!(told.news(&plain(&["b {}"])), News::default());
        assert_eq!(told.news(&plain(&["b {}", "a"])), News::default());
        assert_eq!(told.news(&plain(&["b {}", "a"])), came(&["a"]));
    }

    #[test]
    fn only_those_are_named_that_it_is_new_of() {
        let mut told = Told::default();
        told.news(&down(&["tap0"]));
        assert_eq!(told.news(&down(&["tap0"])), came(&["port tap0 is down"]));
        told.news(&down(&["tap0", "tap1", "tap2"]));
        assert_eq!(told.news(&down(&["tap0", "tap1", "tap2"])), came(&["ports tap1, tap2 are down"]));
        let went = |words: &str| News { came: Vec::new(), went: vec![words.into()] };
        assert_eq!(told.news(&down(&["tap0", "tap2"])), went("port tap1 is down"));
        assert_eq!(told.news(&[]), went("ports tap0, tap2 are down"));
    }

    #[test]
    fn long_lists_are_cut() {
        let many: Vec<String> = (0..NAMES + 2).map(|n| n.to_string()).collect();
        let warning = Warning::about(many, "{}", "ports {} are down").unwrap();
        assert_eq!(warning.words(), "ports 0, 1, 2, 3, 4 and 2 more are down");
        assert!(Warning::about(Vec::new(), "{}", "{}").is_none());
    }
}
