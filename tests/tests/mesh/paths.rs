//! Which path pairs of sites get, and that frames take it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wavnet_tests::{
    lab::{self, nat::NatKind},
    mesh::{NEEDS, Site, SiteSpec, World, grid},
};

const SOON: Duration = Duration::from_secs(20);

/// Datagrams that the server's machine has relayed by XDP, and by the server itself.
fn relayed(world: &World) -> Result<(u64, u64)> {
    let status = world.server.status()?;
    let by = |what: &str| status.relay_kernel.counters.get(what).copied().with_context(|| format!("{status:?}"));
    let (xdp, tc) = (by("relayed_by_xdp")?, by("relayed_by_tc")?);
    Ok((xdp, status.counters.relay_frames - xdp - tc))
}

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
        let before = relayed(&world)?;
        pings(&a, &b)?;
        pings(&b, &a)?;
        let after = relayed(&world)?;
        // Three there and back, twice.
        ensure!(
            after.0 >= before.0 + 12 && after.1 == before.1,
            "by XDP and by the server: {before:?}, then {after:?}"
        );
        Ok(())
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
