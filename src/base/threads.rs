//! Pools of threads that carry the library's name, and whether threads start.

use crate::{Error, Result};
use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A thread's stack, in bytes.
const STACK: usize = 2 << 20;

/// That of a thread of an OpenMP, which has the system's default, in bytes.
const OPENMP_STACK: usize = 8 << 20;

/// A pool of `count` threads, named `biv-<name>-<index>`.
///
/// # Errors
///
/// [`Error::OutOfMemory`] when the system does not start them.
pub(crate) fn pool(name: &'static str, count: usize) -> Result<ThreadPool> {
    let builder = ThreadPoolBuilder::new().num_threads(count).stack_size(STACK);
    let pool = builder.thread_name(move |index| format!("biv-{name}-{index}")).build();
    pool.map_err(|error| Error::OutOfMemory(format!("{count} more threads do not start: {error}")))
}

/// Starts `count` threads and ends them. Where the system does not start those that they want, libtorch waits for ever and
/// an OpenMP ends the process.
///
/// # Errors
///
/// [`Error::OutOfMemory`] when the system does not start so many at a time.
pub(crate) fn try_out(count: usize) -> Result<()> {
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        let _closed = gate.lock();
        for started in 0..count {
            let thread = std::thread::Builder::new().stack_size(OPENMP_STACK);
            thread.spawn_scoped(scope, || drop(gate.lock())).map_err(|error| {
                Error::OutOfMemory(format!("the system starts {started} of {count} threads, then: {error}"))
            })?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pools_threads_have_names() {
        let names = pool("test", 2).unwrap().broadcast(|_| std::thread::current().name().map(str::to_string));
        assert_eq!(names, [Some("biv-test-0".to_string()), Some("biv-test-1".to_string())]);
    }
}
