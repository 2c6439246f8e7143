//! How several processes train one network.

use super::rendezvous::rendezvous;
use crate::base::options::require;
use crate::torch::process_group::Rendezvous;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How several processes train one network. Which process this is and where they meet comes from `rank`, `world_size`,
/// `address` and `port`, or else from what torchrun or Slurm's srun set in the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DistributedOptions {
    /// Which process this is, from 0; with `world_size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// How many processes there are; with `rank`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world_size: Option<usize>,
    /// The name or IP address of the machine on which rank 0 is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A port that is free there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How long the processes wait for each other, in seconds (default 300).
    #[schemars(range(min = 1.0, max = 1e7))]
    pub timeout_seconds: f64,
    /// Which rows each process is given (default `all`).
    pub rows: HeldRows,
    /// Whether any number of processes computes the same bits (default false). The mini-batch is then divided into
    /// `shares`, not into as many parts as there are processes.
    pub deterministic: bool,
    /// The number of shares of a mini-batch that is `deterministic`: at least the number of processes (default 8).
    #[schemars(range(min = 1))]
    pub shares: usize,
    /// Of which rows BatchNorm takes the statistics (default `local`).
    pub batch_norm: BatchNormStatistics,
}

/// Which rows of the data each process is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldRows {
    /// All of them, in the same order.
    #[default]
    All,
    /// Its own, one at least: all rows are those of rank 0, then those of rank 1, and so on. It computes the gradient on
    /// its own rows in each mini-batch, however many these are.
    Own,
}

/// Of which rows BatchNorm takes the statistics in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchNormStatistics {
    /// Of each process's rows by themselves, or of each share's. The running statistics are the means of what the parts
    /// would make them, weighted by their rows.
    #[default]
    Local,
    /// Of the whole mini-batch, as in one process, at the price of four messages for each BatchNorm and step.
    Synchronised,
}

impl Default for DistributedOptions {
    fn default() -> Self {
        DistributedOptions {
            rank: None,
            world_size: None,
            address: None,
            port: None,
            timeout_seconds: 300.0,
            rows: HeldRows::All,
            deterministic: false,
            shares: 8,
            batch_norm: BatchNormStatistics::Local,
        }
    }
}

/// Where the options of a trainer have them.
const PATH: &str = "trainer.distributed";

impl DistributedOptions {
    /// Checks what does not depend on the environment; `path` is where the options stand.
    pub(crate) fn validate(&self, path: &str) -> Result<()> {
        require(self.shares >= 1, format!("{path}.shares"), self.shares, "at least 1")?;
        self.require_timeout(path)?;
        if self.deterministic && self.batch_norm == BatchNormStatistics::Synchronised {
            let fault = "is 'synchronised', which 'deterministic' excludes: its sums depend on the number of processes";
            return Err(Error::config(format!("{path}.batch_norm"), fault));
        }
        if self.deterministic && self.rows == HeldRows::Own {
            let fault =
                "is 'own', which 'deterministic' excludes: its shares of a mini-batch do not follow who holds the rows";
            return Err(Error::config(format!("{path}.rows"), fault));
        }
        Ok(())
    }

    /// Up to four months, which the system's clocks can count.
    pub(super) fn require_timeout(&self, path: &str) -> Result<()> {
        let seconds = self.timeout_seconds;
        require((1.0..=1e7).contains(&seconds), format!("{path}.timeout_seconds"), seconds, "from 1 to 10000000")
    }

    /// Where the processes meet, and which of them this is.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] where neither options nor environment say it, or say half of it, or where there are more
    /// processes than shares.
    pub(super) fn place(&self) -> Result<Rendezvous> {
        let place = rendezvous(self, PATH, &|name| std::env::var(name).ok())?;
        let enough = !self.deterministic || place.size <= self.shares;
        let limit = format!("at least the number of processes, {}", place.size);
        require(enough, format!("{PATH}.shares"), self.shares, &limit)?;
        Ok(place)
    }

    /// Whether this is the process that speaks for all: the one of rank 0.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] where neither options nor environment say it.
    pub fn is_first(&self) -> Result<bool> {
        Ok(self.place()?.rank == 0)
    }

    /// Whether options or environment say that there are several processes.
    pub fn is_for_several(&self) -> bool {
        self.place().is_ok_and(|place| place.size > 1)
    }

    /// The same for all processes: without which of them this is and where they meet.
    pub(crate) fn without_place(self) -> Self {
        DistributedOptions { rank: None, world_size: None, address: None, port: None, ..self }
    }
}
