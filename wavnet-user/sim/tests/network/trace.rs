//! The trace, the digest and the counters: what is said of a run is what happened, and two runs of one scenario are one.

use std::time::Duration;

use wavnet_proto::transmit::Socket;
use wavnet_sim::{Chance, Jitter, LinkConfig, Order, Seed, nat::NatConfig};

use crate::{
    chatter,
    lab::{INTERNET, Lab, Site, TO_Y1, at, ip, millis, seconds},
};

#[test]
fn a_trace_tells_each_datagrams_way() {
    let mut site = Site::new(NatConfig::port_restricted_cone());
    site.lab.set_link(site.router, &LinkConfig::delayed(millis(10)));
    let mapped = site.out(TO_Y1);
    let (y, z) = (site.y, site.z);
    site.comes_in(y, Socket::Main, mapped).unwrap();
    site.comes_in(z, Socket::Main, mapped).unwrap_err();
    site.lab.send(site.x, Socket::Main, at("8.8.8.8:53")).unwrap_err();
    site.lab.reboot(site.router);
    let trace = site.lab.trace();
    let lines: Vec<&str> = trace.lines().collect();
    let expected = [
        "1000.010000 s  h2 192.168.1.2:4789 → r0 198.51.100.1:4789 → 192.0.2.1:4789  4 bytes  delivered to h0, after 10.000 ms",
        "1000.020000 s  h0 192.0.2.1:4789 → 198.51.100.1:4789 → r0 192.168.1.2:4789  4 bytes  delivered to h2, after 10.000 ms",
        "1000.030000 s  h1 192.0.2.2:4789 → 198.51.100.1:4789  4 bytes  dropped at r0: filtered, after 10.000 ms",
        "1000.040000 s  h2 192.168.1.2:4789 → r0 198.51.100.1:4789 → 8.8.8.8:53  4 bytes  dropped on internet: no route, after 10.000 ms",
        "1000.040000 s  r0 rebooted",
    ];
    assert_eq!(lines, expected, "\n{trace}");
}

#[test]
fn a_trace_keeps_the_last_lines() {
    let mut lab = Lab::new();
    let a = lab.host(INTERNET, &["192.0.2.1"]);
    lab.keep_trace(3);
    for port in 1..=5 {
        lab.send(a, Socket::Main, (ip("192.0.2.9"), port).into()).unwrap_err();
    }
    let trace = lab.trace();
    let lines: Vec<&str> = trace.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0], "(2 lines before)");
    assert!(lines[1].contains("192.0.2.9:3 ") && lines[3].contains("192.0.2.9:5 "), "{trace}");
    lab.keep_trace(0);
    assert_eq!(lab.trace(), "(5 lines before)\n");
}

/// With everything that draws random numbers.
fn run(seed: Seed, keep: usize) -> (u64, String) {
    let link = LinkConfig {
        jitter: Jitter::Pareto { scale: millis(2), longest: millis(100) },
        order: Order::AsJitter,
        loss: Chance::percent(3),
        duplication: Chance::percent(1),
        ..LinkConfig::delayed(millis(10))
    };
    let mut net = chatter::network(seed, 30, &link, keep);
    net.run_for(seconds(20));
    (net.digest(), format!("{:?}", net.totals()))
}

#[test]
fn one_seed_is_one_run() {
    let mut digests = Vec::new();
    Seed::each(5, |seed| {
        let first = run(seed, 0);
        assert_eq!(first, run(seed, 0), "{seed}");
        assert_eq!(first, run(seed, 50), "keeping a trace changes nothing");
        digests.push(first.0);
    });
    let all = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), all, "each seed is another run");
}

/// The digest sees what the counters do not: one bit of one payload, a nanosecond, who got it.
#[test]
fn a_digest_depends_on_payloads_times_and_places() {
    let digest = |byte: u8, delay: u64, to: &str| {
        let mut lab = Lab::seeded(Seed(1));
        let a = lab.host(INTERNET, &["192.0.2.1"]);
        lab.host(INTERNET, &["192.0.2.2"]);
        lab.host(INTERNET, &["192.0.2.3"]);
        lab.set_link(a, &LinkConfig::delayed(Duration::from_nanos(delay)));
        lab.act(a, |puppet, _| puppet.send(Socket::Main, at(to), &[0, 0, 0, 0, 0, 0, 0, 0, 0, byte]));
        lab.run_for(seconds(1));
        lab.digest()
    };
    let one = digest(0, 0, "192.0.2.2:4789");
    assert_eq!(one, digest(0, 0, "192.0.2.2:4789"));
    let others = [
        digest(1, 0, "192.0.2.2:4789"),
        digest(0, 1, "192.0.2.2:4789"),
        digest(0, 0, "192.0.2.3:4789"),
        digest(0, 0, "192.0.2.2:4788"),
    ];
    assert!(!others.contains(&one));
}
