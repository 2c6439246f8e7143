//! A trainer in a file and out of it.

use super::learner::check_fit;
use super::options::TrainerOptions;
use super::sampler::Position;
use super::trainer::Trainer;
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
}

impl Trainer {
    /// Saves everything that [`Trainer::load`] needs to go on, bit for bit on a CPU.
    ///
    /// # Errors
    /// [`Error::Io`]: what was at `path` is then still there.
    pub fn save(&self, path: &Path) -> Result<()> {
        let model = self.learner.model.lock();
        let own = self.data.as_ref().map(|(data, sampler)| (sampler.position(), data.rows()));
        let place = own.or(self.absent);
        let state = TrainerState {
            model: model.options().clone(),
            trainer: self.learner.options.clone(),
            steps: self.learner.engine.steps(),
            position: place.map(|(position, _)| position),
            rows: place.map_or(0, |(_, rows)| rows),
        };
        let mut archive = Archive::new(ArchiveKind::Training, &state)?;
        model.store(&mut archive)?;
        self.learner.engine.store(&mut archive)?;
        drop(model);
        archive.save(path)
    }

    /// The trainer that [`Trainer::save`] saved, with a model of its own. `data`
    /// must be the data set it was trained on; `device` replaces the saved one.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Shape`] for another data set.
    pub fn load(path: &Path, data: Option<&Dataset>, device: Option<&str>) -> Result<Self> {
        let archive = Archive::load(path, ArchiveKind::Training)?;
        let mut state: TrainerState = archive.state()?;
        if let Some(device) = device {
            state.trainer.device = device.into();
        }
        let mut model = Model::new(&state.model)?;
        model.restore(&archive)?;
        if let Some(data) = data {
            check_fit(&model, data)?;
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
        Ok(trainer)
    }
}
