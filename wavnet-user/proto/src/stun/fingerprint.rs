//! The value of FINGERPRINT (RFC 8489 section 14.7): a CRC-32 that tells STUN from what shares its port.

/// What the CRC is combined with, so that a protocol with a CRC of its own is not taken for STUN.
const MASK: u32 = 0x5354_554e;

/// Bytes of the attribute with its header.
pub(super) const LEN: usize = 8;

/// The CRC-32 of ITU V.42: for each byte, and for each byte with one, two and three zeros behind it, so that four bytes are
/// four lookups that do not wait for each other. A message is a multiple of four.
const TABLES: [[u32; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 32 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
            if bit % 8 == 0 {
                tables[bit / 8 - 1][byte] = crc;
            }
        }
        byte += 1;
    }
    tables
};

/// The value for a message, given all of it before the attribute; its length field counts the attribute already.
pub(super) fn of(message: &[u8]) -> u32 {
    let [one, two, three, four] = &TABLES;
    let at = |table: &[u32; 256], byte: u8| table[usize::from(byte)];
    let (words, rest) = message.as_chunks::<4>();
    let crc = words.iter().fold(u32::MAX, |crc, word| {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes(*word)).to_le_bytes();
        at(four, a) ^ at(three, b) ^ at(two, c) ^ at(one, d)
    });
    let crc = rest.iter().fold(crc, |crc, byte| (crc >> 8) ^ at(one, crc as u8 ^ byte));
    !crc ^ MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_crc_that_everybody_has() {
        assert_eq!(of(b"123456789") ^ MASK, 0xcbf4_3926);
        assert_eq!(of(b"") ^ MASK, 0);
    }
}
