//! Hypervisors at sites behind NATs, with a rendezvous server on the internet between them.

pub mod grid;

use std::{fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_common::addr::{Mac, Vni};
use wavnet_user::api::model::{MeshInfo, MeshPeer};

use crate::{
    lab::{
        Lab,
        agent::Agent,
        config::AgentConfig,
        host::{Host, Vm, VmSpec},
        nat::{NatKind, Router, RouterSpec},
        poll_until,
        topology::UNDERLAY_MTU,
        wan::{Internet, LinkSpec, Network, PublicHost},
    },
    rendezvous::{Server, Shape},
};

/// What VXLAN adds to a frame's payload: outer IPv4, UDP and VXLAN headers, and the inner frame's own.
const HEADERS: u32 = 50;

/// The internet, and a rendezvous server on it.
#[derive(Debug)]
pub struct World {
    /// The internet.
    pub internet: Internet,
    /// The server's host, with two addresses.
    pub public: PublicHost,
    /// The server.
    pub server: Server,
    sites: u8,
}

/// A site: a router, a hypervisor behind it with an agent, and a VM.
#[derive(Debug)]
pub struct Site {
    /// The router; `None`: the hypervisor is on the internet.
    pub router: Option<Router>,
    /// The hypervisor.
    pub host: Host,
    /// Its agent.
    pub agent: Agent,
    /// Its VM.
    pub vm: Vm,
    /// The VM's address.
    pub addr: Ipv4Addr,
    /// The agent's name and public key.
    pub key: String,
}

/// What a site is to be.
#[derive(Clone, Debug, Default)]
pub struct SiteSpec {
    /// The router; `None`: none.
    pub router: Option<RouterSpec>,
    /// The WAN to a host without a router.
    pub link: Option<LinkSpec>,
    /// The VM's port is a tap.
    pub tap: bool,
    /// Lines for `[underlay]`.
    pub underlay: String,
    /// Another level of the agent's log than debug; empty: the agent's default.
    pub log_level: Option<String>,
}

impl SiteSpec {
    /// Behind a NAT of this kind; `None`: on the internet.
    #[must_use]
    pub fn behind(kind: Option<NatKind>) -> SiteSpec {
        SiteSpec { router: kind.map(RouterSpec::new), ..SiteSpec::default() }
    }
}

impl World {
    /// The VNI that all sites have.
    ///
    /// # Panics
    /// Never: it is one.
    #[must_use]
    pub fn vni() -> Vni {
        Vni::new(100).expect("a VNI")
    }

    /// An internet with a server; `link` lies between the two.
    ///
    /// # Errors
    /// What `ip` or the server says.
    pub fn new(lab: &Lab, link: Option<&LinkSpec>) -> Result<World> {
        World::with_mtu(lab, UNDERLAY_MTU, link)
    }

    /// The same with an MTU of all links of the internet. VMs have 50 less, as VXLAN needs, and 1500 at most.
    ///
    /// # Errors
    /// As [`World::new`].
    pub fn with_mtu(lab: &Lab, mtu: u32, link: Option<&LinkSpec>) -> Result<World> {
        let mut internet = Internet::new(lab, mtu)?;
        let public = internet.host(lab, "rv", 2, link)?;
        let [first, second] = public.addresses[..] else { anyhow::bail!("two addresses were asked for") };
        let addresses = format!("listen = [\"{first}:4789\"]\nother_address = [\"{second}\"]\nother_port = 4790\n");
        let server = Server::start(lab, &public.host.ns, &Shape { addresses, ..Shape::default() })?;
        Ok(World { internet, public, server, sites: 0 })
    }

    /// Adds a site, and starts its agent.
    ///
    /// # Errors
    /// What `ip` or the agent says.
    pub fn site(&mut self, lab: &Lab, spec: &SiteSpec) -> Result<Site> {
        self.sites += 1;
        let n = self.sites;
        let name = format!("hv{n}");
        let (router, host) = match &spec.router {
            Some(router) => {
                let mut router = Router::new(lab, &format!("r{n}"), &mut self.internet, router)?;
                let host = router.host(lab, &name)?;
                (Some(router), host)
            }
            None => (None, self.internet.host(lab, &name, 1, spec.link.as_ref())?.host),
        };
        self.site_on(lab, spec, router, host, n)
    }

    /// The same on a hypervisor that is there, such as a second one behind a router.
    ///
    /// # Errors
    /// As [`World::site`].
    pub fn site_behind(&mut self, lab: &Lab, spec: &SiteSpec, router: &mut Router) -> Result<Site> {
        self.sites += 1;
        let n = self.sites;
        let host = router.host(lab, &format!("hv{n}"))?;
        self.site_on(lab, spec, None, host, n)
    }

    /// A key for a host of this name, and the lines of its agent's configuration that make it a member.
    ///
    /// # Errors
    /// What `wavnet key` says.
    pub fn mesh_table(&self, lab: &Lab, name: &str) -> Result<String> {
        let key_file = lab.path(&format!("{name}.key")).display().to_string();
        let made = self.server.wavnet(&["key", "generate", &key_file])?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let (server, network) = (self.public.host.addr, self.server.path("network.key"));
        Ok(format!("[mesh]\nservers = [\"{server}:4789\"]\nkey = \"{key_file}\"\nnetwork_key = \"{network}\"\n"))
    }

    fn site_on(&self, lab: &Lab, spec: &SiteSpec, router: Option<Router>, host: Host, n: u8) -> Result<Site> {
        let addr = Ipv4Addr::new(10, 9, 0, n);
        let vm_name = format!("vm{n}");
        let mtu = self.internet.mtu().saturating_sub(HEADERS).min(1500);
        let vm_spec = VmSpec { mtu, ..VmSpec::new(&vm_name, Mac([2, 9, 0, 0, 0, n]), addr) };
        let vm = if spec.tap { host.tap_vm(lab, &vm_spec)? } else { host.vm(lab, &vm_spec)? };
        let mesh = self.mesh_table(lab, &format!("hv{n}"))?;
        let mut config = AgentConfig::new(&[World::vni()]).port(&vm.port, World::vni()).table(&mesh);
        if !spec.underlay.is_empty() {
            config = config.underlay(&spec.underlay);
        }
        if let Some(level) = &spec.log_level {
            config = config.log_level(level);
        }
        let agent = Agent::start(lab, &host, &config)?;
        let key = mesh_of(&agent)?.key;
        Ok(Site { router, host, agent, vm, addr, key })
    }
}

/// What an agent says of its mesh.
///
/// # Errors
/// It does not answer, or has none.
pub fn mesh_of(agent: &Agent) -> Result<MeshInfo> {
    let value: serde_json::Value = serde_json::from_str(&agent.cli("mesh --json")?)?;
    serde_json::from_value(value["mesh"].clone()).context("the shape of `mesh --json`")
}

impl Site {
    /// How this site sees another one.
    ///
    /// # Errors
    /// It does not (yet).
    pub fn peer(&self, other: &Site) -> Result<MeshPeer> {
        let mesh = mesh_of(&self.agent)?;
        let found = mesh.peers.into_iter().find(|p| p.key == other.key);
        found.with_context(|| format!("{} does not know {}", self.host.ns.short_name(), other.host.ns.short_name()))
    }

    /// Waits until frames to another site take a path of this kind.
    ///
    /// # Errors
    /// They do not; what the agent has logged.
    pub fn wait_for_path(&self, other: &Site, kind: &str, most: Duration) -> Result<()> {
        let what = format!("a {kind} path from {} to {}", self.host.ns.short_name(), other.host.ns.short_name());
        let met = poll_until(&what, most, || {
            let peer = self.peer(other)?;
            let is = peer.selected().map_or("none", |p| p.kind.as_str()).to_owned();
            ensure!(is == kind, "it is {is}: {peer:?}");
            Ok(())
        });
        met.with_context(|| format!("its agent said:\n{}", self.agent.log()))
    }
}

/// Removes what is kept of a server, as if its disk were lost.
///
/// # Errors
/// It cannot be removed.
pub fn forget_state(server: &Server) -> Result<()> {
    fs::remove_dir_all(server.path("state")).context("removing the server's state")
}
