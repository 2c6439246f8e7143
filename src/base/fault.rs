//! Panics on demand, for tests of what a panic leaves behind: in unit tests, and with the feature `faults`. Otherwise
//! a point does nothing.

#[cfg(any(test, feature = "faults"))]
use std::cell::Cell;

#[cfg(any(test, feature = "faults"))]
thread_local! {
    /// Which of this thread's next points panics, counted from 1; 0 for none.
    static LEFT: Cell<i64> = const { Cell::new(0) };
}

/// A place where a panic would hurt: with a lock held, a file half written, a step half taken.
#[inline(always)]
pub(crate) fn point() {
    #[cfg(any(test, feature = "faults"))]
    if LEFT.get() > 0 && LEFT.replace(LEFT.get() - 1) == 1 {
        panic!("an injected panic");
    }
}

/// Makes this thread's `number`th fault point from now panic, counted from 1; 0 for none. Returns what was left of the
/// number before.
#[cfg(any(test, feature = "faults"))]
pub(crate) fn panic_at(number: i64) -> i64 {
    LEFT.replace(number)
}
