//! What kind of NAT is in front of this host (RFC 4787, RFC 5780), and the four types of the papers (RFC 3489).
//!
//! [`Classifier`] asks STUN servers and watches which answers come through:
//!
//! - **Mapping** (RFC 5780 section 4.3): the main socket asks a server at both of its addresses and ports, and compares
//!   where it seems to be.
//! - **Filtering** (section 4.4): a fresh socket, which no other address knows, asks the server to answer from elsewhere.
//!   That an answer does not come says something only if the place that it should come from answers when it is asked
//!   directly, and the fresh socket's mapping is still the same after that: a server that lies about its addresses, or
//!   loss, is not taken for a filter.
//! - **Hairpin** (section 3.4): main and fresh socket each send to where the other one seems to be, both, so that a
//!   NAT that filters does not hide one that hairpins.
//! - **Lifetime** (section 4.6): fresh sockets, a different idle time for each, all at once: the longest of them is how
//!   long it takes, and not their sum. The main socket then has the server answer to each (RESPONSE-PORT). Optional, for it
//!   takes minutes.
//!
//! At last the main socket asks again where it seems to be: if its mapping has moved meanwhile, everything is done once more,
//! and if that happens again, [`NatSummary::unstable`] says so.
//!
//! A classifier is for one family of addresses; a host that has both has two.
//!
//! Like every core it has no clock and no socket. After each `handle_…` call `poll_transmit` and `poll_event` until they return
//! `None`, then sleep until `poll_timeout` at the latest.

mod attempt;
mod classifier;
mod course;
mod kind;
mod lifetime;
mod options;
mod probe;
mod report;
mod summary;
mod targets;
mod transaction;
mod verdict;

pub use classifier::{Classifier, Random};
pub use kind::{Filtering, Mapping, PaperType, Ports, Situation};
pub use options::{LifetimeSearch, Options, Retransmission, StunServer};
pub use report::{Event, Lifetime, Note, Report};
pub use summary::NatSummary;
