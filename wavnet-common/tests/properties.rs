//! What holds for every frame.

use proptest::prelude::*;
use wavnet_common::{
    abi::{Endpoint, MemberKey, Vtep},
    datapath::{OUTER_LEN, Verdict, flow, source_port},
    fdb::Place,
    testing::{
        Devices, Generator, Hook, Outcome, Stimulus, TestPacket, TestTables, World,
        frames::{ethernet, ipv4_udp},
        run,
        world::{self, mac, remote},
    },
};

const DEVICES: &Devices = &Devices::NUMBERS;

fn tables() -> TestTables {
    TestTables::new(&World::new(DEVICES), 64)
}

/// The world as VTEP 0 sees it: we are its peer, and port 0's VM is at its place.
fn tables_of_the_peer() -> TestTables {
    let mut world = World::new(DEVICES);
    world.config.local_v4 = world::vtep_addr(0);
    let (_, vtep) = &mut world.vteps[0];
    *vtep = Vtep::new(0, &Endpoint::plain(world::LOCAL, world::UDP_PORT), &vtep.next_hop());
    world.members[0].0 = MemberKey { vni: world::vni(0), addr: world::LOCAL };
    world.fdb = vec![(0, mac(0), Place::Vtep(0), false), (0, remote(0), Place::Port(4), false)];
    TestTables::new(&world, 64)
}

fn ether_payload() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let ip = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<(u16, u16)>(), prop::collection::vec(any::<u8>(), 0..1400))
        .prop_map(|(src, dst, ports, payload)| (0x0800, ipv4_udp(src, dst, ports, &payload)));
    let any = (any::<u16>(), prop::collection::vec(any::<u8>(), 1..1400));
    prop_oneof![ip, any]
}

fn encapsulate(frame: &[u8]) -> Outcome {
    run(&mut tables(), DEVICES, &Stimulus::new(Hook::Port(0), frame.to_vec()))
}

/// Where a frame goes, sealed or not.
fn interface(verdict: Verdict) -> Option<u32> {
    match verdict {
        Verdict::ToPort { ifindex, .. } | Verdict::ToWire { ifindex } | Verdict::Sealed { ifindex } => Some(ifindex),
        _ => None,
    }
}

proptest! {
    #[test]
    fn a_peer_gets_the_frame_that_was_sent((kind, payload) in ether_payload()) {
        let frame = ethernet(remote(0), mac(0), kind, &payload);
        let sent = encapsulate(&frame);
        prop_assert_eq!(sent.verdict, Verdict::ToWire { ifindex: DEVICES.underlay });
        for hook in [Hook::UnderlayXdp, Hook::UnderlayTc] {
            let got = run(&mut tables_of_the_peer(), DEVICES, &Stimulus::new(hook, sent.bytes.clone()));
            let port = Verdict::ToPort { index: 4, ifindex: DEVICES.ports[4] };
            let by_gro = hook == Hook::UnderlayXdp && got.verdict == Verdict::HandedOver && got.noted == Some((4, 0));
            prop_assert!(by_gro || got.verdict == port, "{:?}", got.verdict);
            prop_assert_eq!(&got.bytes[..frame.len()], &frame[..]);
            prop_assert!(got.bytes[frame.len()..].iter().all(|b| *b == 0) && got.bytes.len() <= frame.len().max(60));
        }
    }

    #[test]
    fn outer_headers_are_what_an_independent_parser_reads((kind, payload) in ether_payload()) {
        let frame = ethernet(remote(0), mac(0), kind, &payload);
        let sent = encapsulate(&frame).bytes;
        let parsed = etherparse::SlicedPacket::from_ethernet(&sent).unwrap();
        let eth = parsed.link.unwrap().to_header().unwrap().ethernet2().unwrap();
        prop_assert_eq!((eth.destination, eth.source), (world::next_hop_mac(0), world::UNDERLAY_MAC));
        let Some(etherparse::NetSlice::Ipv4(ip)) = parsed.net else { panic!("no IPv4") };
        let ip = ip.header().to_header();
        prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        prop_assert_eq!((ip.source, ip.destination), (world::LOCAL, world::vtep_addr(0)));
        prop_assert_eq!(usize::from(ip.total_len), sent.len() - 14);
        prop_assert!(ip.dont_fragment && !ip.more_fragments && ip.time_to_live == 64 && ip.options.is_empty());
        let Some(etherparse::TransportSlice::Udp(udp)) = parsed.transport else { panic!("no UDP") };
        prop_assert_eq!((udp.destination_port(), udp.checksum()), (4789, 0));
        prop_assert_eq!(usize::from(udp.length()), sent.len() - 34);
        prop_assert!(udp.source_port() >= 49152);
        prop_assert_eq!(&udp.payload()[..8], &[8, 0, 0, 0, 0, 0, 100, 0]);
        prop_assert_eq!(&sent[OUTER_LEN..], &frame[..]);
    }

    #[test]
    fn a_flow_keeps_its_source_port(ports: (u16, u16), one: Vec<u8>, two: Vec<u8>) {
        let port = |payload: &[u8]| {
            let frame = ethernet(remote(0), mac(0), 0x0800, &ipv4_udp([10, 0, 0, 2], [10, 0, 0, 1], ports, payload));
            source_port(flow(&TestPacket::new(&frame)).hash)
        };
        prop_assert_eq!(port(&one), port(&two));
    }

    /// What XDP on a port carries goes where TC would send it, byte for byte, counted alike; but for a checksum that TC leaves to the NIC.
    #[test]
    fn xdp_on_a_port_does_what_tc_would_do(seed: u64) {
        for mut stimulus in Generator::new(seed, DEVICES).take(200) {
            let place = match stimulus.hook {
                Hook::Port(place) | Hook::PortXdp(place) => place,
                _ => continue,
            };
            (stimulus.hook, stimulus.errand, stimulus.raw) = (Hook::PortXdp(place), None, true);
            let xdp = run(&mut tables(), DEVICES, &stimulus);
            if xdp.verdict == Verdict::Pass {
                continue;
            }
            let tc = run(&mut tables(), DEVICES, &Stimulus { hook: Hook::Port(place), ..stimulus.clone() });
            prop_assert_eq!(interface(xdp.verdict), interface(tc.verdict));
            prop_assert_eq!(&xdp.tally, &tc.tally);
            let differing: Vec<usize> = (0..xdp.bytes.len()).filter(|i| xdp.bytes[*i] != tc.bytes[*i]).collect();
            // Behind the outer header, if there is one: Ethernet, IPv4 or IPv6, and the sum in the UDP header.
            let outer = if matches!(tc.verdict, Verdict::ToWire { .. }) { OUTER_LEN } else { 0 };
            let sum = outer + if xdp.bytes[outer + 12] == 0x08 { 40 } else { 60 };
            prop_assert!(differing.iter().all(|i| (sum..sum + 2).contains(i)), "{differing:?} of {:02x?}", stimulus);
            prop_assert_eq!(xdp.bytes.len(), tc.bytes.len());
        }
    }

    #[test]
    fn nothing_breaks_the_rules(seed: u64) {
        let mut tables = tables();
        for stimulus in Generator::new(seed, DEVICES).take(50) {
            let outcome = run(&mut tables, DEVICES, &stimulus);
            outcome.check_rules(&stimulus, DEVICES).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn every_length_is_safe_everywhere(seed: u64, len in 0usize..80, linear in 0usize..80) {
        let stimulus = Generator::new(seed, DEVICES).next().unwrap();
        for hook in [Hook::UnderlayXdp, Hook::UnderlayTc, Hook::PortXdp(0), Hook::Port(0)] {
            let frame = stimulus.frame[..len.min(stimulus.frame.len())].to_vec();
            let stimulus = Stimulus { linear, ..Stimulus::new(hook, frame) };
            let outcome = run(&mut tables(), DEVICES, &stimulus);
            outcome.check_rules(&stimulus, DEVICES).map_err(TestCaseError::fail)?;
        }
    }
}

#[test]
fn flows_spread_over_source_ports() {
    let ports: std::collections::HashSet<u16> = (0..1024)
        .map(|i| {
            let packet = ipv4_udp([10, 0, 0, 2], [10, 0, 0, 1], (1024 + i, 80), b"x");
            source_port(flow(&TestPacket::new(&ethernet(remote(0), mac(0), 0x0800, &packet))).hash)
        })
        .collect();
    // 1,024 balls in 16,384 bins leave 993 bins occupied on average.
    assert!(ports.len() > 950, "{} of 1024 flows have a source port of their own", ports.len());
}
