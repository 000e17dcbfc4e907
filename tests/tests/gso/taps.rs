//! Two hypervisors with taps that take and give super-packets, and what their counters must say.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    Lab,
    agent::{Agent, sum_of},
    config::AgentConfig,
    frame::{has_mark, marked},
    host::Host,
    overlay::{SOON, blue},
    poll_until,
    super_packet::SuperPacket,
    topology::UNDERLAY_MTU,
    vnet::{VnetHdr, VnetTap},
};
use wavnet_user::api::model::TrafficInfo;

/// Two hypervisors whose VMs are tap ports with vnet headers, and nothing else that would send: a sender, a receiver beside it, and one
/// on the other hypervisor.
pub(crate) struct Taps {
    pub(crate) agents: [Agent; 2],
    pub(crate) hosts: [Host; 2],
    pub(crate) sender: VnetTap,
    pub(crate) beside: VnetTap,
    pub(crate) far: VnetTap,
}

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

impl Taps {
    pub(crate) const SENDER: Mac = Mac([2, 0, 0, 0, 0, 1]);
    pub(crate) const BESIDE: Mac = Mac([2, 0, 0, 0, 0, 2]);
    pub(crate) const FAR: Mac = Mac([2, 0, 0, 0, 0, 3]);

    /// `offloads`: the receiver beside the sender takes super-packets as they are.
    pub(crate) fn start(lab: &Lab, offloads: bool) -> Result<Taps> {
        Taps::start_with(lab, offloads, "hook = \"auto\"")
    }

    pub(crate) fn start_with(lab: &Lab, offloads: bool, underlay: &str) -> Result<Taps> {
        let hosts = lab.pair(UNDERLAY_MTU)?;
        let sender = VnetTap::create(&hosts[0].ns, "tap-s", 1500, false)?;
        let beside = VnetTap::create(&hosts[0].ns, "tap-b", 1500, offloads)?;
        let far = VnetTap::create(&hosts[1].ns, "tap-f", 1500, false)?;
        let start = |i: usize| {
            let config = AgentConfig::new(&[blue()]).port("tap-*", blue()).peer(hosts[1 - i].addr, &[blue()]);
            let config = match i {
                0 => config.static_peer(blue(), Taps::FAR, hosts[1].addr).static_port(blue(), Taps::BESIDE, "tap-b"),
                _ => config.static_port(blue(), Taps::FAR, "tap-f"),
            };
            Agent::start(lab, &hosts[i], &config.underlay(underlay))
        };
        let agents = [start(0)?, start(1)?];
        for agent in &agents {
            agent.wait_ready()?;
            poll_until("all taps to be ports", SOON, || {
                ensure!(agent.status()?.warnings.is_empty(), "{:?}", agent.status()?.warnings);
                Ok(())
            })?;
        }
        Ok(Taps { agents, hosts, sender, beside, far })
    }

    /// What comes out of a tap up to a fence that is sent now.
    pub(crate) fn received(&self, tap: &VnetTap, dst: Mac) -> Result<Vec<(VnetHdr, Vec<u8>)>> {
        self.send_fence(dst)?;
        Taps::up_to_fence(tap)
    }

    pub(crate) fn send_fence(&self, dst: Mac) -> Result<()> {
        self.sender.send(&VnetHdr::default(), &marked(dst, Taps::SENDER, "fence"))
    }

    pub(crate) fn up_to_fence(tap: &VnetTap) -> Result<Vec<(VnetHdr, Vec<u8>)>> {
        let end = Instant::now() + SOON;
        let mut all = Vec::new();
        loop {
            match tap.recv()? {
                Some((_, frame)) if has_mark(&frame, "fence") => return Ok(all),
                Some(frame) => all.push(frame),
                None => {
                    ensure!(Instant::now() < end, "the fence did not arrive after {} frames", all.len());
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Sends a super-packet to the other hypervisor; its segments must arrive as they should be and be counted everywhere.
    pub(crate) fn check_far(&self, packet: &SuperPacket) -> Result<()> {
        let peer = |i: usize| Ok::<_, anyhow::Error>(self.agents[i].peers()?.first().context("a peer")?.traffic);
        let vni = |i: usize, direction: &str| {
            let (page, labels) = (self.agents[i].metrics()?, ["vni=\"100\"", &format!("direction=\"{direction}\"")]);
            let sum = |what| sum_of(&page, what, &labels).with_context(|| format!("no {what}"));
            Ok::<_, anyhow::Error>(Counted(
                sum("wavnet_vni_frames_total")? as u64,
                sum("wavnet_vni_bytes_total")? as u64,
            ))
        };
        let counters = || -> Result<[(&str, Counted); 6]> {
            Ok([
                ("the sender's port", rx(self.agents[0].port("tap-s")?.traffic)),
                ("the peer it was sent to", tx(peer(0)?)),
                ("the VNI where it was sent", vni(0, "tx")?),
                ("the peer it came from", rx(peer(1)?)),
                ("the VNI where it came", vni(1, "rx")?),
                ("the receiver's port", tx(self.agents[1].port("tap-f")?.traffic)),
            ])
        };
        let before = counters()?;
        let (header, frame) = packet.handed_over();
        self.sender.send(&header, &frame)?;
        let got = self.received(&self.far, Taps::FAR)?;
        equal(packet, &packet.segments(), got.into_iter().map(|f| f.1).collect())?;
        self.counted(packet, &before, &counters()?)
    }

    /// The same to the receiver beside the sender.
    pub(crate) fn check_beside(&self, packet: &SuperPacket) -> Result<Vec<(VnetHdr, Vec<u8>)>> {
        let counters = || -> Result<[(&str, Counted); 2]> {
            Ok([
                ("the sender's port", rx(self.agents[0].port("tap-s")?.traffic)),
                ("the receiver's port", tx(self.agents[0].port("tap-b")?.traffic)),
            ])
        };
        let before = counters()?;
        let (header, frame) = packet.handed_over();
        self.sender.send(&header, &frame)?;
        let got = self.received(&self.beside, Taps::BESIDE)?;
        self.counted(packet, &before, &counters()?)?;
        Ok(got)
    }

    /// The segments, and the fence behind them.
    pub(crate) fn counted(
        &self,
        packet: &SuperPacket,
        before: &[(&str, Counted)],
        after: &[(&str, Counted)],
    ) -> Result<()> {
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
}

pub(crate) fn equal(packet: &SuperPacket, want: &[Vec<u8>], got: Vec<Vec<u8>>) -> Result<()> {
    ensure!(got.len() == want.len(), "{} frames instead of {} for {packet:?}", got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let at = got.iter().zip(want).position(|(a, b)| a != b);
        ensure!(got == want, "segment {i} of {packet:?} differs from byte {at:?} on:\n{got:02x?}\nnot\n{want:02x?}");
    }
    Ok(())
}
