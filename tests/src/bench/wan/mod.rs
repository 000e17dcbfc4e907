//! The overlay over a WAN, through NATs, against the bare underlay: round trips and TCP over links of several rates and lengths.
//!
//! `docs/benchmarks.md` says how each figure comes about and what it is worth.

mod report;
mod road;
mod trips;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::{
    report::{Lane, Samples},
    road::Road,
    trips::{Echo, by_turns},
};
use super::{
    case::tcp::{self, carry},
    machine::Watch,
};
use crate::lab::{Lab, nat::NatKind};

pub use report::{Found, Row};

/// The NATs in front of both hosts: Linux's default, and the strictest that has no need of a search.
const KIND: NatKind = NatKind::PortRestrictedCone;
/// A congestion window opens in so many round trips.
const WARM_UP_TRIPS: u32 = 20;
/// Round trips that tell what the lab's own way takes.
const OWN_TRIPS: usize = 50;
/// With a delay like the shortest that is measured.
const OWN_DELAY: Duration = Duration::from_millis(1);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Round trips of the link.
    pub rtts: Vec<Duration>,
    /// Its rates, Mbit/s.
    pub links: Vec<u64>,
    /// The overlay is also measured without NATs where the round trip is this.
    pub without_nat: Option<Duration>,
    /// How often each is measured.
    pub runs: usize,
    /// How long a stream is counted.
    pub time: Duration,
    /// For how long round trips of a cell are measured at the most.
    pub trips: Duration,
}

impl Plan {
    /// The papers' cells: four round trips by four rates.
    #[must_use]
    pub fn full() -> Plan {
        Plan {
            rtts: [500, 30_000, 75_000, 220_000].map(Duration::from_micros).into(),
            links: vec![10, 50, 100, 1000],
            without_nat: Some(Duration::from_millis(30)),
            runs: 3,
            time: Duration::from_secs(10),
            trips: Duration::from_secs(12),
        }
    }

    /// The same cells, measured once and shortly: a first look.
    #[must_use]
    pub fn quick() -> Plan {
        Plan { runs: 1, time: Duration::from_secs(2), trips: Duration::from_secs(2), ..Plan::full() }
    }

    /// Roughly how long it takes.
    #[must_use]
    pub fn takes(&self) -> Duration {
        let of = |rtt: Duration| {
            let lanes = 2 + u32::from(self.without_nat == Some(rtt));
            self.trips + (warm_up(rtt) + self.time) * lanes * self.runs as u32
        };
        self.rtts.iter().map(|rtt| of(*rtt)).sum::<Duration>() * self.links.len() as u32
    }
}

/// How long a stream runs before it is counted.
fn warm_up(rtt: Duration) -> Duration {
    (rtt * WARM_UP_TRIPS).max(Duration::from_secs(1))
}

/// Carries out a plan; `each` sees every row as soon as it is there.
///
/// # Errors
/// The lab cannot be made, the two agents do not find each other, or frames stop taking the direct path.
pub fn run(plan: &Plan, mut each: impl FnMut(&Row)) -> Result<Found> {
    // A lab for each: what is in them has the same names.
    let labs = [Lab::new()?, Lab::new()?, Lab::new()?];
    let mut roads = vec![
        (Lane::Underlay, Road::bare(&labs[0], KIND).context("the bare underlay")?),
        (Lane::Overlay, Road::overlay(&labs[1], KIND).context("the overlay through NATs")?),
    ];
    if plan.without_nat.is_some() {
        let road = Road::overlay(&labs[2], NatKind::Open).context("the overlay without NATs")?;
        roads.push((Lane::WithoutNat, road));
    }
    let mut found = Found { notes: tcp::note().into_iter().collect(), ..Found::default() };
    let own = own_trip(&roads)?;
    found.own_rtt_ms = own.as_secs_f64() * 1e3;
    for &rtt in &plan.rtts {
        for &link in &plan.links {
            let lanes = if plan.without_nat == Some(rtt) { 3 } else { 2 };
            let row = cell(plan, &roads[..lanes.min(roads.len())], own, rtt, link)
                .with_context(|| format!("{link} Mbit/s at {rtt:?}"))?;
            each(&row);
            found.rows.push(row);
        }
    }
    Ok(found)
}

/// What a round trip of the bare underlay takes more than its delay: the lab's own part, the emulator's included. It sleeps until a
/// frame's time has come, and takes a moment to wake up.
fn own_trip(roads: &[(Lane, Road)]) -> Result<Duration> {
    let (_, road) = &roads[0];
    road.shape(OWN_DELAY, None)?;
    let ends = road.ends();
    let mut echo = [Echo::open(ends.from, ends.at)?];
    by_turns(&mut echo, 3)?;
    let times = by_turns(&mut echo, OWN_TRIPS)?;
    let median = super::report::Summary::of(&times[0]).context("no round trips")?.median;
    Ok(Duration::from_secs_f64(median / 1e3).saturating_sub(OWN_DELAY))
}

/// One rate and round trip: each lane by turns.
fn cell(plan: &Plan, roads: &[(Lane, Road)], own: Duration, rtt: Duration, link: u64) -> Result<Row> {
    let mut echoes = Vec::new();
    for (_, road) in roads {
        road.shape(rtt.saturating_sub(own), Some((link * 1_000_000, rtt)))?;
        let ends = road.ends();
        echoes.push(Echo::open(ends.from, ends.at)?);
    }
    // The first ones wait for neighbours, and for those who have to learn where somebody is.
    by_turns(&mut echoes, 3)?;
    let (watch, start) = (Watch::start()?, Instant::now());
    let count = (plan.trips.as_secs_f64() / (rtt.as_secs_f64() + 0.006) / roads.len() as f64) as usize;
    let trips = by_turns(&mut echoes, count.clamp(10, 300))?;
    let faults = || roads.iter().map(|(_, road)| road.faults()).collect::<Result<Vec<_>>>();
    let before = faults()?;
    let mut rates = vec![Vec::new(); roads.len()];
    for _ in 0..plan.runs {
        for ((lane, road), rates) in roads.iter().zip(&mut rates) {
            let rate = carry(road.ends(), 1, warm_up(rtt), plan.time).with_context(|| format!("TCP, {lane}"))?;
            rates.push(rate / 1e6);
            road.check()?;
        }
    }
    let passed = |n: usize| faults().map(|after| after.iter().zip(&before).map(|(a, b)| a[n] - b[n]).sum());
    let (faults, disturbance) = ([passed(0)?, passed(1)?], watch.end()?);
    let lanes = roads.iter().zip(trips).zip(rates);
    let samples: Vec<_> = lanes.map(|(((lane, _), trips), rates)| Samples { lane: *lane, trips, rates }).collect();
    Row::of(rtt, link, &samples, faults, disturbance, start.elapsed()).context("a lane without figures")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_time_to_get_up_to_speed() {
        assert_eq!(warm_up(Duration::from_micros(500)), Duration::from_secs(1));
        assert_eq!(warm_up(Duration::from_millis(220)), Duration::from_millis(4400));
    }

    #[test]
    fn the_full_plan_has_the_papers_cells_and_says_how_long_it_takes() {
        let plan = Plan::full();
        assert_eq!(plan.rtts.len() * plan.links.len(), 16);
        assert!(plan.takes() < Duration::from_secs(45 * 60), "{:?}", plan.takes());
        assert!(Plan::quick().takes() < Duration::from_secs(5 * 60), "{:?}", Plan::quick().takes());
    }
}
