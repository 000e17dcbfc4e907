//! Noise by the `snow` crate, without the system's randomness.
