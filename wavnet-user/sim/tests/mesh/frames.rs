//! Frames on their way: none is lost while paths change.

use std::time::Duration;

use wavnet_proto::mesh::PathKind;
use wavnet_sim::{Chance, Fate, LinkConfig, Network, Place, Seed, SegmentId, nat::NatConfig};

use crate::{
    node::Host,
    world::{World, cone},
};

#[test]
fn frames_flow_from_the_first_path_on_and_none_is_lost_on_the_way_to_a_direct_one() {
    Seed::each(10, |seed| {
        let mut world = World::new(seed, Duration::from_millis(20));
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        let mut sent = Vec::new();
        for number in 0..3000 {
            if world.send(a, b, number) {
                sent.push(number);
            }
            world.net.run_for(Duration::from_millis(1));
        }
        world.net.run_for(Duration::from_secs(1));
        assert_eq!(world.path(a, b), Some(PathKind::Direct), "{}", world.net.trace());
        let came: Vec<u64> = world.agent(b).frames.iter().map(|f| f.number).collect();
        assert_eq!(came, sent, "every frame, once, in order");
        assert!(world.agent(b).frames.iter().all(|f| f.from == a.key));
        assert_eq!(world.agent(b).refused, 0);
        assert!(sent.first().is_some_and(|first| *first < 1000), "frames flow within a second");
    });
}

/// The relay is faster than the direct path, slower, or as fast; and none, some or all of the markers are lost.
#[test]
fn no_frame_is_lost_or_overtakes_another_one_whatever_becomes_of_the_marker() {
    // DATA with MARKER or `MARKER_SEEN` alone is so long. (So is CHANGED, whose loss does no harm.)
    const MARKER: usize = 47;
    Seed::each(6, |seed| {
        for (relay, direct) in [(60, 0), (0, 60), (0, 0), (100, 20)] {
            for lost in [0, 50, 100] {
                let mut world = World::new(seed, Duration::from_millis(10));
                let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
                let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
                let (x, y) = (a.router.expect("a NAT"), b.router.expect("a NAT"));
                for (from, to) in [(x, y), (y, x)] {
                    world.net.path_mut(from, to).delay = Duration::from_millis(direct);
                }
                world.net.set_link(world.servers[0], &LinkConfig::delayed(Duration::from_millis(10 + relay)));
                let mut rng = seed.rng();
                world.net.filter(Place::Segment(SegmentId::INTERNET), move |passing| {
                    let payload = &passing.datagram.payload;
                    let is_marker = payload.len() == MARKER && payload.first() == Some(&b'W');
                    if is_marker && Chance::percent(lost).happens(&mut rng) { Fate::Drop } else { Fate::Pass }
                });
                let cut = |net: &mut Network<Host>, cut| net.set_partition(&[x.into()], &[y.into()], cut);
                cut(&mut world.net, true);
                let relayed = world.until_paths(a, b, Duration::from_secs(3), |_| true);
                assert!(relayed.is_some(), "{}", world.net.trace());
                cut(&mut world.net, false);
                let mut sent = [Vec::new(), Vec::new()];
                for number in 0..25_000 {
                    if number % 100 == 0
                        && [(a, b), (b, a)].map(|(x, y)| world.path(x, y)) == [Some(PathKind::Direct); 2]
                    {
                        break;
                    }
                    for (sent, (from, to)) in sent.iter_mut().zip([(a, b), (b, a)]) {
                        if world.send(from, to, number) {
                            sent.push(number);
                        }
                    }
                    world.net.run_for(Duration::from_millis(1));
                }
                for number in 25_000..25_500 {
                    for (sent, (from, to)) in sent.iter_mut().zip([(a, b), (b, a)]) {
                        sent.extend(world.send(from, to, number).then_some(number));
                    }
                    world.net.run_for(Duration::from_millis(1));
                }
                world.net.run_for(Duration::from_secs(1));
                assert_eq!(world.path(a, b), Some(PathKind::Direct));
                for (sent, to) in sent.iter().zip([b, a]) {
                    let came: Vec<u64> = world.agent(to).frames.iter().map(|f| f.number).collect();
                    assert!(came.is_sorted(), "{relay} {direct} {lost}: overtaken");
                    assert!(came == *sent, "{relay} {direct} {lost}: {} of {}", came.len(), sent.len());
                }
            }
        }
    });
}
