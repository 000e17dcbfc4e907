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
pub(crate) struct Ran {
    /// The program's verdict.
    pub(crate) verdict: u32,
    /// How long it took, nanoseconds.
    pub(crate) ns: u32,
}

/// Runs a program once on a frame.
pub(crate) fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<Ran> {
    let mut attr = Attr {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: 1,
        ..Attr::default()
    };
    run(&mut attr)?;
    Ok(Ran { verdict: attr.retval, ns: attr.duration })
}

/// Runs a program once on a frame with a context (`struct __sk_buff`, `struct xdp_md`) and takes the frame that it leaves.
pub(crate) fn test_run_to(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &[u8],
    left: &mut Vec<u8>,
) -> io::Result<u32> {
    left.resize(frame.len() + 256, 0);
    let mut attr = Attr {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_size_out: left.len() as u32,
        data_out: left.as_mut_ptr() as u64,
        ctx_size_in: context.len() as u32,
        ctx_in: if context.is_empty() { 0 } else { context.as_ptr() as u64 },
        repeat: 1,
        ..Attr::default()
    };
    run(&mut attr)?;
    left.truncate(attr.data_size_out as usize);
    Ok(attr.retval)
}

/// Frames that the kernel hands to a driver at once, as NICs do: the most it takes is 256.
pub(crate) const BATCH: u32 = 64;
const LIVE_FRAMES: u32 = 1 << 1;

/// Runs an XDP program on copies of a frame that seem to come from an interface of the caller's namespace, and does with them
/// what it says, until a signal comes or, in hours, the number of copies is reached.
///
/// One call is one stretch of work: the kernel waits for all CPUs when it begins and when it ends (its XDP dispatcher changes).
pub(crate) fn send_until_signal(program: BorrowedFd<'_>, ifindex: u32, frame: &[u8], batch: u32) -> io::Result<()> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, frame.len() as u32, 0, ifindex, 0, 0];
    let ran = run(&mut Attr {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        ctx_size_in: size_of_val(&context) as u32,
        ctx_in: context.as_ptr() as u64,
        repeat: u32::MAX,
        flags: LIVE_FRAMES,
        batch_size: batch,
        ..Attr::default()
    });
    match ran {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        ran => ran,
    }
}

/// What the structure points to must live across the call.
fn run(attr: &mut Attr) -> io::Result<()> {
    let attr: *mut Attr = attr;
    // SAFETY: the structure has the kernel's layout; the caller keeps alive what it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, attr, size_of::<Attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
