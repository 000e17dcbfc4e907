//! Big-endian integers without alignment.

/// A 16-bit integer in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Be16(pub [u8; 2]);

/// A 32-bit integer in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Be32(pub [u8; 4]);

impl Be16 {
    /// From a number.
    #[inline(always)]
    pub const fn new(n: u16) -> Be16 {
        Be16(n.to_be_bytes())
    }

    /// The number.
    #[inline(always)]
    pub fn get(&self) -> u16 {
        u16::from_be(load16(&self.0))
    }

    /// The two bytes as they are in memory: for comparing and summing without swapping.
    #[inline(always)]
    pub fn raw(&self) -> u16 {
        load16(&self.0)
    }
}

impl Be16 {
    /// Writes two bytes as they are in memory.
    #[inline(always)]
    pub fn set_raw(&mut self, n: u16) {
        store16(&mut self.0, n);
    }
}

impl Be32 {
    /// From a number.
    #[inline(always)]
    pub const fn new(n: u32) -> Be32 {
        Be32(n.to_be_bytes())
    }

    /// The number.
    #[inline(always)]
    pub fn get(&self) -> u32 {
        u32::from_be(self.raw())
    }

    /// Writes four bytes as they are in memory.
    #[inline(always)]
    pub fn set_raw(&mut self, n: u32) {
        store32(&mut self.0, n);
    }

    /// The four bytes as they are in memory: for comparing and summing without swapping.
    #[inline(always)]
    pub fn raw(&self) -> u32 {
        load32(&self.0)
    }
}

// For BPF a load of a `[u8; N]` is N byte loads and shifts, because the target has no unaligned loads by Rust's rules. The
// machines that run it have them, and the verifier knows: one wide load instead.

/// Two bytes in memory order.
#[inline(always)]
pub(crate) fn load16(bytes: &[u8; 2]) -> u16 {
    if cfg!(target_arch = "bpf") {
        // SAFETY: in bounds; the kernel's JITs for x86 and arm64 load unaligned words, see above.
        unsafe { *bytes.as_ptr().cast::<u16>() }
    } else {
        u16::from_ne_bytes(*bytes)
    }
}

/// Four bytes in memory order.
#[inline(always)]
pub(crate) fn load32(bytes: &[u8; 4]) -> u32 {
    if cfg!(target_arch = "bpf") {
        // SAFETY: as in `load16`.
        unsafe { *bytes.as_ptr().cast::<u32>() }
    } else {
        u32::from_ne_bytes(*bytes)
    }
}

/// Writes two bytes in memory order.
#[inline(always)]
pub(crate) fn store16(bytes: &mut [u8; 2], n: u16) {
    if cfg!(target_arch = "bpf") {
        // SAFETY: as in `load16`.
        unsafe { *bytes.as_mut_ptr().cast::<u16>() = n }
    } else {
        *bytes = n.to_ne_bytes();
    }
}

/// Writes four bytes in memory order.
#[inline(always)]
pub(crate) fn store32(bytes: &mut [u8; 4], n: u32) {
    if cfg!(target_arch = "bpf") {
        // SAFETY: as in `load16`.
        unsafe { *bytes.as_mut_ptr().cast::<u32>() = n }
    } else {
        *bytes = n.to_ne_bytes();
    }
}

/// Writes eight bytes in memory order.
#[inline(always)]
pub(crate) fn store64(bytes: &mut [u8; 8], n: u64) {
    if cfg!(target_arch = "bpf") {
        // SAFETY: as in `load16`.
        unsafe { *bytes.as_mut_ptr().cast::<u64>() = n }
    } else {
        *bytes = n.to_ne_bytes();
    }
}
