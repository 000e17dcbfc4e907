//! Which program carries a flow's frames when that changes: none may overtake those that went before.

use wavnet_common::{
    abi::{Mix, PortFlags},
    addr::Mac,
    datapath::{Verdict, port, port_xdp, underlay},
    fdb::{self, Key, Place, Seen},
    testing::{
        Devices, TestPacket, TestTables, World,
        frames::{Outer, UdpSum, summed, tagged, tcp4, udp4},
        world::{MAC_UNKNOWN, mac, remote},
    },
};

const DEVICES: Devices = Devices::NUMBERS;

fn tables() -> TestTables {
    TestTables::new(&World::new(&DEVICES), 64)
}

/// The VM at a place says something.
fn learn(tables: &TestTables, place: Place) {
    let outcome = fdb::learn(&tables.fdb, Key::new(0, Mac(MAC_UNKNOWN)), place, Seen::at(tables.now_ns), 0);
    assert_eq!(outcome, fdb::Learnt::New);
}

#[test]
fn from_the_underlay_xdp_takes_over_when_tc_has_seen_all_that_went_before() {
    let tables = tables();
    let frame = Outer::default().build(&udp4(MAC_UNKNOWN, remote(0), 80));
    let xdp = || {
        let mut packet = TestPacket::new(&frame);
        (underlay::xdp(&mut packet, &tables), packet)
    };
    let direct = Verdict::ToPort { index: 0, ifindex: DEVICES.ports[0] };
    let flooded = xdp();
    assert_eq!(flooded.0, Verdict::Pass);
    learn(&tables, Place::Port(0));
    // The flooded one is on its way still.
    let mut waiting = vec![flooded.1, xdp().1, xdp().1];
    assert!(waiting[1..].iter().all(|packet| packet.note.is_some()), "not handed over");
    for packet in &mut waiting {
        let (verdict, _) = xdp();
        assert_eq!(verdict, Verdict::HandedOver);
        assert_eq!(underlay::tc(packet, &tables), direct);
    }
    // Those that were handed over meanwhile.
    for _ in 0..waiting.len() {
        let mut packet = TestPacket::new(&udp4(MAC_UNKNOWN, remote(0), 80));
        packet.note = waiting[1].note;
        assert_eq!(underlay::tc(&mut packet, &tables), direct);
    }
    assert_eq!(xdp().0, direct);
}

/// What XDP has redirected leaves at the end of a poll, and TC sees what went up in the midst of it: a flow that went from one to the
/// other would overtake itself.
#[test]
fn from_the_underlay_a_flow_stays_xdps_whatever_goes_up_beside_it() {
    let tables = tables();
    let xdp = |inner: &[u8]| underlay::xdp(&mut TestPacket::new(&Outer::default().build(inner)), &tables);
    let known = udp4(mac(0), remote(0), 80);
    let direct = Verdict::ToPort { index: 0, ifindex: DEVICES.ports[0] };
    assert_eq!(xdp(&known), direct);
    for dst in [[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], MAC_UNKNOWN, remote(1)] {
        assert_eq!(xdp(&udp4(dst, remote(0), 80)), Verdict::Pass);
        assert_eq!(xdp(&known), direct, "beside frames to {dst:02x?}");
    }
}

/// The kernel takes a tag off what comes to TC: of a frame that was handed over it could not be told from an outer one.
#[test]
fn tagged_frames_that_xdp_leaves_to_tc_go_as_they_came() {
    let tables = tables();
    let frame = Outer::default().build(&tagged(&udp4(mac(5), remote(0), 80), 0x8100, 5));
    let mut packet = TestPacket::new(&frame);
    assert_eq!(underlay::xdp(&mut packet, &tables), Verdict::Pass);
    assert_eq!((packet.bytes(), packet.note), (frame.as_slice(), None));
    assert_eq!(underlay::tc(&mut packet, &tables), Verdict::ToPort { index: 5, ifindex: DEVICES.ports[5] });
}

#[test]
fn tcp_takes_the_same_way_before_and_after() {
    let tables = tables();
    let frame = Outer::default().build(&tcp4(mac(0), remote(0), 80));
    let xdp = |frame: &[u8]| underlay::xdp(&mut TestPacket::new(frame), &tables);
    assert_eq!(xdp(&frame), Verdict::HandedOver);
    // Nor does it hold up anybody else.
    let datagram = Outer::default().build(&udp4(mac(0), remote(0), 80));
    assert!(matches!(xdp(&datagram), Verdict::ToPort { .. }));
}

#[test]
fn what_tc_never_sees_is_not_waited_for_long() {
    let mut tables = tables();
    let frame = Outer::default().build(&udp4(MAC_UNKNOWN, remote(0), 80));
    assert_eq!(underlay::xdp(&mut TestPacket::new(&frame), &tables), Verdict::Pass);
    learn(&tables, Place::Port(0));
    assert_eq!(underlay::xdp(&mut TestPacket::new(&frame), &tables), Verdict::HandedOver);
    tables.now_ns += 200_000_000;
    assert!(matches!(underlay::xdp(&mut TestPacket::new(&frame), &tables), Verdict::ToPort { .. }));
}

#[test]
fn from_a_port_xdp_takes_over_when_tc_has_seen_all_that_went_before() {
    let tables = tables();
    let frame = summed(&udp4(MAC_UNKNOWN, mac(0), 80), UdpSum::Right);
    let xdp = || port_xdp(&mut TestPacket::new(&frame), &tables, DEVICES.ports[0]);
    let tc = || port::tc(&mut TestPacket::new(&frame), &tables, DEVICES.ports[0]);
    assert_eq!(xdp(), Verdict::Pass);
    learn(&tables, Place::Vtep(0));
    assert_eq!((xdp(), xdp()), (Verdict::Pass, Verdict::Pass));
    let to_wire = Verdict::ToWire { ifindex: DEVICES.underlay };
    assert_eq!((tc(), tc()), (to_wire, to_wire));
    assert_eq!(xdp(), Verdict::Pass);
    assert_eq!((tc(), tc()), (to_wire, to_wire));
    assert_eq!(xdp(), to_wire);
}

#[test]
fn from_a_port_a_flow_stays_xdps_whatever_goes_up_beside_it() {
    let tables = tables();
    let xdp = |frame: &[u8]| port_xdp(&mut TestPacket::new(frame), &tables, DEVICES.ports[0]);
    let datagram = |dst: [u8; 6], sport: u16, sum| {
        let mut frame = udp4(dst, mac(0), 80);
        frame[34..36].copy_from_slice(&sport.to_be_bytes());
        summed(&frame, sum)
    };
    let known = datagram(remote(0), 4000, UdpSum::Right);
    let to_wire = Verdict::ToWire { ifindex: DEVICES.underlay };
    assert_eq!(xdp(&known), to_wire);
    for (dst, sum) in [([0xff; 6], UdpSum::Right), (MAC_UNKNOWN, UdpSum::Right), (remote(0), UdpSum::Wrong)] {
        let sport = if dst == remote(0) { 4001 } else { 4000 };
        assert_eq!(xdp(&datagram(dst, sport, sum)), Verdict::Pass);
        assert_eq!(xdp(&known), to_wire, "beside frames to {dst:02x?}");
    }
    // A corrupted one is out of its place, and alone in that.
    assert_eq!(xdp(&datagram(remote(0), 4000, UdpSum::Wrong)), Verdict::Pass);
    assert_eq!(xdp(&known), to_wire);
}

/// It was never XDP's to pass, so it stands for nobody that XDP has passed.
#[test]
fn what_xdp_never_takes_does_not_open_the_gate() {
    let tables = tables();
    let frame = summed(&udp4(MAC_UNKNOWN, mac(0), 80), UdpSum::Right);
    let xdp = |frame: &[u8]| port_xdp(&mut TestPacket::new(frame), &tables, DEVICES.ports[0]);
    let tc = |frame: &[u8]| port::tc(&mut TestPacket::new(frame), &tables, DEVICES.ports[0]);
    assert_eq!(xdp(&frame), Verdict::Pass);
    learn(&tables, Place::Vtep(0));
    let to_wire = Verdict::ToWire { ifindex: DEVICES.underlay };
    let mut options = frame.clone();
    options[14] = 0x46;
    options.splice(34..34, [1; 4]);
    let fragment = |frame: &[u8]| {
        let mut frame = frame.to_vec();
        frame[20] = 0x20;
        frame
    };
    for other in [tagged(&frame, 0x8100, 5), fragment(&options), options] {
        assert_eq!((xdp(&other), tc(&other)), (Verdict::Pass, to_wire), "{other:02x?}");
        assert_eq!(xdp(&frame), Verdict::Pass, "it overtakes what waits: {other:02x?}");
    }
    for _ in 0..4 {
        assert_eq!(tc(&frame), to_wire);
    }
    assert_eq!(xdp(&frame), to_wire);
}

/// A tap's tag is in the frame when XDP sees it, and beside it when TC does; a veth's is beside it from the beginning.
#[test]
fn a_tag_beside_a_frame_was_in_it_if_it_comes_from_a_tap() {
    for tap in [true, false] {
        let mut tables = tables();
        tables.ports[0].flags |= PortFlags::XDP | if tap { PortFlags::TAP } else { 0 };
        let frame = summed(&udp4(MAC_UNKNOWN, mac(0), 80), UdpSum::Right);
        let xdp = |frame: &[u8]| {
            let mut packet = TestPacket::new(frame);
            packet.raw = tap;
            port_xdp(&mut packet, &tables, DEVICES.ports[0])
        };
        assert_eq!(xdp(&frame), Verdict::Pass);
        learn(&tables, Place::Vtep(0));
        let mut packet = TestPacket::new(&frame);
        packet.meta_tag = Some([0x8100, 5]);
        port::tc(&mut packet, &tables, DEVICES.ports[0]);
        assert_eq!(xdp(&frame) == Verdict::Pass, tap, "tap: {tap}");
    }
}

#[test]
fn a_flow_with_super_packets_is_tcs_for_a_while() {
    let mut tables = tables();
    let small = |tables: &TestTables, sport: u16| {
        let mut frame = udp4(remote(0), mac(0), 80);
        frame[34..36].copy_from_slice(&sport.to_be_bytes());
        port_xdp(&mut TestPacket::new(&summed(&frame, UdpSum::Right)), tables, DEVICES.ports[0])
    };
    let to_wire = Verdict::ToWire { ifindex: DEVICES.underlay };
    assert_eq!(small(&tables, 4000), to_wire);
    let long = summed(&udp4(remote(0), mac(0), 3000), UdpSum::Partial);
    assert_eq!(port_xdp(&mut TestPacket::new(&long), &tables, DEVICES.ports[0]), Verdict::Pass);
    let mut packet = TestPacket::new(&long);
    (packet.gso_size, packet.segments, packet.datagrams) = (1000, 3, true);
    assert_eq!(port::tc(&mut packet, &tables, DEVICES.ports[0]), to_wire);
    // This flow, and no other.
    assert_eq!(small(&tables, 4000), Verdict::Pass);
    port::tc(&mut TestPacket::new(&udp4(remote(0), mac(0), 80)), &tables, DEVICES.ports[0]);
    assert_eq!(small(&tables, 4001), to_wire);
    tables.now_ns += 40 << 30;
    tables.heartbeat_ns = tables.now_ns;
    assert_eq!(small(&tables, 4000), to_wire);
}

/// What the agent chooses by, of a port that has no XDP at first.
#[test]
fn an_adaptive_port_counts_what_xdp_would_carry_and_what_it_would_harm() {
    let mut tables = tables();
    let port = |tables: &mut TestTables, flags| tables.ports[0].flags = PortFlags::USED | flags;
    let mix = |tables: &TestTables| tables.mixes.borrow().get(&0).copied().unwrap_or_default();
    let datagram = summed(&udp4(remote(0), mac(0), 80), UdpSum::Right);
    let send = |tables: &TestTables| {
        let tc = |frame: &[u8], gso| {
            let mut packet = TestPacket::new(frame);
            (packet.gso_size, packet.segments, packet.datagrams) = gso;
            port::tc(&mut packet, tables, DEVICES.ports[0]);
        };
        tc(&datagram, (0, 0, false));
        // Those that XDP leaves to TC by their kind.
        tc(&tagged(&datagram, 0x8100, 5), (0, 0, false));
        tc(&udp4(MAC_UNKNOWN, mac(0), 80), (0, 0, false));
        tc(&tcp4(remote(0), mac(0), 80), (0, 0, false));
        // One each, however many it stands for.
        tc(&tcp4(remote(0), mac(0), 3000), (1000, 3, false));
        tc(&udp4(remote(0), mac(0), 3000), (1000, 3, true));
    };
    port(&mut tables, 0);
    send(&tables);
    assert_eq!(mix(&tables), Mix::default(), "nobody wants to know");
    port(&mut tables, PortFlags::ADAPTIVE);
    send(&tables);
    assert_eq!(mix(&tables), Mix { carried: 0, left: 1, super_packets: 2 });
    // The flow of the last one is TC's from the beginning.
    port(&mut tables, PortFlags::ADAPTIVE | PortFlags::XDP);
    let xdp = |frame: &[u8]| port_xdp(&mut TestPacket::new(frame), &tables, DEVICES.ports[0]);
    assert_eq!(xdp(&datagram), Verdict::Pass);
    port::tc(&mut TestPacket::new(&datagram), &tables, DEVICES.ports[0]);
    let mut other = udp4(remote(0), mac(0), 80);
    other[34..36].copy_from_slice(&4321u16.to_be_bytes());
    assert_eq!(xdp(&summed(&other, UdpSum::Right)), Verdict::ToWire { ifindex: DEVICES.underlay });
    assert_eq!(mix(&tables), Mix { carried: 1, left: 2, super_packets: 2 });
}

/// A datagram of a flow, by its source port.
fn of_flow(vm: u8, source_port: u16, payload: usize, sum: UdpSum) -> Vec<u8> {
    let mut frame = udp4(remote(0), mac(vm), payload);
    frame[34..36].copy_from_slice(&source_port.to_be_bytes());
    summed(&frame, sum)
}

#[test]
fn super_packets_of_other_flows_and_ports_change_no_flows_way() {
    let mut tables = tables();
    for port in [0, 2] {
        tables.ports[port].flags |= PortFlags::XDP;
    }
    let tables = tables;
    let small = |source_port| {
        let mut packet = TestPacket::new(&of_flow(0, source_port, 80, UdpSum::Right));
        port_xdp(&mut packet, &tables, DEVICES.ports[0])
    };
    let bulk = |port: u8, source_port| {
        let mut packet = TestPacket::new(&of_flow(port, source_port, 3000, UdpSum::Partial));
        (packet.gso_size, packet.segments, packet.datagrams) = (1000, 3, true);
        port::tc(&mut packet, &tables, DEVICES.ports[usize::from(port)])
    };
    bulk(0, 4000);
    let direct = Verdict::ToWire { ifindex: DEVICES.underlay };
    // One that shares its set with all of these would be found, and one that is put out of it.
    for source_port in 5000..9000 {
        bulk(if source_port % 2 == 0 { 0 } else { 2 }, source_port);
    }
    assert_eq!((small(4000), small(4001)), (Verdict::Pass, direct));
    assert!((10_000..14_000).all(|source_port| small(source_port) == direct), "an innocent flow is TC's");
}
