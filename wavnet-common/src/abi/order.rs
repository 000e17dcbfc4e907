//! What keeps a flow's frames in order where two programs may carry them: XDP at once, TC a moment later.

use super::Plain;
use crate::addr::Mac;

/// Whose frames must not overtake each other: those from the underlay to one MAC of a VNI, or those of one flow from a port to one MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(u32);

/// Spreads a word over 32 bits, the upper ones best, by a seed that is the datapath's secret: no tenant shall find out whose place its
/// own meets.
#[inline(always)]
pub(super) const fn spread(word: u64, seed: u64) -> u32 {
    ((word ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

impl Lane {
    /// Frames from the underlay to a MAC.
    #[inline(always)]
    #[must_use]
    pub const fn to(seed: u64, vni_index: u16, dst: Mac) -> Lane {
        Lane(spread(dst.to_u64() | (vni_index as u64) << 48, seed))
    }

    /// Frames from a port, by the flow's hash and where they go: what has the same addresses and ports in its packet may go to a group.
    #[inline(always)]
    #[must_use]
    pub const fn from(seed: u64, port_index: u16, hash: u32, dst: Mac) -> Lane {
        Lane::to(!seed ^ (hash as u64) << 16, port_index, dst)
    }

    /// What tells lanes of one gate apart; never [`Gate::MIXED`].
    #[inline(always)]
    const fn tag(self) -> u16 {
        self.0 as u16 | 1
    }
}

/// Frames of a lane that XDP has passed up and TC has not seen yet, on one CPU.
///
/// While there are any, XDP carries nothing itself that might overtake them. It is the lane's alone, as the other way round is no
/// better: what XDP carries waits for the end of a poll, in which TC may see frames earlier. A flow that was XDP's must stay so whatever
/// other flows do. TCP does not count: it always goes up. Lanes that share a gate and wait at the same time are taken for one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    waiting: u16,
    lane: u16,
    /// When the first of them was passed, milliseconds (2^20 ns).
    since: u32,
}

impl Gate {
    /// Frames wait for the end of a poll, not for so many milliseconds. What is still missing then never comes: TC ran on another
    /// CPU (RPS), or the kernel merged frames.
    const PATIENCE: u32 = 100;
    /// In place of a lane's tag: several wait.
    const MIXED: u16 = 0;

    const fn tick(now_ns: u64) -> u32 {
        (now_ns >> 20) as u32
    }

    #[inline(always)]
    const fn is_of(&self, lane: Lane) -> bool {
        self.lane == lane.tag() || self.lane == Gate::MIXED
    }

    /// XDP passes a frame up.
    #[inline(always)]
    pub const fn passed(&mut self, lane: Lane, now_ns: u64) {
        if self.waiting == 0 {
            self.since = Gate::tick(now_ns);
            self.lane = lane.tag();
        } else if self.lane != lane.tag() {
            self.lane = Gate::MIXED;
        }
        self.waiting = self.waiting.saturating_add(1);
    }

    /// TC sees a frame, which stands for so many.
    #[inline(always)]
    pub const fn seen(&mut self, lane: Lane, frames: u64) {
        if self.is_of(lane) {
            let waiting = self.waiting as u64;
            self.waiting = if frames < waiting { (waiting - frames) as u16 } else { 0 };
        }
    }

    /// True if a frame must not be carried by XDP now.
    #[inline(always)]
    pub const fn is_closed(&mut self, lane: Lane, now_ns: u64) -> bool {
        if self.waiting == 0 || !self.is_of(lane) {
            return false;
        }
        if Gate::tick(now_ns).wrapping_sub(self.since) > Gate::PATIENCE {
            self.waiting = 0;
        }
        self.waiting != 0
    }
}

/// The gates of one CPU. Lanes share them; more than can wait during a poll are none too many.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Gates([Gate; Gates::COUNT]);

impl Gates {
    const COUNT: usize = 1024;
    /// All open.
    pub const OPEN: Gates = Gates([Gate { waiting: 0, lane: 0, since: 0 }; Gates::COUNT]);

    /// A lane's.
    #[inline(always)]
    pub const fn of(&mut self, lane: Lane) -> &mut Gate {
        &mut self.0[(lane.0 >> 16) as usize % Gates::COUNT]
    }
}

const _: () = assert!(size_of::<Gates>() == Gates::COUNT * 8);
// SAFETY: repr(C) of integers without padding.
unsafe impl Plain for Gates {}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1 << 20;

    const LANES: [Lane; 2] = [Lane(7), Lane(0xffff_0009)];

    #[test]
    fn a_gate_is_closed_while_frames_of_the_lane_wait() {
        let mut gate = Gate::default();
        let [lane, other] = LANES;
        assert!(!gate.is_closed(lane, 0));
        gate.passed(lane, 5 * MS);
        gate.passed(lane, 6 * MS);
        assert!(gate.is_closed(lane, 6 * MS));
        assert!(!gate.is_closed(other, 6 * MS), "another lane's frames do not wait");
        gate.seen(other, 2);
        gate.seen(lane, 1);
        assert!(gate.is_closed(lane, 7 * MS));
        gate.seen(lane, 1);
        assert!(!gate.is_closed(lane, 7 * MS));
        gate.seen(lane, 9);
        gate.passed(lane, 8 * MS);
        assert!(gate.is_closed(lane, 8 * MS));
    }

    #[test]
    fn lanes_that_wait_at_the_same_gate_wait_for_each_other() {
        let mut gate = Gate::default();
        let [a, b] = LANES;
        gate.passed(a, MS);
        gate.passed(b, MS);
        gate.seen(a, 1);
        assert!(gate.is_closed(a, MS) && gate.is_closed(b, MS));
        gate.seen(b, 1);
        assert!(!gate.is_closed(a, MS) && !gate.is_closed(b, MS));
        gate.passed(b, MS);
        assert!(!gate.is_closed(a, MS) && gate.is_closed(b, MS));
    }

    #[test]
    fn what_never_comes_is_not_waited_for_but_a_moment() {
        let mut gate = Gate::default();
        let [lane, _] = LANES;
        gate.passed(lane, MS);
        for at in 2..=101 {
            assert!(gate.is_closed(lane, at * MS), "{at}");
        }
        assert!(!gate.is_closed(lane, 102 * MS));
        // The next one has its own time.
        gate.passed(lane, 200 * MS);
        assert!(gate.is_closed(lane, 250 * MS));
    }

    #[test]
    fn lanes_are_spread_over_the_gates() {
        let mut gates = Gates::OPEN;
        for n in 0..4096 {
            let mac = Mac([2, 0, 0, 0, (n >> 8) as u8, n as u8]);
            for lane in [
                Lane::to(n << 24, 3, mac),
                Lane::to(5, 3, mac),
                Lane::to(5, n as u16, mac),
                Lane::from(5, 3, n as u32, mac),
                Lane::from(5, 3, n as u32, Mac::BROADCAST),
            ] {
                gates.of(lane).passed(lane, MS);
            }
        }
        let most = gates.0.iter().map(|gate| gate.waiting).max();
        assert!(gates.0.iter().all(|gate| gate.waiting != 0) && most < Some(64), "{most:?}");
    }
}
