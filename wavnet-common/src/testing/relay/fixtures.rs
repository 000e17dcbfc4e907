//! The relay's table of fixtures.

use std::{boxed::Box, collections::BTreeMap, format, string::String, vec, vec::Vec};

use super::{
    RelayDevices, RelayOutcome, RelayStimulus, RelayTables, RelayWorld, SERVER, hop_mac, host, label, link_mac,
    run_relay,
};
use crate::{
    abi::relay::{Metered, RelayCount},
    addr::Label,
    relay::{Hook, Verdict},
    testing::frames::{Outer, UdpSum, ethernet, summed, tagged, udp4},
    wire::{PulseHdr, RelayedPulseHdr, pulse::Number},
};

/// A frame for the relay, and what must come of it.
#[derive(Clone, Debug)]
pub struct RelayFixture {
    /// What it is about.
    pub name: String,
    /// What the program gets.
    pub stimulus: RelayStimulus,
    /// The decision.
    pub verdict: Verdict,
    /// The frame afterwards, if it goes on.
    pub bytes: Vec<u8>,
    /// What is counted.
    pub counts: Vec<RelayCount>,
    /// What the session's meter counts.
    pub metered: Metered,
    /// A kernel test-run cannot make this packet.
    pub host_only: bool,
}

impl RelayFixture {
    /// Compares with what came of it.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, outcome: &RelayOutcome) -> Result<(), Box<str>> {
        let mut counts: BTreeMap<RelayCount, u64> = self.counts.iter().map(|count| (*count, 1)).collect();
        if self.metered.bytes > 0 {
            let by_xdp = self.stimulus.hook == Hook::Xdp;
            let bytes = if by_xdp { RelayCount::BytesByXdp } else { RelayCount::BytesByTc };
            counts.insert(bytes, self.metered.bytes);
        }
        let wanted = (self.verdict, &counts, self.metered);
        let found = (outcome.verdict, &outcome.counts, outcome.metered);
        if found != wanted {
            return Err(format!("{}: {found:?} instead of {wanted:?}", self.name).into());
        }
        if self.verdict != Verdict::Drop && outcome.bytes != self.bytes {
            return Err(format!("{}: {:02x?} instead of {:02x?}", self.name, outcome.bytes, self.bytes).into());
        }
        Ok(())
    }

    /// Runs it on the host, in a fresh world.
    ///
    /// # Errors
    /// See [`RelayFixture::check`].
    pub fn check_on_host(&self, world: &RelayWorld) -> Result<(), Box<str>> {
        self.check(&run_relay(&mut RelayTables::new(world), &self.stimulus))
    }
}

/// What is to come of a frame, in XDP and in TC.
pub(super) enum Then {
    /// Nothing: it is not ours.
    Other,
    /// Dropped.
    Drop(RelayCount),
    /// It passes; TC counts.
    Pass(RelayCount),
    /// To a host, with its label.
    To(u8, Vec<u8>),
    /// XDP answers by this frame; TC passes it on.
    Answered(Vec<u8>),
}

/// A payload by its label.
type Payload = fn(Label) -> Vec<u8>;

/// All fixtures.
pub fn relay_fixtures(devices: &RelayDevices) -> Vec<RelayFixture> {
    let mut table = Table { devices, out: Vec::new() };
    table.sessions();
    table.server();
    table.refused();
    table.headers();
    table.beside();
    table.stun();
    table.out
}

pub(super) struct Table<'a> {
    pub(super) devices: &'a RelayDevices,
    pub(super) out: Vec<RelayFixture>,
}

/// Outer headers from a host to the server.
pub(super) fn from(n: u8) -> Outer {
    let at = host(n);
    Outer { src: at.addr, udp_src: at.port, dst: SERVER.addr, udp_dst: SERVER.port, ttl: 61, ..Outer::default() }
}

/// Outer headers from the server to a host, of what another one sent.
fn to(n: u8, sent: &Outer) -> Outer {
    let at = host(n);
    let link = if n == 3 {
        1
    } else if n == 4 {
        2
    } else {
        0
    };
    Outer {
        eth_dst: hop_mac(n).0,
        eth_src: link_mac(link).0,
        src: SERVER.addr,
        udp_src: SERVER.port,
        dst: at.addr,
        udp_dst: at.port,
        ttl: sent.ttl.wrapping_sub(1),
        udp_checksum: 0,
        ..sent.clone()
    }
}

fn frame(label: Label, len: usize) -> Vec<u8> {
    let header = [(0x0800_0000 | label.get()).to_be_bytes(), [0, 0x12, 0x34, 0]].concat();
    [header, udp4([0x52, 0x54, 0, 0, 0, 1], [0x52, 0x54, 0, 0, 0, 2], len)].concat()
}

fn control(label: Label, len: usize) -> Vec<u8> {
    let word = u32::from(b'W') << 24 | label.get();
    [&word.to_be_bytes()[..], &[1, 5, 0, 0], &vec![0xc7; len]].concat()
}

fn pulse(label: Label, answer: bool) -> Vec<u8> {
    let number = Number::new(0x1234);
    let pulse = if answer { PulseHdr::answer(number) } else { PulseHdr::request(number) };
    RelayedPulseHdr::new(label, pulse).to_bytes().to_vec()
}

pub(super) fn stun() -> Vec<u8> {
    [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat()
}

impl Table<'_> {
    /// Adds what is to come of a frame from the NIC, for both hooks.
    pub(super) fn add(&mut self, name: &str, frame: Vec<u8>, then: &Then) {
        for hook in [Hook::Xdp, Hook::Tc] {
            let ifindex = match then {
                Then::To(3, _) => self.devices.second,
                Then::To(4, _) => self.devices.third,
                _ => self.devices.nic,
            };
            let payload =
                frame.get(38..40).map_or(0, |b| u64::from(u16::from_be_bytes([b[0], b[1]]))).saturating_sub(8);
            let sent = Metered { frames: 1, bytes: payload, dropped: 0 };
            let none = Metered::default();
            let tc = hook == Hook::Tc;
            let relayed = if tc { RelayCount::RelayedByTc } else { RelayCount::RelayedByXdp };
            let (verdict, bytes, counts, metered) = match then {
                Then::Other => (Verdict::Pass, &frame, vec![], none),
                Then::Drop(why) => {
                    let dropped = u64::from(*why == RelayCount::TooFast);
                    (Verdict::Drop, &frame, vec![*why], Metered { dropped, ..none })
                }
                Then::Answered(bytes) if !tc => (Verdict::Back, bytes, vec![RelayCount::StunAnswered], none),
                Then::Answered(_) => (Verdict::Pass, &frame, vec![RelayCount::ForServer], none),
                Then::Pass(count) => (Verdict::Pass, &frame, if tc { vec![*count] } else { vec![] }, none),
                // By the third interface XDP cannot send.
                Then::To(4, _) if !tc => (Verdict::Pass, &frame, vec![], none),
                Then::To(_, bytes) if tc || ifindex != self.devices.nic => {
                    (Verdict::Send { ifindex }, bytes, vec![relayed], sent)
                }
                Then::To(_, bytes) => (Verdict::Back, bytes, vec![relayed], sent),
            };
            self.out.push(RelayFixture {
                name: format!("{name}, {hook:?}"),
                stimulus: RelayStimulus::new(hook, self.devices.nic, frame.clone()),
                verdict,
                bytes: bytes.clone(),
                counts,
                metered,
                host_only: false,
            });
        }
    }

    /// What a host sends to another one.
    fn add_sent(&mut self, name: &str, outer: &Outer, way: (u8, u8), payload: Payload) {
        let (a, b) = way;
        let sent = outer.carry(&payload(label(a, b)));
        self.add(name, sent, &Then::To(b, to(b, outer).carry(&payload(label(b, a)))));
    }

    fn sessions(&mut self) {
        let kinds: [(&str, Payload); 6] = [
            ("frame", |label| frame(label, 100)),
            ("shortest VXLAN", |label| frame(label, 60)[..8].to_vec()),
            ("control", |label| control(label, 80)),
            ("shortest control", |label| control(label, 0)),
            ("pulse", |label| pulse(label, false)),
            ("answer to a pulse", |label| pulse(label, true)),
        ];
        for (kind, payload) in kinds {
            for (a, b) in [(1, 2), (2, 1), (1, 3), (3, 1), (1, 4), (4, 1)] {
                self.add_sent(&format!("{kind} from {a} to {b}"), &from(a), (a, b), payload);
            }
        }
        let full = |label| frame(label, 1500 + 14);
        self.add_sent("longest frame", &from(1), (1, 2), full);
        let odd = Outer { tos: 0x2e, id: 0xbeef, frag: 0, ttl: 2, ..from(1) };
        self.add_sent("other fields stay as they are", &odd, (1, 2), |label| frame(label, 100));
        let padded = Outer { trailer: vec![0; 12], ..from(1) };
        self.add_sent("pulse, padded", &padded, (1, 2), |label| pulse(label, false));
        let flags = |label: Label| [&(0xff00_0000 | label.get()).to_be_bytes()[..], &[9; 60]].concat();
        self.add_sent("every flag of VXLAN", &from(1), (1, 2), flags);
        self.add_sent("a wrong checksum of the payload", &Outer { udp_checksum: 0x4711, ..from(2) }, (2, 1), full);
        let sum = |sum| summed(&from(1).carry(&control(label(1, 2), 80)), sum);
        let sent = to(2, &from(1)).carry(&control(label(2, 1), 80));
        self.add("a right checksum of the payload", sum(UdpSum::Right), &Then::To(2, sent));
        let left = Then::Pass(RelayCount::LeftToServer);
        self.add("a checksum that is left to a NIC", sum(UdpSum::Partial), &left);
    }

    pub(super) fn last_in_tc(&mut self, change: impl Fn(&mut RelayFixture)) {
        self.out.iter_mut().rev().take(1).for_each(change);
    }

    fn server(&mut self) {
        let none = Label::ZERO;
        for (name, payload) in [
            ("STUN", stun()),
            ("control without a label", control(none, 100)),
            ("a relayed pulse without a label", pulse(none, false)),
            ("a pulse", vec![0x12, 0x34]),
            ("an answer", vec![0x92, 0x34]),
        ] {
            self.add(name, from(1).carry(&payload), &Then::Pass(RelayCount::ForServer));
        }
        for (name, payload) in [
            ("a frame without a label", frame(none, 100)),
            ("nothing", vec![]),
            ("one byte", vec![8]),
            ("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            ("STUN, cut", stun()[..19].to_vec()),
            ("control, cut", control(label(1, 2), 0)[..7].to_vec()),
            ("three bytes", vec![0; 3]),
            ("a pulse and a byte", [pulse(label(1, 2), false), vec![0]].concat()),
        ] {
            self.add(name, from(1).carry(&payload), &Then::Pass(RelayCount::UnknownPayload));
        }
        let cut = frame(label(1, 2), 60)[..7].to_vec();
        self.add("VXLAN, cut", from(1).carry(&cut), &Then::Pass(RelayCount::Malformed));
    }

    fn refused(&mut self) {
        use RelayCount::{LeftToServer, OtherSender, TooFast, TooLong, TtlExpired, UnknownLabel};
        let gone = Label::of_word(label(1, 2).get() ^ 0x10_0000);
        let free = Label::of_word(0x5a_003f);
        for (name, sent, label, why) in [
            ("a label of before", from(1), gone, UnknownLabel),
            ("a label that nobody has", from(1), free, UnknownLabel),
            ("another host's label", from(1), label(2, 1), OtherSender),
            ("another port of the host", Outer { udp_src: 1, ..from(1) }, label(1, 2), OtherSender),
            ("the port of another address", Outer { src: host(9).addr, ..from(1) }, label(1, 2), OtherSender),
        ] {
            self.add(&format!("frame, {name}"), sent.carry(&frame(label, 100)), &Then::Drop(why));
            self.add(&format!("control, {name}"), sent.carry(&control(label, 100)), &Then::Pass(why));
            self.add(&format!("pulse, {name}"), sent.carry(&pulse(label, false)), &Then::Pass(why));
        }
        for (name, label, then) in [
            ("an unknown label of which some are left to the server", gone, Then::Pass(UnknownLabel)),
            ("another host's label though some are left to the server", label(2, 1), Then::Drop(OtherSender)),
        ] {
            self.add(&format!("frame, {name}"), from(1).carry(&frame(label, 100)), &then);
            self.out.iter_mut().rev().take(2).for_each(|f| f.stimulus.incomplete = true);
        }
        for (name, ttl) in [("no more hops", 1), ("less than that", 0)] {
            let sent = Outer { ttl, ..from(1) };
            self.add(&format!("frame, {name}"), sent.carry(&frame(label(1, 2), 100)), &Then::Drop(TtlExpired));
            self.add(&format!("pulse, {name}"), sent.carry(&pulse(label(1, 2), false)), &Then::Drop(TtlExpired));
        }
        for (name, other) in [("nobody knows how", 5), ("an interface that is gone", 6)] {
            for (kind, payload) in [("frame", frame(label(1, other), 100)), ("pulse", pulse(label(1, other), true))] {
                self.add(&format!("{kind}, {name}"), from(1).carry(&payload), &Then::Pass(LeftToServer));
            }
        }
        for (a, b) in [(1, 7), (7, 1)] {
            let sent = from(a).carry(&frame(label(a, b), 100));
            self.add(&format!("more than is allowed from {a} to {b}"), sent, &Then::Drop(TooFast));
        }
        // 36 bytes of outer headers behind the Ethernet header.
        let short = RelayWorld::SHORT as usize - 36;
        self.add_sent("as long as fits", &from(1), (1, 3), |label| frame(label, RelayWorld::SHORT as usize - 36));
        let long = from(1).carry(&frame(label(1, 3), short + 1));
        self.add("longer than fits", long.clone(), &Then::Drop(TooLong));
        let count = self.out.len();
        let in_xdp = &mut self.out[count - 2];
        (in_xdp.verdict, in_xdp.bytes, in_xdp.counts) = (Verdict::Pass, long, vec![]);
    }

    fn headers(&mut self) {
        let payload = frame(label(1, 2), 100);
        for (name, outer) in [
            ("to another address", Outer { dst: [203, 0, 113, 10], ..from(1) }),
            ("to another port", Outer { udp_dst: 4790, ..from(1) }),
            ("TCP", Outer { protocol: 6, ..from(1) }),
            ("the rest of a fragment", Outer { frag: 0x2001, ..from(1) }),
            ("the last of a fragment", Outer { frag: 0x0010, ..from(1) }),
            ("options", Outer { options: vec![1; 4], ..from(1) }),
            ("another version", Outer { version: 6, ..from(1) }),
            ("another protocol", Outer { ethertype: 0x86dd, ..from(1) }),
        ] {
            self.add(name, outer.carry(&payload), &Then::Other);
        }
        self.add("tagged", tagged(&from(1).carry(&payload), 0x8100, 7), &Then::Other);
        self.add("no IP", ethernet([2; 6], [4; 6], 0x0806, &[0; 46]), &Then::Other);
        let right = 28 + payload.len() as u16;
        for (name, outer) in [
            ("UDP longer than IP", Outer { udp_len: Some(right - 19), ..from(1) }),
            ("UDP shorter than IP", Outer { udp_len: Some(right - 21), ..from(1) }),
            ("UDP shorter than its header", Outer { udp_len: Some(7), total_len: Some(27), ..from(1) }),
            ("IP longer than the frame", Outer { udp_len: Some(right - 19), total_len: Some(right + 1), ..from(1) }),
        ] {
            self.add(name, outer.carry(&payload), &Then::Pass(RelayCount::Malformed));
        }
        let piece = Outer { frag: 0x2000, ..from(1) }.carry(&payload);
        self.add("first fragment", piece, &Then::Pass(RelayCount::LeftToServer));
        let whole = from(1).carry(&payload);
        for cut in 14..50 {
            // Behind the ports it is ours, and says that it is longer.
            let then = if cut < 42 { Then::Other } else { Then::Pass(RelayCount::Malformed) };
            self.add(&format!("cut to {cut}"), whole[..cut].to_vec(), &then);
        }
    }

    fn beside(&mut self) {
        let sent = from(1).carry(&frame(label(1, 2), 100));
        self.add("a tag beside the data", sent.clone(), &Then::Other);
        self.out.iter_mut().rev().take(2).for_each(|f| {
            f.stimulus.meta_tag = Some([0x8100, 7]);
            f.host_only = true;
        });
        for (name, linear) in [("UDP", 34), ("the payload", 42), ("its second word", 46)] {
            self.add_sent(&format!("{name} in another buffer"), &from(1), (1, 2), |label| frame(label, 100));
            let count = self.out.len();
            for f in &mut self.out[count - 2..] {
                f.stimulus.linear = linear;
                f.host_only = true;
                // TC can reach it.
                if f.stimulus.hook == Hook::Xdp {
                    (f.verdict, f.bytes) = (Verdict::Pass, f.stimulus.frame.clone());
                    (f.counts, f.metered) = (vec![], Metered::default());
                }
            }
        }
        self.add("a super-packet", sent.clone(), &Then::Pass(RelayCount::LeftToServer));
        let count = self.out.len();
        self.out.remove(count - 2);
        self.last_in_tc(|f| (f.stimulus.gso, f.host_only) = ((1000, 3), true));
    }
}
