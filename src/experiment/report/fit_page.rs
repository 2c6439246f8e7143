//! A fit as one HTML page, and its figures for the page of a run.

use super::figures::predictions;
use super::fit_figures::{coverage, epsilon_profile, held_out_loss, residuals_by_variance, training_epsilon};
use super::html::metrics;
use super::page::{Page, counted, table};
use super::text::{escape, number};
use crate::experiment::LabelKind;
use crate::experiment::history::{EvaluationRecord, SetOutputs};
use crate::train::fit::{FitReport, OutputReport};
use serde_json::Value;

/// The page of a fit with this title. `labels` are the outputs' names, and of this kind those that it was fitted to;
/// `test` is what a test set shows, if there was one.
pub fn fit_html(
    title: &str,
    config: &Value,
    versions: &Value,
    report: &FitReport,
    labels: &[&str],
    kind: LabelKind,
    test: Option<(&EvaluationRecord, &SetOutputs)>,
) -> String {
    let mut figures = fit_figures(report, labels, kind);
    if let Some((evaluation, outputs)) = test {
        let title = format!("Errors on {}", outputs.kind.describe("test labels"));
        let caption = format!("{} Lower is better, except for R².", outputs.kind.meaning("test labels"));
        figures += &table(&title, &["the model".into()], &metrics(&[evaluation]), &caption);
        figures += &predictions(outputs);
    }
    let networks = match report.final_epochs {
        Some(epochs) => format!("1 network, trained on all rows for {}", counted(epochs, "epoch", "epochs")),
        None => counted(report.members as u64, "network", "networks"),
    };
    let mut parts = vec![counted(report.rows as u64, "row", "rows"), networks];
    parts.push(format!("stopped at epoch {} of {}", report.stop_epoch, report.epochs));
    if report.masked_labels > 0 {
        parts.push(counted(report.masked_labels as u64, "masked label", "masked labels"));
    }
    Page {
        title,
        overview: parts.join(" · "),
        tiles: tiles(report, labels, kind),
        notes: report.warnings.clone(),
        figures,
        config,
        versions,
    }
    .html()
}

/// The figures of a fit to labels of this kind.
pub(super) fn fit_figures(report: &FitReport, labels: &[&str], kind: LabelKind) -> String {
    let several = report.outputs.len() > 1;
    let name = |number: usize| labels.get(number).map_or(format!("output {number}"), |name| name.to_string());
    let names: Vec<String> = (0..report.outputs.len()).map(name).collect();
    let mut figures = findings(report, &names, kind);
    for (output, name) in report.outputs.iter().zip(&names) {
        let of = if several { format!(": {name}") } else { String::new() };
        figures += &[epsilon_profile(output, &of), residuals_by_variance(output, &of), coverage(output, &of)].concat();
    }
    figures + &held_out_loss(report) + &training_epsilon(report, &names)
}

/// The numbers that a reader looks for first.
fn tiles(report: &FitReport, labels: &[&str], kind: LabelKind) -> Vec<(String, String)> {
    let several = report.outputs.len() > 1;
    let mut tiles = Vec::new();
    for (output, label) in report.outputs.iter().zip(labels) {
        let of = if several { format!(" of {}", escape(label)) } else { String::new() };
        tiles.push((number(output.rmse), format!("RMSE{of} on held-out rows: {}", kind.describe("labels"))));
        let tau = output.variance_model.tau2.sqrt();
        tiles.push((number(tau), format!("tau{of}: the errors that the variances do not explain")));
        let share = format!("{} %", number(100.0 * output.coverage_95));
        tiles.push((share, format!("of the labels{of} within their 95 % error bars")));
    }
    tiles
}

/// What the held-out rows say, a column for each output.
fn findings(report: &FitReport, names: &[String], kind: LabelKind) -> String {
    type Finding = (&'static str, fn(&OutputReport) -> String);
    let findings: [Finding; 11] = [
        ("RMSE on held-out rows", |output| number(output.rmse)),
        ("verdict", |output| output.variance_model.verdict.in_words()[0].into()),
        ("epsilon of the residuals", |output| epsilon(output.variance_model.epsilon)),
        ("epsilon of the weights", |output| epsilon(output.training_epsilon)),
        ("scale", |output| number(output.variance_model.scale)),
        ("tau", |output| number(output.variance_model.tau2.sqrt())),
        ("gain over equal weights, nats per row", |output| {
            format!("{} ± {}", number(output.variance_model.gain), number(output.variance_model.gain_se))
        }),
        ("labels within 68 % bars", |output| format!("{} %", number(100.0 * output.coverage_68))),
        ("labels within 95 % bars", |output| format!("{} %", number(100.0 * output.coverage_95))),
        ("mean z²", |output| number(output.mean_z2)),
        ("mean negative log density, nats", |output| number(output.nlpd)),
    ];
    let rows = findings.map(|(name, finding)| (name, report.outputs.iter().map(finding).collect()));
    let columns: Vec<String> = names.iter().map(|name| escape(name)).collect();
    let verdicts = report.outputs.iter().map(|output| output.variance_model.verdict.in_words());
    let mut verdicts: Vec<String> = verdicts.map(|[name, meaning]| format!("{name}: {meaning}")).collect();
    verdicts.dedup();
    let caption = format!(
        "{} A residual's variance is scale v + tau², where v is the variance of its label's noise. Verdict {}.",
        kind.meaning("held-out labels"),
        verdicts.join("; ")
    );
    table("What held-out rows say", &columns, &rows, &caption)
}

fn epsilon(value: f64) -> String {
    if value == f64::INFINITY { "∞".into() } else { number(value) }
}

#[cfg(test)]
mod tests {
    use super::super::charts::tests::elements;
    use super::*;
    use crate::data::{ProfilePoint, VarianceModel, Verdict};
    use crate::experiment::history::tests::evaluation;
    use crate::train::fit::{Coverage, EpochModel, FitEpoch, ResidualGroup};
    use crate::train::loss::Loss;
    use serde_json::json;

    fn model(value: f64, epsilon: f64) -> VarianceModel {
        VarianceModel {
            epsilon,
            scale: value,
            tau2: value,
            tau2_pm: value,
            epsilon_best: value,
            epsilon_floor: value,
            gain: value,
            gain_se: value,
            mean_z2: value,
            verdict: Verdict::Profile,
            rows: 30,
        }
    }

    /// A report of which all numbers are `value`, but for `epsilon`.
    fn report(value: f64, epsilon: f64, outputs: usize, epochs: u64) -> FitReport {
        let point = |at: i32| ProfilePoint {
            epsilon: if at < 5 { 10f64.powi(at - 2) } else { f64::INFINITY },
            loss: value * f64::from((at - 2).pow(2)),
            standard_error: value,
        };
        let group = |at: i32| ResidualGroup { variance: value * f64::from(at), mean_square: value, expected: value };
        let output = OutputReport {
            variance_model: model(value, epsilon),
            training_epsilon: epsilon,
            mean_spread: value,
            rmse: value,
            mean_z2: value,
            nlpd: value,
            coverage_68: value,
            coverage_95: value,
            coverage: vec![Coverage { expected: 0.68, observed: value }, Coverage { expected: 0.95, observed: value }],
            profile: (0..6).map(point).collect(),
            residuals: (1..=10).map(group).collect(),
        };
        let epoch_model =
            EpochModel { epsilon, training_epsilon: epsilon, scale: value, tau2: value, verdict: Verdict::Profile };
        let epoch =
            |epoch| FitEpoch { epoch, training_loss: value, held_out_loss: value, models: vec![epoch_model; outputs] };
        FitReport {
            rows: 300,
            masked_labels: 2,
            members: 5,
            loss: Loss::automatic(),
            batch_size: 32,
            epochs,
            best_epoch: 1,
            stop_epoch: epochs,
            final_epochs: None,
            outputs: vec![output; outputs],
            warnings: vec!["a < b".into()],
            history: (1..=epochs).map(epoch).collect(),
        }
    }

    #[test]
    fn a_page_shows_the_fit() {
        let outputs = SetOutputs {
            labels: vec![1.0, 2.0],
            clean_labels: vec![1.0, 2.0],
            variances: Some(vec![1.0, 2.0]),
            predictions: vec![1.5, 1.5],
            kind: LabelKind::Noisy,
            simulated: false,
        };
        let evaluation = evaluation(1, 1.5);
        let test = Some((&evaluation, &outputs));
        let page =
            fit_html("a & b", &json!({}), &json!({}), &report(0.5, 100.0, 1, 3), &["y <"], LabelKind::Unknown, test);
        let found = elements(page.strip_prefix("<!DOCTYPE html>").unwrap());
        assert_eq!((found["svg"], found["figure"]), (6, 8));
        for text in [
            "<h1>a &amp; b</h1>",
            "300 rows · 5 networks · stopped at epoch 3 of 3 · 2 masked labels",
            "<p>⚠ a &lt; b</p>",
            "<th scope=\"col\">y &lt;</th>",
            "<th scope=\"row\">verdict</th><td>profile</td>",
            "<b>50.00 %</b><span>of the labels within their 95 % error bars",
            "Errors on noisy test labels",
            "on held-out rows: labels of unknown noise",
            "Whether the held-out labels have noise is not known",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
        assert!(!page.contains("src=") && !page.contains("href="));
    }

    #[test]
    fn the_chosen_epsilon_stands_where_the_axis_says_and_infinity_at_the_end() {
        let position = |epsilon: f64| {
            let figure = epsilon_profile(&report(0.5, epsilon, 1, 3).outputs[0], "");
            let reference = figure.split("class=\"reference\"").last().unwrap().to_string();
            let points = reference.split("points=\"").nth(1).unwrap().split('"').next().unwrap().to_string();
            let x: Vec<f64> = points.split(' ').filter_map(|point| point.split(',').next()?.parse().ok()).collect();
            assert!(x.len() == 2 && x[0] == x[1], "{points}");
            let ticks = figure.split("<text ").filter(|text| text.contains("text-anchor=\"middle\">"));
            let tick = |label: &str| {
                let tick = ticks.clone().find(|text| text.contains(&format!(">{label}<"))).unwrap();
                tick.split('"').nth(1).unwrap().parse::<f64>().unwrap()
            };
            (x[0], tick("10"), tick("100"), tick("∞"))
        };
        let (x, ten, hundred, infinity) = position(10.0);
        assert!((x - ten).abs() < 0.1 && ten < hundred && hundred < infinity);
        let (x, .., infinity) = position(f64::INFINITY);
        assert!((x - infinity).abs() < 0.1);
        let (x, ten, hundred, _) = position(1000f64.sqrt());
        assert!((x - (ten + hundred) / 2.0).abs() < 0.2);
    }

    #[test]
    fn degenerate_fits_have_a_page() {
        let numbers = [0.0, 1.0, 1e-300, 5e-324, 1e300, f64::MAX, f64::NAN, f64::INFINITY, -1.0];
        for value in numbers {
            for epsilon in numbers {
                for (outputs, epochs) in [(1, 1), (2, 2), (9, 0)] {
                    let mut report = report(value, epsilon, outputs, epochs);
                    let page = |report: &FitReport| {
                        let page = fit_html("t", &json!({}), &json!(null), report, &["a", "b"], LabelKind::Noisy, None);
                        elements(page.strip_prefix("<!DOCTYPE html>").unwrap());
                        assert!(!page.contains("NaN"), "{value} {epsilon}");
                        page
                    };
                    page(&report);
                    for output in &mut report.outputs {
                        output.profile.clear();
                        output.residuals.clear();
                        output.coverage.clear();
                    }
                    assert!(page(&report).contains("No rows were held out."));
                }
            }
        }
    }
}
