//! Networks: layers, their initial weights and predictions in the user's units.

pub mod archive;
pub(crate) mod batch;
mod checkpoint;
mod cnn;
mod description;
mod error_bars;
mod exchange;
mod image;
mod init;
mod layers;
mod mlp;
mod onnx;
mod options;
mod predict;
mod resnet;

use crate::data::{Columns, Dataset, Normalization};
use crate::kernels::mlp::Plan;
use crate::kernels::spec::Epilogue;
use crate::torch::Precision;
use crate::torch::device;
use crate::torch::flat::Flat;
use crate::{Error, Result};
use archive::StoredArray;
use checkpoint::assign;
pub(crate) use checkpoint::store_snapshot;
pub use description::{Description, Initialisation, LayerOptions};
pub use error_bars::ErrorBars;
pub use exchange::{ExportFormat, ExportOptions, ImportOptions, ImportReport};
use layers::{Network, StateTensor};
pub use layers::{Part, Pass};
pub use mlp::Norm;
pub use options::{ModelOptions, Table};
pub use predict::Prediction;
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;
use tch::{Device, Tensor};

/// What a model says of one of its tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    /// As in PyTorch's `state_dict` of the same network: `0.weight`, in a ResNet `layer1.0.conv1.weight`.
    pub name: String,
    /// The size of each dimension.
    pub shape: Vec<usize>,
    /// Whether the optimiser changes it.
    pub trainable: bool,
}

/// A network, or several of which the mean predicts, with the normalisation of the data they were trained on. Its tensors
/// are its own:
///
/// ```compile_fail
/// # fn share(model: &biv::model::Model) -> Vec<tch::Tensor> {
/// model.whole().parameters()
/// # }
/// ```
#[derive(Debug)]
pub struct Model {
    options: ModelOptions,
    members: Vec<Member>,
    normalization: Option<Normalization>,
    error_bars: Option<ErrorBars>,
    columns: Option<Arc<Columns>>,
    device: Device,
}

/// Networks of a model that are trained as one: all of them, of which the mean is trained, or one by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Networks<'a> {
    members: &'a [Member],
    device: Device,
}

/// One network of a model.
#[derive(Debug)]
struct Member {
    network: Network,
    /// The trainable values of a multi-layer perceptron on the CPU, of which its tensors are parts.
    flat: Option<Tensor>,
}

impl Model {
    /// A network with initial weights as PyTorch's defaults (a ResNet's as torchvision's), drawn
    /// from the options' own seed.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for sizes of 0, images that are too small or an unknown depth; [`Error::OutOfMemory`].
    pub fn new(options: &ModelOptions) -> Result<Self> {
        let networks = options.build()?;
        let members = networks.into_iter().map(Member::new);
        Ok(Model {
            options: options.clone(),
            members: members.collect::<Result<_>>()?,
            normalization: None,
            error_bars: None,
            columns: None,
            device: Device::Cpu,
        })
    }

    /// One model of the networks in `models`, which were made of the options `network` with seeds of their own. The
    /// first one's normalisation is all theirs.
    ///
    /// # Errors
    /// [`Error::Internal`] for no models, or some on different devices.
    pub(crate) fn ensemble(network: &ModelOptions, models: Vec<Model>) -> Result<Self> {
        let options = ModelOptions::Ensemble { members: models.len(), network: Box::new(network.clone()) };
        let mut models = models.into_iter();
        let mut ensemble = models.next().ok_or_else(|| Error::Internal("an ensemble of no networks".into()))?;
        for model in models {
            if model.device != ensemble.device {
                return Err(Error::Internal("the networks of an ensemble are on different devices".into()));
            }
            ensemble.members.extend(model.members);
        }
        Ok(Model { options, ..ensemble })
    }

    /// Makes an ensemble of `count` networks of this one: the first is this network as it is, the others are new ones of the
    /// same kind, with the seeds that follow. Returns whether that was necessary: a model of `count` networks stays as it is.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a model of another number of networks; [`Error::OutOfMemory`], [`Error::Device`].
    pub(crate) fn grow(&mut self, count: usize) -> Result<bool> {
        match self.members.len() {
            own if own == count => return Ok(false),
            1 => {}
            own => {
                let fault = format!("is {count}, the model is an ensemble of {own} networks");
                return Err(Error::config("trainer.members", fault));
            }
        }
        let network = match &self.options {
            ModelOptions::Ensemble { network, .. } => network.clone(),
            single => Box::new(single.clone()),
        };
        let mut others = Model::new(&ModelOptions::Ensemble { members: count, network: network.clone() })?;
        others.to_device(self.device)?;
        self.members.extend(others.members.drain(1..));
        self.options = others.options;
        Ok(true)
    }

    /// Undoes [`Model::grow`] of a network with these `options`.
    pub(crate) fn shrink(&mut self, options: ModelOptions) {
        self.members.truncate(1);
        self.options = options;
    }

    /// All networks, trained as one.
    pub(crate) fn whole(&self) -> Networks<'_> {
        Networks { members: &self.members, device: self.device }
    }

    /// Network number `number` by itself.
    ///
    /// # Errors
    /// [`Error::Internal`] where there is none.
    pub(crate) fn network(&self, number: usize) -> Result<Networks<'_>> {
        let members = self.members.get(number..=number);
        let members = members.ok_or_else(|| Error::Internal(format!("the model has no network {number}")))?;
        Ok(Networks { members, device: self.device })
    }

    /// What the model was made from.
    pub fn options(&self) -> &ModelOptions {
        &self.options
    }

    /// The number of feature values per row.
    pub fn inputs(&self) -> usize {
        self.input_shape().iter().product()
    }

    /// The shape of one row's features: `[inputs]` for tables, `[channels, height, width]` for images.
    pub fn input_shape(&self) -> &[usize] {
        &self.members[0].network.input_shape
    }

    /// The number of labels that are predicted per row.
    pub fn outputs(&self) -> usize {
        self.members[0].network.outputs / if self.predicts_variance() { 2 } else { 1 }
    }

    /// Whether the network has, after its outputs, the logarithms of their variances.
    pub fn predicts_variance(&self) -> bool {
        self.options.predicts_variance()
    }

    /// How many networks there are; the prediction is the mean of theirs.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// The fewest rows that a mini-batch of training may have: 2 where a BatchNorm needs them, else 1.
    pub fn smallest_batch(&self) -> usize {
        self.members[0].network.smallest_batch
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The number of trainable values.
    pub fn parameter_count(&self) -> usize {
        self.state().iter().filter(|state| state.trainable).map(|state| state.tensor.numel()).sum()
    }

    /// The normalisation that predictions undo; `None` until a trainer fits one.
    pub fn normalization(&self) -> Option<&Normalization> {
        self.normalization.as_ref()
    }

    /// Sets the normalisation that [`Model::predict`] applies and undoes.
    pub fn set_normalization(&mut self, normalization: Normalization) {
        self.normalization = Some(normalization);
    }

    /// Sets a normalisation of the caller's.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of features or labels; [`Error::InvalidArgument`] for values that are no means
    /// or no deviations.
    pub fn give_normalization(&mut self, normalization: Normalization) -> Result<()> {
        let (width, outputs) = (self.inputs(), self.outputs());
        let fits = normalization.has_sizes(width, outputs);
        normalization.check(width, outputs).map_err(|error| match error {
            Error::Corrupt(message) if fits => Error::InvalidArgument(message),
            Error::Corrupt(message) => Error::Shape(message),
            other => other,
        })?;
        self.normalization = Some(normalization);
        Ok(())
    }

    /// Takes the normalisation away: features and predictions are then those of the network itself.
    pub fn reset_normalization(&mut self) {
        self.normalization = None;
    }

    /// What the features and labels are called that the model was trained on; `None` where they had no names.
    pub fn columns(&self) -> Option<&Columns> {
        self.columns.as_deref()
    }

    /// Takes over what the features and labels of its data are called, where the model has no names yet.
    pub(crate) fn learn_columns(&mut self, columns: &Arc<Columns>) {
        self.columns.get_or_insert_with(|| Arc::clone(columns));
    }

    /// The data as the model takes them: with its features by name and in its order, where both have names.
    ///
    /// # Errors
    /// [`Error::Shape`] as [`Dataset::matched_to`], and for another number of features or labels.
    pub fn matched<'a>(&self, data: &'a Dataset) -> Result<Cow<'a, Dataset>> {
        let data = match &self.columns {
            Some(columns) => data.matched_to(columns)?,
            None => Cow::Borrowed(data),
        };
        for (what, own, found) in
            [("features", self.inputs(), data.width()), ("labels", self.outputs(), data.outputs())]
        {
            if own != found {
                return Err(Error::Shape(format!("rows of the data set have {found} {what}, the model has {own}")));
            }
        }
        Ok(data)
    }

    /// What is known of the predictions' errors; `None` until a fit has found out.
    pub fn error_bars(&self) -> Option<&ErrorBars> {
        self.error_bars.as_ref()
    }

    /// As [`Model::error_bars`], in the square of the labels' unit.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn error_bars_in_units(&self) -> Result<Option<ErrorBars>> {
        let Some(bars) = &self.error_bars else { return Ok(None) };
        let normalization = self.normalization_or_identity();
        Ok(Some(ErrorBars {
            scale: bars.scale.clone(),
            tau2: normalization.squares(&bars.tau2)?,
            mean_spread: normalization.squares(&bars.mean_spread)?,
        }))
    }

    /// Sets what is known of the predictions' errors.
    pub(crate) fn set_error_bars(&mut self, error_bars: ErrorBars) {
        self.error_bars = Some(error_bars);
    }

    /// Forgets what was known of the predictions' errors.
    pub(crate) fn forget_error_bars(&mut self) {
        self.error_bars = None;
    }

    /// The normalisation, or the one that changes nothing.
    pub(crate) fn normalization_or_identity(&self) -> Normalization {
        self.normalization.clone().unwrap_or_else(|| Normalization::identity(self.outputs()))
    }

    /// What tensors there are, in the order of the layers: copies of their values by [`Model::tensor`].
    pub fn tensors(&self) -> Vec<TensorInfo> {
        let info = |StateTensor { name, tensor, trainable }: StateTensor| TensorInfo {
            name,
            shape: tensor.size().into_iter().map(|size| size as usize).collect(),
            trainable,
        };
        self.state().into_iter().map(info).collect()
    }

    /// All tensors themselves, in the order of the layers. They stay in the crate: kernels read and write their memory
    /// without libtorch, under the lock of whoever shares the model.
    pub(crate) fn state(&self) -> Vec<StateTensor> {
        let named = |(number, member): (usize, &Member)| {
            let state = member.network.layers.state().into_iter();
            let prefix = self.prefix(number);
            state.map(move |state| StateTensor { name: format!("{prefix}{}", state.name), ..state })
        };
        self.members.iter().enumerate().flat_map(named).collect()
    }

    /// What the names of the tensors of network `number` begin with.
    fn prefix(&self, number: usize) -> String {
        if self.members.len() == 1 { String::new() } else { format!("members.{number}.") }
    }

    /// A copy of all tensors, to go back to.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn snapshot(&self) -> Result<Vec<Tensor>> {
        self.state().iter().map(|state| Ok(state.tensor.f_detach_copy()?)).collect()
    }

    /// Goes back to `snapshot`, one of this model's.
    ///
    /// # Errors
    /// [`Error::Internal`] for another model's.
    pub(crate) fn put_back(&mut self, snapshot: &[Tensor]) -> Result<()> {
        for (state, before) in self.state().iter_mut().zip(snapshot) {
            tch::no_grad(|| state.tensor.f_copy_(before))?;
        }
        Ok(())
    }

    /// Moves the weights.
    ///
    /// # Errors
    /// [`Error::Device`], [`Error::OutOfMemory`].
    pub fn to_device(&mut self, device: Device) -> Result<()> {
        if device != self.device {
            for mut state in self.state() {
                let moved = state.tensor.f_detach()?.f_to_device(device)?;
                tch::no_grad(|| state.tensor.set_data(&moved));
            }
            self.device = device;
            self.members.iter_mut().try_for_each(Member::flatten)?;
        }
        Ok(())
    }

    /// The network's output, f32 of shape `[rows, outputs]` in normalised units (of several networks, the mean), for
    /// normalised `features` of shape `[rows, ...]`, the rest as [`Model::input_shape`].
    ///
    /// # Errors
    /// [`Error::Shape`] for one row in training where a BatchNorm needs two.
    pub fn forward(&self, features: &Tensor, pass: Pass, precision: Precision) -> Result<Tensor> {
        self.whole().forward(features, pass, precision)
    }

    /// A copy of the tensor `name` with its shape.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a name the model does not have.
    pub fn tensor(&self, name: &str) -> Result<StoredArray> {
        StoredArray::from_tensor(&self.find(name)?.tensor)
    }

    /// Overwrites the tensor `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Shape`]; [`Error::InvalidArgument`] for values that are not finite.
    pub fn set_tensor(&mut self, name: &str, array: &StoredArray) -> Result<()> {
        assign(&mut self.find(name)?, array)
    }

    fn find(&self, name: &str) -> Result<StateTensor> {
        let mut state = self.state();
        match state.iter().position(|state| state.name == name) {
            Some(at) => Ok(state.swap_remove(at)),
            None => {
                let names: Vec<&str> = state.iter().map(|state| state.name.as_str()).collect();
                Err(Error::NotFound(format!("the model has no tensor '{name}', only '{}'", names.join("', '"))))
            }
        }
    }
}

impl Networks<'_> {
    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// All trainable values of a single multi-layer perceptron, in the order of the layers.
    ///
    /// # Errors
    /// [`Error::Internal`] for other networks.
    pub fn flat(&self) -> Result<&Tensor> {
        match self.members {
            [member] => member.flat(),
            _ => Err(Error::Internal("the weights of several networks are not side by side".into())),
        }
    }

    /// The trainable tensors, in the order of the layers.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.state().filter(|state| state.trainable).map(|state| state.tensor).collect()
    }

    /// The other tensors, which a forward pass in training changes.
    pub fn buffers(&self) -> Vec<Tensor> {
        self.state().filter(|state| !state.trainable).map(|state| state.tensor).collect()
    }

    fn state(&self) -> impl Iterator<Item = StateTensor> {
        self.members.iter().flat_map(|member| member.network.layers.state())
    }

    /// Whether a forward pass in training draws random numbers.
    pub fn has_dropout(&self) -> bool {
        self.members.iter().any(|member| member.network.has_dropout)
    }

    /// The network's shape where it is a single multi-layer perceptron.
    pub fn plan(&self) -> Option<&Plan> {
        if let [member] = self.members { member.network.plan.as_ref() } else { None }
    }

    /// As [`Model::forward`].
    pub fn forward(&self, features: &Tensor, pass: Pass, precision: Precision) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for member in self.members {
            let output = member.forward(features, pass, precision, self.device)?;
            sum = Some(match sum {
                None => output,
                Some(sum) => sum.f_add(&output)?,
            });
        }
        let sum = sum.ok_or_else(|| Error::Internal("a model without a network".into()))?;
        let count = self.members.len();
        Ok(if count == 1 { sum } else { sum.f_div_scalar(count as f64)? })
    }
}

impl Member {
    /// On the CPU.
    fn new(network: Network) -> Result<Self> {
        // Before libtorch computes anything, it has the number of threads that the process may have.
        device::threads();
        let mut member = Member { network, flat: None };
        member.flatten()?;
        Ok(member)
    }

    /// Puts the trainable values of a multi-layer perceptron side by side, as kernels take them.
    fn flatten(&mut self) -> Result<()> {
        self.flat = None;
        if self.network.plan.is_some() {
            let state = self.network.layers.state().into_iter().filter(|state| state.trainable);
            let mut parameters: Vec<Tensor> = state.map(|state| state.tensor).collect();
            let flat = Flat::copied(&parameters)?;
            parameters.iter_mut().zip(&flat.parts).for_each(|(tensor, part)| tch::no_grad(|| tensor.set_data(part)));
            self.flat = Some(flat.all);
        }
        Ok(())
    }

    fn flat(&self) -> Result<&Tensor> {
        self.flat.as_ref().ok_or_else(|| Error::Internal("the weights are not side by side".into()))
    }

    fn forward(&self, features: &Tensor, pass: Pass, precision: Precision, device: Device) -> Result<Tensor> {
        precision.apply(device, features, |x| self.network.layers.forward(x, pass, Epilogue::Nothing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::parse;

    fn model(json: &str) -> Result<Model> {
        Model::new(&parse("model", json)?)
    }

    #[test]
    fn networks_for_images_have_pytorchs_names_and_sizes() {
        let cnn = model(r#"{"kind": "vanilla_cnn", "height": 200, "width": 200}"#).unwrap();
        assert_eq!((cnn.inputs(), cnn.input_shape(), cnn.outputs()), (120_000, [3, 200, 200].as_slice(), 1));
        assert_eq!(cnn.tensor("25.weight").unwrap().shape(), [1, 256 * 3 * 3]);
        assert_eq!(cnn.tensor("20.weight").unwrap().shape(), [256, 128, 3, 3]);
        // torchvision's counts for 1000 classes, 512 or 2048 features: less those of the other 999.
        for (depth, parameters, features) in [(18, 11_689_512, 512), (34, 21_797_672, 512), (50, 25_557_032, 2048)] {
            let resnet = format!(r#"{{"kind": "resnet", "depth": {depth}, "height": 64, "width": 48}}"#);
            let resnet = model(&resnet).unwrap();
            assert_eq!(resnet.parameter_count(), parameters - 999 * (features + 1), "ResNet-{depth}");
            for name in ["bn1.running_mean", "layer1.0.conv1.weight", "layer2.0.downsample.1.running_var", "fc.bias"] {
                assert!(resnet.tensor(name).is_ok(), "ResNet-{depth}: {name}");
            }
        }
    }

    #[test]
    fn initial_weights_have_pytorchs_distributions() {
        let spread = |model: &Model, name: &str| {
            let values = model.tensor(name).unwrap().to_f32().unwrap();
            let mean_square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
            (values.iter().fold(0.0f32, |largest, v| largest.max(v.abs())), mean_square.sqrt())
        };
        let cnn = model(r#"{"kind": "vanilla_cnn", "height": 64, "width": 64}"#).unwrap();
        let (largest, deviation) = spread(&cnn, "16.weight");
        let bound = 1.0 / (64.0f64 * 9.0).sqrt();
        assert!(f64::from(largest) <= bound && (deviation - bound / 3.0f64.sqrt()).abs() < 0.01 * deviation);
        assert!(f64::from(spread(&cnn, "16.bias").0) <= bound);

        let resnet = model(r#"{"kind": "resnet", "height": 64, "width": 64}"#).unwrap();
        let (largest, deviation) = spread(&resnet, "layer2.0.conv1.weight");
        let expected = (2.0 / (128.0f64 * 9.0)).sqrt();
        assert!((deviation - expected).abs() < 0.01 * expected && f64::from(largest) > 3.5 * expected);
        assert_eq!(spread(&resnet, "layer2.0.bn1.weight"), (1.0, 1.0));
    }

    #[test]
    fn sizes_that_make_no_network_are_named() {
        let fault = |json: &str| model(json).unwrap_err().to_string();
        assert_eq!(
            fault(r#"{"kind": "vanilla_cnn", "height": 64, "width": 63}"#),
            "model.width: is 63, must be at least 64"
        );
        assert_eq!(fault(r#"{"kind": "resnet", "height": 0, "width": 8}"#), "model.height: is 0, must be at least 1");
        assert_eq!(
            fault(r#"{"kind": "resnet", "depth": 20, "height": 8, "width": 8}"#),
            "model.depth: is 20, must be 18, 34 or 50"
        );
        let huge = r#"{"kind": "resnet", "height": 4294967296, "width": 4294967296}"#;
        assert!(matches!(model(huge), Err(Error::OutOfMemory(_))));
    }
}
