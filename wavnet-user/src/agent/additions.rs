//! What was added by command, and of which network the mesh's peers in the maps are, kept over a restart of the agent in a file beside the
//! socket.
//!
//! The maps alone cannot tell: a port that is not there at the moment has no slot, and a slot has no name. The file belongs to
//! the maps it was written with (their time of creation): after `wavnet down` it counts for nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use wavnet_proto::{
    fabric::{PeerSettings, Runtime, RuntimePort},
    trust::NetworkId,
};

use super::convert;
use crate::{api::Request, config};

const FILE: &str = config::Agent::ADDITIONS;

#[derive(Serialize, Deserialize)]
struct Content {
    /// When the maps were made, CLOCK_REALTIME nanoseconds.
    maps_created_ns: u64,
    /// The network's id.
    #[serde(default)]
    network: Option<String>,
    /// The commands that lead to the present state.
    requests: Vec<Request>,
}

/// The file.
pub(super) struct Additions {
    path: PathBuf,
    maps_created_ns: u64,
    network: Option<String>,
    written: (Runtime, Option<String>),
}

impl Additions {
    pub(super) fn new(run_dir: &Path, maps_created_ns: u64) -> Additions {
        Additions { path: run_dir.join(FILE), maps_created_ns, network: None, written: Default::default() }
    }

    /// What an earlier agent left; nothing if there is no file or it belongs to other maps. A file that cannot be read is
    /// reported and left out: without additions an agent does its work.
    pub(super) fn load(&mut self) -> Runtime {
        let content = match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes).map_err(io::Error::from),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Runtime::default(),
            Err(e) => Err(e),
        };
        match content {
            Ok(c) if c.maps_created_ns == self.maps_created_ns => {
                self.network = c.network;
                self.written = (from_requests(c.requests), self.network.clone());
            }
            Ok(_) => {}
            Err(e) => {
                let file = self.path.display();
                tracing::warn!("cannot read {file}, ports and peers that were added by command are lost: {e}");
            }
        }
        self.written.0.clone()
    }

    /// True if the mesh's peers in the maps are of this network, as far as there are any.
    pub(super) fn are_of(&self, network: NetworkId) -> bool {
        self.network.as_ref().is_some_and(|of| *of == network.to_string())
    }

    /// The mesh's peers in the maps are of this network from now on. Those of another one are gone.
    pub(super) fn set_network(&mut self, network: NetworkId) {
        self.network = Some(network.to_string());
    }

    /// Writes the file if something has changed. Until it is written again, a restart would bring back an earlier state.
    pub(super) fn save(&mut self, runtime: &Runtime) -> io::Result<()> {
        if (runtime, &self.network) == (&self.written.0, &self.written.1) {
            return Ok(());
        }
        let (network, requests) = (self.network.clone(), to_requests(runtime));
        let content = Content { maps_created_ns: self.maps_created_ns, network, requests };
        let early = self.early();
        let bytes = serde_json::to_vec_pretty(&content)?;
        fs::write(&early, bytes).and_then(|()| fs::rename(&early, &self.path)).inspect_err(|_| remove(&early))?;
        self.written = (runtime.clone(), self.network.clone());
        Ok(())
    }

    /// The file's name while it is being written.
    fn early(&self) -> PathBuf {
        self.path.with_file_name(config::Agent::ADDITIONS_EARLY)
    }

    /// The maps go, and the additions with them.
    pub(super) fn remove(&self) {
        remove(&self.path);
        // An agent that was killed while it wrote has left it.
        remove(&self.early());
    }
}

fn remove(path: &Path) {
    if let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!("cannot remove {}: {e}", path.display());
    }
}

fn to_requests(runtime: &Runtime) -> Vec<Request> {
    let ports = runtime.ports.iter().map(|(interface, port)| Request::PortAdd {
        interface: interface.clone(),
        vni: port.vni,
        vlan: convert::vlan_info(port.vlan),
        mode: convert::mode_info(port.mode),
    });
    let peers = runtime.peers.iter().map(|(address, peer)| Request::PeerAdd {
        address: *address,
        udp_port: peer.udp_port,
        vnis: peer.vnis.iter().copied().collect(),
    });
    let statics = runtime.statics.iter().map(|((vni, mac), place)| Request::FdbAdd {
        vni: *vni,
        mac: *mac,
        place: convert::fixed_info(place),
    });
    ports.chain(peers).chain(statics).collect()
}

fn from_requests(requests: Vec<Request>) -> Runtime {
    let mut runtime = Runtime::default();
    for request in requests {
        match request {
            Request::PortAdd { interface, vni, vlan, mode } => {
                let port = RuntimePort { vni, vlan: convert::vlan(vlan), mode: convert::mode(mode) };
                runtime.ports.insert(interface, port);
            }
            Request::PeerAdd { address, udp_port, vnis } => {
                let settings = PeerSettings { udp_port, vnis: vnis.into_iter().collect() };
                runtime.peers.insert(address, settings);
            }
            Request::FdbAdd { vni, mac, place } => {
                runtime.statics.extend(convert::place(&place).map(|place| ((vni, mac), place)));
            }
            other => tracing::warn!("{FILE} holds {}, which adds nothing", other.name()),
        }
    }
    runtime
}

#[cfg(test)]
mod tests {
    use wavnet_common::addr::{Mac, Vni};
    use wavnet_proto::fabric::{PortMode, StaticPlace, VlanMode};

    use super::*;

    #[test]
    fn additions_survive_a_restart_but_not_other_maps() {
        let dir = tempfile::tempdir().unwrap();
        let vni = Vni::new(10).unwrap();
        let mut runtime = Runtime::default();
        runtime.ports.insert("tap0".into(), RuntimePort { vni, vlan: VlanMode::Discard, mode: PortMode::PacketRate });
        let peer = PeerSettings { udp_port: Some(8472), vnis: [vni].into() };
        runtime.peers.insert([192, 0, 2, 1].into(), peer);
        runtime.statics.insert((vni, Mac([2; 6])), StaticPlace::Port("tap0".into()));
        Additions::new(dir.path(), 1).save(&runtime).unwrap();
        assert_eq!(Additions::new(dir.path(), 1).load(), runtime);
        assert_eq!(Additions::new(dir.path(), 2).load(), Runtime::default());
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(Additions::new(dir.path(), 1).load(), Runtime::default());
        Additions::new(dir.path(), 1).remove();
        assert_eq!(Additions::new(dir.path(), 1).load(), Runtime::default());
    }

    #[test]
    fn the_network_survives_a_restart_but_not_other_maps() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = [1, 2].map(|n| NetworkId::from_bytes([n; 8]));
        let of = |maps: u64| {
            let mut additions = Additions::new(dir.path(), maps);
            additions.load();
            [one, other].map(|network| additions.are_of(network))
        };
        assert_eq!(of(1), [false, false]);
        for (network, is) in [(one, [true, false]), (other, [false, true])] {
            let mut additions = Additions::new(dir.path(), 1);
            let runtime = additions.load();
            additions.set_network(network);
            additions.save(&runtime).unwrap();
            assert_eq!((of(1), of(2)), (is, [false, false]));
        }
        // As an earlier version has written it.
        std::fs::write(dir.path().join(FILE), r#"{"maps_created_ns": 1, "requests": []}"#).unwrap();
        assert_eq!(of(1), [false, false]);
    }

    #[test]
    fn what_could_not_be_written_leaves_nothing_behind_and_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let early = dir.path().join(FILE).with_extension("new");
        let mut runtime = Runtime::default();
        let port = RuntimePort { vni: Vni::new(10).unwrap(), vlan: VlanMode::Pass, mode: PortMode::Auto };
        runtime.ports.insert("tap0".into(), port);
        let mut additions = Additions::new(dir.path(), 1);
        // Something that cannot be replaced stands in the file's place.
        std::fs::create_dir_all(dir.path().join(FILE).join("x")).unwrap();
        assert!(additions.save(&runtime).is_err());
        assert!(!early.exists());
        std::fs::remove_dir_all(dir.path().join(FILE)).unwrap();
        additions.save(&runtime).unwrap();
        assert_eq!(Additions::new(dir.path(), 1).load(), runtime);
        std::fs::write(&early, "{").unwrap();
        additions.remove();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
