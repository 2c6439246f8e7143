//! The threads that share a step's work.

use parking_lot::Mutex;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// How many threads a step or a prediction on this thread uses: libtorch's number, or what is left by [`limit_threads`].
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).clamp(1, LIMIT.get())
}

/// Lets steps and predictions on this thread use `count` threads at most, for threads that work side by side.
pub fn limit_threads(count: usize) {
    LIMIT.set(count.max(1));
}

/// Does `work` on each of `items`, on `threads` threads.
pub(super) fn each<T: Send>(threads: usize, items: &mut [T], work: impl Fn(&mut T) + Send + Sync) {
    match pool(if items.len() > 1 { threads } else { 1 }) {
        Some(pool) => pool.install(|| items.par_iter_mut().with_max_len(1).for_each(work)),
        None => items.iter_mut().for_each(work),
    }
}

/// The pool of the process, made anew where another number of threads is asked for; `None` for one thread,
/// or where the system gives no more.
fn pool(threads: usize) -> Option<Arc<ThreadPool>> {
    static POOL: Mutex<Option<Arc<ThreadPool>>> = Mutex::new(None);
    if threads <= 1 {
        return None;
    }
    let mut pool = POOL.lock();
    match &*pool {
        Some(pool) if pool.current_num_threads() == threads => return Some(pool.clone()),
        _ => {}
    }
    let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("biv-kernel-{index}"));
    *pool = builder.build().ok().map(Arc::new);
    pool.clone()
}
