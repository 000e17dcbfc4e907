//! The object with the kernel programs, and what the kernel must be for it.

use std::hash::{BuildHasher, Hasher, RandomState};

use nix::time::{ClockId, clock_gettime};

use super::Error;

/// bpf_loop (5.17) is the newest thing the programs cannot do without; 6.1 is the oldest long-term kernel that has it.
pub(crate) const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// The compiled programs.
#[cfg(wavnet_ebpf)]
pub(super) fn bytes() -> Result<&'static [u8], Error> {
    Ok(aya::include_bytes_aligned!(env!("WAVNET_EBPF_OBJECT")))
}

/// The compiled programs.
#[cfg(not(wavnet_ebpf))]
pub(super) fn bytes() -> Result<&'static [u8], Error> {
    Err(Error::NoObject)
}

/// Refuses kernels on which the verifier would refuse the programs with a message that helps nobody.
pub(super) fn check_kernel() -> Result<(), Error> {
    new_enough(kernel_release()?)
}

fn new_enough(found: String) -> Result<(), Error> {
    match version(&found) {
        Some(version) if version < OLDEST_KERNEL => Err(Error::OldKernel { found, needed: OLDEST_KERNEL }),
        _ => Ok(()),
    }
}

/// The kernel's release, as `uname -r` prints it.
pub(super) fn kernel_release() -> Result<String, Error> {
    nix::sys::utsname::uname()
        .map(|u| u.release().to_string_lossy().into_owned())
        .map_err(|e| Error::kernel("asking for the kernel's version", e))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// CLOCK_MONOTONIC, nanoseconds: the clock of the programs.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// CLOCK_MONOTONIC_COARSE, nanoseconds: the clock of events.
pub fn event_clock_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC_COARSE)
}

/// CLOCK_REALTIME, nanoseconds.
pub(super) fn realtime_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME)
}

/// A number that nobody can guess: the keys of the standard library's hash maps come from the system's generator.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn nanoseconds(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux; zero would only make entries look old.
    clock_gettime(clock).map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::{new_enough, version};

    #[test]
    fn reads_kernel_releases() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn old_kernels_are_refused_in_words() {
        for found in ["6.0.19", "5.15.0-91-generic", "2.6.78"] {
            let error = new_enough(found.to_owned()).unwrap_err().to_string();
            assert_eq!(error, format!("kernel {found} is too old: wavnet needs Linux 6.1 or newer"));
        }
        // What cannot be read is the verifier's business.
        for found in ["6.1.0-18-amd64", "7.0.0", "unknown"] {
            assert!(new_enough(found.to_owned()).is_ok(), "{found}");
        }
    }
}
