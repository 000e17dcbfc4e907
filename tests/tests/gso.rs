//! Super-packets: frames that a VM hands over whole and that the kernel cuts into segments on their way (GSO).

use anyhow::ensure;
use wavnet_tests::lab::{
    self, Need,
    overlay::{Both, SOON, Shape, ip},
    poll_until, stream,
};

const NEEDS: &[Need] = &[Need::Wavnet];

#[test]
fn super_packets_of_a_vm_count_as_the_frames_they_become() {
    lab::run("super_packets_of_a_vm_count_as_the_frames_they_become", NEEDS, |lab| {
        const BYTES: u64 = 8_000_000;
        let net = Both::start(lab, Shape::default())?;
        let before = net.agents[0].port(&net.a.port)?.traffic;
        stream::bulk(&net.b.ns, ip(2), &net.a.ns, BYTES)?;
        // A segment carries at most 1460 octets.
        let wanted = BYTES / 1460;
        poll_until("the port's counters", SOON, || {
            let after = net.agents[0].port(&net.a.port)?.traffic;
            let (frames, bytes) = (after.rx_frames - before.rx_frames, after.rx_bytes - before.rx_bytes);
            ensure!(frames >= wanted, "{frames} frames for {BYTES} octets; at least {wanted} were on the wire");
            ensure!(frames < wanted * 2, "{frames} frames for {BYTES} octets are too many");
            // Every segment has headers of its own: 14 + 20 + 20 at least.
            ensure!(bytes >= BYTES + wanted * 54, "{bytes} B for {BYTES} octets: segments' headers are not counted");
            Ok(())
        })
    });
}
