//! One run: from its description to its result. A run that was interrupted goes on from its last checkpoint.

use super::config::{Cadence, Config};
use super::directory::{CHECKPOINT, Log, RunDirectory};
use super::history::{EvaluationRecord, History, Outputs, Record, SetOutputs, StepRecord, now};
use super::labels::LabelKind;
use super::outcome::Outcome;
use super::progress::{Pace, Progress, Stage, Watch};
use super::source;
use crate::base::files;
use crate::data::Dataset;
use crate::model::Model;
use crate::torch::device;
use crate::train::checkpoint::LoadOptions;
use crate::train::distributed::Ranks;
use crate::train::fit::{FitOptions, FitProgress, fit};
use crate::train::metrics::Metrics;
use crate::train::trainer::{StepReport, Trainer};
use crate::{Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

/// Runs the experiment `config`.
///
/// # Errors
/// Those of reading the data, of training and of writing; [`Error::Cancelled`] when
/// `watch` stopped it: with a run directory, a checkpoint was then written.
pub fn run(config: &Config, watch: Watch) -> Result<Outcome> {
    // What can be known before the data are read is said before: reading them may take long.
    device::resolve(&config.device)?;
    let ranks = config.distributed.as_ref().map(Ranks::join).transpose()?;
    if let Some(path) = config.out.as_ref().filter(|_| writes(&ranks)) {
        RunDirectory::check(path, config)?;
    }
    run_on(config, &source::load(config, &|size| config.check_images(size), watch)?, watch)
}

/// Runs the experiment `config` on its data set, read already.
///
/// # Errors
/// As [`run`].
pub fn run_on(config: &Config, data: &Dataset, watch: Watch) -> Result<Outcome> {
    // A run that cannot start leaves no directory behind.
    device::resolve(&config.device)?;
    let (train, test) = source::divide(config, data)?;
    let test_labels = LabelKind::of(config.dataset.kind, &test);
    let ranks = config.distributed.as_ref().map(Ranks::join).transpose()?;
    let out = config.out.as_ref().filter(|_| writes(&ranks));
    let directory = out.map(|path| RunDirectory::open(path, config, data)).transpose()?;
    if let Some(options) = config.fit_options() {
        return run_fit(config, options, data, [&train, &test], directory.as_ref(), watch);
    }
    let path = directory.as_ref().and_then(RunDirectory::checkpoint);
    let mut checkpoint = path.as_ref().map(|path| files::read(path)).transpose()?;
    if let Some(ranks) = &ranks {
        checkpoint = ranks.bytes_from_first(checkpoint)?;
    }
    let mut trainer = match checkpoint {
        Some(bytes) => {
            let (device, distributed) = (Some(config.device.clone()), config.distributed.clone());
            let options = LoadOptions { device, accept_data: config.accept_data, distributed };
            let origin = path.as_ref().map_or("the checkpoint of rank 0".into(), |path| path.display().to_string());
            Trainer::from_bytes(&bytes, &origin, Some(&train), &options)?
        }
        None => {
            let model = Model::new(&config.network(train.feature_shape(), train.outputs())?)?;
            Trainer::new(Arc::new(Mutex::new(model)), Some(&train), &config.trainer())?
        }
    };

    let (epochs, per_epoch) = (config.epochs(), trainer.batches_per_epoch() as u64);
    let total = epochs.saturating_mul(per_epoch);
    let seen = |trainer: &Trainer| trainer.position().epoch * per_epoch + trainer.position().batch as u64;
    let first = seen(&trainer);
    if first > total {
        let trained = trainer.position().epoch;
        return Err(Error::config("epochs", format!("is {epochs}, the run has trained for {trained} already")));
    }
    let mut recorder = Recorder::default();
    if let Some(directory) = &directory {
        let (log, history) = directory.log(first)?;
        recorder = Recorder { history, log: Some(log) };
    }
    if let Some(ranks) = &ranks {
        recorder.history = shared(recorder.history, ranks)?;
    }
    let pace = Pace::new(first, total);
    let (mut saved, mut mean) = (Instant::now(), EpochMean::default());
    for batch in first + 1..=total {
        let epoch = trainer.position().epoch + 1;
        let step = trainer.step()?;
        mean.add(epoch, &step);
        recorder.record(Record::Step(step_record(batch, epoch, &step)))?;
        let due = match config.eval_every {
            Cadence::Steps(steps) => batch.is_multiple_of(steps),
            Cadence::Epochs(epochs) => batch.is_multiple_of(epochs.saturating_mul(per_epoch)),
        };
        if due || batch == total {
            let metrics = trainer.evaluate(&test)?;
            recorder.record(Record::Evaluation(EvaluationRecord::new(batch, epoch, test_labels, &metrics)))?;
            recorder.flush()?;
        }
        let progress = Progress {
            epoch: trainer.position().epoch,
            epochs,
            loss: mean.loss(),
            rmse: recorder.history.evaluations.last().map_or(f64::NAN, |evaluation| evaluation.rmse),
            test_labels,
            ..pace.at(Stage::Training, &config.tag, batch, step.rows as f64)
        };
        let wants_stop = watch(&progress).is_break();
        let stopped = batch < total && trainer.stops(wants_stop);
        if stopped || batch == total || saved.elapsed().as_secs_f64() >= config.checkpoint_seconds {
            recorder.checkpoint(&trainer)?;
            saved = Instant::now();
        }
        if stopped {
            return Err(Error::Cancelled(format!("the run was stopped after mini-batch {batch} of {total}")));
        }
    }

    let outcome = outcome(config, data, directory.as_ref(), total, &recorder.history)?;
    if let Some(directory) = &directory {
        let outputs = Outputs {
            train: SetOutputs::new(&train, LabelKind::of(config.dataset.kind, data), trainer.predict(&train)?),
            test: SetOutputs::new(&test, test_labels, trainer.predict(&test)?),
        };
        directory.finish(config, &recorder.history, &outputs, &outcome, None)?;
    }
    Ok(outcome)
}

/// Fits a model as a user would, and evaluates it once.
fn run_fit(
    config: &Config,
    options: FitOptions,
    data: &Dataset,
    [train, test]: [&Dataset; 2],
    directory: Option<&RunDirectory>,
    watch: Watch,
) -> Result<Outcome> {
    let options = FitOptions { checkpoint: config.out.as_ref().map(|out| out.join(CHECKPOINT)), ..options };
    let mut pace = None;
    let mut show = |progress: &FitProgress| watch(&Pace::of_fit(&mut pace, &config.tag, options.batch_size, progress));
    let (model, report) = fit(&config.network(train.feature_shape(), train.outputs())?, train, &options, &mut show)?;
    let epochs = report.final_epochs.unwrap_or(report.stop_epoch);
    let metrics = Metrics::of(&model, test)?;
    let test_labels = LabelKind::of(config.dataset.kind, test);
    let evaluation = EvaluationRecord::new(epochs, epochs, test_labels, &metrics);
    let history = History { steps: vec![], evaluations: vec![evaluation] };
    let outcome = outcome(config, data, directory, 0, &history)?;
    if let Some(directory) = directory {
        let (mut log, _) = directory.log(0)?;
        history.records().iter().try_for_each(|record| log.record(record))?;
        log.flush()?;
        let before_noise = LabelKind::of(config.dataset.kind, data);
        let outputs = Outputs {
            train: SetOutputs::new(train, before_noise, model.predict_data(train)?.mean),
            test: SetOutputs::new(test, test_labels, model.predict_data(test)?.mean),
        };
        directory.finish_fit(config, &history, &outputs, &outcome, &model, &report)?;
    }
    Ok(outcome)
}

/// The history that rank 0 has.
fn shared(own: History, ranks: &Ranks) -> Result<History> {
    let unreadable = |error: serde_json::Error| Error::Internal(format!("a history does not go through JSON: {error}"));
    let bytes = if ranks.writes() { Some(serde_json::to_vec(&own).map_err(unreadable)?) } else { None };
    match ranks.bytes_from_first(bytes)? {
        Some(bytes) if !ranks.writes() => serde_json::from_slice(&bytes).map_err(unreadable),
        _ => Ok(own),
    }
}

/// Whether this process writes the run directory, of the `ranks` that run together.
fn writes(ranks: &Option<Arc<Ranks>>) -> bool {
    ranks.as_ref().is_none_or(|ranks| ranks.writes())
}

/// What was measured: in memory, and in the run directory if there is one.
#[derive(Default)]
struct Recorder {
    history: History,
    log: Option<Log>,
}

impl Recorder {
    fn record(&mut self, record: Record) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.record(&record)?;
        }
        self.history.push(record);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), Log::flush)
    }

    fn checkpoint(&mut self, trainer: &Trainer) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.checkpoint(trainer))
    }
}

/// The mean loss of the epoch in progress.
#[derive(Default)]
struct EpochMean {
    epoch: u64,
    steps: f64,
    sum: f64,
}

impl EpochMean {
    fn add(&mut self, epoch: u64, step: &StepReport) {
        if epoch != self.epoch {
            *self = EpochMean { epoch, ..EpochMean::default() };
        }
        if step.samples_used > 0 {
            self.steps += 1.0;
            self.sum += step.loss;
        }
    }

    /// NaN where no step was taken.
    fn loss(&self) -> f64 {
        self.sum / self.steps
    }
}

fn step_record(batch: u64, epoch: u64, step: &StepReport) -> StepRecord {
    StepRecord {
        batch,
        epoch,
        loss: Some(step.loss).filter(|_| step.samples_used > 0),
        effective_batch_size: step.effective_batch_size,
        epsilon: step.epsilon,
        samples_used: step.samples_used,
        time: now(),
    }
}

fn outcome(
    config: &Config,
    data: &Dataset,
    directory: Option<&RunDirectory>,
    batches: u64,
    history: &History,
) -> Result<Outcome> {
    let none = || Error::Internal("a run ended without an evaluation".into());
    let last = history.evaluations.last().ok_or_else(none)?;
    let best = history.best().ok_or_else(none)?;
    let taken: Vec<&StepRecord> = history.steps.iter().filter(|step| step.loss.is_some()).collect();
    let sizes: f64 = taken.iter().map(|step| step.effective_batch_size).sum();
    Ok(Outcome {
        tag: config.tag.clone(),
        seed: config.seed,
        epochs: config.epochs(),
        batches,
        skipped: batches - taken.len() as u64,
        effective_batch_size: if taken.is_empty() { 0.0 } else { sizes / taken.len() as f64 },
        last: last.clone(),
        best: best.clone(),
        left_out: data.left_out().to_vec(),
        accepted_data: directory.map(|directory| directory.accepted_data().to_vec()).unwrap_or_default(),
        out: config.out.clone(),
    })
}
