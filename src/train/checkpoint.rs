//! A trainer in a file and out of it.

use super::held_out::HeldOutState;
use super::options::TrainerOptions;
use super::sampler::Position;
use super::trainer::{Trainer, VALIDATION, labelled};
use super::validation::{SavedValidation, Validation};
use crate::data::Dataset;
use crate::model::archive::{Archive, ArchiveKind};
use crate::model::{Model, ModelOptions};
use crate::{Error, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// What a checkpoint keeps beside the arrays.
#[derive(Serialize, Deserialize)]
struct TrainerState {
    model: ModelOptions,
    trainer: TrainerOptions,
    steps: u64,
    position: Option<Position>,
    rows: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validation: Option<HeldOutState>,
}

impl Trainer {
    /// Saves everything that [`Trainer::load`] needs to go on, bit for bit on a CPU.
    ///
    /// # Errors
    /// [`Error::Io`]: what was at `path` is then still there.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.to_archive()?.save(path)
    }

    /// What [`Trainer::save`] saves.
    pub(crate) fn to_archive(&self) -> Result<Archive> {
        let model = self.learner.model.lock();
        let own = self.data.as_ref().map(|(data, sampler)| (sampler.position(), data.rows()));
        let place = own.or(self.absent);
        let (validation, absent) = (&self.validation, &self.absent_validation);
        let state = TrainerState {
            model: model.options().clone(),
            trainer: self.learner.options.clone(),
            steps: self.learner.engine.steps(),
            position: place.map(|(position, _)| position),
            rows: place.map_or(0, |(_, rows)| rows),
            validation: validation.as_ref().map(Validation::state).or(absent.as_ref().map(|saved| saved.state.clone())),
        };
        let mut archive = Archive::new(ArchiveKind::Training, &state)?;
        model.store(&mut archive)?;
        self.learner.engine.store(&mut archive)?;
        match (validation, absent) {
            (Some(validation), _) => validation.store(&mut archive, VALIDATION)?,
            (None, Some(saved)) => archive.add(VALIDATION, saved.archive.part(VALIDATION)),
            (None, None) => {}
        }
        Ok(archive)
    }

    /// The trainer that [`Trainer::save`] saved, with a model of its own. `data`
    /// must be the data set it was trained on; `device` replaces the saved one.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Shape`] for another data set.
    pub fn load(path: &Path, data: Option<&Dataset>, device: Option<&str>) -> Result<Self> {
        Self::from_archive(Archive::load(path, ArchiveKind::Training)?, data, device)
    }

    /// Takes weights, optimiser and position from `archive`, of a trainer of the same model and data.
    pub(crate) fn restore(&mut self, archive: &Archive) -> Result<()> {
        let state: TrainerState = archive.state()?;
        self.learner.model.lock().restore(archive)?;
        self.learner.engine.restore(archive, state.steps)?;
        match (&mut self.data, state.position) {
            (Some((_, sampler)), Some(position)) => sampler.seek(position),
            _ => Ok(()),
        }
    }

    /// As [`Trainer::load`], from what [`Trainer::to_archive`] gave.
    fn from_archive(archive: Archive, data: Option<&Dataset>, device: Option<&str>) -> Result<Self> {
        let mut state: TrainerState = archive.state()?;
        if let Some(device) = device {
            state.trainer.device = device.into();
        }
        let mut model = Model::new(&state.model)?;
        model.restore(&archive)?;
        if let Some(data) = data {
            model.matched(data)?;
            let data = labelled(data)?;
            if data.rows() != state.rows {
                let (given, saved) = (data.rows(), state.rows);
                let message = format!("the data set has {given} rows, the checkpoint was made with one of {saved}");
                return Err(Error::Shape(message));
            }
        }
        let mut trainer = Trainer::new(Arc::new(Mutex::new(model)), data, &state.trainer)?;
        trainer.learner.engine.restore(&archive, state.steps)?;
        match (&mut trainer.data, state.position) {
            (Some((_, sampler)), Some(position)) => sampler.seek(position)?,
            (None, Some(position)) => trainer.absent = Some((position, state.rows)),
            (_, None) => {}
        }
        trainer.absent_validation = state.validation.map(|state| SavedValidation { archive, state });
        Ok(trainer)
    }
}
