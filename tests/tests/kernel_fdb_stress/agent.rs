//! The agent's side of the forwarding table, by its own code: it ages, removes, moves a static entry, reads, and takes events.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, ensure};
use aya::maps::{Map, MapData, RingBuf};
use wavnet_common::{
    abi,
    fdb::{self, Entry, Place},
    testing::{Rng, stress::Removals},
};
use wavnet_proto::command::Command;
use wavnet_tests::kernel::{PinPath, Sandbox};
use wavnet_user::datapath::FdbEntry;

use crate::net::{FIXED, HERE, ROVER, SHARED, THERE, VNI_INDEX, VTEPS, check, mac, pick_shared, places};

/// Ticks, or seconds, after which an entry is aged. At once: whenever a tick begins, everything is old that has not been seen in it
/// yet, and is aged while frames refresh it.
pub(crate) const LIMIT: u16 = 0;

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) aged: u64,
    pub(crate) removed: u64,
    pub(crate) set: u64,
    pub(crate) reads: u64,
    pub(crate) events: u64,
}

/// The agent with its table.
pub(crate) struct Agent<'a> {
    pub(crate) sandbox: &'a mut Sandbox,
    removals: &'a Removals,
    events: RingBuf<MapData>,
    rng: Rng,
    rover: Place,
    pub(crate) counts: Counts,
}

impl<'a> Agent<'a> {
    pub(crate) fn new(
        pins: &PinPath,
        sandbox: &'a mut Sandbox,
        removals: &'a Removals,
        seed: u64,
    ) -> Result<Agent<'a>> {
        let events = MapData::from_pin(pins.path().join("maps").join(abi::EVENTS)).context("the events")?;
        let events = RingBuf::try_from(Map::RingBuf(events))?;
        let rover = Place::Vtep(VTEPS.start);
        Ok(Agent { sandbox, removals, events, rng: Rng::new(seed), rover, counts: Counts::default() })
    }

    /// Goes on until the end, and takes what is left then.
    pub(crate) fn run(&mut self, is_over: impl Fn() -> bool, end: &AtomicBool) -> Result<()> {
        while !is_over() && !end.load(Ordering::Relaxed) {
            self.sandbox.datapath.heartbeat()?;
            self.change()?;
            self.read()?;
            self.take_events();
        }
        Ok(())
    }

    pub(crate) fn take_events(&mut self) {
        while self.events.next().is_some() {
            self.counts.events += 1;
        }
    }

    /// The table is written by nobody else in these ways.
    fn change(&mut self) -> Result<()> {
        let n = pick_shared(&mut self.rng);
        let place = self.rng.pick(&places());
        let fdb = self.sandbox.datapath.fdb();
        match self.rng.below(8) {
            0 => self.counts.aged += self.removals.during(|| fdb.age(LIMIT.into())) as u64,
            1..4 => self.counts.removed += u64::from(self.removals.during(|| fdb.remove(VNI_INDEX, mac(n)))),
            // As if a place were gone: of the MACs that are everybody's.
            4 => {
                let gone = |e: &FdbEntry| e.place == place && shared(e) && e.mac.0[5] % 4 == (n % 4) as u8;
                self.counts.removed += self.removals.during(|| fdb.remove_if(gone)) as u64;
            }
            5 => {
                let place = Place::Vtep(VTEPS.start + self.rng.below(VTEPS.len()) as u16);
                let command = Command::SetStatic { vni_index: VNI_INDEX, mac: mac(ROVER), place };
                self.sandbox.datapath.apply(&command)?;
                self.rover = place;
                self.counts.set += 1;
            }
            _ => {}
        }
        let found = self.sandbox.datapath.fdb().get(VNI_INDEX, mac(ROVER));
        ensure!(found.is_some_and(|e| e.place == self.rover && e.is_static), "{found:?} is not at {:?}", self.rover);
        Ok(())
    }

    /// Nobody removes anything meanwhile: entries stay in their slots, and each MAC is met once.
    fn read(&mut self) -> Result<()> {
        let all = self.contents();
        let there = [HERE, THERE, FIXED, ROVER].iter().all(|n| all.contains_key(n));
        ensure!(there, "a static MAC is not among {:?}", all.keys());
        self.counts.reads += 1;
        Ok(())
    }

    pub(crate) fn contents(&self) -> HashMap<u16, Entry> {
        let mut all = HashMap::new();
        fdb::for_each(self.sandbox.datapath.fdb(), |key, entry| {
            check(number(key), &entry);
            assert!(all.insert(number(key), entry).is_none(), "{key:?} is there twice");
        });
        all
    }
}

fn shared(entry: &FdbEntry) -> bool {
    let [.., hi, lo] = entry.mac.0;
    SHARED.contains(&u16::from_be_bytes([hi, lo]))
}

fn number(key: fdb::Key) -> u16 {
    let [.., hi, lo] = key.mac().0;
    let n = u16::from_be_bytes([hi, lo]);
    assert_eq!((key.vni_index(), key.mac()), (VNI_INDEX, mac(n)), "nobody's MAC");
    n
}
