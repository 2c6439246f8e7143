//! Training: mini-batch steps, epochs, evaluation, and a state that can be saved.

use crate::base::memory::collect;
use crate::base::options::require;
use crate::data::{Dataset, Normalization};
use crate::kernels::adam_step::AdamOptions;
use crate::model::Model;
use crate::model::archive::{Archive, ArchiveKind};
use crate::model::batch;
use crate::torch::Precision;
use crate::torch::device;
use crate::train::loss::{Epsilon, Loss, MinimumBatch};
use crate::train::metrics::Metrics;
use crate::train::sampler::{Position, Sampler};
use crate::train::step::{Engine, MiniBatch, StepLoss};
use crate::{Error, Result};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Tensor};

/// A model that a trainer changes while others may predict with it.
pub type SharedModel = Arc<Mutex<Model>>;

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainerOptions {
    /// The loss (default `biv` with epsilon 0.1).
    pub loss: Loss,
    /// The number of rows in a mini-batch (default 256).
    pub batch_size: usize,
    /// Adam's learning rate (default 0.001).
    pub learning_rate: f64,
    /// Adam's other constants.
    pub adam: AdamOptions,
    /// Whether features and labels are normalised by the training data's
    /// statistics (default true). A model that has a normalisation keeps it.
    pub normalize: bool,
    /// Whether an epoch leaves its last mini-batch out when that is not complete (default true).
    pub drop_last: bool,
    /// The seed of the order of the rows (default 0).
    pub seed: u64,
    /// `cpu`, `cuda`, `cuda:N` or `auto` (default `cpu`).
    pub device: String,
    /// The arithmetic of the network in training and evaluation (default `f32`). With `tf32` on a GPU, libtorch's
    /// switches for it, which are the whole process's, are on as long as the trainer lives.
    pub precision: Precision,
    /// Whether a step on a GPU is recorded as a CUDA graph and repeated (default false); needs `libbiv_cuda.so`.
    /// On a CPU it makes no difference.
    pub cuda_graph: bool,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        TrainerOptions {
            loss: Loss::default(),
            batch_size: 256,
            learning_rate: 1e-3,
            adam: AdamOptions::default(),
            normalize: true,
            drop_last: true,
            seed: 0,
            device: "cpu".into(),
            precision: Precision::F32,
            cuda_graph: false,
        }
    }
}

impl TrainerOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        self.loss.validate("trainer.loss")?;
        require(self.batch_size >= 1, "trainer.batch_size", self.batch_size, "at least 1")?;
        check_learning_rate(self.learning_rate, "trainer.learning_rate")?;
        if let Loss::Iv { epsilon } | Loss::Biv { epsilon } = &self.loss
            && let Epsilon::Minimum(MinimumBatch::Size(size)) = epsilon
        {
            let path = "trainer.loss.epsilon.min_effective_batch_size";
            require(*size < self.batch_size as f64, path, size, &format!("less than batch_size, {}", self.batch_size))?;
        }
        let AdamOptions { beta1, beta2, epsilon, weight_decay } = self.adam;
        require((0.0..1.0).contains(&beta1), "trainer.adam.beta1", beta1, "in [0, 1)")?;
        require((0.0..1.0).contains(&beta2), "trainer.adam.beta2", beta2, "in [0, 1)")?;
        require(epsilon > 0.0, "trainer.adam.epsilon", epsilon, "greater than 0")?;
        require(weight_decay >= 0.0, "trainer.adam.weight_decay", weight_decay, "at least 0")
    }
}

fn check_learning_rate(rate: f64, path: &str) -> Result<()> {
    require(rate > 0.0 && rate.is_finite(), path, rate, "greater than 0 and finite")
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// The mini-batch's loss before the step, in normalised units.
    pub loss: f64,
    /// The effective batch size `(sum w)^2 / sum w^2`.
    pub effective_batch_size: f64,
    /// The epsilon used, in normalised units; 0 for losses without one.
    pub epsilon: f64,
    /// The number of rows in the mini-batch.
    pub rows: usize,
    /// How many of them have a weight. With 0 no step was taken.
    pub samples_used: usize,
}

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

/// Data as the network wants them: normalised, on the device.
#[derive(Debug)]
struct NormalizedData {
    features: batch::Source,
    labels: Tensor,
    /// In the host's memory, where the weights are computed.
    variances: Option<Vec<f64>>,
}

impl NormalizedData {
    fn new(data: &Dataset, shape: &[usize], normalization: &Normalization, device: Device) -> Result<Self> {
        Ok(NormalizedData {
            features: batch::Source::new(data, shape, normalization, device)?,
            labels: batch::labels(data, normalization, device)?,
            variances: data.variances().map(|variances| collect(normalization.variances(variances))).transpose()?,
        })
    }
}

/// Trains one model, on a data set of its own or on mini-batches that the caller brings.
#[derive(Debug)]
pub struct Trainer {
    learner: Learner,
    data: Option<(NormalizedData, Sampler)>,
    /// Position and number of rows of a data set that the checkpoint had and this trainer has not.
    absent: Option<(Position, usize)>,
}

/// The part of a trainer that takes steps, on whatever data.
#[derive(Debug)]
struct Learner {
    model: SharedModel,
    options: TrainerOptions,
    normalization: Normalization,
    /// The cutoff in normalised units, one per output.
    thresholds: Vec<f64>,
    engine: Engine,
    device: Device,
}

/// A step of which the loss may still be on the device.
#[derive(Debug)]
struct Taken {
    report: StepReport,
    loss: Option<StepLoss>,
    /// Before it.
    position: Position,
}

/// What a checkpoint keeps beside the arrays.
#[derive(Serialize, Deserialize)]
struct TrainerState {
    model: crate::model::ModelOptions,
    trainer: TrainerOptions,
    steps: u64,
    position: Option<Position>,
    rows: usize,
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
        let thresholds = normalization.label_std.iter().map(|std| match options.loss {
            Loss::CutoffMse { threshold: Some(threshold) } => threshold / (std * std),
            _ => 1.0,
        });
        let thresholds = thresholds.collect();
        locked.to_device(device)?;
        let data = match (data, sampler) {
            (Some(data), Some(sampler)) => {
                Some((NormalizedData::new(data, locked.input_shape(), &normalization, device)?, sampler))
            }
            _ => None,
        };
        let engine = Engine::new(&locked, &options.adam, options.precision, options.cuda_graph)?;
        // Nothing fails any more: a model without a trainer stays as it was.
        if data.is_some() && options.normalize {
            locked.set_normalization(normalization.clone());
        }
        drop(locked);
        let options = options.clone();
        let learner = Learner { model, options, normalization, thresholds, engine, device };
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

    /// One step on the next mini-batch, whose loss the device may still be computing.
    fn take(&mut self) -> Result<Taken> {
        let Some((data, sampler)) = &mut self.data else {
            return Err(Error::Unsupported("the trainer was made without a data set: give it mini-batches".into()));
        };
        let (report, loss) = self.learner.step(data, sampler.batch())?;
        let position = sampler.position();
        sampler.advance();
        Ok(Taken { report, loss, position })
    }

    /// Reads the losses of `taken`, the latest steps. Where one is not finite, training is again where it was
    /// before that step.
    fn settle(&mut self, taken: Vec<Taken>) -> Result<Vec<StepReport>> {
        let positions: Vec<Position> = taken.iter().map(|taken| taken.position).collect();
        let reports = self.learner.read(taken)?;
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
        let _memory = self.learner.engine.memory().enter();
        let data = {
            let model = self.learner.model.lock();
            check_fit(&model, batch)?;
            NormalizedData::new(batch, model.input_shape(), &self.learner.normalization, self.learner.device)?
        };
        let rows: Vec<usize> = (0..batch.rows()).collect();
        let (report, loss) = self.learner.step(&data, &rows)?;
        let taken = Taken { report, loss, position: self.position() };
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
        Metrics::new(&self.predict_normalized(data)?, data.labels(), &self.learner.normalization)
    }

    /// The model's predictions on `data`, in the labels' units, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn predict(&self, data: &Dataset) -> Result<Vec<f64>> {
        collect(self.learner.normalization.predictions(&self.predict_normalized(data)?))
    }

    fn predict_normalized(&self, data: &Dataset) -> Result<Vec<f64>> {
        let _memory = self.learner.engine.memory().enter();
        let model = self.learner.model.lock();
        check_fit(&model, data)?;
        model.predict_normalized(data.features().rows(), &self.learner.normalization, self.learner.options.precision)
    }

    /// Saves everything that [`Trainer::load`] needs to go on, bit for bit on a CPU.
    ///
    /// # Errors
    /// [`Error::Io`]: what was at `path` is then still there.
    pub fn save(&self, path: &Path) -> Result<()> {
        let model = self.learner.model.lock();
        let own = self.data.as_ref().map(|(data, sampler)| (sampler.position(), data.labels.size()[0] as usize));
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

impl Learner {
    /// One step on the rows `rows` of `data`. Without a label to learn from it has no loss; else the report
    /// still lacks it.
    fn step(&mut self, data: &NormalizedData, rows: &[usize]) -> Result<(StepReport, Option<StepLoss>)> {
        let outputs = self.thresholds.len();
        let variances = data.variances.as_ref().map(|variances| crate::data::gather(variances, outputs, rows));
        let variances = variances.transpose()?;
        let weights = self.options.loss.weights(rows.len(), outputs, variances.as_deref(), &self.thresholds)?;
        let report = StepReport {
            loss: 0.0,
            effective_batch_size: weights.effective_batch_size,
            epsilon: weights.epsilon,
            rows: rows.len(),
            samples_used: weights.samples_used,
        };
        if weights.samples_used == 0 {
            return Ok((report, None));
        }
        let model = self.model.lock();
        if model.device() != self.device {
            return Err(Error::Device("another trainer has moved the model to another device".into()));
        }
        if rows.len() < model.smallest_batch() {
            return Err(Error::Shape("a mini-batch of 1 row: BatchNorm needs at least 2 in training".into()));
        }
        let coefficients: Vec<f32> = weights.coefficients.iter().map(|&c| c as f32).collect();
        let (features, labels) = (&data.features, &data.labels);
        let batch =
            MiniBatch { features, labels, rows, coefficients: &coefficients, normalization: &self.normalization };
        crate::base::fault::point();
        let loss = self.engine.step(&model, &batch, self.options.learning_rate)?;
        Ok((report, Some(loss)))
    }

    /// The reports of `taken`, the latest steps, with their losses.
    fn read(&mut self, taken: Vec<Taken>) -> Result<Vec<StepReport>> {
        let (mut reports, mut losses) = (Vec::new(), Vec::new());
        for Taken { report, loss, .. } in taken {
            reports.push(report);
            losses.extend(loss);
        }
        let mut values = self.engine.read(&self.model.lock(), &losses)?.into_iter();
        for report in reports.iter_mut().filter(|report| report.samples_used > 0) {
            report.loss = values.next().unwrap_or(f64::NAN);
        }
        Ok(reports)
    }
}

/// An error unless rows of `data` go into the model and labels come out.
fn check_fit(model: &Model, data: &Dataset) -> Result<()> {
    for (what, model, data) in [("features", model.inputs(), data.width()), ("labels", model.outputs(), data.outputs())]
    {
        if model != data {
            return Err(Error::Shape(format!("rows of the data set have {data} {what}, the model has {model}")));
        }
    }
    Ok(())
}
