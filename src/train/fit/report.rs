//! What a fit has found.

use crate::base::infinite;
use crate::data::{Normalization, ProfilePoint, VarianceModel, Verdict};
use crate::train::held_out::HeldOut;
use crate::train::loss::Loss;
use crate::train::metrics::Calibrating;
use serde::{Deserialize, Serialize};

/// What a fit has found. Everything is in the labels' units but the losses, which are in normalised ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FitReport {
    /// The number of rows.
    pub rows: usize,
    /// How many labels were missing or of infinite variance.
    pub masked_labels: usize,
    /// How many networks the model has.
    pub members: usize,
    /// The loss that was trained by.
    pub loss: Loss,
    /// The number of rows in a mini-batch.
    pub batch_size: usize,
    /// How many epochs each network was trained for to find the best and the stop.
    pub epochs: u64,
    /// The epoch of the least loss on held-out rows.
    pub best_epoch: u64,
    /// The latest epoch that is no worse by more than a standard error: the networks have its weights.
    pub stop_epoch: u64,
    /// For `members` 1: how many epochs the final network was trained for, on all rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_epochs: Option<u64>,
    /// What held-out rows say, for each output.
    pub outputs: Vec<OutputReport>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// Each epoch.
    pub history: Vec<FitEpoch>,
}

/// What held-out rows say of one output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputReport {
    /// The variance model of the residuals at the stop.
    pub variance_model: VarianceModel,
    /// The epsilon of the weights at the stop; null: all labels weigh the same.
    #[serde(with = "infinite")]
    pub training_epsilon: f64,
    /// The mean over the rows of the variance between the networks.
    pub mean_spread: f64,
    /// The root mean square of the residuals on held-out rows, noise included.
    pub rmse: f64,
    /// The mean of residual^2 / (scale v + tau2).
    pub mean_z2: f64,
    /// The mean negative logarithm of the density of a held-out label, in nats.
    pub nlpd: f64,
    /// The share of held-out labels within their central 68 %.
    pub coverage_68: f64,
    /// Within their central 95 %.
    pub coverage_95: f64,
    /// The same for more shares.
    pub coverage: Vec<Coverage>,
    /// How the likelihood of the residuals depends on epsilon; empty where the variances say nothing.
    pub profile: Vec<ProfilePoint>,
    /// Mean squared residuals from the rows of the least variance to those of the greatest, in tenths.
    pub residuals: Vec<ResidualGroup>,
}

/// How many held-out labels are within a central part of their distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// The share that should be.
    pub expected: f64,
    /// The share that is.
    pub observed: f64,
}

/// Central shares of a normal distribution, and half the width of each in standard deviations.
const CENTRAL: [(f64, f64); 11] = [
    (0.1, 0.125_661_346_855_074),
    (0.2, 0.253_347_103_135_8),
    (0.3, 0.385_320_466_407_568),
    (0.4, 0.524_400_512_708_041),
    (0.5, 0.674_489_750_196_082),
    (0.6, 0.841_621_233_572_914),
    (0.7, 1.036_433_389_493_79),
    (0.8, 1.281_551_565_544_6),
    (0.9, 1.644_853_626_951_473),
    (0.95, 1.959_963_984_540_054),
    (0.99, 2.575_829_303_548_901),
];

/// Rows of similar variance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ResidualGroup {
    /// Their mean variance.
    pub variance: f64,
    /// Their mean squared residual.
    pub mean_square: f64,
    /// What the variance model says of it.
    pub expected: f64,
}

/// One epoch of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitEpoch {
    /// Its number, from 1.
    pub epoch: u64,
    /// The networks' mean loss in training.
    pub training_loss: f64,
    /// The mean squared error on held-out rows, weighted by 1 / (scale v + tau2).
    pub held_out_loss: f64,
    /// Of each output.
    pub models: Vec<EpochModel>,
}

/// The variance model of an epoch's residuals, the moving average of their squares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochModel {
    /// Of the variance model; null: infinite.
    #[serde(with = "infinite")]
    pub epsilon: f64,
    /// Of the next epoch's weights; null: all labels weigh the same.
    #[serde(with = "infinite")]
    pub training_epsilon: f64,
    /// See [`VarianceModel`].
    pub scale: f64,
    /// See [`VarianceModel`].
    pub tau2: f64,
    /// See [`VarianceModel`].
    pub verdict: Verdict,
}

impl FitEpoch {
    /// The latest epoch of `held_out`, after which training goes on with `epsilons`.
    pub(super) fn new(
        held_out: &HeldOut,
        epsilons: &[f64],
        training_loss: f64,
        held_out_loss: f64,
        scale: &Normalization,
    ) -> Self {
        let units = scale.label_std.iter().map(|std| std * std);
        let models = held_out.models().iter().zip(epsilons).zip(units);
        let models = models.map(|((model, training), unit)| EpochModel {
            epsilon: model.epsilon * unit,
            training_epsilon: training * unit,
            scale: model.scale,
            tau2: model.tau2 * unit,
            verdict: model.verdict,
        });
        FitEpoch { epoch: held_out.epoch(), training_loss, held_out_loss, models: models.collect() }
    }
}

impl OutputReport {
    /// Of output number `output` of `outputs`, of squares and variance models at the stop and the `noise` of their labels.
    /// Everything that goes in is in normalised units.
    pub(super) fn new(
        (squares, models): &(Vec<f64>, Vec<VarianceModel>),
        noise: &[f64],
        [output, outputs]: [usize; 2],
        training_epsilon: f64,
        mean_spread: f64,
        std: f64,
    ) -> Self {
        let unit = std * std;
        let model = models[output].in_unit(unit);
        let known = (output..noise.len()).step_by(outputs).filter(|&at| noise[at].is_finite());
        let mut rows: Vec<(f64, f64)> = known.map(|at| (noise[at] * unit, squares[at] * unit)).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut calibration = Calibrating::default();
        let mut mean_square = 0.0;
        for &(variance, square) in &rows {
            mean_square += square / rows.len() as f64;
            calibration.add(square, model.scale * variance + model.tau2);
        }
        let calibration = calibration.means();
        let groups = rows.len().min(10);
        let group = |number: usize| {
            let rows = &rows[number * rows.len() / groups..(number + 1) * rows.len() / groups];
            let mean = |of: fn(&(f64, f64)) -> f64| rows.iter().map(of).sum::<f64>() / rows.len() as f64;
            let variance = mean(|row| row.0);
            ResidualGroup { variance, mean_square: mean(|row| row.1), expected: model.scale * variance + model.tau2 }
        };
        let within = |half: f64| {
            let limit = |variance: f64| half * half * (model.scale * variance + model.tau2);
            let inside = rows.iter().filter(|&&(variance, square)| square <= limit(variance)).count();
            inside as f64 / rows.len() as f64
        };
        let coverage = CENTRAL.map(|(expected, half)| Coverage { expected, observed: within(half) }).to_vec();
        let (variances, squares): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
        OutputReport {
            profile: VarianceModel::profile(&squares, &variances),
            residuals: (0..groups).map(group).collect(),
            training_epsilon: training_epsilon * unit,
            mean_spread: mean_spread * unit,
            rmse: mean_square.sqrt(),
            mean_z2: calibration.mean_z2,
            nlpd: calibration.nlpd,
            coverage_68: calibration.coverage_68,
            coverage_95: calibration.coverage_95,
            coverage,
            variance_model: model,
        }
    }
}
