//! What an earlier agent has left of dynamic peers: stories with a name.

use std::collections::BTreeSet;

use wavnet_common::addr::Vni;
use wavnet_proto::{
    command::PeerKey,
    fabric::{Fabric, FabricError},
};

use super::{peers::*, scenarios::*, steps::*, world::*};

/// Two peers in two VNIs, each with a path; the agent has ended, and the next one has begun.
fn left() -> World {
    let mut w = by_a_relay();
    let mut desired = w.fabric.desired().clone();
    desired.vnis.insert(vni(1), Default::default());
    w.fabric.set_desired(desired.clone()).unwrap();
    for n in [0, 1] {
        w.fabric.set_peer(id(n), BTreeSet::from([vni(0), vni(1)]), relayed(7 + u32::from(n))).unwrap();
        w.fabric.add_path(path(by_relay(7 + u32::from(n)), n)).unwrap();
    }
    commands(&mut w);
    w.fabric = Fabric::new(LIMITS, &w.model.adopt());
    w.fabric.set_desired(desired).unwrap();
    w.fabric.links_complete();
    w
}

fn members(w: &World, n: u8) -> Vec<Vni> {
    let of = |(vni, key): &(Vni, PeerKey)| (*key == PeerKey::Dynamic(id(n))).then_some(*vni);
    w.model.members().iter().filter_map(of).collect()
}

#[test]
fn who_was_left_keeps_no_vni_that_it_may_not_join_any_more() {
    let mut w = left();
    commands(&mut w);
    assert_eq!((members(&w, 0), members(&w, 1)), (vec![vni(0), vni(1)], vec![vni(0), vni(1)]));
    assert_eq!(w.fabric.limit_unclaimed(|peer, v| *peer == id(1) || v == vni(1)), []);
    commands(&mut w);
    assert_eq!((members(&w, 0), members(&w, 1)), (vec![vni(1)], vec![vni(0), vni(1)]));
    // Off the list: it is gone, with its paths, and nobody else is.
    assert_eq!(w.fabric.limit_unclaimed(|peer, _| *peer == id(1)), [id(0)]);
    commands(&mut w);
    assert_eq!((members(&w, 0), members(&w, 1)), (vec![], vec![vni(0), vni(1)]));
    let paths: Vec<_> = w.fabric.unclaimed_paths().copied().collect();
    assert_eq!((paths, w.model.path_counts()), (vec![path(by_relay(8), 1)], (1, 1)));
    // Who was asked for since is its asker's concern.
    w.fabric.set_peer(id(1), BTreeSet::from([vni(0)]), relayed(8)).unwrap();
    assert_eq!(w.fabric.limit_unclaimed(|_, _| false), []);
    commands(&mut w);
    assert_eq!(members(&w, 1), [vni(0)]);
}

#[test]
fn a_path_that_was_asked_for_keeps_its_slot_when_its_peer_is_given_up() {
    for limited in [false, true] {
        let mut w = left();
        let slot = w.fabric.add_path(path(by_relay(8), 1)).unwrap();
        let refused = w.fabric.set_peer(id(1), BTreeSet::new(), wavnet_common::abi::Endpoint { port: 0, ..relayed(8) });
        assert_eq!(refused, Err(FabricError::BadUdpPort), "so nobody has asked for the peer");
        if limited {
            assert_eq!(w.fabric.limit_unclaimed(|_, _| false), [id(0), id(1)]);
        } else {
            assert_eq!(w.fabric.forget_unclaimed(), [id(0), id(1)]);
        }
        commands(&mut w);
        assert_eq!((members(&w, 0), members(&w, 1)), (vec![], vec![]));
        assert_eq!(w.fabric.paths().collect::<Vec<_>>(), [(slot, &path(by_relay(8), 1))]);
        assert_ne!(w.fabric.add_path(path(straight(0, 40_000), 0)), Ok(slot));
    }
}
