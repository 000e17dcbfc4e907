//! What one run of each program costs, by test run.
//!
//! A program changes its frame, so that running it again on the same one would measure something else: each run is a test run
//! of its own on a fresh frame with the next MAC. The kernel times the program alone; what timing itself costs is measured by
//! programs that do nothing, and subtracted.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use aya::{
    maps::MapInfo,
    programs::{ProgramFd, loaded_programs},
};
use wavnet_common::{
    abi::{Count, HopFlags, NextHop, map, program},
    addr::Mac,
    datapath::OUTER_LEN,
    fdb::Place,
};
use wavnet_proto::command::Command;
use wavnet_user::datapath::{Error, Sizes};

use crate::bench::{
    affinity::{Side, pin},
    case::Case,
    machine::Disturbance,
    pinned::{MAX_INNER, ONLY, Pinned},
    rig::{small_frame, vni},
    turns::{Entrant, Turns},
};
use crate::{
    lab::{Lab, frame::Outer, programs::Programs},
    test_run::test_run,
};

/// Sizes of the FDB.
const MACS: [u32; 3] = [1, 1_000, 100_000];
/// Test runs behind one figure.
const SAMPLES: usize = 10_000;
/// Interrupts land in some runs: so many of the slowest, in hundredths, do not count.
const TRIMMED: usize = 2;
/// Runs between two heartbeats.
const BEAT: usize = 1_000;
/// Loopback: underlay and port at once, since nothing is really sent.
const LOOPBACK: u32 = 1;

const LOCAL: [u8; 4] = [172, 31, 0, 1];
const REMOTE: [u8; 4] = [172, 31, 0, 2];

/// One program with one size of the FDB.
pub(in crate::bench) struct Figure {
    /// Program and size.
    pub(in crate::bench) variant: String,
    /// Nanoseconds per packet, one for each round.
    pub(in crate::bench) runs: Vec<f64>,
    /// What disturbed them.
    pub(in crate::bench) disturbances: Vec<Disturbance>,
}

/// Measures every program `runs` times.
pub(in crate::bench) fn measure(lab: &Lab, runs: usize, turns: &mut Turns<'_>) -> Result<Vec<Figure>> {
    let ns = lab.netns("programs")?;
    let mut pinned = Pinned::open(lab, "programs", Sizes::default())?;
    let mut empty = Programs::load()?;
    ns.enter(|| {
        pin(Side::Sender)?;
        let hop = NextHop {
            ifindex: LOOPBACK,
            max_inner: MAX_INNER,
            dst_mac: [2; 6],
            src_mac: [6; 6],
            src_v4: LOCAL,
            flags: HopFlags::XDP,
        };
        pinned.fill(LOCAL, REMOTE, LOOPBACK, hop)?;
        let subjects = Subject::all(&pinned)?;
        let mut figures = Vec::new();
        let mut macs = Vec::new();
        for count in MACS {
            enter_macs(&mut pinned, &mut macs, count)?;
            let entrants = [Entrant { name: format!("{count} MACs"), runs }];
            let taken = turns.take(&[Case::ProgramNs], &entrants, |_| {
                subjects.iter().map(|subject| subject.net_time(&mut pinned, &macs, &mut empty)).collect()
            });
            for (i, subject) in subjects.iter().enumerate() {
                let runs = || taken.iter().flatten();
                figures.push(Figure {
                    variant: format!("{}, {count} MACs", subject.name),
                    runs: runs().map(|run| run.figures[i]).collect(),
                    disturbances: runs().map(|run| run.disturbance).collect(),
                });
            }
        }
        let datapath = pinned.datapath()?;
        ensure!(datapath.count(Count::Flooded)? == 0, "frames were flooded: entries are missing");
        ensure!(datapath.count(Count::KernelNextHop)? == 0, "frames went by the kernel's next hop");
        Ok(figures)
    })
}

/// Enters remote MACs until there are `count`; the few that find both their buckets full are left out.
fn enter_macs(pinned: &mut Pinned, macs: &mut Vec<Mac>, count: u32) -> Result<()> {
    let datapath = pinned.datapath()?;
    // The VM's own, which underlay programs deliver to.
    datapath.apply(&Command::SetStatic { vni_index: ONLY, mac: own_mac(), place: Place::Port(ONLY) })?;
    for number in macs.len() as u32..count {
        let mac = Mac::from_u64(0x0600_0000_0000 | u64::from(number));
        match datapath.apply(&Command::SetStatic { vni_index: ONLY, mac, place: Place::Vtep(ONLY) }) {
            Ok(()) => macs.push(mac),
            Err(Error::FdbFull { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(macs.len() as u32 >= count - count / 100, "only {} of {count} MACs found room", macs.len());
    Ok(())
}

fn own_mac() -> Mac {
    Mac([2, 0, 0, 0, 0, 1])
}

/// A program of ours with a frame that it forwards.
struct Subject {
    name: &'static str,
    program: ProgramFd,
    is_xdp: bool,
    frame: Vec<u8>,
    /// Where in the frame the remote VM's MAC is.
    remote_at: usize,
}

/// `TC_ACT_REDIRECT` and `TC_ACT_OK`.
const TC_VERDICTS: [u32; 2] = [7, 0];
/// `XDP_REDIRECT` and `XDP_PASS`.
const XDP_VERDICTS: [u32; 2] = [4, 2];

impl Subject {
    fn all(pinned: &Pinned) -> Result<[Subject; 4]> {
        let mut outgoing = small_frame();
        outgoing[6..12].copy_from_slice(&own_mac().0);
        let mut inner = small_frame();
        inner[..6].copy_from_slice(&own_mac().0);
        let incoming = Outer::new(Mac([6; 6]), REMOTE.into(), LOCAL.into(), vni()).wrap(&inner);
        let subject = |name, is_xdp, frame, remote_at| {
            anyhow::Ok(Subject { name, program: find(pinned, name)?, is_xdp, frame, remote_at })
        };
        Ok([
            subject(program::PORT_TC, false, outgoing.clone(), 0)?,
            subject(program::PORT_XDP, true, outgoing, 0)?,
            subject(program::UNDERLAY_XDP, true, incoming.clone(), OUTER_LEN + 6)?,
            subject(program::UNDERLAY_TC, false, incoming, OUTER_LEN + 6)?,
        ])
    }

    /// Nanoseconds per frame, without what a program takes that does nothing.
    fn net_time(&self, pinned: &mut Pinned, macs: &[Mac], empty: &mut Programs) -> Result<f64> {
        let empty = if self.is_xdp { empty.empty_xdp()? } else { empty.empty_tc()? };
        let [redirect, pass] = if self.is_xdp { XDP_VERDICTS } else { TC_VERDICTS };
        let gross = self.time(pinned, macs, &self.program, redirect)?;
        Ok((gross - self.time(pinned, macs, empty, pass)?).max(0.0))
    }

    /// Mean nanoseconds that a program takes for this subject's frames.
    fn time(&self, pinned: &mut Pinned, macs: &[Mac], program: &ProgramFd, verdict: u32) -> Result<f64> {
        // Coprime to the number of MACs: neighbouring runs use entries far apart.
        const STRIDE: usize = 7_919;
        let mut frame = self.frame.clone();
        let mut times = Vec::with_capacity(SAMPLES);
        for i in 0..SAMPLES {
            if i % BEAT == 0 {
                pinned.datapath()?.heartbeat()?;
            }
            frame[self.remote_at..self.remote_at + 6].copy_from_slice(&macs[i * STRIDE % macs.len()].0);
            let ran = test_run(program.as_fd(), &frame).with_context(|| format!("test run of {}", self.name))?;
            ensure!(ran.verdict == verdict, "{} returned {}, not {verdict}", self.name, ran.verdict);
            times.push(ran.ns);
        }
        times.sort_unstable();
        times.truncate(SAMPLES - SAMPLES * TRIMMED / 100);
        Ok(times.iter().copied().map(f64::from).sum::<f64>() / times.len() as f64)
    }
}

/// The loaded program of a name that uses this datapath's maps: there may be others of the name on the machine.
fn find(pinned: &Pinned, name: &str) -> Result<ProgramFd> {
    let fdb = MapInfo::from_pin(pinned.maps().join(map::FDB)).context("opening the pinned FDB")?.id();
    for info in loaded_programs() {
        // A program may go away between being listed and being asked.
        let Ok(info) = info else { continue };
        if info.name_as_str() == Some(name) && info.map_ids()?.unwrap_or_default().contains(&fdb) {
            return Ok(info.fd()?);
        }
    }
    anyhow::bail!("program {name} is not loaded")
}
