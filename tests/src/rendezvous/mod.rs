//! A rendezvous server in a namespace, hosts that talk to it, and the load that it is measured with.

mod flood;
mod host;
mod memory;
mod pair;
mod server;
mod stun;

pub use flood::{Flood, flood};
pub use host::Host;
pub use memory::{register, resident};
pub use pair::Pair;
pub use server::{Server, Shape};
pub use stun::{Load, Rate, ask, cpu_seconds, keep_on, measure};
