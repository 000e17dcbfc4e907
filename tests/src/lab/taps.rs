//! Two hypervisors whose VMs are taps with vnet headers, which the test itself reads and writes.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use wavnet_common::addr::Mac;
use wavnet_user::api::model::AttachState;

use super::{
    Lab,
    agent::Agent,
    config::AgentConfig,
    frame::{has_mark, marked},
    host::Host,
    overlay::{SOON, blue},
    poll_until,
    topology::UNDERLAY_MTU,
    vnet::{VnetHdr, VnetTap},
};

/// What may differ from test to test.
#[derive(Clone, Copy, Debug)]
pub struct TapShape<'a> {
    /// Mode of all ports.
    pub mode: &'a str,
    /// A line for `[underlay]` of both agents.
    pub underlay: &'a str,
    /// The tap beside the near one takes super-packets and partial checksums as they are.
    pub beside_takes_offloads: bool,
    /// More queues can be opened ([`Taps::queues`]).
    pub multi_queue: bool,
}

impl TapShape<'_> {
    /// Ports and underlay as the agent chooses, taps of one queue that take plain frames.
    pub const PLAIN: TapShape<'static> =
        TapShape { mode: "auto", underlay: "hook = \"auto\"", beside_takes_offloads: false, multi_queue: false };
}

/// Two hypervisors whose ports are taps, and nothing else that would send: one, another beside it, and one on the other hypervisor. All
/// three addresses are known to both agents.
#[derive(Debug)]
pub struct Taps {
    /// The agents.
    pub agents: [Agent; 2],
    /// The hypervisors.
    pub hosts: [Host; 2],
    /// On the first hypervisor.
    pub near: VnetTap,
    /// Beside it.
    pub beside: VnetTap,
    /// On the second hypervisor.
    pub far: VnetTap,
}

impl Taps {
    /// Address behind [`Taps::near`].
    pub const NEAR: Mac = Mac([2, 0, 0, 0, 0, 1]);
    /// Address behind [`Taps::beside`].
    pub const BESIDE: Mac = Mac([2, 0, 0, 0, 0, 2]);
    /// Address behind [`Taps::far`].
    pub const FAR: Mac = Mac([2, 0, 0, 0, 0, 3]);
    /// The port of [`Taps::near`].
    pub const NEAR_PORT: &str = "tap-n";
    /// The port of [`Taps::beside`].
    pub const BESIDE_PORT: &str = "tap-b";
    /// The port of [`Taps::far`].
    pub const FAR_PORT: &str = "tap-f";

    const MARK: &str = "fence";

    /// Starts it and waits until all ports are attached.
    ///
    /// # Errors
    /// Something does not start, or an agent warns of something.
    pub fn start(lab: &Lab, shape: TapShape<'_>) -> Result<Taps> {
        let hosts = lab.pair(UNDERLAY_MTU)?;
        let tap = |i: usize, name: &str| {
            let ns = &hosts[i].ns;
            if shape.multi_queue {
                VnetTap::create_multi_queue(ns, name, 1500)
            } else {
                VnetTap::create(ns, name, 1500, shape.beside_takes_offloads && name == Taps::BESIDE_PORT)
            }
        };
        let (near, far) = (tap(0, Taps::NEAR_PORT)?, tap(1, Taps::FAR_PORT)?);
        let beside = tap(0, Taps::BESIDE_PORT)?;
        let all =
            [(0, Taps::NEAR, Taps::NEAR_PORT), (0, Taps::BESIDE, Taps::BESIDE_PORT), (1, Taps::FAR, Taps::FAR_PORT)];
        let start = |i: usize| {
            let config = AgentConfig::new(&[blue()])
                .port_mode("tap-*", blue(), shape.mode)
                .peer(hosts[1 - i].addr, &[blue()])
                .underlay(shape.underlay)
                .metrics("program_run_time = true");
            let config = all.iter().fold(config, |config, (host, mac, port)| {
                if *host == i {
                    config.static_port(blue(), *mac, port)
                } else {
                    config.static_peer(blue(), *mac, hosts[1 - i].addr)
                }
            });
            Agent::start(lab, &hosts[i], &config)
        };
        let agents = [start(0)?, start(1)?];
        for agent in &agents {
            agent.wait_ready()?;
            poll_until("no warnings", SOON, || {
                let warnings = agent.status()?.warnings;
                ensure!(warnings.is_empty(), "{warnings:?}");
                Ok(())
            })?;
        }
        for (host, _, port) in all {
            let port = agents[host].wait_port(port, AttachState::Attached)?;
            ensure!(port.xdp == Some(shape.mode == "packet-rate"), "in mode {}: {port:?}", shape.mode);
        }
        Ok(Taps { agents, hosts, near, beside, far })
    }

    /// Opens more queues of [`Taps::near`] and of [`Taps::far`]: so many of each.
    ///
    /// # Errors
    /// They were not made for that, or there are too many.
    pub fn queues(&self, more: usize) -> Result<[Vec<VnetTap>; 2]> {
        let open = |host: usize, name| {
            (0..more).map(|_| VnetTap::another_queue(&self.hosts[host].ns, name)).collect::<Result<Vec<_>>>()
        };
        Ok([open(0, Taps::NEAR_PORT)?, open(1, Taps::FAR_PORT)?])
    }

    /// Sends, from the near tap, a frame that [`up_to_fence`] knows.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send_fence(&self, dst: Mac) -> Result<()> {
        self.near.send(&VnetHdr::default(), &marked(dst, Taps::NEAR, Taps::MARK))
    }

    /// What comes out of a tap up to a fence that is sent now.
    ///
    /// # Errors
    /// It does not arrive.
    pub fn received(&self, tap: &VnetTap, dst: Mac) -> Result<Vec<(VnetHdr, Vec<u8>)>> {
        self.send_fence(dst)?;
        up_to_fence(&[tap])
    }

    /// Runs of one of the first hypervisor's programs so far.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn runs(&self, program: &str) -> Result<f64> {
        self.agents[0].metric("wavnet_program_runs_total", &[&format!("program=\"{program}\"")])
    }
}

/// What comes out of the queues of a tap before a fence, and is in its other queues when that arrives.
///
/// # Errors
/// The fence does not arrive.
pub fn up_to_fence(queues: &[&VnetTap]) -> Result<Vec<(VnetHdr, Vec<u8>)>> {
    let (end, mut all, mut over) = (Instant::now() + SOON, Vec::new(), false);
    loop {
        let last = over;
        for queue in queues {
            while let Some((header, frame)) = queue.recv()? {
                if has_mark(&frame, Taps::MARK) {
                    over = true;
                    break;
                }
                all.push((header, frame));
            }
        }
        if last || (over && queues.len() == 1) {
            return Ok(all);
        }
        if !over {
            ensure!(Instant::now() < end, "the fence did not arrive after {} frames", all.len());
            thread::sleep(Duration::from_millis(1));
        }
    }
}
