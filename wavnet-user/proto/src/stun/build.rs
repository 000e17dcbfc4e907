//! Messages as they are sent.

use super::{
    Attribute, Class, HEADER, TransactionId,
    attribute::{AddressValue, IpBytes},
    fingerprint,
};

/// Writes a message into a buffer. What does not fit is told at the end, by [`Builder::finish`].
#[derive(Debug)]
pub struct Builder<'a> {
    out: &'a mut [u8],
    len: usize,
    id: TransactionId,
    full: bool,
}

/// The message is longer than the buffer, or than a message may be (65,535 bytes behind the header).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for the STUN message")]
pub struct NoRoom;

impl<'a> Builder<'a> {
    /// Begins a Binding message.
    pub fn new(out: &'a mut [u8], class: Class, id: TransactionId) -> Builder<'a> {
        let kind: u16 = match class {
            Class::Request => 0x0001,
            Class::Indication => 0x0011,
            Class::Success => 0x0101,
            Class::Error => 0x0111,
        };
        let mut builder = Builder { out, len: 0, id, full: false };
        let [k0, k1] = kind.to_be_bytes();
        builder.push(&[k0, k1, 0, 0]);
        builder.push(id.to_wire());
        builder
    }

    /// A message of its own: the attributes, in this order.
    ///
    /// # Errors
    /// It is longer than a message may be.
    pub fn message(class: Class, id: TransactionId, attributes: &[Attribute<'_>]) -> Result<Vec<u8>, NoRoom> {
        // The longest header of an attribute and its padding are below 32 bytes, an address among them.
        let len = attributes.iter().map(|a| a.open_ended() + 32).sum::<usize>() + HEADER;
        let mut out = vec![0; len];
        let mut builder = Builder::new(&mut out, class, id);
        for attribute in attributes {
            builder.add(attribute);
        }
        let len = builder.finish()?;
        out.truncate(len);
        Ok(out)
    }

    /// Adds an attribute. [`Attribute::Fingerprint`] is written as it is given.
    ///
    /// RFC 3489 knows no padding: in an answer to it an error's reason ends with blanks, and of an odd number of unknown
    /// attributes the last one is named twice.
    pub fn add(&mut self, attribute: &Attribute<'_>) -> &mut Self {
        if let Some(address) = attribute.address() {
            let value = AddressValue::new(address, attribute.mask(&self.id));
            let [t0, t1] = attribute.kind().0.to_be_bytes();
            // Most of what is sent is this: two copies of a constant length each.
            self.push(&[t0, t1, 0, value.len, value.head[0], value.head[1], value.head[2], value.head[3]]);
            match value.ip {
                IpBytes::V4(ip) => self.push(&ip),
                IpBytes::V6(ip) => self.push(&ip),
            }
            return self;
        }
        let start = self.len;
        let [t0, t1] = attribute.kind().0.to_be_bytes();
        self.push(&[t0, t1, 0, 0]);
        match attribute {
            Attribute::ChangeRequest { ip, port } => self.push(&[0, 0, 0, u8::from(*ip) << 2 | u8::from(*port) << 1]),
            Attribute::ResponsePort(port) => self.push(&port.to_be_bytes()),
            Attribute::Padding(len) => self.zeros((*len).into()),
            Attribute::Software(text) => self.push(text.as_bytes()),
            Attribute::ErrorCode { code, reason } => {
                let class = u8::try_from((code / 100) & 7).unwrap_or_default();
                self.push(&[0, 0, class, u8::try_from(code % 100).unwrap_or_default()]);
                self.push(reason.as_bytes());
                while self.id.is_legacy() && !(self.len - start).is_multiple_of(4) && !self.full {
                    self.push(b" ");
                }
            }
            Attribute::UnknownAttributes(types) => {
                let types = types.bytes();
                self.push(types);
                if self.id.is_legacy() && !types.len().is_multiple_of(4) {
                    self.push(types.get(types.len().saturating_sub(2)..).unwrap_or_default());
                }
            }
            Attribute::Fingerprint(crc) => self.push(&crc.to_be_bytes()),
            Attribute::Other(_, value) => self.push(value),
            // The address is written already.
            _ => {}
        }
        let value = self.len.saturating_sub(start).saturating_sub(4);
        self.set_length(start + 2, value);
        self.zeros(value.next_multiple_of(4) - value);
        self
    }

    /// Ends the message; its length.
    ///
    /// # Errors
    /// It is longer than the buffer, or than a message may be.
    pub fn finish(mut self) -> Result<usize, NoRoom> {
        self.set_length(2, self.len.saturating_sub(HEADER));
        if self.full { Err(NoRoom) } else { Ok(self.len) }
    }

    /// Ends the message with a FINGERPRINT; its length.
    ///
    /// # Errors
    /// As [`Builder::finish`].
    pub fn finish_with_fingerprint(mut self) -> Result<usize, NoRoom> {
        // The length that is summed counts the attribute.
        self.set_length(2, (self.len + fingerprint::LEN).saturating_sub(HEADER));
        let crc = fingerprint::of(self.out.get(..self.len).unwrap_or_default());
        self.add(&Attribute::Fingerprint(crc));
        self.finish()
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len())) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.full = true,
        }
    }

    fn zeros(&mut self, len: usize) {
        match self.out.get_mut(self.len..).and_then(|rest| rest.get_mut(..len)) {
            Some(place) => {
                place.fill(0);
                self.len += len;
            }
            None => self.full = true,
        }
    }

    fn set_length(&mut self, at: usize, len: usize) {
        let place = self.out.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
        match (place, u16::try_from(len)) {
            (Some(place), Ok(len)) => *place = len.to_be_bytes(),
            _ => self.full = true,
        }
    }
}

impl Attribute<'_> {
    /// Bytes of what has no bound.
    fn open_ended(&self) -> usize {
        match self {
            Attribute::Padding(len) => (*len).into(),
            Attribute::Software(text) => text.len(),
            Attribute::ErrorCode { reason, .. } => reason.len(),
            Attribute::UnknownAttributes(types) => types.bytes().len(),
            Attribute::Other(_, value) => value.len(),
            _ => 0,
        }
    }
}
