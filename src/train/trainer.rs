//! Training on a data set: steps, epochs, evaluation.

use super::distributed::{DistributedOptions, Fact, Ranks, facts_of_data, facts_of_options, facts_of_part, together};
use super::ensemble::{Cause, Fault, Round, mean_report};
use super::first_loss::{Culprit, check_labels, culprit};
use super::learner::{Learner, PendingStep, smallest_batch};
use super::metrics::Metrics;
use super::options::check_learning_rate;
use super::sampler::{Position, Sampler};
use super::schedule::Schedule;
use super::step::Engine;
use super::training_data::{MaybeOwned, NormalizedData, TrainingData};
use super::validation::{SavedValidation, Validation};
use crate::data::{Columns, Dataset, Fingerprint, Normalization, Whole};
use crate::model::Model;
use crate::model::archive::{Archive, ArchiveKind};
use crate::torch::device;
use crate::{Error, Result};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use tch::Device;
use twox_hash::XxHash3_64;

pub use super::learner::{SharedModel, StepReport};
pub use super::options::TrainerOptions;

/// What a checkpoint keeps of a validation has names that begin with it.
pub(super) const VALIDATION: &str = "validation";

/// What one epoch did; of an ensemble's networks, the means over them.
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
    /// The learning rate of the last step.
    pub learning_rate: f64,
    /// What the validation set showed after it, where there is one.
    pub validation: Option<ValidationReport>,
}

/// What a validation set showed after an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ValidationReport {
    /// The mean squared error, weighted by what the variance model says of the labels' noise, in normalised units.
    pub loss: f64,
    /// The number of the epoch of least loss so far.
    pub best_epoch: u64,
}

/// Trains one model, on a data set of its own or on mini-batches that the caller brings. With the option `members` it
/// trains the networks of an ensemble, each by itself.
#[derive(Debug)]
pub struct Trainer {
    pub(super) learner: Learner,
    pub(super) data: Option<(TrainingData, Sampler)>,
    /// Which rows of the caller's data set the trainer has, where they are not all of them.
    pub(super) rows: Option<Vec<usize>>,
    /// What the data set was that the trainer trains on, or that its checkpoint had.
    pub(super) fingerprint: Option<Fingerprint>,
    /// In what data sets differed from those before, which were accepted nevertheless.
    pub(super) accepted: Vec<String>,
    /// The position in a data set that the checkpoint had and this trainer has not.
    pub(super) absent: Option<(Position, usize)>,
    pub(super) validation: Option<Validation>,
    /// As `absent`, of the validation set.
    pub(super) absent_validation: Option<SavedValidation>,
}

impl Trainer {
    /// A trainer that starts from the model's present weights. With the option `members` a model of one network becomes an
    /// ensemble, of which it is the first network; an ensemble of so many networks goes on with them. The data are copied
    /// to the device, but for more than 16 MiB of numbers on a CPU: these it shares. Without data only [`Trainer::step_on`] can train.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for illegal options, [`Error::Shape`] when model
    /// and data do not fit, [`Error::InvalidArgument`] when the loss needs
    /// variances that the data do not have, [`Error::Device`].
    pub fn new(model: SharedModel, data: Option<&Dataset>, options: &TrainerOptions) -> Result<Self> {
        options.validate()?;
        let ranks = options.distributed.as_ref().map(Ranks::join).transpose()?;
        let mut locked = model.lock();
        let fitting = Fitting::of(data, &locked, ranks.as_deref(), Some(options))?;
        let prepared = together(ranks.as_deref(), || {
            let prepared = Prepared::new(&model, &mut locked, fitting, options, Position::default(), ranks.clone())?;
            let facts = prepared.facts(&locked)?;
            Ok((prepared, facts))
        })?;
        Ok(prepared.finish(&mut locked))
    }

    /// Goes on with other data: weights, Adam's state, normalisation and the numbers of steps and epochs stay. So does
    /// the place in the epoch, where an epoch of the new data has such a mini-batch; else the next epoch begins. The same
    /// data change no bit of what follows. The next checkpoint is one of the new data.
    ///
    /// Up to 16 MiB of features are normalised again, all of them; beyond it only the rows' order is new. Either way
    /// labels are checked, and all values are read for the fingerprint.
    ///
    /// # Errors
    /// As [`Trainer::new`]: the trainer has its former data then.
    pub fn set_data(&mut self, data: &Dataset) -> Result<()> {
        let learner = &mut self.learner;
        let mut model = learner.model.lock();
        let fitting = Fitting::of(Some(data), &model, learner.ranks.as_deref(), None)?.ok_or_else(without_data)?;
        let (fitting, placed, sampler, fingerprint) = together(learner.ranks.as_deref(), || {
            learner.require_own_model(&model)?;
            fitting.check(&model, &learner.options, learner.ranks.as_deref())?;
            check_labels(data, &learner.normalization)?;
            let placed = fitting.placed(&model, &learner.normalization, model.device())?;
            let fingerprint = fitting.fingerprint();
            let facts = facts_of_data(TRAINING, &fingerprint)?;
            // A trainer that has an order of the rows keeps its memory.
            let position = self.absent.map(|(position, _)| position).unwrap_or_default();
            let sampler = || learner.options.sampler(fitting.rows(), position);
            let sampler = if self.data.is_some() { None } else { Some(sampler()?) };
            Ok(((fitting, placed, sampler, fingerprint), facts))
        })?;
        learner.engines.iter_mut().try_for_each(Engine::forget_data)?;
        match (&mut self.data, sampler) {
            // Last of what may fail.
            (Some((former, order)), _) => {
                order.set_rows(fitting.rows())?;
                *former = placed;
            }
            (data, sampler) => *data = Some(placed).zip(sampler),
        }
        if let Some(columns) = fitting.data.columns() {
            model.learn_columns(columns);
        }
        self.rows = fitting.labelled;
        self.fingerprint = Some(fingerprint);
        self.absent = None;
        Ok(())
    }

    /// Judges the model on `data` after each epoch from now on. A loss of epsilon `auto` gets its epsilon from there; for
    /// the first epoch from the labels alone. [`Session::fit`](super::session::Session::fit) ends with the weights of the
    /// best epoch.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit the model; [`Error::InvalidArgument`] when the loss needs variances that
    /// they do not have; [`Error::Corrupt`] when the trainer was loaded and they are not what it was validated on.
    pub fn set_validation(&mut self, data: Arc<Dataset>) -> Result<()> {
        let validation = Validation::new(data, &self.learner, self.absent_validation.as_ref())?;
        self.absent_validation = None;
        self.learner.set_epsilons(&validation.epsilons());
        self.validation = Some(validation);
        Ok(())
    }

    /// The model in training.
    pub fn model(&self) -> &SharedModel {
        &self.learner.model
    }

    /// What the trainer was made with; the learning rate is the present one.
    pub fn options(&self) -> &TrainerOptions {
        &self.learner.options
    }

    /// What takes the steps: `mlp_cpu` or `mlp_gpu`, which are kernels of [`report`](crate::kernels::report);
    /// `graphs_gpu`, where steps are recorded and repeated; `operations`, libtorch's with the gradient by hand; or
    /// `autograd`, libtorch's automatic differentiation.
    pub fn kernel(&self) -> &'static str {
        self.learner.engine().name()
    }

    /// How many steps were taken; of several networks, by the one that took the most.
    pub fn steps(&self) -> u64 {
        self.learner.steps()
    }

    /// In what the data sets that training went on with differed from those before, which was accepted.
    pub fn accepted(&self) -> &[String] {
        &self.accepted
    }

    /// Epochs and mini-batches taken from the trainer's own data.
    pub fn position(&self) -> Position {
        self.data.as_ref().map(|(_, sampler)| sampler.position()).unwrap_or_default()
    }

    /// How many mini-batches an epoch has; 0 without data.
    pub fn batches_per_epoch(&self) -> usize {
        self.data.as_ref().map_or(0, |(_, sampler)| sampler.batches_per_epoch())
    }

    /// The learning rate, which the schedule multiplies.
    pub fn learning_rate(&self) -> f64 {
        self.learner.options.learning_rate
    }

    /// The learning rate of the next step, as the schedule has it.
    pub fn present_rate(&self) -> f64 {
        self.learner.present_rate(self.position().epoch)
    }

    /// Changes the learning rate from the next step on; a schedule multiplies it as before.
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
        if self.learner.is_ensemble() {
            return Ok(self.take_rounds(1, u64::MAX)?.swap_remove(0));
        }
        let taken = self.take()?;
        Ok(self.settle(vec![taken], None)?.swap_remove(0))
    }

    /// The next steps of each network, at most `most`, of epochs before `epoch`.
    fn take_rounds(&mut self, most: usize, epoch: u64) -> Result<Vec<StepReport>> {
        self.check_validation()?;
        let Some((data, sampler)) = &mut self.data else { return Err(without_data()) };
        let first = sampler.position();
        let (mut rounds, mut positions) = (vec![], vec![]);
        while rounds.len() < most && sampler.position().epoch < epoch {
            let batch = |order| data.mini_batch(sampler.batch_of(order), &self.learner.normalization);
            let batches = match (0..sampler.orders()).map(batch).collect::<Result<_>>() {
                Ok(batches) => batches,
                Err(error) => return sampler.seek(first).and(Err(error)),
            };
            rounds.push(Round { batches });
            positions.push(sampler.position());
            sampler.advance();
        }
        let taken = match self.learner.take(&rounds, first.epoch) {
            Ok(taken) => taken,
            Err(error) => return sampler.seek(first).and(Err(error)),
        };
        let Some(fault) = taken.fault else {
            return Ok((0..rounds.len()).map(|at| mean_report(taken.reports.iter().map(|of| &of[at]))).collect());
        };
        let position = positions[taken.reports.iter().map(Vec::len).min().unwrap_or(0)];
        sampler.seek(position)?;
        Err(self.fault_of(fault, position, None)?)
    }

    /// What kept a network of an ensemble from its step at `position`, on `batch` or the trainer's data.
    fn fault_of(&self, fault: Fault, position: Position, batch: Option<&NormalizedData>) -> Result<Error> {
        match fault.cause {
            Cause::Error(error) => Ok(error),
            Cause::Loss(report) => self.fault(fault.network, &report, position, batch),
        }
    }

    /// One step on the next mini-batch, whose loss the device may still be computing, and the position before it.
    fn take(&mut self) -> Result<(PendingStep, Position)> {
        self.check_validation()?;
        let Some((data, sampler)) = &mut self.data else {
            return Err(without_data());
        };
        let (data, rows) = data.mini_batch(sampler.batch(), &self.learner.normalization)?;
        let position = sampler.position();
        let step = self.learner.step(&data, &rows, position.epoch)?;
        sampler.advance();
        Ok((step, position))
    }

    /// Reads the losses of `taken`, the latest steps, each with the position before it. Where one is not finite, training
    /// is again where it was before that step. The steps are on mini-batches of the trainer's data, unless a single one
    /// is on `batch`.
    fn settle(
        &mut self,
        taken: Vec<(PendingStep, Position)>,
        batch: Option<&NormalizedData>,
    ) -> Result<Vec<StepReport>> {
        let (steps, positions): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        let reports = self.learner.read(steps)?;
        let Some(failed) = reports.iter().position(|report| !report.loss.is_finite()) else { return Ok(reports) };
        if let Some((_, sampler)) = &mut self.data {
            sampler.seek(positions[failed])?;
        }
        Err(self.fault(0, &reports[failed], positions[failed], batch)?)
    }

    /// Why the loss in `report` is not finite: of the step by engine number `engine` at `position`, which is the present
    /// one, on `batch` or the trainer's data.
    fn fault(
        &self,
        engine: usize,
        report: &StepReport,
        position: Position,
        batch: Option<&NormalizedData>,
    ) -> Result<Error> {
        let (step, loss) = (self.learner.engines[engine].steps() + 1, report.loss);
        let found = match (batch, &self.data) {
            (Some(batch), _) => {
                let culprit = culprit(&self.learner, engine, batch, &(0..batch.rows).collect::<Vec<_>>())?;
                culprit.map(|culprit| (culprit.at - batch.first(), culprit))
            }
            (None, Some((data, sampler))) => {
                let (numbers, first) = (sampler.batch_of(engine), data.first());
                let (data, rows) = data.mini_batch(numbers.clone(), &self.learner.normalization)?;
                let culprit = culprit(&self.learner, engine, &data, &rows)?;
                culprit.map(|culprit| {
                    let row = numbers[culprit.at] - first;
                    (self.rows.as_ref().map_or(row, |rows| rows[row]), culprit)
                })
            }
            (None, None) => return Err(Error::Internal("a step on no data".into())),
        };
        let term = found.as_ref().map(|(_, culprit)| culprit.term);
        let says = |(row, culprit): (usize, Culprit)| {
            let fault = format!("makes the loss of step {step} {loss}: {}", culprit.reason);
            let is_the_data = step == 1 || culprit.is_out_of_range;
            is_the_data.then(|| Error::Numerical(fault).at([("row", row), culprit.element]))
        };
        let fault = found.and_then(says);
        let fault = match self.learner.holders() {
            Some(ranks) => ranks.fault_of_worst(term, fault)?,
            None => fault,
        };
        Ok(fault.unwrap_or_else(|| {
            Error::Numerical(format!(
                "step {step} (epoch {}): the loss is {loss}; try a smaller learning rate than {}",
                position.epoch + 1,
                report.learning_rate
            ))
        }))
    }

    /// One step on a mini-batch of the caller's, in the user's units.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Shape`] when it does not fit the model.
    pub fn step_on(&mut self, batch: &Dataset) -> Result<StepReport> {
        self.check_validation()?;
        if self.data.is_none() && self.learner.options.schedule.as_ref().is_some_and(Schedule::counts_epochs) {
            let message = "the schedule counts epochs of the trainer's data set, and the trainer was made without one";
            return Err(Error::Unsupported(message.into()));
        }
        let _arena = self.learner.engine().arena().enter();
        let data = self.learner.normalized(batch)?;
        let rows: Vec<usize> = (0..data.rows).collect();
        let position = self.position();
        if self.learner.is_ensemble() {
            let rounds = [Round { batches: vec![(MaybeOwned::Borrowed(&data), rows)] }];
            let taken = self.learner.take(&rounds, position.epoch)?;
            return match taken.fault {
                Some(fault) => Err(self.fault_of(fault, position, Some(&data))?),
                None => Ok(mean_report(taken.reports.iter().flatten())),
            };
        }
        let taken = (self.learner.step(&data, &rows, position.epoch)?, position);
        Ok(self.settle(vec![taken], Some(&data))?.swap_remove(0))
    }

    /// The rest of the present epoch. `watch` is shown each step and may end it early; with a GPU, and with several small
    /// networks, whose losses are read in blocks, several steps after it was taken.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Cancelled`] when `watch` ended it: the next
    /// call goes on with the next mini-batch. Where several processes train together and one of them wants to end, all
    /// do so after the same step, which is the next one at the earliest.
    pub fn epoch(&mut self, mut watch: impl FnMut(&Self, &StepReport) -> ControlFlow<()>) -> Result<EpochReport> {
        let mut report = EpochReport { epoch: self.position().epoch + 1, ..EpochReport::default() };
        let mut taken = 0.0;
        while self.position().epoch < report.epoch {
            for step in self.block(report.epoch)? {
                report.batches += 1;
                report.learning_rate = step.learning_rate;
                if step.samples_used == 0 {
                    report.skipped += 1;
                } else {
                    taken += 1.0;
                    report.loss += (step.loss - report.loss) / taken;
                    report.effective_batch_size += (step.effective_batch_size - report.effective_batch_size) / taken;
                }
                let wants_stop = watch(self, &step).is_break();
                if self.position().epoch < report.epoch && self.stops(wants_stop) {
                    return Err(Error::Cancelled(format!("training was cancelled in epoch {}", report.epoch)));
                }
            }
        }
        if let Some(validation) = &mut self.validation {
            let shown = validation.after_epoch(&mut self.learner)?;
            self.learner.observe(shown.loss);
            report.validation = Some(shown);
        }
        Ok(report)
    }

    /// Whether to stop before the next step. Alone, it is what this process wants; where several train together, it is the
    /// same on all of them, and true after the step that follows some process's wish.
    pub(crate) fn stops(&self, wants_stop: bool) -> bool {
        let Some(ranks) = &self.learner.ranks else { return wants_stop };
        if wants_stop {
            ranks.ask_to_stop();
        }
        ranks.stops()
    }

    /// As [`Trainer::stops`] between epochs: at once on all processes, each of which calls it.
    ///
    /// # Errors
    /// [`Error::Distributed`].
    pub(crate) fn stops_after_epoch(&self, wants_stop: bool) -> Result<bool> {
        self.learner.ranks.as_ref().map_or(Ok(wants_stop), |ranks| ranks.any(wants_stop || ranks.stops()))
    }

    /// Whether the validation set has seen no better epoch for as many epochs as the options' patience.
    pub(crate) fn is_out_of_patience(&self) -> bool {
        let validation = self.validation.as_ref().zip(self.learner.options.patience);
        validation.is_some_and(|(validation, patience)| validation.epochs_since_best() >= patience)
    }

    /// Goes back to the weights of the epoch that the validation set found best.
    pub(crate) fn keep_best(&mut self) -> Result<()> {
        match &self.validation {
            Some(validation) => validation.put_back(&mut self.learner.model.lock()),
            None => Ok(()),
        }
    }

    /// Sets the epsilons that the loss leaves open, one per output, in normalised units.
    pub(super) fn set_epsilons(&mut self, epsilons: &[f64]) {
        self.learner.set_epsilons(epsilons);
    }

    /// Takes the loss on rows that training does not see after an epoch, for the schedule.
    pub(super) fn observe(&mut self, loss: f64) {
        self.learner.observe(loss);
    }

    /// The squares of what the predictions on `data` miss of the labels, in normalised units, row-major.
    pub(super) fn squared_residuals(&self, data: &Dataset) -> Result<Vec<f64>> {
        self.learner.squared_residuals(data)
    }

    /// Whether a step is work for the library's own kernel on the CPU, which can be held to one thread.
    pub(super) fn runs_on_one_thread(&self) -> bool {
        self.learner.engine().runs_on_one_thread()
    }

    /// An error where epsilon or the learning rate follows a validation set that is not there.
    fn check_validation(&self) -> Result<()> {
        let schedule = self.learner.options.schedule.as_ref();
        if !self.learner.is_validated && schedule.is_some_and(Schedule::needs_validation) {
            let message = "the schedule 'plateau' follows the loss on a validation set: give the trainer one";
            return Err(Error::InvalidArgument(message.into()));
        }
        if self.learner.options.loss.auto_factor().is_some() && !self.learner.is_validated {
            return Err(Error::InvalidArgument(
                "the epsilon 'auto' is found on a validation set: give the trainer one, or call fit".into(),
            ));
        }
        Ok(())
    }

    /// The next steps of epoch number `epoch`, as many as are taken before their losses are read.
    fn block(&mut self, epoch: u64) -> Result<Vec<StepReport>> {
        if self.learner.is_ensemble() {
            let rounds = self.learner.rounds(self.learner.options.batch_size);
            return self.take_rounds(rounds, epoch);
        }
        let mut taken = Vec::new();
        while !self.learner.engine().is_due(taken.len()) && self.position().epoch < epoch {
            match self.take() {
                Ok(step) => taken.push(step),
                // A loss before it that is not finite comes first.
                Err(error) => return self.settle(taken, None).and(Err(error)),
            }
        }
        self.settle(taken, None)
    }

    /// An error unless `data` fits the model.
    pub(crate) fn check_fit(&self, data: &Dataset) -> Result<()> {
        self.learner.model.lock().matched(data).map(|_| ())
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

/// A trainer that has changed nothing yet of the model that it is for, but its device.
pub(super) struct Prepared {
    pub(super) trainer: Trainer,
    /// What the features and labels of its data are called.
    columns: Option<Arc<Columns>>,
}

impl Prepared {
    /// For `locked`, the model behind `model`; at `position` in the data or, where an epoch has no such mini-batch, at the
    /// next epoch. `ranks` have joined by the options.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub(super) fn new(
        model: &SharedModel,
        locked: &mut Model,
        data: Option<Fitting>,
        options: &TrainerOptions,
        position: Position,
        ranks: Option<Arc<Ranks>>,
    ) -> Result<Self> {
        let device = device::resolve(&options.device)?;
        check_loss(locked, options)?;
        check_batch_norm(locked, ranks.as_deref())?;
        if let Some(fitting) = &data {
            fitting.check(locked, options, ranks.as_deref())?;
        }
        let normalization = match (locked.normalization(), &data) {
            (None, Some(fitting)) if options.normalize => fitting.normalization(options),
            _ => locked.normalization_or_identity(),
        };
        // After the statistics, which take memory of their own.
        let sampler = |fitting: &Fitting| options.sampler(fitting.rows(), position);
        let sampler = data.as_ref().map(sampler).transpose()?;
        if let Some(fitting) = &data {
            check_labels(fitting.given, &normalization)?;
        }
        locked.to_device(device)?;
        let placed = |fitting: &Fitting| fitting.placed(locked, &normalization, device);
        let placed = data.as_ref().map(placed).transpose()?;
        let fingerprint = data.as_ref().map(Fitting::fingerprint);
        let single = locked.options().clone();
        let is_grown = options.members.map(|members| locked.grow(members)).transpose()? == Some(true);
        let learner = match Learner::new(model, locked, normalization, options, device, ranks) {
            Err(error) if is_grown => {
                locked.shrink(single);
                return Err(error);
            }
            learner => learner?,
        };
        let columns = data.as_ref().and_then(|fitting| fitting.data.columns()).cloned();
        let trainer = Trainer {
            learner,
            data: placed.zip(sampler),
            rows: data.and_then(|fitting| fitting.labelled),
            fingerprint,
            accepted: vec![],
            absent: None,
            validation: None,
            absent_validation: None,
        };
        Ok(Prepared { trainer, columns })
    }

    /// What must be the same on all ranks; nothing for one process.
    pub(super) fn facts(&self, locked: &Model) -> Result<Vec<Fact>> {
        let Trainer { learner, fingerprint, .. } = &self.trainer;
        if learner.ranks.is_none() {
            return Ok(vec![]);
        }
        let mut facts = vec![Fact::new("the library's version", env!("CARGO_PKG_VERSION"))];
        facts.extend(facts_of_options("model", locked.options(), &[])?);
        facts.extend(facts_of_options("trainer", &learner.options, &["device", "distributed"])?);
        let distributed = learner.options.distributed.clone().map(DistributedOptions::without_place);
        facts.extend(facts_of_options("trainer.distributed", &distributed, &[])?);
        if let Some(fingerprint) = fingerprint {
            facts.extend(facts_of_data(TRAINING, fingerprint)?);
        }
        let position = self.trainer.position();
        let values = |archive: Archive| Ok::<_, Error>(format!("{:016x}", XxHash3_64::oneshot(&archive.to_bytes()?)));
        let (mut weights, mut optimizer) =
            (Archive::new(ArchiveKind::Model, &())?, Archive::new(ArchiveKind::Training, &())?);
        locked.store(&mut weights)?;
        learner.engine().store(&mut optimizer)?;
        facts.extend([
            Fact::new("the number of steps taken", learner.engine().steps()),
            Fact::new("the position in the data", format!("epoch {}, mini-batch {}", position.epoch, position.batch)),
            Fact::new("the model's weights or normalisation", values(weights)?),
            Fact::new("the optimiser's state", values(optimizer)?),
        ]);
        Ok(facts)
    }

    /// The trainer. The model takes over what it learns from the data.
    pub(super) fn finish(self, locked: &mut Model) -> Trainer {
        let Prepared { trainer, columns } = self;
        let learner = &trainer.learner;
        if trainer.data.is_some() && learner.options.normalize {
            locked.set_normalization(learner.normalization.clone());
        }
        if let Some(columns) = &columns {
            locked.learn_columns(columns);
        }
        // What was known of the errors of other weights.
        locked.forget_error_bars();
        trainer
    }
}

/// What the training data are called in messages.
const TRAINING: &str = "the training data";

/// A data set that a model can be trained on.
pub(super) struct Fitting<'a> {
    /// The caller's.
    given: &'a Dataset,
    /// The rows that have a label, with the model's features.
    data: Dataset,
    /// Which rows these are, where they are not all.
    labelled: Option<Vec<usize>>,
    /// What is known of the rows of all ranks, where each holds its own.
    divided: Option<Divided>,
}

/// What is known of rows of which this rank holds a part.
struct Divided {
    whole: Whole,
    fingerprint: Fingerprint,
    /// The statistics, where the model is to have them.
    normalization: Option<Normalization>,
}

impl<'a> Fitting<'a> {
    /// `data`, if there are some, for `model`. A model that has no normalisation gets one by `options`, if they are given and
    /// say so. All ranks call this.
    ///
    /// # Errors
    /// Where they do not fit the model, or the ranks' rows not each other.
    pub(super) fn of(
        data: Option<&'a Dataset>,
        model: &Model,
        ranks: Option<&Ranks>,
        options: Option<&TrainerOptions>,
    ) -> Result<Option<Self>> {
        let holders = ranks.and_then(Ranks::with_own_rows);
        let statistics = options.filter(|options| options.normalize && model.normalization().is_none());
        let fitting = together(ranks, || {
            let has = |what: bool| if what { "given" } else { "none" };
            let mut facts = vec![
                Fact::new("trainer.distributed.rows", if holders.is_some() { "own" } else { "all" }),
                Fact::new(TRAINING, has(data.is_some())),
                Fact::new("the model's normalisation", has(statistics.is_none())),
            ];
            let Some(given) = data else { return Ok((None, facts)) };
            let (data, labelled) = labelled(given)?;
            let data = model.matched(&data)?.into_owned();
            if holders.is_some() {
                facts.extend(facts_of_part(TRAINING, &data));
            }
            Ok((Some(Fitting { given, data, labelled, divided: None }), facts))
        })?;
        let (fitting, holders) = match (fitting, holders) {
            (Some(fitting), Some(holders)) => (fitting, holders),
            (fitting, _) => return Ok(fitting),
        };
        let whole = Whole::gather(&fitting.data, holders)?;
        let fingerprint = whole.fingerprint(&fitting.data, holders)?;
        let normalization =
            statistics.map(|options| whole.normalization(&fitting.data, holders, options.normalization)).transpose()?;
        Ok(Some(Fitting { divided: Some(Divided { whole, fingerprint, normalization }), ..fitting }))
    }

    /// How many rows there are, those of all ranks.
    pub(super) fn rows(&self) -> usize {
        self.divided.as_ref().map_or(self.data.rows(), |divided| divided.whole.rows())
    }

    fn fingerprint(&self) -> Fingerprint {
        self.divided.as_ref().map_or_else(|| self.data.fingerprint(), |divided| divided.fingerprint.clone())
    }

    /// In what the data differ from those that `before` was taken of.
    pub(super) fn difference(&self, before: &Fingerprint) -> Option<String> {
        match &self.divided {
            Some(divided) => before.difference_from(&divided.fingerprint),
            None => before.difference(&self.data),
        }
    }

    fn normalization(&self, options: &TrainerOptions) -> Normalization {
        let found = self.divided.as_ref().and_then(|divided| divided.normalization.clone());
        found.unwrap_or_else(|| Normalization::fit(&self.data, options.normalization))
    }

    /// For training on `device`.
    fn placed(&self, model: &Model, normalization: &Normalization, device: Device) -> Result<TrainingData> {
        let whole = self.divided.as_ref().map(|divided| &divided.whole);
        TrainingData::new(&self.data, whole, model, normalization, device)
    }

    /// An error where the data lack what the loss needs, or would make a mini-batch that is too small.
    fn check(&self, model: &Model, options: &TrainerOptions, ranks: Option<&Ranks>) -> Result<()> {
        options.loss.require_variances(self.data.has_variances())?;
        let smallest = match self.rows() % options.batch_size {
            rest if rest > 0 && !options.drop_last => rest,
            _ => options.batch_size,
        };
        let fewest = smallest_batch(model, ranks);
        if smallest < fewest {
            let smallest = if smallest == 1 { "a single row".into() } else { format!("{smallest} rows") };
            return Err(Error::InvalidArgument(format!(
                "an epoch of {} rows in mini-batches of {} has one of {smallest}: BatchNorm needs at least {fewest}",
                self.rows(),
                options.batch_size
            )));
        }
        Ok(())
    }
}

/// An error where a rank could have too few rows of a mini-batch for the statistics of a BatchNorm.
fn check_batch_norm(model: &Model, ranks: Option<&Ranks>) -> Result<()> {
    match ranks.and_then(Ranks::with_own_rows) {
        Some(ranks) if ranks.norm_group().is_none() && model.smallest_batch() > 1 => Err(Error::config(
            "trainer.distributed.batch_norm",
            "is 'local', must be 'synchronised' with rows 'own': a process may have a single row of a mini-batch, which \
             has no statistics",
        )),
        _ => Ok(()),
    }
}

fn without_data() -> Error {
    Error::Unsupported("the trainer was made without a data set: give it mini-batches".into())
}

/// An error unless the network has the outputs that the loss trains.
fn check_loss(model: &Model, options: &TrainerOptions) -> Result<()> {
    match (options.loss.likelihood().is_some(), model.predicts_variance()) {
        (true, false) => Err(Error::config(
            "trainer.loss.kind",
            "is a likelihood, which needs a network that predicts its variance: a model of kind 'mean_variance'",
        )),
        (false, true) => Err(Error::config(
            "trainer.loss.kind",
            "trains no variance, the model predicts one: must be 'gaussian' or 'beta_nll'",
        )),
        _ => Ok(()),
    }
}

/// The rows of `data` that have a label, and their numbers where they are not all.
pub(super) fn labelled(data: &Dataset) -> Result<(Cow<'_, Dataset>, Option<Vec<usize>>)> {
    Ok(match data.rows_with_labels() {
        Some(rows) if rows.is_empty() => {
            return Err(Error::InvalidArgument("every label is missing or has an infinite variance".into()));
        }
        Some(rows) => (Cow::Owned(data.subset(&rows)?), Some(rows)),
        None => (Cow::Borrowed(data), None),
    })
}
