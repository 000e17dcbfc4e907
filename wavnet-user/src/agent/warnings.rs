//! What the operator should look at: in `status`, and in the log when it comes and goes.

use std::collections::BTreeMap;

use tracing::{info, warn};
use wavnet_common::addr::Vni;
use wavnet_proto::fabric::{Origin, PeerState, PeerView, PortState, PortView, StaticPlace, StaticView, VniSettings};

use super::{
    Agent, RETRY,
    adapt::refusal_warnings,
    told::{NAMES, Warning},
};
use crate::{api::model::AttachState, config::VXLAN_OVERHEAD, datapath::HookMode, doctor};

/// Per cent of the FDB in use from which the operator is warned.
const FDB_NEARLY_FULL: usize = 90;

impl Agent {
    /// Logs which warnings are new, and which do not hold any more.
    pub(super) fn log_warnings(&mut self) {
        let now = self.conditions();
        let news = self.told.news(&now);
        news.came.iter().for_each(|words| warn!("{words}"));
        news.went.iter().for_each(|words| info!("no longer: {words}"));
        self.tell_drops();
    }

    /// What the operator should look at, in words.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.conditions().iter().map(Warning::words).collect()
    }

    fn conditions(&self) -> Vec<Warning> {
        let mut all: Vec<Warning> = Vec::new();
        if let Some(why) = self.fabric.held_back() {
            let every = RETRY.as_secs();
            all.push(
                format!("a table could not be written ({why}): changes wait, and are tried again every {every} s")
                    .into(),
            );
        }
        let underlay = self.underlay();
        let name = &underlay.interface;
        match underlay.state {
            AttachState::Missing => {
                all.push(format!("there is no interface {name}: the overlay is cut off until it appears").into())
            }
            AttachState::Error => {
                let why = underlay.error.as_deref().unwrap_or("for an unknown reason");
                let what = match underlay.hook_mode {
                    None => format!("the underlay interface {name} is not attached: {why}"),
                    Some(mode) => format!("the underlay interface {name} runs in {} for now: {why}", mode.as_str()),
                };
                all.push(what.into());
            }
            AttachState::Attached if underlay.address.is_none() => all.push(
                format!(
                    "{name} has no IPv4 address: the overlay is cut off until it has one (or set underlay.address)"
                )
                .into(),
            ),
            AttachState::Attached => {
                let lost = underlay.address.filter(|address| !self.fabric.has_address(*address));
                let words = |at| format!("no interface has the address {at}: the overlay is cut off until one has it");
                all.extend(lost.map(words).map(Warning::from));
            }
        }
        let running = self.underlay_hook().map_or("tc", |mode| mode.as_str());
        all.extend(
            self.datapath.underlay_refusals().iter().map(|(mode, why)| refused(*mode, name, why, running).into()),
        );
        if let Some(link) = self.links.values().find(|l| l.name == *name) {
            all.extend(doctor::checksum_warning(name, link.kind.as_deref() == Some("veth")).map(Warning::from));
        }
        let ports = self.fabric.ports();
        all.extend(port_warnings(&ports));
        all.extend(refusal_warnings(&ports));
        // Without an underlay and an address on it no peer can be reached, and that has been said.
        if underlay.hook_mode.is_some() && underlay.address.is_some() {
            all.extend(self.peer_warnings());
        }
        all.extend(self.mesh.iter().flat_map(|mesh| mesh.warnings()).map(Warning::from));
        let carried = [self.config.underlay.mtu, underlay.mtu].into_iter().flatten().min();
        if let Some(mtu) = carried {
            all.extend(self.mtu_warnings(&ports, mtu.saturating_sub(VXLAN_OVERHEAD)));
        }
        all.extend(resting_warning(&self.fabric.resting()));
        let vnis = &self.fabric.desired().vnis;
        all.extend(static_warnings(&self.fabric.statics(), &ports, &self.fabric.peers(), vnis));
        let (entries, capacity) = (self.datapath.fdb().len(), self.datapath.fdb().capacity());
        if entries * 100 >= capacity * FDB_NEARLY_FULL {
            let words = format!(
                "more than {FDB_NEARLY_FULL} per cent of the FDB's {capacity} entries are in use: MACs that find no room are \
                 flooded for; raise fdb.entries (it takes effect after `wavnet down` and a start)"
            );
            all.push(words.into());
        }
        all
    }

    fn peer_warnings(&self) -> Vec<Warning> {
        let peers = self.fabric.peers();
        let of = |state| peers.iter().filter(|p| p.state == state).map(|p| p.addr.to_string()).collect();
        let all = [
            Warning::about(
                of(PeerState::NoRoute),
                "there is no route to the peer {}",
                "there is no route to the peers {}",
            ),
            Warning::about(
                of(PeerState::Unresolved),
                "the next hop to the peer {} does not answer ARP",
                "the next hops to the peers {} do not answer ARP",
            ),
        ];
        all.into_iter().flatten().collect()
    }

    fn mtu_warnings(&self, ports: &[PortView], fits: u32) -> Vec<Warning> {
        let vnis = self.fabric.vnis();
        let too_long = vnis.iter().filter_map(|v| Some((v.vni, v.settings.mtu?))).filter(|(_, mtu)| *mtu > fits);
        let words = |(vni, mtu)| {
            format!("VNI {vni} has an MTU of {mtu}, but the underlay carries packets of {fits} bytes in it").into()
        };
        let mut all: Vec<Warning> = too_long.map(words).collect();
        let mend =
            format!("an MTU above {fits}, which is what the underlay carries: lower it, or raise the underlay's");
        let too_long = named(ports, |p| p.state == PortState::Attached && p.mtu.is_some_and(|mtu| mtu > fits));
        all.extend(Warning::about(too_long, format!("{{}} has {mend}"), format!("{{}} have {mend}")));
        all
    }
}

/// A hook that should have been taken and was not.
fn refused(mode: HookMode, interface: &str, why: &str, running: &str) -> String {
    let what = match mode {
        HookMode::Driver => "XDP in the driver",
        HookMode::Generic => "generic XDP",
        HookMode::Tc => "TC",
    };
    format!("{what} on {interface} was refused: {why}; running in {running}")
}

fn port_warnings(ports: &[PortView]) -> Vec<Warning> {
    let mut all: Vec<Warning> = Vec::new();
    for (runtime, asked) in [(false, "configured"), (true, "added by command")] {
        let missing = |p: &PortView| p.state == PortState::Missing && (p.origin == Origin::Runtime) == runtime;
        all.extend(Warning::about(
            named(ports, missing),
            format!("port {{}} is {asked}, but there is no such interface"),
            format!("ports {{}} are {asked}, but there are no such interfaces"),
        ));
    }
    for port in ports {
        if let PortState::Failed(why) = &port.state {
            all.push(format!("port {} is not attached: {why}", port.name).into());
        }
    }
    all.extend(Warning::about(
        named(ports, |p| p.state == PortState::Attached && !p.up),
        "port {} is down or has no carrier: nothing is delivered to it",
        "ports {} are down or have no carrier: nothing is delivered to them",
    ));
    all
}

/// What was added by command to a VNI that the configuration does not have.
fn resting_warning(resting: &[(StaticPlace, Vni)]) -> Option<Warning> {
    let name = |(place, vni): &(StaticPlace, Vni)| match place {
        StaticPlace::Port(name) => format!("port {name} of VNI {vni}"),
        StaticPlace::Peer(addr) => format!("peer {addr} of VNI {vni}"),
    };
    let mend = "by command, and the VNI is not in the configuration: declare it, or remove the addition";
    Warning::about(
        resting.iter().map(name).collect(),
        format!("{{}} was added {mend}"),
        format!("{{}} were added {mend}"),
    )
}

/// Why a static entry is not in force.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Idle {
    /// Its VNI is not in the configuration.
    Vni,
    /// Its port belongs to this other VNI (added by command, or by a pattern).
    Elsewhere(Vni),
    /// Its port is not attached.
    Port,
    /// Its peer is not in the VNI.
    Peer,
    /// The table has no room for it.
    Room,
}

fn why_idle(entry: &StaticView, ports: &[PortView], peers: &[PeerView], vnis: &BTreeMap<Vni, VniSettings>) -> Idle {
    match &entry.place {
        _ if !vnis.contains_key(&entry.vni) => Idle::Vni,
        StaticPlace::Port(name) => match ports.iter().find(|p| p.name == *name) {
            Some(port) if port.vni != entry.vni => Idle::Elsewhere(port.vni),
            Some(port) if port.state == PortState::Attached => Idle::Room,
            _ => Idle::Port,
        },
        StaticPlace::Peer(addr) => match peers.iter().find(|p| p.addr == *addr) {
            Some(peer) if peer.vnis.contains(&entry.vni) => Idle::Room,
            _ => Idle::Peer,
        },
    }
}

/// Static entries that are not in force, by cause.
fn static_warnings(
    statics: &[StaticView],
    ports: &[PortView],
    peers: &[PeerView],
    vnis: &BTreeMap<Vni, VniSettings>,
) -> Vec<Warning> {
    let idle = statics.iter().filter(|s| !s.in_force);
    let idle: Vec<(&StaticView, Idle)> = idle.map(|s| (s, why_idle(s, ports, peers, vnis))).collect();
    let mut all: Vec<Warning> = Vec::new();
    let elsewhere = idle.iter().filter_map(|(s, why)| match (why, &s.place) {
        (Idle::Elsewhere(has), StaticPlace::Port(name)) => Some((s, name, has)),
        _ => None,
    });
    for (StaticView { vni, mac, .. }, name, has) in elsewhere.clone().take(NAMES) {
        let words =
            format!("the static entry for {mac} in VNI {vni} is not in force: port {name} belongs to VNI {has}");
        all.push(words.into());
    }
    match elsewhere.count().saturating_sub(NAMES) {
        0 => {}
        n => all.push(format!("{n} more static entries are not in force: their ports belong to other VNIs").into()),
    }
    let of = |cause: Idle| {
        let name = |s: &StaticView| match &s.place {
            StaticPlace::Peer(addr) if cause == Idle::Peer => format!("{} in VNI {} (peer {addr})", s.mac, s.vni),
            _ => format!("{} in VNI {}", s.mac, s.vni),
        };
        idle.iter().filter(|(_, why)| *why == cause).map(|(s, _)| name(s)).collect::<Vec<_>>()
    };
    let causes = [
        (
            Idle::Port,
            "the static entry for {} waits for its port to be attached",
            "the static entries for {} wait for their ports to be attached",
        ),
        (
            Idle::Peer,
            "the static entry for {} waits for its peer to be in the VNI",
            "the static entries for {} wait for their peers to be in the VNI",
        ),
        (
            Idle::Vni,
            "the static entry for {} is not in force: the VNI is not in the configuration",
            "the static entries for {} are not in force: the VNIs are not in the configuration",
        ),
        (
            Idle::Room,
            "the static entry for {} is not in force: the FDB had no room for it",
            "the static entries for {} are not in force: the FDB had no room for them",
        ),
    ];
    all.extend(causes.into_iter().filter_map(|(cause, one, many)| Warning::about(of(cause), one, many)));
    all
}

/// The names of some ports.
fn named(ports: &[PortView], which: impl Fn(&PortView) -> bool) -> Vec<String> {
    ports.iter().filter(|p| which(p)).map(|p| p.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use wavnet_proto::fabric::{PortMode, VlanMode};

    use super::*;

    fn port(name: &str, state: PortState, origin: Origin, up: bool) -> PortView {
        PortView {
            index: None,
            name: name.to_owned(),
            ifindex: None,
            vni: Vni::new(10).unwrap(),
            vlan: VlanMode::Pass,
            mode: PortMode::Auto,
            xdp_refused: None,
            origin,
            state,
            mtu: None,
            up,
            deliver_tc: false,
        }
    }

    fn words(all: &[Warning]) -> Vec<String> {
        all.iter().map(Warning::words).collect()
    }

    #[test]
    fn the_hook_that_was_refused_is_the_one_named() {
        assert_eq!(
            refused(HookMode::Driver, "eth1", "busy", "xdp-generic"),
            "XDP in the driver on eth1 was refused: busy; running in xdp-generic"
        );
        assert_eq!(
            refused(HookMode::Generic, "eth1", "busy", "tc"),
            "generic XDP on eth1 was refused: busy; running in tc"
        );
    }

    fn entry(vni: u32, place: StaticPlace, in_force: bool) -> StaticView {
        let mac = wavnet_common::addr::Mac([2, 0, 0, 0, 0, 1]);
        StaticView { vni: Vni::new(vni).unwrap(), mac, place, origin: Origin::Config, in_force }
    }

    fn at_port(vni: u32, name: &str) -> StaticView {
        entry(vni, StaticPlace::Port(name.into()), false)
    }

    fn told(statics: &[StaticView]) -> Vec<String> {
        let ports = [port("tap0", PortState::Attached, Origin::Pattern, true)];
        let vnis: BTreeMap<_, _> = (10..20).map(|n| (Vni::new(n).unwrap(), VniSettings::default())).collect();
        let peer = PeerView {
            index: None,
            addr: [192, 0, 2, 2].into(),
            udp_port: 4789,
            vnis: [Vni::new(10).unwrap()].into(),
            origin: Origin::Runtime,
            state: PeerState::Up,
            next_hop: None,
            interface: None,
            mtu: None,
        };
        words(&static_warnings(statics, &ports, &[peer], &vnis))
    }

    #[test]
    fn static_entries_that_are_not_in_force_say_why() {
        assert!(told(&[entry(10, StaticPlace::Port("tap0".into()), true)]).is_empty());
        let waits = "the static entry for 02:00:00:00:00:01 in VNI 10 waits for its port to be attached";
        assert_eq!(told(&[at_port(10, "tap1")]), [waits]);
        let other = "the static entry for 02:00:00:00:00:01 in VNI 11 is not in force: port tap0 belongs to VNI 10";
        assert_eq!(told(&[at_port(11, "tap0"), at_port(10, "tap1")]), [other, waits]);
        let many: Vec<StaticView> = (0..NAMES as u32 + 2).map(|n| at_port(11 + n, "tap0")).collect();
        let last = "2 more static entries are not in force: their ports belong to other VNIs";
        assert_eq!(told(&many).last().unwrap(), last);
    }

    #[test]
    fn static_entries_behind_peers_and_without_vni_are_not_said_to_wait_for_ports() {
        let at_peer = |vni| entry(vni, StaticPlace::Peer([192, 0, 2, 2].into()), false);
        assert_eq!(
            told(&[at_peer(99)]),
            ["the static entry for 02:00:00:00:00:01 in VNI 99 is not in force: the VNI is not in the configuration"]
        );
        assert_eq!(
            told(&[at_peer(11)]),
            ["the static entry for 02:00:00:00:00:01 in VNI 11 (peer 192.0.2.2) waits for its peer to be in the VNI"]
        );
        let full = "the static entry for 02:00:00:00:00:01 in VNI 10 is not in force: the FDB had no room for it";
        assert_eq!(told(&[at_peer(10)]), [full]);
        assert_eq!(told(&[at_port(10, "tap0")]), [full]);
    }

    #[test]
    fn additions_without_a_vni_are_named() {
        let vni = Vni::new(200).unwrap();
        let port = (StaticPlace::Port("r0".into()), vni);
        let said = |all: &[_]| resting_warning(all).map(|w| w.words());
        assert_eq!(said(&[]), None);
        let one = said(std::slice::from_ref(&port)).unwrap();
        assert!(one.starts_with("port r0 of VNI 200 was added by command"), "{one}");
        let two = said(&[port, (StaticPlace::Peer([192, 0, 2, 50].into()), vni)]).unwrap();
        assert!(two.starts_with("port r0 of VNI 200, peer 192.0.2.50 of VNI 200 were added"), "{two}");
    }

    #[test]
    fn ports_that_do_not_work_are_named() {
        let ports = [
            port("tap0", PortState::Attached, Origin::Config, true),
            port("tap1", PortState::Attached, Origin::Pattern, false),
            port("tap7", PortState::Missing, Origin::Config, false),
            port("tap8", PortState::Missing, Origin::Runtime, false),
            port("tap9", PortState::Missing, Origin::Runtime, false),
            port("br0", PortState::Failed("it is a bridge".into()), Origin::Runtime, true),
        ];
        assert_eq!(
            words(&port_warnings(&ports)),
            [
                "port tap7 is configured, but there is no such interface",
                "ports tap8, tap9 are added by command, but there are no such interfaces",
                "port br0 is not attached: it is a bridge",
                "port tap1 is down or has no carrier: nothing is delivered to it",
            ]
        );
    }
}
