//! Frames that are tagged inside (IEEE 802.1Q), to a container whose NIC takes nothing from XDP: XDP strips the outer headers and leaves
//! the rest to TC, to which the kernel shows a tag beside the frame. That is the inner one, not the underlay's.

use std::net::SocketAddrV4;

use anyhow::{Result, ensure};
use wavnet_common::reason::Reason;
use wavnet_tests::lab::{
    self, Lab, Need,
    frame::{IPV4, QINQ, VLAN, ethernet, marked, tagged, udp4},
    host::Vm,
    link,
    overlay::{Lone, SOON, ip, mac},
    poll_until, wait_until,
};
use wavnet_user::api::model::{Delivery, HookMode};

const NEEDS: &[Need] = &[Need::Wavnet];

/// All of these arrive as they were, and in this order.
fn arrive_with_their_tags(lab: &Lab, hook: &str, mode: HookMode, gro: &str, delivery: Delivery) -> Result<()> {
    let net = Lone::start(lab, &[], |config| config.underlay(&format!("hook = \"{hook}\"")))?;
    let underlay = net.agent.status()?.underlay;
    ensure!(underlay.hook_mode == Some(mode), "{underlay:?}");
    link::offload(&net.a.ns, Vm::NIC, &format!("gro {gro}"))?;
    poll_until("the agent to see how the port takes frames", SOON, || {
        let port = net.agent.port(&net.a.port)?;
        ensure!(port.delivery == Some(delivery), "{port:?}");
        Ok(())
    })?;
    net.fence_out("here I am")?;
    wait_until("the VM to be known", SOON, || Ok(net.agent.fdb()?.iter().any(|e| e.mac == mac(1))))?;

    // To addresses of nobody's, so that nobody answers.
    let [from, to] = [201, 202].map(|n| SocketAddrV4::new(ip(n), 7000));
    let datagram = ethernet(mac(1), mac(9), IPV4, &udp4(from, to, b"a datagram, as long as no padding is needed"));
    let other = marked(mac(1), mac(9), "another frame");
    let mut sent = Vec::new();
    for frame in [datagram, other] {
        let double = tagged(&tagged(&frame, VLAN, 7), QINQ, 9);
        let single = [7, 42, 4094, 0xe000 | 7, 0].map(|tci| tagged(&frame, VLAN, tci));
        sent.extend(single.into_iter().chain([tagged(&frame, QINQ, 9), double]).flat_map(|t| [frame.clone(), t]));
    }
    for frame in &sent {
        net.inject(&net.outer(), frame)?;
    }
    let mut got = net.fence_in("fence")?;
    got.retain(|frame| frame[6..12] == mac(9).0);
    let dropped = net.agent.drops(Reason::OuterTagged)?;
    ensure!(dropped == 0, "{dropped} of {} were dropped as tagged outside, {} arrived", sent.len(), got.len());
    ensure!(got.len() == sent.len(), "{} of {} arrived", got.len(), sent.len());
    for (n, (got, sent)) in got.iter().zip(&sent).enumerate() {
        ensure!(got == sent, "frame {n} is\n{got:02x?}, not\n{sent:02x?}");
    }
    Ok(())
}

#[test]
fn tagged_frames_reach_a_container_without_gro_with_driver_xdp() {
    let test = "tagged::tagged_frames_reach_a_container_without_gro_with_driver_xdp";
    lab::run(test, NEEDS, |lab| arrive_with_their_tags(lab, "driver", HookMode::XdpDriver, "off", Delivery::Tc));
}

#[test]
fn tagged_frames_reach_a_container_without_gro_with_generic_xdp() {
    let test = "tagged::tagged_frames_reach_a_container_without_gro_with_generic_xdp";
    lab::run(test, NEEDS, |lab| arrive_with_their_tags(lab, "generic", HookMode::XdpGeneric, "off", Delivery::Tc));
}

#[test]
fn tagged_frames_reach_a_container_without_gro_without_xdp() {
    let test = "tagged::tagged_frames_reach_a_container_without_gro_without_xdp";
    lab::run(test, NEEDS, |lab| arrive_with_their_tags(lab, "tc", HookMode::Tc, "off", Delivery::Tc));
}

#[test]
fn tagged_frames_reach_a_container_with_gro_with_driver_xdp() {
    let test = "tagged::tagged_frames_reach_a_container_with_gro_with_driver_xdp";
    lab::run(test, NEEDS, |lab| arrive_with_their_tags(lab, "driver", HookMode::XdpDriver, "on", Delivery::Xdp));
}
