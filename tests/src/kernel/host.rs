//! The same tables on the host, and the same decisions.

use std::{cell::RefCell, collections::HashMap};

use wavnet_common::{
    abi::{Config, Count, Event, FloodSet, Member, MemberKey, Port, Vtep},
    datapath::{Of, Tables, Verdict, port, underlay},
    fdb::Row,
    packet::{Copies, FrameMeta, Grow, HostPacket, Strip},
    reason::Reason,
};

const HEADROOM: usize = 256;
/// Shortest frame that TC hands on; see [`Strip`] of TC.
const MIN_FRAME: usize = 60;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
const TC_ACT_OK: u32 = 0;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;

/// Tables in collections.
#[derive(Default)]
pub struct HostTables {
    /// `CONFIG[0]`.
    pub config: Option<Config>,
    /// `MEMBERS`.
    pub members: HashMap<MemberKey, Member>,
    /// VNIs that are configured.
    pub vnis: Vec<u32>,
    /// Peers that are configured.
    pub vtep_addrs: Vec<[u8; 4]>,
    /// Interface → port.
    pub port_of: HashMap<u32, u16>,
    /// `PORTS`.
    pub ports: HashMap<u16, Port>,
    /// `VTEPS`.
    pub vteps: HashMap<u16, Vtep>,
    /// Flood sets in force, by VNI index.
    pub floods: HashMap<u16, FloodSet>,
    /// The FDB.
    pub fdb: Vec<Row>,
    /// The clock; the heartbeat is always fresh.
    pub now_ns: u64,
    drops: RefCell<HashMap<Reason, u64>>,
    counts: RefCell<HashMap<Count, u64>>,
}

impl HostTables {
    /// An FDB of so many empty buckets (a power of two), and nothing else.
    pub fn new(buckets: usize) -> HostTables {
        // SAFETY: a row is nothing but atomic integers; all zeros are an empty bucket, as in a fresh map.
        let fdb = (0..buckets).map(|_| unsafe { std::mem::zeroed() }).collect();
        HostTables { fdb, ..HostTables::default() }
    }

    /// Drops so far.
    pub fn drops(&self, reason: Reason) -> u64 {
        self.drops.borrow().get(&reason).copied().unwrap_or(0)
    }

    /// Other counts so far.
    pub fn counted(&self, what: Count) -> u64 {
        self.counts.borrow().get(&what).copied().unwrap_or(0)
    }

    /// What `underlay_xdp` would make of a packet.
    pub fn underlay_xdp(&self, packet: &[u8]) -> Run {
        run(packet, |p| underlay::xdp(p, self), Hook::Xdp)
    }

    /// What `underlay_tc` would make of a packet.
    pub fn underlay_tc(&self, packet: &[u8]) -> Run {
        run(packet, |p| underlay::tc(p, self), Hook::Tc)
    }

    /// What `port_tc` would make of a packet that came in on an interface.
    pub fn port_tc(&self, packet: &[u8], ifindex: u32) -> Run {
        run(packet, |p| port::tc(p, self, ifindex), Hook::Tc)
    }
}

/// What the host made of a packet.
#[derive(Clone, Debug)]
pub struct Run {
    /// The decision.
    pub verdict: Verdict,
    /// What the kernel program would return.
    pub action: u32,
    /// The packet afterwards, where it goes anywhere.
    pub bytes: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Xdp,
    Tc,
}

fn run(packet: &[u8], decide: impl FnOnce(&mut Frame<'_>) -> Verdict, hook: Hook) -> Run {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(packet);
    let inner = HostPacket::new(&mut buffer, HEADROOM).expect("the buffer has the headroom");
    let mut frame = Frame(inner);
    let verdict = decide(&mut frame);
    let action = match (hook, verdict) {
        (Hook::Xdp, Verdict::Pass) => XDP_PASS,
        (Hook::Xdp, Verdict::ToPort { .. }) => XDP_REDIRECT,
        (Hook::Xdp, _) => XDP_DROP,
        (Hook::Tc, Verdict::Pass) => TC_ACT_OK,
        (Hook::Tc, Verdict::Drop(_) | Verdict::Consumed) => TC_ACT_SHOT,
        (Hook::Tc, _) => TC_ACT_REDIRECT,
    };
    let goes_on = !matches!(verdict, Verdict::Drop(_) | Verdict::Consumed);
    let bytes = goes_on.then(|| {
        let mut bytes = frame.0.bytes().to_vec();
        if hook == Hook::Tc && matches!(verdict, Verdict::ToPort { .. }) && bytes.len() < MIN_FRAME.min(packet.len()) {
            bytes.resize(MIN_FRAME, 0);
        }
        bytes
    });
    Run { verdict, action, bytes }
}

/// A packet whose copies go nowhere.
struct Frame<'a>(HostPacket<'a>);

impl wavnet_common::packet::Packet for Frame<'_> {
    fn start(&self) -> usize {
        self.0.start()
    }
    fn end(&self) -> usize {
        self.0.end()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn pull(&mut self, len: usize) -> bool {
        self.0.pull(len)
    }
}

impl FrameMeta for Frame<'_> {
    fn gso_size(&self) -> usize {
        self.0.gso_size()
    }
    fn frames(&self) -> u64 {
        self.0.frames()
    }
    fn has_meta_tag(&self) -> bool {
        self.0.has_meta_tag()
    }
}

impl Strip for Frame<'_> {
    fn strip(&mut self, outer: usize, inner: usize) -> bool {
        self.0.strip(outer, inner)
    }
}

impl Grow for Frame<'_> {
    fn grow(&mut self, outer: usize, as_ipv4: bool) -> Result<(), Reason> {
        self.0.grow(outer, as_ipv4)
    }
}

impl Copies for Frame<'_> {
    fn copy_to(&mut self, _ifindex: u32) -> bool {
        true
    }
    fn repeat<F: FnMut(u32) -> bool>(n: u32, body: F) {
        let mut body = body;
        for i in 0..n {
            if !body(i) {
                return;
            }
        }
    }
}

impl Tables for HostTables {
    type Fdb = [Row];

    fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }
    fn member(&self, key: &MemberKey) -> Option<&Member> {
        self.members.get(key)
    }
    fn knows_vni(&self, vni: u32) -> bool {
        self.vnis.contains(&vni)
    }
    fn knows_vtep(&self, addr: [u8; 4]) -> bool {
        self.vtep_addrs.contains(&addr)
    }
    fn port_of(&self, ifindex: u32) -> Option<u16> {
        self.port_of.get(&ifindex).copied()
    }
    fn port(&self, index: u16) -> Option<&Port> {
        Some(self.ports.get(&index).unwrap_or(&Port::FREE))
    }
    fn vtep(&self, index: u16) -> Option<&Vtep> {
        Some(self.vteps.get(&index).unwrap_or(&Vtep::FREE))
    }
    fn flood(&self, vni_index: u16) -> Option<&FloodSet> {
        Some(self.floods.get(&vni_index).unwrap_or(&FloodSet::EMPTY))
    }
    fn fdb(&self) -> &[Row] {
        &self.fdb
    }
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
    fn heartbeat_ns(&self) -> u64 {
        self.now_ns
    }
    fn count(&self, what: Count, n: u64) {
        *self.counts.borrow_mut().entry(what).or_default() += n;
    }
    fn dropped(&self, reason: Reason) {
        *self.drops.borrow_mut().entry(reason).or_default() += 1;
    }
    fn received(&self, _of: Of, _frames: u64, _bytes: u64) {}
    fn sent(&self, _of: Of, _frames: u64, _bytes: u64) {}
    fn event(&self, _event: &Event) {}
}
