//! Agents behind NATs find each other: the mesh core and the rendezvous core in simulated networks.

mod frames;
mod grid;
mod node;
mod scale;
mod trouble;
mod world;
