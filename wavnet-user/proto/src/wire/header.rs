//! The header of control datagrams: label, version, type.

use std::fmt;

use wavnet_common::addr::Label;

/// The first byte of control datagrams: `W`.
pub const MAGIC: u8 = b'W';

/// The version that is spoken here.
pub const VERSION: u8 = 1;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// The type of a control datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Asks for a cookie.
    Hello = 1,
    /// Gives one.
    Cookie = 2,
    /// First message of a handshake.
    Init = 3,
    /// Second message of a handshake.
    Response = 4,
    /// Messages under a session's keys.
    Data = 5,
    /// Opens a mapping in a NAT.
    Opener = 6,
    /// What came was not understood.
    Unknown = 7,
}

impl Kind {
    /// The type with this number.
    #[must_use]
    pub const fn new(n: u8) -> Option<Kind> {
        Some(match n {
            1 => Kind::Hello,
            2 => Kind::Cookie,
            3 => Kind::Init,
            4 => Kind::Response,
            5 => Kind::Data,
            6 => Kind::Opener,
            7 => Kind::Unknown,
            _ => return None,
        })
    }

    /// Its name in docs/wire.md.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Hello => "HELLO",
            Kind::Cookie => "COOKIE",
            Kind::Init => "INIT",
            Kind::Response => "RESPONSE",
            Kind::Data => "DATA",
            Kind::Opener => "OPENER",
            Kind::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The header of a control datagram of our version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of the session over a relay, or zero.
    pub label: Label,
    /// Type.
    pub kind: Kind,
}

impl Header {
    /// As it is on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [a, b, c] = self.label.to_bytes();
        [MAGIC, a, b, c, VERSION, self.kind as u8, 0, 0]
    }
}
