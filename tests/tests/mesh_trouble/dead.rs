//! Direct paths that die, and nobody says so: the relay has what they carried.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use wavnet_tests::{
    lab::{self, nat::NatKind, poll_until},
    mesh::{NEEDS, SiteSpec, World, flow::Flow, meet, row, wall::walls},
};

const SOON: Duration = Duration::from_secs(40);
/// A dead path is to be replaced within these times, while frames flow and while none do.
const BUSY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(15);
/// Without frames for so long, a path is idle for the agent.
const SILENCE: Duration = Duration::from_millis(2500);

#[test]
fn a_direct_path_that_dies_is_replaced_in_a_second_while_frames_flow_and_in_fifteen_when_idle() {
    let name = "a_direct_path_that_dies_is_replaced_in_a_second_while_frames_flow_and_in_fifteen_when_idle";
    lab::run(name, NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let cone = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let [a, b] = world.sites(lab, [&cone, &cone])?;
        meet("before the direct path dies", (&a, &b), "direct", SOON)?;
        a.knows_where(&b)?;
        b.knows_where(&a)?;
        let flow = Flow::start(&a, &b, SOON)?;
        for round in 0..2 {
            let gap = flow.gap_with(SOON, || walls([&a, &b], true))?;
            gap.below(BUSY).with_context(|| format!("round {round}"))?;
            a.wait_for_path(&b, "relayed", SOON)?;
            b.wait_for_path(&a, "relayed", SOON)?;
            row("the direct path dies while frames flow", "relayed", gap.as_millis());
            walls([&a, &b], false)?;
            a.wait_for_path(&b, "direct", SOON)?;
            b.wait_for_path(&a, "direct", SOON)?;
        }
        drop(flow);
        let frames = || Ok::<_, anyhow::Error>(a.peer(&b)?.traffic.tx_frames + b.peer(&a)?.traffic.tx_frames);
        poll_until("nothing to flow any more", SOON, || {
            let before = frames()?;
            thread::sleep(SILENCE);
            ensure!(frames()? == before, "frames flow");
            Ok(())
        })?;
        let (sent, start) = (frames()?, Instant::now());
        walls([&a, &b], true)?;
        for (one, other) in [(&a, &b), (&b, &a)] {
            one.wait_for_path(other, "relayed", IDLE.saturating_sub(start.elapsed()))?;
        }
        let took = start.elapsed();
        ensure!(frames()? == sent, "it was not idle");
        row("the direct path dies while none flow", "relayed", took.as_millis());
        Ok(())
    });
}
