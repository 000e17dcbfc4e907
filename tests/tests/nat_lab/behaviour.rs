//! Every kind of router, as STUN clients see it.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use wavnet_tests::lab::{
    self, Lab, Need,
    host::Host,
    nat::{
        NatKind, Ports, Router, RouterSpec,
        classify::{Classifier, Expected},
        stun::{Coturn, NatDiscovery, Server, StunClient},
        wavnet::{Rendezvous, WavnetNat},
    },
    topology::UNDERLAY_MTU,
    wan::Internet,
};

const NEEDS: [Need; 6] = [
    Need::Wavnet,
    Need::Tool("nft"),
    Need::Tool("conntrack"),
    Need::Tool("turnserver"),
    Need::Tool("turnutils_natdiscovery"),
    Need::Tool("stun"),
];

/// Whoever classifies: what others made comes first, so that what is ours is held against it.
const CLASSIFIERS: [&dyn Classifier; 3] = [&NatDiscovery, &StunClient, &WavnetNat];

/// Hosts and what is expected to be before them.
struct Site {
    name: String,
    _routers: Vec<Router>,
    hosts: [Host; 2],
    expected: Expected,
}

/// What a classifier finds out by a server about what is before a host; what is not as expected.
fn differences(
    classifier: &dyn Classifier,
    server: &dyn Server,
    (host, port): (&Host, u16),
    expected: &Expected,
) -> Vec<String> {
    let who = format!("{} with {} on {}", classifier.name(), server.name(), host.ns.short_name());
    let look = |port| {
        let found = classifier.classify(host, port, server.servers());
        println!("{who}: {found:?}");
        found.map_or_else(|error| vec![format!("{error:#}")], |finding| expected.differences(&finding))
    };
    let mut wrong = look(port);
    // Where a hash finds ports the kernel drops one of two flows that happen to have the same; and where many ask at once an answer may
    // come too late for an independent client. Such a thing does not happen twice.
    if !wrong.is_empty() {
        wrong = look(port + 5);
    }
    wrong.into_iter().map(|difference| format!("{who}: {difference}")).collect()
}

/// Both hosts of all sites classify at the same time, by an independent server and by our own, with all classifiers, each from ports of its
/// own.
fn classified(lab: &Lab, sites: impl FnOnce(&mut Internet) -> Result<Vec<Site>>) -> Result<()> {
    let mut internet = Internet::new(lab, UNDERLAY_MTU)?;
    let coturn = Coturn::start(&internet.host(lab, "stun", 2, None)?)?;
    let ours = Rendezvous::start(&internet.host(lab, "ours", 2, None)?)?;
    let servers: [&dyn Server; 2] = [&coturn, &ours];
    let sites = sites(&mut internet)?;
    let wrong = thread::scope(|scope| {
        let mut threads = Vec::new();
        for Site { name, hosts, expected, .. } in &sites {
            let ports = (5000..).step_by(10);
            let all = hosts
                .iter()
                .flat_map(|host| servers.map(|server| CLASSIFIERS.map(|classifier| (host, server, classifier))));
            for ((host, server, classifier), port) in all.flatten().zip(ports) {
                threads.push((name, scope.spawn(move || differences(classifier, server, (host, port), expected))));
            }
        }
        let mut wrong = Vec::new();
        for (name, thread) in threads {
            let found = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
            wrong.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
        }
        Ok::<_, anyhow::Error>(wrong)
    })?;
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// Whether ports stay, where that is not left to chance.
fn keeps_port(ports: Ports) -> Option<bool> {
    match ports {
        Ports::Kept => Some(true),
        Ports::Sequential => Some(false),
        Ports::Random => None,
    }
}

#[test]
fn every_kind_is_what_it_is_called() {
    lab::run("every_kind_is_what_it_is_called", &NEEDS, |lab| {
        classified(lab, |internet| {
            let plain = NatKind::ALL.map(RouterSpec::new);
            let cones = NatKind::ALL.into_iter().filter(|kind| kind.translates() && kind.behaviour().maps_once());
            let specs = plain.into_iter().chain(cones.map(|kind| RouterSpec::new(kind).hairpinning()));
            let mut sites = Vec::new();
            for (n, spec) in specs.enumerate() {
                let mut router = Router::new(lab, &format!("r{n}"), internet, &spec)?;
                let hosts = [router.host(lab, &format!("a{n}"))?, router.host(lab, &format!("b{n}"))?];
                let (kind, hairpins) = (router.kind(), router.hairpins());
                let behaviour = kind.behaviour();
                let expected = Expected { behaviour, keeps_port: keeps_port(behaviour.ports), hairpins };
                let name = format!("{kind}{}", if hairpins { ", hairpinning" } else { "" });
                sites.push(Site { name, _routers: vec![router], hosts, expected });
            }
            Ok(sites)
        })
    });
}

/// Inner and outer kinds of two NATs in a row.
const TWO: [[NatKind; 2]; 5] = [
    [NatKind::FullCone, NatKind::FullCone],
    [NatKind::FullCone, NatKind::PortRestrictedCone],
    [NatKind::RestrictedCone, NatKind::FullCone],
    [NatKind::SymmetricRandom, NatKind::FullCone],
    [NatKind::PortRestrictedCone, NatKind::SymmetricSequential],
];

#[test]
fn two_nats_in_a_row_are_as_strict_as_the_stricter_one() {
    lab::run("two_nats_in_a_row_are_as_strict_as_the_stricter_one", &NEEDS, |lab| {
        classified(lab, |internet| {
            let mut sites = Vec::new();
            for (n, kinds) in TWO.into_iter().enumerate() {
                let [inner, outer] = kinds.map(RouterSpec::new);
                let mut outer = Router::new(lab, &format!("outer{n}"), internet, &outer)?;
                let mut inner = Router::new(lab, &format!("inner{n}"), &mut outer, &inner)?;
                let hosts = [inner.host(lab, &format!("a{n}"))?, inner.host(lab, &format!("b{n}"))?];
                let behaviour = kinds[0].behaviour().behind(kinds[1].behaviour());
                let expected = Expected { behaviour, keeps_port: keeps_port(behaviour.ports), hairpins: false };
                sites.push(Site {
                    name: format!("{} behind {}", kinds[0], kinds[1]),
                    _routers: vec![inner, outer],
                    hosts,
                    expected,
                });
            }
            Ok(sites)
        })
    });
}
