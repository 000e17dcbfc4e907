//! A network in memory for the sans-IO cores of `wavnet-proto`, for tests and fuzzing.
//!
//! A scenario builds a [`Network`]: hosts on the public internet or on LANs, behind routers whose NATs and firewalls are described in the terms
//! of RFC 4787, with links between them that delay, lose, duplicate and reorder. Each host runs a [`Node`], has sockets and a clock of its own.
//! Nothing takes real time, and everything random comes from one [`Seed`]: a run that fails can be repeated event by event.
//!
//! ```
//! use std::{net::SocketAddr, time::Duration};
//!
//! use wavnet_proto::{time::Time, transmit::{Socket, Transmit}};
//! use wavnet_sim::{Direction, LinkConfig, Network, Node, RouterConfig, Seed, SegmentId, nat::NatConfig};
//!
//! /// Sends back what it gets, if it is told to, and counts it.
//! #[derive(Default)]
//! struct Echo {
//!     answers: bool,
//!     seen: Vec<SocketAddr>,
//!     out: Option<Transmit>,
//! }
//!
//! impl Node for Echo {
//!     fn handle_input(&mut self, _: Time, socket: Socket, _: SocketAddr, from: SocketAddr, payload: &[u8]) {
//!         self.seen.push(from);
//!         if self.answers {
//!             self.out = Some(Transmit { from: socket, to: from, payload: payload.to_vec() });
//!         }
//!     }
//!     fn handle_timeout(&mut self, _: Time) {}
//!     fn poll_timeout(&mut self) -> Option<Time> {
//!         None
//!     }
//!     fn poll_transmit(&mut self) -> Option<Transmit> {
//!         self.out.take()
//!     }
//! }
//!
//! let mut net = Network::new(Seed::from_env_or(1));
//! let internet = SegmentId::INTERNET;
//! let server = net.add_host(internet, &["192.0.2.1".parse()?], Echo { answers: true, ..Echo::default() });
//! let external = "198.51.100.1".parse()?;
//! let router = net.add_router(internet, RouterConfig::nat(external, "192.168.1.0/24".parse()?, NatConfig::symmetric()));
//! net.set_link(router, &LinkConfig::delayed(Duration::from_millis(10)));
//! let client = net.add_host(net.lan(router), &["192.168.1.2".parse()?], Echo::default());
//!
//! let to = net.main_address(server);
//! net.act(client, |node, _now| node.out = Some(Transmit { from: Socket::Main, to, payload: b"hello".to_vec() }));
//! let answered = net.run_until_met(net.now() + Duration::from_secs(1), |net| !net.node(client).seen.is_empty());
//! assert_eq!(answered, Some(Network::<Echo>::START + Duration::from_millis(20)));
//! assert_eq!(net.node(server).seen[0].ip(), external);
//! assert_eq!(net.router_stats(router).flows.peak, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is not modelled: ICMP, fragments, TCP, DHCP and other protocols than UDP; hosts with interfaces on two segments; port overloading.

mod adversary;
mod agent;
mod datagram;
mod host;
mod ids;
mod link;
pub mod nat;
mod network;
mod node;
mod prefix;
mod queue;
mod rng;
mod router;
mod seed;
mod server;
mod stats;
mod trace;
mod world;

pub use adversary::{Captured, Fate, Filter, FilterId, Passing, Place, TapId};
pub use agent::{Agent, Frame, VNI};
pub use datagram::Datagram;
pub use host::Asleep;
pub use ids::{Attached, Direction, HostId, RouterId, SegmentId};
pub use link::{Jitter, LinkConfig, Order, Rate};
pub use network::Network;
pub use node::{Node, OneOf, SocketRequest};
pub use prefix::{Prefix, PrefixError};
pub use rng::{Chance, Rng};
pub use router::{Ipv4, RouterConfig};
pub use seed::Seed;
pub use server::Server;
pub use stats::{Drops, Entries, HostStats, LinkStats, Reason, RouterStats, Totals};
