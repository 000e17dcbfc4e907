//! Which path pairs of sites get, and that frames take it.

use std::time::Duration;

use anyhow::Result;
use wavnet_tests::{
    lab::{self, Need, nat::NatKind},
    mesh::{Site, SiteSpec, World},
};

const SOON: Duration = Duration::from_secs(20);

fn pings(from: &Site, to: &Site) -> Result<()> {
    from.vm.ns.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", &to.addr.to_string()])?;
    Ok(())
}

#[test]
fn two_sites_behind_port_restricted_nats_are_one_ethernet() {
    lab::run("two_sites_behind_port_restricted_nats_are_one_ethernet", &[Need::Wavnet], |lab| {
        let mut world = World::new(lab, None)?;
        let spec = SiteSpec::behind(Some(NatKind::PortRestrictedCone));
        let (a, b) = (world.site(lab, &spec)?, world.site(lab, &spec)?);
        a.wait_for_path(&b, "direct", SOON)?;
        b.wait_for_path(&a, "direct", SOON)?;
        pings(&a, &b)?;
        pings(&b, &a)
    });
}
