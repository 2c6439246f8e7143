//! A model in a file and out of it.

use super::archive::{Archive, ArchiveKind, StoredArray};
use super::layers::StateTensor;
use super::{Model, ModelOptions};
use crate::data::Normalization;
use crate::{Error, Result};
use std::path::Path;
use tch::Tensor;

impl Model {
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

pub(super) fn assign(state: &mut StateTensor, array: &StoredArray) -> Result<()> {
    check_shape(state, array)?;
    let values = array.to_f32()?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::InvalidArgument(format!("tensor '{}': a value is not finite", state.name)));
    }
    let source = Tensor::f_from_slice(&values)?.f_reshape(state.tensor.size())?;
    Ok(tch::no_grad(|| state.tensor.f_copy_(&source))?)
}
