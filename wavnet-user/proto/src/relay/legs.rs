//! Legs by row and by label.

use std::collections::{BTreeMap, VecDeque};

use wavnet_common::{
    abi::relay::{Leg, LegHop, RelayAddr},
    addr::Label,
};

/// All legs.
#[derive(Clone, Debug)]
pub(super) struct Legs {
    by_label: BTreeMap<Label, u32>,
    by_row: BTreeMap<u32, (Leg, Option<LegHop>)>,
    /// Rows that were freed; the one that has been free longest is given away first.
    free: VecDeque<u32>,
    /// Rows that nobody had yet begin here.
    next: u32,
    rows: u32,
}

impl Legs {
    pub(super) fn new(rows: u32) -> Legs {
        Legs { by_label: BTreeMap::new(), by_row: BTreeMap::new(), free: VecDeque::new(), next: 0, rows }
    }

    /// Enters a leg: its row, and what was there for its label. `None`: there is no room.
    pub(super) fn set(&mut self, leg: Leg) -> Option<(u32, Option<Leg>)> {
        if let Some(&row) = self.by_label.get(&leg.label) {
            let hop = self.by_row.get(&row).filter(|(before, _)| *before == leg).and_then(|(_, hop)| *hop);
            let before = self.by_row.insert(row, (leg, hop));
            return Some((row, before.map(|(leg, _)| leg)));
        }
        let row = self.take()?;
        self.by_label.insert(leg.label, row);
        self.by_row.insert(row, (leg, None));
        Some((row, None))
    }

    fn take(&mut self) -> Option<u32> {
        if self.next < self.rows {
            self.next += 1;
            return Some(self.next - 1);
        }
        self.free.pop_front()
    }

    /// Takes out the leg of a label.
    pub(super) fn remove(&mut self, label: Label) -> Option<(u32, Leg)> {
        let row = self.by_label.remove(&label)?;
        let (leg, _) = self.by_row.remove(&row)?;
        self.free.push_back(row);
        Some((row, leg))
    }

    /// Who sends by a label.
    pub(super) fn sender(&self, label: Label) -> Option<RelayAddr> {
        Some(self.get(self.row(label)?)?.0.from)
    }

    /// A leg and its next hop in force.
    pub(super) fn get(&self, row: u32) -> Option<(Leg, Option<LegHop>)> {
        self.by_row.get(&row).copied()
    }

    pub(super) fn set_hop(&mut self, row: u32, hop: Option<LegHop>) {
        if let Some((_, in_force)) = self.by_row.get_mut(&row) {
            *in_force = hop;
        }
    }

    pub(super) fn row(&self, label: Label) -> Option<u32> {
        self.by_label.get(&label).copied()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (Label, u32)> {
        self.by_label.iter().map(|(label, row)| (*label, *row))
    }
}
