//! Agents that are killed or stopped while their hosts go on forwarding, and hosts that are taken down.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_common::abi::ConfigFlags;
use wavnet_tests::{
    lab::{self, nat::NatKind, poll_until},
    mesh::{NEEDS, Site, SiteSpec, World, flow::Flow, meet, mesh_of, row},
};
use wavnet_user::datapath::{Datapath, Options, Sizes, TcWish};

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

/// Frames that may be lost when an agent ends and starts.
const FEW: u64 = 5;

/// No more than a few frames are lost.
fn few_lost(case: &str, flow: &Flow, before: u64) -> Result<()> {
    let lost = flow.lost().saturating_sub(before);
    ensure!(lost <= FEW, "{case}: {lost} frames were lost");
    Ok(())
}

/// An agent starts without `[mesh]`, and ends: nothing in its maps is of a mesh any more.
fn becomes_static(site: &mut Site) -> Result<()> {
    let text = fs::read_to_string(site.agent.file())?;
    let (before, mesh) = text.split_once("[mesh]").context("a mesh")?;
    let (_, after) = mesh.split_once("[[vni]]").context("a VNI behind it")?;
    site.agent.kill();
    fs::write(site.agent.file(), format!("{before}[[vni]]{after}"))?;
    site.agent.launch()?;
    site.agent.wait_ready()?;
    site.agent.terminate()?;
    let options = Options {
        bpffs: site.agent.pins().to_owned(),
        sizes: Sizes::default(),
        program_stats: false,
        tc: TcWish::Auto,
        kernel_log: false,
        seed: None,
    };
    let left = Datapath::open(&options)?.adopted()?;
    ensure!(left.vteps.is_empty() && left.ids.is_empty() && left.members.is_empty(), "{left:?}");
    ensure!(left.paths.is_empty() && left.relays.is_empty(), "{left:?}");
    let config = left.config.context("a configuration")?;
    let open = ConfigFlags::CONTROL | ConfigFlags::DYNAMIC;
    ensure!(config.flags & open == 0 && config.hold_ifindex == 0, "{config:?}");
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
            let before = flow.lost();
            let gap = flow.gap_with(SOON, || {
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
            few_lost(case, &flow, before)?;
            row(case, "direct", gap.as_millis());
        }
        // Nobody leads it to its peer, and nobody has to.
        world.server.process()?.kill();
        let before = flow.lost();
        let gap = flow.gap_with(SOON, || {
            a.agent.kill();
            a.agent.launch()?;
            poll_until("it to name its server", SOON, || {
                let server = mesh_of(&a.agent)?.servers.pop().context("a server")?;
                ensure!(!server.registered, "{server:?}");
                Ok(())
            })
        })?;
        let case = "an agent starts again while the server is away";
        few_lost(case, &flow, before)?;
        row(case, "direct", gap.as_millis());
        world.server.launch()?;
        sound(&a, &b)?;
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
        becomes_static(&mut a)
    });
}
