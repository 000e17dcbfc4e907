//! Messages: what the plaintexts of DATA and the payloads of handshakes consist of.
//!
//! Each is a type, a length and a value; types that are not known are passed over, so that a version may grow. A value that is not as
//! docs/wire.md section 4 has it ends the reading.

mod parts;
mod peer;
mod server;
mod writer;

pub use parts::{MAX_NAME, MAX_VNIS, Name, NameError};
pub use peer::{Candidates, PeerHello, Probe, ProbeAnswer, Search, Selected};
pub use server::{
    ByeReason, Connect, Entry, Forward, HostState, Invite, MAX_SERVER_ADDRESSES, Page, Refused, RefusedCode, Register,
    Registered, Sync,
};
pub use writer::Writer;

use super::{AddressError, Reader, Short};
pub use crate::nat::NatSummary;
use crate::trust::KeyError;

/// A message. Which side sends which is for the cores to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// REGISTER.
    Register(Register),
    /// REGISTERED.
    Registered(Registered),
    /// REFRESH: extends the lease; answered by REGISTERED.
    Refresh {
        /// Request number.
        request: u32,
    },
    /// SYNC.
    Sync(Sync),
    /// PAGE.
    Page(Page),
    /// CHANGED: the directory has changed.
    Changed {
        /// Its version now.
        version: u64,
    },
    /// CONNECT.
    Connect(Connect),
    /// INVITE.
    Invite(Invite),
    /// FORWARD: hand this to a peer.
    Forward(Forward),
    /// FORWARDED: this comes from a peer, says the server.
    Forwarded(Forward),
    /// REFUSED.
    Refused(Refused),
    /// BYE: the session ends.
    Bye {
        /// Why.
        reason: ByeReason,
    },
    /// CHECK: to an address that the host has not shown to be its own yet.
    Check {
        /// Random number, which CHECKED repeats from there.
        token: u32,
    },
    /// CHECKED.
    Checked {
        /// Of the CHECK.
        token: u32,
    },
    /// PEER_HELLO.
    PeerHello(PeerHello),
    /// PROBE.
    Probe(Probe),
    /// PROBE_ANSWER.
    ProbeAnswer(ProbeAnswer),
    /// CANDIDATES.
    Candidates(Candidates),
    /// SEARCH.
    Search(Search),
    /// SELECTED.
    Selected(Selected),
    /// MARKER: the last on the old path.
    Marker {
        /// Random number, which `MARKER_SEEN` repeats.
        transaction: u64,
    },
    /// `MARKER_SEEN`.
    MarkerSeen {
        /// Transaction of the MARKER.
        transaction: u64,
    },
}

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {fault}")]
pub struct MessageError {
    /// Its name, or `a message` where that is not known.
    pub message: &'static str,
    /// What it is.
    pub fault: Fault,
}

/// What can be wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It ends too early.
    #[error("it is too short")]
    Short,
    /// There is more than belongs there.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// It is longer than a plaintext may be.
    #[error("{0} bytes are more than fit into a datagram")]
    TooLong(usize),
    /// A byte that is either 0 or 1 is neither.
    #[error("{0} where 0 or 1 is wanted")]
    Flag(u8),
    /// An address is none.
    #[error("{0} is nobody's")]
    Address(#[from] AddressError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A list is too long.
    #[error("{len} {what}, and {most} is the most")]
    TooMany {
        /// What it is a list of.
        what: &'static str,
        /// How many there are.
        len: usize,
        /// How many there may be.
        most: usize,
    },
    /// Zero is no VNI.
    #[error("VNI 0")]
    Vni,
    /// VNIs do not ascend.
    #[error("its VNIs do not ascend")]
    Order,
    /// A public key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<Short> for Fault {
    fn from(_: Short) -> Fault {
        Fault::Short
    }
}

impl Message {
    /// Its type and its name in docs/wire.md.
    #[must_use]
    pub const fn kind(&self) -> (u8, &'static str) {
        match self {
            Message::Register(_) => (1, "REGISTER"),
            Message::Registered(_) => (2, "REGISTERED"),
            Message::Refresh { .. } => (3, "REFRESH"),
            Message::Sync(_) => (4, "SYNC"),
            Message::Page(_) => (5, "PAGE"),
            Message::Changed { .. } => (6, "CHANGED"),
            Message::Connect(_) => (7, "CONNECT"),
            Message::Invite(_) => (8, "INVITE"),
            Message::Forward(_) => (9, "FORWARD"),
            Message::Forwarded(_) => (10, "FORWARDED"),
            Message::Refused(_) => (11, "REFUSED"),
            Message::Bye { .. } => (12, "BYE"),
            Message::Check { .. } => (13, "CHECK"),
            Message::Checked { .. } => (14, "CHECKED"),
            Message::PeerHello(_) => (32, "PEER_HELLO"),
            Message::Probe(_) => (33, "PROBE"),
            Message::ProbeAnswer(_) => (34, "PROBE_ANSWER"),
            Message::Candidates(_) => (35, "CANDIDATES"),
            Message::Selected(_) => (36, "SELECTED"),
            Message::Marker { .. } => (37, "MARKER"),
            Message::MarkerSeen { .. } => (38, "MARKER_SEEN"),
            Message::Search(_) => (39, "SEARCH"),
        }
    }

    /// Appends type, length and value. Nothing is appended on an error: what breaks a limit of docs/wire.md cannot be said.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), MessageError> {
        let (kind, message) = self.kind();
        let before = out.len();
        out.extend([kind, 0, 0]);
        let start = out.len();
        let written = self.write_value(out).and_then(|()| {
            let len = out.len() - start;
            let len = u16::try_from(len).map_err(|_| Fault::TooLong(len))?;
            if let Some(field) = out.get_mut(start - 2..start) {
                field.copy_from_slice(&len.to_be_bytes());
            }
            Ok(())
        });
        written.map_err(|fault| {
            out.truncate(before);
            MessageError { message, fault }
        })
    }

    fn write_value(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Message::Register(m) => return m.write(out),
            Message::Registered(m) => return m.write(out),
            Message::Refresh { request } => out.extend(request.to_be_bytes()),
            Message::Sync(m) => m.write(out),
            Message::Page(m) => m.write(out),
            Message::Changed { version } => out.extend(version.to_be_bytes()),
            Message::Connect(m) => return m.write(out),
            Message::Invite(m) => return m.write(out),
            Message::Forward(m) | Message::Forwarded(m) => m.write(out),
            Message::Refused(m) => m.write(out),
            Message::Bye { reason } => out.push(reason.0),
            Message::Check { token } | Message::Checked { token } => out.extend(token.to_be_bytes()),
            Message::PeerHello(m) => return m.write(out),
            Message::Probe(m) => m.write(out),
            Message::ProbeAnswer(m) => return m.write(out),
            Message::Candidates(m) => return m.write(out),
            Message::Search(m) => m.write(out),
            Message::Selected(m) => m.write(out),
            Message::Marker { transaction } | Message::MarkerSeen { transaction } => {
                out.extend(transaction.to_be_bytes());
            }
        }
        Ok(())
    }
}

/// The message of a type, or `None` for a type that is not known here.
fn read(kind: u8, value: &mut Reader<'_>) -> Option<(&'static str, Result<Message, Fault>)> {
    let v = value;
    Some(match kind {
        1 => ("REGISTER", Register::read(v).map(Message::Register)),
        2 => ("REGISTERED", Registered::read(v).map(Message::Registered)),
        3 => ("REFRESH", v.u32().map(|request| Message::Refresh { request }).map_err(Fault::from)),
        4 => ("SYNC", Sync::read(v).map(Message::Sync)),
        5 => ("PAGE", Page::read(v).map(Message::Page)),
        6 => ("CHANGED", v.u64().map(|version| Message::Changed { version }).map_err(Fault::from)),
        7 => ("CONNECT", Connect::read(v).map(Message::Connect)),
        8 => ("INVITE", Invite::read(v).map(Message::Invite)),
        9 => ("FORWARD", Forward::read(v).map(Message::Forward)),
        10 => ("FORWARDED", Forward::read(v).map(Message::Forwarded)),
        11 => ("REFUSED", Refused::read(v).map(Message::Refused)),
        12 => ("BYE", v.u8().map(|reason| Message::Bye { reason: ByeReason(reason) }).map_err(Fault::from)),
        13 => ("CHECK", v.u32().map(|token| Message::Check { token }).map_err(Fault::from)),
        14 => ("CHECKED", v.u32().map(|token| Message::Checked { token }).map_err(Fault::from)),
        32 => ("PEER_HELLO", PeerHello::read(v).map(Message::PeerHello)),
        33 => ("PROBE", Probe::read(v).map(Message::Probe)),
        34 => ("PROBE_ANSWER", ProbeAnswer::read(v).map(Message::ProbeAnswer)),
        35 => ("CANDIDATES", Candidates::read(v).map(Message::Candidates)),
        36 => ("SELECTED", Selected::read(v).map(Message::Selected)),
        37 => ("MARKER", v.u64().map(|transaction| Message::Marker { transaction }).map_err(Fault::from)),
        38 => ("MARKER_SEEN", v.u64().map(|transaction| Message::MarkerSeen { transaction }).map_err(Fault::from)),
        39 => ("SEARCH", Search::read(v).map(Message::Search)),
        _ => return None,
    })
}

/// The messages of a plaintext. Ends behind the first error.
#[derive(Clone, Debug)]
pub struct Messages<'a>(Reader<'a>);

impl<'a> Messages<'a> {
    /// Reads a plaintext.
    #[must_use]
    pub const fn new(plaintext: &'a [u8]) -> Messages<'a> {
        Messages(Reader::new(plaintext))
    }

    /// One message, or `None` if one of a type that is not known was passed over.
    fn step(&mut self) -> Result<Option<Message>, MessageError> {
        let framing = |_: Short| MessageError { message: "a message", fault: Fault::Short };
        let (kind, len) = (self.0.u8().map_err(framing)?, self.0.u16().map_err(framing)?);
        let mut value = Reader::new(self.0.take(usize::from(len)).map_err(framing)?);
        let Some((message, read)) = read(kind, &mut value) else {
            return Ok(None);
        };
        let left = value.rest().len();
        let read = if left == 0 { read } else { read.and(Err(Fault::Trailing(left))) };
        read.map(Some).map_err(|fault| MessageError { message, fault })
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.step() {
                Ok(Some(message)) => return Some(Ok(message)),
                Ok(None) => {}
                Err(error) => {
                    self.0.rest();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl std::iter::FusedIterator for Messages<'_> {}
