//! What keeps a flow's frames in order where two programs may carry them: XDP at once, TC a moment later.

use super::Plain;

/// Frames that XDP has passed up and TC has not seen yet, on one CPU: of one port, or, on the underlay, of one VNI.
///
/// While there are any, XDP carries nothing itself that might overtake them. TCP does not count: it always goes up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    waiting: u32,
    /// When the first of them was passed, milliseconds (2^20 ns).
    since: u32,
}

impl Gate {
    /// Frames wait for the end of a poll, not for so many milliseconds. What is still missing then never comes: TC ran on another
    /// CPU (RPS), or the kernel merged frames.
    const PATIENCE: u32 = 100;

    const fn tick(now_ns: u64) -> u32 {
        (now_ns >> 20) as u32
    }

    /// XDP passes a frame up.
    #[inline(always)]
    pub const fn passed(&mut self, now_ns: u64) {
        if self.waiting == 0 {
            self.since = Gate::tick(now_ns);
        }
        self.waiting = self.waiting.wrapping_add(1);
    }

    /// TC sees a frame, which stands for so many.
    #[inline(always)]
    pub const fn seen(&mut self, frames: u64) {
        let waiting = self.waiting as u64;
        self.waiting = if frames < waiting { (waiting - frames) as u32 } else { 0 };
    }

    /// True if a frame must not be carried by XDP now.
    #[inline(always)]
    pub const fn is_closed(&mut self, now_ns: u64) -> bool {
        if self.waiting != 0 && Gate::tick(now_ns).wrapping_sub(self.since) > Gate::PATIENCE {
            self.waiting = 0;
        }
        self.waiting != 0
    }
}

/// When a port's flow last sent a super-packet of datagrams: [`Bulky::now`], zero for never.
///
/// XDP cannot carry a super-packet, and cannot even tell a small one from a frame; so these flows are TC's altogether.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bulky(pub u32);

impl Bulky {
    /// How many there are; flows share them.
    pub const COUNT: u32 = 4096;
    /// For how long a flow stays TC's, ticks.
    const MEMORY: u16 = 30;
    /// Keeps a word from being zero.
    const SET: u32 = 1 << 31;
    /// Ticks are seconds (2^30 ns), modulo so many.
    const TICKS: u16 = 1 << 15;

    /// Which of them is a flow's, by its hash and port.
    #[inline(always)]
    #[must_use]
    pub const fn slot(port_index: u16, hash: u32) -> u32 {
        (hash ^ (port_index as u32).wrapping_mul(0x9e37_79b9) >> 16) % Bulky::COUNT
    }

    /// The word of a flow of that port at this time: ticks above, the port below, so that nobody's flow is taken for another tenant's.
    #[inline(always)]
    #[must_use]
    pub const fn now(port_index: u16, now_ns: u64) -> Bulky {
        Bulky(Bulky::SET | ((now_ns >> 30) as u32 & (Bulky::TICKS as u32 - 1)) << 16 | port_index as u32)
    }

    /// True if the port's flow is TC's.
    #[inline(always)]
    #[must_use]
    pub const fn is_recent(self, port_index: u16, now_ns: u64) -> bool {
        let age = ((Bulky::now(port_index, now_ns).0 >> 16) as u16).wrapping_sub((self.0 >> 16) as u16);
        self.0 != 0 && self.0 as u16 == port_index && age & (Bulky::TICKS - 1) <= Bulky::MEMORY
    }
}

const _: () = assert!(size_of::<Gate>() == 8 && size_of::<Bulky>() == 4);
// SAFETY: repr(C) of integers without padding.
unsafe impl Plain for Gate {}
// SAFETY: as above.
unsafe impl Plain for Bulky {}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1 << 20;

    #[test]
    fn a_gate_is_closed_while_frames_wait() {
        let mut gate = Gate::default();
        assert!(!gate.is_closed(0));
        gate.passed(5 * MS);
        gate.passed(6 * MS);
        assert!(gate.is_closed(6 * MS));
        gate.seen(1);
        assert!(gate.is_closed(7 * MS));
        gate.seen(1);
        assert!(!gate.is_closed(7 * MS));
        gate.seen(9);
        gate.passed(8 * MS);
        assert!(gate.is_closed(8 * MS));
    }

    #[test]
    fn what_never_comes_is_not_waited_for_but_a_moment() {
        let mut gate = Gate::default();
        gate.passed(MS);
        for at in 2..=101 {
            assert!(gate.is_closed(at * MS), "{at}");
        }
        assert!(!gate.is_closed(102 * MS));
        // The next one has its own time.
        gate.passed(200 * MS);
        assert!(gate.is_closed(250 * MS));
    }

    #[test]
    fn a_flow_is_bulky_for_half_a_minute_on_its_port() {
        const S: u64 = 1 << 30;
        assert!(!Bulky::default().is_recent(0, 0));
        for start in [0, 32_760] {
            let seen = Bulky::now(7, start * S);
            assert!(seen.is_recent(7, (start + 30) * S) && !seen.is_recent(7, (start + 31) * S), "{start}");
            assert!(!seen.is_recent(8, start * S), "another port's");
        }
    }
}
