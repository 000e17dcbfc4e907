//! Questions to a driver that netlink does not answer everywhere: its name, and what is offloaded.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_SS_FEATURES: u32 = 4;
/// Room for so many features; Linux 6.18 has 65.
const FEATURES: usize = 256;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_gstrings` for all features.
#[repr(C)]
struct Names {
    cmd: u32,
    set: u32,
    count: u32,
    names: [[u8; 32]; FEATURES],
}

/// `struct ethtool_gfeatures`.
#[repr(C)]
struct Features {
    cmd: u32,
    blocks: u32,
    /// Available, requested, active, never changed: 32 features each.
    bits: [[u32; 4]; FEATURES / 32],
}

/// A socket in the network namespace that is asked about.
pub(crate) struct Ethtool(OwnedFd);

impl Ethtool {
    pub(crate) fn new() -> io::Result<Ethtool> {
        Ok(Ethtool(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?))
    }

    /// Name of the interface's driver.
    pub(crate) fn driver(&self, interface: &str) -> io::Result<String> {
        let mut info = DriverInfo { cmd: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
        // SAFETY: ETHTOOL_GDRVINFO writes a struct ethtool_drvinfo, 196 bytes, which DriverInfo is.
        unsafe { self.ask(interface, (&raw mut info).cast())? };
        let name = info.driver.split(|b| *b == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    /// Whether the interface is sent frames without checksums.
    pub(crate) fn tx_checksum_offload(&self, interface: &str) -> io::Result<bool> {
        let mut value = Value { cmd: ETHTOOL_GTXCSUM, data: 0 };
        // SAFETY: ETHTOOL_GTXCSUM writes a struct ethtool_value, which Value is.
        unsafe { self.ask(interface, (&raw mut value).cast())? };
        Ok(value.data != 0)
    }

    /// Whether the interface takes super-packets of datagrams (`tx-udp-segmentation`). A tap does if its owner does.
    pub(crate) fn takes_datagram_gso(&self, interface: &str) -> io::Result<bool> {
        const NAME: &[u8] = b"tx-udp-segmentation\0";
        let mut names = Names { cmd: ETHTOOL_GSTRINGS, set: ETH_SS_FEATURES, count: 0, names: [[0; 32]; FEATURES] };
        // SAFETY: ETHTOOL_GSTRINGS writes a struct ethtool_gstrings with a name for each feature, far fewer than Names has room for.
        unsafe { self.ask(interface, (&raw mut names).cast())? };
        let number = names.names.iter().position(|name| name.starts_with(NAME)).ok_or(io::ErrorKind::Unsupported)?;
        let blocks = (FEATURES / 32) as u32;
        let mut features = Features { cmd: ETHTOOL_GFEATURES, blocks, bits: [[0; 4]; FEATURES / 32] };
        // SAFETY: ETHTOOL_GFEATURES writes at the most as many blocks as it is told there are.
        unsafe { self.ask(interface, (&raw mut features).cast())? };
        let [_, _, active, _] = features.bits[number / 32];
        Ok(active >> (number % 32) & 1 != 0)
    }

    /// # Safety
    /// `data` points to what the command in its first word reads and writes.
    unsafe fn ask(&self, interface: &str, data: *mut libc::c_char) -> io::Result<()> {
        let name = interface.as_bytes();
        if name.len() >= libc::IFNAMSIZ {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: all zeros are a valid ifreq, a struct of integers, arrays and a union of such.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = data;
        // SAFETY: SIOCETHTOOL takes a struct ifreq with a pointer that the caller vouches for; both outlive the call.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

const _: () = assert!(size_of::<DriverInfo>() == 196);
