//! Agents behind NATs find each other: the mesh core and the rendezvous core in simulated networks.

mod classified;
mod enemies;
mod families;
mod floods;
mod frames;
mod grid;
mod impostor;
mod keys;
mod labels;
mod left;
mod liar;
mod lifetime;
mod links;
mod moves;
mod nats;
mod node;
mod pulses;
mod relays;
mod roaming;
mod scale;
mod searches;
mod servers;
mod trouble;
mod twins;
mod vain;
mod world;
