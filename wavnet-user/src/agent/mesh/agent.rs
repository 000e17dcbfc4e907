//! The mesh's part of the agent's loop.

use tracing::info;
use wavnet_common::{addr::PeerId, datapath::Of};
use wavnet_proto::{fabric::Control, places::id, trust::PublicKey};

use super::{Input, Overlay, UNCLAIMED, now};
use crate::agent::Agent;

impl Agent {
    /// Puts everything that is asked for in force: what the mesh says, and what the fabric makes of that and all else. Then the mesh's
    /// datagrams leave: those that they go to may answer at once.
    pub(in crate::agent) async fn settle_all(&mut self) {
        if let Some(mesh) = &mut self.mesh {
            let address = self.fabric.local_address().filter(|address| self.fabric.has_address(*address));
            mesh.follow_address(address, self.config.underlay.udp_port, &mut self.fabric);
            mesh.carry_out(&mut self.fabric, &self.datapath);
            mesh.tend_held(&mut self.fabric, &self.datapath);
        }
        self.settle().await;
        if let Some(mesh) = &mut self.mesh {
            mesh.expect(&self.datapath);
            mesh.send();
        }
    }

    /// Gives up peers of an earlier agent that may not be there any more, and takes them out of VNIs that they may not join any more: all
    /// of them without a mesh or with another network, else as the list of identities says.
    pub(in crate::agent) fn give_up_strangers(&mut self) {
        let gone = match &self.mesh {
            Some(mesh) if self.additions.are_of(mesh.network()) => {
                let policy = &mesh.settings.policy;
                let may = |id: &PeerId, vni| PublicKey::new(id.0).is_ok_and(|key| policy.allows(&key, vni));
                self.fabric.limit_unclaimed(may)
            }
            Some(_) => self.fabric.forget_unclaimed(),
            None => {
                self.fabric.set_control(Control::default());
                self.fabric.forget_unclaimed()
            }
        };
        for id in gone {
            info!(peer = %id, "this peer of an earlier agent may not be there any more: removed");
        }
    }

    /// The agent ends: nothing is left held back. Servers and peers are told if there is nothing left either that frames could be exchanged
    /// with; else they go on without us, for a while, as they do without an agent.
    pub(in crate::agent) async fn end_mesh(&mut self, detach: bool) {
        let Some(mesh) = &mut self.mesh else { return };
        mesh.end_holding(&mut self.fabric);
        self.settle().await;
        let Some(mesh) = &mut self.mesh else { return };
        mesh.tend_held(&mut self.fabric, &self.datapath);
        if detach {
            mesh.say_goodbye();
        }
    }

    /// Something has happened to the mesh.
    pub(in crate::agent) fn mesh_input(&mut self, input: Input) {
        if let Some(mesh) = &mut self.mesh {
            mesh.handle(input, &self.datapath);
        }
    }

    /// Tells the mesh to which peers frames go, and gives up what an earlier agent has left and nobody has asked for.
    pub(in crate::agent) fn look_at_traffic(&mut self) {
        let Some(mesh) = &mut self.mesh else { return };
        let (fabric, datapath) = (&self.fabric, &self.datapath);
        let sent = |peer: &PublicKey| {
            let slot = fabric.dynamic_slot(id(peer))?;
            Some(datapath.traffic(Of::Vtep(slot)).ok()?.tx_frames)
        };
        mesh.note_traffic(sent);
        let refused = mesh.places.give_up_lost(now(), &mut self.fabric);
        refused.into_iter().for_each(|(peer, e)| mesh.complain(&peer, Err(e)));
        // Who has not been led to anybody yet cannot tell what is out of date.
        if mesh.left.is_over(now(), mesh.registered.map(|at| at + UNCLAIMED)) {
            mesh.mesh.forget_left(now());
            for id in self.fabric.forget_unclaimed() {
                info!(peer = %id, "nothing was heard from this peer of an earlier agent: removed");
            }
        }
    }
}

impl Overlay {
    /// Which peers frames were sent to since it was last asked: `sent` says how many were altogether.
    fn note_traffic(&mut self, sent: impl Fn(&PublicKey) -> Option<u64>) {
        let now = now();
        for peer in self.places.keys() {
            let Some(frames) = sent(peer) else { continue };
            let (before, at) = self.traffic.entry(*peer).or_insert((frames, None));
            if frames != *before {
                (*before, *at) = (frames, Some(now));
            }
            let busy = at.is_some_and(|at| now.since(at) < super::QUIET);
            self.mesh.set_busy(now, peer, busy);
        }
        let places = &self.places;
        self.traffic.retain(|peer, _| places.has(peer));
    }
}
