//! What happens to hypervisors that have found each other: agents, servers and routers that end, move and start anew, and enemies.

mod agents;
mod dead;
mod former;
mod gone;
mod moves;
mod servers;
mod strangers;
