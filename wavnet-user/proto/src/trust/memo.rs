//! X25519 and HKDF for fuzzers: the same results, but each is computed once. In stories of some hosts the same keys meet again and again, and
//! computing what comes of it would take most of the time. What is remembered are secrets, so nothing but a fuzzer is built with this.

#![expect(clippy::disallowed_types, reason = "looked up by key alone, and more often than anything else")]

use std::{cell::RefCell, collections::HashMap, hash::Hash as Key};

use snow::types::Hash;

use super::x25519;

/// Results of a kind that are kept, some tens of megabytes; beyond it all are forgotten.
const MOST: usize = 1 << 17;

/// Chaining key and input (shorter ones with zeros behind them), its length, and how many outputs there are.
type Inputs = ([[u8; 32]; 2], usize, usize);

#[derive(Default)]
struct Memo {
    publics: HashMap<[u8; 32], [u8; 32]>,
    /// By both public keys, the smaller one first: it is the same for both sides.
    shared: HashMap<[[u8; 32]; 2], Option<[u8; 32]>>,
    derived: HashMap<Inputs, [[u8; 32]; 3]>,
}

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::default();
}

fn remember<K: Key + Eq, V: Copy>(known: &mut HashMap<K, V>, key: K, compute: impl FnOnce() -> V) -> V {
    if known.len() > MOST {
        known.clear();
    }
    *known.entry(key).or_insert_with(compute)
}

/// As [`x25519::public`].
pub(super) fn public(secret: &[u8; 32]) -> [u8; 32] {
    MEMO.with_borrow_mut(|memo| remember(&mut memo.publics, *secret, || x25519::public(secret)))
}

/// As [`x25519::shared`].
pub(super) fn shared(secret: &[u8; 32], remote: &[u8; 32]) -> Option<[u8; 32]> {
    let mut pair = [public(secret), *remote];
    pair.sort_unstable();
    MEMO.with_borrow_mut(|memo| remember(&mut memo.shared, pair, || x25519::shared(secret, remote)))
}

/// A hash function of 32 bytes whose HKDF is remembered.
pub(super) struct Derives(pub(super) Box<dyn Hash>);

impl Hash for Derives {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn block_len(&self) -> usize {
        self.0.block_len()
    }

    fn hash_len(&self) -> usize {
        self.0.hash_len()
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.input(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        self.0.result(out);
    }

    fn hkdf(&mut self, key: &[u8], input: &[u8], outputs: usize, one: &mut [u8], two: &mut [u8], three: &mut [u8]) {
        if key.len() != 32 || input.len() > 32 {
            return self.0.hkdf(key, input, outputs, one, two, three);
        }
        let (mut by, mut outs) = ([[0; 32]; 2], [one, two, three]);
        for (to, from) in by.iter_mut().zip([key, input]) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        let derived = MEMO.with_borrow_mut(|memo| {
            remember(&mut memo.derived, (by, input.len(), outputs), || {
                let mut derived = [[0; 32]; 3];
                let [one, two, three] = &mut derived;
                self.0.hkdf(key, input, outputs, one, two, three);
                derived
            })
        });
        for (out, derived) in outs.iter_mut().zip(derived).take(outputs) {
            out.iter_mut().zip(derived).for_each(|(to, from)| *to = from);
        }
    }
}

#[cfg(test)]
mod tests {
    use snow::{
        params::HashChoice,
        resolvers::{CryptoResolver, DefaultResolver},
    };

    use super::*;

    #[test]
    fn what_is_remembered_is_what_is_computed() {
        let secrets = [[1; 32], [2; 32], [0xff; 32]];
        // Any number, and one of low order.
        let numbers = [[9; 32], [0; 32]];
        for _ in 0..2 {
            for a in &secrets {
                assert_eq!(public(a), x25519::public(a));
                let others = secrets.iter().map(x25519::public).chain(numbers);
                others.for_each(|other| assert_eq!(shared(a, &other), x25519::shared(a, &other)));
            }
        }
        assert_eq!(shared(&secrets[0], &[0; 32]), None);
    }

    #[test]
    fn what_is_derived_again_is_the_same() {
        let blake2s = || DefaultResolver.resolve_hash(&HashChoice::Blake2s).unwrap();
        let inputs: [&[u8]; 6] = [&[], &[0], &[0, 0], &[7; 32], &[8; 32], &[8; 33]];
        for _ in 0..2 {
            for (key, input) in inputs.iter().flat_map(|input| [([1; 32], *input), ([2; 32], *input)]) {
                for outputs in 1..=3 {
                    let derive = |mut hash: Box<dyn Hash>| {
                        let [mut a, mut b, mut c] = [[0; 32]; 3];
                        hash.hkdf(&key, input, outputs, &mut a, &mut b, &mut c);
                        [a, b, c]
                    };
                    assert_eq!(derive(Box::new(Derives(blake2s()))), derive(blake2s()));
                }
            }
        }
    }
}
