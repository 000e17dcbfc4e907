//! Which interfaces have a guard for what XDP redirects from taps, as ports and next hops come and go.

use std::{collections::BTreeSet, net::Ipv4Addr, process::Command as Process, thread};

use anyhow::{Context, Result, ensure};
use aya::maps::{Map, MapData, xdp::DevMapHash};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};
use wavnet_common::abi::{Endpoint, HopFlags, NextHop, Port, PortFlags, Vtep, map::GUARDED_DEVS};
use wavnet_proto::command::{Command, PeerKey};
use wavnet_tests::kernel::{PinPath, SIZES, require};
use wavnet_user::datapath::Datapath;

/// Runs `f` in a network namespace with two interfaces, in a thread of its own.
fn with_interfaces(f: impl FnOnce([u32; 2]) -> Result<()> + Send) {
    let result = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            let made = Process::new("ip").args(["link", "add", "u", "type", "veth", "peer", "name", "v"]).status()?;
            ensure!(made.success(), "ip could not make the interfaces");
            f([if_nametoindex("u")?, if_nametoindex("v")?])
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}

/// The map behind the agent's back.
fn guards(pins: &PinPath) -> Result<DevMapHash<MapData>> {
    let map = MapData::from_pin(pins.path().join("maps").join(GUARDED_DEVS))?;
    Ok(Map::DevMapHash(map).try_into()?)
}

fn guarded(pins: &PinPath) -> Result<BTreeSet<u32>> {
    Ok(guards(pins)?.keys().collect::<Result<_, _>>()?)
}

fn port(index: u16, ifindex: u32) -> Command {
    let port = Port { ifindex, vni: 100, vni_index: 0, flags: PortFlags::USED, max_frame: 1514 };
    Command::SetPort { index, port }
}

fn no_port(index: u16) -> Command {
    Command::SetPort { index, port: Port::FREE }
}

fn next_hop(ifindex: u32) -> NextHop {
    let flags = if ifindex == 0 { 0 } else { HopFlags::XDP };
    NextHop { ifindex, max_inner: 1500, dst_mac: [2; 6], src_mac: [4; 6], src_v4: [192, 0, 2, 1], flags }
}

fn peer(index: u16, ifindex: u32) -> Command {
    let addr = Ipv4Addr::new(192, 0, 2, 10 + index as u8);
    let vtep = Vtep::new(0, &Endpoint::plain(addr.octets(), 4789), &next_hop(ifindex));
    Command::SetVtep { index, vtep, peer: PeerKey::Static(addr) }
}

fn no_peer(index: u16) -> Command {
    let peer = PeerKey::Static(Ipv4Addr::new(192, 0, 2, 10 + index as u8));
    Command::SetVtep { index, vtep: Vtep::FREE, peer }
}

fn hop(index: u16, ifindex: u32) -> Command {
    let endpoint = Endpoint::plain([192, 0, 2, 10 + index as u8], 4789);
    Command::SetNextHop { index, endpoint, next_hop: next_hop(ifindex) }
}

#[test]
fn a_guard_stays_as_long_as_anybody_needs_it() {
    let Some(pins) = require("kernel_guards::a_guard_stays_as_long_as_anybody_needs_it") else { return };
    with_interfaces(|[u, v]| {
        let mut datapath = pins.open(SIZES)?;
        for (command, expected, what) in [
            (port(0, u), vec![u], "a port"),
            (peer(0, u), vec![u], "a peer over the same interface"),
            (no_port(0), vec![u], "the port goes"),
            (peer(1, 0), vec![u], "a peer without a route"),
            (hop(1, u), vec![u], "it gets one"),
            (hop(0, v), vec![u, v], "one moves"),
            (port(2, v), vec![u, v], "its new interface is a port"),
            (hop(1, v), vec![v], "the other moves, too"),
            (no_peer(0), vec![v], "one goes"),
            (hop(1, 0), vec![v], "the other has no route any more"),
            (port(2, u), vec![u], "the port is another interface"),
            (no_port(2), vec![], "it goes"),
        ] {
            datapath.apply(&command)?;
            let found = guarded(&pins)?;
            ensure!(found == expected.iter().copied().collect(), "{what}: {found:?}, not {expected:?}");
        }
        Ok(())
    });
}

#[test]
fn a_guard_is_set_once_and_again_when_its_interface_is() {
    let Some(pins) = require("kernel_guards::a_guard_is_set_once_and_again_when_its_interface_is") else { return };
    with_interfaces(|[u, v]| {
        let mut datapath = pins.open(SIZES)?;
        datapath.apply(&peer(0, u))?;
        // As the kernel does with an interface that goes.
        let mut map = guards(&pins)?;
        map.remove(u)?;
        datapath.apply(&peer(1, u))?;
        datapath.apply(&hop(0, u))?;
        ensure!(guarded(&pins)?.is_empty(), "it was set for each peer");
        datapath.interface_there(u);
        ensure!(guarded(&pins)?.is_empty(), "it was set, though nothing is known to have happened to it");
        datapath.interface_gone(u);
        datapath.interface_there(u);
        datapath.interface_there(v);
        ensure!(guarded(&pins)? == [u].into(), "{:?}", guarded(&pins)?);
        map.remove(u)?;
        datapath.recheck_interfaces();
        ensure!(guarded(&pins)? == [u].into(), "{:?}", guarded(&pins)?);
        Ok(())
    });
}

#[test]
fn the_next_agent_takes_over_who_needs_a_guard() {
    let Some(pins) = require("kernel_guards::the_next_agent_takes_over_who_needs_a_guard") else { return };
    with_interfaces(|[u, v]| {
        let mut datapath = pins.open(SIZES)?;
        datapath.apply(&port(0, u))?;
        datapath.apply(&peer(0, u))?;
        let program = |datapath: Datapath| anyhow::Ok((guards(&pins)?.get(u, 0)?.prog_id, drop(datapath)).0);
        let first = program(datapath)?;
        // One that nobody needs, left by an agent that was killed, or older.
        guards(&pins)?.insert(v, v, None, 0)?;
        let mut datapath = pins.open(SIZES)?;
        ensure!(guarded(&pins)? == [u].into(), "{:?}", guarded(&pins)?);
        datapath.apply(&no_port(0))?;
        ensure!(guarded(&pins)? == [u].into(), "the peer needs it");
        ensure!(program(datapath)? != first, "it is the guard of the agent before");
        let mut datapath = pins.open(SIZES)?;
        datapath.apply(&no_peer(0))?;
        ensure!(guarded(&pins)?.is_empty(), "nobody needs it");
        Ok(())
    });
}
