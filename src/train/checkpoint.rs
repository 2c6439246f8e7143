//! A trainer in a file and out of it.

use super::distributed::{DistributedOptions, Ranks, together};
use super::held_out::HeldOutState;
use super::options::TrainerOptions;
use super::sampler::Position;
use super::schedule::{Plateau, Schedule};
use super::step::Engine;
use super::trainer::{Fitting, Prepared, Trainer, VALIDATION};
use super::validation::{SavedValidation, Validation};
use crate::base::files;
use crate::data::{Dataset, Fingerprint};
use crate::model::archive::{Archive, ArchiveKind};
use crate::model::{Model, ModelOptions};
use crate::{Error, Result};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

/// What a checkpoint keeps beside the arrays.
#[derive(Serialize, Deserialize)]
struct TrainerState {
    model: ModelOptions,
    trainer: TrainerOptions,
    /// Of an ensemble, those of the first network.
    steps: u64,
    /// Of an ensemble, those of each network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    member_steps: Vec<u64>,
    position: Option<Position>,
    rows: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validation: Option<HeldOutState>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Fingerprint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plateau: Option<Plateau>,
}

/// How [`Trainer::load_with`] goes on.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadOptions {
    /// The device, instead of the saved one: `cpu`, `cuda`, `cuda:N` or `auto`.
    pub device: Option<String>,
    /// Whether training may go on with other data (default false). In what they differ is kept in the next checkpoints.
    pub accept_data: bool,
    /// How processes train together, instead of how they did: another number of them, for example. A checkpoint does not
    /// keep which process was which.
    pub distributed: Option<DistributedOptions>,
}

impl TrainerState {
    /// In what `data` differ from the data set before.
    ///
    /// # Errors
    /// Unless they are the same, or `accepted` as they are.
    fn difference(&self, data: &Fitting, accepted: bool) -> Result<Option<String>> {
        let difference = match &self.data {
            Some(before) => data.difference(before),
            // The checkpoint is of a version that kept the number of rows alone.
            None if data.rows() == self.rows => None,
            None => Some(format!("it has {} rows, there were {}", data.rows(), self.rows)),
        };
        if let Some(difference) = difference.as_ref().filter(|_| !accepted) {
            let message = format!("the data set is not the one that the checkpoint was made with: {difference}");
            return Err(if data.rows() == self.rows { Error::InvalidArgument(message) } else { Error::Shape(message) });
        }
        Ok(difference)
    }
}

/// What the names of the optimiser's lists of network number `number` begin with.
fn member(number: usize) -> String {
    format!("members.{number}")
}

impl Trainer {
    /// Saves everything that [`Trainer::load`] needs to go on, bit for bit on a CPU.
    ///
    /// # Errors
    /// [`Error::Io`]: what was at `path` is then still there.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.to_archive()?.save(path)
    }

    /// The bytes of the file that [`Trainer::save`] writes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.to_archive()?.to_bytes()
    }

    /// What [`Trainer::save`] saves.
    pub(crate) fn to_archive(&self) -> Result<Archive> {
        let model = self.learner.model.lock();
        let own = self.data.as_ref().map(|(_, sampler)| (sampler.position(), sampler.rows()));
        let place = own.or(self.absent);
        let (validation, absent) = (&self.validation, &self.absent_validation);
        let follows = self.learner.options.schedule.as_ref().is_some_and(Schedule::needs_validation);
        let engines = &self.learner.engines;
        let state = TrainerState {
            model: model.options().clone(),
            trainer: self.learner.options.for_checkpoint(),
            steps: self.learner.engine().steps(),
            member_steps: if self.learner.is_ensemble() { engines.iter().map(Engine::steps).collect() } else { vec![] },
            position: place.map(|(position, _)| position),
            rows: place.map_or(0, |(_, rows)| rows),
            data: self.fingerprint.clone(),
            accepted: self.accepted.clone(),
            plateau: follows.then_some(self.learner.plateau),
            validation: validation.as_ref().map(Validation::state).or(absent.as_ref().map(|saved| saved.state.clone())),
        };
        let mut archive = Archive::new(ArchiveKind::Training, &state)?;
        model.store(&mut archive)?;
        match &engines[..] {
            [engine] => engine.store(&mut archive)?,
            engines => {
                for (number, engine) in engines.iter().enumerate() {
                    let mut part = Archive::new(ArchiveKind::Training, &())?;
                    engine.store(&mut part)?;
                    archive.add(&member(number), part);
                }
            }
        }
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
    /// [`Error::NotFound`], [`Error::Corrupt`]; [`Error::InvalidArgument`] for another data set, or [`Error::Shape`]
    /// where its rows are of another shape or number.
    pub fn load(path: &Path, data: Option<&Dataset>, device: Option<&str>) -> Result<Self> {
        let options = LoadOptions { device: device.map(Into::into), ..LoadOptions::default() };
        Self::load_with(path, data, &options)
    }

    /// As [`Trainer::load`], with options. In another data set that is accepted, training goes on with the epoch and the
    /// mini-batch where it was, or with the next epoch where there is no such mini-batch.
    ///
    /// # Errors
    /// As [`Trainer::load`].
    pub fn load_with(path: &Path, data: Option<&Dataset>, options: &LoadOptions) -> Result<Self> {
        Self::from_bytes(&files::read(path)?, &path.display(), data, options)
    }

    /// As [`Trainer::load_with`], of the file's bytes, which messages call `origin`.
    ///
    /// # Errors
    /// As [`Trainer::load`].
    pub fn from_bytes(
        bytes: &[u8],
        origin: &dyn Display,
        data: Option<&Dataset>,
        options: &LoadOptions,
    ) -> Result<Self> {
        Self::from_archive(Archive::from_bytes(bytes, origin, &[ArchiveKind::Training])?, data, options)
    }

    /// Takes weights, optimiser and position from `archive`, of a trainer of the same model and data.
    pub(crate) fn restore(&mut self, archive: &Archive) -> Result<()> {
        let state: TrainerState = archive.state()?;
        self.learner.model.lock().restore(archive)?;
        self.restore_engines(archive, &state)?;
        self.learner.plateau = state.plateau.unwrap_or_default();
        match (&mut self.data, state.position) {
            (Some((_, sampler)), Some(position)) => sampler.seek(position),
            _ => Ok(()),
        }
    }

    fn restore_engines(&mut self, archive: &Archive, state: &TrainerState) -> Result<()> {
        let engines = &mut self.learner.engines;
        if let [engine] = &mut engines[..] {
            return engine.restore(archive, state.steps);
        }
        if state.member_steps.len() != engines.len() {
            return Err(Error::Corrupt("the file has the steps of another number of networks".into()));
        }
        for (number, (engine, &steps)) in engines.iter_mut().zip(&state.member_steps).enumerate() {
            engine.restore(&archive.part(&member(number)), steps)?;
        }
        Ok(())
    }

    /// As [`Trainer::load`], from what [`Trainer::to_archive`] gave.
    fn from_archive(archive: Archive, data: Option<&Dataset>, options: &LoadOptions) -> Result<Self> {
        let mut state: TrainerState = archive.state()?;
        if let Some(device) = &options.device {
            state.trainer.device.clone_from(device);
        }
        if let Some(distributed) = &options.distributed {
            state.trainer.distributed = Some(distributed.clone());
        }
        let ranks = state.trainer.distributed.as_ref().map(Ranks::join).transpose()?;
        let model = together(ranks.as_deref(), || {
            state.trainer.validate()?;
            let mut model = Model::new(&state.model)?;
            model.restore(&archive)?;
            Ok((Arc::new(Mutex::new(model)), vec![]))
        })?;
        let mut locked = model.lock();
        let fitting = Fitting::of(data, &locked, ranks.as_deref(), Some(&state.trainer))?;
        let (prepared, difference) = together(ranks.as_deref(), || {
            let difference = fitting.as_ref().map(|data| state.difference(data, options.accept_data)).transpose()?;
            let position = state.position.unwrap_or_default();
            let mut prepared = Prepared::new(&model, &mut locked, fitting, &state.trainer, position, ranks.clone())?;
            prepared.trainer.restore_engines(&archive, &state)?;
            prepared.trainer.learner.plateau = state.plateau.unwrap_or_default();
            let facts = prepared.facts(&locked)?;
            Ok(((prepared, difference.flatten()), facts))
        })?;
        let mut trainer = prepared.finish(&mut locked);
        drop(locked);
        if data.is_none() {
            trainer.fingerprint = state.data;
            trainer.absent = state.position.map(|position| (position, state.rows));
        }
        trainer.accepted = state.accepted.into_iter().chain(difference).collect();
        trainer.absent_validation = state.validation.map(|state| SavedValidation { archive, state });
        Ok(trainer)
    }
}
