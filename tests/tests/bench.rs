//! The benchmark measures something of everybody: shortest possible runs, whose figures mean nothing.

use std::time::Duration;

use wavnet_tests::{
    bench::{Case, Plan, run},
    lab::{self, Need},
};

#[test]
fn every_case_has_a_figure_for_every_contender() {
    lab::run("every_case_has_a_figure_for_every_contender", &[Need::Wavnet], |lab| {
        let cases = Case::ALL.to_vec();
        let plan = Plan { cases, runs: 1, time: Duration::from_millis(100), idle: Duration::ZERO, ..Plan::QUICK };
        let report = run(lab, &plan)?;
        for &case in Case::ALL {
            let rows: Vec<_> = report.rows.iter().filter(|row| row.case == case.name()).collect();
            assert!(rows.iter().all(|row| row.runs == 1 && row.unit == case.unit()), "{rows:?}");
            if case == Case::ProgramNs {
                // Three programs, three sizes of the FDB.
                assert_eq!(rows.len(), 9, "{rows:?}");
                assert!(rows.iter().all(|row| row.ratio.is_none() && row.variant.is_some()), "{rows:?}");
            } else if case == Case::Scrape {
                assert!(matches!(&rows[..], [row] if row.median > 0.0 && row.variant.is_some()), "{rows:?}");
            } else {
                let contenders: Vec<_> = rows.iter().map(|row| row.contender).collect();
                assert_eq!(contenders, ["wavnet", "kernel-vxlan", "bridge"]);
                assert!(rows.iter().all(|row| row.median > 0.0 && row.ratio.is_some()), "{rows:?}");
            }
        }
        Ok(())
    });
}
