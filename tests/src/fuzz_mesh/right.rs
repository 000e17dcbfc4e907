//! Who must be connected to whom, and how, when nothing is in the way any more; and who takes whose frames.

use std::collections::BTreeSet;

use wavnet_common::addr::Vni;
use wavnet_proto::mesh::PathKind;
use wavnet_sim::{HostId, VNI};

use super::{
    Story,
    hosts::{Lie, Nat, Site},
    vnis,
};

/// Which paths from one host to another are right; `None`: to have none is.
pub(super) type Right = &'static [Option<PathKind>];

const NONE: Right = &[None];
const LAN: Right = &[Some(PathKind::Lan)];
const DIRECT: Right = &[Some(PathKind::Direct)];
const RELAYED: Right = &[Some(PathKind::Relayed)];
/// By chance.
const EITHER: Right = &[Some(PathKind::Direct), Some(PathKind::Relayed)];
/// No server brings them together. They may have met before, if anything leads there.
const MET_BEFORE: Right = &[None, Some(PathKind::Direct)];
const MET_ON_THE_LAN: Right = &[None, Some(PathKind::Lan)];
const ANY: Right = &[None, Some(PathKind::Lan), Some(PathKind::Direct), Some(PathKind::Relayed)];

/// Families of addresses.
const IPV4: usize = 0;
const IPV6: usize = 1;

/// Whether two hosts reach each other without a relay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direct {
    Surely,
    Perhaps,
    Never,
}

impl Story {
    /// The one that has this key, if it is one, and runs.
    pub(super) fn only(&self, id: usize) -> Option<usize> {
        let mut all = (0..self.sites.len()).filter(|i| self.id(*i) == id && self.runs(self.sites[*i].host));
        all.next().filter(|_| all.next().is_none())
    }

    fn is_there(&self, id: usize) -> bool {
        (0..self.sites.len()).any(|i| self.id(i) == id && self.runs(self.sites[i].host))
    }

    /// The VNIs that a host lets somebody into.
    pub(super) fn may_join(&self, i: usize, id: usize) -> BTreeSet<Vni> {
        let own = vnis(self.vnis[i]);
        match self.limits.get(&(i, id)) {
            Some(limit) => &own & &vnis(*limit),
            None => own,
        }
    }

    /// Frames of the one with this key may come to a host.
    pub(super) fn lets_in(&self, i: usize, id: usize) -> bool {
        !self.revoked.contains(&(i, id)) && self.may_join(i, id).iter().any(|vni| vni.get() == VNI)
    }

    /// Host `i` takes frames of host `j`, once it knows what that one has.
    pub(super) fn takes(&self, i: usize, j: usize) -> bool {
        self.lets_in(i, self.id(j)) && vnis(self.vnis[j]).iter().any(|vni| vni.get() == VNI)
    }

    /// Who is connected to whom, and how.
    pub(super) fn right(&self, i: usize, id: usize) -> Right {
        let right = self.right_with_room(i, id);
        let is_relayed = |right: Right| right.contains(&Some(PathKind::Relayed));
        if !self.is_full || !is_relayed(right) {
            return right;
        }
        // There is room for one. Who is refused by another one does not know, and wants it, too.
        let pairs = (0..self.sites.len()).flat_map(|i| (0..i).map(move |j| (i, self.id(j))));
        let running = pairs.filter(|(i, id)| self.runs(self.sites[*i].host) && self.is_there(*id));
        let is_content = |right: Right| matches!(right, LAN | DIRECT);
        let wanted = running.filter(|(i, id)| !is_content(self.right_with_room(*i, *id))).count();
        if wanted > 1 { ANY } else { right }
    }

    fn right_with_room(&self, i: usize, id: usize) -> Right {
        if !self.is_there(id) {
            return NONE;
        }
        // Of two with one key either may be the one.
        let (Some(j), Some(_)) = (self.only(id), self.only(self.id(i))) else { return ANY };
        let (a, b) = (self.sites[i], self.sites[j]);
        if self.revoked.contains(&(i, id)) || self.revoked.contains(&(j, self.id(i))) {
            return NONE;
        }
        // Those who have nothing in common stay connected for as long as it lasts.
        if vnis(self.vnis[i]).is_disjoint(&vnis(self.vnis[j])) {
            return ANY;
        }
        let cut = self.is_cut(a.outside(), b.outside());
        let reaches = |site: Site, server: HostId| !self.is_cut(site.outside(), server.into());
        let is_common = |server: HostId| self.runs(server) && reaches(a, server) && reaches(b, server);
        let common: Vec<usize> = (0..self.servers.len()).filter(|s| is_common(self.servers[*s])).collect();
        let shares = |family| a.shares_family(b, family);
        if common.iter().all(|s| self.lie(*s) != Lie::None) {
            return match (common.is_empty(), cut, a.is_neighbour(b)) {
                (false, ..) => ANY,
                (true, true, _) => NONE,
                (true, false, true) if !shares(IPV6) => MET_ON_THE_LAN,
                (true, false, true) => ANY,
                (true, false, false) => MET_BEFORE,
            };
        }
        if a.is_neighbour(b) && shares(IPV4) {
            return LAN;
        }
        match self.reach(i, j) {
            Direct::Surely => DIRECT,
            Direct::Perhaps => EITHER,
            Direct::Never => RELAYED,
        }
    }

    fn reach(&self, i: usize, j: usize) -> Direct {
        let (a, b) = (self.sites[i], self.sites[j]);
        let cut = self.is_cut(a.outside(), b.outside());
        if !cut && a.shares_family(b, IPV6) {
            Direct::Surely
        } else if cut || !a.shares_family(b, IPV4) || a.shares_carrier(b) {
            Direct::Never
        } else if a.nat.meets(b.nat) || self.are_predicted(i, j) {
            Direct::Surely
        } else if !self.search && a.nat.never_meets(b.nat) {
            Direct::Never
        } else {
            Direct::Perhaps
        }
    }

    /// Ports are predicted, and nothing makes that uncertain: nobody else has ports of these NATs, and no other search is under way.
    fn are_predicted(&self, i: usize, j: usize) -> bool {
        let is_alone = |i: usize| {
            let front = self.sites[i].front.map(|front| front.router);
            let shares = |site: &&Site| site.front.map(|front| front.router) == front;
            self.sites.iter().filter(shares).count() == 1
        };
        let is_counted = |site: &Site| !matches!(site.nat, Nat::Symmetric | Nat::OpenInput);
        let is_certain = self.predicts && self.lie == Lie::None && self.sites.iter().all(is_counted);
        is_certain && self.sites[i].nat.is_predicted(self.sites[j].nat) && is_alone(i) && is_alone(j)
    }
}
