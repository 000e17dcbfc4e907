//! Broadcast and unknown unicast: who gets a copy, and who must not.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Need,
    frame::{Outer, has_mark, marked},
    host::{Vm, VmSpec},
    overlay::{Lone, SOON, blue, ip, mac, until},
    raw::RawSocket,
    wait_until,
};

const NEEDS: &[Need] = &[Need::Wavnet];

/// Outer destinations of VXLAN packets that carry a mark, with how many each got.
fn copies(frames: &[Vec<u8>], mark: &str) -> BTreeMap<Ipv4Addr, u32> {
    let mut count = BTreeMap::new();
    for frame in frames.iter().filter(|f| f.len() > 50 && has_mark(f, mark)) {
        let to: [u8; 4] = frame[30..34].try_into().unwrap_or_default();
        *count.entry(Ipv4Addr::from(to)).or_default() += 1;
    }
    count
}

#[test]
fn a_broadcast_reaches_each_of_64_vteps_once() {
    lab::run("a_broadcast_reaches_each_of_64_vteps_once", NEEDS, |lab| {
        let more: Vec<Ipv4Addr> = (101..164).map(|n| Ipv4Addr::new(172, 31, 0, n)).collect();
        let net = Lone::start(lab, &more, |c| c)?;
        let mut everyone: Vec<Ipv4Addr> = [net.far.addr].into_iter().chain(more).collect();
        everyone.sort();
        assert_eq!(everyone.len(), 64);
        for (mark, dst) in
            [("broadcast", Mac::BROADCAST), ("multicast", Mac([1, 0, 0x5e, 0, 0, 9])), ("unknown", mac(99))]
        {
            let mut seen = Vec::new();
            net.vm_nic.send(&marked(dst, mac(1), mark))?;
            wait_until(&format!("64 copies of a {mark} frame"), SOON, || {
                seen.extend(net.wire.drain(|f| has_mark(f, mark))?);
                Ok(seen.len() >= 64)
            })?;
            let fence = format!("after-{mark}");
            seen.extend(net.fence_out(&fence)?);
            let copies = copies(&seen, mark);
            assert!(copies.values().all(|n| *n == 1), "more than one copy of a {mark} frame: {copies:?}");
            assert_eq!(copies.into_keys().collect::<Vec<_>>(), everyone, "receivers of a {mark} frame");
        }
        Ok(())
    });
}

#[test]
fn local_ports_get_one_copy_and_the_sender_none() {
    lab::run("local_ports_get_one_copy_and_the_sender_none", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c.port("p-c", blue()).port("p-d", blue()))?;
        let c = net.host.vm(lab, &VmSpec::new("c", mac(3), ip(3)))?;
        let d = net.host.vm(lab, &VmSpec::new("d", mac(4), ip(4)))?;
        net.agent.wait_ready()?;
        let (c_nic, d_nic) = (RawSocket::open(&c.ns, Vm::NIC)?, RawSocket::open(&d.ns, Vm::NIC)?);
        net.vm_nic.send(&marked(Mac::BROADCAST, mac(1), "first"))?;
        net.vm_nic.send(&marked(Mac::BROADCAST, mac(1), "fence"))?;
        for nic in [&c_nic, &d_nic, &net.wire] {
            let before = until(nic, "fence")?;
            assert_eq!(before.iter().filter(|f| has_mark(f, "first")).count(), 1, "copies of a broadcast");
        }
        // What c says, a hears, but never what it said itself.
        c_nic.send(&marked(Mac::BROADCAST, mac(3), "from-c"))?;
        let heard = until(&net.vm_nic, "from-c")?;
        assert!(!heard.iter().any(|f| has_mark(f, "first") || has_mark(f, "fence")), "a frame came back to its sender");
        // Unicast between local ports goes nowhere else.
        net.vm_nic.send(&marked(mac(3), mac(1), "unicast"))?;
        until(&c_nic, "unicast")?;
        net.vm_nic.send(&marked(Mac::BROADCAST, mac(1), "last"))?;
        for nic in [&d_nic, &net.wire] {
            assert!(!until(nic, "last")?.iter().any(|f| has_mark(f, "unicast")), "known unicast was flooded");
        }
        Ok(())
    });
}

#[test]
fn nothing_goes_from_vtep_to_vtep() {
    lab::run("nothing_goes_from_vtep_to_vtep", NEEDS, |lab| {
        let other = Ipv4Addr::new(172, 31, 0, 102);
        let net = Lone::start(lab, &[other], |c| c)?;
        let from_other = Outer { src: other, ..net.outer() };
        net.inject(&from_other, &marked(Mac::BROADCAST, mac(0x20), "hello-from-other"))?;
        until(&net.vm_nic, "hello-from-other")?;
        let before = net.agent.drops(Reason::SplitHorizon)?;
        net.inject(&net.outer(), &marked(Mac::BROADCAST, mac(0x10), "vtep-broadcast"))?;
        net.inject(&net.outer(), &marked(mac(0x55), mac(0x10), "vtep-unknown"))?;
        net.inject(&net.outer(), &marked(mac(0x20), mac(0x10), "vtep-unicast"))?;
        let at_vm = net.fence_in("fence-in")?;
        let back = net.fence_out("fence-out")?;
        for mark in ["vtep-broadcast", "vtep-unknown", "vtep-unicast"] {
            let returned = copies(&back, mark);
            assert!(returned.is_empty(), "{mark} was sent on to {returned:?}");
        }
        assert_eq!(at_vm.iter().filter(|f| has_mark(f, "vtep-broadcast")).count(), 1);
        assert_eq!(at_vm.iter().filter(|f| has_mark(f, "vtep-unknown")).count(), 1);
        assert!(!at_vm.iter().any(|f| has_mark(f, "vtep-unicast")), "a frame for a MAC behind a VTEP reached a VM");
        let reason = "split_horizon counts the unicast frame";
        wait_until(reason, Duration::from_secs(5), || Ok(net.agent.drops(Reason::SplitHorizon)? == before + 1))
    });
}
