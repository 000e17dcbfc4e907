//! What XDP has decided about a frame that TC shall deliver: a note beside the frame.
//!
//! The kernel keeps such metadata between XDP and TC and merges only frames with equal notes (GRO), so a super-packet's note is
//! that of each of its segments.

use crate::wire::{
    Wire,
    be::{load16, load32},
};

/// The note. Who may have written it: only XDP on the same interface, which is ours; a container's own wavnet, which gets
/// frames that still carry ours, has another cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    cookie: [u8; 4],
    port_index: [u8; 2],
    vni_index: [u8; 2],
}

// SAFETY: repr(C) of byte arrays: alignment 1, no padding, any bytes are valid.
unsafe impl Wire for Note {}
const _: () = assert!(size_of::<Note>() == Note::LEN);

impl Note {
    /// Bytes of a note: metadata comes in multiples of four.
    pub const LEN: usize = 8;

    /// A note that a frame of this VNI is for this port.
    #[inline(always)]
    #[must_use]
    pub const fn new(cookie: u32, port_index: u16, vni_index: u16) -> Note {
        Note { cookie: cookie.to_ne_bytes(), port_index: port_index.to_ne_bytes(), vni_index: vni_index.to_ne_bytes() }
    }

    /// A note; `None` if the bytes have not the length of one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Note> {
        let (cookie, rest) = bytes.split_first_chunk()?;
        let (port_index, rest) = rest.split_first_chunk()?;
        let (vni_index, rest) = rest.split_first_chunk()?;
        rest.is_empty().then_some(Note { cookie: *cookie, port_index: *port_index, vni_index: *vni_index })
    }

    /// The port if the note is one of ours, and the VNI.
    #[inline(always)]
    #[must_use]
    pub fn read(&self, cookie: u32) -> Option<(u16, u16)> {
        let ours = load32(&self.cookie) == cookie;
        if ours { Some((load16(&self.port_index), load16(&self.vni_index))) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_by_its_writer_alone() {
        let note = Note::new(0xdead_beef, 7, 1023);
        assert_eq!(note.read(0xdead_beef), Some((7, 1023)));
        assert_eq!(note.read(0xdead_bee0), None);
    }
}
