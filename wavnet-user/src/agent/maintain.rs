//! What is done from time to time.

use tracing::{debug, info, warn};
use wavnet_common::reason::Reason;

use super::{Agent, convert};
use crate::{
    api::model::{FdbChange, FdbEvent},
    datapath::FdbEntry,
};

impl Agent {
    /// Removes entries of the FDB that are too old, and those whose place is gone: a frame that was on its way while a slot
    /// was freed may have left one.
    pub(super) fn scan_fdb(&mut self) {
        let limit = self.config.fdb.ageing.as_secs();
        let fabric = &self.fabric;
        let mut gone: Vec<(FdbEntry, FdbChange)> = Vec::new();
        let watched = self.watchers.receiver_count() > 0;
        let (mut aged, mut unsound) = (0, 0);
        self.datapath.fdb().remove_if(|entry| {
            let change = if !fabric.is_sound(entry.vni_index, entry.place) {
                unsound += 1;
                FdbChange::Removed
            } else if !entry.is_static && entry.age_s > limit {
                aged += 1;
                FdbChange::Aged
            } else {
                return false;
            };
            if watched {
                gone.push((*entry, change));
            }
            true
        });
        self.aged += aged;
        if aged + unsound > 0 {
            debug!(aged, unsound, "FDB entries removed");
        }
        if watched {
            let names = self.fabric.names();
            for (entry, event) in gone {
                let Some(vni) = names.vnis.get(&entry.vni_index) else { continue };
                let from = names.places.get(&entry.place).map(convert::place_info);
                self.tell_watchers(FdbEvent { event, vni: *vni, mac: entry.mac, from, to: None });
            }
        }
    }

    /// Says for which reasons the kernel's programs have begun to drop frames; each is said once.
    pub(super) fn tell_drops(&mut self) {
        // What cannot be read now can be the next time, or a scrape says why.
        let Ok(drops) = self.datapath.drops() else { return };
        let news = self.told.drops.news(drops.into_iter().map(|(reason, n)| (reason.label(), n)));
        for reason in Reason::ALL.iter().filter(|reason| news.contains(&reason.label())) {
            info!(
                reason = reason.label(),
                "frames are dropped, for this reason the first time since the agent has started (more is counted): {}",
                reason.help()
            );
        }
    }

    /// The loop has ended.
    pub(super) async fn ends(&mut self, detach: bool) {
        self.notifier.stopping();
        self.end_mesh(detach).await;
        // To its end: what detaching changes is no news, and would find nobody who listens.
        self.monitor.close().await;
    }

    /// Tells whoever watches the FDB.
    pub(super) fn tell_watchers(&self, event: FdbEvent) {
        // An error means that nobody does.
        let _ = self.watchers.send(event);
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self) {
        self.fabric.retry();
        self.keep();
    }

    /// Keeps what is to survive a restart and is not in the maps. Call it when nothing of another network is in force any more.
    pub(super) fn keep(&mut self) {
        if let Some(mesh) = &self.mesh {
            self.additions.set_network(mesh.network());
        }
        if let Err(e) = self.additions.save(self.fabric.runtime())
            && self.complaints.is_news(&e.to_string())
        {
            warn!("additions by command, and paths to peers, would not survive a restart of the agent: {e}");
        }
    }
}
