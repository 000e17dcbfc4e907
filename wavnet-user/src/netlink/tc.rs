//! The clsact qdisc of an interface: what is in it, and its removal. Answers at once.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::blocking;

/// TC_H_CLSACT with TC_H_MIN_INGRESS.
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0xfff2 };
/// TC_H_CLSACT with TC_H_MIN_EGRESS.
const EGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0xfff3 };
/// TC_H_CLSACT, where the qdisc hangs, and its own handle.
const PARENT: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };
const HANDLE: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// A filter of a clsact qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// It looks at what comes in, rather than at what goes out.
    pub(crate) ingress: bool,
    /// Its priority.
    pub(crate) priority: u16,
    /// Its handle, as a number.
    pub(crate) handle: u32,
    /// Id of its program, if it has one.
    pub(crate) program: Option<u32>,
}

/// The filters of an interface's clsact qdisc; none if there is no such qdisc.
///
/// # Errors
/// Those of the kernel, or a filter of a kind that cannot be read.
pub(crate) fn clsact_filters(ifindex: u32) -> io::Result<Vec<Filter>> {
    let socket = blocking::open(NETLINK_ROUTE)?;
    let mut all = Vec::new();
    for parent in [INGRESS, EGRESS] {
        let message = RouteNetlinkMessage::GetTrafficFilter(about(ifindex, parent));
        for answer in blocking::exchange(&socket, message, NLM_F_DUMP)? {
            if let RouteNetlinkMessage::NewTrafficFilter(m) = answer {
                all.extend(filter(&m, parent == INGRESS));
            }
        }
    }
    Ok(all)
}

/// Removes an interface's clsact qdisc with everything that is in it.
///
/// # Errors
/// Those of the kernel; there may be no such qdisc.
pub(crate) fn remove_clsact(ifindex: u32) -> io::Result<()> {
    let socket = blocking::open(NETLINK_ROUTE)?;
    let mut message = about(ifindex, PARENT);
    message.header.handle = HANDLE;
    message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    blocking::exchange(&socket, RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK).map(drop)
}

fn about(ifindex: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = ifindex as i32;
    message.header.parent = parent;
    message
}

/// `None` for what stands for a whole priority rather than for one filter.
fn filter(message: &TcMessage, ingress: bool) -> Option<Filter> {
    let handle = u32::from(message.header.handle);
    let options = message.attributes.iter().find_map(|a| match a {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let program = options.into_iter().flatten().find_map(|o| match o {
        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
        _ => None,
    });
    (handle != 0).then_some(Filter { ingress, priority: (message.header.info >> 16) as u16, handle, program })
}
