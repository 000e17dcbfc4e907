//! What a datagram on our UDP port is, by its length and its first bytes (docs/wire.md section 1): data and control share the port, so
//! that what a NAT lets through for one is open for the other.

/// What a UDP payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A CONNECT_PULSE: its number.
    Pulse,
    /// A frame, encapsulated (RFC 7348).
    Vxlan,
    /// A message of STUN (RFC 8489).
    Stun,
    /// A message of ours.
    Control,
    /// A CONNECT_PULSE by way of a relay: a label before its number.
    RelayedPulse,
    /// Nothing that we know.
    Nothing,
}

/// First byte of a control message.
pub const CONTROL: u8 = b'W';
/// First byte of a relayed pulse.
pub const RELAYED_PULSE: u8 = b'P';
/// Bytes of a control message's header, which are the least that it has.
pub const CONTROL_LEN: usize = 8;
/// Bytes of a pulse.
pub const PULSE_LEN: usize = 2;
/// Bytes of a relayed pulse.
pub const RELAYED_PULSE_LEN: usize = 6;

/// The I flag of VXLAN in its first byte.
const VXLAN: u8 = 0x08;
/// What the second word of a STUN message is (RFC 8489 section 5).
pub(crate) const STUN_COOKIE: u32 = 0x2112_a442;
/// Bytes of a STUN header.
pub(crate) const STUN_LEN: usize = 20;

/// By the payload's length, its first byte and its second 32-bit word, as a number; zero what is not there.
#[inline(always)]
#[must_use]
pub const fn kind(len: usize, first: u8, second_word: u32) -> Kind {
    if len == PULSE_LEN {
        Kind::Pulse
    } else if first & VXLAN != 0 {
        Kind::Vxlan
    } else if first <= 1 && second_word == STUN_COOKIE && len >= STUN_LEN {
        Kind::Stun
    } else if first == CONTROL && len >= CONTROL_LEN {
        Kind::Control
    } else if first == RELAYED_PULSE && len == RELAYED_PULSE_LEN {
        Kind::RelayedPulse
    } else {
        Kind::Nothing
    }
}

/// By the whole payload.
#[must_use]
pub fn kind_of(payload: &[u8]) -> Kind {
    let first = payload.first().copied().unwrap_or_default();
    let second_word = payload.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).unwrap_or_default();
    kind(payload.len(), first, second_word)
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;

    #[test]
    fn each_kind_is_known_by_its_first_bytes_in_the_order_of_the_document() {
        let stun = |first, len: usize| {
            let mut message = vec![0; len];
            message[0] = first;
            message[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            message
        };
        let of = |first, len: usize| [&[first][..], &vec![0; len - 1]].concat();
        for (payload, kind) in [
            (Vec::new(), Kind::Nothing),
            (vec![0x08], Kind::Vxlan),
            (vec![0x08, 0], Kind::Pulse),
            (vec![0x57, 0x50], Kind::Pulse),
            (vec![0x08, 0, 0], Kind::Vxlan),
            (of(0x08, 8), Kind::Vxlan),
            (of(0xff, 1400), Kind::Vxlan),
            (of(0xf7, 1400), Kind::Nothing),
            (stun(0, 20), Kind::Stun),
            (stun(1, 100), Kind::Stun),
            (stun(0, 19), Kind::Nothing),
            (stun(2, 20), Kind::Nothing),
            (stun(8, 20), Kind::Vxlan),
            (of(0, 20), Kind::Nothing),
            (of(b'W', 8), Kind::Control),
            (stun(b'W', 20), Kind::Control),
            (of(b'W', 7), Kind::Nothing),
            (of(b'P', 6), Kind::RelayedPulse),
            (of(b'P', 5), Kind::Nothing),
            (of(b'P', 7), Kind::Nothing),
        ] {
            assert_eq!(kind_of(&payload), kind, "{payload:02x?}");
        }
    }

    #[test]
    fn no_vxlan_peers_frame_is_taken_for_control() {
        for first in (0..=u8::MAX).filter(|b| b & 0x08 != 0) {
            assert_ne!(first, CONTROL);
            assert_ne!(first, RELAYED_PULSE);
            for len in (3..64).chain([1]) {
                assert_eq!(kind(len, first, STUN_COOKIE), Kind::Vxlan);
            }
        }
    }
}
