//! A rendezvous server that lies: a scenario says what it tells its hosts.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use wavnet_proto::{
    rng::Rng,
    time::Time,
    transmit::{Socket, Transmit},
    trust::{AccessKey, CookieJar, Psk, PublicKey, Responder, SecretKey, Session},
    wire::{
        Datagram, Label, Message, Messages, NatSummary, Writer,
        message::{self, Forward, Invite, Page},
    },
};
use wavnet_sim::Node;

/// It takes in whoever has the access key, and says nothing true by itself.
pub(crate) struct Liar {
    secret: SecretKey,
    access: AccessKey,
    jar: CookieJar,
    rng: Rng,
    hosts: BTreeMap<u32, Registered>,
    /// Where it says that hosts are; `None`: where they are.
    pub(crate) mapped: Option<SocketAddr>,
    /// It says each time that they are at another port.
    pub(crate) restless: bool,
    /// Its directory: so many hosts that do not exist.
    pub(crate) invented: u32,
    /// What its hosts have asked to be forwarded.
    pub(crate) forwards: Vec<Asked>,
    out: VecDeque<Transmit>,
}

/// A host that it has taken in.
struct Registered {
    key: PublicKey,
    session: Session,
    addr: SocketAddr,
}

/// A datagram that a host wants to be forwarded, and to whom.
pub(crate) struct Asked {
    pub(crate) from: PublicKey,
    pub(crate) to: PublicKey,
    pub(crate) datagram: Vec<u8>,
}

/// A key that nobody has. The first byte of all is the highest: every host begins with them.
pub(crate) fn invented(n: u32) -> PublicKey {
    let mut bytes = [0x40; 32];
    bytes[4..8].copy_from_slice(&n.to_be_bytes());
    PublicKey::new(bytes).expect("a point")
}

impl Liar {
    pub(crate) fn new(access: AccessKey, mut rng: Rng) -> Liar {
        Liar {
            secret: SecretKey::generate(&mut rng),
            access,
            jar: CookieJar::new(rng.fork()),
            rng,
            hosts: BTreeMap::new(),
            mapped: None,
            restless: false,
            invented: 0,
            forwards: Vec::new(),
            out: VecDeque::new(),
        }
    }

    /// Says this to all its hosts.
    pub(crate) fn say(&mut self, messages: &[Message]) {
        let indices: Vec<u32> = self.hosts.keys().copied().collect();
        indices.into_iter().for_each(|index| self.say_to(index, messages));
    }

    /// Says this to one of them.
    fn tell(&mut self, key: PublicKey, messages: &[Message]) {
        let index = self.hosts.iter().find(|(_, host)| host.key == key).map(|(index, _)| *index);
        self.say_to(index.expect("a host of its own"), messages);
    }

    /// Says to one of them that this datagram is of that host.
    pub(crate) fn hand_on(&mut self, to: PublicKey, of: PublicKey, datagram: &[u8]) {
        self.tell(to, &[Message::Forwarded(Forward { peer: of, datagram: datagram.to_vec() })]);
    }

    /// Brings one of them together with another one, and says where that is.
    pub(crate) fn invite(&mut self, to: PublicKey, peer: PublicKey) {
        let mapped = self.hosts.values().find(|host| host.key == peer).map(|host| host.addr);
        let invite = Invite {
            peer,
            label: Label::ZERO,
            flags: 0,
            nat: NatSummary::default(),
            mapped: mapped.expect("a host of its own"),
            candidates: Vec::new(),
        };
        self.tell(to, &[Message::Invite(invite)]);
    }

    fn say_to(&mut self, index: u32, messages: &[Message]) {
        let Registered { session, addr, .. } = self.hosts.get_mut(&index).expect("a session");
        let mut writer = Writer::new();
        messages.iter().for_each(|message| writer.push(message).expect("a message"));
        for plaintext in writer.finish() {
            let mut payload = Vec::new();
            session.seal(Label::ZERO, &plaintext, &mut payload).expect("a session that lasts");
            self.out.push_back(Transmit { from: Socket::Main, to: *addr, payload });
        }
    }

    fn hear(&mut self, index: u32, from: SocketAddr, message: Message) {
        let answer = match message {
            Message::Register(_) | Message::Refresh { .. } => {
                let request = match message {
                    Message::Register(register) => register.request,
                    Message::Refresh { request } => request,
                    _ => 0,
                };
                let mut mapped = self.mapped.unwrap_or(from);
                if self.restless {
                    mapped.set_port(self.rng.u32() as u16 | 1);
                }
                let version = u64::from(self.invented) + 1;
                Message::Registered(message::Registered {
                    request,
                    lease: 60,
                    mapped,
                    version,
                    stun: Vec::new(),
                    relay: true,
                })
            }
            Message::Sync(sync) => {
                let first = (0..self.invented).find(|n| sync.after.is_none_or(|after| invented(*n) > after));
                let (page, more) = page(first.unwrap_or(self.invented), self.invented);
                let version = u64::from(self.invented) + 1;
                Message::Page(Page { request: sync.request, version, more, entries: page })
            }
            Message::Forward(Forward { peer: to, datagram }) => {
                let host = self.hosts.get(&index).expect("who has said so");
                return self.forwards.push(Asked { from: host.key, to, datagram });
            }
            _ => return,
        };
        self.say_to(index, &[answer]);
    }
}

impl Node for Liar {
    fn handle_input(&mut self, now: Time, _: Socket, _: SocketAddr, from: SocketAddr, payload: &[u8]) {
        if let [first, second] = *payload {
            return self.out.push_back(Transmit { from: Socket::Main, to: from, payload: vec![first | 0x80, second] });
        }
        let Ok((_, datagram)) = Datagram::parse(payload) else { return };
        let responder = Responder::new(&self.secret, Psk::Access(&self.access));
        let answer = match datagram {
            Datagram::Hello(hello) => responder.answer_hello(&mut self.jar, now, from, &hello).ok(),
            Datagram::Init(init) => {
                let index = self.rng.u32();
                let request = responder.read_init(&self.jar, now, from, &init, &mut self.rng).ok();
                request.and_then(|request| {
                    let key = request.peer();
                    let (response, session) = request.respond(now, index, &[]).ok()?;
                    self.hosts.insert(index, Registered { key, session, addr: from });
                    Some(response)
                })
            }
            Datagram::Data(data) => {
                let mut plaintext = Vec::new();
                let opened = self.hosts.get_mut(&data.receiver).map(|h| h.session.open(&data, &mut plaintext).is_ok());
                if opened == Some(true) {
                    let messages: Vec<Message> = Messages::new(&plaintext).filter_map(Result::ok).collect();
                    messages.into_iter().for_each(|message| self.hear(data.receiver, from, message));
                }
                None
            }
            _ => None,
        };
        let answer = answer.map(|payload| Transmit { from: Socket::Main, to: from, payload });
        self.out.extend(answer);
    }

    fn handle_timeout(&mut self, _: Time) {}

    fn poll_timeout(&mut self) -> Option<Time> {
        None
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }
}

fn page(first: u32, end: u32) -> (Vec<wavnet_proto::wire::message::Entry>, bool) {
    use wavnet_proto::wire::message::{Entry, HostState};
    let last = end.min(first + 30);
    let entry = |n| Entry { key: invented(n), state: HostState::HERE, name: Default::default() };
    ((first..last).map(entry).collect(), last < end)
}
