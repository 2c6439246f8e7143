//! The threads that a step's work is divided among.

use crate::base::log::{self, Level};
use crate::base::threads;
use parking_lot::Mutex;
use rayon::ThreadPool;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// How often a thread without work looks for some before it sleeps: for about a hundred microseconds. Waking a thread takes
/// tens of microseconds.
const PATIENCE: usize = 2000;

/// After this many looks it lets other threads of its core run: it may be waiting for one of them.
const TURN: usize = 20;

thread_local! {
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Limits the teams that this thread gathers to `count` threads, for programs that train in several threads side by side.
pub fn limit_threads(count: usize) {
    LIMIT.set(count.max(1));
}

/// How many threads this thread's work may use: as many as libtorch uses inside an operation, within the limit.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).clamp(1, LIMIT.get())
}

/// Runs `work` with the teams that this thread gathers limited to `count` threads.
pub fn with_threads<T>(count: usize, work: impl FnOnce() -> T) -> T {
    /// Sets the limit back when `work` is done, by a panic too.
    struct Before(usize);
    impl Drop for Before {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let _before = Before(LIMIT.replace(count.max(1)));
    work()
}

/// The caller's thread and some threads of the library that work together.
#[derive(Clone, Debug)]
pub struct Team(Option<Arc<Helpers>>);

/// The threads of a team other than the caller's.
#[derive(Debug)]
struct Helpers {
    pool: ThreadPool,
    /// How often they were called.
    calls: AtomicUsize,
}

impl Team {
    /// As many threads as libtorch uses inside an operation, within this thread's limit. Teams of one size have the same
    /// threads.
    pub fn gather() -> Self {
        Team::of(threads())
    }

    fn of(size: usize) -> Self {
        /// The helpers of each size that was asked for: teams of different sizes take turns without starting threads.
        static HELPERS: Mutex<Vec<Arc<Helpers>>> = Mutex::new(vec![]);
        let others = size.saturating_sub(1);
        if others == 0 {
            return Team::alone();
        }
        let mut all = HELPERS.lock();
        if let Some(helpers) = all.iter().find(|helpers| helpers.pool.current_num_threads() == others) {
            return Team(Some(Arc::clone(helpers)));
        }
        match threads::pool("kernel", others) {
            Ok(pool) => {
                let helpers = Arc::new(Helpers { pool, calls: AtomicUsize::new(0) });
                all.push(Arc::clone(&helpers));
                Team(Some(helpers))
            }
            Err(cause) => {
                log::once(Level::Warning, &format!("multi-layer perceptrons train on one thread: {cause}"));
                Team::alone()
            }
        }
    }

    /// The caller's thread only.
    pub fn alone() -> Self {
        Team(None)
    }

    /// Does `work` on each of `items`.
    pub(super) fn each<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        let Some(helpers) = self.0.as_ref().filter(|_| items.len() > 1) else {
            return items.iter_mut().for_each(work);
        };
        let count = helpers.pool.current_num_threads().min(items.len() - 1);
        let (queue, helping) = (Mutex::new(items.iter_mut()), AtomicUsize::new(count));
        let next = || queue.lock().next();
        let help = || {
            while let Some(item) = next() {
                work(item);
            }
        };
        let call = helpers.calls.fetch_add(1, Relaxed) + 1;
        helpers.pool.in_place_scope(|scope| {
            for _ in 0..count {
                scope.spawn(|_| {
                    let helpers = Arc::clone(helpers);
                    // When its work is done, this thread waits a while for the next call, which is often near.
                    rayon::spawn(move || await_until(|| helpers.calls.load(Relaxed) != call));
                    help();
                    helping.fetch_sub(1, Release);
                });
            }
            help();
            // The others are still at their last items.
            await_until(|| helping.load(Acquire) == 0);
        });
    }

    /// How many threads there are.
    pub(super) fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |helpers| helpers.pool.current_num_threads() + 1)
    }
}

/// Waits until `done` without sleeping, but not for long.
fn await_until(done: impl Fn() -> bool) {
    for look in 1..=PATIENCE {
        if done() {
            break;
        }
        if look % TURN == 0 {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_of_different_sizes_take_turns_without_new_threads() {
        let threads = |size| {
            let team = Team::of(size);
            assert_eq!(team.size(), size);
            team.0.map_or(vec![], |helpers| helpers.pool.broadcast(|_| std::thread::current().id()))
        };
        let first = [1, 2, 3].map(threads);
        assert_eq!(first.each_ref().map(Vec::len), [0, 1, 2]);
        assert_eq!([1, 2, 3].map(threads), first);
    }
}
