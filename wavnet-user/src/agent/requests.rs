//! Requests of the local API.

use std::{collections::BTreeSet, net::Ipv4Addr};

use tracing::{debug, warn};
use wavnet_common::addr::{Mac, Vni};
use wavnet_proto::fabric::{FabricError, PortMode, PortState, RuntimePort};

use super::{Agent, convert};
use crate::api::{
    Answer, Call, ErrorCode, Refusal, Request, Response, brief,
    model::{Done, FdbChange, FdbEvent, PlaceInfo},
};

/// So many characters of a refusal, which may repeat what a client sent, are logged.
const REFUSAL: usize = 300;

impl Agent {
    /// Answers one call.
    pub(super) async fn answer(&mut self, call: Call) {
        let name = call.request.name();
        let Some(answer) = self.carry_out(call.request).await.transpose() else {
            return self.ask_reload(Some(call.reply)).await;
        };
        if let Err(refusal) = &answer {
            debug!(request = name, why = brief(&refusal.message, REFUSAL), "refused");
        }
        if call.reply.send(answer).is_err() {
            debug!(request = name, "the client has gone");
        }
    }

    /// Does what is asked for; `None`: files have to be read first, which is done beside the loop.
    async fn carry_out(&mut self, request: Request) -> Result<Option<Answer>, Refusal> {
        let response = match request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Peers => Response::Peers(self.peers()),
            Request::Mesh => Response::Mesh(Box::new(self.mesh_info()?)),
            Request::Ports => Response::Ports(self.ports()),
            Request::Fdb(filter) => Response::Fdb(self.fdb(&filter)),
            Request::Drops => Response::Drops(self.drops()),
            Request::Watch => return Ok(Some(Answer::Events(self.watchers.subscribe()))),
            Request::PortAdd { interface, vni, vlan, mode } => {
                let port = RuntimePort { vni, vlan: convert::vlan(vlan), mode: convert::mode(mode) };
                self.fabric.add_port(&interface, port).map_err(refusal)?;
                let mut done = self.changed(format!("port {interface} added to VNI {vni}")).await;
                done.warnings.extend(cost(port.mode).map(str::to_owned));
                let view = self.fabric.ports().into_iter().find(|p| p.name == interface);
                match view.map(|p| p.state) {
                    Some(PortState::Missing) => {
                        done.warnings
                            .push(format!("there is no interface {interface} yet: it is attached when it appears"));
                    }
                    Some(PortState::Failed(why)) => done.warnings.push(format!("{interface} is not attached: {why}")),
                    _ => {}
                }
                Response::Done(done)
            }
            Request::PortRemove { interface } => {
                self.fabric.remove_port(&interface).map_err(refusal)?;
                let mut done = self.changed(format!("port {interface} removed")).await;
                if let Some(port) = self.fabric.ports().into_iter().find(|p| p.name == interface) {
                    let words =
                        format!("{interface} is a port of VNI {} now, by a pattern of the configuration", port.vni);
                    done.warnings.push(words);
                }
                Response::Done(done)
            }
            Request::PeerAdd { address, udp_port, vnis } => {
                each_once(&vnis)?;
                self.fabric.add_peer(address, udp_port, &vnis.iter().copied().collect()).map_err(refusal)?;
                Response::Done(self.changed(format!("peer {address} added to VNI {}", list(&vnis))).await)
            }
            Request::PeerRemove { address, vnis } => Response::Done(self.remove_peer(address, &vnis).await?),
            Request::FdbAdd { vni, mac, place } => Response::Done(self.add_static(vni, mac, place).await?),
            Request::FdbRemove { vni, mac } => Response::Done(self.remove_entry(vni, mac).await?),
            Request::Rendezvous => {
                let words = "this is an agent, and no rendezvous server";
                return Err(Refusal::new(ErrorCode::BadRequest, words).with_help("ask it for `wavnet status`"));
            }
            Request::Reload => return Ok(None),
            Request::Detach => {
                self.detaching = true;
                let changes = vec!["everything is being detached, and the agent ends".to_owned()];
                Response::Done(Done { changes, warnings: Vec::new() })
            }
        };
        Ok(Some(response.into()))
    }

    /// Puts a change in force and has it survive a restart.
    pub(super) async fn changed(&mut self, what: String) -> Done {
        self.features_due.extend(self.links.keys());
        self.settle().await;
        let mut done = Done { changes: vec![what], warnings: Vec::new() };
        if let Err(e) = self.additions.save(self.fabric.runtime()) {
            warn!("additions by command would not survive a restart of the agent: {e}");
            done.warnings.push(format!("this would not survive a restart of the agent: {e}"));
        }
        done
    }

    async fn remove_peer(&mut self, address: Ipv4Addr, vnis: &[Vni]) -> Result<Done, Refusal> {
        each_once(vnis)?;
        let some: BTreeSet<Vni> = vnis.iter().copied().collect();
        let some = Some(&some).filter(|s| !s.is_empty());
        self.fabric.remove_peer(address, some).map_err(refusal)?;
        let what = match some {
            Some(_) => format!("peer {address} removed from VNI {}", list(vnis)),
            None => format!("peer {address} removed"),
        };
        let mut done = self.changed(what).await;
        if let Some(peer) = self.fabric.peers().into_iter().find(|p| p.addr == address) {
            let left: Vec<Vni> = peer.vnis.into_iter().collect();
            done.warnings.push(format!("{address} is still a peer in VNI {}", list(&left)));
        }
        Ok(done)
    }

    async fn add_static(&mut self, vni: Vni, mac: Mac, place: PlaceInfo) -> Result<Done, Refusal> {
        let Some(fixed) = convert::place(&place) else {
            let refusal = Refusal::new(ErrorCode::Invalid, "a host that is known by its key has no static entries");
            return Err(refusal.with_help("name a port, or a peer by its address"));
        };
        self.fabric.add_static(vni, mac, fixed).map_err(refusal)?;
        let mut done = self.changed(format!("static entry for {mac} added to VNI {vni}")).await;
        let entry = self.fabric.statics().into_iter().find(|s| (s.vni, s.mac) == (vni, mac));
        if entry.is_some_and(|e| !e.in_force) {
            done.warnings.push("the entry is in force as soon as its port is attached to this VNI".to_owned());
        } else {
            self.tell_watchers(FdbEvent { event: FdbChange::Added, vni, mac, from: None, to: Some(place) });
        }
        Ok(done)
    }

    async fn remove_entry(&mut self, vni: Vni, mac: Mac) -> Result<Done, Refusal> {
        let present = self.fabric.vni_index(vni).and_then(|index| self.datapath.fdb().get(index, mac));
        let from = present.and_then(|e| self.fabric.names().places.get(&e.place).map(convert::place_info));
        let kind = match self.fabric.remove_static(vni, mac) {
            Ok(()) => "static",
            Err(e @ FabricError::ConfiguredStatic { .. }) => return Err(refusal(e)),
            Err(_) => match present.filter(|e| !e.is_static) {
                Some(entry) => {
                    self.datapath.fdb().remove(entry.vni_index, mac);
                    "learned"
                }
                None => {
                    let words = format!("VNI {vni} has no FDB entry for {mac}");
                    let refusal = Refusal::new(ErrorCode::NotFound, words);
                    return Err(refusal.with_help(format!("`wavnet fdb --vni {vni}` lists the entries")));
                }
            },
        };
        let done = self.changed(format!("{kind} entry for {mac} removed from VNI {vni}")).await;
        self.tell_watchers(FdbEvent { event: FdbChange::Removed, vni, mac, from, to: None });
        Ok(done)
    }
}

/// Refuses what the configuration file refuses, too.
fn each_once(vnis: &[Vni]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    match vnis.iter().find(|vni| !seen.insert(**vni)) {
        None => Ok(()),
        Some(vni) => {
            Err(Refusal::new(ErrorCode::Invalid, format!("VNI {vni} is listed twice")).with_help("name each VNI once"))
        }
    }
}

fn list(vnis: &[Vni]) -> String {
    vnis.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A refusal of the fabric, as the API tells it.
pub(super) fn refusal(e: FabricError) -> Refusal {
    use FabricError::*;
    let code = match &e {
        UnknownVni(_) | BadName(_) | OwnAddress(_) | BadAddress(_) | BadUdpPort | NoVni(_) | BadMac(_) => {
            ErrorCode::Invalid
        }
        NoSuchPort(_) | NoSuchPeer(_) | NoSuchDynamicPeer(_) | NoSuchStatic { .. } => ErrorCode::NotFound,
        DuplicatePort { .. }
        | ConfiguredPort(_)
        | UnderlayPort(_)
        | UnfitPort { .. }
        | OtherVni { .. }
        | DuplicatePeer(_)
        | OtherUdpPort { .. }
        | ConfiguredPeer(_)
        | PathTaken(_)
        | DuplicateStatic { .. }
        | ConfiguredStatic { .. } => ErrorCode::Conflict,
        Full { .. } | FloodFull { .. } => ErrorCode::Full,
    };
    let refusal = Refusal::new(code, e.to_string());
    match e.help() {
        Some(help) => refusal.with_help(help),
        None => refusal,
    }
}

/// What a mode takes from a port, for who has just asked for it.
fn cost(mode: PortMode) -> Option<&'static str> {
    match mode {
        PortMode::Auto | PortMode::Throughput => None,
        PortMode::PacketRate => Some(
            "mode packet-rate costs bulk TCP: a container sends 30 to 40 % less of it, since its end of the veth has no \
             segmentation offload any more, a VM on a tap up to a tenth",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vni_that_is_named_twice_is_refused_as_in_the_file() {
        let vnis = |all: &[u32]| all.iter().map(|n| Vni::new(*n).unwrap()).collect::<Vec<_>>();
        assert!(each_once(&vnis(&[])).is_ok() && each_once(&vnis(&[100, 200])).is_ok());
        let refusal = each_once(&vnis(&[100, 200, 100])).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (ErrorCode::Invalid, "VNI 100 is listed twice"));
        let file = "[underlay]\ninterface = \"eth0\"\n[[vni]]\nid = 100\n[[peer]]\naddress = \"192.0.2.2\"\nvnis = [100, 100]\n";
        let words = crate::config::Config::parse(file, "file").unwrap_err().to_string();
        assert!(words.contains(&refusal.message), "{words}");
    }
}
