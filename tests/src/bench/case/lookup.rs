//! One lookup of the forwarding table and of the kernel's hash map, in the kernel.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use wavnet_common::abi::size;

use super::duel::{Duel, Lane};
use crate::{
    bench::affinity::{Side, pin},
    lab::{
        lookups::{Lookups, Where},
        programs::abi::Lookups as Order,
    },
    test_run::test_run,
};

/// Lookups of one test run: some milliseconds, for a program cannot be interrupted.
const AT_ONCE: u32 = 1 << 16;
const XDP_PASS: u32 = 2;

/// Both tables with so many MACs.
pub(super) struct Lookup {
    tables: Lookups,
    order: Order,
}

impl Lookup {
    /// Lookups that have nothing to do with each other, as those of frames.
    pub(super) fn among(macs: u32) -> Result<Lookup> {
        let mut tables = Lookups::load(size::FDB_BUCKETS)?;
        tables.enter(macs)?;
        Ok(Lookup { tables, order: Order { seed: 1, count: AT_ONCE, macs, ..Order::default() } })
    }

    /// Lookups each of which waits for the one before, so that the CPU cannot work at several at once.
    pub(super) fn chained(macs: u32) -> Result<Lookup> {
        let mut lookup = Lookup::among(macs)?;
        lookup.order.chained = 1;
        Ok(lookup)
    }

    /// Nanoseconds of one lookup with what is around it.
    fn once(&mut self, at: Where) -> Result<f64> {
        let program = self.tables.order(at, self.order)?;
        let ran = test_run(program.as_fd(), &[0; 64]).context("test run of lookups")?;
        ensure!(ran.verdict == XDP_PASS, "MACs are missing: verdict {}", ran.verdict);
        Ok(f64::from(ran.ns) / f64::from(AT_ONCE))
    }
}

impl Duel for Lookup {
    fn lanes(&self) -> Vec<Lane> {
        vec![Lane::named("wavnet's table"), Lane::named("BPF hash map")]
    }

    fn run(&mut self, lane: usize, time: Duration) -> Result<f64> {
        // In a thread of its own, which ends with its choice of CPU.
        std::thread::scope(|scope| {
            let measuring = scope.spawn(|| {
                pin(Side::Sender)?;
                let at = [Where::Buckets, Where::Hash][lane];
                let (start, mut times) = (Instant::now(), Vec::new());
                while start.elapsed() < time || times.len() < 10 {
                    let (gross, empty) = (self.once(at)?, self.once(Where::Nowhere)?);
                    times.push(gross - empty);
                    self.order.seed += 1;
                }
                times.sort_by(f64::total_cmp);
                Ok(times[times.len() / 2])
            });
            measuring.join().map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
        })
    }
}
