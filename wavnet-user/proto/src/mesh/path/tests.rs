use std::net::SocketAddr;

use super::*;
use crate::{transmit::Socket, wire::Label};

#[test]
fn what_was_asked_before_it_died_proves_nothing() {
    let (mut rng, at) = (Rng::from_seed([1; 32]), |ms| Time::ZERO + Duration::from_millis(ms));
    let way = Way { socket: Socket::Main, remote: SocketAddr::from(([192, 0, 2, 1], 4789)), label: Label::ZERO };
    let mut path = Path::new(WayId(1), way, PathKind::Direct, Duration::from_secs(10));
    let [first, late] = [0, 1].map(|ms| path.probe(at(ms), &mut rng));
    assert!(path.answered(at(20), first) && path.proven);
    path.died(at(5000));
    assert!(!path.answered(at(5001), late) && !path.proven, "its answer may have been on the way for long");
    let now = path.probe(at(5002), &mut rng);
    assert!(path.answered(at(5020), now) && path.proven);
}

#[test]
fn who_is_put_into_service_long_after_it_worked_is_to_show_that_it_still_does() {
    let (mut rng, at) = (Rng::from_seed([2; 32]), |ms| Time::ZERO + Duration::from_millis(ms));
    let way = Way { socket: Socket::Main, remote: SocketAddr::from(([192, 0, 2, 1], 4789)), label: Label::ZERO };
    for (served, is_old) in [(1000, false), (10_000, true)] {
        let mut path = Path::new(WayId(1), way, PathKind::Direct, Duration::from_secs(10));
        let first = path.probe(at(0), &mut rng);
        assert!(path.answered(at(20), first));
        path.hear_flags((1, 1), Probe::TAKEN);
        path.serve(at(served), PathId(1));
        assert_eq!(path.is_sound(at(served), None), !is_old);
        assert!(path.is_usable(at(served)) && !path.is_stale(at(served + 30), None), "it has not had the time to");
        assert_eq!(path.is_stale(at(served + 1000), None), is_old);
        assert!(path.next_probe(at(served)).is_some(), "the peer is to hear of it");
        let next = path.probe(at(served + 1000), &mut rng);
        assert!(path.answered(at(served + 1020), next) && path.is_sound(at(served + 1020), None));
        assert_eq!(path.next_probe(at(served + 1020)), None);
    }
}
