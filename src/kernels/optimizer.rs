//! Which optimiser, and one step of it in vectors for the kernels.

use super::adam_step::{AdamOptions, AdamStep, AdamwOptions, AdamwStep};
use super::sgd_step::{SgdOptions, SgdStep};
use crate::Result;
use pulp::Simd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which optimiser moves the weights, with its constants other than the learning rate. The defaults are PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerOptions {
    /// Adam (Kingma and Ba 2015).
    Adam(AdamOptions),
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    Adamw(AdamwOptions),
    /// Gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever, Martens, Dahl, Hinton 2013).
    Sgd(SgdOptions),
}

impl OptimizerOptions {
    /// Checks the constants; `path` is where they stand.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig) with the path of the constant.
    pub(crate) fn validate(&self, path: &str) -> Result<()> {
        match self {
            OptimizerOptions::Adam(options) => options.validate(path),
            OptimizerOptions::Adamw(options) => options.validate(path),
            OptimizerOptions::Sgd(options) => options.validate(path),
        }
    }

    /// The names of what it keeps for each weight.
    pub(crate) fn state(&self) -> &'static [&'static str] {
        match self {
            OptimizerOptions::Adam(_) | OptimizerOptions::Adamw(_) => &["adam.mean", "adam.square"],
            OptimizerOptions::Sgd(_) => &["sgd.momentum"],
        }
    }
}

/// How one step moves the weights.
#[derive(Clone, Copy, Debug)]
pub struct OptimizerStep {
    pub(super) rule: Rule,
    /// The greatest norm of the whole gradient.
    pub(super) clip_norm: Option<f64>,
}

/// The numbers of one step, on f32 values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    Adam(AdamStep),
    Adamw(AdamwStep),
    Sgd(SgdStep),
}

impl OptimizerStep {
    /// Step `number`, counted from 1. A gradient whose norm is more than `clip_norm` is shortened to it.
    pub fn new(options: &OptimizerOptions, number: u64, learning_rate: f64, clip_norm: Option<f64>) -> Self {
        let rule = match options {
            OptimizerOptions::Adam(options) => Rule::Adam(AdamStep::new(options, number, learning_rate)),
            OptimizerOptions::Adamw(options) => Rule::Adamw(AdamwStep::new(options, number, learning_rate)),
            OptimizerOptions::Sgd(options) => Rule::Sgd(SgdStep::new(options, number, learning_rate)),
        };
        OptimizerStep { rule, clip_norm }
    }
}

/// How a step moves some weights, of each of which it keeps `N` numbers.
pub(super) trait UpdateRule<const N: usize>: Copy + Sync {
    /// The weights and what is kept of them after the step.
    fn apply<S: Simd>(
        &self,
        simd: S,
        gradient: S::f32s,
        value: S::f32s,
        state: [S::f32s; N],
    ) -> (S::f32s, [S::f32s; N]);
}

/// The factor that shortens a gradient of norm `norm` to `clip_norm`, as PyTorch's `clip_grad_norm_` has it.
pub(super) fn clip_factor(norm: f64, clip_norm: f64) -> f64 {
    (clip_norm / (norm + CLIP_EPSILON)).min(1.0)
}

/// Added to the norm that a gradient is divided by.
pub(crate) const CLIP_EPSILON: f64 = 1e-6;

/// Replaces numbers that are almost 0 by 0. Without it the means of a weight that no longer has a gradient (its ReLU is
/// never positive) would shrink to denormal numbers and stay there. Processors are very slow with those.
#[inline(always)]
pub(super) fn normal<S: Simd>(simd: S, values: S::f32s) -> S::f32s {
    let small = simd.less_than_f32s(simd.abs_f32s(values), simd.splat_f32s(1e-30));
    simd.select_f32s(small, simd.splat_f32s(0.0), values)
}
