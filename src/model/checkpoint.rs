//! A model in a file and out of it.

use super::archive::{Archive, ArchiveKind, StoredArray};
use super::layers::StateTensor;
use super::{ErrorBars, Model, ModelOptions};
use crate::base::files;
use crate::data::{Columns, Normalization};
use crate::{Error, Result};
use serde::Deserialize;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use tch::Tensor;

/// The name of the array that is the JSON text of the columns.
const COLUMNS: &str = "columns";

impl Model {
    /// Saves weights and normalisation to one file, which replaces an older one only when it is complete.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        self.to_archive()?.save(path)
    }

    /// The bytes of the file that [`Model::save`] writes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.to_archive()?.to_bytes()
    }

    fn to_archive(&self) -> Result<Archive> {
        let mut archive = Archive::new(ArchiveKind::Model, &self.options)?;
        self.store(&mut archive)?;
        Ok(archive)
    }

    /// The model that [`Model::save`] saved, or the one in a trainer's checkpoint, on the CPU.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_bytes(&files::read(path)?, &path.display())
    }

    /// As [`Model::load`], of the file's bytes, which messages call `origin`.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn from_bytes(bytes: &[u8], origin: &dyn Display) -> Result<Self> {
        /// What a trainer's checkpoint says of its model.
        #[derive(Deserialize)]
        struct Checkpoint {
            model: ModelOptions,
        }
        let archive = Archive::from_bytes(bytes, origin, &[ArchiveKind::Model, ArchiveKind::Training])?;
        let options = match archive.kind() {
            ArchiveKind::Training => archive.state::<Checkpoint>()?.model,
            _ => archive.state()?,
        };
        let mut model = Model::new(&options)?;
        model.restore(&archive)?;
        Ok(model)
    }

    /// A model of its own with the same network, weights, normalisation and all, on the same device.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Device`].
    pub fn copy(&self) -> Result<Self> {
        let mut copy = Model::new(&self.options)?;
        copy.to_device(self.device)?;
        copy.put_back(&self.snapshot()?)?;
        copy.normalization.clone_from(&self.normalization);
        copy.error_bars.clone_from(&self.error_bars);
        copy.columns.clone_from(&self.columns);
        Ok(copy)
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
        if let Some(bars) = &self.error_bars {
            for (name, values) in [("scale", &bars.scale), ("tau2", &bars.tau2), ("mean_spread", &bars.mean_spread)] {
                archive.insert(format!("error_bars.{name}"), StoredArray::f64(values.clone()));
            }
        }
        if let Some(columns) = self.columns() {
            let text = serde_json::to_string(columns).map_err(|error| Error::Internal(error.to_string()))?;
            archive.insert(COLUMNS.into(), StoredArray::text(text));
        }
        Ok(())
    }

    /// The snapshot of this model that [`store_snapshot`] added under `prefix`; empty where it was.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another model's.
    pub(crate) fn stored_snapshot(&self, archive: &Archive, prefix: &str) -> Result<Vec<Tensor>> {
        if archive.get(&format!("{prefix}.0")).is_err() {
            return Ok(vec![]);
        }
        let tensor = |(number, state): (usize, StateTensor)| {
            let array = archive.get(&format!("{prefix}.{number}"))?;
            check_shape(&state, array.shape())?;
            let tensor = Tensor::f_from_slice(&array.to_f32()?)?;
            Ok(tensor.f_reshape(state.tensor.size())?.f_to_device(self.device())?)
        };
        self.state().into_iter().enumerate().map(tensor).collect()
    }

    /// Takes weights and normalisation from `archive`: all of them, or on error none.
    pub(crate) fn restore(&mut self, archive: &Archive) -> Result<()> {
        let mut state = self.state();
        let arrays = state.iter().map(|state| archive.get(&format!("model.{}", state.name)));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        for (state, array) in state.iter().zip(&arrays) {
            check_shape(state, array.shape())?;
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
        let error_bars = match archive.get("error_bars.tau2") {
            Err(_) => None,
            Ok(_) => {
                let values = |name: &str| archive.get(&format!("error_bars.{name}"))?.to_f64();
                let (scale, tau2, mean_spread) = (values("scale")?, values("tau2")?, values("mean_spread")?);
                let bars = ErrorBars { scale, tau2, mean_spread };
                bars.check(self.outputs())?;
                Some(bars)
            }
        };
        let columns = archive.get(COLUMNS).ok().map(|text| self.stored_columns(text)).transpose()?;
        for (state, array) in state.iter_mut().zip(arrays) {
            assign(state, array)?;
        }
        self.columns = columns;
        self.error_bars = error_bars;
        self.normalization = normalization;
        Ok(())
    }
}

impl Model {
    fn stored_columns(&self, text: &StoredArray) -> Result<Arc<Columns>> {
        let columns: Columns = serde_json::from_str(text.to_text()?)
            .map_err(|error| Error::Corrupt(format!("the columns of the data: {error}")))?;
        match columns.width() == self.inputs() {
            true => Ok(Arc::new(columns)),
            false => Err(Error::Corrupt("the columns of the data are not the model's inputs".into())),
        }
    }
}

/// Adds the tensors of a snapshot to `archive`, under names that begin with `prefix`.
pub(crate) fn store_snapshot(archive: &mut Archive, prefix: &str, snapshot: &[Tensor]) -> Result<()> {
    for (number, tensor) in snapshot.iter().enumerate() {
        archive.insert(format!("{prefix}.{number}"), StoredArray::from_tensor(tensor)?);
    }
    Ok(())
}

/// An error unless an array of the shape `found` is one for `state`.
pub(super) fn check_shape(state: &StateTensor, found: &[usize]) -> Result<()> {
    let shape: Vec<usize> = state.tensor.size().iter().map(|&size| size as usize).collect();
    if shape == found {
        return Ok(());
    }
    Err(Error::Shape(format!("tensor '{}' has shape {found:?}, the model's has {shape:?}", state.name)))
}

pub(super) fn assign(state: &mut StateTensor, array: &StoredArray) -> Result<()> {
    check_shape(state, array.shape())?;
    let values = array.to_f32()?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::InvalidArgument(format!("tensor '{}': a value is not finite", state.name)));
    }
    let source = Tensor::f_from_slice(&values)?.f_reshape(state.tensor.size())?;
    Ok(tch::no_grad(|| state.tensor.f_copy_(&source))?)
}
