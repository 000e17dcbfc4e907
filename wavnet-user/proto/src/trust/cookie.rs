//! Cookies: whoever shows one can receive at the address that it claims to send from.

use std::{net::SocketAddr, time::Duration};

use zeroize::Zeroizing;

use super::mac::Blake2sKey;
use crate::{
    rng::Rng,
    time::Time,
    wire::{COOKIE_LEN, put_address},
};

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
        self.renew(now);
        self.now.tag(&[&sender(from, index)])
    }

    /// Whether this is the cookie for that sender; in the same time whatever the cookie.
    #[must_use]
    pub fn holds(&self, now: Time, from: SocketAddr, index: u32, cookie: &[u8; COOKIE_LEN]) -> bool {
        let age = now.since(self.since);
        let of_now = (age < LIFETIME * 2).then_some(&self.now);
        let of_before = if age < LIFETIME { self.before.as_ref() } else { None };
        let sender = sender(from, index);
        // Both are looked at, so that time does not tell which secret it was made with.
        let secrets = of_now.into_iter().chain(of_before);
        secrets.fold(false, |held, secret| held | secret.holds(&[&sender], cookie))
    }

    /// Takes another secret when it is time.
    fn renew(&mut self, now: Time) {
        let age = now.since(self.since);
        if age >= LIFETIME {
            let old = std::mem::replace(&mut self.now, secret(&mut self.rng));
            self.before = (age < LIFETIME * 2).then_some(old);
            self.since = now;
        }
        // A clock that stepped back does not make a secret live longer than that from here on.
        self.since = self.since.min(now);
    }
}

fn secret(rng: &mut Rng) -> Blake2sKey {
    Blake2sKey::new(Zeroizing::new(rng.bytes()))
}

/// What a cookie is for.
fn sender(from: SocketAddr, index: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(23);
    put_address(&mut bytes, from);
    bytes.extend(index.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "192.0.2.1:4789";

    fn jar() -> CookieJar {
        CookieJar::new(Rng::from_seed([7; 32]))
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_cookie_is_for_one_sender() {
        let mut jar = jar();
        let cookie = jar.make(at(1), addr(HERE), 5);
        assert!(jar.holds(at(2), addr(HERE), 5, &cookie));
        assert!(jar.holds(at(2), addr("[::ffff:192.0.2.1]:4789"), 5, &cookie), "the same address, written otherwise");
        for (other, index) in [
            ("192.0.2.2:4789", 5),
            ("192.0.2.1:4790", 5),
            ("[2001:db8::1]:4789", 5),
            ("[::c000:201]:4789", 5),
            (HERE, 6),
        ] {
            assert!(!jar.holds(at(2), addr(other), index, &cookie), "{other} {index}");
        }
        for bit in 0..128 {
            let mut changed = cookie;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!jar.holds(at(2), addr(HERE), 5, &changed), "bit {bit}");
        }
        let other = CookieJar::new(Rng::from_seed([8; 32]));
        assert!(!other.holds(at(2), addr(HERE), 5, &cookie), "another server's secret");
    }

    #[test]
    fn a_cookie_is_good_for_two_to_four_minutes() {
        for asked in [0, 1, 60, 119] {
            let mut jar = jar();
            // Something keeps the jar busy, so that secrets change when they should.
            let first = jar.make(at(1000), addr(HERE), 0);
            assert!(jar.holds(at(1000), addr(HERE), 0, &first));
            let cookie = jar.make(at(1000 + asked), addr(HERE), 5);
            for later in 1000 + asked..1600 {
                jar.make(at(later), addr("192.0.2.9:1"), 1);
                let holds = jar.holds(at(later), addr(HERE), 5, &cookie);
                assert_eq!(holds, later < 1240, "made at {asked}, shown at {later}");
            }
        }
    }

    #[test]
    fn a_cookie_ends_in_a_jar_that_nobody_uses() {
        let mut jar = jar();
        let cookie = jar.make(at(1000), addr(HERE), 5);
        assert!(jar.holds(at(1239), addr(HERE), 5, &cookie));
        assert!(!jar.holds(at(1240), addr(HERE), 5, &cookie));
        jar.make(at(5000), addr(HERE), 5);
        assert!(!jar.holds(at(5000), addr(HERE), 5, &cookie));
        // Between two and four minutes the old secret counts once more.
        let cookie = jar.make(at(5000), addr(HERE), 5);
        assert_ne!(jar.make(at(5130), addr(HERE), 5), cookie);
        assert!(jar.holds(at(5130), addr(HERE), 5, &cookie));
        assert!(!jar.holds(at(5250), addr(HERE), 5, &cookie));
    }

    #[test]
    fn a_clock_that_steps_back_keeps_no_secret_for_long() {
        let mut jar = jar();
        let cookie = jar.make(at(100_000), addr(HERE), 5);
        assert!(jar.holds(at(10), addr(HERE), 5, &cookie), "taken for fresh");
        assert_eq!(jar.make(at(10), addr(HERE), 5), cookie);
        assert_ne!(jar.make(at(130), addr(HERE), 5), cookie);
        assert!(!jar.holds(at(250), addr(HERE), 5, &cookie));
    }

    #[test]
    fn the_same_seed_makes_the_same_cookies() {
        let cookies = || {
            let mut jar = jar();
            [0, 100, 200, 900].map(|seconds| jar.make(at(seconds), addr(HERE), 1))
        };
        assert_eq!(cookies(), cookies());
    }
}
