//! Super-packets between taps, and what counters must say of them.

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{agent::sum_of, super_packet::SuperPacket, taps::Taps, vnet::VnetHdr};
use wavnet_user::api::model::TrafficInfo;

/// Frames and bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted(pub(crate) u64, pub(crate) u64);

impl std::ops::Sub for Counted {
    type Output = Counted;
    fn sub(self, old: Counted) -> Counted {
        Counted(self.0 - old.0, self.1 - old.1)
    }
}

pub(crate) fn rx(traffic: TrafficInfo) -> Counted {
    Counted(traffic.rx_frames, traffic.rx_bytes)
}

pub(crate) fn tx(traffic: TrafficInfo) -> Counted {
    Counted(traffic.tx_frames, traffic.tx_bytes)
}

/// Sends a super-packet to the other hypervisor; its segments must arrive as they should be and be counted everywhere.
pub(crate) fn check_far(net: &Taps, packet: &SuperPacket) -> Result<()> {
    let peer = |i: usize| Ok::<_, anyhow::Error>(net.agents[i].peers()?.first().context("a peer")?.traffic);
    let vni = |i: usize, direction: &str| {
        let (page, labels) = (net.agents[i].metrics()?, ["vni=\"100\"", &format!("direction=\"{direction}\"")]);
        let sum = |what| sum_of(&page, what, &labels).with_context(|| format!("no {what}"));
        Ok::<_, anyhow::Error>(Counted(sum("wavnet_vni_frames_total")? as u64, sum("wavnet_vni_bytes_total")? as u64))
    };
    let counters = || -> Result<[(&str, Counted); 6]> {
        Ok([
            ("the sender's port", rx(net.agents[0].port(Taps::NEAR_PORT)?.traffic)),
            ("the peer it was sent to", tx(peer(0)?)),
            ("the VNI where it was sent", vni(0, "tx")?),
            ("the peer it came from", rx(peer(1)?)),
            ("the VNI where it came", vni(1, "rx")?),
            ("the receiver's port", tx(net.agents[1].port(Taps::FAR_PORT)?.traffic)),
        ])
    };
    let before = counters()?;
    let (header, frame) = packet.handed_over();
    net.near.send(&header, &frame)?;
    let got = net.received(&net.far, Taps::FAR)?;
    equal(packet, &packet.segments(), got.into_iter().map(|f| f.1).collect())?;
    counted(packet, &before, &counters()?)
}

/// The same to the receiver beside the sender.
pub(crate) fn check_beside(net: &Taps, packet: &SuperPacket) -> Result<Vec<(VnetHdr, Vec<u8>)>> {
    let counters = || -> Result<[(&str, Counted); 2]> {
        Ok([
            ("the sender's port", rx(net.agents[0].port(Taps::NEAR_PORT)?.traffic)),
            ("the receiver's port", tx(net.agents[0].port(Taps::BESIDE_PORT)?.traffic)),
        ])
    };
    let before = counters()?;
    let (header, frame) = packet.handed_over();
    net.near.send(&header, &frame)?;
    let got = net.received(&net.beside, Taps::BESIDE)?;
    counted(packet, &before, &counters()?)?;
    Ok(got)
}

/// The segments, and the fence behind them.
pub(crate) fn counted(packet: &SuperPacket, before: &[(&str, Counted)], after: &[(&str, Counted)]) -> Result<()> {
    const FENCE: Counted = Counted(1, 60);
    let segments = packet.segments();
    let bytes: usize = segments.iter().map(Vec::len).sum();
    let want = Counted(segments.len() as u64, bytes as u64);
    for ((what, old), (_, new)) in before.iter().zip(after) {
        let grown = *new - *old - FENCE;
        ensure!(grown == want, "{what} counted {grown:?}, not {want:?}, for {packet:?}");
    }
    Ok(())
}

pub(crate) fn equal(packet: &SuperPacket, want: &[Vec<u8>], got: Vec<Vec<u8>>) -> Result<()> {
    ensure!(got.len() == want.len(), "{} frames instead of {} for {packet:?}", got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let at = got.iter().zip(want).position(|(a, b)| a != b);
        ensure!(got == want, "segment {i} of {packet:?} differs from byte {at:?} on:\n{got:02x?}\nnot\n{want:02x?}");
    }
    Ok(())
}
