//! What the agent writes for a VTEP: the outer header, as far as it is the same for all frames, so that `encap` need not make it
//! for each.

use crate::{
    abi::{Hop, NextHop, Vtep, VtepFlags},
    wire::{
        EthHdr, Ipv4Hdr, VxlanHdr,
        ethernet::ethertype,
        ipv4::{PROTO_UDP, halves},
    },
};

const TTL: u8 = 64;

/// The first 48 bytes of the outer header to a VTEP, in memory order. Zero is what differs from frame to frame:
/// lengths, UDP source port and VNI; where the IPv4 checksum belongs is the sum of all else in that header, folded.
///
/// Don't-fragment is set, as a VTEP must not fragment (RFC 7348 section 4.3); so the identification may be zero (RFC 6864). The
/// UDP checksum is zero (RFC 7348 section 5).
fn outer_header(hop: &NextHop, addr: [u8; 4], udp_port: [u8; 2]) -> [u64; 6] {
    let mut bytes = [0; 48];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &hop.dst_mac);
    put(6, &hop.src_mac);
    put(12, &ethertype::IPV4.to_be_bytes());
    put(14, &[Ipv4Hdr::PLAIN, 0]);
    put(20, &Ipv4Hdr::DF.to_be_bytes());
    put(22, &[TTL, PROTO_UDP]);
    put(26, &hop.src_v4);
    put(30, &addr);
    put(36, &udp_port);
    put(42, &VxlanHdr::I_FLAG.to_be_bytes());
    let ip = bytes[EthHdr::LEN..EthHdr::LEN + Ipv4Hdr::LEN].chunks_exact(2);
    let sum: u32 = ip.map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum();
    bytes[24..26].copy_from_slice(&(halves(halves(sum)) as u16).to_ne_bytes());
    core::array::from_fn(|i| u64::from_ne_bytes(core::array::from_fn(|j| bytes[8 * i + j])))
}

impl Hop {
    /// To a VTEP at this address and UDP port, both in wire order.
    #[must_use]
    pub fn new(hop: &NextHop, addr: [u8; 4], udp_port: [u8; 2]) -> Hop {
        if hop.ifindex == 0 {
            return Hop::NONE;
        }
        let NextHop { ifindex, max_inner, flags, .. } = *hop;
        Hop { ifindex, max_inner, flags, reserved: 0, header: outer_header(hop, addr, udp_port) }
    }

    /// What it was made of.
    #[must_use]
    pub fn next_hop(&self) -> NextHop {
        let bytes = |at: usize| self.header[at / 8].to_ne_bytes()[at % 8];
        let mac = |at: usize| core::array::from_fn(|i| bytes(at + i));
        NextHop {
            ifindex: self.ifindex,
            max_inner: self.max_inner,
            dst_mac: mac(0),
            src_mac: mac(6),
            src_v4: core::array::from_fn(|i| bytes(26 + i)),
            flags: self.flags,
        }
    }
}

impl Vtep {
    /// A slot in use. Both halves are the same, so that a frame on its way while it is written sees no difference.
    #[must_use]
    pub fn new(half: u32, addr: [u8; 4], udp_port: [u8; 2], next_hop: &NextHop) -> Vtep {
        let hop = Hop::new(next_hop, addr, udp_port);
        Vtep { half, flags: VtepFlags::USED, addr, udp_port, reserved: [0; 2], hops: [hop; 2] }
    }

    /// The next hop in force.
    #[must_use]
    pub fn next_hop(&self) -> NextHop {
        self.hops[(self.half & 1) as usize].next_hop()
    }

    /// Puts another next hop into the half that is not in force; it is when [`Vtep::half`] is the one returned.
    pub fn prepare(&mut self, next_hop: &NextHop) -> u32 {
        let other = (self.half & 1) ^ 1;
        self.hops[other as usize] = Hop::new(next_hop, self.addr, self.udp_port);
        other
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hop_tells_what_it_was_made_of(
            ifindex in 1u32.., max_inner: u32, dst_mac: [u8; 6], src_mac: [u8; 6], src_v4: [u8; 4], flags: u32, addr: [u8; 4], port: [u8; 2],
        ) {
            let hop = NextHop { ifindex, max_inner, dst_mac, src_mac, src_v4, flags };
            let made = Hop::new(&hop, addr, port);
            prop_assert_eq!(made.next_hop(), hop);
            prop_assert_eq!(made.is_resolved(), dst_mac != [0; 6]);
        }
    }

    #[test]
    fn no_route_is_no_route() {
        assert_eq!(Hop::new(&NextHop::NONE, [192, 0, 2, 1], [18, 181]).next_hop(), NextHop::NONE);
    }
}
