//! `BPF_PROG_TEST_RUN` of any program by its descriptor; aya runs only those that it has loaded itself.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// The kernel's `bpf_attr` for this command.
#[repr(C)]
#[derive(Default)]
struct Attr {
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

const BPF_PROG_TEST_RUN: libc::c_int = 10;

/// What came of a test run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    /// The program's verdict.
    pub(super) verdict: u32,
    /// How long it took, nanoseconds.
    pub(super) ns: u32,
}

/// Runs a program once on a frame.
pub(super) fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<Ran> {
    let mut attr = Attr {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: 1,
        ..Attr::default()
    };
    // SAFETY: the structure has the kernel's layout; it and the frame live across the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size_of::<Attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Ran { verdict: attr.retval, ns: attr.duration })
}
