//! New keys for old sessions, while everything goes on.

use std::time::Duration;

use wavnet_proto::mesh::PathKind;
use wavnet_sim::{Chance, Direction, Place, Seed};

use crate::world::pair;

const DELAY: Duration = Duration::from_millis(20);

/// INITs among what a tap has seen.
fn inits(payload: &[u8]) -> bool {
    payload.first() == Some(&b'W') && payload.get(5) == Some(&3)
}

#[test]
fn keys_are_replaced_every_hour_without_an_interruption() {
    Seed::each(4, |seed| {
        for (server, loss) in [(true, 0), (true, 5), (false, 5)] {
            let (mut world, a, b) = pair(seed, DELAY);
            for site in [a, b] {
                world.net.link_mut(site.router.expect("a NAT"), Direction::Up).loss = Chance::percent(loss);
            }
            world.net.run_for(Duration::from_secs(5));
            if !server {
                world.net.kill(world.servers[0]);
            }
            let taps =
                [a, b].map(|s| world.net.tap(Place::Link(s.router.expect("a NAT").into(), Direction::Down), 200_000));
            let since = world.net.now();
            let end = since + Duration::from_secs(3 * 3600);
            let gap = world.longest_gap(a, b, Duration::from_millis(200), end);
            assert!(gap < Duration::from_millis(1500), "{gap:?}");
            let changes = world.path_changes(a, since) + world.path_changes(b, since);
            // A path that loses a tenth of what is asked is taken for dead by chance once in about a hundred hours, and is back after a round trip.
            let most = if loss == 0 { 0 } else { 2 };
            assert!(changes <= most, "{:?}\n{:?}", world.agent(a).events, world.agent(b).events);
            let begun: usize =
                taps.iter().map(|tap| world.net.captured(*tap).filter(|c| inits(&c.datagram.payload)).count()).sum();
            // Those that go by way of the server are not seen.
            assert!((1..=16).contains(&begun), "{begun} handshakes in three hours");
        }
    });
}

#[test]
fn an_idle_path_outlives_its_keys_with_and_without_a_server() {
    Seed::each(6, |seed| {
        for server in [true, false] {
            let (mut world, a, b) = pair(seed, DELAY);
            for site in [a, b] {
                world.net.link_mut(site.router.expect("a NAT"), Direction::Up).loss = Chance::percent(10);
            }
            if !server {
                world.net.kill(world.servers[0]);
            }
            world.net.run_for(Duration::from_secs(3 * 3600));
            assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Direct), Some(PathKind::Direct)));
            assert!(world.agent(a).mesh.peers().all(|peer| peer.connected));
            let gap = world.longest_gap(a, b, Duration::from_millis(10), world.net.now() + Duration::from_secs(10));
            assert!(gap < Duration::from_secs(1), "{gap:?}");
        }
    });
}
