//! What else the machine does: waiting until it is idle, and watching it while something is measured.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// The CPUs are idle if they were for this share of a [`WINDOW`], or of the idle time where that is shorter.
const IDLE: f64 = 0.97;
/// The kernel counts in hundredths of a second: a much shorter one would say little.
const WINDOW: Duration = Duration::from_millis(500);
/// For how long to wait for an idle machine before one run.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for an idle machine, not for ever.
pub(super) struct Patience {
    left: Duration,
}

impl Patience {
    /// So much waiting in all.
    pub(super) fn new(left: Duration) -> Patience {
        Patience { left }
    }

    /// Waits for at least `idle` and until the machine has nothing to do; what it does all the same if it does not stop: the share
    /// of the CPUs that are busy.
    pub(super) fn wait_idle(&mut self, idle: Duration) -> Result<Option<f64>> {
        if idle.is_zero() {
            return Ok(None);
        }
        let window = idle.min(WINDOW);
        thread::sleep(idle - window);
        let (start, patience) = (Instant::now(), self.left.min(PATIENCE));
        loop {
            let before = CpuTimes::read()?;
            thread::sleep(window);
            let free = CpuTimes::read()?.since(before).idle_share();
            let waited = start.elapsed().saturating_sub(window);
            if free >= IDLE || waited >= patience {
                self.left = self.left.saturating_sub(waited);
                return Ok((free < IDLE).then_some(1.0 - free));
            }
        }
    }
}

/// What others took of the CPUs during a run, as shares of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disturbance {
    /// What the hypervisor under this machine gave to somebody else.
    pub steal: f64,
    /// What processes took that are not the benchmark's.
    pub others: f64,
}

/// The machine's times when a run began.
pub(super) struct Watch {
    cpus: CpuTimes,
    others: u64,
}

impl Watch {
    pub(super) fn start() -> Result<Watch> {
        Ok(Watch { cpus: CpuTimes::read()?, others: others_ticks()? })
    }

    pub(super) fn end(self) -> Result<Disturbance> {
        let (cpus, others) = (CpuTimes::read()?.since(self.cpus), others_ticks()?);
        let share = |ticks: u64| (ticks as f64 / cpus.total().max(1) as f64).min(1.0);
        // What a process took that ended and that nobody waited for is missing in the second sum.
        Ok(Disturbance { steal: share(cpus.steal), others: share(others.saturating_sub(self.others)) })
    }
}

/// The first line of `/proc/stat`, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTimes {
    busy: u64,
    idle: u64,
    steal: u64,
}

impl CpuTimes {
    fn read() -> Result<CpuTimes> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        CpuTimes::parse(&text).context("/proc/stat has no times of the CPUs")
    }

    fn parse(stat: &str) -> Option<CpuTimes> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let mut times = line.split_whitespace().map(str::parse);
        // user nice system idle iowait irq softirq steal; guests' times behind them are part of user and nice.
        let mut next = || times.next()?.ok();
        let [user, nice, system, idle, iowait, irq, softirq, steal]: [u64; 8] =
            [next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?];
        Some(CpuTimes { busy: user + nice + system + irq + softirq, idle: idle + iowait, steal })
    }

    fn since(self, before: CpuTimes) -> CpuTimes {
        CpuTimes {
            busy: self.busy.saturating_sub(before.busy),
            // The kernel corrects this one downwards now and then.
            idle: self.idle.saturating_sub(before.idle),
            steal: self.steal.saturating_sub(before.steal),
        }
    }

    fn total(self) -> u64 {
        self.busy + self.idle + self.steal
    }

    fn idle_share(self) -> f64 {
        self.idle as f64 / self.total().max(1) as f64
    }
}

/// Ticks that all processes took which are not ours, those included that ended and were waited for.
fn others_ticks() -> Result<u64> {
    let mut tasks = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("listing processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may have ended meanwhile.
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(task) = Task::parse(&text) {
            tasks.insert(pid, task);
        }
    }
    Ok(ticks_outside(std::process::id(), &tasks))
}

/// A line of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Task {
    parent: u32,
    of_kernel: bool,
    ticks: u64,
}

impl Task {
    fn parse(stat: &str) -> Option<Task> {
        const PF_KTHREAD: u32 = 0x0020_0000;
        // The name before may have blanks and parentheses.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let flags: u32 = fields.get(6)?.parse().ok()?;
        // utime, stime, cutime, cstime.
        let times = fields.get(11..15)?.iter().map(|time| time.parse::<u64>());
        Some(Task {
            parent: fields.get(1)?.parse().ok()?,
            of_kernel: flags & PF_KTHREAD != 0,
            ticks: times.sum::<Result<u64, _>>().ok()?,
        })
    }
}

/// The kernel's threads work for everybody, us included: they do not count.
fn ticks_outside(me: u32, tasks: &BTreeMap<u32, Task>) -> u64 {
    let mut ours = BTreeSet::from([me]);
    loop {
        let children: Vec<u32> = tasks
            .iter()
            .filter(|(pid, t)| ours.contains(&t.parent) && !ours.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            break;
        }
        ours.extend(children);
    }
    tasks.iter().filter(|(pid, task)| !task.of_kernel && !ours.contains(pid)).map(|(_, task)| task.ticks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_from_the_first_line_of_proc_stat() {
        let before = CpuTimes::parse("cpu  100 10 50 1000 5 0 20 7 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n").unwrap();
        assert_eq!(before, CpuTimes { busy: 180, idle: 1005, steal: 7 });
        let after = CpuTimes::parse("cpu  101 10 51 1097 5 0 20 8 0 0\n").unwrap();
        let passed = after.since(before);
        assert_eq!(passed, CpuTimes { busy: 2, idle: 97, steal: 1 });
        assert!((passed.idle_share() - 0.97).abs() < 1e-9);
        assert_eq!(CpuTimes::parse("cpu0 1 2 3\n"), None);
        assert_eq!(CpuTimes::parse("cpu  1 2 3\n"), None);
    }

    #[test]
    fn nothing_passed_is_no_division_by_zero() {
        let times = CpuTimes::read().unwrap();
        assert_eq!(times.since(times).idle_share(), 0.0);
    }

    #[test]
    fn a_process_may_be_called_anything() {
        let stat = "42 (a) R (b) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5\n";
        assert_eq!(Task::parse(stat), Some(Task { parent: 7, of_kernel: false, ticks: 100 }));
        assert_eq!(Task::parse("42 (a) S 7"), None);
    }

    #[test]
    fn ours_are_all_that_descend_from_us_and_the_kernels_count_for_nobody() {
        let task = |parent, ticks| Task { parent, of_kernel: false, ticks };
        let kernel = Task { parent: 2, of_kernel: true, ticks: 1000 };
        let tasks = [
            (1, task(0, 1)),
            (3, kernel),
            (10, task(1, 100)),
            (11, task(10, 100)),
            (9, task(11, 100)),
            (20, task(1, 5)),
        ];
        assert_eq!(ticks_outside(10, &tasks.into()), 6);
    }

    #[test]
    fn an_idle_time_of_zero_waits_for_nobody() {
        assert_eq!(Patience::new(PATIENCE).wait_idle(Duration::ZERO).unwrap(), None);
    }

    #[test]
    fn without_patience_it_looks_once() {
        let start = Instant::now();
        Patience::new(Duration::ZERO).wait_idle(WINDOW).unwrap();
        assert!((WINDOW..PATIENCE).contains(&start.elapsed()));
    }
}
