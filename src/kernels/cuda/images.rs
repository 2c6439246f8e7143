//! Layers of image networks in bfloat16 on a GPU, with fewer passes over its memory than libtorch's.
//!
//! Each function gives `None` for tensors that it does not take.

use super::library::Library;
use crate::Result;
use crate::kernels::cpu::owned;
use crate::kernels::spec::{BatchNormSpec, Epilogue};
use crate::torch::ffi::{AtTensor, pointer, torch};
use std::ffi::{c_char, c_int};
use tch::Tensor;

/// BatchNorm in training and its `epilogue`. `state` is its weight, its bias, and the running mean and variance.
pub(crate) fn batch_norm(
    library: &Library,
    input: &Tensor,
    state: [&Tensor; 4],
    spec: BatchNormSpec,
    epilogue: Epilogue,
) -> Result<Option<Tensor>> {
    let [weight, bias, mean, var] = state.map(pointer);
    let pool = match epilogue {
        Epilogue::ReluAndMaxPool(window) => [window.size, window.stride, window.padding].map(|number| number as c_int),
        _ => [0; 3],
    };
    result_of(|result| {
        // SAFETY: all are borrowed for the call, or null; `result` is a place for one.
        unsafe {
            (library.batch_norm)(
                pointer(input),
                weight,
                bias,
                mean,
                var,
                epilogue.shortcut(),
                spec.momentum,
                spec.epsilon,
                epilogue.has_relu(),
                pool[0],
                pool[1],
                pool[2],
                result,
            )
        }
    })
}

/// A convolution with square filters, without a bias.
pub(crate) fn conv2d(
    library: &Library,
    input: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
) -> Result<Option<Tensor>> {
    result_of(|result| {
        // SAFETY: both are borrowed for the call; `result` is a place for one.
        unsafe { (library.conv2d)(pointer(input), pointer(weight), stride as i64, padding as i64, result) }
    })
}

/// The images `index` of `bytes`, `[rows, channels, height, width]`, as `scale * byte + shift`, in the channels-last
/// format.
pub(crate) fn gather_images(
    library: &Library,
    bytes: &Tensor,
    index: &Tensor,
    scale: f64,
    shift: f64,
) -> Result<Option<Tensor>> {
    result_of(|result| {
        // SAFETY: both are borrowed for the call; `result` is a place for one.
        unsafe { (library.gather_images)(pointer(bytes), pointer(index), scale, shift, result) }
    })
}

/// The tensor that `call` writes to its place, if it writes one.
fn result_of(call: impl FnOnce(*mut *mut AtTensor) -> *mut c_char) -> Result<Option<Tensor>> {
    let mut result = std::ptr::null_mut();
    torch(call(&mut result))?;
    // SAFETY: the library has succeeded, so this is null or a tensor made with new, which is ours.
    Ok(unsafe { owned(result) })
}
