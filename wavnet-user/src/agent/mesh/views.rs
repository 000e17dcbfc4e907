//! What the local API and the metrics tell of the mesh.

use wavnet_common::{abi::Traffic, datapath::Of};
use wavnet_proto::{
    mesh::{Dropped, PathView, PeerView, Rtt},
    places::id,
};

use super::Overlay;
use crate::{
    agent::Agent,
    api::{
        ErrorCode, Refusal,
        model::{MeshInfo, MeshPath, MeshPeer, MeshServer, NatInfo},
    },
    nat,
};

fn ms(rtt: Option<Rtt>) -> Option<f64> {
    rtt.map(|r| r.smoothed.as_secs_f64() * 1000.0)
}

impl Agent {
    /// The mesh as it is now.
    pub(in crate::agent) fn mesh_info(&self) -> Result<MeshInfo, Refusal> {
        let Some(overlay) = &self.mesh else {
            let refusal = Refusal::new(ErrorCode::NotFound, "this agent has static peers alone");
            return Err(refusal.with_help("name rendezvous servers in [mesh], or by --rendezvous"));
        };
        let server = |s: wavnet_proto::mesh::ServerView| MeshServer {
            address: s.addr,
            registered: s.registered,
            error: s.trouble.map(|t| t.to_string()),
            mapped: s.mapped,
            relays: s.relays,
            hosts: s.hosts as u64,
            rtt_ms: ms(s.rtt),
        };
        Ok(MeshInfo {
            key: overlay.mesh.key().to_string(),
            nat: self.nat_info(),
            held_frames_lost: overlay.holding.dropped(),
            refused: overlay.refused,
            drops: Dropped::ALL.iter().map(|r| (r.label().to_owned(), overlay.mesh.dropped(*r))).collect(),
            servers: overlay.mesh.servers().into_iter().map(server).collect(),
            peers: overlay.mesh.peers().map(|p| self.mesh_peer(overlay, p)).collect(),
        })
    }

    /// What is in front of this host, as far as it has been found out.
    pub(in crate::agent) fn nat_info(&self) -> Option<NatInfo> {
        self.mesh.as_ref()?.nat.report().map(nat::info)
    }

    fn mesh_peer(&self, overlay: &Overlay, peer: PeerView) -> MeshPeer {
        let mut paths: Vec<&PathView> = peer.paths.iter().filter(|p| p.usable).collect();
        paths.sort_by_key(|p| !p.selected);
        let path = |p: &PathView| MeshPath {
            kind: p.kind.name().to_owned(),
            remote: p.way.remote,
            local_port: overlay.local_port(&p.way),
            selected: p.selected,
            rtt_ms: ms(p.rtt),
            loss: p.loss,
        };
        let firsts = overlay.firsts.get(&peer.key).copied().unwrap_or_default();
        let slot = self.fabric.dynamic_slot(id(&peer.key));
        let traffic: Traffic = slot.map(|slot| self.traffic(Of::Vtep(slot))).unwrap_or_default();
        MeshPeer {
            key: peer.key.to_string(),
            name: peer.name.clone(),
            connected: peer.connected,
            vnis: peer.vnis.iter().copied().collect(),
            nat: nat::words(&peer.nat),
            first_path_ms: firsts.any.map(|d| d.as_millis() as u64),
            direct_path_ms: firsts.direct.map(|d| d.as_millis() as u64),
            paths: paths.into_iter().map(path).collect(),
            traffic: traffic.into(),
        }
    }
}
