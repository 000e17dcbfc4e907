//! Routers that are harder than one NAT of the papers' types: two in a row, hairpins, a shared LAN, ports that count, mappings that move.

use std::time::Duration;

use anyhow::{Result, ensure};
use wavnet_tests::{
    lab::{
        self, Lab,
        nat::{NatKind, Router, RouterSpec},
        wan::{Impairment, LinkSpec},
    },
    mesh::{NEEDS, Site, SiteSpec, World, meet},
};

const SOON: Duration = Duration::from_secs(20);
/// Entries in a NAT that a prediction leaves there at the most, with all that came before; a search leaves hundreds.
const FORETOLD: u64 = 100;

/// Two sites that have a VNI of their own, and what is between them.
struct Pair {
    case: &'static str,
    sites: [Site; 2],
    path: &'static str,
    _routers: Vec<Router>,
}

impl Pair {
    /// Two sites, each behind a router of its own.
    fn behind(lab: &Lab, world: &mut World, case: &'static str, vni: u32, routers: [RouterSpec; 2]) -> Result<Pair> {
        let mut site = |router| {
            let spec = SiteSpec { router: Some(router), ..SiteSpec::default() }.vni(vni);
            world.begin_site(lab, &spec)
        };
        let sites = [site(routers[0])?, site(routers[1])?];
        Ok(Pair { case, sites, path: "direct", _routers: Vec::new() })
    }

    /// Two sites behind two routers behind one.
    fn behind_one(lab: &Lab, world: &mut World, case: &'static str, vni: u32, outer: &RouterSpec) -> Result<Pair> {
        let mut outer = Router::new(lab, &format!("outer{vni}"), &mut world.internet, outer)?;
        let mut site = |n| {
            let spec = RouterSpec::new(NatKind::PortRestrictedCone);
            let mut inner = Router::new(lab, &format!("inner{vni}-{n}"), &mut outer, &spec)?;
            let site = world.begin_site_behind(lab, &SiteSpec::default().vni(vni), &mut inner)?;
            Ok::<_, anyhow::Error>((site, inner))
        };
        let [(a, inner_a), (b, inner_b)] = [site(1)?, site(2)?];
        Ok(Pair { case, sites: [a, b], path: "direct", _routers: vec![inner_a, inner_b, outer] })
    }

    /// Waits until both agents have started. Beside many others that takes long, and what they need to meet is counted from then on.
    fn started(mut self) -> Result<Pair> {
        self.sites.iter_mut().try_for_each(|site| site.agent.wait_answers())?;
        Ok(self)
    }

    fn meet(&self) -> Result<()> {
        meet(self.case, (&self.sites[0], &self.sites[1]), self.path, SOON)
    }
}

fn cone() -> RouterSpec {
    RouterSpec::new(NatKind::PortRestrictedCone)
}

#[test]
fn nats_in_a_row_and_hosts_behind_one_nat() {
    lab::run("nats_in_a_row_and_hosts_behind_one_nat", NEEDS, |lab| {
        let world = &mut World::new(lab, None)?;
        let hairpin = cone().hairpinning();
        let common = Pair::behind_one(lab, world, "two NATs behind one that hairpins", 101, &hairpin)?;
        let strict = Pair::behind_one(lab, world, "two NATs behind one that does not hairpin", 102, &cone())?;
        let strict = Pair { path: "relayed", ..strict };
        let mut shared = Router::new(lab, "shared", &mut world.internet, &cone())?;
        let spec = SiteSpec::default().vni(103);
        let sites =
            [world.begin_site_behind(lab, &spec, &mut shared)?, world.begin_site_behind(lab, &spec, &mut shared)?];
        let lan = Pair { case: "two hosts behind one NAT", sites, path: "lan", _routers: vec![shared] };
        let mut outer = Router::new(lab, "outer104", &mut world.internet, &cone())?;
        let mut inner = Router::new(lab, "inner104", &mut outer, &cone())?;
        let spec = SiteSpec::default().vni(104);
        let sites = [
            world.begin_site_behind(lab, &spec, &mut inner)?,
            world.begin_site(lab, &SiteSpec { router: Some(cone()), ..spec })?,
        ];
        let double = Pair { case: "two NATs in a row, and one", sites, path: "direct", _routers: vec![inner, outer] };
        let pairs = [common, strict, lan, double].into_iter().map(Pair::started).collect::<Result<Vec<_>>>()?;
        pairs.iter().try_for_each(Pair::meet)
    });
}

#[test]
fn ports_that_count_are_foretold_and_mappings_that_move_are_found() {
    lab::run("ports_that_count_are_foretold_and_mappings_that_move_are_found", NEEDS, |lab| {
        let world = &mut World::new(lab, None)?;
        let [counts, draws] = [NatKind::SymmetricSequential, NatKind::SymmetricRandom].map(RouterSpec::new);
        let [by_address, restricted] = [NatKind::SymmetricByAddress, NatKind::RestrictedCone].map(RouterSpec::new);
        // Whose packet comes first finds no mapping there, and spoils it: that both leave before either arrives takes some distance.
        let far = LinkSpec::both(Impairment::delayed(Duration::from_millis(25)));
        let open = cone().without_input_filter().link(far);
        let mut pair = |case, vni, routers| Pair::behind(lab, world, case, vni, routers);
        let foretold = [
            pair("symmetric that counts, port-restricted cone", 101, [counts, cone()])?,
            pair("two symmetric that count", 102, [counts, counts])?,
        ];
        let routers = || foretold.iter().flat_map(|pair| &pair.sites).filter_map(|site| site.router.as_ref());
        let peaks = routers().map(|router| router.watch_conntrack()).collect::<Result<Vec<_>>>()?;
        let mut pair = |case, vni, routers| Pair::behind(lab, world, case, vni, routers);
        let others = [
            pair("two without input filter, 100 ms round trip", 104, [open, open])?,
            pair("no input filter, port-restricted cone", 103, [open, cone().link(far)])?,
            pair("a mapping for each address, restricted cone", 106, [by_address, restricted])?,
        ];
        let relayed = [
            pair("symmetric that counts, symmetric that draws", 105, [counts, draws])?,
            pair("two with a mapping for each address", 107, [by_address, by_address])?,
        ];
        let [foretold, others, relayed] = [Vec::from(foretold), Vec::from(others), Vec::from(relayed)]
            .map(|pairs| pairs.into_iter().map(Pair::started).collect::<Result<Vec<_>>>());
        let (foretold, others, relayed) = (foretold?, others?, relayed?);
        foretold.iter().try_for_each(Pair::meet)?;
        for peak in &peaks {
            ensure!(peak.most() <= FORETOLD, "{} entries: that was a search", peak.most());
        }
        others.iter().try_for_each(Pair::meet)?;
        relayed.into_iter().map(|pair| Pair { path: "relayed", ..pair }).try_for_each(|pair| pair.meet())
    });
}
