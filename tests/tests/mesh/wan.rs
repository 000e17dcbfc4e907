//! Distance and loss between sites.

use std::time::Duration;

use anyhow::ensure;
use wavnet_tests::{
    lab::{
        self,
        nat::{NatKind, RouterSpec},
        ping::Ping,
        wan::{Impairment, LinkSpec, Way},
    },
    mesh::{NEEDS, Site, SiteSpec, World, meet, row},
};

/// Handshakes, probes and their answers take more than one round trip each, and may be lost.
const LATE: Duration = Duration::from_secs(30);

/// How often frames have taken another path than before.
fn changes(site: &Site) -> usize {
    site.agent.log().matches("frames take a path").count()
}

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
        let before = [changes(&a), changes(&b)];
        let ping = Ping::start(&a.vm.ns, b.addr, Duration::from_millis(50))?;
        ping.wait_sent(160)?;
        let loss = ping.so_far();
        let (peer, back) = (a.peer(&b)?, b.peer(&a)?);
        let rtts = [&peer, &back].map(|peer| peer.selected().and_then(|path| path.rtt_ms));
        ensure!([changes(&a), changes(&b)] == before, "frames took another path: {}", a.agent.log());
        ensure!(rtts.iter().flatten().all(|ms| (195.0..260.0).contains(ms)), "{rtts:?} {peer:?}");
        // A tenth is lost of what goes there and comes back.
        ensure!(loss.received * 10 >= loss.sent * 7, "{loss:?}");
        for link in [&a, &b].into_iter().filter_map(|site| site.router.as_ref()?.link.as_ref()) {
            for way in Way::BOTH {
                let counts = link.counts(way)?;
                ensure!(counts.faults() == 0, "{way:?}: {counts:?}");
            }
        }
        row("the same, eight seconds later", "direct", 0);
        Ok(())
    });
}
