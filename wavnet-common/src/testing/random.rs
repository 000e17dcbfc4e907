//! Random and mutated frames, from a seed.

use std::vec::Vec;

use super::{Devices, Hook, Stimulus, fixtures, frames::checksum, world};

/// SplitMix64: a number generator of six lines, the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n` (at least 1).
    pub const fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// One of a slice that is not empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Makes stimuli for every program, most of them nearly right.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    seeds: Vec<Stimulus>,
}

impl Generator {
    /// Mutates the fixtures' frames.
    pub fn new(seed: u64, devices: &Devices) -> Generator {
        let seeds = fixtures(devices).into_iter().map(|f| f.stimulus).filter(|s| s.frame.len() >= 14).collect();
        Generator { rng: Rng::new(seed), seeds }
    }
}

impl Iterator for Generator {
    type Item = Stimulus;

    /// An ordinary frame of at least 15 and at most 3,300 bytes, some on errands; there is always a next one.
    fn next(&mut self) -> Option<Stimulus> {
        let rng = &mut self.rng;
        let seed = &self.seeds[rng.below(self.seeds.len())];
        let mut frame = if rng.below(16) == 0 {
            let len = 15 + rng.below(200);
            (0..len).map(|_| rng.bits() as u8).collect()
        } else {
            seed.frame.clone()
        };
        let mut hook = seed.hook;
        if rng.below(16) == 0 {
            hook = rng.pick(&[Hook::UnderlayXdp, Hook::UnderlayTc, Hook::Port(0), Hook::Port(2), Hook::Port(3)]);
        }
        for _ in 0..rng.below(4) {
            mutate(rng, &mut frame);
        }
        frame.resize(frame.len().clamp(15, 3300), 0x5a);
        if rng.below(2) == 0 {
            mend(&mut frame);
        }
        // Of what is not the frame's, only what a test-run can bring about.
        let flags = if rng.below(8) == 0 { rng.bits() as u16 & world::FLAGS } else { seed.flags };
        Some(Stimulus { errand: seed.errand, flags, ..Stimulus::new(hook, frame) })
    }
}

/// Offsets in an outer header that matter most, and in a frame from a port those of MACs and ethertype.
const HOT: [usize; 22] = [0, 6, 12, 14, 16, 18, 20, 22, 23, 24, 26, 29, 30, 33, 36, 38, 42, 46, 48, 50, 56, 62];

fn mutate(rng: &mut Rng, frame: &mut Vec<u8>) {
    if frame.is_empty() {
        return;
    }
    let len = frame.len();
    let at = if rng.below(2) == 0 { rng.pick(&HOT).min(len - 1) } else { rng.below(len.min(120)) };
    match rng.below(9) {
        0 => frame[at] ^= 1 << rng.below(8),
        1 => frame[at] = rng.bits() as u8,
        2 => frame[at] = rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        3 => frame.truncate(at.max(1)),
        4 => frame.truncate(len - rng.below(len.min(8))),
        5 => frame.extend((0..rng.below(80)).map(|i| i as u8)),
        6 => {
            let macs = [world::mac(0), world::mac(1), world::mac(2), world::remote(0), world::remote(1), [0xff; 6]];
            let (mac, places) = (rng.pick(&macs), [0, 6, 50, 56]);
            let place = rng.pick(&places);
            if len >= place + 6 {
                frame[place..place + 6].copy_from_slice(&mac);
            }
        }
        7 => {
            // A MAC of a few hundred: enough to fill a small table.
            let place = rng.pick(&[6, 56]);
            if len >= place + 6 {
                frame[place..place + 6].copy_from_slice(&[0x02, 1, 1, 1, rng.below(2) as u8, rng.bits() as u8]);
            }
        }
        _ => {
            let tag = rng.pick(&[[0x81, 0, 0, 5], [0x88, 0xa8, 0, 6]]);
            let place = rng.pick(&[12, 62]);
            if len >= place {
                frame.splice(place..place, tag);
            }
        }
    }
}

/// Makes lengths and checksum of an outer IPv4 header right again, so that flaws behind it are reached.
fn mend(frame: &mut [u8]) {
    const HEADERS: usize = 14 + 20 + 8;
    if frame.len() < HEADERS || frame[12..15] != [8, 0, 0x45] {
        return;
    }
    let total = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[38..40].copy_from_slice(&(total - 20).to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}
