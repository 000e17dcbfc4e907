//! Tables in collections of the standard library.

use std::{boxed::Box, cell::RefCell, collections::BTreeMap, collections::HashMap, iter, vec::Vec};

use super::World;
use crate::{
    abi::{
        At, Bulky, Config, Count, Event, FloodSet, Gate, Gates, HoldRow, Lane, Member, MemberKey, Mix, PathRow, Port,
        Traffic, Vtep,
    },
    addr::Mac,
    datapath::{Of, Tables},
    fdb::{self, Place, Row, Seen},
    reason::Reason,
};

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Drops by reason; only what is not zero.
    pub drops: BTreeMap<Reason, u64>,
    /// Other counters by [`Count`]'s number; only what is not zero.
    pub counts: BTreeMap<u32, u64>,
    /// Traffic of ports, VNIs and VTEPs, in this order, by kind and slot; only what is not zero.
    pub traffic: BTreeMap<(u8, u16), [u64; 4]>,
}

impl Tally {
    /// The key of `traffic`.
    pub const fn slot(of: Of) -> (u8, u16) {
        match of {
            Of::Port(i) => (0, i),
            Of::Vni(i) => (1, i),
            Of::Vtep(i) => (2, i),
        }
    }

    /// A counter.
    pub fn count(&self, what: Count) -> u64 {
        self.counts.get(&(what as u32)).copied().unwrap_or(0)
    }

    /// Traffic as the programs count it.
    pub fn traffic(&self, of: Of) -> Traffic {
        let [rx_frames, rx_bytes, tx_frames, tx_bytes] =
            self.traffic.get(&Tally::slot(of)).copied().unwrap_or_default();
        Traffic { rx_frames, rx_bytes, tx_frames, tx_bytes }
    }
}

/// Tables with the contents of a [`World`].
#[derive(Debug)]
pub struct TestTables {
    /// `CONFIG[0]`; `None`: not there.
    pub config: Option<Config>,
    /// `MEMBERS`.
    pub members: HashMap<MemberKey, Member>,
    /// `INDEX_OF_VNI`.
    pub vnis: HashMap<u32, u16>,
    /// `INDEX_OF_VTEP`.
    pub vtep_of: HashMap<[u8; 4], u16>,
    /// `PATH_OF_SOURCE`.
    pub path_of: HashMap<u64, At>,
    /// `PATHS`.
    pub paths: Box<[PathRow]>,
    /// `HOLDS`.
    pub holds: Box<[HoldRow]>,
    /// `PORT_OF_IFINDEX`.
    pub port_of: HashMap<u32, u16>,
    /// `PORTS`.
    pub ports: Vec<Port>,
    /// `VTEPS`.
    pub vteps: Vec<Vtep>,
    /// The halves of `FLOODS` that are in force.
    pub floods: Vec<FloodSet>,
    /// `FDB`.
    pub fdb: TestFdb,
    /// The clock, nanoseconds.
    pub now_ns: u64,
    /// `HEARTBEAT[0]`, nanoseconds.
    pub heartbeat_ns: u64,
    /// `GATES`.
    pub gates: RefCell<Box<Gates>>,
    /// What ports' frames are, in `PORT_STATS`.
    pub mixes: RefCell<BTreeMap<u16, Mix>>,
    /// `BULKY`.
    pub bulky: Box<[Bulky]>,
    /// Counters.
    pub tally: RefCell<Tally>,
    /// Events.
    pub events: RefCell<Vec<Event>>,
}

/// A forwarding table with a seed.
#[derive(Debug)]
pub struct TestFdb(Box<[Row]>);

impl TestFdb {
    /// What hashes begin with.
    pub const SEED: u64 = 0x5eed_0000_5eed_0001;
}

impl fdb::Memory for TestFdb {
    fn mask(&self) -> u32 {
        self.0.mask()
    }

    fn row(&self, index: u32) -> Option<&Row> {
        self.0.row(index)
    }

    fn seed(&self) -> u64 {
        TestFdb::SEED
    }
}

impl TestTables {
    /// What notes are known by.
    pub const COOKIE: u32 = 0x5eed;

    /// Tables of a world, with `fdb_buckets` (a power of two) buckets, the agent just alive, an hour after boot.
    pub fn new(world: &World, fdb_buckets: usize) -> TestTables {
        const NOW_NS: u64 = 3_600_000_000_000;
        const SLOTS: usize = 64;
        let mut tables = TestTables {
            config: Some(world.config),
            members: world.members.iter().copied().collect(),
            vnis: world.vnis.iter().map(|(i, vni)| (*vni, *i)).collect(),
            vtep_of: world.static_peers().map(|(i, addr)| (addr, i)).collect(),
            path_of: world.path_of.iter().map(|(source, at)| (source.to_word(), *at)).collect(),
            paths: iter::repeat_with(PathRow::default).take(SLOTS).collect(),
            holds: iter::repeat_with(HoldRow::default).take(SLOTS).collect(),
            port_of: world.ports.iter().map(|(i, p)| (p.ifindex, *i)).collect(),
            ports: std::vec![Port::FREE; SLOTS],
            vteps: std::vec![Vtep::FREE; SLOTS],
            floods: std::vec![FloodSet::EMPTY; SLOTS],
            fdb: TestFdb(iter::repeat_with(Row::default).take(fdb_buckets).collect()),
            now_ns: NOW_NS,
            heartbeat_ns: NOW_NS,
            gates: RefCell::new(Box::new(Gates::OPEN)),
            mixes: RefCell::default(),
            bulky: iter::repeat_with(Bulky::default).take(Bulky::SETS as usize).collect(),
            tally: RefCell::default(),
            events: RefCell::default(),
        };
        for (i, port) in &world.ports {
            tables.ports[usize::from(*i)] = *port;
        }
        for (i, vtep) in &world.vteps {
            tables.vteps[usize::from(*i)] = *vtep;
        }
        for (i, flood) in &world.floods {
            tables.floods[usize::from(*i)] = *flood;
        }
        for (i, path) in &world.paths {
            tables.paths[usize::from(*i)].set(Some(path));
        }
        for (i, hold) in &world.holds {
            tables.holds[usize::from(*i)].set(*hold);
        }
        for (i, number) in &world.expected {
            tables.paths[usize::from(*i)].expect(*number);
        }
        world.fill_fdb(&tables.fdb, Seen::at(NOW_NS));
        tables
    }

    /// Entries of the FDB, sorted, without their ages.
    pub fn fdb_entries(&self) -> Vec<(u16, Mac, Place, bool)> {
        let mut all = Vec::new();
        fdb::for_each(&self.fdb, |key, e| all.push((key.vni_index(), key.mac(), e.place, e.is_static)));
        all.sort();
        all
    }
}

impl Tables for TestTables {
    type Fdb = TestFdb;

    fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    fn member(&self, key: &MemberKey) -> Option<Member> {
        self.members.get(key).copied()
    }

    fn knows_vni(&self, vni: u32) -> bool {
        self.vnis.contains_key(&vni)
    }

    fn knows_vtep(&self, addr: [u8; 4]) -> bool {
        self.vtep_of.contains_key(&addr)
    }

    fn path_of(&self, source: u64) -> Option<At> {
        self.path_of.get(&source).copied()
    }

    fn path(&self, index: u16) -> Option<&PathRow> {
        self.paths.get(usize::from(index))
    }

    fn hold(&self, vtep_index: u16) -> Option<&HoldRow> {
        self.holds.get(usize::from(vtep_index))
    }

    fn port_of(&self, ifindex: u32) -> Option<u16> {
        self.port_of.get(&ifindex).copied()
    }

    fn port(&self, index: u16) -> Option<&Port> {
        self.ports.get(usize::from(index))
    }

    fn vtep(&self, index: u16) -> Option<&Vtep> {
        self.vteps.get(usize::from(index))
    }

    fn flood(&self, vni_index: u16) -> Option<&FloodSet> {
        self.floods.get(usize::from(vni_index))
    }

    fn fdb(&self) -> &TestFdb {
        &self.fdb
    }

    fn cookie(&self) -> u32 {
        TestTables::COOKIE
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn precise_ns(&self) -> u64 {
        self.now_ns
    }

    fn heartbeat_ns(&self) -> u64 {
        self.heartbeat_ns
    }

    fn gate<R>(&self, lane: Lane, work: impl FnOnce(&mut Gate) -> R) -> Option<R> {
        Some(work(self.gates.borrow_mut().of(lane)))
    }

    fn mix(&self, port_index: u16, work: impl FnOnce(&mut Mix)) {
        work(self.mixes.borrow_mut().entry(port_index).or_default());
    }

    fn bulky(&self, set: u32) -> Option<&Bulky> {
        self.bulky.get(set as usize)
    }

    fn count(&self, what: Count, n: u64) {
        *self.tally.borrow_mut().counts.entry(what as u32).or_default() += n;
    }

    fn dropped(&self, reason: Reason) {
        *self.tally.borrow_mut().drops.entry(reason).or_default() += 1;
    }

    fn received(&self, of: Of, frames: u64, bytes: u64) {
        let mut tally = self.tally.borrow_mut();
        let t = tally.traffic.entry(Tally::slot(of)).or_default();
        (t[0], t[1]) = (t[0] + frames, t[1] + bytes);
    }

    fn sent(&self, of: Of, frames: u64, bytes: u64) {
        let mut tally = self.tally.borrow_mut();
        let t = tally.traffic.entry(Tally::slot(of)).or_default();
        (t[2], t[3]) = (t[2] + frames, t[3] + bytes);
    }

    fn event(&self, event: &Event) {
        self.events.borrow_mut().push(*event);
    }
}
