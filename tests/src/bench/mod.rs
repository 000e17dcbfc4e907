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

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

pub use case::Case;
pub use contender::Contender;
pub use machine::Disturbance;
pub use plan::Plan;
pub use report::{Against, Curve, Point, Report, Row, Summary, plots};
pub use run::run;

/// What did not come by then does not come.
const TOO_LATE: Duration = Duration::from_secs(10);

/// Writes what a bench has found to a file, as JSON.
///
/// # Errors
/// It cannot be written.
pub fn write_json(path: &Path, found: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(found)? + "\n";
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
