//! Frames on their way: none is lost while paths change.

use std::time::Duration;

use wavnet_proto::mesh::PathKind;
use wavnet_sim::{Seed, nat::NatConfig};

use crate::world::{World, cone};

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
