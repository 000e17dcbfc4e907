//! NATs that forget everything, and hosts that are suddenly elsewhere: frames come back by themselves.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::ensure;
use wavnet_tests::{
    lab::{
        self, Need,
        nat::{NatKind, Router, RouterSpec, Timeouts, conntrack},
        poll_until,
        udp::Udp,
    },
    mesh::{Site, SiteSpec, World, flow::Flow, meet, row},
};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn frames_come_back_when_a_nat_has_forgotten_everything() {
    lab::run("frames_come_back_when_a_nat_has_forgotten_everything", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let mut a = world.site(lab, &SiteSpec::behind(Some(NatKind::PortRestrictedConeRemapped)))?;
        let b = world.site(lab, &SiteSpec::behind(Some(NatKind::PortRestrictedCone)))?;
        meet("a cone with ports of its own", (&a, &b), "direct", SOON)?;
        let flow = Flow::start(&a, &b, SOON)?;
        let mapped = |site: &Site| b.peer(site).map(|peer| peer.selected().map(|path| path.remote));
        let mut before = mapped(&a)?;
        for (case, other) in [("its router restarts: another port", false), ("it gets another address", true)] {
            let gap = flow.gap(SOON, || {
                let Some(router) = &mut a.router else { return Ok(()) };
                if other { router.change_address().map(drop) } else { router.reboot() }
            })?;
            a.wait_for_path(&b, "direct", SOON)?;
            b.wait_for_path(&a, "direct", SOON)?;
            let now = mapped(&a)?;
            ensure!(now != before, "{case}: it is where it was, {now:?}");
            before = now;
            row(case, "direct", gap.as_millis());
        }
        // The other side's: its mapping has the same port again, but lets nobody in.
        let gap = flow.gap(SOON, || b.router.as_ref().map_or(Ok(()), Router::reboot))?;
        row("the other side's router restarts: the same port", "direct", gap.as_millis());
        a.wait_for_path(&b, "direct", SOON)
    });
}

#[test]
fn a_host_that_moves_is_found_again() {
    lab::run("a_host_that_moves_is_found_again", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let spec = SiteSpec { roams: true, ..SiteSpec::behind(Some(NatKind::PortRestrictedCone)) };
        let (mut a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
        let mut elsewhere = Router::new(lab, "elsewhere", &mut world.internet, &RouterSpec::new(NatKind::FullCone))?;
        meet("before the move", (&a, &b), "direct", SOON)?;
        let flow = Flow::start(&b, &a, SOON)?;
        let remote = |site: &Site| b.peer(site).map(|peer| peer.selected().map(|path| path.remote.ip()));
        let home = remote(&a)?;
        let gap = flow.gap(SOON, || {
            let new = Ipv4Addr::from(u32::from(a.host.addr) + 50);
            let gateway = Ipv4Addr::from(u32::from(a.host.addr) & !0xff | 1);
            a.host.ns.ip("address flush dev u0")?;
            a.host.ns.ip(&format!("address add {new}/24 dev u0"))?;
            a.host.ns.ip(&format!("route replace default via {gateway}")).map(drop)
        })?;
        row("the host gets another address on its LAN", "direct", gap.as_millis());
        a.wait_for_path(&b, "direct", SOON)?;
        let Some(old) = a.router.as_ref() else { return Ok(()) };
        let gap = flow.gap(SOON, || elsewhere.adopt(&mut a.host, old))?;
        poll_until("the other side to see it elsewhere", SOON, || {
            let now = remote(&a)?;
            ensure!(now != home, "{now:?}");
            Ok(())
        })?;
        b.wait_for_path(&a, "direct", SOON)?;
        row("the host moves behind another router", "direct", gap.as_millis());
        Ok(())
    });
}

/// A router forgets what is idle for longer than this.
const MEMORY: Duration = Duration::from_secs(3);

#[test]
fn pulses_keep_mappings_that_are_forgotten_otherwise() {
    lab::run("pulses_keep_mappings_that_are_forgotten_otherwise", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let timeouts = Timeouts { unreplied: MEMORY, replied: MEMORY };
        let router = RouterSpec::new(NatKind::PortRestrictedConeRemapped).timeouts(timeouts);
        let spec = SiteSpec { router: Some(router), mesh: "pulse = \"1s\"\n".into(), ..SiteSpec::default() };
        let (a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
        meet("NATs that forget within three seconds", (&a, &b), "direct", SOON)?;
        // Else they ask for each other's link address in their own time.
        for (from, to) in [(&a, &b), (&b, &a)] {
            let (addr, mac) = (to.addr, to.vm.mac);
            from.vm.ns.ip(&format!("neighbour replace {addr} lladdr {mac} dev eth0 nud permanent"))?;
        }
        let paths = || Ok::<_, anyhow::Error>([a.peer(&b)?, b.peer(&a)?].map(|p| p.selected().map(|path| path.remote)));
        let (before, sent) = (paths()?, a.peer(&b)?.traffic.tx_frames);
        // A mapping that nothing is sent by, to tell when the router has forgotten all that were left alone since now.
        let Some(router) = &a.router else { return Ok(()) };
        let idle = Udp::open(&a.host, 5000)?;
        idle.send(std::net::SocketAddrV4::new(world.public.host.addr, 9), "once")?;
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
        ensure!(flow.lost() <= 1, "{} were lost at first", flow.lost());
        row("idle for longer than the NATs remember", "direct", 0);
        Ok(())
    });
}
