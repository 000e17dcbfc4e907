//! A classification with a main socket of its own: what `wavnet nat` runs, one for each family of addresses.

use std::{future::poll_fn, time::Duration};

use wavnet_proto::{
    nat::{LifetimeSearch, Options, Report, StunServer},
    rng::Rng,
};

use super::{
    ExitChoice, Family, NatError, Runner, Server, ServerName, Step, Unresolved,
    exit::{Exit, Udp},
    resolve, view,
};
use crate::api::model::NatInfo;

/// What is to be classified, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Servers, the preferred one first.
    pub servers: Vec<ServerName>,
    /// Where the main socket is to be.
    pub exit: ExitChoice,
    /// This family alone.
    pub family: Option<Family>,
    /// The longest idle time that a mapping's lifetime is searched for with; `None`: it is not.
    pub lifetime: Option<Duration>,
}

impl Asked {
    fn options(&self) -> Options {
        Options { lifetime: self.lifetime.map(search), ..Options::default() }
    }
}

/// The default search with another end. What is shorter than a twentieth of that is not told apart in the first round.
fn search(longest: Duration) -> LifetimeSearch {
    let plan = LifetimeSearch::default();
    let shortest = (longest / 20).clamp(Duration::from_secs(1), plan.shortest);
    LifetimeSearch { shortest, longest, ..plan }
}

/// What a session has to tell.
#[derive(Debug)]
pub enum Told {
    /// What is known: once when all but the lifetime is, and once more with it.
    Report(Box<Report>),
    /// There is nothing more to come.
    Finished,
}

/// A classification and its main socket.
#[derive(Debug)]
pub struct Session {
    /// Of the addresses that it is about.
    pub family: Family,
    /// The servers that it asks.
    pub servers: Vec<Server>,
    main: Udp,
    runner: Runner,
    buffer: Box<[u8]>,
}

/// Begins a session for each family that there is a server and a route for; also names that do not resolve.
///
/// # Errors
/// There is none, and why.
pub async fn open(asked: &Asked, rng: &mut Rng) -> Result<(Vec<Session>, Vec<Unresolved>), NatError> {
    let (all, unresolved) = resolve(&asked.servers).await?;
    let (mut sessions, mut errors) = (Vec::new(), Vec::new());
    for family in Family::ALL {
        let wanted = asked.family.is_none_or(|f| f == family) && asked.exit.allows(family);
        let servers: Vec<Server> =
            all.iter().filter(|s| wanted && Family::of(s.address.ip()) == family).copied().collect();
        if servers.is_empty() {
            continue;
        }
        match Session::open(family, servers, asked, rng.fork()) {
            Ok(session) => sessions.push(session),
            Err(error) => errors.push(error),
        }
    }
    if !sessions.is_empty() {
        return Ok((sessions, unresolved));
    }
    let wanted = match (asked.family, asked.exit.listen.map(|listen| Family::of(listen.ip()))) {
        (Some(Family::V4), _) | (None, Some(Family::V4)) => "IPv4",
        (Some(Family::V6), _) | (None, Some(Family::V6)) => "IPv6",
        (None, None) => "IPv4 or IPv6",
    };
    Err(errors.into_iter().next().unwrap_or(NatError::NoServer(wanted)))
}

impl Session {
    fn open(family: Family, servers: Vec<Server>, asked: &Asked, rng: Rng) -> Result<Session, NatError> {
        let (socket, exit) = first_way(&servers, &asked.exit)?;
        let stun: Vec<_> = servers.iter().map(|s| StunServer { address: s.address, others: Vec::new() }).collect();
        let main = Udp::new(socket).map_err(|source| NatError::Io { local: exit.local, source })?;
        let runner = Runner::new(exit, &stun, asked.options(), rng);
        Ok(Session { family, servers, main, runner, buffer: vec![0; 2048].into() })
    }

    /// What comes out next. It may be dropped at any time and called again: nothing is lost.
    pub async fn next(&mut self) -> Told {
        loop {
            let Session { main, runner, buffer, .. } = self;
            let receive = poll_fn(|cx| main.poll_receive(cx, buffer));
            tokio::select! {
                step = runner.next() => match step {
                    Step::Send { to, payload } => {
                        main.send(to, &payload).unwrap_or_else(|error| runner.handle_unsent(to, error));
                    }
                    Step::Report(report) => return Told::Report(report),
                    Step::Finished => return Told::Finished,
                },
                (from, len) = receive => {
                    // What is not the classification's is nobody's: the socket has no other use.
                    runner.handle_main(from, buffer.get(..len).unwrap_or_default());
                }
            }
        }
    }

    /// What is known by now.
    pub fn report(&self) -> Report {
        self.runner.report()
    }

    /// A report in words, with what else there is to tell of this session.
    pub fn info(&self, report: &Report, unresolved: &[Unresolved]) -> NatInfo {
        let notes = view::notes(report, &self.servers, unresolved, self.runner.unsent());
        NatInfo { notes, ..view::info(report) }
    }
}

/// A socket from where one of the servers can be reached, the first one if possible.
fn first_way(servers: &[Server], choice: &ExitChoice) -> Result<(std::net::UdpSocket, Exit), NatError> {
    let mut first = None;
    for server in servers {
        match choice.towards(server.address) {
            Err(error @ NatError::Unreachable { .. }) => _ = first.get_or_insert(error),
            other => return other,
        }
    }
    Err(first.unwrap_or(NatError::NoServer("IPv4 or IPv6")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_search_begins_earlier() {
        let seconds = |s| search(Duration::from_secs(s));
        assert_eq!(seconds(300), LifetimeSearch::default());
        assert_eq!(seconds(3600).shortest.as_secs(), 15);
        assert_eq!((seconds(8).shortest.as_secs(), seconds(8).longest.as_secs()), (1, 8));
    }
}
