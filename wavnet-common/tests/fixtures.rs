//! The table of fixtures on the host.

use std::collections::HashSet;

use wavnet_common::testing::{Devices, World, fixtures};

#[test]
fn every_fixture_holds() {
    let devices = Devices::NUMBERS;
    let world = World::new(&devices);
    let failed: Vec<_> = fixtures(&devices).iter().filter_map(|f| f.check_on_host(&world, &devices).err()).collect();
    assert!(failed.is_empty(), "{} fixtures:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn names_are_unique() {
    let mut seen = HashSet::new();
    for f in fixtures(&Devices::NUMBERS) {
        assert!(seen.insert(f.name.clone()), "{} is there twice", f.name);
    }
}
