//! wavnet's programs loaded and their tables filled, without an agent and without interfaces: for test runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wavnet_common::{
    abi::{Config, Endpoint, FloodSet, Member, MemberKey, NextHop, Port, PortFlags, Vtep},
    datapath::OUTER_LEN,
    wire::EthHdr,
};
use wavnet_proto::command::{Command, PeerKey};
use wavnet_user::datapath::{Datapath, Options, Sizes, TcWish, down};

use super::rig::{VM_MTU, vni};
use crate::lab::{Lab, programs::abi::VXLAN_PORT, topology::UNDERLAY_MTU};

/// Index of the only VNI, port and VTEP.
pub(super) const ONLY: u16 = 0;

/// A datapath and its directory of pins, which is removed when this is dropped.
pub(super) struct Pinned {
    datapath: Option<Datapath>,
    path: PathBuf,
}

impl Pinned {
    pub(super) fn open(lab: &Lab, name: &str, sizes: Sizes) -> Result<Pinned> {
        // The name by which the lab knows, and removes, what a killed process leaves.
        let path = Path::new("/sys/fs/bpf").join(format!("{}-{name}", lab.id()));
        let options = Options {
            bpffs: path.clone(),
            sizes,
            program_stats: false,
            tc: TcWish::Auto,
            kernel_log: false,
            seed: None,
        };
        let mut pinned = Pinned { datapath: None, path };
        pinned.datapath = Some(Datapath::open(&options)?);
        Ok(pinned)
    }

    pub(super) fn datapath(&mut self) -> Result<&mut Datapath> {
        self.datapath.as_mut().context("the datapath is closed")
    }

    /// Where the maps are.
    pub(super) fn maps(&self) -> PathBuf {
        self.path.join("maps")
    }

    /// Fills the tables for one VNI with one port and one peer.
    pub(super) fn fill(&mut self, local: [u8; 4], remote: [u8; 4], port_ifindex: u32, hop: NextHop) -> Result<()> {
        let port = Port {
            ifindex: port_ifindex,
            vni: vni().get(),
            vni_index: ONLY,
            flags: PortFlags::USED,
            max_frame: VM_MTU + EthHdr::LEN as u32,
        };
        let vtep = Vtep::new(0, &Endpoint::plain(remote, VXLAN_PORT), &hop);
        let mut set = Box::new(FloodSet::EMPTY);
        (set.vtep_count, set.vteps[0], set.port_count, set.ports[0]) = (1, ONLY, 1, ONLY);
        let key = MemberKey { vni: vni().get(), addr: remote };
        let member = Some(Member { vni: vni().get(), vni_index: ONLY, vtep_index: ONLY, learns: true, shares: false });
        let commands = [
            Command::SetVni { index: ONLY, vni: vni(), used: true },
            Command::SetPort { index: ONLY, port },
            Command::SetVtep { index: ONLY, vtep, peer: PeerKey::Static(remote.into()) },
            Command::SetMember { key, member },
            Command::SetFlood { vni_index: ONLY, set },
            Command::SetConfig(Config::plain(local, VXLAN_PORT)),
        ];
        let datapath = self.datapath()?;
        datapath.heartbeat()?;
        commands.iter().try_for_each(|command| datapath.apply(command).with_context(|| format!("{command:?}")))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Its lock first.
        self.datapath = None;
        if let Err(error) = down(&self.path) {
            eprintln!("{error}");
        }
    }
}

/// The longest inner frame that the underlay takes in one piece.
pub(super) const MAX_INNER: u32 = UNDERLAY_MTU - (OUTER_LEN - EthHdr::LEN) as u32;
