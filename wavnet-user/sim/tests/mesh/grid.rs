//! Every pair of NAT types: what path they get, how soon, and what it costs the NATs.

use std::{collections::BTreeSet, time::Duration};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{ENTRIES, PathKind},
    nat::{Filtering, Mapping, NatSummary},
};
use wavnet_sim::{Seed, SegmentId, nat::NatConfig};

use crate::{
    node::VNI,
    world::{Site, World},
};

/// What a host is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    FullCone,
    Restricted,
    PortRestricted,
    Symmetric,
}

pub(crate) const KINDS: [Kind; 5] =
    [Kind::Open, Kind::FullCone, Kind::Restricted, Kind::PortRestricted, Kind::Symmetric];

impl Kind {
    fn nat(self) -> Option<NatConfig> {
        Some(match self {
            Kind::Open => return None,
            Kind::FullCone => NatConfig::full_cone(),
            Kind::Restricted => NatConfig::restricted_cone(),
            Kind::PortRestricted => NatConfig::port_restricted_cone(),
            Kind::Symmetric => NatConfig::symmetric(),
        })
    }

    pub(crate) fn summary(self) -> NatSummary {
        let mapping = match self {
            Kind::Symmetric => Mapping::AddressAndPortDependent,
            _ => Mapping::EndpointIndependent,
        };
        let filtering = match self {
            Kind::Open | Kind::FullCone => Filtering::EndpointIndependent,
            Kind::Restricted => Filtering::AddressDependent,
            Kind::PortRestricted | Kind::Symmetric => Filtering::AddressAndPortDependent,
        };
        NatSummary { mapping, filtering, ..NatSummary::default() }
    }

    /// True if the two cannot have a direct path.
    pub(crate) fn defeats(self, other: Kind) -> bool {
        self == Kind::Symmetric && other == Kind::Symmetric
    }

    /// True if ordinary probes do not meet.
    pub(crate) fn needs_search(self, other: Kind) -> bool {
        let pair = [self, other];
        pair.contains(&Kind::Symmetric) && pair.contains(&Kind::PortRestricted)
    }
}

/// A host behind a NAT of its own, with these VNIs.
pub(crate) fn site_in(world: &mut World, name: &str, kind: Kind, vnis: BTreeSet<Vni>) -> Site {
    let router = kind.nat().map(|nat| world.add_router(nat));
    let segment = router.map_or(SegmentId::INTERNET, |router| world.net.lan(router));
    Site { router, ..world.add_agent_in(segment, name, kind.summary(), vnis) }
}

fn site(world: &mut World, name: &str, kind: Kind) -> Site {
    site_in(world, name, kind, BTreeSet::from([Vni::new(VNI).expect("a VNI")]))
}

fn entries(world: &World, site: Site) -> u64 {
    site.router.map_or(0, |router| world.net.router_stats(router).flows.peak as u64)
}

#[test]
fn every_pair_of_nat_types_gets_the_path_that_it_can_have() {
    Seed::each(8, |seed| {
        for a in KINDS {
            for b in KINDS {
                let mut world = World::new(seed, Duration::from_millis(10));
                let (x, y) = (site(&mut world, "x", a), site(&mut world, "y", b));
                let any = world.until_paths(x, y, Duration::from_secs(5), |_| true);
                assert!(any.is_some(), "{a:?} {b:?}: no path\n{}", world.net.trace());
                let most = if a.needs_search(b) { Duration::from_secs(90) } else { Duration::from_secs(1) };
                let direct = world.until_paths(x, y, most, |kind| kind == PathKind::Direct);
                assert_eq!(direct.is_some(), !a.defeats(b), "{a:?} {b:?}\n{}", world.net.trace());
                for site in [x, y] {
                    assert!(entries(&world, site) <= u64::from(ENTRIES), "{a:?} {b:?}: {}", entries(&world, site));
                }
            }
        }
    });
}

#[test]
fn neighbours_behind_one_nat_meet_on_their_lan() {
    Seed::each(5, |seed| {
        for kind in [Kind::PortRestricted, Kind::Symmetric] {
            let mut world = World::new(seed, Duration::from_millis(10));
            let router = world.add_router(kind.nat().expect("a NAT"));
            let lan = world.net.lan(router);
            let (x, y) = (world.add_agent(lan, "x", kind.summary()), world.add_agent(lan, "y", kind.summary()));
            let met = world.until_paths(x, y, Duration::from_secs(3), |kind| kind == PathKind::Lan);
            assert!(met.is_some(), "{kind:?}\n{}", world.net.trace());
        }
    });
}

#[test]
fn two_hosts_with_one_private_address_behind_two_nats_meet_outside() {
    Seed::each(5, |seed| {
        let mut world = World::new(seed, Duration::from_millis(10));
        let (x, y) = (site(&mut world, "x", Kind::FullCone), site(&mut world, "y", Kind::PortRestricted));
        let met = world.until_paths(x, y, Duration::from_secs(3), |kind| kind == PathKind::Direct);
        assert!(met.is_some(), "{}", world.net.trace());
    });
}
