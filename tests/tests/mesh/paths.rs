//! Which path pairs of sites get, and that frames take it.

use std::time::Duration;

use anyhow::Result;
use wavnet_tests::{
    lab::{self, nat::NatKind},
    mesh::{NEEDS, Site, SiteSpec, World, grid},
};

const SOON: Duration = Duration::from_secs(20);

fn pings(from: &Site, to: &Site) -> Result<()> {
    from.vm.ns.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", &to.addr.to_string()])?;
    Ok(())
}

#[test]
fn two_sites_behind_port_restricted_nats_are_one_ethernet() {
    lab::run("two_sites_behind_port_restricted_nats_are_one_ethernet", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let spec = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let [a, b] = world.sites(lab, [&spec, &spec])?;
        a.wait_for_path(&b, "direct", SOON)?;
        b.wait_for_path(&a, "direct", SOON)?;
        pings(&a, &b)?;
        pings(&b, &a)
    });
}

#[test]
fn two_sites_behind_symmetric_nats_talk_over_the_relay() {
    lab::run("two_sites_behind_symmetric_nats_talk_over_the_relay", NEEDS, |lab| {
        let mut world = World::new(lab, None)?;
        let spec = SiteSpec { tap: true, ..SiteSpec::behind(Some(NatKind::SymmetricRandom)) };
        let [a, b] = world.sites(lab, [&spec, &spec])?;
        a.wait_for_path(&b, "relayed", SOON)?;
        b.wait_for_path(&a, "relayed", SOON)?;
        pings(&a, &b)?;
        pings(&b, &a)
    });
}

#[test]
fn a_search_passes_a_symmetric_nat_within_what_a_router_can_bear() {
    lab::run("a_search_passes_a_symmetric_nat_within_what_a_router_can_bear", NEEDS, |lab| {
        let row = grid::measure(lab, NatKind::SymmetricRandom, NatKind::PortRestrictedCone, Duration::from_secs(90))?;
        assert_eq!(row.path, "direct", "{row:?}");
        assert!(row.conntrack_entries <= 1024, "{row:?}");
        Ok(())
    });
}
