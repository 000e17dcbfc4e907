//! Hosts behind a NAT that translates ports, and who talks to them: endpoints as they are punched, written by the test.

use std::{collections::BTreeSet, net::SocketAddrV4};

use anyhow::{Context, Result, ensure};
use wavnet_common::{
    abi::{Arrival, Count, Endpoint, LocalPort},
    addr::PeerId,
    fdb::Place,
    reason::Reason,
    wire::pulse::{Number, PulseHdr},
};
use wavnet_proto::fabric::{PathFrom, PeerPath, PortMode};
use wavnet_tests::lab::{
    self, Lab, Need,
    capture::Capture,
    core::{Core, Setup, UDP_PORT, heard, socket},
    host::{Host, Vm, VmSpec},
    netns::Netns,
    overlay::{SOON, blue, ip, mac},
    ping, stream,
    topology::{Routed, UNDERLAY_MTU},
};

const NEEDS: &[Need] = &[Need::Tool("nft"), Need::Tool("tcpdump"), Need::Tool("tshark")];

/// Two hosts behind one NAT, and one in front of it: on each a VM of one VNI, 10.0.0.1 to 10.0.0.3. Those behind the NAT know only the
/// one in front, and it knows both.
struct Net {
    cores: [Core; 3],
    vms: [Vm; 3],
    underlay: Routed,
    /// Where the two are seen.
    outside: [SocketAddrV4; 2],
}

fn id(n: u8) -> PeerId {
    PeerId([n; 32])
}

/// Hides who is behind the router, by another source port than theirs.
fn translate(router: &Netns, out: &str) -> Result<()> {
    let rules = format!(
        "table ip nat {{ chain post {{ type nat hook postrouting priority srcnat; \
         oifname \"{out}\" meta l4proto udp masquerade to :20000-29999 random; }}; }}"
    );
    router.run("nft", &[&rules])?;
    Ok(())
}

impl Net {
    fn start(lab: &Lab, mode: PortMode) -> Result<Net> {
        let underlay = lab.routed(3, UNDERLAY_MTU)?;
        translate(&underlay.router, "r2")?;
        let mut made = Vec::new();
        for (i, host) in underlay.hosts.iter().enumerate() {
            let n = i as u8 + 1;
            let vm = host.vm(lab, &VmSpec::new(&format!("v{n}"), mac(n), ip(n)))?;
            let core = Core::start(lab, host, Setup { mode, ..Setup::port(&vm.port) })?;
            made.push((core, vm));
        }
        let (cores, vms): (Vec<Core>, Vec<Vm>) = made.into_iter().unzip();
        let (Ok(cores), Ok(vms)) = (<[Core; 3]>::try_from(cores), <[Vm; 3]>::try_from(vms)) else { unreachable!() };
        let seen = |i: usize| seen(&underlay.hosts[i], &underlay.hosts[2]);
        let outside = [seen(0)?, seen(1)?];
        let mut net = Net { cores, vms, underlay, outside };
        for i in 0..2 {
            net.introduce(i)?;
        }
        Ok(net)
    }

    /// Tells one behind the NAT and the one in front where the other is.
    fn introduce(&mut self, i: usize) -> Result<()> {
        let front = SocketAddrV4::new(self.underlay.hosts[2].addr, UDP_PORT);
        for (core, peer, at) in [(i, id(3), front), (2, id(i as u8 + 1), self.outside[i])] {
            let core = &mut self.cores[core];
            core.fabric.set_peer(peer, BTreeSet::from([blue()]), punched(at))?;
            core.fabric.add_path(path(at, peer))?;
            core.settle()?;
        }
        Ok(())
    }
}

fn punched(at: SocketAddrV4) -> Endpoint {
    Endpoint { source_port: Some(UDP_PORT), ..Endpoint::plain(at.ip().octets(), at.port()) }
}

fn path(at: SocketAddrV4, peer: PeerId) -> PeerPath {
    PeerPath { from: PathFrom::Direct(Arrival::new(at, LocalPort::MAIN)), peer: Some(peer) }
}

/// Where `host` is seen by `by`: a pulse from somebody unknown goes up to the socket.
fn seen(host: &Host, by: &Host) -> Result<SocketAddrV4> {
    let (from, to) = (socket(host, UDP_PORT)?, socket(by, UDP_PORT)?);
    let pulse = PulseHdr::request(Number::new(77)).0.0;
    from.send_to(&pulse, SocketAddrV4::new(by.addr, UDP_PORT))?;
    let (bytes, at) = heard(&to, SOON)?;
    ensure!(bytes == pulse, "{bytes:02x?} from {at}");
    ensure!(at.port() != UDP_PORT, "the NAT does not translate ports: the test proves nothing");
    Ok(at)
}

#[test]
fn hosts_behind_one_nat_are_told_apart() {
    lab::run("nat::hosts_behind_one_nat_are_told_apart", NEEDS, |lab| {
        let net = Net::start(lab, PortMode::Auto)?;
        ensure!(net.outside[0].ip() == net.outside[1].ip() && net.outside[0].port() != net.outside[1].port());
        // The first one finds the other by a flood.
        for (from, to) in [(0, 3), (2, 1), (1, 3), (2, 2)] {
            ping::once(&net.vms[from].ns, ip(to), 56, SOON)?;
        }
        for i in [0, 1] {
            let place = Place::Vtep(net.cores[2].slot(id(i + 1))?);
            ensure!(net.cores[2].place(mac(i + 1)) == Some(place), "{:?}", net.cores[2].place(mac(i + 1)));
        }
        ensure!(net.cores[2].count(Count::Flooded)? > 0);
        ping::unreachable(&net.vms[0].ns, ip(2))?;
        for core in &net.cores {
            ensure!(core.drops(Reason::UnknownPath)? == 0);
        }
        Ok(())
    });
}

#[test]
fn everything_takes_the_one_way_that_the_nat_has_open() {
    for (name, mode) in [("tc", PortMode::Throughput), ("xdp", PortMode::PacketRate)] {
        let test = format!("nat::everything_takes_the_one_way_that_the_nat_has_open ({name})");
        lab::run(&test, NEEDS, |lab| {
            let net = Net::start(lab, mode)?;
            let capture = Capture::start(&net.underlay.router, "r0", "udp")?;
            for _ in 0..4 {
                stream::bulk(&net.vms[2].ns, ip(3), &net.vms[0].ns, 3_000_000)?;
                stream::bulk(&net.vms[0].ns, ip(1), &net.vms[2].ns, 3_000_000)?;
            }
            ping::once(&net.vms[0].ns, ip(3), 1472, SOON)?;
            let packets = capture.stop()?.fields("udp", &["ip.src", "udp.srcport", "ip.dst", "udp.dstport"])?;
            ensure!(packets.len() > 1000, "{} packets", packets.len());
            let flows: BTreeSet<[String; 4]> =
                packets.into_iter().filter_map(|fields| fields.try_into().ok()).collect();
            let (inside, front) = (Routed::address(0).to_string(), Routed::address(2).to_string());
            let port = || UDP_PORT.to_string();
            let both = [[inside.clone(), port(), front.clone(), port()], [front, port(), inside, port()]];
            ensure!(flows == BTreeSet::from(both), "{flows:?}");
            Ok(())
        });
    }
}

#[test]
fn whoever_is_no_path_and_whoever_is_no_member_is_not_heard() {
    lab::run("nat::whoever_is_no_path_and_whoever_is_no_member_is_not_heard", NEEDS, |lab| {
        let mut net = Net::start(lab, PortMode::Auto)?;
        ping::once(&net.vms[0].ns, ip(3), 56, SOON)?;
        let slot = net.cores[2].fabric.paths().find(|(_, p)| p.peer == Some(id(1))).map(|(slot, _)| slot);
        net.cores[2].fabric.remove_path(slot.unwrap_or_default());
        net.cores[2].settle()?;
        ping::unreachable(&net.vms[0].ns, ip(3))?;
        ensure!(net.cores[2].drops(Reason::UnknownPath)? > 0);
        ping::once(&net.vms[1].ns, ip(3), 56, SOON)?;
        net.cores[2].fabric.add_path(path(net.outside[0], id(1)))?;
        net.cores[2].settle()?;
        ping::once(&net.vms[0].ns, ip(3), 56, SOON)?;
        // A path from there to another port of ours is another path.
        let slot = net.cores[2].fabric.paths().find(|(_, p)| p.peer == Some(id(1))).map(|(slot, _)| slot);
        let other = LocalPort::extra(0).context("there is one")?;
        let other = PeerPath { from: PathFrom::Direct(Arrival::new(net.outside[0], other)), peer: Some(id(1)) };
        net.cores[2].fabric.add_path(other)?;
        net.cores[2].settle()?;
        ping::once(&net.vms[0].ns, ip(3), 56, SOON)?;
        net.cores[2].fabric.remove_path(slot.unwrap_or_default());
        net.cores[2].settle()?;
        ping::unreachable(&net.vms[0].ns, ip(3))?;
        net.cores[2].fabric.add_path(path(net.outside[0], id(1)))?;
        net.cores[2].fabric.set_peer(id(1), BTreeSet::new(), punched(net.outside[0]))?;
        net.cores[2].settle()?;
        ping::unreachable(&net.vms[0].ns, ip(3))?;
        ensure!(net.cores[2].place(mac(1)).is_none(), "what was learned of it went with it");
        Ok(())
    });
}

#[test]
fn a_new_agent_carries_on_where_the_other_ended() {
    lab::run("nat::a_new_agent_carries_on_where_the_other_ended", NEEDS, |lab| {
        let net = Net::start(lab, PortMode::Auto)?;
        ping::once(&net.vms[0].ns, ip(3), 56, SOON)?;
        let pings = ping::Ping::start(&net.vms[0].ns, ip(3), std::time::Duration::from_millis(1))?;
        pings.wait_answered(100, SOON)?;
        let Net { cores: [a, b, front], vms: _vms, underlay: _underlay, outside } = net;
        let slot = front.slot(id(1))?;
        let mut front = front.restart()?;
        pings.wait_answered(100, SOON)?;
        ensure!(front.fabric.unclaimed_peers().count() == 2 && front.fabric.paths().count() == 2);
        ensure!(front.slot(id(1))? == slot);
        front.fabric.set_peer(id(1), BTreeSet::from([blue()]), punched(outside[0]))?;
        ensure!(front.fabric.poll_command().is_none(), "it is as it should be");
        front.fabric.add_path(path(outside[0], id(1)))?;
        ensure!(front.fabric.forget_unclaimed() == [id(2)]);
        front.settle()?;
        pings.wait_answered(100, SOON)?;
        ensure!(front.fabric.dynamic_peers().len() == 1 && front.fabric.paths().count() == 1);
        let loss = pings.stop();
        ensure!(loss.lost() == 0, "{loss:?}");
        drop((a, b));
        Ok(())
    });
}
