//! Wire headers as plain structs of byte arrays: any address is a valid place for them, and every pattern a valid value.
//!
//! One file per header; offsets between headers are the caller's business.

pub(crate) mod be;
pub mod demux;
pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod pulse;
pub mod udp;
pub mod vxlan;

pub use be::{Be16, Be32};
pub use ethernet::EthHdr;
pub use ipv4::Ipv4Hdr;
pub use ipv6::Ipv6Hdr;
pub use pulse::{PulseHdr, RelayedPulseHdr};
pub use udp::UdpHdr;
pub use vxlan::VxlanHdr;

/// Marks header types that may be laid over packet memory at any offset.
///
/// # Safety
/// The type has alignment 1, no padding, and every bit pattern is a valid value.
pub unsafe trait Wire: Copy {}

// SAFETY: bytes have alignment 1 and no invalid patterns.
unsafe impl Wire for u8 {}

// SAFETY: arrays of such have no padding either.
unsafe impl<T: Wire, const N: usize> Wire for [T; N] {}

macro_rules! wire {
    ($($t:ty = $len:literal),+ $(,)?) => {$(
        // SAFETY: repr(C) of byte arrays; size and alignment asserted below.
        unsafe impl Wire for $t {}
        const _: () = assert!(size_of::<$t>() == $len && align_of::<$t>() == 1);
    )+};
}

wire!(
    Be16 = 2,
    Be32 = 4,
    EthHdr = 14,
    Ipv4Hdr = 20,
    Ipv6Hdr = 40,
    UdpHdr = 8,
    VxlanHdr = 8,
    PulseHdr = 2,
    RelayedPulseHdr = 6,
);
