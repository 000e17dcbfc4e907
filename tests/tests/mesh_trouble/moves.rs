//! NATs that forget everything, and hosts that are suddenly elsewhere: frames come back by themselves.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use wavnet_tests::{
    lab::{
        self,
        nat::{NatKind, Router, RouterSpec, Timeouts, conntrack},
        poll_until,
        udp::Udp,
    },
    mesh::{
        NEEDS, Site, SiteSpec, World,
        flow::{Flow, Gap},
        meet, row, server_of,
    },
};

const SOON: Duration = Duration::from_secs(20);
/// Frames are to be back within this time, once the host can send.
const BACK: Duration = Duration::from_secs(1);

/// Where frames from one site to another go.
fn remote(from: &Site, to: &Site) -> Result<SocketAddr> {
    let peer = from.peer(to)?;
    peer.selected().map(|path| path.remote).context("no path")
}

/// Waits until frames take paths of this kind both ways; they are back, and it took no longer than it may.
fn back(case: &str, kind: &str, (a, b): (&Site, &Site), gap: Gap) -> Result<()> {
    gap.below(BACK).with_context(|| case.to_owned())?;
    a.wait_for_path(b, kind, SOON)?;
    b.wait_for_path(a, kind, SOON)?;
    row(case, kind, gap.as_millis());
    Ok(())
}

#[test]
fn frames_come_back_when_nats_forget_and_hosts_move() {
    lab::run("frames_come_back_when_nats_forget_and_hosts_move", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let [there, here] = [NatKind::PortRestrictedConeRemapped, NatKind::PortRestrictedCone];
        let spec = SiteSpec { roams: true, ..SiteSpec::behind(Some(there)) };
        let [mut a, b] = world.sites(lab, [&spec, &SiteSpec::behind(Some(here))])?;
        let mut elsewhere = Router::new(lab, "elsewhere", &mut world.internet, &RouterSpec::new(NatKind::FullCone))?;
        meet("a cone with ports of its own", (&a, &b), "direct", SOON)?;
        let flow = Flow::start(&a, &b, SOON)?;

        let before = remote(&b, &a)?;
        let router = a.router.as_ref().context("a router")?;
        let gap = flow.gap_with(SOON, || router.reboot())?;
        back("its router restarts: another port", "direct", (&a, &b), gap)?;
        let after = remote(&b, &a)?;
        ensure!(after.port() != before.port(), "{before}, then {after}");

        let router = a.router.as_mut().context("a router")?;
        let mut new = Ipv4Addr::UNSPECIFIED;
        let gap = flow.gap(SOON, || router.change_address().map(|address| new = address))?;
        back("its router gets another address", "direct", (&a, &b), gap)?;
        let now = remote(&b, &a)?.ip();
        ensure!(now == IpAddr::V4(new), "{new}, but frames go to {now}");

        let router = b.router.as_ref().context("a router")?;
        let gap = flow.gap_with(SOON, || router.reboot())?;
        back("the other side's router restarts: the same port", "direct", (&a, &b), gap)?;

        let gap = flow.gap(SOON, || {
            let new = Ipv4Addr::from(u32::from(a.host.addr) + 50);
            let gateway = Ipv4Addr::from(u32::from(a.host.addr) & !0xff | 1);
            a.host.ns.ip("address flush dev u0")?;
            a.host.ns.ip(&format!("address add {new}/24 dev u0"))?;
            a.host.ns.ip(&format!("route replace default via {gateway}")).map(drop)
        })?;
        back("the host gets another address on its LAN", "direct", (&a, &b), gap)?;

        let old = a.router.as_ref().context("a router")?;
        let gap = flow.gap(SOON, || elsewhere.adopt(&mut a.host, old))?;
        let external = IpAddr::V4(elsewhere.external());
        poll_until("the other side to see it behind another router", SOON, || {
            let now = remote(&b, &a)?.ip();
            ensure!(now == external, "{now}");
            Ok(())
        })?;
        back("the host moves behind another router", "direct", (&a, &b), gap)
    });
}

#[test]
fn frames_come_back_when_symmetric_nats_forget() {
    lab::run("frames_come_back_when_symmetric_nats_forget", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let [draws, cone] = [NatKind::SymmetricRandom, NatKind::FullCone].map(|kind| SiteSpec::behind(Some(kind)));
        let [a, b] = world.sites(lab, [&draws, &cone])?;
        let apart = draws.vni(101);
        let [c, d] = world.sites(lab, [&apart, &apart])?;
        for (case, kind, near, far) in [
            ("a symmetric NAT restarts, opposite a full cone", "direct", &a, &b),
            ("one of two symmetric NATs restarts", "relayed", &c, &d),
        ] {
            meet(&format!("before {case}"), (near, far), kind, SOON)?;
            let flow = Flow::start(near, far, SOON)?;
            let mapped = || Ok::<_, anyhow::Error>(server_of(&near.agent, 0)?.mapped);
            let (before, path) = (mapped()?, remote(far, near)?);
            let router = near.router.as_ref().context("a router")?;
            let gap = flow.gap_with(SOON, || router.reboot())?;
            back(case, kind, (near, far), gap)?;
            poll_until("the server to see another port", SOON, || {
                ensure!(mapped()? != before, "{before:?}");
                Ok(())
            })?;
            let now = remote(far, near)?;
            ensure!(kind == "relayed" || now != path, "frames still go to {path}");
        }
        Ok(())
    });
}

/// Routers forget what is idle for longer than this.
const MEMORY: Duration = Duration::from_secs(3);

#[test]
fn pulses_keep_mappings_that_are_forgotten_otherwise() {
    lab::run("pulses_keep_mappings_that_are_forgotten_otherwise", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let timeouts = Timeouts { unreplied: MEMORY, replied: MEMORY };
        let router = RouterSpec::new(NatKind::PortRestrictedConeRemapped).timeouts(timeouts);
        let spec = SiteSpec { router: Some(router), mesh: "pulse = \"1s\"\n".into(), ..SiteSpec::default() };
        let [a, b] = world.sites(lab, [&spec, &spec])?;
        meet("NATs that forget within three seconds", (&a, &b), "direct", SOON)?;
        // Else they ask for each other's link address in their own time.
        a.knows_where(&b)?;
        b.knows_where(&a)?;
        let paths = || Ok::<_, anyhow::Error>([remote(&a, &b)?, remote(&b, &a)?]);
        let (before, sent) = (paths()?, a.peer(&b)?.traffic.tx_frames);
        // A mapping that nothing is sent by, to tell when the router has forgotten all that were left alone since now.
        let router = a.router.as_ref().context("a router")?;
        let idle = Udp::open(&a.host, 5000)?;
        idle.send(SocketAddrV4::new(world.public.host.addr, 9), "once")?;
        for there in [true, false] {
            poll_until("the idle mapping to come and to go", SOON, || {
                let entries = conntrack::list(&router.ns, "udp")?;
                ensure!(entries.iter().any(|entry| entry.contains(" sport=5000 ")) == there, "{entries:#?}");
                Ok(())
            })?;
        }
        ensure!(paths()? == before, "from {before:?} to {:?}", paths()?);
        ensure!(a.peer(&b)?.traffic.tx_frames == sent, "it was not idle");
        let flow = Flow::start(&a, &b, SOON)?;
        let lost = flow.lost();
        ensure!(lost <= 1, "{lost} were lost at first");
        row("idle for longer than the NATs remember", "direct", 0);
        Ok(())
    });
}
