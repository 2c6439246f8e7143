//! A sum over processes through which derivatives go.

use super::ffi::{AtTensor, pointer, torch};
use super::process_group::ProcessGroup;
use crate::{Error, Result};
use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tch::Tensor;

unsafe extern "C" {
    fn biv_torch_sum_gradients(
        own: *const AtTensor,
        sum: *mut AtTensor,
        group: *mut c_void,
        reduce: unsafe extern "C" fn(*mut c_void, *mut c_void) -> *mut c_char,
        release: unsafe extern "C" fn(*mut c_void),
    ) -> *mut c_char;
}

/// The sum of what all processes of `group` call this with. The derivative of what the processes compute together by
/// `own` is the sum of theirs by the result: on the way back each process takes part in another sum.
///
/// # Errors
/// [`Error::Distributed`]; [`Error::OutOfMemory`].
pub(crate) fn sum_over_ranks(group: &Arc<ProcessGroup>, own: &Tensor) -> Result<Tensor> {
    let mut sum = own.f_detach_copy()?;
    group.all_reduce(&mut sum)?;
    if own.requires_grad() {
        let held = Arc::into_raw(Arc::clone(group)).cast_mut().cast();
        // SAFETY: both tensors are live for the call, and `sum` is seen by nobody else. C++ takes the reference over: it
        // gives it to `release` once, when the derivatives can no longer be asked for, and to `reduce` before that.
        torch(unsafe { biv_torch_sum_gradients(pointer(own), pointer(&sum).cast_mut(), held, reduce, release) })?;
    }
    Ok(sum)
}

/// Sums `tensor`, an `at::Tensor` that becomes ours, over the processes of `group`.
unsafe extern "C" fn reduce(group: *mut c_void, tensor: *mut c_void) -> *mut c_char {
    // SAFETY: C++ gives a tensor made with new, and the group that it holds.
    let (mut tensor, group) = unsafe { (Tensor::from_ptr(tensor.cast()), &*group.cast::<ProcessGroup>()) };
    let panicked = |_| Err(Error::Internal("a panic in a sum over processes".into()));
    match catch_unwind(AssertUnwindSafe(move || group.all_reduce(&mut tensor))).unwrap_or_else(panicked) {
        Ok(()) => std::ptr::null_mut(),
        Err(error) => {
            let text = CString::new(error.to_string()).unwrap_or_default();
            // SAFETY: the text ends with a NUL. C++ frees the copy.
            unsafe { libc::strdup(text.as_ptr()) }
        }
    }
}

/// Gives back a reference to the group.
unsafe extern "C" fn release(group: *mut c_void) {
    // SAFETY: it came from `Arc::into_raw`, and C++ calls this once for it.
    drop(unsafe { Arc::from_raw(group.cast::<ProcessGroup>()) });
}
