//! Rendezvous servers that die: what stands goes on, and what is new finds its way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wavnet_tests::{
    lab::{self, host::Host, nat::NatKind, ping, poll_until, raw::RawSocket},
    mesh::{NEEDS, Site, SiteSpec, World, flow::Flow, meet, row, server_of},
    rendezvous::Server,
};

const SOON: Duration = Duration::from_secs(20);

fn cone() -> SiteSpec {
    SiteSpec::behind(Some(NatKind::PortRestrictedCone))
}

/// Waits until the n-th server has a site, or until the site says that it does not answer.
fn wait_registered(site: &Site, n: usize, registered: bool) -> Result<()> {
    // It takes some seconds until a server is said not to answer.
    poll_until(&format!("server {n}: {registered}"), 2 * SOON, || {
        let server = server_of(&site.agent, n)?;
        ensure!(server.error.is_none() == registered && (server.registered || !registered), "{server:?}");
        Ok(())
    })
}

fn kill(server: &mut Server) -> Result<()> {
    server.process()?.kill();
    Ok(())
}

#[test]
fn established_paths_do_not_need_the_server() {
    lab::run("established_paths_do_not_need_the_server", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let often = SiteSpec { mesh: "pulse = \"1s\"\n".into(), ..cone() };
        let symmetric = SiteSpec::behind(Some(NatKind::SymmetricRandom)).vni(101);
        let [a, b, c, d] = world.sites(lab, [&often, &often, &symmetric, &symmetric])?;
        meet("before the server is killed", (&a, &b), "direct", SOON)?;
        meet("before the server is killed", (&c, &d), "relayed", SOON)?;
        let (direct, relayed) = (Flow::start(&a, &b, SOON)?, Flow::start(&c, &d, SOON)?);
        kill(&mut world.server)?;
        poll_until("relayed frames to be lost", SOON, || {
            let missing = relayed.missing();
            ensure!(missing >= 20, "{missing}");
            Ok(())
        })?;
        let gap = relayed.gap(SOON, || world.server.launch())?;
        // By the server's store: both sides need not find each other again, which takes longer.
        gap.below(Duration::from_secs(5)).context("after the server is back")?;
        row("the server is killed, and starts again (since then)", "relayed", gap.as_millis());
        for site in [&a, &b, &c, &d] {
            wait_registered(site, 0, true)?;
        }
        poll_until("all hosts to be back", SOON, || {
            let hosts: u64 = world.server.status()?.networks.iter().map(|network| network.connected).sum();
            ensure!(hosts == 4, "{hosts} hosts");
            Ok(())
        })?;
        // A wire that is cut: nobody says so.
        let nic = "link set dev u0";
        world.public.host.ns.ip(&format!("{nic} down"))?;
        for site in [&a, &b] {
            wait_registered(site, 0, false)?;
        }
        let said = || a.agent.log().matches("it does not answer").count();
        poll_until("the agent to say so", SOON, || {
            ensure!(said() > 0, "{}", a.agent.log());
            Ok(())
        })?;
        direct.steady(SOON)?;
        ensure!(said() == 1, "once and not more: {}", a.agent.log());
        let lost = direct.lost();
        ensure!(lost <= 1, "{lost} frames were lost");
        row("the server is killed, starts again, and is cut off", "direct", 0);
        world.public.host.ns.ip(&format!("{nic} up"))?;
        let route = format!("route replace default via {}", gateway(&world));
        world.public.host.ns.ip(&route)?;
        for site in [&a, &b] {
            wait_registered(site, 0, true)?;
        }
        let late = world.site(lab, &cone())?;
        meet("who comes later", (&late, &a), "direct", SOON)?;
        let lost = direct.lost();
        ensure!(lost <= 1, "{lost} frames were lost");
        Ok(())
    });
}

fn gateway(world: &World) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(u32::from(world.public.host.addr) & !0xff | 1)
}

#[test]
fn one_of_two_servers_brings_together_whom_the_other_no_longer_can() {
    lab::run("one_of_two_servers_brings_together_whom_the_other_no_longer_can", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        world.add_server(lab)?;
        let symmetric = SiteSpec::behind(Some(NatKind::SymmetricRandom));
        let [a, b] = world.sites(lab, [&symmetric, &symmetric])?;
        meet("two servers", (&a, &b), "relayed", SOON)?;
        for site in [&a, &b] {
            wait_registered(site, 1, true)?;
        }
        let flow = Flow::start(&a, &b, SOON)?;
        // The two are as near: the one that was proved first may carry frames this way, and the other one those back.
        let relays = a.peer(&b)?.selected().context("no path")?.remote.ip();
        let server = match relays == world.public.host.addr {
            true => &mut world.server,
            false => &mut world.others[0].1,
        };
        let gap = flow.gap_with(SOON, || kill(server))?;
        gap.below(Duration::from_secs(1))?;
        row("the one of two servers that relays is killed", "relayed", gap.as_millis());
        let late = world.site(lab, &SiteSpec::behind(Some(NatKind::FullCone)))?;
        meet("who comes when one of two servers is dead", (&late, &a), "direct", 2 * SOON)?;
        Ok(())
    });
}

/// Whether a frame carries a datagram to a server, from a site.
fn is_asked(frame: &[u8], site: &Site) -> bool {
    let from = site.router.as_ref().map_or(site.host.addr, |router| router.external());
    // Ethernet, IPv4 without options, UDP.
    frame.get(23) == Some(&17) && frame.get(26..30) == Some(&from.octets()) && frame.get(36..38) == Some(&[0x12, 0xb5])
}

#[test]
fn a_server_may_be_killed_at_any_step() {
    lab::run("a_server_may_be_killed_at_any_step", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let [a, mut b] = world.sites(lab, [&cone(), &cone()])?;
        meet("before the server is killed", (&a, &b), "direct", SOON)?;
        let wire = RawSocket::open(&world.public.host.ns, Host::NIC)?;
        // HELLO, INIT, REGISTER; then asking for the directory and for the peer, and the classification.
        for step in 1..=5 {
            b.agent.kill();
            wire.drain(|_| false)?;
            b.agent.begin("")?;
            for _ in 0..step {
                wire.expect("a datagram to the server", SOON, |frame| is_asked(frame, &b))?;
            }
            kill(&mut world.server)?;
            world.server.launch()?;
            let start = Instant::now();
            b.agent.wait_answers()?;
            wait_registered(&b, 0, true)?;
            b.wait_for_path(&a, "direct", SOON)?;
            let ms = start.elapsed().as_millis();
            a.wait_for_path(&b, "direct", SOON)?;
            ping::once(&a.vm.ns, b.addr, 56, SOON)?;
            row(
                &format!("the server is killed at datagram {step} of a host that starts; since it is back"),
                "direct",
                ms,
            );
        }
        Ok(())
    });
}
