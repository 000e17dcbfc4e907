//! A MAC for which both buckets are full: it is counted, and frames from it and to it arrive all the same.

use anyhow::{Context, Result, ensure};
use wavnet_common::{
    abi::Count,
    addr::Mac,
    fdb::{self, Key, Learnt, Place, Seen},
    testing::{
        Hook, Stimulus,
        frames::{Outer, udp4},
        world::{mac, remote},
    },
};
use wavnet_tests::kernel::{KernelOutcome, Sandbox, require};

/// Where the VM is that finds no room: port 1 of VNI 100.
const PORT: usize = 1;

/// Enters others until a MAC finds no room: that one.
fn crowd_out(sandbox: &Sandbox) -> Result<[u8; 6]> {
    sandbox.reset_fdb();
    let fdb = sandbox.datapath.fdb();
    let now = Seen::at(wavnet_user::datapath::event_clock_ns());
    let others = (0..=u16::MAX).map(|n| [0x52, 0x54, 0, 0x66, (n >> 8) as u8, n as u8]);
    let mut refused = others.filter(|mac| {
        let key = Key::new(0, Mac(*mac));
        fdb::learn(fdb, key, Place::Vtep(0), now, 0) == Learnt::Full
    });
    refused.next().context("a table that takes everybody")
}

fn was_delivered(sandbox: &Sandbox, outcome: &KernelOutcome, frame: &[u8]) -> bool {
    outcome.copies.contains(&(sandbox.devices.ports[PORT], frame.to_vec()))
}

#[test]
fn who_finds_no_room_is_counted_and_reached_by_flooding() {
    let Some(pins) = require("kernel_fdb_full::who_finds_no_room_is_counted_and_reached_by_flooding") else { return };
    let result = Sandbox::run(&pins, |sandbox| {
        sandbox.datapath.heartbeat()?;
        let homeless = crowd_out(sandbox)?;
        let known = |sandbox: &Sandbox| sandbox.datapath.fdb().get(0, Mac(homeless)).is_some();

        // From it, to a VM behind a peer: on its way, and counted.
        let by_peer = Stimulus::new(Hook::Port(PORT), udp4(remote(0), homeless, 100));
        for times in 1..=2 {
            let outcome = sandbox.test_run(&by_peer)?;
            ensure!(outcome.tally.count(Count::FdbFull) == 1, "frame {times}: {:?}", outcome.tally);
            ensure!(outcome.tally.drops.is_empty() && outcome.bytes.len() > 100, "frame {times}: {outcome:?}");
        }
        ensure!(!known(sandbox), "it got in");

        // To it, from the VM at another port and from one behind a peer.
        let frame = udp4(homeless, mac(0), 100);
        let outcome = sandbox.test_run(&Stimulus::new(Hook::Port(0), frame.clone()))?;
        ensure!(outcome.tally.count(Count::Flooded) == 1, "{:?}", outcome.tally);
        ensure!(was_delivered(sandbox, &outcome, &frame), "it got no copy: {outcome:?}");
        let frame = udp4(homeless, remote(0), 100);
        let outcome = sandbox.test_run(&Stimulus::new(Hook::UnderlayTc, Outer::default().build(&frame)))?;
        ensure!(outcome.tally.count(Count::Flooded) == 1, "{:?}", outcome.tally);
        ensure!(was_delivered(sandbox, &outcome, &frame), "it got no copy: {outcome:?}");

        // As soon as there is room, it is known, and nothing to it is flooded.
        sandbox.datapath.fdb().remove_if(|entry| entry.mac.0[3] == 0x66);
        let outcome = sandbox.test_run(&by_peer)?;
        let (full, learned) = (outcome.tally.count(Count::FdbFull), outcome.tally.count(Count::Learned));
        ensure!((full, learned) == (0, 1) && known(sandbox), "{:?}", outcome.tally);
        let outcome = sandbox.test_run(&Stimulus::new(Hook::Port(0), udp4(homeless, mac(0), 100)))?;
        ensure!(outcome.tally.count(Count::Flooded) == 0 && outcome.copies.is_empty(), "{outcome:?}");
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}
