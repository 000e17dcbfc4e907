//! What a host asks for: REGISTER, REFRESH, SYNC, BYE.

use std::{net::SocketAddr, time::Duration};

use super::{
    Done, Dropped, Event, HostId, Leave, Rendezvous, Timer, damper::Subject, hosts::Registration, persist::Change,
    vnis::Vnis,
};
use crate::{
    time::Time,
    wire::{
        Message,
        message::{MAX_SERVER_ADDRESSES, Refused, RefusedCode, Register, Registered, Sync},
    },
};

/// REGISTER and SYNC take so much of what a host may ask for: they make the server look at many hosts, and answer at length.
const HEAVY: u64 = 8;

/// A lease ends so much later than its host was told.
pub(super) const GRACE: Duration = Duration::from_secs(10);

impl Rendezvous {
    pub(super) fn message(&mut self, now: Time, id: HostId, from: SocketAddr, message: Message) -> Result<(), Dropped> {
        let rate = self.settings.limits.requests;
        let host = self.hosts.get_mut(id).ok_or(Dropped::Session)?;
        let is_registered = host.registration.is_some();
        // Has a limit of its own.
        if let Message::Forward(forward) = message {
            return self.forward(now, id, forward);
        }
        let cost = if matches!(message, Message::Register(_) | Message::Sync(_)) { HEAVY } else { 1 };
        if !host.requests.take(now, rate, cost) {
            return Err(Dropped::RequestLimit);
        }
        let request = match &message {
            Message::Refresh { request } => *request,
            Message::Sync(sync) => sync.request,
            Message::Connect(connect) => connect.request,
            _ => 0,
        };
        match message {
            Message::Register(register) => self.register(now, id, register),
            Message::Checked { token } => self.checked(now, id, from, token),
            Message::Refresh { .. } | Message::Sync(_) | Message::Connect(_) if !is_registered => {
                self.refuse_request(id, request, RefusedCode::NOT_REGISTERED)
            }
            Message::Refresh { request } => {
                self.counters.note(Done::Refresh);
                self.registered(now, id, request)
            }
            Message::Sync(sync) => self.sync(id, &sync),
            Message::Connect(connect) => self.connect(now, id, connect),
            _ => Err(Dropped::Unwanted),
        }
    }

    pub(super) fn refuse_request(&mut self, id: HostId, request: u32, code: RefusedCode) -> Result<(), Dropped> {
        self.counters.note(Done::Refused);
        self.tell(id, &Message::Refused(Refused { request, code }))
    }

    fn register(&mut self, now: Time, id: HostId, register: Register) -> Result<(), Dropped> {
        let host = self.hosts.get(id).ok_or(Dropped::Session)?;
        let is_new = host.registration.is_none();
        if is_new && self.hosts.registered() >= self.settings.limits.hosts {
            let hosts = self.settings.limits.hosts;
            if self.damper.tells(now, Subject::Full) {
                self.out.events.push_back(Event::Full { hosts });
            }
            return self.refuse_request(id, register.request, RefusedCode::BUSY);
        }
        let (network, key, addr) = (host.network, host.key, host.addr);
        let served = self.networks.get_mut(&network).ok_or(Dropped::Network)?;
        let before = host.registration.as_deref();
        let mut registration = Registration {
            name: register.name,
            nat: register.nat,
            candidates: register.candidates.into(),
            vnis: Vnis::default(),
            asked: None,
            left: before.map(|b| b.left.clone()).unwrap_or_default(),
            changed: before.map_or(0, |b| b.changed),
            vnis_since: before.map_or(0, |b| b.vnis_since),
        };
        registration.set_vnis(register.vnis.into_iter().collect(), &key, &served.network);
        let is_news = before.is_none_or(|b| (&b.name, &b.vnis) != (&registration.name, &registration.vnis));
        let is_other = before.is_none_or(|b| b.differs(&registration));
        if is_news {
            served.directory.put(key, &mut registration, before);
        }
        if is_new {
            let name = registration.name.clone();
            self.out.events.push_back(Event::Joined { network, host: key, name, addr });
        }
        self.hosts.register(id, registration);
        if let Some(saved) = self.hosts.get(id).filter(|_| is_other).and_then(|host| host.saved()) {
            self.out.save(Change::Host(Box::new(saved)));
        }
        if is_news {
            self.note_changed(now, network);
        }
        self.counters.note(Done::Register);
        self.registered(now, id, register.request)
    }

    /// Begins the lease anew and says so.
    fn registered(&mut self, now: Time, id: HostId, request: u32) -> Result<(), Dropped> {
        let lease = self.lease();
        let host = self.hosts.get_mut(id).ok_or(Dropped::Session)?;
        let version = self.networks.get(&host.network).map_or(0, |served| served.directory.version());
        host.told = version;
        self.timers.set(Timer::Lease(id), now + lease);
        let registered = Registered {
            request,
            lease: u16::try_from(self.settings.lease.as_secs()).unwrap_or(u16::MAX),
            mapped: host.addr,
            version,
            stun: self.settings.stun.iter().copied().take(MAX_SERVER_ADDRESSES).collect(),
            relay: self.settings.relay,
        };
        self.tell(id, &Message::Registered(registered))
    }

    fn sync(&mut self, id: HostId, sync: &Sync) -> Result<(), Dropped> {
        let host = self.hosts.get(id).ok_or(Dropped::Session)?;
        let served = self.networks.get(&host.network).ok_or(Dropped::Network)?;
        let page = served.directory.page(host.network, &self.hosts, host, sync);
        self.counters.note(Done::Sync);
        self.tell(id, &Message::Page(page))
    }

    /// A host says BYE.
    pub(super) fn goodbye(&mut self, now: Time, id: HostId) {
        self.dismiss(now, id, Leave::Bye, None);
    }
}

impl Registration {
    /// True if it says something else of the host.
    fn differs(&self, other: &Registration) -> bool {
        let said = |r: &Registration| (r.name.clone(), r.nat, r.vnis.clone(), r.asked.clone());
        said(self) != said(other) || self.candidates != other.candidates
    }
}
