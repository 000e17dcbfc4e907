//! Many frames at once: ways to have a veth's other end find all of them in one turn of its work (a NAPI poll).

use std::{
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsFd,
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use wavnet_common::addr::Mac;

use super::{
    frame::{EXPERIMENT, ethernet},
    netns::Netns,
    raw::RawSocket,
};

/// Sends datagrams of one length by one call, which the kernel cuts apart at the interface (`UDP_SEGMENT`): an interface without
/// `tx-udp-segmentation` gets all of them before anything else happens on this CPU.
///
/// # Errors
/// They differ in length (the last alone may be shorter), or what the kernel says.
pub fn send_segments(socket: &UdpSocket, to: SocketAddrV4, datagrams: &[Vec<u8>]) -> Result<()> {
    let length = datagrams.first().context("nothing to send")?.len();
    let (last, others) = datagrams.split_last().context("nothing to send")?;
    ensure!(others.iter().all(|d| d.len() == length) && last.len() <= length, "segments differ in length");
    send_cut(socket, to, &datagrams.concat(), length)
}

/// Sends bytes as datagrams of so many each.
///
/// # Errors
/// What the kernel says.
pub fn send_cut(socket: &UdpSocket, to: SocketAddrV4, bytes: &[u8], each: usize) -> Result<()> {
    setsockopt(&socket.as_fd(), sockopt::UdpGsoSegment, &(each as i32)).context("UDP_SEGMENT")?;
    let sent =
        socket.send_to(bytes, to).with_context(|| format!("sending {} B as datagrams of {each}", bytes.len()))?;
    ensure!(sent == bytes.len(), "{sent} of {} B were sent", bytes.len());
    Ok(())
}

/// Holds back what an interface sends, until it lets go of all of it at once: a token bucket, first slow, then fast.
///
/// The kernel sends up to 64 frames of a queue in one go, and a veth's other end polls no sooner.
#[derive(Debug)]
pub struct Valve<'a> {
    ns: &'a Netns,
    interface: &'a str,
}

impl<'a> Valve<'a> {
    /// How many frames go at once.
    pub const MOST: usize = 64;
    /// The longest frame, and no two of any.
    const BURST: usize = 1520;

    /// Puts it before an interface, open.
    ///
    /// # Errors
    /// No `tc`, or a kernel without token buckets.
    pub fn before(ns: &'a Netns, interface: &'a str) -> Result<Valve<'a>> {
        let valve = Valve { ns, interface };
        valve.open()?;
        Ok(valve)
    }

    /// From now on frames wait: a short one would go after ten seconds. `socket` is one of this interface; a long frame goes from
    /// `src` to `dst`.
    ///
    /// # Errors
    /// What `tc` says, or the frame cannot be sent.
    pub fn close(&self, socket: &RawSocket, dst: Mac, src: Mac) -> Result<()> {
        self.tc(&format!("rate 100bit burst {}", Valve::BURST))?;
        // A bucket begins full.
        socket.send(&ethernet(dst, src, EXPERIMENT, &[0; 1500]))
    }

    /// The next frame that is sent goes, and all those before it with it, in one go.
    ///
    /// # Errors
    /// What `tc` says.
    pub fn open(&self) -> Result<()> {
        self.tc("rate 10gbit burst 1mb")
    }

    fn tc(&self, bucket: &str) -> Result<()> {
        let words = format!("qdisc replace dev {} root tbf {bucket} limit 1mb", self.interface);
        self.ns.run("tc", &words.split_whitespace().collect::<Vec<_>>())?;
        Ok(())
    }
}
