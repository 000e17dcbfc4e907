//! Super-packets as a guest's driver hands them over, and the frames that they must become.

use std::net::{Ipv4Addr, Ipv6Addr};

use wavnet_common::addr::Mac;

use super::{
    frame::{IPV4, VLAN, checksum, ipv4_header, pseudo_header},
    vnet::VnetHdr,
};

/// EtherType of IPv6.
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// 40000 and 40001, which no dissector takes for its own.
const PORTS: [u8; 4] = [0x9c, 0x40, 0x9c, 0x41];
const SRC4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const DST4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SRC6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const DST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// What is in a super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP over IPv4.
    Tcp4,
    /// The same with CWR set (RFC 3168): for the first segment alone.
    Tcp4Ecn,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv4.
    Udp4,
}

/// A super-packet to be.
#[derive(Clone, Copy, Debug)]
pub struct SuperPacket {
    /// What is in it.
    pub kind: Kind,
    /// To whom.
    pub dst: Mac,
    /// From whom.
    pub src: Mac,
    /// VLAN.
    pub tag: Option<u16>,
    /// Bytes of payload.
    pub payload: usize,
    /// Payload bytes of each segment.
    pub segment: usize,
}

/// Which part of a super-packet a frame is.
struct Part {
    number: u16,
    from: usize,
    to: usize,
    last: bool,
    /// The checksum covers the pseudo header alone, so far.
    partial: bool,
}

impl SuperPacket {
    /// The header and the frame as the driver writes them.
    pub fn handed_over(&self) -> (VnetHdr, Vec<u8>) {
        let (gso_type, csum_offset) = match self.kind {
            Kind::Tcp4 => (VnetHdr::TCPV4, 16),
            Kind::Tcp4Ecn => (VnetHdr::TCPV4 | VnetHdr::ECN, 16),
            Kind::Tcp6 => (VnetHdr::TCPV6, 16),
            Kind::Udp4 => (VnetHdr::UDP_L4, 6),
        };
        let frame = self.frame(&Part { number: 0, from: 0, to: self.payload, last: true, partial: true });
        let header = VnetHdr {
            flags: VnetHdr::NEEDS_CSUM,
            gso_type,
            hdr_len: (frame.len() - self.payload) as u16,
            gso_size: self.segment as u16,
            csum_start: self.l4() as u16,
            csum_offset,
        };
        (header, frame)
    }

    /// The frames that it must become.
    pub fn segments(&self) -> Vec<Vec<u8>> {
        let starts = (0..self.payload).step_by(self.segment);
        let part = |(number, from): (usize, usize)| {
            let to = self.payload.min(from + self.segment);
            self.frame(&Part { number: number as u16, from, to, last: to == self.payload, partial: false })
        };
        starts.enumerate().map(part).collect()
    }

    /// Bytes before TCP or UDP.
    fn l4(&self) -> usize {
        let tag = if self.tag.is_some() { 4 } else { 0 };
        14 + tag + if self.kind == Kind::Tcp6 { 40 } else { 20 }
    }

    fn frame(&self, part: &Part) -> Vec<u8> {
        let ethertype = if self.kind == Kind::Tcp6 { IPV6 } else { IPV4 };
        let tag = self.tag.map_or_else(Vec::new, |tci| [VLAN.to_be_bytes(), tci.to_be_bytes()].concat());
        let l2 = [&self.dst.0[..], &self.src.0, &tag, &ethertype.to_be_bytes()].concat();
        // 251 is prime: a shift by any power of two shows.
        let payload: Vec<u8> = (part.from..part.to).map(|i| (i % 251) as u8).collect();
        let (protocol, mut l4, at) = match self.kind {
            Kind::Udp4 => (UDP, udp(payload.len()), 6),
            _ => (TCP, self.tcp(part), 16),
        };
        l4.extend(payload);
        let pseudo = match self.kind {
            Kind::Tcp6 => {
                [&SRC6.octets()[..], &DST6.octets(), &(l4.len() as u32).to_be_bytes(), &[0, 0, 0, TCP]].concat()
            }
            _ => pseudo_header(SRC4, DST4, protocol, l4.len()),
        };
        let sum = if part.partial { !checksum(&pseudo) } else { checksum(&[pseudo, l4.clone()].concat()) };
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let l3 = match self.kind {
            Kind::Tcp6 => {
                let length = (l4.len() as u16).to_be_bytes();
                [&[0x60, 0, 0, 0][..], &length, &[TCP, 64], &SRC6.octets(), &DST6.octets()].concat()
            }
            _ => self.ipv4(protocol, part.number, l4.len()),
        };
        [l2, l3, l4].concat()
    }

    /// An IPv4 header; segments have consecutive identifications.
    fn ipv4(&self, protocol: u8, number: u16, payload: usize) -> Vec<u8> {
        const DF: u16 = 0x4000;
        let mut ip = ipv4_header(SRC4, DST4, protocol, 64, DF, &[], payload);
        ip[4..6].copy_from_slice(&(0x1230 + number).to_be_bytes());
        if self.kind == Kind::Tcp4Ecn {
            // ECT(0).
            ip[1] = 2;
        }
        ip[10..12].fill(0);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    }

    /// A TCP header with time stamps and without checksum (RFC 9293, RFC 7323).
    fn tcp(&self, part: &Part) -> Vec<u8> {
        const ACK: u8 = 0x10;
        const PSH: u8 = 0x08;
        const CWR: u8 = 0x80;
        let mut flags = ACK;
        if part.last {
            flags |= PSH;
        }
        if self.kind == Kind::Tcp4Ecn && part.from == 0 {
            flags |= CWR;
        }
        let seq = 0x0102_0304 + part.from as u32;
        let options = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];
        let rest = [0x80, flags, 0xff, 0xff, 0, 0, 0, 0];
        [&PORTS[..], &seq.to_be_bytes(), &[0, 0, 0, 5], &rest, &options].concat()
    }
}

/// A UDP header without checksum.
fn udp(payload: usize) -> Vec<u8> {
    [&PORTS[..], &(8 + payload as u16).to_be_bytes(), &[0, 0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::frame::transport_checksum;

    #[test]
    fn segments_have_right_checksums_and_all_of_the_payload() {
        for kind in [Kind::Tcp4, Kind::Tcp4Ecn, Kind::Udp4] {
            let packet =
                SuperPacket { kind, dst: Mac([2; 6]), src: Mac([4; 6]), tag: Some(7), payload: 3001, segment: 1000 };
            let segments = packet.segments();
            assert_eq!(segments.len(), 4);
            let protocol = if kind == Kind::Udp4 { UDP } else { TCP };
            for segment in &segments {
                assert_eq!(checksum(&segment[18..38]), 0, "{kind:?}");
                assert_eq!(transport_checksum(SRC4, DST4, protocol, &segment[38..]), 0, "{kind:?}");
            }
            let (header, frame) = packet.handed_over();
            let headers = usize::from(header.hdr_len);
            let payload: Vec<u8> = segments.iter().flat_map(|s| s[headers..].to_vec()).collect();
            assert_eq!(payload, frame[headers..]);
        }
    }
}
