//! The benchmark measures something of other overlays, and that of the mesh something of a small one: shortest possible runs, beside other
//! tests, of whose figures only the sign is looked at, and counts that do not depend on the machine.

use std::time::Duration;

use anyhow::ensure;
use wavnet_tests::{
    bench::{Case, Contender, Plan, mesh, run},
    lab::{self, Need},
};

#[test]
fn every_contender_that_is_installed_carries_what_makes_sense_for_it() {
    lab::run("every_contender_that_is_installed_carries_what_makes_sense_for_it", &[Need::Wavnet], |lab| {
        let cases = vec![Case::SmallFrames, Case::Encap, Case::Local, Case::Tcp1, Case::RttBlockingP50];
        let others = Contender::ALL.into_iter().filter(|c| !Contender::MAIN.contains(c)).collect();
        // Enough round trips for percentiles, also on a machine that others use.
        let time = Duration::from_millis(600);
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

/// What routers need beside the lab's basic programs.
const NAT: [Need; 3] = [Need::Wavnet, Need::Tool("nft"), Need::Tool("conntrack")];

#[test]
fn hosts_of_a_small_mesh_are_all_direct_and_send_pulses() {
    lab::run("hosts_of_a_small_mesh_are_all_direct_and_send_pulses", &NAT, |lab| {
        let (time, calm, idle) = (Duration::from_millis(200), Duration::from_secs(3), Duration::from_secs(5));
        let n2n = Some(Duration::from_secs(3));
        let plan = mesh::Plan { hosts: 4, few: 4, runs: 1, time, calm, idle, n2n, ..mesh::Plan::QUICK };
        let found = mesh::run(lab, &plan, |_| {})?;
        ensure!(found.is_as_expected(), "{found:#?}");
        let row = &found.rows[0];
        ensure!((row.formation.pairs, row.formation.direct) == (6, 6), "{row:#?}");
        ensure!(row.throughput.len() == 2 && row.throughput.iter().all(|t| t.ratio > 0.0), "{row:#?}");
        // Three peers, a pulse and an answer each in five seconds, of 30 bytes; and relays beside them. Not one each second.
        let pulses = row.cost.pulses_sent;
        ensure!(pulses.count == 4 && pulses.min > 12.0 && pulses.max < 170.0, "{row:#?}");
        ensure!(row.cost.sent.min >= pulses.min && row.cost.resident_mib.min > 1.0, "{row:#?}");
        let missing = found.notes.iter().any(|note| note.starts_with("n2n is not installed"));
        ensure!(found.rows.len() == if missing { 1 } else { 2 }, "{found:#?}");
        Ok(())
    });
}
