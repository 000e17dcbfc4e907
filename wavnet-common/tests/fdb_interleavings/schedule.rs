//! Runs threads one at a time, and in every order: each access of a word may be a switch, up to a number of preemptions.
//!
//! Switches where a thread ends are free; a bug that needs one or two more is what a bound of two finds nearly always.

use std::{
    cell::RefCell,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

/// Accesses in a row after which a thread must wait for another one's: it is in a loop that only another one ends.
const PATIENCE: usize = 150;

/// Where the course of things was open, and how it went on.
#[derive(Clone, Debug)]
struct Choice {
    options: Vec<usize>,
    taken: usize,
}

#[derive(Default)]
struct State {
    turn: Option<usize>,
    unfinished: Vec<usize>,
    path: Vec<Choice>,
    /// Choices of the path that are made.
    made: usize,
    preemptions: usize,
    in_a_row: usize,
    /// Threads in the middle of an operation.
    busy: Vec<usize>,
    /// The thread in [`wait`], and those it waits for.
    waiting: Option<(usize, Vec<usize>)>,
}

impl State {
    fn choose(&mut self, options: Vec<usize>) -> usize {
        if self.made == self.path.len() {
            self.path.push(Choice { options: options.clone(), taken: 0 });
        }
        let choice = &self.path[self.made];
        assert_eq!(choice.options, options, "the same choices lead to the same state");
        self.made += 1;
        options[choice.taken]
    }

    fn others(&self, me: usize) -> impl Iterator<Item = usize> {
        self.unfinished.iter().copied().filter(move |thread| *thread != me)
    }

    /// Nobody waits for the thread any more.
    fn rest(&mut self, me: usize) {
        self.busy.retain(|thread| *thread != me);
        if let Some((_, late)) = &mut self.waiting {
            late.retain(|thread| *thread != me);
        }
    }
}

struct Stage {
    state: Mutex<State>,
    wake: Vec<Condvar>,
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked leaves its sentence; the others shall end.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn give(&self, mut state: MutexGuard<'_, State>, to: usize) {
        state.turn = Some(to);
        state.in_a_row = 0;
        self.wake[to].notify_one();
    }

    fn turn(&self, me: usize) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.turn != Some(me) {
            state = self.wake[me].wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state
    }

    fn step(&self, me: usize) {
        self.switch(me);
        let mut state = self.lock();
        if !state.busy.contains(&me) {
            state.busy.push(me);
        }
    }

    fn switch(&self, me: usize) {
        let mut state = self.lock();
        state.in_a_row += 1;
        let others: Vec<_> = state.others(me).collect();
        let next = if others.is_empty() {
            assert!(state.in_a_row < 100 * PATIENCE, "a loop without an end");
            return;
        } else if state.in_a_row > PATIENCE {
            others.iter().copied().find(|thread| *thread > me).unwrap_or(others[0])
        } else if state.preemptions > 0 {
            state.choose([vec![me], others].concat())
        } else {
            return;
        };
        if next != me {
            if state.in_a_row <= PATIENCE {
                state.preemptions -= 1;
            }
            self.give(state, next);
            drop(self.turn(me));
        }
    }

    /// Where an operation ends a thread that waits for it may go on, which is no preemption.
    fn begin(&self, me: usize) {
        let mut state = self.lock();
        if !state.busy.contains(&me) {
            return;
        }
        state.rest(me);
        if let Some(waiting) = state.waiting.as_ref().map(|(waiting, _)| *waiting)
            && state.choose(vec![me, waiting]) == waiting
        {
            self.give(state, waiting);
            drop(self.turn(me));
        }
    }

    fn wait(&self, me: usize) {
        let mut state = self.lock();
        let (others, busy): (Vec<_>, Vec<_>) = (state.others(me).collect(), state.busy.clone());
        let late: Vec<_> = busy.into_iter().filter(|thread| *thread != me).collect();
        let mut options = if late.is_empty() { [vec![me], others].concat() } else { others };
        state.waiting = Some((me, late));
        loop {
            let next = state.choose(options);
            if next != me {
                self.give(state, next);
                state = self.turn(me);
            }
            if state.waiting.as_ref().is_none_or(|(_, late)| late.is_empty()) {
                state.waiting = None;
                return;
            }
            options = state.others(me).collect();
        }
    }
}

/// Ends a thread's turn on every way out.
struct Turn(Arc<Stage>, usize);

impl Drop for Turn {
    fn drop(&mut self) {
        HERE.set(None);
        let mut state = self.0.lock();
        state.rest(self.1);
        state.unfinished.retain(|thread| *thread != self.1);
        let rest = state.unfinished.clone();
        if !rest.is_empty() {
            let next = if thread::panicking() { rest[0] } else { state.choose(rest) };
            self.0.give(state, next);
        }
    }
}

thread_local! {
    static HERE: RefCell<Option<(Arc<Stage>, usize)>> = const { RefCell::new(None) };
}

/// Called before each access; does nothing in a thread that is on no stage.
pub(super) fn step() {
    on_stage(Stage::step);
}

/// Called before each operation: the one before it, if there was one, is done.
pub(super) fn begin() {
    on_stage(Stage::begin);
}

/// Comes back when each other thread has ended the operation that it is in the middle of now; it may have begun others. One
/// thread may wait at a time.
pub(super) fn wait() {
    on_stage(Stage::wait);
}

fn on_stage(act: impl Fn(&Stage, usize)) {
    let here = HERE.with_borrow(Clone::clone);
    if let Some((stage, me)) = here {
        act(&stage, me);
    }
}

/// Has so many threads do `work` (its argument: which thread) in every order there is, from a new `set_up` each time, and has `judge` look
/// at what came of it. Returns how many orders there were.
pub(super) fn explore<T: Sync, R: Send>(
    threads: usize,
    preemptions: usize,
    set_up: impl Fn() -> T,
    work: impl Fn(&T, usize) -> R + Sync,
    judge: impl Fn(&T, Vec<R>),
) -> usize {
    let mut path = Vec::new();
    for orders in 1.. {
        let all: Vec<_> = (0..threads).collect();
        let state = State { unfinished: all.clone(), path, preemptions, ..State::default() };
        let stage = Arc::new(Stage { state: Mutex::new(state), wake: all.iter().map(|_| Condvar::new()).collect() });
        let subject = set_up();
        let results = thread::scope(|scope| {
            let run = |me| {
                let (stage, subject, work) = (Arc::clone(&stage), &subject, &work);
                scope.spawn(move || {
                    drop(stage.turn(me));
                    HERE.set(Some((Arc::clone(&stage), me)));
                    let _turn = Turn(stage, me);
                    work(subject, me)
                })
            };
            let running: Vec<_> = all.iter().map(|me| run(*me)).collect();
            let mut state = stage.lock();
            let first = state.choose(all.clone());
            stage.give(state, first);
            running.into_iter().map(|thread| thread.join().expect("a thread that ends")).collect()
        });
        judge(&subject, results);
        path = std::mem::take(&mut stage.lock().path);
        while let Some(last) = path.last_mut() {
            last.taken += 1;
            if last.taken < last.options.len() {
                break;
            }
            path.pop();
        }
        if path.is_empty() {
            return orders;
        }
    }
    unreachable!("orders are counted without an end")
}
