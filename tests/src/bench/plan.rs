//! What is measured of whom, and how much.

use std::time::Duration;

use super::{case::Case, contender::Contender, entry::Entry, setting::Setting};

/// How much to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Cases; empty: all.
    pub cases: Vec<Case>,
    /// Who; empty: `usual`.
    pub contenders: Vec<Contender>,
    /// Who is measured unless others are asked for.
    pub usual: &'static [Contender],
    /// Runs of each case and contender.
    pub runs: usize,
    /// Runs, at most, of programs in user space, which are far from the others.
    pub slow_runs: usize,
    /// How long a run measures.
    pub time: Duration,
    /// Idle time before each run, which lets queues drain and CPUs cool; zero: not even an idle machine is waited for.
    pub idle: Duration,
    /// How long to wait for an idle machine, in all.
    pub patience: Duration,
    /// Whether to measure also between the ends of curves.
    pub curves: bool,
}

impl Plan {
    /// What the published figures come from.
    pub const FULL: Plan = Plan {
        cases: Vec::new(),
        contenders: Vec::new(),
        usual: &Contender::ALL,
        runs: 7,
        slow_runs: 3,
        time: Duration::from_millis(2500),
        idle: Duration::from_secs(1),
        patience: Duration::from_secs(1200),
        curves: true,
    };
    /// For a look while developing: under five minutes.
    pub const QUICK: Plan = Plan {
        cases: Vec::new(),
        contenders: Vec::new(),
        usual: &Contender::MAIN,
        runs: 3,
        slow_runs: 3,
        time: Duration::from_millis(250),
        idle: Duration::from_millis(200),
        patience: Duration::from_secs(20),
        curves: false,
    };

    pub(super) fn wants(&self, case: Case) -> bool {
        self.cases.is_empty() || self.cases.contains(&case)
    }

    /// In the order of [`Contender::ALL`], without those whose programs are missing, which `skipped` then says.
    pub(super) fn contenders(&self, skipped: &mut Vec<String>) -> Vec<Contender> {
        let asked = if self.contenders.is_empty() { self.usual } else { &self.contenders };
        let there = |contender: &Contender| match contender.missing() {
            None => true,
            Some(why) => {
                skipped.push(format!("skipped: {why}"));
                false
            }
        };
        Contender::ALL.into_iter().filter(|c| asked.contains(c)).filter(there).collect()
    }

    /// What is measured of these contenders in turns.
    pub(super) fn batches(&self, contenders: &[Contender]) -> Vec<Batch> {
        let measurement = |setting, cases: &'static [Case]| {
            let wanted = cases.iter().any(|case| self.wants(*case));
            let who: Vec<_> = contenders.iter().copied().filter(|c| wanted && c.refuses(cases[0]).is_none()).collect();
            (!who.is_empty()).then(|| Measurement { cases, who: Entry::all(&who, setting) })
        };
        let batch = |(setting, all): (Setting, &[&'static [Case]])| {
            let measurements: Vec<_> = all.iter().filter_map(|cases| measurement(setting, cases)).collect();
            (!measurements.is_empty()).then_some(Batch { measurements })
        };
        TOGETHER.into_iter().filter_map(batch).collect()
    }

    /// The cases of our own that are measured.
    pub(super) fn own_cases(&self, contenders: &[Contender]) -> Vec<Case> {
        let own = |case: &Case| self.wants(*case) && case.is_own() && contenders.contains(&Contender::Wavnet);
        Case::ALL.iter().copied().filter(own).collect()
    }

    /// Which cases are not measured of whom, and why: a sentence for each reason.
    pub(super) fn refusals(&self, contenders: &[Contender]) -> Vec<String> {
        let mut found: Vec<(&str, Vec<&str>, Vec<&str>)> = Vec::new();
        for contender in contenders {
            let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
            // Those of our own are missed of nobody else.
            for case in Case::ALL.iter().filter(|case| self.wants(**case) && !case.is_own()) {
                let Some(why) = contender.refuses(*case) else { continue };
                match reasons.iter_mut().find(|(reason, _)| *reason == why) {
                    Some((_, cases)) => cases.push(case.name()),
                    None => reasons.push((why, vec![case.name()])),
                }
            }
            for (why, cases) in reasons {
                match found.iter_mut().find(|(reason, same, _)| *reason == why && *same == cases) {
                    Some((.., who)) => who.push(contender.name()),
                    None => found.push((why, cases, vec![contender.name()])),
                }
            }
        }
        let own: Vec<_> =
            Case::ALL.iter().filter(|case| self.wants(**case) && case.is_own()).map(|c| c.name()).collect();
        let mut notes: Vec<_> = found
            .into_iter()
            .map(|(why, cases, who)| format!("skipped: {} of {}: {why}", cases.join(", "), who.join(", ")))
            .collect();
        if !own.is_empty() && !contenders.contains(&Contender::Wavnet) {
            notes.push(format!("skipped: {}: of wavnet only", own.join(", ")));
        }
        notes
    }
}

/// What is measured in one setting, and in the one beside it.
pub(super) struct Batch {
    pub(super) measurements: Vec<Measurement>,
}

impl Batch {
    /// Everybody who is measured in it.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        for entry in self.measurements.iter().flat_map(|measurement| &measurement.who) {
            if !all.contains(entry) {
                all.push(*entry);
            }
        }
        all
    }

    /// Its cases' names.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.measurements.iter().flat_map(|m| m.cases).map(|case| case.name()).collect();
        names.join(", ")
    }
}

/// Cases that one measurement answers together, and of whom.
pub(super) struct Measurement {
    pub(super) cases: &'static [Case],
    pub(super) who: Vec<Entry>,
}

/// Cases by setting, and those together that one measurement answers.
const TOGETHER: [(Setting, &[&[Case]]); 9] = [
    (
        Setting::Plain,
        &[
            &[Case::SmallFrames],
            &[Case::Encap],
            &[Case::Decap],
            &[Case::RttP50, Case::RttP99],
            &[Case::RttBlockingP50, Case::RttBlockingP99],
        ],
    ),
    (Setting::Bulk, &[&[Case::Tcp1], &[Case::Tcp4], &[Case::Tcp8Receive]]),
    (Setting::PacketRate, &[&[Case::SmallFramesPacketRate], &[Case::EncapPacketRate]]),
    (Setting::Local, &[&[Case::Local]]),
    (Setting::TapReceiver, &[&[Case::UdpToTap], &[Case::Tcp1Tap]]),
    (Setting::TapSender, &[&[Case::UdpFromTap], &[Case::Tcp1FromTap]]),
    (Setting::Flood(1), &[&[Case::Flood1]]),
    (Setting::Flood(8), &[&[Case::Flood8]]),
    (Setting::Flood(64), &[&[Case::Flood64]]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_of_our_own_or_measured_once_in_turns() {
        for case in Case::ALL {
            let times = TOGETHER.iter().flat_map(|(_, all)| all.iter()).flat_map(|cases| cases.iter());
            let times = times.filter(|c| *c == case).count();
            assert_eq!(times, usize::from(!case.is_own()), "{case}");
        }
    }

    #[test]
    fn cases_that_are_measured_together_are_refused_together() {
        for (contender, cases) in Contender::ALL.iter().flat_map(|c| TOGETHER.iter().map(move |(_, all)| (c, all))) {
            for cases in *cases {
                assert!(cases.iter().all(|case| contender.refuses(*case) == contender.refuses(cases[0])));
            }
        }
    }

    #[test]
    fn programs_in_user_space_are_measured_in_four_ways() {
        let batches = Plan::FULL.batches(&[Contender::Tinc]);
        let names: Vec<_> = batches.iter().map(Batch::names).collect();
        assert_eq!(names, ["small_frames, rtt_blocking_p50, rtt_blocking_p99", "tcp_1, tcp_4"]);
    }

    #[test]
    fn ours_in_another_mode_is_measured_in_the_rounds_of_everybody_else() {
        let plan = Plan { cases: vec![Case::UdpFromTap], ..Plan::FULL };
        let names = |contenders: &[Contender]| {
            let batches = plan.batches(contenders);
            assert_eq!(batches.len(), 1);
            batches[0].measurements[0].who.iter().map(Entry::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(&Contender::MAIN), ["wavnet", "kernel-vxlan", "bridge", "wavnet, packet-rate"]);
        assert_eq!(names(&[Contender::KernelVxlan]), ["kernel-vxlan"]);
        assert_eq!(plan.batches(&Contender::MAIN)[0].entries().len(), 4);
    }

    #[test]
    fn who_is_not_measured_is_said_once_for_each_reason() {
        let plan = Plan { cases: vec![Case::Encap, Case::Decap, Case::LearnOn], ..Plan::FULL };
        let notes = plan.refusals(&[Contender::Wavnet, Contender::N2n, Contender::Tinc]);
        assert_eq!(notes, ["skipped: encap, decap of n2n, tinc: its frames on the wire are no VXLAN"]);
        assert_eq!(plan.refusals(&[Contender::Bridge]), ["skipped: learn_on: of wavnet only"]);
        assert!(plan.batches(&[Contender::N2n]).is_empty());
        assert_eq!(plan.own_cases(&[Contender::Wavnet]), [Case::LearnOn]);
    }
}
