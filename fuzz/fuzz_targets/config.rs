//! See `config` in the module, through which stable tests replay the corpus.

#![no_main]

#[path = "../../tests/src/fuzz.rs"]
#[expect(dead_code, reason = "each target uses one function of the module")]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::config(data));
