//! Checks of values against each other: from [`Raw`] to [`Config`].

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::Ipv4Addr,
};

use wavnet_common::{abi::size, addr::Vni};

use super::{
    diagnostic::{At, Diagnostics, Located, describe},
    mesh,
    raw::Raw,
    types::{Config, Limits, PeerConfig, PortConfig, StaticEntry, StaticPlace, Underlay, VXLAN_OVERHEAD, VniConfig},
};

/// Checks everything and notes every error. The result means something only if none was noted.
pub(super) fn validate(
    raw: Raw,
    text: &str,
    mtu_of: &dyn Fn(&str) -> Option<u32>,
    d: &mut Diagnostics,
) -> Option<Config> {
    let check = Check {
        raw: &raw,
        text,
        underlay_mtu: underlay_mtu(&raw, text, mtu_of),
        declared: raw.vnis.iter().map(|v| v.vni.value).collect(),
    };
    check.vnis(d);
    check.ports(d);
    check.port_patterns(d);
    check.peers(d);
    check.memberships(d);
    check.statics(d);
    let interface = raw.interface?.value;
    let udp_port = raw.udp_port;
    let vnis = raw.vnis.len();
    let mut config = Config {
        agent: raw.agent,
        log: raw.log,
        metrics: raw.metrics,
        underlay: Underlay {
            interface,
            address: raw.address.map(|a| a.value),
            udp_port,
            mtu: raw.mtu.map(|m| m.value),
            hook: raw.hook,
            tc: raw.tc,
        },
        mesh: raw.mesh.map(|m| mesh::validate(m, vnis, d)),
        fdb: raw.fdb,
        limits: raw.limits,
        vnis: raw
            .vnis
            .into_iter()
            .map(|v| VniConfig {
                vni: v.vni.value,
                name: v.name.map(|n| n.value),
                mtu: v.mtu.map(|m| m.value),
                learning: v.learning,
            })
            .collect(),
        ports: raw
            .ports
            .into_iter()
            .map(|p| PortConfig { interface: p.interface.value, vni: p.vni.value, vlan: p.vlan, mode: p.mode })
            .collect(),
        peers: raw
            .peers
            .into_iter()
            .map(|p| PeerConfig {
                address: p.address.value,
                udp_port: p.udp_port.unwrap_or(udp_port),
                vnis: p.vnis.value.into_iter().map(|v| v.value).collect(),
            })
            .collect(),
        statics: raw
            .statics
            .into_iter()
            .map(|s| StaticEntry { vni: s.vni.value, mac: s.mac.value, place: s.place.value })
            .collect(),
    };
    config.vnis.sort_by_key(|v| v.vni);
    config.peers.sort_by_key(|p| p.address);
    for peer in &mut config.peers {
        peer.vnis.sort_unstable();
    }
    Some(config)
}

/// The underlay's MTU, and how to raise it: as it is configured, else as the interface has it.
fn underlay_mtu(raw: &Raw, text: &str, mtu_of: &dyn Fn(&str) -> Option<u32>) -> Option<(u32, String)> {
    if let Some(mtu) = &raw.mtu {
        let how = format!("raise the underlay's MTU to {{}} (and underlay.mtu {} with it)", describe(&mtu.at, text));
        return Some((mtu.value, how));
    }
    let name = &raw.interface.as_ref()?.value;
    Some((mtu_of(name)?, format!("raise the underlay's MTU (ip link set {name} mtu {{}})")))
}

/// Finds what is given twice.
struct Once<K> {
    seen: HashMap<K, At>,
}

impl<K: Hash + Eq> Once<K> {
    fn new() -> Once<K> {
        Once { seen: HashMap::new() }
    }

    /// Where `value` was given before, if it was.
    fn before(&mut self, value: K, at: &At) -> Option<At> {
        match self.seen.entry(value) {
            std::collections::hash_map::Entry::Occupied(e) => Some(e.get().clone()),
            std::collections::hash_map::Entry::Vacant(e) => {
                e.insert(at.clone());
                None
            }
        }
    }
}

struct Check<'a> {
    raw: &'a Raw,
    text: &'a str,
    /// With `{}` where the MTU goes that is needed.
    underlay_mtu: Option<(u32, String)>,
    declared: HashSet<Vni>,
}

impl Check<'_> {
    fn place(&self, at: &At) -> String {
        describe(at, self.text)
    }

    fn too_many(&self, d: &mut Diagnostics, at: &At, what: &str, count: usize, limit: u32) {
        if count > limit as usize {
            d.add(
                at,
                format!("limits.{what}"),
                format!("there are {count} {what}, and the table has room for {limit}"),
            )
            .help(match (count <= Limits::MAX as usize, at) {
                (false, _) => format!("{} is the most that an agent takes: leave some out", Limits::MAX),
                (true, At::Span(_)) => format!("raise {what} in [limits]"),
                (true, At::Flag(_)) => format!("write them into a file, where [limits] has {what}"),
            });
        }
    }

    fn vnis(&self, d: &mut Diagnostics) {
        let (mut ids, mut names) = (Once::new(), Once::new());
        for v in &self.raw.vnis {
            if let Some(first) = ids.before(v.vni.value, &v.vni.at) {
                let message = format!("VNI {} is declared twice, first {}", v.vni.value, self.place(&first));
                d.add(&v.vni.at, "vni.id", message);
            }
            if let Some(name) = &v.name
                && let Some(first) = names.before(&name.value, &name.at)
            {
                let message = format!("two VNIs are named \"{}\", the first {}", name.value, self.place(&first));
                d.add(&name.at, "vni.name", message);
            }
            if let (Some(mtu), Some((have, raise))) = (&v.mtu, &self.underlay_mtu)
                && mtu.value + VXLAN_OVERHEAD > *have
            {
                let message = format!(
                    "an MTU of {} cannot fit the underlay's {have}: VXLAN adds {VXLAN_OVERHEAD} bytes",
                    mtu.value
                );
                let raise = raise.replace("{}", &(mtu.value + VXLAN_OVERHEAD).to_string());
                let lower = have.saturating_sub(VXLAN_OVERHEAD);
                d.add(&mtu.at, "vni.mtu", message).help(format!("{raise}, or lower this one to {lower}"));
            }
        }
        if let Some(last) = self.raw.vnis.last() {
            self.too_many(d, &last.vni.at, "vnis", self.raw.vnis.len(), self.raw.limits.vnis);
        }
    }

    fn declared(&self, d: &mut Diagnostics, key: &str, vni: &Located<Vni>) {
        if !self.declared.contains(&vni.value) && !self.raw.incomplete {
            let help = match &vni.at {
                At::Span(_) => format!("declare it:\n            [[vni]]\n            id = {}", vni.value),
                At::Flag(_) => format!("declare it: --vni {}", vni.value),
            };
            d.add(&vni.at, key, format!("VNI {} is not declared", vni.value)).help(help);
        }
    }

    fn ports(&self, d: &mut Diagnostics) {
        let mut names = Once::new();
        let mut per_vni: HashMap<Vni, usize> = HashMap::new();
        let exact = self.raw.ports.iter().filter(|p| p.interface.value.exact().is_some());
        for p in exact.clone() {
            if let Some(first) = names.before(&p.interface.value, &p.interface.at) {
                let message = format!("port {} is given twice, first {}", p.interface.value, self.place(&first));
                d.add(&p.interface.at, "port.interface", message);
            }
            let count = per_vni.entry(p.vni.value).or_default();
            *count += 1;
            if *count == size::FLOOD_PORTS + 1 {
                let message = format!("VNI {} has more than {} ports", p.vni.value, size::FLOOD_PORTS);
                d.add(&p.interface.at, "port.vni", message);
            }
        }
        for p in &self.raw.ports {
            self.declared(d, "port.vni", &p.vni);
            if let Some(underlay) = &self.raw.interface
                && p.interface.value.matches(&underlay.value)
            {
                let (name, what) = (&underlay.value, &p.interface.value);
                let message = match p.interface.value.exact() {
                    Some(_) => format!("{name} is the underlay and cannot be a port"),
                    None => format!("the pattern {what} matches the underlay, {name}"),
                };
                d.add(&p.interface.at, "port.interface", message);
            }
        }
        if let Some(last) = exact.clone().next_back() {
            self.too_many(d, &last.interface.at, "ports", exact.count(), self.raw.limits.ports);
        }
    }

    fn port_patterns(&self, d: &mut Diagnostics) {
        let patterns: Vec<_> = self.raw.ports.iter().filter(|p| p.interface.value.exact().is_none()).collect();
        for (i, p) in patterns.iter().enumerate() {
            if let Some(q) = patterns[..i].iter().find(|q| q.interface.value.overlaps(&p.interface.value)) {
                let (mine, other) = (&p.interface.value, &q.interface.value);
                let message = if mine == other {
                    format!("the pattern {mine} is given twice, first {}", self.place(&q.interface.at))
                } else {
                    let place = self.place(&q.interface.at);
                    format!("the patterns {mine} and {other} ({place}) can match the same interface")
                };
                d.add(&p.interface.at, "port.interface", message)
                    .help("make them exclude each other; an exact name may be given beside a pattern and goes first");
            }
        }
    }

    fn peers(&self, d: &mut Diagnostics) {
        let mut addresses = Once::new();
        for p in &self.raw.peers {
            let address = p.address.value;
            if let Some(first) = addresses.before(address, &p.address.at) {
                let message = format!("peer {address} is given twice, first {}", self.place(&first));
                d.add(&p.address.at, "peer.address", message).help("list all of its VNIs in one place");
            }
            if let Some(own) = &self.raw.address
                && own.value == address
            {
                let message = format!("{address} is this host's own address ({})", self.place(&own.at));
                d.add(&p.address.at, "peer.address", message).help("remove it: frames to oneself never leave the host");
            }
        }
        if let Some(last) = self.raw.peers.last() {
            self.too_many(d, &last.address.at, "peers", self.raw.peers.len(), self.raw.limits.peers);
        }
    }

    fn memberships(&self, d: &mut Diagnostics) {
        let mut per_vni: HashMap<Vni, usize> = HashMap::new();
        let mut all = 0;
        for p in &self.raw.peers {
            if p.vnis.value.is_empty() {
                d.add(&p.vnis.at, "peer.vnis", format!("peer {} is a member of no VNI", p.address.value))
                    .help("list at least one VNI, or remove the peer");
            }
            let mut mine = HashSet::new();
            for vni in &p.vnis.value {
                if !mine.insert(vni.value) {
                    d.add(&vni.at, "peer.vnis", format!("VNI {} is listed twice", vni.value));
                    continue;
                }
                self.declared(d, "peer.vnis", vni);
                all += 1;
                let count = per_vni.entry(vni.value).or_default();
                *count += 1;
                if *count == size::FLOOD_VTEPS + 1 {
                    let message = format!("VNI {} has more than {} peers", vni.value, size::FLOOD_VTEPS);
                    d.add(&vni.at, "peer.vnis", message).help("flooded frames are copied to so many peers at the most");
                } else if all == size::MEMBERS as usize + 1 {
                    d.add(&vni.at, "peer.vnis", format!("there are more than {} memberships", size::MEMBERS));
                }
            }
        }
    }

    fn statics(&self, d: &mut Diagnostics) {
        let mut macs = Once::new();
        let members: HashSet<(Ipv4Addr, Vni)> =
            self.raw.peers.iter().flat_map(|p| p.vnis.value.iter().map(|v| (p.address.value, v.value))).collect();
        for s in &self.raw.statics {
            let (vni, mac) = (s.vni.value, s.mac.value);
            self.declared(d, "static.vni", &s.vni);
            if let Some(first) = macs.before((vni, mac), &s.mac.at) {
                let message = format!("{mac} is given twice in VNI {vni}, first {}", self.place(&first));
                d.add(&s.mac.at, "static.mac", message);
            }
            if self.raw.incomplete {
                continue;
            }
            match &s.place.value {
                StaticPlace::Peer(peer) if !members.contains(&(*peer, vni)) => {
                    d.add(&s.place.at, "static.peer", format!("{peer} is no peer of VNI {vni}"))
                        .help("add it in [[peer]], or add the VNI to its vnis");
                }
                StaticPlace::Port(name) => self.static_port(d, s.vni.value, name, &s.place.at),
                StaticPlace::Peer(_) => {}
            }
        }
    }

    fn static_port(&self, d: &mut Diagnostics, vni: Vni, name: &str, at: &At) {
        let exact = self.raw.ports.iter().find(|p| p.interface.value.exact() == Some(name));
        match exact.or_else(|| self.raw.ports.iter().find(|p| p.interface.value.matches(name))) {
            Some(p) if p.vni.value == vni => {}
            Some(p) => {
                let (has, place) = (p.vni.value, self.place(&p.interface.at));
                let message = match p.interface.value.exact() {
                    Some(_) => format!("port {name} belongs to VNI {has}, not to {vni} ({place})"),
                    None => {
                        let pattern = &p.interface.value;
                        format!(
                            "port {name} belongs to VNI {has}, not to {vni}: the pattern {pattern} ({place}) matches it"
                        )
                    }
                };
                let help = format!("give the entry vni = {has}, or give {name} a [[port]] of its own in VNI {vni}");
                d.add(at, "static.port", message).help(help);
            }
            None => {
                d.add(at, "static.port", format!("no [[port]] has the name {name} or a pattern that matches it"))
                    .help("add it in [[port]]");
            }
        }
    }
}
