//! The benchmark: wavnet, what the kernel offers for the same job, and what others made for it, interleaved in one run on one
//! topology.
//!
//! `docs/benchmarks.md` says how each figure comes about and what it is worth.

mod affinity;
mod case;
mod contender;
mod entry;
mod estimate;
mod machine;
pub mod mesh;
mod pinned;
mod plan;
mod report;
mod rig;
mod rtt;
mod run;
mod sender;
mod setting;
mod turns;
pub mod wan;

pub use case::Case;
pub use contender::Contender;
pub use machine::Disturbance;
pub use plan::Plan;
pub use report::{Against, Curve, Point, Report, Row, Summary, plots};
pub use run::run;
