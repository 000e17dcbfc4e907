//! The benchmark: wavnet, what the kernel offers for the same job, and what others made for it, interleaved in one run on one
//! topology.
//!
//! `docs/benchmarks.md` says how each figure comes about and what it is worth.

mod affinity;
mod case;
mod contender;
mod estimate;
mod frames;
mod machine;
mod pinned;
mod plan;
mod program;
mod report;
mod rig;
mod rtt;
mod scrape;
mod sender;
mod tcp;
mod test_run;

pub use case::Case;
pub use contender::Contender;
pub use machine::Disturbance;
pub use plan::{Plan, run};
pub use report::{Report, Row, Summary};
