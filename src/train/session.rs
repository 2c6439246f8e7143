//! Fitting over many epochs, from any thread: callbacks, cancellation and progress.

use crate::data::Dataset;
use crate::train::metrics::Metrics;
use crate::train::trainer::{EpochReport, Trainer};
use crate::{Error, Result};
use parking_lot::{Mutex, MutexGuard};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// A trainer that several threads may use: calls take turns, and a fit gives
/// way between its epochs.
#[derive(Debug)]
pub struct Session {
    trainer: Mutex<Trainer>,
    state: AtomicU8,
    progress: AtomicProgress,
}

/// A fit is running.
const FITTING: u8 = 1;
/// The fit that is running, else the next one, shall end.
const CANCELLED: u8 = 2;

/// How far training has come, to be read while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Whether a fit is running.
    pub running: bool,
    /// Epochs completed since the trainer was made.
    pub epoch: u64,
    /// Mini-batches taken from the epoch in progress.
    pub batch: u64,
    /// Steps taken since the trainer was made.
    pub steps: u64,
    /// The loss of the last step; 0 before the first.
    pub loss: f64,
}

#[derive(Debug, Default)]
struct AtomicProgress {
    epoch: AtomicU64,
    batch: AtomicU64,
    steps: AtomicU64,
    loss: AtomicU64,
}

/// Keeps the session from being idle for as long as it lives.
struct Fitting<'a>(&'a AtomicU8);

impl<'a> Fitting<'a> {
    fn start(state: &'a AtomicU8) -> Result<Self> {
        match state.fetch_or(FITTING, Relaxed) & FITTING {
            0 => Ok(Fitting(state)),
            _ => Err(Error::Busy("the trainer is fitting already: wait until that call returns".into())),
        }
    }

    fn cancelled(&self) -> bool {
        self.0.load(Relaxed) & CANCELLED != 0
    }
}

impl Drop for Fitting<'_> {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}

impl Session {
    /// Shares `trainer`.
    pub fn new(trainer: Trainer) -> Self {
        let session =
            Session { trainer: Mutex::new(trainer), state: AtomicU8::new(0), progress: AtomicProgress::default() };
        session.publish(&session.trainer.lock(), 0.0);
        session
    }

    /// The trainer, for one call: waits for the one in progress.
    pub fn trainer(&self) -> MutexGuard<'_, Trainer> {
        self.trainer.lock()
    }

    /// Trains for `epochs` epochs (the first may be the rest of one) and, where a
    /// `test` set is given, evaluates on it after each. `on_epoch` runs on this
    /// thread with the trainer unlocked, so it may evaluate, save or change the
    /// learning rate, and may end the fit. With a validation set the model has the weights of its best epoch in the end,
    /// and the fit ends early when the options' patience is out.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Cancelled`] after [`Session::cancel`] or when
    /// `on_epoch` ended the fit, in any of the processes that train together; [`Error::Busy`] while another fit is running.
    pub fn fit(
        &self,
        epochs: u64,
        test: Option<&Dataset>,
        mut on_epoch: impl FnMut(&EpochReport, Option<&Metrics>) -> ControlFlow<()>,
    ) -> Result<()> {
        let fitting = Fitting::start(&self.state)?;
        if let Some(test) = test {
            self.trainer.lock().check_fit(test)?;
        }
        // Processes that train together agree on it, but for no epochs need not meet.
        let cancelled = fitting.cancelled();
        let stops = if epochs == 0 { cancelled } else { self.trainer.lock().stops_after_epoch(cancelled)? };
        if stops {
            return Err(Error::Cancelled("training was cancelled before it began".into()));
        }
        for _ in 0..epochs {
            let (report, metrics) = {
                let mut trainer = self.trainer.lock();
                crate::base::fault::point();
                let report = trainer.epoch(|trainer, step| {
                    self.publish(trainer, step.loss);
                    if fitting.cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
                let metrics = test.map(|test| trainer.evaluate(test)).transpose()?;
                (report, metrics)
            };
            let wants_stop = on_epoch(&report, metrics.as_ref()).is_break() || fitting.cancelled();
            if self.trainer.lock().stops_after_epoch(wants_stop)? {
                return Err(Error::Cancelled(format!("training was cancelled after epoch {}", report.epoch)));
            }
            if self.trainer.lock().is_out_of_patience() {
                break;
            }
        }
        self.trainer.lock().keep_best()
    }

    /// Makes the fit that is running end after its present step or, where none is, the next one before its first. A fit
    /// that ends, for this reason or another, has used it up.
    pub fn cancel(&self) {
        self.state.fetch_or(CANCELLED, Relaxed);
    }

    /// How far training has come; never waits.
    pub fn progress(&self) -> Progress {
        Progress {
            running: self.state.load(Relaxed) & FITTING != 0,
            epoch: self.progress.epoch.load(Relaxed),
            batch: self.progress.batch.load(Relaxed),
            steps: self.progress.steps.load(Relaxed),
            loss: f64::from_bits(self.progress.loss.load(Relaxed)),
        }
    }

    /// Makes the trainer's state visible to [`Session::progress`].
    pub fn publish(&self, trainer: &Trainer, loss: f64) {
        let position = trainer.position();
        self.progress.epoch.store(position.epoch, Relaxed);
        self.progress.batch.store(position.batch as u64, Relaxed);
        self.progress.steps.store(trainer.steps(), Relaxed);
        self.progress.loss.store(loss.to_bits(), Relaxed);
    }
}
