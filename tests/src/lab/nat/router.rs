//! Routers: a namespace with an interface to the internet, a LAN, and the rules of its kind in between.

use std::{fs::File, io::Write, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use super::{
    conntrack::{self, Peak},
    kind::NatKind,
    rules::{Forward, LAN, Rules, WAN, whole_seconds},
};
use crate::lab::{
    Lab,
    host::Host,
    link,
    netns::Netns,
    tools,
    wan::{
        LinkSpec, Network, Plug, WanLink,
        internet::{address_and_route, connect, offset},
    },
};

/// Hosts of a LAN have addresses up to this one; [`Router::change_address`] takes those above.
const LAST_HOST: u8 = 127;

/// What a router is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RouterSpec {
    kind: NatKind,
    filter_input: bool,
    hairpin: bool,
    timeouts: Timeouts,
    lan: Option<Ipv4Addr>,
    link: Option<LinkSpec>,
}

/// How long a router remembers UDP, in whole seconds: the kernel's connections, and what cones know beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// What has not been answered, or for less than two seconds.
    pub unreplied: Duration,
    /// What has had packets both ways for longer.
    pub replied: Duration,
}

impl Default for Timeouts {
    /// Linux's own.
    fn default() -> Timeouts {
        Timeouts { unreplied: Duration::from_secs(30), replied: Duration::from_secs(120) }
    }
}

impl RouterSpec {
    /// A router of a kind, with an input filter, without hairpinning, with Linux's timeouts and no WAN before it.
    pub fn new(kind: NatKind) -> RouterSpec {
        RouterSpec { kind, filter_input: true, hairpin: false, timeouts: Timeouts::default(), lan: None, link: None }
    }

    /// The same without a filter of what comes unasked for. Such a router answers what it has no mapping for, and what it answered
    /// has a port that the host's own packet then cannot keep: its mapping moves.
    #[must_use]
    pub fn without_input_filter(self) -> RouterSpec {
        RouterSpec { filter_input: false, ..self }
    }

    /// The same with hairpinning: hosts behind it reach each other by their external endpoints.
    #[must_use]
    pub fn hairpinning(self) -> RouterSpec {
        RouterSpec { hairpin: true, ..self }
    }

    /// The same with other timeouts.
    #[must_use]
    pub fn timeouts(self, timeouts: Timeouts) -> RouterSpec {
        RouterSpec { timeouts, ..self }
    }

    /// The same with this /24 as its LAN, which another router's LAN may be, too.
    #[must_use]
    pub fn lan(self, lan: Ipv4Addr) -> RouterSpec {
        RouterSpec { lan: Some(lan), ..self }
    }

    /// The same behind a WAN.
    #[must_use]
    pub fn link(self, link: LinkSpec) -> RouterSpec {
        RouterSpec { link: Some(link), ..self }
    }
}

/// A router with a LAN. Hosts are plugged into it, or other routers.
#[derive(Debug)]
pub struct Router {
    /// Where it is. Its interfaces are `wan` and `lan`, a bridge of the ports `h1`, `h2`, …
    pub ns: Netns,
    /// The WAN before it, if there is one.
    pub link: Option<WanLink>,
    rules: Rules,
    gateway: Ipv4Addr,
    mtu: u32,
    plugged: u8,
}

impl Router {
    /// Plugs a router into the internet, or into another router.
    ///
    /// # Errors
    /// A kind that cannot hairpin, or what `ip`, `ethtool`, `nft` or the kernel says.
    pub fn new(lab: &Lab, name: &str, outside: &mut impl Network, spec: &RouterSpec) -> Result<Router> {
        let RouterSpec { kind, filter_input, hairpin, timeouts, lan, link } = *spec;
        let single = kind.translates() && kind.behaviour().maps_once();
        ensure!(!hairpin || single, "{kind}: only NATs with one mapping for all destinations hairpin here");
        let ns = lab.netns(name)?;
        ns.sysctl("net/ipv4/ip_forward", "1")?;
        let plug = outside.plug(lab, &ns, WAN, link.as_ref())?;
        let lan = lan.unwrap_or(if kind.translates() { plug.private } else { plug.public });
        let mtu = outside.mtu();
        link::bridge(&ns, LAN, mtu)?;
        // Else frames that stay in the LAN would go through the rules, where the kernel is built so.
        if let Err(error) = ns.sysctl("net/bridge/bridge-nf-call-iptables", "0") {
            let none = error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound);
            ensure!(none, "{error:#}");
        }
        ns.ip(&format!("address add {}/24 dev {LAN}", offset(lan, 1)))?;
        let rules = Rules { kind, external: plug.address, lan, filter_input, hairpin, timeouts, forwarded: None };
        let mut router = Router { ns, link: plug.link, rules, gateway: plug.gateway, mtu, plugged: 0 };
        router.apply(&rules.text())?;
        router.set_timeouts(timeouts)?;
        if !kind.translates() {
            outside.route(lan, plug.address)?;
        }
        Ok(router)
    }

    /// What it is.
    pub fn kind(&self) -> NatKind {
        self.rules.kind
    }

    /// True if hosts behind it reach each other by their external endpoints.
    pub fn hairpins(&self) -> bool {
        self.rules.hairpin
    }

    /// Its address outside: what hosts behind it seem to have if it translates.
    pub fn external(&self) -> Ipv4Addr {
        self.rules.external
    }

    /// Plugs a host into its LAN.
    ///
    /// # Errors
    /// The LAN is full, or what `ip` or `ethtool` says.
    pub fn host(&mut self, lab: &Lab, name: &str) -> Result<Host> {
        let ns = lab.netns(name)?;
        let plug = self.plug(lab, &ns, Host::NIC, None)?;
        Ok(Host { ns, addr: plug.address })
    }

    /// Has it hand a UDP port on to a host behind it, for one sender: what an operator sets up by hand for who cannot punch.
    ///
    /// # Errors
    /// It does not translate, or what `nft` says.
    pub fn forward(&mut self, forward: Forward) -> Result<()> {
        ensure!(self.rules.kind.translates(), "{}: there is no need to forward ports", self.rules.kind);
        self.rules.forwarded = Some(forward);
        self.apply(&self.rules.text())
    }

    /// Takes over a host of another router: its NIC is plugged in here from now on, and has another address and gateway.
    ///
    /// # Errors
    /// It is not a host of that router; or as [`Router::host`].
    pub fn adopt(&mut self, host: &mut Host, from: &Router) -> Result<()> {
        let place = host.addr.octets()[3].checked_sub(1).context("no host's address")?;
        self.plugged += 1;
        let (port, name) = (format!("h{}", self.plugged), self.ns.name());
        from.ns.ip(&format!("link set dev h{place} down"))?;
        from.ns.ip(&format!("link set dev h{place} netns {name} name {port}"))?;
        link::enslave(&self.ns, &port, LAN)?;
        // Else what it sends from its address of before, until it has one here, would get the mapping of its port, and keep it.
        host.ns.ip(&format!("address flush dev {}", Host::NIC))?;
        self.ns.ip(&format!("link set dev {port} up"))?;
        host.addr = offset(self.rules.lan, self.plugged + 1);
        address_and_route(&host.ns, Host::NIC, host.addr, offset(self.rules.lan, 1))
    }

    /// Entries of its connection tracking, of all protocols.
    ///
    /// # Errors
    /// See [`conntrack::entries`].
    pub fn conntrack_entries(&self) -> Result<u64> {
        conntrack::entries(&self.ns)
    }

    /// Watches how many entries there are at most from now on.
    ///
    /// # Errors
    /// See [`Peak::watch`].
    pub fn watch_conntrack(&self) -> Result<Peak> {
        Peak::watch(&self.ns)
    }

    /// Forgets all mappings, as by a reboot that takes no time.
    ///
    /// # Errors
    /// What `nft` or `conntrack` says.
    pub fn reboot(&self) -> Result<()> {
        if let Some(text) = self.rules.forget() {
            self.apply(&text)?;
        }
        conntrack::flush(&self.ns)
    }

    /// Sets how long it remembers UDP: what it learns or is used from now on. The kernel counts in whole seconds.
    ///
    /// # Errors
    /// What the kernel or `nft` says.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<()> {
        for (key, time) in [("udp_timeout", timeouts.unreplied), ("udp_timeout_stream", timeouts.replied)] {
            let seconds = whole_seconds(time).to_string();
            self.ns.sysctl(&format!("net/netfilter/nf_conntrack_{key}"), &seconds)?;
        }
        self.rules.timeouts = timeouts;
        if let Some(text) = self.rules.lifetimes() {
            self.apply(&text)?;
        }
        Ok(())
    }

    /// Gets another address outside, as when an operator of the internet gives a new one, and forgets all mappings; the new address.
    ///
    /// # Errors
    /// It does not translate, so that the addresses of its hosts would have to change; or what `ip`, `nft` or `conntrack` says.
    pub fn change_address(&mut self) -> Result<Ipv4Addr> {
        ensure!(self.rules.kind.translates(), "{}: there is no address to change", self.rules.kind);
        // Between .2 and .130.
        self.rules.external = offset(self.rules.external, LAST_HOST + 1);
        address_and_route(&self.ns, WAN, self.rules.external, self.gateway)?;
        self.apply(&self.rules.text())?;
        conntrack::flush(&self.ns)?;
        Ok(self.rules.external)
    }

    /// Has `nft` take over rules. They are kept for whoever looks why a test failed.
    fn apply(&self, text: &str) -> Result<()> {
        let path = self.ns.log_path("rules");
        let log = File::options().create(true).append(true).open(&path);
        log.and_then(|mut log| log.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))?;
        tools::feed(self.ns.command("nft").args(["-f", "-"]), text).map(drop)
    }
}

impl Network for Router {
    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn plug(&mut self, lab: &Lab, ns: &Netns, interface: &str, link: Option<&LinkSpec>) -> Result<Plug> {
        ensure!(self.plugged < LAST_HOST - 1, "the LAN of {} is full", self.ns.short_name());
        self.plugged += 1;
        let (port, lan) = (format!("h{}", self.plugged), self.rules.lan);
        let (address, gateway) = (offset(lan, self.plugged + 1), offset(lan, 1));
        let link = connect(lab, [(ns, interface), (&self.ns, &port)], self.mtu, link)?;
        link::enslave(&self.ns, &port, LAN)?;
        address_and_route(ns, interface, address, gateway)?;
        let behind = behind(lan, self.plugged)?;
        Ok(Plug { address, gateway, private: behind, public: behind, link })
    }

    fn route(&self, behind: Ipv4Addr, via: Ipv4Addr) -> Result<()> {
        self.ns.ip(&format!("route replace {behind}/24 via {via}"))?;
        Ok(())
    }
}

/// A network for whoever is behind port `n` of a LAN: none that is before it.
fn behind(lan: Ipv4Addr, n: u8) -> Result<Ipv4Addr> {
    match lan.octets() {
        [172, ..] => bail!("no more than three NATs in a row"),
        [10, a, ..] => Ok(Ipv4Addr::new(172, 16 + a % 16, n, 0)),
        [_, _, a, _] => Ok(Ipv4Addr::new(10, a, n, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_in_a_row_differ() {
        let mut lan = Ipv4Addr::new(192, 168, 1, 0);
        let mut all = vec![lan];
        while let Ok(next) = behind(lan, 1) {
            assert!(next.is_private() && !all.contains(&next), "{next}");
            all.push(next);
            lan = next;
        }
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_spec_changes_what_it_says_alone() {
        let plain = RouterSpec::new(NatKind::FullCone);
        assert!(plain.filter_input && !plain.hairpin && plain.link.is_none());
        assert!(!plain.without_input_filter().filter_input);
        assert_eq!(plain.hairpinning(), RouterSpec { hairpin: true, ..plain });
    }
}
