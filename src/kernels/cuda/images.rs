//! Layers of networks for images in bfloat16, in fewer passes over a GPU's memory than libtorch's.
//!
//! Each function gives `None` where it is not for what it is given, or where the library is not there: then
//! libtorch's operations serve.

use super::library::Library;
use crate::Result;
use crate::kernels::spec::{BatchNorm, Epilogue};
use crate::torch::ffi::{AtTensor, pointer, torch};
use std::ffi::{c_char, c_int};
use tch::Tensor;

/// BatchNorm in training and what comes `after` it; `state` is its weight, its bias, and the running mean and variance.
pub(crate) fn batch_norm(
    input: &Tensor,
    state: [&Tensor; 4],
    how: BatchNorm,
    after: Epilogue,
) -> Result<Option<Tensor>> {
    let [weight, bias, mean, var] = state.map(pointer);
    let pool = match after {
        Epilogue::ReluAndMaxPool(window) => [window.size, window.stride, window.padding].map(|number| number as c_int),
        _ => [0; 3],
    };
    of_library(input, |library, result| {
        // SAFETY: all are borrowed for the call, or null; `result` is a place for one.
        unsafe {
            (library.batch_norm)(
                pointer(input),
                weight,
                bias,
                mean,
                var,
                after.shortcut(),
                how.momentum,
                how.epsilon,
                after.relu(),
                pool[0],
                pool[1],
                pool[2],
                result,
            )
        }
    })
}

/// A convolution with square filters, without a bias.
pub(crate) fn conv2d(input: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Option<Tensor>> {
    of_library(input, |library, result| {
        // SAFETY: both are borrowed for the call; `result` is a place for one.
        unsafe { (library.conv2d)(pointer(input), pointer(weight), stride as i64, padding as i64, result) }
    })
}

/// The images `index` of `bytes`, `[rows, channels, height, width]`, as `scale * byte + shift`, in the channels-last
/// format.
pub(crate) fn gather_images(bytes: &Tensor, index: &Tensor, scale: f64, shift: f64) -> Result<Option<Tensor>> {
    of_library(bytes, |library, result| {
        // SAFETY: both are borrowed for the call; `result` is a place for one.
        unsafe { (library.gather_images)(pointer(bytes), pointer(index), scale, shift, result) }
    })
}

/// What `call` makes of `input` with the library, where both are for a GPU.
fn of_library(
    input: &Tensor,
    call: impl FnOnce(&Library, *mut *mut AtTensor) -> *mut c_char,
) -> Result<Option<Tensor>> {
    let Some(library) = input.device().is_cuda().then(Library::get).and_then(Result::ok) else { return Ok(None) };
    let mut result = std::ptr::null_mut();
    torch(call(library, &mut result))?;
    // SAFETY: the library has succeeded, so this is null or a tensor made with new, which is ours.
    Ok((!result.is_null()).then(|| unsafe { Tensor::from_ptr(result.cast()) }))
}
