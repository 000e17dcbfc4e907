//! What a fixture cannot say: tables that are out of the ordinary, frames that the kernel keeps in pieces or in bulk.

use wavnet_common::{
    abi::{Hold, PortFlags},
    datapath::{Note, Verdict},
    reason::Reason,
    testing::{
        Devices, Hook, Outcome, Stimulus, TestTables, World,
        frames::{Outer, arp, tcp4, udp4},
        run,
        world::{UDP_PORT, mac, remote},
    },
};

fn outcome(world: &World, stimulus: &Stimulus) -> Outcome {
    run(&mut TestTables::new(world, 64), &Devices::NUMBERS, stimulus)
}

fn world() -> World {
    World::new(&Devices::NUMBERS)
}

#[test]
fn a_tag_beside_the_data_makes_an_underlay_frame_another_networks() {
    let frame = Outer::default().build(&udp4(mac(0), remote(0), 100));
    let mut stimulus = Stimulus::new(Hook::UnderlayTc, frame.clone());
    assert!(matches!(outcome(&world(), &stimulus).verdict, Verdict::ToPort { .. }));
    stimulus.meta_tag = Some([0x8100, 7]);
    let tagged = outcome(&world(), &stimulus);
    assert_eq!((tagged.verdict, tagged.bytes), (Verdict::Pass, frame));
}

#[test]
fn a_tag_that_the_nic_took_off_is_seen_behind_xdp() {
    let inner = tcp4(mac(0), remote(0), 100);
    let mut stimulus = Stimulus::new(Hook::UnderlayTc, inner);
    stimulus.note = Some(Note::new(TestTables::COOKIE, 0, 0));
    assert!(matches!(outcome(&world(), &stimulus).verdict, Verdict::ToPort { index: 0, .. }));
    stimulus.meta_tag = Some([0x8100, 7]);
    assert_eq!(outcome(&world(), &stimulus).verdict, Verdict::Drop(Reason::OuterTagged));
}

#[test]
fn datagrams_that_gro_merged_are_not_taken_for_one_frame() {
    // Two VXLAN datagrams as rx-udp-gro-forwarding merges them: the second's VXLAN header stands in the first's payload. An inner length
    // of zero or more than there is makes the bytes look like one super-packet.
    for length in [1500u16, 0, 3000] {
        let mut inner = tcp4(mac(0), remote(0), 1514);
        inner[16..18].copy_from_slice(&length.to_be_bytes());
        let mut merged = Outer::default().build(&inner);
        merged.extend_from_slice(&Outer::default().build(&inner)[42..]);
        let mut stimulus = Stimulus::new(Hook::UnderlayTc, merged);
        stimulus.gso = (1514 + 8, 2);
        stimulus.datagrams = true;
        // GRO merges only what has a checksum; without one it is a tunnel's.
        assert!(matches!(outcome(&world(), &stimulus).verdict, Verdict::ToPort { .. }), "{length}");
        stimulus.frame[40..42].copy_from_slice(&[0x12, 0x34]);
        assert_eq!(outcome(&world(), &stimulus).verdict, Verdict::Drop(Reason::OuterAggregated), "{length}");
        stimulus.datagrams = false;
        assert!(matches!(outcome(&world(), &stimulus).verdict, Verdict::ToPort { .. }), "{length}");
    }
}

#[test]
fn a_port_that_is_down_is_a_counted_drop_from_either_side() {
    let mut world = world();
    for (_, port) in world.ports.iter_mut().filter(|(index, _)| *index == 1) {
        port.flags |= PortFlags::DOWN;
    }
    let inner = udp4(mac(1), remote(0), 100);
    for hook in [Hook::UnderlayXdp, Hook::UnderlayTc] {
        let outcome = outcome(&world, &Stimulus::new(hook, Outer::default().build(&inner)));
        assert_eq!(outcome.verdict, Verdict::Drop(Reason::PortDown), "{hook:?}");
    }
    let local = outcome(&world, &Stimulus::new(Hook::Port(0), udp4(mac(1), mac(0), 100)));
    assert_eq!(local.verdict, Verdict::Drop(Reason::PortDown));
}

#[test]
fn headers_in_another_buffer_go_up_from_xdp_instead_of_being_dropped() {
    let frame = Outer::default().build(&udp4(mac(0), remote(0), 100));
    for linear in [42, 49, 50, 63] {
        let mut stimulus = Stimulus::new(Hook::UnderlayXdp, frame.clone());
        stimulus.linear = linear;
        let outcome = outcome(&world(), &stimulus);
        assert_eq!((outcome.verdict, &outcome.bytes), (Verdict::Pass, &frame), "{linear} bytes can be read");
    }
}

#[test]
fn frames_of_a_super_packet_that_nobody_counted_are_counted() {
    let mut stimulus = Stimulus::new(Hook::Port(0), tcp4(remote(0), mac(0), 54 + 10 * 1000 - 1));
    stimulus.gso = (1000, 0);
    let mut tables = TestTables::new(&world(), 64);
    let outcome = run(&mut tables, &Devices::NUMBERS, &stimulus);
    assert!(matches!(outcome.verdict, Verdict::ToWire { .. }), "{:?}", outcome.verdict);
    assert_eq!(outcome.tally.traffic(wavnet_common::datapath::Of::Port(0)).rx_frames, 10);
}

#[test]
fn a_member_of_another_vni_is_none() {
    // An element of the map that was given to another key while it was read.
    let mut world = world();
    world.members.iter_mut().for_each(|(_, member)| member.vni += 1);
    let frame = Outer::default().build(&arp(remote(0)));
    let outcome = outcome(&world, &Stimulus::new(Hook::UnderlayTc, frame));
    assert!(matches!(outcome.verdict, Verdict::Drop(Reason::NotMember)), "{:?}", outcome.verdict);
}

/// What is held back comes before what is sent, as far as the tables know.
#[test]
fn frames_are_sent_again_when_all_that_were_held_back_have_been() {
    let devices = &Devices::NUMBERS;
    let mut tables = TestTables::new(&world(), 64);
    let stimulus = Stimulus::new(Hook::Port(8), udp4(remote(7), mac(8), 100));
    let (held, sent) = (Verdict::Held { ifindex: devices.hold }, Verdict::ToWire { ifindex: devices.underlay });
    let send = |tables: &mut TestTables| run(tables, devices, &stimulus).verdict;
    assert_eq!([send(&mut tables), send(&mut tables)], [held; 2]);
    tables.holds[7].set(Hold::Drain);
    tables.holds[7].release(1);
    assert_eq!(send(&mut tables), held, "two were held back, and one was sent on");
    tables.holds[7].release(2);
    assert_eq!(send(&mut tables), held, "three, and two");
    tables.holds[7].release(4);
    assert_eq!(send(&mut tables), sent);
    // Another peer's frames have nothing to do with it.
    tables.holds[7].set(Hold::Hold);
    let other = Stimulus::new(Hook::Port(8), udp4(remote(4), mac(8), 100));
    assert_eq!(run(&mut tables, devices, &other).verdict, sent);
    // Where there is nothing to hold frames back, they are not held back.
    tables.config.as_mut().unwrap().hold_ifindex = 0;
    assert_eq!(send(&mut tables), sent);
}

#[test]
fn nothing_is_ours_on_a_host_without_an_address() {
    let mut world = world();
    world.config.local_v4 = [0; 4];
    for port in [UDP_PORT, 6001] {
        let frame = Outer { dst: [0; 4], udp_dst: port, ..Outer::default() }.carry(&[0, 5]);
        for hook in [Hook::UnderlayXdp, Hook::UnderlayTc] {
            assert_eq!(outcome(&world, &Stimulus::new(hook, frame.clone())).verdict, Verdict::Pass, "{hook:?}");
        }
    }
}
