//! Requests that wait for their answer: for what the kernel answers before `send` returns.

use std::io;

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// A socket in the network namespace of this thread.
pub(super) fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends a request and collects what comes before its end or acknowledgement.
pub(super) fn exchange<M: NetlinkSerializable + NetlinkDeserializable>(
    socket: &Socket,
    message: M,
    flags: u16,
) -> io::Result<Vec<M>> {
    let mut request = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    let mut answers = Vec::new();
    let mut done = false;
    while !done {
        let (datagram, _) = socket.recv_from_full()?;
        parse::<M>(&datagram, |payload| {
            match payload {
                NetlinkPayload::InnerMessage(m) => answers.push(m),
                NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => done = true,
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(answers)
}

/// Takes a datagram apart.
pub(super) fn parse<M: NetlinkDeserializable>(
    datagram: &[u8],
    mut each: impl FnMut(NetlinkPayload<M>) -> io::Result<()>,
) -> io::Result<()> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
        let length = (message.header.length as usize).next_multiple_of(4);
        each(message.payload)?;
        rest = rest.get(length.max(16)..).unwrap_or_default();
    }
    Ok(())
}
