//! The results of a sweep: mean and spread per variant, as a table and as curves.

use super::charts::{Chart, Kind, Series};
use crate::experiment::LabelKind;
use crate::experiment::history::{EvaluationRecord, History};
use crate::experiment::outcome::{CellOutcome, Outcome};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Mean and sample standard deviation over the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation; 0 for one value.
    pub std: f64,
}

impl Spread {
    /// The spread of `values`, at least one.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Spread { mean, std: if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 } }
    }
}

/// One variant's runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The variant.
    pub variant: String,
    /// How many of its runs are complete.
    pub runs: usize,
    /// What is known of the noise of the test labels; where runs differ, the kind of which least can be said.
    pub test_labels: LabelKind,
    /// Test RMSE at the end, in the labels' unit.
    pub rmse: Spread,
    /// Test RMSE where it was lowest.
    pub best_rmse: Spread,
    /// Test MSE at the end, in normalised units.
    pub normalized_mse: Spread,
    /// Test MSE where RMSE was lowest, in normalised units.
    pub best_normalized_mse: Spread,
    /// After which mini-batch that was.
    pub best_batch: Spread,
    /// The mean effective batch size.
    pub effective_batch_size: Spread,
    /// The shares of the test labels within their central 68 % and 95 %, of models with error bars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<[Spread; 2]>,
}

/// The table of a sweep, a row per variant that has complete runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// In the order of the sweep.
    pub rows: Vec<Row>,
}

/// The table of these runs.
pub fn table(outcomes: &[CellOutcome]) -> Table {
    let mut rows: Vec<Row> = Vec::new();
    for CellOutcome { variant, .. } in outcomes {
        let runs: Vec<&Outcome> =
            outcomes.iter().filter(|cell| cell.variant == *variant).filter_map(|cell| cell.outcome.as_ref()).collect();
        if runs.is_empty() || rows.iter().any(|row| row.variant == *variant) {
            continue;
        }
        let spread = |value: fn(&Outcome) -> f64| Spread::of(&runs.iter().map(|run| value(run)).collect::<Vec<_>>());
        rows.push(Row {
            variant: variant.clone(),
            runs: runs.len(),
            test_labels: runs.iter().map(|run| run.last.test_labels).max().unwrap_or_default(),
            rmse: spread(|run| run.last.rmse),
            best_rmse: spread(|run| run.best.rmse),
            normalized_mse: spread(|run| run.last.normalized_mse),
            best_normalized_mse: spread(|run| run.best.normalized_mse),
            best_batch: spread(|run| run.best.batch as f64),
            effective_batch_size: spread(|run| run.effective_batch_size),
            coverage: runs.iter().all(|run| run.last.bars.is_some()).then(|| {
                [
                    spread(|run| run.last.bars.map_or(f64::NAN, |bars| bars.coverage_68)),
                    spread(|run| run.last.bars.map_or(f64::NAN, |bars| bars.coverage_95)),
                ]
            }),
        });
    }
    Table { rows }
}

impl Table {
    /// As Markdown, mean ± sample standard deviation.
    pub fn markdown(&self) -> String {
        let has_bars = self.rows.iter().any(|row| row.coverage.is_some());
        let mut header = vec![
            "variant",
            "runs",
            "test labels",
            "RMSE at the end",
            "RMSE at its best",
            "normalised MSE at the end",
            "at its best",
            "best after mini-batch",
            "effective batch size",
        ];
        if has_bars {
            header.push("68 % and 95 % bars hold");
        }
        let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
        for row in &self.rows {
            let cell = |Spread { mean, std }: Spread| {
                let decimals = decimals(mean);
                format!("{mean:.decimals$} ± {std:.decimals$}")
            };
            let _ = write!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {:.0} | {:.1} |",
                row.variant.replace('|', "\\|"),
                row.runs,
                row.test_labels,
                cell(row.rmse),
                cell(row.best_rmse),
                cell(row.normalized_mse),
                cell(row.best_normalized_mse),
                row.best_batch.mean,
                row.effective_batch_size.mean
            );
            text += &match row.coverage {
                _ if !has_bars => "\n".into(),
                None => " |\n".into(),
                Some([middle, most]) => format!(" {:.0} % / {:.0} % |\n", 100.0 * middle.mean, 100.0 * most.mean),
            };
        }
        text
    }

    /// As CSV, every digit.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names =
            ["rmse", "best_rmse", "normalized_mse", "best_normalized_mse", "best_batch", "effective_batch_size"];
        let bars: &[&str] =
            if self.rows.iter().any(|row| row.coverage.is_some()) { &["coverage_68", "coverage_95"] } else { &[] };
        let header = ["variant".to_string(), "runs".to_string()].into_iter();
        let header = header.chain(names.iter().chain(bars).flat_map(|name| [name.to_string(), format!("{name}_std")]));
        let header = header.chain(["test_labels".to_string()]);
        // A Vec takes whatever is written.
        let _ = writer.write_record(header);
        for row in &self.rows {
            let spreads = [
                row.rmse,
                row.best_rmse,
                row.normalized_mse,
                row.best_normalized_mse,
                row.best_batch,
                row.effective_batch_size,
            ];
            let numbers = |spread: &Spread| [spread.mean.to_string(), spread.std.to_string()];
            let coverage = match &row.coverage {
                Some(coverage) => coverage.iter().flat_map(numbers).collect(),
                None => vec![String::new(); 2 * bars.len()],
            };
            let numbers = spreads.iter().flat_map(numbers).chain(coverage).chain([row.test_labels.to_string()]);
            let _ = writer.write_record([row.variant.clone(), row.runs.to_string()].into_iter().chain(numbers));
        }
        String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
    }
}

/// How many decimals of a number of this size say something.
fn decimals(value: f64) -> usize {
    match value.abs() {
        magnitude if magnitude >= 1000.0 => 0,
        magnitude if magnitude >= 10.0 => 1,
        magnitude if magnitude >= 1.0 => 2,
        _ => 4,
    }
}

/// The test errors of each variant by mini-batch, mean over its runs with their spread, as SVG.
pub fn curves(histories: &[(&str, History)]) -> String {
    let mut series: Vec<Series> = Vec::new();
    for (variant, _) in histories {
        if series.iter().any(|known| known.name == *variant) {
            continue;
        }
        let mut by_batch: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (_, history) in histories.iter().filter(|(name, _)| name == variant) {
            for EvaluationRecord { batch, normalized_mse, .. } in &history.evaluations {
                by_batch.entry(*batch).or_default().push(*normalized_mse);
            }
        }
        let spreads: Vec<(f64, Spread)> =
            by_batch.into_iter().map(|(batch, values)| (batch as f64, Spread::of(&values))).collect();
        let points = spreads.iter().map(|&(batch, spread)| (batch, spread.mean)).collect();
        let band = spreads.iter().map(|(_, Spread { mean, std })| (mean - std, mean + std)).collect();
        let color = series.len();
        series.push(Series { band: Some(band), ..Series::new(*variant, Kind::Line, color, points) });
    }
    let evaluations = histories.iter().flat_map(|(_, history)| &history.evaluations);
    let kinds: BTreeSet<LabelKind> = evaluations.map(|test| test.test_labels).collect();
    let labels: Vec<String> = kinds.iter().map(|kind| kind.describe("test labels")).collect();
    Chart {
        title: format!("Error on {}, mean and spread over the seeds", labels.join(" and ")),
        x_label: "mini-batch".into(),
        y_label: "MSE (normalised units)".into(),
        log_y: true,
        series,
        ..Chart::default()
    }
    .svg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::history::tests::evaluation;

    #[test]
    fn a_row_claims_no_more_of_its_test_labels_than_each_of_its_runs() {
        let of = |kinds: &[LabelKind]| {
            let run = |(seed, &test_labels): (usize, &LabelKind)| {
                let last = EvaluationRecord { test_labels, ..evaluation(1, 1.5) };
                let outcome = Outcome {
                    tag: "mse".into(),
                    seed: seed as u64,
                    epochs: 1,
                    batches: 1,
                    skipped: 0,
                    effective_batch_size: 8.0,
                    best: last.clone(),
                    last,
                    left_out: vec![],
                    accepted_data: vec![],
                    out: None,
                };
                CellOutcome { variant: "mse".into(), seed: seed as u64, outcome: Some(outcome), error: None }
            };
            let cells: Vec<CellOutcome> = kinds.iter().enumerate().map(run).collect();
            table(&cells).rows[0].test_labels
        };
        use LabelKind::{Clean, Noisy, Unknown};
        assert_eq!([of(&[Clean, Clean]), of(&[Clean, Noisy]), of(&[Unknown, Noisy])], [Clean, Noisy, Unknown]);
    }

    #[test]
    fn a_variants_name_is_one_field_whatever_is_in_it() {
        let spread = Spread::of(&[1.5, 2.5]);
        let name = "biv, \"0.1\"";
        let row = Row {
            variant: name.into(),
            runs: 2,
            test_labels: LabelKind::Noisy,
            rmse: spread,
            best_rmse: spread,
            normalized_mse: spread,
            best_normalized_mse: spread,
            best_batch: spread,
            effective_batch_size: spread,
            coverage: None,
        };
        let text = Table { rows: vec![row] }.csv();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!((&record[0], &record[1], &record[2]), (name, "2", "2"));
    }
}
