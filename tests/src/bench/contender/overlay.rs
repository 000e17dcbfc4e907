//! wavnet as users run it: an agent on each hypervisor, with a configuration file, learning.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use wavnet_user::api::model::{AttachState, HookMode};

use super::Running;
use crate::{
    bench::{
        rig::{Wired, vni},
        setting::Setting,
    },
    lab::{Lab, agent::Agent, config::AgentConfig, host::Vm},
};

/// Both hypervisors' agents.
pub(in crate::bench) struct Overlay {
    agents: [Agent; 2],
}

impl Overlay {
    pub(in crate::bench) fn start(lab: &Lab, wired: &Wired) -> Result<Overlay> {
        let start = |side: usize| -> Result<Agent> {
            let (host, peer) = (&wired.hosts[side], &wired.hosts[1 - side]);
            let mut config = AgentConfig::new(&[vni()]).peer(peer.addr, &[vni()]);
            for (vm, Vm { port, .. }) in wired.vms_of(side) {
                let packet_rate = wired.setting.packet_rate(vm);
                config =
                    if packet_rate { config.port_mode(port, vni(), "packet-rate") } else { config.port(port, vni()) };
            }
            if wired.setting == Setting::NoLearning {
                config = config.without_learning();
                for (_, vm) in wired.vms_of(side) {
                    config = config.static_port(vni(), vm.mac, &vm.port);
                }
                for (_, vm) in wired.vms_of(1 - side) {
                    config = config.static_peer(vni(), vm.mac, peer.addr);
                }
            }
            if side == 0 {
                config = wired.setting.absent_vteps().fold(config, |config, vtep| config.peer(vtep, &[vni()]));
            }
            Agent::start(lab, host, &config)
        };
        let overlay = Overlay { agents: [start(0)?, start(1)?] };
        for (side, agent) in overlay.agents.iter().enumerate() {
            for (vm, Vm { port, .. }) in wired.vms_of(side) {
                let port = agent.wait_port(port, AttachState::Attached)?;
                ensure!(port.xdp == Some(wired.setting.packet_rate(vm)), "another mode than is measured: {port:?}");
            }
            agent.wait_peers()?;
            let mode = agent.status()?.underlay.hook_mode;
            ensure!(mode == Some(HookMode::XdpDriver), "the underlay's hook is {mode:?}, not XDP in the driver");
        }
        Ok(overlay)
    }

    /// What must not rise while frames are measured.
    pub(in crate::bench) fn detours(&self) -> Result<Detours> {
        let mut found = BTreeMap::new();
        for (agent, side) in self.agents.iter().zip(["sending", "receiving"]) {
            for line in agent.metrics()?.lines().filter(|line| DETOURS.iter().any(|name| line.starts_with(name))) {
                let (series, value) =
                    line.rsplit_once(' ').with_context(|| format!("a metric without value: {line}"))?;
                found.insert(format!("{series} of the {side} hypervisor"), value.parse()?);
            }
        }
        ensure!(found.len() > DETOURS.len(), "the agents' metrics lack some of {DETOURS:?}");
        Ok(Detours(found))
    }
}

impl Running for Overlay {
    fn overlay(&self) -> Option<&Overlay> {
        Some(self)
    }
}

/// Metrics of frames that did not go the way that is measured.
const DETOURS: [&str; 3] = [FLOODED, "wavnet_kernel_next_hop_frames_total", "wavnet_drops_total"];
const FLOODED: &str = "wavnet_flooded_frames_total";

/// Values of [`DETOURS`], by series.
#[derive(Debug)]
pub(in crate::bench) struct Detours(BTreeMap<String, f64>);

impl Detours {
    /// Fails if there were any since `before`: the figure would be that of something else. Where flooding is what is measured,
    /// there must be some.
    pub(in crate::bench) fn none_since(&self, before: &Detours, flooding: bool) -> Result<()> {
        let mut flooded = false;
        for (series, now) in &self.0 {
            let more = now - before.0.get(series).copied().unwrap_or(0.0);
            if flooding && series.starts_with(FLOODED) {
                flooded |= more > 0.0;
                continue;
            }
            ensure!(more <= 0.0, "{series} rose by {more} during the run");
        }
        ensure!(flooded || !flooding, "nothing was flooded");
        Ok(())
    }
}
