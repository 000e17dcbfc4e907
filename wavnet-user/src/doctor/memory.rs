//! How much memory the tables take.

use super::{Asked, Check, Verdict};

const NAME: &str = "tables";

pub(super) fn check(asked: &Asked) -> Check {
    match aya::util::nr_cpus() {
        Ok(cpus) => judge(asked.sizes.memory(cpus as u64), available(&super::host::read("/proc/meminfo"))),
        Err((_, e)) => Check::new(NAME, Verdict::Unknown, format!("the CPUs cannot be counted: {e}"), "mount /sys"),
    }
}

/// Bytes of memory that are to be had, of /proc/meminfo.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn judge(needed: u64, available: Option<u64>) -> Check {
    let found = format!("about {} MiB of kernel memory", needed.div_ceil(1 << 20));
    match available {
        Some(there) if needed > there / 2 => {
            let mend = "make fdb.entries and [limits] smaller: the kernel allocates all of it when the agent starts";
            Check::new(NAME, Verdict::Warn, format!("{found}, and {} MiB are available", there >> 20), mend)
        }
        _ => Check::ok(NAME, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Sizes;

    #[test]
    fn default_tables_take_little() {
        for cpus in [1, 2, 64] {
            assert!(Sizes::default().memory(cpus) <= 64 << 20, "{cpus} CPUs");
        }
        let large = Sizes { fdb_buckets: 1 << 24, ..Sizes::default() };
        assert!(large.memory(2) > 1 << 30);
    }

    #[test]
    fn tables_that_leave_little_memory_are_worth_a_warning() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("nonsense"), None);
        assert_eq!(judge(1 << 20, Some(2 << 20)).verdict, Verdict::Ok);
        assert_eq!(judge((1 << 20) + 1, Some(2 << 20)).verdict, Verdict::Warn);
        assert_eq!(judge(13 << 20, None).found, "about 13 MiB of kernel memory");
    }
}
