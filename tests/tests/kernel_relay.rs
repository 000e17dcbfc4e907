//! The relay's programs in the kernel and the same code on the host; what they may cost.

use anyhow::{Context, Error, Result, ensure};
use wavnet_common::{
    abi::relay::program,
    relay::{Hook, Verdict},
    testing::relay::{RelayOutcome, RelayTables, relay_fixtures, run_relay},
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

#[test]
fn programs_stay_below_their_budgets() {
    if require("kernel_relay::programs_stay_below_their_budgets").is_none() {
        return;
    }
    let result: Result<()> = RelaySandbox::run(|sandbox| {
        for name in [program::RELAY_XDP, program::RELAY_XDP_GENERIC, program::RELAY_TC] {
            let size = size_of(sandbox.relay.program(name)?)?;
            println!("{name}: {size:?}");
            ensure!(size.verified <= 2_000 && size.instructions <= 800 && size.stack <= 128, "{name}: {size:?}");
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}
