use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use redb::{Database, TableDefinition};
use wavnet_common::{abi::relay::RelayCount, addr::Vni};
use wavnet_proto::{
    rendezvous::persist::{Change, Saved, SavedHost, SavedRelay},
    rng::Rng,
    trust::{NetworkId, NetworkKey, PublicKey, SecretKey},
    wire::{Candidate, CandidateKind, Label, NatSummary},
};

use super::{stats::get, *};

mod shell;

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(60), "{what} does not happen");
        std::thread::yield_now();
    }
}

fn host(n: u8) -> SavedHost {
    SavedHost {
        network: NetworkKey::generate(&mut Rng::from_seed([n; 32])).id(),
        key: SecretKey::generate(&mut Rng::from_seed([n; 32])).public(),
        addr: format!("[2001:db8::{n}]:4789").parse().unwrap(),
        name: "hypervisor \u{e4}".parse().unwrap(),
        nat: NatSummary::decode([n; 8]),
        candidates: vec![Candidate { kind: CandidateKind::Predicted, addr: ([192, 0, 2, n], 5).into() }],
        vnis: [Vni::new(7).unwrap(), Vni::new(Vni::MAX).unwrap()].into(),
    }
}

fn relay(n: u8) -> SavedRelay {
    let labels = [1, 2].map(|label| Label::new(label * 1000 + u32::from(n)).unwrap());
    let mut hosts = [host(n).key, host(n + 1).key];
    hosts.sort();
    SavedRelay { network: host(n).network, hosts, labels }
}

fn open(dir: &Path) -> Result<Saved, StoreError> {
    FileStore::open(dir)?.load()
}

#[test]
fn what_is_kept_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let changes = [
        Change::Incarnation(7),
        Change::Host(Box::new(host(1))),
        Change::Host(Box::new(host(2))),
        Change::Relay(relay(1)),
        Change::Relay(relay(2)),
        Change::ForgetHost { network: host(2).network, key: host(2).key },
        Change::ForgetRelay { network: relay(2).network, hosts: relay(2).hosts },
    ];
    let mut store = FileStore::open(dir.path()).unwrap();
    assert_eq!(store.load().unwrap(), Saved::default());
    store.apply(&changes).unwrap();
    assert!(matches!(FileStore::open(dir.path()), Err(StoreError::InUse(_))), "one at a time");
    drop(store);
    let saved = open(dir.path()).unwrap();
    assert_eq!(saved, Saved { incarnation: 7, hosts: vec![host(1)], relays: vec![relay(1)] });
    // The same as the naive one.
    let mut naive = Saved::default();
    changes.into_iter().for_each(|change| naive.apply(change));
    assert_eq!(naive, saved);
}

/// Whatever stands in the file: an error that says what to do, or a state; never a panic that ends the server.
#[test]
fn damaged_and_foreign_files_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    fs::write(&file, "no database at all, but text that somebody has put there").unwrap();
    let e = open(dir.path()).unwrap_err();
    assert!(matches!(e, StoreError::Damaged { .. }) && e.help().contains("move the file away"), "{e}");
    fs::remove_file(&file).unwrap();
    let other = Database::create(&file).unwrap();
    let transaction = other.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("of somebody else")).unwrap();
    transaction.commit().unwrap();
    drop(other);
    let e = open(dir.path()).unwrap_err();
    assert!(matches!(e, StoreError::Damaged { .. }), "{e}");
    fs::remove_file(&file).unwrap();
    let mut store = FileStore::open(dir.path()).unwrap();
    store.apply(&[Change::Host(Box::new(host(1)))]).unwrap();
    drop(store);
    let good = fs::read(&file).unwrap();
    let mut refused = 0;
    for cut in [0, 1, 100, 4096, good.len() / 2, good.len() - 1] {
        fs::write(&file, &good[..cut]).unwrap();
        refused += u32::from(open(dir.path()).is_err());
    }
    for place in (0..good.len().min(20_000)).step_by(97) {
        let mut changed = good.clone();
        changed[place] ^= 0xff;
        fs::write(&file, &changed).unwrap();
        refused += u32::from(open(dir.path()).is_err());
    }
    assert!(refused > 0, "some of it is noticed");
}

#[test]
fn a_file_of_a_later_release_is_told() {
    let dir = tempfile::tempdir().unwrap();
    drop(FileStore::open(dir.path()).unwrap());
    let database = Database::create(dir.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = TableDefinition::<&str, u64>::new("wavnet rendezvous");
    transaction.open_table(meta).unwrap().insert("format", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(open(dir.path()), Err(StoreError::Format { found: 99, .. })));
}

#[test]
fn a_state_directory_that_cannot_be_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let e = open(&file.path().join("below a file")).unwrap_err();
    assert!(matches!(e, StoreError::Directory { .. }) && e.help().contains("--state-dir"), "{e}");
}

/// A state directory says who is where.
#[test]
fn nobody_else_may_read_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    // The usual one.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    drop(FileStore::open(&state).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(&state), mode(&state.join(FILE))].map(|mode| format!("{mode:o}")), ["700", "600"]);
}

/// A store that fails, or panics, as long as it is told to.
#[derive(Default)]
struct Failing {
    fails: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    kept: Arc<Mutex<Vec<Change>>>,
}

impl Store for Failing {
    fn load(&mut self) -> Result<Saved, StoreError> {
        Ok(Saved::default())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        assert!(!self.panics.swap(false, Ordering::Relaxed), "a page that makes no sense");
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::InUse("a disk that is full".into()));
        }
        self.kept.lock().unwrap().extend_from_slice(changes);
        Ok(())
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing() {
    let (fails, kept) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let stats = Arc::new(Stats::default());
    let store = Failing { fails: Arc::clone(&fails), kept: Arc::clone(&kept), ..Failing::default() };
    let mut keeper = Keeper::start(Box::new(store), Arc::clone(&stats)).unwrap();
    keeper.add(Change::Host(Box::new(host(1))));
    keeper.flush();
    while get(&stats.store_errors) == 0 {
        std::thread::yield_now();
    }
    let said = view::store_warning(&stats).unwrap();
    assert!(said.contains("1 changes wait, 0 were given up"), "{said}");
    keeper.add(Change::Host(Box::new(host(2))));
    keeper.add(Change::ForgetHost { network: host(2).network, key: host(2).key });
    keeper.flush();
    fails.store(false, Ordering::Relaxed);
    keeper.add(Change::Incarnation(3));
    keeper.finish();
    let forgotten = Change::ForgetHost { network: host(2).network, key: host(2).key };
    let kept = kept.lock().unwrap().clone();
    assert_eq!(
        kept,
        [Change::Host(Box::new(host(1))), forgotten, Change::Incarnation(3)],
        "of two changes the later one"
    );
    let counts = [&stats.store_waiting, &stats.store_taken, &stats.store_lost].map(get);
    assert_eq!((counts, view::store_warning(&stats)), ([0; 3], None), "nothing is wrong any more");
    stats::set(&stats.store_waiting, 5);
    assert_eq!(view::store_warning(&stats), None, "what waits for its turn is no trouble");
}

#[test]
fn a_database_that_panics_loses_nothing() {
    let (panics, kept) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
    let stats = Arc::new(Stats::default());
    let store = Failing { panics: Arc::clone(&panics), kept: Arc::clone(&kept), ..Failing::default() };
    let mut keeper = Keeper::start(Box::new(store), Arc::clone(&stats)).unwrap();
    keeper.add(Change::Incarnation(3));
    keeper.flush();
    wait_for("the failure", || get(&stats.store_errors) > 0);
    keeper.add(Change::Host(Box::new(host(1))));
    keeper.finish();
    assert_eq!(*kept.lock().unwrap(), [Change::Incarnation(3), Change::Host(Box::new(host(1)))]);
    assert_eq!((get(&stats.store_errors), get(&stats.store_lost)), (1, 0));
}

fn forget(network: NetworkId, n: u32) -> Change {
    let mut bytes = [0x40; 32];
    bytes[4..8].copy_from_slice(&n.to_be_bytes());
    Change::ForgetHost { network, key: PublicKey::new(bytes).unwrap() }
}

#[test]
fn a_disk_that_fails_for_good_takes_no_more_memory_than_there_may_be_and_what_is_lost_is_counted() {
    let stats = Arc::new(Stats::default());
    let store = Failing { fails: Arc::new(AtomicBool::new(true)), ..Failing::default() };
    let mut keeper = Keeper::start(Box::new(store), Arc::clone(&stats)).unwrap();
    let network = host(1).network;
    keeper.add(forget(network, u32::MAX));
    while get(&stats.store_errors) == 0 {
        keeper.flush();
        std::thread::yield_now();
    }
    for n in 0..(1 << 18) + 1000 {
        keeper.add(forget(network, n));
        if n == 10 {
            // One batch more waits in the queue.
            keeper.flush();
        }
    }
    // A later change of a thing that waits takes no room.
    keeper.add(forget(network, 100));
    keeper.flush();
    let counts = [&stats.store_waiting, &stats.store_taken, &stats.store_lost].map(get);
    assert_eq!(counts, [1 << 18, 12, 989]);
    keeper.finish();
    assert_eq!(get(&stats.store_lost), (1 << 18) + 1001);
}

/// A file whose disk fails as long as it is told to.
#[derive(Debug)]
struct FailingFile {
    file: redb::backends::FileBackend,
    fails: Arc<AtomicBool>,
}

impl FailingFile {
    fn check(&self) -> std::io::Result<()> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl redb::StorageBackend for FailingFile {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> std::io::Result<()> {
        self.file.close()
    }
}

/// A database that has met an error does nothing any more: it has to be opened anew.
#[test]
fn a_file_that_could_not_be_written_can_be_later() {
    let dir = tempfile::tempdir().unwrap();
    FileStore::open(dir.path()).unwrap().apply(&[Change::Incarnation(7)]).unwrap();
    let (path, fails) = (dir.path().join(FILE), Arc::new(AtomicBool::new(false)));
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let file = redb::backends::FileBackend::new(file).unwrap();
    let database = Database::builder().create_with_backend(FailingFile { file, fails: Arc::clone(&fails) }).unwrap();
    let mut store = FileStore::on(database, path.clone());
    store.apply(&[Change::Host(Box::new(host(1)))]).unwrap();
    fails.store(true, Ordering::Relaxed);
    assert!(store.apply(&[Change::Host(Box::new(host(2)))]).is_err());
    fails.store(false, Ordering::Relaxed);
    store.apply(&[Change::Host(Box::new(host(2))), Change::Relay(relay(1))]).unwrap();
    let saved = store.load().unwrap();
    assert_eq!((saved.incarnation, saved.hosts.len(), saved.relays.len()), (7, 2, 1));
}

fn numbers() -> metrics::Numbers {
    let settings = wavnet_proto::rendezvous::Settings::new(vec![Network::new(
        NetworkKey::generate(&mut Rng::from_seed([1; 32])).access(),
    )]);
    let secret = SecretKey::generate(&mut Rng::from_seed([2; 32]));
    let key = secret.public();
    let server = Rendezvous::new(settings, secret, Saved::default(), [3; 32], Time::ZERO);
    let config = RendezvousConfig { listen: vec!["192.0.2.1:4789".parse().unwrap()], ..RendezvousConfig::new() };
    let facts = Facts { key, config, source: "test".into(), started: SystemTime::now(), metrics: None };
    let shown = Shown { view: server.view(), relay: RelayTotals::default(), relay_name: "user-space" };
    let counts = RelayCount::ALL.map(|what| (what, 1000 + what as u64)).to_vec();
    let kernel = Report { interface: Some("eth0".into()), counts, ..Report::default() };
    metrics::Numbers { facts: Arc::new(facts), shown, kernel, stats: Arc::new(Stats::default()), reloads: (1, 0) }
}

#[test]
fn docs_list_exactly_the_metrics_there_are() {
    let text = numbers().render().unwrap();
    let rendered: BTreeSet<_> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let docs = include_str!("../../../docs/metrics.md");
    let documented = docs.lines().filter_map(|l| {
        let (name, rest) = l.strip_prefix("| `")?.split_once("` | ")?;
        let kind = rest.split(" | ").next()?;
        (name.starts_with("wavnet_rendezvous_") || name == "wavnet_build_info").then_some((name, kind))
    });
    assert_eq!(rendered, documented.collect());
    let line = docs.lines().find(|l| l.contains("wavnet_rendezvous_relay_kernel_datagrams_total")).unwrap();
    for what in RelayCount::ALL {
        let name = what.as_str();
        assert_eq!(line.contains(&format!("`{name}`")), !what.is_bytes(), "{name}");
        assert_eq!(text.contains(&format!("what=\"{name}\"")), !what.is_bytes(), "{name}");
    }
}

#[test]
fn status_counts_what_the_metrics_count() {
    let mut numbers = numbers();
    stats::add(&numbers.stats.stun_answered, 5);
    stats::add(&numbers.stats.stun_too_fast, 3);
    numbers.shown.relay.stun_too_fast = 4;
    stats::add(&numbers.stats.not_sent, 2);
    let status = view::status(&numbers.facts, &numbers.shown, &numbers.kernel, &numbers.stats, vec![]);
    let left = RelayCount::LeftToServer;
    assert_eq!(status.relay_kernel.counters[left.as_str()], 1000 + left as u64);
    assert_eq!((status.counters.stun_answered, status.counters.stun_too_fast), (5, 7));
    assert_eq!((status.counters.dropped, status.relay.as_str()), (9, "user-space"));
    let text = numbers.render().unwrap();
    for line in [
        r#"wavnet_rendezvous_stun_total{result="success",by="user"} 5"#,
        r#"wavnet_rendezvous_stun_total{result="too_fast",by="user"} 3"#,
        r#"wavnet_rendezvous_stun_total{result="too_fast",by="xdp"} 4"#,
        r#"wavnet_rendezvous_drops_total{reason="not_sent"} 2"#,
        r#"wavnet_rendezvous_reloads_total{result="ok"} 1"#,
        r#"wavnet_rendezvous_relay_mode{mode="user-space"} 1"#,
        r#"wavnet_rendezvous_relay_mode{mode="xdp-driver"} 0"#,
        r#"wavnet_rendezvous_relay_kernel_datagrams_total{what="relayed_by_xdp"} 1000"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    }
}
