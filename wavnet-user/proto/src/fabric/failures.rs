//! Commands that could not be carried out.
//!
//! The order of commands is what keeps tables consistent, so a write that fails holds back all that follow until the next
//! retry. What can fail for good, for a reason of its own interface or entry, does not hold back the others: attaching,
//! detaching, the slot of an interface that has just gone, a static entry or a new path of a peer that finds no room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wavnet_common::{
    abi::{FloodSet, Path},
    fdb::Place,
};

use super::Fabric;
use crate::command::Command;

/// What failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    /// The table write that failed, and those after it.
    held: VecDeque<Command>,
    /// Why.
    why: String,
    /// Interfaces whose port programs are still attached, and those whose underlay programs are.
    ports: BTreeSet<u32>,
    underlays: BTreeSet<u32>,
    /// A static entry found no room.
    entries: bool,
    /// Slots of paths that were not there before, as far as is known: nothing depends on their being written.
    new_paths: BTreeSet<u16>,
    /// Of these, those that found no room.
    paths: BTreeMap<u16, Path>,
}

impl Failures {
    /// True if table writes wait for a retry.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// A path is about to be written. `replaces`: another one, by the same slot and source.
    pub(super) fn writes_path(&mut self, index: u16, replaces: bool) {
        if self.paths.remove(&index).is_some() || !replaces {
            self.new_paths.insert(index);
        } else {
            self.new_paths.remove(&index);
        }
    }

    /// What was attached is gone with its interface.
    pub(super) fn link_gone(&mut self, ifindex: u32) {
        self.ports.remove(&ifindex);
        self.underlays.remove(&ifindex);
    }
}

impl Fabric {
    /// A command could not be carried out. It is tried again at the next [`Fabric::retry`].
    pub fn command_failed(&mut self, command: &Command, why: &str) {
        match command {
            Command::AttachPort { ifindex, .. } => {
                self.link_failed(*ifindex, why);
                if let Some(slot) = self.tables.ports.values_mut().find(|s| s.port.ifindex == *ifindex) {
                    slot.ours = false;
                }
            }
            Command::AttachUnderlay { ifindex, .. } => {
                self.link_failed(*ifindex, why);
                if let Some(hook) = self.tables.underlays.get_mut(ifindex) {
                    *hook = None;
                }
            }
            Command::SetPort { index, port } if port.ifindex != 0 => {
                self.withdraw_port(*index, port.ifindex);
                self.link_failed(port.ifindex, why);
            }
            Command::SetStatic { vni_index, mac, .. } => {
                self.tables.statics.remove(&(*vni_index, *mac));
                self.failures.entries = true;
            }
            Command::SetPath { index, path: Some(path) } if self.failures.new_paths.contains(index) => {
                self.failures.paths.insert(*index, *path);
            }
            Command::DetachPort { ifindex } => drop(self.failures.ports.insert(*ifindex)),
            Command::DetachUnderlay { ifindex } => drop(self.failures.underlays.insert(*ifindex)),
            // The shell answers these by themselves; nothing is held back for a question.
            Command::QueryRoute { .. } | Command::ResolveNeighbour { .. } | Command::ForgetNeighbour { .. } => {}
            _ => {
                let (questions, writes) = self.out.drain(..).partition(is_question);
                self.out = questions;
                self.failures.held = writes;
                self.failures.held.push_front(command.clone());
                why.clone_into(&mut self.failures.why);
            }
        }
    }

    /// Why changes of the tables wait for the next [`Fabric::retry`]; `None`: they do not.
    pub fn held_back(&self) -> Option<&str> {
        self.failures.holds().then_some(self.failures.why.as_str())
    }

    /// Tries again what failed, was unreachable or unresolved. Call it every few seconds.
    pub fn retry(&mut self) {
        for link in self.links.iter_mut() {
            self.dirty |= link.failed.take().is_some();
        }
        self.dirty |= std::mem::take(&mut self.failures.entries);
        self.out.extend(std::mem::take(&mut self.failures.held));
        // Unless something else has become of them.
        let paths = std::mem::take(&mut self.failures.paths).into_iter();
        let paths = paths.filter(|(index, path)| self.tables.paths.get(index) == Some(path));
        self.out.extend(paths.map(|(index, path)| Command::SetPath { index, path: Some(path) }));
        // Whoever uses the interface by now has put other programs in their place.
        let ports = std::mem::take(&mut self.failures.ports).into_iter();
        let ports = ports.filter(|i| self.tables.port_of(*i).is_none());
        self.out.extend(ports.map(|ifindex| Command::DetachPort { ifindex }));
        let underlays = std::mem::take(&mut self.failures.underlays).into_iter();
        let underlays = underlays.filter(|i| !self.tables.underlays.contains_key(i));
        self.out.extend(underlays.map(|ifindex| Command::DetachUnderlay { ifindex }));
        self.routes.retry();
    }

    fn link_failed(&mut self, ifindex: u32, why: &str) {
        if let Some(link) = self.links.get_mut(ifindex) {
            link.failed = Some(why.to_owned());
        }
        self.dirty = true;
    }

    /// Nothing that is on its way may point to a slot that was not written. The next plan frees it, or writes it again.
    fn withdraw_port(&mut self, index: u16, ifindex: u32) {
        for command in &mut self.out {
            if let Command::SetFlood { set, .. } = command {
                leave_out(set, index);
            }
        }
        let points = |c: &Command| match c {
            Command::AttachPort { ifindex: i, .. } => *i == ifindex,
            Command::SetStatic { place, .. } => *place == Place::Port(index),
            _ => false,
        };
        self.out.retain(|c| !points(c));
        self.tables.statics.retain(|_, place| *place != Place::Port(index));
        if let Some(slot) = self.tables.ports.get_mut(&index) {
            (slot.ours, slot.written) = (false, false);
            self.tables.floods.remove(&slot.port.vni_index);
            self.touch_peers();
        }
    }
}

fn is_question(command: &Command) -> bool {
    matches!(command, Command::QueryRoute { .. } | Command::ResolveNeighbour { .. } | Command::ForgetNeighbour { .. })
}

fn leave_out(set: &mut FloodSet, port: u16) {
    let count = set.ports.len().min(set.port_count as usize);
    let kept: Vec<u16> = set.ports.iter().take(count).filter(|p| **p != port).copied().collect();
    set.ports.fill(0);
    set.ports.iter_mut().zip(&kept).for_each(|(to, from)| *to = *from);
    set.port_count = kept.len() as u32;
}
