//! A host as it stands in the store: JSON, so that a person and a later release can read it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use wavnet_common::addr::Vni;
use wavnet_proto::{
    rendezvous::persist::SavedHost,
    trust::{NetworkId, PublicKey},
    wire::{Candidate, CandidateKind, NatSummary},
};

#[derive(Serialize, Deserialize)]
struct Record {
    addr: SocketAddr,
    name: String,
    nat: [u8; 8],
    candidates: Vec<(u8, SocketAddr)>,
    vnis: Vec<u32>,
}

/// The value of a host.
pub(super) fn write_host(host: &SavedHost) -> Vec<u8> {
    let record = Record {
        addr: host.addr,
        name: host.name.as_str().to_owned(),
        nat: host.nat.encode(),
        candidates: host.candidates.iter().map(|c| (c.kind as u8, c.addr)).collect(),
        vnis: host.vnis.iter().map(|vni| vni.get()).collect(),
    };
    // Numbers, texts and lists of them always are JSON.
    serde_json::to_vec(&record).unwrap_or_default()
}

/// A host from its key and value, if they are what they should be.
pub(super) fn read_host(key: &[u8], value: &[u8]) -> Option<SavedHost> {
    let (network, key) = key.split_first_chunk()?;
    let key = PublicKey::new(<[u8; 32]>::try_from(key).ok()?).ok()?;
    let record: Record = serde_json::from_slice(value).ok()?;
    let candidate = |(kind, addr)| Some(Candidate { kind: CandidateKind::new(kind)?, addr });
    Some(SavedHost {
        network: NetworkId::from_bytes(*network),
        key,
        addr: record.addr,
        name: record.name.parse().ok()?,
        nat: NatSummary::decode(record.nat),
        candidates: record.candidates.into_iter().filter_map(candidate).collect(),
        vnis: record.vnis.into_iter().filter_map(|n| Vni::new(n).ok()).collect(),
    })
}
