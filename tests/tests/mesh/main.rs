//! Hypervisors behind real NATs find each other and exchange frames: real agents, real XDP, real routers.

mod ethernet;
mod lifetime;
mod names;
mod paths;
mod routers;
mod seen;
mod wan;
mod without_loss;
