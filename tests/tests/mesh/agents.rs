//! Agents that are killed or stopped while their hosts go on forwarding, and hosts that are taken down.

use std::time::Duration;

use anyhow::{Result, ensure};
use wavnet_tests::{
    lab::{self, nat::NatKind, poll_until},
    mesh::{NEEDS, Site, SiteSpec, World, flow::Flow, meet, mesh_of, row},
};

const SOON: Duration = Duration::from_secs(20);

/// Waits until both sides have a direct path in use, none that leads nowhere, and no other peer.
fn sound(a: &Site, b: &Site) -> Result<()> {
    for (site, other) in [(a, b), (b, a)] {
        site.wait_for_path(other, "direct", SOON)?;
        poll_until("no path that is stale", SOON, || {
            let peer = site.peer(other)?;
            ensure!(peer.connected && peer.paths.iter().all(|path| path.rtt_ms.is_some()), "{peer:?}");
            ensure!(mesh_of(&site.agent)?.peers.len() == 1, "{peer:?} is not alone");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn an_agent_that_ends_in_any_way_comes_back_to_its_paths() {
    lab::run("an_agent_that_ends_in_any_way_comes_back_to_its_paths", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let spec = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let [mut a, b] = world.sites(lab, [&spec, &spec])?;
        meet("before an agent ends", (&a, &b), "direct", SOON)?;
        let flow = Flow::start(&b, &a, SOON)?;
        for (case, kill) in [("an agent is killed, and starts again", true), ("it is stopped, and starts again", false)]
        {
            let gap = flow.gap(SOON, || {
                if kill {
                    a.agent.kill();
                } else {
                    a.agent.terminate()?;
                }
                // Its programs forward, and answer pulses.
                flow.steady(SOON)?;
                a.agent.launch()
            })?;
            sound(&a, &b)?;
            flow.steady(SOON)?;
            ensure!(gap <= Duration::from_millis(50), "{case}: {gap:?} without frames");
            row(case, "direct", gap.as_millis());
        }
        // Nobody answers pulses any more.
        a.agent.cli("down")?;
        a.agent.kill();
        poll_until("the path to end", SOON, || {
            let path = b.peer(&a).ok().and_then(|peer| peer.selected().cloned());
            ensure!(path.is_none(), "{path:?}");
            Ok(())
        })?;
        a.agent.launch()?;
        sound(&a, &b)?;
        flow.steady(SOON)?;
        let ms = a.peer(&b)?.direct_path_ms;
        row("a host is taken down, and comes back", "direct", ms.map_or_else(|| "–".to_owned(), |ms| ms.to_string()));
        Ok(())
    });
}
