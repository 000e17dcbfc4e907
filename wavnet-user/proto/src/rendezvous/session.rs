//! DATA: which session it is of, whether the host has begun to use a new one, and where the host is.

use std::{net::SocketAddr, time::Duration};

use super::{
    Done, Dropped, Event, HostId, Leave, Rendezvous, Timer,
    admission::duplicate,
    damper::Subject,
    hosts::{Check, Host, Takeover},
    persist::Change,
};
use crate::{
    bucket::Rate,
    time::Time,
    trust::{OpenError, Session},
    wire::{Data, Label, Message, Messages, Unknown, message::ByeReason},
};

/// Two hosts that push each other out within this time have the same key; a host that moves does not come back so soon.
const ALTERNATING: Duration = Duration::from_secs(60);
/// How long one of them is left in peace then.
const HOLD: Duration = Duration::from_secs(60);
/// Bytes of a CHECK's plaintext.
const CHECK_LEN: usize = 7;
/// Between two CHECKs to one address.
const CHECKS: Duration = Duration::from_millis(50);
/// How often a host may move.
const MOVES: Rate = Rate { per_second: 1, burst: 8 };

/// Of DATA that was opened.
#[derive(Clone, Copy, Debug)]
struct Opened {
    /// It is the first of the host's new session.
    is_new: bool,
    /// None that the host has sent later has come before: the others say where it was.
    is_latest: bool,
}

impl Rendezvous {
    pub(super) fn data(&mut self, now: Time, from: SocketAddr, data: &Data<'_>) -> Result<(), Dropped> {
        let Some(id) = self.hosts.by_index(data.receiver) else {
            self.answer_unknown(now, from, Label::ZERO, Unknown::from(data));
            return Err(Dropped::Session);
        };
        let mut plaintext = std::mem::take(&mut self.plaintext);
        let done = self.open(now, id, data, &mut plaintext).and_then(|Opened { is_new, is_latest }| {
            if is_new && let Some(at) = self.promote(now, id, data.receiver) {
                self.check_admission(now, id, at)?;
                self.is_at(now, id, at);
            }
            if is_latest {
                self.check(now, id, from, plaintext.len());
            }
            self.messages(now, id, from, &plaintext, is_latest)
        });
        self.plaintext = plaintext;
        if done == Err(Dropped::Session) {
            self.answer_unknown(now, from, Label::ZERO, Unknown::from(data));
        }
        done
    }

    fn open(&mut self, now: Time, id: HostId, data: &Data<'_>, plaintext: &mut Vec<u8>) -> Result<Opened, Dropped> {
        let host = self.hosts.get_mut(id).ok_or(Dropped::Session)?;
        let is_of = |session: &Session| session.local_index() == data.receiver;
        let (session, is_new) = match host.current.as_deref_mut().filter(|session| is_of(session)) {
            Some(session) => (session, false),
            None => {
                let pending = host.pending.iter_mut().map(|pending| &mut pending.session);
                (pending.into_iter().find(|session| is_of(session)).ok_or(Dropped::Session)?, true)
            }
        };
        if session.is_expired(now) {
            self.hosts.end_session(id, data.receiver);
            return Err(Dropped::Session);
        }
        session.open(data, plaintext).map_err(|e| match e {
            OpenError::Replayed | OpenError::TooOld => Dropped::Replayed,
            OpenError::Forged => Dropped::Forged,
        })?;
        Ok(Opened { is_new, is_latest: session.is_latest(data) })
    }

    /// The host uses its new session: the one before is over. If it was somebody's at another address, that one is told. Where the host is.
    fn promote(&mut self, now: Time, id: HostId, index: u32) -> Option<SocketAddr> {
        let (from, before) = self.hosts.promote(id, index)?;
        let host = self.hosts.get_mut(id)?;
        let Some(mut before) = before.filter(|_| host.addr != from) else { return Some(from) };
        self.counters.note(Done::Replaced);
        self.out.bye(&mut before, host.addr, ByeReason::REPLACED);
        let alternates = |t: &Takeover| t.from == from && now.since(t.at) < ALTERNATING;
        let hold = host.takeover.as_deref().is_some_and(alternates).then(|| now + HOLD);
        let other = host.addr;
        host.takeover = Some(Box::new(Takeover { at: now, from: other, hold }));
        if hold.is_some() {
            let winner = Host::visitor(host.network, host.key, from);
            self.out.events.extend(duplicate(&mut self.damper, now, &winner, other));
        }
        Some(from)
    }

    /// A host that may not come is told so, now that it is certain that it is there. Nothing of it is kept.
    fn check_admission(&mut self, now: Time, id: HostId, from: SocketAddr) -> Result<(), Dropped> {
        let host = self.hosts.get(id).ok_or(Dropped::Session)?;
        let (network, key) = (host.network, host.key);
        if self.networks.get(&network).is_some_and(|served| served.network.admits(&key)) {
            return Ok(());
        }
        self.hosts.set_addr(id, from);
        self.dismiss(now, id, Leave::NotAllowed, Some(ByeReason::NOT_ALLOWED));
        if self.damper.tells(now, Subject::Refused(key)) {
            self.out.events.push_back(Event::Refused { network, host: key, addr: from });
        }
        Err(Dropped::NotAllowed)
    }

    /// A message of the host came from there, as its address says, which may be forged. Before anything is sent there the host is to show
    /// that it is, but for CHECK, which is no longer than what came.
    fn check(&mut self, now: Time, id: HostId, from: SocketAddr, plaintext: usize) {
        let token = self.rng.u32();
        let Some(host) = self.hosts.get_mut(id) else { return };
        if host.addr == from {
            return self.hosts.keep_addr(id);
        }
        // Wherever the last one went: who forges his address does not keep to one.
        let before = host.check.as_deref().copied();
        if plaintext < CHECK_LEN || before.is_some_and(|check| now.since(check.sent) < CHECKS) {
            return;
        }
        let same = before.filter(|check| check.addr == from);
        let check = Check { addr: from, token: same.map_or(token, |check| check.token), sent: now };
        host.check = Some(Box::new(check));
        if let Some(session) = &mut host.current {
            self.out.tell(session, from, &Message::Check { token: check.token });
        }
    }

    /// CHECKED: the host is where it says, if it knows what was sent there.
    pub(super) fn checked(&mut self, now: Time, id: HostId, from: SocketAddr, token: u32) -> Result<(), Dropped> {
        let host = self.hosts.get_mut(id).ok_or(Dropped::Session)?;
        host.check.take_if(|check| (check.addr, check.token) == (from, token)).ok_or(Dropped::Unwanted)?;
        self.is_at(now, id, from);
        Ok(())
    }

    /// The host has shown that it is there.
    fn is_at(&mut self, now: Time, id: HostId, addr: SocketAddr) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        // Who moves all the time is looked for where it was; it costs the store, the relay's map and its partners something.
        if host.addr != addr && !host.moves.take(now, MOVES, 1) {
            return;
        }
        let Some(from) = self.hosts.set_addr(id, addr) else { return };
        let Some(host) = self.hosts.get(id) else { return };
        let (network, key) = (host.network, host.key);
        let Some(saved) = host.saved() else { return };
        self.counters.note(Done::Moved);
        self.out.save(Change::Host(Box::new(saved)));
        self.out.events.push_back(Event::Moved { network, host: key, from, to: addr });
        self.move_relays(id, from);
        self.announce(now, id);
    }

    /// `is_latest`: the host has said nothing since, as far as is known.
    fn messages(
        &mut self,
        now: Time,
        id: HostId,
        from: SocketAddr,
        plaintext: &[u8],
        is_latest: bool,
    ) -> Result<(), Dropped> {
        for message in Messages::new(plaintext) {
            let mut message = message.map_err(|_| Dropped::Message)?;
            match &mut message {
                Message::Bye { .. } => {
                    self.goodbye(now, id);
                    return Ok(());
                }
                // It was overtaken, maybe by the next one, which is so now. If that one has not come the host asks again.
                Message::Register(_) if !is_latest => {
                    self.drop(Dropped::Replayed);
                    continue;
                }
                Message::Connect(connect) if !is_latest => connect.candidates.clear(),
                _ => {}
            }
            // The others may be in order.
            if let Err(reason) = self.message(now, id, from, message) {
                self.drop(reason);
            }
        }
        Ok(())
    }

    pub(super) fn lease_ended(&mut self, now: Time, id: HostId) {
        if self.hosts.get(id).is_some_and(|host| host.registration.is_some()) {
            self.counters.note(Done::Expired);
        }
        self.timers.stop(Timer::Lease(id));
        self.dismiss(now, id, Leave::Expired, None);
    }
}
