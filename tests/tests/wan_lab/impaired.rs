//! Delay, jitter, loss, rate and queue, and their change while frames are on their way.

use std::time::{Duration, Instant};

use anyhow::ensure;
use wavnet_tests::lab::{
    self,
    wan::{
        Emulator, Impairment, Jitter, LinkSpec, Way,
        line::{Dropped, Line},
    },
};

use crate::{Ends, ascending, missing, numbered, time_of_one};

const MS: Duration = Duration::from_millis(1);

#[test]
fn order_is_kept_without_jitter_and_with_it_unless_frames_may_overtake() {
    lab::run("order_is_kept_without_jitter_and_with_it_unless_frames_may_overtake", &[], |lab| {
        let plain = Impairment::delayed(5 * MS);
        let ends = Ends::new(lab, &LinkSpec::both(plain))?;
        let jitter = plain.jitter(Jitter::Uniform(20 * MS));
        for (n, (what, impairment)) in
            [("plain", plain), ("jitter", jitter), ("overtaking", jitter.overtaking())].into_iter().enumerate()
        {
            ends.link.set(Way::Up, impairment)?;
            ends.send(0..2000, 100)?;
            let counts = ends.wait_through(2000 * (n as u64 + 1))?;
            ensure!(counts.out == counts.came, "{what}: {counts:?}");
            let numbers = ends.received()?;
            ensure!(missing(&numbers, 0..2000).is_empty(), "{what}: {} of 2,000 came", numbers.len());
            ensure!(ascending(&numbers) != impairment.overtaking, "{what}: ascending is {}", ascending(&numbers));
        }
        Ok(())
    });
}

#[test]
fn a_seed_loses_the_same_frames_every_time() {
    lab::run("a_seed_loses_the_same_frames_every_time", &[], |lab| {
        const FRAMES: u32 = 10_000;
        const SEED: u64 = 7;
        let lossy = Impairment::default().loss(0.05);
        let mut line = Line::new(lossy, SEED);
        let mut lost = |n: &u32| line.offer(Duration::ZERO, 100, *n) == Err((Dropped::Lost, *n));
        let expected = (0..FRAMES).filter(|n| lost(n)).collect();
        let ends = Ends::new(lab, &LinkSpec::both(lossy).seed(SEED))?;
        ends.send(0..FRAMES, 100)?;
        let counts = ends.wait_through(FRAMES.into())?;
        let gone = missing(&ends.received()?, 0..FRAMES);
        ensure!(gone == expected, "seed {SEED}: {} frames and not these {} are gone", gone.len(), expected.len());
        ensure!(counts.lost == gone.len() as u64, "seed {SEED}: {counts:?}");
        Ok(())
    });
}

#[test]
fn a_full_queue_drops_and_counts_and_a_rate_is_kept() {
    lab::run("a_full_queue_drops_and_counts_and_a_rate_is_kept", &[], |lab| {
        const FRAME: u32 = 1000;
        const QUEUE: u32 = 10_000;
        // A frame takes 10 ms.
        const RATE: u32 = 800_000;
        let link = Impairment::default().rate(RATE.into()).queue(QUEUE.into());
        let ends = Ends::new(lab, &LinkSpec::both(link))?;
        let start = Instant::now();
        ends.send(0..200, FRAME as usize)?;
        let counts = ends.wait_through(200)?;
        let took = start.elapsed();
        ensure!(counts.queue_full > 0 && counts.out + counts.queue_full == 200, "{counts:?}");
        let numbers = ends.received()?;
        ensure!(numbers.len() as u64 == counts.out && ascending(&numbers), "{numbers:?}; {counts:?}");
        ensure!(numbers.starts_with(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), "the queue has room for ten: {numbers:?}");
        // However long sending took: no more than the rate carries.
        let most = took.as_secs_f64() * f64::from(RATE) / f64::from(8 * FRAME);
        ensure!(counts.out as f64 <= most, "{counts:?} in {took:?}");
        Ok(())
    });
}

#[test]
fn no_frame_is_early_and_each_direction_has_a_delay_of_its_own() {
    lab::run("no_frame_is_early_and_each_direction_has_a_delay_of_its_own", &[], |lab| {
        let spec = LinkSpec { up: Impairment::delayed(40 * MS), down: Impairment::delayed(2 * MS), seed: 1 };
        let ends = Ends::new(lab, &spec)?;
        for n in 0..10 {
            let time = time_of_one(&ends, n)?;
            ensure!(time >= 40 * MS, "up after {time:?}");
        }
        let frame = numbered(99, 100);
        let start = Instant::now();
        ends.rx.send(&frame)?;
        ends.tx.expect("the frame down", crate::SOON, |f| f == frame)?;
        ensure!(start.elapsed() >= 2 * MS, "down after {:?}", start.elapsed());
        for jitter in [
            Jitter::Uniform(5 * MS),
            Jitter::Normal { mean: 2 * MS, deviation: 5 * MS },
            Jitter::Pareto { scale: 2 * MS, shape: 3.0, most: 50 * MS },
        ] {
            ends.link.set(Way::Up, Impairment::delayed(20 * MS).jitter(jitter))?;
            for n in 0..10 {
                let time = time_of_one(&ends, n)?;
                ensure!(time >= 20 * MS, "{jitter:?}: up after {time:?}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_change_is_for_every_frame_sent_after_it() {
    lab::run("a_change_is_for_every_frame_sent_after_it", &[], |lab| {
        let ends = Ends::new(lab, &LinkSpec::both(Impairment::default()))?;
        for round in 0..20_u32 {
            let [first, cut, last] = [30 * round, 30 * round + 10, 30 * round + 20];
            ends.send(first..cut, 100)?;
            ends.wait_through((30 * round + 10).into())?;
            ends.link.set(Way::Up, Impairment::default().loss(1.0))?;
            ensure!(ends.link.get(Way::Up).loss == 1.0 && ends.link.get(Way::Down).loss == 0.0, "the other one");
            ends.send(cut..last, 100)?;
            ends.wait_through((30 * round + 20).into())?;
            ends.link.set(Way::Up, Impairment::default())?;
            ends.send(last..last + 10, 100)?;
            ends.wait_through((30 * round + 30).into())?;
            let numbers = ends.received()?;
            let want: Vec<u32> = (first..cut).chain(last..last + 10).collect();
            ensure!(numbers == want, "round {round}: {numbers:?}");
        }
        let error = ends.link.set(Way::Up, Impairment::default().loss(2.0)).unwrap_err().to_string();
        ensure!(error.contains('2'), "{error}");
        Ok(())
    });
}

#[test]
fn memory_has_a_bound_and_what_is_beyond_it_is_counted() {
    lab::run("memory_has_a_bound_and_what_is_beyond_it_is_counted", &[], |lab| {
        let ends = Ends::new(lab, &LinkSpec::both(Impairment::delayed(20 * crate::SOON)))?;
        let sent = Emulator::MOST as u32 + 1000;
        // Not faster than they are taken, or the kernel would drop some.
        for first in (0..sent).step_by(1000) {
            let next = sent.min(first + 1000);
            ends.send(first..next, 60)?;
            lab::wait_until("frames to be taken", crate::SOON, || {
                Ok(ends.link.counts(Way::Up)?.came == u64::from(next))
            })?;
        }
        let counts = ends.link.counts(Way::Up)?;
        ensure!(counts.overflow == u64::from(sent) - Emulator::MOST as u64 && counts.out == 0, "{counts:?}");
        ensure!(counts.faults() == counts.overflow, "{counts:?}");
        Ok(())
    });
}
