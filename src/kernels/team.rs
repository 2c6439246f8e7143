//! The threads that share a step's work.

use crate::base::threads;
use parking_lot::Mutex;
use rayon::ThreadPool;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// How often a thread that has nothing to do looks for work before it sleeps: about a hundred microseconds. To be woken
/// takes tens of them.
const PATIENCE: usize = 2000;

/// Epilogue so many looks it lets others on its core go first: they may be those that it waits for.
const TURN: usize = 20;

thread_local! {
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Lets the teams that this thread asks for have `count` threads at most, where several such threads work side by side.
pub fn limit_threads(count: usize) {
    LIMIT.set(count.max(1));
}

/// The caller's thread and some others of the process that work together.
#[derive(Clone, Debug)]
pub struct Team(Option<Arc<Helpers>>);

/// All threads of a team but the caller's.
#[derive(Debug)]
struct Helpers {
    pool: ThreadPool,
    /// How often they were asked for help.
    calls: AtomicUsize,
}

impl Team {
    /// As many threads as libtorch uses inside an operation. Teams of one size have the same threads.
    pub fn gather() -> Self {
        static LAST: Mutex<Option<Arc<Helpers>>> = Mutex::new(None);
        let others = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(LIMIT.get()).saturating_sub(1);
        if others == 0 {
            return Team::alone();
        }
        let mut last = LAST.lock();
        if last.as_ref().is_none_or(|helpers| helpers.pool.current_num_threads() != others) {
            // Where the system gives no more threads, the caller's does it all.
            let pool = threads::pool("kernel", others).ok();
            *last = pool.map(|pool| Arc::new(Helpers { pool, calls: AtomicUsize::new(0) }));
        }
        Team(last.clone())
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
                    // Epilogue this: the next call is often near.
                    rayon::spawn(move || await_until(|| helpers.calls.load(Relaxed) != call));
                    help();
                    helping.fetch_sub(1, Release);
                });
            }
            help();
            // The others are at their last items.
            await_until(|| helping.load(Acquire) == 0);
        });
    }

    /// How many threads there are.
    pub(super) fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |helpers| helpers.pool.current_num_threads() + 1)
    }
}

/// Waits without sleep until `done`, or until that takes long.
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
