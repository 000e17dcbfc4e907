//! For tests, fuzzers and load: an agent's side of what is said to a rendezvous server, as small as it can be.

use crate::{
    rng::Rng,
    time::Time,
    trust::{AccessKey, Initiation, NetworkId, Psk, PublicKey, SecretKey, Session},
    wire::{
        Candidate, Datagram, Label, Message, Messages, NatSummary, Unknown, Writer,
        message::{Connect, Forward, Name, Register, Sync},
    },
};

use super::{Network, Settings};
use crate::trust::NetworkKey;

/// What a client makes of a datagram.
#[derive(Debug, Default)]
pub struct Heard {
    /// To send back.
    pub replies: Vec<Vec<u8>>,
    /// What the server said.
    pub messages: Vec<Message>,
    /// The server does not know something that this client sent.
    pub unknown: Option<Unknown>,
    /// A handshake ended: there is a new session.
    pub is_connected: bool,
}

/// An agent, as far as a server is concerned.
pub struct Client {
    /// Its secret key.
    pub secret: SecretKey,
    access: AccessKey,
    rng: Rng,
    initiation: Option<Initiation>,
    /// Its session.
    pub session: Option<Session>,
    request: u32,
}

impl Client {
    /// An agent with a key of its own.
    #[must_use]
    pub fn new(access: AccessKey, mut rng: Rng) -> Client {
        Client { secret: SecretKey::generate(&mut rng), access, rng, initiation: None, session: None, request: 0 }
    }

    /// Its public key.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.secret.public()
    }

    /// Its network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.access.network()
    }

    /// Begins a handshake: HELLO.
    pub fn hello(&mut self) -> Vec<u8> {
        let index = self.rng.u32();
        let initiation = Initiation::start(&self.secret, Psk::Access(&self.access), index, &mut self.rng);
        let hello = initiation.hello_datagram();
        self.initiation = Some(initiation);
        hello
    }

    /// A datagram with messages, if there is a session.
    pub fn say(&mut self, messages: &[Message]) -> Option<Vec<u8>> {
        let mut writer = Writer::new();
        messages.iter().for_each(|message| writer.push(message).unwrap_or_default());
        let mut datagram = Vec::new();
        let plaintext = writer.finish().into_iter().next()?;
        self.session.as_mut()?.seal(Label::ZERO, &plaintext, &mut datagram).ok()?;
        Some(datagram)
    }

    /// A request's number.
    pub fn number(&mut self) -> u32 {
        self.request += 1;
        self.request
    }

    /// REGISTER.
    pub fn register(&mut self, name: &str, vnis: &[u32], candidates: &[Candidate]) -> Message {
        Message::Register(Register {
            request: self.number(),
            flags: 0,
            nat: NatSummary::default(),
            name: Name::new(name).unwrap_or_default(),
            candidates: candidates.to_vec(),
            vnis: vnis.iter().filter_map(|n| wavnet_common::addr::Vni::new(*n).ok()).collect(),
        })
    }

    /// SYNC.
    pub fn sync(&mut self, since: u64, after: Option<PublicKey>) -> Message {
        Message::Sync(Sync { request: self.number(), since, after })
    }

    /// CONNECT.
    pub fn connect(&mut self, peer: PublicKey, candidates: &[Candidate]) -> Message {
        Message::Connect(Connect { request: self.number(), peer, candidates: candidates.to_vec() })
    }

    /// FORWARD.
    #[must_use]
    pub fn forward(peer: PublicKey, datagram: &[u8]) -> Message {
        Message::Forward(Forward { peer, datagram: datagram.to_vec() })
    }

    /// Takes a datagram of the server.
    pub fn hear(&mut self, now: Time, payload: &[u8]) -> Heard {
        let mut heard = Heard::default();
        match Datagram::parse(payload) {
            Ok((_, Datagram::Cookie(cookie))) => {
                let init = self.initiation.as_mut().and_then(|i| i.handle_cookie(&cookie, None, &[]).ok());
                heard.replies.extend(init);
            }
            Ok((_, Datagram::Response(response))) => {
                let done = self.initiation.as_mut().and_then(|i| i.handle_response(now, &response).ok());
                if let Some((session, _)) = done {
                    (self.session, self.initiation, heard.is_connected) = (Some(session), None, true);
                }
            }
            Ok((_, Datagram::Data(data))) => {
                let mut plaintext = Vec::new();
                let session = self.session.as_mut().filter(|session| session.local_index() == data.receiver);
                if session.is_some_and(|session| session.open(&data, &mut plaintext).is_ok()) {
                    heard.messages.extend(Messages::new(&plaintext).filter_map(Result::ok));
                }
                let token = |m: &Message| if let Message::Check { token } = m { Some(*token) } else { None };
                if let Some(token) = heard.messages.iter().find_map(token) {
                    heard.messages.retain(|message| !matches!(message, Message::Check { .. }));
                    let request = self.number();
                    heard.replies.extend(self.say(&[Message::Checked { token }, Message::Refresh { request }]));
                }
            }
            Ok((_, Datagram::Unknown(what))) => heard.unknown = Some(what),
            _ => {}
        }
        heard
    }
}

/// A network's access key, by a number.
#[must_use]
pub fn access(number: u8) -> AccessKey {
    NetworkKey::generate(&mut Rng::from_seed([number; 32])).access()
}

/// Settings of a server of the networks with these numbers.
#[must_use]
pub fn settings(networks: impl IntoIterator<Item = u8>) -> Settings {
    Settings::new(networks.into_iter().map(|number| Network::new(access(number))).collect())
}
