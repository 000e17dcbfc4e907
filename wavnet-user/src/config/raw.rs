//! What file and flags have in common: values that are right by themselves, with their places, before they are checked
//! against each other.

use std::net::Ipv4Addr;

use wavnet_common::addr::{Mac, Vni};

use super::{
    diagnostic::{At, Located},
    mesh::RawMesh,
    pattern::InterfacePattern,
    types::{Agent, Fdb, HookChoice, Limits, Log, Metrics, StaticPlace, TcChoice},
};
use crate::api::model::{PortMode, VlanMode};

/// Values with their places.
#[derive(Debug)]
pub(super) struct Raw {
    /// Where to point for what is missing altogether.
    pub(super) whole: At,
    pub(super) agent: Agent,
    pub(super) log: Log,
    pub(super) metrics: Metrics,
    pub(super) interface: Option<Located<String>>,
    pub(super) address: Option<Located<Ipv4Addr>>,
    pub(super) udp_port: u16,
    pub(super) mtu: Option<Located<u32>>,
    pub(super) hook: HookChoice,
    pub(super) tc: TcChoice,
    pub(super) mesh: Option<RawMesh>,
    pub(super) fdb: Fdb,
    pub(super) limits: Limits,
    pub(super) vnis: Vec<RawVni>,
    pub(super) ports: Vec<RawPort>,
    pub(super) peers: Vec<RawPeer>,
    pub(super) statics: Vec<RawStatic>,
    /// Some of the lists lack entries because those had errors: absence from a list says nothing then.
    pub(super) incomplete: bool,
}

#[derive(Debug)]
pub(super) struct RawVni {
    pub(super) vni: Located<Vni>,
    pub(super) name: Option<Located<String>>,
    pub(super) mtu: Option<Located<u32>>,
    pub(super) learning: bool,
}

#[derive(Debug)]
pub(super) struct RawPort {
    pub(super) interface: Located<InterfacePattern>,
    pub(super) vni: Located<Vni>,
    pub(super) vlan: VlanMode,
    pub(super) mode: PortMode,
}

#[derive(Debug)]
pub(super) struct RawPeer {
    pub(super) address: Located<Ipv4Addr>,
    pub(super) udp_port: Option<u16>,
    pub(super) vnis: Located<Vec<Located<Vni>>>,
}

#[derive(Debug)]
pub(super) struct RawStatic {
    pub(super) vni: Located<Vni>,
    pub(super) mac: Located<Mac>,
    pub(super) place: Located<StaticPlace>,
}
