//! The record of a run, in memory and as JSON lines.

use super::labels::LabelKind;
use crate::data::Dataset;
use crate::train::metrics::{Calibration, Metrics};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One mini-batch of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Mini-batches seen so far, this one included: the first has 1.
    pub batch: u64,
    /// The epoch that it belongs to, from 1.
    pub epoch: u64,
    /// The training loss in normalised units; none where the cutoff left no sample, so that no step was taken.
    pub loss: Option<f64>,
    /// `(sum w)^2 / sum w^2` of the samples' weights, between 0 (no sample left) and the batch size.
    pub effective_batch_size: f64,
    /// The epsilon of the weights, in normalised units.
    pub epsilon: f64,
    /// The samples whose weight is not zero.
    pub samples_used: usize,
    /// When the step ended, in seconds since the Unix epoch.
    pub time: f64,
}

/// One evaluation on the test set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Mini-batches seen before the evaluation.
    pub batch: u64,
    /// The epoch that the last of them belongs to, from 1.
    pub epoch: u64,
    /// What is known of the noise of the test labels, against which all errors are.
    #[serde(default)]
    pub test_labels: LabelKind,
    /// Mean squared error, in the square of the labels' unit.
    pub mse: f64,
    /// Its square root, in the labels' unit.
    pub rmse: f64,
    /// Mean absolute error, in the labels' unit.
    pub mae: f64,
    /// Coefficient of determination; none where the labels are constant.
    pub r2: Option<f64>,
    /// `mse` in normalised units.
    pub normalized_mse: f64,
    /// `rmse` in normalised units.
    pub normalized_rmse: f64,
    /// `mae` in normalised units.
    pub normalized_mae: f64,
    /// How well the model's error bars hold; none where it has no error bars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bars: Option<Calibration>,
    /// When the evaluation ended, in seconds since the Unix epoch.
    pub time: f64,
}

/// One line of a run's record: `{"kind": "step", "batch": 1, ...}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// A mini-batch.
    Step(StepRecord),
    /// An evaluation.
    Evaluation(EvaluationRecord),
}

/// Everything that a run has recorded so far, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The mini-batches.
    pub steps: Vec<StepRecord>,
    /// The evaluations.
    pub evaluations: Vec<EvaluationRecord>,
}

/// Labels and predictions of the training or the test set at the end of a run, in the labels' unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetOutputs {
    /// The labels as they were trained on or evaluated against, with their noise.
    pub labels: Vec<f64>,
    /// The labels before simulated noise; without any, the labels.
    pub clean_labels: Vec<f64>,
    /// What is known of the noise of `clean_labels`.
    pub kind: LabelKind,
    /// Whether the noise of `labels` was simulated, on top of what `clean_labels` have.
    pub simulated: bool,
    /// The variance of each label's noise, in the square of the labels' unit; none where there is no noise.
    pub variances: Option<Vec<f64>>,
    /// What the model predicts.
    pub predictions: Vec<f64>,
}

/// Labels and predictions at the end of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outputs {
    /// The training set.
    pub train: SetOutputs,
    /// The test set.
    pub test: SetOutputs,
}

impl EvaluationRecord {
    /// Of an evaluation that has just ended.
    pub(super) fn new(batch: u64, epoch: u64, test_labels: LabelKind, metrics: &Metrics) -> Self {
        EvaluationRecord {
            batch,
            epoch,
            test_labels,
            mse: metrics.mse,
            rmse: metrics.rmse,
            mae: metrics.mae,
            r2: Some(metrics.r2).filter(|r2| r2.is_finite()),
            normalized_mse: metrics.normalized_mse,
            normalized_rmse: metrics.normalized_rmse,
            normalized_mae: metrics.normalized_mae,
            bars: metrics.bars,
            time: now(),
        }
    }
}

impl SetOutputs {
    /// Of `data`, whose labels without simulated noise are of this kind, and what a model predicts for it.
    pub(super) fn new(data: &Dataset, kind: LabelKind, predictions: Vec<f64>) -> Self {
        SetOutputs {
            labels: data.labels().to_vec(),
            clean_labels: data.clean_labels().to_vec(),
            kind,
            simulated: data.has_clean_labels(),
            variances: data.variances().map(<[f64]>::to_vec),
            predictions,
        }
    }

    /// What is known of the noise of `labels`.
    pub(super) fn label_kind(&self) -> LabelKind {
        let has_noise = || self.variances.iter().flatten().any(|&variance| variance > 0.0);
        if self.simulated && has_noise() { LabelKind::Noisy } else { self.kind }
    }
}

impl History {
    /// Adds what happened last.
    pub fn push(&mut self, record: Record) {
        match record {
            Record::Step(step) => self.steps.push(step),
            Record::Evaluation(evaluation) => self.evaluations.push(evaluation),
        }
    }

    /// Drops what came after mini-batch number `batch`, as when a run resumes from a checkpoint.
    pub fn truncate(&mut self, batch: u64) {
        self.steps.retain(|step| step.batch <= batch);
        self.evaluations.retain(|evaluation| evaluation.batch <= batch);
    }

    /// The evaluation with the least RMSE, the first of equals.
    pub fn best(&self) -> Option<&EvaluationRecord> {
        self.evaluations.iter().min_by(|a, b| a.rmse.total_cmp(&b.rmse))
    }

    /// Every record in the order in which it happened: an evaluation follows the step that it came after.
    pub fn records(&self) -> Vec<Record> {
        let steps = self.steps.iter().map(|step| (step.batch, Record::Step(step.clone())));
        let evaluations = self.evaluations.iter().map(|test| (test.batch, Record::Evaluation(test.clone())));
        let mut records: Vec<(u64, Record)> = steps.chain(evaluations).collect();
        records.sort_by_key(|(batch, _)| *batch);
        records.into_iter().map(|(_, record)| record).collect()
    }

    /// Reads JSON lines, one [`Record`] each. A last line without its end, as a killed
    /// process leaves one, is dropped unless it is whole.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Io`]; [`Error::Parse`] with the number of the line, from 1.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        let mut history = History::default();
        for (at, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            match serde_json::from_slice(line.trim_ascii_end()) {
                Ok(record) => history.push(record),
                Err(_) if !line.ends_with(b"\n") => {}
                Err(error) => {
                    // The text is one line of the file: what serde_json calls "line 1 column 7" is only its column.
                    let error = error.to_string().replace(" at line 1 column ", ", at column ");
                    return Err(Error::Parse(format!("{}, line {}: {error}", path.display(), at + 1)));
                }
            }
        }
        Ok(history)
    }
}

/// Seconds since the Unix epoch, the `time` of records.
pub(super) fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|since| since.as_secs_f64()).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A step that took place.
    pub fn step(batch: u64, loss: f64) -> StepRecord {
        let time = 1.7e9 + batch as f64;
        StepRecord {
            batch,
            epoch: 1,
            loss: Some(loss),
            effective_batch_size: 7.25,
            epsilon: 0.1,
            samples_used: 8,
            time,
        }
    }

    /// An evaluation with a root mean squared error of `rmse`, labels having a standard deviation of 2.
    pub fn evaluation(batch: u64, rmse: f64) -> EvaluationRecord {
        EvaluationRecord {
            batch,
            epoch: batch / 2,
            test_labels: LabelKind::Clean,
            mse: rmse * rmse,
            rmse,
            mae: 0.8 * rmse,
            r2: Some(1.0 - rmse * rmse / 4.0),
            normalized_mse: rmse * rmse / 4.0,
            normalized_rmse: rmse / 2.0,
            normalized_mae: 0.4 * rmse,
            bars: None,
            time: 1.7e9 + batch as f64 + 0.5,
        }
    }

    fn history() -> History {
        let skipped = StepRecord { loss: None, effective_batch_size: 0.0, samples_used: 0, ..step(3, 0.0) };
        History {
            steps: vec![step(1, 0.1 + 0.2), step(2, 1.0 / 3.0), skipped, step(4, 5e-324)],
            evaluations: vec![evaluation(2, 1.5), EvaluationRecord { r2: None, ..evaluation(4, 1.25) }],
        }
    }

    fn lines(history: &History) -> String {
        history.records().iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect()
    }

    fn read(text: &str) -> Result<History> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        History::read(file.path())
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = lines(&history());
        assert!(text.starts_with(r#"{"kind":"step","batch":1,"epoch":1,"loss":0.30000000000000004,"#), "{text}");
        let kinds: Vec<bool> = text.lines().map(|line| line.contains(r#""kind":"evaluation""#)).collect();
        assert_eq!(kinds, [false, false, true, false, false, true]);
        assert_eq!(read(&text).unwrap(), history());
        assert_eq!(read("").unwrap(), History::default());
    }

    #[test]
    fn a_torn_last_line_is_dropped_wherever_it_is_torn() {
        let text = lines(&history());
        let mut whole = history();
        assert_eq!(read(&text[..text.len() - 1]).unwrap(), whole);
        whole.evaluations.pop();
        let last = text[..text.len() - 1].rfind('\n').unwrap() + 1;
        for end in last..text.len() - 1 {
            assert_eq!(read(&text[..end]).unwrap(), whole, "torn after {:?}", &text[last..end]);
        }
    }

    #[test]
    fn other_faults_are_errors_with_the_line() {
        let text = lines(&history()).replacen(r#""batch":2"#, r#""batch":-2"#, 1);
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(", line 2: ") && error.contains("-2"), "{error}");
        let error = read(&(lines(&history()) + "{\"kind\": \n")).unwrap_err().to_string();
        assert!(error.contains(", line 7: ") && error.contains(", at column"), "{error}");
        assert!(matches!(History::read(Path::new("nowhere/history.jsonl")), Err(Error::NotFound(_))));
    }

    #[test]
    fn truncate_keeps_what_came_before() {
        let mut history = history();
        history.truncate(3);
        assert_eq!(history.steps.iter().map(|step| step.batch).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(history.evaluations.iter().map(|test| test.batch).collect::<Vec<_>>(), [2]);
    }
}
