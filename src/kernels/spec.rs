//! The specification of a layer, the same for each of its implementations.

use crate::torch::ffi::{AtTensor, pointer};
use tch::Tensor;

/// How much of the way to a mini-batch's statistics the running statistics of a BatchNorm move: PyTorch's default.
pub(crate) const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Added to a variance before its square root: PyTorch's default.
pub(crate) const BATCH_NORM_EPSILON: f64 = 1e-5;

/// What a BatchNorm computes, beside its tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchNormSpec {
    /// Whether to normalise by the mini-batch's statistics and move the running ones towards them. Otherwise the running
    /// ones are used.
    pub training: bool,
    pub momentum: f64,
    pub epsilon: f64,
}

/// A square window that moves over an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub size: usize,
    pub stride: usize,
    /// Rows and columns added at each side of the image.
    pub padding: usize,
}

/// What is computed from a BatchNorm's output, in the same pass over memory where an implementation can.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Epilogue<'a> {
    Nothing,
    Relu,
    /// A ReLU, then the largest value of each window.
    ReluAndMaxPool(Window),
    /// The sum with this tensor, then a ReLU.
    ShortcutAndRelu(&'a Tensor),
}

impl Epilogue<'_> {
    /// Whether a ReLU is part of it.
    pub(crate) fn has_relu(&self) -> bool {
        !matches!(self, Epilogue::Nothing)
    }

    /// The tensor that is added, or null.
    pub(crate) fn shortcut(&self) -> *const AtTensor {
        if let Epilogue::ShortcutAndRelu(shortcut) = self { pointer(shortcut) } else { std::ptr::null() }
    }
}
