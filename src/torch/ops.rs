//! Operations of libtorch that tch does not bind, or not in the form that a training step needs.

use super::ffi::{AtTensor, pointer, torch};
use crate::Result;
use std::ffi::c_char;
use tch::Tensor;

unsafe extern "C" {
    fn biv_torch_linear_relu(
        output: *mut AtTensor,
        bias: *const AtTensor,
        input: *const AtTensor,
        weight: *const AtTensor,
    ) -> *mut c_char;
    fn biv_torch_batch_norm_backward(
        delta: *const AtTensor,
        input: *const AtTensor,
        weight: *const AtTensor,
        mean: *const AtTensor,
        inverse_std: *const AtTensor,
        epsilon: f64,
        results: *mut *mut AtTensor,
    ) -> *mut c_char;
}

/// Writes `relu(input weight^T + bias)` to `output`, in one operation where the device has one.
pub(crate) fn linear_relu(output: &mut Tensor, bias: &Tensor, input: &Tensor, weight: &Tensor) -> Result<()> {
    let [bias, input, weight] = [bias, input, weight].map(pointer);
    // SAFETY: all are borrowed for the call.
    torch(unsafe { biv_torch_linear_relu(output.as_mut_ptr().cast(), bias, input, weight) })
}

/// The derivatives of a BatchNorm in training for its input, its weight and its bias. `delta` is that for
/// its output, `mean` and `inverse_std` are what its forward pass found.
pub(crate) fn batch_norm_backward(
    delta: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    mean: &Tensor,
    inverse_std: &Tensor,
    epsilon: f64,
) -> Result<[Tensor; 3]> {
    let mut results = [std::ptr::null_mut(); 3];
    let [delta, input, weight, mean, inverse_std] = [delta, input, weight, mean, inverse_std].map(pointer);
    // SAFETY: all are borrowed for the call; `results` has room for three.
    torch(unsafe {
        biv_torch_batch_norm_backward(delta, input, weight, mean, inverse_std, epsilon, results.as_mut_ptr())
    })?;
    // SAFETY: C++ has succeeded, so these are three tensors made with new, which are ours.
    Ok(results.map(|result| unsafe { Tensor::from_ptr(result.cast()) }))
}
