//! Sans-IO cores of the control plane.
//!
//! Everything here takes time, randomness and facts as arguments and answers with commands and events: no tokio, no aya, no
//! sockets, no clock. The proof: `cargo xtask ci pure` knows all crates below this one, and clippy.toml forbids what the standard
//! library has of that kind.
//!
//! - [`fabric`]: what the kernel's tables must hold, and the commands that get them there.
//! - [`adaptive`]: whether a tap has XDP.
//! - [`ageing`]: how often to look for FDB entries that are too old.
//! - [`held`]: frames that were held back while a peer changed its path.
//! - [`command`]: what the cores ask their shell to do.
//! - [`relay`]: what the tables of the kernel's relay must hold.
//! - [`wire`]: datagrams and messages of the control plane.
//! - [`trust`]: keys, handshakes and sessions.
//! - [`policy`]: who may be in a network.
//! - [`rendezvous`]: the server that hosts find each other by.
//! - [`nat`]: what kind of NAT is in front of this host.
//! - [`stun`]: the STUN codec, and a server.
//! - [`mesh`]: the agent among its peers: servers, handshakes, punching, paths.
//! - [`places`]: where those peers are, as the fabric is to have it.
//! - [`time`], [`timers`], [`bucket`], [`rng`], [`transmit`]: what all of them have in common.

pub mod adaptive;
pub mod ageing;
pub mod bucket;
pub mod command;
mod counted;
pub mod fabric;
pub mod held;
pub mod mesh;
pub mod nat;
pub mod places;
pub mod policy;
pub mod relay;
pub mod rendezvous;
pub mod rng;
pub mod stun;
pub mod time;
pub mod timers;
pub mod transmit;
pub mod trust;
pub mod wire;
