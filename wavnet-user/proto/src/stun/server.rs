//! Answers Binding requests (RFC 8489), as far as the server's addresses allow with behaviour discovery (RFC 5780), and
//! those of RFC 3489 for the classic client.
//!
//! [`Responder`] keeps nothing: each request is answered by at most one datagram, written into the caller's buffer. How many
//! of them go to one address is for [`super::Sources`] to say. What a server can do depends on what it has:
//!
//! | addresses | CHANGE-REQUEST | OTHER-ADDRESS |
//! | --- | --- | --- |
//! | one address, one port | refused with 420, as RFC 5780 section 6 wants | none |
//! | one address, two ports | *port* alone is obeyed; with *IP* it is refused | none: it names an address and a port that are both different, and must be left out where there is no second address (RFC 5780 section 7.4) |
//! | two addresses, the same two ports on each | obeyed | the other address with the other port |
//!
//! The second row goes beyond RFC 5780, which would have *port* refused there, too. No client takes harm: one that goes by
//! the RFC does not ask without OTHER-ADDRESS, and what is sent is what was asked for. Ours learns of the second port by
//! REGISTERED, and tells by it whether a NAT filters by port.
//!
//! **Sizes.** A request has at least 20 bytes; behind each are 28 of IPv4 or 48 of IPv6 and UDP. The longest answer without
//! PADDING has 76 bytes over IPv4 and 124 over IPv6 (the four addresses that RFC 5780 demands, and FINGERPRINT, which 8
//! bytes in the request paid for), so on the wire an answer is at most 2.0 (IPv4) and 2.4 (IPv6) times its request. PADDING
//! is never longer than the request's. An error is shorter than a success unless it names unknown attributes, 2 bytes for 4
//! in the request each, and 16 at the most. SOFTWARE is not sent: it would only add to that.

use std::net::{IpAddr, SocketAddr};

use super::{Attribute, AttributeType, BINDING, Builder, Class, Malformed, Message, TypeList};
use crate::transmit::Socket;

/// Longest PADDING of an answer: with the rest it is more than an Ethernet link takes in one packet, which is what it is for.
const LONGEST_PADDING: u16 = 1500;

/// So many unknown attributes are named at the most.
const MOST_UNKNOWN: usize = 16;

/// What an error 420 names if there is no other origin.
const CHANGE_REQUEST: [u8; 2] = AttributeType::CHANGE_REQUEST.0.to_be_bytes();

/// Room for any answer, bytes.
pub const LONGEST_ANSWER: usize = 128 + 4 + LONGEST_PADDING as usize;

/// What a server is asked at cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddresses {
    /// Address or port are not such that a datagram could come from them.
    #[error("{0} is not an address of one host with a port: answers name it to clients")]
    Unusable(SocketAddr),
    /// The other port is the same, or zero.
    #[error("the other STUN port must be another one than {0}, and not zero")]
    SamePort(u16),
    /// The other address is the same.
    #[error("the other STUN address must be another one than {0}")]
    SameAddress(IpAddr),
    /// The addresses are of different families: a client of one cannot use the other.
    #[error("{0} and {1} are not of the same family: IPv4 and IPv6 each have their own pair")]
    Family(IpAddr, IpAddr),
    /// A second address is of no use without a second port.
    #[error("with a second STUN address there must be a second port, the same on both (RFC 5780 section 6)")]
    NoOtherPort,
}

/// An answer: what to send, in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The socket that it leaves by.
    pub from: Socket,
    /// Destination.
    pub to: SocketAddr,
    /// Bytes of the payload, at the start of the buffer.
    pub len: usize,
    /// The error's number, if it is one.
    pub error: Option<u16>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Not STUN.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not a Binding request.
    #[error("not a Binding request")]
    NotARequest,
    /// It came by a socket that the server does not have.
    #[error("the server has no such socket")]
    NoSuchSocket,
    /// Nothing can be sent to port 0.
    #[error("the request came from port 0")]
    NoPort,
    /// RFC 3489 does not know that a server may have one address only, and its client takes any answer for success.
    #[error("a request of RFC 3489 for another address or port than there is")]
    NoSuchOrigin,
    /// The buffer is shorter than [`LONGEST_ANSWER`], and too short.
    #[error("no room for the answer")]
    NoRoom,
}

/// Answers Binding requests, for the addresses of one family. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responder {
    /// By bits: 1 the other port, 2 the other address. As [`Socket::Other`] numbers them; 0 is [`Socket::Main`].
    origins: [Option<SocketAddr>; 4],
}

impl Responder {
    /// A server at an address, with another port on it, and another address with the same two ports, as far as there are.
    ///
    /// They are what clients see, which behind a NAT is not what the sockets are bound to.
    ///
    /// # Errors
    /// Says which address cannot be, or does not go with the others.
    pub fn new(main: SocketAddr, other_port: Option<u16>, other_ip: Option<IpAddr>) -> Result<Responder, BadAddresses> {
        let (ip, port) = (main.ip(), main.port());
        if port == 0 || !is_host(ip) {
            return Err(BadAddresses::Unusable(main));
        }
        if other_port.is_some_and(|other| other == port || other == 0) {
            return Err(BadAddresses::SamePort(port));
        }
        if let Some(other) = other_ip {
            if !is_host(other) {
                return Err(BadAddresses::Unusable(SocketAddr::new(other, port)));
            }
            if other == ip {
                return Err(BadAddresses::SameAddress(ip));
            }
            if other.is_ipv4() != ip.is_ipv4() {
                return Err(BadAddresses::Family(ip, other));
            }
            if other_port.is_none() {
                return Err(BadAddresses::NoOtherPort);
            }
        }
        let origin = |ip, port| Some(SocketAddr::new(ip?, port?));
        let (ip, port) = (Some(ip), Some(port));
        let origins = [origin(ip, port), origin(ip, other_port), origin(other_ip, port), origin(other_ip, other_port)];
        Ok(Responder { origins })
    }

    /// Where a socket's answers come from, as clients see it; `None` if the server has no such socket.
    #[must_use]
    pub fn origin(&self, socket: Socket) -> Option<SocketAddr> {
        self.origins.get(number(socket)?).copied().flatten()
    }

    /// Answers what came in by a socket. `out` should have [`LONGEST_ANSWER`] bytes.
    ///
    /// # Errors
    /// There is no answer, and why.
    pub fn respond(&self, by: Socket, source: SocketAddr, bytes: &[u8], out: &mut [u8]) -> Result<Answer, Ignored> {
        let message = Message::parse(bytes)?;
        if message.class != Class::Request || message.method != BINDING {
            return Err(Ignored::NotARequest);
        }
        let by = number(by).filter(|n| self.has(*n)).ok_or(Ignored::NoSuchSocket)?;
        if source.port() == 0 {
            return Err(Ignored::NoPort);
        }
        let request = Request::read(&message);
        if let Some((code, reason, unknown)) = self.refusal(by, &request, message.id.is_legacy())? {
            return Reply { request: &message, by, to: source }.error(code, reason, unknown, out);
        }
        let from = by ^ request.change.unwrap_or_default();
        let origin = self.origins.get(from).copied().flatten().ok_or(Ignored::NoSuchSocket)?;
        let other = self.origins.get(by ^ 3).copied().flatten();
        let mut to = source;
        to.set_port(request.port.unwrap_or(source.port()));
        Reply { request: &message, by: from, to }.success(source, origin, other, request.padding, out)
    }

    /// Number, reason and attributes of the error that a request is answered with; `None`: it can be fulfilled.
    fn refusal<'a>(&self, by: usize, request: &'a Request, legacy: bool) -> Result<Option<Refusal<'a>>, Ignored> {
        if let Some(unknown) = request.unknown() {
            return Ok(Some((420, "Unknown Attribute", unknown)));
        }
        if let Some(change) = request.change {
            // Without a second port CHANGE-REQUEST is unknown as such; but RFC 3489's client sends it always, mostly
            // without flags.
            match (self.has(by ^ change) && (legacy || self.has(1)), legacy) {
                (true, _) => {}
                (false, true) => return Err(Ignored::NoSuchOrigin),
                (false, false) => return Ok(Some((420, "Unknown Attribute", &CHANGE_REQUEST))),
            }
        }
        // RFC 5780 section 6.1: RESPONSE-PORT does not go with PADDING.
        let bad = request.bad || request.padding.is_some() && request.port.is_some();
        Ok(bad.then_some((400, "Bad Request", &[])))
    }

    fn has(&self, socket: usize) -> bool {
        self.origins.get(socket).is_some_and(Option::is_some)
    }
}

/// Number, reason and unknown attributes of an error.
type Refusal<'a> = (u16, &'static str, &'a [u8]);

/// What a request wants.
#[derive(Default)]
struct Request {
    /// The bits of the socket's number that are to change; `None`: there is no CHANGE-REQUEST.
    change: Option<usize>,
    port: Option<u16>,
    padding: Option<u16>,
    /// A value cannot be read.
    bad: bool,
    unknown: [u8; 2 * MOST_UNKNOWN],
    unknown_len: usize,
}

impl Request {
    fn read(message: &Message<'_>) -> Request {
        let mut request = Request::default();
        let legacy = message.id.is_legacy();
        for attribute in message.attributes() {
            if !attribute.kind.is_known(legacy) {
                if !attribute.kind.is_optional() {
                    request.note_unknown(attribute.kind);
                }
                continue;
            }
            // What is known and has no place in a request is ignored, whatever its value.
            match attribute.kind {
                AttributeType::CHANGE_REQUEST | AttributeType::RESPONSE_PORT | AttributeType::PADDING => {}
                _ => continue,
            }
            // Of several of a type the first counts.
            match attribute.decode(&message.id) {
                Ok(Attribute::ChangeRequest { ip, port }) => {
                    request.change.get_or_insert(usize::from(ip) << 1 | usize::from(port));
                }
                Ok(Attribute::ResponsePort(port)) => {
                    request.port.get_or_insert(port);
                }
                Ok(Attribute::Padding(len)) => {
                    request.padding.get_or_insert(len);
                }
                Ok(_) => {}
                Err(_) => request.bad = true,
            }
        }
        request.bad |= request.port == Some(0);
        request
    }

    fn note_unknown(&mut self, kind: AttributeType) {
        let place = self.unknown.get_mut(self.unknown_len..).and_then(|rest| rest.first_chunk_mut());
        if let Some(place) = place {
            *place = kind.0.to_be_bytes();
            self.unknown_len += 2;
        }
    }

    fn unknown(&self) -> Option<&[u8]> {
        self.unknown.get(..self.unknown_len).filter(|types| !types.is_empty())
    }
}

/// An answer to a request, by a socket, to an address.
struct Reply<'a> {
    request: &'a Message<'a>,
    by: usize,
    to: SocketAddr,
}

impl Reply<'_> {
    fn success(
        self,
        source: SocketAddr,
        origin: SocketAddr,
        other: Option<SocketAddr>,
        padding: Option<u16>,
        out: &mut [u8],
    ) -> Result<Answer, Ignored> {
        // A socket that takes both families shows IPv4 addresses inside IPv6 ones.
        let mapped = SocketAddr::new(source.ip().to_canonical(), source.port());
        let mut b = Builder::new(out, Class::Success, self.request.id);
        if self.request.id.is_legacy() {
            b.add(&Attribute::MappedAddress(mapped)).add(&Attribute::SourceAddress(origin));
            if let Some(other) = other {
                b.add(&Attribute::ChangedAddress(other));
            }
        } else {
            b.add(&Attribute::XorMappedAddress(mapped)).add(&Attribute::MappedAddress(mapped));
            b.add(&Attribute::ResponseOrigin(origin));
            if let Some(other) = other {
                b.add(&Attribute::OtherAddress(other));
            }
        }
        if let Some(padding) = padding {
            b.add(&Attribute::Padding(padding.min(LONGEST_PADDING)));
        }
        self.finish(b, None)
    }

    fn error(self, code: u16, reason: &str, unknown: &[u8], out: &mut [u8]) -> Result<Answer, Ignored> {
        let mut b = Builder::new(out, Class::Error, self.request.id);
        b.add(&Attribute::ErrorCode { code, reason });
        if let Some(types) = TypeList::new(unknown).filter(|_| !unknown.is_empty()) {
            b.add(&Attribute::UnknownAttributes(types));
        }
        self.finish(b, Some(code))
    }

    fn finish(self, builder: Builder<'_>, error: Option<u16>) -> Result<Answer, Ignored> {
        let whole = if self.request.has_fingerprint() { builder.finish_with_fingerprint() } else { builder.finish() };
        let len = whole.map_err(|_| Ignored::NoRoom)?;
        Ok(Answer { from: socket(self.by), to: self.to, len, error })
    }
}

/// True for an address that one host may have.
fn is_host(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}

fn number(socket: Socket) -> Option<usize> {
    match socket {
        Socket::Main => Some(0),
        Socket::Other(n @ 1..=3) => Some(n.into()),
        Socket::Other(_) | Socket::Extra(_) => None,
    }
}

fn socket(number: usize) -> Socket {
    match u8::try_from(number) {
        Ok(n @ 1..=3) => Socket::Other(n),
        _ => Socket::Main,
    }
}
