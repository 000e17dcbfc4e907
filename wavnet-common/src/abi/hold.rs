//! Frames to a peer that are held back for a while, so that they do not overtake those before them on a slower path.
//!
//! What is held back goes to an interface of the agent's (a tap), which sends it on when the time has come. From then on, until the last of
//! those has been sent on, what comes follows them.

use core::sync::atomic::AtomicU64;

use crate::word::{add, load, store};

/// What becomes of frames to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hold {
    /// They are sent.
    #[default]
    Normal,
    /// They are held back.
    Hold,
    /// They are held back as long as some that were before them have not been sent on.
    Drain,
}

impl Hold {
    const fn to_word(self) -> u64 {
        match self {
            Hold::Normal => 0,
            Hold::Hold => 1,
            Hold::Drain => 2,
        }
    }

    const fn from_word(word: u64) -> Hold {
        match word {
            1 => Hold::Hold,
            2 => Hold::Drain,
            _ => Hold::Normal,
        }
    }
}

/// `HOLDS[i]`: of the peer with this index in `VTEPS`. The programs look here only while [`super::VtepFlags::HELD`] is set.
#[repr(C, align(32))]
#[derive(Debug, Default)]
pub struct HoldRow {
    state: AtomicU64,
    /// Frames that were held back, since ever: each segment of a super-packet is one. Written by the programs.
    held: AtomicU64,
    /// As many of them as the agent has sent on, or given up. Written by the agent.
    released: AtomicU64,
    reserved: AtomicU64,
}

/// [`HoldRow`] as plain memory.
pub type HoldWords = [u64; 4];

const _: () = assert!(size_of::<HoldRow>() == size_of::<HoldWords>());

impl HoldRow {
    /// Puts another state in force.
    pub fn set(&self, hold: Hold) {
        store(&self.state, hold.to_word());
    }

    /// The state in force.
    #[must_use]
    pub fn get(&self) -> Hold {
        Hold::from_word(load(&self.state))
    }

    /// True if a frame is to be held back now.
    #[inline(always)]
    #[must_use]
    pub fn holds(&self) -> bool {
        match Hold::from_word(load(&self.state)) {
            Hold::Normal => false,
            Hold::Hold => true,
            Hold::Drain => load(&self.held) != load(&self.released),
        }
    }

    /// So many frames are being held back.
    #[inline(always)]
    pub fn hold(&self, frames: u64) {
        add(&self.held, frames);
    }

    /// Frames that were held back, and how many of them were sent on.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        // In this order: what is held back in between seems to be still here.
        let released = load(&self.released);
        (load(&self.held), released)
    }

    /// Says how many frames have been sent on, or given up, since ever.
    pub fn release(&self, released: u64) {
        store(&self.released, released);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drained_follows_what_is_held() {
        let row = HoldRow::default();
        assert!(!row.holds());
        row.set(Hold::Hold);
        assert!(row.holds());
        row.hold(1);
        row.hold(44);
        row.set(Hold::Drain);
        assert_eq!((row.get(), row.counts()), (Hold::Drain, (45, 0)));
        row.release(44);
        assert!(row.holds());
        row.hold(1);
        row.release(45);
        assert!(row.holds(), "one more came meanwhile");
        row.release(46);
        assert!(!row.holds());
        row.set(Hold::Normal);
        assert!(!row.holds());
    }
}
