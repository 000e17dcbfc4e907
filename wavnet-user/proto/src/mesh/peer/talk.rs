//! What a peer and we say to each other.

use std::{collections::BTreeSet, time::Duration};

use wavnet_common::addr::Vni;

use super::{Peer, Via};
use crate::{
    mesh::{
        context::Context,
        output::{Command, Event, Way},
        timer::Timer,
    },
    wire::{
        Candidate, CandidateKind, Message, Messages,
        message::{Candidates, Invite, PeerHello},
    },
};

/// Before PEER_HELLO is said again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Peer {
    /// A server tells us to reach out for it, and where. `relay`: where that server relays, and our label.
    pub(in crate::mesh) fn invited(&mut self, cx: &mut Context<'_>, relay: Option<Way>, invite: Invite) {
        self.nat = invite.nat;
        if let Some(way) = relay {
            self.relayed_by(cx, way);
        }
        let mapped = Candidate { kind: CandidateKind::Mapped, addr: invite.mapped };
        let candidates: Vec<Candidate> = std::iter::once(mapped).chain(invite.candidates).collect();
        // Once the session stands the peer's own word counts, and not the server's.
        if !self.is_connected() {
            self.candidates.clone_from(&candidates);
            if self.begins(cx) && self.greeting.is_none() {
                cx.timers.set_no_later(Timer::Connect(self.key), cx.now);
            }
        }
        self.punch(cx, &candidates);
    }

    /// [`Timer::Tell`]: says who we are, until the peer has said that it knows.
    pub(in crate::mesh) fn tell_again(&mut self, cx: &mut Context<'_>) {
        if self.is_connected() && self.told != cx.local.generation {
            self.tell(cx);
        }
    }

    /// What we say of ourselves has changed.
    pub(in crate::mesh) fn tell_anew(&mut self, cx: &mut Context<'_>) {
        self.tells = 0;
        if self.is_connected() {
            self.tell(cx);
        }
    }

    /// Says who we are.
    pub(in crate::mesh) fn tell(&mut self, cx: &mut Context<'_>) {
        let local = cx.local;
        let answer = self.told != local.generation;
        let hello = PeerHello {
            version: 1,
            stages: 0,
            generation: local.generation,
            seen: self.generation,
            answer,
            name: local.settings.name.clone(),
            vnis: local.settings.vnis.clone(),
            candidates: local.candidates(),
            nat: local.nat,
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << self.tells.min(10)).min(LONGEST_PAUSE);
        self.say_anyhow(cx, &[Message::PeerHello(hello)]);
        if answer {
            self.tells += 1;
            cx.timers.set(Timer::Tell(self.key), cx.now + pause);
        }
    }

    /// What it says, decrypted.
    pub(in crate::mesh) fn hear(&mut self, cx: &mut Context<'_>, via: Via, plaintext: &[u8]) {
        for message in Messages::new(plaintext).map_while(Result::ok) {
            match (message, via) {
                (Message::PeerHello(hello), _) => self.hear_hello(cx, hello),
                (Message::Candidates(candidates), _) => self.hear_candidates(cx, candidates),
                (Message::Probe(probe), Via::Way(way)) => self.hear_probe(cx, way, probe),
                (Message::ProbeAnswer(answer), Via::Way(way)) => self.hear_answer(cx, way, answer),
                (Message::Search(search), _) => self.hear_search(cx, search),
                (Message::Bye { .. }, _) => self.listed = false,
                _ => {}
            }
        }
    }

    fn hear_hello(&mut self, cx: &mut Context<'_>, hello: PeerHello) {
        self.told = self.told.max(hello.seen.min(cx.local.generation));
        let news = hello.generation != self.generation;
        if news {
            self.generation = hello.generation;
            (self.vnis, self.nat, self.candidates) = (hello.vnis, hello.nat, hello.candidates);
            if self.name.replace(hello.name.clone()).is_none() {
                cx.out.event(Event::Connected { peer: self.key, name: hello.name.to_string() });
            }
            self.classify();
            let candidates = self.candidates.clone();
            self.punch(cx, &candidates);
            self.consider_search(cx);
        }
        if hello.answer {
            self.tell(cx);
        }
        self.admit(cx);
        self.reselect(cx);
    }

    /// Puts in force which VNIs it may join.
    pub(in crate::mesh) fn admit(&mut self, cx: &mut Context<'_>) {
        if self.generation == 0 {
            return;
        }
        let settings = &cx.local.settings;
        let ours = self.vnis.intersection(&settings.vnis);
        let vnis: BTreeSet<Vni> = ours.filter(|vni| settings.policy.allows(&self.key, **vni)).copied().collect();
        if self.admitted.as_ref() != Some(&vnis) {
            cx.out.command(Command::Admit { peer: self.key, vnis: vnis.clone() });
            let first = self.admitted.replace(vnis).is_none();
            if first {
                self.add_proven(cx);
            }
        }
    }

    fn hear_candidates(&mut self, cx: &mut Context<'_>, said: Candidates) {
        (self.candidates, self.nat) = (said.candidates.clone(), said.nat);
        self.punch(cx, &said.candidates);
    }

    /// Has both sides try all addresses once more.
    pub(super) fn propose(&mut self, cx: &mut Context<'_>) {
        let local = cx.local;
        let said = Candidates { generation: local.generation, candidates: local.candidates(), nat: local.nat };
        self.say_anyhow(cx, &[Message::Candidates(said)]);
    }

    /// The label that a server's relay knows us by, for this peer.
    fn relayed_by(&mut self, cx: &mut Context<'_>, way: Way) {
        if let Some(id) = self.paths.by_way(&way) {
            if let Some(path) = self.paths.get_mut(id).filter(|p| !p.proven) {
                path.retry();
                self.probe(cx, id);
            }
            return;
        }
        // Another label of the same server: it has started anew, or the session before was given up.
        let old = self.paths.iter().find(|p| p.way.is_relayed() && p.way.remote == way.remote).map(|p| p.id);
        if let Some(id) = old {
            self.drop_path(cx, id);
        }
        if let Some(id) = self.find_or_add(cx, way) {
            self.probe(cx, id);
        }
    }
}
