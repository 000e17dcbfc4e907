//! CONNECT_PULSE to a server: it keeps the mapping open, and says whether the server lives and whether this host is cut off.

use std::time::Duration;

use super::{Context, Health, Link, ServerTrouble, Time, Timer};

/// Between two pulses to a server that does not answer any; and while this host may be cut off from everybody: nothing else tells when that is over.
const DEAD_PAUSE: Duration = Duration::from_secs(5);
const CUT_OFF_PAUSE: Duration = Duration::from_millis(400);
/// Requests in a row that may be lost, or their answers.
const LOST_BY_CHANCE: u32 = 2;
/// Pulses are looked at no more often.
const TICK: Duration = Duration::from_millis(20);

impl Link {
    /// [`Timer::ServerPulse`]. `cut_off`: no server answers, and a peer is not to be reached.
    pub(in crate::mesh) fn pulse(&mut self, cx: &mut Context<'_>, cut_off: bool) {
        if self.session.is_none() {
            return;
        }
        let health = self.pulses.health(cx.now);
        if self.pulses.next(cx.now) <= cx.now {
            let pulse = self.pulses.send(cx.now, cx.rng);
            cx.out.send_main(self.server.addr, pulse.to_vec());
            // Where pulses do not come back a message may, and tells the server our address.
            match health {
                Health::Good => {}
                Health::Doubtful => self.moved(cx),
                Health::Dead => self.doubt(cx),
            }
        }
        let earliest = cx.now
            + match health {
                Health::Dead if cut_off => CUT_OFF_PAUSE,
                Health::Dead => DEAD_PAUSE,
                _ => TICK,
            };
        cx.timers.set(Timer::ServerPulse(self.index), self.pulses.next(cx.now).max(earliest));
    }

    /// A pulse of ours came back. True if the server had not answered for a while.
    pub(in crate::mesh) fn pulsed(&mut self, cx: &mut Context<'_>, number: u16) -> bool {
        let was_silent = self.is_silent(cx.now);
        let answers = self.pulses.answered(cx.now, number).is_some();
        if answers && self.has_expired(cx.now) {
            self.greet_now(cx);
        }
        answers && was_silent
    }

    /// True if it has not answered for longer than chance explains.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        let told = self.trouble == Some(ServerTrouble::Silent);
        told || self.requests > LOST_BY_CHANCE || self.pulses.health(now) == Health::Dead
    }
}
