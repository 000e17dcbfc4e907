//! Agents behind NATs find each other: the mesh core and the rendezvous core in simulated networks.

mod enemies;
mod frames;
mod grid;
mod keys;
mod left;
mod liar;
mod links;
mod moves;
mod nats;
mod node;
mod relays;
mod scale;
mod servers;
mod trouble;
mod twins;
mod world;
