//! What several messages have in common: names, VNIs, candidates, what a host says of its NAT.

use std::{collections::BTreeSet, fmt, net::SocketAddr, str::FromStr};

use wavnet_common::addr::Vni;

use super::Fault;
use crate::{
    nat::NatSummary,
    trust::PublicKey,
    wire::{Candidate, CandidateKind, MAX_CANDIDATES, Reader, check_address, put_address, read_address},
};

/// The longest name, in bytes.
pub const MAX_NAME: usize = 63;

/// The most VNIs that a host names.
pub const MAX_VNIS: usize = 256;

/// Why a text is no host's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than [`MAX_NAME`].
    #[error("a name of {0} bytes, and 63 is the most")]
    Long(usize),
    /// Not UTF-8.
    #[error("a name that is not UTF-8")]
    Encoding,
    /// A character that does something instead of showing.
    #[error("a name with the control character U+{:04X}", u32::from(*.0))]
    Control(char),
}

/// A host's name for people: at most 63 bytes of UTF-8 without characters that would do something to a terminal. May be empty, need
/// not be unique, and proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// A name.
    pub fn new(name: &str) -> Result<Name, NameError> {
        if name.len() > MAX_NAME {
            return Err(NameError::Long(name.len()));
        }
        match name.chars().find(|c| is_control(*c)) {
            Some(c) => Err(NameError::Control(c)),
            None => Ok(Name(name.into())),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        // At most 63 by construction.
        out.push(self.0.len() as u8);
        out.extend(self.0.as_bytes());
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Name, Fault> {
        let len = from.u8()?;
        let bytes = from.take(usize::from(len))?;
        let text = str::from_utf8(bytes).map_err(|_| NameError::Encoding)?;
        Ok(Name::new(text)?)
    }
}

/// Control characters, line and paragraph separators, and those that change the direction of what follows, by which a name could make
/// a line of a table or a log say something else.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Name, NameError> {
        Name::new(name)
    }
}

pub(super) fn read_nat(from: &mut Reader<'_>) -> Result<NatSummary, Fault> {
    Ok(NatSummary::decode(*from.array()?))
}

pub(super) fn read_key(from: &mut Reader<'_>) -> Result<PublicKey, Fault> {
    Ok(PublicKey::new(*from.array()?)?)
}

pub(super) fn read_flag(from: &mut Reader<'_>) -> Result<bool, Fault> {
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Fault::Flag(other)),
    }
}

/// Refuses lists that are too long.
pub(super) fn limit(what: &'static str, len: usize, most: usize) -> Result<(), Fault> {
    if len > most { Err(Fault::TooMany { what, len, most }) } else { Ok(()) }
}

pub(super) fn write_candidates(out: &mut Vec<u8>, candidates: &[Candidate]) -> Result<(), Fault> {
    limit("candidates", candidates.len(), MAX_CANDIDATES)?;
    out.push(candidates.len() as u8);
    for candidate in candidates {
        out.push(candidate.kind as u8);
        write_address(out, candidate.addr)?;
    }
    Ok(())
}

/// Candidates of unknown kinds are passed over.
pub(super) fn read_candidates(from: &mut Reader<'_>) -> Result<Vec<Candidate>, Fault> {
    let len = usize::from(from.u8()?);
    limit("candidates", len, MAX_CANDIDATES)?;
    let mut candidates = Vec::with_capacity(len);
    for _ in 0..len {
        let (kind, addr) = (CandidateKind::new(from.u8()?), read_address(from)?);
        candidates.extend(kind.map(|kind| Candidate { kind, addr }));
    }
    Ok(candidates)
}

/// IPv4 in IPv6's form, as sockets of both families have it, is written as IPv4.
pub(super) fn write_address(out: &mut Vec<u8>, addr: SocketAddr) -> Result<(), Fault> {
    check_address(SocketAddr::new(addr.ip().to_canonical(), addr.port()))?;
    put_address(out, addr);
    Ok(())
}

pub(super) fn write_vnis(out: &mut Vec<u8>, vnis: &BTreeSet<Vni>) -> Result<(), Fault> {
    limit("VNIs", vnis.len(), MAX_VNIS)?;
    out.extend((vnis.len() as u16).to_be_bytes());
    for vni in vnis {
        let [_, a, b, c] = vni.get().to_be_bytes();
        out.extend([a, b, c]);
    }
    Ok(())
}

pub(super) fn read_vnis(from: &mut Reader<'_>) -> Result<BTreeSet<Vni>, Fault> {
    let len = usize::from(from.u16()?);
    limit("VNIs", len, MAX_VNIS)?;
    let mut vnis = BTreeSet::new();
    for _ in 0..len {
        let [a, b, c] = *from.array()?;
        let vni = Vni::new(u32::from_be_bytes([0, a, b, c])).map_err(|_| Fault::Vni)?;
        if vnis.last().is_some_and(|last| *last >= vni) {
            return Err(Fault::Order);
        }
        vnis.insert(vni);
    }
    Ok(vnis)
}
