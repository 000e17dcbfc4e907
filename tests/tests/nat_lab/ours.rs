//! Our own client where there is more to see than types: order of ports, lifetimes, servers that cannot tell all, and errors.

use std::{thread, time::Duration};

use anyhow::{Result, anyhow, ensure};
use wavnet_tests::lab::{
    self, Lab, Need,
    host::Host,
    nat::{
        Dependence, NatKind, Router, RouterSpec, Timeouts,
        wavnet::{Rendezvous, nat},
    },
    topology::UNDERLAY_MTU,
    wan::Internet,
};
use wavnet_user::api::model::NatInfo;

const NEEDS: [Need; 3] = [Need::Tool("nft"), Need::Tool("conntrack"), Need::Wavnet];

/// What `wavnet nat` finds out on a host behind each router, all at the same time; there is a session for IPv4 alone.
fn found(hosts: &[(NatKind, Host)], words: &[&str]) -> Result<Vec<NatInfo>> {
    thread::scope(|scope| {
        let ask = |(kind, host): &(NatKind, Host)| {
            let (infos, code) = nat(host, words)?;
            let [info] = <[NatInfo; 1]>::try_from(infos).map_err(|infos| anyhow!("{kind}: {infos:?}"))?;
            println!("{kind}: {info:?}");
            ensure!((code == 0) == info.mapped.is_some(), "{kind}: exit code {code}, {info:?}");
            Ok(info)
        };
        let threads: Vec<_> = hosts.iter().map(|host| scope.spawn(move || ask(host))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<_>>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        };
        threads.into_iter().map(join).collect()
    })
}

/// A host behind a router of each kind.
fn behind(
    lab: &Lab,
    internet: &mut Internet,
    kinds: &[NatKind],
    spec: impl Fn(RouterSpec) -> RouterSpec,
) -> Result<(Vec<Router>, Vec<(NatKind, Host)>)> {
    let (mut routers, mut hosts) = (Vec::new(), Vec::new());
    for kind in kinds {
        let mut router = Router::new(lab, kind.name(), internet, &spec(RouterSpec::new(*kind)))?;
        hosts.push((*kind, router.host(lab, &format!("h-{kind}"))?));
        routers.push(router);
    }
    Ok((routers, hosts))
}

#[test]
fn lifetimes_of_idle_mappings_are_found() {
    lab::run("lifetimes_of_idle_mappings_are_found", &NEEDS, |lab| {
        let mut internet = Internet::new(lab, UNDERLAY_MTU)?;
        let server = Rendezvous::start(&internet.host(lab, "server", 2, None)?)?;
        let kinds = [
            NatKind::Open,
            NatKind::SymmetricFirewall,
            NatKind::FullCone,
            NatKind::PortRestrictedCone,
            NatKind::SymmetricRandom,
        ];
        let three = Duration::from_secs(3);
        let short = Timeouts { unreplied: three, replied: three };
        let (_routers, hosts) = behind(lab, &mut internet, &kinds, |spec| spec.timeouts(short))?;
        let primary = server.servers.primary.to_string();
        let infos = found(&hosts, &["--server", &primary, "--lifetime", "8s"])?;
        for ((kind, _), info) in hosts.iter().zip(infos) {
            let Some(lifetime) = info.lifetime else {
                ensure!(*kind == NatKind::Open, "{kind}: no lifetime, {info:?}");
                continue;
            };
            // The kernel's clock has ticks, the second round has steps of 170 ms, and the machine may be busy.
            let near = lifetime.alive_ms > 2000 && lifetime.alive_ms < 3100;
            let dead = lifetime.dead_ms.is_some_and(|dead| dead > 2900 && dead < 4100);
            ensure!(*kind != NatKind::Open && near && dead, "{kind}: {lifetime:?}");
            ensure!(info.notes.is_empty(), "{kind}: {info:?}");
        }
        Ok(())
    });
}

#[test]
fn a_server_with_one_address_tells_less_and_nothing_wrong() {
    lab::run("a_server_with_one_address_tells_less_and_nothing_wrong", &NEEDS, |lab| {
        let mut internet = Internet::new(lab, UNDERLAY_MTU)?;
        let servers = ["one", "two"].map(|name| Rendezvous::start(&internet.host(lab, name, 1, None)?));
        let [one, two] = servers;
        let [one, two] = [one?, two?].map(|server| server.servers.primary.to_string());
        let (_routers, hosts) = behind(lab, &mut internet, &NatKind::ALL, |spec| spec)?;
        for ((kind, _), info) in hosts.iter().zip(found(&hosts, &["--server", &one])?) {
            let codes: Vec<_> = info.notes.iter().map(|note| note.code.as_str()).collect();
            ensure!(codes == ["no_other_address"], "{kind}: {info:?}");
            let want = if kind.translates() {
                ("natted", "unknown", "unknown")
            } else {
                ("direct", "open", "endpoint-independent")
            };
            ensure!((info.situation.as_str(), info.kind.as_str(), info.mapping.as_str()) == want, "{kind}: {info:?}");
            ensure!(info.mapped.is_some() && info.filtering == "unknown", "{kind}: {info:?}");
        }
        // Two servers tell whether mappings differ; on what, they cannot.
        for ((kind, _), info) in hosts.iter().zip(found(&hosts, &["--server", &one, "--server", &two])?) {
            let differ = kind.behaviour().mapping.is_some_and(|mapping| mapping != Dependence::EndpointIndependent);
            let want = if differ { "address-and-port-dependent" } else { "endpoint-independent" };
            ensure!(info.mapping == want && (info.kind == "symmetric") == differ, "{kind}: {info:?}");
        }
        Ok(())
    });
}

#[test]
fn ports_have_an_order_and_silence_is_told() {
    lab::run("ports_have_an_order_and_silence_is_told", &NEEDS, |lab| {
        let mut internet = Internet::new(lab, UNDERLAY_MTU)?;
        let public = internet.host(lab, "server", 2, None)?;
        let server = Rendezvous::start(&public)?;
        let (_routers, hosts) = behind(lab, &mut internet, &NatKind::ALL, |spec| spec)?;
        let primary = server.servers.primary.to_string();
        for ((kind, _), info) in hosts.iter().zip(found(&hosts, &["--server", &primary])?) {
            // What is drawn by a hash may look like anything; so may one that happens to keep the port.
            let want: &[&str] = match kind {
                NatKind::PortRestrictedConeRemapped => &["unknown"],
                NatKind::SymmetricByAddress => &["unknown", "sequential", "random"],
                NatKind::SymmetricSequential => &["sequential"],
                NatKind::SymmetricRandom => &["random"],
                _ => &["preserving"],
            };
            ensure!(want.contains(&info.ports.as_str()), "{kind}: {info:?}");
            ensure!(*kind != NatKind::SymmetricSequential || info.port_step == Some(1), "{kind}: {info:?}");
        }
        drop(server);
        for ((kind, _), info) in hosts.iter().zip(found(&hosts, &["--server", &primary])?) {
            ensure!(info.kind == "blocked" && info.mapped.is_none(), "{kind}: {info:?}");
            ensure!(info.notes.iter().filter(|note| note.code == "silent").count() == 2, "{kind}: {info:?}");
        }
        // A host whose own firewall keeps it from sending is told so.
        let host = &hosts[0].1;
        for rule in [
            "add table ip own",
            "add chain ip own out { type filter hook output priority 0; }",
            "add rule ip own out meta l4proto udp drop",
        ] {
            host.ns.run("nft", &rule.split(' ').collect::<Vec<_>>())?;
        }
        let (infos, code) = nat(host, &["--server", &primary])?;
        ensure!(code == 1 && infos[0].notes.iter().any(|note| note.code == "unsent"), "exit code {code}, {infos:?}");
        Ok(())
    });
}
