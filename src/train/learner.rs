//! Steps of one model on whatever data, and its evaluation.

use super::distributed::{Ranks, facts_of_part, together};
use super::first_loss::check_labels;
use super::loss::{Loss, Weights};
use super::metrics::Metrics;
use super::options::TrainerOptions;
use super::schedule::Plateau;
use super::step::{Engine, MiniBatch, StepLoss, StepOptions};
use super::training_data::NormalizedData;
use crate::base::fault;
use crate::data::{Dataset, Normalization, Whole, gather};
use crate::kernels::optimizer::OptimizerOptions;
use crate::model::{Model, Prediction};
use crate::torch::ending;
use crate::{Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use tch::Device;

/// A model that a trainer changes while others may predict with it.
pub type SharedModel = Arc<Mutex<Model>>;

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
    /// The learning rate of the step.
    pub learning_rate: f64,
}

impl StepReport {
    /// Of a step on `rows` rows with these `weights`, without its loss.
    pub(super) fn new(weights: &Weights, rows: usize, learning_rate: f64) -> Self {
        StepReport {
            loss: 0.0,
            effective_batch_size: weights.effective_batch_size,
            epsilon: weights.epsilon,
            rows,
            samples_used: weights.samples_used,
            learning_rate,
        }
    }
}

/// A step of which the loss may still be on the device.
#[derive(Debug)]
pub(super) struct PendingStep {
    /// Without the loss.
    report: StepReport,
    /// None where no label had a weight.
    loss: Option<StepLoss>,
}

/// The weights of the rows `rows` of data with these `variances`. `parameters` are one per output: [`Loss::weights`].
pub(super) fn weigh(loss: &Loss, parameters: &[f64], variances: Option<&[f64]>, rows: &[usize]) -> Result<Weights> {
    let outputs = parameters.len();
    let variances = variances.map(|variances| gather(variances, outputs, rows)).transpose()?;
    loss.weights(rows.len(), outputs, variances.as_deref(), parameters)
}

/// An error where a mini-batch of `rows` rows is too small for `model`, in training by all `ranks` if there are several.
pub(super) fn require_rows(model: &Model, rows: usize, ranks: Option<&Ranks>) -> Result<()> {
    let fewest = smallest_batch(model, ranks);
    if rows < fewest {
        let rows = if rows == 1 { "1 row".into() } else { format!("{rows} rows") };
        return Err(Error::Shape(format!("a mini-batch of {rows}: BatchNorm needs at least {fewest} in training")));
    }
    Ok(())
}

/// The fewest rows that a mini-batch may have.
pub(super) fn smallest_batch(model: &Model, ranks: Option<&Ranks>) -> usize {
    let alone = model.smallest_batch();
    ranks.map_or(alone, |ranks| ranks.smallest_batch(alone))
}

/// The learning rate of the step that follows `begun` others, in epoch `epoch`, counted from 0.
pub(super) fn learning_rate(options: &TrainerOptions, plateau: &Plateau, epoch: u64, begun: u64) -> f64 {
    let factor = options.schedule.as_ref().map(|schedule| schedule.factor(epoch, begun, plateau));
    options.learning_rate * factor.unwrap_or(1.0)
}

/// The part of a trainer that takes steps, on whatever data.
#[derive(Debug)]
pub(super) struct Learner {
    pub(super) model: SharedModel,
    pub(super) options: TrainerOptions,
    /// One for the model or, where each of its networks is trained by itself, one for each of them.
    pub(super) engines: Vec<Engine>,
    pub(super) normalization: Normalization,
    /// What a schedule knows of the validation losses.
    pub(super) plateau: Plateau,
    /// One per output, in normalised units: the cutoff, or the epsilon that was found.
    pub(super) parameters: Vec<f64>,
    /// Whether rows that training does not see are judged after each epoch: they find what loss and schedule leave open.
    pub(super) is_validated: bool,
    /// The processes that train together, if this is one of several.
    pub(super) ranks: Option<Arc<Ranks>>,
    device: Device,
    /// How many networks the model had.
    networks: usize,
    /// How many steps this learner has taken.
    taken: u64,
}

impl Learner {
    /// For `locked`, the model behind `model`, which is on `device`.
    pub(super) fn new(
        model: &SharedModel,
        locked: &Model,
        normalization: Normalization,
        options: &TrainerOptions,
        device: Device,
        ranks: Option<Arc<Ranks>>,
    ) -> Result<Self> {
        let parameters = normalization.label_std.iter().map(|std| match options.loss {
            Loss::CutoffMse { threshold: Some(threshold) } => threshold / (std * std),
            Loss::CutoffMse { threshold: None } => 1.0,
            // Equal weights, until residuals say otherwise.
            _ => f64::INFINITY,
        });
        let update = options.update();
        let steps = StepOptions {
            precision: options.precision,
            cuda_graph: options.cuda_graph,
            plain_adam: matches!(update.optimizer, OptimizerOptions::Adam(_)) && update.clip_norm.is_none(),
            likelihood: options.loss.likelihood(),
            ranks: ranks.clone(),
        };
        let engine = |number| Engine::new(locked, number, &update, steps.clone());
        let engines = match options.members {
            Some(members) if members > 1 => (0..members).map(|number| engine(Some(number))).collect::<Result<_>>()?,
            _ => vec![engine(None)?],
        };
        Ok(Learner {
            model: model.clone(),
            options: options.clone(),
            engines,
            networks: locked.members(),
            plateau: Plateau::default(),
            parameters: parameters.collect(),
            is_validated: false,
            normalization,
            ranks,
            device,
            taken: 0,
        })
    }

    /// Sets the epsilons that a loss leaves open, one per output, in normalised units.
    pub(super) fn set_epsilons(&mut self, epsilons: &[f64]) {
        self.is_validated = true;
        if self.options.loss.auto_factor().is_some() {
            self.parameters.copy_from_slice(epsilons);
        }
    }

    /// The engine, of several the first.
    pub(super) fn engine(&self) -> &Engine {
        &self.engines[0]
    }

    /// How many steps were taken; of several networks, by the one that took the most.
    pub(super) fn steps(&self) -> u64 {
        self.engines.iter().map(Engine::steps).max().unwrap_or(0)
    }

    /// An error where the model is no longer what it was when the trainer was made.
    pub(super) fn require_own_model(&self, model: &Model) -> Result<()> {
        if model.members() != self.networks {
            return Err(Error::InvalidArgument("another trainer has made an ensemble of the model".into()));
        }
        if model.device() != self.device {
            return Err(Error::Device("another trainer has moved the model to another device".into()));
        }
        Ok(())
    }

    /// The learning rate of the next step, in epoch `epoch`, counted from 0.
    pub(super) fn present_rate(&self, epoch: u64) -> f64 {
        learning_rate(&self.options, &self.plateau, epoch, self.engine().begun())
    }

    /// Takes the validation loss after an epoch, for the schedule.
    pub(super) fn observe(&mut self, loss: f64) {
        if let Some(schedule) = &self.options.schedule {
            schedule.observe(loss, &mut self.plateau);
        }
    }

    /// The ranks, where each of them holds its own rows.
    pub(super) fn holders(&self) -> Option<&Ranks> {
        self.ranks.as_deref().and_then(Ranks::with_own_rows)
    }

    /// The caller's mini-batch, normalised. Where each rank holds its own rows, `data` are this rank's.
    pub(super) fn normalized(&self, data: &Dataset) -> Result<NormalizedData> {
        let model = self.model.lock();
        let data = together(self.holders(), || {
            let data = model.matched(data)?;
            self.options.loss.require_variances(data.variances().is_some())?;
            check_labels(&data, &self.normalization)?;
            let facts = facts_of_part("the mini-batch", &data);
            Ok((data, facts))
        })?;
        let whole = self.holders().map(|ranks| Whole::gather(&data, ranks)).transpose()?;
        NormalizedData::new(&data, whole.as_ref(), model.input_shape(), &self.normalization, self.device)
    }

    /// The factors of the squared residuals of the rows `rows` in their loss.
    pub(super) fn coefficients(&self, data: &NormalizedData, rows: &[usize]) -> Result<Vec<f64>> {
        Ok(weigh(&self.options.loss, &self.parameters, data.variances.as_deref(), rows)?.coefficients)
    }

    /// One step on the rows `rows` of `data`, in epoch `epoch`, counted from 0.
    pub(super) fn step(&mut self, data: &NormalizedData, rows: &[usize], epoch: u64) -> Result<PendingStep> {
        let weights = weigh(&self.options.loss, &self.parameters, data.variances.as_deref(), rows)?;
        let model = Arc::clone(&self.model);
        let model = model.lock();
        self.step_by(0, &model, data, rows, &weights, epoch)
    }

    /// One step by engine number `engine` for `model`, the learner's own, on rows with these `weights`.
    pub(super) fn step_by(
        &mut self,
        engine: usize,
        model: &Model,
        data: &NormalizedData,
        rows: &[usize],
        weights: &Weights,
        epoch: u64,
    ) -> Result<PendingStep> {
        let _at_work = ending::at_work();
        let rate = learning_rate(&self.options, &self.plateau, epoch, self.engines[engine].begun());
        let report = StepReport::new(weights, rows.len(), rate);
        if weights.samples_used == 0 {
            return Ok(PendingStep { report, loss: None });
        }
        self.require_own_model(model)?;
        require_rows(model, rows.len(), self.ranks.as_deref())?;
        let coefficients: Vec<f32> = weights.coefficients.iter().map(|&c| c as f32).collect();
        let variances = self.options.loss.likelihood().and(data.variances.as_ref());
        let variances = variances.map(|variances| gather(variances, self.parameters.len(), rows)).transpose()?;
        let noise = variances.map(|variances| {
            // A masked label has no weight: any number serves.
            let finite = variances.into_iter().map(|v| if v.is_finite() { v as f32 } else { 0.0 });
            finite.collect::<Vec<f32>>()
        });
        let batch = MiniBatch {
            features: &data.features,
            labels: &data.labels,
            held: data.held.as_ref(),
            rows,
            coefficients: &coefficients,
            variances: noise.as_deref(),
            normalization: &self.normalization,
        };
        fault::point();
        let loss = self.engines[engine].step(model, &batch, report.learning_rate)?;
        self.taken += 1;
        // CUDA's libraries, unlike libtorch's, do not tell of what they leave to the end of the process.
        if self.taken.is_power_of_two() {
            ending::come_first();
        }
        Ok(PendingStep { report, loss: Some(loss) })
    }

    /// The reports of `steps`, the latest, with their losses.
    pub(super) fn read(&mut self, steps: Vec<PendingStep>) -> Result<Vec<StepReport>> {
        let model = Arc::clone(&self.model);
        let model = model.lock();
        self.read_by(0, &model, steps)
    }

    /// As [`Learner::read`], of steps of engine number `engine` for `model`, the learner's own.
    pub(super) fn read_by(&mut self, engine: usize, model: &Model, steps: Vec<PendingStep>) -> Result<Vec<StepReport>> {
        let (mut reports, mut losses) = (Vec::new(), Vec::new());
        for PendingStep { report, loss } in steps {
            reports.push(report);
            losses.extend(loss);
        }
        let mut values = self.engines[engine].read(model, &losses)?.into_iter();
        for report in reports.iter_mut().filter(|report| report.samples_used > 0) {
            report.loss = values.next().unwrap_or(f64::NAN);
        }
        Ok(reports)
    }

    /// The model's metrics on `data`, in evaluation mode.
    pub(super) fn evaluate(&self, data: &Dataset) -> Result<Metrics> {
        let _arena = self.engine().arena().enter();
        Metrics::within(&self.model.lock(), data, &self.normalization, self.options.precision)
    }

    /// The model's predictions on `data`, in the labels' units, row-major.
    pub(super) fn predict(&self, data: &Dataset) -> Result<Vec<f64>> {
        Ok(self.predict_normalized(data)?.in_units_of(&self.normalization)?.mean)
    }

    /// The squares of what the predictions on `data` miss of the labels, in normalised units, row-major.
    pub(super) fn squared_residuals(&self, data: &Dataset) -> Result<Vec<f64>> {
        let mut squares = self.predict_normalized(data)?.mean;
        let labels = self.normalization.labels(data.labels());
        squares.iter_mut().zip(labels).for_each(|(value, label)| *value = (*value - label) * (*value - label));
        Ok(squares)
    }

    fn predict_normalized(&self, data: &Dataset) -> Result<Prediction> {
        let _arena = self.engine().arena().enter();
        let model = self.model.lock();
        let data = model.matched(data)?;
        model.predict_normalized(data.features().rows(), &self.normalization, self.options.precision)
    }
}
