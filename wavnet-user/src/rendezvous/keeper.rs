//! The thread that writes the store, so that a slow disk holds up nobody.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use tracing::{info, warn};
use wavnet_proto::{
    rendezvous::persist::Change,
    trust::{NetworkId, PublicKey},
};

use super::{
    stats::{Stats, add},
    store::Store,
};

/// Between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);

/// What a change is about: a later one takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Incarnation,
    Host(NetworkId, PublicKey),
    Relay(NetworkId, [PublicKey; 2]),
}

impl From<&Change> for About {
    fn from(change: &Change) -> About {
        match change {
            Change::Incarnation(_) => About::Incarnation,
            Change::Host(host) => About::Host(host.network, host.key),
            Change::ForgetHost { network, key } => About::Host(*network, *key),
            Change::Relay(relay) => About::Relay(relay.network, relay.hosts),
            Change::ForgetRelay { network, hosts } => About::Relay(*network, *hosts),
        }
    }
}

/// The core's end.
pub(super) struct Keeper {
    /// What is not handed over yet: no more than one change of each thing.
    waiting: BTreeMap<About, Change>,
    batches: Option<SyncSender<Vec<Change>>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start(store: Box<dyn Store>, stats: Arc<Stats>) -> anyhow::Result<Keeper> {
        let (batches, queue) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || keep(store, &queue, &stats))
            .context("starting a thread")?;
        Ok(Keeper { waiting: BTreeMap::new(), batches: Some(batches), thread: Some(thread) })
    }

    pub(super) fn add(&mut self, change: Change) {
        self.waiting.insert(About::from(&change), change);
    }

    /// Hands over what is waiting, if the thread can take it. True if nothing is left.
    pub(super) fn flush(&mut self) -> bool {
        let Some(batches) = self.batches.as_ref().filter(|_| !self.waiting.is_empty()) else { return true };
        let batch = std::mem::take(&mut self.waiting).into_values().collect();
        match batches.try_send(batch) {
            Ok(()) => true,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                self.waiting = batch.into_iter().map(|change| (About::from(&change), change)).collect();
                false
            }
        }
    }

    /// Writes everything, and waits for it.
    pub(super) fn finish(mut self) {
        if let Some(batches) = self.batches.take() {
            // Fails only if the thread is gone, which has been told.
            let _ = batches.send(std::mem::take(&mut self.waiting).into_values().collect());
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            warn!("the thread of the store has failed: the last changes may not be kept");
        }
    }
}

fn keep(mut store: Box<dyn Store>, queue: &Receiver<Vec<Change>>, stats: &Stats) {
    while let Ok(mut batch) = queue.recv() {
        let mut failures = 0u64;
        while let Err(e) = store.apply(&batch) {
            add(&stats.store_errors, 1);
            if failures == 0 {
                warn!("what must outlive a restart cannot be kept: {:#}", anyhow::Error::from(e));
            }
            failures += 1;
            // What has come meanwhile goes with it; and a server that ends does not wait long for a disk.
            match queue.try_recv() {
                Ok(more) => batch.extend(more),
                Err(TryRecvError::Disconnected) if failures > 3 => return,
                Err(_) => {}
            }
            thread::sleep(RETRY);
        }
        if failures > 0 {
            info!(failures, "the store can be written again");
        }
    }
}
