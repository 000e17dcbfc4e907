//! From the configuration to what the cores and the datapath want.

use std::collections::BTreeMap;

use wavnet_proto::{
    command,
    command::PeerKey,
    fabric::{
        Desired, FabricError, Limits, NamePattern, PeerSettings, PlaceName, PortMode, PortRule, StaticPlace, Underlay,
        UnderlayDevice, VlanMode, VniSettings,
    },
};

use crate::{
    api::model,
    config::{self, Config, HookChoice, TcChoice},
    datapath::{self, Sizes},
};

/// What the tables should hold.
pub(super) fn desired(config: &Config) -> Result<Desired, FabricError> {
    let hook = match config.underlay.hook {
        HookChoice::Auto => command::HookWish::Auto,
        HookChoice::Driver => command::HookWish::Driver,
        HookChoice::Generic => command::HookWish::Generic,
        HookChoice::Tc => command::HookWish::Tc,
    };
    let rule = |p: &config::PortConfig| {
        Ok(PortRule {
            name: NamePattern::new(p.interface.to_string())?,
            vni: p.vni,
            vlan: vlan(p.vlan),
            mode: mode(p.mode),
        })
    };
    let peers = config.peers.iter().map(|p| {
        let settings = PeerSettings { udp_port: Some(p.udp_port), vnis: p.vnis.iter().copied().collect() };
        (p.address, settings)
    });
    let statics = config.statics.iter().map(|s| {
        let place = match &s.place {
            config::StaticPlace::Port(name) => StaticPlace::Port(name.clone()),
            config::StaticPlace::Peer(addr) => StaticPlace::Peer(*addr),
        };
        ((s.vni, s.mac), place)
    });
    Ok(Desired {
        underlay: Underlay {
            devices: vec![UnderlayDevice { name: config.underlay.interface.clone(), hook }],
            address: config.underlay.address,
            udp_port: config.underlay.udp_port,
        },
        vnis: config.vnis.iter().map(|v| (v.vni, VniSettings { mtu: v.mtu, learning: v.learning })).collect(),
        ports: config.ports.iter().map(rule).collect::<Result<_, _>>()?,
        peers: peers.collect(),
        statics: statics.collect::<BTreeMap<_, _>>(),
    })
}

pub(super) fn vlan(mode: model::VlanMode) -> VlanMode {
    match mode {
        model::VlanMode::Pass => VlanMode::Pass,
        model::VlanMode::Discard => VlanMode::Discard,
    }
}

pub(super) fn mode(mode: model::PortMode) -> PortMode {
    match mode {
        model::PortMode::Auto => PortMode::Auto,
        model::PortMode::PacketRate => PortMode::PacketRate,
        model::PortMode::Throughput => PortMode::Throughput,
    }
}

pub(super) fn mode_info(mode: PortMode) -> model::PortMode {
    match mode {
        PortMode::Auto => model::PortMode::Auto,
        PortMode::PacketRate => model::PortMode::PacketRate,
        PortMode::Throughput => model::PortMode::Throughput,
    }
}

pub(super) fn vlan_info(mode: VlanMode) -> model::VlanMode {
    match mode {
        VlanMode::Pass => model::VlanMode::Pass,
        VlanMode::Discard => model::VlanMode::Discard,
    }
}

pub(super) fn place_info(place: &PlaceName) -> model::PlaceInfo {
    match place {
        PlaceName::Port(name) => model::PlaceInfo::Port(name.clone()),
        PlaceName::Peer(PeerKey::Static(addr)) => model::PlaceInfo::Peer(*addr),
        PlaceName::Peer(PeerKey::Dynamic(id)) => model::PlaceInfo::Host(id.to_string()),
    }
}

/// A static entry's place.
pub(super) fn fixed_info(place: &StaticPlace) -> model::PlaceInfo {
    match place {
        StaticPlace::Port(name) => model::PlaceInfo::Port(name.clone()),
        StaticPlace::Peer(addr) => model::PlaceInfo::Peer(*addr),
    }
}

/// Where a static entry can be; `None`: not there.
pub(super) fn place(place: &model::PlaceInfo) -> Option<StaticPlace> {
    match place {
        model::PlaceInfo::Port(name) => Some(StaticPlace::Port(name.clone())),
        model::PlaceInfo::Peer(addr) => Some(StaticPlace::Peer(*addr)),
        model::PlaceInfo::Host(_) => None,
    }
}

/// What fits into maps of these sizes.
pub(super) fn limits(sizes: &Sizes) -> Limits {
    Limits {
        ports: sizes.ports as usize,
        vnis: sizes.vnis as usize,
        vteps: sizes.vteps as usize,
        members: sizes.members as usize,
        ..Limits::default()
    }
}

pub(super) fn port_hook(hook: datapath::PortHook) -> &'static str {
    match hook {
        datapath::PortHook::Tcx => "tcx",
        datapath::PortHook::Clsact => "clsact",
    }
}

/// A place in words, for the log.
pub(super) fn place_text(place: Option<&model::PlaceInfo>) -> String {
    match place {
        Some(model::PlaceInfo::Port(name)) => name.clone(),
        Some(model::PlaceInfo::Peer(addr)) => addr.to_string(),
        Some(model::PlaceInfo::Host(key)) => key.clone(),
        None => "nowhere".to_owned(),
    }
}

pub(super) fn tc_wish(choice: TcChoice) -> datapath::TcWish {
    match choice {
        TcChoice::Auto => datapath::TcWish::Auto,
        TcChoice::Clsact => datapath::TcWish::Clsact,
    }
}

pub(super) fn hook_mode(mode: datapath::HookMode) -> model::HookMode {
    match mode {
        datapath::HookMode::Driver => model::HookMode::XdpDriver,
        datapath::HookMode::Generic => model::HookMode::XdpGeneric,
        datapath::HookMode::Tc => model::HookMode::Tc,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_becomes_what_it_says() {
        let text = r#"
            [underlay]
            interface = "eth0"
            port = 8472
            hook = "generic"
            [[vni]]
            id = 10
            mtu = 1400
            [[port]]
            interface = "tap*"
            vni = 10
            vlan = "discard"
            [[peer]]
            address = "192.0.2.2"
            vnis = [10]
            [[static]]
            vni = 10
            mac = "02:00:00:00:00:01"
            peer = "192.0.2.2"
        "#;
        let desired = desired(&Config::parse(text, "test").unwrap()).unwrap();
        assert_eq!(desired.underlay.devices[0].hook, command::HookWish::Generic);
        assert_eq!((desired.underlay.udp_port, desired.underlay.address), (8472, None));
        assert!(desired.ports[0].name.matches("tap7") && desired.ports[0].vlan == VlanMode::Discard);
        assert_eq!(desired.peers.values().next().unwrap().udp_port, Some(8472));
        assert_eq!(desired.vnis.values().next().unwrap().mtu, Some(1400));
        assert_eq!(desired.statics.len(), 1);
    }
}
