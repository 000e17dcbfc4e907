//! wavnet in user space: the agent on each hypervisor and the operator's commands, as a library that the binary and the
//! tests share.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod datapath;
pub mod doctor;
mod ethtool;
mod firsts;
pub mod metrics;
pub mod nat;
pub mod netlink;
mod notify;
pub mod output;
pub mod random;
pub mod rendezvous;
#[cfg(test)]
mod testing;
