//! The thread that writes the store, so that a slow disk holds up nobody.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use tracing::{error, info};
use wavnet_proto::{
    rendezvous::persist::Change,
    trust::{NetworkId, PublicKey},
};

use super::{
    stats::{Stats, add, get, set, take},
    store::{Store, StoreError},
};

/// Between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);
/// Further attempts of a server that ends.
const LAST_TRIES: u32 = 2;
/// Things of which a change may wait: some 40 MiB. Each host that comes or goes, and each pair, is one.
const MOST: usize = 1 << 18;
/// What becomes of it.
const LOST: &str = "after a restart, hosts register anew and pairs are made anew where that is so";

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
    /// What is not handed over yet: no more than one change of each thing, and of [`MOST`] things.
    waiting: BTreeMap<About, Change>,
    batches: Option<SyncSender<Vec<Change>>>,
    thread: Option<JoinHandle<()>>,
    stats: Arc<Stats>,
    /// The server ends: a disk that fails is not waited for any longer.
    ends: Arc<AtomicBool>,
}

impl Keeper {
    pub(super) fn start(store: Box<dyn Store>, stats: Arc<Stats>) -> anyhow::Result<Keeper> {
        let (batches, queue) = sync_channel(1);
        let ends = Arc::new(AtomicBool::new(false));
        let (theirs, end) = (Arc::clone(&stats), Arc::clone(&ends));
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || keep(store, &queue, &theirs, &end))
            .context("starting a thread")?;
        Ok(Keeper { waiting: BTreeMap::new(), batches: Some(batches), thread: Some(thread), stats, ends })
    }

    /// Has something kept, unless too much waits already.
    pub(super) fn add(&mut self, change: Change) {
        let about = About::from(&change);
        if self.waiting.len() >= MOST && !self.waiting.contains_key(&about) {
            if get(&self.stats.store_lost) == 0 {
                error!(waiting = MOST, "the store has failed for so long that some changes are given up: {LOST}");
            }
            return add(&self.stats.store_lost, 1);
        }
        self.waiting.insert(about, change);
    }

    /// Hands over what is waiting, if the thread can take it: it has nothing else to write then. True if nothing is left.
    pub(super) fn flush(&mut self) -> bool {
        let Some(batches) = self.batches.as_ref().filter(|_| !self.waiting.is_empty()) else { return true };
        let batch: Vec<Change> = std::mem::take(&mut self.waiting).into_values().collect();
        let many = batch.len() as u64;
        add(&self.stats.store_taken, many);
        let taken = match batches.try_send(batch) {
            Ok(()) => true,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                take(&self.stats.store_taken, many);
                self.waiting = batch.into_iter().map(|change| (About::from(&change), change)).collect();
                false
            }
        };
        set(&self.stats.store_waiting, self.waiting.len() as u64);
        taken
    }

    /// Writes everything, and waits for it; not for long if the disk fails.
    pub(super) fn finish(mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let Some(batches) = self.batches.take() else { return };
        let batch: Vec<Change> = std::mem::take(&mut self.waiting).into_values().collect();
        add(&self.stats.store_taken, batch.len() as u64);
        // Fails only if the thread has given up, or is gone: what it was to write is counted below.
        let _ = batches.send(batch);
        drop(batches);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the thread of the store has failed");
        }
        let left = get(&self.stats.store_taken);
        if left > 0 {
            add(&self.stats.store_lost, left);
            error!(changes = left, "the server ends, and the store could not be written: {LOST}");
        }
    }
}

/// Writes batch after batch, each as often as it takes. While one fails, another one waits in the queue, and all else with the core.
fn keep(mut store: Box<dyn Store>, queue: &Receiver<Vec<Change>>, stats: &Stats, ends: &AtomicBool) {
    while let Ok(batch) = queue.recv() {
        let (mut failures, mut last_tries) = (0u64, 0);
        while let Err(e) = apply(&mut *store, &batch) {
            add(&stats.store_errors, 1);
            set(&stats.store_failing, 1);
            if failures == 0 {
                let help = e.help();
                error!(help, "what must outlive a restart cannot be kept: {:#}", anyhow::Error::from(e));
            }
            failures += 1;
            last_tries += u32::from(ends.load(Ordering::Relaxed));
            if last_tries > LAST_TRIES {
                return;
            }
            thread::sleep(RETRY);
        }
        take(&stats.store_taken, batch.len() as u64);
        set(&stats.store_failing, 0);
        if failures > 0 {
            info!(failures, "the store can be written again");
        }
    }
}

/// A damaged file may lead the database into a panic. That is a failure like others: what follows is not to be lost for it.
fn apply(store: &mut dyn Store, batch: &[Change]) -> Result<(), StoreError> {
    catch_unwind(AssertUnwindSafe(|| store.apply(batch))).unwrap_or(Err(StoreError::Panicked))
}
