//! The benchmark measures something of everybody: shortest possible runs, whose figures mean nothing.

use std::time::Duration;

use wavnet_tests::{
    bench::{Case, Plan, plots, run},
    lab::{self, Need},
};

/// Cases in which we are compared with ourselves, or with a part of the kernel.
const OWN: [Case; 7] = [
    Case::LearnOn,
    Case::Queues2,
    Case::ScaleMacs,
    Case::ScaleVteps,
    Case::ScaleVnis,
    Case::FdbLookup1k,
    Case::FdbLookup100k,
];

#[test]
fn every_case_has_a_figure_for_every_contender() {
    lab::run("every_case_has_a_figure_for_every_contender", &[Need::Wavnet], |lab| {
        let cases = Case::ALL.to_vec();
        let plan = Plan { cases, runs: 1, time: Duration::from_millis(100), idle: Duration::ZERO, ..Plan::QUICK };
        let report = run(lab, &plan)?;
        for &case in Case::ALL {
            let rows: Vec<_> = report.rows.iter().filter(|row| row.case == case.name()).collect();
            assert!(rows.iter().all(|row| row.runs == 1 && row.unit == case.unit() && row.median > 0.0), "{rows:?}");
            let names: Vec<_> = rows.iter().map(|row| row.contender.as_str()).collect();
            match case {
                // Three programs, three sizes of the FDB.
                Case::ProgramNs => {
                    assert_eq!(rows.len(), 9, "{rows:?}");
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
                }
            }
        }
        let points = |case: &str| {
            let row = report.rows.iter().find(|row| row.case == case && row.contender == "wavnet");
            row.and_then(|row| row.curve.as_ref()).map_or(0, |curve| curve.points.len())
        };
        assert_eq!((points("scale_macs_100k"), points("rtt_p50")), (4, 11));
        assert_eq!(plots::draw(&report).len(), 4, "every plot has something to show");
        Ok(())
    });
}
