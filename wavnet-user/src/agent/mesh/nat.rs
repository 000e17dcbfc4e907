//! What kind of NAT is in front of this host: found out as soon as there is a server to ask, and again when something has changed.

use std::{net::SocketAddr, time::Duration};

use wavnet_proto::{
    nat::{LifetimeSearch, NatSummary, Options, Report, StunServer},
    rng::Rng,
    time::Time,
};

use crate::nat::{Exit, Runner, Step};

/// How often it is looked again: NATs are reconfigured and replaced.
const AGAIN: Duration = Duration::from_secs(1200);
/// The same where no server has answered.
const SOON: Duration = Duration::from_secs(10);
/// Mappings that live for less than this are told apart only at the end of the search.
const SHORTEST: Duration = Duration::from_secs(4);

/// A classification that is under way, and the last one's result.
pub(super) struct Classification {
    rng: Rng,
    runner: Option<Runner>,
    due: Option<Time>,
    report: Option<Report>,
    /// The last one with a lifetime.
    measured: Option<Report>,
    /// What was told of the one that is under way before it had an end.
    early: Option<NatSummary>,
}

impl Classification {
    pub(super) fn new(rng: Rng) -> Classification {
        Classification { rng, runner: None, due: Some(Time::ZERO), report: None, measured: None, early: None }
    }

    /// Everything may be different now.
    pub(super) fn restart(&mut self) {
        (self.runner, self.due, self.early) = (None, Some(Time::ZERO), None);
    }

    /// What was found out last.
    pub(super) fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Begins, if it is time and there is somebody to ask.
    pub(super) fn begin(&mut self, now: Time, local: SocketAddr, servers: &[StunServer]) {
        if self.runner.is_some() || self.due.is_none_or(|due| now < due) || servers.is_empty() {
            return;
        }
        let lifetime = LifetimeSearch { shortest: SHORTEST, ..LifetimeSearch::default() };
        let options = Options { lifetime: Some(lifetime), ..Options::default() };
        self.runner = Some(Runner::new(Exit { local, device: None }, servers, options, self.rng.fork()));
        (self.due, self.early) = (Some(now + AGAIN), None);
    }

    /// What is to be done for it; pending while there is none.
    pub(super) async fn next(&mut self) -> Step {
        match &mut self.runner {
            Some(runner) => runner.next().await,
            None => std::future::pending().await,
        }
    }

    /// True if the datagram, which came by the main socket, was for it.
    pub(super) fn handle_main(&mut self, from: SocketAddr, payload: &[u8]) -> bool {
        self.runner.as_mut().is_some_and(|runner| runner.handle_main(from, payload))
    }

    /// A datagram could not be sent.
    pub(super) fn handle_unsent(&mut self, to: SocketAddr, error: std::io::Error) {
        if let Some(runner) = &mut self.runner {
            runner.handle_unsent(to, error);
        }
    }

    /// It has come to an end, or to a part of it. What others are to be told of it.
    pub(super) fn note(&mut self, now: Time, mut report: Report) -> NatSummary {
        if report.mapped.is_none() {
            self.due = Some(now + SOON);
        }
        if report.lifetime.is_some() {
            self.measured = Some(report.clone());
        } else if let Some(before) = &self.measured {
            keep_lifetime(before, &mut report);
        }
        let summary = report.summary;
        self.report = Some(report);
        summary
    }

    /// There is nothing more to come of this one.
    pub(super) fn finish(&mut self) {
        self.runner = None;
    }

    /// What is known already of the first one that is under way, once, as soon as that says what the mapping depends on: filters are
    /// recognised by silence, which takes some seconds, and a search through a symmetric NAT need not wait for that.
    pub(super) fn early(&mut self) -> Option<NatSummary> {
        if self.early.is_some() || self.report.is_some() {
            return None;
        }
        let summary = self.runner.as_ref()?.report().summary;
        self.early = Some(summary).filter(|summary| summary.mapping.is_dependent());
        self.early
    }
}

/// A lifetime takes minutes to be measured again. Until then the last one of what seems to be the same NAT holds, also where no server answers for a
/// while: without it, a NAT that forgets early would forget idle paths meanwhile.
fn keep_lifetime(before: &Report, report: &mut Report) {
    let key = |report: &Report| (report.summary.situation, report.summary.mapping, report.mapped.map(|addr| addr.ip()));
    if report.mapped.is_none() || key(report) == key(before) {
        let NatSummary { lifetime, lifetime_at_least, .. } = before.summary;
        report.summary = NatSummary { lifetime, lifetime_at_least, ..report.summary };
        report.lifetime = before.lifetime;
    }
}

#[cfg(test)]
mod tests {
    use wavnet_proto::nat::{Lifetime, Mapping, Situation};

    use super::*;

    #[test]
    fn a_lifetime_holds_until_it_is_measured_again_or_the_nat_is_another() {
        let report = |mapped: &str, seconds: u16| {
            let alive_after = Duration::from_secs(seconds.into());
            let lifetime = Some(Lifetime { alive_after, dead_after: Some(alive_after * 2) }).filter(|_| seconds > 0);
            let summary = NatSummary { situation: Situation::Natted, lifetime: seconds, ..NatSummary::default() };
            let local = "10.0.0.2:4789".parse().unwrap();
            Report { summary, local, mapped: Some(mapped.parse().unwrap()), server: None, lifetime, notes: Vec::new() }
        };
        let mut nat = Classification::new(Rng::from_seed([3; 32]));
        let mut told = |report: Report| {
            let lifetime = nat.note(Time::ZERO, report).lifetime;
            let shown = nat.report().and_then(|report| report.lifetime).map_or(0, |found| found.alive_after.as_secs());
            assert_eq!(u64::from(lifetime), shown);
            lifetime
        };
        assert_eq!(told(report("192.0.2.1:4789", 0)), 0, "not measured yet");
        assert_eq!(told(report("192.0.2.1:4789", 3)), 3);
        assert_eq!(told(report("192.0.2.1:5000", 0)), 3, "it is being measured again");
        assert_eq!(told(report("192.0.2.1:5000", 8)), 8);
        assert_eq!(told(report("192.0.2.9:5000", 0)), 0, "behind another address");
        assert_eq!(told(report("192.0.2.9:5000", 5)), 5);
        let silent = Report { summary: NatSummary::default(), mapped: None, ..report("192.0.2.9:5000", 0) };
        assert_eq!(told(silent), 5, "no server answers");
        assert_eq!(told(report("192.0.2.9:5000", 0)), 5, "one answers again");
        let mut other = report("192.0.2.9:5000", 0);
        other.summary.mapping = Mapping::AddressAndPortDependent;
        assert_eq!(told(other), 0, "another NAT");
    }
}
