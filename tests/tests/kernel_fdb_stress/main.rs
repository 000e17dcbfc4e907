//! The kernel programs on two CPUs at once over one forwarding table, which the agent's own code ages, changes and reads meanwhile,
//! beside a model of it.
//!
//! MACs that one CPU alone sends from are exactly where its last frame came from; frames to MACs of everybody are not flooded once
//! they are known, as long as nobody removes anything; static ones stay where the agent put them; and the counters add up.
//!
//! `WAVNET_STRESS_SECONDS` says how long (60), `WAVNET_TEST_SEED` what each thread does; the order in which they do it is the
//! machine's.

mod agent;
mod learner;
mod net;

use std::{
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use agent::Agent;
use anyhow::{Result, anyhow, ensure};
use learner::{Counts, Learner};
use net::{CPUS, Net, PORT, Sent, VTEPS};
use wavnet_common::{
    abi::Count,
    datapath::Of,
    fdb::{self, Entry},
    reason::Reason,
    testing::stress::{EndOf, Removals, number_from},
};
use wavnet_tests::{
    kernel::{PinPath, Sandbox, require},
    lab::cpu,
};
use wavnet_user::datapath::Datapath;

#[test]
fn the_programs_and_the_agent_share_the_table_without_a_race() {
    const TEST: &str = "kernel_fdb_stress::the_programs_and_the_agent_share_the_table_without_a_race";
    let Some(pins) = require(TEST) else { return };
    let time = Duration::from_secs(number_from("WAVNET_STRESS_SECONDS").unwrap_or(60));
    let seed = number_from("WAVNET_TEST_SEED").unwrap_or(0x5eed_0008);
    println!("seed {seed} (WAVNET_TEST_SEED), {time:?} (WAVNET_STRESS_SECONDS)");
    let result = Sandbox::run(&pins, |sandbox| {
        sandbox.datapath.fdb().remove_if(|_| true);
        net::install(sandbox)?;
        stress(&pins, sandbox, time, seed)
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}

fn stress(pins: &PinPath, sandbox: &mut Sandbox, time: Duration, seed: u64) -> Result<()> {
    let (removals, end) = (Removals::default(), AtomicBool::new(false));
    let nets = (0..CPUS).map(|_| Net::new(sandbox)).collect::<Result<Vec<_>>>()?;
    let mut after = Net::new(sandbox)?;
    let before = Counted::read(&sandbox.datapath)?;
    let mut agent = Agent::new(pins, sandbox, &removals, seed)?;
    let learners = thread::scope(|scope| {
        let (removals, end) = (&removals, &end);
        // In the namespace of the sandbox, as this thread is.
        let start = |(cpu, net): (usize, Net)| {
            scope.spawn(move || {
                let _end = EndOf(end);
                cpu::pin(cpu)?;
                Learner::new(net, removals, cpu, seed + 1 + cpu as u64).run(end)
            })
        };
        let learners: Vec<_> = nets.into_iter().enumerate().map(start).collect();
        let end_of_all = EndOf(end);
        let begun = Instant::now();
        let done = agent.run(|| begun.elapsed() >= time, end);
        drop(end_of_all);
        let learners: Vec<_> =
            learners.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a learner panicked"))?).collect();
        // What a learner says comes first: it ends the agent.
        let learners = learners.into_iter().collect::<Result<Vec<_>>>()?;
        done.map(|()| learners)
    })?;
    for (cpu, (_, sent, counts)) in learners.iter().enumerate() {
        println!("CPU {cpu}: {sent:?}, {counts:?}");
    }
    agent.take_events();
    println!("agent: {:?}", agent.counts);

    // At rest: every MAC once, none half done, and frames go where the table says.
    let left = agent.contents();
    fdb::unfinished(agent.sandbox.datapath.fdb(), |slot| panic!("{slot:?} was left behind"));
    for own in learners.iter().flat_map(|(own, ..)| own) {
        let place = left.get(&own.n).map(|entry| entry.place);
        ensure!(place == own.place || place.is_none(), "{own:?} is at {place:?}");
    }
    let counted = Counted::read(&agent.sandbox.datapath)?.since(&before);
    println!("counted: {counted:?}; {} entries", left.len());
    let sent: Vec<_> = learners.iter().map(|(_, sent, _)| *sent).collect();
    let counts: Vec<_> = learners.iter().map(|(.., counts)| *counts).collect();
    balance(&counted, left.values(), &sent, &counts, &agent.counts)?;
    for (n, entry) in &left {
        ensure!(after.look_up(*n)? == Some(entry.place), "a frame to {n}, which is {entry:?}");
    }
    Ok(())
}

/// What the programs counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    learned: u64,
    moved: u64,
    full: u64,
    kept: u64,
    lost: u64,
    /// What [`Sent`] says of the frames.
    sent: Sent,
}

impl Counted {
    fn read(datapath: &Datapath) -> Result<Counted> {
        let count = |what| datapath.count(what);
        let received = |of| anyhow::Ok(datapath.traffic(of)?.rx_frames);
        let mut by_vtep = [0; 3];
        for (n, index) in by_vtep.iter_mut().zip(VTEPS) {
            *n = received(Of::Vtep(index))?;
        }
        let hairpin = datapath.drops()?.into_iter().find(|(reason, _)| *reason == Reason::Hairpin);
        Ok(Counted {
            learned: count(Count::Learned)?,
            moved: count(Count::Moved)?,
            full: count(Count::FdbFull)?,
            kept: count(Count::StaticKept)?,
            lost: count(Count::EventsLost)?,
            sent: Sent {
                by_port: received(Of::Port(PORT))?,
                by_vtep,
                flooded: count(Count::Flooded)?,
                hairpin: hairpin.map_or(0, |(_, n)| n),
            },
        })
    }

    fn since(&self, before: &Counted) -> Counted {
        let (now, then) = (&self.sent, &before.sent);
        Counted {
            learned: self.learned - before.learned,
            moved: self.moved - before.moved,
            full: self.full - before.full,
            kept: self.kept - before.kept,
            lost: self.lost - before.lost,
            sent: Sent {
                by_port: now.by_port - then.by_port,
                by_vtep: std::array::from_fn(|i| now.by_vtep[i] - then.by_vtep[i]),
                flooded: now.flooded - then.flooded,
                hairpin: now.hairpin - then.hairpin,
            },
        }
    }
}

/// Every frame is counted as what became of it, and what was learned is what was removed and what is there.
fn balance<'a>(
    counted: &Counted,
    left: impl Iterator<Item = &'a Entry>,
    sent: &[Sent],
    learners: &[Counts],
    agent: &agent::Counts,
) -> Result<()> {
    let all = |of: fn(&Sent) -> u64| sent.iter().map(of).sum::<u64>();
    let sent = Sent {
        by_port: all(|s| s.by_port),
        by_vtep: std::array::from_fn(|i| sent.iter().map(|s| s.by_vtep[i]).sum()),
        flooded: all(|s| s.flooded),
        hairpin: all(|s| s.hairpin),
    };
    ensure!(counted.sent == sent, "{:?} counted, {sent:?} sent", counted.sent);
    let learned = left.filter(|entry| !entry.is_static).count() as u64 + agent.aged + agent.removed;
    ensure!(counted.learned == learned, "{} learned, {learned} there or removed", counted.learned);
    let sum = |of: fn(&Counts) -> u64| learners.iter().map(of).sum::<u64>();
    ensure!(counted.kept == sum(|c| c.kept), "{} kept, {} sent so", counted.kept, sum(|c| c.kept));
    let (least, most) = (sum(|c| c.own_moved), sum(|c| c.own_moved + c.own_doubtful + c.shared));
    ensure!((least..=most).contains(&counted.moved), "{} moved, of {least} to {most}", counted.moved);
    let most = sum(|c| c.own_doubtful + c.shared);
    ensure!((1..=most).contains(&counted.full), "{} found no room, of {most}", counted.full);
    let told = agent.events + counted.lost;
    ensure!(counted.learned + counted.moved == told, "{told} events told or lost");

    let happened =
        [sum(|c| c.looked_up), sum(|c| c.quiet), sent.flooded, sent.hairpin, agent.aged, agent.removed, agent.set];
    ensure!(happened.iter().all(|n| *n > 0), "looked up, watched, flooded, hairpin, aged, removed, set: {happened:?}");
    Ok(())
}
