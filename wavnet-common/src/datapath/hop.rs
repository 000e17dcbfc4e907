//! What the agent writes for a VTEP: the outer header, as far as it is the same for all frames, so that `encap` need not make it
//! for each.

use crate::{
    abi::{Endpoint, Hop, NextHop, Vtep, VtepFlags},
    addr::Label,
    wire::{
        EthHdr, Ipv4Hdr, VxlanHdr,
        ethernet::ethertype,
        ipv4::{PROTO_UDP, halves},
    },
};

const TTL: u8 = 64;

/// The first 48 bytes of the outer header to a VTEP, in memory order. Zero is what differs from frame to frame:
/// lengths, VNI, and the UDP source port unless all share one; where the IPv4 checksum belongs is the sum of all else in that header, folded.
///
/// Don't-fragment is set, as a VTEP must not fragment (RFC 7348 section 4.3); so the identification may be zero (RFC 6864). The
/// UDP checksum is zero (RFC 7348 section 5).
fn outer_header(hop: &NextHop, to: &Endpoint) -> [u64; 6] {
    let mut bytes = [0; 48];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &hop.dst_mac);
    put(6, &hop.src_mac);
    put(12, &ethertype::IPV4.to_be_bytes());
    put(14, &[Ipv4Hdr::PLAIN, 0]);
    put(20, &Ipv4Hdr::DF.to_be_bytes());
    put(22, &[TTL, PROTO_UDP]);
    put(26, &hop.src_v4);
    put(30, &to.addr);
    put(34, &to.source_port.unwrap_or_default().to_be_bytes());
    put(36, &to.port.to_be_bytes());
    put(42, &(VxlanHdr::I_FLAG | to.label.get()).to_be_bytes());
    let ip = bytes[EthHdr::LEN..EthHdr::LEN + Ipv4Hdr::LEN].chunks_exact(2);
    let sum: u32 = ip.map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum();
    bytes[24..26].copy_from_slice(&(halves(halves(sum)) as u16).to_ne_bytes());
    core::array::from_fn(|i| u64::from_ne_bytes(core::array::from_fn(|j| bytes[8 * i + j])))
}

impl Hop {
    /// To a VTEP at this endpoint. Without a route it tells that all the same.
    #[must_use]
    pub fn new(hop: &NextHop, to: &Endpoint) -> Hop {
        let hop = if hop.ifindex == 0 { &NextHop::NONE } else { hop };
        let NextHop { ifindex, max_inner, flags, .. } = *hop;
        let flow_bits = if to.source_port.is_none() { u16::MAX.into() } else { 0 };
        Hop { ifindex, max_inner, flags, flow_bits, header: outer_header(hop, to) }
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        core::array::from_fn(|i| self.header[(at + i) / 8].to_ne_bytes()[(at + i) % 8])
    }

    /// The next hop that it was made of.
    #[must_use]
    pub fn next_hop(&self) -> NextHop {
        if self.ifindex == 0 {
            return NextHop::NONE;
        }
        NextHop {
            ifindex: self.ifindex,
            max_inner: self.max_inner,
            dst_mac: self.bytes(0),
            src_mac: self.bytes(6),
            src_v4: self.bytes(26),
            flags: self.flags,
        }
    }

    /// The endpoint that it was made of.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let source_port = u16::from_be_bytes(self.bytes(34));
        Endpoint {
            addr: self.bytes(30),
            port: u16::from_be_bytes(self.bytes(36)),
            source_port: (self.flow_bits == 0).then_some(source_port),
            label: Label::of_word(u32::from_be_bytes(self.bytes(42))),
        }
    }
}

impl Vtep {
    /// A slot in use. Both halves are the same, so that a frame on its way while it is written sees no difference.
    #[must_use]
    pub fn new(half: u32, to: &Endpoint, next_hop: &NextHop) -> Vtep {
        Vtep { half, flags: VtepFlags::USED, hops: [Hop::new(next_hop, to); 2] }
    }

    const fn in_force(&self) -> &Hop {
        let [zero, one] = &self.hops;
        if self.half & 1 == 0 { zero } else { one }
    }

    /// The next hop in force.
    #[must_use]
    pub fn next_hop(&self) -> NextHop {
        self.in_force().next_hop()
    }

    /// The endpoint in force.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.in_force().endpoint()
    }

    /// Puts another endpoint and next hop into the half that is not in force; they are when [`Vtep::half`] is the one returned.
    pub fn prepare(&mut self, to: &Endpoint, next_hop: &NextHop) -> u32 {
        let other = (self.half & 1) ^ 1;
        self.hops[other as usize] = Hop::new(next_hop, to);
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
            ifindex: u32, max_inner: u32, macs: [[u8; 6]; 2], src_v4: [u8; 4], flags: u32, addr: [u8; 4], port: u16,
            source_port: Option<u16>, label: u32,
        ) {
            let [dst_mac, src_mac] = macs;
            let next_hop = NextHop { ifindex, max_inner, dst_mac, src_mac, src_v4, flags };
            let next_hop = if ifindex == 0 { NextHop::NONE } else { next_hop };
            let endpoint = Endpoint { addr, port, source_port, label: Label::of_word(label) };
            let made = Hop::new(&next_hop, &endpoint);
            prop_assert_eq!(made.next_hop(), next_hop);
            prop_assert_eq!(made.endpoint(), endpoint);
            prop_assert_eq!(made.is_resolved(), ifindex != 0 && dst_mac != [0; 6]);
        }

        #[test]
        fn what_is_in_force_changes_with_one_word(first: [u8; 4], second: [u8; 4], half in 0u32..2) {
            let [a, b] = [first, second].map(|addr| Endpoint::plain(addr, 4789));
            let mut vtep = Vtep::new(half, &a, &NextHop::NONE);
            let other = vtep.prepare(&b, &NextHop::NONE);
            prop_assert_eq!(vtep.endpoint(), a);
            vtep.half = other;
            prop_assert_eq!(vtep.endpoint(), b);
        }
    }

    #[test]
    fn a_vtep_without_a_route_keeps_its_endpoint() {
        let endpoint = Endpoint { label: Label::of_word(7), ..Endpoint::plain([192, 0, 2, 1], 4789) };
        let vtep = Vtep::new(1, &endpoint, &NextHop { ifindex: 0, dst_mac: [9; 6], ..NextHop::NONE });
        assert_eq!((vtep.next_hop(), vtep.endpoint()), (NextHop::NONE, endpoint));
        assert!(!vtep.hops[1].is_resolved());
    }
}
