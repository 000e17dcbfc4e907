//! Packs messages into plaintexts.

use super::{Fault, Message, MessageError};
use crate::wire::MAX_PLAINTEXT;

/// Packs messages, in order, into as few plaintexts of at most [`MAX_PLAINTEXT`] bytes as that order allows.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Writer {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Adds a message. Nothing changes on an error.
    pub fn push(&mut self, message: &Message) -> Result<(), MessageError> {
        let before = self.last.len();
        message.write(&mut self.last)?;
        if self.last.len() <= MAX_PLAINTEXT {
            return Ok(());
        }
        let moved = self.last.split_off(before);
        if moved.len() > MAX_PLAINTEXT {
            return Err(MessageError { message: message.kind().1, fault: Fault::TooLong(moved.len()) });
        }
        self.full.push(std::mem::replace(&mut self.last, moved));
        Ok(())
    }

    /// True if nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// The plaintexts; none if nothing was added.
    #[must_use]
    pub fn finish(self) -> Vec<Vec<u8>> {
        let Writer { mut full, last } = self;
        if !last.is_empty() {
            full.push(last);
        }
        full
    }
}
