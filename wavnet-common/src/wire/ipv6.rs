//! IPv6 (RFC 8200), as far as inner flows are told apart by it.

use super::be::{Be16, Be32};

/// An IPv6 header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Hdr {
    /// Version, traffic class, flow label.
    pub version_class_flow: Be32,
    /// Bytes behind this header.
    pub payload_len: Be16,
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: [Be32; 4],
    /// Destination address.
    pub dst: [Be32; 4],
}

impl Ipv6Hdr {
    /// Bytes of the header.
    pub const LEN: usize = 40;
}
