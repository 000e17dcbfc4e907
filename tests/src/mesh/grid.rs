//! Pairs of NAT types, measured: which path they get, how soon, and what it costs the NATs.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use wavnet_user::api::model::HookMode;

use super::{Site, SiteSpec, World, mesh_of};
use crate::lab::{Lab, nat::NatKind, ping::Ping, poll_until};

/// The four types of the papers; all of their sixteen pairs are measured.
pub const KINDS: [NatKind; 4] =
    [NatKind::FullCone, NatKind::RestrictedCone, NatKind::PortRestrictedCone, NatKind::SymmetricRandom];

/// What a pair got.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Type of the first site's NAT.
    pub a: String,
    /// Type of the second site's NAT.
    pub b: String,
    /// `direct`, `relayed` or `none`.
    pub path: String,
    /// From the start of the later agent until a ping of the first site's VM was answered by the second one's, milliseconds: by the VM's clock.
    pub first_frame_ms: Option<u64>,
    /// From when the later of the two agents wanted to reach the other one until it could send frames, milliseconds: by the agent's clock.
    pub first_path_ms: Option<u64>,
    /// The same until it could do so without the relay.
    pub direct_ms: Option<u64>,
    /// The most entries in a NAT's conntrack table, of the two.
    pub conntrack_entries: u64,
}

/// No more entries of a NAT may be needed.
const ENTRIES: u64 = 1024;
/// Any path that there is must have been there by then, if only the relay, milliseconds.
const FIRST: u64 = 1000;
/// Two cones must have a direct path by then, milliseconds.
const DIRECT: u64 = 1000;

fn is_symmetric(kind: NatKind) -> bool {
    matches!(kind, NatKind::SymmetricByAddress | NatKind::SymmetricSequential | NatKind::SymmetricRandom)
}

/// What the papers' types can have: all but two symmetric NATs.
#[must_use]
pub fn expected(a: NatKind, b: NatKind) -> &'static str {
    if is_symmetric(a) && is_symmetric(b) { "relayed" } else { "direct" }
}

impl Row {
    /// What is not as it should be for these two kinds.
    #[must_use]
    pub fn flaws(&self, a: NatKind, b: NatKind) -> Vec<String> {
        let (mut flaws, wanted) = (Vec::new(), expected(a, b));
        if self.path != wanted {
            flaws.push(format!("the path is {}, not {wanted}", self.path));
        }
        if self.path != "none" && self.first_path_ms.is_none_or(|ms| ms > FIRST) {
            let first = self.first_path_ms.map_or_else(|| "no time".to_owned(), |ms| format!("{ms} ms"));
            flaws.push(format!("a first path after {first}, not {FIRST} ms"));
        }
        let cones = !is_symmetric(a) && !is_symmetric(b);
        if cones && self.direct_ms.is_some_and(|ms| ms > DIRECT) {
            flaws.push(format!("direct after {} ms, not {DIRECT}", self.direct_ms.unwrap_or_default()));
        }
        if self.path != "none" && self.first_frame_ms.is_none() {
            flaws.push("no frame arrived".to_owned());
        }
        if self.conntrack_entries > ENTRIES {
            flaws.push(format!("{} entries in a NAT, more than {ENTRIES}", self.conntrack_entries));
        }
        flaws
    }
}

/// Between two pings.
const PERIOD: Duration = Duration::from_millis(5);
/// So long after both classifications the first attempt to get a direct path is over: probes take five seconds at the most, a search as long.
const ATTEMPT: Duration = Duration::from_secs(12);

/// Brings up a pair whose VMs exchange frames from the start, and waits for the path that it should have (or for `most`); where that is the
/// relay, until nothing more is tried.
///
/// # Errors
/// The lab cannot be made, or frames do not arrive.
pub fn measure(lab: &Lab, a: NatKind, b: NatKind, most: Duration) -> Result<Row> {
    let mut world = World::new(lab, None)?;
    let mut first = world.begin_site(lab, &SiteSpec::behind(Some(a)))?;
    let mut second = world.begin_site(lab, &SiteSpec::behind(Some(b)))?;
    let start = Instant::now();
    let peaks = [&first, &second].map(|site| site.router.as_ref().map(|r| r.watch_conntrack()));
    first.knows_where(&second)?;
    second.knows_where(&first)?;
    let ping = Ping::start(&first.vm.ns, second.addr, PERIOD)?;
    first.agent.wait_answers()?;
    second.agent.wait_answers()?;
    for site in [&first, &second] {
        let hook = site.agent.status()?.underlay.hook_mode;
        ensure!(hook == Some(HookMode::XdpDriver), "the underlay's hook is {hook:?}");
    }
    let wanted = expected(a, b);
    let path = |from: &Site, to: &Site| {
        let peer = from.peer(to)?;
        Ok::<_, anyhow::Error>(peer.selected().map_or("none", |p| p.kind.as_str()).to_owned())
    };
    let met = poll_until("the path that is expected", most, || {
        let both = (path(&first, &second)?, path(&second, &first)?);
        ensure!(both.0 == wanted && both.1 == wanted, "{both:?}");
        Ok(())
    });
    if met.is_ok() && wanted == "relayed" {
        poll_until("both to know their NATs", most, || {
            for site in [&first, &second] {
                let nat = mesh_of(&site.agent)?.nat.context("nothing is known")?;
                ensure!(nat.filtering != "unknown", "{nat:?}");
            }
            Ok(())
        })?;
        thread::sleep(ATTEMPT);
    }
    // A direct path may have been found after all.
    let path = path(&first, &second)?;
    if path != "none" {
        ping.wait_answered(5, most)?;
    }
    let views = [first.peer(&second)?, second.peer(&first)?];
    let latest = |get: fn(&wavnet_user::api::model::MeshPeer) -> Option<u64>| {
        let all: Option<Vec<u64>> = views.iter().map(get).collect();
        all.and_then(|v| v.into_iter().max())
    };
    let mut entries = 0;
    for peak in peaks.into_iter().flatten() {
        entries = entries.max(peak?.most());
    }
    Ok(Row {
        a: a.to_string(),
        b: b.to_string(),
        path,
        first_frame_ms: ping.first_answer().map(|at| at.duration_since(start).as_millis() as u64),
        first_path_ms: latest(|v| v.first_path_ms),
        direct_ms: latest(|v| v.direct_path_ms),
        conntrack_entries: entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_row_is_named() {
        let row = |path: &str, direct_ms, conntrack_entries| Row {
            a: String::new(),
            b: String::new(),
            path: path.to_owned(),
            first_frame_ms: Some(300),
            first_path_ms: Some(5),
            direct_ms,
            conntrack_entries,
        };
        let (cone, symmetric) = (NatKind::PortRestrictedCone, NatKind::SymmetricRandom);
        let flaws = |row: &Row, a, b| row.flaws(a, b).len();
        assert_eq!(flaws(&row("direct", Some(1000), 1024), cone, cone), 0);
        assert_eq!(flaws(&row("direct", Some(1001), 1024), cone, cone), 1);
        assert_eq!(flaws(&row("direct", Some(9000), 1024), cone, symmetric), 0, "a search takes its time");
        assert_eq!(flaws(&row("direct", Some(9000), 1025), cone, symmetric), 1);
        assert_eq!(flaws(&row("relayed", None, 7), symmetric, symmetric), 0);
        assert_eq!(flaws(&row("direct", Some(9), 7), symmetric, symmetric), 1);
        assert_eq!(flaws(&row("relayed", None, 7), cone, cone), 1);
        let first = |first_path_ms| Row { first_path_ms, ..row("relayed", None, 7) };
        assert_eq!(flaws(&first(Some(1000)), symmetric, symmetric), 0);
        assert_eq!(flaws(&first(Some(1001)), symmetric, symmetric), 1);
        assert_eq!(flaws(&first(None), symmetric, symmetric), 1);
        assert_eq!(
            flaws(&Row { first_path_ms: None, ..row("none", None, 7) }, symmetric, symmetric),
            1,
            "the path alone"
        );
        assert_eq!(flaws(&Row { first_frame_ms: None, ..row("relayed", None, 7) }, symmetric, symmetric), 1);
    }
}
