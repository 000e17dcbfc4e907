//! Agents that are killed or stopped while their hosts go on forwarding.

use std::time::Duration;

use anyhow::{Result, ensure};
use wavnet_tests::{
    lab::{self, Need, nat::NatKind, poll_until},
    mesh::{Site, SiteSpec, World, flow::Flow, meet, mesh_of, row},
};

const SOON: Duration = Duration::from_secs(20);

/// Waits until both sides have a session of now, one path of this kind in use, and none that leads nowhere.
fn wait_sound(a: &Site, b: &Site) -> Result<()> {
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
fn an_agent_that_is_killed_or_stopped_comes_back_to_its_paths() {
    lab::run("an_agent_that_is_killed_or_stopped_comes_back_to_its_paths", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let spec = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let (mut a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
        meet("before the agent is killed", (&a, &b), "direct", SOON)?;
        let flow = Flow::start(&b, &a, SOON)?;
        for (case, kill) in [("an agent is killed, and starts again", true), ("it is stopped, and starts again", false)]
        {
            let gap = flow.gap(SOON, || {
                if kill {
                    a.agent.kill()
                } else {
                    a.agent.terminate()?
                }
                // Its programs forward, and answer pulses.
                flow.steady(SOON)?;
                a.agent.launch()
            })?;
            wait_sound(&a, &b)?;
            flow.steady(SOON)?;
            row(case, "direct", gap.as_millis());
        }
        Ok(())
    });
}

#[test]
fn a_host_that_is_taken_down_is_gone_and_may_come_back() {
    lab::run("a_host_that_is_taken_down_is_gone_and_may_come_back", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let spec = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let (mut a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
        meet("before it is taken down", (&a, &b), "direct", SOON)?;
        a.agent.cli("down")?;
        a.agent.kill();
        // Nobody answers pulses any more.
        poll_until("the path to end", SOON, || {
            let path = b.peer(&a).ok().and_then(|peer| peer.selected().cloned());
            ensure!(path.is_none(), "{path:?}");
            Ok(())
        })?;
        a.agent.launch()?;
        wait_sound(&a, &b)?;
        meet("a host is taken down, and comes back", (&a, &b), "direct", SOON)
    });
}
