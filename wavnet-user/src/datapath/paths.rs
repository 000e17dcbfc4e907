//! Paths of dynamic peers: whose datagrams come from where, and what became of pulses.

use aya::Ebpf;
use wavnet_common::{
    abi::{Arrival, At, Path, PathRow, Source, map},
    buckets,
    wire::pulse::Number,
};

use super::{
    Error,
    mapped::{Mapped, Rows},
    maps::enter,
    object::monotonic_ns,
};

/// Both tables. Reading and pulses cost no system call.
pub struct Paths {
    of_source: Mapped,
    rows: Rows<PathRow>,
}

impl Paths {
    pub(super) fn map(ebpf: &mut Ebpf, seed: u64) -> Result<Paths, Error> {
        Ok(Paths { of_source: Mapped::map(ebpf, map::PATH_OF_SOURCE, seed)?, rows: Rows::map(ebpf, map::PATHS)? })
    }

    pub(super) const fn mapped(&self) -> &Mapped {
        &self.of_source
    }

    /// A pulse of this number is about to be sent by a path: its answer is waited for from now on. Up to
    /// [`PathRow::PULSES`] may be under way if the lower two bits of their numbers differ.
    pub fn expect_pulse(&self, path: u16, number: Number) {
        if let Some(row) = self.row(path) {
            row.expect(number);
        }
    }

    /// When the answer to a pulse came in, CLOCK_MONOTONIC nanoseconds; `None`: not yet.
    pub fn pulse_returned(&self, path: u16, number: Number) -> Option<u64> {
        self.row(path)?.answer(number, monotonic_ns())
    }

    /// When the other side last sent a pulse by a path, CLOCK_MONOTONIC nanoseconds; `None`: never.
    pub fn last_asked(&self, path: u16) -> Option<u64> {
        self.row(path)?.last_asked()
    }

    fn row(&self, path: u16) -> Option<&PathRow> {
        self.rows.get(path.into())
    }

    /// Writes a slot, and what leads to it: never is there an entry for a slot that is not written.
    pub(super) fn set(&self, index: u16, path: Option<&Path>) -> Result<(), Error> {
        let Some(row) = self.row(index) else {
            return Err(Error::kernel(format!("writing map {}", map::PATHS), "there is no such slot"));
        };
        let at = At::Path(index).to_word();
        let before = row.get().map(|path| path.source);
        // By now another slot may have the same source.
        if let Some(before) = before.filter(|before| Some(*before) != path.map(|p| p.source))
            && buckets::get(&self.of_source, before.to_word()) == Some(at)
        {
            buckets::remove(&self.of_source, before.to_word());
        }
        row.set(path);
        match path {
            Some(path) => enter(&self.of_source, map::PATH_OF_SOURCE, path.source.to_word(), at),
            None => Ok(()),
        }
    }

    /// Slots in use. One that nothing leads to is none: whoever wrote it was killed before it was done, and would be believed to have it.
    pub(super) fn in_use(&self) -> Vec<(u16, Path)> {
        let slots = (0..self.rows.len()).filter_map(|i| Some((i as u16, self.rows.get(i)?.get()?)));
        let leads = |(index, path): &(u16, Path)| {
            buckets::get(&self.of_source, path.source.to_word()) == Some(At::Path(*index).to_word())
        };
        slots.filter(leads).collect()
    }

    /// Relays that are entered: number, and where their datagrams come from.
    pub(super) fn relays(&self) -> Vec<(u16, Arrival)> {
        let mut found = Vec::new();
        buckets::for_each(&self.of_source, |key, value| {
            if let (Source::Endpoint(from), At::Relay(number)) = (Source::from_word(key), At::from_word(value)) {
                found.push((number, from));
            }
        });
        found
    }

    /// Enters or removes a relay.
    pub(super) fn set_relay(&self, number: u16, at: Arrival, used: bool) -> Result<(), Error> {
        let key = Source::Endpoint(at).to_word();
        let value = At::Relay(number).to_word();
        if used {
            return enter(&self.of_source, map::PATH_OF_SOURCE, key, value);
        }
        if buckets::get(&self.of_source, key) == Some(value) {
            buckets::remove(&self.of_source, key);
        }
        Ok(())
    }
}
