//! Layers, and networks made of them.

use super::description::Initialisation;
use super::init::{elements, normal, uniform};
use crate::base::memory::reserve;
use crate::base::random::{Purpose, stream};
use crate::kernels::mlp::Plan;
use crate::kernels::ops::{batch_norm, conv2d, max_pool};
use crate::kernels::rank_norm::batch_norm_of_all_ranks;
pub(super) use crate::kernels::spec::Window;
use crate::kernels::spec::{Activation, BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BatchNormSpec, Epilogue};
use crate::torch::process_group::ProcessGroup;
use crate::{Error, Result};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Added to a variance before its square root: PyTorch's default.
pub(super) const LAYER_NORM_EPSILON: f64 = 1e-5;

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

/// What a forward pass is for.
#[derive(Clone, Copy, Debug)]
pub enum Pass<'a> {
    /// Predictions: BatchNorm uses its running statistics, and dropout does nothing.
    Evaluation,
    /// The gradient of a mini-batch, or of a part of it.
    Training {
        /// How many steps were taken before: with the network's seed it determines what dropout drops.
        step: u64,
        /// Which part of the mini-batch the rows are.
        part: Part<'a>,
    },
}

/// Which part of a mini-batch some rows are; the default is all of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part<'a> {
    /// Their places in the mini-batch, where they are not all: dropout drops the same as in one piece.
    pub places: Option<&'a [usize]>,
    /// The processes that have the other rows, for BatchNorm to normalise by the statistics of all of them. Without, it
    /// does so by those of these rows.
    pub others: Option<&'a Arc<ProcessGroup>>,
}

impl Pass<'_> {
    /// The gradient of a whole mini-batch, after `step` steps.
    pub fn training(step: u64) -> Self {
        Pass::Training { step, part: Part::default() }
    }
}

/// One layer with its tensors.
#[derive(Debug)]
#[expect(clippy::enum_variant_names, reason = "LayerNorm is the field's name")]
pub(super) enum Layer {
    /// `[rows, inputs]` to `[rows, outputs]`.
    Linear { weight: Tensor, bias: Option<Tensor> },
    /// `[rows, inputs, height, width]` to `[rows, outputs, height', width']`, with a square kernel.
    Conv { weight: Tensor, bias: Option<Tensor>, window: Window },
    /// Normalises each column of a table, each channel of images.
    BatchNorm { weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor },
    /// Normalises each row.
    LayerNorm { weight: Tensor, bias: Tensor },
    /// A function of each value; in place where the layer before it does not need its output again.
    Activation { function: Activation, in_place: bool },
    /// Sets some values to 0 in training.
    Dropout { p: f64, seed: u64 },
    /// The largest value of each window.
    MaxPool(Window),
    /// The mean of each window.
    AvgPool(Window),
    /// The mean of each channel: `[rows, channels, 1, 1]`.
    GlobalAvgPool,
    /// `[rows, channels, height, width]` to `[rows, channels * height * width]`.
    Flatten,
    /// `body(x) + shortcut(x)`; a shortcut without layers is the identity.
    Residual { body: Sequential, shortcut: Sequential },
}

impl Layer {
    pub(super) fn linear(
        inputs: usize,
        outputs: usize,
        bias: bool,
        init: Initialisation,
        generator: &mut ChaCha12Rng,
    ) -> Result<Self> {
        let (weight, bias) = initial(&[outputs, inputs], bias, init, generator)?;
        Ok(Layer::Linear { weight, bias })
    }

    pub(super) fn conv(
        inputs: usize,
        outputs: usize,
        window: Window,
        bias: bool,
        init: Initialisation,
        generator: &mut ChaCha12Rng,
    ) -> Result<Self> {
        let (weight, bias) = initial(&[outputs, inputs, window.size, window.size], bias, init, generator)?;
        Ok(Layer::Conv { weight, bias, window })
    }

    /// `nn.BatchNorm1d` or `nn.BatchNorm2d`: the number of dimensions is the input's.
    pub(super) fn batch_norm(channels: usize) -> Result<Self> {
        let shape = &[channels];
        Ok(Layer::BatchNorm {
            weight: trainable(filled(shape, 1.0)?)?,
            bias: trainable(filled(shape, 0.0)?)?,
            running_mean: filled(shape, 0.0)?,
            running_var: filled(shape, 1.0)?,
        })
    }

    /// `nn.LayerNorm` over rows of `shape`.
    pub(super) fn layer_norm(shape: &[usize]) -> Result<Self> {
        Ok(Layer::LayerNorm { weight: trainable(filled(shape, 1.0)?)?, bias: trainable(filled(shape, 0.0)?)? })
    }

    /// Number `number` of the dropouts of a network with this `seed`.
    pub(super) fn dropout(p: f64, seed: u64, number: u64) -> Self {
        Layer::Dropout { p, seed: stream(seed, Purpose::Dropout, number).next_u64() }
    }

    /// Whether the layer's output may be overwritten: its gradient does not need it, and it is no view of its input.
    pub(super) fn leaves_output(&self) -> bool {
        matches!(self, Layer::Linear { .. } | Layer::Conv { .. } | Layer::BatchNorm { .. })
    }

    /// Whether it can take a ReLU that follows it along: a BatchNorm, or a residual block that ends with one.
    fn takes_relu(&self) -> bool {
        match self {
            Layer::BatchNorm { .. } => true,
            Layer::Residual { body, .. } => matches!(body.layers.last(), Some((_, Layer::BatchNorm { .. }))),
            _ => false,
        }
    }

    /// The layer's output, and that of what comes `after` it: nothing, unless the layer takes it along.
    fn forward(&self, mut x: Tensor, pass: Pass, after: Epilogue) -> Result<Tensor> {
        Ok(match self {
            Layer::Linear { weight, bias } => x.f_linear(weight, bias.as_ref())?,
            Layer::Conv { weight, bias, window } => conv2d(&x, weight, bias.as_ref(), window.stride, window.padding)?,
            Layer::BatchNorm { weight, bias, running_mean, running_var } => {
                let (training, others) = match pass {
                    Pass::Evaluation => (false, None),
                    Pass::Training { part, .. } => (true, part.others),
                };
                if training && others.is_none() && x.numel() < 2 * running_mean.numel() {
                    return Err(Error::Shape("a mini-batch of 1 row: BatchNorm needs at least 2 in training".into()));
                }
                let spec = BatchNormSpec { training, momentum: BATCH_NORM_MOMENTUM, epsilon: BATCH_NORM_EPSILON };
                let state = [weight, bias, running_mean, running_var];
                match others {
                    None => batch_norm(&x, state, spec, after)?,
                    Some(others) => batch_norm_of_all_ranks(others, &x, state, spec, after)?,
                }
            }
            Layer::LayerNorm { weight, bias } => {
                x.f_layer_norm(weight.size(), Some(weight), Some(bias), LAYER_NORM_EPSILON, false)?
            }
            Layer::Activation { function, in_place } => match function {
                Activation::Relu if *in_place => x.f_relu_()?,
                Activation::Relu => x.f_relu()?,
                Activation::LeakyRelu => x.f_leaky_relu()?,
                Activation::Tanh => x.f_tanh()?,
                Activation::Sigmoid => x.f_sigmoid()?,
                Activation::Silu => x.f_silu()?,
                Activation::Gelu => x.f_gelu("none")?,
                Activation::Softplus => x.f_softplus()?,
            },
            Layer::Dropout { p, seed } => match pass {
                Pass::Training { step, part } if *p > 0.0 => x.f_mul(&mask(*p, *seed, step, part.places, &x)?)?,
                _ => x,
            },
            Layer::MaxPool(window) => max_pool(&x, *window)?,
            Layer::AvgPool(window) => {
                let [size, stride, padding] = window.sizes();
                x.f_avg_pool2d(size, stride, padding, false, true, None)?
            }
            Layer::GlobalAvgPool => x.f_adaptive_avg_pool2d([1, 1])?,
            Layer::Flatten => x.f_flatten(1, -1)?,
            Layer::Residual { body, shortcut } => {
                let shortcut = shortcut.forward(&x, pass, Epilogue::Nothing)?;
                if after.has_relu() {
                    body.forward(&x, pass, Epilogue::ShortcutAndRelu(&shortcut))?
                } else {
                    body.forward(&x, pass, Epilogue::Nothing)?.f_add(&shortcut)?
                }
            }
        })
    }

    /// Adds the layer's tensors to `state`, their names below `prefix`.
    fn collect(&self, prefix: &str, state: &mut Vec<StateTensor>) {
        let mut add = |name: &str, tensor: &Tensor, trainable| {
            state.push(StateTensor { name: format!("{prefix}.{name}"), tensor: tensor.shallow_clone(), trainable });
        };
        match self {
            Layer::Linear { weight, bias } | Layer::Conv { weight, bias, .. } => {
                add("weight", weight, true);
                bias.iter().for_each(|bias| add("bias", bias, true));
            }
            Layer::BatchNorm { weight, bias, running_mean, running_var } => {
                add("weight", weight, true);
                add("bias", bias, true);
                add("running_mean", running_mean, false);
                add("running_var", running_var, false);
            }
            Layer::LayerNorm { weight, bias } => {
                add("weight", weight, true);
                add("bias", bias, true);
            }
            Layer::Residual { body, shortcut } => {
                body.collect(&format!("{prefix}."), state);
                shortcut.collect(&format!("{prefix}.downsample."), state);
            }
            Layer::Activation { .. }
            | Layer::Dropout { .. }
            | Layer::MaxPool(_)
            | Layer::AvgPool(_)
            | Layer::GlobalAvgPool
            | Layer::Flatten => {}
        }
    }
}

/// Weights of `shape`, of which the first dimension counts the outputs, and a bias if there is to be one.
fn initial(
    shape: &[usize],
    bias: bool,
    init: Initialisation,
    generator: &mut ChaCha12Rng,
) -> Result<(Tensor, Option<Tensor>)> {
    elements(shape)?;
    let (outputs, inputs) = (shape[0], shape[1]);
    let window: usize = shape[2..].iter().product();
    match init {
        Initialisation::Uniform => {
            let bound = 1.0 / ((inputs * window) as f64).sqrt();
            let weight = trainable(uniform(shape, bound, generator)?)?;
            let bias = if bias { Some(trainable(uniform(&[outputs], bound, generator)?)?) } else { None };
            Ok((weight, bias))
        }
        Initialisation::KaimingNormal => {
            let deviation = (2.0 / (outputs * window) as f64).sqrt();
            let weight = trainable(normal(shape, deviation, generator)?)?;
            let bias = if bias { Some(trainable(filled(&[outputs], 0.0)?)?) } else { None };
            Ok((weight, bias))
        }
    }
}

fn filled(shape: &[usize], value: f64) -> Result<Tensor> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_full(shape, value, (Kind::Float, Device::Cpu))?)
}

fn trainable(tensor: Tensor) -> Result<Tensor> {
    Ok(tensor.f_set_requires_grad(true)?)
}

/// The factors of `x` in a dropout of step `step`: 0 with the probability `p`, else `1 / (1 - p)`. The rows of `x` have these
/// `places` in the mini-batch, or are all of it.
fn mask(p: f64, seed: u64, step: u64, places: Option<&[usize]>, x: &Tensor) -> Result<Tensor> {
    let mut generator = stream(seed, Purpose::Dropout, step);
    let (rows, per_row) = (x.size()[0] as usize, x.size()[1..].iter().product::<i64>() as usize);
    let (limit, kept) = ((p * 2.0f64.powi(32)) as u32, (1.0 / (1.0 - p)) as f32);
    let mut factors: Vec<f32> = reserve(x.numel())?;
    let mut next = 0;
    for row in 0..rows {
        let place = places.map_or(row, |places| places[row]);
        if place != next {
            // A number is a word of the stream.
            generator.set_word_pos(place as u128 * per_row as u128);
        }
        next = place + 1;
        factors.extend((0..per_row).map(|_| if generator.next_u32() < limit { 0.0 } else { kept }));
    }
    Ok(Tensor::f_from_slice(&factors)?.f_view(&x.size()[..])?.f_to_device(x.device())?.f_to_kind(x.kind())?)
}

/// Layers one after the other, each with a name.
#[derive(Debug)]
pub(super) struct Sequential {
    layers: Vec<(String, Layer)>,
}

impl Sequential {
    pub(super) fn named(layers: Vec<(String, Layer)>) -> Self {
        Sequential { layers }
    }

    /// The layers in their order, each with its name.
    pub(super) fn named_layers(&self) -> &[(String, Layer)] {
        &self.layers
    }

    /// The last layer's output, and that of what comes `after` it: nothing, unless that layer is a BatchNorm.
    pub(super) fn forward(&self, input: &Tensor, pass: Pass, after: Epilogue) -> Result<Tensor> {
        const RELU: Activation = Activation::Relu;
        let mut x = input.shallow_clone();
        let layers: Vec<&Layer> = self.layers.iter().map(|(_, layer)| layer).collect();
        let mut rest = &layers[..];
        while let [layer, following @ ..] = rest {
            // A BatchNorm takes what follows it along.
            let (after, taken) = match (layer, following) {
                (_, []) => (after, 0),
                (Layer::BatchNorm { .. }, [Layer::Activation { function: RELU, .. }, Layer::MaxPool(window), ..]) => {
                    (Epilogue::ReluAndMaxPool(*window), 2)
                }
                (layer, [Layer::Activation { function: RELU, .. }, ..]) if layer.takes_relu() => (Epilogue::Relu, 1),
                _ => (Epilogue::Nothing, 0),
            };
            x = layer.forward(x, pass, after)?;
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
    /// The number of values of a row where it is largest, the input included.
    pub largest: usize,
    pub has_dropout: bool,
    /// The network's shape, where it is one that [`kernel`](crate::kernels::mlp) takes.
    pub plan: Option<Plan>,
}
