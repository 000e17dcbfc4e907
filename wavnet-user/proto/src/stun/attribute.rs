//! Attributes: their types and values.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::TransactionId;

/// The type of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u16);

/// Numbers, names, and whether they are known here: in messages of RFC 8489 and 5780, of RFC 3489, or not at all.
macro_rules! types {
    ($($number:literal $name:ident $text:literal $modern:literal $legacy:literal)*) => {
        impl AttributeType {
            $(#[doc = $text] pub const $name: AttributeType = AttributeType($number);)*

            /// True if a receiver that does not know it may ignore it (RFC 8489 section 14).
            #[must_use]
            pub const fn is_optional(self) -> bool {
                self.0 & 0x8000 != 0
            }

            /// True if it is known: it is no reason for an error 420. What belongs to authentication is known and not checked.
            /// ICE's attributes are not known: this is no ICE agent.
            #[must_use]
            pub const fn is_known(self, legacy: bool) -> bool {
                match self.0 {
                    $($number => if legacy { $legacy } else { $modern },)*
                    _ => false,
                }
            }

            const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

types! {
    0x0001 MAPPED_ADDRESS "MAPPED-ADDRESS" true true
    0x0002 RESPONSE_ADDRESS "RESPONSE-ADDRESS" false false
    0x0003 CHANGE_REQUEST "CHANGE-REQUEST" true true
    0x0004 SOURCE_ADDRESS "SOURCE-ADDRESS" false true
    0x0005 CHANGED_ADDRESS "CHANGED-ADDRESS" false true
    0x0006 USERNAME "USERNAME" true true
    0x0007 PASSWORD "PASSWORD" false true
    0x0008 MESSAGE_INTEGRITY "MESSAGE-INTEGRITY" true true
    0x0009 ERROR_CODE "ERROR-CODE" true true
    0x000a UNKNOWN_ATTRIBUTES "UNKNOWN-ATTRIBUTES" true true
    0x000b REFLECTED_FROM "REFLECTED-FROM" false true
    0x0014 REALM "REALM" true false
    0x0015 NONCE "NONCE" true false
    0x001c MESSAGE_INTEGRITY_SHA256 "MESSAGE-INTEGRITY-SHA256" true false
    0x001d PASSWORD_ALGORITHM "PASSWORD-ALGORITHM" true false
    0x001e USERHASH "USERHASH" true false
    0x0020 XOR_MAPPED_ADDRESS "XOR-MAPPED-ADDRESS" true false
    0x0026 PADDING "PADDING" true true
    0x0027 RESPONSE_PORT "RESPONSE-PORT" true true
    0x8022 SOFTWARE "SOFTWARE" true false
    0x8023 ALTERNATE_SERVER "ALTERNATE-SERVER" true false
    0x8028 FINGERPRINT "FINGERPRINT" true false
    0x802b RESPONSE_ORIGIN "RESPONSE-ORIGIN" true false
    0x802c OTHER_ADDRESS "OTHER-ADDRESS" true false
}

impl AttributeType {
    /// True for the two that count behind MESSAGE-INTEGRITY.
    pub(super) fn follows_integrity(self) -> bool {
        matches!(self, AttributeType::MESSAGE_INTEGRITY_SHA256 | AttributeType::FINGERPRINT)
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "attribute {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An attribute's value is none of its type. A request that has one is answered with an error 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} has a value that cannot be read")]
pub struct BadAttribute(pub AttributeType);

/// An attribute that was read, or is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// MAPPED-ADDRESS: where the request came from, in clear (RFC 8489 section 14.1).
    MappedAddress(SocketAddr),
    /// XOR-MAPPED-ADDRESS: the same, masked, so that no NAT rewrites it (section 14.2).
    XorMappedAddress(SocketAddr),
    /// SOURCE-ADDRESS: where an answer of RFC 3489 was sent from.
    SourceAddress(SocketAddr),
    /// CHANGED-ADDRESS: RFC 3489's name for OTHER-ADDRESS.
    ChangedAddress(SocketAddr),
    /// RESPONSE-ORIGIN: where the answer was sent from (RFC 5780 section 7.3).
    ResponseOrigin(SocketAddr),
    /// OTHER-ADDRESS: the server's other address with its other port (RFC 5780 section 7.4).
    OtherAddress(SocketAddr),
    /// ALTERNATE-SERVER: another server to ask (RFC 8489 section 14.15).
    AlternateServer(SocketAddr),
    /// CHANGE-REQUEST: where to answer from (RFC 5780 section 7.2).
    ChangeRequest {
        /// From the other address.
        ip: bool,
        /// From the other port.
        port: bool,
    },
    /// RESPONSE-PORT: the port to answer to (RFC 5780 section 7.5).
    ResponsePort(u16),
    /// PADDING: so many bytes that say nothing (RFC 5780 section 7.6).
    Padding(u16),
    /// SOFTWARE: what the sender is, for people; empty if it is not UTF-8.
    Software(&'a str),
    /// ERROR-CODE (RFC 8489 section 14.8).
    ErrorCode {
        /// 300 to 699.
        code: u16,
        /// For people; empty if it is not UTF-8.
        reason: &'a str,
    },
    /// UNKNOWN-ATTRIBUTES: what an error 420 is about.
    UnknownAttributes(TypeList<'a>),
    /// FINGERPRINT. [`super::Message::parse`] has checked it; [`super::Builder::finish_with_fingerprint`] writes it.
    Fingerprint(u32),
    /// Any other.
    Other(AttributeType, &'a [u8]),
}

/// Types of attributes, two bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeList<'a>(&'a [u8]);

impl<'a> TypeList<'a> {
    /// A list from its bytes; `None` if their number is odd.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Option<TypeList<'a>> {
        if bytes.len().is_multiple_of(2) { Some(TypeList(bytes)) } else { None }
    }

    /// The types.
    pub fn iter(&self) -> impl Iterator<Item = AttributeType> + use<'a> {
        self.0.chunks_exact(2).map(|t| AttributeType(t.iter().fold(0, |n, b| n << 8 | u16::from(*b))))
    }

    /// Their bytes.
    pub(super) const fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// No mask: the attribute is in clear.
const CLEAR: TransactionId = TransactionId::from_wire([0; 16]);

impl<'a> Attribute<'a> {
    pub(super) fn decode(kind: AttributeType, value: &'a [u8], id: &TransactionId) -> Result<Self, BadAttribute> {
        let bad = BadAttribute(kind);
        let address = |mask| read_address(value, mask).ok_or(bad);
        Ok(match kind {
            AttributeType::MAPPED_ADDRESS => Attribute::MappedAddress(address(&CLEAR)?),
            AttributeType::XOR_MAPPED_ADDRESS => Attribute::XorMappedAddress(address(id)?),
            AttributeType::SOURCE_ADDRESS => Attribute::SourceAddress(address(&CLEAR)?),
            AttributeType::CHANGED_ADDRESS => Attribute::ChangedAddress(address(&CLEAR)?),
            AttributeType::RESPONSE_ORIGIN => Attribute::ResponseOrigin(address(&CLEAR)?),
            AttributeType::OTHER_ADDRESS => Attribute::OtherAddress(address(&CLEAR)?),
            AttributeType::ALTERNATE_SERVER => Attribute::AlternateServer(address(&CLEAR)?),
            AttributeType::CHANGE_REQUEST => match value {
                [_, _, _, flags] => Attribute::ChangeRequest { ip: flags & 4 != 0, port: flags & 2 != 0 },
                _ => return Err(bad),
            },
            AttributeType::RESPONSE_PORT => match value {
                // Two bytes are padding, which some count and some do not.
                [high, low] | [high, low, _, _] => Attribute::ResponsePort(u16::from_be_bytes([*high, *low])),
                _ => return Err(bad),
            },
            AttributeType::PADDING => Attribute::Padding(u16::try_from(value.len()).map_err(|_| bad)?),
            AttributeType::SOFTWARE => Attribute::Software(text(value)),
            AttributeType::ERROR_CODE => match value {
                [_, _, class, number, reason @ ..] if matches!(class & 7, 3..=6) && *number < 100 => {
                    let code = u16::from(class & 7) * 100 + u16::from(*number);
                    Attribute::ErrorCode { code, reason: text(reason) }
                }
                _ => return Err(bad),
            },
            AttributeType::UNKNOWN_ATTRIBUTES => Attribute::UnknownAttributes(TypeList::new(value).ok_or(bad)?),
            AttributeType::FINGERPRINT => {
                Attribute::Fingerprint(u32::from_be_bytes(value.try_into().map_err(|_| bad)?))
            }
            _ => Attribute::Other(kind, value),
        })
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> AttributeType {
        match self {
            Attribute::MappedAddress(_) => AttributeType::MAPPED_ADDRESS,
            Attribute::XorMappedAddress(_) => AttributeType::XOR_MAPPED_ADDRESS,
            Attribute::SourceAddress(_) => AttributeType::SOURCE_ADDRESS,
            Attribute::ChangedAddress(_) => AttributeType::CHANGED_ADDRESS,
            Attribute::ResponseOrigin(_) => AttributeType::RESPONSE_ORIGIN,
            Attribute::OtherAddress(_) => AttributeType::OTHER_ADDRESS,
            Attribute::AlternateServer(_) => AttributeType::ALTERNATE_SERVER,
            Attribute::ChangeRequest { .. } => AttributeType::CHANGE_REQUEST,
            Attribute::ResponsePort(_) => AttributeType::RESPONSE_PORT,
            Attribute::Padding(_) => AttributeType::PADDING,
            Attribute::Software(_) => AttributeType::SOFTWARE,
            Attribute::ErrorCode { .. } => AttributeType::ERROR_CODE,
            Attribute::UnknownAttributes(_) => AttributeType::UNKNOWN_ATTRIBUTES,
            Attribute::Fingerprint(_) => AttributeType::FINGERPRINT,
            Attribute::Other(kind, _) => *kind,
        }
    }

    /// The address that it holds, if it is of a type that does.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Attribute::MappedAddress(a)
            | Attribute::XorMappedAddress(a)
            | Attribute::SourceAddress(a)
            | Attribute::ChangedAddress(a)
            | Attribute::ResponseOrigin(a)
            | Attribute::OtherAddress(a)
            | Attribute::AlternateServer(a) => Some(*a),
            _ => None,
        }
    }

    /// What its address is masked with in a message with this id.
    pub(super) const fn mask<'m>(&self, id: &'m TransactionId) -> &'m TransactionId {
        match self {
            Attribute::XorMappedAddress(_) => id,
            _ => &CLEAR,
        }
    }
}

/// The text, or nothing: what is for people only makes no message unreadable.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Reads an address (RFC 8489 section 14.1).
fn read_address(value: &[u8], mask: &TransactionId) -> Option<SocketAddr> {
    let mask = mask.to_wire();
    let (&[_, family, p0, p1], ip) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([p0 ^ mask[0], p1 ^ mask[1]]);
    let ip = match family {
        1 => IpAddr::V4(Ipv4Addr::from_octets(masked(ip.try_into().ok()?, mask))),
        2 => IpAddr::V6(Ipv6Addr::from_octets(masked(ip.try_into().ok()?, mask))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// An address as it is in a message.
pub(super) struct AddressValue {
    /// A zero, the family, the port.
    pub(super) head: [u8; 4],
    pub(super) ip: IpBytes,
    /// Bytes of both.
    pub(super) len: u8,
}

/// An IP address as it is in a message.
pub(super) enum IpBytes {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl AddressValue {
    #[inline]
    pub(super) fn new(address: SocketAddr, mask: &TransactionId) -> AddressValue {
        let mask = mask.to_wire();
        let [p0, p1] = address.port().to_be_bytes();
        let (family, ip, len) = match address.ip() {
            IpAddr::V4(ip) => (1, IpBytes::V4(masked(ip.octets(), mask)), 8),
            IpAddr::V6(ip) => (2, IpBytes::V6(masked(ip.octets(), mask)), 20),
        };
        AddressValue { head: [0, family, p0 ^ mask[0], p1 ^ mask[1]], ip, len }
    }
}

fn masked<const N: usize>(mut bytes: [u8; N], mask: &[u8; 16]) -> [u8; N] {
    bytes.iter_mut().zip(mask).for_each(|(b, m)| *b ^= m);
    bytes
}
