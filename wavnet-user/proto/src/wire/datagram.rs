//! Control datagrams, read: lengths, version and reserved bytes are checked here, MACs and ciphertexts by [`crate::trust`].

use super::{
    COOKIE_DATAGRAM_LEN, COOKIE_LEN, DATA_LEN, HEADER_LEN, HELLO_LEN, Header, INIT_LEN, Kind, Label, MAC_LEN, MAGIC,
    MAX_DATA_PLAINTEXT, MAX_PAYLOAD, RESPONSE_LEN, Reader, Short, VERSION,
};
use crate::trust::{KeyError, NetworkId, PublicKey};

/// Length of OPENER.
pub(super) const OPENER_LEN: usize = HEADER_LEN + 8;

/// Why a payload is no control datagram of ours. Each is a reason of its own for a counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It does not begin with `W`, or is shorter than the header.
    #[error("no control datagram")]
    Foreign,
    /// It is of another version.
    #[error("control datagram of version {0}, and only version 1 is spoken here")]
    Version(u8),
    /// Reserved bytes are not zero.
    #[error("reserved bytes of a control datagram are not zero")]
    Reserved,
    /// There is no such type.
    #[error("control datagram of unknown type {0}")]
    Kind(u8),
    /// A datagram of this type cannot have this length.
    #[error("{kind} of {len} bytes")]
    Length {
        /// Its type.
        kind: Kind,
        /// Its length in bytes.
        len: usize,
    },
    /// The public key in COOKIE is none.
    #[error("the responder's public key in COOKIE is none: {0}")]
    Key(KeyError),
}

/// A control datagram as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// HELLO.
    Hello(Hello<'a>),
    /// COOKIE.
    Cookie(Cookie<'a>),
    /// INIT.
    Init(Init<'a>),
    /// RESPONSE.
    Response(Response<'a>),
    /// DATA.
    Data(Data<'a>),
    /// OPENER: nothing to do.
    Opener,
    /// UNKNOWN.
    Unknown(Unknown),
}

/// What a MAC is for, and the MAC, which nobody has checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged<'a> {
    pub(crate) covered: &'a [u8],
    pub(crate) mac: &'a [u8; MAC_LEN],
}

impl<'a> Tagged<'a> {
    /// The MAC, which also names the datagram: two with the same are the same.
    #[must_use]
    pub const fn mac(&self) -> &'a [u8; MAC_LEN] {
        self.mac
    }
}

/// HELLO: asks for a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The sender's name for the session to be.
    pub sender: u32,
    /// The highest version that the sender speaks.
    pub highest: u8,
    /// Which network's key the MAC is made with.
    pub network: NetworkId,
    /// The MAC.
    pub tagged: Tagged<'a>,
}

/// COOKIE: the answer to HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie<'a> {
    /// The index that HELLO had.
    pub receiver: u32,
    /// Whom to shake hands with.
    pub responder: PublicKey,
    /// What INIT must show.
    pub cookie: &'a [u8; COOKIE_LEN],
    /// The MAC.
    pub tagged: Tagged<'a>,
}

/// INIT: a handshake's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init<'a> {
    /// The sender's name for the session to be.
    pub sender: u32,
    /// Which network's keys are used.
    pub network: NetworkId,
    /// The cookie that COOKIE had, or zeros where a server's session stands for it.
    pub cookie: &'a [u8; COOKIE_LEN],
    /// Noise message 1.
    pub noise: &'a [u8],
    /// The MAC.
    pub tagged: Tagged<'a>,
}

/// RESPONSE: a handshake's second message. The responder's index is in Noise message 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The index that INIT had.
    pub receiver: u32,
    /// Noise message 2.
    pub noise: &'a [u8],
}

/// DATA: messages under a session's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// The receiver's index of the session.
    pub receiver: u32,
    /// Number of the datagram in its direction.
    pub counter: u64,
    /// Encrypted messages and tag.
    pub ciphertext: &'a [u8],
}

/// UNKNOWN: a hint, which proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The sender has no session of the index that this DATA had: a receiver's index, a counter, and the first bytes of a ciphertext.
    Data {
        /// Index.
        receiver: u32,
        /// Counter.
        counter: u64,
        /// The first four bytes of the ciphertext.
        start: [u8; 4],
    },
    /// The sender knows no path that this CONNECT_PULSE could have come by.
    Pulse([u8; 2]),
}

impl Init<'_> {
    /// The initiator's ephemeral key, with which Noise message 1 begins: the same for an INIT that is sent again, whatever its cookie, and for
    /// no other. Who has answered it already should send the same RESPONSE again.
    #[must_use]
    pub fn ephemeral(&self) -> [u8; 32] {
        // Read from the wire it is never shorter.
        self.noise.first_chunk().copied().unwrap_or_default()
    }
}

impl<'a> Datagram<'a> {
    /// Reads the payload of a datagram that begins with `W`.
    pub fn parse(bytes: &'a [u8]) -> Result<(Header, Datagram<'a>), WireError> {
        let Some((&[magic, a, b, c, version, kind, r, s], body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(WireError::Foreign);
        };
        if magic != MAGIC {
            return Err(WireError::Foreign);
        }
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        if (r, s) != (0, 0) {
            return Err(WireError::Reserved);
        }
        let kind = Kind::new(kind).ok_or(WireError::Kind(kind))?;
        let len = bytes.len();
        let fits = match kind {
            Kind::Hello => len == HELLO_LEN,
            Kind::Cookie => len == COOKIE_DATAGRAM_LEN,
            Kind::Init => (INIT_LEN..=INIT_LEN + MAX_PAYLOAD).contains(&len),
            Kind::Response => (RESPONSE_LEN..=RESPONSE_LEN + MAX_PAYLOAD).contains(&len),
            Kind::Data => (DATA_LEN..=DATA_LEN + MAX_DATA_PLAINTEXT).contains(&len),
            Kind::Opener => len == OPENER_LEN,
            // What it says may be of either kind.
            Kind::Unknown => true,
        };
        let wrong = |Short| WireError::Length { kind, len };
        if !fits {
            return Err(wrong(Short));
        }
        let header = Header { label: Label::from_bytes([a, b, c]), kind };
        let datagram = match kind {
            Kind::Hello => Datagram::Hello(hello(bytes).map_err(wrong)?),
            Kind::Cookie => Datagram::Cookie(cookie(bytes).map_err(wrong)??),
            Kind::Init => Datagram::Init(init(bytes).map_err(wrong)?),
            Kind::Response => Datagram::Response(response(body).map_err(wrong)?),
            Kind::Data => Datagram::Data(data(body).map_err(wrong)?),
            Kind::Opener => Datagram::Opener,
            Kind::Unknown => Datagram::Unknown(unknown(body).map_err(wrong)?),
        };
        Ok((header, datagram))
    }
}

/// Parts a datagram with a MAC: the body without it, and what the MAC is for. The label is not covered, and relays may write it.
fn tagged(datagram: &[u8]) -> Result<(Reader<'_>, Tagged<'_>), Short> {
    let (rest, mac) = datagram.split_last_chunk().ok_or(Short)?;
    let covered = rest.get(4..).ok_or(Short)?;
    let body = rest.get(HEADER_LEN..).ok_or(Short)?;
    Ok((Reader::new(body), Tagged { covered, mac }))
}

fn hello(datagram: &[u8]) -> Result<Hello<'_>, Short> {
    let (mut body, tagged) = tagged(datagram)?;
    let (sender, highest) = (body.u32()?, body.u8()?);
    body.take(3)?;
    Ok(Hello { sender, highest, network: NetworkId::from_bytes(*body.array()?), tagged })
}

fn cookie(datagram: &[u8]) -> Result<Result<Cookie<'_>, WireError>, Short> {
    let (mut body, tagged) = tagged(datagram)?;
    let (receiver, responder, cookie) = (body.u32()?, body.array()?, body.array()?);
    Ok(match PublicKey::new(*responder) {
        Ok(responder) => Ok(Cookie { receiver, responder, cookie, tagged }),
        Err(error) => Err(WireError::Key(error)),
    })
}

fn init(datagram: &[u8]) -> Result<Init<'_>, Short> {
    let (mut body, tagged) = tagged(datagram)?;
    let (sender, network) = (body.u32()?, NetworkId::from_bytes(*body.array()?));
    Ok(Init { sender, network, cookie: body.array()?, noise: body.rest(), tagged })
}

fn response(body: &[u8]) -> Result<Response<'_>, Short> {
    let mut body = Reader::new(body);
    Ok(Response { receiver: body.u32()?, noise: body.rest() })
}

fn data(body: &[u8]) -> Result<Data<'_>, Short> {
    let mut body = Reader::new(body);
    Ok(Data { receiver: body.u32()?, counter: body.u64()?, ciphertext: body.rest() })
}

fn unknown(body: &[u8]) -> Result<Unknown, Short> {
    if let Ok(pulse) = <[u8; 2]>::try_from(body) {
        return Ok(Unknown::Pulse(pulse));
    }
    let mut body = Reader::new(body);
    let unknown = Unknown::Data { receiver: body.u32()?, counter: body.u64()?, start: *body.array()? };
    if body.is_empty() { Ok(unknown) } else { Err(Short) }
}
