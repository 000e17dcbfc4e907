//! What kind of NAT is in front of this host: sockets and a clock around [`wavnet_proto::nat::Classifier`].
//!
//! [`Runner`] has the sockets that a classification opens by itself, and leaves the main one to whoever owns it: the agent, whose data
//! and control share it, or a [`Session`], which is `wavnet nat`. [`info`] puts what comes out into words.

mod advice;
mod error;
mod exit;
mod names;
mod runner;
mod session;
mod view;

#[cfg(test)]
mod tests;

pub use error::{Family, NatError};
pub use exit::{Exit, ExitChoice};
pub use names::{PORTS, Server, ServerName, Unresolved, resolve};
pub use runner::{Runner, Step, Unsent};
pub use session::{Asked, Session, Told, open};
pub use view::{info, words};
