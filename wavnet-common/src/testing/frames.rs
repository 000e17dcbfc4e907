//! Frames byte by byte, written from the RFCs and not by the code under test.

use std::{vec, vec::Vec};

use super::world;

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|c| u64::from(c[0]) << 8 | u64::from(c.get(1).copied().unwrap_or(0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An Ethernet frame.
pub fn ethernet(dst: [u8; 6], src: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &ethertype.to_be_bytes(), payload].concat()
}

/// The frame with a VLAN tag behind its addresses.
pub fn tagged(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    [&frame[..12], &tpid.to_be_bytes(), &tci.to_be_bytes(), &frame[12..]].concat()
}

/// An ARP request for 10.0.0.1 (RFC 826), unpadded: 42 bytes.
pub fn arp(src: [u8; 6]) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &src, &[10, 0, 0, 2], &[0; 6], &[10, 0, 0, 1]].concat();
    ethernet([0xff; 6], src, 0x0806, &body)
}

/// An IPv4 packet without options.
fn ipv4(protocol: u8, src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut h = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 0, 0x40, 0, 64, protocol, 0, 0], &src, &dst].concat();
    let sum = checksum(&h);
    h[10..12].copy_from_slice(&sum.to_be_bytes());
    [h, payload.to_vec()].concat()
}

fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    [&src.to_be_bytes()[..], &dst.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

/// An IPv4 packet with a UDP datagram.
pub fn ipv4_udp(src: [u8; 4], dst: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    ipv4(17, src, dst, &udp(ports.0, ports.1, payload))
}

/// An Ethernet frame of exactly `len` bytes (42 at the least) with a UDP datagram over IPv4.
pub fn udp4(dst: [u8; 6], src: [u8; 6], len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len - 42).map(|i| i as u8).collect();
    ethernet(dst, src, 0x0800, &ipv4_udp([10, 0, 0, 2], [10, 0, 0, 1], (4000, 5000), &payload))
}

/// An Ethernet frame of exactly `len` bytes (62 at the least) with a UDP datagram over IPv6.
pub fn ipv6_udp(dst: [u8; 6], src: [u8; 6], len: usize) -> Vec<u8> {
    ipv6(dst, src, 17, &udp(4000, 5000, &vec![0x5a; len - 62]))
}

/// An Ethernet frame with an IPv6 packet: next header and what follows.
pub fn ipv6(dst: [u8; 6], src: [u8; 6], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let addr = |last| [&[0xfd, 0][..], &[0; 13], &[last]].concat();
    let length = (payload.len() as u16).to_be_bytes();
    let header = [&[0x60, 0, 0, 0][..], &length, &[next_header, 64], &addr(2), &addr(1)].concat();
    ethernet(dst, src, 0x86dd, &[header, payload.to_vec()].concat())
}

/// An Ethernet frame of exactly `len` bytes (54 at the least) with a TCP segment over IPv4.
pub fn tcp4(dst: [u8; 6], src: [u8; 6], len: usize) -> Vec<u8> {
    let header = [&4000u16.to_be_bytes()[..], &80u16.to_be_bytes(), &[0; 8], &[0x50, 0x10, 1, 0, 0, 0, 0, 0]].concat();
    let segment = [header, vec![0x77; len - 54]].concat();
    ethernet(dst, src, 0x0800, &ipv4(6, [10, 0, 0, 2], [10, 0, 0, 1], &segment))
}

/// An outer header, right by default, every field of which can be made wrong.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields are those of the headers")]
pub struct Outer {
    pub eth_dst: [u8; 6],
    pub eth_src: [u8; 6],
    pub ethertype: u16,
    pub version: u8,
    pub options: Vec<u8>,
    pub tos: u8,
    /// Instead of the right total length.
    pub total_len: Option<u16>,
    pub id: u16,
    pub frag: u16,
    pub ttl: u8,
    pub protocol: u8,
    /// Added to the right checksum.
    pub checksum_off_by: u16,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub udp_src: u16,
    pub udp_dst: u16,
    /// Instead of the right UDP length.
    pub udp_len: Option<u16>,
    pub udp_checksum: u16,
    pub vxlan_flags: u32,
    pub vni: u32,
    pub vxlan_reserved: u8,
    /// Bytes behind the datagram.
    pub trailer: Vec<u8>,
}

impl Default for Outer {
    /// From VTEP 0 of the world to us, in its first VNI.
    fn default() -> Outer {
        Outer {
            eth_dst: world::UNDERLAY_MAC,
            eth_src: world::next_hop_mac(0),
            ethertype: 0x0800,
            version: 4,
            options: Vec::new(),
            tos: 0,
            total_len: None,
            id: 0,
            frag: 0x4000,
            ttl: 64,
            protocol: 17,
            checksum_off_by: 0,
            src: world::vtep_addr(0),
            dst: world::LOCAL,
            udp_src: 50_000,
            udp_dst: world::UDP_PORT,
            udp_len: None,
            udp_checksum: 0,
            vxlan_flags: 0x0800_0000,
            vni: world::vni(0),
            vxlan_reserved: 0,
            trailer: Vec::new(),
        }
    }
}

impl Outer {
    /// The frame with another one in it.
    pub fn build(&self, inner: &[u8]) -> Vec<u8> {
        let vni = self.vni << 8 | u32::from(self.vxlan_reserved);
        self.carry(&[&self.vxlan_flags.to_be_bytes()[..], &vni.to_be_bytes(), inner].concat())
    }

    /// The frame with a UDP payload.
    pub fn carry(&self, payload: &[u8]) -> Vec<u8> {
        let udp_len = self.udp_len.unwrap_or((8 + payload.len()) as u16);
        let ip_len = self.total_len.unwrap_or((20 + self.options.len() + 8 + payload.len()) as u16);
        let mut ip = [
            &[self.version << 4 | (5 + self.options.len() / 4) as u8, self.tos][..],
            &ip_len.to_be_bytes(),
            &self.id.to_be_bytes(),
            &self.frag.to_be_bytes(),
            &[self.ttl, self.protocol, 0, 0],
            &self.src,
            &self.dst,
            &self.options,
        ]
        .concat();
        let sum = checksum(&ip).wrapping_add(self.checksum_off_by);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        [
            ethernet(self.eth_dst, self.eth_src, self.ethertype, &ip),
            self.udp_src.to_be_bytes().to_vec(),
            self.udp_dst.to_be_bytes().to_vec(),
            udp_len.to_be_bytes().to_vec(),
            self.udp_checksum.to_be_bytes().to_vec(),
            payload.to_vec(),
            self.trailer.clone(),
        ]
        .concat()
    }
}

/// What a UDP checksum is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpSum {
    /// Right.
    Right,
    /// The sum of the pseudo-header alone, as for a NIC to complete.
    Partial,
    /// Neither.
    Wrong,
}

/// The frame with a UDP checksum: an untagged frame of ours, IPv4 without options or IPv6.
pub fn summed(frame: &[u8], what: UdpSum) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let v6 = frame[12..14] == [0x86, 0xdd];
    let (addresses, l4) = if v6 { (22..54, 54) } else { (26..34, 34) };
    let length = (frame.len() - l4) as u32;
    let mut pseudo = [&frame[addresses], &length.to_be_bytes(), &[0, 0, 0, 17]].concat();
    frame[l4 + 6..l4 + 8].fill(0);
    let partial = !checksum(&pseudo);
    pseudo.extend_from_slice(&frame[l4..]);
    let right = match checksum(&pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    let sum = match what {
        UdpSum::Right => right,
        UdpSum::Partial => partial,
        UdpSum::Wrong => right ^ 0x0100,
    };
    frame[l4 + 6..l4 + 8].copy_from_slice(&sum.to_be_bytes());
    frame
}
