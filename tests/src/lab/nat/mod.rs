//! Routers with the kinds of NAT that there are, made of namespaces and nftables.
//!
//! ```text
//!                        Internet ── PublicHost (rendezvous, STUN)
//!                       /        \
//!   WanLink (optional) │          │
//!                    Router     Router          LAN: a bridge; hosts reach each other on it
//!                   /   │ LAN      │ LAN
//!               Host  Host       Router ─ LAN ─ Host      two NATs in a row
//! ```
//!
//! What each kind is in the words of RFC 4787, and what is not as on a real router, stands in `docs/lab.md`.

pub mod classify;
pub mod conntrack;
pub mod kind;
pub mod router;
pub mod rules;
pub mod stun;
pub mod wavnet;

pub use conntrack::Peak;
pub use kind::{Behaviour, Classic, Dependence, NatKind, Ports};
pub use router::{Router, RouterSpec, Timeouts};
