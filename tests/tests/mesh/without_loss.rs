//! Frames move from the relay to a direct path: none is lost, and none overtakes another.

use std::{fs, thread, time::Duration};

use anyhow::{Result, ensure};
use wavnet_tests::{
    lab::{
        self, Need,
        nat::{NatKind, RouterSpec},
        numbered::{Numbered, Tally},
        poll_until,
        wan::{Impairment, LinkSpec},
    },
    mesh::{Site, SiteSpec, World, mesh_of, order, wall::walls},
};

const SOON: Duration = Duration::from_secs(40);

/// Datagrams in a burst; there are a thousand bursts in a second.
const BURST: u64 = 8;

fn held(site: &Site) -> Result<f64> {
    site.agent.metric("wavnet_held_frames_total", &[])
}

/// While frames flow the sites meet; how many frames were sent, and how many of them were held back.
fn meet(a: &Site, b: &Site) -> Result<(u64, u64)> {
    let before = held(a)?;
    let flow = Numbered::start((&a.vm.ns, a.addr), (&b.vm.ns, b.addr), BURST)?;
    walls([a, b], false)?;
    a.wait_for_path(b, "direct", SOON)?;
    nothing_held(a)?;
    let Tally { sent, arrived } = flow.finish()?;
    let held = held(a)? - before;
    ensure!(arrived == sent, "{arrived} of {sent} arrived; {held} were held back, {:?}", mesh_of(&a.agent)?);
    Ok((sent, held as u64))
}

/// Waits until no more frames are held back.
fn nothing_held(site: &Site) -> Result<()> {
    poll_until("nothing to be held back any more", SOON, || {
        let was = held(site)?;
        thread::sleep(Duration::from_millis(200));
        ensure!(held(site)? == was, "frames are held back");
        Ok(())
    })
}

#[test]
fn frames_move_from_the_relay_to_a_direct_path_in_order_and_none_is_lost() {
    for tap in [false, true] {
        let name = format!("frames_move_from_the_relay_to_a_direct_path_in_order_and_none_is_lost (tap: {tap})");
        lab::run(&name, &[Need::Wavnet], |lab| {
            let wan = |ms| LinkSpec::both(Impairment::delayed(Duration::from_millis(ms)));
            let mut world = World::new(lab, Some(&wan(25)))?;
            let router = RouterSpec::new(NatKind::PortRestrictedCone).link(wan(5));
            let spec = SiteSpec { router: Some(router), tap, ..SiteSpec::default() };
            let (a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
            order::keep_between(&world, [&a, &b])?;
            walls([&a, &b], true)?;
            for round in 0..3 {
                for (one, other) in [(&a, &b), (&b, &a)] {
                    one.wait_for_path(other, "relayed", SOON)?;
                }
                poll_until("frames to pass", SOON, || {
                    a.vm.ns.run("ping", &["-c", "1", "-W", "1", &b.addr.to_string()]).map(drop)
                })?;
                let (sent, held) = meet(&a, &b)?;
                println!("round {round}: {sent} sent, {held} held back");
                ensure!(held > 0, "there was nothing to see");
                walls([&a, &b], true)?;
            }
            let lost = a.agent.metric("wavnet_held_frames_lost_total", &[])?;
            ensure!(lost == 0.0, "{lost} frames were given up");
            Ok(())
        });
    }
}

#[test]
fn an_agent_that_dies_while_it_holds_frames_back_leaves_none_held_back() {
    let name = "an_agent_that_dies_while_it_holds_frames_back_leaves_none_held_back";
    lab::run(name, &[Need::Wavnet], |lab| {
        let wan = LinkSpec::both(Impairment::delayed(Duration::from_millis(100)));
        let mut world = World::new(lab, Some(&wan))?;
        let spec = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let (mut a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
        walls([&a, &b], true)?;
        a.wait_for_path(&b, "relayed", SOON)?;
        b.wait_for_path(&a, "relayed", SOON)?;
        let pings = |a: &Site| a.vm.ns.run("ping", &["-c", "1", "-W", "1", &b.addr.to_string()]).map(drop);
        poll_until("frames to pass", SOON, || pings(&a))?;
        let before = held(&a)?;
        // Frames die with the agent.
        let _flow = Numbered::start((&a.vm.ns, a.addr), (&b.vm.ns, b.addr), BURST)?;
        walls([&a, &b], false)?;
        poll_until("frames to be held back", SOON, || {
            ensure!(held(&a)? > before);
            Ok(())
        })?;
        a.agent.kill();
        a.agent.launch()?;
        a.agent.wait_ready()?;
        a.wait_for_path(&b, "direct", SOON)?;
        poll_until("frames to pass again", SOON, || pings(&a))?;
        nothing_held(&a)
    });
}

#[test]
fn the_tap_that_frames_wait_at_is_nobodys_port() {
    lab::run("the_tap_that_frames_wait_at_is_nobodys_port", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let mut site = world.site(lab, &SiteSpec::default())?;
        let is_there = |site: &Site| Ok::<_, anyhow::Error>(site.host.ns.ip("-o link show")?.contains("wavhold0"));
        ensure!(is_there(&site)?, "there is none");
        let text = fs::read_to_string(site.agent.file())?;
        fs::write(site.agent.file(), text + "\n[[port]]\ninterface = \"wav*\"\nvni = 100\n")?;
        for _ in 0..2 {
            site.agent.reload()?;
            let names: Vec<String> = site.agent.ports()?.into_iter().map(|port| port.interface).collect();
            ensure!(!names.iter().any(|name| name.starts_with("wavhold")), "{names:?}");
            site.agent.terminate()?;
            ensure!(!is_there(&site)?, "it has outlived the agent");
            site.agent.launch()?;
        }
        Ok(())
    });
}
