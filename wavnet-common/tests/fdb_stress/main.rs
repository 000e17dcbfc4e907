//! The forwarding table under fire, beside a model of it: CPUs that learn and look up, an agent that ages, removes, sets and reads,
//! all at once, for a while.
//!
//! Keys that one CPU alone learns must be exactly as it left them, however slots change hands around them; of those that everybody
//! learns an entry stays, and its epoch does not go back, as long as nobody removes anything; static ones are the agent's. In the
//! end, what was entered is what was removed and what is there.
//!
//! `WAVNET_STRESS_SECONDS` says how long (3), `WAVNET_TEST_SEED` what each thread does; the order in which they do it is the
//! machine's.

mod agent;
mod keys;
mod learner;

use std::{
    collections::HashMap,
    sync::{
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use agent::Agent;
use keys::{CPUS, OPERATED, SHARED, check, key, number, place};
use learner::{Learner, Shared, may_be_gone};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use wavnet_common::{
    fdb::{self, Entry, Learnt, Row, Seen},
    testing::stress::{EndOf, Removals, number_from},
};

/// Few slots for many keys: everybody meets everybody, and buckets are full at times.
const BUCKETS: usize = 16;

/// Keeps the calling thread on one of the CPUs that this process may use.
fn pin(cpu: usize) {
    let me = Pid::from_raw(0);
    let allowed = sched_getaffinity(me).expect("the CPUs");
    let cpus: Vec<_> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    let mut one = CpuSet::new();
    one.set(cpus[cpu % cpus.len()]).expect("a CPU");
    sched_setaffinity(me, &one).expect("moving to a CPU");
}

#[test]
fn nothing_is_torn_doubled_or_lost() {
    let time = Duration::from_secs(number_from("WAVNET_STRESS_SECONDS").unwrap_or(3));
    let seed = number_from("WAVNET_TEST_SEED").unwrap_or(0x5eed_0007);
    println!("seed {seed} (WAVNET_TEST_SEED), {time:?} (WAVNET_STRESS_SECONDS)");
    let table: Box<[Row]> = std::iter::repeat_with(Row::default).take(BUCKETS).collect();
    let table = &*table;
    let (removals, epoch, end) = (Removals::default(), AtomicU32::new(10), AtomicBool::new(false));
    let agent = Agent::new(table, &removals, seed);
    let (learners, (statics, by_agent)) = thread::scope(|scope| {
        let learners: Vec<_> = (0..CPUS)
            .map(|cpu| {
                let shared = Shared { table, removals: &removals, epoch: &epoch, end: &end };
                let end = &end;
                scope.spawn(move || {
                    let _end = EndOf(end);
                    pin(cpu);
                    Learner::new(shared, cpu, seed + 1 + cpu as u64).run()
                })
            })
            .collect();
        let agent = scope.spawn(|| {
            let _end = EndOf(&end);
            agent.run(&end)
        });
        let start = Instant::now();
        while start.elapsed() < time && !end.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
        drop(EndOf(&end));
        let learners: Vec<_> = learners.into_iter().map(|thread| thread.join().expect("a learner")).collect();
        (learners, agent.join().expect("the agent"))
    });
    for (cpu, (_, counts)) in learners.iter().enumerate() {
        println!("CPU {cpu}: {counts:?}");
    }
    println!("agent: {by_agent:?}");

    // At rest: every key once, none half done.
    let mut left = HashMap::new();
    fdb::for_each(table, |key, entry| {
        check(number(key), &entry);
        assert!(left.insert(number(key), entry).is_none(), "{key:?} is there twice");
    });
    fdb::unfinished(table, |slot| panic!("{slot:?} was left behind"));
    for (n, own) in learners.iter().flat_map(|(own, _)| own) {
        let found = left.get(n).copied();
        assert!(found == *own || found.is_none() && may_be_gone(*own), "key {n}: {found:?} instead of {own:?}");
    }
    for (n, entry) in &statics {
        assert_eq!(left.get(n), Some(entry), "static key {n}");
    }
    balance(&left, &learners.iter().map(|(_, counts)| *counts).collect::<Vec<_>>(), &by_agent);

    // The table is as good as new.
    assert_eq!(fdb::remove_if(table, |_, _| true), left.len());
    let room = (0..BUCKETS as u16).filter(|n| fdb::learn(table, key(*n), place(*n, true), Seen(1), 0) == Learnt::New);
    assert_eq!(room.count(), BUCKETS);
}

/// What was entered is what was removed and what is there; and everything has happened.
fn balance(left: &HashMap<u16, Entry>, learners: &[learner::Counts], agent: &agent::Counts) {
    let sum = |of: fn(&learner::Counts) -> u64| learners.iter().map(of).sum::<u64>();
    let count = |wanted: fn(u16) -> bool| left.keys().filter(|n| wanted(**n)).count() as u64;
    let learned = count(|n| n < SHARED.end);
    let entered = sum(|c| c.new) - sum(|c| c.new_operated);
    assert_eq!(entered, learned + agent.aged + agent.removed, "entries of learned keys");
    // A static entry is entered, or replaces a learned one.
    let operated = count(|n| OPERATED.contains(&n)) + agent.removed_operated;
    let entered = sum(|c| c.new_operated);
    assert!((entered..=entered + agent.set_operated).contains(&operated), "{operated} entries of {OPERATED:?}");

    let [known, moved, kept] = [sum(|c| c.known), sum(|c| c.moved), sum(|c| c.kept)];
    let happened = [known, moved, kept, sum(|c| c.full), sum(|c| c.aged), sum(|c| c.quiet)];
    assert!(happened.iter().all(|n| *n > 0), "known, moved, kept, full, aged, watched in quiet: {happened:?}");
    let happened = [agent.aged, agent.removed, agent.removed_operated, agent.set, agent.sweeps];
    assert!(happened.iter().all(|n| *n > 0), "aged, removed, removed of the operator's, set, read: {happened:?}");
}

/// Two CPUs see the same new address at the same moment, over and over: it gets in once or not at all, and then once.
#[test]
fn a_race_for_a_new_key_has_one_winner() {
    let table: Box<[Row]> = std::iter::repeat_with(Row::default).take(64).collect();
    let table = &*table;
    let (arrived, end) = (AtomicUsize::new(0), AtomicBool::new(false));
    let contest = |n: u16| {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < 2 * (usize::from(n) + 1) && !end.load(Ordering::Relaxed) {
            // Where there is but one CPU, or others want it, the other thread must get it.
            thread::yield_now();
        }
        fdb::learn(table, key(n), place(n, true), Seen(1), 0)
    };
    let contests = 0..5_000;
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let rounds = contests.clone();
        // It ends when nobody listens any more.
        scope.spawn(move || rounds.map(contest).try_for_each(|outcome| tell.send(outcome)));
        let _end = EndOf(&end);
        for n in contests {
            let outcomes = [contest(n), told.recv().expect("the other CPU")];
            let new = outcomes.iter().filter(|outcome| **outcome == Learnt::New).count();
            assert!(new <= 1, "{n}: {outcomes:?}");
            assert_eq!(fdb::len(table), new, "{n}: {outcomes:?}");
            assert_eq!(fdb::lookup(table, key(n)).is_some(), new == 1, "{n}: {outcomes:?}");
            fdb::unfinished(table, |slot| panic!("{n}: {slot:?} was left behind, {outcomes:?}"));
            assert_eq!(fdb::remove(table, key(n)), new == 1);
        }
    });
}
