//! See `mesh` in the module, through which stable tests replay the corpus.

#![no_main]

#[path = "../../tests/src/fuzz_mesh.rs"]
#[expect(unreachable_pub, reason = "a module of a library")]
mod fuzz;

use libfuzzer_sys::Corpus;

/// Stories that send more are judged like all others, but most of them are not told again with changes: else the fuzzer would spend its time on the
/// longest, since these show most.
const LONG: u64 = 400;
const KEPT: u32 = 32;

libfuzzer_sys::fuzz_target!(|data: &[u8]| -> Corpus {
    let is_long = fuzz::mesh(data) > LONG;
    let is_kept = data.iter().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte))) % KEPT == 0;
    if is_long && !is_kept { Corpus::Reject } else { Corpus::Keep }
});
