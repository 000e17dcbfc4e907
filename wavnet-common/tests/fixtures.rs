//! The table of fixtures on the host.

use std::collections::HashSet;

use wavnet_common::testing::{
    Devices, World, fixtures,
    relay::{RelayDevices, RelayWorld, relay_fixtures},
};

#[test]
fn every_fixture_holds() {
    let devices = Devices::NUMBERS;
    let world = World::new(&devices);
    let failed: Vec<_> = fixtures(&devices).iter().filter_map(|f| f.check_on_host(&world, &devices).err()).collect();
    assert!(failed.is_empty(), "{} fixtures:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn every_fixture_of_the_relay_holds() {
    let devices = RelayDevices::NUMBERS;
    let world = RelayWorld::new(&devices);
    let failed: Vec<_> = relay_fixtures(&devices).iter().filter_map(|f| f.check_on_host(&world).err()).collect();
    assert!(failed.is_empty(), "{} fixtures:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn names_are_unique() {
    let mut seen = HashSet::new();
    let relay = relay_fixtures(&RelayDevices::NUMBERS).into_iter().map(|f| f.name);
    for name in fixtures(&Devices::NUMBERS).into_iter().map(|f| f.name).chain(relay) {
        assert!(seen.insert(name.clone()), "{name} is there twice");
    }
}
