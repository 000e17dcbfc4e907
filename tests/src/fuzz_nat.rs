//! What the fuzz targets `stun` and `nat` do with their input. Each panics on a finding.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    num::NonZeroU32,
    time::Duration,
};

use wavnet_common::abi::relay::StunSource;
use wavnet_proto::{
    nat::{self, Classifier, LifetimeSearch, NatSummary, Options, StunServer},
    stun::{
        Attribute, Builder, Class, Message,
        server::{LONGEST_ANSWER, Responder},
    },
    time::Time,
    transmit::{Socket, Transmit},
};

fn stun_server(ports: bool, ips: bool, ipv6: bool) -> Option<Responder> {
    let ips_of = |v6: bool| if v6 { ["2001:db8::1", "2001:db8::2"] } else { ["192.0.2.1", "192.0.2.2"] };
    let [main, other] = ips_of(ipv6).map(|ip| ip.parse().ok());
    Responder::new(SocketAddr::new(main?, 3478), (ports || ips).then_some(3479), other.filter(|_| ips)).ok()
}

/// A datagram to a STUN server: whatever it is, its answer is a message, and not much longer. The first byte: 3 the socket
/// that it came by, 4 a second port, 8 a second address, 16 IPv6. And the same bytes as moments at which a source asks.
pub fn stun(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else { return };
    answers_at(u32::from(*flags) + 1, bytes);
    let parsed = Message::parse(bytes);
    if let Ok(message) = &parsed {
        let attributes: Vec<_> = message.attributes().filter_map(|a| a.decode(&message.id).ok()).collect();
        let attributes: Vec<_> = attributes.into_iter().filter(|a| !matches!(a, Attribute::Fingerprint(_))).collect();
        // RFC 3489's have no padding, so what we write is not always what was read.
        if !message.id.is_legacy() {
            let again = Builder::message(message.class, message.id, &attributes).expect("what was read fits");
            let again = Message::parse(&again).expect("what is written can be read");
            let read: Vec<_> = again.attributes().filter_map(|a| a.decode(&again.id).ok()).collect();
            assert_eq!(read, attributes);
        }
    }
    let Some(server) = stun_server(flags & 4 != 0, flags & 8 != 0, flags & 16 != 0) else { return };
    let by = [Socket::Main, Socket::Other(1), Socket::Other(2), Socket::Other(3)][usize::from(flags & 3)];
    let source = SocketAddr::from(([198, 51, 100, 7], 40000));
    let mut out = [0; LONGEST_ANSWER];
    if let Ok(answer) = server.respond(by, source, bytes, &mut out) {
        let reply = Message::parse(&out[..answer.len]).expect("an answer is a message");
        assert_eq!(Some(reply.id), parsed.ok().map(|request| request.id));
        assert_eq!(reply.class, if answer.error.is_some() { Class::Error } else { Class::Success });
        assert!(server.origin(answer.from).is_some() && answer.to.ip() == source.ip());
        assert!(answer.len <= bytes.len() + 104, "{} bytes for {}", answer.len, bytes.len());
    }
}

/// A source that may have so many answers a second, and asks at moments of four bytes each: it gets no more than that, in whatever order
/// they come.
fn answers_at(per_second: u32, moments: &[u8]) {
    // A second is 2^20 of them.
    let moments = moments.as_chunks().0.iter().map(|moment| u64::from(u32::from_be_bytes(*moment)) * 954);
    let (source, answer_ns) = (StunSource::default(), StunSource::answer_ns(NonZeroU32::new(per_second)));
    let answered = moments.clone().filter(|now| source.admits(answer_ns, *now)).count() as u64;
    let span = moments.clone().max().zip(moments.min()).map_or(0, |(last, first)| last - first);
    assert!(answered * u64::from(answer_ns) <= 1_000_000_000 + span, "{answered} in {span} ns");
}

/// The shell, network and servers of a classifier, all as the fuzzer likes. The first byte: 1 without sockets, 2 with the
/// lifetime, 4 a shell that tells of no socket by itself, upper half: how many servers. Then steps: a kind of step, and
/// what it takes.
pub fn nat(data: &[u8]) {
    let mut data = data.iter().copied();
    let Some(flags) = data.next() else { return };
    let server = |n| StunServer { address: SocketAddr::from(([192, 0, 2, n], 3478)), others: Vec::new() };
    let servers: Vec<_> = (1..=flags >> 4).map(server).collect();
    let search = LifetimeSearch { rounds: 3, ..LifetimeSearch::default() };
    let options = Options { lifetime: (flags & 2 != 0).then_some(search), ..Options::default() };
    let mut drawn = 0_u64;
    let random = Box::new(move |bytes: &mut [u8]| {
        drawn += 1;
        bytes.iter_mut().zip(drawn.to_be_bytes().iter().cycle()).for_each(|(b, n)| *b = *n);
    });
    let local = SocketAddr::from(([10, 0, 0, 2], 4789));
    let mut world = NatWorld { sockets: flags & 1 == 0, forgetful: flags & 4 != 0, ..NatWorld::default() };
    let mut classifier = Classifier::new(world.now, local, &servers, options, random);
    while let Some(kind) = data.next() {
        world.drain(&mut classifier);
        world.step(&mut classifier, kind, &mut data);
    }
    // Nothing more comes: it comes to an end by itself.
    for _ in 0..20_000 {
        world.drain(&mut classifier);
        let Some(next) = classifier.poll_timeout() else { break };
        world.now = next.max(world.now);
        classifier.handle_timeout(world.now);
        assert!(classifier.poll_timeout().is_none_or(|t| t > world.now), "a timeout that does not pass");
    }
    assert!(world.finished && classifier.poll_timeout().is_none(), "it does not end");
    assert!(world.open.is_empty(), "sockets are left open");
    assert!(world.count < 5_000, "{} datagrams", world.count);
}

#[derive(Default)]
struct NatWorld {
    now: Time,
    sockets: bool,
    forgetful: bool,
    open: BTreeSet<u16>,
    /// The last ones that were sent.
    sent: VecDeque<Transmit>,
    count: usize,
    finished: bool,
}

impl NatWorld {
    fn drain(&mut self, classifier: &mut Classifier) {
        loop {
            if let Some(event) = classifier.poll_event() {
                let last = matches!(event, nat::Event::CloseSocket(_));
                assert!(!self.finished || last, "nothing comes after the end");
                match event {
                    nat::Event::OpenSocket(_) if self.forgetful => {}
                    nat::Event::OpenSocket(n) => {
                        classifier.handle_socket(self.now, n, self.sockets);
                        assert!(!self.sockets || self.open.insert(n), "open already");
                    }
                    nat::Event::CloseSocket(n) => assert!(self.open.remove(&n), "not open"),
                    nat::Event::Report(report) => {
                        assert_eq!(NatSummary::decode(report.summary.encode()), report.summary);
                        assert!(report.notes.iter().all(|n| !n.to_string().is_empty()));
                    }
                    nat::Event::Finished => self.finished = true,
                }
            } else if let Some(transmit) = classifier.poll_transmit() {
                assert!(
                    matches!(transmit.from, Socket::Extra(n) if self.open.contains(&n))
                        || transmit.from == Socket::Main
                );
                self.count += 1;
                self.sent.push_front(transmit);
                self.sent.truncate(32);
            } else {
                return;
            }
        }
    }

    fn step(&mut self, classifier: &mut Classifier, kind: u8, data: &mut impl Iterator<Item = u8>) {
        let mut byte = || data.next().unwrap_or_default();
        match kind % 8 {
            0 => {
                self.now = classifier.poll_timeout().unwrap_or_default().max(self.now);
                classifier.handle_timeout(self.now);
            }
            1 => {
                self.now += Duration::from_millis(10) * u32::from(byte()) * u32::from(byte());
                classifier.handle_timeout(self.now);
            }
            2 => {
                let (number, opened) = (byte().into(), byte() & 1 != 0);
                // The shell does not open what is open.
                if !self.open.contains(&number) {
                    classifier.handle_socket(self.now, number, opened);
                    if opened {
                        self.open.insert(number);
                    }
                }
            }
            3 => {
                let len = byte().into();
                let bytes: Vec<u8> = data.take(len).collect();
                classifier.handle_input(self.now, Socket::Main, SocketAddr::from(([192, 0, 2, 1], 3478)), &bytes);
            }
            // An answer to one of the last requests, from one of the places that it may come from.
            _ => {
                let Some(request) = self.sent.get(usize::from(byte() & 31)).cloned() else { return };
                let (flags, mapped) = (byte(), SocketAddr::from(([198, 51, 100, byte() & 3], byte().into())));
                let id = Message::parse(&request.payload).expect("a request").id;
                let class = [Class::Success, Class::Success, Class::Error, Class::Request][usize::from(flags & 3)];
                let other = SocketAddr::from(([192, 0, 2, 100], 3479));
                let mut attributes = vec![Attribute::XorMappedAddress(mapped)];
                attributes.extend((flags & 4 != 0).then_some(Attribute::OtherAddress(other)));
                attributes.extend((flags & 2 != 0).then_some(Attribute::ErrorCode { code: 420, reason: "" }));
                let answer = Builder::message(class, id, &attributes).expect("short");
                let from = match flags >> 3 & 3 {
                    0 | 1 => request.to,
                    2 => other,
                    _ => SocketAddr::new(request.to.ip(), 3479),
                };
                let socket = if flags & 32 != 0 { Socket::Extra(flags.into()) } else { request.from };
                let socket = if flags & 64 != 0 { Socket::Extra(byte().into()) } else { socket };
                classifier.handle_input(self.now, socket, from, &answer);
            }
        }
    }
}
