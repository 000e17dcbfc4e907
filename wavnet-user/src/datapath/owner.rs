//! Whose a program on an interface is: agents that share a host have their pins, and so their maps, in different directories.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use aya::{
    maps::MapInfo,
    programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_programs},
};

use super::{
    clsact,
    links::Tc,
    pins::{LINKS_DIR, MAPS_DIR, map_names},
};

/// A TC program on an interface that belongs to another agent than the one with these links.
///
/// Looking at programs takes CAP_SYS_ADMIN; without it none is found.
pub(super) fn intruder(links: &Path, tc: Tc, ifindex: u32, name: &str) -> Option<ProgramInfo> {
    // Fails on kernels before 6.6.
    let (_, programs) = SchedClassifier::query_tcx(name, TcAttachType::Ingress).unwrap_or_default();
    let wavnets = |p: &ProgramInfo| Tc::ALL.iter().any(|tc| p.name_as_str() == Some(tc.program));
    let mut suspects: Vec<ProgramInfo> = programs.into_iter().filter(wavnets).collect();
    suspects.extend(clsact::suspect(links, tc, ifindex).and_then(find));
    if suspects.is_empty() {
        return None;
    }
    let ours = map_ids(links);
    suspects.into_iter().find(|p| shares_maps(p, &ours) == Some(false))
}

/// The directory of pins, beside the one with these links, that a program belongs to.
pub(super) fn home(links: &Path, program: &ProgramInfo) -> Option<PathBuf> {
    let own = links.parent()?;
    let siblings = std::fs::read_dir(own.parent()?).ok()?;
    let is_home = |dir: &Path| shares_maps(program, &map_ids(&dir.join(LINKS_DIR))) == Some(true);
    siblings.flatten().map(|entry| entry.path()).find(|dir| dir != own && is_home(dir))
}

/// Whether a program uses the maps that are pinned beside these links; `None`: cannot be told.
pub(super) fn uses_maps_beside(links: &Path, program: u32) -> Option<bool> {
    shares_maps(&find(program)?, &map_ids(links))
}

fn find(program: u32) -> Option<ProgramInfo> {
    loaded_programs().filter_map(Result::ok).find(|p| p.id() == program)
}

fn map_ids(links: &Path) -> BTreeSet<u32> {
    let Some(dir) = links.parent().map(|own| own.join(MAPS_DIR)) else { return BTreeSet::new() };
    map_names().filter_map(|name| Some(MapInfo::from_pin(dir.join(name)).ok()?.id())).collect()
}

fn shares_maps(program: &ProgramInfo, ours: &BTreeSet<u32>) -> Option<bool> {
    let ids = program.map_ids().ok().flatten().filter(|_| !ours.is_empty())?;
    Some(ids.iter().any(|id| ours.contains(id)))
}
