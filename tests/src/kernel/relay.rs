//! The relay's programs without traffic.

use std::{collections::BTreeMap, thread};

use anyhow::{Context, Result};
use aya::{TestRun, TestRunOptions, programs::Program};
use nix::sched::{CloneFlags, unshare};
use wavnet_common::{
    abi::relay::{Metered, RelayConfig, RelayCount, program},
    relay::{Hook, Verdict},
    testing::relay::{RelayDevices, RelayOutcome, RelayStimulus, RelayWorld},
};
use wavnet_proto::relay::RelayCommand;
use wavnet_user::datapath::Relay;

use super::sandbox::{context, make_veths, xdp_context};

/// The relay over its test world, on interfaces of a namespace that nobody else is in.
pub struct RelaySandbox {
    /// The interfaces.
    pub devices: RelayDevices,
    /// The tables' contents.
    pub world: RelayWorld,
    /// The programs.
    pub relay: Relay,
    config: RelayConfig,
}

impl RelaySandbox {
    /// Runs `f` in a new sandbox, in a thread of its own.
    ///
    /// # Errors
    /// What `f` says, or what could not be made.
    pub fn run(f: impl FnOnce(&mut RelaySandbox) -> Result<()> + Send) -> Result<()> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
                let found = make_veths(&["nic", "second", "third"].map(str::to_owned))?;
                let devices = RelayDevices { nic: found[0], second: found[1], third: found[2] };
                let world = RelayWorld::new(&devices);
                let relay = Relay::open(world.legs.len() as u32)?;
                let config = world.config;
                let mut sandbox = RelaySandbox { devices, world, relay, config };
                sandbox.install()?;
                f(&mut sandbox)
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Writes the world as a server would.
    fn install(&mut self) -> Result<()> {
        let mut commands = vec![RelayCommand::SetServer(self.world.config)];
        for (row, link) in self.world.links.iter().enumerate() {
            commands.push(RelayCommand::SetLink { row: row as u16, link: *link });
        }
        for (row, (leg, hop, rate)) in (0..).zip(&self.world.legs) {
            commands.push(RelayCommand::SetLeg { row, leg: *leg, rate: None });
            commands.push(RelayCommand::SetRate { row, rate: *rate });
            commands.push(RelayCommand::SetHop { row, hop: *hop });
        }
        commands.iter().try_for_each(|command| Ok(self.relay.apply(command)?))
    }

    /// Runs the program of the stimulus on its frame. `generic`: that for generic XDP.
    ///
    /// # Errors
    /// Those of the kernel: frames that a test-run refuses.
    pub fn test_run(&mut self, stimulus: &RelayStimulus, generic: bool) -> Result<RelayOutcome> {
        let config = stimulus.config(&self.world.config);
        if config != self.config {
            self.relay.apply(&RelayCommand::SetServer(config))?;
            self.config = config;
        }
        let before = self.counted()?;
        let mut out = vec![0; stimulus.frame.len() + 512];
        let (name, context) = match stimulus.hook {
            Hook::Xdp if generic => (program::RELAY_XDP_GENERIC, xdp_context(stimulus.ifindex, &stimulus.frame)),
            Hook::Xdp => (program::RELAY_XDP, xdp_context(stimulus.ifindex, &stimulus.frame)),
            Hook::Tc => (program::RELAY_TC, context(stimulus.ifindex, 0, stimulus.gso)),
        };
        let options = TestRunOptions {
            data_in: Some(&stimulus.frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = match self.relay.program(name)? {
            Program::Xdp(p) => p.test_run(options),
            Program::SchedClassifier(p) => p.test_run(options),
            other => panic!("{name} is a program of type {:?}", other.prog_type()),
        }?;
        out.truncate(result.data_size_out as usize);
        let after = self.counted()?;
        let since = |what: &RelayCount| after.0[what] - before.0[what];
        let counts = after.0.keys().map(|what| (*what, since(what))).filter(|(_, n)| *n != 0).collect();
        let metered = Metered {
            frames: after.1.frames - before.1.frames,
            bytes: after.1.bytes - before.1.bytes,
            dropped: after.1.dropped - before.1.dropped,
        };
        Ok(RelayOutcome { verdict: verdict(stimulus.hook, result.return_value)?, bytes: out, counts, metered })
    }

    fn counted(&self) -> Result<(BTreeMap<RelayCount, u64>, Metered)> {
        let rows = 0..self.world.legs.len() as u32;
        let metered = rows.map(|row| self.relay.metered(row)).fold(Metered::default(), |a, b| Metered {
            frames: a.frames + b.frames,
            bytes: a.bytes + b.bytes,
            dropped: a.dropped + b.dropped,
        });
        Ok((self.relay.counts()?.into_iter().collect(), metered))
    }
}

/// Where a redirect goes, a test-run does not say: [`Verdict::Send`] is to interface 0.
fn verdict(hook: Hook, action: u32) -> Result<Verdict> {
    Ok(match (hook, action) {
        (Hook::Xdp, 2) | (Hook::Tc, u32::MAX) => Verdict::Pass,
        (Hook::Xdp, 1) | (Hook::Tc, 2) => Verdict::Drop,
        (Hook::Xdp, 3) => Verdict::Back,
        (Hook::Xdp, 4) | (Hook::Tc, 7) => Verdict::Send { ifindex: 0 },
        _ => anyhow::bail!("{hook:?} returned {action}"),
    })
}
