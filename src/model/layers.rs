//! Layers, and networks that are a sequence of them.

use super::StateTensor;
use super::init::uniform;
use crate::{Error, Result};
use rand_chacha::ChaCha12Rng;
use tch::{Device, Kind, Tensor};

/// PyTorch's defaults for BatchNorm.
const MOMENTUM: f64 = 0.1;
const EPSILON: f64 = 1e-5;

/// One layer with its tensors.
#[derive(Debug)]
enum Layer {
    Linear { weight: Tensor, bias: Tensor },
    BatchNorm { weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor },
    Relu,
}

impl Layer {
    /// `nn.Linear`: weights and bias uniform within `1/sqrt(inputs)`.
    fn linear(inputs: usize, outputs: usize, generator: &mut ChaCha12Rng) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        Ok(Layer::Linear {
            weight: uniform(&[outputs as i64, inputs as i64], bound, generator)?.f_set_requires_grad(true)?,
            bias: uniform(&[outputs as i64], bound, generator)?.f_set_requires_grad(true)?,
        })
    }

    /// `nn.BatchNorm1d`.
    fn batch_norm(width: usize) -> Result<Self> {
        let filled = |value: f64| Tensor::f_full([width as i64], value, (Kind::Float, Device::Cpu));
        Ok(Layer::BatchNorm {
            weight: filled(1.0)?.f_set_requires_grad(true)?,
            bias: filled(0.0)?.f_set_requires_grad(true)?,
            running_mean: filled(0.0)?,
            running_var: filled(1.0)?,
        })
    }

    fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        Ok(match self {
            Layer::Linear { weight, bias } => x.f_linear(weight, Some(bias))?,
            Layer::BatchNorm { weight, bias, running_mean, running_var } => {
                if training && x.size()[0] < 2 {
                    return Err(Error::Shape("a mini-batch of 1 row: BatchNorm needs at least 2 in training".into()));
                }
                let (mean, var) = (Some(running_mean), Some(running_var));
                x.f_batch_norm(Some(weight), Some(bias), mean, var, training, MOMENTUM, EPSILON, false)?
            }
            Layer::Relu => x.f_relu()?,
        })
    }

    /// Name, tensor and whether it is trained.
    fn tensors(&self) -> Vec<(&'static str, &Tensor, bool)> {
        match self {
            Layer::Linear { weight, bias } => vec![("weight", weight, true), ("bias", bias, true)],
            Layer::BatchNorm { weight, bias, running_mean, running_var } => vec![
                ("weight", weight, true),
                ("bias", bias, true),
                ("running_mean", running_mean, false),
                ("running_var", running_var, false),
            ],
            Layer::Relu => vec![],
        }
    }
}

/// Layers one after the other.
#[derive(Debug)]
pub(super) struct Sequential {
    layers: Vec<Layer>,
}

impl Sequential {
    /// Linear layers between the `widths`, each but the last followed by a ReLU, with a BatchNorm before it on request.
    pub(super) fn mlp(widths: &[usize], batch_norm: bool, generator: &mut ChaCha12Rng) -> Result<Self> {
        let mut layers = Vec::new();
        let last = widths.len() - 2;
        for (index, pair) in widths.windows(2).enumerate() {
            layers.push(Layer::linear(pair[0], pair[1], generator)?);
            if index < last {
                if batch_norm {
                    layers.push(Layer::batch_norm(pair[1])?);
                }
                layers.push(Layer::Relu);
            }
        }
        Ok(Sequential { layers })
    }

    pub(super) fn forward(&self, input: &Tensor, training: bool) -> Result<Tensor> {
        let mut x = input.shallow_clone();
        for layer in &self.layers {
            x = layer.forward(&x, training)?;
        }
        Ok(x)
    }

    /// Every tensor under the name that PyTorch's `nn.Sequential` gives it.
    pub(super) fn state(&self) -> Vec<StateTensor> {
        let layers = self.layers.iter().enumerate();
        let tensors = layers.flat_map(|(index, layer)| {
            layer.tensors().into_iter().map(move |(name, tensor, trainable)| StateTensor {
                name: format!("{index}.{name}"),
                tensor: tensor.shallow_clone(),
                trainable,
            })
        });
        tensors.collect()
    }
}
