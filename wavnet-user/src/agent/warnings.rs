//! What the operator should look at: in `status`, and in the log when it comes and goes.

use tracing::{info, warn};
use wavnet_proto::fabric::{Origin, PeerState, PortState, PortView, StaticPlace, StaticView};

use super::{Agent, RETRY, told::Warning};
use crate::{api::model::AttachState, config::VXLAN_OVERHEAD, datapath::HookMode, doctor};

/// Per cent of the FDB in use from which the operator is warned.
const FDB_NEARLY_FULL: usize = 90;
/// More static entries of a kind than this are counted rather than listed.
const NAMES: usize = 5;

impl Agent {
    /// Logs which warnings are new, and which do not hold any more.
    pub(super) fn log_warnings(&mut self) {
        let now = self.conditions();
        let news = self.told.news(&now);
        news.came.iter().for_each(|words| warn!("{words}"));
        news.went.iter().for_each(|words| info!("no longer: {words}"));
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
            AttachState::Attached => {}
        }
        let running = self.underlay_hook().map_or("tc", |(_, mode)| mode.as_str());
        all.extend(
            self.datapath.underlay_refusals().iter().map(|(mode, why)| refused(*mode, name, why, running).into()),
        );
        if let Some(link) = self.links.values().find(|l| l.name == *name) {
            all.extend(doctor::checksum_warning(name, link.kind.as_deref() == Some("veth")).map(Warning::from));
        }
        let ports = self.fabric.ports();
        all.extend(port_warnings(&ports));
        // Without an underlay no peer can be reached, and that has been said.
        if underlay.state != AttachState::Missing {
            all.extend(self.peer_warnings());
        }
        let carried = [self.config.underlay.mtu, underlay.mtu].into_iter().flatten().min();
        if let Some(mtu) = carried {
            all.extend(self.mtu_warnings(&ports, mtu.saturating_sub(VXLAN_OVERHEAD)));
        }
        all.extend(static_warnings(&self.fabric.statics(), &ports));
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

/// Static entries that are not in force: their port belongs to another VNI (added by command, or by a pattern), or is not
/// attached.
fn static_warnings(statics: &[StaticView], ports: &[PortView]) -> Vec<Warning> {
    let idle = || statics.iter().filter(|s| !s.in_force);
    let elsewhere = |s: &StaticView| match &s.place {
        StaticPlace::Port(name) => ports.iter().find(|p| p.name == *name && p.vni != s.vni),
        StaticPlace::Peer(_) => None,
    };
    let mut all: Vec<Warning> = Vec::new();
    for (entry, port) in idle().filter_map(|s| Some((s, elsewhere(s)?))).take(NAMES) {
        let StaticView { vni, mac, .. } = entry;
        let (name, has) = (&port.name, port.vni);
        let words =
            format!("the static entry for {mac} in VNI {vni} is not in force: port {name} belongs to VNI {has}");
        all.push(words.into());
    }
    match idle().filter(|s| elsewhere(s).is_some()).count().saturating_sub(NAMES) {
        0 => {}
        n => all.push(format!("{n} more static entries are not in force: their ports belong to other VNIs").into()),
    }
    let waiting = idle().filter(|s| elsewhere(s).is_none()).map(|s| format!("{} in VNI {}", s.mac, s.vni));
    all.extend(Warning::about(
        waiting.collect(),
        "the static entry for {} waits for its port to be attached",
        "the static entries for {} wait for their ports to be attached",
    ));
    all
}

/// The names of some ports.
fn named(ports: &[PortView], which: impl Fn(&PortView) -> bool) -> Vec<String> {
    ports.iter().filter(|p| which(p)).map(|p| p.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use wavnet_common::addr::Vni;
    use wavnet_proto::fabric::VlanMode;

    use super::*;

    fn port(name: &str, state: PortState, origin: Origin, up: bool) -> PortView {
        PortView {
            index: None,
            name: name.to_owned(),
            ifindex: None,
            vni: Vni::new(10).unwrap(),
            vlan: VlanMode::Pass,
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

    #[test]
    fn static_entries_that_are_not_in_force_say_why() {
        let ports = [port("tap0", PortState::Attached, Origin::Pattern, true)];
        let entry = |vni, name: &str, in_force| StaticView {
            vni: Vni::new(vni).unwrap(),
            mac: wavnet_common::addr::Mac([2, 0, 0, 0, 0, 1]),
            place: StaticPlace::Port(name.into()),
            origin: Origin::Config,
            in_force,
        };
        assert!(static_warnings(&[entry(10, "tap0", true)], &ports).is_empty());
        let waits = "the static entry for 02:00:00:00:00:01 in VNI 10 waits for its port to be attached";
        assert_eq!(words(&static_warnings(&[entry(10, "tap1", false)], &ports)), [waits]);
        let other = "the static entry for 02:00:00:00:00:01 in VNI 11 is not in force: port tap0 belongs to VNI 10";
        let both = [entry(11, "tap0", false), entry(10, "tap1", false)];
        assert_eq!(words(&static_warnings(&both, &ports)), [other, waits]);
        let many: Vec<StaticView> = (0..NAMES as u32 + 2).map(|n| entry(11 + n, "tap0", false)).collect();
        let last = "2 more static entries are not in force: their ports belong to other VNIs";
        assert_eq!(words(&static_warnings(&many, &ports)).last().unwrap(), last);
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
