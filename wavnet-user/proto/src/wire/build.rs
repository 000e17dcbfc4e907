//! Control datagrams, written. Those that carry a MAC are written up to it.

use super::{COOKIE_LEN, Data, HEADER_LEN, HELLO_LEN, Header, Kind, Label, MAC_LEN, Unknown, VERSION};
use crate::trust::{NetworkId, PublicKey};

/// The header of a datagram that goes to whom no relay stands before.
fn begin(kind: Kind) -> Vec<u8> {
    Header { label: Label::ZERO, kind }.to_bytes().to_vec()
}

/// OPENER: opens a mapping in the sender's NAT; whoever gets it ignores it. `random` keeps it from looking like anything else.
#[must_use]
pub fn opener(label: Label, random: [u8; 8]) -> Vec<u8> {
    let mut out = Header { label, kind: Kind::Opener }.to_bytes().to_vec();
    out.extend(random);
    out
}

/// A datagram for whom a relay stands before, or no longer does. Nothing protects the label.
#[must_use]
pub fn relabelled(mut datagram: Vec<u8>, label: Label) -> Vec<u8> {
    if let Some(place) = datagram.get_mut(1..4) {
        place.copy_from_slice(&label.to_bytes());
    }
    datagram
}

/// UNKNOWN: tells the sender of something that it may not be known here any more.
#[must_use]
pub fn unknown(label: Label, what: Unknown) -> Vec<u8> {
    let mut out = Header { label, kind: Kind::Unknown }.to_bytes().to_vec();
    match what {
        Unknown::Data { receiver, counter, start } => {
            out.extend(receiver.to_be_bytes());
            out.extend(counter.to_be_bytes());
            out.extend(start);
        }
        Unknown::Pulse(pulse) => out.extend(pulse),
    }
    out
}

impl From<&Data<'_>> for Unknown {
    fn from(data: &Data<'_>) -> Unknown {
        // A ciphertext has a tag of 16 bytes at least.
        let start = data.ciphertext.first_chunk().copied().unwrap_or_default();
        Unknown::Data { receiver: data.receiver, counter: data.counter, start }
    }
}

/// HELLO up to its MAC, as long as what answers it.
pub(crate) fn hello(sender: u32, network: NetworkId) -> Vec<u8> {
    let mut out = begin(Kind::Hello);
    out.extend(sender.to_be_bytes());
    out.extend([VERSION, 0, 0, 0]);
    out.extend(network.to_bytes());
    out.resize(HELLO_LEN - MAC_LEN, 0);
    out
}

/// COOKIE up to its MAC.
pub(crate) fn cookie(receiver: u32, responder: PublicKey, cookie: &[u8; COOKIE_LEN]) -> Vec<u8> {
    let mut out = begin(Kind::Cookie);
    out.extend(receiver.to_be_bytes());
    out.extend(responder.as_bytes());
    out.extend(cookie);
    out
}

/// INIT up to its MAC.
pub(crate) fn init(sender: u32, network: NetworkId, cookie: &[u8; COOKIE_LEN], noise: &[u8]) -> Vec<u8> {
    let mut out = begin(Kind::Init);
    out.extend(sender.to_be_bytes());
    out.extend(network.to_bytes());
    out.extend(cookie);
    out.extend(noise);
    out
}

/// RESPONSE.
pub(crate) fn response(receiver: u32, noise: &[u8]) -> Vec<u8> {
    let mut out = begin(Kind::Response);
    out.extend(receiver.to_be_bytes());
    out.extend(noise);
    out
}

/// What stands before the ciphertext of DATA.
pub(crate) fn data_header(label: Label, receiver: u32, counter: u64) -> [u8; HEADER_LEN + 12] {
    let mut out = [0; HEADER_LEN + 12];
    let (header, body) = out.split_at_mut(HEADER_LEN);
    header.copy_from_slice(&Header { label, kind: Kind::Data }.to_bytes());
    let (index, number) = body.split_at_mut(4);
    index.copy_from_slice(&receiver.to_be_bytes());
    number.copy_from_slice(&counter.to_be_bytes());
    out
}
