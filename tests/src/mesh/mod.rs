//! Hypervisors at sites behind NATs, with a rendezvous server on the internet between them.

pub mod crowd;
pub mod flow;
pub mod grid;
pub mod order;
pub mod wall;

use std::{fmt::Display, fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use wavnet_common::addr::{Mac, Vni};
use wavnet_user::api::model::{MeshInfo, MeshPeer, MeshServer};

use crate::{
    lab::{
        Lab, Need,
        agent::Agent,
        config::AgentConfig,
        host::{Host, Vm, VmSpec},
        nat::{NatKind, Router, RouterSpec},
        ping, poll_until,
        topology::UNDERLAY_MTU,
        wan::{Internet, LinkSpec, Network, PublicHost},
    },
    rendezvous::{Server, Shape},
};

/// What VXLAN adds to a frame's payload: outer IPv4, UDP and VXLAN headers, and the inner frame's own.
const HEADERS: u32 = 50;

/// What every test of the mesh needs.
pub const NEEDS: &[Need] = &[Need::Wavnet, Need::Tool("nft"), Need::Tool("conntrack")];

/// The internet, and a rendezvous server on it.
#[derive(Debug)]
pub struct World {
    /// The internet.
    pub internet: Internet,
    /// The server's host, with two addresses.
    pub public: PublicHost,
    /// The server.
    pub server: Server,
    /// Further servers of the same network, and their hosts.
    pub others: Vec<(PublicHost, Server)>,
    count: u8,
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
    /// The agent's configuration, for a test to change.
    pub config: AgentConfig,
}

/// What makes a host a member of a network.
#[derive(Clone, Debug, Default)]
pub enum Member {
    /// The server's key.
    #[default]
    Key,
    /// Another one, in this file.
    OtherKey(String),
    /// Lists alone.
    NoKey,
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
    /// The VNI, if another one than [`World::vni`].
    pub vni: Option<Vni>,
    /// Lines for `[mesh]`.
    pub mesh: String,
    /// What makes it a member of the network.
    pub member: Member,
    /// Static peers.
    pub peers: Vec<Ipv4Addr>,
    /// The agent takes the address that its NIC has at the time.
    pub roams: bool,
}

impl SiteSpec {
    /// Behind a NAT of this kind; `None`: on the internet.
    #[must_use]
    pub fn behind(kind: Option<NatKind>) -> SiteSpec {
        SiteSpec { router: kind.map(RouterSpec::new), ..SiteSpec::default() }
    }

    /// The same in another VNI than the world's: among others, and out of their sight.
    #[must_use]
    pub fn vni(self, n: u32) -> SiteSpec {
        SiteSpec { vni: Vni::new(n).ok(), ..self }
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
        Ok(World { internet, public, server, others: Vec::new(), count: 0 })
    }

    /// Adds a server of the same network, for sites that come after it.
    ///
    /// # Errors
    /// What `ip` or the server says.
    pub fn add_server(&mut self, lab: &Lab) -> Result<()> {
        let public = self.internet.host(lab, &format!("rv{}", self.others.len() + 2), 1, None)?;
        let addresses = format!("listen = [\"{}:4789\"]\nother_port = 4790\n", public.host.addr);
        let mut server = Server::prepare(lab, &public.host.ns, &Shape { addresses, ..Shape::default() })?;
        for file in ["network.key", "network.access"] {
            fs::copy(self.server.path(file), server.path(file))?;
        }
        server.launch()?;
        self.others.push((public, server));
        Ok(())
    }

    /// Adds a site, and starts its agent.
    ///
    /// # Errors
    /// What `ip` or the agent says.
    pub fn site(&mut self, lab: &Lab, spec: &SiteSpec) -> Result<Site> {
        let [site] = self.sites(lab, [spec])?;
        Ok(site)
    }

    /// Adds sites whose agents start at the same time.
    ///
    /// # Errors
    /// As [`World::site`].
    pub fn sites<const N: usize>(&mut self, lab: &Lab, specs: [&SiteSpec; N]) -> Result<[Site; N]> {
        let begun: Vec<Site> = specs.into_iter().map(|spec| self.begin_site(lab, spec)).collect::<Result<_>>()?;
        let mut sites: [Site; N] = begun.try_into().map_err(|_| anyhow!("there are not as many"))?;
        sites.iter_mut().try_for_each(|site| site.agent.wait_answers())?;
        Ok(sites)
    }

    /// Adds a site, and does not wait for its agent.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn begin_site(&mut self, lab: &Lab, spec: &SiteSpec) -> Result<Site> {
        self.count += 1;
        let n = self.count;
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

    /// Adds a site behind a router that is there, such as a second one, and starts its agent.
    ///
    /// # Errors
    /// As [`World::site`].
    pub fn site_behind(&mut self, lab: &Lab, spec: &SiteSpec, router: &mut Router) -> Result<Site> {
        let mut site = self.begin_site_behind(lab, spec, router)?;
        site.agent.wait_answers()?;
        Ok(site)
    }

    /// The same without waiting for its agent.
    ///
    /// # Errors
    /// As [`World::begin_site`].
    pub fn begin_site_behind(&mut self, lab: &Lab, spec: &SiteSpec, router: &mut Router) -> Result<Site> {
        self.count += 1;
        let n = self.count;
        let host = router.host(lab, &format!("hv{n}"))?;
        self.site_on(lab, spec, None, host, n)
    }

    /// A key for a host of this name: the lines of its agent's configuration that make it a member, and its public key.
    ///
    /// # Errors
    /// What `wavnet key` says.
    pub fn mesh_table(&self, lab: &Lab, name: &str, spec: &SiteSpec) -> Result<(String, String)> {
        let key_file = lab.path(&format!("{name}.key")).display().to_string();
        let made = self.server.wavnet(&["key", "generate", &key_file])?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8_lossy(&made.stdout).split_whitespace().last().context("a public key")?.to_owned();
        let hosts = [&self.public].into_iter().chain(self.others.iter().map(|(host, _)| host));
        let servers: Vec<String> = hosts.map(|on| format!("\"{}:4789\"", on.host.addr)).collect();
        let network = match &spec.member {
            Member::Key => format!("network_key = \"{}\"\n", self.server.path("network.key")),
            Member::OtherKey(file) => format!("network_key = \"{file}\"\n"),
            Member::NoKey => String::new(),
        };
        let table = format!("[mesh]\nservers = [{}]\nkey = \"{key_file}\"\n{network}{}", servers.join(", "), spec.mesh);
        Ok((table, key))
    }

    fn site_on(&self, lab: &Lab, spec: &SiteSpec, router: Option<Router>, host: Host, n: u8) -> Result<Site> {
        let addr = Ipv4Addr::new(10, 9, 0, n);
        let vm_name = format!("vm{n}");
        let mtu = self.internet.mtu().saturating_sub(HEADERS).min(1500);
        let vm_spec = VmSpec { mtu, ..VmSpec::new(&vm_name, Mac([2, 9, 0, 0, 0, n]), addr) };
        let vm = if spec.tap { host.tap_vm(lab, &vm_spec)? } else { host.vm(lab, &vm_spec)? };
        let (mesh, key) = self.mesh_table(lab, &format!("hv{n}"), spec)?;
        let vni = spec.vni.unwrap_or_else(World::vni);
        let mut config = AgentConfig::new(&[vni]).port(&vm.port, vni).table(&mesh);
        if !spec.underlay.is_empty() {
            config = config.underlay(&spec.underlay);
        }
        if let Some(level) = &spec.log_level {
            config = config.log_level(level);
        }
        if spec.roams {
            config = config.any_address();
        }
        for peer in &spec.peers {
            config = config.peer(*peer, &[vni]);
        }
        let mut agent = Agent::prepare(lab, &host, &config)?;
        agent.begin("")?;
        Ok(Site { router, host, agent, vm, addr, key, config })
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

/// How an agent sees its n-th rendezvous server.
///
/// # Errors
/// It does not answer, or does not know of it (yet): servers are there once they are resolved.
pub fn server_of(agent: &Agent, n: usize) -> Result<MeshServer> {
    let servers = mesh_of(agent)?.servers;
    servers.into_iter().nth(n).with_context(|| format!("no server {n} yet"))
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

    /// Has its VM know the link address of another site's: it need not ask for it, and never does again.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn knows_where(&self, other: &Site) -> Result<()> {
        let (addr, mac) = (other.addr, other.vm.mac);
        self.vm.ns.ip(&format!("neighbour replace {addr} lladdr {mac} dev eth0 nud permanent")).map(drop)
    }

    /// How often frames from here have taken another path than before, by the agent's log.
    pub fn path_changes(&self) -> usize {
        self.agent.log().matches("frames take a path").count()
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
        met.with_context(|| format!("it knows {:?}", mesh_of(&self.agent)))
    }
}

/// Waits until frames between two sites take paths of this kind in both directions, and go through; prints a row of docs/nat.md's table of cases.
///
/// # Errors
/// They do not.
pub fn meet(case: &str, (a, b): (&Site, &Site), kind: &str, most: Duration) -> Result<()> {
    a.wait_for_path(b, kind, most).with_context(|| case.to_owned())?;
    b.wait_for_path(a, kind, most).with_context(|| case.to_owned())?;
    ping::once(&a.vm.ns, b.addr, 56, most).with_context(|| case.to_owned())?;
    let views = [a.peer(b)?, b.peer(a)?];
    let times = views.map(|view| if kind == "relayed" { view.first_path_ms } else { view.direct_path_ms });
    row(case, kind, times.into_iter().flatten().max().map_or_else(|| "–".to_owned(), |ms| ms.to_string()));
    Ok(())
}

/// Prints a row of docs/nat.md's table of cases: what was done, the path that there is then, and milliseconds until it was there.
pub fn row(case: &str, path: &str, ms: impl Display) {
    println!("| {case} | {path} | {ms} |");
}

/// Removes what is kept of a server, as if its disk were lost.
///
/// # Errors
/// It cannot be removed.
pub fn forget_state(server: &Server) -> Result<()> {
    fs::remove_dir_all(server.path("state")).context("removing the server's state")
}
