//! Our own client where there is more to see than types: order of ports, lifetimes, servers that cannot tell all, and errors.

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
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

/// Hosts, and what each of them is behind.
type Hosts = Vec<(NatKind, Host)>;

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
) -> Result<(Vec<Router>, Hosts)> {
    let (mut routers, mut hosts) = (Vec::new(), Vec::new());
    for kind in kinds {
        let mut router = Router::new(lab, kind.name(), internet, &spec(RouterSpec::new(*kind)))?;
        hosts.push((*kind, router.host(lab, &format!("h-{kind}"))?));
        routers.push(router);
    }
    Ok((routers, hosts))
}

/// True for words of a note's code.
fn noted(info: &NatInfo, codes: &[&str]) -> bool {
    info.notes.iter().map(|note| note.code.as_str()).eq(codes.iter().copied())
}

/// What is found of NATs that remember for three seconds.
fn three_seconds(kind: NatKind, info: &NatInfo) -> Result<()> {
    match (kind, info.lifetime) {
        (NatKind::Open, None) => ensure!(info.notes.is_empty(), "{info:?}"),
        // It is another one when all tests are over, and that is what must be known first.
        (NatKind::SymmetricRandom, None) => ensure!(info.unstable && noted(info, &["moved"]), "{info:?}"),
        (NatKind::Open | NatKind::SymmetricRandom, Some(_)) | (_, None) => bail!("{info:?}"),
        (_, Some(lifetime)) => {
            // Times tried are 1.35, 1.8, 2.5, 3.3 seconds and more; the machine may be busy.
            let alive = (1900..3100).contains(&lifetime.alive_ms);
            let dead = lifetime.dead_ms.is_some_and(|dead| (2900..4400).contains(&dead));
            ensure!(alive && dead && info.notes.is_empty(), "{info:?}");
        }
    }
    Ok(())
}

/// A host without a server, and one whose own firewall keeps it from asking.
fn silence(server: &str, hosts: &[(NatKind, Host)]) -> Result<()> {
    let [(_, host), ..] = hosts else { bail!("no host") };
    let nobody = format!("{server}:9");
    let (infos, code) = nat(host, &["--server", &nobody, "--lifetime"])?;
    ensure!(code == 1 && infos[0].kind == "blocked" && noted(&infos[0], &["silent"]), "exit code {code}, {infos:?}");
    let chain = "add chain ip own out { type filter hook output priority 0; }";
    for rule in ["add table ip own", chain, "add rule ip own out udp dport 9 drop"] {
        host.ns.run("nft", &rule.split(' ').collect::<Vec<_>>())?;
    }
    let (infos, code) = nat(host, &["--server", &nobody])?;
    ensure!(code == 1 && noted(&infos[0], &["silent", "unsent"]), "exit code {code}, {infos:?}");
    Ok(())
}

#[test]
fn lifetimes_of_idle_mappings_are_found_and_silence_is_told() {
    lab::run("lifetimes_of_idle_mappings_are_found_and_silence_is_told", &NEEDS, |lab| {
        let mut internet = Internet::new(lab, UNDERLAY_MTU)?;
        let server = Rendezvous::start(&internet.host(lab, "server", 2, None)?)?;
        use NatKind::{FullCone, Open, PortRestrictedCone, SymmetricFirewall, SymmetricRandom};
        let kinds = [Open, SymmetricFirewall, FullCone, PortRestrictedCone, SymmetricRandom];
        let three = Duration::from_secs(3);
        let short = Timeouts { unreplied: three, replied: three };
        let (_routers, hosts) = behind(lab, &mut internet, &kinds, |spec| spec.timeouts(short))?;
        let primary = server.servers.primary.to_string();
        let infos = thread::scope(|scope| {
            let silence = scope.spawn(|| silence(&primary, &hosts));
            let infos = found(&hosts, &["--server", &primary, "--lifetime", "6s"]);
            silence.join().map_err(|_| anyhow!("a thread panicked"))??;
            infos
        })?;
        hosts
            .iter()
            .zip(&infos)
            .try_for_each(|((kind, _), info)| three_seconds(*kind, info).with_context(|| kind.to_string()))
    });
}

/// What a server with two addresses tells of ports.
fn ports(kind: NatKind, info: &NatInfo) -> Result<()> {
    // What is found by a hash or drawn may look like anything.
    let want: &[&str] = match kind {
        NatKind::PortRestrictedConeRemapped => &["unknown"],
        NatKind::SymmetricByAddress => &["unknown", "sequential", "random"],
        NatKind::SymmetricSequential => &["sequential"],
        NatKind::SymmetricRandom => &["unknown", "random"],
        _ => &["preserving"],
    };
    let step = kind != NatKind::SymmetricSequential || info.port_step == Some(1);
    ensure!(want.contains(&info.ports.as_str()) && step, "{kind}: {info:?}");
    Ok(())
}

/// What a server with one address tells.
fn less(kind: NatKind, info: &NatInfo) -> Result<()> {
    ensure!(noted(info, &["no_other_address"]) && info.filtering == "unknown", "{kind}: {info:?}");
    let (situation, name, mapping) = match kind.translates() {
        true => ("natted", "unknown", "unknown"),
        false => ("direct", "open", "endpoint-independent"),
    };
    let found = (info.situation.as_str(), info.kind.as_str(), info.mapping.as_str());
    ensure!(found == (situation, name, mapping), "{kind}: {info:?}");
    Ok(())
}

/// What two such servers tell: whether mappings differ; not on what that depends.
fn a_little_more(kind: NatKind, info: &NatInfo) -> Result<()> {
    let differ = kind.behaviour().mapping.is_some_and(|mapping| mapping != Dependence::EndpointIndependent);
    let want = if differ { "address-and-port-dependent" } else { "endpoint-independent" };
    ensure!(info.mapping == want && (info.kind == "symmetric") == differ, "{kind}: {info:?}");
    Ok(())
}

#[test]
fn ports_have_an_order_and_a_server_with_one_address_tells_less() {
    lab::run("ports_have_an_order_and_a_server_with_one_address_tells_less", &NEEDS, |lab| {
        let mut internet = Internet::new(lab, UNDERLAY_MTU)?;
        let both = Rendezvous::start(&internet.host(lab, "both", 2, None)?)?;
        let one = Rendezvous::start(&internet.host(lab, "one", 1, None)?)?;
        let two = Rendezvous::start(&internet.host(lab, "two", 1, None)?)?;
        let [both, one, two] = [&both, &one, &two].map(|server| server.servers.primary.to_string());
        let (_routers, hosts) = behind(lab, &mut internet, &NatKind::ALL, |spec| spec)?;
        let kinds = || hosts.iter().map(|(kind, _)| *kind);
        // Nobody else may take ports in between.
        let infos = found(&hosts, &["--server", &both])?;
        kinds().zip(&infos).try_for_each(|(kind, info)| ports(kind, info))?;
        thread::scope(|scope| {
            // Without a port, 4789 and 3478 are asked.
            let by_one = scope.spawn(|| found(&hosts, &["--server", &one]));
            let infos = found(&hosts, &["--server", &format!("{one}:3478"), "--server", &format!("{two}:3478")])?;
            kinds().zip(&infos).try_for_each(|(kind, info)| a_little_more(kind, info))?;
            let infos = by_one.join().map_err(|_| anyhow!("a thread panicked"))??;
            kinds().zip(&infos).try_for_each(|(kind, info)| less(kind, info))
        })
    });
}
