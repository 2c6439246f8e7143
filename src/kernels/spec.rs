//! What a layer is to compute, as every implementation of it takes it.

use crate::torch::ffi::{AtTensor, pointer};
use tch::Tensor;

/// How far the running statistics of a BatchNorm move towards those of a mini-batch: PyTorch's default.
pub(crate) const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Added to a variance before its square root: PyTorch's default.
pub(crate) const BATCH_NORM_EPSILON: f64 = 1e-5;

/// How a BatchNorm goes over its input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchNorm {
    /// By the mini-batch's statistics, towards which it moves the running ones; else by those.
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

/// What follows a BatchNorm at once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Epilogue<'a> {
    Nothing,
    Relu,
    /// Then the largest value of each window.
    ReluAndMaxPool(Window),
    /// This is added, and then comes a ReLU.
    ShortcutAndRelu(&'a Tensor),
}

impl Epilogue<'_> {
    /// Whether a ReLU is part of it.
    pub(crate) fn relu(&self) -> bool {
        !matches!(self, Epilogue::Nothing)
    }

    /// What is added, or null.
    pub(crate) fn shortcut(&self) -> *const AtTensor {
        if let Epilogue::ShortcutAndRelu(shortcut) = self { pointer(shortcut) } else { std::ptr::null() }
    }
}
