//! The numbers of a scrape.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use tracing::warn;
use wavnet_common::{
    abi::{Count, Traffic},
    datapath::Of,
};
use wavnet_proto::fabric::{PeerState, PeerView, PortState};

use super::{Agent, convert};
use crate::{
    datapath::{self, PortXdp},
    metrics::{PeerSample, PortSample, ProgramSample, Snapshot, VniSample},
};

impl Agent {
    /// Gathers everything. Reads maps; what the programs do goes on untouched.
    pub(super) fn numbers(&self) -> Snapshot {
        let mut learned: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
        self.datapath.fdb().for_each(|entry| {
            let counts = learned.entry(entry.vni_index).or_default();
            if entry.is_static { counts.1 += 1 } else { counts.0 += 1 }
        });
        let ports = self.fabric.ports();
        let vni = |v: wavnet_proto::fabric::VniView| {
            let (fdb_learned, fdb_static) = learned.get(&v.index).copied().unwrap_or_default();
            VniSample { vni: v.vni, traffic: self.traffic(Of::Vni(v.index)), fdb_learned, fdb_static }
        };
        let port = |p: &wavnet_proto::fabric::PortView| {
            let hooks = p.ifindex.and_then(|i| self.port_hooks.get(&i));
            let xdp = hooks.is_some_and(|(_, hooks)| hooks.xdp == PortXdp::On);
            Some(PortSample { port: p.name.clone(), vni: p.vni, xdp, traffic: self.traffic(Of::Port(p.index?)) })
        };
        let peer = |p: PeerView| {
            let traffic = self.traffic(Of::Vtep(p.index?));
            Some(PeerSample { peer: p.addr, traffic, up: is_up(p.state) })
        };
        Snapshot {
            start_time_s: self.started.1.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            ports: ports.iter().filter_map(port).collect(),
            vnis: self.fabric.vnis().into_iter().map(vni).collect(),
            peers: self.peer_views().into_iter().filter_map(peer).collect(),
            drops: or_default(self.datapath.drops()),
            counts: Count::ALL.iter().map(|c| (*c, or_default(self.datapath.count(*c)))).collect(),
            fdb_capacity: self.datapath.fdb().capacity() as u64,
            fdb_aged: self.aged,
            underlay: (self.config.underlay.interface.clone(), self.underlay_hook()),
            ports_unattached: ports.iter().filter(|p| p.state != PortState::Attached).count() as u64,
            programs: self.programs(),
            mesh: self.mesh_info().ok().map(Box::new),
            reloads: self.reloads.counts,
        }
    }

    /// Traffic of a slot; zero if the kernel does not say.
    pub(super) fn traffic(&self, of: Of) -> Traffic {
        or_default(self.datapath.traffic(of))
    }

    /// Hook of the underlay; `None` while nothing is attached to it.
    pub(super) fn underlay_hook(&self) -> Option<crate::api::model::HookMode> {
        let underlay = self.fabric.underlays().into_iter().next()?;
        self.hook_modes.get(&underlay.ifindex?).copied().map(convert::hook_mode)
    }

    /// The peers, as they are reached: over an underlay to which nothing is attached none is, whatever the routes say.
    pub(super) fn peer_views(&self) -> Vec<PeerView> {
        let mut peers = self.fabric.peers();
        if self.underlay_hook().is_none() {
            peers.iter_mut().for_each(|p| p.state = PeerState::NoRoute);
        }
        peers
    }

    fn programs(&self) -> Vec<ProgramSample> {
        if !self.config.metrics.program_run_time {
            return Vec::new();
        }
        let sample = |p: datapath::ProgramRun| ProgramSample {
            program: p.name,
            run_time: Duration::from_nanos(p.nanoseconds),
            run_count: p.runs,
        };
        or_default(self.datapath.program_runs()).into_iter().map(sample).collect()
    }
}

/// True if the way to the peer is known, to us or to the kernel.
pub(super) fn is_up(state: PeerState) -> bool {
    matches!(state, PeerState::Up | PeerState::Kernel)
}

pub(super) fn or_default<T: Default>(read: Result<T, datapath::Error>) -> T {
    read.unwrap_or_else(|e| {
        warn!("{:#}", anyhow::Error::from(e));
        T::default()
    })
}
