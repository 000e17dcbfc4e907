//! One peer: its sessions, what it says of itself, and the ways to it.
//!
//! The one with the smaller key begins the handshake, by way of a server that both are registered with. Openers to all addresses of the
//! other side go out meanwhile, so that the NATs in between are open when the session stands; then each way is probed within it.

mod greet;
mod predict;
mod probing;
mod relay;
mod search;
mod sessions;
mod switch;
mod talk;
mod watch;
mod ways;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use wavnet_common::addr::Vni;

pub(super) use self::search::is_rested;
use self::{
    greet::Greeting, predict::Prediction, relay::Standby, search::Progress, sessions::Sessions, switch::Switch,
};
use super::{
    context::Context,
    nat::Obstacle,
    output::{Command, Event, Way},
    path::Said,
    paths::Paths,
    timer::Timer,
};
use crate::{
    bucket::Bucket,
    time::Time,
    trust::PublicKey,
    wire::{Candidate, Label, MAX_PLAINTEXT, Message, Name, NatSummary, Writer, message::ByeReason},
};

/// A peer that is in no directory is forgotten when nothing has come from it for so long.
pub(super) const SILENCE: Duration = Duration::from_secs(90);

/// How a datagram came, or how one is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// By itself.
    Way(Way),
    /// Inside a server's FORWARD, by this link.
    Server(usize),
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PublicKey,
    pub(super) name: Option<Name>,
    /// Some server says that it is there.
    pub(super) listed: bool,
    /// It has said BYE.
    pub(super) left: bool,
    greeting: Option<Greeting>,
    /// The last INIT of the peer's that was answered, and with what: the answer may get lost, and costs much to make.
    answered: Option<([u8; 16], Vec<u8>)>,
    /// What handshakes it may ask for: by its paths, and by way of each server, by their links. A server that repeats old ones takes nothing from the others.
    requests: BTreeMap<Option<usize>, Bucket>,
    /// Answers to its PEER_HELLOs.
    answers: Bucket,
    sessions: Sessions,
    /// Counts sessions.
    epoch: u32,
    connects: u32,
    /// The session may be of no use any more.
    renew: bool,
    /// Since when that is to be found out.
    suspect: Option<Time>,
    /// Servers that have invited us to each other since they last took us in, by their links.
    invited: BTreeSet<usize>,
    /// The link of the server by way of which it was last heard: what others say of it may be wrong.
    heard_by: Option<usize>,
    /// How often it was sought by way of one server since it was last heard: servers take turns, and none of them has a say in that.
    turns: u32,
    /// Of its PEER_HELLO and of its candidates that have arrived in this session; zero: none has.
    generation: u32,
    whereabouts: u32,
    /// Of ours that has arrived there.
    told: u32,
    tells: u32,
    pub(super) vnis: BTreeSet<Vni>,
    admitted: Option<BTreeSet<Vni>>,
    pub(super) nat: NatSummary,
    candidates: Vec<Candidate>,
    pub(super) paths: Paths,
    /// When the peer last said which path its frames take.
    select_said: Said,
    busy: bool,
    standby: Standby,
    punches: u32,
    /// When all addresses were last tried.
    punched: Time,
    /// The peer was asked to try all addresses; we do so in a moment.
    proposed: bool,
    looks: u32,
    prediction: Option<Prediction>,
    predictions: u32,
    /// When attempts in vain were last forgotten, as both sides tried all addresses once more.
    renewed: Time,
    /// The addresses that it has told while another prediction was under way, and when.
    told_while_busy: Option<(Time, Vec<SocketAddr>)>,
    search: Option<Progress>,
    /// What was last to be overcome, and how our NAT counts if that helps.
    obstacle: Option<(Obstacle, Option<i16>)>,
    /// Searches since the last one that was not in vain.
    searches: u32,
    /// How often the peer was asked for the next one, in vain so far.
    asks: u32,
    /// The last ones of these questions: whoever says that it begins answers one of them.
    asked: [Option<u64>; 4],
    /// Where servers have said that it is, the last ones. Only there is a search aimed at: what the peer says of itself may be anybody's.
    seen_at: [Option<IpAddr>; 4],
    /// When the last one ended.
    search_over: Option<Time>,
    switch: Option<Switch>,
    /// When frames last took another path, of their own free will.
    switched: Option<Time>,
    /// Since then every path is to show that it still works.
    doubted: Option<Time>,
    /// Since when it has no path, for [`Event::Path`].
    pathless: Time,
    last_heard: Time,
    /// When it last said something that only it can say.
    last_said: Time,
}

impl Peer {
    pub(super) fn new(key: PublicKey, now: Time) -> Peer {
        Peer {
            key,
            name: None,
            listed: false,
            left: false,
            greeting: None,
            answered: None,
            requests: BTreeMap::new(),
            answers: Bucket::default(),
            sessions: Sessions::default(),
            epoch: 0,
            connects: 0,
            renew: false,
            suspect: None,
            invited: BTreeSet::new(),
            heard_by: None,
            turns: 0,
            generation: 0,
            whereabouts: 0,
            told: 0,
            tells: 0,
            vnis: BTreeSet::new(),
            admitted: None,
            nat: NatSummary::default(),
            candidates: Vec::new(),
            paths: Paths::default(),
            select_said: (0, 0),
            busy: false,
            standby: Standby::default(),
            punches: 0,
            punched: Time::ZERO,
            proposed: false,
            looks: 0,
            prediction: None,
            predictions: 0,
            renewed: Time::ZERO,
            told_while_busy: None,
            search: None,
            obstacle: None,
            searches: 0,
            asks: 0,
            asked: [None; 4],
            seen_at: [None; 4],
            search_over: None,
            switch: None,
            switched: None,
            doubted: None,
            pathless: now,
            last_heard: now,
            last_said: Time::ZERO,
        }
    }

    /// It has shown who it is.
    pub(super) fn is_connected(&self) -> bool {
        self.sessions.current().is_some()
    }

    pub(super) fn is_silent(&self, now: Time) -> bool {
        now.since(self.last_heard) >= SILENCE
    }

    /// How often it was asked for in vain.
    pub(super) fn connects(&self) -> u32 {
        self.connects
    }

    pub(super) fn admitted(&self) -> Option<&BTreeSet<Vni>> {
        self.admitted.as_ref()
    }

    fn begins(&self, cx: &Context<'_>) -> bool {
        cx.local.key < self.key
    }

    /// Says something by one way.
    fn say(&mut self, cx: &mut Context<'_>, way: Way, messages: &[Message]) {
        for datagram in self.seal(cx.now, way.label, messages) {
            cx.out.send(way, datagram);
        }
    }

    /// Says something by the best way there is.
    fn say_anyhow(&mut self, cx: &mut Context<'_>, messages: &[Message]) {
        match self.best_way(cx.now) {
            Some(way) => self.say(cx, way, messages),
            None => {
                for datagram in self.seal(cx.now, Label::ZERO, messages) {
                    cx.out.forward(self.key, None, datagram);
                }
            }
        }
    }

    fn seal(&mut self, now: Time, label: Label, messages: &[Message]) -> Vec<Vec<u8>> {
        let mut writer = Writer::new();
        // What breaks a limit cannot be said; what makes these messages keeps the limits.
        messages.iter().for_each(|m| drop(writer.push(m)));
        debug_assert!(messages.is_empty() || !writer.is_empty(), "a message longer than {MAX_PLAINTEXT} bytes");
        writer.finish().into_iter().filter_map(|plaintext| self.sessions.seal(now, label, &plaintext)).collect()
    }

    /// The way that messages go by; `None`: by way of a server.
    pub(super) fn best_way(&self, now: Time) -> Option<Way> {
        let selected = self.paths.selected().filter(|p| p.seems_good(now));
        let proven = || Paths::freshest(self.paths.iter().filter(|p| p.seems_good(now)));
        // Nothing speaks against it yet, and it costs the server least.
        let untried = || self.paths.iter().find(|p| p.way.is_relayed() && p.is_untried());
        selected.or_else(proven).or_else(untried).map(|p| p.way)
    }

    /// Tells it that it is no longer wanted, or that we stop.
    pub(super) fn bye(&mut self, cx: &mut Context<'_>, reason: ByeReason) {
        if self.is_connected() {
            self.say_anyhow(cx, &[Message::Bye { reason }]);
        }
    }

    /// Ends everything with it.
    pub(super) fn expel(&mut self, cx: &mut Context<'_>) {
        if let Some(next) = cx.out.turns.forget(self.key, cx.now) {
            cx.timers.set_no_later(Timer::Search(next), cx.now);
        }
        self.stop_search(cx);
        self.forget_left(cx);
        self.sessions.clear(&mut cx.out.disowned);
        cx.out.disowned.extend(self.greeting.take().map(|greeting| greeting.index()));
        self.drop_all_paths(cx);
        if self.admitted.take().is_some() {
            cx.out.command(Command::Expel { peer: self.key });
            cx.out.event(Event::Gone { peer: self.key });
        }
        for timer in
            [Timer::Connect, Timer::Tell, Timer::Punch, Timer::Switch, Timer::Search, Timer::Rekey, Timer::Forget]
        {
            cx.timers.stop(timer(self.key));
        }
    }
}

/// What is to be said to which server's link.
pub(super) type Asked = BTreeMap<usize, Vec<Message>>;
