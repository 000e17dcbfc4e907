//! See `datagrams` in the module, through which stable tests replay the corpus.

#![no_main]

#[path = "../../tests/src/fuzz_datagrams.rs"]
#[expect(unreachable_pub, reason = "a module of a library")]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::datagrams(data));
