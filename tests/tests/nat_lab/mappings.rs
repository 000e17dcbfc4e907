//! Mappings of the lab's NATs: whom they let in, how they are chosen, and how they end.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{
    self, Lab, Need,
    nat::{Dependence, NatKind, RouterSpec, Timeouts, conntrack},
    udp::Udp,
    wait_until,
};

use crate::{ROUTERS, World};

const SOON: Duration = Duration::from_secs(20);

/// Who of three gets in, once the host has sent to the first: the same address from another port, another address, nobody who is
/// not asked.
fn lets_in(lab: &Lab, world: &mut World, kind: NatKind) -> Result<()> {
    let mut router = world.router(lab, kind.name(), &RouterSpec::new(kind))?;
    let host = Udp::open(&router.host(lab, &format!("h-{kind}"))?, 5000)?;
    let outer = host.seen_by(&world.first)?;
    let inside = if kind.translates() { router.external() } else { *host.local.ip() };
    ensure!(*outer.ip() == inside, "{kind}: the host is {outer}");
    world.stranger()?.send(outer, "another port")?;
    world.second.send(outer, "another address")?;
    world.first.send(outer, "an answer")?;
    // All that get in come in the order in which they were sent.
    let filtering = kind.behaviour().filtering;
    if filtering <= Dependence::AddressDependent {
        host.expect("another port").with_context(|| kind.to_string())?;
    }
    if filtering == Dependence::EndpointIndependent {
        host.expect("another address").with_context(|| kind.to_string())?;
    }
    host.expect("an answer").with_context(|| kind.to_string())?;
    Ok(())
}

#[test]
fn every_kind_lets_in_whom_it_should() {
    lab::run("every_kind_lets_in_whom_it_should", &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        NatKind::ALL.into_iter().try_for_each(|kind| lets_in(lab, &mut world, kind))
    });
}

#[test]
fn a_symmetric_nat_that_counts_takes_the_next_port_for_every_destination() {
    let test = "a_symmetric_nat_that_counts_takes_the_next_port_for_every_destination";
    lab::run(test, &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        let mut router = world.router(lab, "nat", &RouterSpec::new(NatKind::SymmetricSequential))?;
        let [a, b] = [Udp::open(&router.host(lab, "a")?, 5000)?, Udp::open(&router.host(lab, "b")?, 5000)?];
        let start = a.seen_by(&world.first)?.port();
        // Whoever needs one takes it.
        for n in 1..20 {
            let host = if n % 3 == 0 { &b } else { &a };
            let port = host.seen_by(&world.stranger()?)?.port();
            ensure!(port == start + n, "mapping {n} has port {port}, the first one {start}");
        }
        ensure!(a.seen_by(&world.first)?.port() == start, "the first mapping has changed");
        Ok(())
    });
}

#[test]
fn the_second_host_with_a_port_gets_another_one_for_all_destinations() {
    lab::run("the_second_host_with_a_port_gets_another_one_for_all_destinations", &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        let mut router = world.router(lab, "nat", &RouterSpec::new(NatKind::PortRestrictedCone))?;
        let [a, b] = [Udp::open(&router.host(lab, "a")?, 5000)?, Udp::open(&router.host(lab, "b")?, 5000)?];
        let (outer_a, outer_b) = (a.seen_by(&world.first)?, b.seen_by(&world.first)?);
        ensure!(outer_a.port() == 5000 && outer_b.port() != 5000, "{outer_a}, {outer_b}");
        for other in [&world.second, &world.stranger()?] {
            ensure!(a.seen_by(other)? == outer_a && b.seen_by(other)? == outer_b, "towards {}", other.local);
        }
        Ok(())
    });
}

/// The port that a host gets towards a peer whose packet came before the host's own.
fn port_after_an_early_packet(lab: &Lab, world: &mut World, name: &str, spec: &RouterSpec) -> Result<u16> {
    let mut router = world.router(lab, name, spec)?;
    let host = Udp::open(&router.host(lab, &format!("h-{name}"))?, 5000)?;
    let outer = host.seen_by(&world.first)?;
    ensure!(outer.port() == 5000, "{name}: {outer}");
    world.second.send(outer, "early")?;
    // What the router says about it, or does not say, is behind it when this is through.
    world.first.send(outer, "after it")?;
    host.expect("after it")?;
    Ok(host.seen_by(&world.second)?.port())
}

#[test]
fn without_an_input_filter_an_early_packet_moves_the_mapping() {
    lab::run("without_an_input_filter_an_early_packet_moves_the_mapping", &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        let spec = RouterSpec::new(NatKind::PortRestrictedCone);
        let port = port_after_an_early_packet(lab, &mut world, "filter", &spec)?;
        ensure!(port == 5000, "with a filter the port became {port}");
        let port = port_after_an_early_packet(lab, &mut world, "none", &spec.without_input_filter())?;
        ensure!(port != 5000, "without a filter the port has stayed");
        Ok(())
    });
}

#[test]
fn a_reboot_forgets_all_mappings() {
    lab::run("a_reboot_forgets_all_mappings", &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        for kind in [NatKind::FullCone, NatKind::RestrictedCone, NatKind::PortRestrictedCone] {
            let mut router = world.router(lab, kind.name(), &RouterSpec::new(kind))?;
            let host = Udp::open(&router.host(lab, &format!("h-{kind}"))?, 5000)?;
            let outer = host.seen_by(&world.first)?;
            ensure!(router.conntrack_entries()? > 0, "{kind}: nothing is tracked");
            router.reboot()?;
            ensure!(router.conntrack_entries()? == 0, "{kind}: {:?}", conntrack::list(&router.ns, "udp")?);
            world.first.send(outer, "after the reboot")?;
            let again = host.seen_by(&world.second)?;
            world.second.send(again, "after the host")?;
            host.expect("after the host").with_context(|| kind.to_string())?;
        }
        Ok(())
    });
}

#[test]
fn a_mapping_ends_after_its_time() {
    lab::run("a_mapping_ends_after_its_time", &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        for kind in [NatKind::FullCone, NatKind::PortRestrictedCone] {
            let second = Duration::from_secs(1);
            let mut router = world.router(lab, kind.name(), &RouterSpec::new(kind))?;
            router.set_timeouts(Timeouts { unreplied: second, replied: second })?;
            let host = Udp::open(&router.host(lab, &format!("h-{kind}"))?, 5000)?;
            let outer = host.seen_by(&world.first)?;
            wait_until("the mapping to end", SOON, || {
                let tracked = !conntrack::list(&router.ns, "udp")?.is_empty();
                let table = router.ns.run("nft", &["list", "table", "ip", "nat"])?;
                Ok(!tracked && !table.contains(&format!(" {} timeout ", outer.port())))
            })?;
            world.first.send(outer, "too late")?;
            let again = host.seen_by(&world.second)?;
            world.second.send(again, "in time")?;
            host.expect("in time").with_context(|| kind.to_string())?;
        }
        Ok(())
    });
}

#[test]
fn a_new_address_outside_takes_the_place_of_the_old_one() {
    lab::run("a_new_address_outside_takes_the_place_of_the_old_one", &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        for kind in [NatKind::FullCone, NatKind::SymmetricSequential] {
            let mut router = world.router(lab, kind.name(), &RouterSpec::new(kind))?;
            let host = Udp::open(&router.host(lab, &format!("h-{kind}"))?, 5000)?;
            let old = host.seen_by(&world.first)?;
            let address = router.change_address()?;
            ensure!(address != *old.ip() && address == router.external(), "{kind}: {old}, then {address}");
            world.first.send(old, "to the old one")?;
            let new = host.seen_by(&world.first)?;
            ensure!(*new.ip() == address, "{kind}: {new}");
            world.first.send(new, "to the new one")?;
            host.expect("to the new one").with_context(|| kind.to_string())?;
        }
        let mut open = world.router(lab, "open", &RouterSpec::new(NatKind::Open))?;
        ensure!(open.change_address().is_err(), "an open router has no address for its hosts");
        Ok(())
    });
}

#[test]
fn entries_are_counted_now_and_at_their_peak() {
    lab::run("entries_are_counted_now_and_at_their_peak", &ROUTERS, |lab| {
        let mut world = World::new(lab)?;
        let mut router = world.router(lab, "nat", &RouterSpec::new(NatKind::SymmetricRandom))?;
        let host = Udp::open(&router.host(lab, "a")?, 5000)?;
        let peak = router.watch_conntrack()?;
        for _ in 0..50 {
            host.seen_by(&world.stranger()?)?;
        }
        ensure!(router.conntrack_entries()? == 50, "{:?}", conntrack::list(&router.ns, "udp")?);
        wait_until("the peak to be seen", SOON, || Ok(peak.most() == 50))?;
        router.reboot()?;
        ensure!(router.conntrack_entries()? == 0 && peak.most() == 50, "{} entries", router.conntrack_entries()?);
        Ok(())
    });
}

#[test]
fn two_lans_may_have_the_same_addresses() {
    let needs: Vec<Need> = ROUTERS.into();
    lab::run("two_lans_may_have_the_same_addresses", &needs, |lab| {
        let mut world = World::new(lab)?;
        let spec = RouterSpec::new(NatKind::PortRestrictedCone).lan(Ipv4Addr::new(192, 168, 178, 0));
        let mut routers = [world.router(lab, "left", &spec)?, world.router(lab, "right", &spec)?];
        let [left, right] = &mut routers;
        let [a, b] = [Udp::open(&left.host(lab, "a")?, 5000)?, Udp::open(&right.host(lab, "b")?, 5000)?];
        ensure!(a.local == b.local, "{} and {}", a.local, b.local);
        let [outer_a, outer_b] = [a.seen_by(&world.first)?, b.seen_by(&world.first)?];
        // Each opens its NAT for the other: hole punching in two lines. The first one may come too early.
        a.send(outer_b, "a")?;
        b.send(outer_a, "b")?;
        a.expect("b")?;
        a.send(outer_b, "a again")?;
        b.expect("a again")?;
        Ok(())
    });
}
