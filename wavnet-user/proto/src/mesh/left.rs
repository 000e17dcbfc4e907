//! What an earlier agent of this host has left: frames still go by its paths, so the peers at their ends can be greeted by them, and may
//! greet us. No server is needed for that.

use super::{Context, Mesh, Timer, Way, lend, servers::PACE};
use crate::{time::Time, transmit::Socket, trust::PublicKey};

impl Mesh {
    /// Ways that an earlier agent has left, and whose they were. By these a handshake needs no cookie, as by a path that stands; nothing
    /// else is believed of them. Call it when there are addresses; peers that may not be any more are passed over.
    pub fn take_over(&mut self, now: Time, ways: impl IntoIterator<Item = (Way, PublicKey)>) {
        let now = self.clock.read(now);
        let mut at = now;
        for (way, key) in ways {
            let Ok(peer) = self.peer_or_new(now, key) else { continue };
            if peer.is_connected() {
                continue;
            }
            if let Socket::Extra(n) = way.socket {
                self.out.open_socket(n);
            }
            self.out.left.insert(way, key);
            // The other side begins when its next probe shows that it is not known here.
            if self.local.key < key {
                self.timers.set_no_later(Timer::Connect(key), at);
                at += PACE;
            }
        }
    }

    /// Forgets what nobody has come by of the ways that an earlier agent has left.
    pub fn forget_left(&mut self, now: Time) {
        let now = self.clock.read(now);
        let left: Vec<PublicKey> = self.out.left.values().copied().collect();
        for key in left {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.forget_left(lend!(self, now));
            }
        }
        self.out.left.clear();
    }

    /// Whose way this is, if whoever is there needs no cookie.
    pub(super) fn owner_of(&mut self, now: Time, way: &Way) -> Option<PublicKey> {
        if let Some((key, _)) = self.out.ways.get(way) {
            return Some(*key);
        }
        let key = *self.out.left.get(way)?;
        self.peer_or_new(now, key).ok().map(|peer| peer.key)
    }
}
