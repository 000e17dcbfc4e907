//! Hosts and routers that are attached to the internet by links.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{
    self, Need,
    nat::{NatKind, Router, RouterSpec},
    topology::UNDERLAY_MTU,
    udp::Udp,
    wan::{Impairment, Internet, LinkSpec, WanLink, Way},
};

const MS: Duration = Duration::from_millis(1);

fn passed(link: Option<&WanLink>) -> Result<u64> {
    let link = link.context("there is no link")?;
    Way::BOTH.into_iter().map(|way| Ok(link.counts(way)?.out)).sum()
}

#[test]
fn a_site_behind_a_link_is_as_far_away_as_it_says() {
    let needs = [Need::Tool("nft"), Need::Tool("conntrack")];
    lab::run("a_site_behind_a_link_is_as_far_away_as_it_says", &needs, |lab| {
        let mut internet = Internet::new(lab, UNDERLAY_MTU)?;
        let spec = LinkSpec { up: Impairment::delayed(10 * MS), down: Impairment::delayed(20 * MS), seed: 1 };
        let public = internet.host(lab, "public", 2, Some(&spec))?;
        let mut router = Router::new(lab, "nat", &mut internet, &RouterSpec::new(NatKind::FullCone).link(spec))?;
        let host = Udp::open(&router.host(lab, "host")?, 5000)?;
        for address in &public.addresses {
            let server = Udp::bind(&public.host.ns, *address, 9000)?;
            let start = Instant::now();
            let outer = host.seen_by(&server)?;
            ensure!(start.elapsed() >= 30 * MS, "{outer} came after {:?}", start.elapsed());
            let start = Instant::now();
            server.send(outer, "an answer")?;
            host.expect("an answer")?;
            ensure!(start.elapsed() >= 30 * MS, "the answer came after {:?}", start.elapsed());
        }
        // Two there and two back at the least, and ARP.
        let (site, server) = (passed(router.link.as_ref())?, passed(public.link.as_ref())?);
        ensure!(site >= 4 && server >= 4, "{site} frames passed the site's link, {server} the server's");
        Ok(())
    });
}
