//! What rows that training does not see say, epoch by epoch: the epsilon of the next epoch, and which epoch to keep.

use crate::base::memory::{filled, reserve};
use crate::data::{Search, VarianceModel, are_weights_flat};
use crate::model::archive::{Archive, StoredArray};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How much of the moving average of the squared residuals an epoch leaves.
const DECAY: f64 = 0.8;

/// Squared residuals are averaged over so many epochs on each side of one.
const AROUND: u64 = 2;

/// A stop in so many of the last epochs is the end.
const LAST: u64 = 5;

/// The squared residuals of the same rows, epoch after epoch, and what they say. Everything is in normalised units,
/// row-major, `rows x outputs`.
///
/// The loss of an epoch is the mean of the squares weighted by 1 / (scale v + tau2), where the variance model of their
/// moving average gives scale and tau2. The stop is the latest epoch whose squares, with the weights of the epoch of least
/// loss, exceed that epoch's by one standard error at most.
#[derive(Debug)]
pub(crate) struct HeldOut {
    outputs: usize,
    /// Of the labels' noise; 0 where it is unknown, infinite for a masked label.
    variances: Vec<f64>,
    /// What epsilon is multiplied by for training.
    factor: f64,
    epoch: u64,
    smoothed: Vec<f64>,
    /// The squares of the latest epochs, the last one last.
    recent: Vec<Vec<f64>>,
    /// One per output.
    models: Vec<VarianceModel>,
    best: Mark,
    /// The weights of the best epoch, of mean 1.
    weights: Vec<f64>,
    stop: Mark,
}

/// An epoch, and the squares around it.
#[derive(Clone, Debug, Default)]
struct Mark {
    epoch: u64,
    loss: f64,
    /// The epoch's own.
    squares: Vec<f64>,
    /// The sum of those of the epochs around it, so far, and how many these are.
    sum: Vec<f64>,
    count: u64,
}

/// What one epoch showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Observation {
    /// The weighted mean of the squares.
    pub loss: f64,
    /// Whether no epoch before it had a smaller loss.
    pub is_best: bool,
    /// Whether it is the stop, as far as is known: its weights are to be kept.
    pub is_stop: bool,
}

impl Mark {
    fn new(epoch: u64, loss: f64, recent: &[Vec<f64>]) -> Self {
        let window = &recent[recent.len().saturating_sub(AROUND as usize + 1)..];
        let squares = window.last().cloned().unwrap_or_default();
        let mut mark = Mark { epoch, loss, sum: vec![0.0; squares.len()], squares, count: 0 };
        window.iter().for_each(|squares| mark.add(squares));
        mark
    }

    fn add(&mut self, squares: &[f64]) {
        self.sum.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
        self.count += 1;
    }

    /// Takes the squares of an epoch after the mark's own.
    fn follow(&mut self, epoch: u64, squares: &[f64]) {
        if epoch > self.epoch && epoch <= self.epoch + AROUND {
            self.add(squares);
        }
    }

    fn mean(&self) -> Vec<f64> {
        self.sum.iter().map(|sum| sum / self.count.max(1) as f64).collect()
    }
}

impl HeldOut {
    /// For `labels` with these `variances`; training's epsilon is `factor` times that of the variance model. Before the
    /// first epoch, that is the model of a network that predicts the mean, 0.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new(outputs: usize, labels: impl Iterator<Item = f64>, variances: Vec<f64>, factor: f64) -> Result<Self> {
        let mut squares = reserve(variances.len())?;
        squares.extend(labels.map(|label| label * label));
        let mut held_out = HeldOut {
            outputs,
            smoothed: filled(variances.len(), 0.0)?,
            weights: filled(variances.len(), 0.0)?,
            variances,
            factor,
            epoch: 0,
            recent: vec![],
            models: vec![],
            best: Mark::default(),
            stop: Mark::default(),
        };
        held_out.models = held_out.fit(&squares, Search::Fine);
        Ok(held_out)
    }

    /// Takes the squared residuals after an epoch.
    pub fn observe(&mut self, mut squares: Vec<f64>) -> Observation {
        self.epoch += 1;
        // A masked label has no residual.
        squares.iter_mut().zip(&self.variances).filter(|(_, v)| v.is_infinite()).for_each(|(square, _)| *square = 0.0);
        let keep = if self.epoch == 1 { 0.0 } else { DECAY };
        for (smoothed, square) in self.smoothed.iter_mut().zip(&squares) {
            *smoothed = keep * *smoothed + (1.0 - keep) * square;
        }
        self.models = self.fit(&self.smoothed, Search::Coarse);
        let weights = self.likelihood_weights();
        let loss = mean_product(&weights, &squares);
        self.best.follow(self.epoch, &squares);
        self.stop.follow(self.epoch, &squares);
        if self.recent.len() == LAST as usize {
            self.recent.remove(0);
        }
        self.recent.push(squares);
        let is_best = self.epoch == 1 || loss < self.best.loss;
        if is_best {
            self.best = Mark::new(self.epoch, loss, &self.recent);
            self.weights = weights;
        }
        let is_stop = is_best || self.excess(1.0) <= 0.0;
        if is_stop {
            self.stop = Mark::new(self.epoch, loss, &self.recent);
        }
        Observation { loss, is_best, is_stop }
    }

    /// By how much the latest squares exceed those of the best epoch, less `errors` standard errors of it.
    fn excess(&self, errors: f64) -> f64 {
        let Some(latest) = self.recent.last() else { return 0.0 };
        let rows = (latest.len() / self.outputs) as f64;
        let difference = |row: usize| -> f64 {
            let labels = row * self.outputs..(row + 1) * self.outputs;
            labels.map(|at| self.weights[at] * (latest[at] - self.best.squares[at])).sum()
        };
        let differences = || (0..latest.len() / self.outputs).map(difference);
        let mean = differences().sum::<f64>() / rows;
        let variance = differences().map(|difference| (difference - mean).powi(2)).sum::<f64>() / rows;
        mean - errors * (variance / rows).sqrt()
    }

    /// The variance model of `squares`, one per output.
    fn fit(&self, squares: &[f64], search: Search) -> Vec<VarianceModel> {
        let column = |values: &[f64], output: usize| -> Vec<f64> {
            let known = (output..values.len()).step_by(self.outputs).filter(|&at| self.variances[at].is_finite());
            known.map(|at| values[at]).collect()
        };
        let model =
            |output| VarianceModel::of_telling_rows(&column(squares, output), &column(&self.variances, output), search);
        (0..self.outputs).map(model).collect()
    }

    /// 1 / (scale v + tau2) with the latest models, of mean 1 for each output.
    fn likelihood_weights(&self) -> Vec<f64> {
        let mut weights = vec![0.0; self.variances.len()];
        for (output, model) in self.models.iter().enumerate() {
            let places = || (output..self.variances.len()).step_by(self.outputs);
            // Relative to tau2: no unit is special. Where it is 0, so are all squares.
            let ratio = if model.tau2 > 0.0 { model.scale / model.tau2 } else { 0.0 };
            let weight = |at: usize| (1.0 + ratio * self.variances[at]).recip();
            let known = || places().filter(|&at| self.variances[at].is_finite());
            let mean = known().map(weight).sum::<f64>() / known().count().max(1) as f64;
            known().for_each(|at| weights[at] = weight(at) / mean);
        }
        weights
    }

    /// Training's epsilon for each output, of the variance models `models`: infinite where equal weights do as well.
    fn training_epsilons(&self, models: &[VarianceModel]) -> Vec<f64> {
        let epsilon = |(output, model): (usize, &VarianceModel)| {
            let epsilon = self.factor * model.epsilon;
            let variances = self.variances.iter().skip(output).step_by(self.outputs).copied();
            if are_weights_flat(epsilon, variances) { f64::INFINITY } else { epsilon }
        };
        models.iter().enumerate().map(epsilon).collect()
    }

    /// The epsilons of the next epoch's training.
    pub fn epsilons(&self) -> Vec<f64> {
        self.training_epsilons(&self.models)
    }

    /// The latest variance models, one per output.
    pub fn models(&self) -> &[VarianceModel] {
        &self.models
    }

    /// How many epochs were observed.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The epoch of least loss.
    pub fn best_epoch(&self) -> u64 {
        self.best.epoch
    }

    /// The epoch to stop at, of all that were observed. In the last five, it is the last one.
    pub fn stop_epoch(&self) -> u64 {
        if self.stop.epoch + LAST > self.epoch { self.epoch } else { self.stop.epoch }
    }

    /// The squares of the stop, and the variance models of their mean over the epochs around it.
    pub fn at_stop(&self) -> (Vec<f64>, Vec<VarianceModel>) {
        if self.stop_epoch() == self.stop.epoch {
            return (self.stop.squares.clone(), self.fit(&self.stop.mean(), Search::Fine));
        }
        let end = Mark::new(self.epoch, 0.0, &self.recent);
        let models = self.fit(&end.mean(), Search::Fine);
        (end.squares, models)
    }

    /// The epsilons with which to train once more on all rows: those of the epochs around the best where the end is
    /// worse by more than two standard errors, else of the last five.
    pub fn final_epsilons(&self) -> Vec<f64> {
        if self.excess(2.0) > 0.0 {
            return self.training_epsilons(&self.fit(&self.best.mean(), Search::Fine));
        }
        let mut last = Mark { sum: vec![0.0; self.variances.len()], ..Mark::default() };
        self.recent.iter().for_each(|squares| last.add(squares));
        self.training_epsilons(&self.fit(&last.mean(), Search::Fine))
    }

    /// The variances it was made with.
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }
}

/// The numbers of a [`HeldOut`] beside its lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HeldOutState {
    epoch: u64,
    recent: usize,
    best: [u64; 2],
    stop: [u64; 2],
    losses: [f64; 2],
}

impl HeldOut {
    /// Adds the lists to `archive`, under names that begin with `prefix`.
    pub fn store(&self, archive: &mut Archive, prefix: &str) {
        let mut insert = |name: &str, values: &[f64]| {
            archive.insert(format!("{prefix}.{name}"), StoredArray::f64(values.to_vec()));
        };
        insert("smoothed", &self.smoothed);
        insert("weights", &self.weights);
        for (number, squares) in self.recent.iter().enumerate() {
            insert(&format!("recent.{number}"), squares);
        }
        for (name, mark) in [("best", &self.best), ("stop", &self.stop)] {
            insert(&format!("{name}.squares"), &mark.squares);
            insert(&format!("{name}.sum"), &mark.sum);
        }
    }

    /// The numbers beside the lists.
    pub fn state(&self) -> HeldOutState {
        HeldOutState {
            epoch: self.epoch,
            recent: self.recent.len(),
            best: [self.best.epoch, self.best.count],
            stop: [self.stop.epoch, self.stop.count],
            losses: [self.best.loss, self.stop.loss],
        }
    }

    /// Takes what [`HeldOut::store`] added and [`HeldOut::state`] gave.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Shape`] for other rows.
    pub fn restore(&mut self, archive: &Archive, prefix: &str, state: &HeldOutState) -> Result<()> {
        let length = self.variances.len();
        let list = |name: &str| -> Result<Vec<f64>> {
            let values = archive.get(&format!("{prefix}.{name}"))?.to_f64()?;
            if ![0, length].contains(&values.len()) {
                let found = values.len();
                return Err(Error::Shape(format!(
                    "the file was made with {found} labels held out, there are {length}"
                )));
            }
            Ok(values)
        };
        let mark = |name: &str, [epoch, count]: [u64; 2], loss| -> Result<Mark> {
            Ok(Mark {
                epoch,
                loss,
                squares: list(&format!("{name}.squares"))?,
                sum: list(&format!("{name}.sum"))?,
                count,
            })
        };
        self.epoch = state.epoch;
        self.smoothed = list("smoothed")?;
        self.weights = list("weights")?;
        self.recent = (0..state.recent).map(|number| list(&format!("recent.{number}"))).collect::<Result<_>>()?;
        self.best = mark("best", state.best, state.losses[0])?;
        self.stop = mark("stop", state.stop, state.losses[1])?;
        if self.epoch > 0 {
            self.models = self.fit(&self.smoothed, Search::Coarse);
        }
        Ok(())
    }
}

/// The mean over the labels of weight times square.
fn mean_product(weights: &[f64], squares: &[f64]) -> f64 {
    weights.iter().zip(squares).map(|(weight, square)| weight * square).sum::<f64>() / squares.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 rows, of which every second is noisy.
    fn variances() -> Vec<f64> {
        (0..100).map(|row| if row % 2 == 0 { 0.01 } else { 4.0 }).collect()
    }

    fn labels(count: usize) -> impl Iterator<Item = f64> {
        (0..count).map(|at| if at % 3 == 0 { 1.0 } else { -1.0 })
    }

    /// Squares as of residuals with variance `misfit` beyond the noise.
    fn squares(misfit: f64) -> Vec<f64> {
        let quantile = |row: usize| [0.1, 0.5, 1.0, 2.4][row / 2 % 4];
        variances().iter().enumerate().map(|(row, v)| (v + misfit) * quantile(row)).collect()
    }

    #[test]
    fn the_stop_is_the_latest_epoch_that_is_no_worse() {
        let mut held = HeldOut::new(1, labels(100), variances(), 0.25).unwrap();
        let observe = |held: &mut HeldOut, misfit| held.observe(squares(misfit));
        assert!(observe(&mut held, 1.0).is_best);
        assert!(observe(&mut held, 0.1).is_best);
        // Much worse than its errors; then little worse.
        let worse = observe(&mut held, 3.0);
        assert!(!worse.is_best && !worse.is_stop);
        let close = observe(&mut held, 0.1);
        assert!(close.is_stop, "{close:?}");
        for _ in 0..6 {
            observe(&mut held, 3.0);
        }
        assert_eq!((held.epoch(), held.stop_epoch()), (10, 4));
        let (at_stop, models) = held.at_stop();
        assert_eq!(at_stop, squares(0.1));
        // The mean of epochs 2 to 6.
        let misfit = (0.1 + 3.0 + 0.1 + 3.0 + 3.0) / 5.0;
        let mean: Vec<f64> = squares(misfit);
        let expected = VarianceModel::of_squares(&mean, &variances(), Search::Fine);
        assert!((models[0].tau2 - expected.tau2).abs() < 1e-9 * expected.tau2, "{models:?} {expected:?}");
        // Of two epochs, both are among the last five.
        let mut short = HeldOut::new(1, labels(100), variances(), 0.25).unwrap();
        observe(&mut short, 0.1);
        observe(&mut short, 3.0);
        assert_eq!((short.best_epoch(), short.stop_epoch()), (1, 2));
    }

    #[test]
    fn flat_weights_are_equal_ones() {
        let mut held = HeldOut::new(1, labels(100), variances(), 0.25).unwrap();
        held.observe(squares(0.05));
        let epsilon = held.epsilons()[0];
        assert!((epsilon / (0.25 * held.models()[0].epsilon) - 1.0).abs() < 1e-12 && epsilon.is_finite());
        let mut flat = HeldOut::new(1, labels(100), variances(), 1e9).unwrap();
        flat.observe(squares(0.05));
        assert_eq!(flat.epsilons(), [f64::INFINITY]);
    }

    #[test]
    fn masked_labels_say_nothing() {
        let masked = |outputs, variances: Vec<f64>, squares: Vec<f64>| {
            let mut held = HeldOut::new(outputs, labels(variances.len()), variances, 0.25).unwrap();
            let observation = held.observe(squares);
            let VarianceModel { epsilon, scale, tau2, .. } = held.models()[0];
            ([epsilon, scale, tau2], observation.loss)
        };
        let (expected, _) = masked(1, variances(), squares(0.3));
        let interleave = |values: Vec<f64>, other: f64| values.into_iter().flat_map(|v| [v, other]).collect::<Vec<_>>();
        let (found, loss) = masked(2, interleave(variances(), f64::INFINITY), interleave(squares(0.3), f64::NAN));
        assert_eq!(found, expected);
        assert!(loss.is_finite());
    }

    #[test]
    fn what_was_observed_can_be_kept() {
        let mut held = HeldOut::new(1, labels(100), variances(), 0.25).unwrap();
        for epoch in 0..7 {
            held.observe(squares(1.0 / (1.0 + f64::from(epoch))));
        }
        let state = held.state();
        let mut archive = Archive::new(crate::model::archive::ArchiveKind::Training, &state).unwrap();
        held.store(&mut archive, "held");
        let mut other = HeldOut::new(1, labels(100), variances(), 0.25).unwrap();
        other.restore(&archive, "held", &state).unwrap();
        assert_eq!(held.observe(squares(0.2)), other.observe(squares(0.2)));
        assert_eq!(
            (held.epsilons(), held.at_stop(), held.final_epsilons()),
            (other.epsilons(), other.at_stop(), other.final_epsilons())
        );
        assert!(HeldOut::new(1, labels(1), vec![1.0], 0.25).unwrap().restore(&archive, "held", &state).is_err());
    }
}
