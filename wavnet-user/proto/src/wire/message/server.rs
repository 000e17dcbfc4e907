//! Messages between agent and rendezvous server.

use std::{collections::BTreeSet, net::SocketAddr};

use wavnet_common::addr::Vni;

use super::{
    Fault, Name, NatSummary,
    parts::{
        limit, read_candidates, read_flag, read_key, read_nat, read_vnis, write_address, write_candidates, write_vnis,
    },
};
use crate::{
    trust::PublicKey,
    wire::{Candidate, Label, MAX_PLAINTEXT, Reader, read_address},
};

/// The most other addresses that a server names.
pub const MAX_SERVER_ADDRESSES: usize = 8;

/// REGISTER: the agent is here, and says what others need to reach it. Replaces what it said before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Request number, for the answer.
    pub request: u32,
    /// None are defined: zero.
    pub flags: u8,
    /// Its NAT.
    pub nat: NatSummary,
    /// Its name.
    pub name: Name,
    /// Where it may be reached.
    pub candidates: Vec<Candidate>,
    /// What it wants to join.
    pub vnis: BTreeSet<Vni>,
}

impl Register {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend(self.request.to_be_bytes());
        out.push(self.flags);
        out.extend(self.nat.encode());
        self.name.write(out);
        write_candidates(out, &self.candidates)?;
        write_vnis(out, &self.vnis)
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Register, Fault> {
        Ok(Register {
            request: from.u32()?,
            flags: from.u8()?,
            nat: read_nat(from)?,
            name: Name::read(from)?,
            candidates: read_candidates(from)?,
            vnis: read_vnis(from)?,
        })
    }
}

/// REGISTERED: the answer to REGISTER and REFRESH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Of the request.
    pub request: u32,
    /// How long the server keeps it, seconds.
    pub lease: u16,
    /// Where the request came from.
    pub mapped: SocketAddr,
    /// Version of the directory.
    pub version: u64,
    /// The server's other addresses and ports that answer STUN.
    pub stun: Vec<SocketAddr>,
    /// It relays.
    pub relay: bool,
}

impl Registered {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend(self.request.to_be_bytes());
        out.extend(self.lease.to_be_bytes());
        write_address(out, self.mapped)?;
        out.extend(self.version.to_be_bytes());
        limit("addresses", self.stun.len(), MAX_SERVER_ADDRESSES)?;
        out.push(self.stun.len() as u8);
        for addr in &self.stun {
            write_address(out, *addr)?;
        }
        out.push(self.relay.into());
        Ok(())
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Registered, Fault> {
        let (request, lease, mapped, version) = (from.u32()?, from.u16()?, read_address(from)?, from.u64()?);
        let len = usize::from(from.u8()?);
        limit("addresses", len, MAX_SERVER_ADDRESSES)?;
        let stun = (0..len).map(|_| read_address(from)).collect::<Result<_, _>>()?;
        Ok(Registered { request, lease, mapped, version, stun, relay: read_flag(from)? })
    }
}

/// SYNC: asks for what has changed in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Request number.
    pub request: u32,
    /// The version that the agent has; zero for none.
    pub since: u64,
    /// The page begins behind this host, or with the first one (zeros on the wire).
    pub after: Option<PublicKey>,
}

impl Sync {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.request.to_be_bytes());
        out.extend(self.since.to_be_bytes());
        out.extend(self.after.map_or([0; 32], |key| *key.as_bytes()));
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Sync, Fault> {
        let (request, since) = (from.u32()?, from.u64()?);
        let after = match *from.array()? {
            bytes if bytes == [0; 32] => None,
            bytes => Some(PublicKey::new(bytes)?),
        };
        Ok(Sync { request, since, after })
    }
}

/// What the directory says of a host. Numbers that are not known here are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostState(pub u8);

impl HostState {
    /// It is gone: its lease has ended, or it has said BYE.
    pub const GONE: HostState = HostState(0);
    /// It is registered.
    pub const HERE: HostState = HostState(1);
}

/// An entry of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The host.
    pub key: PublicKey,
    /// What is known of it.
    pub state: HostState,
    /// Its name.
    pub name: Name,
}

impl Entry {
    /// Bytes that it takes in a page.
    #[must_use]
    pub fn len_in_page(&self) -> usize {
        32 + 1 + 1 + self.name.as_str().len()
    }
}

/// PAGE: the answer to SYNC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of the request.
    pub request: u32,
    /// The version that the agent has when it has read all pages up to the one without `more`.
    pub version: u64,
    /// There is more behind the last entry.
    pub more: bool,
    /// What has changed, in ascending order of keys.
    pub entries: Vec<Entry>,
}

impl Page {
    /// Bytes that the entries of one page may take together ([`Entry::len_in_page`]).
    pub const ROOM: usize = MAX_PLAINTEXT - (3 + 4 + 8 + 1);

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.request.to_be_bytes());
        out.extend(self.version.to_be_bytes());
        out.push(self.more.into());
        for entry in &self.entries {
            out.extend(entry.key.as_bytes());
            out.push(entry.state.0);
            entry.name.write(out);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Page, Fault> {
        let (request, version, more) = (from.u32()?, from.u64()?, read_flag(from)?);
        let mut entries = Vec::new();
        while !from.is_empty() {
            entries.push(Entry { key: read_key(from)?, state: HostState(from.u8()?), name: Name::read(from)? });
        }
        Ok(Page { request, version, more, entries })
    }
}

/// CONNECT: asks the server to bring this host and a peer together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Request number.
    pub request: u32,
    /// The peer.
    pub peer: PublicKey,
    /// Where this host may be reached.
    pub candidates: Vec<Candidate>,
}

impl Connect {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend(self.request.to_be_bytes());
        out.extend(self.peer.as_bytes());
        write_candidates(out, &self.candidates)
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Connect, Fault> {
        Ok(Connect { request: from.u32()?, peer: read_key(from)?, candidates: read_candidates(from)? })
    }
}

/// INVITE: both sides of a CONNECT are told where the other one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// The other one.
    pub peer: PublicKey,
    /// The label of this side for frames over the relay; zero if the server does not relay.
    pub label: Label,
    /// None are defined: zero.
    pub flags: u8,
    /// The other one's NAT.
    pub nat: NatSummary,
    /// Where the server sees the other one.
    pub mapped: SocketAddr,
    /// Where the other one says that it may be reached.
    pub candidates: Vec<Candidate>,
}

impl Invite {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend(self.peer.as_bytes());
        out.extend(self.label.to_bytes());
        out.push(self.flags);
        out.extend(self.nat.encode());
        write_address(out, self.mapped)?;
        write_candidates(out, &self.candidates)
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Invite, Fault> {
        Ok(Invite {
            peer: read_key(from)?,
            label: Label::from_bytes(*from.array()?),
            flags: from.u8()?,
            nat: read_nat(from)?,
            mapped: read_address(from)?,
            candidates: read_candidates(from)?,
        })
    }
}

/// FORWARD and FORWARDED: a handshake's datagram (INIT or RESPONSE, from its header on) by way of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// To whom it shall go, or from whom it comes.
    pub peer: PublicKey,
    /// The datagram.
    pub datagram: Vec<u8>,
}

impl Forward {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.peer.as_bytes());
        out.extend(&self.datagram);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Forward, Fault> {
        Ok(Forward { peer: read_key(from)?, datagram: from.rest().to_vec() })
    }
}

/// Why a server does not do what it was asked to. Numbers that are not known here are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RefusedCode(pub u8);

impl RefusedCode {
    /// The sender is not registered: it should REGISTER.
    pub const NOT_REGISTERED: RefusedCode = RefusedCode(1);
    /// There is no such peer, or it is not here now.
    pub const NO_SUCH_PEER: RefusedCode = RefusedCode(2);
    /// The sender asks too often, or the server has no room: later.
    pub const BUSY: RefusedCode = RefusedCode(3);
}

/// REFUSED: the answer to a request that is not fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of the request.
    pub request: u32,
    /// Why.
    pub code: RefusedCode,
}

impl Refused {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.request.to_be_bytes());
        out.push(self.code.0);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Refused, Fault> {
        Ok(Refused { request: from.u32()?, code: RefusedCode(from.u8()?) })
    }
}

/// Why a session ends. Numbers that are not known here are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByeReason(pub u8);

impl ByeReason {
    /// The sender stops.
    pub const STOPS: ByeReason = ByeReason(1);
    /// The receiver is not allowed any more.
    pub const NOT_ALLOWED: ByeReason = ByeReason(2);
    /// Another session has taken this one's place.
    pub const REPLACED: ByeReason = ByeReason(3);
}
