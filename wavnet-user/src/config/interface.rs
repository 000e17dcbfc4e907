//! What the running system knows of an interface.

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// MTU of an interface in the network namespace of this thread, in bytes; `None` if there is no such interface, or the system
/// does not say.
///
/// By ioctl: /sys/class/net shows the namespace of whoever mounted it.
pub(super) fn mtu(name: &str) -> Option<u32> {
    let bytes = name.as_bytes();
    if bytes.len() >= libc::IFNAMSIZ {
        return None;
    }
    let asked = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    // SAFETY: all zeros are a valid ifreq, a struct of integers, arrays and a union of such.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    // SAFETY: SIOCGIFMTU takes a struct ifreq with a name that ends in zero, and writes its integer; it outlives the call.
    let result = unsafe { libc::ioctl(asked.as_raw_fd(), libc::SIOCGIFMTU as libc::Ioctl, &raw mut request) };
    if result < 0 {
        return None;
    }
    // SAFETY: the kernel has written this field of the union, and any bits are a valid integer.
    u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_an_mtu_and_nobody_else() {
        assert!(mtu("lo").is_some_and(|mtu| mtu >= 68));
        assert_eq!(mtu("wav-nobody"), None);
        assert_eq!(mtu("a-name-that-is-longer-than-any"), None);
    }
}
