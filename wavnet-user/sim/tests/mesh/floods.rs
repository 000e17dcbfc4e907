//! Handshakes by the hundred: how many are computed, and who meets a host meanwhile.

use std::time::Duration;

use wavnet_proto::{
    mesh::{Dropped, PathKind},
    trust::{Initiation, Psk, PublicKey, SecretKey},
    wire::Kind,
};
use wavnet_sim::{Datagram, Direction, HostId, Place, Seed, SegmentId, nat::NatConfig};

use crate::{
    enemies::{beside_a_liar, direct_within},
    liar::Asked,
    world::{Site, World, cone, pair},
};

const DELAY: Duration = Duration::from_millis(10);

/// An INIT that nobody has seen before.
fn init(world: &mut World, from: &SecretKey, to: PublicKey) -> Vec<u8> {
    let (index, member) = (world.rng.u32(), world.network.member());
    let mut initiation = Initiation::start(from, Psk::Member(&member), index, &mut world.rng);
    initiation.init_without_cookie(to, &[]).expect("an INIT")
}

fn limited(world: &World, site: Site) -> u64 {
    world.agent(site).mesh.dropped(Dropped::HandshakeLimit)
}

/// A newcomer, and when it and the victim have met.
struct Newcomer {
    site: Site,
    victim: Site,
    took: Option<Duration>,
}

impl Newcomer {
    fn look(&mut self, world: &World, since: Duration) {
        let direct = Some(PathKind::Direct);
        let paths = [world.path(self.site, self.victim), world.path(self.victim, self.site)];
        self.took = self.took.or_else(|| (paths == [direct; 2]).then_some(since));
    }
}

fn newcomer(world: &mut World, victim: Site) -> Newcomer {
    let site = world.behind("newcomer", NatConfig::port_restricted_cone(), cone());
    Newcomer { site, victim, took: None }
}

/// RESPONSEs that a host has asked a server to forward to anybody.
fn answers(world: &mut World, liar: HostId, from: Site) -> u64 {
    let is_answer =
        |asked: &&Asked| asked.from == from.key && asked.datagram.get(5).copied() == Some(Kind::Response as u8);
    world.net.act(liar, |node, _| node.liar_mut().forwards.iter().filter(is_answer).count() as u64)
}

const EVERY: Duration = Duration::from_micros(2500);
/// In two seconds.
const MANY: u32 = 800;
/// Five at once, and one a second.
const OF_ONE: std::ops::RangeInclusive<u64> = 5..=8;

#[test]
fn a_peer_that_begins_all_the_time_by_its_path_is_answered_now_and_then() {
    Seed::each(4, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        world.net.run_for(Duration::from_secs(7));
        let secret = world.secret(b);
        let ways = |world: &World| [(a, b), (b, a)].map(|(x, y)| world.agent(x).way_to(y.key).expect("a path").remote);
        let [from, to] = ways(&world);
        let tap = world.net.tap(Place::Link(a.router.expect("a NAT").into(), Direction::Up), 100_000);
        let before = limited(&world, a);
        let mut c = newcomer(&mut world, a);
        for n in 0..MANY {
            let payload = init(&mut world, &secret, a.key);
            world.net.inject(SegmentId::INTERNET, Datagram { from, to, payload });
            world.net.run_for(EVERY);
            c.look(&world, EVERY * n);
        }
        world.net.run_for(DELAY * 4);
        let is_answer =
            |payload: &[u8]| payload.first() == Some(&b'W') && payload.get(5) == Some(&(Kind::Response as u8));
        let answered = world.net.captured(tap).filter(|c| c.datagram.to == from && is_answer(&c.datagram.payload));
        let answered = answered.count() as u64;
        assert!(OF_ONE.contains(&answered), "{answered}");
        assert_eq!(answered + limited(&world, a) - before, u64::from(MANY), "each is answered or counted");
        assert!(c.took.is_some_and(|took| took < Duration::from_millis(1500)), "{:?}\n{}", c.took, world.net.trace());
        // And what it has said by its path has not moved that.
        assert_eq!(ways(&world), [from, to]);
        let gap = world.longest_gap(a, b, Duration::from_millis(10), world.net.now() + Duration::from_secs(2));
        assert!(gap < Duration::from_millis(100), "{gap:?}");
    });
}

/// The server has them from the peer itself, which is in league with it.
#[test]
fn a_server_that_begins_in_a_peers_name_all_the_time_is_answered_now_and_then() {
    Seed::each(4, |seed| {
        let (mut world, liar) = beside_a_liar(seed, |_| {});
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 3);
        world.net.run_for(Duration::from_secs(7));
        let secret = world.secret(b);
        let before = (answers(&mut world, liar, a), limited(&world, a));
        let mut c = newcomer(&mut world, a);
        for n in 0..MANY {
            let datagram = init(&mut world, &secret, a.key);
            world.net.act(liar, |node, _| node.liar_mut().hand_on(a.key, b.key, &datagram));
            world.net.run_for(EVERY);
            c.look(&world, EVERY * n);
        }
        world.net.run_for(DELAY * 4);
        let (answered, limited) = (answers(&mut world, liar, a) - before.0, limited(&world, a) - before.1);
        assert!(OF_ONE.contains(&answered), "{answered}");
        assert_eq!(answered + limited, u64::from(MANY), "each is answered or counted");
        assert!(c.took.is_some_and(|took| took < Duration::from_millis(1500)), "{:?}\n{}", c.took, world.net.trace());
        assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Direct), Some(PathKind::Direct)));
    });
}

/// Each of them stays within what one peer may; all together do not.
#[test]
fn many_that_begin_at_once_are_no_more_than_a_host_can_compute_for() {
    let seed = Seed::from_env_or(0);
    let (mut world, liar) = beside_a_liar(seed, |_| {});
    let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
    world.net.run_for(Duration::from_secs(2));
    let many: Vec<SecretKey> = (0..600).map(|_| SecretKey::generate(&mut world.rng)).collect();
    let begin = |world: &mut World, secret: &SecretKey| {
        let datagram = init(world, secret, a.key);
        world.net.act(liar, |node, _| node.liar_mut().hand_on(a.key, secret.public(), &datagram));
    };
    let count = |world: &mut World| (answers(world, liar, a), limited(world, a));
    // At once, but for what the link takes.
    let start = world.net.now();
    for secret in many.iter().cycle().take(5 * many.len()) {
        begin(&mut world, secret);
    }
    world.net.run_for(DELAY * 4);
    let (answered, limited) = count(&mut world);
    let most = 2000.0 + 500.0 * world.net.now().since(start).as_secs_f64();
    assert!((2000.0..=most).contains(&(answered as f64)), "{seed}: {answered}");
    assert_eq!(answered + limited, 3000, "{seed}: each is answered or counted");
    // They go on, and somebody comes who has nothing to do with that.
    let (before, start) = ((answered, limited), world.net.now());
    let mut c = newcomer(&mut world, a);
    for (secret, n) in many.iter().cycle().zip(0..2400) {
        begin(&mut world, secret);
        world.net.run_for(Duration::from_micros(1250));
        c.look(&world, Duration::from_micros(1250) * n);
    }
    world.net.run_for(DELAY * 4);
    let (answered, limited) = count(&mut world);
    let most = 500.0 * world.net.now().since(start).as_secs_f64() + 50.0;
    assert!((answered - before.0) as f64 <= most, "{seed}: {} of {most}", answered - before.0);
    assert_eq!(answered - before.0 + limited - before.1, 2400, "{seed}: each is answered or counted");
    assert!(c.took.is_some_and(|took| took < Duration::from_secs(2)), "{seed}: {:?}\n{}", c.took, world.net.trace());
}

/// One server repeats what a peer has begun before. By another one it begins anew all the same.
#[test]
fn a_server_that_repeats_what_a_peer_has_begun_does_not_keep_it_out() {
    Seed::each(4, |seed| {
        let (mut world, liar) = beside_a_liar(seed, |_| {});
        let mut sites = ["a", "b"].map(|name| world.behind(name, NatConfig::port_restricted_cone(), cone()));
        // The one with the lower key begins.
        sites.sort_by_key(|site| site.key);
        let [b, a] = sites;
        direct_within(&mut world, a, b, 3);
        let secret = world.secret(b);
        let old = [(); 2].map(|()| init(&mut world, &secret, a.key));
        let repeat = |world: &mut World, n: usize| {
            world.net.act(liar, |node, _| node.liar_mut().hand_on(a.key, b.key, &old[n % 2]));
            world.net.run_for(EVERY);
        };
        (0..400).for_each(|n| repeat(&mut world, n));
        world.restart_agent(b, "b", cone());
        let restarted = world.net.now();
        let is_back = |world: &World| world.path(a, b).is_some() && world.path(b, a).is_some();
        let mut n = 0;
        while !is_back(&world) {
            repeat(&mut world, n);
            n += 1;
            let took = world.net.now().since(restarted);
            assert!(took < Duration::from_secs(5), "{}", world.net.trace());
        }
        assert!(limited(&world, a) > 100, "{}", limited(&world, a));
    });
}
