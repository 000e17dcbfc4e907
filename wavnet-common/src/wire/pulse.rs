//! CONNECT_PULSE (docs/wire.md section 1): a number that comes back.

use super::be::Be16;
use crate::addr::Label;

/// The number of a pulse, 15 bits, and whether this is its answer.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PulseHdr(pub Be16);

impl PulseHdr {
    /// Bytes of it.
    pub const LEN: usize = 2;
    /// Says that it is an answer.
    const ANSWER: u16 = 0x8000;

    /// A pulse that asks for its answer.
    #[must_use]
    pub const fn request(number: Number) -> PulseHdr {
        PulseHdr(Be16::new(number.0))
    }

    /// The answer to a pulse.
    #[inline(always)]
    #[must_use]
    pub const fn answer(number: Number) -> PulseHdr {
        PulseHdr(Be16::new(number.0 | PulseHdr::ANSWER))
    }

    /// The number.
    #[inline(always)]
    #[must_use]
    pub fn number(&self) -> Number {
        Number::new(self.0.get())
    }

    /// True for an answer.
    #[inline(always)]
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.0.get() & PulseHdr::ANSWER != 0
    }
}

/// A pulse on its way to or from a relay.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayedPulseHdr {
    /// [`super::demux::RELAYED_PULSE`].
    pub kind: u8,
    /// The label.
    pub label: [u8; 3],
    /// The pulse itself.
    pub pulse: PulseHdr,
}

impl RelayedPulseHdr {
    /// Bytes of it.
    pub const LEN: usize = 6;

    /// A pulse to a relay.
    #[must_use]
    pub const fn new(label: Label, pulse: PulseHdr) -> RelayedPulseHdr {
        let [_, a, b, c] = label.get().to_be_bytes();
        RelayedPulseHdr { kind: super::demux::RELAYED_PULSE, label: [a, b, c], pulse }
    }

    /// The bytes as they are sent.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; RelayedPulseHdr::LEN] {
        let ([a, b, c], [hi, lo]) = (self.label, self.pulse.0.0);
        [self.kind, a, b, c, hi, lo]
    }
}

/// The number of a pulse: random, so that nobody can answer who has not seen it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Number(u16);

impl Number {
    /// Numbers are below this.
    pub const LIMIT: u16 = 0x8000;

    /// Of the lower 15 bits.
    #[inline(always)]
    #[must_use]
    pub const fn new(n: u16) -> Number {
        Number(n & (Number::LIMIT - 1))
    }

    /// The number.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::demux::{Kind, kind_of};

    #[test]
    fn a_pulse_says_its_number_and_whether_it_is_an_answer() {
        for n in [0, 1, 0x7fff] {
            let number = Number::new(n);
            let (request, answer) = (PulseHdr::request(number), PulseHdr::answer(number));
            assert_eq!((request.number(), request.is_answer()), (number, false));
            assert_eq!((answer.number(), answer.is_answer()), (number, true));
            assert_eq!(kind_of(&answer.0.0), Kind::Pulse);
        }
        assert_eq!(Number::new(0xffff).get(), 0x7fff);
    }

    #[test]
    fn a_relayed_pulse_is_known_for_one() {
        let pulse = RelayedPulseHdr::new(Label::new(0x0a_0b0c).unwrap(), PulseHdr::answer(Number::new(0x102)));
        assert_eq!(pulse.to_bytes(), [b'P', 0x0a, 0x0b, 0x0c, 0x81, 0x02]);
        assert_eq!(kind_of(&pulse.to_bytes()), Kind::RelayedPulse);
    }
}
