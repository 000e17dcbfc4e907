//! Running the host's code on one frame.

use std::vec::Vec;

use super::{Devices, Tally, TestPacket, TestTables, world};
use crate::{
    abi::Gates,
    datapath::{Note, Verdict, port, port_xdp, underlay},
};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP on the underlay.
    UnderlayXdp,
    /// TC ingress on the underlay.
    UnderlayTc,
    /// XDP on a port: place in [`Devices::ports`].
    PortXdp(usize),
    /// TC ingress on a port: place in [`Devices::ports`].
    Port(usize),
}

impl Hook {
    /// True for XDP.
    #[must_use]
    pub const fn is_xdp(self) -> bool {
        matches!(self, Hook::UnderlayXdp | Hook::PortXdp(_))
    }
}

/// What a program gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stimulus {
    /// Which program.
    pub hook: Hook,
    /// The frame.
    pub frame: Vec<u8>,
    /// Payload per segment of a super-packet, and how many; zero: none.
    pub gso: (u32, u32),
    /// The super-packet's segments are datagrams rather than TCP's.
    pub datagrams: bool,
    /// VLAN tag beside the data: {TPID, TCI}.
    pub meta_tag: Option<[u16; 2]>,
    /// Bytes that can be read without pulling.
    pub linear: usize,
    /// The heartbeat is old.
    pub stale_agent: bool,
    /// What XDP noted.
    pub note: Option<Note>,
    /// The driver keeps no notes.
    pub noteless: bool,
    /// XDP sees it in a driver, with nothing kept beside it.
    pub raw: bool,
    /// The VTEP that the frame comes again for.
    pub errand: Option<u16>,
    /// Interfaces that refuse copies.
    pub refusing: Vec<u32>,
    /// What the host has: [`crate::abi::ConfigFlags`].
    pub flags: u16,
}

impl Stimulus {
    /// An ordinary frame.
    pub fn new(hook: Hook, frame: Vec<u8>) -> Stimulus {
        Stimulus {
            hook,
            frame,
            gso: (0, 0),
            datagrams: false,
            meta_tag: None,
            linear: usize::MAX,
            stale_agent: false,
            note: None,
            noteless: false,
            raw: false,
            errand: None,
            refusing: Vec::new(),
            flags: world::FLAGS,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The decision.
    pub verdict: Verdict,
    /// The frame afterwards; of no meaning when it was dropped or consumed.
    pub bytes: Vec<u8>,
    /// What was noted for TC: port and VNI.
    pub noted: Option<(u16, u16)>,
    /// Copies: interface, bytes.
    pub copies: Vec<(u32, Vec<u8>)>,
    /// Copies that come in again: interface, VTEP, bytes.
    pub errands: Vec<(u32, u16, Vec<u8>)>,
    /// What was counted.
    pub tally: Tally,
}

impl Outcome {
    /// The program's return value for the verdict.
    pub const fn action(&self, hook: Hook) -> u32 {
        // XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT; TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT.
        match (hook.is_xdp(), self.verdict) {
            (true, Verdict::Pass | Verdict::HandedOver) => 2,
            (true, Verdict::Answered) => 3,
            (true, Verdict::ToPort { .. } | Verdict::ToWire { .. } | Verdict::Sealed { .. }) => 4,
            (true, _) => 1,
            (_, Verdict::Pass) => u32::MAX,
            (_, Verdict::Drop(_) | Verdict::Consumed) => 2,
            _ => 7,
        }
    }

    /// True if the frame goes on, so that its bytes matter.
    pub const fn goes_on(&self) -> bool {
        !matches!(self.verdict, Verdict::Drop(_) | Verdict::Consumed)
    }
}

/// Runs the program's logic over the tables; their counters start at zero for each run, all else stays.
pub fn run(tables: &mut TestTables, devices: &Devices, stimulus: &Stimulus) -> Outcome {
    /// What the kernel pads frames to after decapsulation in TC.
    const MIN_FRAME: usize = 60;
    tables.heartbeat_ns = if stimulus.stale_agent { 0 } else { tables.now_ns };
    tables.tally.take();
    if let Some(config) = &mut tables.config {
        config.flags = stimulus.flags;
    }
    // Programs that run alone have nobody to open the gates behind them.
    **tables.gates.borrow_mut() = Gates::OPEN;
    let mut packet = TestPacket::new(&stimulus.frame).paged(stimulus.linear);
    packet.gso_size = stimulus.gso.0 as usize;
    packet.segments = u64::from(stimulus.gso.1);
    packet.datagrams = stimulus.datagrams;
    packet.meta_tag = stimulus.meta_tag;
    packet.note = stimulus.note;
    packet.noteless = stimulus.noteless;
    packet.raw = stimulus.raw;
    packet.errand = stimulus.errand;
    packet.refusing.clone_from(&stimulus.refusing);
    let verdict = match stimulus.hook {
        Hook::UnderlayXdp => underlay::xdp(&mut packet, tables),
        Hook::UnderlayTc => {
            packet.pad_to = MIN_FRAME;
            underlay::tc(&mut packet, tables)
        }
        Hook::PortXdp(place) => port_xdp(&mut packet, tables, devices.ports[place]),
        Hook::Port(place) => port::tc(&mut packet, tables, devices.ports[place]),
    };
    let bytes = packet.bytes().to_vec();
    let noted = packet.note.and_then(|note| note.read(TestTables::COOKIE));
    Outcome { verdict, bytes, noted, copies: packet.copies, errands: packet.errands, tally: tables.tally.take() }
}
