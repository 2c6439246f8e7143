//! What Rust and C++ both know of, as `interface.hpp` has it.

use crate::kernels::adam_step::AdamStep;
use std::mem::offset_of;

/// A step that is to be taken. `interface.hpp` has the same struct.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueuedStep {
    /// Where the mini-batch's rows begin in the list of all rows, and how many there are.
    pub first: i32,
    pub rows: i32,
    pub adam: AdamStep,
}

const _: () = assert!(
    size_of::<QueuedStep>() == 32
        && align_of::<QueuedStep>() == 4
        && offset_of!(QueuedStep, first) == 0
        && offset_of!(QueuedStep, rows) == 4
        && offset_of!(QueuedStep, adam) == 8
);
