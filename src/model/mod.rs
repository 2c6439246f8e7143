//! Networks: layers, their initial weights and predictions in the user's units.

mod cnn;
mod init;
mod layers;
mod mlp;
mod options;
mod precision;
mod resnet;

use crate::archive::{Archive, ArchiveKind, StoredArray};
use crate::array::collect;
use crate::batch;
use crate::data::{FeatureRows, Normalization, Scale};
use crate::flat::Flat;
use crate::kernel::{self, Plan, Team};
use crate::shim::step::After;
use crate::shim::{self, Pool};
use crate::{Error, Result};
use layers::Network;
pub(crate) use layers::{EPSILON as BATCH_NORM_EPSILON, MOMENTUM as BATCH_NORM_MOMENTUM};
pub use options::{ModelOptions, Table};
pub use precision::Precision;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Rows that go through the network at once in prediction, at most.
const PREDICTION_ROWS: usize = 16_384;

/// Feature values that go through the network at once in prediction, at most
/// (but one row always does): some 70 images of 3 x 200 x 200. The activations
/// of an image network that live at one time take 10 to 25 times as much memory.
const PREDICTION_VALUES: usize = 1 << 23;

/// A named tensor of a network's state.
#[derive(Debug)]
pub struct StateTensor {
    /// As in PyTorch's `state_dict` of the same network: `0.weight`, in a ResNet `layer1.0.conv1.weight`.
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
    network: Network,
    normalization: Option<Normalization>,
    device: Device,
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
        let (options, network) = (options.clone(), options.build()?);
        let mut model = Model { options, network, normalization: None, device: Device::Cpu, flat: None };
        model.flatten()?;
        Ok(model)
    }

    /// Puts the trainable values of a multi-layer perceptron side by side, as kernels take them.
    fn flatten(&mut self) -> Result<()> {
        self.flat = None;
        if self.plan().is_some() {
            let mut parameters = self.parameters();
            let flat = Flat::copied(&parameters)?;
            parameters.iter_mut().zip(&flat.parts).for_each(|(tensor, part)| tch::no_grad(|| tensor.set_data(part)));
            self.flat = Some(flat.all);
        }
        Ok(())
    }

    /// All trainable values of a multi-layer perceptron, in the order of the layers.
    ///
    /// # Errors
    /// [`Error::Internal`] for other networks.
    pub(crate) fn flat(&self) -> Result<&Tensor> {
        self.flat.as_ref().ok_or_else(|| Error::Internal("the weights are not side by side".into()))
    }

    /// What the model was made from.
    pub fn options(&self) -> &ModelOptions {
        &self.options
    }

    /// The number of feature values per row.
    pub fn inputs(&self) -> usize {
        self.network.input_shape.iter().product()
    }

    /// The shape of one row's features: `[inputs]` for tables, `[channels, height, width]` for images.
    pub fn input_shape(&self) -> &[usize] {
        &self.network.input_shape
    }

    /// The number of predictions per row.
    pub fn outputs(&self) -> usize {
        self.network.outputs
    }

    /// The fewest rows that a mini-batch of training may have: 2 where a BatchNorm needs them, else 1.
    pub fn smallest_batch(&self) -> usize {
        self.network.smallest_batch
    }

    /// How many rows to send through the network at once in prediction, at least
    /// 1: bounds the memory of the activations.
    pub fn prediction_rows(&self) -> usize {
        (PREDICTION_VALUES / self.inputs()).clamp(1, PREDICTION_ROWS)
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
        self.normalization.clone().unwrap_or_else(|| Normalization::identity(self.outputs()))
    }

    /// All tensors, in the order of the layers.
    pub fn state(&self) -> Vec<StateTensor> {
        self.network.layers.state()
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
            self.flatten()?;
        }
        Ok(())
    }

    /// The network's shape where it is a multi-layer perceptron.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.network.plan.as_ref()
    }

    /// The network's shape where [`kernel`] can train it and predict with it as it is now.
    pub(crate) fn kernel_plan(&self, precision: Precision) -> Option<&Plan> {
        self.plan().filter(|_| self.device == Device::Cpu && precision != Precision::Bf16)
    }

    /// The network's output, f32 of shape `[rows, outputs]` in normalised units, for
    /// normalised `features` of shape `[rows, ...]`, the rest as [`Model::input_shape`].
    ///
    /// # Errors
    /// [`Error::Shape`] for one row in training where a BatchNorm needs two.
    pub fn forward(&self, features: &Tensor, training: bool, precision: Precision) -> Result<Tensor> {
        precision.apply(self.device, features, |x| self.network.layers.forward(x, training, After::Nothing))
    }

    /// Predictions in the labels' units for row-major `features` in theirs, `inputs` values a row.
    ///
    /// # Errors
    /// [`Error::Shape`] when the rows do not fit the model.
    pub fn predict(&self, features: &[f32]) -> Result<Vec<f64>> {
        let inputs = self.inputs();
        if !features.len().is_multiple_of(inputs) {
            return Err(Error::Shape(format!("{} values are not rows of {inputs} features", features.len())));
        }
        let memory = Pool::new()?;
        let _memory = memory.enter();
        let normalization = self.normalization_or_identity();
        let rows = FeatureRows::Numbers(features);
        collect(normalization.predictions(&self.predict_normalized(rows, &normalization, Precision::F32)?))
    }

    /// Predictions in normalised units for whole rows of features in their own.
    pub(crate) fn predict_normalized(
        &self,
        rows: FeatureRows,
        normalization: &Normalization,
        precision: Precision,
    ) -> Result<Vec<f64>> {
        crate::fault::point();
        let inputs = self.inputs();
        if let (Some(plan), FeatureRows::Numbers(values)) = (self.kernel_plan(precision), rows) {
            return self.predict_by_kernel(plan, values, &normalization.scales(inputs)?);
        }
        let (count, step) = (rows.count(inputs), self.prediction_rows());
        let mut predictions = crate::array::reserve(count * self.outputs())?;
        for start in (0..count).step_by(step) {
            let rows = rows.slice(start..count.min(start + step), inputs);
            let x = batch::features(rows, self.input_shape(), normalization, self.device)?;
            let output = tch::no_grad(|| self.forward(&x, false, precision))?;
            predictions.extend(to_f32(&output)?.into_iter().map(f64::from));
        }
        Ok(predictions)
    }

    fn predict_by_kernel(&self, plan: &Plan, features: &[f32], scales: &[Scale]) -> Result<Vec<f64>> {
        let buffers = if plan.norm { self.buffers() } else { vec![] };
        let buffers = buffers.iter().map(shim::values).collect::<Result<Vec<_>>>()?;
        kernel::predict(plan, shim::values(self.flat()?)?, &buffers, features, scales, &Team::gather())
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
                let normalization = Normalization {
                    feature_mean: values("feature_mean")?,
                    feature_std: values("feature_std")?,
                    label_mean: values("label_mean")?,
                    label_std: values("label_std")?,
                };
                normalization.check(self.inputs(), self.outputs())?;
                Some(normalization)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::parse;

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
            "model.width: is 63, must be at least 64: 6 poolings halve the image"
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
