//! A WAN: a public internet that hosts and routers are attached to, by links with delay, jitter, loss and a rate.
//!
//! The emulator is a thread that takes frames from one interface and gives them to another one: kernels without netem do, and what it
//! does is counted. What is pure about it ([`mod@line`], [`impairment`]) is tested on the host.

pub mod emulator;
pub mod impairment;
pub mod internet;
pub mod line;
pub mod link;
mod packet;

pub use emulator::{Counts, Emulator, Way};
pub use impairment::{Impairment, Jitter, Shaper};
pub use internet::{Internet, Network, Plug, PublicHost};
pub use link::{LinkSpec, WanLink};
