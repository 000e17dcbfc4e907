//! Hypervisors behind real NATs find each other and exchange frames: real agents, real XDP, real routers.

mod gone;
mod paths;
mod without_loss;
