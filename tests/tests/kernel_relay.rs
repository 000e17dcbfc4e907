//! The relay's programs in the kernel and the same code on the host; what they may cost.

use std::collections::BTreeMap;

use anyhow::{Context, Error, Result, ensure};
use wavnet_common::{
    abi::relay::{RelayCount, program},
    relay::{Hook, Verdict},
    testing::{
        Rng,
        relay::{RelayFixture, RelayOutcome, RelayStimulus, RelayTables, relay_fixtures, run_relay},
    },
};
use wavnet_tests::kernel::{RelaySandbox, require, size_of};

/// What a test-run says of it.
fn told(outcome: &RelayOutcome) -> RelayOutcome {
    let verdict = match outcome.verdict {
        Verdict::Send { .. } => Verdict::Send { ifindex: 0 },
        other => other,
    };
    RelayOutcome { verdict, ..outcome.clone() }
}

#[test]
fn every_fixture_holds_in_the_kernel() {
    if require("kernel_relay::every_fixture_holds_in_the_kernel").is_none() {
        return;
    }
    let result: Result<()> = RelaySandbox::run(|sandbox| {
        let fixtures = relay_fixtures(&sandbox.devices);
        let total = fixtures.len();
        // TC's test-run wants a whole IP header where the ethertype says so, and something behind the link header else.
        let testable: Vec<_> = fixtures
            .into_iter()
            .filter(|f| !f.host_only && (f.stimulus.hook == Hook::Xdp || f.stimulus.frame.len() >= 34))
            .collect();
        println!("{} of {total} fixtures", testable.len());
        for fixture in &testable {
            for generic in [false, true] {
                if generic && fixture.stimulus.hook == Hook::Tc {
                    continue;
                }
                let host = run_relay(&mut RelayTables::new(&sandbox.world), &fixture.stimulus);
                fixture.check(&host).map_err(Error::msg)?;
                let mut kernel = sandbox.test_run(&fixture.stimulus, generic).with_context(|| fixture.name.clone())?;
                let wanted = told(&host);
                if host.verdict == Verdict::Drop {
                    kernel.bytes.clone_from(&wanted.bytes);
                }
                ensure!(kernel == wanted, "{}: {kernel:02x?} instead of {wanted:02x?}", fixture.name);
            }
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}

/// A frame that is nearly right: a fixture's, with some bytes of its headers changed.
fn nearly_right(rng: &mut Rng, seeds: &[RelayStimulus]) -> RelayStimulus {
    let mut stimulus = seeds[rng.below(seeds.len())].clone();
    for _ in 0..rng.below(4) {
        let at = rng.below(stimulus.frame.len().min(56));
        let bits = rng.bits();
        // A bit as often as a byte.
        stimulus.frame[at] ^= if bits & 1 == 0 { 1 << (bits >> 8 & 7) } else { (bits >> 8) as u8 };
    }
    if rng.below(8) == 0 {
        stimulus.frame.truncate(34 + rng.below(40));
    }
    if rng.below(4) == 0 {
        stimulus.hook = rng.pick(&[Hook::Xdp, Hook::Tc]);
    }
    stimulus
}

#[test]
fn random_frames_come_to_the_same_on_host_and_in_the_kernel() {
    const TEST: &str = "kernel_relay::random_frames_come_to_the_same_on_host_and_in_the_kernel";
    const FRAMES: usize = 20_000;
    if require(TEST).is_none() {
        return;
    }
    let seed = std::env::var("WAVNET_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed_0009);
    println!("seed {seed} (WAVNET_TEST_SEED)");
    let result: Result<()> = RelaySandbox::run(|sandbox| {
        let plain = |f: &RelayFixture| !f.host_only && f.stimulus.frame.len() >= 56;
        let fixtures = relay_fixtures(&sandbox.devices);
        let seeds: Vec<RelayStimulus> = fixtures.into_iter().filter(plain).map(|f| f.stimulus).collect();
        let (mut rng, mut seen) = (Rng::new(seed), BTreeMap::<RelayCount, u64>::new());
        for i in 0..FRAMES {
            let stimulus = nearly_right(&mut rng, &seeds);
            // TC's test-run wants the header of IPv6 whole as well.
            if stimulus.hook == Hook::Tc && stimulus.frame[12..14] == [0x86, 0xdd] && stimulus.frame.len() < 54 {
                continue;
            }
            let generic = stimulus.hook == Hook::Xdp && i % 2 == 0;
            let host = run_relay(&mut RelayTables::new(&sandbox.world), &stimulus);
            let mut kernel = sandbox.test_run(&stimulus, generic).with_context(|| format!("seed {seed}, frame {i}"))?;
            let wanted = told(&host);
            if host.verdict == Verdict::Drop {
                kernel.bytes.clone_from(&wanted.bytes);
            }
            ensure!(
                kernel == wanted,
                "seed {seed}, frame {i}: {kernel:02x?} instead of {wanted:02x?}: {stimulus:02x?}"
            );
            for (what, n) in host.counts {
                *seen.entry(what).or_default() += n;
            }
        }
        println!("{seen:?}");
        let never: Vec<_> = RelayCount::ALL.into_iter().filter(|what| !seen.contains_key(what)).collect();
        ensure!(never.is_empty(), "seed {seed}: never counted: {never:?}");
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}

#[test]
fn programs_stay_below_their_budgets() {
    if require("kernel_relay::programs_stay_below_their_budgets").is_none() {
        return;
    }
    let result: Result<()> = RelaySandbox::run(|sandbox| {
        // XDP answers STUN beside what TC does, as often as a source may have it: a straight line without a loop.
        let (tc, xdp) = ((2_000, 800, 128), (3_800, 1_350, 224));
        for (name, most) in [(program::RELAY_XDP, xdp), (program::RELAY_XDP_GENERIC, xdp), (program::RELAY_TC, tc)] {
            let size = size_of(sandbox.relay.program(name)?)?;
            println!("{name}: {size:?}");
            let (verified, instructions, stack) = most;
            let fits = size.verified <= verified && size.instructions <= instructions && size.stack <= stack;
            ensure!(fits, "{name}: {size:?}, more than {most:?}");
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}
