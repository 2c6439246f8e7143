//! Panics on demand, for tests of what a panic leaves behind (feature `faults`; without it there is nothing here).

#[cfg(feature = "faults")]
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// How many fault points from now the one is that panics; 0 for none.
#[cfg(feature = "faults")]
static LEFT: AtomicI64 = AtomicI64::new(0);

/// A fault point, where a panic would hurt: with a lock held, a file half written, a step half taken.
#[inline(always)]
pub(crate) fn point() {
    #[cfg(feature = "faults")]
    if LEFT.load(Relaxed) > 0 && LEFT.fetch_sub(1, Relaxed) == 1 {
        panic!("an injected panic");
    }
}

/// Makes the n-th fault point from now panic, counted from 1; 0 for none. Returns how far away the last one asked for
/// still was.
#[cfg(feature = "faults")]
pub(crate) fn panic_at(n: i64) -> i64 {
    LEFT.swap(n, Relaxed)
}
