//! Networks: layers, their initial weights and predictions in the user's units.

mod init;
mod layers;

use crate::archive::{Archive, ArchiveKind, StoredArray};
use crate::batch;
use crate::data::{FeatureRows, Normalization};
use crate::options::require;
use crate::random::{Purpose, stream};
use crate::{Error, Result};
use layers::Sequential;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Rows that go through the network at once in prediction: bounds the memory of the activations.
const PREDICTION_ROWS: usize = 16_384;

/// Which network, and its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelOptions {
    /// Linear layers with ReLU between them.
    Mlp {
        /// The number of feature values per row.
        inputs: usize,
        /// The number of labels per row (default 1).
        #[serde(default = "one")]
        outputs: usize,
        /// The width of each hidden layer.
        hidden: Vec<usize>,
        /// Whether a BatchNorm follows each hidden Linear (default false).
        #[serde(default)]
        batch_norm: bool,
        /// The seed of the initial weights (default 0).
        #[serde(default)]
        seed: u64,
    },
    /// The published network for tables, with hidden layers of 100, 50, 20 and 10.
    VanillaAnn {
        /// Which data set it is for: `bike` has 19 inputs, `wine` 11 and a BatchNorm after each hidden Linear.
        dataset: Table,
        /// The seed of the initial weights (default 0).
        #[serde(default)]
        seed: u64,
    },
}

/// A data set that `vanilla_ann` was published for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Bike Sharing.
    Bike,
    /// Wine Quality.
    Wine,
}

fn one() -> usize {
    1
}

/// The sizes of a multi-layer perceptron, resolved from any of its forms.
struct MlpSizes {
    widths: Vec<usize>,
    batch_norm: bool,
    seed: u64,
}

impl ModelOptions {
    fn sizes(&self) -> Result<MlpSizes> {
        let (inputs, hidden, outputs, batch_norm, seed) = match self {
            ModelOptions::Mlp { inputs, outputs, hidden, batch_norm, seed } => {
                (*inputs, hidden.as_slice(), *outputs, *batch_norm, *seed)
            }
            ModelOptions::VanillaAnn { dataset, seed } => {
                let (inputs, batch_norm) = match dataset {
                    Table::Bike => (19, false),
                    Table::Wine => (11, true),
                };
                (inputs, [100, 50, 20, 10].as_slice(), 1, batch_norm, *seed)
            }
        };
        require(inputs >= 1, "model.inputs", inputs, "at least 1")?;
        require(outputs >= 1, "model.outputs", outputs, "at least 1")?;
        for (layer, &width) in hidden.iter().enumerate() {
            require(width >= 1, &format!("model.hidden[{layer}]"), width, "at least 1")?;
        }
        let widths: Vec<usize> = [inputs].into_iter().chain(hidden.iter().copied()).chain([outputs]).collect();
        let fits = |pair: &[usize]| pair[0].checked_mul(pair[1]).is_some_and(|count| count < isize::MAX as usize / 4);
        if !widths.windows(2).all(fits) {
            return Err(Error::OutOfMemory(format!("a network with layers of {widths:?} exceeds memory")));
        }
        Ok(MlpSizes { widths, batch_norm, seed })
    }
}

/// A named tensor of a network's state.
#[derive(Debug)]
pub struct StateTensor {
    /// As in PyTorch's `state_dict` of the same `nn.Sequential`: `0.weight`.
    pub name: String,
    /// The tensor itself, shared with the network.
    pub tensor: Tensor,
    /// Whether the optimiser changes it.
    pub trainable: bool,
}

/// A network with the normalisation of the data it was trained on.
#[derive(Debug)]
pub struct Model {
    options: ModelOptions,
    network: Sequential,
    inputs: usize,
    outputs: usize,
    normalization: Option<Normalization>,
    device: Device,
}

impl Model {
    /// A network with initial weights as PyTorch's defaults, drawn from the options' own seed.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for sizes of 0; [`Error::OutOfMemory`].
    pub fn new(options: &ModelOptions) -> Result<Self> {
        let sizes = options.sizes()?;
        let network =
            Sequential::mlp(&sizes.widths, sizes.batch_norm, &mut stream(sizes.seed, Purpose::Initialisation, 0))?;
        let (inputs, outputs) = (sizes.widths[0], sizes.widths[sizes.widths.len() - 1]);
        Ok(Model { options: options.clone(), network, inputs, outputs, normalization: None, device: Device::Cpu })
    }

    /// What the model was made from.
    pub fn options(&self) -> &ModelOptions {
        &self.options
    }

    /// The number of feature values per row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The shape of one row of features.
    pub fn input_shape(&self) -> &[usize] {
        std::slice::from_ref(&self.inputs)
    }

    /// The number of predictions per row.
    pub fn outputs(&self) -> usize {
        self.outputs
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

    /// The normalisation, or the one that changes nothing.
    pub(crate) fn normalization_or_identity(&self) -> Normalization {
        self.normalization.clone().unwrap_or_else(|| Normalization::identity(self.outputs))
    }

    /// All tensors, in the order of the layers.
    pub fn state(&self) -> Vec<StateTensor> {
        self.network.state()
    }

    /// The trainable tensors, in the order of the layers.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.state().into_iter().filter(|state| state.trainable).map(|state| state.tensor).collect()
    }

    /// The other tensors, which a forward pass in training changes.
    pub fn buffers(&self) -> Vec<Tensor> {
        self.state().into_iter().filter(|state| !state.trainable).map(|state| state.tensor).collect()
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
        }
        Ok(())
    }

    /// The network's output for normalised `features` of shape `[rows, inputs]`, in normalised units.
    ///
    /// # Errors
    /// [`Error::Shape`] for one row in training where a BatchNorm needs two.
    pub fn forward(&self, features: &Tensor, training: bool) -> Result<Tensor> {
        self.network.forward(features, training)
    }

    /// Predictions in the labels' units for row-major `features` in theirs, `inputs` values a row.
    ///
    /// # Errors
    /// [`Error::Shape`] when the rows do not fit the model.
    pub fn predict(&self, features: &[f32]) -> Result<Vec<f64>> {
        if !features.len().is_multiple_of(self.inputs) {
            return Err(Error::Shape(format!("{} values are not rows of {} features", features.len(), self.inputs)));
        }
        let normalization = self.normalization_or_identity();
        Ok(normalization.predictions(&self.predict_normalized(FeatureRows::Numbers(features), &normalization)?))
    }

    /// Predictions in normalised units for whole rows of features in their own.
    pub(crate) fn predict_normalized(&self, rows: FeatureRows, normalization: &Normalization) -> Result<Vec<f64>> {
        let count = rows.count(self.inputs);
        let mut predictions = crate::array::reserve(count * self.outputs)?;
        for start in (0..count).step_by(PREDICTION_ROWS) {
            let rows = rows.slice(start..count.min(start + PREDICTION_ROWS), self.inputs);
            let x = batch::features(rows, self.input_shape(), normalization, self.device)?;
            let output = tch::no_grad(|| self.forward(&x, false))?;
            predictions.extend(to_f32(&output)?.into_iter().map(f64::from));
        }
        Ok(predictions)
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

    /// Saves weights and normalisation to one file, which replaces an older one only when it is complete.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut archive = Archive::new(ArchiveKind::Model, &self.options)?;
        self.store(&mut archive)?;
        archive.save(path)
    }

    /// The model that [`Model::save`] saved, on the CPU.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`].
    pub fn load(path: &Path) -> Result<Self> {
        let archive = Archive::load(path, ArchiveKind::Model)?;
        let mut model = Model::new(&archive.state::<ModelOptions>()?)?;
        model.restore(&archive)?;
        Ok(model)
    }

    /// Adds weights and normalisation to `archive`.
    pub(crate) fn store(&self, archive: &mut Archive) -> Result<()> {
        for state in self.state() {
            archive.insert(format!("model.{}", state.name), StoredArray::from_tensor(&state.tensor)?);
        }
        if let Some(normalization) = &self.normalization {
            for (name, values) in [
                ("feature_mean", &normalization.feature_mean),
                ("feature_std", &normalization.feature_std),
                ("label_mean", &normalization.label_mean),
                ("label_std", &normalization.label_std),
            ] {
                archive.insert(format!("normalization.{name}"), StoredArray::f64(values.clone()));
            }
        }
        Ok(())
    }

    /// Takes weights and normalisation from `archive`: all of them, or on error none.
    pub(crate) fn restore(&mut self, archive: &Archive) -> Result<()> {
        let mut state = self.state();
        let arrays = state.iter().map(|state| archive.get(&format!("model.{}", state.name)));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        for (state, array) in state.iter().zip(&arrays) {
            check_shape(state, array)?;
        }
        let normalization = match archive.get("normalization.feature_mean") {
            Err(_) => None,
            Ok(_) => {
                let values = |name: &str| archive.get(&format!("normalization.{name}"))?.to_f64();
                Some(Normalization {
                    feature_mean: values("feature_mean")?,
                    feature_std: values("feature_std")?,
                    label_mean: values("label_mean")?,
                    label_std: values("label_std")?,
                })
            }
        };
        for (state, array) in state.iter_mut().zip(arrays) {
            assign(state, array)?;
        }
        self.normalization = normalization;
        Ok(())
    }
}

fn check_shape(state: &StateTensor, array: &StoredArray) -> Result<()> {
    let shape: Vec<usize> = state.tensor.size().iter().map(|&size| size as usize).collect();
    if shape == array.shape() {
        return Ok(());
    }
    Err(Error::Shape(format!("tensor '{}' has shape {:?}, the model's has {shape:?}", state.name, array.shape())))
}

fn assign(state: &mut StateTensor, array: &StoredArray) -> Result<()> {
    check_shape(state, array)?;
    let values = array.to_f32()?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::InvalidArgument(format!("tensor '{}': a value is not finite", state.name)));
    }
    let source = Tensor::f_from_slice(&values)?.f_reshape(state.tensor.size())?;
    Ok(tch::no_grad(|| state.tensor.f_copy_(&source))?)
}

/// A tensor's values in the host's memory, row-major.
pub(crate) fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let host = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = crate::array::reserve(host.numel())?;
    values.resize(host.numel(), 0.0);
    host.f_copy_data(&mut values, host.numel())?;
    Ok(values)
}
