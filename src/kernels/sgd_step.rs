//! One step of gradient descent with momentum: its numbers, and its arithmetic in vectors for the kernels.

use super::optimizer::{UpdateRule, normal};
use crate::base::options::require;
use crate::{Error, Result};
use pulp::Simd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The constants of gradient descent other than the learning rate; the defaults are PyTorch's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SgdOptions {
    /// What a step keeps of the one before it, in [0, 1) (default 0).
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// The part of the gradient that does not enter the momentum, in [0, 1] (default 0). The first one enters whole.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dampening: f64,
    /// Whether a step is along the momentum that follows it (default false); needs momentum without dampening.
    pub nesterov: bool,
    /// Times the weights, added to the gradient (default 0).
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
}

impl SgdOptions {
    pub(super) fn validate(&self, path: &str) -> Result<()> {
        let SgdOptions { momentum, dampening, nesterov, weight_decay } = *self;
        let within = |range: bool, name: &str, value: f64, allowed: &str| {
            require(range, format!("{path}.{name}"), value, allowed)
        };
        within((0.0..1.0).contains(&momentum), "momentum", momentum, "in [0, 1)")?;
        within((0.0..=1.0).contains(&dampening), "dampening", dampening, "in [0, 1]")?;
        within(weight_decay >= 0.0, "weight_decay", weight_decay, "at least 0")?;
        if nesterov && (momentum == 0.0 || dampening > 0.0) {
            let fault = "needs a momentum greater than 0 and no dampening";
            return Err(Error::config(format!("{path}.nesterov"), fault));
        }
        Ok(())
    }
}

/// The numbers of one step of gradient descent on f32 values.
#[derive(Clone, Copy, Debug)]
pub(super) struct SgdStep {
    rate: f32,
    momentum: f32,
    /// The part of the gradient that enters the momentum.
    entering: f32,
    nesterov: bool,
    weight_decay: f32,
}

impl SgdStep {
    /// Step `number`, counted from 1.
    pub(super) fn new(options: &SgdOptions, number: u64, learning_rate: f64) -> Self {
        SgdStep {
            rate: learning_rate as f32,
            momentum: options.momentum as f32,
            entering: if number == 1 { 1.0 } else { (1.0 - options.dampening) as f32 },
            nesterov: options.nesterov,
            weight_decay: options.weight_decay as f32,
        }
    }
}

impl UpdateRule<1> for SgdStep {
    /// Of some values and their momenta.
    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        gradient: S::f32s,
        value: S::f32s,
        [momentum]: [S::f32s; 1],
    ) -> (S::f32s, [S::f32s; 1]) {
        let all = |number: f32| simd.splat_f32s(number);
        let gradient = simd.mul_add_e_f32s(all(self.weight_decay), value, gradient);
        let entering = simd.mul_f32s(all(self.entering), gradient);
        let momentum = normal(simd, simd.mul_add_e_f32s(all(self.momentum), momentum, entering));
        let direction =
            if self.nesterov { simd.mul_add_e_f32s(all(self.momentum), momentum, gradient) } else { momentum };
        (simd.sub_f32s(value, simd.mul_f32s(all(self.rate), direction)), [momentum])
    }
}
