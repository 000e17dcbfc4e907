//! Two calls of bpf(2) that aya does not offer.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_DETACH: libc::c_int = 34;

/// Detaches a pinned link now. Removing the pin alone detaches it too, but only some time later, when the kernel gets to
/// freeing it: frames would go on meanwhile, and learn.
pub(super) fn detach_pinned_link(path: &Path) -> io::Result<()> {
    let fd = open_pinned(path)?;
    #[repr(C)]
    struct Attr {
        link_fd: u32,
    }
    let attr = Attr { link_fd: fd.as_raw_fd() as u32 };
    bpf(BPF_LINK_DETACH, &attr).map(|_| ())
}

fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    #[repr(C)]
    struct Attr {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let fd = bpf(BPF_OBJ_GET, &Attr { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 })?;
    // SAFETY: a descriptor that the kernel has just given to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` as the command wants it, and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
