//! Tap devices with a vnet header (`IFF_VNET_HDR`), as QEMU opens them: what the guest's driver leaves to others stands before each
//! frame (virtio 1.2 section 5.1.6).

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::{netns::Netns, tap::Tap};

/// `struct virtio_net_hdr` in the order of this machine's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHdr {
    /// 1: the checksum is to be completed.
    pub flags: u8,
    /// How to cut; [`VnetHdr::ECN`] may be added.
    pub gso_type: u8,
    /// Bytes of all headers.
    pub hdr_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// From where on the checksum is taken.
    pub csum_start: u16,
    /// Where it goes, from there on.
    pub csum_offset: u16,
}

impl VnetHdr {
    /// Flag: the checksum is to be completed.
    pub const NEEDS_CSUM: u8 = 1;
    /// TCP over IPv4.
    pub const TCPV4: u8 = 1;
    /// TCP over IPv6.
    pub const TCPV6: u8 = 4;
    /// Datagrams of UDP.
    pub const UDP_L4: u8 = 5;
    /// TCP with CWR, which only the first segment shall have.
    pub const ECN: u8 = 0x80;
    const LEN: usize = 10;

    /// As it stands before a frame.
    pub fn bytes(&self) -> Vec<u8> {
        let words = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset].map(u16::to_ne_bytes);
        [&[self.flags, self.gso_type][..], &words.concat()].concat()
    }

    fn read(bytes: &[u8]) -> VnetHdr {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let [flags, gso_type] = [bytes[0], bytes[1]];
        VnetHdr { flags, gso_type, hdr_len: word(2), gso_size: word(4), csum_start: word(6), csum_offset: word(8) }
    }
}

/// An open tap device with a vnet header, or one queue of it; the device goes when this is dropped.
#[derive(Debug)]
pub struct VnetTap(Tap);

/// Each queue of a device is opened with the same flags.
const QUEUE: libc::c_int = libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;

impl VnetTap {
    /// Checksums that are not complete, and super-packets of TCP (`TUN_F_*`).
    pub const TCP_OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    /// These, and super-packets of datagrams: `TUN_F_USO4` and `TUN_F_USO6`, which libc lacks.
    pub const ALL_OFFLOADS: libc::c_uint = VnetTap::TCP_OFFLOADS | 0x20 | 0x40;

    /// Makes the device and sets it up. Its reader gets plain frames, unless `takes_offloads`: then super-packets of TCP as they are,
    /// and checksums that are not complete.
    ///
    /// # Errors
    /// No `/dev/net/tun`, or the name is taken.
    pub fn create(netns: &Netns, name: &str, mtu: u32, takes_offloads: bool) -> Result<VnetTap> {
        let tap = Tap::with_flags(netns, name, mtu, libc::IFF_VNET_HDR)?;
        let tap = VnetTap(tap);
        tap.take(if takes_offloads { VnetTap::TCP_OFFLOADS } else { 0 })?;
        Ok(tap)
    }

    /// Makes a device that has one queue for each handle (`IFF_MULTI_QUEUE`), this being the first. Readers get plain frames.
    ///
    /// # Errors
    /// No `/dev/net/tun`, or the name is taken.
    pub fn create_multi_queue(netns: &Netns, name: &str, mtu: u32) -> Result<VnetTap> {
        Tap::with_flags(netns, name, mtu, QUEUE).map(VnetTap)
    }

    /// Another queue of a device that [`VnetTap::create_multi_queue`] made. The device goes with the last of its handles.
    ///
    /// # Errors
    /// No such device, or no more queues.
    pub fn another_queue(netns: &Netns, name: &str) -> Result<VnetTap> {
        Tap::open(netns, name, QUEUE).map(VnetTap)
    }

    /// From now on the reader takes this (`TUN_F_*`).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take(&self, offloads: libc::c_uint) -> Result<()> {
        // SAFETY: TUNSETOFFLOAD takes a number.
        let done =
            unsafe { libc::ioctl(self.0.file.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(offloads)) };
        ensure!(done == 0, "TUNSETOFFLOAD: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Writes wait for room, or do not. The kernel gives XDP frames of waiting writers as packets (generic XDP).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_waiting(&self, waiting: bool) -> Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&self.0.file, FcntlArg::F_GETFL)?);
        let flags = if waiting { flags - OFlag::O_NONBLOCK } else { flags | OFlag::O_NONBLOCK };
        fcntl(&self.0.file, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// The device with vnet headers as part of what is read and written.
    pub fn into_raw(self) -> Tap {
        self.0
    }

    /// Sends a frame into the device: the host receives it.
    ///
    /// # Errors
    /// The kernel finds that header and frame do not fit.
    pub fn send(&self, header: &VnetHdr, frame: &[u8]) -> Result<()> {
        self.0.send(&[&header.bytes()[..], frame].concat()).with_context(|| format!("with {header:?}"))
    }

    /// The next frame that the host sent out of the device, if any is queued.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn recv(&self) -> Result<Option<(VnetHdr, Vec<u8>)>> {
        let Some(mut bytes) = self.0.recv()? else { return Ok(None) };
        ensure!(bytes.len() >= VnetHdr::LEN, "{} bytes are no vnet header", bytes.len());
        let frame = bytes.split_off(VnetHdr::LEN);
        Ok(Some((VnetHdr::read(&bytes), frame)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = VnetHdr { flags: 1, gso_type: 4, hdr_len: 54, gso_size: 1448, csum_start: 34, csum_offset: 16 };
        assert_eq!(header.bytes().len(), VnetHdr::LEN);
        assert_eq!(VnetHdr::read(&header.bytes()), header);
    }
}
