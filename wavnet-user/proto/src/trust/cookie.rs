//! Cookies: whoever shows one can receive at the address that it claims to send from.

use std::{net::SocketAddr, time::Duration};

use super::mac::Blake2sKey;
use crate::{
    rng::Rng,
    time::Time,
    wire::{COOKIE_LEN, put_address},
};
use zeroize::Zeroizing;

/// How long a secret makes cookies. They are good for as long again.
const LIFETIME: Duration = Duration::from_secs(120);

/// Makes cookies and knows them again, without keeping any.
#[derive(Debug)]
pub struct CookieJar {
    rng: Rng,
    now: Blake2sKey,
    before: Option<Blake2sKey>,
    since: Time,
}

impl CookieJar {
    /// With a secret of its own.
    #[must_use]
    pub fn new(mut rng: Rng) -> CookieJar {
        let now = secret(&mut rng);
        CookieJar { rng, now, before: None, since: Time::ZERO }
    }

    /// The cookie for who sends from this address and names its session so. Good for two to four minutes.
    pub fn make(&mut self, now: Time, from: SocketAddr, index: u32) -> [u8; COOKIE_LEN] {
        let _ = (now, from, index);
        todo!()
    }

    /// Whether this is the cookie for that sender; in the same time whatever the cookie.
    #[must_use]
    pub fn holds(&self, now: Time, from: SocketAddr, index: u32, cookie: &[u8; COOKIE_LEN]) -> bool {
        let _ = (now, from, index, cookie);
        todo!()
    }
}

fn secret(rng: &mut Rng) -> Blake2sKey {
    Blake2sKey::new(Zeroizing::new(rng.bytes()))
}
