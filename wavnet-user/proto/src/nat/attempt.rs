//! One run through all tests: what came of each question, which one is next, and what follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{
    Filtering, Mapping, NatSummary, Note, Ports, Situation, StunServer,
    probe::{Outcome, Probe},
    targets::Targets,
    verdict::{self, Sighting},
};

/// The socket for the tests that need one of which nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// The shell was asked for it.
    Asked(u16),
    /// It is open.
    Open(u16),
    /// There is none.
    Refused,
}

/// What is known so far.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) fresh: Fresh,
    /// The fresh socket has been closed. What it was is of importance still.
    pub(super) closed: bool,
    /// What each server that answered can be used for.
    pub(super) connected: BTreeMap<u8, Targets>,
    pub(super) chosen: Option<u8>,
    pub(super) outcomes: BTreeMap<Probe, Outcome>,
    /// Questions that were begun, or wait for it.
    asked: BTreeSet<Probe>,
    pub(super) sightings: Vec<Sighting>,
    /// Servers whose other address does not answer.
    deceivers: BTreeSet<u8>,
    /// Addresses inside of packets were rewritten.
    pub(super) rewritten: bool,
}

impl Attempt {
    pub(super) fn new(fresh: u16) -> Attempt {
        Attempt {
            fresh: Fresh::Asked(fresh),
            closed: false,
            connected: BTreeMap::new(),
            chosen: None,
            outcomes: BTreeMap::new(),
            asked: BTreeSet::new(),
            sightings: Vec::new(),
            deceivers: BTreeSet::new(),
            rewritten: false,
        }
    }

    pub(super) fn outcome(&self, probe: Probe) -> Option<Outcome> {
        self.outcomes.get(&probe).copied()
    }

    fn mapped(&self, probe: Probe) -> Option<SocketAddr> {
        self.outcome(probe).and_then(Outcome::mapped)
    }

    fn is_silent(&self, probe: Probe) -> bool {
        self.outcome(probe) == Some(Outcome::Silent)
    }

    /// True the first time.
    pub(super) fn ask(&mut self, probe: Probe) -> bool {
        self.asked.insert(probe)
    }

    /// The question was not begun after all.
    pub(super) fn unask(&mut self, probe: Probe) {
        self.asked.remove(&probe);
    }

    pub(super) fn targets(&self) -> Option<Targets> {
        self.connected.get(&self.chosen?).copied()
    }

    /// Where the main socket seems to be to the server that was chosen, or to any.
    pub(super) fn first(&self) -> Option<SocketAddr> {
        let any = || self.connected.keys().find_map(|n| self.mapped(Probe::Connect(*n)));
        self.chosen.and_then(|n| self.mapped(Probe::Connect(n))).or_else(any)
    }

    /// Where the fresh socket seems to be.
    pub(super) fn fresh_mapped(&self) -> Option<SocketAddr> {
        self.mapped(Probe::Open)
    }

    /// Chooses the server that can tell most, the earlier one among equals; false while a better one may still answer.
    pub(super) fn choose(&mut self, servers: usize) -> bool {
        let trusted = |n: &u8| !self.deceivers.contains(n);
        let full = self.connected.iter().find(|(n, t)| trusted(n) && t.worth() == 2).map(|(n, _)| *n);
        let connects = self.outcomes.keys().filter(|p| matches!(p, Probe::Connect(_)));
        if full.is_none() && connects.count() < servers {
            return false;
        }
        let before = self.chosen;
        // One that was found to deceive has been asked all that it can tell.
        let best = || self.connected.iter().rev().max_by_key(|(_, t)| t.worth()).map(|(n, _)| *n);
        self.chosen = full.or(before).or_else(best);
        if before.is_some() && self.chosen != before {
            let connect = |p: &Probe| matches!(p, Probe::Connect(_));
            self.outcomes.retain(|p, _| connect(p));
            self.asked.retain(connect);
        }
        true
    }

    /// True if the server that was chosen has another address that does not answer, which was not known before.
    pub(super) fn finds_deceit(&mut self) -> bool {
        let Some((chosen, targets)) = self.chosen.zip(self.targets()) else { return false };
        let silent = |p| !matches!(self.outcome(p), Some(Outcome::Answered(_)));
        let heard = [Probe::MapAddress, Probe::MapBoth, Probe::FilterBoth].into_iter().any(|p| !silent(p));
        targets.named.is_some() && !heard && self.deceivers.insert(chosen)
    }

    /// What can be asked of the chosen server by now, in this order. What was asked is among it.
    pub(super) fn wanted(&self, local: SocketAddr) -> Vec<Probe> {
        let Some(t) = self.targets() else { return Vec::new() };
        let there = |probe, target: Option<SocketAddr>| target.map(|_| probe);
        let mapping = [(Probe::MapAddress, t.address), (Probe::MapBoth, t.both), (Probe::MapPort, t.port)];
        let mapping = mapping.into_iter().filter_map(|(probe, target)| there(probe, target));
        let filtering: Vec<_> =
            there(Probe::FilterBoth, t.named).into_iter().chain(there(Probe::FilterPort, t.port)).collect();
        let filtered = filtering.iter().all(|p| self.outcome(*p).is_some());
        match self.fresh {
            Fresh::Asked(_) => Vec::new(),
            // The main socket must not have sent to the other addresses before they try to reach it.
            Fresh::Refused if filtered => filtering.into_iter().chain(mapping).collect(),
            Fresh::Refused => filtering,
            Fresh::Open(_) => {
                let mut wanted: Vec<_> = mapping.chain([Probe::Open]).collect();
                if self.fresh_mapped().is_some() {
                    let again = filtered && filtering.iter().any(|p| self.is_silent(*p));
                    wanted.extend(filtering);
                    if self.is_natted(local) {
                        wanted.extend([Probe::HairpinOut, Probe::HairpinIn]);
                    }
                    wanted.extend(again.then_some(Probe::Reopen));
                }
                wanted
            }
        }
    }

    fn is_natted(&self, local: SocketAddr) -> bool {
        self.first().is_some_and(|first| first != local)
    }

    /// True if a mapping moved during the tests.
    pub(super) fn moved(&self) -> bool {
        let moved = |before: Option<SocketAddr>, after| before.zip(self.mapped(after)).is_some_and(|(b, a)| b != a);
        moved(self.first(), Probe::Confirm) || moved(self.fresh_mapped(), Probe::Reopen)
    }

    pub(super) fn summary(&self, local: SocketAddr) -> NatSummary {
        let Some(first) = self.first() else {
            let refused = self.outcomes.values().any(|o| *o != Outcome::Silent);
            let situation = if refused || self.outcomes.is_empty() { Situation::Unknown } else { Situation::Blocked };
            return NatSummary { situation, ..NatSummary::default() };
        };
        let mut seen = self.sightings.clone();
        seen.sort_unstable_by_key(|s| s.order);
        let natted = first != local;
        let mapping = if natted { verdict::mapping(&seen) } else { Mapping::EndpointIndependent };
        let (filtering, filtering_at_most) = self.filtering();
        NatSummary {
            situation: if natted { Situation::Natted } else { Situation::Direct },
            mapping,
            filtering,
            filtering_at_most,
            ports: if natted { verdict::ports(&seen, local.port(), mapping) } else { Ports::Preserving },
            preserves_port: Some(first.port() == local.port()),
            hairpin: self.hairpin(mapping),
            many_addresses: seen.iter().any(|s| s.mapped.ip() != first.ip()),
            unstable: self.moved(),
            lifetime: 0,
            lifetime_at_least: false,
        }
    }

    /// RFC 5780 section 4.4, and whether that is the most that it can be. Silence counts only if who should have been heard can
    /// be heard, and the mapping that was sent to is still there.
    fn filtering(&self) -> (Filtering, bool) {
        let answered = |p| self.mapped(p).is_some();
        let (before, after) = match self.fresh {
            Fresh::Open(_) => (self.fresh_mapped(), self.mapped(Probe::Reopen)),
            Fresh::Asked(_) | Fresh::Refused => (self.first(), self.mapped(Probe::Confirm)),
        };
        let intact = before.is_some() && before == after;
        let filtered = |silent, control| intact && self.is_silent(silent) && answered(control);
        let by_address = filtered(Probe::FilterBoth, Probe::MapBoth);
        if answered(Probe::FilterBoth) {
            (Filtering::EndpointIndependent, false)
        } else if answered(Probe::FilterPort) {
            (Filtering::AddressDependent, !by_address)
        } else if filtered(Probe::FilterPort, Probe::MapPort) {
            (Filtering::AddressAndPortDependent, false)
        } else if by_address {
            // By address for certain, by port perhaps: the worse is what others must reckon with.
            (Filtering::AddressAndPortDependent, true)
        } else {
            (Filtering::Unknown, false)
        }
    }

    fn hairpin(&self, mapping: Mapping) -> Option<bool> {
        let both = [Probe::HairpinOut, Probe::HairpinIn];
        if both.iter().any(|p| self.mapped(*p).is_some()) {
            return Some(true);
        }
        // With mappings that depend on the destination both sent to where the other one is not.
        let tried = both.iter().all(|p| self.is_silent(*p)) && mapping == Mapping::EndpointIndependent;
        (tried && !self.moved()).then_some(false)
    }

    pub(super) fn notes(&self, servers: &[StunServer]) -> Vec<Note> {
        let mut notes = Vec::new();
        let server = |n: u8| servers.get(usize::from(n)).map(|s| s.address);
        for (probe, outcome) in &self.outcomes {
            let Probe::Connect(n) = probe else { continue };
            match (server(*n), outcome) {
                (Some(server), Outcome::Silent) => notes.push(Note::Silent(server)),
                (Some(server), Outcome::Refused(code)) => notes.push(Note::Refused { server, code: *code }),
                _ => {}
            }
        }
        for n in &self.deceivers {
            let other = self.connected.get(n).and_then(|t| t.named);
            notes.extend(server(*n).zip(other).map(|(server, other)| Note::OtherSilent { server, other }));
        }
        if let Some(t) = self.targets() {
            if t.named.is_none() {
                notes.push(Note::NoOtherAddress(t.main));
            }
            let change = [Probe::FilterBoth, Probe::FilterPort].map(|p| self.outcome(p));
            if change.iter().any(|o| matches!(o, Some(Outcome::Disobeyed | Outcome::Refused(_)))) {
                notes.push(Note::ChangeIgnored(t.main));
            }
            notes.extend((self.fresh == Fresh::Refused).then_some(Note::NoSocket));
            if self.is_silent(Probe::Confirm) {
                notes.push(Note::Vanished(t.main));
            }
        }
        notes.extend(self.rewritten.then_some(Note::Rewritten));
        notes
    }
}
