//! `BPF_PROG_TEST_RUN` on a file descriptor, for any type of program.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use anyhow::{Context, Result};

const BPF_PROG_TEST_RUN: libc::c_int = 10;
/// Room for what a program may put in front.
const ROOM: usize = 256;

/// The head of the kernel's `union bpf_attr` for this command.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// What a program made of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What it returned: an `XDP_…` or `TC_ACT_…`.
    pub action: u32,
    /// The packet afterwards.
    pub bytes: Vec<u8>,
}

/// Runs a program once over a packet, in the namespace of the calling thread.
///
/// # Errors
/// What the kernel says; it takes no packet shorter than an Ethernet header.
pub fn test_run(program: BorrowedFd<'_>, packet: &[u8]) -> Result<Output> {
    let mut out = vec![0u8; packet.len() + ROOM];
    let mut attributes = Attributes {
        prog_fd: program.as_raw_fd() as u32,
        data_in: packet.as_ptr() as u64,
        data_size_in: packet.len() as u32,
        data_out: out.as_mut_ptr() as u64,
        data_size_out: out.len() as u32,
        repeat: 1,
        ..Attributes::default()
    };
    // SAFETY: the attributes have the kernel's layout and point to buffers of the lengths they say, all alive.
    let r = unsafe {
        let size = size_of::<Attributes>();
        libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attributes, size)
    };
    if r < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("test run over {} B", packet.len()));
    }
    out.truncate(attributes.data_size_out as usize);
    Ok(Output { action: attributes.retval, bytes: out })
}
