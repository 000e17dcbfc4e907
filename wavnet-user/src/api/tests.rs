use std::{
    collections::BTreeSet,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use proptest::prelude::*;
use serde_json::Value;
use tokio::sync::{broadcast, mpsc};
use wavnet_common::addr::{Mac, Vni};

use super::{
    model::{FdbChange, FdbEntry, FdbEvent, FdbKind, PlaceInfo},
    protocol::{RequestLine, ResponseLine},
    *,
};

const DOCS: &str = include_str!("../../../docs/api.md");

/// Lines of the documentation's code blocks of a kind.
fn examples(kind: &str) -> Vec<&'static str> {
    let fence = format!("```json {kind}\n");
    DOCS.split(fence.as_str()).skip(1).flat_map(|b| b.split("```").next().unwrap().lines()).collect()
}

#[test]
fn documented_requests_have_the_documented_shape() {
    let mut names = BTreeSet::new();
    for line in examples("request") {
        let request = RequestLine::parse(line.as_bytes()).unwrap_or_else(|e| panic!("{line}: {e}"));
        names.insert(request.name());
        let again = serde_json::to_value(RequestLine { v: 1, request }).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(line).unwrap());
    }
    let requests = DOCS.split("## Answers").next().unwrap();
    let table: BTreeSet<_> =
        requests.lines().filter_map(|l| l.strip_prefix("| `")?.split_once("` | `")).map(|(n, _)| n).collect();
    assert_eq!(names, table, "the table of requests and the examples name the same");
    assert_eq!(names.len(), 16);
}

#[test]
fn documented_answers_have_the_documented_shape() {
    let mut kinds = BTreeSet::new();
    for line in examples("response") {
        let response: ResponseLine = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_value(&response).unwrap(), value);
        kinds.extend(value["ok"].as_object().into_iter().flat_map(|o| o.keys().cloned()));
    }
    let all = ["done", "drops", "event", "fdb", "mesh", "peers", "ports", "rendezvous", "status"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn bad_lines_say_what_is_wrong() {
    let refused = |line: &str| RequestLine::parse(line.as_bytes()).expect_err(line);
    assert_eq!(refused("{\"v\":2,\"request\":\"status\"}").code, ErrorCode::UnsupportedVersion);
    for (line, says) in [
        ("nonsense", "not a request"),
        ("[]", "not a request"),
        ("{\"request\":\"status\"}", "`v`"),
        ("{\"v\":1,\"request\":\"dance\"}", "unknown variant"),
        ("{\"v\":1,\"request\":\"fdb\",\"vnl\":3}", "unknown field"),
        ("{\"v\":1,\"request\":\"fdb\",\"vni\":0}", "not a VNI"),
        ("{\"v\":1,\"request\":\"fdb_remove\",\"vni\":1,\"mac\":\"zz\"}", "not a MAC"),
        ("{\"v\":1,\"request\":\"peer_add\",\"address\":\"::1\",\"vnis\":[1]}", "IPv4"),
    ] {
        let refusal = refused(line);
        assert_eq!(refusal.code, ErrorCode::BadRequest);
        assert!(refusal.message.contains(says), "{line}: {}", refusal.message);
    }
}

proptest! {
    #[test]
    fn random_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = RequestLine::parse(&line);
    }

    #[test]
    fn mutated_requests_never_panic(n in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let lines = examples("request");
        let mut line = lines[n.index(lines.len())].as_bytes().to_vec();
        let at = at.index(line.len());
        line[at] = byte;
        let _ = RequestLine::parse(&line);
    }
}

fn entry(n: u64) -> FdbEntry {
    FdbEntry {
        vni: Vni::new(100).unwrap(),
        mac: Mac::from_u64(0x5254_0000_0000 + n),
        place: PlaceInfo::Port(format!("tap{}", n % 2)),
        kind: FdbKind::Learned,
        age_s: Some(n),
        epoch: 0,
    }
}

#[test]
fn filters_hold_together() {
    let all = FdbFilter::default();
    assert!(all.matches(&entry(0)));
    let port = FdbFilter { port: Some("tap1".into()), ..all.clone() };
    assert!(!port.matches(&entry(0)) && port.matches(&entry(1)));
    assert!(!FdbFilter { mac: Some(entry(3).mac), ..port }.matches(&entry(1)));
    assert!(!FdbFilter { peer: Some([192, 0, 2, 1].into()), ..all.clone() }.matches(&entry(0)));
    assert!(!FdbFilter { vni: Some(Vni::new(1).unwrap()), ..all }.matches(&entry(0)));
}

/// A server with a loop that answers `fdb` with `entries`, and drops what it does not know.
struct Bench {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    events: broadcast::Sender<FdbEvent>,
    server: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn new(limits: Limits, entries: u64) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (calls, mut queue) = mpsc::channel::<Call>(4);
        let server = {
            let _in = runtime.enter();
            Server::bind(&dir.path().join("run/agent.sock"), 0o600, None).unwrap().with_limits(limits)
        };
        let server = runtime.spawn(server.run(calls));
        let (events, _) = broadcast::channel(16);
        let sender = events.clone();
        runtime.spawn(async move {
            while let Some(call) = queue.recv().await {
                let answer = match call.request {
                    Request::Fdb(_) => Response::Fdb((0..entries).map(entry).collect()).into(),
                    Request::Watch => Answer::Events(sender.subscribe()),
                    Request::Detach => return,
                    _ => continue,
                };
                call.reply.send(Ok(answer)).unwrap();
            }
        });
        Bench { dir, runtime, events, server }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }

    fn client(&self) -> Client {
        Client::connect(&self.path()).unwrap()
    }
}

#[test]
fn long_answers_come_whole_and_in_order() {
    let bench = Bench::new(Limits { part: 7, ..Limits::default() }, 100);
    let mut client = bench.client();
    for _ in 0..2 {
        let Response::Fdb(entries) = client.call(&Request::Fdb(FdbFilter::default())).unwrap() else { panic!() };
        assert_eq!(entries, (0..100).map(entry).collect::<Vec<_>>());
    }
}

#[test]
fn an_empty_list_is_an_answer() {
    let bench = Bench::new(Limits::default(), 0);
    assert_eq!(bench.client().call(&Request::Fdb(FdbFilter::default())).unwrap(), Response::Fdb(vec![]));
}

#[test]
fn an_unanswered_call_and_a_stopped_agent_are_told_apart_from_a_crash() {
    let bench = Bench::new(Limits::default(), 0);
    let e = bench.client().call(&Request::Status).unwrap_err();
    assert!(matches!(e, ClientError::Refused(Refusal { code: ErrorCode::Stopping, .. })), "{e:?}");
    // The loop ends, so the server ends, with idle clients connected, and takes its socket away.
    let _idle = bench.client();
    assert!(bench.client().call(&Request::Detach).is_err());
    bench.runtime.block_on(bench.server).unwrap();
    let path = bench.dir.path().join("run/agent.sock");
    assert!(!path.exists());
    assert!(matches!(Client::connect(&path), Err(ClientError::NotRunning(_))));
}

#[test]
fn events_reach_a_watching_client() {
    let bench = Bench::new(Limits::default(), 0);
    let event = FdbEvent {
        event: FdbChange::Learned,
        vni: Vni::new(100).unwrap(),
        mac: Mac([0x52, 0x54, 0, 0, 0, 1]),
        from: None,
        to: Some(PlaceInfo::Port("tap0".into())),
    };
    let client = bench.client();
    let (sender, sent) = (bench.events.clone(), event.clone());
    let feeder = std::thread::spawn(move || {
        while sender.receiver_count() == 0 {
            std::thread::yield_now();
        }
        sender.send(sent.clone()).unwrap();
        sender.send(sent).unwrap();
    });
    let mut seen = Vec::new();
    client
        .watch(|e| {
            seen.push(e);
            seen.len() < 2
        })
        .unwrap();
    feeder.join().unwrap();
    assert_eq!(seen, [event.clone(), event]);
}

fn raw(path: &Path, send: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    // The server may hang up before it has read everything.
    let _ = stream.write_all(send);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn bad_clients_are_refused_and_others_served() {
    let bench = Bench::new(Limits { line: 1000, ..Limits::default() }, 1);
    assert!(raw(&bench.path(), b"\xff\xfe\n").contains("bad_request"));
    assert!(raw(&bench.path(), &[b'x'; 1000]).contains("at most 1000 bytes"));
    let two = raw(&bench.path(), b"junk\n\n{\"v\":1,\"request\":\"fdb\"}\n");
    assert_eq!(two.lines().count(), 2, "an error does not end the connection: {two}");
}

#[test]
fn clients_beyond_the_limit_are_told_so() {
    let bench = Bench::new(Limits { connections: 2, ..Limits::default() }, 1);
    let (mut a, mut b) = (bench.client(), bench.client());
    a.call(&Request::Fdb(FdbFilter::default())).unwrap();
    b.call(&Request::Fdb(FdbFilter::default())).unwrap();
    let e = bench.client().call(&Request::Status).unwrap_err();
    assert!(matches!(e, ClientError::Refused(Refusal { code: ErrorCode::Busy, .. })), "{e:?}");
    a.call(&Request::Fdb(FdbFilter::default())).unwrap();
}

#[test]
fn a_silent_client_is_cut_off() {
    let bench = Bench::new(Limits { idle: Duration::from_millis(20), ..Limits::default() }, 1);
    let mut silent = UnixStream::connect(bench.path()).unwrap();
    let mut rest = Vec::new();
    assert_eq!(silent.read_to_end(&mut rest).unwrap(), 0);
}

#[test]
fn the_socket_has_its_permissions_and_its_place() {
    let bench = Bench::new(Limits::default(), 0);
    let mode = std::fs::metadata(bench.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let _in = bench.runtime.enter();
    assert!(matches!(Server::bind(&bench.path(), 0o600, None), Err(BindError::InUse(_))));
    let file = bench.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(Server::bind(&file, 0o600, None), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let nobody = Server::bind(&bench.dir.path().join("x.sock"), 0o600, Some("no-such-group"));
    assert!(matches!(nobody, Err(BindError::Group(_))));
    // What a killed agent leaves is replaced.
    let stale = bench.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    Server::bind(&stale, 0o660, None).unwrap();
}
