//! Who takes turns: contenders, and wavnet a second time where it is measured in another setting beside itself.

use std::fmt;

use super::{contender::Contender, setting::Setting};

/// A contender in a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) contender: Contender,
    pub(super) setting: Setting,
}

impl Entry {
    /// These in a setting, and behind them ours in the one that is measured beside it.
    pub(super) fn all(contenders: &[Contender], setting: Setting) -> Vec<Entry> {
        let beside = setting.beside().filter(|_| contenders.contains(&Contender::Wavnet));
        let beside = beside.map(|setting| Entry { contender: Contender::Wavnet, setting });
        contenders.iter().map(|contender| Entry { contender: *contender, setting }).chain(beside).collect()
    }

    /// What its rows are called beside those of the case's own figure.
    pub(super) fn variant(self) -> Option<&'static str> {
        self.setting.variant()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.variant() {
            Some(variant) => f.pad(&format!("{}, {variant}", self.contender)),
            None => self.contender.fmt(f),
        }
    }
}
