//! Training on a data set: steps, epochs, evaluation.

use super::learner::{Learner, NormalizedData, PendingStep, check_fit};
use super::metrics::Metrics;
use super::options::check_learning_rate;
use super::sampler::{Position, Sampler};
use crate::data::{Dataset, Normalization};
use crate::torch::device;
use crate::{Error, Result};
use std::ops::ControlFlow;

pub use super::learner::{SharedModel, StepReport};
pub use super::options::TrainerOptions;

/// What one epoch did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EpochReport {
    /// The number of epochs completed, this one included.
    pub epoch: u64,
    /// Mini-batches seen, those that were skipped included.
    pub batches: usize,
    /// Mini-batches that had no label to learn from.
    pub skipped: usize,
    /// The mean loss of the others, in normalised units.
    pub loss: f64,
    /// Their mean effective batch size.
    pub effective_batch_size: f64,
}

/// Trains one model, on a data set of its own or on mini-batches that the caller brings.
#[derive(Debug)]
pub struct Trainer {
    pub(super) learner: Learner,
    pub(super) data: Option<(NormalizedData, Sampler)>,
    /// Position and number of rows of a data set that the checkpoint had and this trainer has not.
    pub(super) absent: Option<(Position, usize)>,
}

impl Trainer {
    /// A trainer that starts from the model's present weights. The data are
    /// copied to the device; without them only [`Trainer::step_on`] can train.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for illegal options, [`Error::Shape`] when model
    /// and data do not fit, [`Error::InvalidArgument`] when the loss needs
    /// variances that the data do not have, [`Error::Device`].
    pub fn new(model: SharedModel, data: Option<&Dataset>, options: &TrainerOptions) -> Result<Self> {
        options.validate()?;
        let device = device::resolve(&options.device)?;
        let mut locked = model.lock();
        if let Some(data) = data {
            check_fit(&locked, data)?;
            options.loss.require_variances(data.variances().is_some())?;
        }
        let sampler = data.map(|data| Sampler::new(data.rows(), options.batch_size, options.drop_last, options.seed));
        let sampler = sampler.transpose()?;

        if let (Some(data), Some(sampler)) = (data, &sampler)
            && sampler.smallest_batch() < locked.smallest_batch()
        {
            return Err(Error::InvalidArgument(format!(
                "an epoch of {} rows in mini-batches of {} has one of a single row: BatchNorm needs at least 2",
                data.rows(),
                options.batch_size
            )));
        }

        let normalization = match (locked.normalization(), data) {
            (None, Some(data)) if options.normalize => Normalization::fit(data),
            _ => locked.normalization_or_identity(),
        };
        locked.to_device(device)?;
        let data = match (data, sampler) {
            (Some(data), Some(sampler)) => Some((NormalizedData::new(data, &locked, &normalization, device)?, sampler)),
            _ => None,
        };
        let learner = Learner::new(&model, &locked, normalization.clone(), options, device)?;
        // Nothing fails any more: a model without a trainer stays as it was.
        if data.is_some() && options.normalize {
            locked.set_normalization(normalization);
        }
        drop(locked);
        Ok(Trainer { learner, data, absent: None })
    }

    /// The model in training.
    pub fn model(&self) -> &SharedModel {
        &self.learner.model
    }

    /// What the trainer was made with; the learning rate is the present one.
    pub fn options(&self) -> &TrainerOptions {
        &self.learner.options
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.learner.engine.steps()
    }

    /// Epochs and mini-batches taken from the trainer's own data.
    pub fn position(&self) -> Position {
        self.data.as_ref().map(|(_, sampler)| sampler.position()).unwrap_or_default()
    }

    /// How many mini-batches an epoch has; 0 without data.
    pub fn batches_per_epoch(&self) -> usize {
        self.data.as_ref().map_or(0, |(_, sampler)| sampler.batches_per_epoch())
    }

    /// Adam's learning rate.
    pub fn learning_rate(&self) -> f64 {
        self.learner.options.learning_rate
    }

    /// Changes the learning rate from the next step on.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] unless it is finite and greater than 0.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        check_learning_rate(learning_rate, "learning_rate")?;
        self.learner.options.learning_rate = learning_rate;
        Ok(())
    }

    /// One step on the next mini-batch of the trainer's data. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without data; [`Error::Numerical`] when the loss is
    /// not finite: the weights are then as before the step.
    pub fn step(&mut self) -> Result<StepReport> {
        let taken = self.take()?;
        Ok(self.settle(vec![taken])?.swap_remove(0))
    }

    /// One step on the next mini-batch, whose loss the device may still be computing, and the position before it.
    fn take(&mut self) -> Result<(PendingStep, Position)> {
        let Some((data, sampler)) = &mut self.data else {
            return Err(Error::Unsupported("the trainer was made without a data set: give it mini-batches".into()));
        };
        let step = self.learner.step(data, sampler.batch())?;
        let position = sampler.position();
        sampler.advance();
        Ok((step, position))
    }

    /// Reads the losses of `taken`, the latest steps, each with the position before it. Where one is not finite, training is again where it was
    /// before that step.
    fn settle(&mut self, taken: Vec<(PendingStep, Position)>) -> Result<Vec<StepReport>> {
        let (steps, positions): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        let reports = self.learner.read(steps)?;
        let Some(failed) = reports.iter().position(|report| !report.loss.is_finite()) else { return Ok(reports) };
        if let Some((_, sampler)) = &mut self.data {
            sampler.seek(positions[failed])?;
        }
        Err(Error::Numerical(format!(
            "step {} (epoch {}): the loss is {}; try a smaller learning rate than {}",
            self.steps() + 1,
            positions[failed].epoch + 1,
            reports[failed].loss,
            self.learning_rate()
        )))
    }

    /// One step on a mini-batch of the caller's, in the user's units.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Shape`] when it does not fit the model.
    pub fn step_on(&mut self, batch: &Dataset) -> Result<StepReport> {
        let _arena = self.learner.engine.arena().enter();
        let data = self.learner.normalized(batch)?;
        let rows: Vec<usize> = (0..data.rows()).collect();
        let taken = (self.learner.step(&data, &rows)?, self.position());
        Ok(self.settle(vec![taken])?.swap_remove(0))
    }

    /// The rest of the present epoch. `watch` is shown each step and may end it early; with a GPU, whose losses
    /// are read in blocks, several steps after it was taken.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Cancelled`] when `watch` ended it: the next
    /// call goes on with the next mini-batch.
    pub fn epoch(&mut self, mut watch: impl FnMut(&Self, &StepReport) -> ControlFlow<()>) -> Result<EpochReport> {
        let mut report = EpochReport { epoch: self.position().epoch + 1, ..EpochReport::default() };
        let mut taken = 0.0;
        while self.position().epoch < report.epoch {
            for step in self.block(report.epoch)? {
                report.batches += 1;
                if step.samples_used == 0 {
                    report.skipped += 1;
                } else {
                    taken += 1.0;
                    report.loss += (step.loss - report.loss) / taken;
                    report.effective_batch_size += (step.effective_batch_size - report.effective_batch_size) / taken;
                }
                if watch(self, &step).is_break() && self.position().epoch < report.epoch {
                    return Err(Error::Cancelled(format!("training was cancelled in epoch {}", report.epoch)));
                }
            }
        }
        Ok(report)
    }

    /// The next steps of epoch number `epoch`, as many as are taken before their losses are read.
    fn block(&mut self, epoch: u64) -> Result<Vec<StepReport>> {
        let mut taken = Vec::new();
        while !self.learner.engine.is_due(taken.len()) && self.position().epoch < epoch {
            match self.take() {
                Ok(step) => taken.push(step),
                // A loss before it that is not finite comes first.
                Err(error) => return self.settle(taken).and(Err(error)),
            }
        }
        self.settle(taken)
    }

    /// An error unless `data` fits the model.
    pub(crate) fn check_fit(&self, data: &Dataset) -> Result<()> {
        check_fit(&self.learner.model.lock(), data)
    }

    /// The model's metrics on `data`, in evaluation mode.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::Numerical`] when a prediction is not finite.
    pub fn evaluate(&self, data: &Dataset) -> Result<Metrics> {
        self.learner.evaluate(data)
    }

    /// The model's predictions on `data`, in the labels' units, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn predict(&self, data: &Dataset) -> Result<Vec<f64>> {
        self.learner.predict(data)
    }
}
