//! Sans-IO cores of the control plane.
//!
//! Everything here takes time, randomness and facts as arguments and answers with commands and events: no tokio, no aya, no
//! sockets, no clock. The manifest is the proof.

pub mod command;
