//! Atomic access to a 64-bit word, the same in the kernel and on the host.

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering;

/// The word. x86 and arm64 never tear an aligned 64-bit load. On the host neither the compiler nor the machine moves it past
/// another access of a word; on x86 that costs a load nothing.
#[inline(always)]
pub(crate) fn load(word: &AtomicU64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        // The backend has no atomic loads at this instruction set; a volatile one is the same single instruction.
        // SAFETY: a valid, aligned word.
        unsafe { word.as_ptr().read_volatile() }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        word.load(Ordering::SeqCst)
    }
}

/// Overwrites the word, whatever it is, in one piece.
#[inline(always)]
pub(crate) fn store(word: &AtomicU64, new: u64) {
    #[cfg(target_arch = "bpf")]
    {
        // SAFETY: as for `load`.
        unsafe { word.as_ptr().write_volatile(new) }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        word.store(new, Ordering::SeqCst);
    }
}

/// Adds to the word.
#[inline(always)]
pub(crate) fn add(word: &AtomicU64, n: u64) {
    fetch_add(word, n);
}

/// The same; what the word was before.
#[inline(always)]
pub(crate) fn fetch_add(word: &AtomicU64, n: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering, atomic_xadd};
        // SAFETY: a valid, aligned word.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(word.as_ptr(), n) }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        word.fetch_add(n, Ordering::SeqCst)
    }
}

/// Compare-and-exchange with a full barrier. `false`: the word was not `old`.
#[inline(always)]
pub(crate) fn exchange(word: &AtomicU64, old: u64, new: u64) -> bool {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering, atomic_cxchg};
        // The BPF target declares no compare-and-exchange to core, yet its v3 instruction set has it.
        // SAFETY: a valid, aligned word.
        unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word.as_ptr(), old, new).1
        }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}
