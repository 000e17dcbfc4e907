//! The side that begins a handshake.

use super::{HandshakeError, Psk};
use crate::{
    rng::Rng,
    time::Time,
    trust::{PublicKey, SecretKey, Session},
    wire::{Cookie, Response},
};

/// A handshake that this side has begun.
#[derive(Debug)]
pub struct Initiation {
    index: u32,
}

impl Initiation {
    /// Begins one. `index` is this side's name for the session: random, and none that it has in use.
    #[must_use]
    pub fn start(local: &SecretKey, psk: Psk<'_>, index: u32, rng: &mut Rng) -> Initiation {
        let _ = (local, psk, rng);
        Initiation { index }
    }

    /// This side's name for the session: what COOKIE and RESPONSE have as receiver's index.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// HELLO, to send and to send again until COOKIE comes.
    #[must_use]
    pub fn hello_datagram(&self) -> Vec<u8> {
        todo!()
    }

    /// Takes COOKIE, and makes INIT for whom it names, if that is who is expected. Without an expectation whoever has the access key may
    /// answer. A further COOKIE of the same responder gives the same INIT with that cookie, and the payload of the first.
    pub fn handle_cookie(
        &mut self,
        cookie: &Cookie<'_>,
        expected: Option<PublicKey>,
        payload: &[u8],
    ) -> Result<Vec<u8>, HandshakeError> {
        let _ = (cookie, expected, payload);
        todo!()
    }

    /// INIT without HELLO and COOKIE before it, for a peer to which a server forwards it. Again, it is the same, with the payload of the
    /// first.
    pub fn init_without_cookie(&mut self, remote: PublicKey, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let _ = (remote, payload);
        todo!()
    }

    /// Takes RESPONSE: the session, and the responder's payload. Then this is done with, and should be dropped; on an error, RESPONSE
    /// may still come.
    pub fn handle_response(
        &mut self,
        now: Time,
        response: &Response<'_>,
    ) -> Result<(Session, Vec<u8>), HandshakeError> {
        let _ = (now, response);
        todo!()
    }
}
