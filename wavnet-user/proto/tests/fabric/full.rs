//! Tables without room.

use std::collections::BTreeSet;

use wavnet_proto::command::Command;

use super::{peers::*, scenarios::*, steps::*, world::*};

/// Both buckets of its source are full, say: that may last.
#[test]
fn a_path_that_finds_no_room_holds_nothing_back() {
    let mut w = by_a_relay();
    let fail = |w: &mut World| {
        let command =
            std::iter::from_fn(|| w.fabric.poll_command()).find(|c| matches!(c, Command::SetPath { .. })).unwrap();
        w.fabric.command_failed(&command, "no room");
        command
    };
    let slot = w.fabric.add_path(path(straight(0, 40_000), 0)).unwrap();
    let failed = fail(&mut w);
    assert!(matches!(failed, Command::SetPath { index, path: Some(_) } if index == slot));
    assert_eq!(w.fabric.held_back(), None);
    assert_eq!(w.fabric.poll_command(), None, "nor is it tried all the time");
    let other = w.fabric.add_path(path(straight(0, 40_001), 0)).unwrap();
    assert!(matches!(&commands(&mut w)[..], [Command::SetPath { index, path: Some(_) }] if *index == other));
    w.fabric.retry();
    assert_eq!(fail(&mut w), failed);
    w.fabric.retry();
    assert!(commands(&mut w).contains(&failed));
    assert_eq!(w.model.path_counts(), (2, 0));
    // Another peer's: where the old content may still be, nothing that comes later may be done before.
    w.fabric.remove_path(other);
    commands(&mut w);
    w.fabric.set_peer(id(0), BTreeSet::new(), relayed(7)).unwrap();
    let gone = fail(&mut w);
    assert!(matches!(gone, Command::SetPath { index, path: Some(_) } if index == slot), "{gone:?}");
    assert!(w.fabric.held_back().is_some());
}
