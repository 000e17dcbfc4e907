//! Reading counters.

use std::{ops::AddAssign, os::fd::OwnedFd};

use aya::{
    maps::{MapData, PerCpuArray},
    programs::Program,
    sys::{Stats, enable_stats as enable},
};
use wavnet_common::{
    abi::{Count, Mix, Plain, Traffic},
    datapath::Of,
    reason::Reason,
};

use super::{Datapath, Error, maps::Abi};

/// What the kernel measured of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramRun {
    /// The program's name.
    pub name: String,
    /// How often it ran.
    pub runs: u64,
    /// How long it ran, nanoseconds.
    pub nanoseconds: u64,
}

pub(super) fn enable_stats() -> Result<OwnedFd, Error> {
    enable(Stats::RunTime).map_err(|e| Error::kernel("measuring the programs' run time", e))
}

fn sum(map: &PerCpuArray<MapData, u64>, index: u32) -> Result<u64, Error> {
    let values = map.get(&index, 0).map_err(|e| Error::kernel("reading a counter", e))?;
    Ok(values.iter().sum())
}

fn total<T: Plain, S: Default + AddAssign>(
    map: &PerCpuArray<MapData, Abi<T>>,
    index: u16,
    part: impl Fn(T) -> S,
) -> Result<S, Error> {
    let values = map.get(&index.into(), 0).map_err(|e| Error::kernel("reading a counter", e))?;
    Ok(values.iter().fold(S::default(), |mut sum, Abi(one)| {
        sum += part(*one);
        sum
    }))
}

impl Datapath {
    /// Frames dropped, by reason, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn drops(&self) -> Result<Vec<(Reason, u64)>, Error> {
        Reason::ALL.iter().map(|r| Ok((*r, sum(&self.maps.drops, *r as u32)?))).collect()
    }

    /// Everything else that is counted.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn count(&self, what: Count) -> Result<u64, Error> {
        sum(&self.maps.counts, what as u32)
    }

    /// Traffic of a port, VNI or peer, over all CPUs.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn traffic(&self, of: Of) -> Result<Traffic, Error> {
        match of {
            Of::Port(i) => total(&self.maps.port_stats, i, |ledger| ledger.traffic),
            Of::Vni(i) => total(&self.maps.vni_stats, i, |traffic| traffic),
            Of::Vtep(i) => total(&self.maps.vtep_stats, i, |traffic| traffic),
        }
    }

    /// What kinds of frames come from a port, over all CPUs.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn mix(&self, port_index: u16) -> Result<Mix, Error> {
        total(&self.maps.port_stats, port_index, |ledger| ledger.mix)
    }

    /// How often and how long each program ran, as far as the kernel measures it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn program_runs(&self) -> Result<Vec<ProgramRun>, Error> {
        self.programs
            .loaded()
            .map(|(name, program)| {
                let info = info(program).map_err(|e| Error::program(name, e))?;
                Ok(ProgramRun {
                    name: name.to_owned(),
                    runs: info.run_count(),
                    nanoseconds: info.run_time().as_nanos() as u64,
                })
            })
            .collect()
    }
}

fn info(program: &Program) -> Result<aya::programs::ProgramInfo, aya::programs::ProgramError> {
    program.info()
}
