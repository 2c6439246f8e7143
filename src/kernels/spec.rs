//! The specification of a layer, the same for each of its implementations.

use crate::torch::ffi::{AtTensor, pointer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The function that a layer applies to each of its values, with PyTorch's constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`.
    #[default]
    Relu,
    /// `x` where it is positive, else `0.01 x`.
    LeakyRelu,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x sigmoid(x)`, also called swish.
    Silu,
    /// `x P(z < x)` for a standard normal `z` (Hendrycks and Gimpel 2016), by the error function.
    Gelu,
    /// `log(1 + exp(x))`, which is `x` beyond 20.
    Softplus,
}

impl Activation {
    /// Whether it is the one that kernels fuse with other work.
    pub(crate) fn is_relu(&self) -> bool {
        *self == Activation::Relu
    }
}

/// How much of the way to a mini-batch's statistics the running statistics of a BatchNorm move: PyTorch's default.
pub(crate) const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Added to a variance before its square root: PyTorch's default.
pub(crate) const BATCH_NORM_EPSILON: f64 = 1e-5;

/// The slope of a leaky ReLU below 0: PyTorch's default.
pub(crate) const LEAKY_RELU_SLOPE: f64 = 0.01;

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

impl Window {
    /// Its size, stride and padding, as libtorch and ONNX take them.
    pub(crate) fn sizes(self) -> [i64; 3] {
        [self.size, self.stride, self.padding].map(|number| number as i64)
    }
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
