//! Layers, and networks made of them.

use super::init::{normal, uniform};
use crate::kernels::mlp::Plan;
use crate::kernels::ops::{batch_norm, conv2d, max_pool};
pub(super) use crate::kernels::spec::Window;
use crate::kernels::spec::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BatchNormSpec, Epilogue};
use crate::{Error, Result};
use rand_chacha::ChaCha12Rng;
use tch::{Device, Kind, Tensor};

/// A named tensor of a network's state.
#[derive(Debug)]
pub(crate) struct StateTensor {
    /// As in PyTorch's `state_dict` of the same network: `0.weight`, in a ResNet `layer1.0.conv1.weight`.
    pub name: String,
    /// The tensor itself, shared with the network.
    pub tensor: Tensor,
    /// Whether the optimiser changes it.
    pub trainable: bool,
}

/// One layer with its tensors.
#[derive(Debug)]
pub(super) enum Layer {
    /// `[rows, inputs]` to `[rows, outputs]`.
    Linear { weight: Tensor, bias: Tensor },
    /// `[rows, inputs, height, width]` to `[rows, outputs, height', width']`, with a square kernel.
    Conv { weight: Tensor, bias: Option<Tensor>, window: Window },
    /// Normalises each column of a table, each channel of images.
    BatchNorm { weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor },
    /// In place: the layers that stand before a ReLU do not need their output again.
    Relu,
    /// The largest value of each window.
    MaxPool(Window),
    /// The mean of each channel: `[rows, channels, 1, 1]`.
    AveragePool,
    /// `[rows, channels, height, width]` to `[rows, channels * height * width]`.
    Flatten,
    /// `relu(body(x) + shortcut(x))`; the body ends with a BatchNorm, and a shortcut without layers is the identity.
    Residual { body: Sequential, shortcut: Sequential },
}

impl Layer {
    /// `nn.Linear`: weights and bias uniform within `1/sqrt(inputs)`.
    pub(super) fn linear(inputs: usize, outputs: usize, generator: &mut ChaCha12Rng) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let weight = trainable(uniform(&[outputs, inputs], bound, generator)?)?;
        Ok(Layer::Linear { weight, bias: trainable(uniform(&[outputs], bound, generator)?)? })
    }

    /// `nn.Conv2d`: weights and bias uniform within `1/sqrt(inputs * size^2)`.
    pub(super) fn conv(inputs: usize, outputs: usize, window: Window, generator: &mut ChaCha12Rng) -> Result<Self> {
        let shape = [outputs, inputs, window.size, window.size];
        let bound = 1.0 / ((inputs * window.size * window.size) as f64).sqrt();
        let weight = trainable(uniform(&shape, bound, generator)?)?;
        Ok(Layer::Conv { weight, bias: Some(trainable(uniform(&[outputs], bound, generator)?)?), window })
    }

    /// A convolution of torchvision's ResNet: no bias; weights normal with variance
    /// `2 / (outputs * size^2)` (`kaiming_normal_` with `fan_out` and `relu`).
    pub(super) fn residual_conv(
        inputs: usize,
        outputs: usize,
        window: Window,
        generator: &mut ChaCha12Rng,
    ) -> Result<Self> {
        let shape = [outputs, inputs, window.size, window.size];
        let deviation = (2.0 / (outputs * window.size * window.size) as f64).sqrt();
        Ok(Layer::Conv { weight: trainable(normal(&shape, deviation, generator)?)?, bias: None, window })
    }

    /// `nn.BatchNorm1d` or `nn.BatchNorm2d`: the number of dimensions is the input's.
    pub(super) fn batch_norm(channels: usize) -> Result<Self> {
        let filled = |value: f64| Tensor::f_full([channels as i64], value, (Kind::Float, Device::Cpu));
        Ok(Layer::BatchNorm {
            weight: trainable(filled(1.0)?)?,
            bias: trainable(filled(0.0)?)?,
            running_mean: filled(0.0)?,
            running_var: filled(1.0)?,
        })
    }

    /// The layer's output, and that of what comes `after` it, which only a BatchNorm takes.
    fn forward(&self, mut x: Tensor, training: bool, after: Epilogue) -> Result<Tensor> {
        Ok(match self {
            Layer::Linear { weight, bias } => x.f_linear(weight, Some(bias))?,
            Layer::Conv { weight, bias, window } => conv2d(&x, weight, bias.as_ref(), window.stride, window.padding)?,
            Layer::BatchNorm { weight, bias, running_mean, running_var } => {
                if training && x.numel() < 2 * running_mean.numel() {
                    return Err(Error::Shape("a mini-batch of 1 row: BatchNorm needs at least 2 in training".into()));
                }
                let spec = BatchNormSpec { training, momentum: BATCH_NORM_MOMENTUM, epsilon: BATCH_NORM_EPSILON };
                batch_norm(&x, [weight, bias, running_mean, running_var], spec, after)?
            }
            Layer::Relu => x.f_relu_()?,
            Layer::MaxPool(window) => max_pool(&x, *window)?,
            Layer::AveragePool => x.f_adaptive_avg_pool2d([1, 1])?,
            Layer::Flatten => x.f_flatten(1, -1)?,
            Layer::Residual { body, shortcut } => {
                let shortcut = shortcut.forward(&x, training, Epilogue::Nothing)?;
                body.forward(&x, training, Epilogue::ShortcutAndRelu(&shortcut))?
            }
        })
    }

    /// Adds the layer's tensors to `state`, their names below `prefix`.
    fn collect(&self, prefix: &str, state: &mut Vec<StateTensor>) {
        let mut add = |name: &str, tensor: &Tensor, trainable| {
            state.push(StateTensor { name: format!("{prefix}.{name}"), tensor: tensor.shallow_clone(), trainable });
        };
        match self {
            Layer::Linear { weight, bias } => {
                add("weight", weight, true);
                add("bias", bias, true);
            }
            Layer::Conv { weight, bias, .. } => {
                add("weight", weight, true);
                bias.iter().for_each(|bias| add("bias", bias, true));
            }
            Layer::BatchNorm { weight, bias, running_mean, running_var } => {
                add("weight", weight, true);
                add("bias", bias, true);
                add("running_mean", running_mean, false);
                add("running_var", running_var, false);
            }
            Layer::Residual { body, shortcut } => {
                body.collect(&format!("{prefix}."), state);
                shortcut.collect(&format!("{prefix}.downsample."), state);
            }
            Layer::Relu | Layer::MaxPool(_) | Layer::AveragePool | Layer::Flatten => {}
        }
    }
}

fn trainable(tensor: Tensor) -> Result<Tensor> {
    Ok(tensor.f_set_requires_grad(true)?)
}

/// Layers one after the other, each with a name.
#[derive(Debug, Default)]
pub(super) struct Sequential {
    layers: Vec<(String, Layer)>,
}

impl Sequential {
    /// Layers with names of their own.
    pub(super) fn named(layers: Vec<(String, Layer)>) -> Self {
        Sequential { layers }
    }

    /// Layers under the names that PyTorch's `nn.Sequential` gives them: `0`, `1`, ...
    pub(super) fn numbered(layers: Vec<Layer>) -> Self {
        Self::named(layers.into_iter().enumerate().map(|(index, layer)| (index.to_string(), layer)).collect())
    }

    /// The last layer's output, and that of what comes `after` it, which only a BatchNorm takes.
    pub(super) fn forward(&self, input: &Tensor, training: bool, after: Epilogue) -> Result<Tensor> {
        let mut x = input.shallow_clone();
        let layers: Vec<&Layer> = self.layers.iter().map(|(_, layer)| layer).collect();
        let mut rest = &layers[..];
        while let [layer, following @ ..] = rest {
            // A BatchNorm takes what follows it along.
            let (after, taken) = match (layer, following) {
                (_, []) => (after, 0),
                (Layer::BatchNorm { .. }, [Layer::Relu, Layer::MaxPool(window), ..]) => {
                    (Epilogue::ReluAndMaxPool(*window), 2)
                }
                (Layer::BatchNorm { .. }, [Layer::Relu, ..]) => (Epilogue::Relu, 1),
                _ => (Epilogue::Nothing, 0),
            };
            x = layer.forward(x, training, after)?;
            rest = &following[taken..];
        }
        Ok(x)
    }

    /// Every tensor under the name that PyTorch's `state_dict` gives it.
    pub(super) fn state(&self) -> Vec<StateTensor> {
        let mut state = Vec::new();
        self.collect("", &mut state);
        state
    }

    fn collect(&self, prefix: &str, state: &mut Vec<StateTensor>) {
        for (name, layer) in &self.layers {
            layer.collect(&format!("{prefix}{name}"), state);
        }
    }
}

/// A network with the sizes that it was made for.
#[derive(Debug)]
pub(super) struct Network {
    pub layers: Sequential,
    /// `[inputs]` of a table's row, `[channels, height, width]` of an image.
    pub input_shape: Vec<usize>,
    pub outputs: usize,
    /// The fewest rows that a mini-batch of training may have: 2 where a
    /// BatchNorm would see a single value per channel otherwise.
    pub smallest_batch: usize,
    /// The network's shape, where it is one that [`kernel`](crate::kernels::mlp) takes.
    pub plan: Option<Plan>,
}
