//! The benchmark: wavnet, the kernel's vxlan with a bridge, and a plain bridge, interleaved in one run on one topology.
//!
//! `docs/benchmarks.md` says how each figure comes about and what it is worth.

mod affinity;
mod case;
mod contender;
mod kernel;
mod overlay;
mod pinned;
mod plan;
mod report;
mod rig;
mod rtt;
mod sender;
mod setting;
mod test_run;
mod turns;

pub use case::Case;
pub use contender::Contender;
pub use plan::{Plan, run};
pub use report::{Against, Curve, Point, Report, Row, Summary, plots};
