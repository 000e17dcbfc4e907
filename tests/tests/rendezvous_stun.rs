//! `wavnet rendezvous` answers STUN in the kernel where it can: plain requests, with the bytes that it would answer itself.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use wavnet_tests::{
    lab::{
        self, Need,
        agent::{promtool_check, sum_of},
        host::Host as Machine,
        link,
        nat::{
            Dependence,
            classify::Classifier,
            stun::{NatDiscovery, Servers, StunClient},
            wavnet::WavnetNat,
        },
        netns::Netns,
        programs::Programs,
        topology::UNDERLAY_MTU,
        wait_until,
    },
    rendezvous::{Server, Shape, ask},
};

const SOON: Duration = Duration::from_secs(20);
const NEEDS: &[Need] = &[Need::Wavnet];
/// Those of STUN, which Debian's client cannot be told otherwise.
const PORTS: [u16; 2] = [3478, 3479];

/// How many requests were answered, by the kernel and by the server itself.
fn answered(server: &Server) -> Result<(u64, u64)> {
    let counters = server.status()?.counters;
    Ok((counters.stun_by_kernel, counters.stun_answered - counters.stun_by_kernel))
}

fn request(n: u32) -> Vec<u8> {
    [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[0x5a; 8], &n.to_be_bytes()].concat()
}

/// One request and its answer, as long as a lab without loss may take.
fn exchange(socket: &UdpSocket, to: SocketAddr, n: u32) -> Result<Vec<u8>> {
    let request = request(n);
    socket.send_to(&request, to)?;
    let mut buffer = [0; 2048];
    let (len, from) = socket.recv_from(&mut buffer).with_context(|| format!("request {n} was not answered"))?;
    ensure!(from == to && buffer[8..20] == request[8..], "{from} answers {:02x?}", &buffer[..len]);
    Ok(buffer[..len].to_vec())
}

fn socket(ns: &Netns, at: SocketAddr) -> Result<UdpSocket> {
    let socket = ns.enter(|| UdpSocket::bind(at).with_context(|| format!("binding {at}")))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(socket)
}

/// The server on a machine with a second address.
fn with_two_addresses(machine: &Machine, more: &str) -> Result<(Shape, Servers)> {
    let [a, b, c, d] = machine.addr.octets();
    let servers = Servers {
        primary: machine.addr,
        alternate: Ipv4Addr::new(a, b, c, d + 1),
        port: PORTS[0],
        alternate_port: PORTS[1],
    };
    let addresses = format!(
        "listen = [\"{}:{}\"]\nother_address = [\"{}\"]\nother_port = {}\n",
        servers.primary, servers.port, servers.alternate, servers.alternate_port
    );
    Ok((Shape { addresses, more: more.to_owned(), tables: String::new() }, servers))
}

#[test]
fn the_kernel_answers_our_client_and_others() {
    let needs = [Need::Wavnet, Need::Tool("promtool"), Need::Tool("turnutils_natdiscovery"), Need::Tool("stun")];
    lab::run("the_kernel_answers_our_client_and_others", &needs, |lab| {
        let net = lab.routed(2, UNDERLAY_MTU)?;
        let [client, machine] = &net.hosts[..] else { anyhow::bail!("two machines were asked for") };
        let (shape, servers) = with_two_addresses(machine, "")?;
        machine.ns.ip(&format!("address add {}/24 dev {}", servers.alternate, Machine::NIC))?;
        let mut server = Server::start(lab, &machine.ns, &shape)?;
        ensure!(server.status()?.relay == "xdp-driver", "{:?}", server.status()?);
        let at = SocketAddr::from((servers.primary, servers.port));
        let other = SocketAddr::from((servers.alternate, servers.alternate_port));
        let port = |n: u16| SocketAddr::from((client.addr, 7000 + n));
        for n in 0..20 {
            let said = ask(&client.ns, port(n), at)?;
            ensure!(said == (port(n), Some(at), Some(other)), "{said:?}");
        }
        ensure!(answered(&server)? == (20, 0), "{:?}", answered(&server)?);
        // The other address and the other port are the server's own.
        for to in [other, (servers.primary, servers.alternate_port).into(), (servers.alternate, servers.port).into()] {
            ask(&client.ns, port(0), to)?;
        }
        ensure!(answered(&server)? == (20, 3), "{:?}", answered(&server)?);

        for classifier in [&WavnetNat as &dyn Classifier, &NatDiscovery, &StunClient] {
            let before = answered(&server)?;
            let found = classifier.classify(client, 7100, &servers)?;
            let free = Some(Dependence::EndpointIndependent);
            ensure!(found.translated == Some(false), "{}: {found:?}", classifier.name());
            ensure!(found.mapping.is_none_or(|mapping| Some(mapping) == free), "{}: {found:?}", classifier.name());
            ensure!(found.filtering == free, "{}: {found:?}", classifier.name());
            let after = answered(&server)?;
            println!("{}: {before:?}, then {after:?}", classifier.name());
            // Debian's client is one of RFC 3489, with an attribute in each request: the server's own business.
            let by_kernel = classifier.name() != StunClient.name();
            ensure!((after.0 > before.0) == by_kernel && after.1 > before.1, "{}", classifier.name());
        }

        let metrics = server.metrics()?;
        promtool_check(lab, &metrics)?;
        let (kernel, user) = answered(&server)?;
        for (by, count) in [("by=\"xdp\"", kernel), ("by=\"user\"", user)] {
            let sum = sum_of(&metrics, "wavnet_rendezvous_stun_total", &["result=\"success\"", by]);
            ensure!(sum == Some(count as f64), "{by}: {sum:?} instead of {count}");
        }

        // The same question to the same server without programs: the same bytes.
        let socket = socket(&client.ns, port(200))?;
        let by_kernel = exchange(&socket, at, 1)?;
        ensure!(answered(&server)? == (kernel + 1, user), "{:?}", answered(&server)?);
        server.stop()?;
        server.configure(&with_two_addresses(machine, "relay_xdp = \"off\"\n")?.0)?;
        server.launch()?;
        let by_server = exchange(&socket, at, 1)?;
        ensure!(by_kernel == by_server, "{by_kernel:02x?} is not {by_server:02x?}");
        ensure!(answered(&server)? == (0, 1), "{:?}", answered(&server)?);
        server.stop()
    });
}

#[test]
fn requests_are_answered_while_the_programs_go_elsewhere() {
    lab::run("requests_are_answered_while_the_programs_go_elsewhere", NEEDS, |lab| {
        let net = lab.routed(2, UNDERLAY_MTU)?;
        let [client, machine] = &net.hosts[..] else { anyhow::bail!("two machines were asked for") };
        let (ns, gateway) = (&machine.ns, lab::topology::Routed::gateway(1));
        let inner = lab.netns("inner")?;
        link::veth((ns, "inner"), (&inner, "inner"), 1500, 1)?;
        link::like_a_nic(ns, "inner")?;
        ns.ip("address add 10.255.0.1/24 dev inner")?;
        ns.ip(&format!("route add 172.31.0.0/16 via {gateway}"))?;
        let addresses = "listen = [\"0.0.0.0:4789\"]\nother_port = 4790\n".to_owned();
        let mut server = Server::start(lab, ns, &Shape { addresses, ..Shape::default() })?;
        let at = SocketAddr::from((machine.addr, 4789));
        let socket = socket(&client.ns, (client.addr, 7000).into())?;
        let mut n = 0;
        let mut ask_until = |what: &str, done: &dyn Fn((u64, u64), (u64, u64)) -> bool| {
            let (start, first) = (answered(&server)?, n);
            wait_until(what, SOON, || {
                n += 1;
                exchange(&socket, at, n)?;
                Ok(done(start, answered(&server)?))
            })?;
            // None twice, none left out.
            let end = answered(&server)?;
            ensure!(end.0 + end.1 - start.0 - start.1 == u64::from(n - first), "{start:?}, {end:?}");
            Ok(())
        };
        ask_until("the kernel to answer", &|start, now| now.0 >= start.0 + 5)?;
        ns.ip("route replace default via 10.255.0.2 dev inner")?;
        ask_until("the server to answer by itself", &|start, now| now.1 >= start.1 + 5)?;
        ns.ip(&format!("route replace default via {gateway}"))?;
        ask_until("the kernel to answer again", &|start, now| now.0 >= start.0 + 5)?;
        let place = server.status()?.relay_kernel;
        ensure!(place.interface.as_deref() == Some(Machine::NIC), "{place:?}");

        // Else the other addresses of a subnet go with the first one.
        ns.sysctl("net/ipv4/conf/all/promote_secondaries", "1")?;
        // Another address: where it is asked is where it says that it answers from.
        let [a, b, c, d] = machine.addr.octets();
        let moved = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d + 7), 4789);
        ns.ip(&format!("address add {}/24 dev {}", moved.ip(), Machine::NIC))?;
        ask(&client.ns, (client.addr, 7001).into(), moved.into())?;
        let before = answered(&server)?;
        ns.ip(&format!("address del {}/24 dev {}", machine.addr, Machine::NIC))?;
        // The routes by the address went with it.
        ns.ip(&format!("route replace 172.31.0.0/16 via {gateway}"))?;
        ns.ip(&format!("route replace default via {gateway}"))?;
        wait_until("the kernel to answer at the new address", SOON, || {
            let said = ask(&client.ns, (client.addr, 7001).into(), moved.into())?;
            ensure!(said == ((client.addr, 7001).into(), Some(moved.into()), None), "{said:?}");
            Ok(answered(&server)?.0 > before.0)
        })?;
        server.stop()
    });
}

#[test]
fn generic_xdp_answers_or_leaves_it_to_the_server_and_tc_does_not_answer() {
    lab::run("generic_xdp_answers_or_leaves_it_to_the_server_and_tc_does_not_answer", NEEDS, |lab| {
        let (machines, _switch) = lab.segment(2, UNDERLAY_MTU)?;
        let [client, machine] = &machines[..] else { anyhow::bail!("two machines were asked for") };
        let (ns, at) = (&machine.ns, SocketAddr::from((machine.addr, 4789)));
        let shape = || Shape { addresses: format!("listen = [\"{at}\"]\nother_port = 4790\n"), ..Shape::default() };
        let mut programs = Programs::load()?;
        programs.occupy(ns, Machine::NIC)?;
        let mut server = Server::start(lab, ns, &shape())?;
        ensure!(server.status()?.relay == "tc", "{:?}", server.status()?);
        let socket = socket(&client.ns, (client.addr, 7000).into())?;
        let wanted = exchange(&socket, at, 1)?;
        ensure!(answered(&server)? == (0, 1), "{:?}", answered(&server)?);
        server.stop()?;
        drop(programs);
        ns.ip(&format!("address flush dev {}", Machine::NIC))?;
        link::bridge(ns, "br0", UNDERLAY_MTU)?;
        link::enslave(ns, Machine::NIC, "br0")?;
        ns.ip(&format!("address add {}/24 dev br0", machine.addr))?;
        client.ns.ip(&format!("neighbour flush dev {}", Machine::NIC))?;
        server.launch()?;
        ensure!(server.status()?.relay == "xdp-generic", "{:?}", server.status()?);
        for _ in 0..10 {
            let found = exchange(&socket, at, 1)?;
            ensure!(found == wanted, "{found:02x?} instead of {wanted:02x?}");
        }
        let (kernel, user) = answered(&server)?;
        println!("{kernel} by generic XDP, {user} by the server");
        ensure!(kernel + user == 10, "{kernel} and {user}");
        server.stop()
    });
}

/// Asks so often at once. Gives how many were answered, and how many of them could be if a source may have `per_second`.
fn ask_at_once(server: &Server, socket: &UdpSocket, to: SocketAddr, many: u64, per_second: u32) -> Result<(u64, f64)> {
    let (before, start) = (server.status()?.counters, Instant::now());
    for n in 0..many {
        socket.send_to(&request(n as u32), to)?;
    }
    let since = || -> Result<(u64, u64)> {
        let now = server.status()?.counters;
        Ok((now.stun_answered - before.stun_answered, now.stun_too_fast - before.stun_too_fast))
    };
    wait_until("all of them to be counted", SOON, || {
        let (answered, too_fast) = since()?;
        Ok(answered + too_fast == many)
    })?;
    let most = f64::from(per_second) * (1.0 + start.elapsed().as_secs_f64());
    let (answered, _) = since()?;
    let mut buffer = [0; 2048];
    for n in 0..answered {
        socket.recv_from(&mut buffer).with_context(|| format!("{answered} were answered, and {n} answers came"))?;
    }
    socket.set_nonblocking(true)?;
    ensure!(socket.recv_from(&mut buffer).is_err(), "more than {answered} answers came");
    socket.set_nonblocking(false)?;
    Ok((answered, most))
}

#[test]
fn who_asks_too_often_is_answered_as_often_as_may_be() {
    const MANY: u64 = 200;
    const PER_SECOND: u32 = 10;
    lab::run("who_asks_too_often_is_answered_as_often_as_may_be", NEEDS, |lab| {
        let net = lab.routed(2, UNDERLAY_MTU)?;
        let [client, machine] = &net.hosts[..] else { anyhow::bail!("two machines were asked for") };
        let at = SocketAddr::from((machine.addr, 4789));
        let socket = socket(&client.ns, (client.addr, 7000).into())?;
        let shape = |xdp: &str, per_second: u32| Shape {
            addresses: format!("listen = [\"{at}\"]\nother_port = 4790\n"),
            more: format!("relay_xdp = \"{xdp}\"\n"),
            tables: format!("[limits]\nstun_per_second_of_source = {per_second}\n"),
        };
        let mut server = Server::prepare(lab, &machine.ns, &shape("auto", PER_SECOND))?;
        for (xdp, relay, by) in [("auto", "xdp-driver", "by=\"xdp\""), ("off", "user-space", "by=\"user\"")] {
            server.configure(&shape(xdp, PER_SECOND))?;
            server.launch()?;
            ensure!(server.status()?.relay == relay, "{:?}", server.status()?);
            let (answered, most) = ask_at_once(&server, &socket, at, MANY, PER_SECOND)?;
            println!("{relay}: {answered} of {MANY} answered, {most:.1} may be");
            ensure!(answered >= u64::from(PER_SECOND) && answered as f64 <= most, "{answered} answers, and not {most}");
            // None of them by both: what the kernel refuses does not reach the server.
            let (kernel, user) = self::answered(&server)?;
            ensure!(if by.contains("xdp") { user } else { kernel } == 0, "{kernel} and {user}");
            let refused = sum_of(&server.metrics()?, "wavnet_rendezvous_stun_total", &["result=\"too_fast\"", by]);
            ensure!(
                refused == Some((MANY - answered) as f64),
                "{refused:?} of {MANY} refused, and {answered} answered"
            );

            server.configure(&shape(xdp, 0))?;
            server.reload()?;
            wait_until("the limit to go", SOON, || Ok(ask_at_once(&server, &socket, at, MANY, 0)?.0 == MANY))?;
            server.stop()?;
        }
        Ok(())
    });
}
