//! `wavnet rendezvous` relays in the kernel where it can, and by itself where it cannot.

mod reload;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use wavnet_proto::wire::Label;
use wavnet_tests::{
    lab::{
        self, Lab, Need,
        agent::{promtool_check, sum_of},
        host::Host as Machine,
        link,
        netns::Netns,
        programs::Programs,
        topology::UNDERLAY_MTU,
        wait_until,
    },
    rendezvous::{Pair, Server, Shape},
};

const SOON: Duration = Duration::from_secs(20);
const NEEDS: &[Need] = &[Need::Wavnet];

/// Where the server of these machines is: at the last one.
fn at(machines: &[Machine]) -> SocketAddr {
    (machines[2].addr, 4789).into()
}

fn shape(machines: &[Machine], more: &str, tables: &str) -> Shape {
    let addresses = format!("listen = [\"{}\"]\nother_port = 4790\n", at(machines));
    Shape { addresses, more: more.to_owned(), tables: tables.to_owned() }
}

fn sides(machines: &[Machine]) -> [(&Netns, SocketAddr); 2] {
    [0, 1].map(|i| (&machines[i].ns, (machines[i].addr, 6000).into()))
}

fn pair(server: &Server, machines: &[Machine]) -> Result<Pair> {
    Pair::new(server, at(machines), sides(machines))
}

/// What the kernel's relay has counted.
fn counted(server: &Server, what: &str) -> Result<u64> {
    let kernel = server.status()?.relay_kernel;
    kernel.counters.get(what).copied().with_context(|| format!("no counter {what}"))
}

/// Datagrams that the server has relayed by itself.
fn by_itself(server: &Server) -> Result<u64> {
    let metrics = server.metrics()?;
    let n = sum_of(&metrics, "wavnet_rendezvous_relay_frames_total", &["by=\"user\""]);
    Ok(n.context("no such metric")? as u64)
}

/// Waits until the kernel can relay between a pair; what comes until then the server relays.
fn wait_for_kernel(server: &Server, pair: &mut Pair, what: &str) -> Result<()> {
    for from in [0, 1] {
        wait_until("the kernel to relay", SOON, || {
            let before = counted(server, what)?;
            pair.pass(from)?;
            Ok(counted(server, what)? == before + 1)
        })?;
    }
    Ok(())
}

/// Nothing of ours is attached to an interface.
fn is_bare(ns: &Netns, interface: &str) -> Result<bool> {
    let link: serde_json::Value = serde_json::from_str(&ns.ip(&format!("-j link show dev {interface}"))?)?;
    let (_, tc) = ns.enter(|| Ok(SchedClassifier::query_tcx(interface, TcAttachType::Ingress)?))?;
    Ok(link[0]["xdp"].is_null() && tc.is_empty())
}

#[test]
fn the_kernel_relays_both_ways_and_refuses_what_is_not_the_pairs() {
    let needs = [Need::Wavnet, Need::Tool("promtool")];
    lab::run("the_kernel_relays_both_ways_and_refuses_what_is_not_the_pairs", &needs, |lab| {
        let net = lab.routed(3, UNDERLAY_MTU)?;
        let machines = &net.hosts;
        let mut server = Server::start(lab, &machines[2].ns, &shape(machines, "", ""))?;
        let status = server.status()?;
        ensure!(status.relay == "xdp-driver", "{status:?}");
        ensure!(status.relay_kernel.interface.as_deref() == Some(Machine::NIC), "{status:?}");
        ensure!(status.relay_kernel.address == Some(machines[2].addr), "{status:?}");
        let mut pair = pair(&server, machines)?;
        wait_for_kernel(&server, &mut pair, "relayed_by_xdp")?;
        let (before, user) = (counted(&server, "relayed_by_xdp")?, by_itself(&server)?);
        for i in 0..20 {
            pair.pass(i % 2)?;
        }
        ensure!(counted(&server, "relayed_by_xdp")? == before + 20 && by_itself(&server)? == user);
        ensure!(counted(&server, "bytes_by_xdp")? >= 20 * 200);
        let kernel = server.status()?.relay_kernel;
        ensure!(kernel.sides == 2 && kernel.left == 0 && kernel.busiest.len() == 2, "{kernel:?}");
        ensure!(kernel.busiest.iter().map(|side| side.datagrams).sum::<u64>() == before + 20, "{kernel:?}");

        // A label that nobody has; the other one's label; from another port.
        let [mine, its] = pair.labels;
        let nobodys = Label::new(mine.get() ^ 1).filter(|l| ![its, Label::ZERO].contains(l)).context("a label")?;
        for (label, what) in [(nobodys, "unknown_label"), (its, "other_sender")] {
            let before = counted(&server, what)?;
            let frame = pair.frame(label, 100);
            pair.hosts[0].socket.send(&frame)?;
            wait_until("it to be counted", SOON, || Ok(counted(&server, what)? == before + 1))?;
        }
        let frame = pair.frame(mine, 100);
        let other = machines[0].ns.enter(|| Ok(std::net::UdpSocket::bind((machines[0].addr, 6001))?))?;
        let before = counted(&server, "other_sender")?;
        other.send_to(&frame, at(machines))?;
        wait_until("it to be counted", SOON, || Ok(counted(&server, "other_sender")? == before + 1))?;
        ensure!(pair.heard(1)?.is_none() && pair.heard(0)?.is_none(), "what was refused has arrived");
        // Control by a label that nobody has reaches the server, which drops it.
        let [x, y, z] = nobodys.to_bytes();
        let drops =
            |m: &str| sum_of(m, "wavnet_rendezvous_drops_total", &["reason=\"unknown_label\""]).unwrap_or_default();
        let before = drops(&server.metrics()?);
        pair.hosts[0].socket.send(&[b'W', x, y, z, 1, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])?;
        wait_until("the server to drop it", SOON, || Ok(drops(&server.metrics()?) == before + 1.0))?;
        pair.pass(0)?;

        let metrics = server.metrics()?;
        promtool_check(lab, &metrics)?;
        let of = |name: &str, label: &str| sum_of(&metrics, name, &[label]).unwrap_or_default();
        ensure!(of("wavnet_rendezvous_relay_mode", "mode=\"xdp-driver\"") == 1.0);
        ensure!(of("wavnet_rendezvous_relay_mode", "mode=\"user-space\"") == 0.0);
        ensure!(of("wavnet_rendezvous_relay_frames_total", "by=\"xdp\"") >= 21.0);
        ensure!(of("wavnet_rendezvous_relay_kernel_datagrams_total", "what=\"other_sender\"") == 2.0);
        server.stop()?;
        ensure!(is_bare(&machines[2].ns, Machine::NIC)?, "it has left programs behind");
        let neighbours = machines[2].ns.ip("neighbour show")?;
        ensure!(!neighbours.contains("managed"), "{neighbours}");
        Ok(())
    });
}

#[test]
fn a_side_sends_no_more_than_the_configuration_allows() {
    lab::run("a_side_sends_no_more_than_the_configuration_allows", NEEDS, |lab| {
        let net = lab.routed(3, UNDERLAY_MTU)?;
        let machines = &net.hosts;
        let slow = "[limits]\nrelay_mbit_per_second = 1\n";
        let server = Server::start(lab, &machines[2].ns, &shape(machines, "", slow))?;
        let mut pair = pair(&server, machines)?;
        wait_for_kernel(&server, &mut pair, "relayed_by_xdp")?;
        // A megabit a second is 125,000 bytes, and 100,000 come at once.
        let (start, slowly) = (Instant::now(), burst(&server, &mut pair)?);
        let most = 100_000.0 + start.elapsed().as_secs_f64() * 125_000.0;
        ensure!(slowly.bytes as f64 <= most && slowly.bytes >= 90_000, "{slowly:?} of {most}");
        ensure!(slowly.too_fast > 0, "{slowly:?}");
        // The other side is not held to what this one sent.
        pair.pass(1)?;
        // A reload changes it, for a pair that is there: what took three seconds before comes at once.
        server.configure(&shape(machines, "", ""))?;
        server.reload()?;
        let fast = burst(&server, &mut pair)?;
        ensure!(fast.relayed == BURST && fast.too_fast == 0, "{fast:?}");
        Ok(())
    });
}

/// So many datagrams of 1,000 bytes.
const BURST: u64 = 400;

/// What became of them.
#[derive(Debug)]
struct Burst {
    relayed: u64,
    bytes: u64,
    too_fast: u64,
}

/// The first one of a pair sends them as fast as it can.
fn burst(server: &Server, pair: &mut Pair) -> Result<Burst> {
    let before = server.status()?.relay_kernel.counters;
    let frame = pair.frame(pair.labels[0], 1000);
    for _ in 0..BURST {
        pair.hosts[0].socket.send(&frame)?;
    }
    let since = |now: &BTreeMap<String, u64>, what: &str| now[what] - before[what];
    wait_until("all to be counted", SOON, || {
        let now = server.status()?.relay_kernel.counters;
        Ok(since(&now, "relayed_by_xdp") + since(&now, "too_fast") == BURST)
    })?;
    let now = server.status()?.relay_kernel.counters;
    let [relayed, bytes, too_fast] = ["relayed_by_xdp", "bytes_by_xdp", "too_fast"].map(|what| since(&now, what));
    Ok(Burst { relayed, bytes, too_fast })
}

#[test]
fn without_a_next_hop_the_server_relays_by_itself() {
    lab::run("without_a_next_hop_the_server_relays_by_itself", NEEDS, |lab| {
        let (machines, _switch) = lab.segment(3, UNDERLAY_MTU)?;
        let machines = &machines;
        let (ns, to) = (&machines[2].ns, &machines[1]);
        let server = Server::start(lab, ns, &shape(machines, "", ""))?;
        let hosts = Pair::registered(&server, at(machines), sides(machines))?;
        // The second one answers nobody's ARP any more.
        let mac = to.ns.mac(Machine::NIC)?;
        to.ns.ip(&format!("link set dev {} arp off", Machine::NIC))?;
        ns.ip(&format!("neighbour del {} dev {}", to.addr, Machine::NIC))?;
        let (mut pair, label) = Pair::one_sided(hosts)?;
        let frame = pair.frame(label, 200);
        let before = by_itself(&server)?;
        pair.hosts[0].socket.send(&frame)?;
        wait_until("the server to relay", SOON, || Ok(by_itself(&server)? == before + 1))?;
        ensure!(counted(&server, "left_to_server")? >= 1 && counted(&server, "relayed_by_xdp")? == 0);
        to.ns.ip(&format!("link set dev {} arp on", Machine::NIC))?;
        ensure!(to.ns.mac(Machine::NIC)? == mac);
        pair.meet()?;
        wait_for_kernel(&server, &mut pair, "relayed_by_xdp")
    });
}

#[test]
fn the_relay_outlives_a_restart_and_leaves_nothing_behind() {
    lab::run("the_relay_outlives_a_restart_and_leaves_nothing_behind", NEEDS, |lab| {
        let net = lab.routed(3, UNDERLAY_MTU)?;
        let machines = &net.hosts;
        let ns = &machines[2].ns;
        let mut server = Server::start(lab, ns, &shape(machines, "", ""))?;
        let mut pair = pair(&server, machines)?;
        wait_for_kernel(&server, &mut pair, "relayed_by_xdp")?;
        ensure!(!is_bare(ns, Machine::NIC)?, "the test does not see programs that are there");
        server.stop()?;
        ensure!(is_bare(ns, Machine::NIC)?, "it has left programs behind");
        // Nobody registers again: what was kept is enough.
        server.launch()?;
        wait_for_kernel(&server, &mut pair, "relayed_by_xdp")?;
        ensure!(server.status()?.networks[0].connected == 0);
        server.process()?.kill();
        wait_until("the kernel to have removed the programs", SOON, || is_bare(ns, Machine::NIC))?;
        server.launch()?;
        wait_for_kernel(&server, &mut pair, "relayed_by_xdp")?;
        // A host that is elsewhere is relayed there.
        let a = &mut pair.hosts[0];
        a.connect()?;
        a.register("back", &[7])?;
        a.socket = machines[0].ns.enter(|| Ok(std::net::UdpSocket::bind((machines[0].addr, 6002))?))?;
        a.socket.connect(at(machines))?;
        a.socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        a.register("elsewhere", &[7])?;
        wait_for_kernel(&server, &mut pair, "relayed_by_xdp")?;
        server.stop()
    });
}

/// Starts a server, and has it relay by a hook.
fn relays_by(lab: &Lab, machines: &[Machine], mode: &str, counter: Option<&str>) -> Result<Server> {
    let server = Server::start(lab, &machines[2].ns, &shape(machines, "", ""))?;
    check(server, machines, mode, counter)
}

fn check(server: Server, machines: &[Machine], mode: &str, counter: Option<&str>) -> Result<Server> {
    let status = server.status()?;
    ensure!(status.relay == mode, "{} instead of {mode}: {:?}", status.relay, status.relay_kernel);
    let mut pair = pair(&server, machines)?;
    match counter {
        Some(counter) => wait_for_kernel(&server, &mut pair, counter)?,
        None => {
            let before = by_itself(&server)?;
            pair.pass(0)?;
            pair.pass(1)?;
            ensure!(by_itself(&server)? == before + 2 && status.relay_kernel.why_not.is_some(), "{status:?}");
        }
    }
    Ok(server)
}

#[test]
fn where_the_driver_has_no_xdp_there_is_generic_xdp() {
    lab::run("where_the_driver_has_no_xdp_there_is_generic_xdp", NEEDS, |lab| {
        let (machines, _switch) = lab.segment(3, UNDERLAY_MTU)?;
        let machines = &machines;
        let (ns, addr) = (&machines[2].ns, machines[2].addr);
        ns.ip(&format!("address flush dev {}", Machine::NIC))?;
        link::bridge(ns, "br0", UNDERLAY_MTU)?;
        link::enslave(ns, Machine::NIC, "br0")?;
        ns.ip(&format!("address add {addr}/24 dev br0"))?;
        let mut server = relays_by(lab, machines, "xdp-generic", Some("relayed_by_xdp"))?;
        server.stop()?;
        ensure!(is_bare(ns, "br0")?, "it has left programs behind");
        Ok(())
    });
}

#[test]
fn where_xdp_is_anothers_there_is_tc() {
    lab::run("where_xdp_is_anothers_there_is_tc", NEEDS, |lab| {
        let net = lab.routed(3, UNDERLAY_MTU)?;
        let machines = &net.hosts;
        let mut programs = Programs::load()?;
        programs.occupy(&machines[2].ns, Machine::NIC)?;
        relays_by(lab, machines, "tc", Some("relayed_by_tc"))?.stop()
    });
}

#[test]
fn a_server_at_all_addresses_relays_at_the_interface_that_leads_out() {
    lab::run("a_server_at_all_addresses_relays_at_the_interface_that_leads_out", NEEDS, |lab| {
        let net = lab.routed(3, UNDERLAY_MTU)?;
        let machines = &net.hosts;
        let ns = &machines[2].ns;
        // A second interface with an address, so that there is a choice.
        let other = lab.netns("other")?;
        link::veth((ns, "inner"), (&other, "inner"), 1500, 1)?;
        ns.ip("address add 10.255.0.1/24 dev inner")?;
        let addresses = "listen = [\"0.0.0.0:4789\"]\nother_port = 4790\n".to_owned();
        let server = Server::start(lab, ns, &Shape { addresses, ..Shape::default() })?;
        let server = check(server, machines, "xdp-driver", Some("relayed_by_xdp"))?;
        let kernel = server.status()?.relay_kernel;
        let place = (kernel.interface.as_deref(), kernel.address);
        ensure!(place == (Some(Machine::NIC), Some(machines[2].addr)), "{kernel:?}");
        Ok(())
    });
}

#[test]
fn without_the_kernel_the_server_relays_by_itself() {
    let needs = [Need::Wavnet, Need::Tool("setpriv")];
    lab::run("without_the_kernel_the_server_relays_by_itself", &needs, |lab| {
        let net = lab.routed(3, UNDERLAY_MTU)?;
        let machines = &net.hosts;
        let ns = &machines[2].ns;
        let mut server = Server::start(lab, ns, &shape(machines, "relay_xdp = \"off\"\n", ""))?;
        server = check(server, machines, "user-space", None)?;
        server.stop()?;
        // As somebody who may load no programs; and as one who may do just that.
        server.configure(&shape(machines, "", ""))?;
        let none = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
        server.launch_by(&none)?;
        let told = |line: &&str| line.contains("the server relays") && line.contains("CAP_BPF");
        wait_until("it to say so once", SOON, || Ok(server.process()?.log().lines().filter(told).count() == 1))?;
        server = check(server, machines, "user-space", None)?;
        ensure!(server.status()?.warnings.is_empty(), "{:?}", server.status()?.warnings);
        server.stop()?;
        let those = ["setpriv", "--bounding-set=-all,+bpf,+net_admin,+perfmon", "--inh-caps=-all"];
        server.launch_by(&those)?;
        server = check(server, machines, "xdp-driver", Some("relayed_by_xdp"))?;
        server.stop()?;
        // At an interface that is not there; until it is.
        server.configure(&shape(machines, "relay_xdp = \"later\"\n", ""))?;
        server.launch()?;
        ensure!(server.status()?.warnings.iter().any(|w| w.contains("no interface later")));
        server = check(server, machines, "user-space", None)?;
        let other = lab.netns("other")?;
        link::veth((ns, "later"), (&other, "later"), 1500, 1)?;
        wait_until("the programs to be attached", SOON, || {
            let status = server.status()?;
            Ok(status.relay == "xdp-driver" && status.warnings.is_empty())
        })?;
        ns.ip("link del dev later")?;
        wait_until("the server to relay", SOON, || Ok(server.status()?.relay == "user-space"))?;
        server.stop()
    });
}
