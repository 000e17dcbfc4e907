//! The relay on the host: a world of hosts and their sessions, tables in collections, and fixtures.

mod fixtures;
mod rules;
mod stun;

use std::{
    boxed::Box,
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    vec::Vec,
};

use super::TestPacket;
use crate::{
    abi::relay::{
        Leg, LegHop, LegRow, Metered, Rate, RelayAddr, RelayConfig, RelayConfigFlags, RelayCount, RelayLink,
        RelayLinkFlags, StunSource,
    },
    addr::{Label, Mac},
    relay::{self, Hook, Verdict},
};
pub use fixtures::{RelayFixture, relay_fixtures};

/// Address and port of the server.
pub const SERVER: RelayAddr = RelayAddr { addr: [203, 0, 113, 9], port: 4789 };
/// The server's other address with its other port, for STUN.
pub const OTHER: RelayAddr = RelayAddr { addr: [203, 0, 113, 10], port: 4790 };
/// Interfaces of the server.
#[derive(Clone, Copy, Debug)]
pub struct RelayDevices {
    /// Where hosts are: XDP can do everything there.
    pub nic: u32,
    /// Another one, for short packets: XDP can redirect to it.
    pub second: u32,
    /// By which XDP cannot send.
    pub third: u32,
}

impl RelayDevices {
    /// Some numbers, where no kernel is asked.
    pub const NUMBERS: RelayDevices = RelayDevices { nic: 2, second: 3, third: 4 };
}

/// A host, by number: where the server sees it.
pub const fn host(n: u8) -> RelayAddr {
    RelayAddr { addr: [198, 51, 100, n], port: 40_000 + n as u16 }
}

/// Link address of the next hop to a host.
pub const fn hop_mac(n: u8) -> Mac {
    Mac([0x02, 0x51, 0, 0, 0, n])
}

/// Link address of an interface, by its row.
pub const fn link_mac(n: u8) -> Mac {
    Mac([0x02, 0x52, 0, 0, 0, n])
}

/// The label that host `n` uses in its session with host `other`.
pub const fn label(n: u8, other: u8) -> Label {
    Label::of_word(0x5a_0000 | (n as u32) << 3 | other as u32)
}

/// What is in the tables.
#[derive(Clone, Debug)]
pub struct RelayWorld {
    /// `RELAY_CONFIG[0]`.
    pub config: RelayConfig,
    /// `LEGS`, from the first row on.
    pub legs: Vec<(Leg, Option<LegHop>, Option<Rate>)>,
    /// `RELAY_LINKS`.
    pub links: Vec<RelayLink>,
}

impl RelayWorld {
    /// Rows of links: the NIC, the second, the third one, and one that is free.
    const NIC: u16 = 0;
    const SECOND: u16 = 1;
    const THIRD: u16 = 2;
    const FREE: u16 = 3;
    /// MTU of the second interface.
    pub const SHORT: u32 = 300;

    /// Hosts 1 to 7. Host 1 has sessions with all others: 2 is reached like itself, 3 by the second interface, 4 by the third, 5 nobody
    /// knows how, 6 by one that is gone. With 7, which is reached like itself, nothing is allowed. STUN is answered by the NIC, as often as
    /// anybody can ask.
    pub fn new(devices: &RelayDevices) -> RelayWorld {
        let [hi, lo] = SERVER.port.to_be_bytes();
        let config = RelayConfig {
            local_v4: SERVER.addr,
            udp_port: [hi, lo],
            flags: RelayConfigFlags::STUN,
            other_v4: OTHER.addr,
            other_port: OTHER.port.to_be_bytes(),
            stun_link: RelayWorld::NIC,
            stun_answer_ns: 1,
        };
        let hop = |n: u8| {
            let link = match n {
                3 => RelayWorld::SECOND,
                4 => RelayWorld::THIRD,
                6 => RelayWorld::FREE,
                _ => RelayWorld::NIC,
            };
            (n != 5).then_some(LegHop { link, mac: hop_mac(n) })
        };
        let leg = |a: u8, b: u8| {
            let leg = Leg { label: label(a, b), from: host(a), to: host(b), to_label: label(b, a) };
            let nothing = Rate { bytes_per_second: 1, burst: 0 };
            (leg, hop(b), (a == 7 || b == 7).then_some(nothing))
        };
        let (all, redirect) = (RelayLinkFlags::XDP_TX | RelayLinkFlags::XDP_REDIRECT, RelayLinkFlags::XDP_REDIRECT);
        let links = [(devices.nic, 1600, all), (devices.second, RelayWorld::SHORT, redirect), (devices.third, 1600, 0)];
        let link = |(n, (ifindex, mtu, flags)): (usize, (u32, u32, u16))| RelayLink {
            ifindex,
            mtu,
            mac: link_mac(n as u8).0,
            flags,
        };
        RelayWorld {
            config,
            legs: (2..=7).flat_map(|other| [leg(1, other), leg(other, 1)]).collect(),
            links: links.into_iter().enumerate().map(link).chain([RelayLink::FREE]).collect(),
        }
    }
}

/// Tables with the contents of a world.
#[derive(Debug)]
pub struct RelayTables {
    /// `RELAY_CONFIG[0]`; `None`: not there.
    pub config: Option<RelayConfig>,
    /// `LEG_OF_LABEL`.
    pub leg_of: HashMap<Label, usize>,
    /// `LEGS`.
    pub legs: Box<[LegRow]>,
    /// `RELAY_LINKS`.
    pub links: Vec<RelayLink>,
    /// `STUN_SOURCES`, fewer than there.
    pub sources: [StunSource; 16],
    /// The clock.
    pub now_ns: u64,
    counts: RefCell<BTreeMap<RelayCount, u64>>,
}

impl RelayTables {
    /// Of a world.
    pub fn new(world: &RelayWorld) -> RelayTables {
        let tables = RelayTables {
            config: Some(world.config),
            leg_of: world.legs.iter().enumerate().map(|(i, (leg, ..))| (leg.label, i)).collect(),
            legs: world.legs.iter().map(|_| LegRow::default()).collect(),
            links: world.links.clone(),
            sources: Default::default(),
            now_ns: 1_000_000_000,
            counts: RefCell::default(),
        };
        for (row, (leg, hop, rate)) in tables.legs.iter().zip(&world.legs) {
            row.set(Some(leg));
            row.set_hop(*hop);
            row.meter().set(*rate, tables.now_ns);
        }
        tables
    }

    /// What was sent and refused by all legs together.
    pub fn metered(&self) -> Metered {
        self.legs.iter().map(|leg| leg.meter().metered()).fold(Metered::default(), |a, b| Metered {
            frames: a.frames + b.frames,
            bytes: a.bytes + b.bytes,
            dropped: a.dropped + b.dropped,
        })
    }
}

impl relay::Tables for RelayTables {
    fn config(&self) -> Option<&RelayConfig> {
        self.config.as_ref()
    }

    fn leg(&self, label: Label) -> Option<&LegRow> {
        self.legs.get(*self.leg_of.get(&label)?)
    }

    fn link(&self, index: u16) -> Option<&RelayLink> {
        self.links.get(usize::from(index))
    }

    fn stun_source(&self, addr: u32) -> Option<&StunSource> {
        self.sources.get(StunSource::index(0, addr.into()) as usize % self.sources.len())
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn count(&self, what: RelayCount, n: u64) {
        *self.counts.borrow_mut().entry(what).or_default() += n;
    }
}

/// A frame, and how it comes.
#[derive(Clone, Debug)]
pub struct RelayStimulus {
    /// By which program.
    pub hook: Hook,
    /// By which interface.
    pub ifindex: u32,
    /// The frame.
    pub frame: Vec<u8>,
    /// Payload per segment and segments of a super-packet; zero: none.
    pub gso: (u32, u32),
    /// VLAN tag that is kept beside the data.
    pub meta_tag: Option<[u16; 2]>,
    /// Bytes that can be read directly.
    pub linear: usize,
    /// Some labels are left to the server.
    pub incomplete: bool,
    /// Whoever asks by STUN has had all the answers that it may have.
    pub spent: bool,
    /// Room in front of the frame.
    pub headroom: usize,
}

impl RelayStimulus {
    /// An ordinary frame.
    pub fn new(hook: Hook, ifindex: u32, frame: Vec<u8>) -> RelayStimulus {
        RelayStimulus {
            hook,
            ifindex,
            frame,
            gso: (0, 0),
            meta_tag: None,
            linear: usize::MAX,
            incomplete: false,
            spent: false,
            headroom: 256,
        }
    }

    /// A configuration, as it is for this one.
    pub const fn config(&self, config: &RelayConfig) -> RelayConfig {
        let others = config.flags & !RelayConfigFlags::INCOMPLETE;
        let flags = if self.incomplete { others | RelayConfigFlags::INCOMPLETE } else { others };
        // An answer that takes longer than a full bucket lasts is never there.
        let stun_answer_ns = if self.spent { u32::MAX } else { config.stun_answer_ns };
        RelayConfig { flags, stun_answer_ns, ..*config }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayOutcome {
    /// The decision.
    pub verdict: Verdict,
    /// The frame afterwards.
    pub bytes: Vec<u8>,
    /// What was counted.
    pub counts: BTreeMap<RelayCount, u64>,
    /// What meters have counted.
    pub metered: Metered,
}

/// Runs the relay on a frame.
pub fn run_relay(tables: &mut RelayTables, stimulus: &RelayStimulus) -> RelayOutcome {
    let config = tables.config;
    tables.config = config.map(|config| stimulus.config(&config));
    tables.counts.borrow_mut().clear();
    let before = tables.metered();
    let mut packet = TestPacket::new(&stimulus.frame).paged(stimulus.linear);
    packet.gso_size = stimulus.gso.0 as usize;
    packet.segments = stimulus.gso.1.into();
    packet.meta_tag = stimulus.meta_tag;
    packet.headroom = stimulus.headroom;
    let verdict = relay::relay(&mut packet, tables, stimulus.hook, stimulus.ifindex);
    let after = tables.metered();
    tables.config = config;
    RelayOutcome {
        verdict,
        bytes: packet.bytes().to_vec(),
        counts: tables.counts.borrow().clone(),
        metered: Metered {
            frames: after.frames - before.frames,
            bytes: after.bytes - before.bytes,
            dropped: after.dropped - before.dropped,
        },
    }
}
