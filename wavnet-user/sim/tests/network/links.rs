//! Links: delay, jitter, loss, duplication, order, rate, MTU, and links that are down.

use std::time::Duration;

use wavnet_proto::{time::Time, transmit::Socket};
use wavnet_sim::{Attached, Chance, Direction, HostId, Jitter, LinkConfig, Order, Rate, Reason, Seed};

use crate::lab::{INTERNET, Lab, at, millis, seconds};

const TO_B: &str = "192.0.2.2:4789";

fn pair(seed: Seed) -> (Lab, HostId, HostId) {
    let mut lab = Lab::seeded(seed);
    let (a, b) = (lab.host(INTERNET, &["192.0.2.1"]), lab.host(INTERNET, &["192.0.2.2"]));
    (lab, a, b)
}

/// Sends numbered datagrams of 972 bytes (1,000 with headers) over a link, one each so often. Returns number and delay of those that came, in
/// the order in which they did.
fn stream(seed: Seed, link: LinkConfig, count: u32, every: Duration) -> (Vec<(u32, Duration)>, Lab, HostId) {
    let (mut lab, a, b) = pair(seed);
    *lab.link_mut(a, Direction::Up) = link;
    let mut sent: Vec<Time> = Vec::new();
    for number in 0..count {
        let mut payload = vec![0; 972];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        lab.act(a, |puppet, _| puppet.send(Socket::Main, at(TO_B), &payload));
        sent.push(lab.now());
        lab.run_for(every);
    }
    lab.run_for(seconds(60));
    let of = |payload: &[u8]| u32::from_be_bytes(payload[..4].try_into().unwrap());
    let came = lab.node(b).received.iter().map(|r| (of(&r.payload), r.at.since(sent[of(&r.payload) as usize])));
    (came.collect(), lab, a)
}

fn is_sorted(came: &[(u32, Duration)]) -> bool {
    came.windows(2).all(|pair| pair[0].0 <= pair[1].0)
}

#[test]
fn a_delay_is_exact_and_each_direction_has_its_own() {
    let (mut lab, a, b) = pair(Seed(1));
    *lab.link_mut(a, Direction::Up) = LinkConfig::delayed(millis(10));
    *lab.link_mut(a, Direction::Down) = LinkConfig::delayed(millis(3));
    *lab.link_mut(b, Direction::Down) = LinkConfig::delayed(millis(20));
    let start = lab.now();
    lab.send(a, Socket::Main, at(TO_B)).unwrap();
    assert_eq!(lab.now().since(start), millis(30));
    lab.send(b, Socket::Main, at("192.0.2.1:4789")).unwrap();
    assert_eq!(lab.now().since(start), millis(33));
    // Between these two alone, and one way.
    *lab.path_mut(b, a) = LinkConfig::delayed(millis(7));
    let c = lab.host(INTERNET, &["192.0.2.3"]);
    for (from, to, delay) in [(b, "192.0.2.1:4789", 10), (a, TO_B, 30), (c, "192.0.2.1:4789", 3)] {
        let start = lab.now();
        lab.send(from, Socket::Main, at(to)).unwrap();
        assert_eq!(lab.now().since(start), millis(delay));
    }
}

#[test]
fn jitter_is_of_its_distribution() {
    Seed::each(5, |seed| {
        let link = |jitter| LinkConfig { jitter, order: Order::AsJitter, ..LinkConfig::delayed(millis(50)) };
        let delays = |jitter| {
            let (came, ..) = stream(seed, link(jitter), 4000, millis(1));
            let mut delays: Vec<Duration> = came.into_iter().map(|(_, delay)| delay - millis(50)).collect();
            delays.sort();
            (delays[40], delays[2000], delays[3960], delays[3999])
        };
        let near = |a: Duration, b: Duration, by: Duration| a.abs_diff(b) < by;
        let (low, median, high, highest) = delays(Jitter::Uniform(millis(20)));
        assert!(near(low, millis(0), millis(1)) && near(median, millis(10), millis(1)), "{low:?} {median:?}");
        assert!(near(high, millis(20), millis(1)) && highest <= millis(20), "{high:?} {highest:?}");
        let (low, median, high, highest) = delays(Jitter::Pareto { scale: millis(10), longest: millis(150) });
        assert!(low < millis(1) && near(median, Duration::from_micros(4142), millis(1)), "{low:?} {median:?}");
        assert!(near(high, millis(90), millis(30)) && highest == millis(150), "{high:?} {highest:?}");
    });
}

#[test]
fn jitter_reorders_only_if_it_may() {
    Seed::each(10, |seed| {
        let jitter = Jitter::Uniform(millis(20));
        let with =
            |order| stream(seed, LinkConfig { jitter, order, ..LinkConfig::delayed(millis(5)) }, 500, millis(1)).0;
        let kept = with(Order::Kept);
        assert!(is_sorted(&kept) && kept.len() == 500);
        // Those that wait for another are not held for longer than the most that jitter adds.
        assert!(kept.iter().all(|(_, delay)| *delay >= millis(5) && *delay <= millis(25)));
        let free = with(Order::AsJitter);
        assert!(!is_sorted(&free) && free.len() == 500);
    });
}

#[test]
fn some_are_held_back_and_overtaken() {
    Seed::each(10, |seed| {
        let order = Order::HeldBack { chance: Chance::percent(10), by: millis(8) };
        let (came, ..) = stream(seed, LinkConfig { order, ..LinkConfig::delayed(millis(5)) }, 1000, millis(1));
        let late = came.iter().filter(|(_, delay)| *delay == millis(13)).count();
        assert!(came.iter().all(|(_, delay)| [millis(5), millis(13)].contains(delay)));
        // Five standard deviations of a binomial distribution.
        assert!(late.abs_diff(100) < 48, "{late}");
        assert!(!is_sorted(&came));
        let others: Vec<_> = came.into_iter().filter(|(_, delay)| *delay == millis(5)).collect();
        assert!(is_sorted(&others));
    });
}

#[test]
fn loss_and_duplication_are_as_often_as_they_say() {
    Seed::each(5, |seed| {
        let link =
            LinkConfig { loss: Chance::percent(5), duplication: Chance::percent(2), ..LinkConfig::delayed(millis(5)) };
        let (came, lab, a) = stream(seed, link, 10_000, millis(1));
        let stats = lab.link_stats(a, Direction::Up);
        let (lost, doubled) = (stats.dropped.of(Reason::Lost), stats.duplicated);
        // Five standard deviations of binomial distributions.
        assert!(lost.abs_diff(500) < 110 && doubled.abs_diff(190) < 69, "{lost} lost, {doubled} doubled");
        assert_eq!(came.len() as u64, 10_000 - lost + doubled);
        assert_eq!((stats.carried, stats.carried_bytes), (10_000 - lost, (10_000 - lost) * 1000));
        let totals = lab.totals();
        assert_eq!((totals.duplicated, totals.delivered), (doubled, came.len() as u64));
        assert_eq!(lab.host_stats(a).lost.of(Reason::Lost), lost);
        assert!(is_sorted(&came));
    });
}

#[test]
fn a_rate_is_kept_and_its_queue_is_bounded() {
    // A byte a microsecond, a datagram a millisecond.
    let rate = Some(Rate { bits_per_second: 8_000_000, queue: 3000 });
    let link = LinkConfig { rate, ..LinkConfig::delayed(millis(10)) };
    let delays = |came: &[(u32, Duration)]| came.iter().map(|(n, d)| (*n, d.as_millis())).collect::<Vec<_>>();
    // All at once: three are in the queue, or on their way out of it.
    let (came, lab, a) = stream(Seed(1), link.clone(), 10, Duration::ZERO);
    assert_eq!(delays(&came), [(0, 11), (1, 12), (2, 13)]);
    assert_eq!(lab.link_stats(a, Direction::Up).dropped.of(Reason::QueueFull), 7);
    // Twice as many as fit: every second one, once the queue is full.
    let (came, ..) = stream(Seed(1), link.clone(), 1000, Duration::from_micros(500));
    assert!(came.len().abs_diff(500) < 5, "{}", came.len());
    assert!(came.iter().skip(10).all(|(_, delay)| *delay > millis(12) && *delay <= millis(13)));
    // As many as fit: all, without a queue.
    let (came, ..) = stream(Seed(1), link, 1000, millis(1));
    assert!(came.len() == 1000 && came.iter().all(|(_, delay)| *delay == millis(11)));
}

#[test]
fn a_queue_that_is_too_small_takes_one_at_a_time() {
    let rate = Some(Rate { bits_per_second: 8_000_000, queue: 1 });
    let (came, ..) = stream(Seed(1), LinkConfig { rate, ..LinkConfig::IDEAL }, 20, Duration::from_micros(250));
    let numbers: Vec<u32> = came.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [0, 4, 8, 12, 16]);
}

#[test]
fn what_is_longer_than_the_mtu_is_dropped() {
    let (mut lab, a, b) = pair(Seed(1));
    let v6 = lab.host(INTERNET, &["2001:db8::1"]);
    let from_v6 = lab.host(INTERNET, &["2001:db8::2"]);
    for host in [a, from_v6] {
        lab.link_mut(host, Direction::Up).mtu = Some(1500);
    }
    // Less the headers of IPv4 (20), IPv6 (40) and UDP (8).
    for (from, to, node, longest) in [(a, TO_B, b, 1472), (from_v6, "[2001:db8::1]:4789", v6, 1452)] {
        for (len, fits) in [(longest, true), (longest + 1, false)] {
            let before = lab.node(node).received.len();
            lab.act(from, |puppet, _| puppet.send(Socket::Main, at(to), &vec![0; len]));
            lab.run_for(seconds(1));
            assert_eq!(lab.node(node).received.len() - before, usize::from(fits), "{len}");
        }
        assert_eq!(lab.host_stats(from).lost.of(Reason::TooBig), 1);
    }
    // And what UDP cannot carry is, everywhere.
    for (len, lost) in [(65_507, 0), (65_508, 1)] {
        lab.act(b, |puppet, _| puppet.send(Socket::Main, at("192.0.2.1:4789"), &vec![0; len]));
        lab.run_for(seconds(1));
        assert_eq!(lab.host_stats(b).lost.of(Reason::TooBig), lost, "{len}");
    }
}

#[test]
fn a_link_goes_down_and_up_and_what_is_under_way_arrives() {
    let (mut lab, a, b) = pair(Seed(1));
    lab.set_link(a, &LinkConfig::delayed(millis(10)));
    let under_way = lab.launch(a, Socket::Main, at(TO_B));
    lab.set_up(a, false);
    assert_eq!(lab.send(a, Socket::Main, at(TO_B)), Err(Reason::LinkDown));
    assert_eq!(lab.send(b, Socket::Main, at("192.0.2.1:4789")), Err(Reason::LinkDown));
    assert_eq!(lab.find(under_way).len(), 1);
    lab.set_up(a, true);
    assert!(lab.send(a, Socket::Main, at(TO_B)).is_ok());
}

#[test]
fn a_partition_cuts_some_off_from_others() {
    let mut lab = Lab::new();
    let hosts: Vec<HostId> = (1..=4).map(|n| lab.host(INTERNET, &[&format!("192.0.2.{n}")])).collect();
    let reach = |lab: &mut Lab| {
        let mut reach = Vec::new();
        for &from in &hosts {
            let to = |to: HostId| lab.main_address(to);
            let all: Vec<_> = hosts.iter().map(|host| to(*host)).collect();
            reach.push(all.into_iter().map(|to| lab.send(from, Socket::Main, to).is_ok()).collect::<Vec<_>>());
        }
        reach
    };
    let sides: Vec<Attached> = hosts.iter().map(|host| Attached::from(*host)).collect();
    // The fourth is on neither side, and reaches all.
    lab.set_partition(&sides[..2], &sides[2..3], true);
    let (t, f) = (true, false);
    assert_eq!(reach(&mut lab), [[t, t, f, t], [t, t, f, t], [f, f, t, t], [t, t, t, t]]);
    lab.set_partition(&sides[..2], &sides[2..3], false);
    assert_eq!(reach(&mut lab), vec![vec![true; 4]; 4]);
}

/// A link that becomes faster does not let what comes later overtake what is under way, unless it may.
#[test]
fn a_delay_that_shrinks_keeps_the_order() {
    for (order, kept) in [(Order::Kept, true), (Order::AsJitter, false)] {
        let (mut lab, a, b) = pair(Seed(1));
        *lab.link_mut(a, Direction::Up) = LinkConfig { order, ..LinkConfig::delayed(millis(50)) };
        let first = lab.launch(a, Socket::Main, at(TO_B));
        lab.link_mut(a, Direction::Up).delay = Duration::ZERO;
        let second = lab.launch(a, Socket::Main, at(TO_B));
        lab.run_for(seconds(1));
        let came: Vec<_> = lab.node(b).received.iter().map(|r| r.payload.clone()).collect();
        let (first, second) = (first.to_be_bytes().to_vec(), second.to_be_bytes().to_vec());
        assert_eq!(came, if kept { [first, second] } else { [second, first] });
    }
}

/// Not even in the very moment in which the last one that was under way arrives.
#[test]
fn what_takes_no_time_waits_for_what_arrives_now() {
    let (mut lab, a, b) = pair(Seed(1));
    *lab.link_mut(a, Direction::Up) = LinkConfig::delayed(millis(50));
    // It is put into the queue before the datagram is.
    lab.after(millis(50), move |net| {
        net.link_mut(a, Direction::Up).delay = Duration::ZERO;
        net.act(a, |puppet, _| puppet.send(Socket::Main, at(TO_B), b"second"));
    });
    lab.act(a, |puppet, _| puppet.send(Socket::Main, at(TO_B), b"first"));
    lab.run_for(seconds(1));
    let came: Vec<_> = lab.node(b).received.iter().map(|r| &r.payload[..]).collect();
    assert_eq!(came, [&b"first"[..], b"second"]);
}

/// What one link draws changes nothing for another.
#[test]
fn links_draw_for_themselves() {
    let lost = |busy: bool| {
        let (mut lab, a, b) = pair(Seed(7));
        for host in [a, b] {
            lab.link_mut(host, Direction::Up).loss = Chance::percent(50);
        }
        let results: Vec<bool> = (0..64)
            .map(|_| {
                if busy {
                    let _ = lab.send(b, Socket::Main, at("192.0.2.1:4789"));
                }
                lab.send(a, Socket::Main, at(TO_B)).is_ok()
            })
            .collect();
        results
    };
    assert_eq!(lost(false), lost(true));
    assert!(lost(false).contains(&true) && lost(false).contains(&false));
}
