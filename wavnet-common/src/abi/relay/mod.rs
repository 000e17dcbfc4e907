//! The contract between the relay's program and a rendezvous server. Its maps are apart from the agent's, are not pinned, and go with the
//! process that made them.

mod leg;
mod meter;
mod source;
mod token;

pub use leg::{Found, Leg, LegHop, LegRow, LegWords, RelayAddr};
pub use meter::{Meter, Metered, Rate};
pub use source::StunSource;
use token::TokenBucket;

use super::Plain;

/// Names of the maps; the statics of the relay's object have the same names.
pub mod map {
    /// `[0]`: [`super::RelayConfig`]. Written by the server, read for every frame.
    pub const RELAY_CONFIG: &str = "RELAY_CONFIG";
    /// In `buckets`: label → leg. Written by the server through mmap, read for every frame that has a label.
    pub const LEG_OF_LABEL: &str = "LEG_OF_LABEL";
    /// Leg → [`super::LegRow`]: from whom to whom, and what was sent. Written by the server through mmap; the program counts.
    pub const LEGS: &str = "LEGS";
    /// Link → [`super::RelayLink`]: interfaces that frames are sent by. Written by the server.
    pub const RELAY_LINKS: &str = "RELAY_LINKS";
    /// Hash of a source → [`super::StunSource`]. Written by the program.
    pub const STUN_SOURCES: &str = "STUN_SOURCES";
    /// Per CPU: frames, by [`super::RelayCount`]. Written by the program.
    pub const RELAY_COUNTS: &str = "RELAY_COUNTS";
}

/// Names of the programs in the relay's object.
pub mod program {
    /// XDP on a NIC.
    pub const RELAY_XDP: &str = "relay_xdp";
    /// The same for generic XDP.
    pub const RELAY_XDP_GENERIC: &str = "relay_xdp_generic";
    /// TC ingress: what XDP could not send, or everything where XDP cannot attach or is another's.
    pub const RELAY_TC: &str = "relay_tc";
}

/// Default and maximum sizes of the tables.
pub mod size {
    /// Rows of `LEGS`: two for a session.
    pub const LEGS: u32 = 1 << 14;
    /// Rows of `RELAY_LINKS`.
    pub const RELAY_LINKS: u32 = 64;
    /// Rows of `STUN_SOURCES`, a power of two: few enough to be had always, and so many that a flood from forged sources, as large as a
    /// link brings, leaves the buckets of others full.
    pub const STUN_SOURCES: u32 = 1 << 16;
}

/// `RELAY_CONFIG[0]`: where the server is reached.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Its IPv4 address, wire order; zero: none, everything passes untouched.
    pub local_v4: [u8; 4],
    /// Its UDP port, wire order.
    pub udp_port: [u8; 2],
    /// [`RelayConfigFlags`].
    pub flags: u16,
    /// For answers to STUN: the address of OTHER-ADDRESS (RFC 5780 section 7.4), wire order. It is the server's own as well.
    pub other_v4: [u8; 4],
    /// Its port, wire order; zero: answers have none.
    pub other_port: [u8; 2],
    /// Row in `RELAY_LINKS` of the interface by which STUN is answered.
    pub stun_link: u16,
    /// [`StunSource::answer_ns`] of what a source may have.
    pub stun_answer_ns: u32,
}

impl RelayConfig {
    /// There is no server: everything passes.
    pub const NONE: RelayConfig = RelayConfig {
        local_v4: [0; 4],
        udp_port: [0; 2],
        flags: 0,
        other_v4: [0; 4],
        other_port: [0; 2],
        stun_link: 0,
        stun_answer_ns: 0,
    };
}

/// Bits of [`RelayConfig::flags`].
pub struct RelayConfigFlags;

impl RelayConfigFlags {
    /// There are labels that are not in the tables: the server relays by those.
    pub const INCOMPLETE: u16 = 1;
    /// XDP answers plain requests of STUN.
    pub const STUN: u16 = 1 << 1;
}

/// `RELAY_LINKS[i]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayLink {
    /// Interface index; zero: free.
    pub ifindex: u32,
    /// The longest IPv4 packet.
    pub mtu: u32,
    /// Its link address.
    pub mac: [u8; 6],
    /// [`RelayLinkFlags`].
    pub flags: u16,
}

impl RelayLink {
    /// A free row.
    pub const FREE: RelayLink = RelayLink { ifindex: 0, mtu: 0, mac: [0; 6], flags: 0 };
}

/// Bits of [`RelayLink::flags`].
pub struct RelayLinkFlags;

impl RelayLinkFlags {
    /// XDP can send a frame back out of it that it came by.
    pub const XDP_TX: u16 = 1;
    /// XDP can redirect frames to it.
    pub const XDP_REDIRECT: u16 = 1 << 1;
}

/// Index into `RELAY_COUNTS`: what became of datagrams to our port. All but those of bytes count datagrams, each by one.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RelayCount {
    /// Sent on by XDP.
    RelayedByXdp,
    /// Bytes of UDP payload that XDP sent on.
    BytesByXdp,
    /// Sent on by TC.
    RelayedByTc,
    /// Bytes of UDP payload that TC sent on.
    BytesByTc,
    /// For the server itself: it went up.
    ForServer,
    /// Its label is none of ours. Frames are dropped, if no labels are left to the server; control and pulses go up.
    UnknownLabel,
    /// Its label is that of another sender. Frames are dropped; control and pulses go up.
    OtherSender,
    /// Its sender has sent more than it may: dropped.
    TooFast,
    /// Longer than the link to the receiver takes: dropped by TC.
    TooLong,
    /// It has been through too many hands, such as relays that send to each other: dropped.
    TtlExpired,
    /// Its headers contradict each other: it went up, for the kernel to judge.
    Malformed,
    /// Nothing with a label: it went up.
    UnknownPayload,
    /// It went up to the server, to be sent on from there: the way is not known to the program, or it comes in pieces.
    LeftToServer,
    /// A request of STUN that XDP has answered.
    StunAnswered,
    /// A request of STUN whose source has had as many answers as it may: dropped by XDP.
    StunTooFast,
}

impl RelayCount {
    /// Every counter, in the order of the map.
    pub const ALL: [RelayCount; 15] = [
        RelayCount::RelayedByXdp,
        RelayCount::BytesByXdp,
        RelayCount::RelayedByTc,
        RelayCount::BytesByTc,
        RelayCount::ForServer,
        RelayCount::UnknownLabel,
        RelayCount::OtherSender,
        RelayCount::TooFast,
        RelayCount::TooLong,
        RelayCount::TtlExpired,
        RelayCount::Malformed,
        RelayCount::UnknownPayload,
        RelayCount::LeftToServer,
        RelayCount::StunAnswered,
        RelayCount::StunTooFast,
    ];
    /// Size of the map.
    pub const COUNT: usize = RelayCount::ALL.len();

    /// True for those of bytes.
    #[must_use]
    pub const fn is_bytes(self) -> bool {
        matches!(self, RelayCount::BytesByXdp | RelayCount::BytesByTc)
    }

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RelayCount::RelayedByXdp => "relayed_by_xdp",
            RelayCount::BytesByXdp => "bytes_by_xdp",
            RelayCount::RelayedByTc => "relayed_by_tc",
            RelayCount::BytesByTc => "bytes_by_tc",
            RelayCount::ForServer => "for_server",
            RelayCount::UnknownLabel => "unknown_label",
            RelayCount::OtherSender => "other_sender",
            RelayCount::TooFast => "too_fast",
            RelayCount::TooLong => "too_long",
            RelayCount::TtlExpired => "ttl_expired",
            RelayCount::Malformed => "malformed",
            RelayCount::UnknownPayload => "unknown_payload",
            RelayCount::LeftToServer => "left_to_server",
            RelayCount::StunAnswered => "stun_answered",
            RelayCount::StunTooFast => "stun_too_fast",
        }
    }
}

const _: () = assert!(size_of::<RelayConfig>() == 20 && size_of::<RelayLink>() == 16);
// SAFETY: repr(C) of integers and arrays of them, without padding (sizes asserted above).
unsafe impl Plain for RelayConfig {}
// SAFETY: as above.
unsafe impl Plain for RelayLink {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_count_is_listed_at_its_place_and_has_a_name_of_its_own() {
        assert!(RelayCount::ALL.into_iter().enumerate().all(|(i, count)| i == count as usize));
        assert_eq!(RelayCount::ALL.map(RelayCount::as_str).iter().collect::<BTreeSet<_>>().len(), RelayCount::COUNT);
    }
}
