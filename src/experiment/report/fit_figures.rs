//! The figures of a fit: what held-out rows say of the variances, of the error bars and of each epoch.

use super::charts::{Chart, Kind, Series};
use super::figures::{figure, note, spans_magnitudes};
use super::text::{number, short};
use crate::train::fit::{FitReport, OutputReport};

/// The loss against epsilon, on a logarithmic axis that ends at infinity. `of` is what the title ends with.
pub(super) fn epsilon_profile(output: &OutputReport, of: &str) -> String {
    let title = format!("Which epsilon the residuals allow{of}");
    let model = &output.variance_model;
    if output.profile.is_empty() {
        return note(&title, &format!("Nothing to choose: {}.", model.verdict.in_words()[1]));
    }
    let axis = EpsilonAxis::new(output.profile.iter().map(|point| point.epsilon).chain([model.epsilon]));
    let points: Vec<_> = output.profile.iter().map(|point| (axis.place(point.epsilon), point.loss)).collect();
    let band: Vec<_> = output
        .profile
        .iter()
        .map(|point| (point.loss - point.standard_error, point.loss + point.standard_error))
        .collect();
    let edges = band.iter().flat_map(|&(low, high)| [low, high]).filter(|edge| edge.is_finite());
    let (low, high) = edges.fold((0.0f64, 0.0f64), |(low, high), edge| (low.min(edge), high.max(edge)));
    let chosen = axis.place(model.epsilon);
    let chart = Chart {
        title,
        x_label: "epsilon (label units squared); ∞: equal weights".into(),
        y_label: "loss above the least (nats per row)".into(),
        x_ticks: axis.ticks,
        series: vec![
            Series { band: Some(band), ..Series::new("loss ± standard error", Kind::Line, 0, points) },
            Series::new("chosen epsilon", Kind::Reference, 1, vec![(chosen, low), (chosen, high)]),
        ],
        ..Chart::default()
    };
    figure(
        &chart,
        "How much worse than the best epsilon each other one explains the residuals of held-out rows. The chosen one is \
         the largest whose band reaches down to 0, or that of Paule and Mandel if that is larger.",
    )
}

/// Where epsilons lie: their decimal logarithms, and infinity beyond them.
struct EpsilonAxis {
    infinity: f64,
    ticks: Vec<(f64, String)>,
}

impl EpsilonAxis {
    fn new(epsilons: impl Iterator<Item = f64>) -> Self {
        let logs = epsilons.map(f64::log10).filter(|log| log.is_finite());
        let (low, high) = logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), log| (l.min(log), h.max(log)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
        let infinity = high + (0.08 * (high - low)).max(0.5);
        let powers = (low.ceil() as i32..=high.floor() as i32).step_by(((high - low) / 6.0).ceil().max(1.0) as usize);
        let mut ticks: Vec<_> = powers.map(|power| (f64::from(power), short(number(10f64.powi(power))))).collect();
        ticks.push((infinity, "∞".into()));
        EpsilonAxis { infinity, ticks }
    }

    fn place(&self, epsilon: f64) -> f64 {
        if epsilon == f64::INFINITY { self.infinity } else { epsilon.log10() }
    }
}

/// Mean squared residuals by tenth of the variance, against what the variance model says of them.
pub(super) fn residuals_by_variance(output: &OutputReport, of: &str) -> String {
    let title = format!("Squared residuals by noise variance{of}");
    let groups = &output.residuals;
    match (groups.first(), groups.last()) {
        (Some(first), Some(last)) if first.variance < last.variance => {}
        (Some(_), _) => return note(&title, "All variances are equal, so there is nothing to compare."),
        _ => return note(&title, "No rows were held out."),
    }
    let numbered = || groups.iter().enumerate().map(|(number, group)| (number as f64 + 1.0, group));
    let measured: Vec<_> = numbered().map(|(x, group)| (x, group.mean_square)).collect();
    let expected: Vec<_> = numbered().map(|(x, group)| (x, group.expected)).collect();
    let given: Vec<_> = numbered().map(|(x, group)| (x, group.variance)).collect();
    let chart = Chart {
        title,
        x_label: "mean noise variance of each tenth of the labels (label units squared)".into(),
        y_label: "mean square (label units squared)".into(),
        x_ticks: numbered().map(|(x, group)| (x, short(number(group.variance)))).collect(),
        log_y: spans_magnitudes(measured.iter().chain(&expected)),
        series: vec![
            Series::new("residuals", Kind::Points, 0, measured),
            Series::new("scale v + tau²", Kind::Line, 1, expected),
            Series::new("the given variance v", Kind::Reference, 0, given),
        ],
    };
    figure(
        &chart,
        "Points on the line: the variance model describes the residuals of held-out rows. Points that do not rise: the \
         variances say nothing of them. The scale says how \
         much of the given variances is there, tau² what comes on top.",
    )
}

/// How many held-out labels lie within the error bars.
pub(super) fn coverage(output: &OutputReport, of: &str) -> String {
    let points: Vec<_> = output.coverage.iter().map(|level| (100.0 * level.expected, 100.0 * level.observed)).collect();
    let chart = Chart {
        title: format!("How many labels the error bars cover{of}"),
        x_label: "expected (% of the labels)".into(),
        y_label: "observed on held-out rows (%)".into(),
        series: vec![
            Series::new("held-out rows", Kind::Line, 2, points),
            Series::new("as expected", Kind::Reference, 0, vec![(0.0, 0.0), (100.0, 100.0)]),
        ],
        ..Chart::default()
    };
    figure(
        &chart,
        "Above the dashed line the error bars are too wide, below it too narrow. They count the noise of the label and \
         the error of the prediction, as of a normal distribution.",
    )
}

/// The loss on held-out rows after each epoch.
pub(super) fn held_out_loss(report: &FitReport) -> String {
    let points: Vec<_> = report.history.iter().map(|epoch| (epoch.epoch as f64, epoch.held_out_loss)).collect();
    let at = |number: u64| points.iter().copied().filter(|point| point.0 == number as f64).collect();
    let series = vec![
        Series::new("held-out loss", Kind::Line, 0, points.clone()),
        Series::new("least", Kind::Points, 1, at(report.best_epoch)),
        Series::new("stop", Kind::Points, 2, at(report.stop_epoch)),
    ];
    let chart = Chart {
        title: "Loss on held-out rows".into(),
        x_label: "epoch".into(),
        y_label: "loss (normalised units)".into(),
        log_y: spans_magnitudes(&points),
        series,
        ..Chart::default()
    };
    figure(
        &chart,
        "The mean squared residual, weighted by 1 / (scale v + tau²). The stop is the latest epoch that is no worse than \
         the least by more than one standard error.",
    )
}

/// The epsilon of the weights after each epoch.
pub(super) fn training_epsilon(report: &FitReport, labels: &[String]) -> String {
    let title = "Epsilon of the weights";
    let line = |(number, name): (usize, &String)| {
        let point = |epoch: &crate::train::fit::FitEpoch| {
            Some((epoch.epoch as f64, epoch.models.get(number)?.training_epsilon))
        };
        let points = report.history.iter().filter_map(point).filter(|point| point.1.is_finite());
        Series::new(name, Kind::Line, number, points.collect())
    };
    let series: Vec<Series> = labels.iter().enumerate().map(line).collect();
    let drawn: usize = series.iter().map(|series| series.points.len()).sum();
    if drawn == 0 {
        return note(title, "In all epochs epsilon was infinite: all labels weighed the same.");
    }
    let mut caption = "Labels of noise variance v weigh 1 / (v + epsilon) in the next epoch.".to_string();
    let missing = report.history.len() * labels.len() - drawn;
    if missing > 0 {
        caption += &format!(" It was infinite {missing} times, which is not drawn: all labels weighed the same.");
    }
    let chart = Chart {
        title: title.into(),
        x_label: "epoch".into(),
        y_label: "epsilon (label units squared)".into(),
        log_y: spans_magnitudes(series.iter().flat_map(|series| &series.points)),
        series,
        ..Chart::default()
    };
    figure(&chart, &caption)
}
