use super::*;

const SLOT: u16 = 7;

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

fn frame(n: u8) -> Vec<u8> {
    vec![n; 100]
}

fn send_all(held: &mut Held) -> Vec<u8> {
    let mut sent = Vec::new();
    while let Some(frame) = held.front(SLOT) {
        sent.push(frame[0]);
        held.sent(SLOT);
    }
    sent
}

#[test]
fn frames_go_in_their_order_once_they_may() {
    let mut held = Held::new(10_000);
    held.begin(at(0), SLOT, 40);
    assert_eq!(held.done(SLOT), Some(40));
    assert!(held.push(SLOT, frame(1)) && held.push(SLOT, frame(2)));
    assert_eq!(held.front(SLOT), None);
    assert_eq!(held.look(at(1), SLOT, 42, true, false), None);
    held.may_go(at(2), SLOT);
    assert_eq!(send_all(&mut held), [1, 2]);
    assert_eq!(held.done(SLOT), Some(42));
    // As long as the tables have the old path all is held back.
    assert_eq!(held.look(at(3), SLOT, 43, true, false), None);
    assert!(held.push(SLOT, frame(3)));
    assert_eq!(held.look(at(4), SLOT, 43, true, true), Some(Hold::Drain));
    assert_eq!(held.look(at(5), SLOT, 43, true, true), None);
    assert_eq!(send_all(&mut held), [3]);
    assert_eq!(held.look(at(6), SLOT, 43, true, true), None);
    // One more while it was to end: it begins to wait again.
    assert_eq!(held.look(at(8), SLOT, 44, true, true), None);
    assert!(held.push(SLOT, frame(4)));
    assert_eq!(send_all(&mut held), [4]);
    assert_eq!(held.look(at(9), SLOT, 44, true, true), None);
    assert_eq!(held.look(at(11), SLOT, 44, true, true), None);
    assert_eq!(held.look(at(12), SLOT, 44, true, true), Some(Hold::Normal));
    assert!(held.push(SLOT, frame(5)));
    assert_eq!(send_all(&mut held), [5]);
    assert_eq!((held.look(at(112), SLOT, 45, true, true), held.slots().count()), (None, 0));
    assert_eq!((held.dropped(), held.bytes, held.poll_timeout(at(112))), (0, 0, None));
}

#[test]
fn what_the_device_lost_is_given_up_and_counted() {
    let mut held = Held::new(10_000);
    held.begin(at(0), SLOT, 0);
    held.may_go(at(1), SLOT);
    assert_eq!(held.look(at(1), SLOT, 10, true, true), Some(Hold::Drain));
    assert!(held.push(SLOT, frame(1)));
    assert_eq!(send_all(&mut held), [1]);
    // Not before the device was read to its end, and some time after it was counted.
    assert_eq!(held.look(at(5), SLOT, 12, true, true), None);
    assert_eq!(held.look(at(7), SLOT, 12, false, true), None);
    assert_eq!(held.dropped(), 0);
    held.look(at(8), SLOT, 12, true, true);
    assert_eq!((held.dropped(), held.done(SLOT)), (9, Some(10)));
    held.look(at(9), SLOT, 12, true, true);
    held.look(at(14), SLOT, 12, true, true);
    assert_eq!((held.dropped(), held.done(SLOT)), (11, Some(12)));
    assert_eq!(held.look(at(17), SLOT, 12, true, true), Some(Hold::Normal));
}

#[test]
fn neither_bytes_nor_time_are_without_bounds() {
    let mut held = Held::new(250);
    held.begin(at(0), SLOT, 0);
    assert_eq!([1, 2, 3].map(|n| held.push(SLOT, frame(n))), [true, true, false]);
    assert_eq!((held.dropped(), held.done(SLOT)), (1, Some(1)));
    assert!(!held.push(8, frame(1)), "nobody has begun");
    assert_eq!(held.dropped(), 2);
    // Nobody says that they may go.
    assert_eq!(held.poll_timeout(at(1)), Some(at(1000)));
    assert_eq!(held.look(at(1000), SLOT, 3, true, false), None);
    assert_eq!(held.front(SLOT), Some(&frame(1)[..]));
    // The tables do not change.
    assert_eq!(held.look(at(4999), SLOT, 3, true, false), None, "a neighbour may have to be asked for");
    assert_eq!(held.look(at(5000), SLOT, 3, true, false), Some(Hold::Drain));
    // And it cannot be sent.
    assert_eq!(held.look(at(5499), SLOT, 3, true, true), None);
    assert_eq!(held.look(at(5500), SLOT, 3, true, true), Some(Hold::Normal));
    assert_eq!((held.front(SLOT), held.bytes, held.dropped(), held.done(SLOT)), (None, 0, 4, Some(3)));
}

#[test]
fn another_path_on_the_way_keeps_the_order() {
    let mut held = Held::new(10_000);
    held.begin(at(0), SLOT, 0);
    held.push(SLOT, frame(1));
    held.may_go(at(1), SLOT);
    assert_eq!(held.look(at(2), SLOT, 1, true, true), Some(Hold::Drain));
    held.begin(at(3), SLOT, 2);
    held.push(SLOT, frame(2));
    assert_eq!((held.front(SLOT), held.done(SLOT)), (None, Some(0)));
    held.may_go(at(4), SLOT);
    assert_eq!(send_all(&mut held), [1, 2]);
    held.forget(at(5), SLOT, 2);
    assert_eq!((held.dropped(), held.bytes, held.done(SLOT)), (0, 0, Some(2)));
    held.look(at(105), SLOT, 2, true, true);
    assert_eq!(held.slots().count(), 0);
}

#[test]
fn what_was_late_was_not_lost() {
    let mut held = Held::new(10_000);
    held.begin(at(0), SLOT, 0);
    held.may_go(at(1), SLOT);
    assert_eq!(held.look(at(1), SLOT, 2, true, true), Some(Hold::Drain));
    held.look(at(6), SLOT, 2, true, true);
    assert_eq!((held.dropped(), held.done(SLOT)), (2, Some(2)));
    assert!(held.push(SLOT, frame(1)) && held.push(SLOT, frame(2)));
    assert_eq!((held.dropped(), held.done(SLOT)), (0, Some(0)));
    assert_eq!((send_all(&mut held), held.done(SLOT)), (vec![1, 2], Some(2)));
    assert_eq!(held.look(at(9), SLOT, 2, true, true), None);
    assert_eq!(held.look(at(12), SLOT, 2, true, true), Some(Hold::Normal));
}

/// Two frames of five have been read when the time is over, and none could be sent.
fn given_up() -> Held {
    let mut held = Held::new(10_000);
    held.begin(at(0), SLOT, 0);
    held.may_go(at(1), SLOT);
    assert_eq!(held.look(at(2), SLOT, 5, false, true), Some(Hold::Drain));
    held.push(SLOT, frame(1));
    held.push(SLOT, frame(2));
    assert_eq!(held.look(at(502), SLOT, 5, false, true), Some(Hold::Normal));
    assert_eq!((held.dropped(), held.done(SLOT), held.bytes), (5, Some(5), 0));
    held
}

#[test]
fn what_comes_behind_what_was_given_up_is_given_up_too_and_counted_once() {
    let mut held = given_up();
    // Newer frames are on their way by now.
    for n in 3..=5 {
        assert!(!held.push(SLOT, frame(n)));
    }
    assert_eq!((held.front(SLOT), held.dropped(), held.done(SLOT)), (None, 5, Some(5)));
    // A program was about to hold this one back.
    assert!(!held.push(SLOT, frame(6)));
    assert_eq!((held.front(SLOT), held.dropped(), held.done(SLOT)), (None, 6, Some(6)));
    // It stays known as long as frames of it may be in the device.
    held.look(at(602), SLOT, 6, false, true);
    assert_eq!(held.done(SLOT), Some(6));
    held.look(at(603), SLOT, 6, true, true);
    assert_eq!((held.done(SLOT), held.dropped(), held.poll_timeout(at(603))), (None, 6, None));
}

#[test]
fn who_begins_anew_sends_nothing_of_what_was_given_up() {
    let mut held = given_up();
    held.push(SLOT, frame(3));
    held.begin(at(510), SLOT, 6);
    assert_eq!((held.dropped(), held.done(SLOT)), (6, Some(6)));
    for n in 4..=6 {
        assert!(!held.push(SLOT, frame(n)));
    }
    assert!(held.push(SLOT, frame(7)));
    held.may_go(at(511), SLOT);
    assert_eq!(send_all(&mut held), [7]);
    assert_eq!((held.dropped(), held.done(SLOT)), (6, Some(7)));
}

#[test]
fn what_was_given_up_and_is_lost_in_the_device_takes_no_other_frame_with_it() {
    let mut held = given_up();
    held.begin(at(510), SLOT, 5);
    // The device was full: of those that were given up unread none comes.
    held.look(at(511), SLOT, 5, true, true);
    held.look(at(516), SLOT, 5, true, true);
    assert_eq!((held.dropped(), held.done(SLOT)), (5, Some(5)));
    assert!(held.push(SLOT, frame(6)));
    held.may_go(at(517), SLOT);
    assert_eq!(send_all(&mut held), [6]);
    assert_eq!((held.dropped(), held.done(SLOT)), (5, Some(6)));
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let mut held = Held::new(10_000);
    held.begin(at(0), SLOT, 0);
    held.push(SLOT, frame(1));
    held.push(SLOT, frame(2));
    held.may_go(at(1), SLOT);
    held.not_sent(SLOT);
    held.sent(SLOT);
    held.not_sent(SLOT);
    assert_eq!((held.dropped(), held.done(SLOT), held.bytes), (1, Some(2), 0));
}

#[test]
fn what_still_comes_when_another_switch_begins_is_sent_first() {
    let mut held = Held::new(10_000);
    held.begin(at(0), SLOT, 0);
    held.may_go(at(1), SLOT);
    assert_eq!(held.look(at(1), SLOT, 0, true, true), Some(Hold::Drain));
    assert_eq!(held.look(at(2), SLOT, 0, true, true), None);
    assert_eq!(held.look(at(5), SLOT, 0, true, true), Some(Hold::Normal));
    // One was counted, and has not been read, when it begins anew.
    held.begin(at(10), SLOT, 1);
    assert_eq!(held.done(SLOT), Some(0));
    assert!(held.push(SLOT, frame(1)) && held.push(SLOT, frame(2)));
    held.may_go(at(11), SLOT);
    assert_eq!(send_all(&mut held), [1, 2]);
    assert_eq!((held.dropped(), held.done(SLOT)), (0, Some(2)));
}
