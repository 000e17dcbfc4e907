//! UDP (RFC 768).

use super::be::Be16;

/// A UDP header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHdr {
    /// Source port.
    pub src: Be16,
    /// Destination port.
    pub dst: Be16,
    /// Bytes of header and payload.
    pub len: Be16,
    /// Checksum; zero: none (IPv4).
    pub checksum: Be16,
}

impl UdpHdr {
    /// Bytes of the header.
    pub const LEN: usize = 8;
}
