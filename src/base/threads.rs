//! Pools of threads that carry the library's name.

use crate::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A thread's stack, in bytes.
const STACK: usize = 2 << 20;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pools_threads_have_names() {
        let names = pool("test", 2).unwrap().broadcast(|_| std::thread::current().name().map(str::to_string));
        assert_eq!(names, [Some("biv-test-0".to_string()), Some("biv-test-1".to_string())]);
    }
}
