//! What is known of the NAT in front of a host.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The NAT that addresses of one family meet: what `wavnet nat --json` prints one of for each family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatInfo {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// The papers' type: `open`, `full-cone`, `restricted-cone`, `port-restricted-cone`, `symmetric`, `symmetric-firewall`, `blocked` or
    /// `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `direct`, `natted`, `blocked` or `unknown`.
    pub situation: String,
    /// On what a mapping depends (RFC 4787 section 4.1): `endpoint-independent`, `address-dependent`, `address-and-port-dependent` or
    /// `unknown`.
    pub mapping: String,
    /// On what it depends who is let in (section 5): the same words.
    pub filtering: String,
    /// `filtering` is that at the most: with its server no more can be told.
    pub filtering_at_most: bool,
    /// Ports of one socket's mappings: `preserving`, `sequential`, `random` or `unknown`.
    pub ports: String,
    /// Sequential: how far each is from the one before. Else null.
    pub port_step: Option<i16>,
    /// The mapped port is the socket's own; null: not known.
    pub preserves_port: Option<bool>,
    /// Hosts behind the NAT reach each other by their mapped addresses; null: not known.
    pub hairpin: Option<bool>,
    /// Mappings of one socket have different addresses.
    pub many_addresses: bool,
    /// The mapping moved during the tests, twice: all of this is uncertain.
    pub unstable: bool,
    /// The address and port that were tested.
    pub local: SocketAddr,
    /// Where they seem to be; null: not known.
    pub mapped: Option<SocketAddr>,
    /// The server that was asked; null: none answered.
    pub server: Option<SocketAddr>,
    /// How long an idle mapping lives; null: not asked for, or not known.
    pub lifetime: Option<NatLifetime>,
    /// What went wrong, and why something is not known.
    pub notes: Vec<NatNote>,
}

/// How long an idle mapping lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatLifetime {
    /// The longest idle time that one survived, in milliseconds; 0: none of those that were tried.
    pub alive_ms: u64,
    /// The shortest that one did not survive; null: it survived all that were tried.
    pub dead_ms: Option<u64>,
}

/// Something that went wrong in a classification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatNote {
    /// For programs; docs/api.md lists them.
    pub code: String,
    /// For people.
    pub message: String,
    /// What to do about it.
    pub help: String,
}
