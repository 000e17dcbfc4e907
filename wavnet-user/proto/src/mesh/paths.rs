//! The ways to one peer, and which of them frames should take.

use super::{
    output::Way,
    path::{Path, WayId},
};
use crate::time::Time;

/// The ways to one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    list: Vec<Path>,
    pub(super) selected: Option<WayId>,
}

impl Paths {
    /// Ways of one peer at the most; a search has more, which are no paths before something came by them.
    pub(super) const MOST: usize = 40;
    /// Of which frames are taken from so many at the most: as many as the kernel's table has room for, on average.
    pub(super) const TAKEN: usize = 4;
    /// By way of one server's relay: by its label of now, and by the one before.
    pub(super) const RELAYED: usize = 2;

    pub(super) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Path> {
        self.list.iter_mut()
    }

    pub(super) fn get(&self, id: WayId) -> Option<&Path> {
        self.list.iter().find(|p| p.id == id)
    }

    pub(super) fn get_mut(&mut self, id: WayId) -> Option<&mut Path> {
        self.list.iter_mut().find(|p| p.id == id)
    }

    pub(super) fn by_way(&self, way: &Way) -> Option<WayId> {
        self.list.iter().find(|p| p.way == *way).map(|p| p.id)
    }

    pub(super) fn has_room(&self) -> bool {
        self.list.len() < Paths::MOST
    }

    pub(super) fn add(&mut self, path: Path) {
        self.list.push(path);
    }

    pub(super) fn remove(&mut self, id: WayId) -> Option<Path> {
        let place = self.list.iter().position(|p| p.id == id)?;
        let path = self.list.remove(place);
        // A punch leaves many behind that lead nowhere.
        if self.list.len() * 4 < self.list.capacity() {
            self.list.shrink_to_fit();
        }
        Some(path)
    }

    pub(super) fn selected(&self) -> Option<&Path> {
        self.get(self.selected?)
    }

    /// Of these ways the one to try first, as none is known to work.
    pub(super) fn freshest<'a>(ways: impl Iterator<Item = &'a Path>) -> Option<&'a Path> {
        ways.max_by_key(|p| p.freshness())
    }

    /// The path that frames should take. `stay`: those of a kind were compared a moment ago. `doubted`: when each was to show anew that it works.
    pub(super) fn choose(&self, now: Time, stay: bool, doubted: Option<Time>) -> Option<WayId> {
        let sound = |p: &&Path| p.is_sound(now, doubted);
        let current = self.selected().filter(sound);
        let start = current.or_else(|| self.list.iter().find(sound));
        let Some(start) = start else {
            // Nothing is known to work. What there was may.
            let usable = |p: &&Path| p.is_usable(now);
            return self
                .selected()
                .filter(usable)
                .or_else(|| Paths::freshest(self.list.iter().filter(usable)))
                .map(|p| p.id);
        };
        let best = self
            .list
            .iter()
            .filter(sound)
            .fold(start, |best, path| if path.is_better_than(best, now) { path } else { best });
        if stay && current.is_some_and(|c| c.way.is_relayed() == best.way.is_relayed()) {
            return Some(start.id);
        }
        Some(best.id)
    }

    /// The best of the others.
    pub(super) fn best_but(&self, id: WayId, now: Time, doubted: Option<Time>) -> Option<WayId> {
        let others = || self.list.iter().filter(|p| p.id != id && p.is_usable(now));
        let sound = others().filter(|p| p.is_sound(now, doubted));
        let best = sound.reduce(|best, path| if path.is_better_than(best, now) { path } else { best });
        best.or_else(|| Paths::freshest(others())).map(|p| p.id)
    }

    /// True if the one in use is known to work.
    pub(super) fn works(&self, now: Time, doubted: Option<Time>) -> bool {
        self.selected().is_some_and(|p| p.is_usable(now) && !p.is_stale(now, doubted))
    }
}
