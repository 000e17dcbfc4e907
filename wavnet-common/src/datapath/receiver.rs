//! May a local port get a frame? The same whether it comes from the underlay or from another port.

use super::Tables;
use crate::{
    abi::{Port, PortFlags},
    reason::Reason,
    wire::ethernet::TAG_LEN,
};

/// The port if it may get a frame of that VNI, length and kind.
#[inline(always)]
pub(super) fn receiver<T: Tables>(
    tables: &T,
    index: u16,
    vni_index: u16,
    len: usize,
    tagged: bool,
) -> Result<&Port, Reason> {
    let port = tables.port(index).ok_or(Reason::UnknownPort)?;
    if port.ifindex == 0 || port.vni_index != vni_index {
        return Err(Reason::UnknownPort);
    }
    if port.flags & PortFlags::DOWN != 0 {
        return Err(Reason::PortDown);
    }
    if tagged && port.flags & PortFlags::VLAN_DISCARD != 0 {
        return Err(Reason::VlanTagged);
    }
    if len > longest(port, tagged) {
        return Err(Reason::ExceedsPortMtu);
    }
    Ok(port)
}

/// Bytes of the longest frame that a port takes.
#[inline(always)]
pub(super) fn longest(port: &Port, tagged: bool) -> usize {
    port.max_frame as usize + if tagged { TAG_LEN } else { 0 }
}
