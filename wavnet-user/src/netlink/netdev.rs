//! The generic netlink family `netdev` (Linux 6.3): what XDP can do with an interface.
//!
//! XDP redirects into an interface only if its driver has `ndo_xdp_xmit`, and into a veth only while the other end has NAPI
//! (an XDP program, or `gro on`); a tap takes no frames in several buffers. The kernel knows, and tells when it changes. See Documentation/netlink/specs/netdev.yaml.

use std::{collections::BTreeMap, io};

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_DUMP, NetlinkPayload, NlasIterator, ParseableParametrized, parse_u32,
    parse_u64,
};
use netlink_packet_generic::{
    GenlFamily, GenlHeader, GenlMessage,
    ctrl::{
        GenlCtrl, GenlCtrlCmd,
        nlas::{GenlCtrlAttrs, McastGrpAttrs},
    },
};
use netlink_sys::{AsyncSocket, AsyncSocketExt, Socket, TokioSocket, protocols::NETLINK_GENERIC};

use wavnet_proto::fabric::XdpRedirect;

use super::{Event, blocking};

const FAMILY: &str = "netdev";
const GROUP: &str = "mgmt";
const CMD_DEV_GET: u8 = 1;
const CMD_DEV_ADD_NTF: u8 = 2;
const CMD_DEV_CHANGE_NTF: u8 = 4;
const A_DEV_IFINDEX: u16 = 1;
const A_DEV_XDP_FEATURES: u16 = 3;
/// The interface takes frames that XDP redirects into it.
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 1 << 2;
/// Those in several buffers, too.
const NETDEV_XDP_ACT_NDO_XMIT_SG: u64 = 1 << 6;

/// A message of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Device {
    command: u8,
    ifindex: Option<u32>,
    xdp_features: Option<u64>,
}

impl Device {
    fn redirect(&self) -> Option<(u32, XdpRedirect)> {
        let has = |feature| self.xdp_features.map(|all| all & feature != 0);
        let what = match (has(NETDEV_XDP_ACT_NDO_XMIT)?, has(NETDEV_XDP_ACT_NDO_XMIT_SG)?) {
            (false, _) => XdpRedirect::Nothing,
            (true, false) => XdpRedirect::OneBuffer,
            (true, true) => XdpRedirect::Everything,
        };
        Some((self.ifindex?, what))
    }
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        FAMILY
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        if self.ifindex.is_some() { 8 } else { 0 }
    }

    fn emit(&self, buffer: &mut [u8]) {
        if let Some(ifindex) = self.ifindex {
            buffer[..2].copy_from_slice(&8u16.to_ne_bytes());
            buffer[2..4].copy_from_slice(&A_DEV_IFINDEX.to_ne_bytes());
            buffer[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        }
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(buf: &[u8], header: GenlHeader) -> Result<Device, DecodeError> {
        let mut device = Device { command: header.cmd, ifindex: None, xdp_features: None };
        for attribute in NlasIterator::new(buf) {
            let attribute = attribute?;
            match attribute.kind() {
                A_DEV_IFINDEX => device.ifindex = Some(parse_u32(attribute.value())?),
                A_DEV_XDP_FEATURES => device.xdp_features = Some(parse_u64(attribute.value())?),
                _ => {}
            }
        }
        Ok(device)
    }
}

/// Asks. The kernel answers such requests before `send` returns, so nothing here waits.
pub(super) struct Netdev {
    socket: Socket,
    family: u16,
}

impl Netdev {
    pub(super) fn open() -> io::Result<Netdev> {
        let socket = blocking::open(NETLINK_GENERIC)?;
        let (family, _) = family(&socket)?;
        Ok(Netdev { socket, family })
    }

    pub(super) fn redirect(&self, ifindex: u32) -> io::Result<Option<XdpRedirect>> {
        let found = self.get(Some(ifindex))?;
        Ok(found.get(&ifindex).copied())
    }

    pub(super) fn redirect_all(&self) -> io::Result<BTreeMap<u32, XdpRedirect>> {
        self.get(None)
    }

    fn get(&self, ifindex: Option<u32>) -> io::Result<BTreeMap<u32, XdpRedirect>> {
        let device = Device { command: CMD_DEV_GET, ifindex, xdp_features: None };
        let mut message = GenlMessage::from_payload(device);
        message.set_resolved_family_id(self.family);
        let flags = if ifindex.is_some() { NLM_F_ACK } else { NLM_F_DUMP };
        let answers = blocking::exchange(&self.socket, message, flags)?;
        Ok(answers.into_iter().filter_map(|d| d.payload.redirect()).collect())
    }
}

/// Listens.
pub(super) struct Notifications {
    socket: TokioSocket,
}

impl Notifications {
    pub(super) fn open() -> io::Result<Notifications> {
        let (_, group) = family(&blocking::open(NETLINK_GENERIC)?)?;
        let group = group.ok_or_else(|| io::Error::other("the family has no group mgmt"))?;
        let mut socket = TokioSocket::new(NETLINK_GENERIC)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(group)?;
        Ok(Notifications { socket })
    }

    pub(super) async fn next(&mut self) -> io::Result<Vec<Event>> {
        let (datagram, _) = match self.socket.recv_from_full().await {
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(vec![Event::Lost]),
            other => other?,
        };
        let mut events = Vec::new();
        blocking::parse::<GenlMessage<Device>>(&datagram, |payload| {
            if let NetlinkPayload::InnerMessage(m) = payload
                && matches!(m.payload.command, CMD_DEV_ADD_NTF | CMD_DEV_CHANGE_NTF)
            {
                events.extend(m.payload.redirect().map(|(ifindex, can)| Event::XdpRedirect(ifindex, can)));
            }
            Ok(())
        })?;
        Ok(events)
    }
}

/// Number of the family, and of its group for notifications.
fn family(socket: &Socket) -> io::Result<(u16, Option<u32>)> {
    let ask = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())] };
    let answers = blocking::exchange(socket, GenlMessage::from_payload(ask), NLM_F_ACK)?;
    let (mut id, mut group) = (None, None);
    for attribute in answers.into_iter().flat_map(|a| a.payload.nlas) {
        match attribute {
            GenlCtrlAttrs::FamilyId(n) => id = Some(n),
            GenlCtrlAttrs::McastGroups(groups) => {
                let wanted = |g: &&Vec<McastGrpAttrs>| g.contains(&McastGrpAttrs::Name(GROUP.to_owned()));
                group = groups.iter().find(wanted).and_then(|g| {
                    g.iter().find_map(|a| match a {
                        McastGrpAttrs::Id(n) => Some(*n),
                        _ => None,
                    })
                });
            }
            _ => {}
        }
    }
    Ok((id.ok_or(io::ErrorKind::NotFound)?, group))
}
