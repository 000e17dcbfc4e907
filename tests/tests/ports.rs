//! Ports: taps, patterns, VLAN tags, MTUs.

use anyhow::{Context, Result, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Need,
    frame::{QINQ, VLAN, has_mark, marked, tagged},
    host::{Vm, VmSpec},
    overlay::{Both, Lone, SOON, Shape, blue, ip, mac, until},
    ping::{self, Ping},
    raw::RawSocket,
    stream,
    tap::Tap,
    wait_until,
};
use wavnet_user::api::model::{AttachState, Origin};

const NEEDS: &[Need] = &[Need::Wavnet];

#[test]
fn a_tap_with_a_reader_process_is_a_port() {
    lab::run("a_tap_with_a_reader_process_is_a_port", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let vm = net.hosts[0].tap_vm(lab, &VmSpec::new("t", mac(7), ip(7)))?;
        net.agents[0].cli("port add tap-t --vni 100")?;
        net.agents[0].wait_port("tap-t", AttachState::Attached)?;
        ping::once(&vm.ns, ip(2), 1472, SOON)?;
        ping::once(&net.a.ns, ip(7), 1472, SOON)?;
        let pings = Ping::start(&net.b.ns, ip(7), std::time::Duration::from_millis(3))?;
        stream::bulk(&net.b.ns, ip(2), &vm.ns, 2_000_000)?;
        stream::bulk(&vm.ns, ip(7), &net.b.ns, 2_000_000)?;
        let loss = pings.stop();
        assert_eq!(loss.lost(), 0, "{loss:?}");
        Ok(())
    });
}

#[test]
fn frames_reach_a_tap_as_they_were_sent() {
    lab::run("frames_reach_a_tap_as_they_were_sent", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c.port("tap0", blue()))?;
        let tap = Tap::create(&net.host.ns, "tap0", 1500)?;
        net.agent.wait_port("tap0", AttachState::Attached)?;
        let out = marked(mac(0x77), mac(5), "from the tap");
        tap.send(&out)?;
        let packet = net.wire.expect("the tap's frame on the wire", SOON, |f| has_mark(f, "from the tap"))?;
        assert_eq!(packet[50..], out[..], "the inner frame is not what was sent");
        for length in [60, 61, 200, 1514] {
            let mut inner = marked(mac(5), mac(0x77), "to the tap");
            inner.resize(length, 0xa5);
            net.inject(&net.outer(), &inner)?;
            let mut got = None;
            wait_until("the frame at the tap", SOON, || {
                got = tap.recv()?.filter(|f| has_mark(f, "to the tap"));
                Ok(got.is_some())
            })?;
            assert_eq!(got.as_ref(), Some(&inner), "a frame of {length} B changed on its way");
        }
        Ok(())
    });
}

#[test]
fn ports_attach_by_pattern_as_links_come_and_go() {
    lab::run("ports_attach_by_pattern_as_links_come_and_go", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c.port("tap-*", blue()).port("vnet?", blue()))?;
        for round in 0..2 {
            let vm = net.host.tap_vm(lab, &VmSpec::new(&format!("x{round}"), mac(9), ip(9)))?;
            let port = net.agent.wait_port(&vm.port, AttachState::Attached)?;
            assert_eq!((port.origin, port.vni), (Origin::Pattern, blue()));
            ping::once(&vm.ns, ip(1), 56, SOON)?;
            let name = vm.port.clone();
            drop(vm);
            wait_until("the port to leave the list", SOON, || {
                Ok(!net.agent.ports()?.iter().any(|p| p.interface == name && p.state == AttachState::Attached))
            })?;
        }
        // A link that gets a matching name is a port from then on.
        let other = Tap::create(&net.host.ns, "other0", 1500)?;
        net.host.ns.ip("link set dev other0 down")?;
        net.host.ns.ip("link set dev other0 name vnet7")?;
        net.host.ns.ip("link set dev vnet7 up")?;
        net.agent.wait_port("vnet7", AttachState::Attached)?;
        drop(other);
        Ok(())
    });
}

#[test]
fn vlan_tags_pass_through() {
    lab::run("vlan_tags_pass_through", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let (a, b) = (RawSocket::open(&net.a.ns, Vm::NIC)?, RawSocket::open(&net.b.ns, Vm::NIC)?);
        for (mark, dst) in [("to-all", Mac::BROADCAST), ("to-b", mac(2))] {
            let plain = marked(dst, mac(1), mark);
            let double = tagged(&tagged(&plain, VLAN, 7), QINQ, 9);
            for frame in [tagged(&plain, VLAN, 42), tagged(&plain, VLAN, 0xe000 | 4094), double] {
                a.send(&frame)?;
                let got = b.expect("a tagged frame", SOON, |f| has_mark(f, mark))?;
                assert_eq!(got, frame, "{mark}: a tag was lost or changed");
            }
        }
        Ok(())
    });
}

#[test]
fn a_full_sized_frame_with_a_tag_still_fits() {
    lab::run("a_full_sized_frame_with_a_tag_still_fits", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let (a, b) = (RawSocket::open(&net.a.ns, Vm::NIC)?, RawSocket::open(&net.b.ns, Vm::NIC)?);
        let mut frame = tagged(&marked(mac(2), mac(1), "long"), VLAN, 42);
        frame.resize(1518, 0x5a);
        a.send(&frame)?;
        assert_eq!(b.expect("the long frame", SOON, |f| has_mark(f, "long"))?, frame);
        Ok(())
    });
}

#[test]
fn a_port_may_discard_tagged_frames_both_ways() {
    lab::run("a_port_may_discard_tagged_frames_both_ways", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c.port_discarding_tags("p-c", blue()))?;
        let c = net.host.vm(lab, &VmSpec::new("c", mac(3), ip(3)))?;
        net.agent.wait_ready()?;
        let c_nic = RawSocket::open(&c.ns, Vm::NIC)?;
        // The other end knows c, and so does the agent.
        c_nic.send(&marked(Mac::BROADCAST, mac(3), "hello"))?;
        until(&net.wire, "hello")?;
        let before = net.agent.drops(Reason::VlanTagged)?;
        let tag = |dst, src, mark| tagged(&marked(dst, src, mark), VLAN, 5);
        c_nic.send(&tag(Mac::BROADCAST, mac(3), "tag-from-c"))?;
        c_nic.send(&tag(mac(1), mac(3), "tag-from-c"))?;
        net.inject(&net.outer(), &tag(mac(3), mac(0x10), "tag-to-c"))?;
        net.inject(&net.outer(), &tag(Mac::BROADCAST, mac(0x10), "tag-to-all"))?;
        net.vm_nic.send(&tag(mac(3), mac(1), "tag-to-c"))?;
        // The port without the option gets the flooded one.
        let at_a = until(&net.vm_nic, "tag-to-all")?;
        assert!(!at_a.iter().any(|f| has_mark(f, "tag-from-c")));
        net.inject(&net.outer(), &marked(mac(3), mac(0x10), "fence"))?;
        let at_c = until(&c_nic, "fence")?;
        assert!(!at_c.iter().any(|f| has_mark(f, "tag-to")), "a tagged frame reached the port");
        assert!(!net.fence_out("end")?.iter().any(|f| has_mark(f, "tag-from-c")), "a tagged frame left the port");
        wait_until("five drops for their tags", SOON, || Ok(net.agent.drops(Reason::VlanTagged)? == before + 5))
    });
}

#[test]
fn a_jumbo_underlay_carries_jumbo_frames() {
    lab::run("a_jumbo_underlay_carries_jumbo_frames", NEEDS, |lab| {
        let shape = Shape { underlay_mtu: 9100, vm_mtu: 9000, ..Shape::default() };
        let net = Both::start(lab, shape)?;
        for (from, to) in [(&net.a, ip(2)), (&net.b, ip(1))] {
            ping::once(&from.ns, to, 8972, SOON)?;
            ping::once(&from.ns, to, 3500, SOON)?;
        }
        stream::bulk(&net.b.ns, ip(2), &net.a.ns, 4_000_000)?;
        stream::bulk(&net.a.ns, ip(1), &net.b.ns, 4_000_000)?;
        // A tap takes no redirect of what is in several buffers.
        let tap = net.hosts[0].tap_vm(lab, &VmSpec { mtu: 9000, ..VmSpec::new("t", mac(7), ip(7)) })?;
        net.agents[0].cli("port add tap-t --vni 100")?;
        net.agents[0].wait_port("tap-t", AttachState::Attached)?;
        for size in [56, 3000, 3500, 8972] {
            ping::once(&net.b.ns, ip(7), size, SOON).with_context(|| format!("{size} bytes to a tap"))?;
        }
        stream::bulk(&tap.ns, ip(7), &net.b.ns, 4_000_000)
    });
}

#[test]
fn what_does_not_fit_is_counted() {
    lab::run("what_does_not_fit_is_counted", NEEDS, too_long);
}

fn too_long(lab: &lab::Lab) -> Result<()> {
    let net = Lone::start(lab, &[], |c| c.port("p-c", blue()))?;
    let c = net.host.vm(lab, &VmSpec { mtu: 3000, ..VmSpec::new("c", mac(3), ip(3)) })?;
    net.agent.wait_ready()?;
    let c_nic = RawSocket::open(&c.ns, Vm::NIC)?;
    net.inject(&net.outer(), &marked(mac(1), mac(0x10), "hello"))?;
    until(&net.vm_nic, "hello")?;
    let long = |dst, length| {
        let mut frame = marked(dst, mac(3), "long");
        frame.resize(length, 0);
        frame
    };
    // The underlay's 1600 leave 1564 for an inner frame (1600 - 50 + 14).
    for (length, dst, reason) in [
        (1565, mac(0x10), Reason::ExceedsUnderlayMtu),
        (1565, mac(1), Reason::ExceedsPortMtu),
        (2900, mac(0x10), Reason::ExceedsUnderlayMtu),
    ] {
        net.vm_nic.send(&marked(Mac::BROADCAST, mac(1), "here I am"))?;
        wait_until("the VM's MAC to be learned", SOON, || Ok(net.agent.fdb()?.iter().any(|e| e.mac == mac(1))))?;
        let before = net.agent.drops(reason)?;
        c_nic.send(&long(dst, length))?;
        wait_until(&format!("a frame of {length} B to {dst} to be counted"), SOON, || {
            Ok(net.agent.drops(reason)? == before + 1)
        })?;
    }
    c_nic.send(&long(mac(0x10), 1564))?;
    let packet = net.wire.expect("the longest frame that fits", SOON, |f| has_mark(f, "long"))?;
    assert_eq!(packet.len(), 1564 + 50);
    Ok(())
}

#[test]
fn a_port_that_is_down_is_counted_and_left_out_of_flooding() {
    lab::run("a_port_that_is_down_is_counted_and_left_out_of_flooding", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c.port("p-c", blue()))?;
        let c = net.host.vm(lab, &VmSpec::new("c", mac(3), ip(3)))?;
        net.agent.wait_ready()?;
        let c_nic = RawSocket::open(&c.ns, Vm::NIC)?;
        c_nic.send(&marked(Mac::BROADCAST, mac(3), "here I am"))?;
        until(&net.wire, "here I am")?;
        net.host.ns.ip(&format!("link set dev {} down", c.port))?;
        let down = || net.agent.drops(Reason::PortDown);
        // Learned entries of a port that went down may be gone: a static one stays.
        net.agent.cli(&format!("fdb add --vni 100 --mac {} --port {}", mac(4), c.port))?;
        wait_until("unicast from the wire to the port to be counted", SOON, || {
            let before = down()?;
            net.inject(&net.outer(), &marked(mac(4), mac(0x10), "unicast"))?;
            net.fence_in("fence")?;
            Ok(down()? > before)
        })?;
        wait_until("unicast from a VM to the port to be counted", SOON, || {
            let before = down()?;
            net.vm_nic.send(&marked(mac(4), mac(1), "unicast"))?;
            net.fence_out("fence")?;
            Ok(down()? > before)
        })?;
        // Flooding leaves it out: nothing is tried and refused, and everybody else gets his copy.
        let traffic = || net.agent.port(&c.port).map(|p| (p.traffic.tx_frames, p.traffic.tx_bytes));
        let before = (traffic()?, net.agent.dropped()?);
        net.inject(&net.outer(), &marked(Mac::BROADCAST, mac(0x10), "flooded"))?;
        until(&net.vm_nic, "flooded")?;
        net.fence_out("flooded by a")?;
        ensure!((traffic()?, net.agent.dropped()?) == before, "flooding tried the port that is down");
        net.host.ns.ip(&format!("link set dev {} up", c.port))?;
        ping::once(&c.ns, ip(1), 56, SOON)
    });
}
