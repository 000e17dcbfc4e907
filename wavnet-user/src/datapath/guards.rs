//! Which interfaces XDP may redirect a tap's frames to, and for whom: `GUARDED_DEVS`.

use std::collections::{BTreeMap, BTreeSet};

use aya::{
    Ebpf,
    maps::{MapData, xdp::DevMapHash},
    programs::{ProgramFd, Xdp},
};
use wavnet_common::abi::{self, HopFlags, NextHop, map::GUARDED_DEVS};

use super::{
    Error,
    maps::{fail, forgiving, take},
};

/// Who sends to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum User {
    /// The port in this slot of `PORTS`: it is the interface.
    Port(u16),
    /// The peer in this slot of `VTEPS`: its next hop is there.
    Vtep(u16),
}

/// The map, and what is known of it: peers share next hops' interfaces, and one may be a port's, too.
pub(super) struct Guards {
    map: DevMapHash<MapData>,
    /// What runs behind redirects by the map.
    program: ProgramFd,
    uses: Uses,
    /// Interfaces that are in the map, with this program.
    entered: BTreeSet<u32>,
}

/// The interface of a next hop that XDP redirects to.
pub(super) fn interface(hop: &NextHop) -> Option<u32> {
    (hop.flags & HopFlags::XDP != 0).then_some(hop.ifindex)
}

impl Guards {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Guards, Error> {
        let (map, program) = (take(ebpf, GUARDED_DEVS)?, program(ebpf)?);
        Ok(Guards { map, program, uses: Uses::default(), entered: BTreeSet::new() })
    }

    /// Lets XDP redirect a tap's frames to an interface; to be followed by [`Guards::used`].
    pub(super) fn enter(&mut self, ifindex: u32) -> Result<(), Error> {
        if !self.entered.contains(&ifindex) {
            self.map.insert(ifindex, ifindex, Some(&self.program), 0).map_err(fail(GUARDED_DEVS))?;
            self.entered.insert(ifindex);
        }
        Ok(())
    }

    /// The next hop; by TC alone if its interface cannot be guarded. It went a moment ago, as a rule.
    pub(super) fn guarded(&mut self, mut hop: NextHop) -> NextHop {
        if let Some(ifindex) = interface(&hop)
            && let Err(e) = self.enter(ifindex)
        {
            tracing::debug!(ifindex, "{:#}", anyhow::Error::from(e));
            hop.flags &= !HopFlags::XDP;
        }
        hop
    }

    /// Notes what a user sends to from now on, and removes what nobody sends to any more. To be called when the programs know: a frame
    /// that finds no guard is dropped.
    pub(super) fn used(&mut self, user: User, ifindex: Option<u32>) {
        if let Some(unused) = self.uses.set(user, ifindex) {
            self.remove(unused);
        }
    }

    /// The kernel has removed an interface, and with it what the map has of it.
    pub(super) fn interface_gone(&mut self, ifindex: u32) {
        self.entered.remove(&ifindex);
    }

    /// An interface is there, perhaps again, and whoever sends to it may not have noticed that it was gone.
    pub(super) fn interface_there(&mut self, ifindex: u32) {
        if self.uses.of.contains_key(&ifindex)
            && let Err(e) = self.enter(ifindex)
        {
            // Gone since a moment ago, as a rule. What another agent has entered does no harm.
            tracing::debug!(ifindex, "{:#}", anyhow::Error::from(e));
        }
    }

    /// Enters every interface again: any of them may have been gone unnoticed.
    pub(super) fn enter_all(&mut self) {
        self.entered.clear();
        for ifindex in self.uses.of.keys().copied().collect::<Vec<u32>>() {
            self.interface_there(ifindex);
        }
    }

    /// Begins anew with what the tables say: puts this agent's program in the place of an earlier one's, and where one is missing (an
    /// interface that was in another namespace for a while has lost its own), and removes what nobody uses.
    pub(super) fn renew(&mut self, users: impl Iterator<Item = (User, u32)>) -> Result<(), Error> {
        self.uses = Uses::default();
        for (user, ifindex) in users {
            self.uses.set(user, Some(ifindex));
        }
        self.enter_all();
        let present: Vec<u32> = self.map.keys().collect::<Result<_, _>>().map_err(fail(GUARDED_DEVS))?;
        for ifindex in present {
            if !self.uses.of.contains_key(&ifindex) {
                self.remove(ifindex);
            }
        }
        Ok(())
    }

    fn remove(&mut self, ifindex: u32) {
        self.entered.remove(&ifindex);
        // What stays there does no harm.
        if let Err(e) = forgiving(self.map.remove(ifindex), GUARDED_DEVS) {
            tracing::debug!(ifindex, "{:#}", anyhow::Error::from(e));
        }
    }
}

fn program(ebpf: &Ebpf) -> Result<ProgramFd, Error> {
    let name = abi::program::TAP_GUARD;
    let missing = || Error::kernel(format!("finding program {name}"), "the object has no such program");
    let fail = |e| Error::program(name, e);
    let program: &Xdp = ebpf.program(name).ok_or_else(missing)?.try_into().map_err(fail)?;
    let fd = program.fd().map_err(fail)?;
    fd.try_clone().map_err(|e| Error::kernel(format!("keeping program {name}"), e))
}

/// Who sends where.
#[derive(Default)]
struct Uses {
    by: BTreeMap<User, u32>,
    /// The same the other way round, counted: a thousand peers share a next hop.
    of: BTreeMap<u32, usize>,
}

impl Uses {
    /// Gives a user another interface, or none; the one that nobody uses any more by that.
    fn set(&mut self, user: User, ifindex: Option<u32>) -> Option<u32> {
        let before = match ifindex {
            Some(ifindex) => {
                *self.of.entry(ifindex).or_default() += 1;
                self.by.insert(user, ifindex)
            }
            None => self.by.remove(&user),
        }?;
        let users = self.of.get_mut(&before)?;
        *users -= 1;
        if *users > 0 {
            return None;
        }
        self.of.remove(&before);
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::{User::*, *};

    #[test]
    fn an_interface_is_given_up_by_the_last_who_uses_it() {
        let mut uses = Uses::default();
        assert_eq!(uses.set(Port(1), Some(7)), None);
        assert_eq!(uses.set(Vtep(1), Some(7)), None);
        assert_eq!(uses.set(Vtep(2), Some(7)), None);
        assert_eq!(uses.set(Port(1), None), None, "the next hops need it");
        // The same again counts once.
        assert_eq!(uses.set(Vtep(1), Some(7)), None);
        assert_eq!(uses.set(Vtep(1), Some(8)), None);
        assert_eq!(uses.set(Vtep(2), Some(8)), Some(7));
        assert_eq!(uses.set(Vtep(2), None), None);
        assert_eq!(uses.set(Vtep(2), None), None, "twice");
        assert_eq!(uses.set(Vtep(1), None), Some(8));
        assert!(uses.by.is_empty() && uses.of.is_empty());
    }
}
