//! The results of runs.

use super::history::EvaluationRecord;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The run's name.
    pub tag: String,
    /// Its seed.
    pub seed: u64,
    /// Epochs trained.
    pub epochs: u64,
    /// Mini-batches seen.
    pub batches: u64,
    /// Mini-batches in which the cutoff left no label: no step was taken.
    pub skipped: u64,
    /// The mean effective batch size of the others.
    pub effective_batch_size: f64,
    /// The test errors at the end.
    pub last: EvaluationRecord,
    /// The test errors where RMSE was lowest.
    pub best: EvaluationRecord,
    /// What was left out of the data when they were read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// In what the data differed from those before where the run went on with other ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_data: Vec<String>,
    /// The run directory, if there is one.
    pub out: Option<PathBuf>,
}

/// How one run of a sweep ended.
#[derive(Clone, Debug, Serialize)]
pub struct CellOutcome {
    /// The name of its variant.
    pub variant: String,
    /// Its seed.
    pub seed: u64,
    /// Its result, if it has one.
    pub outcome: Option<Outcome>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}
