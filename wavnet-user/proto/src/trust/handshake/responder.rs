//! The side that answers a handshake.

use std::net::SocketAddr;

use super::{HandshakeError, Psk};
use crate::{
    rng::Rng,
    time::Time,
    trust::{CookieJar, PublicKey, SecretKey, Session},
    wire::{Hello, Init},
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
        let _ = (self.local, self.psk, jar, now, from, hello);
        todo!()
    }

    /// Reads INIT that came from `from`, if its MAC and its cookie are right.
    pub fn read_init(
        &self,
        jar: &CookieJar,
        now: Time,
        from: SocketAddr,
        init: &Init<'_>,
        rng: &mut Rng,
    ) -> Result<Request, HandshakeError> {
        let _ = (jar, now, from, init, rng);
        todo!()
    }

    /// Reads INIT that a server has forwarded and says is from `peer`: its cookie means nothing, its MAC must be right all the same.
    pub fn read_forwarded_init(
        &self,
        peer: PublicKey,
        init: &Init<'_>,
        rng: &mut Rng,
    ) -> Result<Request, HandshakeError> {
        let _ = (peer, init, rng);
        todo!()
    }
}

/// An INIT that was read: it was made by who has the peer's secret key, some time. It may be an old one, sent again by somebody else, so
/// nothing that it says may be acted upon before the session is confirmed ([`Session::is_confirmed`]).
#[derive(Debug)]
pub struct Request {
    peer: PublicKey,
    payload: Vec<u8>,
}

impl Request {
    /// Who begins. Whether it may is the caller's decision, before [`Request::respond`].
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// The initiator's index.
    #[must_use]
    pub fn remote_index(&self) -> u32 {
        todo!()
    }

    /// What INIT says.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// RESPONSE, to send to where INIT came from, and the session under `index`, this side's name for it: random, and none that it has in
    /// use. RESPONSE must not be longer than INIT was, unless a server forwards both: [`HandshakeError::TooLong`] says what fits.
    pub fn respond(self, now: Time, index: u32, payload: &[u8]) -> Result<(Vec<u8>, Session), HandshakeError> {
        let _ = (now, index, payload);
        todo!()
    }
}
