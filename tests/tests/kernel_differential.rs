//! The programs in the kernel and the same code on the host: same verdicts, same bytes, same counters, same table.

use std::collections::BTreeMap;

use anyhow::{Context, Error, Result, ensure};
use wavnet_common::{
    abi::Count,
    reason::Reason,
    testing::{Fixture, Generator, Hook, Outcome, Stimulus, TestTables, fixtures, frames::arp, run, world::mac},
};
use wavnet_tests::kernel::{KernelOutcome, SIZES, Sandbox, is_testable, require};

fn compare(name: &str, stimulus: &Stimulus, host: &Outcome, kernel: &KernelOutcome) -> Result<()> {
    let frame = || format!("{name}: {:?}, host {:?}, frame {}", stimulus.hook, host.verdict, hex(&stimulus.frame));
    let (action, wanted) = (kernel.action, host.action(stimulus.hook));
    ensure!(action == wanted, "returned {action} instead of {wanted}, counted {:?}; {}", kernel.tally, frame());
    ensure!(kernel.tally == host.tally, "counted {:?} instead of {:?}; {}", kernel.tally, host.tally, frame());
    if host.goes_on() {
        ensure!(
            kernel.bytes == host.bytes,
            "bytes {} instead of {}; {}",
            hex(&kernel.bytes),
            hex(&host.bytes),
            frame()
        );
    }
    ensure!(kernel.noted == host.noted, "note {:?} instead of {:?}; {}", kernel.noted, host.noted, frame());
    let copies =
        |from: &[(u32, Vec<u8>)]| -> Vec<_> { from.iter().map(|(to, b)| format!("{to}: {}", hex(b))).collect() };
    let (found, wanted) = (copies(&kernel.copies), copies(&host.copies));
    ensure!(found == wanted, "copies {found:#?} instead of {wanted:#?}; {}", frame());
    let wanted: Vec<_> = host.errands.iter().map(|(by, _, bytes)| (*by, bytes.clone())).collect();
    let (found, wanted) = (copies(&kernel.errands), copies(&wanted));
    ensure!(found == wanted, "errands {found:#?} instead of {wanted:#?}; {}", frame());
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn every_fixture_holds_in_the_kernel() {
    let Some(pins) = require("kernel_differential::every_fixture_holds_in_the_kernel") else { return };
    let result = Sandbox::run(&pins, |sandbox| {
        let mut all: Vec<Fixture> = fixtures(&sandbox.devices);
        let total = all.len();
        all.retain(|f| !f.host_only && is_testable(&f.stimulus));
        println!("{} of {total} fixtures", all.len());
        // Nobody has said yet that the agent is alive.
        all.sort_by_key(|f| !f.stimulus.stale_agent);
        let mut failed = Vec::new();
        for fixture in &all {
            let stimulus = &fixture.stimulus;
            if !stimulus.stale_agent {
                sandbox.datapath.heartbeat()?;
            }
            sandbox.reset_fdb();
            sandbox.expect_pulses();
            let mut tables = TestTables::new(&sandbox.world, SIZES.fdb_buckets as usize);
            let host = run(&mut tables, &sandbox.devices, stimulus);
            fixture.check(&host).map_err(Error::msg)?;
            let kernel = sandbox.test_run(stimulus).with_context(|| fixture.name.clone())?;
            failed.extend(compare(&fixture.name, stimulus, &host, &kernel).err().map(|e| format!("{e:#}")));
            if sandbox.fdb_entries() != tables.fdb_entries() {
                failed.push(format!("{}: FDB: {:?}", fixture.name, sandbox.fdb_entries()));
            }
        }
        ensure!(failed.is_empty(), "{} fixtures:\n{}", failed.len(), failed.join("\n"));
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}

#[test]
fn random_frames_come_to_the_same_on_host_and_in_the_kernel() {
    const TEST: &str = "kernel_differential::random_frames_come_to_the_same_on_host_and_in_the_kernel";
    const FRAMES: usize = 10_000;
    /// A new table after so many, so that it is neither always empty nor always full.
    const EPISODE: usize = 5000;
    let Some(pins) = require(TEST) else { return };
    let seed = std::env::var("WAVNET_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed_0003);
    println!("seed {seed} (WAVNET_TEST_SEED)");
    let result = Sandbox::run(&pins, |sandbox| {
        let mut tables = TestTables::new(&sandbox.world, SIZES.fdb_buckets as usize);
        let mut seen = BTreeMap::<String, usize>::new();
        let mut counted = BTreeMap::<String, u64>::new();
        for (i, stimulus) in Generator::new(seed, &sandbox.devices).filter(is_testable).take(FRAMES).enumerate() {
            if i % EPISODE == 0 {
                sandbox.reset_fdb();
                sandbox.expect_pulses();
                tables = TestTables::new(&sandbox.world, SIZES.fdb_buckets as usize);
            }
            sandbox.datapath.heartbeat()?;
            let name = format!("seed {seed}, frame {i}");
            let host = run(&mut tables, &sandbox.devices, &stimulus);
            let kernel = sandbox.test_run(&stimulus).with_context(|| name.clone())?;
            compare(&name, &stimulus, &host, &kernel)?;
            ensure!(sandbox.fdb_entries() == tables.fdb_entries(), "{name}: FDB differs");
            for what in [Count::Learned, Count::Moved, Count::FdbFull, Count::StaticKept] {
                *counted.entry(format!("{what:?}")).or_default() += host.tally.count(what);
            }
            *seen.entry(format!("{:?}", host.verdict).split(' ').next().unwrap_or("").to_owned()).or_default() += 1;
        }
        println!("{seen:#?} {counted:#?}");
        // What a test-run cannot bring about: copies and rewriting that the kernel refuses, tags beside the data, super-packets;
        // ports that are down, which this world has none of; and what is counted for single copies of a frame alone, or
        // behind a redirect.
        const BEYOND: [Reason; 9] = [
            Reason::CloneFailed,
            Reason::Rewrite,
            Reason::VlanStack,
            Reason::OuterAggregated,
            Reason::OuterTagged,
            Reason::PortDown,
            Reason::NeighbourUnresolved,
            Reason::NestedTunnel,
            Reason::HiddenOffload,
        ];
        for reason in Reason::ALL.iter().filter(|r| !BEYOND.contains(r)) {
            ensure!(
                seen.contains_key(&format!("Drop({reason:?})")),
                "seed {seed}: no frame was dropped for {reason:?}"
            );
        }
        ensure!(counted.values().all(|n| *n > 0), "seed {seed}: something never happened: {counted:?}");
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}

/// A flood goes on without receivers that are down, and says so.
#[test]
fn receivers_that_are_down_are_counted() {
    let Some(pins) = require("kernel_differential::receivers_that_are_down_are_counted") else { return };
    let result = Sandbox::run(&pins, |sandbox| {
        sandbox.datapath.heartbeat()?;
        let broadcast = arp(mac(0));
        for (name, place) in [("u", None), ("p3", Some(3)), ("p1", Some(1))] {
            let down = std::process::Command::new("ip").args(["link", "set", name, "down"]).status()?;
            ensure!(down.success(), "{name} cannot be set down");
            sandbox.reset_fdb();
            let mut stimulus = Stimulus::new(Hook::Port(0), broadcast.clone());
            stimulus.refusing.push(place.map_or(sandbox.devices.underlay, |i: usize| sandbox.devices.ports[i]));
            let mut tables = TestTables::new(&sandbox.world, SIZES.fdb_buckets as usize);
            let host = run(&mut tables, &sandbox.devices, &stimulus);
            ensure!(host.tally.drops.contains_key(&Reason::CloneFailed));
            compare(name, &stimulus, &host, &sandbox.test_run(&stimulus)?)?;
            let up = std::process::Command::new("ip").args(["link", "set", name, "up"]).status()?;
            ensure!(up.success(), "{name} cannot be set up");
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}
