//! The threads that share a step's work.

use parking_lot::Mutex;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Lets the teams that this thread asks for have `count` threads at most, where several such threads work side by side.
pub fn limit_threads(count: usize) {
    LIMIT.set(count.max(1));
}

/// Some threads of the process that work together.
#[derive(Clone, Debug)]
pub struct Team(Option<Arc<ThreadPool>>);

impl Team {
    /// As many threads as libtorch uses inside an operation. Teams of one size are the same threads.
    pub fn gather() -> Self {
        static LAST: Mutex<Option<Arc<ThreadPool>>> = Mutex::new(None);
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(LIMIT.get());
        if threads <= 1 {
            return Team::alone();
        }
        let mut last = LAST.lock();
        if last.as_ref().is_none_or(|pool| pool.current_num_threads() != threads) {
            let builder = ThreadPoolBuilder::new().num_threads(threads);
            // Where the system gives no more threads, the caller's does it all.
            *last = builder.thread_name(|index| format!("biv-kernel-{index}")).build().ok().map(Arc::new);
        }
        Team(last.clone())
    }

    /// The caller's thread only.
    pub fn alone() -> Self {
        Team(None)
    }

    /// Does `work` on a thread of the team, which then need not be woken for each part of it.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Does `work` on each of `items`.
    pub(super) fn each<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Send + Sync) {
        match &self.0 {
            Some(pool) if items.len() > 1 => pool.install(|| items.par_iter_mut().with_max_len(1).for_each(work)),
            _ => items.iter_mut().for_each(work),
        }
    }

    /// How many threads there are.
    pub(super) fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.current_num_threads())
    }
}
