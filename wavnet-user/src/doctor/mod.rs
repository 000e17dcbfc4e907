//! `wavnet doctor`: what wavnet needs on this host, what was found, and the mend.
//!
//! Each check is a fact read from the system and a pure judgement of it, which the tests cover.

mod host;
mod keys;
mod memory;
mod mesh;
mod underlay;

use std::{net::Ipv4Addr, path::PathBuf};

use comfy_table::{Cell, Color};
pub(crate) use host::lacks_capabilities;
use serde::Serialize;

use crate::{
    config::{Agent, Config, Mesh, Underlay},
    datapath::Sizes,
    output,
};
pub(crate) use underlay::checksum_warning;

/// What to check for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The underlay's interface; `None`: not checked.
    pub underlay: Option<String>,
    /// Our outer address, if configured.
    pub address: Option<Ipv4Addr>,
    /// UDP port of the VTEP.
    pub udp_port: u16,
    /// Largest MTU of a VNI, if configured.
    pub vni_mtu: Option<u32>,
    /// The programs' run time is to be measured.
    pub program_run_time: bool,
    /// Sizes of the tables.
    pub sizes: Sizes,
    /// Directory of the pins.
    pub bpffs: PathBuf,
    /// Socket of the agent.
    pub socket: PathBuf,
    /// Peers by rendezvous servers; `None`: none.
    pub mesh: Option<Mesh>,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            underlay: None,
            address: None,
            udp_port: Underlay::UDP_PORT,
            vni_mtu: None,
            program_run_time: false,
            sizes: Sizes::default(),
            bpffs: Agent::BPFFS.into(),
            socket: Agent::default().socket(),
            mesh: None,
        }
    }
}

impl From<&Config> for Asked {
    fn from(c: &Config) -> Asked {
        Asked {
            underlay: Some(c.underlay.interface.clone()),
            address: c.underlay.address,
            udp_port: c.underlay.udp_port,
            vni_mtu: c.vnis.iter().filter_map(|v| v.mtu).max(),
            program_run_time: c.metrics.program_run_time,
            sizes: c.sizes(),
            bpffs: c.agent.bpffs.clone(),
            socket: c.agent.socket(),
            mesh: c.mesh.clone(),
        }
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not at its best or not for everybody.
    Warn,
    /// wavnet cannot work like this.
    Fail,
    /// Could not be checked.
    Unknown,
}

impl Verdict {
    /// The name in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
            Verdict::Unknown => "unknown",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; null when nothing is.
    pub mend: Option<String>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, found: impl Into<String>, mend: impl Into<String>) -> Check {
        Check { name, verdict, found: found.into(), mend: Some(mend.into()) }
    }

    fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, found: found.into(), mend: None }
    }
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing that is required fails.
    pub ok: bool,
    /// In the order of the table.
    pub checks: Vec<Check>,
}

/// Checks everything. Changes nothing.
pub fn examine(asked: &Asked) -> Report {
    let mut checks = host::checks(asked);
    checks.push(memory::check(asked));
    checks.extend(underlay::checks(asked));
    checks.extend(asked.mesh.as_ref().map(keys::check));
    checks.extend(mesh::checks(asked));
    Report { ok: checks.iter().all(|c| c.verdict != Verdict::Fail), checks }
}

/// The report for people.
pub fn table(report: &Report, color: bool) -> String {
    let mut table = output::table(&["CHECK", "RESULT", "FOUND"], color);
    for c in &report.checks {
        let shade = match c.verdict {
            Verdict::Ok => Color::Green,
            Verdict::Warn | Verdict::Unknown => Color::Yellow,
            Verdict::Fail => Color::Red,
        };
        table.add_row([Cell::new(c.name), Cell::new(c.verdict.as_str()).fg(shade), Cell::new(&c.found)]);
    }
    let mut text = output::finish(&table);
    for c in &report.checks {
        if let Some(mend) = &c.mend {
            text += &format!("\n{} ({}): {mend}\n", c.name, c.verdict.as_str());
        }
    }
    text +=
        if report.ok { "\nwavnet can run here\n" } else { "\nwavnet cannot run here until what failed is mended\n" };
    text
}
