//! A packet in a host buffer with headroom: for tests, fuzzing, benches and user-space paths.

use super::{FrameMeta, Packet, Strip};

/// A frame inside a caller's buffer; its front can move within the buffer.
pub struct HostPacket<'a> {
    /// The buffer's address, exposed: headers are laid over packet memory by address, as in the kernel.
    base: usize,
    buffer: core::marker::PhantomData<&'a mut [u8]>,
    head: usize,
    tail: usize,
    gso_size: usize,
}

impl<'a> HostPacket<'a> {
    /// The frame is `buf[headroom..]`. `None` if there are fewer than `headroom` bytes.
    pub fn new(buf: &'a mut [u8], headroom: usize) -> Option<HostPacket<'a>> {
        let tail = buf.len();
        let base = buf.as_mut_ptr().expose_provenance();
        (headroom <= tail).then_some(HostPacket {
            base,
            buffer: core::marker::PhantomData,
            head: headroom,
            tail,
            gso_size: 0,
        })
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> &[u8] {
        let data = core::ptr::with_exposed_provenance(self.start());
        // SAFETY: `head..tail` is inside the buffer, which `self` borrows exclusively.
        unsafe { core::slice::from_raw_parts(data, self.tail - self.head) }
    }

    /// Moves the front `n` bytes towards the start of the buffer. `false` if the headroom does not suffice.
    pub fn grow_head(&mut self, n: usize) -> bool {
        match self.head.checked_sub(n) {
            Some(head) => {
                self.head = head;
                true
            }
            None => false,
        }
    }
}

impl Packet for HostPacket<'_> {
    fn start(&self) -> usize {
        self.base + self.head
    }

    fn end(&self) -> usize {
        self.base + self.tail
    }

    fn len(&self) -> usize {
        self.tail - self.head
    }

    fn pull(&mut self, len: usize) -> bool {
        len <= self.len()
    }
}

impl FrameMeta for HostPacket<'_> {
    fn gso_size(&self) -> usize {
        self.gso_size
    }

    fn frames(&self) -> u64 {
        1
    }

    fn has_meta_tag(&self) -> bool {
        false
    }
}

impl Strip for HostPacket<'_> {
    fn strip(&mut self, outer: usize, inner: usize) -> bool {
        if outer + inner > self.len() {
            return false;
        }
        self.head += outer;
        self.tail = self.head + inner;
        true
    }
}

impl super::Grow for HostPacket<'_> {
    fn grow(&mut self, outer: usize, _as_ipv4: bool) -> Result<(), crate::reason::Reason> {
        if self.grow_head(outer) { Ok(()) } else { Err(crate::reason::Reason::Rewrite) }
    }
}
