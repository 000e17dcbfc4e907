//! Where rendezvous servers are: names, and what they resolve to.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use wavnet_proto::{mesh::Server, time::Time};

use crate::config::ServerAddress;

/// How often names are resolved again.
const AGAIN: Duration = Duration::from_secs(60);
/// The same at first while it is not known where some server is; it doubles each time. At boot there may be no network yet.
const SOON: Duration = Duration::from_secs(1);
/// So many addresses of a name are used, each as a server of its own: one that is dead keeps nobody away. If both lead to one server, the
/// mesh notices.
const ADDRESSES: usize = 2;
/// How long a resolver may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the resolver says of a server: where it is, at one address at least, or why that is not known.
pub(in crate::agent) type Answer = (ServerAddress, Result<Vec<SocketAddr>, String>);

/// The servers that are configured, and where they are.
pub(super) struct Names {
    servers: Vec<ServerAddress>,
    /// Those that there were before others were configured: they stay until it is known where one of these is, which may be the same by another name.
    former: Vec<Server>,
    /// What each name resolved to last: a resolver that fails takes no server away.
    known: HashMap<(String, u16), Vec<SocketAddr>>,
    unresolved: Vec<String>,
    again: Time,
    /// How long after an answer it is asked again if some place is not known then.
    pause: Duration,
    resolving: Option<oneshot::Receiver<Vec<Answer>>>,
}

impl Names {
    /// None is known yet.
    pub(super) fn new(servers: Vec<ServerAddress>) -> Names {
        Names {
            servers,
            former: Vec::new(),
            known: HashMap::new(),
            unresolved: Vec::new(),
            again: Time::ZERO,
            pause: SOON,
            resolving: None,
        }
    }

    /// This host has another address: what could not be resolved may be now, or is elsewhere.
    pub(super) fn hurry(&mut self) {
        (self.again, self.pause) = (Time::ZERO, SOON);
        // What is being resolved now was asked for by what there was before.
        self.resolving = None;
    }

    /// Other servers are configured: those that are known stay so, and all are asked for at once. How many came, and how many went.
    pub(super) fn configure(&mut self, servers: Vec<ServerAddress>) -> (usize, usize) {
        if servers == self.servers {
            return (0, 0);
        }
        self.former = self.servers();
        let before = std::mem::replace(&mut self.servers, servers);
        let came = self.servers.iter().filter(|server| !before.contains(server)).count();
        let went = before.iter().filter(|server| !self.servers.contains(server)).count();
        let configured: BTreeSet<_> = self.servers.iter().map(place).collect();
        self.known.retain(|place, _| configured.contains(place));
        self.unresolved.clear();
        self.hurry();
        (came, went)
    }

    /// Begins to resolve the names when it is time, and waits for what comes of it.
    pub(super) async fn next(&mut self, now: Time) -> Vec<Answer> {
        if self.resolving.is_none() && now >= self.again {
            let (tell, told) = oneshot::channel();
            let servers = self.servers.clone();
            tokio::spawn(async move { drop(tell.send(resolve(servers).await)) });
            self.resolving = Some(told);
        }
        let Some(told) = &mut self.resolving else { return std::future::pending().await };
        // The task ends in no other way than by an answer; if it does, nothing was resolved.
        let answers = told.await.unwrap_or_default();
        self.resolving = None;
        answers
    }

    /// Takes what the resolver said.
    pub(super) fn take(&mut self, now: Time, answers: Vec<Answer>) {
        self.unresolved.clear();
        for (server, answer) in answers {
            match answer {
                Ok(addrs) => drop(self.known.insert(place(&server), addrs)),
                Err(why) => self.unresolved.push(why),
            }
        }
        if self.servers.iter().all(|server| self.known.contains_key(&place(server))) {
            (self.again, self.pause) = (now + AGAIN, SOON);
        } else {
            self.again = now + self.pause;
            self.pause = (self.pause * 2).min(AGAIN);
        }
    }

    /// The servers as far as it is known where they are, in the order of the configuration, each once.
    pub(super) fn servers(&self) -> Vec<Server> {
        if self.known.is_empty() {
            return self.former.clone();
        }
        let mut seen = BTreeSet::new();
        let known = self.servers.iter().flat_map(|server| {
            let addrs = self.known.get(&place(server)).into_iter().flatten();
            addrs.map(|addr| Server { addr: *addr, key: server.key })
        });
        known.filter(|server| seen.insert(server.addr)).collect()
    }

    /// What is wrong with names.
    pub(super) fn unresolved(&self) -> &[String] {
        &self.unresolved
    }
}

fn place(server: &ServerAddress) -> (String, u16) {
    (server.host.clone(), server.port)
}

async fn resolve(servers: Vec<ServerAddress>) -> Vec<Answer> {
    let mut asked = JoinSet::new();
    for (place, server) in servers.into_iter().enumerate() {
        asked.spawn(async move {
            let found = timeout(PATIENCE, tokio::net::lookup_host((server.host.clone(), server.port))).await;
            let answer = match found {
                Ok(Ok(addrs)) => chosen(addrs).ok_or_else(|| format!("{server} has no IPv4 address")),
                Ok(Err(e)) => Err(format!("{server} cannot be resolved: {e}")),
                Err(_) => Err(format!("{server} cannot be resolved: no answer")),
            };
            (place, (server, answer))
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Those that are used. Whatever order the resolver gives them in: others each time would be other servers each time.
fn chosen(addrs: impl Iterator<Item = SocketAddr>) -> Option<Vec<SocketAddr>> {
    let addrs: BTreeSet<SocketAddr> = addrs.filter(SocketAddr::is_ipv4).collect();
    (!addrs.is_empty()).then(|| addrs.into_iter().take(ADDRESSES).collect())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn named(name: &str) -> ServerAddress {
        name.parse().unwrap()
    }

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 4789))
    }

    fn found(n: u8) -> Result<Vec<SocketAddr>, String> {
        Ok(vec![at(n)])
    }

    fn failed() -> Result<Vec<SocketAddr>, String> {
        Err("no answer".into())
    }

    /// Whether it begins to resolve at that time.
    fn begins(names: &mut Names, at: Time) -> bool {
        assert_eq!(names.next(at).now_or_never(), None);
        names.resolving.take().is_some()
    }

    fn addrs(names: &Names) -> Vec<SocketAddr> {
        names.servers().into_iter().map(|server| server.addr).collect()
    }

    #[test]
    fn a_server_that_is_removed_goes_while_anothers_name_does_not_resolve() {
        let [a, b, c] = ["a", "b", "c"].map(named);
        let mut names = Names::new(vec![a.clone(), b.clone()]);
        names.take(Time::ZERO, vec![(a.clone(), found(1)), (b.clone(), found(2))]);
        assert_eq!(addrs(&names), [at(1), at(2)]);
        assert_eq!(names.configure(vec![c.clone(), b.clone()]), (1, 1));
        assert_eq!(addrs(&names), [at(2)], "at once");
        names.take(Time::ZERO, vec![(c.clone(), failed()), (b.clone(), failed())]);
        assert_eq!((addrs(&names), names.unresolved().len()), (vec![at(2)], 2));
        names.take(Time::ZERO, vec![(c, found(3)), (b, found(4))]);
        assert_eq!((addrs(&names), names.unresolved().len()), (vec![at(3), at(4)], 0));
    }

    #[test]
    fn servers_stay_until_it_is_known_where_one_of_the_others_is() {
        let [a, b, c] = ["a", "b", "c"].map(named);
        let mut names = Names::new(vec![a.clone()]);
        names.take(Time::ZERO, vec![(a, found(1))]);
        names.configure(vec![b.clone()]);
        names.take(Time::ZERO, vec![(b, failed())]);
        names.configure(vec![c.clone()]);
        assert_eq!(addrs(&names), [at(1)], "it may be the same by another name");
        names.take(Time::ZERO, vec![(c, found(2))]);
        assert_eq!(addrs(&names), [at(2)]);
    }

    #[test]
    fn two_names_of_one_place_are_one_server() {
        let [a, b] = ["a", "b"].map(named);
        let mut names = Names::new(vec![a.clone(), b.clone()]);
        names.take(Time::ZERO, vec![(a, found(1)), (b, found(1))]);
        assert_eq!(addrs(&names), [at(1)]);
    }

    #[test]
    fn two_addresses_of_one_name_are_two_servers_in_one_order() {
        let a = named("a");
        let mut names = Names::new(vec![a.clone()]);
        for order in [[3, 1, 2], [2, 3, 1]] {
            let all = order.map(at).into_iter().chain([at(1), "[2001:db8::1]:4789".parse().unwrap()]);
            names.take(Time::ZERO, vec![(a.clone(), Ok(chosen(all).unwrap()))]);
            assert_eq!(addrs(&names), [at(1), at(2)]);
        }
        assert_eq!(chosen(std::iter::once("[2001:db8::1]:4789".parse().unwrap())), None);
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_asked_for_again_soon_and_one_that_does_each_minute() {
        let [a, b] = ["a", "b"].map(named);
        let mut names = Names::new(vec![a.clone(), b.clone()]);
        let (mut now, second) = (Time::ZERO, Duration::from_secs(1));
        assert!(begins(&mut names, now), "at once");
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            names.take(now, vec![(a.clone(), found(1)), (b.clone(), failed())]);
            assert!(!begins(&mut names, now + pause * second - Duration::from_millis(1)), "{pause} s");
            now += pause * second;
            assert!(begins(&mut names, now), "{pause} s");
        }
        // The host has an address at last.
        names.take(now, vec![(a.clone(), found(1)), (b.clone(), failed())]);
        names.hurry();
        assert!(begins(&mut names, now));
        for answer in [found(2), failed()] {
            names.take(now, vec![(a.clone(), found(1)), (b.clone(), answer)]);
            assert!(!begins(&mut names, now + 59 * second), "where it is is known");
            now += 60 * second;
            assert!(begins(&mut names, now));
        }
    }

    #[tokio::test]
    async fn what_is_configured_while_names_are_being_resolved_is_asked_for_at_once() {
        let [old, new] = ["127.0.0.1", "127.0.0.2"].map(named);
        let mut names = Names::new(vec![old]);
        // It has begun, and nobody has waited for its end.
        drop(timeout(Duration::ZERO, names.next(Time::ZERO)).await);
        names.configure(vec![new.clone()]);
        let answers = names.next(Time::ZERO).await;
        assert_eq!(answers, [(new, Ok(vec![SocketAddr::from(([127, 0, 0, 2], 4789))]))]);
    }

    #[tokio::test]
    async fn what_was_asked_before_the_host_had_an_address_does_not_count() {
        let mut names = Names::new(vec![named("127.0.0.1")]);
        assert_eq!(names.next(Time::ZERO).now_or_never(), None);
        names.hurry();
        assert!(begins(&mut names, Time::ZERO), "at once, and not when the old question is answered");
    }
}
