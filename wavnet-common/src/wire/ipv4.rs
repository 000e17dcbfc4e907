//! IPv4 (RFC 791).

use super::be::{Be16, Be32};

/// The fixed part of an IPv4 header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Hdr {
    /// Version (4 bits), header length in 32-bit words (4 bits).
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Bytes of the datagram with its header.
    pub total_len: Be16,
    /// Identification.
    pub id: Be16,
    /// Flags (3 bits) and fragment offset in 8-byte units (13 bits).
    pub frag: Be16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: Be16,
    /// Source address.
    pub src: Be32,
    /// Destination address.
    pub dst: Be32,
}

/// Protocol number of TCP.
pub const PROTO_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTO_UDP: u8 = 17;

impl Ipv4Hdr {
    /// Bytes of a header without options.
    pub const LEN: usize = 20;
    /// Version and header length of a header without options.
    pub const PLAIN: u8 = 0x45;
    /// "Don't fragment" in [`Ipv4Hdr::frag`].
    pub const DF: u16 = 0x4000;
    /// "More fragments" in [`Ipv4Hdr::frag`].
    pub const MF: u16 = 0x2000;
    /// The fragment offset in [`Ipv4Hdr::frag`].
    pub const OFFSET: u16 = 0x1fff;

    /// Bytes of the header with options: 20 to 60, or `None` if version or length are impossible.
    #[inline(always)]
    pub fn header_len(&self) -> Option<usize> {
        let ihl = self.version_ihl & 0x0f;
        if self.version_ihl >> 4 == 4 && ihl >= 5 { Some(ihl as usize * 4) } else { None }
    }

    /// True if the checksum of a header without options is right (RFC 791 section 3.1).
    #[inline(always)]
    pub fn checksum_holds(&self) -> bool {
        // Two bytes that are never apart on the wire are one load.
        let vt = u16::from_ne_bytes([self.version_ihl, self.tos]);
        let tp = u16::from_ne_bytes([self.ttl, self.protocol]);
        let sum = u32::from(vt)
            + u32::from(self.total_len.raw())
            + u32::from(self.id.raw())
            + u32::from(self.frag.raw())
            + u32::from(tp)
            + u32::from(self.checksum.raw())
            + halves(self.src.raw())
            + halves(self.dst.raw());
        // Twice: the first fold may carry.
        halves(halves(sum)) == 0xffff
    }

    /// The checksum that goes with another TTL (RFC 1624, equation 3). Source and destination may change places: the sum does not tell.
    #[inline(always)]
    #[must_use]
    pub fn checksum_with_ttl(&self, ttl: u8) -> Be16 {
        let word = |ttl| u16::from_ne_bytes([ttl, self.protocol]);
        Be16(updated(self.checksum.raw(), word(self.ttl), word(ttl)).to_ne_bytes())
    }
}

/// A checksum (RFC 1071) when a 16-bit word of what it covers changes, all in memory order (RFC 1624, equation 3).
#[inline(always)]
pub(crate) const fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = !checksum as u32 + !old as u32 + new as u32;
    // Twice: the first fold may carry.
    !(halves(halves(sum)) as u16)
}

/// The sum of both halves: one step of folding a one's complement sum.
#[inline(always)]
pub(crate) const fn halves(n: u32) -> u32 {
    (n & 0xffff) + (n >> 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn another_ttl_keeps_the_checksum_right(src: u32, dst: u32, id: u16, len: u16, old: u8, ttl: u8) {
            let mut header = Ipv4Hdr {
                version_ihl: Ipv4Hdr::PLAIN,
                tos: 0,
                total_len: Be16::new(len),
                id: Be16::new(id),
                frag: Be16::new(Ipv4Hdr::DF),
                ttl: old,
                protocol: PROTO_UDP,
                checksum: Be16([0; 2]),
                src: Be32::new(src),
                dst: Be32::new(dst),
            };
            let right = (0..=u16::MAX).find(|sum| {
                header.checksum = Be16::new(*sum);
                header.checksum_holds()
            });
            prop_assert!(right.is_some());
            let changed = Ipv4Hdr { ttl, checksum: header.checksum_with_ttl(ttl), ..header };
            prop_assert!(changed.checksum_holds());
        }
    }
}
