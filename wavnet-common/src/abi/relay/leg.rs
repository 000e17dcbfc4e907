//! Legs of relayed sessions: who may send by a label, and to whom that goes.

use core::sync::atomic::AtomicU64;

use super::Meter;
use crate::{
    addr::{Label, Mac},
    word::{load, store},
};

/// An IPv4 address and UDP port, wire order and host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayAddr {
    /// The address.
    pub addr: [u8; 4],
    /// The port.
    pub port: u16,
}

impl RelayAddr {
    #[inline(always)]
    pub(crate) const fn to_word(self) -> u64 {
        (self.port as u64) << 32 | u32::from_ne_bytes(self.addr) as u64
    }

    #[inline(always)]
    const fn from_word(word: u64) -> RelayAddr {
        RelayAddr { addr: (word as u32).to_ne_bytes(), port: (word >> 32) as u16 }
    }
}

/// One direction of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The label by which it comes.
    pub label: Label,
    /// Who may send.
    pub from: RelayAddr,
    /// To whom that goes.
    pub to: RelayAddr,
    /// The label by which it goes there.
    pub to_label: Label,
}

/// The next hop of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegHop {
    /// Row in `RELAY_LINKS`.
    pub link: u16,
    /// Its link address.
    pub mac: Mac,
}

impl LegHop {
    const LINK_SHIFT: u32 = 48;

    const fn to_word(self) -> u64 {
        let [a, b, c, d, e, f] = self.mac.0;
        // Zero says that there is none.
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) | (self.link as u64 + 1) << LegHop::LINK_SHIFT
    }

    #[inline(always)]
    const fn from_word(word: u64) -> Option<LegHop> {
        let [a, b, c, d, e, f, ..] = word.to_le_bytes();
        match (word >> LegHop::LINK_SHIFT) as u16 {
            0 => None,
            link => Some(LegHop { link: link - 1, mac: Mac([a, b, c, d, e, f]) }),
        }
    }
}

/// `LEGS[i]`: in words, so that no program sees half a change.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct LegRow {
    /// [`RelayAddr::to_word`] of who may send, and [`LegRow::USED`]; zero: the row is free.
    from: AtomicU64,
    to: AtomicU64,
    /// Both labels, 24 bits each.
    labels: AtomicU64,
    /// [`LegHop::to_word`].
    hop: AtomicU64,
    reserved: [AtomicU64; 4],
    /// A cache line of its own, which the program writes.
    meter: Meter,
}

/// [`LegRow`] as plain memory.
pub type LegWords = [u64; 16];

const _: () = assert!(size_of::<LegRow>() == size_of::<LegWords>());

/// What a program finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// [`RelayAddr::to_word`] of who may send.
    pub(crate) from: u64,
    /// To whom that goes.
    pub to: RelayAddr,
    /// By which label.
    pub to_label: Label,
    /// By which next hop; `None`: not known.
    pub hop: Option<LegHop>,
}

impl LegRow {
    const USED: u64 = 1 << 63;
    const LABEL_BITS: u32 = 24;

    /// Writes the row; `None` frees it. The next hop is not known then, and what another label has sent is forgotten.
    pub fn set(&self, leg: Option<&Leg>) {
        let goes_on = leg.is_some_and(|leg| self.get().is_some_and(|before| before.label == leg.label));
        // First nobody's, last somebody's: no program sees half of it.
        store(&self.from, 0);
        store(&self.hop, 0);
        if !goes_on {
            self.meter.reset();
        }
        if let Some(leg) = leg {
            store(&self.to, leg.to.to_word());
            store(&self.labels, leg.label.get() as u64 | (leg.to_label.get() as u64) << LegRow::LABEL_BITS);
            store(&self.from, LegRow::USED | leg.from.to_word());
        }
    }

    /// What may be sent, and was.
    #[inline(always)]
    #[must_use]
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Puts a next hop in force; `None`: it is not known.
    pub fn set_hop(&self, hop: Option<LegHop>) {
        store(&self.hop, hop.map_or(0, LegHop::to_word));
    }

    /// What was written; `None`: the row is free.
    #[must_use]
    pub fn get(&self) -> Option<Leg> {
        let label = Label::of_word(load(&self.labels) as u32);
        let found = self.of(label)?;
        let Found { from, to, to_label, .. } = found;
        Some(Leg { label, from: RelayAddr::from_word(from), to, to_label })
    }

    /// What the row says if it is that of a label.
    #[inline(always)]
    #[must_use]
    pub fn of(&self, label: Label) -> Option<Found> {
        let from = load(&self.from);
        let (to, labels, hop) = (load(&self.to), load(&self.labels), load(&self.hop));
        // It may have been given to another one in between.
        if from & LegRow::USED == 0
            || load(&self.from) != from
            || Label::of_word(labels as u32).get() != label.get()
            || label.is_zero()
        {
            return None;
        }
        Some(Found {
            from: from & !LegRow::USED,
            to: RelayAddr::from_word(to),
            to_label: Label::of_word((labels >> LegRow::LABEL_BITS) as u32),
            hop: LegHop::from_word(hop),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_leg_is_read_back(from: ([u8; 4], u16), to: ([u8; 4], u16), a in 1u32..1 << 24, b in 1u32..1 << 24, mac: [u8; 6], link in 0u16..u16::MAX) {
            let addr = |(addr, port)| RelayAddr { addr, port };
            let leg = Leg { label: Label::of_word(a), from: addr(from), to: addr(to), to_label: Label::of_word(b) };
            let row = LegRow::default();
            prop_assert_eq!(row.get(), None);
            row.set(Some(&leg));
            prop_assert_eq!(row.get(), Some(leg));
            prop_assert_eq!(row.of(Label::of_word(a ^ 1)), None);
            let hop = LegHop { link, mac: Mac(mac) };
            prop_assert_eq!(row.of(leg.label).and_then(|found| found.hop), None);
            row.set_hop(Some(hop));
            prop_assert_eq!(row.of(leg.label).and_then(|found| found.hop), Some(hop));
            row.set_hop(None);
            prop_assert_eq!(row.of(leg.label).and_then(|found| found.hop), None);
            row.set(None);
            prop_assert_eq!((row.get(), row.of(leg.label)), (None, None));
        }
    }

    #[test]
    fn what_was_sent_belongs_to_a_label() {
        let addr = RelayAddr { addr: [192, 0, 2, 1], port: 40_000 };
        let leg = Leg { label: Label::of_word(1), from: addr, to: addr, to_label: Label::of_word(2) };
        let row = LegRow::default();
        row.set(Some(&leg));
        assert!(row.meter().admits(100, 1));
        row.set(Some(&Leg { from: RelayAddr { port: 1, ..addr }, ..leg }));
        assert_eq!(row.meter().metered().bytes, 100, "its host has moved");
        row.set(Some(&Leg { label: Label::of_word(3), ..leg }));
        assert_eq!(row.meter().metered().bytes, 0);
    }

    #[test]
    fn a_free_row_is_not_that_of_no_label() {
        assert_eq!(LegRow::default().of(Label::ZERO), None);
    }
}
