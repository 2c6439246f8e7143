//! The progress of long computations, for those who wait for them.

use super::labels::LabelKind;
use crate::train::fit::FitProgress;
use std::ops::ControlFlow;
use std::time::Instant;

/// A kind of computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Images are being decoded: `done` of `total`.
    Loading,
    /// Mini-batches are being trained on: `done` of `total`.
    Training,
    /// Runs of a sweep are complete: `done` of `total`.
    Sweep,
}

/// How far a computation has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What is going on.
    pub stage: Stage,
    /// The run: its tag, in a sweep its variant and seed.
    pub run: String,
    /// How much is done.
    pub done: u64,
    /// Of how much.
    pub total: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Of how many; 0 outside training.
    pub epochs: u64,
    /// The mean training loss of the present epoch so far, in normalised units; NaN where there is none.
    pub loss: f64,
    /// The last RMSE on the test set, in the labels' unit; NaN before the first.
    pub rmse: f64,
    /// What is known of the noise of the labels that `rmse` is on.
    pub test_labels: LabelKind,
    /// Images, or training rows, per second; NaN in a sweep.
    pub samples_per_second: f64,
    /// An estimate of the seconds left; NaN before there is one.
    pub seconds_left: f64,
}

/// A callback that is often called with the progress. It breaks to stop the computation.
pub type Watch<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// Measures the pace of a stage from its start.
#[derive(Debug)]
pub struct Pace {
    started: Instant,
    first: u64,
    total: u64,
}

impl Pace {
    /// A stage that starts now with `first` of `total` done.
    pub fn new(first: u64, total: u64) -> Self {
        Pace { started: Instant::now(), first, total }
    }

    /// The progress at `done`, where each unit is `samples` samples.
    pub fn at(&self, stage: Stage, run: &str, done: u64, samples: f64) -> Progress {
        let elapsed = self.started.elapsed().as_secs_f64();
        let rate = (done - self.first) as f64 / elapsed;
        Progress {
            stage,
            run: run.into(),
            done,
            total: self.total,
            epoch: 0,
            epochs: 0,
            loss: f64::NAN,
            rmse: f64::NAN,
            test_labels: LabelKind::Unknown,
            samples_per_second: rate * samples,
            seconds_left: if done > self.first { (self.total - done) as f64 / rate } else { f64::NAN },
        }
    }

    /// The progress of a fit with mini-batches of `rows` rows; its first call starts the pace.
    pub fn of_fit(pace: &mut Option<Pace>, run: &str, rows: usize, progress: &FitProgress) -> Progress {
        let FitProgress { steps, total_steps, .. } = *progress;
        // The training on all rows is a stage of its own.
        if pace.as_ref().is_some_and(|pace| pace.total != total_steps) {
            *pace = None;
        }
        let pace = pace.get_or_insert_with(|| Pace::new(steps, total_steps));
        Progress {
            epoch: progress.epoch,
            epochs: progress.epochs,
            loss: progress.held_out_loss,
            ..pace.at(Stage::Training, run, steps.clamp(pace.first, total_steps), rows as f64)
        }
    }
}
