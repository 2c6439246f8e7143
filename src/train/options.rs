//! How to train.

use super::loss::{Epsilon, Loss, MinimumBatch};
use crate::Result;
use crate::base::options::require;
use crate::data::LabelStatistics;
use crate::kernels::adam_step::AdamOptions;
use crate::torch::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainerOptions {
    /// The loss (default `biv` with epsilon 0.1).
    pub loss: Loss,
    /// The number of rows in a mini-batch (default 256).
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Adam's learning rate (default 0.001).
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Adam's other constants.
    pub adam: AdamOptions,
    /// Whether features and labels are normalised by the training data's
    /// statistics (default true). A model that has a normalisation keeps it.
    pub normalize: bool,
    /// Which labels the statistics are of where noise was simulated (default `clean`, those before it).
    pub normalization: LabelStatistics,
    /// With a validation set, a fit ends when so many epochs in a row were no better than the best one (default: never).
    #[schemars(range(min = 1))]
    pub patience: Option<u64>,
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
    /// On a CPU, and for a network with dropout, it makes no difference.
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
            normalization: LabelStatistics::Clean,
            patience: None,
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
        require(self.patience != Some(0), "trainer.patience", 0, "at least 1")?;
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

pub(super) fn check_learning_rate(rate: f64, path: &str) -> Result<()> {
    require(rate > 0.0 && rate.is_finite(), path, rate, "greater than 0 and finite")
}
