//! Hosts that a lying server invents by the hundred: they are refused or find no room, and the log is not filled.

use std::{collections::BTreeMap, time::Duration};

use wavnet_proto::{
    mesh::{Dropped, Event, Settings},
    policy::Policy,
    wire::{Label, Message, NatSummary, message::Invite},
};
use wavnet_sim::{HostId, Seed, nat::NatConfig};

use crate::{
    enemies::beside_a_liar,
    liar::invented,
    world::{Site, World, cone, direct_within},
};

const INVENTED: u32 = 300;

/// The server brings all its hosts together with each of these.
fn invite_all(world: &mut World, liar: HostId) {
    for n in 0..INVENTED {
        let invite = Invite {
            peer: invented(n),
            label: Label::ZERO,
            flags: 0,
            nat: NatSummary::default(),
            mapped: ([203, 0, 113, 9], 4789).into(),
            candidates: Vec::new(),
        };
        world.net.act(liar, |node, _| node.liar_mut().say(&[Message::Invite(invite)]));
        world.net.run_for(Duration::from_millis(50));
    }
}

fn told(world: &World, site: Site, wanted: impl Fn(&Event) -> bool) -> usize {
    world.agent(site).events.iter().filter(|(_, event)| wanted(event)).count()
}

#[test]
fn of_those_that_the_list_does_not_have_a_few_are_named() {
    Seed::each(4, |seed| {
        let (mut world, liar) = beside_a_liar(seed, |_| {});
        let [a, b] = ["a", "b"].map(|name| world.behind(name, NatConfig::port_restricted_cone(), cone()));
        let policy = Policy::Listed(BTreeMap::from([(b.key, None)]));
        let settings = Settings { policy, ..world.settings("a") };
        world.configure(a, settings);
        // A quarter of a minute each time.
        invite_all(&mut world, liar);
        invite_all(&mut world, liar);
        assert_eq!(told(&world, a, |event| matches!(event, Event::Refused { .. })), 8);
        // The first ones may be said before it has registered.
        let refused = world.agent(a).mesh.dropped(Dropped::NotAllowed);
        assert!((2 * u64::from(INVENTED) - 10..=2 * u64::from(INVENTED)).contains(&refused), "{refused}");
        direct_within(&mut world, a, b, 5);
    });
}

#[test]
fn that_there_is_no_room_is_said_once() {
    Seed::each(4, |seed| {
        let (mut world, liar) = beside_a_liar(seed, |_| {});
        let [a, b] = ["a", "b"].map(|name| world.behind(name, NatConfig::port_restricted_cone(), cone()));
        let settings = Settings { peers: 20, ..world.settings("a") };
        world.configure(a, settings);
        direct_within(&mut world, a, b, 5);
        invite_all(&mut world, liar);
        assert!(world.agent(a).mesh.is_full() && world.agent(a).mesh.dropped(Dropped::Full) > 100);
        let is_full = |event: &Event| matches!(event, Event::Dropped { reason: Dropped::Full });
        assert_eq!((told(&world, a, is_full), told(&world, a, |e| matches!(e, Event::Refused { .. }))), (1, 0));
        direct_within(&mut world, a, b, 1);
        // What does not exist goes.
        world.net.run_for(Duration::from_secs(600));
        assert!(!world.agent(a).mesh.is_full());
    });
}
