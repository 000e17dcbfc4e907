//! The whole agent against the real kernel, in network namespaces of our own.
//!
//! A hypervisor with two ports of VNI 10, whose other ends are in the namespace of VMs, and a peer that has nothing but the
//! kernel's vxlan device.

mod world;

use std::{process::Command, time::Duration};

use wavnet_common::addr::Mac;

use crate::{
    api::{
        Client, ErrorCode, FdbFilter, Request, Response,
        model::{AttachState, FdbChange, FdbEvent, Origin, PeerState, PlaceInfo},
    },
    config::Source,
    testing::skip,
};
use world::{Agent, World};

const PEER: &str = "[[peer]]\naddress = \"198.51.100.2\"\nvnis = [10]\n";
const PORT: &str = "[[port]]\ninterface = \"wav-p0\"\nvni = 10\n";

#[test]
fn an_agent_connects_a_vm_to_a_kernel_vxlan_and_keeps_what_it_is_told() {
    let Some(mut w) = World::new("agent") else { return };
    if Command::new("ping").arg("-V").output().is_err() {
        return skip("no ping").unwrap_or_default();
    }
    w.write_config(&format!("{PEER}{PORT}"));
    let Some(()) = w.start() else { return };
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);
    let status = w.status();
    assert_eq!((status.counts.ports_attached, status.counts.peers_up), (1, 1), "{status:?}");
    assert_eq!(status.underlay.address, Some([198, 51, 100, 1].into()));
    w.assert_ping(0, "10.0.0.9");
    assert!(w.peers()[0].traffic.rx_frames > 0 && w.ports()[0].traffic.rx_frames > 0);

    // A second agent on the same pins is refused and does no harm.
    let refused = Agent::start(&w.host, Source::File(w.dir.path().join("wavnet.toml"))).end();
    let words = format!("{:#}", refused.expect_err("two agents on the same pins"));
    assert!(words.contains("another agent"), "{words}");

    // Added by command: a port that is not there yet, and a static entry behind it.
    let vni = w.ports()[0].vni;
    let add = Request::PortAdd { interface: "wav-p1".into(), vni, vlan: Default::default(), mode: Default::default() };
    let Ok(Response::Done(done)) = w.call(&add) else { panic!("refused") };
    assert_eq!(done.warnings.len(), 1, "{done:?}");
    let missing = "port wav-p1 is added by command, but there is no such interface".to_owned();
    assert!(w.status().warnings.contains(&missing), "{:?}", w.status().warnings);
    assert_eq!(w.call(&add), Err(ErrorCode::Conflict));
    let lo = Request::PortAdd { interface: "lo".into(), vni, vlan: Default::default(), mode: Default::default() };
    assert_eq!(w.call(&lo), Err(ErrorCode::Conflict));
    let mac = "02:00:00:00:00:77".parse().unwrap();
    w.call(&Request::FdbAdd { vni, mac, place: PlaceInfo::Port("wav-p1".into()) }).unwrap();
    w.add_vm(1);
    w.wait("the port is attached", |w| w.status().counts.ports_attached == 2);
    w.wait("the static entry is in force", |w| w.status().counts.fdb_static == 1);

    // The agent ends and another one takes over.
    w.agent.take().unwrap().end().unwrap();
    assert!(!w.socket().exists());
    let Some(()) = w.start() else { return };
    let ports = w.ports();
    assert_eq!(ports.iter().map(|p| p.origin).collect::<Vec<_>>(), [Origin::Config, Origin::Runtime]);
    assert!(ports.iter().all(|p| p.state == AttachState::Attached), "{ports:?}");
    assert_eq!(w.status().counts.fdb_static, 1);
    assert!(w.peers()[0].traffic.rx_frames > 0, "counters go on");
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);
    w.assert_ping(0, "10.0.0.9");

    // Deleted and created anew under the same name.
    let before = ports[1].ifindex;
    w.host.ip("link del wav-p1");
    w.wait("the port is missing", |w| w.ports()[1].state == AttachState::Missing);
    w.add_vm(1);
    w.wait("the port is back", |w| w.ports()[1].state == AttachState::Attached && w.ports()[1].ifindex != before);
    w.assert_ping(1, "10.0.0.9");

    // Removed by command; what the configuration has cannot be.
    w.call(&Request::PortRemove { interface: "wav-p1".into() }).unwrap();
    assert_eq!(w.ports().len(), 1);
    assert_eq!(w.call(&Request::PortRemove { interface: "wav-p0".into() }), Err(ErrorCode::Conflict));
    assert_eq!(w.call(&Request::PortRemove { interface: "wav-p7".into() }), Err(ErrorCode::NotFound));

    // Everything goes.
    w.call(&Request::Detach).unwrap();
    w.agent.take().unwrap().end().unwrap();
    assert!(!w.bpffs.exists());
}

#[test]
fn neighbours_that_no_peer_needs_any_more_are_released() {
    let Some(mut w) = World::new("neigh") else { return };
    let other = PEER.replace("100.2", "100.3");
    w.write_config(&format!("{PEER}{other}"));
    let Some(()) = w.start() else { return };
    w.wait("both neighbours are managed", |w| w.managed().len() == 2);
    // The peer is removed while no agent is running.
    w.agent.take().unwrap().end().unwrap();
    assert_eq!(w.managed().len(), 2, "the kernel goes on");
    w.write_config(PEER);
    let Some(()) = w.start() else { return };
    w.wait("the other one is released", |w| w.managed() == ["198.51.100.2"]);
    w.call(&Request::Detach).unwrap();
    w.agent.take().unwrap().end().unwrap();
    assert!(w.managed().is_empty(), "{:?}", w.managed());
}

#[test]
fn additions_that_a_reload_takes_out_of_force_are_told() {
    let Some(mut w) = World::new("shadow") else { return };
    let vni200 = "[[vni]]\nid = 200\n";
    w.write_config(vni200);
    let Some(()) = w.start() else { return };
    let vni = "200".parse().unwrap();
    let peer: std::net::Ipv4Addr = "198.51.100.2".parse().unwrap();
    // Written later if it cannot be written now.
    let blocked = w.dir.path().join("additions.json").join("x");
    std::fs::create_dir_all(&blocked).unwrap();
    let add = Request::PortAdd { interface: "wav-p0".into(), vni, vlan: Default::default(), mode: Default::default() };
    let Ok(Response::Done(done)) = w.call(&add) else { panic!("refused") };
    assert!(done.warnings.iter().any(|words| words.contains("would not survive")), "{done:?}");
    std::fs::remove_dir_all(blocked.parent().unwrap()).unwrap();
    w.wait("the addition is written", |w| w.dir.path().join("additions.json").is_file());
    let twice = Request::PeerAdd { address: peer, udp_port: None, vnis: vec![vni, vni] };
    assert_eq!(w.call(&twice), Err(ErrorCode::Invalid));
    w.call(&Request::PeerAdd { address: peer, udp_port: None, vnis: vec![vni] }).unwrap();
    let mac = "02:00:00:00:00:77".parse().unwrap();
    w.call(&Request::FdbAdd { vni, mac, place: PlaceInfo::Peer(peer) }).unwrap();

    w.write_config("");
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    let told = |what: &str| done.warnings.iter().any(|words| words.contains(what));
    assert!(told("port wav-p0 of VNI 200, peer 198.51.100.2 of VNI 200 were added by command"), "{done:?}");
    assert!(told("VNI 200 is not in force: the VNI is not in the configuration"), "{done:?}");
    assert!(w.ports().is_empty() && w.peers().is_empty());

    w.write_config(&format!("{vni200}{PORT}"));
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    let told = |what: &str| done.warnings.iter().any(|words| words.contains(what));
    assert!(told("port wav-p0 was added to VNI 200 by command; the configuration has it in VNI 10"), "{done:?}");
    assert_eq!((w.ports()[0].vni.get(), w.peers().len()), (10, 1));
}

#[test]
fn a_reload_and_a_changing_underlay_are_followed() {
    let Some(mut w) = World::new("reload") else { return };
    w.write_config(PEER);
    let Some(()) = w.start() else { return };
    assert!(w.ports().is_empty());
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);

    // A pattern, by reload.
    w.write_config(&format!("{PEER}[[port]]\ninterface = \"wav-p*\"\nvni = 10\n"));
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    assert_eq!(done.changes, ["port rules: 1 added"]);
    assert_eq!((w.ports().len(), w.ports()[0].origin), (1, Origin::Pattern));
    w.assert_ping(0, "10.0.0.9");
    // A port that is down is no place to flood to, and that is said as long as it lasts.
    let said = |w: &World| w.status().warnings.iter().any(|words| words.starts_with("port wav-p0 is down"));
    assert!(!said(&w), "{:?}", w.status().warnings);
    w.host.ip("link set wav-p0 down");
    w.wait("the port is down", said);
    w.host.ip("link set wav-p0 up");
    w.wait("the port is up again", |w| !said(w));
    w.assert_ping(0, "10.0.0.9");
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    assert!(done.changes.is_empty(), "{done:?}");

    // A MAC that moves to another port is told, and one that is not heard of any more ages.
    let mac: Mac = "02:00:00:00:00:50".parse().unwrap();
    w.vms.ip(&format!("link set wav-v0 address {mac}"));
    w.assert_ping(0, "10.0.0.9");
    let known = |w: &World| {
        let filter = FdbFilter { mac: Some(mac), ..FdbFilter::default() };
        let Ok(Response::Fdb(entries)) = w.call(&Request::Fdb(filter)) else { panic!("no entries") };
        entries.into_iter().next()
    };
    assert_eq!(known(&w).map(|e| e.place), Some(PlaceInfo::Port("wav-p0".into())));
    let (events, heard) = std::sync::mpsc::channel();
    let watcher = Client::connect(&w.socket()).unwrap();
    let watcher = std::thread::spawn(move || watcher.watch(|event| events.send(event).is_ok()));
    w.add_vm(1);
    w.wait("the second port is attached", |w| w.status().counts.ports_attached == 2);
    w.vms.ip("link set wav-v0 address 02:00:00:00:00:55");
    w.vms.ip(&format!("link set wav-v1 address {mac}"));
    w.assert_ping(1, "10.0.0.9");
    assert_eq!(known(&w).map(|e| e.place), Some(PlaceInfo::Port("wav-p1".into())));
    w.vms.ip("link set wav-v1 address 02:00:00:00:00:66");
    let ports = "[[port]]\ninterface = \"wav-p*\"\nvni = 10\n";
    w.write_config(&format!("[fdb]\nageing = \"1s\"\n{PEER}{ports}"));
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    assert_eq!(done.changes, ["entries age after 1 s"]);
    w.wait("the MAC ages", |w| known(w).is_none());
    let told = |kind| -> FdbEvent {
        let mut events = std::iter::from_fn(|| heard.recv_timeout(Duration::from_secs(60)).ok());
        events.find(|e| e.mac == mac && e.event == kind).unwrap_or_else(|| panic!("{kind:?} was not told"))
    };
    let moved = told(FdbChange::Moved);
    assert_eq!(moved.to, Some(PlaceInfo::Port("wav-p1".into())));
    let aged = told(FdbChange::Aged);
    assert_eq!(aged.from, Some(PlaceInfo::Port("wav-p1".into())));
    drop(heard);

    // A file with errors changes nothing.
    w.write_config("[[port]]\ninterface = \"wav-p*\"\nvni = 11\n");
    assert_eq!(w.call(&Request::Reload), Err(ErrorCode::Invalid));
    assert_eq!((w.ports().len(), w.peers().len()), (2, 1));

    // The next hop changes its link address, goes, and comes back; then the underlay's NIC is another one.
    w.peer.ip("link set wav-w address 02:00:00:00:00:0c");
    w.host.ip("neigh flush dev wav-u");
    w.assert_ping(0, "10.0.0.9");
    w.host.ip("route del 198.51.100.0/24 dev wav-u");
    w.wait("the route is gone", |w| w.peers()[0].state == PeerState::NoRoute);
    w.host.ip("route add 198.51.100.0/24 dev wav-u mtu 1580");
    w.wait("the route is back", |w| w.peers()[0].state == PeerState::Up && w.peers()[0].mtu == Some(1580));
    // Under another name it is not the underlay: nothing is attached, so no peer is up, though the route is still there.
    w.host.ip("link set wav-u name wav-y");
    w.wait("the underlay is missing", |w| w.status().underlay.state == AttachState::Missing);
    w.wait("the peer is cut off", |w| w.peers()[0].state == PeerState::NoRoute && w.status().counts.peers_up == 0);
    w.host.ip("link set wav-y name wav-u");
    w.wait("the underlay is attached", |w| w.status().underlay.hook_mode.is_some());
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);
    w.host.ip("link del wav-u");
    w.wait("the underlay is missing", |w| w.status().underlay.state == AttachState::Missing);
    assert!(!w.status().warnings.is_empty());
    w.host.ip(&format!("link add wav-u mtu 1600 type veth peer name wav-w mtu 1600 netns {}", w.peer.tid));
    w.host.ip("addr add 198.51.100.1/24 dev wav-u");
    w.host.ip("link set wav-u up");
    w.peer.ip("addr add 198.51.100.2/24 dev wav-w");
    w.peer.ip("link set wav-w up");
    w.wait("the underlay is back", |w| w.status().underlay.hook_mode.is_some());
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);
    w.assert_ping(0, "10.0.0.9");
    drop(w.agent.take());
    drop(watcher.join());
}
