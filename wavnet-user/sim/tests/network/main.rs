//! The simulated network, packet by packet: what a NAT, a link, a clock or an adversary in it does is what RFC 4787, or its name, says.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod adversary;
mod chatter;
mod filtering;
mod firewall;
mod hosts;
mod lab;
mod lifetime;
mod links;
mod mapping;
mod model;
mod nodes;
mod ports;
mod routers;
mod trace;
