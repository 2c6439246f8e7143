//! The learning rate over the course of training: a factor of the options' rate, which follows from the number of steps
//! and epochs (and, for a plateau, from the validation losses) alone, so that a resumed training has the same rates.
//!
//! | schedule | factor in epoch e, counted from 0 |
//! |---|---|
//! | constant | 1 |
//! | step | `gamma^floor(e / epochs)` |
//! | cosine | `m + (1 - m) (1 + cos(pi e / epochs)) / 2`, from epoch `epochs` on m, with m the `min_factor` |
//! | plateau | `max(factor^k, min_factor)` after k times without progress |
//!
//! In step s, counted from 0, of a warm-up of w steps it is multiplied by `(s + 1) / w`. The cosine is that of Loshchilov
//! and Hutter 2017, "SGDR", without restarts; the plateau is PyTorch's `ReduceLROnPlateau`.

use crate::Result;
use crate::base::infinite;
use crate::base::options::require;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// It stays, after the warm-up.
    Constant {
        /// Over so many steps the rate rises to its full value (default 0).
        #[serde(default)]
        warmup_steps: u64,
    },
    /// It falls every so many epochs.
    Step {
        /// How many epochs each rate is for.
        #[schemars(range(min = 1))]
        epochs: u64,
        /// What it is multiplied by then, in (0, 1] (default 0.1).
        #[serde(default = "tenth")]
        #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
        gamma: f64,
        /// As for `constant`.
        #[serde(default)]
        warmup_steps: u64,
    },
    /// It falls along half a cosine.
    Cosine {
        /// In so many epochs it falls to its least value, and stays there.
        #[schemars(range(min = 1))]
        epochs: u64,
        /// The least value, a part of the learning rate in [0, 1] (default 0).
        #[serde(default)]
        #[schemars(range(min = 0.0, max = 1.0))]
        min_factor: f64,
        /// As for `constant`.
        #[serde(default)]
        warmup_steps: u64,
    },
    /// It falls when the loss on the validation set has made no progress for more than `patience` epochs.
    Plateau {
        /// What it is multiplied by then, in (0, 1) (default 0.1).
        #[serde(default = "tenth")]
        #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
        factor: f64,
        /// How many epochs without progress are suffered (default 10).
        #[serde(default = "ten")]
        patience: u64,
        /// The part by which a loss must be less than the best one to be progress, in [0, 1) (default 0.0001).
        #[serde(default = "ten_thousandth")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        threshold: f64,
        /// The least value, a part of the learning rate in [0, 1] (default 0).
        #[serde(default)]
        #[schemars(range(min = 0.0, max = 1.0))]
        min_factor: f64,
        /// As for `constant`.
        #[serde(default)]
        warmup_steps: u64,
    },
}

fn tenth() -> f64 {
    0.1
}

fn ten() -> u64 {
    10
}

fn ten_thousandth() -> f64 {
    1e-4
}

/// What a [`Schedule::Plateau`] has seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// The least validation loss that was progress; infinite before the first.
    #[serde(with = "infinite")]
    best: f64,
    /// How many epochs there were without progress since, or since the rate fell.
    waited: u64,
    /// The present factor.
    factor: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Plateau { best: f64::INFINITY, waited: 0, factor: 1.0 }
    }
}

impl Schedule {
    /// Checks the numbers; `path` is where they stand.
    pub(crate) fn validate(&self, path: &str) -> Result<()> {
        let check = |range: bool, name: &str, value: f64, allowed: &str| {
            require(range, format!("{path}.{name}"), value, allowed)
        };
        let least = |min_factor: f64| check((0.0..=1.0).contains(&min_factor), "min_factor", min_factor, "in [0, 1]");
        match *self {
            Schedule::Constant { .. } => Ok(()),
            Schedule::Step { epochs, gamma, .. } => {
                check(epochs >= 1, "epochs", epochs as f64, "at least 1")?;
                check(gamma > 0.0 && gamma <= 1.0, "gamma", gamma, "in (0, 1]")
            }
            Schedule::Cosine { epochs, min_factor, .. } => {
                check(epochs >= 1, "epochs", epochs as f64, "at least 1")?;
                least(min_factor)
            }
            Schedule::Plateau { factor, threshold, min_factor, .. } => {
                check(factor > 0.0 && factor < 1.0, "factor", factor, "in (0, 1)")?;
                check((0.0..1.0).contains(&threshold), "threshold", threshold, "in [0, 1)")?;
                least(min_factor)
            }
        }
    }

    /// What the learning rate is multiplied by in step `step` of epoch `epoch`, both counted from 0 and from the start of
    /// the training. `plateau` is what was seen so far.
    pub fn factor(&self, epoch: u64, step: u64, plateau: &Plateau) -> f64 {
        let (factor, warmup_steps) = match *self {
            Schedule::Constant { warmup_steps } => (1.0, warmup_steps),
            Schedule::Step { epochs, gamma, warmup_steps } => (gamma.powf((epoch / epochs) as f64), warmup_steps),
            Schedule::Cosine { epochs, min_factor, warmup_steps } => {
                let part = (epoch as f64 / epochs as f64).min(1.0);
                let cosine = (1.0 + (std::f64::consts::PI * part).cos()) / 2.0;
                (min_factor + (1.0 - min_factor) * cosine, warmup_steps)
            }
            Schedule::Plateau { warmup_steps, .. } => (plateau.factor, warmup_steps),
        };
        if step < warmup_steps { factor * (step + 1) as f64 / warmup_steps as f64 } else { factor }
    }

    /// Takes the validation loss after an epoch.
    pub fn observe(&self, loss: f64, plateau: &mut Plateau) {
        let Schedule::Plateau { factor, patience, threshold, min_factor, .. } = *self else { return };
        if loss < plateau.best * (1.0 - threshold) {
            (plateau.best, plateau.waited) = (loss, 0);
        } else {
            plateau.waited += 1;
        }
        if plateau.waited > patience {
            plateau.factor = (plateau.factor * factor).max(min_factor);
            plateau.waited = 0;
        }
    }

    /// The same for a training of more epochs: those that it counts become `stretched` of them.
    pub(crate) fn stretched(mut self, stretched: impl Fn(u64) -> u64) -> Self {
        if let Schedule::Step { epochs, .. } | Schedule::Cosine { epochs, .. } = &mut self {
            *epochs = stretched(*epochs);
        }
        self
    }

    /// Whether it counts the epochs of a data set.
    pub(crate) fn counts_epochs(&self) -> bool {
        !matches!(self, Schedule::Constant { .. })
    }

    /// Whether it takes the losses on a validation set.
    pub(crate) fn needs_validation(&self) -> bool {
        matches!(self, Schedule::Plateau { .. })
    }
}
