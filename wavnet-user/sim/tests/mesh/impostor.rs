//! A server that hands on what one host says as another one's. It cannot be that other one, nor make anybody be.

use std::time::Duration;

use wavnet_proto::{
    mesh::{Dropped, Event, PathKind},
    nat::{Mapping, NatSummary},
    trust::{PublicKey, SecretKey},
    wire::{Datagram, Kind},
};
use wavnet_sim::{HostId, Seed, nat::NatConfig};

use crate::{
    enemies::{add_liar, servers},
    liar::Asked,
    world::{Site, World, cone},
};

const DELAY: Duration = Duration::from_millis(10);
/// What is said has arrived by then, and so has the answer.
const SOON: Duration = Duration::from_millis(300);

/// Three hosts, by their keys, and a server that lies and is the only one.
fn three(seed: Seed) -> (World, HostId, [Site; 3]) {
    let mut world = World::new(seed, DELAY);
    let liar = add_liar(&mut world, |_| {});
    servers(&mut world, &[liar]);
    let mut sites = ["x", "y", "z"].map(|name| world.behind(name, NatConfig::port_restricted_cone(), cone()));
    // Of two hosts the one with the lower key begins.
    sites.sort_by_key(|site| site.key);
    world.net.run_for(SOON);
    (world, liar, sites)
}

fn invite(world: &mut World, liar: HostId, pairs: &[(Site, Site)]) {
    for (to, peer) in pairs {
        world.net.act(liar, |node, _| node.liar_mut().invite(to.key, peer.key));
    }
    world.net.run_for(SOON);
}

fn hand_on(world: &mut World, liar: HostId, to: Site, of: Site, datagram: &[u8]) {
    world.net.act(liar, |node, _| node.liar_mut().hand_on(to.key, of.key, datagram));
    world.net.run_for(SOON);
}

/// Everything that one host wants to be handed on to another one, of this kind.
fn asked(world: &mut World, liar: HostId, from: Site, to: Site, kind: Kind) -> Vec<Vec<u8>> {
    let is_it = |asked: &&Asked| {
        (asked.from, asked.to) == (from.key, to.key) && asked.datagram.get(5).copied() == Some(kind as u8)
    };
    world.net.act(liar, |node, _| {
        node.liar_mut().forwards.iter().filter(is_it).map(|asked| asked.datagram.clone()).collect()
    })
}

fn dropped(world: &World, site: Site) -> [u64; 3] {
    [Dropped::Forged, Dropped::Session, Dropped::NotAllowed].map(|reason| world.agent(site).mesh.dropped(reason))
}

/// Nobody has ever been this one here: no frames are taken from it, and none go to it.
fn was_never_here(world: &World, site: Site, key: PublicKey) {
    let agent = world.agent(site);
    let is_of_it =
        |event: &Event| matches!(event, Event::Connected { peer, .. } | Event::Path { peer, .. } if *peer == key);
    assert_eq!(agent.events.iter().find(|(_, event)| is_of_it(event)), None);
    assert!(!agent.is_admitted(key) && agent.way_to(key).is_none() && agent.ways().all(|(peer, _)| peer != key));
    assert!(agent.mesh.peer(&key).is_none_or(|peer| !peer.connected && peer.name.is_none()));
}

fn direct(world: &mut World, a: Site, b: Site) {
    let direct = world.until_paths(a, b, Duration::from_secs(2), |kind| kind == PathKind::Direct);
    assert!(direct.is_some(), "{}", world.net.trace());
}

#[test]
fn what_one_host_begins_is_not_begun_by_another_one() {
    Seed::each(6, |seed| {
        let (mut world, liar, [a, b, c]) = three(seed);
        invite(&mut world, liar, &[(a, b), (b, a)]);
        let init = asked(&mut world, liar, a, b, Kind::Init).first().cloned().expect("an INIT");
        // B is told that it is of C; and C that it is for it.
        for (to, of, times) in [(b, c, 2), (c, a, 1), (c, b, 1)] {
            for _ in 0..times {
                let before = dropped(&world, to);
                hand_on(&mut world, liar, to, of, &init);
                assert_eq!(dropped(&world, to), [before[0] + 1, before[1], before[2]]);
                assert_eq!(asked(&mut world, liar, to, of, Kind::Response), Vec::<Vec<u8>>::new());
                was_never_here(&world, to, of.key);
            }
        }
        // A host is not its own peer.
        let before = dropped(&world, b);
        hand_on(&mut world, liar, b, b, &init);
        assert_eq!(dropped(&world, b), [before[0], before[1], before[2] + 1]);
        // And the truth is believed.
        hand_on(&mut world, liar, b, a, &init);
        let response = asked(&mut world, liar, b, a, Kind::Response).first().cloned().expect("a RESPONSE");
        hand_on(&mut world, liar, a, b, &response);
        direct(&mut world, a, b);
        was_never_here(&world, b, c.key);
        // Later, as that of both, while the one is connected and when it is gone.
        world.net.run_for(Duration::from_secs(30));
        let (since, ways) = (world.net.now(), [(a, b), (b, a)].map(|(x, y)| world.agent(x).way_to(y.key)));
        for of in [a, c, a] {
            hand_on(&mut world, liar, b, of, &init);
        }
        assert_eq!(world.path_changes(a, since) + world.path_changes(b, since), 0, "{:?}", world.agent(b).events);
        assert_eq!([(a, b), (b, a)].map(|(x, y)| world.agent(x).way_to(y.key)), ways);
        world.net.act(a.host, |node, now| node.agent_mut().mesh.close(now));
        world.net.run_for(SOON);
        assert!(!world.agent(b).is_admitted(a.key));
        let (gone, forged) = (world.agent(b).events.len(), dropped(&world, b)[0]);
        for _ in 0..20 {
            hand_on(&mut world, liar, b, c, &init);
            hand_on(&mut world, liar, b, a, &init);
            assert!(!world.agent(b).is_admitted(a.key) && world.agent(b).paths() == 0);
        }
        // It was read each time that a handshake may be computed for C, and no more often than that.
        let read = dropped(&world, b)[0] - forged;
        assert_eq!(read + world.agent(b).mesh.dropped(Dropped::HandshakeLimit), 20);
        assert!(read >= 5, "{read}");
        world.net.run_for(Duration::from_secs(60));
        let events = world.agent(b).events.get(gone..).expect("those of before");
        let is_drop = |(_, event): &(_, Event)| matches!(event, Event::Dropped { .. });
        assert!(events.iter().all(is_drop), "an old INIT brings nobody back: {events:?}");
        was_never_here(&world, b, c.key);
    });
}

#[test]
fn what_one_host_answers_is_not_answered_by_another_one() {
    Seed::each(6, |seed| {
        let (mut world, liar, [b, a, c]) = three(seed);
        invite(&mut world, liar, &[(b, a), (b, c)]);
        let [to_a, to_c] =
            [a, c].map(|site| asked(&mut world, liar, b, site, Kind::Init).first().cloned().expect("an INIT"));
        // A is given what is for C.
        let before = dropped(&world, a);
        hand_on(&mut world, liar, a, b, &to_c);
        assert_eq!(dropped(&world, a), [before[0] + 1, before[1], before[2]]);
        hand_on(&mut world, liar, a, b, &to_a);
        let answers = asked(&mut world, liar, a, b, Kind::Response);
        let [response] = &answers[..] else { panic!("{} answers", answers.len()) };
        // B is told that it answers what was for C: by its receiver, which nothing but the handshake itself protects.
        let Ok((_, Datagram::Init(init))) = Datagram::parse(&to_c) else { panic!("an INIT") };
        let mut turned = response.clone();
        turned[8..12].copy_from_slice(&init.sender.to_be_bytes());
        let before = dropped(&world, b);
        hand_on(&mut world, liar, b, c, &turned);
        assert_eq!(dropped(&world, b), [before[0] + 1, before[1], before[2]]);
        was_never_here(&world, b, c.key);
        was_never_here(&world, b, a.key);
        // As it is, and said to be C's, it is A's all the same; and once is enough.
        let before = dropped(&world, b);
        hand_on(&mut world, liar, b, c, response);
        assert_eq!(dropped(&world, b), before);
        hand_on(&mut world, liar, b, c, response);
        assert_eq!(dropped(&world, b), [before[0], before[1] + 1, before[2]]);
        invite(&mut world, liar, &[(a, b), (b, a)]);
        direct(&mut world, a, b);
        was_never_here(&world, b, c.key);
        // The handshake with C has not suffered from that.
        let to_c = asked(&mut world, liar, b, c, Kind::Init).last().cloned().expect("an INIT");
        hand_on(&mut world, liar, c, b, &to_c);
        let response = asked(&mut world, liar, c, b, Kind::Response).last().cloned().expect("a RESPONSE");
        hand_on(&mut world, liar, b, c, &response);
        invite(&mut world, liar, &[(c, b), (b, c)]);
        direct(&mut world, b, c);
        direct(&mut world, a, b);
    });
}

/// What comes after a handshake has to take another way then: the one that has answered is not heard by the other one before.
#[test]
fn a_server_that_hands_on_handshakes_alone_keeps_nobody_apart() {
    Seed::each(4, |seed| {
        for honest_at in [0, 1, 2] {
            let mut world = World::new(seed, DELAY);
            world.relays(false);
            let honest = world.servers[0];
            let liars: Vec<HostId> = (0..honest_at.max(1)).map(|_| add_liar(&mut world, |_| {})).collect();
            let mut all = liars.clone();
            all.insert(honest_at, honest);
            servers(&mut world, &all);
            // The one with the lower key begins; only the server knows where the other one is to be answered.
            let mut secrets = [(); 2].map(|()| SecretKey::generate(&mut world.rng));
            secrets.sort_by_key(SecretKey::public);
            let symmetric = NatSummary { mapping: Mapping::AddressAndPortDependent, ..cone() };
            let fronts = [(NatConfig::full_cone(), cone()), (NatConfig::symmetric(), symmetric)];
            let mut place = |secret: SecretKey, (nat, summary)| {
                let router = world.add_router(nat);
                let lan = world.net.lan(router);
                let (addr, settings) = (world.net.vacant_v4(lan), world.settings("h"));
                world.add_agent_as(lan, &[addr], settings, secret, summary)
            };
            let [first, second] = secrets;
            let [full_cone, hidden] = fronts;
            let (a, b) = (place(first, full_cone), place(second, hidden));
            // They know each other by the liars alone at first.
            world.net.kill(honest);
            let back = Duration::from_secs(3);
            let met = (0..40_000).map(Duration::from_millis).find(|elapsed| {
                if *elapsed == back {
                    world.restart_server(0);
                    world.relays(false);
                }
                let invites = elapsed.as_millis() % 500 == 499 && *elapsed > Duration::from_secs(1);
                liars.iter().for_each(|liar| hand_on_handshakes(&mut world, *liar, (a, b), invites));
                world.net.run_for(Duration::from_millis(1));
                [(a, b), (b, a)].map(|(x, y)| world.path(x, y)) == [Some(PathKind::Direct); 2]
            });
            assert!(met.is_some_and(|met| met > back), "{honest_at}: {met:?} {}", world.net.trace());
        }
    });
}

fn hand_on_handshakes(world: &mut World, liar: HostId, (a, b): (Site, Site), invites: bool) {
    let is_handshake = |d: &[u8]| matches!(Datagram::parse(d), Ok((_, Datagram::Init(_) | Datagram::Response(_))));
    world.net.act(liar, |node, _| {
        let liar = node.liar_mut();
        if invites {
            liar.invite(a.key, b.key);
            liar.invite(b.key, a.key);
        }
        for asked in std::mem::take(&mut liar.forwards).into_iter().filter(|asked| is_handshake(&asked.datagram)) {
            liar.hand_on(asked.to, asked.from, &asked.datagram);
        }
    });
}
