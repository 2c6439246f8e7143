//! Mini-batches as tensors: gathered, normalised, where the network is.

use crate::base::memory::collect;
use crate::data::{Dataset, FeatureRows, Features, Normalization};
use crate::kernels::ops;
use crate::torch::Precision;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Rows of features in normalised units, of shape `[rows, ...shape]`, on `device`.
///
/// # Errors
/// [`Error::Shape`] when the rows do not fit the normalisation.
pub fn features(rows: FeatureRows, shape: &[usize], normalization: &Normalization, device: Device) -> Result<Tensor> {
    let width = shape.iter().product();
    let tensor = match rows {
        FeatureRows::Numbers(values, offsets) => {
            Tensor::f_from_slice(&normalization.features(values, width, offsets)?)?
        }
        FeatureRows::Pixels(pixels, rows) => {
            return scaled(&bytes(pixels, rows, shape)?.f_to_device(device)?, normalization);
        }
    };
    Ok(tensor.f_view(dimensions(rows.count(width), shape).as_slice())?.f_to_device(device)?)
}

/// Labels in normalised units, of shape `[rows, outputs]`, on `device`. One that is missing is 0.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn labels(data: &Dataset, normalization: &Normalization, device: Device) -> Result<Tensor> {
    let labels =
        collect(normalization.labels(data.labels()).map(|label| if label.is_nan() { 0.0 } else { label as f32 }))?;
    Ok(Tensor::f_from_slice(&labels)?.f_view([data.rows() as i64, data.outputs() as i64])?.f_to_device(device)?)
}

/// The features that mini-batches are taken from.
#[derive(Debug)]
pub struct Source {
    storage: Storage,
    shape: Vec<usize>,
}

#[derive(Debug)]
enum Storage {
    /// On the device: normalised numbers, or bytes.
    Device(Tensor),
    /// Images on a CPU: shared with the data set instead of copied.
    Host(Features),
}

impl Source {
    /// The features of `data`, for a network whose rows have `shape`.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::OutOfMemory`].
    pub fn new(data: &Dataset, shape: &[usize], normalization: &Normalization, device: Device) -> Result<Self> {
        let storage = match (data.features(), device) {
            (Features::Numbers { .. }, _) => {
                Storage::Device(features(data.features().rows(), shape, normalization, device)?)
            }
            (pixels, Device::Cpu) => Storage::Host(pixels.clone()),
            (Features::Pixels { pixels, rows }, _) => {
                Storage::Device(bytes(pixels.joined()?, rows.joined()?, shape)?.f_to_device(device)?)
            }
        };
        Ok(Source { storage, shape: shape.to_vec() })
    }

    /// All rows as normalised numbers, where they are so.
    ///
    /// # Errors
    /// [`Error::Internal`] for images.
    pub fn numbers(&self) -> Result<&Tensor> {
        match &self.storage {
            Storage::Device(tensor) => Ok(tensor),
            Storage::Host(_) => Err(Error::Internal("images are not numbers yet".into())),
        }
    }

    /// The rows `indices` in normalised units, for a forward pass in `precision`. `index` are the same numbers on the
    /// device.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn batch(
        &self,
        indices: &[usize],
        index: &Tensor,
        normalization: &Normalization,
        precision: Precision,
    ) -> Result<Tensor> {
        match &self.storage {
            Storage::Device(bytes) if bytes.kind() == Kind::Uint8 => {
                if precision == Precision::Bf16 {
                    let (scale, shift) = byte_scale(normalization)?;
                    if let Some(images) = ops::gather_images(bytes, index, scale, shift)? {
                        return Ok(images);
                    }
                }
                scaled(&bytes.f_index_select(0, index)?, normalization)
            }
            Storage::Device(numbers) => Ok(numbers.f_index_select(0, index)?),
            Storage::Host(all) => {
                let rows = all.subset(indices, self.shape.iter().product())?;
                features(rows.rows(), &self.shape, normalization, index.device())
            }
        }
    }
}

/// The bytes of the images `rows`, of shape `[rows, ...shape]`.
fn bytes(pixels: &[u8], rows: &[usize], shape: &[usize]) -> Result<Tensor> {
    let gathered = crate::data::gather(pixels, shape.iter().product(), rows)?;
    Ok(Tensor::f_from_slice(&gathered)?.f_view(dimensions(rows.len(), shape).as_slice())?)
}

/// Bytes as normalised numbers: `(byte / 255 - mean) / std`.
fn scaled(bytes: &Tensor, normalization: &Normalization) -> Result<Tensor> {
    let (scale, shift) = byte_scale(normalization)?;
    Ok(bytes.f_to_kind(Kind::Float)?.f_mul_scalar_(scale)?.f_add_scalar_(shift)?)
}

/// The numbers with which `scale * byte + shift` is normalised.
fn byte_scale(normalization: &Normalization) -> Result<(f64, f64)> {
    match (&normalization.feature_mean[..], &normalization.feature_std[..]) {
        (&[mean], &[std]) => Ok((1.0 / (255.0 * std), -mean / std)),
        (means, _) => {
            let found = means.len();
            Err(Error::Shape(format!("images have one mean and deviation, the normalisation has {found}")))
        }
    }
}

fn dimensions(rows: usize, shape: &[usize]) -> Vec<i64> {
    [rows].iter().chain(shape).map(|&size| size as i64).collect()
}
