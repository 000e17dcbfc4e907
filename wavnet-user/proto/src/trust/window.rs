//! Which of a peer's datagrams came already: a sliding window over their counters.

use super::OpenError;

/// How many counters are told apart, the highest one included.
pub(super) const WINDOW: u64 = 1024;

/// One word more than the window has, so that it may begin within a word.
const WORDS: usize = WINDOW as usize / 64 + 1;

/// The counters that came. Words are used in turns; those of counters that are to come are zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// One more than the highest that came.
    next: u64,
    seen: [u64; WORDS],
}

impl Window {
    /// One more than the highest counter that came.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Refuses a counter that came, or might have.
    pub(super) fn check(&self, counter: u64) -> Result<(), OpenError> {
        if counter >= self.next {
            return Ok(());
        }
        if self.next - counter > WINDOW {
            return Err(OpenError::TooOld);
        }
        let (word, bit) = place(counter);
        if self.seen.get(word).is_none_or(|word| word & bit != 0) { Err(OpenError::Replayed) } else { Ok(()) }
    }

    /// Notes a counter that [`Window::check`] let pass.
    pub(super) fn note(&mut self, counter: u64) {
        if counter >= self.next {
            let (last, first) = (counter / 64, self.next.saturating_sub(1) / 64);
            for word in first.max(last.saturating_sub(WORDS as u64)) + 1..=last {
                self.word(word * 64, |word, _| *word = 0);
            }
            self.next = counter.saturating_add(1);
        }
        self.word(counter, |word, bit| *word |= bit);
    }

    fn word(&mut self, counter: u64, change: impl Fn(&mut u64, u64)) {
        let (word, bit) = place(counter);
        if let Some(word) = self.seen.get_mut(word) {
            change(word, bit);
        }
    }
}

/// Word and bit of a counter.
const fn place(counter: u64) -> (usize, u64) {
    ((counter / 64 % WORDS as u64) as usize, 1 << (counter % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// All counters that came, for ever.
    #[derive(Default)]
    struct Model(BTreeSet<u64>);

    impl Model {
        fn check(&self, counter: u64) -> Result<(), OpenError> {
            match self.0.last() {
                Some(highest) if highest.saturating_sub(counter) >= WINDOW => Err(OpenError::TooOld),
                _ if self.0.contains(&counter) => Err(OpenError::Replayed),
                _ => Ok(()),
            }
        }
    }

    /// Steps from the highest counter so far: a little on, a little back, around the window's end, far on.
    fn steps() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![
            8 => -3..4i64,
            4 => -1100..1100i64,
            2 => prop_oneof![-1026..-1021i64, 1021..1027i64, 1086..1091i64],
            1 => 0..1i64 << 40,
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        #[test]
        fn answers_as_a_set_of_all_counters(start in prop_oneof![Just(0), 0..3000u64], steps in steps()) {
            let (mut window, mut model, mut highest) = (Window::default(), Model::default(), start);
            for step in std::iter::once(0).chain(steps) {
                let counter = highest.saturating_add_signed(step);
                prop_assert_eq!(window.check(counter), model.check(counter), "counter {}", counter);
                if window.check(counter).is_ok() {
                    window.note(counter);
                    model.0.insert(counter);
                    highest = highest.max(counter);
                }
                prop_assert_eq!(window.next(), highest + 1);
            }
        }
    }

    #[test]
    fn holds_a_full_window() {
        let mut window = Window::default();
        for counter in 0..3 * WINDOW {
            assert_eq!(window.check(counter), Ok(()));
            window.note(counter);
        }
        for counter in 0..3 * WINDOW {
            let expected = if counter < 2 * WINDOW { OpenError::TooOld } else { OpenError::Replayed };
            assert_eq!(window.check(counter), Err(expected), "{counter}");
        }
    }
}
