//! The benchmark measures something of everybody: shortest possible runs, whose figures mean nothing.

use std::time::Duration;

use wavnet_tests::{
    bench::{Case, Contender, Plan, plots, run},
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

#[test]
fn every_contender_that_is_installed_carries_what_makes_sense_for_it() {
    lab::run("every_contender_that_is_installed_carries_what_makes_sense_for_it", &[Need::Wavnet], |lab| {
        let cases = vec![Case::SmallFrames, Case::Encap, Case::Local, Case::Tcp1, Case::RttBlockingP50];
        let others = Contender::ALL.into_iter().filter(|c| !Contender::MAIN.contains(c)).collect();
        let time = Duration::from_millis(200);
        let plan = Plan { cases, contenders: others, runs: 1, time, idle: Duration::ZERO, ..Plan::QUICK };
        let report = run(lab, &plan);
        assert!(report.failures.is_empty(), "{:#?}", report.failures);
        for contender in plan.contenders {
            let rows: Vec<_> = report.rows.iter().filter(|row| row.contender == contender.name()).collect();
            // "skipped: encap, local of ovs: why"
            let refused = |note: &&String| {
                note.strip_prefix("skipped: ")?
                    .split_once(" of ")
                    .map(|(what, whom)| if whom.contains(contender.name()) { what.split(", ").count() } else { 0 })
            };
            let skipped: usize = report.notes.iter().filter_map(|note| refused(&note)).sum();
            let missing = report.notes.iter().any(|note| note.starts_with(&format!("skipped: {contender} ")));
            let expected = if missing { 0 } else { plan.cases.len() - skipped };
            assert_eq!(rows.len(), expected, "{contender}: {:?}", report.notes);
            assert!(rows.iter().all(|row| row.median > 0.0 && row.steal.is_some()), "{rows:?}");
        }
        Ok(())
    });
}
