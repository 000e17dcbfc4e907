//! Hosts behind one NAT: on their LAN, and by their external endpoints.

use anyhow::{Result, ensure};
use wavnet_tests::lab::{
    self, Lab,
    nat::{NatKind, RouterSpec},
    udp::Udp,
};

use crate::{ROUTERS, World};

/// Two hosts behind a router of a kind, which send to each other's external endpoint.
fn by_external_endpoints(lab: &Lab, world: &mut World, kind: NatKind) -> Result<()> {
    let mut router = world.router(lab, kind.name(), &RouterSpec::new(kind).hairpinning())?;
    let hosts = [router.host(lab, &format!("a-{kind}"))?, router.host(lab, &format!("b-{kind}"))?];
    // The same port of both: one of them gets another one.
    let [a, b] = [Udp::open(&hosts[0], 5000)?, Udp::open(&hosts[1], 5000)?];
    let [outer_a, outer_b] = [a.seen_by(&world.first)?, b.seen_by(&world.first)?];
    ensure!(outer_a != outer_b, "{kind}: two hosts are both {outer_a}");
    for n in 0..3 {
        for (from, outer_from, to, outer_to) in [(&a, outer_a, &b, outer_b), (&b, outer_b, &a, outer_a)] {
            let text = format!("{kind} {n}");
            from.send(outer_to, &text)?;
            let seen = to.expect(&text)?;
            ensure!(seen == outer_from, "{kind}: {} comes from {seen}, not {outer_from}", from.local);
        }
    }
    Ok(())
}

#[test]
fn a_hairpinning_nat_joins_its_hosts_by_external_endpoints() {
    lab::run("a_hairpinning_nat_joins_its_hosts_by_external_endpoints", &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        let cones = NatKind::ALL.into_iter().filter(|kind| kind.translates() && kind.behaviour().maps_once());
        for kind in cones {
            by_external_endpoints(lab, &mut world, kind)?;
        }
        let symmetric = RouterSpec::new(NatKind::SymmetricRandom).hairpinning();
        let error = world.router(lab, "no", &symmetric).unwrap_err().to_string();
        ensure!(error.contains("symmetric-random"), "{error}");
        Ok(())
    });
}

#[test]
fn hosts_behind_one_nat_meet_on_their_lan_and_not_outside() {
    lab::run("hosts_behind_one_nat_meet_on_their_lan_and_not_outside", &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        let mut router = world.router(lab, "nat", &RouterSpec::new(NatKind::FullCone))?;
        let [a, b] = [Udp::open(&router.host(lab, "a")?, 5000)?, Udp::open(&router.host(lab, "b")?, 5001)?];
        let outer_b = b.seen_by(&world.first)?;
        a.send(outer_b, "by the outer endpoint")?;
        // What comes first is what was sent last.
        a.send(b.local, "by the LAN")?;
        let seen = b.expect("by the LAN")?;
        ensure!(seen == a.local, "on the LAN {} is {seen}", a.local);
        world.first.send(outer_b, "from outside")?;
        b.expect("from outside")?;
        Ok(())
    });
}
