//! A packet that behaves like the kernel's, quirks included, and remembers its copies.

use std::{boxed::Box, vec, vec::Vec};

use super::frames::checksum;
use crate::{
    datapath::Note,
    packet::{
        AsIpv4, Copies, Extend, FrameMeta, Grow, HandOver, NotHandedOver, Noted, Packet, Rewrite, Seal, Strip, Sum,
    },
    reason::Reason,
    wire::{Be16, EthHdr, Wire, ethernet::TAG_LEN},
};

const HEADROOM: usize = 256;
/// Room behind the frame, for padding.
const TAILROOM: usize = 64;

/// A frame with headroom, and what the kernel keeps beside it.
#[derive(Debug)]
pub struct TestPacket {
    buffer: Box<[u8]>,
    /// Address of `buffer`, exposed: headers are laid over packet memory by address, as in the kernel.
    base: usize,
    head: usize,
    tail: usize,
    /// Bytes that can be read directly, from the front.
    linear: usize,
    /// Payload per segment of a super-packet.
    pub gso_size: usize,
    /// Frames that it stands for.
    pub segments: u64,
    /// The segments are datagrams rather than TCP's.
    pub datagrams: bool,
    /// VLAN tag that is kept beside the data: {TPID, TCI}.
    pub meta_tag: Option<[u16; 2]>,
    /// What a frame is padded to after [`Strip::strip`]: 60 in TC, none in XDP.
    pub pad_to: usize,
    /// The VTEP that it came again for.
    pub errand: Option<u16>,
    /// What XDP has noted.
    pub note: Option<Note>,
    /// The driver keeps no notes.
    pub noteless: bool,
    /// Room in front of the frame that [`Extend::extend`] may take.
    pub headroom: usize,
    /// XDP sees it in a driver, or takes it for that.
    pub raw: bool,
    /// What XDP has put beside it to be looked for behind a redirect.
    pub seal: Option<u32>,
    /// Interfaces that refuse copies.
    pub refusing: Vec<u32>,
    /// Copies that were sent: interface, bytes.
    pub copies: Vec<(u32, Vec<u8>)>,
    /// Copies that came in again: interface, VTEP, bytes.
    pub errands: Vec<(u32, u16, Vec<u8>)>,
}

impl TestPacket {
    /// An ordinary frame.
    pub fn new(frame: &[u8]) -> TestPacket {
        let mut buffer = vec![0xaa; HEADROOM + frame.len() + TAILROOM].into_boxed_slice();
        buffer[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
        let base = buffer.as_mut_ptr().expose_provenance();
        TestPacket {
            buffer,
            base,
            head: HEADROOM,
            tail: HEADROOM + frame.len(),
            linear: frame.len(),
            gso_size: 0,
            segments: 0,
            datagrams: false,
            meta_tag: None,
            pad_to: 0,
            errand: None,
            note: None,
            noteless: false,
            headroom: HEADROOM,
            raw: false,
            seal: None,
            refusing: Vec::new(),
            copies: Vec::new(),
            errands: Vec::new(),
        }
    }

    /// Only the first `linear` bytes can be read until the rest is pulled, as with paged data.
    pub fn paged(mut self, linear: usize) -> TestPacket {
        self.linear = linear.min(self.len());
        self
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> &[u8] {
        let data = core::ptr::with_exposed_provenance(self.start());
        // SAFETY: `head..tail` is inside `buffer`, which `self` owns.
        unsafe { core::slice::from_raw_parts(data, self.tail - self.head) }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            if let Some(place) = self.at_mut::<u8>(offset + i) {
                *place = *byte;
            }
        }
    }
}

impl Packet for TestPacket {
    fn start(&self) -> usize {
        self.base + self.head
    }

    fn end(&self) -> usize {
        self.base + self.head + self.linear
    }

    fn len(&self) -> usize {
        self.tail - self.head
    }

    fn pull(&mut self, len: usize) -> bool {
        if len > self.len() {
            return false;
        }
        self.linear = self.linear.max(len);
        true
    }
}

impl Rewrite for TestPacket {
    fn put<T: Wire>(&mut self, offset: usize, header: &T) -> bool {
        let place = self.at_mut::<T>(offset);
        let there = place.is_some();
        if let Some(place) = place {
            *place = *header;
        }
        there
    }
}

impl Extend for TestPacket {
    fn extend(&mut self, by: usize) -> bool {
        if by > self.headroom.min(self.head) {
            return false;
        }
        self.head -= by;
        self.linear += by;
        self.headroom -= by;
        true
    }
}

impl FrameMeta for TestPacket {
    fn gso_size(&self) -> usize {
        self.gso_size
    }

    fn gso_segs(&self) -> u64 {
        self.segments
    }

    fn has_meta_tag(&self) -> bool {
        self.meta_tag.is_some()
    }
}

impl Strip for TestPacket {
    fn strip(&mut self, outer: usize, inner: usize) -> bool {
        if outer + inner > self.len() {
            return false;
        }
        self.head += outer;
        self.linear = self.linear.saturating_sub(outer).min(inner);
        self.tail = self.head + inner;
        if inner < self.pad_to {
            let pad = (self.pad_to - inner).min(self.buffer.len() - self.tail);
            self.tail += pad;
            self.linear = self.len();
            self.write(inner, &vec![0; pad]);
        }
        true
    }

    fn is_tcp_super_packet(&mut self) -> bool {
        self.gso_size != 0 && !self.datagrams
    }
}

impl HandOver for TestPacket {
    fn hand_over(&mut self, outer: usize, inner: usize, note: &Note) -> Result<(), NotHandedOver> {
        if !self.strip(outer, inner) {
            return Err(NotHandedOver::Lost(Reason::Rewrite));
        }
        if self.noteless {
            // As a driver that keeps no metadata says only now.
            self.head -= outer;
            self.linear += outer;
            return Err(NotHandedOver::Unable);
        }
        self.note = Some(*note);
        Ok(())
    }
}

impl Noted for TestPacket {
    fn note(&self) -> Option<Note> {
        self.note
    }
}

impl Sum for TestPacket {
    fn sum(&mut self, offset: usize, len: usize) -> Option<u32> {
        let bytes = self.bytes().get(offset..offset + len)?;
        Some(u16::from_ne_bytes((!checksum(bytes)).to_be_bytes()).into())
    }

    fn is_raw(&mut self) -> bool {
        self.raw
    }
}

impl Seal for TestPacket {
    fn seal(&mut self, seal: u32) -> Result<bool, Reason> {
        self.seal = (!self.noteless).then_some(seal);
        Ok(!self.noteless)
    }

    fn unseal(&mut self) -> Option<u32> {
        self.seal.take()
    }
}

impl AsIpv4 for TestPacket {
    fn become_ipv4(&mut self) -> bool {
        true
    }
}

impl Grow for TestPacket {
    fn grow(&mut self, outer: usize, _flow: u32) -> Result<(), Reason> {
        let tag = self.meta_tag.take();
        let room = outer + if tag.is_some() { TAG_LEN } else { 0 };
        let front = self.at::<EthHdr>(0).copied();
        self.head = self.head.checked_sub(room).ok_or(Reason::Rewrite)?;
        self.linear += room;
        if let (Some([tpid, tci]), Some(eth)) = (tag, front) {
            let tag = [Be16::new(tpid).0, Be16::new(tci).0].concat();
            self.write(outer, &[&eth.dst[..], &eth.src, &tag, &eth.ethertype.0].concat());
        }
        Ok(())
    }
}

impl Copies for TestPacket {
    fn copy_to(&mut self, ifindex: u32) -> bool {
        if self.refusing.contains(&ifindex) {
            return false;
        }
        let bytes = self.bytes().to_vec();
        self.copies.push((ifindex, bytes));
        true
    }

    fn send_on_errand(&mut self, ifindex: u32, vtep_index: u16) -> bool {
        if self.refusing.contains(&ifindex) {
            return false;
        }
        let bytes = self.bytes().to_vec();
        self.errands.push((ifindex, vtep_index, bytes));
        true
    }

    fn errand(&self) -> Option<u16> {
        self.errand
    }

    fn end_errand(&mut self) {
        self.errand = None;
    }

    fn repeat<F: FnMut(u32) -> bool>(n: u32, mut body: F) {
        for i in 0..n {
            if !body(i) {
                break;
            }
        }
    }
}
