//! The precision of a forward pass.

use super::scopes::Autocast;
use super::tensor::channels_last;
use crate::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// The type of number that a forward pass computes in. Weights, loss, gradients and optimiser are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Single precision, but on a GPU products of matrices and convolutions take their factors in TF32, with 10 bits.
    Tf32,
    /// bfloat16 where that is safe (PyTorch's autocast), with images in the channels-last memory format.
    Bf16,
}

impl Precision {
    /// Runs `network` on `x`, `[rows, ...]`, on `device`; its output is f32.
    pub(crate) fn apply(
        self,
        device: Device,
        x: &Tensor,
        network: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let _autocast = Autocast::new(device, self == Precision::Bf16)?;
        let output = match self {
            // Convolutions are faster in this format, except in f32 on a GPU.
            precision if x.dim() == 4 && (precision == Precision::Bf16 || !device.is_cuda()) => {
                network(&channels_last(x)?)?
            }
            _ => network(x)?,
        };
        Ok(output.f_to_kind(tch::Kind::Float)?)
    }
}
