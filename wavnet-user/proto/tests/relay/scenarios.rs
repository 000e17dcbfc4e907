//! Stories with a name: next hops, moves, what is left to the server.

use std::num::NonZeroU32;

use super::*;

/// A server with an interface (2) and a session between two hosts, which are reached by a gateway.
fn reached() -> World {
    let mut w = World::new();
    w.relay.link_up(link(2, None, Some(XdpRedirect::Everything)));
    w.relay.addresses(2, vec![*SERVER.ip()]);
    w.relay.set(label(0), host(0), host(1), label(1));
    w.relay.set(label(1), host(1), host(0), label(0));
    w.commands();
    for n in [0, 1] {
        w.relay.route(v4(n), via(2, Some(1)));
    }
    w
}

#[test]
fn a_session_is_relayed_as_soon_as_the_next_hop_is_known() {
    let mut w = reached();
    let asked = w.commands();
    let resolve = Command::ResolveNeighbour { ifindex: 2, addr: Ipv4Addr::new(203, 0, 113, 1) };
    assert_eq!(asked, [RelayCommand::Ask(resolve)], "both by one");
    w.relay.neighbour(2, Ipv4Addr::new(203, 0, 113, 1), Some(Mac([2; 6])));
    let known = w.commands();
    let hop = Some(LegHop { link: 0, mac: Mac([2; 6]) });
    let flags = RelayLinkFlags::XDP_TX | RelayLinkFlags::XDP_REDIRECT;
    let row = RelayLink { ifindex: 2, mtu: 1500, mac: [2, 9, 0, 0, 0, 2], flags };
    assert_eq!(
        known,
        [
            RelayCommand::SetLink { row: 0, link: row },
            RelayCommand::SetHop { row: 0, hop },
            RelayCommand::SetHop { row: 1, hop }
        ]
    );
    // Said again, nothing changes; a host that moves is another leg, and its partner's leads elsewhere.
    w.relay.set(label(0), host(0), host(1), label(1));
    assert_eq!(w.commands(), []);
    w.relay.set(label(0), host(4), host(1), label(1));
    w.relay.remove(label(0), host(0));
    let leg = Leg { label: label(0), from: side(host(4)).unwrap(), to: side(host(1)).unwrap(), to_label: label(1) };
    // It keeps its row, and what it sends goes where it went.
    assert_eq!(w.commands(), [RelayCommand::SetLeg { row: 0, leg, rate: None }, RelayCommand::SetHop { row: 0, hop },]);
    w.relay.set(label(1), host(1), host(4), label(0));
    let moved = w.commands();
    assert!(!moved.iter().any(|c| matches!(c, RelayCommand::Ask(Command::ResolveNeighbour { .. }))), "{moved:?}");
    w.relay.route(v4(4), via(2, Some(1)));
    w.commands();
    assert!(w.model.legs.len() == 2 && w.model.legs.values().all(|(_, in_force)| *in_force == hop));
    // The old sender's is not there any more; nor does it take the new one's away.
    w.relay.remove(label(0), host(0));
    assert_eq!(w.commands(), []);
}

#[test]
fn an_interface_that_goes_takes_its_hops_along_first() {
    let mut w = reached();
    w.relay.neighbour(2, Ipv4Addr::new(203, 0, 113, 1), Some(Mac([2; 6])));
    w.commands();
    w.relay.link_gone(2);
    let gone = w.commands();
    let table = |c: &&RelayCommand| !matches!(c, RelayCommand::Ask(_));
    assert_eq!(
        gone.iter().filter(table).collect::<Vec<_>>(),
        [
            &RelayCommand::SetHop { row: 0, hop: None },
            &RelayCommand::SetHop { row: 1, hop: None },
            &RelayCommand::SetLink { row: 0, link: RelayLink::FREE }
        ]
    );
}

#[test]
fn veths_and_the_unknown_are_not_trusted_with_what_xdp_sends() {
    for (kind, redirect, flags) in [
        (None, None, RelayLinkFlags::XDP_TX),
        (None, Some(XdpRedirect::Nothing), RelayLinkFlags::XDP_TX),
        (Some("veth"), Some(XdpRedirect::OneBuffer), RelayLinkFlags::XDP_REDIRECT),
        (Some("veth"), None, 0),
    ] {
        let mut w = reached();
        w.relay.neighbour(2, Ipv4Addr::new(203, 0, 113, 1), Some(Mac([2; 6])));
        w.commands();
        w.relay.link_up(link(2, kind, redirect));
        w.commands();
        assert_eq!(w.model.links[&0].flags, flags, "{kind:?} {redirect:?}");
        let all = RelayLinkFlags::XDP_TX | RelayLinkFlags::XDP_REDIRECT;
        for (generic, flags) in [(true, all), (false, flags)] {
            w.relay.set_generic(generic);
            w.commands();
            assert_eq!(w.model.links[&0].flags, flags, "{kind:?} {redirect:?}, generic: {generic}");
        }
    }
}

#[test]
fn what_cannot_be_relayed_is_left_to_the_server() {
    let mut w = World::new();
    let (none, nobody) = (Label::ZERO, SocketAddr::from(([0, 0, 0, 0], 1)));
    let incomplete = |w: &World| w.model.config.unwrap().flags & RelayConfigFlags::INCOMPLETE != 0;
    for (a, from, to, b) in [
        (none, host(0), host(1), label(1)),
        (label(0), host(0), host(1), none),
        (label(0), nobody, host(1), label(1)),
        (label(0), host(0), nobody, label(1)),
        (label(0), host(0), SocketAddr::new(host(1).ip(), 0), label(1)),
        (label(0), host(0), SocketAddr::from((Ipv4Addr::BROADCAST, 1)), label(1)),
        (label(0), host(0), any_host(15), label(1)),
    ] {
        assert!(!w.relay.set(a, from, to, b));
        w.commands();
        assert!(incomplete(&w) && w.model.legs.is_empty());
        w.relay.remove(a, host(9));
        w.commands();
        assert!(incomplete(&w), "it was another one's");
        w.relay.remove(a, from);
        w.commands();
        assert!(!incomplete(&w));
    }
    // Nor what could not be written.
    assert!(w.relay.set(label(0), host(0), host(1), label(1)));
    w.commands();
    w.relay.not_written(label(0));
    w.commands();
    assert!(incomplete(&w) && w.model.legs.is_empty());
    w.relay.set(label(0), host(0), host(1), label(1));
    w.commands();
    assert!(!incomplete(&w) && w.model.legs.len() == 1);
    w.relay.set_server(None);
    w.commands();
    assert_eq!(w.model.config.map(|c| c.local_v4), Some([0; 4]));
}

#[test]
fn the_rate_is_that_of_all() {
    let mut w = reached();
    let rate = Rate { bytes_per_second: 125_000_000, burst: 5_000_000 };
    w.relay.set_rate(Some(rate));
    w.commands();
    assert_eq!(w.model.rates, [(0, rate), (1, rate)].into());
    // Who moves has sent what it has sent.
    w.relay.set(label(0), host(4), host(1), label(1));
    assert!(w.commands().iter().any(|c| matches!(c, RelayCommand::SetLeg { row: 0, rate: None, .. })));
    // There is no moment without a limit.
    w.relay.set(label(2), host(2), host(3), label(3));
    let new = w.commands();
    assert!(
        new.iter().any(|c| matches!(c, RelayCommand::SetLeg { row: 2, rate: Some(r), .. } if *r == rate)),
        "{new:?}"
    );
    assert_eq!(w.model.rates, [(0, rate), (1, rate), (2, rate)].into());
    assert_eq!(w.model.config.map(|c| (c.local_v4, c.udp_port)), Some(([203, 0, 113, 9], 4789u16.to_be_bytes())));
}

#[test]
fn stun_is_answered_where_the_server_would_answer_it_the_same() {
    let mut w = World::new();
    let config = |w: &mut World| {
        w.commands();
        let config = w.model.config.unwrap();
        let other = SocketAddrV4::new(config.other_v4.into(), u16::from_be_bytes(config.other_port));
        (config.flags & RelayConfigFlags::STUN != 0).then_some((config.stun_link, other))
    };
    assert_eq!(config(&mut w), None, "there is no such interface");
    w.links.insert(STUN);
    w.relay.link_up(link(STUN, None, None));
    let other = SocketAddrV4::new([203, 0, 113, 10].into(), 4790);
    let (row, _) = config(&mut w).unwrap();
    assert_eq!(config(&mut w), Some((row, other)));
    assert_eq!(w.model.links[&row].flags & RelayLinkFlags::XDP_TX, RelayLinkFlags::XDP_TX);
    // Without a second address there is none to name.
    let none = SocketAddrV4::new([0; 4].into(), 0);
    let alone = |at: SocketAddrV4| Some((STUN, Responder::new(at.into(), Some(4790), None).unwrap()));
    w.relay.set_stun(alone(SERVER));
    assert_eq!(config(&mut w), Some((row, none)));
    // What is known of another address is of no use until the server's own has followed, and the other way round.
    let moved = SocketAddrV4::new([203, 0, 113, 7].into(), 4789);
    w.relay.set_stun(alone(moved));
    assert_eq!(config(&mut w), None);
    w.relay.set_server(Some(moved));
    assert_eq!(config(&mut w), Some((row, none)));
    assert_eq!(w.model.config.map(|c| c.local_v4), Some(moved.ip().octets()));
    assert_eq!(w.model.config.map(|c| c.stun_answer_ns), Some(0), "no limit");
    w.relay.set_stun_of_source(NonZeroU32::new(1000));
    assert_eq!(config(&mut w), Some((row, none)));
    assert_eq!(w.model.config.map(|c| c.stun_answer_ns), Some(1_000_000));
    w.relay.set_stun(None);
    assert_eq!(config(&mut w), None);
    w.relay.set_stun(alone(moved));
    w.links.remove(&STUN);
    w.relay.link_gone(STUN);
    assert_eq!((config(&mut w), w.model.links.len()), (None, 0));
}
