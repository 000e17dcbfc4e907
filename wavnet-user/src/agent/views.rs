//! What the local API tells.

use wavnet_common::{abi::ABI_VERSION, datapath::Of};
use wavnet_proto::fabric::{self, PeerView, PortState, PortView};

use super::{Agent, convert, numbers};
use crate::{
    api::{
        FdbFilter,
        model::{
            AttachState, Counts, Delivery, DropRow, FdbEntry, FdbKind, LinkState, Origin, PeerInfo, PeerState,
            PortInfo, Status, UnderlayInfo,
        },
    },
    datapath::PortXdp,
};

impl Agent {
    pub(super) fn status(&self) -> Status {
        let created_s = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(self.created_ns);
        let counting = std::time::SystemTime::now().duration_since(created_s).unwrap_or_default();
        Status {
            name: self.config.agent.name.clone().unwrap_or_else(host_name),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            pid: std::process::id(),
            uptime_s: self.started.0.elapsed().as_secs(),
            counting_s: counting.as_secs(),
            config: self.source.to_string(),
            bpffs: self.config.agent.bpffs.display().to_string(),
            metrics: self.config.metrics.listen.map(|a| a.to_string()),
            underlay: self.underlay(),
            nat: self.nat_info(),
            counts: self.counts(),
            warnings: self.warnings(),
        }
    }

    pub(super) fn underlay(&self) -> UnderlayInfo {
        let view = self.fabric.underlays().into_iter().next();
        let hook_mode = self.underlay_hook();
        let (state, error) = view.as_ref().map_or((AttachState::Missing, None), |v| attach_state(&v.state));
        UnderlayInfo {
            interface: self.config.underlay.interface.clone(),
            address: self.fabric.local_address(),
            udp_port: self.fabric.desired().underlay.udp_port,
            hook_mode,
            mtu: view.and_then(|v| v.mtu),
            state,
            error,
        }
    }

    fn counts(&self) -> Counts {
        let (mut entries, mut fixed) = (0, 0);
        self.datapath.fdb().for_each(|entry| {
            entries += 1;
            fixed += u64::from(entry.is_static);
        });
        let (ports, peers) = (self.fabric.ports(), self.peer_views());
        Counts {
            vnis: self.fabric.vnis().len() as u64,
            ports: ports.len() as u64,
            ports_attached: ports.iter().filter(|p| p.state == PortState::Attached).count() as u64,
            peers: peers.len() as u64,
            peers_up: peers.iter().filter(|p| numbers::is_up(p.state)).count() as u64,
            fdb_entries: entries,
            fdb_static: fixed,
            fdb_capacity: self.datapath.fdb().capacity() as u64,
            dropped_frames: numbers::or_default(self.datapath.drops()).iter().map(|(_, n)| n).sum(),
        }
    }

    pub(super) fn ports(&self) -> Vec<PortInfo> {
        self.fabric.ports().into_iter().map(|p| self.port(p)).collect()
    }

    fn port(&self, view: PortView) -> PortInfo {
        let (state, error) = attach_state(&view.state);
        let hooks = view.ifindex.filter(|_| view.index.is_some()).and_then(|i| self.port_hooks.get(&i));
        let hooks = hooks.map(|(_, hooks)| hooks);
        let delivery = if view.deliver_tc { Delivery::Tc } else { Delivery::Xdp };
        PortInfo {
            interface: view.name,
            ifindex: view.ifindex,
            vni: view.vni,
            state,
            error,
            link: view.ifindex.map(|_| if view.up { LinkState::Up } else { LinkState::Down }),
            hook: hooks.map(|hooks| convert::port_hook(hooks.tc).to_owned()),
            xdp: hooks.map(|hooks| hooks.xdp == PortXdp::On),
            delivery: view.index.map(|_| delivery),
            mtu: view.mtu,
            vlan: convert::vlan_info(view.vlan),
            mode: convert::mode_info(view.mode),
            origin: origin(view.origin),
            traffic: view.index.map(|i| self.traffic(Of::Port(i))).unwrap_or_default().into(),
        }
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        self.peer_views().into_iter().map(|p| self.peer(p)).collect()
    }

    fn peer(&self, view: PeerView) -> PeerInfo {
        PeerInfo {
            address: view.addr,
            udp_port: view.udp_port,
            vnis: view.vnis.into_iter().collect(),
            state: match view.state {
                state if numbers::is_up(state) => PeerState::Up,
                fabric::PeerState::NoRoute | fabric::PeerState::ThisHost => PeerState::NoRoute,
                _ => PeerState::Unresolved,
            },
            next_hop: view.next_hop,
            interface: view.interface,
            mtu: view.mtu,
            origin: origin(view.origin),
            traffic: view.index.map(|i| self.traffic(Of::Vtep(i))).unwrap_or_default().into(),
        }
    }

    pub(super) fn fdb(&self, filter: &FdbFilter) -> Vec<FdbEntry> {
        let names = self.fabric.names();
        let mut found = Vec::new();
        self.datapath.fdb().for_each(|entry| {
            let (Some(vni), Some(place)) = (names.vnis.get(&entry.vni_index), names.places.get(&entry.place)) else {
                return;
            };
            let told = FdbEntry {
                vni: *vni,
                mac: entry.mac,
                place: convert::place_info(place),
                kind: if entry.is_static { FdbKind::Static } else { FdbKind::Learned },
                age_s: (!entry.is_static).then_some(entry.age_s),
                epoch: u64::from(entry.epoch),
            };
            if filter.matches(&told) {
                found.push(told);
            }
        });
        found.sort_by_key(|e| (e.vni, e.mac));
        // The kernel may move an entry while we look: it is then seen twice.
        found.dedup_by_key(|e| (e.vni, e.mac));
        found.truncate(filter.limit.unwrap_or(usize::MAX));
        found
    }

    pub(super) fn drops(&self) -> Vec<DropRow> {
        let row = |(reason, frames): (wavnet_common::reason::Reason, u64)| DropRow {
            reason: reason.label().to_owned(),
            frames,
            help: reason.help().to_owned(),
        };
        numbers::or_default(self.datapath.drops()).into_iter().map(row).collect()
    }
}

fn attach_state(state: &PortState) -> (AttachState, Option<String>) {
    match state {
        PortState::Attached => (AttachState::Attached, None),
        PortState::Missing => (AttachState::Missing, None),
        PortState::Failed(why) => (AttachState::Error, Some(why.clone())),
    }
}

fn origin(origin: fabric::Origin) -> Origin {
    match origin {
        fabric::Origin::Config => Origin::Config,
        fabric::Origin::Pattern => Origin::Pattern,
        fabric::Origin::Runtime => Origin::Runtime,
    }
}

pub(super) fn host_name() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "wavnet".to_owned(), |names| names.nodename().to_string_lossy().into_owned())
}
