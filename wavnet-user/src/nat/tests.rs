use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use wavnet_proto::{
    nat::{Note, PaperType, Report},
    rng::Rng,
    stun::server::{LONGEST_ANSWER, Responder},
    transmit::Socket,
};

use super::*;
use crate::{api::model::NatInfo, testing::Namespace};

/// A STUN server on two addresses of this host with two ports each, until it is dropped.
struct Server {
    main: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start() -> Server {
        Server::at("127.0.0.2", "127.0.0.3")
    }

    fn at(one: &str, two: &str) -> Server {
        // Two ports that are free on both addresses.
        let mut pairs = Vec::new();
        while pairs.len() < 2 {
            let one = UdpSocket::bind((one, 0)).unwrap();
            let port = one.local_addr().unwrap().port();
            pairs.extend(UdpSocket::bind((two, port)).ok().map(|other| (port, one, other)));
        }
        let [(port, main, other_ip), (other_port, other, both)] = pairs.try_into().unwrap();
        let main_at = main.local_addr().unwrap();
        let responder = Responder::new(main_at, Some(other_port), Some(two.parse().unwrap())).unwrap();
        let sockets = Arc::new([main, other, other_ip, both]);
        let stop = Arc::new(AtomicBool::new(false));
        for n in 0..4 {
            let (sockets, stop, responder) = (Arc::clone(&sockets), Arc::clone(&stop), responder.clone());
            sockets[n].set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            thread::spawn(move || {
                let (mut packet, mut out) = ([0; 2048], [0; LONGEST_ANSWER]);
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, from)) = sockets[n].recv_from(&mut packet) else { continue };
                    let by = if n == 0 { Socket::Main } else { Socket::Other(n as u8) };
                    let Ok(answer) = responder.respond(by, from, &packet[..len], &mut out) else { continue };
                    let exit = match answer.from {
                        Socket::Other(n) => usize::from(n),
                        _ => 0,
                    };
                    sockets[exit].send_to(&out[..answer.len], answer.to).unwrap();
                }
            });
        }
        assert_eq!(port, main_at.port());
        Server { main: main_at, stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn asked(servers: &[&str]) -> Asked {
    Asked { servers: servers.iter().map(|s| s.parse().unwrap()).collect(), ..Asked::default() }
}

fn begin(asked: &Asked) -> Result<Vec<Session>, NatError> {
    block_on(open(asked, &mut Rng::from_seed([7; 32]))).map(|(sessions, _)| sessions)
}

/// All that a single session tells, and its last report in words.
fn classified(asked: &Asked) -> (Vec<Report>, NatInfo) {
    block_on(async {
        let (mut sessions, unresolved) = open(asked, &mut Rng::from_seed([7; 32])).await.unwrap();
        let session = &mut sessions[0];
        let mut reports = Vec::new();
        while let Told::Report(report) = session.next().await {
            reports.push(*report);
        }
        let info = session.info(reports.last().unwrap(), &unresolved);
        (reports, info)
    })
}

#[test]
fn without_a_nat_a_host_is_open() {
    let server = Server::start();
    let (reports, info) = classified(&asked(&[&server.main.to_string(), "nosuch.invalid"]));
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((report.paper_type(), report.mapped), (PaperType::Open, Some(report.local)));
    assert_eq!(report.server, Some(server.main));
    assert_eq!((info.kind.as_str(), info.family.as_str(), info.situation.as_str()), ("open", "ipv4", "direct"));
    assert_eq!((info.mapping.as_str(), info.filtering.as_str()), ("endpoint-independent", "endpoint-independent"));
    let codes: Vec<_> = info.notes.iter().map(|note| note.code.as_str()).collect();
    assert_eq!(codes, ["unresolved"], "{:?}", info.notes);
}

#[test]
fn a_server_that_is_silent_is_told_and_one_that_answers_is_used() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let (reports, info) = classified(&asked(&[&silent]));
    assert_eq!(reports[0].paper_type(), PaperType::Blocked);
    assert_eq!(reports[0].notes, [Note::Silent(silent.parse().unwrap())]);
    assert!(info.mapped.is_none() && !info.notes[0].help.is_empty(), "{info:?}");
    let server = Server::start();
    let (reports, _) = classified(&asked(&[&silent, &server.main.to_string()]));
    assert_eq!(reports[0].paper_type(), PaperType::Open);
}

#[test]
fn a_runner_takes_what_is_its_own_and_nothing_else() {
    let server = Server::start();
    block_on(async {
        let main = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let exit = Exit { local: main.local_addr().unwrap(), device: None };
        let stun = wavnet_proto::nat::StunServer { address: server.main, others: Vec::new() };
        let mut runner = Runner::new(exit, &[stun], wavnet_proto::nat::Options::default(), Rng::from_seed([9; 32]));
        assert!(!runner.handle_main(server.main, b"W not STUN"));
        let (mut packet, mut own) = ([0; 2048], 0);
        let report = loop {
            tokio::select! {
                step = runner.next() => match step {
                    Step::Send { to, payload } => _ = main.send_to(&payload, to).await.unwrap(),
                    Step::Report(report) => break report,
                    Step::Finished => panic!("no report"),
                },
                received = main.recv_from(&mut packet) => {
                    let (len, from) = received.unwrap();
                    own += usize::from(runner.handle_main(from, &packet[..len]));
                }
            }
        };
        assert_eq!(report.paper_type(), PaperType::Open);
        assert!(own >= 4, "{own} datagrams of the main socket were its own");
        assert!(matches!(runner.next().await, Step::Finished));
        runner.handle_unsent(server.main, std::io::ErrorKind::WouldBlock.into());
        assert!(runner.unsent().is_none());
    });
}

#[test]
fn what_stands_in_the_way_is_said_before_anything_is_sent() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let with = |exit: ExitChoice| begin(&Asked { exit, ..asked(&["127.0.0.2:3478"]) }).unwrap_err();
    let listen = |at: &str| with(ExitChoice { listen: Some(at.parse().unwrap()), ..ExitChoice::default() });
    let in_use = listen(&taken.local_addr().unwrap().to_string());
    assert!(matches!(in_use, NatError::InUse(_)), "{in_use:?}");
    let not_ours = listen("192.0.2.77:5000");
    assert!(matches!(not_ours, NatError::NotOurs(_)), "{not_ours:?}");
    let family = listen("[::]:0");
    assert!(matches!(family, NatError::NoServer("IPv6")), "{family:?}");
    let interface = with(ExitChoice { interface: Some("nosuch0".into()), ..ExitChoice::default() });
    assert!(matches!(&interface, NatError::NoInterface(name) if name == "nosuch0"), "{interface:?}");
    for error in [in_use, not_ours, family, interface] {
        assert!(!error.help().is_empty());
    }
}

#[test]
fn without_a_route_there_is_no_classification() {
    let Some(ns) = Namespace::new() else { return };
    ns.run(|| {
        for server in ["192.0.2.1:3478", "[2001:db8::1]:3478"] {
            let error = begin(&asked(&[server])).unwrap_err();
            assert!(
                matches!(&error, NatError::Unreachable { server: at, .. } if at.to_string() == server),
                "{error:?}"
            );
        }
    });
}

/// Both families at once, by one list of servers.
#[test]
fn ipv6_is_classified_beside_ipv4() {
    let Some(ns) = Namespace::new() else { return };
    for words in ["link set lo up", "addr add 2001:db8::1/128 dev lo nodad", "addr add 2001:db8::2/128 dev lo nodad"] {
        ns.ip(words);
    }
    ns.run(|| {
        let servers = [Server::start(), Server::at("2001:db8::1", "2001:db8::2")];
        let [four, six] = [&servers[0], &servers[1]].map(|server| server.main.to_string());
        let both = asked(&[&four, &six]);
        assert_eq!(begin(&both).unwrap().iter().map(|s| s.family).collect::<Vec<_>>(), Family::ALL);
        let (reports, info) = classified(&Asked { family: Some(Family::V6), ..both });
        assert_eq!(
            (info.family.as_str(), info.kind.as_str(), info.filtering.as_str()),
            ("ipv6", "open", "endpoint-independent")
        );
        assert!(
            reports[0].local.is_ipv6() && reports[0].mapped == Some(reports[0].local) && info.notes.is_empty(),
            "{info:?}"
        );
        // lo is an interface like others, and the way is bound to it.
        let exit = ExitChoice { interface: Some("lo".into()), ..ExitChoice::default() };
        let (_, info) = classified(&Asked { exit, ..asked(&[&six]) });
        assert_eq!(info.kind, "open", "{info:?}");
    });
}

#[test]
fn a_port_on_the_address_of_the_route_can_be_asked_for() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = Some(SocketAddr::from(([0, 0, 0, 0], free)));
    let exit = ExitChoice { listen, ..ExitChoice::default() };
    let (_, exit) = exit.towards("127.0.0.2:3478".parse().unwrap()).unwrap();
    assert_eq!(exit.local, SocketAddr::from(([127, 0, 0, 1], free)));
}

#[test]
fn documented_output_has_the_documented_shape() {
    let docs = include_str!("../../../docs/api.md");
    let block = docs.split("```json nat\n").nth(1).unwrap().split("```").next().unwrap();
    for line in block.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let infos: Vec<NatInfo> = serde_json::from_value(value["nat"].clone()).unwrap();
        assert!(!infos.is_empty());
        assert_eq!(serde_json::json!({ "nat": infos }), value);
    }
}
