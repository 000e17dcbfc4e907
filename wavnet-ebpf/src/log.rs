//! Log lines from the kernel: rare, rate-limited, and only when the agent asked for them at load (`LOG_DROPS`); otherwise the
//! verifier removes this as dead code.

use aya_ebpf::{
    EbpfContext, Global, btf_maps::PerCpuArray, helpers::generated::bpf_ktime_get_coarse_ns, macros::btf_map,
};
use aya_log_ebpf::warn;
use wavnet_common::reason::Reason;

/// At most one line a second on each CPU.
const INTERVAL_NS: u64 = 1_000_000_000;

/// 1: log; set at load.
#[unsafe(no_mangle)]
pub(crate) static LOG_DROPS: Global<u8> = Global::new(0);

/// Per CPU: when the last line was written.
#[btf_map]
pub(crate) static LOGGED_AT: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Logs a drop that should not happen on a sound host.
#[inline(always)]
pub(crate) fn dropped<C: EbpfContext>(ctx: &C, ifindex: u32, reason: Reason) {
    if LOG_DROPS.load() != 0 && reason.is_surprising() && allowed() {
        warn!(ctx, "frame dropped on interface {}: {}", ifindex, reason.label());
    }
}

/// Logs a copy that an interface did not take. The verdict on its frame does not tell.
#[inline(always)]
pub(crate) fn refused(ifindex: u32) {
    if LOG_DROPS.load() != 0 && allowed() {
        warn!((), "copy refused by interface {}: {}", ifindex, Reason::CloneFailed.label());
    }
}

#[inline(always)]
fn allowed() -> bool {
    // SAFETY: no arguments, no side effects.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let Some(last) = LOGGED_AT.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own value.
    unsafe {
        if now.wrapping_sub(*last) < INTERVAL_NS {
            return false;
        }
        *last = now;
    }
    true
}
