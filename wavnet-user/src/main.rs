//! The `wavnet` binary.
fn main() {}
