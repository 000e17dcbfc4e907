//! Where the datagrams of dynamic peers come from: peers that have no address of their own, but a place at a NAT, or a label at a relay.

use core::{net::SocketAddrV4, sync::atomic::AtomicU64};

use super::LocalPort;
use crate::{
    addr::Label,
    wire::pulse::Number,
    word::{exchange, load, store},
};

/// Who is seen to send a datagram, and to which of our ports. Two of our ports are two places at a NAT, so paths by both may come from one
/// endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arrival {
    /// Outer source address, wire order.
    pub addr: [u8; 4],
    /// Outer source port.
    pub port: u16,
    /// Our port.
    pub to: LocalPort,
}

impl Arrival {
    /// From an endpoint.
    #[must_use]
    pub const fn new(from: SocketAddrV4, to: LocalPort) -> Arrival {
        Arrival { addr: from.ip().octets(), port: from.port(), to }
    }

    /// The endpoint.
    #[must_use]
    pub fn from(self) -> SocketAddrV4 {
        SocketAddrV4::new(self.addr.into(), self.port)
    }
}

/// Where a datagram comes from: a key of `PATH_OF_SOURCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Straight from an address and UDP port.
    Endpoint(Arrival),
    /// By way of a relay.
    Relayed {
        /// The agent's number for the relay.
        relay: u16,
        /// The session.
        label: Label,
    },
}

impl Source {
    /// Keeps the word from being zero.
    const TAG: u64 = 1 << 63;
    const RELAYED: u64 = 1 << 62;

    /// As it stands in a bucket: beyond the bit that is not for keys go the port's upper byte and which port of ours it is.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        match self {
            Source::Endpoint(Arrival { addr, port, to }) => {
                let port = ((port & 0xff) as u64) << 32 | ((port >> 8) as u64) << 41;
                Source::TAG | (to.get() as u64) << 49 | port | u32::from_ne_bytes(addr) as u64
            }
            Source::Relayed { relay, label } => {
                Source::TAG | Source::RELAYED | (relay as u64) << 24 | label.get() as u64
            }
        }
    }

    /// The other way round.
    #[must_use]
    pub const fn from_word(word: u64) -> Source {
        if word & Source::RELAYED != 0 {
            return Source::Relayed { relay: (word >> 24) as u16, label: Label::of_word(word as u32) };
        }
        let port = (word >> 32) as u16 & 0xff | ((word >> 41) as u16) << 8;
        let to = LocalPort::of_word((word >> 49) as u16);
        Source::Endpoint(Arrival { addr: (word as u32).to_ne_bytes(), port, to })
    }
}

/// What is there: a value of `PATH_OF_SOURCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A path: index in `PATHS`.
    Path(u16),
    /// A relay, by the agent's number: the label says who sends.
    Relay(u16),
}

impl At {
    const RELAY: u64 = 1 << 16;

    /// As it stands in a bucket.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        match self {
            At::Path(index) => index as u64,
            At::Relay(number) => At::RELAY | number as u64,
        }
    }

    /// The other way round.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> At {
        if word & At::RELAY != 0 { At::Relay(word as u16) } else { At::Path(word as u16) }
    }
}

/// A path as the agent writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where its datagrams come from.
    pub source: Source,
    /// Whose frames come by it: index in `VTEPS`; `None`: no frames, but pulses.
    pub vtep_index: Option<u16>,
}

/// What a path says to the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About(u64);

impl About {
    const FRAMES: u64 = 1 << 16;

    const fn new(path: &Path) -> About {
        let (frames, vtep_index) = match path.vtep_index {
            Some(index) => (About::FRAMES, index),
            None => (0, 0),
        };
        About(frames | vtep_index as u64)
    }

    /// As it stands in `PATHS`: 17 bits.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// The other way round.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> About {
        About(word)
    }

    /// [`Path::vtep_index`].
    #[inline(always)]
    #[must_use]
    pub const fn vtep_index(self) -> Option<u16> {
        if self.0 & About::FRAMES != 0 { Some(self.0 as u16) } else { None }
    }
}

/// `PATHS[i]`: a path, and what is known of its pulses. One cache line.
///
/// The agent writes all of it but `asked`, and the programs answer in `pulses`: each word is one pulse that the agent has sent, waiting
/// for its answer or answered. Up to four may be under way, told apart by the lower two bits of their numbers.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct PathRow {
    /// [`Source::to_word`]; zero: the slot is free. Whoever found the slot by an entry that is out of date finds another one here.
    source: AtomicU64,
    about: AtomicU64,
    /// When the other side last sent a pulse, CLOCK_MONOTONIC nanoseconds; zero: never.
    asked: AtomicU64,
    pulses: [AtomicU64; PathRow::PULSES],
    reserved: AtomicU64,
}

/// [`PathRow`] as plain memory.
pub type PathWords = [u64; 8];

const _: () = assert!(size_of::<PathRow>() == size_of::<PathWords>());

impl PathRow {
    /// Pulses that may be under way at the same time.
    pub const PULSES: usize = 4;
    /// In a word of `pulses`: the answer is still to come. Otherwise: when it came, and the number.
    const WAITING: u64 = 1 << 63;
    /// Where the time is; it is known modulo 2^48 ns, which are three days.
    const TIME_SHIFT: u32 = 15;
    const TIME_MASK: u64 = (1 << 48) - 1;

    /// Writes the slot; `None` frees it. Where another path was, nothing is known of pulses then.
    pub fn set(&self, path: Option<&Path>) {
        if let Some(path) = path.filter(|path| load(&self.source) == path.source.to_word()) {
            return store(&self.about, About::new(path).0);
        }
        // First nobody's, last somebody's: no program sees half of it.
        store(&self.source, 0);
        for word in [&self.about, &self.asked].into_iter().chain(&self.pulses) {
            store(word, 0);
        }
        if let Some(path) = path {
            store(&self.about, About::new(path).0);
            store(&self.source, path.source.to_word());
        }
    }

    /// What was written; `None`: the slot is free.
    #[must_use]
    pub fn get(&self) -> Option<Path> {
        let source = load(&self.source);
        let about = About(load(&self.about));
        let path = || Path { source: Source::from_word(source), vtep_index: about.vtep_index() };
        (source != 0).then(path)
    }

    /// What the slot says if it is that of this source.
    #[inline(always)]
    #[must_use]
    pub fn of(&self, source: u64) -> Option<About> {
        if load(&self.source) != source {
            return None;
        }
        let about = About(load(&self.about));
        // It may have been given to another one in between.
        if load(&self.source) == source { Some(about) } else { None }
    }

    #[inline(always)]
    fn pulse(&self, number: Number) -> &AtomicU64 {
        let [a, b, c, d] = &self.pulses;
        match number.get() % PathRow::PULSES as u16 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        }
    }

    /// A pulse is about to be sent. One that was under way in the same place is given up.
    pub fn expect(&self, number: Number) {
        store(self.pulse(number), PathRow::WAITING | u64::from(number.get()));
    }

    /// An answer came, at this time; `false`: to nothing that was asked, or for the second time.
    #[inline(always)]
    #[must_use]
    pub fn answered(&self, number: Number, now_ns: u64) -> bool {
        let word = number.get() as u64;
        let at = (now_ns & PathRow::TIME_MASK) << PathRow::TIME_SHIFT | word;
        exchange(self.pulse(number), PathRow::WAITING | word, at)
    }

    /// When the answer to a pulse came, if it did: CLOCK_MONOTONIC nanoseconds, no later than `now_ns`.
    #[must_use]
    pub fn answer(&self, number: Number, now_ns: u64) -> Option<u64> {
        let word = load(self.pulse(number));
        let came = word & PathRow::WAITING == 0 && word & u64::from(Number::LIMIT - 1) == u64::from(number.get());
        let ago = now_ns.wrapping_sub(word >> PathRow::TIME_SHIFT) & PathRow::TIME_MASK;
        // A word that nobody has written says that number zero came at time zero.
        (came && word >> PathRow::TIME_SHIFT != 0).then_some(now_ns.wrapping_sub(ago))
    }

    /// The other side has sent a pulse.
    #[inline(always)]
    pub fn asked(&self, now_ns: u64) {
        store(&self.asked, now_ns);
    }

    /// When the other side last sent a pulse, CLOCK_MONOTONIC nanoseconds; `None`: never.
    #[must_use]
    pub fn last_asked(&self) -> Option<u64> {
        Some(load(&self.asked)).filter(|at| *at != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buckets::{CLAIM, PAYLOAD};

    fn source() -> impl Strategy<Value = Source> {
        let endpoint = any::<([u8; 4], u16, u16)>()
            .prop_map(|(addr, port, to)| Source::Endpoint(Arrival { addr, port, to: LocalPort::of_word(to) }));
        let relayed =
            any::<(u16, u32)>().prop_map(|(relay, label)| Source::Relayed { relay, label: Label::of_word(label) });
        prop_oneof![endpoint, relayed]
    }

    proptest! {
        #[test]
        fn sources_are_keys_that_are_read_back(a in source(), b in source()) {
            prop_assert_eq!(Source::from_word(a.to_word()), a);
            prop_assert!(a.to_word() & CLAIM == 0 && a.to_word() != 0);
            prop_assert_eq!(a == b, a.to_word() == b.to_word());
        }

        #[test]
        fn what_is_there_is_a_value_that_is_read_back(n: u16) {
            for at in [At::Path(n), At::Relay(n)] {
                prop_assert_eq!(At::from_word(at.to_word()), at);
                prop_assert_eq!(at.to_word() & !PAYLOAD, 0);
            }
        }

        #[test]
        fn a_path_is_read_back(source in source(), vtep_index: Option<u16>) {
            let (row, path) = (PathRow::default(), Path { source, vtep_index });
            row.set(Some(&path));
            prop_assert_eq!(row.get(), Some(path));
            let about = row.of(source.to_word());
            prop_assert_eq!(about.map(About::vtep_index), Some(vtep_index));
            prop_assert_eq!(row.of(source.to_word() ^ 1), None);
            row.set(None);
            prop_assert_eq!((row.get(), row.of(source.to_word())), (None, None));
        }

        #[test]
        fn an_answer_is_noted_once_and_to_the_nanosecond(n: u16, other: u16, sent in 1u64..1 << 62, rtt in 0u64..1 << 40) {
            let (number, other) = (Number::new(n), Number::new(other));
            let row = PathRow::default();
            prop_assert_eq!(row.answer(number, sent), None);
            prop_assert!(!row.answered(number, sent), "nothing was asked");
            row.expect(number);
            prop_assert_eq!(row.answer(number, sent), None);
            if other != number {
                prop_assert!(!row.answered(other, sent));
            }
            let came = sent + rtt;
            prop_assume!(came & PathRow::TIME_MASK != 0);
            prop_assert!(row.answered(number, came));
            prop_assert!(!row.answered(number, came + 9), "twice");
            prop_assert_eq!(row.answer(number, came), Some(came));
            prop_assert_eq!(row.answer(number, came + (1 << 47)), Some(came));
            if other != number {
                prop_assert_eq!(row.answer(other, came), None);
            }
        }
    }

    #[test]
    fn four_pulses_may_be_under_way() {
        let row = PathRow::default();
        let numbers = [4, 5, 6, 7].map(Number::new);
        numbers.iter().for_each(|n| row.expect(*n));
        for (i, number) in numbers.into_iter().enumerate().rev() {
            assert!(row.answered(number, 100 + i as u64));
        }
        let came = numbers.map(|n| row.answer(n, 1000));
        assert_eq!(came, [Some(100), Some(101), Some(102), Some(103)]);
        row.expect(Number::new(8));
        assert_eq!(row.answer(Number::new(4), 1000), None, "its place is taken");
        assert!(!row.answered(Number::new(4), 1000));
    }

    #[test]
    fn a_slot_that_is_given_to_another_forgets_its_pulses() {
        let row = PathRow::default();
        let from = |port, to| Source::Endpoint(Arrival { addr: [192, 0, 2, 1], port, to });
        let path = Path { source: from(4789, LocalPort::MAIN), vtep_index: None };
        row.set(Some(&path));
        row.expect(Number::new(3));
        row.asked(7);
        assert_eq!(row.last_asked(), Some(7));
        row.set(Some(&Path { vtep_index: Some(4), ..path }));
        assert_eq!(row.last_asked(), Some(7), "it is the same path");
        for source in [from(4790, LocalPort::MAIN), from(4790, LocalPort::of_word(1))] {
            row.set(Some(&Path { source, ..path }));
            assert!(!row.answered(Number::new(3), 9));
            assert_eq!(row.last_asked(), None);
            row.expect(Number::new(3));
            row.asked(7);
        }
    }
}
