//! What is known of a model's errors.

use crate::{Error, Result};
use serde::Serialize;

/// The errors of predictions of true values, in normalised units, one number per output.
///
/// The variance of what a single network's prediction misses is `tau2`; of several networks, what they disagree in is
/// known for each row: the variance of their mean is `max(tau2 - mean_spread, tau2 / 1000) + spread(x)`. A label with
/// noise of variance `v` misses the prediction by `scale v` more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorBars {
    /// How much of the noise variances that were given is there. 0 where they say nothing: `tau2` has the noise in it.
    pub scale: Vec<f64>,
    /// The variance of a single network's error.
    pub tau2: Vec<f64>,
    /// The mean over the training rows of the variance between the networks; 0 for one.
    pub mean_spread: Vec<f64>,
}

impl ErrorBars {
    /// Adds to `spread`, the variances between the networks, what all of them miss.
    pub(super) fn variances(&self, spread: Vec<f64>) -> Vec<f64> {
        let mut variances = spread;
        for row in variances.chunks_mut(self.tau2.len()) {
            for ((variance, &tau2), mean_spread) in row.iter_mut().zip(&self.tau2).zip(&self.mean_spread) {
                *variance += (tau2 - mean_spread).max(tau2 / 1000.0);
            }
        }
        variances
    }

    /// An error unless these are numbers for `outputs` outputs.
    pub(super) fn check(&self, outputs: usize) -> Result<()> {
        let all = [&self.scale, &self.tau2, &self.mean_spread];
        let is_whole =
            |values: &&Vec<f64>| values.len() == outputs && values.iter().all(|v| v.is_finite() && *v >= 0.0);
        if all.iter().all(is_whole) {
            return Ok(());
        }
        Err(Error::Corrupt(format!("the error bars are no numbers for {outputs} outputs")))
    }
}
