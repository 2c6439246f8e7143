//! Networks by description: the layers, one after the other, and the shapes that follow from them.

use super::init::elements;
use super::layers::{Layer, Network, Sequential, Window};
use crate::base::Path;
use crate::base::options::require;
use crate::base::random::{Purpose, stream};
use crate::kernels::mlp::Plan;
use crate::kernels::spec::Activation;
use crate::{Error, Result};
use rand_chacha::ChaCha12Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The largest size, stride and padding of a window.
const MAX_WINDOW: usize = 65_535;

/// What a network is made of. The layers' tensors are called as PyTorch calls them in an `nn.Sequential` of the same
/// layers, by the layer's number (`0.weight`), unless the layer has a name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// The shape of one row's features: `[inputs]` for tables, `[channels, height, width]` for images.
    pub input_shape: Vec<usize>,
    /// The layers, of which the last gives the outputs.
    pub layers: Vec<LayerOptions>,
}

/// One layer of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerOptions {
    /// A matrix product and a bias, as `nn.Linear`.
    Linear {
        /// The number of values that it gives for a row.
        #[schemars(range(min = 1))]
        outputs: usize,
        /// Whether a bias is added (default true).
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        bias: bool,
        /// How the initial weights are drawn (default `uniform`).
        #[serde(default, skip_serializing_if = "Initialisation::is_uniform")]
        init: Initialisation,
        /// Its tensors' names begin with it (default: the layer's number).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A convolution of images with square filters, as `nn.Conv2d`.
    Conv2d {
        /// The number of channels that it gives.
        #[schemars(range(min = 1))]
        outputs: usize,
        /// The height and width of a filter.
        #[schemars(range(min = 1, max = 65_535))]
        size: usize,
        /// The step from one place of the filter to the next (default 1).
        #[serde(default = "one")]
        #[schemars(range(min = 1, max = 65_535))]
        stride: usize,
        /// The rows and columns of zeros that are added at each side of the image (default 0).
        #[serde(default)]
        #[schemars(range(max = 65_535))]
        padding: usize,
        /// Whether a bias is added (default true).
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        bias: bool,
        /// How the initial weights are drawn (default `uniform`).
        #[serde(default, skip_serializing_if = "Initialisation::is_uniform")]
        init: Initialisation,
        /// Its tensors' names begin with it (default: the layer's number).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Normalises each column of a table, or each channel of images, over a mini-batch (Ioffe and Szegedy 2015), as
    /// `nn.BatchNorm1d` and `nn.BatchNorm2d`.
    BatchNorm {
        /// Its tensors' names begin with it (default: the layer's number).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Normalises each row over all its values (Ba, Kiros and Hinton 2016), as `nn.LayerNorm`.
    LayerNorm {
        /// Its tensors' names begin with it (default: the layer's number).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A function of each value.
    Activation {
        /// Which one.
        function: Activation,
    },
    /// In training, sets each value to 0 with the probability `p` and divides the others by `1 - p` (Srivastava et al.
    /// 2014), as `nn.Dropout`. Which ones depends on the network's seed, the step and the layer alone.
    Dropout {
        /// In [0, 1) (default 0.5).
        #[serde(default = "half")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        p: f64,
    },
    /// The largest value of each window, as `nn.MaxPool2d`.
    MaxPool {
        /// The height and width of the window.
        #[schemars(range(min = 1, max = 65_535))]
        size: usize,
        /// The step from one window to the next (default: its size).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 65_535))]
        stride: Option<usize>,
        /// The rows and columns that are added at each side of the image, at most half the size (default 0).
        #[serde(default)]
        padding: usize,
    },
    /// The mean of each window, as `nn.AvgPool2d`: of zeros too, where they are added.
    AvgPool {
        /// The height and width of the window.
        #[schemars(range(min = 1, max = 65_535))]
        size: usize,
        /// The step from one window to the next (default: its size).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1, max = 65_535))]
        stride: Option<usize>,
        /// The rows and columns of zeros that are added at each side of the image, at most half the size (default 0).
        #[serde(default)]
        padding: usize,
    },
    /// The mean of each channel, as `nn.AdaptiveAvgPool2d(1)`: `[channels, 1, 1]`.
    GlobalAvgPool {},
    /// All values of a row side by side, as `nn.Flatten`.
    Flatten {},
    /// The sum of what some layers make of their input, and of a shortcut (He et al. 2015).
    Residual {
        /// The layers.
        layers: Vec<LayerOptions>,
        /// The layers of the shortcut (default none: the input itself). Their tensors' names have `downsample` before
        /// them, as torchvision's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shortcut: Vec<LayerOptions>,
        /// The names of the tensors within begin with it (default: the layer's number).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

/// How initial weights are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Initialisation {
    /// Weights and bias uniform within one over the square root of the number of inputs of a value: PyTorch's default.
    #[default]
    Uniform,
    /// Weights normal with the variance 2 over the number of outputs that an input has (He et al. 2015, `fan_out`), as
    /// in torchvision's ResNets; the bias 0.
    KaimingNormal,
}

impl Initialisation {
    fn is_uniform(&self) -> bool {
        *self == Initialisation::Uniform
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn one() -> usize {
    1
}

fn half() -> f64 {
    0.5
}

impl LayerOptions {
    /// A Linear with a bias.
    pub(super) fn linear(outputs: usize) -> Self {
        LayerOptions::Linear { outputs, bias: true, init: Initialisation::Uniform, name: None }
    }

    fn name(&self) -> Option<&str> {
        match self {
            LayerOptions::Linear { name, .. }
            | LayerOptions::Conv2d { name, .. }
            | LayerOptions::BatchNorm { name }
            | LayerOptions::LayerNorm { name }
            | LayerOptions::Residual { name, .. } => name.as_deref(),
            _ => None,
        }
    }
}

impl Description {
    /// The network with initial weights that `seed` determines. With `heads` of 2 the last layer gives twice its outputs.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] with the place of a layer that does not fit; [`Error::OutOfMemory`].
    pub(super) fn build(&self, seed: u64, heads: usize) -> Result<Network> {
        let place = Path::from("model.input_shape");
        if !matches!(self.input_shape[..], [_] | [_, _, _]) {
            let fault =
                format!("has {} sizes, must be [features] or [channels, height, width]", self.input_shape.len());
            return Err(Error::config(place, fault));
        }
        for (axis, &size) in self.input_shape.iter().enumerate() {
            require(size >= 1, place.item(axis), size, "at least 1")?;
        }
        let largest = elements(&self.input_shape)?;
        let mut layers = self.layers.clone();
        if heads > 1 {
            widen(&mut layers, heads)?;
        }
        let mut builder = Builder {
            generator: stream(seed, Purpose::Initialisation, 0),
            seed,
            dropouts: 0,
            smallest_batch: 1,
            largest,
        };
        let mut shape = self.input_shape.clone();
        let place = Path::from("model.layers");
        let sequential = builder.sequential(&layers, &place, &mut shape)?;
        let [outputs] = shape[..] else {
            let fault = format!("end with values of shape {shape:?}, must end with those of a linear layer");
            return Err(Error::config(place, fault));
        };
        let (state, mut names) = (sequential.state(), HashSet::new());
        if let Some(state) = state.iter().find(|state| !names.insert(&state.name)) {
            return Err(Error::config(
                place,
                format!("have two tensors '{}': give the layers other names", state.name),
            ));
        }
        if state.is_empty() {
            return Err(Error::config(place, "have no weights to train: must have a linear layer, for example"));
        }
        Ok(Network {
            layers: sequential,
            input_shape: self.input_shape.clone(),
            outputs,
            smallest_batch: builder.smallest_batch,
            largest: builder.largest,
            has_dropout: builder.dropouts > 0,
            plan: self.plan(&layers),
        })
    }

    /// The shape for the kernels of multi-layer perceptrons, where these `layers` are one: Linear layers with the same
    /// activation between them, and a BatchNorm before each of those or none.
    fn plan(&self, layers: &[LayerOptions]) -> Option<Plan> {
        let [inputs] = self.input_shape[..] else { return None };
        let (mut widths, mut hidden) = (vec![inputs], None);
        let mut rest = layers;
        loop {
            let [LayerOptions::Linear { outputs, bias: true, .. }, following @ ..] = rest else { return None };
            widths.push(*outputs);
            let (norm, following) = match following {
                [] => break,
                [LayerOptions::BatchNorm { .. }, following @ ..] => (true, following),
                following => (false, following),
            };
            let [LayerOptions::Activation { function }, following @ ..] = following else { return None };
            if *hidden.get_or_insert((norm, *function)) != (norm, *function) {
                return None;
            }
            rest = following;
        }
        let (norm, activation) = hidden.unwrap_or_default();
        Some(Plan { widths, norm, activation })
    }
}

/// Gives the last layer `heads` times its outputs.
fn widen(layers: &mut [LayerOptions], heads: usize) -> Result<()> {
    match layers.last_mut() {
        // More outputs than there is room for are an error of the layer.
        Some(LayerOptions::Linear { outputs, .. }) => *outputs = outputs.saturating_mul(heads),
        _ => return Err(Error::config("model.layers", "must end with a linear layer, which gives the variances too")),
    }
    Ok(())
}

/// What goes from layer to layer.
struct Builder {
    generator: ChaCha12Rng,
    seed: u64,
    /// How many layers have drawn masks so far.
    dropouts: u64,
    smallest_batch: usize,
    /// The number of values of the largest row so far.
    largest: usize,
}

impl Builder {
    /// The layers at `place`, of which the first takes rows of `shape`, and which leave the last one's there.
    fn sequential(&mut self, options: &[LayerOptions], place: &Path, shape: &mut Vec<usize>) -> Result<Sequential> {
        let mut layers: Vec<(String, Layer)> = Vec::new();
        for (index, options) in options.iter().enumerate() {
            let place = place.item(index);
            let name = options.name().map_or_else(|| index.to_string(), str::to_string);
            require(!name.is_empty(), place.field("name"), "empty", "a text")?;
            let layer = self.layer(options, &place, shape, layers.last().map(|(_, layer)| layer))?;
            self.largest = self.largest.max(elements(shape)?);
            layers.push((name, layer));
        }
        Ok(Sequential::named(layers))
    }

    /// One layer, which comes after `before`.
    fn layer(
        &mut self,
        options: &LayerOptions,
        place: &Path,
        shape: &mut Vec<usize>,
        before: Option<&Layer>,
    ) -> Result<Layer> {
        let generator = &mut self.generator;
        Ok(match *options {
            LayerOptions::Linear { outputs, bias, init, .. } => {
                require(outputs >= 1, place.field("outputs"), outputs, "at least 1")?;
                let [inputs] = shape[..] else {
                    let fault = format!("a linear layer takes [values], gets {shape:?}: put a flatten before it");
                    return Err(Error::config(place.clone(), fault));
                };
                *shape = vec![outputs];
                Layer::linear(inputs, outputs, bias, init, generator)?
            }
            LayerOptions::Conv2d { outputs, size, stride, padding, bias, init, .. } => {
                require(outputs >= 1, place.field("outputs"), outputs, "at least 1")?;
                let window = Window { size, stride, padding };
                let inputs = image(place, shape)?[0];
                slide(place, shape, window)?;
                shape[0] = outputs;
                Layer::conv(inputs, outputs, window, bias, init, generator)?
            }
            LayerOptions::BatchNorm { .. } => {
                // A mini-batch of one row would have a single value of each.
                if shape[1..].iter().product::<usize>() == 1 {
                    self.smallest_batch = 2;
                }
                Layer::batch_norm(shape[0])?
            }
            LayerOptions::LayerNorm { .. } => Layer::layer_norm(shape)?,
            LayerOptions::Activation { function } => {
                Layer::Activation { function, in_place: before.is_some_and(Layer::leaves_output) }
            }
            LayerOptions::Dropout { p } => {
                require((0.0..1.0).contains(&p), place.field("p"), p, "in [0, 1)")?;
                self.dropouts += 1;
                Layer::dropout(p, self.seed, self.dropouts)
            }
            LayerOptions::MaxPool { size, stride, padding } => {
                Layer::MaxPool(pool(place, shape, size, stride, padding)?)
            }
            LayerOptions::AvgPool { size, stride, padding } => {
                Layer::AvgPool(pool(place, shape, size, stride, padding)?)
            }
            LayerOptions::GlobalAvgPool {} => {
                let [channels, ..] = image(place, shape)?;
                *shape = vec![channels, 1, 1];
                Layer::GlobalAvgPool
            }
            LayerOptions::Flatten {} => {
                *shape = vec![elements(shape)?];
                Layer::Flatten
            }
            LayerOptions::Residual { ref layers, ref shortcut, .. } => {
                let (mut body_shape, mut shortcut_shape) = (shape.clone(), shape.clone());
                let body = self.sequential(layers, &place.field("layers"), &mut body_shape)?;
                let shortcut = self.sequential(shortcut, &place.field("shortcut"), &mut shortcut_shape)?;
                if body_shape != shortcut_shape {
                    let fault = format!(
                        "adds values of one shape, its layers give {body_shape:?} and its shortcut {shortcut_shape:?}"
                    );
                    return Err(Error::config(place.clone(), fault));
                }
                *shape = body_shape;
                Layer::Residual { body, shortcut }
            }
        })
    }
}

/// The shape of images, which it must be.
fn image(place: &Path, shape: &[usize]) -> Result<[usize; 3]> {
    shape.try_into().map_err(|_| {
        Error::config(place.clone(), format!("takes images, [channels, height, width], gets rows of shape {shape:?}"))
    })
}

/// Checks a window of a pooling, and changes the images' `shape` to what it gives.
fn pool(place: &Path, shape: &mut [usize], size: usize, stride: Option<usize>, padding: usize) -> Result<Window> {
    image(place, shape)?;
    let window = Window { size, stride: stride.unwrap_or(size), padding };
    slide(place, shape, window)?;
    require(padding <= size / 2, place.field("padding"), padding, "at most half the size")?;
    Ok(window)
}

/// Checks a window, and changes height and width of the images' `shape` to the number of its places.
fn slide(place: &Path, shape: &mut [usize], window: Window) -> Result<()> {
    let Window { size, stride, padding } = window;
    let allowed = format!("1 to {MAX_WINDOW}");
    require((1..=MAX_WINDOW).contains(&size), place.field("size"), size, &allowed)?;
    require((1..=MAX_WINDOW).contains(&stride), place.field("stride"), stride, &allowed)?;
    require(padding <= MAX_WINDOW, place.field("padding"), padding, &format!("0 to {MAX_WINDOW}"))?;
    for side in &mut shape[1..] {
        let padded = *side + 2 * padding;
        if padded < size {
            let fault = format!("is {size}, more than the {padded} pixels of the padded image's side");
            return Err(Error::config(place.field("size"), fault));
        }
        *side = (padded - size) / stride + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Model, ModelOptions, Pass};
    use super::*;
    use crate::base::options::parse;
    use crate::torch::Precision;
    use crate::torch::tensor::to_f32;
    use tch::{Kind, Tensor};

    fn model(json: &str) -> Result<Model> {
        Model::new(&parse("model", json)?)
    }

    fn sequential(input_shape: &str, layers: &str) -> Result<Model> {
        model(&format!(r#"{{"kind": "sequential", "input_shape": {input_shape}, "layers": [{layers}]}}"#))
    }

    #[test]
    fn shapes_follow_from_layer_to_layer() {
        let layers = r#"{"kind": "conv2d", "outputs": 4, "size": 3, "stride": 2}, {"kind": "batch_norm"},
            {"kind": "activation", "function": "silu"}, {"kind": "max_pool", "size": 2, "padding": 1},
            {"kind": "layer_norm", "name": "norm"}, {"kind": "flatten"}, {"kind": "linear", "outputs": 2}"#;
        let model = sequential("[3, 9, 12]", layers).unwrap();
        // 9 x 12 becomes 4 x 5, then 3 x 3.
        let tensors: Vec<_> = model.tensors().into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
        assert_eq!(tensors[0], ("0.weight".into(), vec![4, 3, 3, 3]));
        assert_eq!(tensors[6], ("norm.weight".into(), vec![4, 3, 3]));
        assert_eq!(tensors[8], ("6.weight".into(), vec![2, 36]));
        assert_eq!((model.inputs(), model.outputs(), model.smallest_batch()), (324, 2, 1));
        let single = r#"{"kind": "conv2d", "outputs": 2, "size": [SIZE]}, {"kind": "batch_norm"}, {"kind": "flatten"},
            {"kind": "linear", "outputs": 1}"#;
        let smallest = |size: &str| sequential("[1, 3, 3]", &single.replace("[SIZE]", size)).unwrap().smallest_batch();
        assert_eq!((smallest("2"), smallest("3")), (1, 2));
    }

    #[test]
    fn faults_are_named_with_the_layers_place() {
        let linear = r#"{"kind": "linear", "outputs": 1}"#;
        let fault = |shape: &str, layers: &str| sequential(shape, layers).unwrap_err().to_string();
        let cases = [
            ("3", "", "model.layers: have no weights to train: must have a linear layer, for example"),
            ("[]", linear, "model.input_shape: has 0 sizes, must be [features] or [channels, height, width]"),
            ("[3, 0, 3]", linear, "model.input_shape[1]: is 0, must be at least 1"),
            ("3", r#"{"kind": "linear", "outputs": 0}"#, "model.layers[0].outputs: is 0, must be at least 1"),
            (
                "[1, 4, 4]",
                linear,
                "model.layers[0]: a linear layer takes [values], gets [1, 4, 4]: put a flatten before it",
            ),
            (
                "4",
                r#"{"kind": "linear", "outputs": 2}, {"kind": "max_pool", "size": 2}"#,
                "model.layers[1]: takes images, [channels, height, width], gets rows of shape [2]",
            ),
            (
                "[1, 4, 4]",
                r#"{"kind": "conv2d", "outputs": 1, "size": 5}"#,
                "model.layers[0].size: is 5, more than the 4 pixels of the padded image's side",
            ),
            (
                "[1, 4, 4]",
                r#"{"kind": "avg_pool", "size": 3, "padding": 2}"#,
                "model.layers[0].padding: is 2, must be at most half the size",
            ),
            (
                "[1, 4, 4]",
                r#"{"kind": "conv2d", "outputs": 1, "size": 1}"#,
                "model.layers: end with values of shape [1, 4, 4], must end with those of a linear layer",
            ),
            (
                "4",
                r#"{"kind": "residual", "layers": [{"kind": "linear", "outputs": 3}]}, {"kind": "linear", "outputs": 1}"#,
                "model.layers[0]: adds values of one shape, its layers give [3] and its shortcut [4]",
            ),
            (
                "4",
                r#"{"kind": "residual", "layers": [{"kind": "dropout", "p": 1}]}, {"kind": "linear", "outputs": 1}"#,
                "model.layers[0].layers[0].p: is 1, must be in [0, 1)",
            ),
            (
                "4",
                r#"{"kind": "linear", "outputs": 1, "name": "1"}, {"kind": "linear", "outputs": 1}"#,
                "model.layers: have two tensors '1.weight': give the layers other names",
            ),
        ];
        for (shape, layers, expected) in cases {
            assert_eq!(fault(shape, layers), expected);
        }
        let within = r#"{"kind": "ensemble", "members": 2, "network": {"kind": "mean_variance", "network":
            {"kind": "sequential", "input_shape": 3, "layers": [{"kind": "linear", "outputs": 2}, {"kind": "flatten"}]}}}"#;
        assert_eq!(
            model(within).unwrap_err().to_string(),
            "model.network.network.layers: must end with a linear layer, which gives the variances too"
        );
        for huge in [
            r#"{"kind": "linear", "outputs": 4611686018427387904}"#,
            r#"{"kind": "conv2d", "outputs": 4611686018427387904, "size": 1}"#,
        ] {
            assert!(matches!(
                sequential(
                    "[2, 3, 3]",
                    &format!("{}{huge}", if huge.contains("linear") { r#"{"kind": "flatten"}, "# } else { "" })
                ),
                Err(Error::OutOfMemory(_))
            ));
        }
    }

    #[test]
    fn perceptrons_by_description_are_those_of_the_kernels() {
        let plan = |layers: &str| sequential("3", layers).unwrap().whole().plan().cloned();
        let tanh = r#"{"kind": "activation", "function": "tanh"}"#;
        let linear = r#"{"kind": "linear", "outputs": 4}"#;
        let norm = r#"{"kind": "batch_norm"}"#;
        let join = |layers: &[&str]| layers.join(", ");
        assert_eq!(
            plan(&join(&[linear, tanh, linear])),
            Some(Plan { widths: vec![3, 4, 4], norm: false, activation: Activation::Tanh })
        );
        let options = r#"{"kind": "mlp", "inputs": 3, "hidden": [4], "outputs": 4, "activation": "tanh",
            "norm": "batch_norm"}"#;
        let (same, mlp) = (join(&[linear, norm, tanh, linear]), model(options).unwrap());
        assert_eq!(plan(&same).as_ref(), mlp.whole().plan());
        let same = sequential("3", &same).unwrap();
        assert_eq!(same.options().description().unwrap(), mlp.options().description().unwrap());
        assert_eq!(
            same.tensor("0.weight").unwrap(),
            mlp.tensor("0.weight").unwrap(),
            "the same seed, the same weights"
        );
        let relu = r#"{"kind": "activation", "function": "relu"}"#;
        for layers in [
            vec![linear, tanh, linear, relu, linear],
            vec![linear, norm, tanh, linear, tanh, linear],
            vec![linear, tanh],
            vec![linear, linear],
            vec![r#"{"kind": "linear", "outputs": 4, "bias": false}"#, tanh, linear],
            vec![linear, r#"{"kind": "layer_norm"}"#, tanh, linear],
            vec![linear, tanh, r#"{"kind": "dropout"}"#, linear],
        ] {
            assert_eq!(plan(&join(&layers)), None, "{layers:?}");
        }
    }

    #[test]
    fn a_perceptron_has_one_norm() {
        let both = r#"{"kind": "mlp", "inputs": 3, "hidden": 4, "batch_norm": true, "norm": "layer_norm"}"#;
        let fault = model(both).unwrap_err().to_string();
        assert_eq!(fault, "model.norm: is 'layer_norm', and batch_norm is true: give one");
        let options: ModelOptions = parse("model", &both.replace("layer_norm", "batch_norm")).unwrap();
        assert_eq!(Model::new(&options).unwrap().smallest_batch(), 2);
    }

    #[test]
    fn dropout_is_a_function_of_seed_step_and_layer() {
        let layers = r#"{"kind": "linear", "outputs": 10000}, {"kind": "dropout", "p": 0.2},
            {"kind": "dropout", "p": 0.2}"#;
        let passed = |seed: u64, pass: Pass| {
            let json = format!(r#"{{"kind": "sequential", "input_shape": 1, "layers": [{layers}], "seed": {seed}}}"#);
            let model = model(&json).unwrap();
            let ones = Tensor::ones([3, 1], (Kind::Float, tch::Device::Cpu));
            let output = model.forward(&ones, pass, Precision::F32).unwrap();
            let plain = model.forward(&ones, Pass::Evaluation, Precision::F32).unwrap();
            to_f32(&(output / plain)).unwrap()
        };
        tch::manual_seed(7);
        let before = Tensor::rand([1], (Kind::Float, tch::Device::Cpu)).double_value(&[0]);
        tch::manual_seed(7);
        let factors = passed(1, Pass::training(5));
        assert_eq!(
            before,
            Tensor::rand([1], (Kind::Float, tch::Device::Cpu)).double_value(&[0]),
            "libtorch's generator"
        );
        assert!(passed(1, Pass::Evaluation).iter().all(|&factor| factor == 1.0));
        assert_eq!(factors, passed(1, Pass::training(5)));
        assert_ne!(factors, passed(1, Pass::training(6)));
        assert_ne!(factors, passed(2, Pass::training(5)));
        assert_ne!(factors[..10_000], factors[10_000..20_000], "each row has masks of its own");
        // Both keep a value with the probability 0.64; its standard error is 0.003.
        let kept = factors.iter().filter(|&&factor| factor != 0.0).count() as f64 / 30_000.0;
        assert!((kept - 0.64).abs() < 0.015, "{kept}");
        assert!(factors.iter().all(|&factor| factor == 0.0 || (factor * 0.64 - 1.0).abs() < 1e-5));
    }
}
