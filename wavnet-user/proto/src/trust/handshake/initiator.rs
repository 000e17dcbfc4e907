//! The side that begins a handshake.

use std::{fmt, mem};

use snow::HandshakeState;
use zeroize::Zeroizing;

use super::{HandshakeError, Psk, check_payload};
use crate::{
    rng::Rng,
    time::Time,
    trust::{PublicKey, SecretKey, Session, key::Secret, noise},
    wire::{self, COOKIE_LEN, Cookie, MAX_PAYLOAD, Response},
};

/// A handshake that this side has begun.
pub struct Initiation {
    local: SecretKey,
    secret: Secret,
    index: u32,
    seed: Zeroizing<[u8; 32]>,
    stage: Stage,
}

/// How far it is.
enum Stage {
    /// Nobody is called yet.
    Begun,
    /// INIT was made for this responder, with this Noise message, and RESPONSE may come.
    Called { remote: PublicKey, message: Vec<u8>, noise: Box<HandshakeState> },
    /// RESPONSE came.
    Done,
}

impl Initiation {
    /// Begins one. `index` is this side's name for the session: random, and none that it has in use.
    #[must_use]
    pub fn start(local: &SecretKey, psk: Psk<'_>, index: u32, rng: &mut Rng) -> Initiation {
        let seed = Zeroizing::new(rng.bytes());
        Initiation { local: local.clone(), secret: psk.secret().clone(), index, seed, stage: Stage::Begun }
    }

    /// This side's name for the session: what COOKIE and RESPONSE have as receiver's index.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Whom INIT was made for.
    #[must_use]
    pub const fn remote(&self) -> Option<PublicKey> {
        match &self.stage {
            Stage::Called { remote, .. } => Some(*remote),
            Stage::Begun | Stage::Done => None,
        }
    }

    /// HELLO, to send and to send again until RESPONSE comes: a cookie may be too old by now, or the responder another process.
    #[must_use]
    pub fn hello_datagram(&self) -> Vec<u8> {
        self.secret.mac.finish(wire::hello(self.index, self.secret.network))
    }

    /// Takes COOKIE, and makes INIT for whom it names, if that is who is expected. Without an expectation whoever has the network's key
    /// may answer. A further COOKIE of the same responder gives the same INIT with that cookie, and the payload of the first.
    pub fn handle_cookie(
        &mut self,
        cookie: &Cookie<'_>,
        expected: Option<PublicKey>,
        payload: &[u8],
    ) -> Result<Vec<u8>, HandshakeError> {
        if cookie.receiver != self.index {
            return Err(HandshakeError::Index);
        }
        if !self.secret.mac.covers(&cookie.tagged) {
            return Err(HandshakeError::Mac);
        }
        if let Some(wanted) = expected.filter(|wanted| *wanted != cookie.responder) {
            return Err(HandshakeError::Peer { wanted, found: cookie.responder });
        }
        self.call(cookie.responder, cookie.cookie, payload)
    }

    /// INIT without HELLO and COOKIE before it, for a peer to which a server forwards it. Again, it is the same, with the payload of the
    /// first.
    pub fn init_without_cookie(&mut self, remote: PublicKey, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        self.call(remote, &[0; COOKIE_LEN], payload)
    }

    fn call(
        &mut self,
        wanted: PublicKey,
        cookie: &[u8; COOKIE_LEN],
        payload: &[u8],
    ) -> Result<Vec<u8>, HandshakeError> {
        if let Stage::Begun = self.stage {
            self.stage = self.first_call(wanted, payload)?;
        }
        let Stage::Called { remote, message, .. } = &self.stage else {
            return Err(HandshakeError::State);
        };
        if *remote != wanted {
            return Err(HandshakeError::Peer { wanted: *remote, found: wanted });
        }
        Ok(self.secret.mac.finish(wire::init(self.index, self.secret.network, cookie, message)))
    }

    fn first_call(&self, remote: PublicKey, payload: &[u8]) -> Result<Stage, HandshakeError> {
        check_payload(payload, MAX_PAYLOAD)?;
        if remote == self.local.public() {
            return Err(HandshakeError::Ourselves);
        }
        let mut noise = noise::initiator(&self.local, remote, &self.secret, self.index, &self.seed)?;
        let mut message = vec![0; noise::FIRST_LEN + payload.len()];
        let len = noise.write_message(payload, &mut message)?;
        message.truncate(len);
        Ok(Stage::Called { remote, message, noise: Box::new(noise) })
    }

    /// Takes RESPONSE: the session, and the responder's payload. Then this is done with, and should be dropped; on an error, RESPONSE
    /// may still come.
    ///
    /// The session is the one to send by from now on, and something is sent by it at once, if only an empty plaintext: before that the
    /// responder does not use it.
    pub fn handle_response(
        &mut self,
        now: Time,
        response: &Response<'_>,
    ) -> Result<(Session, Vec<u8>), HandshakeError> {
        if response.receiver != self.index {
            return Err(HandshakeError::Index);
        }
        let Stage::Called { noise, .. } = &mut self.stage else {
            return Err(HandshakeError::State);
        };
        let mut payload = vec![0; response.noise.len()];
        let len = noise.read_message(response.noise, &mut payload)?;
        payload.truncate(len);
        let Stage::Called { remote, noise, .. } = mem::replace(&mut self.stage, Stage::Done) else {
            return Err(HandshakeError::State);
        };
        let index = *payload.first_chunk().ok_or(HandshakeError::Forged)?;
        let session = Session::new(*noise, (self.index, u32::from_be_bytes(index)), remote, now)?;
        Ok((session, payload.split_off(index.len())))
    }
}

impl fmt::Debug for Initiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Begun => "begun".to_owned(),
            Stage::Called { remote, .. } => format!("to {remote:?}"),
            Stage::Done => "done".to_owned(),
        };
        write!(f, "Initiation {:08x} {stage}", self.index)
    }
}
