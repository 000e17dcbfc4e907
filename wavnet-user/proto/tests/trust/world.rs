//! Two hosts, or a host and a server, and what they need to shake hands.

use std::{net::SocketAddr, time::Duration};

use wavnet_proto::{
    rng::Rng,
    time::Time,
    trust::{
        AccessKey, CookieJar, HandshakeError, Initiation, MemberKey, NetworkKey, Psk, Responder, SecretKey, Session,
    },
    wire::{Cookie, Data, Datagram, Hello, Init, Label, Response},
};

/// Which of a network's keys a handshake is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    /// Agent and server.
    Access,
    /// Two agents.
    Member,
}

/// One who begins and one who answers.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    pub(crate) from: SocketAddr,
    pub(crate) initiator: SecretKey,
    pub(crate) responder: SecretKey,
    pub(crate) jar: CookieJar,
    access: AccessKey,
    member: MemberKey,
    with: With,
}

/// What went over the wire.
pub(crate) struct Transcript {
    pub(crate) hello: Vec<u8>,
    pub(crate) cookie: Vec<u8>,
    pub(crate) init: Vec<u8>,
    pub(crate) response: Vec<u8>,
}

impl World {
    pub(crate) fn new(with: With, seed: u8) -> World {
        let mut rng = Rng::from_seed([seed; 32]);
        let network = NetworkKey::generate(&mut rng);
        World {
            now: Time::ZERO + Duration::from_secs(1000),
            from: "192.0.2.1:4789".parse().unwrap(),
            initiator: SecretKey::generate(&mut rng),
            responder: SecretKey::generate(&mut rng),
            jar: CookieJar::new(rng.fork()),
            access: network.access(),
            member: network.member(),
            with,
            rng,
        }
    }

    pub(crate) fn psk(&self) -> Psk<'_> {
        match self.with {
            With::Access => Psk::Access(&self.access),
            With::Member => Psk::Member(&self.member),
        }
    }

    pub(crate) fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    pub(crate) fn start(&mut self, index: u32) -> Initiation {
        let mut rng = self.rng.fork();
        Initiation::start(&self.initiator, self.psk(), index, &mut rng)
    }

    /// COOKIE for HELLO.
    pub(crate) fn answer(&mut self, datagram: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let World { responder, access, member, with, jar, .. } = self;
        let psk = match with {
            With::Access => Psk::Access(access),
            With::Member => Psk::Member(member),
        };
        Responder::new(responder, psk).answer_hello(jar, self.now, self.from, &hello(datagram))
    }

    /// What INIT says, from whom, and RESPONSE and session with this index and this payload.
    pub(crate) fn respond(&mut self, datagram: &[u8], index: u32, payload: &[u8]) -> Result<Responded, HandshakeError> {
        let mut rng = self.rng.fork();
        let responder = Responder::new(&self.responder, self.psk());
        let request = responder.read_init(&self.jar, self.now, self.from, &init(datagram), &mut rng)?;
        assert_eq!(request.peer(), self.initiator.public());
        let said = request.payload().to_vec();
        let (response, session) = request.respond(self.now, index, payload)?;
        Ok(Responded { said, response, session })
    }

    /// A whole handshake with indices 1 and 2: the initiator's session, the responder's, and what went over the wire.
    pub(crate) fn shake(&mut self) -> (Session, Session, Transcript) {
        let mut initiation = self.start(1);
        let hello = initiation.hello_datagram();
        let cookie = self.answer(&hello).unwrap();
        let expected = Some(self.responder.public());
        let init = initiation.handle_cookie(&read_cookie(&cookie), expected, b"from the initiator").unwrap();
        let Responded { said, response, session } = self.respond(&init, 2, b"from the responder").unwrap();
        assert_eq!(said, b"from the initiator");
        let (ours, said) = initiation.handle_response(self.now, &read_response(&response)).unwrap();
        assert_eq!(said, b"from the responder");
        (ours, session, Transcript { hello, cookie, init, response })
    }
}

/// What answering INIT gave.
#[derive(Debug)]
pub(crate) struct Responded {
    pub(crate) said: Vec<u8>,
    pub(crate) response: Vec<u8>,
    pub(crate) session: Session,
}

macro_rules! readers {
    ($($name:ident: $kind:ident,)*) => {$(
        pub(crate) fn $name(datagram: &[u8]) -> $kind<'_> {
            match Datagram::parse(datagram) {
                Ok((_, Datagram::$kind(read))) => read,
                other => panic!("{other:?}"),
            }
        }
    )*};
}

readers! {
    hello: Hello,
    read_cookie: Cookie,
    init: Init,
    read_response: Response,
    data: Data,
}

/// DATA from one to the other, opened.
pub(crate) fn carry(from: &mut Session, to: &mut Session, plaintext: &[u8]) {
    let (mut datagram, mut opened) = (Vec::new(), b"what was there before".to_vec());
    from.seal(Label::ZERO, plaintext, &mut datagram).unwrap();
    assert_eq!(datagram.len(), 36 + plaintext.len());
    to.open(&data(&datagram), &mut opened).unwrap();
    assert_eq!(opened, plaintext);
}
