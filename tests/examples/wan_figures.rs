//! Measures the lab's WAN emulator: how late frames are, and how much TCP a link carries. As root:
//! `cargo run --release --package wavnet-tests --example wan_figures [SECONDS]`.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use wavnet_tests::lab::{
    Lab, link,
    netns::Netns,
    wan::{Impairment, LinkSpec, WanLink, Way},
};

const MTU: u32 = 1500;
const A: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const B: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 2);
/// How long a congestion window may take to open, in round trips.
const WARM_UP_TRIPS: u32 = 20;

/// Two hosts, with a WAN link between them or, without one, wired.
struct Pair {
    a: Netns,
    b: Netns,
    link: Option<WanLink>,
}

impl Pair {
    fn new(lab: &Lab, n: usize, spec: Option<LinkSpec>) -> Result<Pair> {
        let (a, b) = (lab.netns(&format!("a{n}"))?, lab.netns(&format!("b{n}"))?);
        let ends = [(&a, "u0"), (&b, "u0")];
        let link = match spec {
            Some(spec) => Some(WanLink::between(lab, &format!("wan{n}"), ends, MTU, &spec)?),
            None => {
                link::veth(ends[0], ends[1], MTU, 1)?;
                ends.iter().try_for_each(|(ns, name)| link::like_a_nic(ns, name))?;
                None
            }
        };
        for (ns, address) in [(&a, A), (&b, B)] {
            ns.ip(&format!("address add {address}/24 dev u0"))?;
            // Room for a gigabit and a fifth of a second.
            for (key, value) in [("rmem", "4096 131072 134217728"), ("wmem", "4096 131072 134217728")] {
                ns.sysctl(&format!("net/ipv4/tcp_{key}"), value)?;
            }
        }
        Ok(Pair { a, b, link })
    }

    /// Round trips in milliseconds, sorted, as `ping` sees them: echoed by a kernel and stamped by one, without the time that processes
    /// of a busy machine take to wake up.
    fn trips(&self, count: usize) -> Result<Vec<f64>> {
        let (count, to) = (count.to_string(), B.to_string());
        // The first one waits for ARP.
        self.a.run("ping", &["-n", "-q", "-c", "1", "-W", "2", &to])?;
        let said = self.a.run("ping", &["-n", "-c", &count, "-i", "0.01", "-W", "2", &to])?;
        let times = said.lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok());
        let mut times: Vec<f64> = times.collect();
        anyhow::ensure!(!times.is_empty(), "ping said: {said}");
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    /// Bits per second that one TCP stream carries.
    fn tcp(&self, rtt: Duration, time: Duration) -> Result<f64> {
        let listener = self.b.enter(|| Ok(TcpListener::bind((B, 5201))?))?;
        let mut near = self.a.enter(|| Ok(TcpStream::connect((B, 5201))?))?;
        let (mut far, _) = listener.accept()?;
        near.set_write_timeout(Some(Duration::from_millis(500)))?;
        far.set_read_timeout(Some(Duration::from_millis(500)))?;
        let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
        let (bytes, took) = thread::scope(|scope| {
            scope.spawn(|| {
                let bytes = vec![0x5a; 128 << 10];
                while !stop.load(Ordering::Relaxed) {
                    let _ = near.write(&bytes);
                }
            });
            scope.spawn(|| {
                let mut bytes = vec![0; 128 << 10];
                while !stop.load(Ordering::Relaxed) {
                    received.fetch_add(far.read(&mut bytes).unwrap_or(0) as u64, Ordering::Relaxed);
                }
            });
            thread::sleep(Duration::from_millis(500) + rtt * WARM_UP_TRIPS);
            let (before, start) = (received.load(Ordering::Relaxed), Instant::now());
            thread::sleep(time);
            let counted = (received.load(Ordering::Relaxed) - before, start.elapsed());
            stop.store(true, Ordering::Relaxed);
            counted
        });
        Ok(8.0 * bytes as f64 / took.as_secs_f64())
    }

    fn faults(&self) -> Result<String> {
        let Some(link) = &self.link else { return Ok(String::new()) };
        let counts = [link.counts(Way::Up)?, link.counts(Way::Down)?];
        let faults: Vec<_> = counts.iter().filter(|c| c.faults() > 0).map(|c| format!(" faults: {c:?}")).collect();
        Ok(format!("queue drops {}{}", counts[0].queue_full + counts[1].queue_full, faults.concat()))
    }
}

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(3), |text| text.parse()).context("a number of seconds")?;
    let time = Duration::from_secs(seconds);
    let lab = Lab::new()?;
    let mut numbers = 0..;
    let mut pair = |spec| Pair::new(&lab, numbers.next().unwrap_or_default(), spec);
    let ms = |n: u64| Duration::from_micros(n * 500);
    println!("round trip, ms: wanted | minimum, median, 99 % above it");
    for rtt in [None, Some(0), Some(1), Some(20), Some(80), Some(200)] {
        let pair = pair(rtt.map(|rtt| LinkSpec::both(Impairment::delayed(ms(rtt)))))?;
        let trips = pair.trips(300)?;
        let wanted = rtt.unwrap_or(0) as f64;
        let above = |share: f64| trips[((trips.len() - 1) as f64 * share) as usize] - wanted;
        let name = rtt.map_or("wire".into(), |rtt| rtt.to_string());
        println!("{name:>6} | {:.3} {:.3} {:.3} {}", above(0.0), above(0.5), above(0.99), pair.faults()?);
    }
    println!("one TCP stream, Mbit/s: rate, round trip in ms | carried");
    let rates = [None, Some(10), Some(50), Some(100), Some(1000)];
    for (rate, rtt) in rates.into_iter().flat_map(|rate| [0, 20, 80, 220].map(|rtt| (rate, rtt))) {
        let link = Impairment::delayed(ms(rtt));
        let link = rate.map_or(link, |rate: u64| link.rate(rate * 1_000_000));
        let pair = pair(Some(LinkSpec::both(link)))?;
        let bits = pair.tcp(ms(2 * rtt), time)?;
        let name = rate.map_or("none".into(), |rate| rate.to_string());
        println!("{name:>6} {rtt:>4} | {:.1} {}", bits / 1e6, pair.faults()?);
    }
    let wire = pair(None)?;
    println!("wire | {:.1}", wire.tcp(Duration::ZERO, time)? / 1e6);
    for rate in [10, 50, 100, 1000] {
        let wire = pair(None)?;
        // A burst of a millisecond, as little as a clock of 250 Hz allows; the same queue as the emulator's.
        let burst = (rate * 1000 / 8).max(3000);
        let limit = (rate * 12_500).max(32 << 10);
        let shaper = format!("qdisc replace dev u0 root tbf rate {rate}mbit burst {burst} limit {limit}");
        wire.a.run("tc", &shaper.split(' ').collect::<Vec<_>>())?;
        println!("tbf {rate:>4} | {:.1}", wire.tcp(Duration::ZERO, time)? / 1e6);
    }
    Ok(())
}
