//! How to train.

use super::distributed::DistributedOptions;
use super::loss::{Epsilon, Loss, MinimumBatch};
use super::optimizer::UpdateOptions;
use super::sampler::{Position, Sampler};
use super::schedule::Schedule;
use crate::base::options::require;
use crate::data::LabelStatistics;
use crate::kernels::adam_step::AdamOptions;
use crate::kernels::optimizer::OptimizerOptions;
use crate::torch::Precision;
use crate::{Error, Result};
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
    /// The optimiser's learning rate (default 0.001).
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Adam's other constants, where no `optimizer` is named.
    pub adam: AdamOptions,
    /// The optimiser (default `adam`, with the constants of the field `adam`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerOptions>,
    /// How the learning rate changes in the course of training (default: it stays).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The greatest norm of the whole gradient: one that is longer is shortened to it (default: none is).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
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
    /// Trains so many networks of the model's kind side by side, as an ensemble of which the mean predicts (default: the
    /// one network). They differ in their seeds: those of the model and of the trainer, and the numbers that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub members: Option<usize>,
    /// Whether all `members` get the same mini-batches, whose weights are computed once (default false: each has an order of
    /// the rows of its own).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared_batches: bool,
    /// `cpu`, `cuda`, `cuda:N` or `auto` (default `cpu`).
    pub device: String,
    /// The arithmetic of the network in training and evaluation (default `f32`). With `tf32` on a GPU, libtorch's
    /// switches for it, which are the whole process's, are on as long as the trainer lives.
    pub precision: Precision,
    /// Whether a step on a GPU is recorded as a CUDA graph and repeated (default false); needs `libbiv_cuda.so`.
    /// On a CPU, for a network with dropout, with another optimiser than Adam and with `clip_norm` it makes no difference.
    pub cuda_graph: bool,
    /// How this process trains together with others, each of which has the same options, and the same data or rows of its
    /// own (default: it trains alone). Creation, loading, steps and new data are then for all of them to do, in the same order; `batch_size` counts
    /// the rows of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distributed: Option<DistributedOptions>,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        TrainerOptions {
            loss: Loss::default(),
            batch_size: 256,
            learning_rate: 1e-3,
            adam: AdamOptions::default(),
            optimizer: None,
            schedule: None,
            clip_norm: None,
            normalize: true,
            normalization: LabelStatistics::Clean,
            patience: None,
            drop_last: true,
            seed: 0,
            members: None,
            shared_batches: false,
            device: "cpu".into(),
            precision: Precision::F32,
            cuda_graph: false,
            distributed: None,
        }
    }
}

impl TrainerOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        self.loss.validate("trainer.loss")?;
        require(self.batch_size >= 1, "trainer.batch_size", self.batch_size, "at least 1")?;
        require(self.patience != Some(0), "trainer.patience", 0, "at least 1")?;
        if let Some(members) = self.members {
            require((1..=1000).contains(&members), "trainer.members", members, "1 to 1000")?;
        }
        check_learning_rate(self.learning_rate, "trainer.learning_rate")?;
        if let Loss::Iv { epsilon } | Loss::Biv { epsilon } = &self.loss
            && let Epsilon::Minimum(MinimumBatch::Size(size)) = epsilon
        {
            let path = "trainer.loss.epsilon.min_effective_batch_size";
            require(*size < self.batch_size as f64, path, size, &format!("less than batch_size, {}", self.batch_size))?;
        }
        self.adam.validate("trainer.adam")?;
        if let Some(optimizer) = &self.optimizer {
            if self.adam != AdamOptions::default() {
                let fault = "has constants beside those of 'optimizer': name Adam's in one of the two";
                return Err(Error::config("trainer.adam", fault));
            }
            optimizer.validate("trainer.optimizer")?;
        }
        if let Some(schedule) = &self.schedule {
            schedule.validate("trainer.schedule")?;
        }
        if let Some(distributed) = &self.distributed {
            distributed.validate("trainer.distributed")?;
            if self.members.is_some_and(|members| members > 1) {
                let fault = "is given beside 'distributed': several processes train one network";
                return Err(Error::config("trainer.members", fault));
            }
        }
        match self.clip_norm {
            Some(norm) => require(norm > 0.0, "trainer.clip_norm", norm, "greater than 0"),
            None => Ok(()),
        }
    }

    /// The options as a checkpoint keeps them, the same for all processes that train together.
    pub(super) fn for_checkpoint(&self) -> Self {
        let distributed = self.distributed.clone().map(DistributedOptions::without_place);
        TrainerOptions { distributed, ..self.clone() }
    }

    /// The mini-batches of `rows` rows from `position` on: in one order for all networks, or in one for each.
    ///
    /// # Errors
    /// As [`Sampler::new`].
    pub(super) fn sampler(&self, rows: usize, position: Position) -> Result<Sampler> {
        let orders = if self.shared_batches { 1 } else { self.members.unwrap_or(1) };
        let seeds: Vec<u64> = (0..orders as u64).map(|number| self.seed.wrapping_add(number)).collect();
        Sampler::new(rows, self.batch_size, self.drop_last, &seeds, position)
    }

    /// How the weights are moved.
    pub(super) fn update(&self) -> UpdateOptions {
        let optimizer = self.optimizer.clone().unwrap_or_else(|| OptimizerOptions::Adam(self.adam.clone()));
        UpdateOptions { optimizer, clip_norm: self.clip_norm }
    }
}

pub(super) fn check_learning_rate(rate: f64, path: &str) -> Result<()> {
    require(rate > 0.0 && rate.is_finite(), path, rate, "greater than 0 and finite")
}
