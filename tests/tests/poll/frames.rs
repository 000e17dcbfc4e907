//! What is in a poll: a flow's frames, numbered, with another one among them.

use std::net::{Ipv4Addr, SocketAddrV4};

use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    frame::{ARP, EXPERIMENT, IPV4, VLAN, checksum, ethernet, ipv4_header, tagged, transport_checksum, udp4},
    overlay::{ip, mac},
};

/// Frames in a poll, which takes 64.
pub(crate) const FRAMES: u32 = 40;
/// Which of them is not the flow's, by turns: redirects go after sixteen, or at the end.
const ODD_AT: [u32; 4] = [10, 1, 25, 37];
/// Polls of each kind.
pub(crate) const ROUNDS: u32 = 8;
/// Bytes of every frame without its tag: segments of one send are of one length.
const LENGTH: usize = 124;
const MARK: &[u8; 8] = b"one poll";

/// The VM's.
pub(crate) const HERE: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Of somebody behind the peer.
pub(crate) const THERE: Mac = Mac([2, 0, 0, 0, 0, 9]);
const TAG: u16 = 42;

/// What the flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Datagrams,
    /// With a tag, which XDP of a port does not carry and that of the underlay does.
    TaggedDatagrams,
    /// All that a connection consists of, GRO merging none of it.
    Tcp,
    /// The same with a tag: XDP of the underlay does not look behind it for what GRO could merge.
    TaggedTcp,
    /// Segments behind an extension header of IPv6, behind which XDP does not look either.
    ExtendedTcp,
}

/// What is in the middle of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    /// Nothing: to see that the way itself keeps order.
    Nothing,
    Broadcast,
    Arp,
    UnknownUnicast,
    /// A datagram without a checksum, of another flow of the same stations.
    Unsummed,
    /// A datagram of the flow with a wrong checksum, which XDP of a port must not carry.
    Corrupted,
    /// What is no IP, between the same stations.
    Other,
}

/// Which way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    from: Mac,
    to: Mac,
    /// No addresses of anybody's, so that nobody answers.
    addresses: [Ipv4Addr; 2],
}

impl Way {
    pub(crate) fn new(from: Mac, to: Mac) -> Way {
        Way { from, to, addresses: [ip(201), ip(202)] }
    }

    fn sockets(&self, port: u16) -> [SocketAddrV4; 2] {
        self.addresses.map(|address| SocketAddrV4::new(address, port))
    }

    fn datagram(&self, to: Mac, port: u16, end: &[u8]) -> Vec<u8> {
        let [src, dst] = self.sockets(port);
        let payload = [&vec![0x5a; LENGTH - 42 - end.len()][..], end].concat();
        ethernet(to, self.from, IPV4, &udp4(src, dst, &payload))
    }

    /// One of a connection's segments, by number: handshake, acknowledgements, data, its end, and fragments.
    fn segment(&self, number: u32, end: &[u8]) -> Vec<u8> {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const PSH: u8 = 8;
        const ACK: u8 = 0x10;
        const MF: u16 = 0x2000;
        let room = LENGTH - 14 - 20 - 20 - end.len();
        let (flags, fragment, payload) = match number % 10 {
            0 => (SYN, 0, 0),
            1 => (SYN | ACK, 0, 0),
            2 | 5 => (ACK, 0, 0),
            3 | 4 => (ACK, 0, room),
            // GRO sends this on at once. What it holds back for a moment, waiting for more, fragments overtake: it knows none.
            6 => (ACK | PSH, 0, room),
            7 => (ACK, MF, room / 8 * 8 + 4),
            8 => (ACK, 9, room),
            _ => (FIN | ACK, 0, 0),
        };
        let [src, dst] = self.sockets(7000);
        let ports = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
        // With gaps: GRO must not merge what is counted.
        let sequence = (number * 10_000).to_be_bytes();
        let rest = [0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
        let mut tcp = [&ports[..], &sequence, &rest, &vec![0x5a; payload]].concat();
        if payload == room {
            tcp.extend(end);
        }
        let sum = transport_checksum(*src.ip(), *dst.ip(), 6, &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut header = ipv4_header(*src.ip(), *dst.ip(), 6, 64, fragment, &[], tcp.len());
        header[4..6].copy_from_slice(&(number as u16).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        padded(ethernet(self.to, self.from, IPV4, &[header, tcp].concat()), end)
    }

    /// Some segment by IPv6, behind a header of options for each hop (RFC 8200 section 4.3) that says nothing.
    fn extended(&self, number: u32, end: &[u8]) -> Vec<u8> {
        const IPV6: u16 = 0x86dd;
        const HOP_BY_HOP: u8 = 0;
        const TCP: u8 = 6;
        let addresses = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0xfd; 16]].concat();
        let options = [TCP, 0, 1, 4, 0, 0, 0, 0];
        let tcp = [&[0x1b, 0x58, 0x1b, 0x58][..], &number.to_be_bytes(), &[0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]];
        let payload = vec![0x5a; LENGTH - 14 - 40 - 8 - 20 - end.len()];
        let rest = [&options[..], &tcp.concat(), &payload, end].concat();
        let header = [&[0x60, 0, 0, 0][..], &(rest.len() as u16).to_be_bytes(), &[HOP_BY_HOP, 64], &addresses].concat();
        ethernet(self.to, self.from, IPV6, &[header, rest].concat())
    }

    fn odd(&self, odd: Odd, end: &[u8]) -> Option<Vec<u8>> {
        Some(match odd {
            Odd::Nothing => return None,
            Odd::Broadcast => self.datagram(Mac::BROADCAST, 7000, end),
            Odd::UnknownUnicast => self.datagram(mac(0x77), 7000, end),
            Odd::Arp => padded(ethernet(Mac::BROADCAST, self.from, ARP, &[0; 46]), end),
            Odd::Other => padded(ethernet(self.to, self.from, EXPERIMENT, &[0; 46]), end),
            Odd::Corrupted => {
                let mut frame = self.datagram(self.to, 7000, end);
                frame[60] ^= 1;
                frame
            }
            Odd::Unsummed => {
                let mut frame = self.datagram(self.to, 8000, end);
                frame[40..42].fill(0);
                frame
            }
        })
    }

    /// A round's frames, of which the last bytes tell round and number.
    pub(crate) fn frames(&self, flow: Flow, odd: Odd, round: u32) -> Vec<Vec<u8>> {
        let frame = |number: u32| {
            let end = [&MARK[..], &round.to_be_bytes(), &number.to_be_bytes()].concat();
            if number == odd_at(round)
                && let Some(odd) = self.odd(odd, &end)
            {
                let tagged = matches!(flow, Flow::TaggedDatagrams | Flow::TaggedTcp);
                return if tagged { padded([&odd[..], &[0; 4]].concat(), &end) } else { odd };
            }
            match flow {
                Flow::Datagrams => self.datagram(self.to, 7000, &end),
                Flow::TaggedDatagrams => tagged(&self.datagram(self.to, 7000, &end), VLAN, TAG),
                Flow::Tcp => self.segment(number, &end),
                Flow::TaggedTcp => tagged(&self.segment(number, &end), VLAN, TAG),
                Flow::ExtendedTcp => self.extended(number, &end),
            }
        };
        (0..FRAMES).map(frame).collect()
    }
}

pub(crate) fn odd_at(round: u32) -> u32 {
    ODD_AT[round as usize % ODD_AT.len()]
}

/// With these last bytes, and as long as all others.
fn padded(mut frame: Vec<u8>, end: &[u8]) -> Vec<u8> {
    if !frame.ends_with(end) {
        let length = frame.len().max(LENGTH) - end.len();
        frame.resize(length, 0);
        frame.extend(end);
    }
    frame
}

/// The number of one of a round's frames.
pub(crate) fn number(frame: &[u8], round: u32) -> Option<u32> {
    let (rest, last) = frame.split_last_chunk::<8>()?;
    let [a, b, c, d, number @ ..] = *last;
    let ours = rest.ends_with(MARK) && u32::from_be_bytes([a, b, c, d]) == round;
    ours.then(|| u32::from_be_bytes(number))
}

/// One flow with each of these in its middle.
pub(crate) const fn with<const N: usize>(flow: Flow, odd: [Odd; N]) -> [(Flow, Odd); N] {
    let mut cases = [(flow, Odd::Nothing); N];
    let mut i = 0;
    while i < N {
        cases[i].1 = odd[i];
        i += 1;
    }
    cases
}

/// What XDP of the underlay leaves to TC.
pub(crate) const FLOODED: [Odd; 4] = [Odd::Nothing, Odd::Broadcast, Odd::Arp, Odd::UnknownUnicast];
/// All that there is.
pub(crate) const ALL: [Odd; 7] =
    [Odd::Nothing, Odd::Broadcast, Odd::Arp, Odd::UnknownUnicast, Odd::Unsummed, Odd::Corrupted, Odd::Other];
