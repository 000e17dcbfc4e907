//! A VM that moves to another hypervisor while a TCP connection runs.

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    frame::{gratuitous_arp, rarp},
    host::Vm,
    overlay::{Mesh, SOON, ip, mac},
    poll_until,
    raw::RawSocket,
    stream::Stream,
    topology::Routed,
};
use wavnet_user::api::model::{AttachState, PlaceInfo};

const NEEDS: &[Need] = &[Need::Wavnet];

fn place_of(agent: &Agent, n: u8) -> Result<PlaceInfo> {
    let entry = agent.fdb()?.into_iter().find(|e| e.mac == mac(n));
    Ok(entry.with_context(|| format!("{} is not in the FDB", mac(n)))?.place)
}

fn wait_place(agent: &Agent, n: u8, want: &PlaceInfo) -> Result<()> {
    poll_until(&format!("{} to be found at {want:?}", mac(n)), SOON, || {
        let place = place_of(agent, n)?;
        ensure!(place == *want, "it is at {place:?}");
        Ok(())
    })
}

/// VM 2 moves from the second hypervisor to the third and announces itself with `announcement`; VM 1, on the first, is its
/// partner in TCP.
fn move_with(lab: &Lab, announcement: &[u8]) -> Result<()> {
    let net = Mesh::start(lab, 3, 2)?;
    let (still, moving) = (&net.vms[0], &net.vms[1]);
    let [here, there] = [1, 2].map(|i| PlaceInfo::Peer(Routed::address(i)));
    let stream = Stream::start(&moving.ns, ip(2), &still.ns)?;
    stream.wait_progress(SOON)?;
    wait_place(&net.agents[0], 2, &here)?;
    let moved = net.agents[0].metric("wavnet_fdb_moved_total", &[]);

    moving.unplug()?;
    moving.plug(&net.underlay.hosts[2], 1500)?;
    net.agents[2].wait_port(&moving.port, AttachState::Attached)?;
    // Without an address nothing but the announcement leaves the VM: it alone must move the entries.
    RawSocket::open(&moving.ns, Vm::NIC)?.send(announcement)?;
    wait_place(&net.agents[0], 2, &there)?;
    wait_place(&net.agents[1], 2, &there)?;
    wait_place(&net.agents[2], 2, &PlaceInfo::Port(moving.port.clone()))?;
    moving.set_address(ip(2))?;
    stream.wait_progress(SOON)?;
    let after = net.agents[0].metric("wavnet_fdb_moved_total", &[])?;
    assert!(after > moved?, "the move was not counted: {after}");
    let bytes = stream.finish()?;
    assert!(bytes > 32_768, "{bytes} octets made the round trip");
    Ok(())
}

#[test]
fn tcp_survives_a_move_announced_by_gratuitous_arp() {
    let test = "tcp_survives_a_move_announced_by_gratuitous_arp";
    lab::run(test, NEEDS, |lab| move_with(lab, &gratuitous_arp(mac(2), ip(2))));
}

#[test]
fn tcp_survives_a_move_announced_by_rarp() {
    lab::run("tcp_survives_a_move_announced_by_rarp", NEEDS, |lab| move_with(lab, &rarp(mac(2))));
}
