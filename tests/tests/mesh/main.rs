//! Hypervisors behind real NATs find each other and exchange frames: real agents, real XDP, real routers.

mod agents;
mod dead;
mod ethernet;
mod former;
mod gone;
mod lifetime;
mod moves;
mod names;
mod paths;
mod routers;
mod seen;
mod servers;
mod strangers;
mod wan;
mod without_loss;
