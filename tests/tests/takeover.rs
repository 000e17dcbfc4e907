//! Better paths take over from worse ones that still work: no frame is lost, and none overtakes another.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_tests::{
    lab::{
        self,
        nat::{NatKind, Router, RouterSpec},
        numbered::{Numbered, Tally},
        poll_until,
        wan::{Impairment, LinkSpec},
    },
    mesh::{
        NEEDS, Site, SiteSpec, World,
        flow::{Flow, Gap},
        meet, mesh_of, order, row,
    },
};

const SOON: Duration = Duration::from_secs(20);
/// Who has a direct path looks for a better one a minute or so later, and ever more seldom. What is found has to be measured for a while, then.
const LOOK: Duration = Duration::from_secs(400);

/// Does something, after which another path takes over, while datagrams and pings go both ways; for how long pings were not answered.
fn none_lost(sites: [&Site; 2], event: impl FnOnce() -> Result<()>) -> Result<Gap> {
    let [a, b] = sites;
    let metric = |name| Ok::<_, anyhow::Error>([a.agent.metric(name, &[])?, b.agent.metric(name, &[])?]);
    let before = metric("wavnet_held_frames_total")?;
    let flow = Flow::start(a, b, SOON)?;
    let datagrams = [(a, b), (b, a)]
        .map(|(from, to)| Numbered::start((&from.vm.ns, from.addr), (&to.vm.ns, to.addr), 1))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let gap = flow.gap_with(SOON, event)?;
    for datagrams in datagrams {
        let Tally { sent, arrived } = datagrams.finish()?;
        ensure!(arrived == sent, "{arrived} of {sent} arrived: {:?}", [mesh_of(&a.agent)?, mesh_of(&b.agent)?]);
        println!("all {sent} arrived, in order");
    }
    let held = metric("wavnet_held_frames_total")?;
    ensure!(held[0] > before[0] && held[1] > before[1], "no frame had to wait: there was nothing to see");
    ensure!(metric("wavnet_held_frames_lost_total")? == [0.0; 2], "frames were given up");
    Ok(gap)
}

/// Has a switch let the hosts of a router's LAN talk to each other, or with the router alone.
fn neighbours(router: &Router, may_talk: bool) -> Result<()> {
    let isolated = if may_talk { "off" } else { "on" };
    for port in ["h1", "h2"] {
        router.ns.ip(&format!("link set dev {port} type bridge_slave isolated {isolated}"))?;
    }
    Ok(())
}

#[test]
fn the_lan_takes_over_when_its_switch_lets_neighbours_talk() {
    lab::run("takeover::the_lan_takes_over_when_its_switch_lets_neighbours_talk", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let spec = RouterSpec::new(NatKind::FullCone).hairpinning();
        let mut shared = Router::new(lab, "shared", &mut world.internet, &spec)?;
        let mut site = || world.site_behind(lab, &SiteSpec::default(), &mut shared);
        let (a, b) = (site()?, site()?);
        meet("before their switch keeps neighbours apart", (&a, &b), "lan", SOON)?;
        order::keep(&[&shared.ns, &a.host.ns, &b.host.ns])?;
        let ways = [(&a, &b), (&b, &a)];

        let flow = Flow::start(&a, &b, SOON)?;
        let gap = flow.gap_with(SOON, || neighbours(&shared, false))?;
        gap.below(Duration::from_secs(1)).context("the switch keeps neighbours apart")?;
        ways.iter().try_for_each(|(from, to)| from.wait_for_path(to, "direct", SOON))?;
        row("the switch of two neighbours keeps them apart; their NAT hairpins", "direct", gap.as_millis());
        drop(flow);
        // Else a late try of the path that has died would find it.
        for (from, to) in ways {
            poll_until("the path on the LAN to be given up", SOON, || {
                let paths = from.peer(to)?.paths;
                ensure!(paths.iter().all(|path| path.kind != "lan"), "{paths:?}");
                Ok(())
            })?;
        }

        let gap = none_lost([&a, &b], || {
            neighbours(&shared, true)?;
            ways.iter().try_for_each(|(from, to)| from.wait_for_path(to, "lan", LOOK))
        })?;
        row("it lets them talk: the LAN takes over", "lan", gap.as_millis());
        Ok(())
    });
}

#[test]
fn the_relay_of_a_nearer_server_takes_over() {
    lab::run("takeover::the_relay_of_a_nearer_server_takes_over", NEEDS, |lab| {
        let far = LinkSpec::both(Impairment::delayed(Duration::from_millis(25)));
        let mut world = World::new(lab, Some(&far))?;
        world.add_server(lab)?;
        let near = IpAddr::V4(world.others[0].0.host.addr);
        world.others[0].1.stop()?;
        let symmetric = SiteSpec::behind(Some(NatKind::SymmetricRandom));
        let [a, b] = world.sites(lab, [&symmetric, &symmetric])?;
        meet("by a server that is 50 ms away", (&a, &b), "relayed", SOON)?;
        order::keep_between(&world, [&a, &b])?;

        let server = &mut world.others[0].1;
        let gap = none_lost([&a, &b], || {
            server.launch()?;
            for (from, to) in [(&a, &b), (&b, &a)] {
                poll_until("the relay of the nearer server", 3 * SOON, || {
                    let now = from.peer(to)?.selected().context("no path")?.remote.ip();
                    ensure!(now == near, "{now}, and not {near}");
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        row("a nearer server comes up: its relay takes over", "relayed", gap.as_millis());
        Ok(())
    });
}
