//! Frames made by hand, well formed or not.

use std::net::{Ipv4Addr, SocketAddrV4};

use wavnet_common::addr::{Mac, Vni};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of RARP (RFC 903), which hypervisors announce a moved VM with.
pub const RARP: u16 = 0x8035;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad service tag.
pub const QINQ: u16 = 0x88a8;
/// EtherType for local experiments (IEEE 802 clause 9.2): what tests mark their own frames with.
pub const EXPERIMENT: u16 = 0x88b5;

/// An Ethernet frame, padded to 60 bytes.
pub fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&dst.0[..], &src.0, &ethertype.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A frame of a test's own with a text to recognise it by.
pub fn marked(dst: Mac, src: Mac, mark: &str) -> Vec<u8> {
    ethernet(dst, src, EXPERIMENT, mark.as_bytes())
}

/// True for a frame that carries the mark, tagged or not.
pub fn has_mark(frame: &[u8], mark: &str) -> bool {
    frame.windows(mark.len()).any(|w| w == mark.as_bytes())
}

/// The frame with a tag in front of its EtherType.
pub fn tagged(frame: &[u8], tpid: u16, vid: u16) -> Vec<u8> {
    [&frame[..12], &tpid.to_be_bytes(), &vid.to_be_bytes(), &frame[12..]].concat()
}

/// A gratuitous ARP request (RFC 5227): "`ip` is at `mac`".
pub fn gratuitous_arp(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &mac.0, &ip.octets(), &[0; 6], &ip.octets()].concat();
    ethernet(Mac::BROADCAST, mac, ARP, &body)
}

/// A reverse ARP request as QEMU sends it after a migration.
pub fn rarp(mac: Mac) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 3][..], &mac.0, &[0; 4], &mac.0, &[0; 4]].concat();
    ethernet(Mac::BROADCAST, mac, RARP, &body)
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)])))
        .fold(0, u32::wrapping_add);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of a TCP or UDP packet over IPv4 whose own is zero (RFC 9293 section 3.1, RFC 768). Of one whose checksum is
/// right it is zero.
pub fn transport_checksum(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, packet: &[u8]) -> u16 {
    checksum(&[&pseudo_header(src, dst, protocol, packet.len())[..], packet].concat())
}

/// What the checksum of a TCP or UDP packet covers beside it.
pub fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, length: usize) -> Vec<u8> {
    [&src.octets()[..], &dst.octets(), &[0, protocol], &(length as u16).to_be_bytes()].concat()
}

/// A VXLAN packet to be: everything of the outer headers that a test may want wrong.
#[derive(Clone, Debug)]
pub struct Outer {
    /// Destination link address.
    pub dst_mac: Mac,
    /// Source link address.
    pub src_mac: Mac,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// UDP source port.
    pub src_port: u16,
    /// UDP destination port.
    pub dst_port: u16,
    /// Time to live.
    pub ttl: u8,
    /// Flags and offset of fragmentation.
    pub fragment: u16,
    /// Bytes of IPv4 options, a multiple of four.
    pub options: Vec<u8>,
    /// Make the header's checksum wrong.
    pub corrupt: bool,
    /// First octet of the VXLAN header; 8 is the I flag.
    pub flags: u8,
    /// VNI.
    pub vni: u32,
    /// Claim this many bytes less (or more) than there are in the UDP length.
    pub udp_length_off: i16,
    /// With a UDP checksum; VTEPs leave it out, as a rule.
    pub udp_checksum: bool,
}

impl Outer {
    /// A correct packet of a VNI between two VTEPs.
    pub fn new(dst_mac: Mac, src: Ipv4Addr, dst: Ipv4Addr, vni: Vni) -> Outer {
        Outer {
            dst_mac,
            src_mac: Mac([2, 0, 0, 0, 0xee, 1]),
            src,
            dst,
            src_port: 50_000,
            dst_port: 4789,
            ttl: 64,
            fragment: 0,
            options: Vec::new(),
            corrupt: false,
            flags: 8,
            vni: vni.get(),
            udp_length_off: 0,
            udp_checksum: false,
        }
    }

    /// The frame on the underlay that carries `inner`.
    pub fn wrap(&self, inner: &[u8]) -> Vec<u8> {
        let vxlan = [&[self.flags, 0, 0, 0][..], &(self.vni << 8).to_be_bytes(), inner].concat();
        let length = (8 + vxlan.len() as u16).wrapping_add_signed(self.udp_length_off);
        let mut udp =
            [&self.src_port.to_be_bytes()[..], &self.dst_port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], &vxlan]
                .concat();
        if self.udp_checksum {
            let sum = transport_checksum(self.src, self.dst, 17, &udp);
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        let mut ip = ipv4_header(self.src, self.dst, 17, self.ttl, self.fragment, &self.options, udp.len());
        if self.corrupt {
            ip[10] ^= 0x55;
        }
        ethernet(self.dst_mac, self.src_mac, IPV4, &[ip, udp].concat())
    }
}

/// An IPv4 header with its checksum (RFC 791).
pub fn ipv4_header(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    ttl: u8,
    fragment: u16,
    options: &[u8],
    payload: usize,
) -> Vec<u8> {
    let length = 20 + options.len();
    let mut ip = [
        &[0x40 | (length / 4) as u8, 0][..],
        &((length + payload) as u16).to_be_bytes(),
        &[0, 1],
        &fragment.to_be_bytes(),
        &[ttl, protocol, 0, 0],
        &src.octets(),
        &dst.octets(),
        options,
    ]
    .concat();
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip
}

/// An IPv4 packet with a UDP datagram.
pub fn udp4(src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len();
    let ip = ipv4_header(*src.ip(), *dst.ip(), 17, 64, 0, &[], length);
    let (sport, dport) = (src.port().to_be_bytes(), dst.port().to_be_bytes());
    let mut udp = [&sport[..], &dport, &(length as u16).to_be_bytes(), &[0, 0], payload].concat();
    // Zero would say that there is none.
    let sum = match transport_checksum(*src.ip(), *dst.ip(), 17, &udp) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    [ip, udp].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_checksum_verifies_and_wrap_has_the_layout_of_rfc_7348() {
        let outer = Outer::new(Mac([2; 6]), [10, 0, 0, 1].into(), [10, 0, 0, 2].into(), Vni::new(0xabcdef).unwrap());
        let frame = outer.wrap(&marked(Mac::BROADCAST, Mac([2, 0, 0, 0, 0, 7]), "hello"));
        assert_eq!(checksum(&frame[14..34]), 0);
        assert_eq!(frame[36..38], 4789u16.to_be_bytes());
        assert_eq!(frame[42..50], [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
        assert!(has_mark(&frame, "hello"));
        let summed = Outer { udp_checksum: true, ..outer.clone() }.wrap(&[7; 61]);
        assert_ne!(summed[40..42], [0, 0]);
        assert_eq!(transport_checksum(outer.src, outer.dst, 17, &summed[34..]), 0);
        let bad = Outer { corrupt: true, ..outer }.wrap(&[0; 60]);
        assert_ne!(checksum(&bad[14..34]), 0);
    }

    #[test]
    fn datagrams_have_checksums_that_are_right_and_never_zero() {
        let [from, to] = [1, 2].map(|n| SocketAddrV4::new([10, 0, 0, n].into(), 9));
        let packet = udp4(from, to, b"odd");
        assert_eq!(transport_checksum(*from.ip(), *to.ip(), 17, &packet[20..]), 0);
        let plain = u16::from_be_bytes([udp4(from, to, &[0; 2])[26], udp4(from, to, &[0; 2])[27]]);
        let zero = udp4(from, to, &plain.to_be_bytes());
        assert_eq!(zero[26..28], [0xff; 2]);
    }

    #[test]
    fn a_tag_goes_before_the_ethertype() {
        let frame = tagged(&marked(Mac::BROADCAST, Mac([2; 6]), "x"), VLAN, 7);
        assert_eq!(frame[12..18], [0x81, 0, 0, 7, 0x88, 0xb5]);
    }
}
