//! Sans-IO cores of the control plane.
//!
//! Everything here takes time, randomness and facts as arguments and answers with commands and events: no tokio, no aya, no
//! sockets, no clock. The manifest is the proof.
//!
//! - [`fabric`]: what the kernel's tables must hold, and the commands that get them there.
//! - [`adaptive`]: whether a tap has XDP.
//! - [`ageing`]: how often to look for FDB entries that are too old.
//! - [`command`]: what the cores ask their shell to do.
//! - [`relay`]: what the tables of the kernel's relay must hold.
//! - [`time`], [`transmit`]: what all of them have in common.

pub mod adaptive;
pub mod ageing;
pub mod command;
pub mod fabric;
pub mod relay;
pub mod time;
pub mod transmit;
