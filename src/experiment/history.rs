//! The record of a run: what each mini-batch and each evaluation measured.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One mini-batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Mini-batches seen so far, this one included.
    pub batch: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// The loss before the step, in normalised units; `None` where the cutoff left no label and no step was taken.
    pub loss: Option<f64>,
    /// The effective batch size `(sum w)^2 / sum w^2`.
    pub effective_batch_size: f64,
    /// The epsilon used, in normalised units.
    pub epsilon: f64,
    /// How many rows have a weight.
    pub samples_used: usize,
    /// When, in seconds since 1970.
    pub time: f64,
}

/// The errors on the test set after a mini-batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Mini-batches seen so far.
    pub batch: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Mean squared error, in the square of the labels' unit.
    pub mse: f64,
    /// Its square root.
    pub rmse: f64,
    /// Mean absolute error, in the labels' unit.
    pub mae: f64,
    /// Coefficient of determination; `None` where the labels are constant.
    pub r2: Option<f64>,
    /// `mse` in normalised units.
    pub normalized_mse: f64,
    /// `rmse` in normalised units.
    pub normalized_rmse: f64,
    /// `mae` in normalised units.
    pub normalized_mae: f64,
    /// When, in seconds since 1970.
    pub time: f64,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// A mini-batch was seen.
    Step(StepRecord),
    /// The test set was evaluated.
    Evaluation(EvaluationRecord),
}

/// All the records of a run, each kind in the order in which it was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The mini-batches.
    pub steps: Vec<StepRecord>,
    /// The evaluations.
    pub evaluations: Vec<EvaluationRecord>,
}

/// One part of the data at the end of a run, row by row in the labels' unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The labels that training saw.
    pub labels: Vec<f64>,
    /// The labels before simulated noise.
    pub clean_labels: Vec<f64>,
    /// The variances that the loss was told.
    pub variances: Option<Vec<f64>>,
    /// The predictions, in evaluation mode.
    pub predictions: Vec<f64>,
}

/// Both parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// What was trained on.
    pub train: Part,
    /// What was evaluated.
    pub test: Part,
}

impl History {
    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        match record {
            Record::Step(step) => self.steps.push(step),
            Record::Evaluation(evaluation) => self.evaluations.push(evaluation),
        }
    }

    /// Forgets what came after the first `batch` mini-batches.
    pub fn truncate(&mut self, batch: u64) {
        self.steps.retain(|step| step.batch <= batch);
        self.evaluations.retain(|evaluation| evaluation.batch <= batch);
    }

    /// Everything in the order in which it was measured.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let mut evaluations = self.evaluations.iter().peekable();
        self.steps.iter().flat_map(move |step| {
            let mut records = vec![Record::Step(step.clone())];
            while let Some(evaluation) = evaluations.next_if(|evaluation| evaluation.batch <= step.batch) {
                records.push(Record::Evaluation(evaluation.clone()));
            }
            records
        })
    }

    /// Reads a log of one JSON object a line. A last line that is not complete,
    /// as a killed process leaves it, is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`]; [`Error::Corrupt`] with the line that is no record.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut history = History::default();
        for (at, line) in complete.lines().enumerate() {
            let record = serde_json::from_str(line)
                .map_err(|error| Error::Corrupt(format!("{}: line {}: {error}", path.display(), at + 1)))?;
            history.push(record);
        }
        Ok(history)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A made-up run: the loss falls, the test error has its minimum in the middle.
    pub(crate) fn example(batches: u64) -> History {
        let mut history = History::default();
        for batch in 1..=batches {
            let at = batch as f64 / batches as f64;
            let (epoch, time) = ((batch - 1) / 10 + 1, 1e9 + batch as f64);
            let loss = (batch % 7 != 3).then_some(1.0 / (1.0 + 9.0 * at) + 0.1 * (batch as f64).sin().abs());
            history.push(Record::Step(StepRecord {
                batch,
                epoch,
                loss,
                effective_batch_size: 100.0 + 20.0 * (batch as f64).cos(),
                epsilon: 0.0,
                samples_used: 256,
                time,
            }));
            if batch.is_multiple_of(10) {
                let rmse = 60.0 + 100.0 * (at - 0.4).powi(2);
                history.push(Record::Evaluation(EvaluationRecord {
                    batch,
                    epoch,
                    mse: rmse * rmse,
                    rmse,
                    mae: 0.7 * rmse,
                    r2: Some(1.0 - rmse / 200.0),
                    normalized_mse: rmse * rmse / 30_000.0,
                    normalized_rmse: rmse / 173.2,
                    normalized_mae: 0.7 * rmse / 173.2,
                    time,
                }));
            }
        }
        history
    }

    #[test]
    fn a_log_reads_back_without_its_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let history = example(25);
        let lines: String = history.records().map(|record| serde_json::to_string(&record).unwrap() + "\n").collect();
        for cut in [0, 1, 40] {
            std::fs::write(&path, &lines[..lines.len() - cut]).unwrap();
            let mut expected = history.clone();
            expected.truncate(if cut == 0 { 25 } else { 24 });
            assert_eq!(History::read(&path).unwrap(), expected, "cut by {cut}");
        }
        std::fs::write(&path, format!("{{}}\n{lines}")).unwrap();
        assert!(History::read(&path).unwrap_err().to_string().contains("log: line 1: missing field `kind`"));
    }

    #[test]
    fn truncation_forgets_what_came_after() {
        let mut history = example(25);
        history.truncate(19);
        assert_eq!((history.steps.len(), history.evaluations.len()), (19, 1));
    }
}
