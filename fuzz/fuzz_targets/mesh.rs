//! See `mesh` in the module, through which stable tests replay the corpus.

#![no_main]

#[path = "../../tests/src/fuzz_mesh/mod.rs"]
#[expect(unused_imports, reason = "a module of a library; each target uses one of its functions")]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::mesh(data));
