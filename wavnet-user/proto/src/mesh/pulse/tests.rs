use super::*;

const IDLE: Duration = Duration::from_secs(5);

fn rng() -> Rng {
    Rng::from_seed([7; 32])
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Pulses over a path with this round trip, which loses some of them and ends at `end`; when it is found dead. The kernel knows four of them.
fn found_dead(busy: bool, rtt: Duration, mut is_lost: impl FnMut() -> bool, end: Time, until: Time) -> Option<Time> {
    let (mut rng, mut pulses, mut now) = (rng(), Pulses::new(IDLE), Time::ZERO);
    pulses.set_busy(busy);
    pulses.seen(Some(rtt));
    let (mut answers, mut places): (VecDeque<(Time, u16)>, _) = (VecDeque::new(), [None; PLACES]);
    while now < until {
        while let Some((at, number)) = answers.pop_front_if(|(at, _)| *at <= now) {
            let place = places[usize::from(number % 4)].take_if(|waits| *waits == number);
            assert_eq!(place.and_then(|number| pulses.answered(at, number)).is_some(), place.is_some(), "at {now}");
        }
        if pulses.health(now) == Health::Dead {
            return Some(now);
        }
        if pulses.next(now) <= now {
            let number = u16::from_be_bytes(pulses.send(now, &mut rng));
            places[usize::from(number % 4)] = Some(number);
            if now < end && !is_lost() {
                answers.push_back((now + rtt, number));
            }
        }
        now += ms(5);
    }
    None
}

const NONE: fn() -> bool = || false;

#[test]
fn the_end_of_a_busy_path_is_noticed_within_a_second() {
    for rtt in [0, 1, 30, 75, 220] {
        for phase in 0..20 {
            let end = Time::ZERO + ms(20_000 + phase * 5);
            let dead = found_dead(true, ms(rtt), NONE, end, end + ms(5000)).expect("found");
            assert!(dead > end && dead.since(end) < ms(1000), "{rtt} ms: {:?}", dead.since(end));
        }
    }
}

/// Five of a hundred datagrams are lost each way, for up to two minutes before the end.
#[test]
fn the_end_of_a_busy_path_that_loses_some_is_noticed_within_a_second() {
    let mut longest = Duration::ZERO;
    for seed in 0..500u16 {
        let [high, low] = seed.to_be_bytes();
        let mut draw = Rng::from_seed([[high, low]; 16].concat().try_into().expect("32 bytes"));
        let end = Time::ZERO + ms(5 * (4000 + draw.below(20_000)));
        let dead = found_dead(true, ms(200), || draw.below(10_000) < 975, end, end + ms(5000)).expect("found");
        assert!(dead > end, "seed {seed}: {:?} before the end", end.since(dead));
        assert!(dead.since(end) < ms(1000), "seed {seed}: {:?}", dead.since(end));
        longest = longest.max(dead.since(end));
    }
    println!("at the latest after {longest:?}");
}

#[test]
fn the_end_of_an_idle_path_is_noticed_within_fifteen_seconds() {
    for rtt in [1, 220, 600] {
        for phase in 0..20 {
            let end = Time::ZERO + ms(20_000 + phase * 250);
            let dead = found_dead(false, ms(rtt), NONE, end, end + ms(30_000)).expect("found");
            assert!(dead.since(end) < ms(15_000), "{rtt} ms: {:?}", dead.since(end));
        }
    }
}

#[test]
fn a_path_that_answers_is_never_dead() {
    for (busy, rtt) in [(true, 1), (true, 220), (true, 900), (false, 1), (false, 900)] {
        let never = Time::from_nanos(u64::MAX);
        assert_eq!(found_dead(busy, ms(rtt), NONE, never, Time::ZERO + ms(120_000)), None, "{busy} {rtt} ms");
    }
}

#[test]
fn an_idle_path_costs_one_pulse_per_period() {
    let (mut rng, mut pulses, mut now) = (rng(), Pulses::new(IDLE), Time::ZERO);
    for _ in 0..20 * 60 * 10 {
        if pulses.next(now) <= now {
            let number = u16::from_be_bytes(pulses.send(now, &mut rng));
            pulses.answered(now + ms(40), number);
        }
        now += ms(50);
    }
    assert_eq!(pulses.counts(), (120, 120));
    assert_eq!(pulses.rtt().map(|r| r.least), Some(ms(40)));
    assert!(pulses.loss() < 0.001);
}

#[test]
fn what_answers_no_pulse_of_ours_counts_for_nothing() {
    let (mut rng, mut pulses) = (rng(), Pulses::new(IDLE));
    let number = u16::from_be_bytes(pulses.send(Time::ZERO, &mut rng));
    assert_eq!(pulses.answered(Time::ZERO + ms(1), number ^ 1), None);
    assert_eq!(pulses.answered(Time::ZERO + ms(2), number), Some(ms(2)));
    assert_eq!(pulses.answered(Time::ZERO + ms(3), number), None, "once");
    assert_eq!(pulses.counts(), (1, 1));
}

#[test]
fn pulses_under_way_have_places_of_their_own() {
    for busy in [false, true] {
        for rtt in [1, 75, 220, 400, 1000] {
            let (mut rng, mut pulses, mut now) = (rng(), Pulses::new(IDLE), Time::ZERO);
            pulses.set_busy(busy);
            pulses.seen(Some(ms(rtt)));
            let mut places = [None; PLACES];
            let (mut given_up, mut sent) = (0, 0);
            while now < Time::ZERO + ms(60_000) {
                for place in &mut places {
                    if let Some((_, number)) = place.take_if(|(at, _)| now.since(*at) >= ms(rtt)) {
                        assert!(pulses.answered(now, number).is_some());
                    }
                }
                if pulses.next(now) <= now {
                    let number = u16::from_be_bytes(pulses.send(now, &mut rng));
                    sent += 1;
                    given_up += u32::from(places[usize::from(number % 4)].replace((now, number)).is_some());
                }
                now += ms(5);
            }
            assert!(given_up * 50 <= sent, "{busy} {rtt} ms: {given_up} of {sent}");
            assert_eq!(pulses.health(now), Health::Good, "{busy} {rtt} ms");
        }
    }
}

#[test]
fn a_round_trip_that_has_grown_is_missed_once() {
    let (mut rng, mut pulses, mut now) = (rng(), Pulses::new(IDLE), Time::ZERO);
    pulses.set_busy(true);
    pulses.seen(Some(ms(30)));
    let (mut places, mut dead) = ([None; PLACES], 0);
    while now < Time::ZERO + ms(60_000) {
        let rtt = if now < Time::ZERO + ms(10_000) { ms(30) } else { ms(900) };
        for place in &mut places {
            if let Some((_, number)) = place.take_if(|(at, _)| now.since(*at) >= rtt) {
                pulses.answered(now, number);
            }
        }
        if pulses.health(now) == Health::Dead {
            dead += 1;
            pulses.seen(Some(rtt));
        }
        if pulses.next(now) <= now {
            let number = u16::from_be_bytes(pulses.send(now, &mut rng));
            places[usize::from(number % 4)] = Some((now, number));
        }
        now += ms(5);
    }
    assert_eq!(dead, 1);
}

/// Twenty hours of it: five of a hundred datagrams are lost each way.
#[test]
fn a_busy_path_that_loses_some_is_not_taken_for_dead() {
    let (mut rng, mut draw, mut pulses, mut now) = (rng(), Rng::from_seed([8; 32]), Pulses::new(IDLE), Time::ZERO);
    pulses.set_busy(true);
    let mut answers: VecDeque<(Time, u16)> = VecDeque::new();
    let mut dead = 0;
    while now < Time::ZERO + Duration::from_secs(72_000) {
        while let Some((at, number)) = answers.pop_front_if(|(at, _)| *at <= now) {
            pulses.answered(at, number);
        }
        if pulses.health(now) == Health::Dead {
            dead += 1;
            pulses.seen(None);
        }
        if pulses.next(now) <= now {
            let number = u16::from_be_bytes(pulses.send(now, &mut rng));
            if draw.below(10_000) >= 975 {
                answers.push_back((now + ms(200), number));
            }
        }
        now = pulses.next(now).min(answers.front().map_or(now + ms(80), |(at, _)| *at)).max(now + ms(1));
    }
    assert!(dead <= 1, "{dead} times in twenty hours");
}

#[test]
fn loss_is_what_share_was_not_answered() {
    let (mut rng, mut pulses, mut now) = (rng(), Pulses::new(IDLE), Time::ZERO);
    pulses.set_busy(true);
    for i in 0..4000 {
        let number = u16::from_be_bytes(pulses.send(now, &mut rng));
        if i % 4 != 0 {
            pulses.answered(now + ms(1), number);
        }
        now += ms(100);
    }
    assert!((pulses.loss() - 0.25).abs() < 0.1, "{}", pulses.loss());
}

/// A queue fills on the way, and the kernel knows no more than four pulses.
#[test]
fn round_trips_that_grow_at_once_do_not_make_a_path_dead() {
    for (before, after) in [(20, 500), (220, 440), (220, 590)] {
        let (mut rng, mut pulses) = (Rng::from_seed([3; 32]), Pulses::new(Duration::from_secs(5)));
        pulses.set_busy(true);
        let (mut under_way, mut places) = (Vec::new(), [None; 4]);
        for ms in 0..10_000 {
            let now = Time::ZERO + Duration::from_millis(1000 + ms);
            if pulses.next(now) <= now {
                let number = u16::from_be_bytes(pulses.send(now, &mut rng));
                places[usize::from(number % 4)] = Some(number);
                under_way.push((ms + if ms < 5000 { before } else { after }, number));
            }
            for (_, number) in under_way.extract_if(.., |(due, _)| *due == ms) {
                if places[usize::from(number % 4)] == Some(number) {
                    pulses.answered(now, number);
                }
            }
            assert_ne!(pulses.health(now), Health::Dead, "{before} to {after} ms, after {ms} ms");
        }
        assert!(pulses.patience() >= Duration::from_millis(after), "{before} to {after} ms");
    }
}
