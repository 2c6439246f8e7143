//! The threads that share a step's work.

use crate::threads;
use parking_lot::Mutex;
use rayon::ThreadPool;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};

/// How often a thread that has nothing left to do looks whether the others are done, before it sleeps: some
/// tens of microseconds.
const PATIENCE: usize = 2000;

/// After so many looks it lets others on its core go first: they may be those that it waits for.
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
pub struct Team(Option<Arc<ThreadPool>>);

impl Team {
    /// As many threads as libtorch uses inside an operation. Teams of one size have the same threads.
    pub fn gather() -> Self {
        static LAST: Mutex<Option<Arc<ThreadPool>>> = Mutex::new(None);
        let others = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(LIMIT.get()).saturating_sub(1);
        if others == 0 {
            return Team::alone();
        }
        let mut last = LAST.lock();
        if last.as_ref().is_none_or(|pool| pool.current_num_threads() != others) {
            // Where the system gives no more threads, the caller's does it all.
            *last = threads::pool("kernel", others).ok().map(Arc::new);
        }
        Team(last.clone())
    }

    /// The caller's thread only.
    pub fn alone() -> Self {
        Team(None)
    }

    /// Does `work` on each of `items`.
    pub(super) fn each<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        let Some(pool) = self.0.as_ref().filter(|_| items.len() > 1) else {
            return items.iter_mut().for_each(work);
        };
        let helpers = pool.current_num_threads().min(items.len() - 1);
        let (queue, helping) = (Mutex::new(items.iter_mut()), AtomicUsize::new(helpers));
        let next = || queue.lock().next();
        let help = || {
            while let Some(item) = next() {
                work(item);
            }
        };
        pool.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| {
                    help();
                    helping.fetch_sub(1, Release);
                });
            }
            help();
            // The others are at their last items, and to sleep and be woken takes longer than those.
            for look in 1..=PATIENCE {
                if helping.load(Acquire) == 0 {
                    break;
                }
                if look % TURN == 0 {
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
        });
    }

    /// How many threads there are.
    pub(super) fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.current_num_threads() + 1)
    }
}
