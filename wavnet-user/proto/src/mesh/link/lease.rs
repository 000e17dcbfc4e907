//! REGISTER, REFRESH and what a server answers: the lease.

use std::time::Duration;

use super::{Context, Event, Link, SILENT_AFTER, ServerTrouble, Timer, pause};
use crate::{
    time::Time,
    wire::{
        Message,
        message::{Refused, RefusedCode, Register, Registered},
    },
};

/// The shortest lease that is believed.
const SHORTEST: u16 = 10;
/// Between two words of where we are, when others give reason to doubt that the server knows.
const REST: Duration = Duration::from_millis(200);
const DOUBT: Duration = Duration::from_secs(2);
/// Until REGISTER is sent again to a server that has no room.
const FULL_PAUSE: Duration = Duration::from_secs(30);

/// Between two words of a server that we are elsewhere, at first, if they come one after the other; it doubles each time. Each is told to all
/// servers and all peers.
const MOVES: Duration = Duration::from_secs(1);
const MOVES_LONGEST: Duration = Duration::from_secs(60);

/// What REGISTERED says that is news.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::mesh) struct News {
    /// Our mapped address is another one: others are to be told.
    pub(in crate::mesh) moved: bool,
    /// The server had not answered for a while.
    pub(in crate::mesh) answers_again: bool,
}

/// How often a server may say that we are elsewhere: at once if it has not said so for a while.
#[derive(Debug, Default)]
pub(super) struct Moves {
    last: Option<Time>,
    pause: Duration,
}

impl Moves {
    /// True if we are to believe it now; else when.
    fn may(&mut self, now: Time) -> Result<(), Time> {
        if let Some(last) = self.last {
            let rested = now.since(last);
            if rested < self.pause {
                return Err(last + self.pause);
            }
            let doubled = if rested < MOVES_LONGEST * 2 { self.pause * 2 } else { MOVES };
            self.pause = doubled.min(MOVES_LONGEST);
        } else {
            self.pause = MOVES;
        }
        self.last = Some(now);
        Ok(())
    }
}

impl Link {
    /// Tells the server (again) what it must know, or that we are still there.
    pub(super) fn register(&mut self, cx: &mut Context<'_>) {
        self.requests = self.requests.saturating_add(1);
        self.tell(cx, None);
        cx.timers.set(Timer::Register(self.index), cx.now + pause(self.requests, cx.rng));
    }

    /// `first`: what goes before it in the same datagram.
    fn tell(&mut self, cx: &mut Context<'_>, first: Option<Message>) {
        self.request = self.request.wrapping_add(1);
        let request = self.request;
        // Whichever of them is answered, as long as they say the same.
        self.asked = Some((self.asked.map_or(request, |(first, _)| first), request));
        self.told = cx.now;
        let local = cx.local;
        let message = if self.stale {
            Message::Register(Register {
                request,
                flags: 0,
                nat: local.nat,
                name: local.settings.name.clone(),
                candidates: local.candidates(),
                vnis: local.settings.vnis.clone(),
            })
        } else {
            Message::Refresh { request }
        };
        let messages: Vec<Message> = first.into_iter().chain([message]).collect();
        self.send(cx, &messages);
    }

    /// CHECK: the server does not believe that we are where we are before it has heard from us what it sent there.
    pub(in crate::mesh) fn check(&mut self, cx: &mut Context<'_>, token: u32) {
        // What it has answered so far went where we were.
        self.tell(cx, Some(Message::Checked { token }));
        if self.requests == 0 {
            self.requests = 1;
            cx.timers.set(Timer::Register(self.index), cx.now + pause(self.requests, cx.rng));
        }
    }

    /// [`Timer::Register`]. `index` is for a new handshake.
    pub(in crate::mesh) fn register_again(&mut self, cx: &mut Context<'_>, index: u32) {
        let usable = self.session.as_ref().is_some_and(|s| !s.is_expired(cx.now));
        if self.requests >= SILENT_AFTER || !usable {
            return self.relink(cx, index);
        }
        if self.session.as_ref().is_some_and(|s| s.needs_rekey(cx.now)) && self.greeting.is_none() {
            self.greet(cx, index);
        }
        self.register(cx);
    }

    /// What others must know of this host has changed, or its addresses have.
    pub(in crate::mesh) fn touch(&mut self, cx: &mut Context<'_>) {
        (self.stale, self.asked) = (true, None);
        if self.session.is_some() {
            self.requests = 0;
            self.register(cx);
        }
        // From another address there may be an answer, at once.
        if self.greeting.is_some() {
            self.greetings = 0;
            cx.timers.set(Timer::Greet(self.index), cx.now);
        }
    }

    /// Our address may be another one: tell the server at once.
    pub(super) fn moved(&mut self, cx: &mut Context<'_>) {
        if self.session.is_none() || cx.now.since(self.told) < REST {
            return;
        }
        if self.requests == 0 {
            self.register(cx);
        } else {
            self.tell(cx, None);
        }
    }

    /// There is reason to look whether the server still knows us, every other second at the most.
    pub(in crate::mesh) fn doubt(&mut self, cx: &mut Context<'_>) {
        if cx.now.since(self.told) >= DOUBT {
            self.moved(cx);
        }
    }

    /// REGISTERED.
    pub(in crate::mesh) fn registered(&mut self, cx: &mut Context<'_>, answer: &Registered) -> News {
        if !self.is_asked(answer.request) {
            return News::default();
        }
        let answers_again = self.is_silent(cx.now);
        let lease = Duration::from_secs(answer.lease.max(SHORTEST).into());
        let first = self.lease.replace(lease).is_none();
        (self.lease_ends, self.requests, self.asked) = (cx.now + lease, 0, None);
        (self.stale, self.relays) = (false, answer.relay);
        self.stun.clone_from(&answer.stun);
        cx.timers.set(Timer::Register(self.index), cx.now + lease / 3);
        let is_news = self.trouble.take().is_some() || first;
        if is_news && !self.is_rivalled(cx.now) {
            cx.out.event(Event::Registered { server: self.index, mapped: answer.mapped });
        }
        cx.timers.set_no_later(Timer::ServerPulse(self.index), self.pulses.next(cx.now).max(cx.now));
        self.changed(cx, answer.version);
        let is_elsewhere = cx.local.mapped.get(&self.index).is_none_or(|seen| seen.addr != answer.mapped);
        let may = if is_elsewhere { self.moves.may(cx.now) } else { Ok(()) };
        match may {
            Ok(()) => self.registered_at = cx.now,
            // It is asked again then.
            Err(at) => cx.timers.set_no_later(Timer::Register(self.index), at),
        }
        News { moved: is_elsewhere && may.is_ok(), answers_again }
    }

    /// True if it is REGISTERED, or its refusal, that is waited for.
    fn is_asked(&self, request: u32) -> bool {
        self.asked.is_some_and(|(first, last)| request.wrapping_sub(first) <= last.wrapping_sub(first))
    }

    /// REFUSED.
    pub(in crate::mesh) fn refused(&mut self, cx: &mut Context<'_>, refused: &Refused) {
        if refused.code == RefusedCode::BUSY && self.is_asked(refused.request) {
            // It answers, so there is no need to ask whether it lives.
            (self.requests, self.asked) = (0, None);
            self.lost(cx, ServerTrouble::Full);
            let jitter = FULL_PAUSE.mul_f64(cx.rng.below(256) as f64 / 1024.0);
            return cx.timers.set(Timer::Register(self.index), cx.now + FULL_PAUSE + jitter);
        }
        if refused.code == RefusedCode::NOT_REGISTERED && !self.stale {
            self.touch(cx);
        }
    }
}
