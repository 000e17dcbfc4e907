//! Carrying out what the mesh says: commands to the fabric, sockets, pulses.

use std::net::SocketAddr;

use tracing::{debug, info, warn};
use wavnet_common::{
    abi::{Arrival, LocalPort},
    wire::pulse::Number,
};
use wavnet_proto::{
    fabric::{Fabric, FabricError, PathFrom, PeerPath},
    mesh::{Command, Way},
    nat::StunServer,
    places::id,
    transmit::Socket,
    trust::PublicKey,
};

use super::{Overlay, now, sockets::Sockets};
use crate::{datapath::Datapath, nat::Step};

impl Overlay {
    /// Puts what the mesh says into the fabric. What it sends waits for [`Overlay::send`], until that is in force.
    pub(in crate::agent) fn carry_out(&mut self, fabric: &mut Fabric, datapath: &Datapath) {
        self.classify();
        while let Some(command) = self.mesh.poll_command() {
            self.carry_out_one(fabric, datapath, command);
        }
        while let Some(event) = self.mesh.poll_event() {
            self.note(&event);
        }
        fabric.set_control(self.open_now());
    }

    fn carry_out_one(&mut self, fabric: &mut Fabric, datapath: &Datapath, command: Command) {
        match command {
            Command::Admit { peer, vnis } => {
                let ports = self.sockets.as_ref().map(Sockets::ports);
                let admitted = self.places.admit(now(), fabric, ports, peer, vnis);
                self.complain(&peer, admitted);
            }
            Command::Expel { peer } => self.places.expel(fabric, &peer),
            Command::AddPath { path, peer, way } => {
                if let Some(sockets) = &self.sockets {
                    let placed = self.places.prove(now(), fabric, sockets.ports(), &peer, &way);
                    self.complain(&peer, placed);
                }
                let Some(from) = path_from(&way) else { return };
                match fabric.add_path(PeerPath { from, peer: Some(id(&peer)) }) {
                    Ok(slot) => drop(self.slots.insert(path, (peer, slot))),
                    Err(e) => {
                        if self.complaints.is_news(&format!("{} is not heard: {e}", peer.short())) {
                            warn!(peer = %peer.short(), "frames by {way} are not taken: {e}");
                        }
                        self.mesh.path_refused(now(), &peer, path);
                    }
                }
            }
            Command::RemovePath { path } => {
                self.awaited.forget(path);
                if let Some((_, slot)) = self.slots.remove(&path) {
                    fabric.remove_path(slot);
                }
            }
            Command::Select { peer, path: Some(path) } => {
                let views = self.mesh.peers().find(|p| p.key == peer);
                let way = views.and_then(|p| p.paths.iter().find(|v| v.id == Some(path)).map(|v| v.way));
                if let (Some(way), Some(sockets)) = (way, &self.sockets) {
                    let placed = self.places.select(fabric, sockets.ports(), &peer, &way);
                    self.complain(&peer, placed);
                }
            }
            Command::Select { peer, path: None } => self.places.lose(now(), &peer),
            Command::Expect { path, number } => {
                if let Some((peer, slot)) = self.slots.get(&path) {
                    self.awaited.push(*peer, path, *slot, number);
                }
            }
            Command::Open(Socket::Extra(n)) => {
                if let Some(Err(e)) = self.sockets.as_mut().map(|s| s.open_extra(n)) {
                    debug!("an extra socket cannot be opened: {e}");
                }
            }
            Command::Close(Socket::Extra(n)) => {
                if let Some(sockets) = &mut self.sockets {
                    sockets.close_extra(n);
                }
            }
            Command::Hold { peer } => self.holding.begin(fabric, datapath, peer),
            Command::Release { peer } => self.holding.release(peer),
            Command::Open(_) | Command::Close(_) => {}
        }
    }

    pub(super) fn local_port(&self, way: &Way) -> u16 {
        self.sockets.as_ref().map_or(0, |s| s.ports().of(way.socket))
    }

    /// Tells of a peer that the fabric does not take, once for a while.
    pub(super) fn complain(&mut self, peer: &PublicKey, set: Result<(), FabricError>) {
        if let Err(e) = set
            && self.complaints.is_news(&format!("{}: {e}", peer.short()))
        {
            warn!(peer = %peer.short(), "no frames can be exchanged with this peer: {e}");
        }
    }

    /// Has the programs wait for the answers to pulses that are about to be sent. Call it when the fabric's commands are carried out.
    pub(in crate::agent) fn expect(&mut self, datapath: &Datapath) {
        for (slot, number) in self.awaited.fresh() {
            datapath.paths().expect_pulse(slot, Number::new(number));
        }
    }

    /// Begins a classification if it is time. Whoever answers STUN is asked, also before it has taken us in.
    fn classify(&mut self) {
        let now = now();
        if let Some(local) = self.sockets.as_ref().map(|s| s.address()) {
            let mut servers = self.mesh.servers();
            servers.sort_by_key(|server| !server.registered);
            let servers: Vec<StunServer> =
                servers.into_iter().map(|s| StunServer { address: s.addr, others: s.stun }).collect();
            self.nat.begin(now, local, &servers);
        }
    }

    /// Does what the classification wants done.
    pub(super) fn classification(&mut self, step: Step) {
        match step {
            Step::Send { to, payload } => {
                let sent = self.sockets.as_ref().map_or(Ok(()), |s| s.send_parts(Socket::Main, to, &payload));
                sent.unwrap_or_else(|error| self.nat.handle_unsent(to, error));
            }
            Step::Report(report) => {
                info!(nat = %report.paper_type(), "what is in front of this host");
                let summary = self.nat.note(now(), *report);
                self.mesh.set_nat(now(), summary);
            }
            Step::Finished => self.nat.finish(),
        }
    }

    /// A datagram came by the main socket. True if it was for the classification.
    pub(super) fn classified(&mut self, from: SocketAddr, payload: &[u8]) -> bool {
        let was = self.nat.handle_main(from, payload);
        if was && let Some(summary) = self.nat.early() {
            self.mesh.set_nat(now(), summary);
        }
        was
    }
}

fn path_from(way: &Way) -> Option<PathFrom> {
    let SocketAddr::V4(remote) = way.remote else { return None };
    let remote = Arrival::new(
        remote,
        match way.socket {
            Socket::Extra(n) => LocalPort::extra(n)?,
            Socket::Main | Socket::Other(_) => LocalPort::MAIN,
        },
    );
    Some(if way.is_relayed() {
        PathFrom::Relayed { relay: remote, label: way.label }
    } else {
        PathFrom::Direct(remote)
    })
}
