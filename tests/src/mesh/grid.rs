//! Pairs of NAT types, measured: which path they get, how soon, and what it costs the NATs.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::{Site, SiteSpec, World};
use crate::lab::{Lab, nat::NatKind, poll_until};

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
    /// From when the later of the two wanted to reach the other one until it could send frames, milliseconds.
    pub first_frame_ms: Option<u64>,
    /// The same until it could do so without the relay.
    pub direct_ms: Option<u64>,
    /// The most entries in a NAT's conntrack table, of the two.
    pub conntrack_entries: u64,
}

/// What the papers' types can have: all but two symmetric NATs.
#[must_use]
pub fn expected(a: NatKind, b: NatKind) -> &'static str {
    let symmetric =
        |kind| matches!(kind, NatKind::SymmetricByAddress | NatKind::SymmetricSequential | NatKind::SymmetricRandom);
    if symmetric(a) && symmetric(b) { "relayed" } else { "direct" }
}

/// Brings up a pair, waits for the path that it should have (or for `most`), and sends frames over it.
///
/// # Errors
/// The lab cannot be made, or frames do not arrive.
pub fn measure(lab: &Lab, a: NatKind, b: NatKind, most: Duration) -> Result<Row> {
    let mut world = World::new(lab, None)?;
    let [first, second] = world.sites(lab, [&SiteSpec::behind(Some(a)), &SiteSpec::behind(Some(b))])?;
    let peaks = [&first, &second].map(|site| site.router.as_ref().map(|r| r.watch_conntrack()));
    let wanted = expected(a, b);
    let path = |from: &Site, to: &Site| {
        let peer = from.peer(to)?;
        Ok::<_, anyhow::Error>(peer.selected().map_or("none", |p| p.kind.as_str()).to_owned())
    };
    let met = poll_until("the path that is expected", most, || {
        let both = (path(&first, &second)?, path(&second, &first)?);
        anyhow::ensure!(both.0 == wanted && both.1 == wanted, "{both:?}");
        Ok(())
    });
    let path = match met {
        Ok(()) => wanted.to_owned(),
        Err(_) => path(&first, &second)?,
    };
    if path != "none" {
        first.vm.ns.run("ping", &["-c", "5", "-i", "0.1", "-W", "2", &second.addr.to_string()])?;
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
        first_frame_ms: latest(|v| v.first_path_ms),
        direct_ms: latest(|v| v.direct_path_ms),
        conntrack_entries: entries,
    })
}
