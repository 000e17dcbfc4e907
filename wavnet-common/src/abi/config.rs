//! What the whole host is to the programs: who made the maps, our addresses, whether the agent is alive.

use super::Plain;

/// `META[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// [`super::ABI_VERSION`] of the writer; zero in a map nobody has filled.
    pub abi_version: u32,
    /// Zero.
    pub reserved: u32,
    /// CLOCK_REALTIME nanoseconds when the maps were created: since when the counters count.
    pub created_ns: u64,
    /// Random: hashes of what tenants choose begin with it, so that none can find out whose entries or frames its own would meet. It
    /// is the same as long as the maps live.
    pub seed: u64,
}

impl Meta {
    /// Maps that nobody has filled.
    pub const UNWRITTEN: Meta = Meta { abi_version: 0, reserved: 0, created_ns: 0, seed: 0 };

    /// What the programs know their own notes by (see [`crate::datapath::Note`]): the same as long as the maps live.
    #[must_use]
    pub const fn cookie(&self) -> u32 {
        (self.created_ns ^ self.created_ns >> 32) as u32
    }
}

/// `CONFIG[0]`: what this host's VTEP is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our outer IPv4 address, wire order; zero: no address, everything passes untouched.
    pub local_v4: [u8; 4],
    /// Our UDP port (4789 by IANA), wire order.
    pub udp_port: [u8; 2],
    /// [`ConfigFlags`].
    pub flags: u16,
    /// Further UDP ports, of which some are ours and serve dynamic peers alone: what comes there by no known path is not ours.
    pub extra_ports: ExtraPorts,
    /// Interface that holds back frames for a while ([`super::Hold`]); zero: there is none.
    pub hold_ifindex: u32,
}

/// Bits of [`Config::flags`].
pub struct ConfigFlags;

impl ConfigFlags {
    /// The agent has its socket open on our UDP port: STUN, control, and pulses of unknown paths go up to it.
    pub const CONTROL: u16 = 1;
    /// There are dynamic peers: `PATH_OF_SOURCE` is asked where `MEMBERS` has no answer.
    pub const DYNAMIC: u16 = 1 << 1;
    /// XDP can send a frame back out of each underlay interface that it came by. If not, TC does.
    pub const XDP_TX: u16 = 1 << 2;
}

impl Config {
    /// Of a host without dynamic peers and control.
    #[must_use]
    pub const fn plain(local_v4: [u8; 4], udp_port: u16) -> Config {
        let udp_port = udp_port.to_be_bytes();
        Config { local_v4, udp_port, flags: 0, extra_ports: ExtraPorts::NONE, hold_ifindex: 0 }
    }

    /// Which of our ports this number is: it is one of them.
    #[inline(always)]
    #[must_use]
    pub const fn local_port(&self, number: u16) -> LocalPort {
        if number == u16::from_be_bytes(self.udp_port) {
            return LocalPort::MAIN;
        }
        LocalPort::of_word(number.wrapping_sub(self.extra_ports.first()).wrapping_add(1))
    }

    /// True if all of the flags are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }
}

/// Which of our UDP ports: the main one, or an extra one by its place in their run. Not its number, which a change of the configuration
/// changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPort(u16);

impl LocalPort {
    /// [`Config::udp_port`].
    pub const MAIN: LocalPort = LocalPort(0);

    /// The `n`th of [`Config::extra_ports`], from 0; `None`: there cannot be so many.
    #[must_use]
    pub const fn extra(n: u16) -> Option<LocalPort> {
        if n < ExtraPorts::MOST { Some(LocalPort(n + 1)) } else { None }
    }

    /// As it stands in words: ten bits.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The other way round; what does not belong to it is cut off.
    #[inline(always)]
    #[must_use]
    pub const fn of_word(word: u16) -> LocalPort {
        LocalPort(word & 0x3ff)
    }
}

/// A run of UDP ports, in one word, so that nobody sees half a change.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraPorts(u32);

impl ExtraPorts {
    /// No port.
    pub const NONE: ExtraPorts = ExtraPorts(0);
    /// How many there may be.
    pub const MOST: u16 = 512;

    /// `count` ports from `first` on; [`ExtraPorts::NONE`] if there would be too many, or some beyond the last port.
    #[must_use]
    pub const fn new(first: u16, count: u16) -> ExtraPorts {
        let fits = count <= ExtraPorts::MOST && first as u32 + count as u32 <= 1 << 16;
        if fits { ExtraPorts((first as u32) << 16 | count as u32) } else { ExtraPorts::NONE }
    }

    /// True if a port is one of them.
    #[inline(always)]
    #[must_use]
    pub const fn contain(self, port: u16) -> bool {
        (port as u32).wrapping_sub(self.0 >> 16) < self.0 & 0xffff
    }

    /// The first one.
    #[inline(always)]
    #[must_use]
    const fn first(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// `HEARTBEAT[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// CLOCK_MONOTONIC nanoseconds. Older than [`Heartbeat::FRESH_NS`]: the agent is gone, and next hops may be out of date.
    pub at_ns: u64,
}

impl Heartbeat {
    /// How long a heartbeat counts, nanoseconds.
    pub const FRESH_NS: u64 = 3_000_000_000;
    /// How often the agent writes it, milliseconds.
    pub const PERIOD_MS: u64 = 500;
}

const _: () = {
    assert!(size_of::<Meta>() == 24);
    assert!(size_of::<Config>() == 16);
    assert!(size_of::<Heartbeat>() == 8);
};

// SAFETY: repr(C) of integers and arrays of them, without padding (sizes asserted above).
unsafe impl Plain for Meta {}
// SAFETY: as above; any number is a run of ports, if not one of ours.
unsafe impl Plain for Config {}
// SAFETY: as above.
unsafe impl Plain for Heartbeat {}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn extra_ports_are_a_run_of_ports_that_exist() {
        for (first, count, inside, outside) in [
            (6000, 1, vec![6000], vec![5999, 6001]),
            (6000, 512, vec![6000, 6511], vec![5999, 6512, 0]),
            (65_535, 1, vec![65_535], vec![0, 65_534]),
            (0, 2, vec![0, 1], vec![2, 65_535]),
            (65_535, 2, vec![], vec![0, 65_534, 65_535]),
            (6000, 513, vec![], vec![6000]),
            (6000, 0, vec![], vec![6000, 0]),
        ] {
            let ports = ExtraPorts::new(first, count);
            assert!(inside.iter().all(|p| ports.contain(*p)), "{first}, {count}");
            assert!(!outside.iter().any(|p| ports.contain(*p)), "{first}, {count}");
        }
        assert!(!(0..=u16::MAX).any(|p| ExtraPorts::NONE.contain(p)));
    }

    #[test]
    fn ports_of_ours_are_told_apart() {
        let config = Config { extra_ports: ExtraPorts::new(4700, 512), ..Config::plain([1; 4], 4789) };
        assert_eq!(config.local_port(4789), LocalPort::MAIN, "whatever else it is");
        for n in (0..512).filter(|n| 4700 + n != 4789) {
            let port = LocalPort::extra(n).unwrap();
            assert_eq!(config.local_port(4700 + n), port);
            assert!(port != LocalPort::MAIN && LocalPort::of_word(port.get()) == port);
        }
        assert_eq!(LocalPort::extra(512), None);
    }
}
