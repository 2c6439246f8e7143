//! Pools of threads that start as a whole or not at all.

use crate::array::reserve;
use crate::{Error, Result, shim};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::hint::black_box;

/// A thread's stack, in bytes.
const STACK: usize = 2 << 20;

/// What a thread needs beside its stack until it works, in bytes, amply.
pub(crate) const START: usize = 1 << 20;

/// The address space, in bytes, that glibc takes for a moment at a thread's first allocation. It or OpenMP ends the
/// process where another thread, which starts at that moment, has none left.
pub(crate) const ARENA: usize = 128 << 20;

/// A pool of `count` threads of the names `biv-<name>-<index>`, which all run when it is there.
///
/// # Errors
///
/// [`Error::OutOfMemory`] where the system has no more threads, or no memory for them.
pub(crate) fn pool(name: &'static str, count: usize) -> Result<ThreadPool> {
    // The system ends a process in which a thread that has got its stack finds no memory for what it starts with.
    let each = STACK + START + if shim::has_limited_space() { ARENA } else { 0 };
    check_room(count.saturating_mul(each), || format!("{count} more threads"))?;
    let builder = ThreadPoolBuilder::new().num_threads(count).stack_size(STACK);
    let pool = builder.thread_name(move |index| format!("biv-{name}-{index}")).build();
    let pool = pool.map_err(|error| Error::OutOfMemory(format!("{count} more threads do not start: {error}")))?;
    pool.broadcast(|_| ());
    Ok(pool)
}

/// Makes sure that `size` bytes of memory, more than the library's reserve has, could be had at once.
///
/// # Errors
///
/// [`Error::OutOfMemory`], which says what they are for.
pub(crate) fn check_room(size: usize, purpose: impl FnOnce() -> String) -> Result<()> {
    // What nobody reads would not be allocated.
    let room = reserve::<u8>(size).map(black_box);
    room.map(drop).map_err(|_| Error::OutOfMemory(format!("no memory for {}", purpose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pools_threads_have_names() {
        let names = pool("test", 2).unwrap().broadcast(|_| std::thread::current().name().map(str::to_string));
        assert_eq!(names, [Some("biv-test-0".to_string()), Some("biv-test-1".to_string())]);
    }

    #[test]
    fn threads_that_do_not_fit_are_an_error() {
        let error = pool("test", usize::MAX).unwrap_err();
        assert!(matches!(&error, Error::OutOfMemory(_)), "{error}");
    }
}
