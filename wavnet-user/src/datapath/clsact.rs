//! Filters of the clsact qdisc, for kernels without tcx.
//!
//! There is no link to pin. The program itself is pinned in its place, as the mark that the interface has our filter. Another
//! mark, of kind [`QDISC`], says that the qdisc is of our making: it goes with our last filter, unless somebody else has put
//! filters into it meanwhile. A qdisc that was there before us stays.

use std::path::Path;

use aya::programs::{
    ProgramInfo, SchedClassifier, TcAttachType,
    links::Link,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};

use super::{
    Error,
    links::{Tc, interface_name, pin},
    owner,
    pins::{mark, remove},
};
use crate::netlink::tc;

/// Kind of the mark that says who made the qdisc.
pub(super) const QDISC: &str = "qdisc";

/// Ours among the filters: of the first priority, with a handle that nobody gets by chance.
const PRIORITY: u16 = 1;
const HANDLE: u16 = 0x7761;

/// Attaches a program by a filter, or replaces the one that is there.
pub(super) fn attach(
    links: &Path,
    program: &mut SchedClassifier,
    tc: Tc,
    ifindex: u32,
    name: &str,
) -> Result<(), Error> {
    let fail = |e| Error::kernel(format!("attaching {} to {name}", tc.program), e);
    match qdisc_add_clsact(name) {
        Ok(()) => mark(&links.join(pin(QDISC, ifindex)))?,
        // Somebody else's serves as well.
        Err(e) => tracing::debug!(interface = name, error = %e, "no clsact qdisc added"),
    }
    // The mark may be missing though the filter is there (killed in between), or there though the filter is not.
    let handle = TcHandle::new(0, HANDLE);
    let link = SchedClassifierLink::attached(name, TcAttachType::Ingress, PRIORITY, handle, None)
        .map_err(|e| Error::kernel(format!("finding the filter of {name}"), e))?;
    let id = program.attach_to_link(link).or_else(|_| {
        let options = NlOptions { priority: PRIORITY, handle, classid: None };
        program.attach_with_options(name, TcAttachType::Ingress, TcAttachOptions::Netlink(options))
    });
    let id = id.map_err(fail)?;
    // Dropping this kind of link would detach it; it is to outlive us.
    std::mem::forget(program.take_link(id).map_err(fail)?);
    let path = links.join(pin(tc.clsact, ifindex));
    remove(&path)?;
    program.pin(&path).map_err(|e| Error::kernel(format!("pinning {}", path.display()), e))
}

/// Removes our filter, if the interface has it.
pub(super) fn detach(links: &Path, tc: Tc, ifindex: u32) {
    let Some(name) = interface_name(ifindex) else { return };
    let Some(program) = program_of_filter(ifindex) else { return };
    let ours = is_marked(links, tc, ifindex, program) || owner::uses_maps_beside(links, program).unwrap_or(true);
    if !ours {
        tracing::debug!(interface = name, "the filter is another agent's");
        return;
    }
    let handle = TcHandle::new(0, HANDLE);
    let detached = SchedClassifierLink::attached(&name, TcAttachType::Ingress, PRIORITY, handle, None)
        .map_err(Into::into)
        .and_then(Link::detach);
    if let Err(e) = detached {
        tracing::debug!(interface = name, error = %e, "no filter to detach");
    }
}

/// Removes the qdisc of an interface if it is of our making, no filter of ours needs it any more, and nobody else's is in it.
pub(super) fn release_qdisc(links: &Path, ifindex: u32) -> Result<(), Error> {
    let mark = links.join(pin(QDISC, ifindex));
    let needed = Tc::ALL.iter().any(|tc| links.join(pin(tc.clsact, ifindex)).exists());
    if needed || !mark.exists() {
        return Ok(());
    }
    if interface_name(ifindex).is_some() {
        match tc::clsact_filters(ifindex) {
            Ok(filters) if filters.is_empty() => {
                if let Err(e) = tc::remove_clsact(ifindex) {
                    tracing::debug!(ifindex, error = %e, "no clsact qdisc to remove");
                }
            }
            Ok(filters) => {
                tracing::debug!(ifindex, left = filters.len(), "the clsact qdisc is left to others' filters")
            }
            Err(e) => tracing::warn!(ifindex, error = %e, "the clsact qdisc stays: its filters cannot be read"),
        }
    }
    remove(&mark)
}

/// The program of a filter with our handle, unless our mark says that it is ours.
pub(super) fn suspect(links: &Path, tc: Tc, ifindex: u32) -> Option<u32> {
    program_of_filter(ifindex).filter(|program| !is_marked(links, tc, ifindex, *program))
}

fn program_of_filter(ifindex: u32) -> Option<u32> {
    let filters = tc::clsact_filters(ifindex)
        .inspect_err(|e| tracing::debug!(ifindex, error = %e, "cannot list the filters"))
        .unwrap_or_default();
    let ours = |f: &tc::Filter| f.ingress && (f.priority, f.handle) == (PRIORITY, u32::from(HANDLE));
    filters.into_iter().find(ours)?.program
}

fn is_marked(links: &Path, tc: Tc, ifindex: u32, program: u32) -> bool {
    ProgramInfo::from_pin(links.join(pin(tc.clsact, ifindex))).is_ok_and(|mark| mark.id() == program)
}
