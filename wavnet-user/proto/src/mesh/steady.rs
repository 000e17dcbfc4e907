//! A clock that never goes back, made of one that may.

use std::time::Duration;

use crate::time::Time;

/// Later than any clock of a shell: sums of times and pauses stay exact.
const END: Time = Time::from_nanos(1 << 62);

/// What the mesh's own clock is ahead of the shell's: as much as that one has stepped back so far. Without it a timer that was set before
/// such a step would run out later by as much, and everything would stand still meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steady {
    last: Time,
    ahead: Duration,
}

impl Steady {
    /// The mesh's time when the shell's is this.
    pub(super) fn read(&mut self, shell: Time) -> Time {
        let at = self.of(shell);
        self.ahead = self.ahead.saturating_add(self.last.since(at));
        self.last = self.last.max(at);
        self.last
    }

    /// The mesh's time at an earlier moment of the shell's, as what the kernel has noted.
    pub(super) fn of(&self, shell: Time) -> Time {
        (shell + self.ahead).min(END)
    }

    /// The mesh's time when it was last read.
    pub(super) fn last(&self) -> Time {
        self.last
    }

    /// The shell's time when the mesh's will be this.
    pub(super) fn shell(&self, at: Time) -> Time {
        at - self.ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn it_goes_on_from_where_the_other_one_stepped_back() {
        let mut clock = Steady::default();
        assert_eq!([10, 12, 5, 6, 3, 30].map(|s| clock.read(at(s))), [10, 12, 12, 13, 13, 40].map(at));
        assert_eq!((clock.shell(at(50)), clock.of(at(31))), (at(40), at(41)));
        assert_eq!(clock.read(Time::from_nanos(u64::MAX)), END);
        assert_eq!(clock.read(at(1)), END);
    }
}
