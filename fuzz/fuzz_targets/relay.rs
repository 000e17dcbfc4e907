//! See `relay` in the module, through which stable tests replay the corpus.

#![no_main]

#[path = "../../tests/src/fuzz.rs"]
#[expect(dead_code, unreachable_pub, reason = "a module of a library; each target uses one of its functions")]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::relay(data));
