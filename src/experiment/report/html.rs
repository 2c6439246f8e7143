//! A run as one HTML page: metrics, figures, configuration.

use super::figures::{effective_batch_size, error_by_variance, mean, note, predictions, test_error, training_loss};
use super::fit_page::fit_figures;
use super::page::{Page, counted, table};
use super::text::{integer, number};
use crate::experiment::history::{EvaluationRecord, History, Outputs, SetOutputs};
use crate::train::fit::FitReport;
use jiff::Timestamp;
use serde_json::Value;

/// The page of a run. `config` is the resolved configuration, whose `tag` is the title; `versions` is what made
/// the run: libraries, hardware. All text in them is escaped. Nothing has to be there: a run without evaluations,
/// or without steps, has a page too. Where the run was a `fit`, it has that one's figures beside its own.
/// `notes` are what a reader must know of the results.
pub fn html(
    config: &Value,
    versions: &Value,
    history: &History,
    outputs: &Outputs,
    fit: Option<&FitReport>,
    notes: Vec<String>,
) -> String {
    let labels = config.pointer("/dataset/csv/labels").and_then(Value::as_array);
    let labels: Vec<&str> = labels.into_iter().flatten().filter_map(Value::as_str).collect();
    let mut figures = summary(history, &outputs.test);
    match fit {
        // A fit records no steps, and evaluates once.
        Some(report) => figures += &fit_figures(report, &labels, outputs.train.label_kind()),
        None => {
            figures += &test_error(history, &outputs.test);
            figures += &training_loss(history, &outputs.train);
            figures += &effective_batch_size(history);
        }
    }
    figures += &predictions(&outputs.test);
    figures += &error_by_variance(&outputs.train);
    Page {
        title: config.get("tag").and_then(Value::as_str).unwrap_or("Training run"),
        overview: overview(history, outputs),
        tiles: tiles(history, &outputs.test),
        notes,
        figures,
        config,
        versions,
    }
    .html()
}

/// When the run took place, for how long, and on how much.
fn overview(history: &History, outputs: &Outputs) -> String {
    let steps = || history.steps.iter();
    let tests = || history.evaluations.iter();
    let times = || steps().map(|step| step.time).chain(tests().map(|test| test.time));
    let (start, end) = (times().fold(f64::INFINITY, f64::min), times().fold(f64::NEG_INFINITY, f64::max));
    let mut parts = Vec::new();
    if let (Ok(first), Ok(_)) = (Timestamp::from_second(start as i64), Timestamp::from_second(end as i64))
        && start <= end
    {
        parts.push(first.strftime("%-d %B %Y, %H:%M UTC").to_string());
        parts.push(format!("{} from the first step to the end", duration(end - start)));
    }
    let epochs = steps().map(|step| step.epoch).chain(tests().map(|test| test.epoch)).max().unwrap_or(0);
    let counts = [(epochs, "epoch", "epochs"), (history.steps.len() as u64, "mini-batch", "mini-batches")];
    parts.extend(counts.map(|(count, one, many)| counted(count, one, many)));
    for (part, one, many) in
        [(&outputs.train, "training label", "training labels"), (&outputs.test, "test label", "test labels")]
    {
        let [one, many] = [one, many].map(|labels| part.label_kind().describe(labels));
        parts.push(counted(part.labels.len() as u64, &one, &many));
    }
    parts.join(" · ")
}

/// A time in seconds, in words.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

/// The numbers that a reader looks for first.
fn tiles(history: &History, test: &SetOutputs) -> Vec<(String, String)> {
    let mut tiles = Vec::new();
    if let (Some(best), Some(last)) = (history.best(), history.evaluations.last()) {
        let worse = match 100.0 * (last.rmse / best.rmse - 1.0) {
            worse if worse.is_finite() && worse > 0.0 => format!(", {worse:.1} % above the best"),
            _ => String::new(),
        };
        let labels = test.kind.describe("test labels");
        tiles.push((number(best.rmse), format!("best RMSE on {labels}, in label units, epoch {}", best.epoch)));
        tiles.push((number(last.rmse), format!("final RMSE, epoch {}{worse}", last.epoch)));
        tiles.push((best.r2.map_or("–".into(), number), "R² at the best RMSE; 1 is perfect".into()));
        tiles
            .push((number(best.normalized_mse), "normalised MSE there; always predicting the mean has about 1".into()));
    }
    let sizes: Vec<f64> = history.steps.iter().map(|step| step.effective_batch_size).collect();
    if !sizes.is_empty() {
        tiles.push((number(mean(&sizes)), "effective batch size on average, in samples".into()));
    }
    tiles
}

/// The metrics at the best evaluation and at the last one.
fn summary(history: &History, test: &SetOutputs) -> String {
    let title = format!("Errors on {}", test.kind.describe("test labels"));
    let (Some(best), Some(last)) = (history.best(), history.evaluations.last()) else {
        return note(&title, "The run was never evaluated.");
    };
    let column = |name, test: &EvaluationRecord| {
        format!("{name}<br/>epoch {}<br/>mini-batch {}", test.epoch, integer(test.batch))
    };
    let caption = format!(
        "{} Lower is better, except for R²; the best evaluation is the one with the least RMSE, and since the test set \
         chose it, it flatters a little.",
        test.kind.meaning("test labels")
    );
    table(&title, &[column("best", best), column("final", last)], &metrics(&[best, last]), &caption)
}

/// The metrics of evaluations, a column each.
pub(super) fn metrics(evaluations: &[&EvaluationRecord]) -> Vec<(&'static str, Vec<String>)> {
    type Metric = (&'static str, fn(&EvaluationRecord) -> Option<f64>);
    let metrics: [Metric; 7] = [
        ("RMSE, label units", |test| Some(test.rmse)),
        ("MAE, label units", |test| Some(test.mae)),
        ("MSE, label units squared", |test| Some(test.mse)),
        ("R²", |test| test.r2),
        ("RMSE, normalised", |test| Some(test.normalized_rmse)),
        ("MAE, normalised", |test| Some(test.normalized_mae)),
        ("MSE, normalised", |test| Some(test.normalized_mse)),
    ];
    let cell = |value: Option<f64>| value.map_or("–".into(), number);
    metrics.map(|(name, metric)| (name, evaluations.iter().map(|test| cell(metric(test))).collect())).to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::charts::tests::elements;
    use super::super::figures::tests::run;
    use super::*;
    use crate::experiment::LabelKind;
    use crate::experiment::history::tests::{evaluation, step};
    use crate::experiment::history::{SetOutputs, StepRecord};
    use serde_json::json;

    #[test]
    fn a_page_shows_the_run_and_escapes_its_configuration() {
        let (history, outputs) = run();
        let config = json!({"tag": "<b>&\"tag\"", "model": {"hidden": [50, 20], "kind": "<script>"},
                            "schedule": [{"epoch": 5}], "none": {}});
        let page = html(&config, &json!({"libbiv": "0.1.0"}), &history, &outputs, None, vec!["its <labels>".into()]);
        assert!(page.contains("Errors on clean test labels"));
        let found = elements(page.strip_prefix("<!DOCTYPE html>").unwrap());
        assert_eq!((found["svg"], found["figure"], found["title"]), (5, 6, 6));
        assert_eq!(found["circle"], 2000 + 6 + 1 + 2, "points, evaluations, the best, and two keys");
        assert!(page.contains("<p>⚠ its &lt;labels&gt;</p>"));
        for absent in ["script", "link", "img", "b&"] {
            assert!(!found.contains_key(absent), "{absent}");
        }
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("url("));
        for text in [
            "<h1>&lt;b&gt;&amp;&quot;tag&quot;</h1>",
            "<code>model.hidden</code></th><td><code>50, 20</code>",
            "<code>schedule[0].epoch</code></th><td><code>5</code>",
            "&lt;script&gt;",
            "<b>1.500</b><span>best RMSE on clean test labels, in label units, epoch 200</span>",
            "16.7 % above the best",
            "<th scope=\"row\">MSE, normalised</th><td>0.5625</td><td>0.7656</td>",
            "2,000 of 3,000 rows are shown",
        ] {
            assert!(page.contains(text), "{text}");
        }
    }

    #[test]
    fn degenerate_runs_have_a_page() {
        let part = |value: f64, rows: usize| SetOutputs {
            labels: vec![value; rows],
            clean_labels: vec![value; rows],
            variances: Some((0..rows).map(|row| value * row as f64).collect()),
            predictions: vec![-value; rows],
            kind: LabelKind::Noisy,
            simulated: false,
        };
        for value in [0.0, 1.0, 1e-300, 1e300, f64::MAX, f64::NAN, f64::INFINITY] {
            for rows in [0, 1, 2, 11, 300] {
                let skipped = StepRecord { loss: None, time: value, ..step(1, 0.0) };
                let taken = StepRecord { effective_batch_size: value, ..step(2, value) };
                let history = History {
                    steps: [skipped, taken].into_iter().cycle().take(rows).collect(),
                    evaluations: (0..rows as u64).map(|batch| evaluation(batch, value)).collect(),
                };
                let outputs = Outputs { train: part(value, rows), test: part(value, rows) };
                let page = html(&json!({}), &json!(null), &history, &outputs, None, vec![]);
                elements(page.strip_prefix("<!DOCTYPE html>").unwrap());
                assert!(page.contains("<h1>Training run</h1>") && !page.contains("NaN"), "{value} {rows}");
            }
        }
    }
}
