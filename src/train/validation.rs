//! A trainer's validation set: the best epoch, its weights, and the epsilon that residuals there say.

use super::distributed::{facts_of_data, facts_of_part, together};
use super::held_out::{HeldOut, HeldOutState};
use super::learner::Learner;
use super::trainer::{VALIDATION, ValidationReport};
use crate::Result;
use crate::data::{Dataset, Holders, Whole};
use crate::model::archive::Archive;
use crate::model::{Model, store_snapshot};
use std::sync::Arc;
use tch::Tensor;

/// A data set that training does not see, and what it has said so far.
#[derive(Debug)]
pub(super) struct Validation {
    data: Arc<Dataset>,
    held_out: HeldOut,
    /// The weights of the best epoch; none before the first.
    best: Vec<Tensor>,
}

/// What a checkpoint has of a validation whose data are not there yet.
#[derive(Debug)]
pub(super) struct SavedValidation {
    pub archive: Archive,
    pub state: HeldOutState,
}

impl Validation {
    /// On `data`, or where each rank holds its own rows on those of all ranks; as `saved` left it, if that is given.
    pub(super) fn new(data: Arc<Dataset>, learner: &Learner, saved: Option<&SavedValidation>) -> Result<Self> {
        const NAME: &str = "the validation set";
        let holders = learner.holders();
        together(holders, || {
            learner.model.lock().matched(&data)?;
            learner.options.loss.require_variances(data.variances().is_some())?;
            Ok(((), facts_of_part(NAME, &data)))
        })?;
        let whole = holders.map(|ranks| Whole::gather(&data, ranks)).transpose()?;
        together(learner.ranks.as_deref(), || {
            let facts = match (&learner.ranks, &whole) {
                (Some(_), None) => facts_of_data(NAME, &data.fingerprint())?,
                _ => vec![],
            };
            let labels = whole.as_ref().map_or(&*data, |whole| &whole.labels);
            let held_out = HeldOut::new(
                labels.outputs(),
                learner.normalization.labels(labels.labels()),
                learner.normalization.noise(labels)?,
                learner.options.loss.auto_factor().unwrap_or(1.0),
            )?;
            let mut validation = Validation { data: data.clone(), held_out, best: vec![] };
            if let Some(saved) = saved {
                validation.restore(saved, VALIDATION, learner)?;
            }
            Ok((validation, facts))
        })
    }

    /// Takes what the model's residuals show after an epoch, and gives the learner the epsilons of the next one.
    pub(super) fn after_epoch(&mut self, learner: &mut Learner) -> Result<ValidationReport> {
        let mut squares = learner.squared_residuals(&self.data)?;
        // What follows from them is then the same on machines whose last digits differ.
        match (&learner.ranks, learner.holders()) {
            (_, Some(holders)) => squares = holders.gather(&squares)?.concat(),
            (Some(ranks), None) => ranks.take_from_first(&mut squares)?,
            (None, None) => {}
        }
        let observation = self.held_out.observe(squares);
        if observation.is_best {
            self.best = learner.model.lock().snapshot()?;
        }
        learner.set_epsilons(&self.epsilons());
        Ok(ValidationReport { loss: observation.loss, best_epoch: self.held_out.best_epoch() })
    }

    /// The epsilons of the next epoch.
    pub(super) fn epsilons(&self) -> Vec<f64> {
        self.held_out.epsilons()
    }

    pub(super) fn epochs_since_best(&self) -> u64 {
        self.held_out.epoch() - self.held_out.best_epoch()
    }

    /// Gives `model` the weights of the best epoch.
    pub(super) fn put_back(&self, model: &mut Model) -> Result<()> {
        if self.best.is_empty() { Ok(()) } else { model.put_back(&self.best) }
    }

    /// What a checkpoint keeps, beside what [`Validation::store`] adds to it.
    pub(super) fn state(&self) -> HeldOutState {
        self.held_out.state()
    }

    pub(super) fn store(&self, archive: &mut Archive, prefix: &str) -> Result<()> {
        store_snapshot(archive, &format!("{prefix}.best"), &self.best)?;
        self.held_out.store(archive, prefix);
        Ok(())
    }

    /// Goes on from a checkpoint of `learner`'s model.
    fn restore(&mut self, saved: &SavedValidation, prefix: &str, learner: &Learner) -> Result<()> {
        self.held_out.restore(&saved.archive, prefix, &saved.state)?;
        self.best = learner.model.lock().stored_snapshot(&saved.archive, &format!("{prefix}.best"))?;
        Ok(())
    }
}
