//! Agents that end and start again while the kernel goes on forwarding.

use std::time::Duration;

use wavnet_proto::{mesh::PathKind, transmit::Socket};
use wavnet_sim::{Seed, nat::NatConfig};

use crate::{
    grid::Kind,
    world::{Site, World, cone, pair},
};

const DELAY: Duration = Duration::from_millis(20);

/// No server is left, and nobody who has ended says so: frames go on, and in the end by paths that the new agents have proved.
fn goes_on_without_a_server(mut world: World, a: Site, b: Site, restarts: &[Site]) {
    world.net.run_for(Duration::from_secs(5));
    world.net.kill(world.servers[0]);
    for site in restarts {
        world.replace_agent(*site, "again", cone());
    }
    let end = world.net.now() + Duration::from_secs(200);
    let gap = world.longest_gap(a, b, Duration::from_millis(100), end);
    assert!(gap < Duration::from_secs(1), "{gap:?} {restarts:?}\n{}", world.net.trace());
    for (x, y) in [(a, b), (b, a)] {
        assert_eq!(world.path(x, y), Some(PathKind::Direct), "{restarts:?}");
    }
}

#[test]
fn while_no_server_answers_an_agent_that_starts_again_keeps_its_paths() {
    Seed::each(6, |seed| {
        // Either side may be the one that begins handshakes; or both have to find each other.
        for restarts in [[true, false], [false, true], [true, true]] {
            let (world, a, b) = pair(seed, DELAY);
            let restarts: Vec<Site> = [a, b].into_iter().zip(restarts).filter_map(|(s, r)| r.then_some(s)).collect();
            goes_on_without_a_server(world, a, b, &restarts);
        }
    });
}

#[test]
fn so_does_one_whose_path_a_search_has_found() {
    Seed::each(4, |seed| {
        let mut world = World::new(seed, DELAY);
        let a = world.behind("a", NatConfig::symmetric(), Kind::Symmetric.summary());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        let direct = world.until_paths(a, b, Duration::from_secs(300), |kind| kind == PathKind::Direct);
        assert!(direct.is_some(), "{}", world.net.trace());
        let extra = [(a, b), (b, a)].map(|(x, y)| world.agent(x).way_to(y.key).map(|way| way.socket));
        assert!(extra.iter().any(|socket| matches!(socket, Some(Socket::Extra(_)))), "{extra:?}");
        goes_on_without_a_server(world, a, b, &[a]);
    });
}
