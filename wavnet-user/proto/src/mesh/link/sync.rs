//! The directory of one server, page by page.

use std::{collections::BTreeMap, time::Duration};

use super::{Context, Link, Message, Name, PublicKey, Timer, pause};
use crate::wire::message::{HostState, Page, Sync};

/// Between two readings.
const REST: Duration = Duration::from_millis(100);

/// A directory being read.
#[derive(Debug)]
pub(super) struct Syncing {
    request: u32,
    since: u64,
    after: Option<PublicKey>,
    /// The first page's: what is younger is read by another one.
    version: Option<u64>,
    /// Read from the start: who is not in it is gone.
    all: Option<BTreeMap<PublicKey, Name>>,
    tries: u32,
}

/// What a page has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::mesh) struct News {
    /// Who came, or came again.
    pub(in crate::mesh) came: Vec<PublicKey>,
    /// Who is said to have gone.
    pub(in crate::mesh) gone: Vec<PublicKey>,
}

impl Link {
    /// CHANGED, or the version that goes with REGISTERED: asks for what is new, unless that is under way or there is nothing.
    pub(in crate::mesh) fn changed(&mut self, cx: &mut Context<'_>, version: u64) {
        // In one session it only grows: what is less was overtaken on the way.
        self.newest = self.newest.max(version);
        if self.sync.is_none() && self.newest > self.version {
            cx.timers.set_no_later(Timer::Sync(self.index), cx.now);
        }
    }

    /// [`Timer::Sync`]: begins to read, or asks for the same page once more.
    pub(in crate::mesh) fn sync_again(&mut self, cx: &mut Context<'_>) {
        if self.sync.is_some() || self.newest > self.version {
            self.ask(cx);
        }
    }

    fn ask(&mut self, cx: &mut Context<'_>) {
        let (since, number) = (self.version, self.request.wrapping_add(1));
        let sync = self.sync.get_or_insert_with(|| {
            let all = (since == 0).then(BTreeMap::new);
            Syncing { request: number, since, after: None, version: None, all, tries: 0 }
        });
        if sync.tries == 0 {
            (self.request, sync.request) = (number, number);
        }
        sync.tries = sync.tries.saturating_add(1);
        let (tries, message) = (sync.tries, Sync { request: sync.request, since: sync.since, after: sync.after });
        if self.send(cx, &[Message::Sync(message)]) {
            cx.timers.set(Timer::Sync(self.index), cx.now + pause(tries, cx.rng));
        }
    }

    /// PAGE.
    pub(in crate::mesh) fn page(&mut self, cx: &mut Context<'_>, page: Page) -> News {
        let mut news = News::default();
        let Some(sync) = self.sync.as_mut().filter(|s| s.tries > 0 && s.request == page.request) else { return news };
        let version = *sync.version.get_or_insert(page.version);
        sync.tries = 0;
        let (own, room) = (cx.local.key, cx.local.settings.peers);
        let (after, more) = (page.entries.last().map(|e| e.key), page.more);
        for entry in page.entries.into_iter().filter(|e| e.key != own) {
            if entry.state == HostState::GONE {
                self.directory.remove(&entry.key);
                news.gone.push(entry.key);
                continue;
            }
            if let Some(all) = sync.all.as_mut().filter(|all| all.len() < room) {
                all.insert(entry.key, entry.name.clone());
            }
            if self.directory.len() < room || self.directory.contains_key(&entry.key) {
                let is_new = self.directory.insert(entry.key, entry.name).is_none();
                // Read from where we were, it is here because it has changed.
                if is_new || sync.all.is_none() {
                    news.came.push(entry.key);
                }
            }
        }
        // Pages that do not go on would never end.
        if more && after > sync.after {
            sync.after = after;
            self.ask(cx);
            return news;
        }
        if let Some(all) = sync.all.take() {
            self.directory = all;
        }
        (self.sync, self.version) = (None, version);
        if self.newest > version {
            cx.timers.set(Timer::Sync(self.index), cx.now + REST);
        } else {
            cx.timers.stop(Timer::Sync(self.index));
        }
        news
    }
}
