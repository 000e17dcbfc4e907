//! See `mesh` in the module, through which stable tests replay the corpus.

#![no_main]

#[path = "../../tests/src/fuzz_mesh.rs"]
#[expect(unreachable_pub, reason = "a module of a library")]
mod fuzz;

use libfuzzer_sys::Corpus;

/// Stories that send more are judged like all others, but only one of so many (a power of two) is told again with changes: else the fuzzer would spend
/// its time on the longest, since these show most.
const LONG: u64 = 400;
const ONE_OF: u32 = 32;

libfuzzer_sys::fuzz_target!(|data: &[u8]| -> Corpus {
    let is_long = fuzz::mesh(data) > LONG;
    // FNV-1a, whose first bits depend on all of the input.
    let hash = data.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let is_kept = hash.leading_zeros() >= ONE_OF.trailing_zeros();
    if is_long && !is_kept { Corpus::Reject } else { Corpus::Keep }
});
