//! Small frames: how many a second get through.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use wavnet_common::addr::Mac;

use crate::{
    bench::{
        TOO_LATE,
        affinity::{Side, pin},
        case::Case,
        rig::{Rig, small_frame, vm_addr},
        sender::{Sender, Stream},
    },
    lab::{
        frame::{checksum, pseudo_header},
        programs::abi::Counter,
        vnet::VnetHdr,
    },
};

/// Before counting begins.
pub(in crate::bench) const WARM_UP: Duration = Duration::from_millis(150);
/// Frames that fit into the queue of a veth.
const QUEUE: u32 = 256;

/// Sends small frames for a while; frames per second that arrived.
pub(in crate::bench) fn measure(rig: &mut Rig, case: Case, time: Duration) -> Result<f64> {
    let counted = match case {
        Case::Encap | Case::EncapPacketRate => {
            rig.hold_at_wire()?;
            send(rig, rig.at_vm()?, Counter::Wire, time)
        }
        Case::Flood1 | Case::Flood8 | Case::Flood64 => {
            rig.hold_broadcasts()?;
            let mut stream = rig.at_vm()?;
            stream.frame[..6].copy_from_slice(&Mac::BROADCAST.0);
            // More copies at once than the wire's queue holds would be lost there, made in vain.
            let copies = rig.wired.setting.absent_vteps().count() as u32 + 1;
            stream.batch = stream.batch.min(QUEUE / copies / 2);
            send(rig, stream, Counter::Wire, time)
        }
        Case::UdpFromTap => {
            rig.hold_at_wire()?;
            write_to_tap(rig, time)
        }
        Case::UdpToTap => read_from_tap(rig, time),
        Case::Decap => send(rig, rig.at_wire()?, Counter::Sink, time),
        _ => send(rig, rig.at_vm()?, Counter::Sink, time),
    };
    rig.pass_all()?;
    counted
}

/// Per second, what `count` counts between two moments, a warm-up later. `beat` is called at least twice a second.
pub(in crate::bench) fn rate(
    time: Duration,
    mut beat: impl FnMut() -> Result<()>,
    count: impl Fn() -> Result<u64>,
) -> Result<f64> {
    const BEAT: Duration = Duration::from_millis(500);
    beat()?;
    // Caches, page pools and neighbours warm up.
    thread::sleep(WARM_UP);
    let (before, start) = (count()?, Instant::now());
    let mut next = time;
    loop {
        while let Some(left) = next.checked_sub(start.elapsed()) {
            thread::sleep(left.min(BEAT));
            beat()?;
        }
        let (after, took) = (count()?, start.elapsed());
        if after > before {
            return Ok((after - before) as f64 / took.as_secs_f64());
        }
        // On a busy machine nobody may have had a CPU.
        ensure!(took < time + TOO_LATE, "no frame arrived");
        next = took + time;
    }
}

pub(in crate::bench) fn no_beat() -> Result<()> {
    Ok(())
}

/// From the generator to a counter of the lab's programs.
fn send(rig: &mut Rig, stream: Stream, at: Counter, time: Duration) -> Result<f64> {
    let sender = Sender::start(&stream, rig.programs.sender()?, Side::Sender)?;
    let rate = rate(time, no_beat, || rig.programs.count(at))?;
    sender.stop()?;
    Ok(rate)
}

/// From the wire's end to the process that reads the tap.
fn read_from_tap(rig: &mut Rig, time: Duration) -> Result<f64> {
    let sender = Sender::start(&rig.at_wire()?, rig.programs.sender()?, Side::Sender)?;
    let pump = rig.wired.vms[1].pump().context("the receiving VM is on no tap")?;
    pump.swallow(true);
    let rate = rate(time, no_beat, || Ok(pump.swallowed()));
    let stopped = sender.stop();
    pump.swallow(false);
    stopped.and(rate)
}

/// From a process that writes to the tap, as fast as it can, to the wire's beginning.
fn write_to_tap(rig: &Rig, time: Duration) -> Result<f64> {
    let (tap, stop) = (rig.tap()?, AtomicBool::new(false));
    let frame = offloaded_frame();
    thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<()> {
            pin(Side::Sender)?;
            while !stop.load(Ordering::Relaxed) {
                tap.send(&frame)?;
            }
            Ok(())
        });
        let rate = rate(time, no_beat, || rig.programs.count(Counter::Wire));
        stop.store(true, Ordering::Relaxed);
        writing.join().map_err(|_| anyhow!("the tap's writer panicked"))??;
        rate
    })
}

/// A small frame with a vnet header as a guest's driver makes it that leaves checksums to the device: the UDP checksum covers the
/// pseudo-header only.
fn offloaded_frame() -> Vec<u8> {
    const L4: usize = 34;
    const CHECKSUM: usize = 6;
    let mut frame = small_frame();
    let partial = !checksum(&pseudo_header(vm_addr(0), vm_addr(1), 17, frame.len() - L4));
    frame[L4 + CHECKSUM..][..2].copy_from_slice(&partial.to_be_bytes());
    let header = VnetHdr {
        flags: VnetHdr::NEEDS_CSUM,
        csum_start: L4 as u16,
        csum_offset: CHECKSUM as u16,
        ..VnetHdr::default()
    };
    [&header.bytes()[..], &frame].concat()
}
