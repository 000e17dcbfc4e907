//! When a tap gets XDP, and when it loses it.

use std::time::Duration;

use proptest::prelude::*;
use wavnet_common::abi::Mix;
use wavnet_proto::{
    adaptive::{Chooser, PERIOD, Why},
    fabric::AdaptivePort,
};

const HOLD: Duration = Duration::from_secs(5);
const TAP: u32 = 7;

/// A VM and the agent that looks at it.
struct Tap {
    chooser: Chooser,
    index: u16,
    xdp: bool,
    /// What is chosen is done.
    obeyed: bool,
    now: Duration,
    counted: Mix,
    switched: Vec<(Duration, Why)>,
}

impl Tap {
    fn new(xdp: bool) -> Tap {
        let mut tap = Tap {
            chooser: Chooser::default(),
            index: 3,
            xdp,
            obeyed: true,
            now: Duration::from_secs(1000),
            counted: Mix { carried: 1 << 40, left: 1 << 41, super_packets: 1 << 42 },
            switched: Vec::new(),
        };
        tap.look();
        tap
    }

    fn look(&mut self) {
        let port = AdaptivePort { index: self.index, ifindex: TAP, xdp: self.xdp };
        if let Some(choice) = self.chooser.look(port, self.now, self.counted) {
            assert_ne!(choice.xdp, self.xdp, "a choice that changes nothing");
            if !self.obeyed {
                return;
            }
            self.xdp = choice.xdp;
            self.switched.push((self.now, choice.why));
        }
    }

    /// Sends so many a second for so many periods. XDP carries all datagrams, or none.
    fn sends(&mut self, datagrams: u64, super_packets: u64, carries: bool, periods: u32) -> &mut Tap {
        let per = |rate: u64| rate * PERIOD.as_millis() as u64 / 1000;
        for _ in 0..periods {
            self.now += PERIOD;
            let to = if self.xdp && carries { &mut self.counted.carried } else { &mut self.counted.left };
            *to += per(datagrams);
            self.counted.super_packets += per(super_packets);
            self.look();
        }
        self
    }

    fn whys(&self) -> Vec<Why> {
        self.switched.iter().map(|(_, why)| *why).collect()
    }
}

#[test]
fn xdp_comes_with_datagrams_and_goes_with_super_packets() {
    let mut tap = Tap::new(false);
    tap.sends(50_000, 0, true, 12);
    assert_eq!((tap.xdp, tap.whys()), (true, vec![Why::Datagrams]));
    // As long as it lasts, and while nothing is sent.
    tap.sends(50_000, 50, true, 100).sends(0, 0, true, 100);
    assert!(tap.xdp);
    tap.sends(10, 2000, true, 1);
    assert_eq!((tap.xdp, tap.whys()), (false, vec![Why::Datagrams, Why::SuperPackets]));
    tap.sends(10, 2000, true, 100).sends(0, 0, true, 100);
    assert_eq!(tap.switched.len(), 2);
}

#[test]
fn what_is_not_worth_it_changes_nothing() {
    for (xdp, datagrams, super_packets) in [
        // Few.
        (false, 9_000, 0),
        (true, 9_000, 0),
        (true, 0, 90),
        // Between.
        (false, 40_000, 2000),
        (true, 40_000, 2000),
        (false, 0, 0),
        (true, 0, 0),
    ] {
        let mut tap = Tap::new(xdp);
        tap.sends(datagrams, super_packets, true, 200);
        assert!(tap.switched.is_empty(), "{datagrams} and {super_packets}: {:?}", tap.switched);
    }
}

#[test]
fn a_burst_is_not_a_habit() {
    let mut tap = Tap::new(false);
    for _ in 0..50 {
        tap.sends(100_000, 0, true, 1).sends(0, 0, true, 3);
    }
    assert!(tap.switched.is_empty());
}

#[test]
fn what_xdp_cannot_carry_does_not_keep_it() {
    let mut tap = Tap::new(false);
    tap.sends(50_000, 0, false, 240);
    let whys = tap.whys();
    assert_eq!(whys[..2], [Why::Datagrams, Why::Useless]);
    // Tried again, but ever more seldom: two minutes have gone by.
    assert!(whys.len() <= 8, "{whys:?}");
}

#[test]
fn a_vm_that_plays_with_it_is_answered_ever_more_seldom() {
    let mut tap = Tap::new(false);
    for _ in 0..360 {
        tap.sends(100_000, 0, true, 10).sends(0, 10_000, true, 10);
    }
    // An hour, in which XDP stayed away for 10, 20, 40, 80, 160 and then 320 seconds.
    assert!((20..=36).contains(&tap.switched.len()), "{} switches", tap.switched.len());
    // It has done with that.
    tap.sends(100_000, 0, true, 1000);
    let before = tap.switched.len();
    assert!(tap.xdp);
    tap.sends(0, 10_000, true, 12).sends(100_000, 0, true, 12);
    assert_eq!((tap.xdp, tap.switched.len()), (true, before + 2));
}

#[test]
fn a_slots_new_owner_is_not_taken_for_the_old_one() {
    let mut tap = Tap::new(false);
    tap.sends(0, 0, true, 20);
    tap.counted = Mix::default();
    tap.sends(0, 0, true, 1);
    tap.chooser.retain(|_| false);
    tap.counted = Mix { left: u64::MAX, ..Mix::default() };
    tap.sends(0, 0, true, 2);
    assert!(tap.switched.is_empty());
}

#[test]
fn a_port_in_another_slot_counts_from_there() {
    let mut tap = Tap::new(true);
    tap.sends(0, 0, true, 20);
    // A slot that another port has sent many super-packets from.
    (tap.index, tap.counted) = (4, Mix { super_packets: 1 << 43, ..tap.counted });
    tap.sends(0, 0, true, 2);
    assert!(tap.switched.is_empty(), "{:?}", tap.switched);
    // One whose counters begin, of which only some were ever beyond zero.
    tap.counted.super_packets = 0;
    tap.sends(0, 0, true, 2);
    (tap.index, tap.counted) = (5, Mix { super_packets: 5000, ..Mix::default() });
    tap.sends(0, 0, true, 1);
    // And one that keeps its slot, but not its counters.
    tap.counted = Mix { carried: 1, left: 1, super_packets: 5000 };
    tap.sends(0, 0, true, 2);
    tap.counted = Mix { super_packets: 10_000, ..Mix::default() };
    tap.sends(0, 0, true, 2);
    assert!(tap.switched.is_empty(), "{:?}", tap.switched);
    // From there on it is measured.
    tap.sends(10, 2000, true, 1);
    assert_eq!(tap.whys(), [Why::SuperPackets]);
}

#[test]
fn xdp_that_does_not_come_has_not_come() {
    let mut tap = Tap::new(false);
    tap.obeyed = false;
    tap.sends(50_000, 0, true, 127);
    assert!(!tap.xdp);
    // Somebody makes it come at last: from then on it stays for a while.
    (tap.xdp, tap.obeyed) = (true, true);
    let came = tap.now;
    tap.sends(10, 2000, true, 20);
    assert_eq!(tap.whys(), [Why::SuperPackets]);
    assert!(tap.switched[0].0 - came >= HOLD, "after {:?}", tap.switched[0].0 - came);
}

#[test]
fn xdp_that_does_not_go_has_not_gone() {
    let mut tap = Tap::new(true);
    tap.obeyed = false;
    tap.sends(10, 2000, true, 100);
    assert!(tap.xdp);
    tap.obeyed = true;
    tap.sends(10, 2000, true, 1);
    assert_eq!(tap.whys(), [Why::SuperPackets]);
    // It was of no use for less than a minute, once: so it comes back after ten seconds, not after minutes.
    tap.sends(50_000, 0, true, 24);
    assert_eq!(tap.whys(), [Why::SuperPackets, Why::Datagrams]);
}

proptest! {
    /// Whatever it sends, and however late it is looked at.
    #[test]
    fn a_port_does_not_flap(
        xdp: bool,
        looks in prop::collection::vec((0u64..3000, 0u64..100_000, 0u64..100_000, 0u64..10_000), 0..200),
    ) {
        let mut tap = Tap::new(xdp);
        for (ms, carried, left, super_packets) in looks {
            tap.now += Duration::from_millis(ms);
            tap.counted += Mix { carried, left, super_packets };
            tap.look();
        }
        for pair in tap.switched.windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 >= HOLD, "{pair:?}");
        }
    }

    /// A VM that always does the same has XDP for good, or not.
    #[test]
    fn a_steady_port_is_chosen_for_once(xdp: bool, datagrams in 0u64..1_000_000, super_packets in 0u64..100_000) {
        let mut tap = Tap::new(xdp);
        tap.sends(datagrams, super_packets, true, 400);
        prop_assert!(tap.switched.len() <= 1, "{:?}", tap.switched);
    }

    /// Any numbers at any time.
    #[test]
    fn nothing_overflows(looks in prop::collection::vec((any::<bool>(), any::<u64>(), any::<[u64; 3]>()), 0..20)) {
        let mut chooser = Chooser::default();
        for (xdp, ms, [carried, left, super_packets]) in looks {
            let counted = Mix { carried, left, super_packets };
            let port = AdaptivePort { index: 3, ifindex: TAP, xdp };
            if let Some(choice) = chooser.look(port, Duration::from_millis(ms), counted) {
                prop_assert!(!choice.to_string().is_empty());
            }
        }
    }
}
