//! What holds for everything that is relayed.

use std::num::NonZeroU32;

use proptest::prelude::*;
use wavnet_common::{
    abi::relay::{RelayAddr, RelayCount, StunSource},
    relay::{Hook, Verdict},
    testing::{
        frames::{Outer, UdpSum, summed},
        relay::{
            OTHER, RelayDevices, RelayStimulus, RelayTables, RelayWorld, SERVER, hop_mac, host, label, link_mac,
            run_relay,
        },
    },
};

const DEVICES: &RelayDevices = &RelayDevices::NUMBERS;

/// A payload with a label: a frame, control, or a pulse.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 4..most);
    let first = |byte| move |rest: Vec<u8>| [&[byte, 0, 0, 0][..], &rest].concat();
    prop_oneof![
        (any::<u8>(), bytes(1500)).prop_map(move |(flags, rest)| first(flags | 8)(rest)),
        bytes(1500).prop_map(first(b'W')),
        any::<[u8; 2]>().prop_map(|pulse| [b"P\0\0\0", &pulse[..]].concat()),
    ]
}

fn labelled(payload: &[u8], from: u8, to: u8) -> Vec<u8> {
    let [_, label @ ..] = label(from, to).get().to_be_bytes();
    [&payload[..1], &label, &payload[4..]].concat()
}

fn sent(from: u8, payload: &[u8], fields: &Outer) -> Vec<u8> {
    let (src, dst) = (host(from), SERVER);
    let outer = Outer { src: src.addr, udp_src: src.port, dst: dst.addr, udp_dst: dst.port, ..fields.clone() };
    outer.carry(payload)
}

proptest! {
    /// What a host sends back as it came arrives as it was sent.
    #[test]
    fn there_and_back_again_is_the_same(payload in payload(), tos: u8, id: u16, udp_checksum: u16, ttl in 2u8.., hook: bool) {
        let hook = if hook { Hook::Xdp } else { Hook::Tc };
        let world = RelayWorld::new(DEVICES);
        let mut tables = RelayTables::new(&world);
        let fields = Outer { tos, id, udp_checksum, ttl, ..Outer::default() };
        let mut relay = |from, payload: &[u8]| {
            let frame = sent(from, payload, &fields);
            // One in 65,536 looks as if a NIC had to complete it; what XDP passes is not counted by it.
            prop_assume!(frame != summed(&frame, UdpSum::Partial));
            let stimulus = RelayStimulus::new(hook, DEVICES.nic, frame);
            let outcome = run_relay(&mut tables, &stimulus);
            prop_assert_eq!(outcome.check_rules(&stimulus, &world), Ok(()));
            prop_assert!(!matches!(outcome.verdict, Verdict::Pass | Verdict::Drop), "{:?}", outcome);
            Ok(outcome.bytes[42..].to_vec())
        };
        let there = labelled(&payload, 1, 2);
        let arrived = relay(1, &there)?;
        prop_assert_eq!(&arrived, &labelled(&payload, 2, 1));
        prop_assert_eq!(relay(2, &arrived)?, there);
    }

    /// Whatever is wrong with a frame, or with how it comes.
    #[test]
    fn the_rules_hold(
        payload in payload(),
        (from, to) in (1u8..8, 1u8..8),
        damage in prop::collection::vec((0usize..80, any::<u8>()), 0..4),
        (hook, gso, linear) in (any::<bool>(), any::<bool>(), 14usize..2000),
    ) {
        let world = RelayWorld::new(DEVICES);
        let mut frame = sent(from, &labelled(&payload, from, to), &Outer::default());
        for (at, byte) in damage {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        let hook = if hook { Hook::Xdp } else { Hook::Tc };
        let mut stimulus = RelayStimulus { linear, ..RelayStimulus::new(hook, DEVICES.nic, frame) };
        stimulus.incomplete = gso;
        if gso && hook == Hook::Tc {
            stimulus.gso = (1000, 2);
        }
        let outcome = run_relay(&mut RelayTables::new(&world), &stimulus);
        prop_assert_eq!(outcome.check_rules(&stimulus, &world), Ok(()));
    }

    /// Who is answered by XDP has asked, whatever is wrong with a request; and a right one is answered.
    #[test]
    fn only_who_asks_is_answered(
        (id, from, port) in any::<([u8; 12], [u8; 4], u16)>(),
        damage in prop::collection::vec((0usize..62, any::<u8>()), 0..3),
        (summed_up, has_other, spent, headroom) in (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..64),
    ) {
        let mut world = RelayWorld::new(DEVICES);
        if !has_other {
            world.config.other_port = [0; 2];
        }
        let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &id].concat();
        let fields = Outer { eth_dst: link_mac(0).0, eth_src: hop_mac(1).0, ..Outer::default() };
        let outer = Outer { src: from, udp_src: port, dst: SERVER.addr, udp_dst: SERVER.port, ..fields };
        let whole = outer.carry(&request);
        let mut frame = if summed_up { summed(&whole, UdpSum::Right) } else { whole };
        let is_host = !matches!(from[0], 0 | 127 | 224..) && ![SERVER.addr, OTHER.addr].contains(&from);
        let is_right = damage.is_empty() && port != 0 && is_host;
        for (at, byte) in damage {
            frame[at] = byte;
        }
        let more = if has_other { 48 } else { 36 };
        let stimulus = RelayStimulus { headroom, spent, ..RelayStimulus::new(Hook::Xdp, DEVICES.nic, frame) };
        let outcome = run_relay(&mut RelayTables::new(&world), &stimulus);
        prop_assert_eq!(outcome.check_rules(&stimulus, &world), Ok(()));
        if is_right {
            let [answered, refused] = [RelayCount::StunAnswered, RelayCount::StunTooFast]
                .map(|count| outcome.counts.contains_key(&count));
            prop_assert_eq!((answered, refused), (headroom >= more && !spent, spent), "{:?}", outcome);
        }
    }
}

/// Through the program's code: in whatever order times come, an address is answered a second's worth and what the rate allows, and
/// others are answered as if there were no such one.
#[test]
fn an_address_is_answered_no_more_than_it_may_be() {
    const SECOND: u64 = 1_000_000_000;
    let mut world = RelayWorld::new(DEVICES);
    let per_second = 50;
    world.config.stun_answer_ns = StunSource::answer_ns(NonZeroU32::new(per_second));
    let mut tables = RelayTables::new(&world);
    // Two that do not share a bucket.
    let (flood, other) = (host(1), host(2));
    let bucket =
        |at: RelayAddr| StunSource::index(0, u32::from_ne_bytes(at.addr).into()) as usize % tables.sources.len();
    assert_ne!(bucket(flood), bucket(other));
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let mut ask = |at: RelayAddr, port: u16, now| {
        let fields = Outer { eth_dst: link_mac(0).0, eth_src: hop_mac(1).0, ..Outer::default() };
        let outer = Outer { src: at.addr, udp_src: port, dst: SERVER.addr, udp_dst: SERVER.port, ..fields };
        tables.now_ns = now;
        let outcome = run_relay(&mut tables, &RelayStimulus::new(Hook::Xdp, DEVICES.nic, outer.carry(&request)));
        match outcome.verdict {
            Verdict::Back => assert_eq!(outcome.counts, [(RelayCount::StunAnswered, 1)].into()),
            _ => assert_eq!((outcome.verdict, outcome.counts), (Verdict::Drop, [(RelayCount::StunTooFast, 1)].into())),
        }
        outcome.verdict == Verdict::Back
    };
    let at_once = (0..1000).filter(|n| ask(flood, 1 + n, 9 * SECOND)).count();
    assert_eq!(at_once, per_second as usize, "whatever ports they come from");
    // Three seconds, of which each pair of requests comes the wrong way round.
    let later = (0..3000_u64).filter(|n| ask(flood, 9, 9 * SECOND + (n ^ 1) * SECOND / 1000)).count();
    assert!((3 * per_second as usize - 1..=3 * per_second as usize).contains(&later), "{later}");
    assert_eq!((0..per_second).filter(|_| ask(other, 9, 12 * SECOND)).count(), per_second as usize);
}
