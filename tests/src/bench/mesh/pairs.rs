//! What the agents say of each other: which pairs have a path, of which kind, and how soon they had it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use wavnet_user::{
    api::{
        Client, Request, Response,
        model::{MeshInfo, MeshPeer},
    },
    config,
};

use super::{
    mix::{Chance, chance, pairs},
    report::{Formation, Percentiles},
};
use crate::mesh::Site;

/// How often the agents are asked: to answer costs them something, too.
const PERIOD: Duration = Duration::from_millis(500);

/// Asks an agent. By its socket: hundreds of processes that ask would be work for the machine that is measured.
fn ask(site: &Site) -> Result<MeshInfo> {
    let mut client = Client::connect(&site.agent.run_dir().join(config::Agent::SOCKET))?;
    match client.call(&Request::Mesh)? {
        Response::Mesh(mesh) => Ok(*mesh),
        other => bail!("not an answer to what was asked: {other:?}"),
    }
}

/// What all agents say of each other.
struct Views(Vec<Vec<Option<MeshPeer>>>);

impl Views {
    fn take(sites: &[Site]) -> Result<Views> {
        let all = sites.iter().map(|site| {
            let peers = ask(site)?.peers;
            Ok(sites.iter().map(|other| peers.iter().find(|peer| peer.key == other.key).cloned()).collect())
        });
        Ok(Views(all.collect::<Result<_>>()?))
    }

    /// How both of a pair see each other, if they do.
    fn pair(&self, a: usize, b: usize) -> Option<[&MeshPeer; 2]> {
        let view = |from: usize, to: usize| self.0.get(from)?.get(to)?.as_ref();
        Some([view(a, b)?, view(b, a)?])
    }

    /// The worse of the two kinds of path that a pair has; `None` if one of them has none.
    fn is_direct(&self, a: usize, b: usize) -> Option<bool> {
        let mut direct = true;
        for peer in self.pair(a, b)? {
            direct &= peer.selected()?.kind != "relayed";
        }
        Some(direct)
    }

    /// Counts, without times of the whole.
    fn formation(&self) -> Formation {
        let mut formation = Formation::default();
        let (mut first, mut direct) = (Vec::new(), Vec::new());
        for (a, b) in pairs(self.0.len()) {
            formation.pairs += 1;
            let chance = chance(a, b);
            match self.is_direct(a, b) {
                Some(true) => formation.direct += 1,
                Some(false) if chance == Chance::Relayed => formation.relayed += 1,
                Some(false) if chance == Chance::Searched => formation.relayed_until_found += 1,
                Some(false) => formation.not_yet_direct += 1,
                None => formation.without_path += 1,
            }
            let Some(views) = self.pair(a, b) else { continue };
            let latest = |get: fn(&MeshPeer) -> Option<u64>| Some(get(views[0])?.max(get(views[1])?) as f64);
            first.extend(latest(|peer| peer.first_path_ms));
            direct.extend(latest(|peer| peer.direct_path_ms).filter(|_| chance == Chance::Direct));
        }
        formation.first_path_ms = Percentiles::of(&first);
        formation.direct_path_ms = Percentiles::of(&direct);
        formation
    }
}

/// Waits until all pairs have a path and all that can are direct without a search, or for `most`, from `start` on.
pub(super) fn wait(sites: &[Site], start: Instant, most: Duration) -> Result<Formation> {
    let (mut up, mut direct) = (None, None);
    loop {
        let formation = Views::take(sites)?.formation();
        let passed = start.elapsed().as_secs_f64();
        up = up.or((formation.without_path == 0).then_some(passed));
        direct = direct.or((formation.without_path + formation.not_yet_direct == 0).then_some(passed));
        if (up.is_some() && direct.is_some()) || start.elapsed() >= most {
            return Ok(Formation { all_up_s: up, all_direct_s: direct, ..formation });
        }
        thread::sleep(PERIOD);
    }
}

/// The same at this moment.
pub(super) fn now(sites: &[Site]) -> Result<Formation> {
    Ok(Views::take(sites)?.formation())
}
