//! Connections stay in order: not one segment of some hundred short ones comes before an earlier one, handshakes, bare acknowledgements
//! and ends included, whether or not anybody knew at first where the VMs are. The receivers' own counters say so.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    counters, cpu,
    host::{Vm, VmSpec},
    netns::Netns,
    overlay::{SOON, blue, ip, mac},
    topology::UNDERLAY_MTU,
    wait_until,
};
use wavnet_user::api::model::PlaceInfo;

const NEEDS: &[Need] = &[Need::Wavnet];
/// Rounds of connections.
const ROUNDS: usize = 8;
/// Clients at a time in each direction.
const CLIENTS: usize = 3;
/// Connections of each client in a round, with a request of each size.
const SIZES: [(usize, usize); 6] = [(1, 1), (300, 40_000), (40_000, 300), (1460, 1461), (60_000, 60_000), (5, 9000)];

/// What a kernel counts of segments that came too early, and what the sender concluded of that.
const DISORDER: [&str; 6] =
    ["TCPOFOQueue", "TCPSACKReorder", "TCPRenoReorder", "TCPTSReorder", "TCPFastRetrans", "TCPDSACKRecv"];

/// A VM's name, and the network it is in.
struct Side<'a> {
    ns: &'a Netns,
    address: Ipv4Addr,
}

fn octet(position: usize) -> u8 {
    // 251 is prime: a shift by any power of two shows.
    (position % 251) as u8
}

fn check(bytes: &[u8]) -> Result<()> {
    let wrong = bytes.iter().enumerate().find(|(i, byte)| **byte != octet(*i));
    ensure!(wrong.is_none(), "octet {wrong:?} of {} is wrong", bytes.len());
    Ok(())
}

fn patient(socket: TcpStream) -> Result<TcpStream> {
    socket.set_read_timeout(Some(SOON))?;
    socket.set_write_timeout(Some(SOON))?;
    Ok(socket)
}

/// Reads a request up to its end, and answers. Connections come one after the other.
fn serve(listener: &TcpListener) -> Result<()> {
    for (n, (request, answer)) in SIZES.into_iter().enumerate() {
        let mut socket = patient(listener.accept()?.0)?;
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).with_context(|| format!("request {n}"))?;
        ensure!(bytes.len() == request, "{} octets came of request {n}, not {request}", bytes.len());
        check(&bytes)?;
        socket.write_all(&(0..answer).map(octet).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn ask(to: &SocketAddr) -> Result<()> {
    for (n, (request, answer)) in SIZES.into_iter().enumerate() {
        let socket = TcpStream::connect_timeout(to, SOON).with_context(|| format!("connection {n}"))?;
        let mut socket = patient(socket)?;
        socket.write_all(&(0..request).map(octet).collect::<Vec<_>>())?;
        socket.shutdown(Shutdown::Write)?;
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).with_context(|| format!("answer {n}"))?;
        ensure!(bytes.len() == answer, "{} octets came of answer {n}, not {answer}", bytes.len());
        check(&bytes)?;
    }
    Ok(())
}

/// All clients of both sides at once.
fn round(sides: &[Side<'_>; 2]) -> Result<()> {
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (client, server) in [(&sides[0], &sides[1]), (&sides[1], &sides[0])] {
            for _ in 0..CLIENTS {
                let listener = server.ns.enter(|| Ok(TcpListener::bind((server.address, 0))?))?;
                let to = listener.local_addr()?;
                // Of one CPU all: several would send a connection's segments by several ways, on which veths, unlike NICs, keep no
                // order.
                threads.push(scope.spawn(move || -> Result<()> {
                    cpu::pin(0)?;
                    serve(&listener)
                }));
                threads.push(scope.spawn(move || -> Result<()> {
                    client.ns.enter(|| {
                        cpu::pin(0)?;
                        ask(&to)
                    })
                }));
            }
        }
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

/// Nobody knows any more where a VM is.
fn forget(agents: &[Agent; 2], vms: &[Vm; 2]) -> Result<()> {
    for agent in agents {
        for vm in vms {
            if agent.fdb()?.iter().any(|entry| entry.mac == vm.mac) {
                agent.cli(&format!("fdb remove --vni {} --mac {}", blue(), vm.mac))?;
            }
        }
        let known = agent.fdb()?;
        ensure!(known.iter().all(|entry| vms.iter().all(|vm| vm.mac != entry.mac)), "still known: {known:?}");
    }
    Ok(())
}

/// Each agent knows both VMs.
fn wait_known(agents: &[Agent; 2], vms: &[Vm; 2]) -> Result<()> {
    wait_until("both VMs to be known", SOON, || {
        let mut all = true;
        for (i, agent) in agents.iter().enumerate() {
            let fdb = agent.fdb()?;
            for (j, vm) in vms.iter().enumerate() {
                let local = |place: &PlaceInfo| matches!(place, PlaceInfo::Port(_));
                all &= fdb.iter().any(|entry| entry.mac == vm.mac && local(&entry.place) == (i == j));
            }
        }
        Ok(all)
    })
}

fn stay_in_order(lab: &Lab, modes: [&str; 2], hook: &str) -> Result<()> {
    let hosts = lab.pair_by(UNDERLAY_MTU, 1)?;
    let vm = |i: usize, name| hosts[i].vm(lab, &VmSpec::new(name, mac(i as u8 + 1), ip(i as u8 + 1)));
    let vms = [vm(0, "a")?, vm(1, "b")?];
    for (i, vm) in vms.iter().enumerate() {
        // So that TCP's frames alone teach where they are.
        let n = 2 - i as u8;
        vm.ns.ip(&format!("neigh replace {} lladdr {} nud permanent dev {}", ip(n), mac(n), Vm::NIC))?;
        // A busy machine is not to be taken for a loss: no probes, and timers that are long.
        vm.ns.sysctl("net/ipv4/tcp_early_retrans", "0")?;
        vm.ns.ip(&format!("route replace 10.0.0.0/24 dev {} src {} rto_min 5s", Vm::NIC, ip(i as u8 + 1)))?;
    }
    let start = |i: usize| {
        let config = AgentConfig::new(&[blue()]).port_mode(&vms[i].port, blue(), modes[i]);
        let config = config.peer(hosts[1 - i].addr, &[blue()]).underlay(&format!("hook = \"{hook}\""));
        Agent::start(lab, &hosts[i], &config)
    };
    let agents = [start(0)?, start(1)?];
    for agent in &agents {
        agent.wait_ready()?;
    }
    let sides = [0, 1].map(|i| Side { ns: &vms[i].ns, address: ip(i as u8 + 1) });
    let flooded = |i: usize| agents[i].metric("wavnet_flooded_frames_total", &[]);
    for n in 0..ROUNDS {
        let unknown = n % 2 == 0;
        if unknown {
            forget(&agents, &vms)?;
        }
        let before = (flooded(0)?, flooded(1)?);
        round(&sides).with_context(|| format!("round {n}"))?;
        wait_known(&agents, &vms)?;
        let more = (flooded(0)? - before.0, flooded(1)? - before.1);
        ensure!((more.0 + more.1 > 0.0) == unknown, "round {n}: {more:?} frames were flooded");
    }

    let mut found = Vec::new();
    for vm in &vms {
        let name = vm.ns.short_name();
        let opened = counters::protocol(&vm.ns, "Tcp", "PassiveOpens")?;
        let wanted = (ROUNDS * CLIENTS * SIZES.len()) as u64;
        ensure!(opened == wanted, "{name}: {opened} connections of {wanted}");
        // Nothing may be lost here: what is sent again is out of order, too.
        for (group, counter) in [("Tcp", "RetransSegs"), ("Tcp", "InErrs"), ("Tcp", "InCsumErrors")]
            .into_iter()
            .chain(DISORDER.map(|counter| ("TcpExt", counter)))
        {
            let count = counters::protocol(&vm.ns, group, counter)?;
            if count != 0 {
                found.push(format!("{name}: {counter} is {count}"));
            }
        }
    }
    for agent in &agents {
        if agent.dropped()? != 0 {
            found.push(agent.cli("drops")?);
        }
    }
    ensure!(found.is_empty(), "segments were out of order or lost: {found:#?}");
    Ok(())
}

#[test]
fn short_connections_stay_in_order() {
    let test = "connections::short_connections_stay_in_order";
    lab::run(test, NEEDS, |lab| stay_in_order(lab, ["auto", "auto"], "auto"));
}

#[test]
fn short_connections_between_packet_rate_ports_stay_in_order() {
    let test = "connections::short_connections_between_packet_rate_ports_stay_in_order";
    lab::run(test, NEEDS, |lab| stay_in_order(lab, ["packet-rate", "packet-rate"], "auto"));
}

#[test]
fn short_connections_stay_in_order_without_xdp() {
    let test = "connections::short_connections_stay_in_order_without_xdp";
    lab::run(test, NEEDS, |lab| stay_in_order(lab, ["auto", "auto"], "tc"));
}
