//! The side that answers a handshake.

use std::net::SocketAddr;

use snow::HandshakeState;
use zeroize::Zeroizing;

use super::{HandshakeError, Psk, check_payload};
use crate::{
    rng::Rng,
    time::Time,
    trust::{CookieJar, NetworkId, PublicKey, SecretKey, Session, noise},
    wire::{self, Hello, INIT_LEN, Init, MAX_PAYLOAD, RESPONSE_LEN, Tagged},
};

/// Answers handshakes of one network. Cheap: it only knows where the keys are.
#[derive(Clone, Copy, Debug)]
pub struct Responder<'a> {
    local: &'a SecretKey,
    psk: Psk<'a>,
}

impl<'a> Responder<'a> {
    /// With the host's key and that of the network that HELLO or INIT names.
    #[must_use]
    pub const fn new(local: &'a SecretKey, psk: Psk<'a>) -> Responder<'a> {
        Responder { local, psk }
    }

    /// COOKIE, to send back to where HELLO came from, if its MAC is right. Keeps nothing.
    pub fn answer_hello(
        &self,
        jar: &mut CookieJar,
        now: Time,
        from: SocketAddr,
        hello: &Hello<'_>,
    ) -> Result<Vec<u8>, HandshakeError> {
        self.check(hello.network, &hello.tagged)?;
        let cookie = jar.make(now, from, hello.sender);
        Ok(self.psk.secret().mac.finish(wire::cookie(hello.sender, self.local.public(), &cookie)))
    }

    /// Whether the MAC and the cookie of an INIT that came from `from` are right: as much as must be known before the RESPONSE to an INIT
    /// that came before ([`Init::ephemeral`]) is sent again.
    pub fn check_init(
        &self,
        jar: &CookieJar,
        now: Time,
        from: SocketAddr,
        init: &Init<'_>,
    ) -> Result<(), HandshakeError> {
        self.check(init.network, &init.tagged)?;
        if jar.holds(now, from, init.sender, init.cookie) { Ok(()) } else { Err(HandshakeError::Cookie) }
    }

    /// Reads INIT that came from `from`, if [`Responder::check_init`] allows.
    pub fn read_init(
        &self,
        jar: &CookieJar,
        now: Time,
        from: SocketAddr,
        init: &Init<'_>,
        rng: &mut Rng,
    ) -> Result<Request, HandshakeError> {
        self.check_init(jar, now, from, init)?;
        let mut request = self.read(init, rng)?;
        request.room = request.payload.len().saturating_add(INIT_LEN - RESPONSE_LEN).min(MAX_PAYLOAD);
        Ok(request)
    }

    /// Whether the MAC of an INIT without a cookie is right: as much as must be known before it counts as a handshake.
    pub fn check_forwarded_init(&self, init: &Init<'_>) -> Result<(), HandshakeError> {
        self.check(init.network, &init.tagged)
    }

    /// Reads INIT that a server has forwarded and says is from `peer`: its cookie means nothing, its MAC must be right all the same.
    pub fn read_forwarded_init(
        &self,
        peer: PublicKey,
        init: &Init<'_>,
        rng: &mut Rng,
    ) -> Result<Request, HandshakeError> {
        self.check_forwarded_init(init)?;
        let request = self.read(init, rng)?;
        if request.peer == peer { Ok(request) } else { Err(HandshakeError::Peer { wanted: peer, found: request.peer }) }
    }

    /// What costs least, first.
    fn check(&self, network: NetworkId, tagged: &Tagged<'_>) -> Result<(), HandshakeError> {
        if network != self.psk.network() {
            Err(HandshakeError::Network(network))
        } else if self.psk.secret().mac.covers(tagged) {
            Ok(())
        } else {
            Err(HandshakeError::Mac)
        }
    }

    fn read(&self, init: &Init<'_>, rng: &mut Rng) -> Result<Request, HandshakeError> {
        let seed = Zeroizing::new(rng.bytes());
        let mut noise = noise::responder(self.local, self.psk.secret(), init.sender, &seed)?;
        let mut payload = vec![0; init.noise.len()];
        let len = noise.read_message(init.noise, &mut payload)?;
        payload.truncate(len);
        let peer = noise.get_remote_static().and_then(|key| key.first_chunk()).ok_or(HandshakeError::State)?;
        let peer = PublicKey::new(*peer)?;
        if peer == self.local.public() {
            return Err(HandshakeError::Ourselves);
        }
        Ok(Request { noise: Box::new(noise), peer, remote: init.sender, payload, room: MAX_PAYLOAD })
    }
}

/// An INIT that was read: who has the peer's secret key has made it, some time. It may be an old one, sent again by somebody else, so
/// nothing that it says may be acted upon before the session is confirmed ([`Session::is_confirmed`]).
#[derive(Debug)]
pub struct Request {
    noise: Box<HandshakeState>,
    peer: PublicKey,
    remote: u32,
    payload: Vec<u8>,
    room: usize,
}

impl Request {
    /// Who begins. Whether it may is the caller's decision, before [`Request::respond`].
    #[must_use]
    pub const fn peer(&self) -> PublicKey {
        self.peer
    }

    /// The initiator's index.
    #[must_use]
    pub const fn remote_index(&self) -> u32 {
        self.remote
    }

    /// What INIT says.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The longest payload that RESPONSE may have. RESPONSE must not be longer than INIT was, unless a server forwards both.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    /// RESPONSE, to send to where INIT came from, and the session under `index`, this side's name for it: random, and none that it has in
    /// use. Before the session is confirmed, nothing is sent by it.
    pub fn respond(mut self, now: Time, index: u32, payload: &[u8]) -> Result<(Vec<u8>, Session), HandshakeError> {
        check_payload(payload, self.room)?;
        let payload = [&index.to_be_bytes(), payload].concat();
        let mut message = vec![0; noise::SECOND_LEN + payload.len()];
        let len = self.noise.write_message(&payload, &mut message)?;
        message.truncate(len);
        let session = Session::new(*self.noise, (index, self.remote), self.peer, now)?;
        Ok((wire::response(self.remote, &message), session))
    }
}
