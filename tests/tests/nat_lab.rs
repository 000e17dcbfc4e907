//! The lab's NATs are what they are called: independent STUN clients say so, of two hosts at once.

use std::thread;

use anyhow::{Result, anyhow, ensure};
use wavnet_tests::lab::{
    self, Lab, Need,
    host::Host,
    nat::{
        NatKind, Router, RouterSpec,
        classify::{Classifier, Expected},
        stun::{Coturn, NatDiscovery, Servers, StunClient},
    },
    topology::UNDERLAY_MTU,
    wan::Internet,
};

const NEEDS: &[Need] = &[
    Need::Tool("nft"),
    Need::Tool("conntrack"),
    Need::Tool("turnserver"),
    Need::Tool("turnutils_natdiscovery"),
    Need::Tool("stun"),
];

/// Whoever classifies: what others made comes first, so that what is ours is held against it.
const CLASSIFIERS: [&dyn Classifier; 2] = [&NatDiscovery, &StunClient];

/// What every classifier finds out about what is before a host, each from a port of its own; what is not as expected.
fn differences(host: &Host, port: u16, servers: &Servers, expected: &Expected) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (n, classifier) in CLASSIFIERS.into_iter().enumerate() {
        let finding = classifier.classify(host, port + n as u16, servers)?;
        println!("{} of {}: {finding:?}", classifier.name(), host.ns.short_name());
        let differences = expected.differences(&finding).into_iter();
        all.extend(differences.map(|d| format!("{} on {}: {d}", classifier.name(), host.ns.short_name())));
    }
    Ok(all)
}

/// Two hosts behind each router, which classify it at the same time, all routers at once.
fn classified(lab: &Lab, specs: &[(&str, RouterSpec, Expected)]) -> Result<()> {
    let mut internet = Internet::new(lab, UNDERLAY_MTU)?;
    let coturn = Coturn::start(&internet.host(lab, "stun", 2, None)?)?;
    let mut sites = Vec::new();
    for (n, (name, spec, expected)) in specs.iter().enumerate() {
        let mut router = Router::new(lab, &format!("r{n}"), &mut internet, spec)?;
        let hosts = [router.host(lab, &format!("a{n}"))?, router.host(lab, &format!("b{n}"))?];
        sites.push((name, router, hosts, expected));
    }
    let wrong = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (name, _, hosts, expected) in &sites {
            for (host, port) in hosts.iter().zip([5000, 5100]) {
                let servers = &coturn.servers;
                threads.push((name, scope.spawn(move || differences(host, port, servers, expected))));
            }
        }
        let mut wrong = Vec::new();
        for (name, thread) in threads {
            let found = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            wrong.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
        }
        Ok::<_, anyhow::Error>(wrong)
    })?;
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn every_kind_is_what_it_is_called() {
    lab::run("every_kind_is_what_it_is_called", NEEDS, |lab| {
        let specs = NatKind::ALL.map(|kind| {
            let behaviour = kind.behaviour();
            let expected = Expected { behaviour, keeps_port: None, hairpins: false };
            (kind.name(), RouterSpec::new(kind), expected)
        });
        classified(lab, &specs)
    });
}
