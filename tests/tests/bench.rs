//! The benchmark measures something of everybody: shortest possible runs, whose figures mean nothing.

use std::time::Duration;

use anyhow::ensure;
use wavnet_tests::{
    bench::{Case, Plan, plots, run, wan},
    lab::{self, Need},
};

/// Cases in which we are compared with ourselves, or with a part of the kernel.
const OWN: [Case; 9] = [
    Case::LearnOn,
    Case::Queues2,
    Case::ScaleMacs,
    Case::ScaleVteps,
    Case::ScaleVnis,
    Case::FdbLookup1k,
    Case::FdbLookup100k,
    Case::FdbRead100k,
    Case::ForwardBesideRead,
];

/// Cases in which ours is measured with default ports, and beside that with packet-rate ports.
const IN_BOTH_MODES: [Case; 6] =
    [Case::Tcp1, Case::Tcp4, Case::Tcp8Receive, Case::Local, Case::UdpFromTap, Case::Tcp1FromTap];

#[test]
fn every_case_has_a_figure_for_every_contender() {
    lab::run("every_case_has_a_figure_for_every_contender", &[Need::Wavnet], |lab| {
        let cases = Case::ALL.to_vec();
        let (time, idle) = (Duration::from_millis(100), Duration::ZERO);
        let report = run(lab, &Plan { cases, runs: 1, time, idle, curves: true, ..Plan::QUICK });
        assert!(report.failures.is_empty(), "{:#?}", report.failures);
        for &case in Case::ALL {
            let rows: Vec<_> = report.rows.iter().filter(|row| row.case == case.name()).collect();
            assert!(rows.iter().all(|row| row.runs == 1 && row.unit == case.unit() && row.median > 0.0), "{rows:?}");
            let names: Vec<_> = rows.iter().map(|row| row.contender.as_str()).collect();
            match case {
                // Four programs, three sizes of the FDB.
                Case::ProgramNs => {
                    assert_eq!(rows.len(), 12, "{rows:?}");
                    assert!(rows.iter().all(|row| row.ratio.is_none() && row.variant.is_some()), "{rows:?}");
                }
                Case::Scrape => assert!(matches!(&rows[..], [row] if row.variant.is_some()), "{rows:?}"),
                _ if OWN.contains(&case) => {
                    assert!(rows[0].variant.is_none(), "{rows:?}");
                    assert!(rows.iter().all(|row| row.against.is_some() && row.ratio.is_some()), "{rows:?}");
                }
                _ => {
                    assert!(names.starts_with(&["wavnet", "kernel-vxlan"]), "{names:?}");
                    assert!(rows.iter().all(|row| row.ratio.is_some()), "{rows:?}");
                    let variants: Vec<_> =
                        rows.iter().filter_map(|row| Some((&*row.contender, row.variant.as_deref()?))).collect();
                    let expected: &[_] = if IN_BOTH_MODES.contains(&case) { &[("wavnet", "packet-rate")] } else { &[] };
                    assert_eq!(variants, expected, "{case}");
                }
            }
        }
        let points = |case: &str| {
            let row = report.rows.iter().find(|row| row.case == case && row.contender == "wavnet");
            row.and_then(|row| row.curve.as_ref()).map_or(0, |curve| curve.points.len())
        };
        assert_eq!((points("scale_macs_100k"), points("rtt_p50"), points("rtt_blocking_p50")), (4, 11, 11));
        assert_eq!(plots::draw(&report).len(), 5, "every plot has something to show");
        Ok(())
    });
}

/// What routers need beside the lab's basic programs.
const NAT: [Need; 3] = [Need::Wavnet, Need::Tool("nft"), Need::Tool("conntrack")];

#[test]
fn a_cell_of_the_wan_has_the_rates_and_round_trips_that_its_link_allows() {
    lab::run("a_cell_of_the_wan_has_the_rates_and_round_trips_that_its_link_allows", &NAT, |_| {
        let rtt = Duration::from_millis(20);
        let (time, trips) = (Duration::from_secs(1), Duration::from_millis(300));
        let plan = wan::Plan { rtts: vec![rtt], links: vec![20], without_nat: Some(rtt), runs: 1, time, trips };
        let mut seen = 0;
        let found = wan::run(&plan, |_| seen += 1)?;
        let [row] = &found.rows[..] else { anyhow::bail!("{found:?}") };
        ensure!((seen, row.rtt_ms, row.link_mbps, row.runs) == (1, 20.0, 20, 1), "{row:?}");
        // What was not read before the counting begins is counted: half a second's worth, if the reader had no CPU for so long.
        let without_nat = row.without_nat_mbps.unwrap_or_default();
        for rate in [row.underlay_mbps, row.overlay_mbps, without_nat] {
            ensure!(rate > 1.0 && rate < 32.0, "{row:?}");
        }
        // The emulator is never early. What a round trip takes beside it was measured while others may have had the CPUs.
        let least = 20.0 - found.own_rtt_ms - 0.2;
        ensure!(found.own_rtt_ms < 10.0 && row.underlay_rtt_ms > least && row.overlay_rtt_ms > least, "{found:?}");
        ensure!(row.ratio > 0.0 && row.nat_ratio.is_some_and(|ratio| ratio > 0.0), "{row:?}");
        Ok(())
    });
}
