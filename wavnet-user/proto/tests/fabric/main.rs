//! Random histories of the fabric against a naive model of the maps.
//!
//! After every single command the model must be safe for a datapath that forwards meanwhile; whenever the fabric has nothing
//! more to say, the model must be exactly what is desired and there; and a fabric that starts on what another left must not
//! destroy anything.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod dynamics;
mod full;
mod left;
mod model;
mod nexthops;
mod peers;
mod places;
mod ports;
mod scenarios;
mod steps;
mod world;

use proptest::prelude::*;
use steps::{Step, desired, step};
use world::World;

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_safe_and_ends_exact(first in desired(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        world.step(Step::Desire(first));
        for step in steps {
            world.step(step);
        }
        world.fabric.retry();
        world.settle();
        prop_assert_eq!(world.fabric.poll_command(), None);
        world.restart();
    }
}
