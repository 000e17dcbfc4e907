//! What a fixture is: what comes in, and what must come of it.

use std::{boxed::Box, format, string::String, vec::Vec};

use super::{Devices, Outcome, Stimulus, TestTables, World, run};
use crate::{
    abi::Count,
    datapath::{Of, Verdict},
    reason::Reason,
};

/// A frame for a program, and what must come of it.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// What it is about.
    pub name: String,
    /// What the program gets.
    pub stimulus: Stimulus,
    /// The decision.
    pub verdict: Verdict,
    /// The frame afterwards, if it goes on.
    pub bytes: Vec<u8>,
    /// What is noted for TC: port and VNI.
    pub noted: Option<(u16, u16)>,
    /// Copies: interface, bytes.
    pub copies: Vec<(u32, Vec<u8>)>,
    /// Copies that come in again: interface, VTEP, bytes.
    pub errands: Vec<(u32, u16, Vec<u8>)>,
    /// Drops that are counted, in any order.
    pub drops: Vec<Reason>,
    /// Everything else that is counted.
    pub counts: Vec<(Count, u64)>,
    /// Which VTEP a frame is counted as received from, where that is in question.
    pub vtep: Option<u16>,
    /// A kernel test-run cannot make this packet.
    pub host_only: bool,
}

impl Fixture {
    /// A frame that passes untouched and uncounted.
    pub(super) fn new(name: &str, stimulus: Stimulus) -> Fixture {
        let bytes = stimulus.frame.clone();
        Fixture {
            name: name.into(),
            stimulus,
            verdict: Verdict::Pass,
            bytes,
            noted: None,
            copies: Vec::new(),
            errands: Vec::new(),
            drops: Vec::new(),
            counts: Vec::new(),
            vtep: None,
            host_only: false,
        }
    }

    /// Compares with what came of it.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, outcome: &Outcome) -> Result<(), Box<str>> {
        let differ = |what: &str, found: String, wanted: String| {
            Err(format!("{}: {what}: {found} instead of {wanted}", self.name).into_boxed_str())
        };
        if outcome.verdict != self.verdict {
            return differ("verdict", format!("{:?}", outcome.verdict), format!("{:?}", self.verdict));
        }
        if outcome.goes_on() && outcome.bytes != self.bytes {
            return differ("bytes", format!("{:02x?}", outcome.bytes), format!("{:02x?}", self.bytes));
        }
        if outcome.noted != self.noted {
            return differ("note", format!("{:?}", outcome.noted), format!("{:?}", self.noted));
        }
        if outcome.copies != self.copies {
            return differ("copies", format!("{:02x?}", outcome.copies), format!("{:02x?}", self.copies));
        }
        if outcome.errands != self.errands {
            return differ("errands", format!("{:02x?}", outcome.errands), format!("{:02x?}", self.errands));
        }
        let mut drops: Vec<_> =
            outcome.tally.drops.iter().flat_map(|(r, n)| core::iter::repeat_n(*r, *n as usize)).collect();
        let mut wanted = self.drops.clone();
        drops.sort();
        wanted.sort();
        if drops != wanted {
            return differ("drops", format!("{drops:?}"), format!("{wanted:?}"));
        }
        let found = outcome.tally.counts.clone();
        let wanted = self.counts.iter().map(|(c, n)| (*c as u32, *n)).collect();
        if found != wanted {
            return differ("counts", format!("{found:?}"), format!("{wanted:?}"));
        }
        if let Some(vtep) = self.vtep
            && outcome.tally.traffic(Of::Vtep(vtep)).rx_frames != 1
        {
            return differ("sender", format!("{:?}", outcome.tally.traffic), format!("VTEP {vtep}"));
        }
        Ok(())
    }

    /// Runs it on the host, in a fresh world.
    ///
    /// # Errors
    /// See [`Fixture::check`].
    pub fn check_on_host(&self, world: &World, devices: &Devices) -> Result<(), Box<str>> {
        self.check(&run(&mut TestTables::new(world, 64), devices, &self.stimulus))
    }
}
