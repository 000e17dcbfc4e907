//! The simple case without a file: flags of the command line.

use std::{net::Ipv4Addr, str::FromStr};

use wavnet_common::addr::Vni;

use super::{
    diagnostic::{At, ConfigErrors, Diagnostics, Located},
    mesh::{Mesh, RawMesh, ServerAddress},
    pattern::InterfacePattern,
    raw::{Raw, RawPeer, RawPort, RawVni},
    types::{Agent, Config, Fdb, HookChoice, Limits, Log, Metrics, TcChoice},
    validate, value,
};
use crate::api::model::{PortMode, VlanMode};

/// `--port NAME[=VNI]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFlag {
    /// Name or pattern.
    pub interface: InterfacePattern,
    /// The VNI; `None`: the only one.
    pub vni: Option<Vni>,
}

impl FromStr for PortFlag {
    type Err = String;

    fn from_str(s: &str) -> Result<PortFlag, String> {
        let (name, vni) = match s.rsplit_once('=') {
            Some((name, vni)) => (name, Some(vni.parse().map_err(|e: wavnet_common::addr::AddrError| e.to_string())?)),
            None => (s, None),
        };
        Ok(PortFlag { interface: value::pattern(name)?, vni })
    }
}

/// `--peer ADDRESS[=VNI,VNI…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFlag {
    /// Outer address.
    pub address: Ipv4Addr,
    /// VNIs; empty: all of them.
    pub vnis: Vec<Vni>,
}

impl FromStr for PeerFlag {
    type Err = String;

    fn from_str(s: &str) -> Result<PeerFlag, String> {
        let (address, vnis) = match s.split_once('=') {
            Some((address, list)) => {
                let vnis =
                    list.split(',').map(|v| v.parse().map_err(|e: wavnet_common::addr::AddrError| e.to_string()));
                (address, vnis.collect::<Result<_, _>>()?)
            }
            None => (s, Vec::new()),
        };
        Ok(PeerFlag { address: value::vtep(address)?, vnis })
    }
}

/// What can be said without a file.
#[derive(Clone, Debug)]
pub struct Flags {
    /// `--underlay`.
    pub underlay: String,
    /// `--address`.
    pub address: Option<Ipv4Addr>,
    /// `--udp-port`.
    pub udp_port: u16,
    /// `--hook`.
    pub hook: HookChoice,
    /// `--vni`.
    pub vnis: Vec<Vni>,
    /// `--port`.
    pub ports: Vec<PortFlag>,
    /// `--peer`.
    pub peers: Vec<PeerFlag>,
    /// `--name`, `--bpffs`, `--run-dir`.
    pub agent: Agent,
    /// `--log-level`, `--log-format`.
    pub log: Log,
    /// `--metrics`.
    pub metrics: Metrics,
    /// `--rendezvous`.
    pub rendezvous: Vec<ServerAddress>,
    /// `--key`, `--network-key`, `--allow`, `--revoked`; its servers are those of `rendezvous`.
    pub mesh: Mesh,
    /// `--fdb-entries`, `--ageing`.
    pub fdb: Fdb,
}

impl Flags {
    /// Checks the flags against each other.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn validate(self) -> Result<Config, ConfigErrors> {
        let mut d = Diagnostics::default();
        let config = validate::validate(self.into_raw(&mut d), "", &|_| None, &mut d);
        match config {
            Some(config) if d.0.is_empty() => Ok(config),
            _ => Err(ConfigErrors::new(None, String::new(), d.0)),
        }
    }

    fn into_raw(self, d: &mut Diagnostics) -> Raw {
        let flag = |text: String| At::Flag(text);
        let only = match self.vnis[..] {
            [vni] => Some(vni),
            _ => None,
        };
        let mut ports = Vec::new();
        for p in self.ports {
            let at = flag(format!("--port {}", p.interface));
            match p.vni.or(only) {
                Some(vni) => ports.push(RawPort {
                    interface: Located { value: p.interface, at: at.clone() },
                    vni: Located { value: vni, at },
                    vlan: VlanMode::Pass,
                    mode: PortMode::Auto,
                }),
                None => d
                    .add(&at, "port", format!("which VNI does {} belong to?", p.interface))
                    .help(format!("write --port {}=VNI, with a VNI given by --vni", p.interface)),
            }
        }
        let all = &self.vnis;
        let peers = self.peers.into_iter().map(|p| {
            let at = flag(format!("--peer {}", p.address));
            let vnis = if p.vnis.is_empty() { all.clone() } else { p.vnis };
            let vnis = vnis.into_iter().map(|value| Located { value, at: at.clone() }).collect();
            RawPeer {
                address: Located { value: p.address, at: at.clone() },
                udp_port: None,
                vnis: Located { value: vnis, at },
            }
        });
        Raw {
            whole: flag("wavnet agent".into()),
            agent: self.agent,
            log: self.log,
            metrics: self.metrics,
            interface: Some(Located { at: flag(format!("--underlay {}", self.underlay)), value: self.underlay }),
            address: self.address.map(|value| Located { value, at: flag(format!("--address {value}")) }),
            udp_port: self.udp_port,
            mtu: None,
            hook: self.hook,
            tc: TcChoice::Auto,
            mesh: (!self.rendezvous.is_empty()).then(|| {
                let at = flag("--rendezvous".into());
                let servers = self.rendezvous.into_iter().map(|value| Located { value, at: at.clone() }).collect();
                RawMesh { servers, at, rest: self.mesh, incomplete: false }
            }),
            fdb: self.fdb,
            limits: Limits::default(),
            peers: peers.collect(),
            vnis: all
                .iter()
                .map(|&value| RawVni {
                    vni: Located { value, at: flag(format!("--vni {value}")) },
                    name: None,
                    mtu: None,
                    learning: true,
                })
                .collect(),
            ports,
            statics: Vec::new(),
            incomplete: false,
        }
    }
}
