//! How to fit.

use crate::base::options::require;
use crate::data::{Dataset, LabelStatistics};
use crate::kernels::adam_step::AdamOptions;
use crate::kernels::optimizer::OptimizerOptions;
use crate::model::ModelOptions;
use crate::torch::Precision;
use crate::train::distributed::{DistributedOptions, HeldRows};
use crate::train::loss::Loss;
use crate::train::options::TrainerOptions;
use crate::train::schedule::Schedule;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How [`fit`](super::fit()) trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FitOptions {
    /// How many networks, each trained on the rows outside a fold of its own (default 5; 3 keeps most of the gain). 1 is
    /// cheaper: it holds rows out, learns from them how to train, and trains once more on all.
    #[schemars(range(min = 1, max = 1000))]
    pub members: usize,
    /// The number of epochs of an ordinary training (default 100). Members that see fewer rows take more of them, as many
    /// steps in all.
    #[schemars(range(min = 1))]
    pub epochs: u64,
    /// The loss (default `biv` with epsilon `auto`; without variances, `mse`).
    pub loss: Loss,
    /// The number of rows in a mini-batch, at most (default 256).
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
    /// How the learning rate changes (default: it stays). It counts the epochs of an ordinary training, as `epochs` does;
    /// `plateau` follows the loss on held-out rows and needs several members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The greatest norm of the whole gradient: one that is longer is shortened to it (default: none is).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
    /// The part of the rows that `members` 1 holds out (default 0.3).
    #[schemars(range(min = 0.05, max = 0.95))]
    pub held_out: f64,
    /// The seed of the folds and of the order of the rows (default 0). The networks' is the model's.
    pub seed: u64,
    /// `cpu`, `cuda`, `cuda:N` or `auto` (default `cpu`).
    pub device: String,
    /// The arithmetic of the networks (default `f32`).
    pub precision: Precision,
    /// A file that keeps how far the fit has come, when it is stopped and now and then. A fit of the same data and options
    /// goes on from there (default none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// The checkpoint is written when it is older than this (default 60).
    #[schemars(range(min = 0.0))]
    pub checkpoint_seconds: f64,
    /// How several processes, each of which has the same data and options, share the networks out (default: this one trains
    /// alone). The result is that of one process, on all of them; the checkpoint is the first one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distributed: Option<DistributedOptions>,
}

impl Default for FitOptions {
    fn default() -> Self {
        let trainer = TrainerOptions::default();
        FitOptions {
            members: 5,
            epochs: 100,
            loss: Loss::automatic(),
            batch_size: trainer.batch_size,
            learning_rate: trainer.learning_rate,
            adam: trainer.adam,
            optimizer: trainer.optimizer,
            schedule: trainer.schedule,
            clip_norm: trainer.clip_norm,
            held_out: 0.3,
            seed: 0,
            device: trainer.device,
            precision: trainer.precision,
            checkpoint: None,
            checkpoint_seconds: 60.0,
            distributed: None,
        }
    }
}

impl FitOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        require((1..=1000).contains(&self.members), "fit.members", self.members, "1 to 1000")?;
        require(self.epochs >= 1, "fit.epochs", self.epochs, "at least 1")?;
        let part = self.held_out;
        require((0.05..=0.95).contains(&part), "fit.held_out", part, "in [0.05, 0.95]")?;
        let seconds = self.checkpoint_seconds;
        require(seconds >= 0.0, "fit.checkpoint_seconds", seconds, "at least 0")?;
        if let Some(distributed) = &self.distributed {
            distributed.validate("fit.distributed")?;
            if distributed.rows == HeldRows::Own {
                let fault =
                    "is 'own', must be 'all': networks leave out folds of all rows; a trainer takes rows of its own";
                return Err(Error::config("fit.distributed.rows", fault));
            }
        }
        if self.members == 1 && self.schedule.as_ref().is_some_and(Schedule::needs_validation) {
            let fault =
                "is 'plateau', but the network of 'members' 1 is trained on all rows in the end, with none to follow";
            return Err(Error::config("fit.schedule.kind", fault));
        }
        self.trainer(0, self.batch_size, &self.loss).validate().map_err(|error| error.moved("trainer", "fit"))
    }

    /// How many epochs a network takes for `epochs` ordinary ones: members that see fewer rows take as many steps in all.
    pub(super) fn stretched(&self, epochs: u64) -> u64 {
        let members = self.members as f64;
        if members < 2.0 { epochs } else { (epochs as f64 * members / (members - 1.0)).round() as u64 }
    }

    /// How member number `number` trains, on at least `rows` rows.
    pub(super) fn trainer(&self, number: u64, rows: usize, loss: &Loss) -> TrainerOptions {
        TrainerOptions {
            loss: loss.clone(),
            batch_size: self.batch_size.min(rows),
            learning_rate: self.learning_rate,
            adam: self.adam.clone(),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone().map(|schedule| schedule.stretched(|epochs| self.stretched(epochs))),
            clip_norm: self.clip_norm,
            normalization: LabelStatistics::Labels,
            seed: self.seed.wrapping_add(number),
            device: self.device.clone(),
            precision: self.precision,
            ..TrainerOptions::default()
        }
    }
}

/// The network for `data` where the caller names none: two hidden layers, of 100 and 50.
pub fn default_network(data: &Dataset) -> ModelOptions {
    ModelOptions::mlp(data.width(), &[100, 50], data.outputs(), false, 0)
}
