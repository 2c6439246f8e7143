//! The figures of a run's page: each a chart with a sentence that says how to read it.

use super::charts::{Chart, Kind, Series};
use super::text::{integer, number};
use crate::experiment::LabelKind;
use crate::experiment::history::{EvaluationRecord, History, SetOutputs};

/// The most points that a scatter plot shows.
const POINTS: usize = 2000;

/// The width of the widest running mean, in mini-batches.
const WIDEST_MEAN: usize = 200;

pub(super) fn training_loss(history: &History, train: &SetOutputs) -> String {
    let points: Vec<_> = history.steps.iter().filter_map(|step| Some((step.batch as f64, step.loss?))).collect();
    let skipped = history.steps.len() - points.len();
    let log_y = spans_magnitudes(&points);
    let (series, window) = smoothed("loss", 0, points);
    let mut caption = format!(
        "The loss that training lowers, on {} and weighted as the method says{}{}.",
        train.label_kind().describe("labels"),
        if window > 1 { format!(", with its mean over {window} mini-batches") } else { String::new() },
        match train.label_kind() {
            LabelKind::Noisy => "; how far it falls below the noise tells how much noise is memorised",
            LabelKind::Clean | LabelKind::Unknown => "",
        }
    );
    if skipped > 0 {
        caption +=
            &format!(" {} mini-batches are missing: the cutoff left no sample of them.", integer(skipped as u64));
    }
    let chart = Chart {
        title: "Training loss".into(),
        x_label: "mini-batch".into(),
        y_label: "loss (normalised units)".into(),
        log_y,
        series,
        ..Chart::default()
    };
    figure(&chart, &caption)
}

pub(super) fn test_error(history: &History, test: &SetOutputs) -> String {
    let point = |evaluation: &EvaluationRecord| (evaluation.batch as f64, evaluation.rmse);
    let points: Vec<_> = history.evaluations.iter().map(point).collect();
    let best = history.best().map(point).into_iter().collect();
    let chart = Chart {
        title: format!("Error on {}", test.kind.describe("test labels")),
        x_label: "mini-batch".into(),
        y_label: "RMSE (label units)".into(),
        log_y: spans_magnitudes(&points),
        series: vec![Series::new("RMSE", Kind::Line, 0, points), Series::new("best", Kind::Points, 1, best)],
        ..Chart::default()
    };
    figure(
        &chart,
        "Lower is better; a rise after the best point means that training has begun to fit what only its own rows have, \
         such as the noise of their labels.",
    )
}

pub(super) fn predictions(test: &SetOutputs) -> String {
    let pairs: Vec<_> = test.clean_labels.iter().copied().zip(test.predictions.iter().copied()).collect();
    let shown = pairs.len().min(POINTS);
    // Evenly spread over the rows, so that the same run always shows the same points.
    let points: Vec<_> = (0..shown).map(|at| pairs[at * pairs.len() / shown]).collect();
    let finite = points.iter().flat_map(|&(x, y)| [x, y]).filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
    let chart = Chart {
        title: "Predictions on the test set".into(),
        x_label: format!("{} (label units)", test.kind.describe("label")),
        y_label: "prediction (label units)".into(),
        series: vec![
            Series::new("test rows", Kind::Points, 0, points),
            Series::new("prediction = label", Kind::Reference, 0, vec![(low, low), (high, high)]),
        ],
        ..Chart::default()
    };
    let mut caption = "Each point is a row; the closer to the dashed line, the better the prediction.".to_string();
    caption += match test.kind {
        LabelKind::Clean => "",
        LabelKind::Noisy => " The labels' own noise keeps points away from the line too.",
        LabelKind::Unknown => " Noise of the labels, if they have any, keeps points away from the line too.",
    };
    if pairs.len() > shown {
        caption += &format!(" {} of {} rows are shown.", integer(shown as u64), integer(pairs.len() as u64));
    }
    figure(&chart, &caption)
}

pub(super) fn error_by_variance(train: &SetOutputs) -> String {
    let title = "Error by noise variance, training set";
    let variances = train.variances.as_deref().unwrap_or_default();
    let errors = train.predictions.iter().zip(&train.clean_labels).map(|(prediction, label)| prediction - label);
    // A masked label has an infinite variance.
    let mut rows: Vec<(f64, f64)> =
        variances.iter().copied().zip(errors).filter(|row| row.0 != f64::INFINITY).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let why = match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if first.0 < last.0 => None,
        (Some(_), _) => Some("All labels have the same noise variance, so there is nothing to compare."),
        _ => Some("The training labels have no noise variances."),
    };
    if let Some(why) = why {
        return note(title, why);
    }
    let groups = rows.len().min(10);
    let bars = (0..groups).map(|group| {
        let rows = &rows[group * rows.len() / groups..(group + 1) * rows.len() / groups];
        let variances: Vec<f64> = rows.iter().map(|row| row.0).collect();
        let squares: Vec<f64> = rows.iter().map(|row| row.1 * row.1).collect();
        let x = (group + 1) as f64;
        ((x, mean(&squares).sqrt()), (x, number(mean(&variances))))
    });
    let (points, x_ticks) = bars.unzip();
    let y_label = match (train.kind, train.simulated) {
        // With the unit it would be cut.
        (LabelKind::Noisy | LabelKind::Unknown, true) => "RMSE on labels before simulated noise".into(),
        (kind, _) => format!("RMSE on {} (label units)", kind.describe("labels")),
    };
    let chart = Chart {
        title: title.into(),
        x_label: "mean noise variance of each tenth of the labels (label units squared)".into(),
        y_label,
        x_ticks,
        series: vec![Series::new("", Kind::Bars, 0, points)],
        ..Chart::default()
    };
    let meaning = match train.kind {
        LabelKind::Clean => "bars that rise to the right mean that noise was memorised, level bars that it was not.",
        LabelKind::Noisy => {
            "the noise of these labels is in the errors, so the bars rise with it even where predictions are right."
        }
        LabelKind::Unknown => {
            "bars that rise to the right mean that simulated noise was memorised, level bars that it was not. What noise \
             the labels had before is in the errors too."
        }
    };
    let order = "From the tenth of the training labels with the least noise (left) to that with the most";
    figure(&chart, &format!("{order}: {meaning}"))
}

pub(super) fn effective_batch_size(history: &History) -> String {
    let points = history.steps.iter().map(|step| (step.batch as f64, step.effective_batch_size)).collect();
    let (series, _) = smoothed("effective batch size", 2, points);
    let chart = Chart {
        title: "Effective batch size".into(),
        x_label: "mini-batch".into(),
        y_label: "effective batch size (samples)".into(),
        series,
        ..Chart::default()
    };
    figure(
        &chart,
        "(Σw)² / Σw² of the weights: how many equally weighted samples would count as much as the mini-batch does.",
    )
}

/// A chart with the sentence that says how to read it.
pub(super) fn figure(chart: &Chart, caption: &str) -> String {
    format!("<figure>{}<figcaption>{caption}</figcaption></figure>\n", chart.svg())
}

/// A figure that cannot be drawn: its title, and why not.
pub(super) fn note(title: &str, why: &str) -> String {
    format!("<figure><h2>{title}</h2><figcaption>{why}</figcaption></figure>\n")
}

/// A quantity per mini-batch: the raw values, pale, and their running mean; with the width of the mean.
fn smoothed(name: &str, color: usize, points: Vec<(f64, f64)>) -> (Vec<Series>, usize) {
    let half = (points.len() / 100).min(WIDEST_MEAN / 2);
    let running = |at: usize| {
        let around = &points[at.saturating_sub(half)..points.len().min(at + half + 1)];
        let values: Vec<f64> = around.iter().map(|point| point.1).collect();
        (points[at].0, mean(&values))
    };
    let means = (0..points.len()).map(running).collect();
    if half == 0 {
        return (vec![Series::new(name, Kind::Line, color, points)], 1);
    }
    let raw = Series::new("each mini-batch", Kind::Faint, color, points);
    (vec![raw, Series::new("running mean", Kind::Line, color, means)], 2 * half + 1)
}

/// Whether a logarithmic axis shows the values better: all positive, and the largest more than five times the least.
pub(super) fn spans_magnitudes<'a>(series: impl IntoIterator<Item = &'a (f64, f64)>) -> bool {
    let (mut low, mut high) = (f64::INFINITY, 0.0f64);
    for (_, y) in series {
        (low, high) = (low.min(*y), high.max(*y));
    }
    low > 0.0 && high > 5.0 * low
}

/// The mean, without overflow on the way; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().map(|value| value / values.len() as f64).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::experiment::history::Outputs;
    use crate::experiment::history::tests::{evaluation, step};

    /// A run whose error on the training set grows with the variance of the noise.
    pub fn run() -> (History, Outputs) {
        let history = History {
            steps: (1..=600).map(|batch| step(batch, 1.0 + 10.0 / batch as f64)).collect(),
            evaluations: (1..=6)
                .map(|at| evaluation(100 * at, [9.0, 4.0, 2.0, 1.5, 1.6, 1.75][at as usize - 1]))
                .collect(),
        };
        let clean_labels: Vec<f64> = (0..3000).map(|at| f64::from(at % 97)).collect();
        let part = |variances: Option<Vec<f64>>| SetOutputs {
            labels: clean_labels.clone(),
            clean_labels: clean_labels.clone(),
            // In each hundred rows the error is the number of the hundred.
            predictions: clean_labels.iter().enumerate().map(|(at, label)| label + (at / 300) as f64).collect(),
            kind: LabelKind::Clean,
            simulated: variances.is_some(),
            variances,
        };
        (history, Outputs { train: part(Some((0..3000).map(f64::from).collect())), test: part(None) })
    }

    #[test]
    fn bars_are_the_errors_of_the_variance_deciles() {
        let (_, mut outputs) = run();
        // The order of the rows does not matter, only that of the variances.
        let train = &mut outputs.train;
        train.predictions.reverse();
        train.clean_labels.reverse();
        train.variances.as_mut().unwrap().reverse();
        let figure = error_by_variance(train);
        let heights: Vec<f64> = figure
            .split("<path d=\"M")
            .filter(|path| path.contains("z\" fill="))
            .map(|path| {
                let numbers: Vec<f64> = path.split(['V', 'H', ' ', 'z']).filter_map(|n| n.parse().ok()).collect();
                numbers[1] - numbers[2]
            })
            .collect();
        assert_eq!(heights.len(), 10);
        for (decile, height) in heights.iter().enumerate() {
            assert!((height - heights[9] * decile as f64 / 9.0).abs() < 0.2, "{heights:?}");
        }
        assert!(figure.contains(">149.5<") && figure.contains(">2,850<"), "{figure}");

        train.variances = Some(vec![2.0; 3000]);
        assert!(error_by_variance(train).contains("the same noise variance"));
        train.variances = None;
        assert!(error_by_variance(train).contains("no noise variances"));
    }

    #[test]
    fn figures_say_what_the_labels_are() {
        use LabelKind::{Clean, Noisy, Unknown};
        let part = |kind, simulated| SetOutputs { kind, simulated, ..run().1.train };
        for (kind, axis, claim) in [
            (Clean, ">clean label (label units)<", None),
            (Noisy, ">noisy label (label units)<", Some("own noise keeps points away")),
            (Unknown, ">label of unknown noise (label units)<", Some("if they have any, keeps points away")),
        ] {
            let figure = predictions(&part(kind, false));
            assert!(figure.contains(axis) && figure.contains("away") == claim.is_some(), "{kind}");
            assert!(claim.is_none_or(|claim| figure.contains(claim)), "{kind}");
        }
        for (kind, simulated, axis, claim) in [
            (Clean, true, "RMSE on clean labels (", "that noise was memorised"),
            (Noisy, false, "RMSE on noisy labels (", "the bars rise with it even where predictions are right"),
            (Noisy, true, "RMSE on labels before simulated noise<", "the bars rise with it even where"),
            (Unknown, true, "RMSE on labels before simulated noise<", "that simulated noise was memorised"),
        ] {
            let figure = error_by_variance(&part(kind, simulated));
            assert!(figure.contains(axis) && figure.contains(claim), "{kind} {simulated}");
        }
        let (history, _) = run();
        let unchanged = SetOutputs { variances: Some(vec![0.0; 3000]), ..part(Unknown, true) };
        assert!(training_loss(&history, &unchanged).contains("on labels of unknown noise and"), "noise of variance 0");
        for (kind, simulated, labels) in [
            (Clean, false, "on clean labels and"),
            (Clean, true, "on noisy labels and"),
            (Noisy, false, "on noisy labels and"),
            (Unknown, false, "on labels of unknown noise and"),
            (Unknown, true, "on noisy labels and"),
        ] {
            let figure = training_loss(&history, &part(kind, simulated));
            let below = figure.contains("falls below the noise");
            assert!(figure.contains(labels) && below == labels.contains("noisy"), "{kind} {simulated}");
        }
    }

    #[test]
    fn a_running_mean_is_as_wide_as_it_says() {
        let (series, width) = smoothed("loss", 0, (0..500).map(|at| (f64::from(at), f64::from(at % 2))).collect());
        assert_eq!((series.len(), width), (2, 11));
        assert!((series[1].points[250].1 - 6.0 / 11.0).abs() < 1e-12);
        assert!((series[1].points[0].1 - 0.5).abs() < 1e-12, "the first has only six values around it");
        assert_eq!(smoothed("loss", 0, vec![(1.0, 2.0)]).0.len(), 1);
    }
}
