//! See `mesh` in the module, through which stable tests replay the corpus.

#![no_main]

#[path = "../../tests/src/fuzz_mesh.rs"]
#[expect(unreachable_pub, reason = "a module of a library")]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::mesh(data));
