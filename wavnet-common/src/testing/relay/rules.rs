//! What holds for every frame, whatever is in it.

use std::{boxed::Box, format, ops::Range};

use super::{RelayOutcome, RelayStimulus, RelayWorld};
use crate::{
    abi::relay::{Metered, RelayConfigFlags, RelayCount},
    relay::{Hook, Verdict},
    testing::frames::{UdpSum, checksum, summed},
};

impl RelayOutcome {
    /// What must hold.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check_rules(&self, stimulus: &RelayStimulus, world: &RelayWorld) -> Result<(), Box<str>> {
        let broken = |what: &str| Err(format!("{what}: {stimulus:?} became {self:?}").into_boxed_str());
        let count = |what| self.counts.get(&what).copied().unwrap_or_default();
        let (before, after) = (&stimulus.frame, &self.bytes);
        if self.counts.iter().filter(|(what, _)| !what.is_bytes()).map(|(_, n)| n).sum::<u64>() > 1 {
            return broken("counted twice");
        }
        let too_fast = stimulus.spent && stimulus.hook == Hook::Xdp && self.verdict == Verdict::Drop;
        if count(RelayCount::StunTooFast) != 0 && !too_fast || count(RelayCount::StunAnswered) != 0 && stimulus.spent {
            return broken("another number of answers than its source may have");
        }
        let sent = match self.verdict {
            Verdict::Pass | Verdict::Drop => {
                if self.verdict == Verdict::Pass && before != after {
                    return broken("what passes was changed");
                }
                if self.verdict == Verdict::Drop && self.counts.is_empty() {
                    return broken("dropped without a word");
                }
                return if count(RelayCount::RelayedByXdp) + count(RelayCount::RelayedByTc) == 0 {
                    Ok(())
                } else {
                    broken("counted as relayed")
                };
            }
            Verdict::Back => stimulus.ifindex,
            Verdict::Send { ifindex } => ifindex,
        };
        if count(RelayCount::StunAnswered) != 0 {
            return if self.is_an_answer(stimulus, world, sent) {
                Ok(())
            } else {
                broken("not the answer to a request")
            };
        }
        let payload = u64::from(u16::from_be_bytes([before[38], before[39]])) - 8;
        let counted = match stimulus.hook {
            Hook::Xdp => (count(RelayCount::RelayedByXdp), count(RelayCount::BytesByXdp)),
            Hook::Tc => (count(RelayCount::RelayedByTc), count(RelayCount::BytesByTc)),
        };
        if counted != (1, payload) || (self.metered.frames, self.metered.bytes) != counted {
            return broken("not counted as relayed");
        }
        if before.len() != after.len() || before[46..] != after[46..] || before[42] != after[42] {
            return broken("more than its headers was changed");
        }
        let addresses = |frame: &[u8]| -> [u8; 12] { core::array::from_fn(|i| frame[26 + i]) };
        let label = |frame: &[u8]| u32::from_be_bytes([0, frame[43], frame[44], frame[45]]);
        let leg = world.legs.iter().map(|(leg, ..)| leg).find(|leg| leg.label.get() == label(before));
        let Some(leg) = leg else { return broken("sent on by a label that nobody has") };
        let [hi, lo] = leg.from.port.to_be_bytes();
        if addresses(before)[..4] != leg.from.addr || addresses(before)[8..10] != [hi, lo] {
            return broken("sent on for another sender");
        }
        let [hi, lo] = leg.to.port.to_be_bytes();
        let config = &world.config;
        let wanted = [&config.local_v4[..], &leg.to.addr, &config.udp_port, &[hi, lo]].concat();
        if addresses(after) != wanted[..] || label(after) != leg.to_label.get() || after[40..42] != [0; 2] {
            return broken("sent on to somebody else");
        }
        if after[22] != before[22] - 1 || after[22] == 0 {
            return broken("its TTL is wrong");
        }
        if checksum(&before[14..34]) == 0 && checksum(&after[14..34]) != 0 {
            return broken("its checksum is wrong");
        }
        let link = world.links.iter().find(|link| link.ifindex == sent && sent != 0);
        if link.is_none_or(|link| link.mac != after[6..12]) {
            return broken("sent by no interface of ours");
        }
        Ok(())
    }

    /// True if who asked gets an answer, by the way that the request came, that is not more than twice as long.
    fn is_an_answer(&self, stimulus: &RelayStimulus, world: &RelayWorld, sent: u32) -> bool {
        let (before, after) = (&stimulus.frame, &self.bytes);
        let swapped = |a: Range<usize>, b: Range<usize>| before[a.clone()] == after[b.clone()] && before[b] == after[a];
        stimulus.hook == Hook::Xdp
            && world.config.flags & RelayConfigFlags::STUN != 0
            && sent == stimulus.ifindex
            && self.metered == Metered::default()
            && swapped(0..6, 6..12)
            && swapped(26..30, 30..34)
            && swapped(34..36, 36..38)
            && before[42..44] == [0, 1]
            && after[42..44] == [1, 1]
            && before[46..62] == after[46..62]
            && after.len() - 14 <= 2 * (before.len() - 14)
            && after[14..] == summed(after, UdpSum::Right)[14..]
            && checksum(&after[14..34]) == 0
            && checksum(&before[14..34]) == 0
    }
}
