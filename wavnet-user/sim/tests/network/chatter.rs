//! Many hosts that ping each other: the counters agree, and a thousand hosts are no trouble.

use std::net::SocketAddr;

use wavnet_sim::{
    Chance, HostId, HostStats, LinkConfig, Network, Node, OneOf, RouterConfig, Seed, SegmentId,
    nat::{Behaviour, NatConfig},
};

use crate::{
    lab::{millis, prefix, seconds},
    nodes::{Echo, Pinger},
};

/// Hosts of two kinds in one network.
pub(crate) enum Host {
    Echo(Echo),
    Pinger(Pinger),
}

impl OneOf for Host {
    fn node(&mut self) -> &mut dyn Node {
        match self {
            Host::Echo(echo) => echo,
            Host::Pinger(pinger) => pinger,
        }
    }
}

impl Host {
    fn pinger(&self) -> Option<&Pinger> {
        match self {
            Host::Pinger(pinger) => Some(pinger),
            Host::Echo(_) => None,
        }
    }
}

/// Pingers behind NATs of all nine kinds, two to a LAN, and a tenth as many echoes on the internet. Each pings four echoes, and its own router.
pub(crate) fn network(seed: Seed, hosts: usize, link: &LinkConfig, keep: usize) -> Network<Host> {
    let mut net = Network::new(seed);
    net.keep_trace(keep);
    let mut rng = seed.rng();
    let internet = SegmentId::INTERNET;
    let echoes: Vec<SocketAddr> = (0..hosts.div_ceil(10))
        .map(|_| {
            let addr = net.vacant_v4(internet);
            let host = net.add_host(internet, &[addr], Host::Echo(Echo::default()));
            net.main_address(host)
        })
        .collect();
    let mut kinds = Behaviour::ALL.iter().flat_map(|m| Behaviour::ALL.map(|f| (*m, f))).cycle();
    for _ in 0..hosts.div_ceil(2) {
        let external = net.vacant_v4(internet);
        let (mapping, filtering) = kinds.next().unwrap();
        let nat = NatConfig { mapping, filtering, ..NatConfig::default() };
        let router = net.add_router(internet, RouterConfig::nat(external, prefix("192.168.1.0/24"), nat));
        net.set_link(router, link);
        let lan = net.lan(router);
        for _ in 0..2 {
            let mut targets: Vec<SocketAddr> = (0..4).map(|_| rng.pick(&echoes)).collect();
            targets.push((external, 4789).into());
            let addr = net.vacant_v4(lan);
            let period = millis(500) + rng.within(millis(1000));
            net.add_host(lan, &[addr], Host::Pinger(Pinger::new(targets, period)));
        }
    }
    net
}

/// Every datagram is delivered, dropped for a reason, or on its way; whoever counts.
fn check_counters(net: &Network<Host>) {
    let totals = net.totals();
    let ended = totals.delivered + totals.dropped.total() + totals.in_flight;
    assert_eq!(totals.sent + totals.injected + totals.duplicated, ended, "{totals:?}");
    let hosts: Vec<HostId> = net.hosts().collect();
    let sum = |of: fn(&HostStats) -> u64| hosts.iter().map(|h| of(net.host_stats(*h))).sum::<u64>();
    assert_eq!(sum(|stats| stats.sent), totals.sent);
    assert_eq!(sum(|stats| stats.received), totals.delivered);
    assert_eq!(sum(|stats| stats.lost.total()), totals.dropped.total());
}

#[test]
fn counters_agree_at_every_moment() {
    Seed::each(5, |seed| {
        let link = LinkConfig {
            loss: Chance::percent(10),
            duplication: Chance::percent(10),
            ..LinkConfig::delayed(millis(30))
        };
        let mut net = network(seed, 20, &link, 50);
        for _ in 0..2000 {
            check_counters(&net);
            assert!(net.step());
        }
    });
}

#[test]
fn a_thousand_hosts_chat() {
    let mut net = network(Seed::from_env_or(1), 1000, &LinkConfig::delayed(millis(20)), 100);
    net.run_for(seconds(30));
    check_counters(&net);
    let totals = net.totals();
    assert!(totals.sent > 50_000, "{totals:?}");
    let nodes: Vec<&Pinger> = net.hosts().filter_map(|host| net.node(host).pinger()).collect();
    assert_eq!(nodes.len(), 1000);
    for pinger in nodes {
        assert!(pinger.answered.iter().all(|(_, delay)| *delay == millis(40)), "{:?}", pinger.answered);
        // Four of five go to echoes, all of which answer, but for the last one, which may be under way; no router hairpins.
        let to_echoes = pinger.sent.len() - pinger.sent.len() / 5;
        assert!([to_echoes, to_echoes - 1].contains(&pinger.answered.len()), "{pinger:?}");
    }
    assert_eq!(totals.dropped.total(), totals.dropped.of(wavnet_sim::Reason::NoHairpin));
}
