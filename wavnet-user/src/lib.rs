//! wavnet in user space: the agent on each hypervisor and the operator's commands, as a library that the binary and the
//! tests share.

pub mod api;
pub mod config;
pub mod datapath;
pub mod metrics;
