//! Messages as they come: the header, and attributes in their order.

use std::net::SocketAddr;

use super::{Attribute, AttributeType, BadAttribute, COOKIE, HEADER, fingerprint};

/// What a message is (RFC 8489 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A question.
    Request,
    /// Something that is not answered.
    Indication,
    /// The answer to a request.
    Success,
    /// The answer to a request that failed.
    Error,
}

/// What an answer is found by: the magic cookie and 96 random bits, or the 128 random bits of RFC 3489.
///
/// XOR-MAPPED-ADDRESS is masked with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId([u8; 16]);

impl TransactionId {
    /// One of RFC 8489. Who answers proves to have seen the request, so the bits must come from a cryptographic generator.
    #[must_use]
    pub const fn new(random: [u8; 12]) -> TransactionId {
        let mut id = [0; 16];
        let (cookie, rest) = id.split_at_mut(4);
        cookie.copy_from_slice(&COOKIE);
        rest.copy_from_slice(&random);
        TransactionId(id)
    }

    /// Bytes 4 to 19 of a message.
    #[must_use]
    pub const fn from_wire(bytes: [u8; 16]) -> TransactionId {
        TransactionId(bytes)
    }

    /// Bytes 4 to 19 of a message.
    #[must_use]
    pub const fn to_wire(&self) -> &[u8; 16] {
        &self.0
    }

    /// True for a message of RFC 3489: there is no magic cookie.
    #[must_use]
    pub fn is_legacy(&self) -> bool {
        !self.0.starts_with(&COOKIE)
    }
}

/// Why bytes are not a STUN message. None of them is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than a header, or the two highest bits are not zero.
    #[error("not a STUN header")]
    Header,
    /// The length is not that of the datagram, or no multiple of four.
    #[error("the length in the STUN header is not that of the datagram")]
    Length,
    /// An attribute ends behind the message.
    #[error("{0} ends behind the message")]
    Attribute(AttributeType),
    /// FINGERPRINT is wrong, or not the last attribute.
    #[error("FINGERPRINT is wrong")]
    Fingerprint,
}

/// A message, of which header, bounds of the attributes and FINGERPRINT were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub class: Class,
    /// The method, 12 bits; [`super::BINDING`] is the one that is answered here.
    pub method: u16,
    /// The transaction.
    pub id: TransactionId,
    body: &'a [u8],
    fingerprint: bool,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// Says why it is no STUN message. Values of attributes are looked at by [`RawAttribute::decode`] only.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let (header, body) = bytes.split_first_chunk::<HEADER>().ok_or(Malformed::Header)?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        if kind & 0xc000 != 0 {
            return Err(Malformed::Header);
        }
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if len != body.len() || !len.is_multiple_of(4) {
            return Err(Malformed::Length);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&header[4..]);
        let id = TransactionId(id);
        let fingerprint = check(bytes, body, id.is_legacy())?;
        let class = match kind & 0x0110 {
            0x0000 => Class::Request,
            0x0010 => Class::Indication,
            0x0100 => Class::Success,
            _ => Class::Error,
        };
        // The two bits of the class lie among the twelve of the method.
        let method = kind & 0x000f | kind >> 1 & 0x0070 | kind >> 2 & 0x0f80;
        Ok(Message { class, method, id, body, fingerprint })
    }

    /// True if there was a FINGERPRINT (and it was right): an answer should have one, too.
    #[must_use]
    pub fn has_fingerprint(&self) -> bool {
        self.fingerprint
    }

    /// The attributes that count: of those behind MESSAGE-INTEGRITY only MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489
    /// section 14.5).
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { walk: Walk { rest: self.body }, sealed: false }
    }

    /// The first attribute of a type; others of the same type do not count (RFC 8489 section 14).
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn find(&self, kind: AttributeType) -> Result<Option<Attribute<'a>>, BadAttribute> {
        self.attributes().find(|a| a.kind == kind).map(|a| a.decode(&self.id)).transpose()
    }

    /// The address in the first attribute of a type that holds one, if that is there and can be read.
    #[must_use]
    pub fn address(&self, kind: AttributeType) -> Option<SocketAddr> {
        self.find(kind).ok().flatten().and_then(|a| a.address())
    }

    /// The mapped address: XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS, which a NAT may have rewritten.
    #[must_use]
    pub fn mapped_address(&self) -> Option<SocketAddr> {
        self.address(AttributeType::XOR_MAPPED_ADDRESS).or_else(|| self.address(AttributeType::MAPPED_ADDRESS))
    }
}

/// An attribute as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Its type.
    pub kind: AttributeType,
    /// Its value, without padding.
    pub value: &'a [u8],
}

impl<'a> RawAttribute<'a> {
    /// Reads the value; `id` is that of the message.
    ///
    /// # Errors
    /// The value is none of this type.
    pub fn decode(&self, id: &TransactionId) -> Result<Attribute<'a>, BadAttribute> {
        Attribute::decode(self.kind, self.value, id)
    }
}

/// The attributes of a message, see [`Message::attributes`].
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    walk: Walk<'a>,
    sealed: bool,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = RawAttribute<'a>;

    fn next(&mut self) -> Option<RawAttribute<'a>> {
        let sealed = self.sealed;
        // The walk has been through the whole message, see `check`.
        let attribute = self.walk.by_ref().map_while(Result::ok).find(|a| !sealed || a.kind.follows_integrity())?;
        self.sealed |= attribute.kind == AttributeType::MESSAGE_INTEGRITY;
        Some(attribute)
    }
}

/// All attributes in their order.
#[derive(Clone, Copy, Debug)]
struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<RawAttribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        // What is left is a multiple of four, and so are all steps: there is a header or nothing.
        let (&[t0, t1, l0, l1], rest) = self.rest.split_first_chunk::<4>()?;
        let kind = AttributeType(u16::from_be_bytes([t0, t1]));
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let (Some(value), Some(behind)) = (rest.get(..len), rest.get(len.next_multiple_of(4)..)) else {
            self.rest = &[];
            return Some(Err(Malformed::Attribute(kind)));
        };
        self.rest = behind;
        Some(Ok(RawAttribute { kind, value }))
    }
}

/// Walks through the attributes. True if there is a FINGERPRINT, and it is right.
fn check(bytes: &[u8], body: &[u8], legacy: bool) -> Result<bool, Malformed> {
    let mut walk = Walk { rest: body };
    while let Some(attribute) = walk.next().transpose()? {
        // RFC 3489 has no FINGERPRINT: the type is one that it does not know.
        if attribute.kind != AttributeType::FINGERPRINT || legacy {
            continue;
        }
        let before = bytes.len().checked_sub(fingerprint::LEN).and_then(|end| bytes.get(..end));
        let right = before.is_some_and(|b| attribute.value == fingerprint::of(b).to_be_bytes());
        return if walk.rest.is_empty() && right { Ok(true) } else { Err(Malformed::Fingerprint) };
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made so that its value is right for the place where a FINGERPRINT would have to be.
    #[test]
    fn a_fingerprint_before_another_attribute_is_none() {
        let mut bytes = vec![0, 1, 0, 12];
        bytes.extend(TransactionId::new([5; 12]).to_wire());
        bytes.extend([0x80, 0x28, 0, 4]);
        bytes.extend(fingerprint::of(&bytes).to_be_bytes());
        bytes.extend([0x80, 0x22, 0, 0]);
        assert_eq!(Message::parse(&bytes), Err(Malformed::Fingerprint));
        bytes.truncate(28);
        bytes[3] = 8;
        let crc = fingerprint::of(&bytes[..20]).to_be_bytes();
        bytes[24..].copy_from_slice(&crc);
        assert!(Message::parse(&bytes).is_ok_and(|m| m.has_fingerprint()));
    }
}
