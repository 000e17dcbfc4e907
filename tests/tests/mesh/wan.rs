//! Distance and loss between sites.

use std::{ops::Range, time::Duration};

use anyhow::{Context, ensure};
use wavnet_tests::{
    lab::{
        self,
        nat::{NatKind, RouterSpec},
        ping::Ping,
        poll_until,
        wan::{Impairment, LinkSpec, Way},
    },
    mesh::{NEEDS, Site, SiteSpec, World, meet, row},
};

/// Handshakes, probes and their answers take more than one round trip each, and may be lost.
const LATE: Duration = Duration::from_secs(30);

/// A pulse or its answer is lost once in ten times (1 - 0.975^4). A path smooths that over 64 pulses and counts what is lost after three seconds: two
/// hundred pulses after none, the mean of two paths is within this in all but one of 10,000 runs.
const LOSS: Range<f64> = 0.02..0.18;

#[test]
fn a_long_way_with_loss_is_a_path_that_stays() {
    lab::run("a_long_way_with_loss_is_a_path_that_stays", NEEDS, |lab| {
        // Four times there and back: 200 ms. Twice on the way: one of twenty.
        let one = Impairment::delayed(Duration::from_millis(50)).loss(0.025);
        let mut world = World::new(lab, None)?;
        let specs = [11, 12].map(|seed| {
            let router = RouterSpec::new(NatKind::PortRestrictedCone).link(LinkSpec::both(one).seed(seed));
            SiteSpec { router: Some(router), ..SiteSpec::default() }
        });
        let [a, b] = world.sites(lab, [&specs[0], &specs[1]])?;
        meet("200 ms round trip, 5 % loss", (&a, &b), "direct", LATE)?;
        let before = [a.path_changes(), b.path_changes()];
        let ping = Ping::start(&a.vm.ns, b.addr, Duration::from_millis(50))?;
        ping.wait_sent(320)?;
        let pings = ping.so_far();
        ensure!([a.path_changes(), b.path_changes()] == before, "frames took another path: {}", a.agent.log());
        let path = |from: &Site, to: &Site| from.peer(to)?.selected().cloned().context("no path");
        let mut paths = [path(&a, &b)?, path(&b, &a)?];
        // An agent that had no CPU for a moment has measured that, too.
        poll_until("round trips of the distance", Duration::from_secs(5), || {
            paths = [path(&a, &b)?, path(&b, &a)?];
            let fits = paths.iter().all(|path| path.rtt_ms.is_some_and(|ms| (195.0..260.0).contains(&ms)));
            ensure!(fits, "{paths:?}");
            Ok(())
        })?;
        let loss = (paths[0].loss + paths[1].loss) / 2.0;
        ensure!(LOSS.contains(&loss), "{loss} of the pulses were lost: {paths:?}");
        // A tenth is lost of what goes there and comes back.
        ensure!(pings.received * 10 >= pings.sent * 7, "{pings:?}");
        for link in [&a, &b].into_iter().filter_map(|site| site.router.as_ref()?.link.as_ref()) {
            for way in Way::BOTH {
                let counts = link.counts(way)?;
                ensure!(counts.faults() == 0, "{way:?}: {counts:?}");
            }
        }
        row("the same, sixteen seconds later", "direct", 0);
        Ok(())
    });
}
