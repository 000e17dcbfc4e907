//! Messages between agents.

use std::{collections::BTreeSet, net::SocketAddr};

use wavnet_common::addr::Vni;

use super::{
    Fault, Name, NatSummary,
    parts::{read_candidates, read_flag, read_nat, read_vnis, write_address, write_candidates, write_vnis},
};
use crate::wire::{Candidate, Reader, read_address};

/// `PEER_HELLO`: the first thing that each side says in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// The highest version of the control plane that the sender speaks.
    pub version: u8,
    /// What may be done to the path's frames, a bit each; none is defined: zero.
    pub stages: u8,
    /// Grows with each change of what it says; what is older than the newest is ignored.
    pub generation: u32,
    /// The generation of the receiver's last one that has arrived; zero: none has.
    pub seen: u32,
    /// Whether this one has arrived is not known: it is said again until it is, so the receiver answers with its own.
    pub answer: bool,
    /// Its name.
    pub name: Name,
    /// What it wants to join.
    pub vnis: BTreeSet<Vni>,
    /// Where it may be reached.
    pub candidates: Vec<Candidate>,
    /// Its NAT.
    pub nat: NatSummary,
}

impl PeerHello {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend([self.version, self.stages]);
        out.extend(self.generation.to_be_bytes());
        out.extend(self.seen.to_be_bytes());
        out.push(self.answer.into());
        self.name.write(out);
        write_vnis(out, &self.vnis)?;
        write_candidates(out, &self.candidates)?;
        out.extend(self.nat.encode());
        Ok(())
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<PeerHello, Fault> {
        Ok(PeerHello {
            version: from.u8()?,
            stages: from.u8()?,
            generation: from.u32()?,
            seen: from.u32()?,
            answer: read_flag(from)?,
            name: Name::read(from)?,
            vnis: read_vnis(from)?,
            candidates: read_candidates(from)?,
            nat: read_nat(from)?,
        })
    }
}

/// PROBE: does this path work?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Random number, for the answer.
    pub transaction: u64,
    /// [`Probe::TAKEN`]; others are zero.
    pub flags: u8,
}

impl Probe {
    /// The sender takes frames that come by this path: the receiver has answered a probe there.
    pub const TAKEN: u8 = 1;

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.transaction.to_be_bytes());
        out.push(self.flags);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Probe, Fault> {
        Ok(Probe { transaction: from.u64()?, flags: from.u8()? })
    }
}

/// `PROBE_ANSWER`: sent back to where the PROBE came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// Of the PROBE.
    pub transaction: u64,
    /// [`Probe::TAKEN`]; others are zero.
    pub flags: u8,
    /// Where the PROBE came from.
    pub from: SocketAddr,
}

impl ProbeAnswer {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend(self.transaction.to_be_bytes());
        out.push(self.flags);
        write_address(out, self.from)
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<ProbeAnswer, Fault> {
        Ok(ProbeAnswer { transaction: from.u64()?, flags: from.u8()?, from: read_address(from)? })
    }
}

/// CANDIDATES: where the sender may be reached from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// Grows with each change; what is older than the newest is ignored.
    pub generation: u32,
    /// Where it may be reached.
    pub candidates: Vec<Candidate>,
    /// Its NAT.
    pub nat: NatSummary,
}

impl Candidates {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend(self.generation.to_be_bytes());
        write_candidates(out, &self.candidates)?;
        out.extend(self.nat.encode());
        Ok(())
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Candidates, Fault> {
        Ok(Candidates { generation: from.u32()?, candidates: read_candidates(from)?, nat: read_nat(from)? })
    }
}

/// SEARCH: both sides agree to search for a way through a symmetric NAT now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// Random number of the side that asks.
    pub transaction: u64,
    /// [`Search::ASK`], [`Search::GO`] or [`Search::LATER`].
    pub phase: u8,
}

impl Search {
    /// The sender would begin.
    pub const ASK: u8 = 0;
    /// The sender begins at this moment.
    pub const GO: u8 = 1;
    /// The sender has another search under way, or had one lately.
    pub const LATER: u8 = 2;

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.transaction.to_be_bytes());
        out.push(self.phase);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Search, Fault> {
        Ok(Search { transaction: from.u64()?, phase: from.u8()? })
    }
}

/// SELECTED: from now on the sender's frames come by the path that this came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Random number.
    pub transaction: u64,
    /// None are defined: zero.
    pub flags: u8,
}

impl Selected {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.transaction.to_be_bytes());
        out.push(self.flags);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Selected, Fault> {
        Ok(Selected { transaction: from.u64()?, flags: from.u8()? })
    }
}
