//! A run on one self-contained page.

use super::charts::{Chart, Series, Style, escape};
use super::history::{EvaluationRecord, History, Outputs, Part};
use serde_json::Value;
use std::fmt::Write;

/// Points in a scatter chart, at most.
const MOST_POINTS: usize = 2000;

/// The page.
pub(super) fn html(config: &Value, versions: &Value, history: &History, outputs: &Outputs) -> String {
    let tag = escape(config["tag"].as_str().unwrap_or("run"));
    let mut page =
        format!("<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{tag}</title>\n{STYLE}");
    let _ = writeln!(page, "<h1>{tag}</h1>\n<p class=\"sub\">{}</p>", escape(&subtitle(config)));
    page += &summary(history);
    let sections = [
        ("Learning curves", learning_curves(history)),
        ("Predicted against true", predictions(&outputs.test)),
        ("Error by noise variance", error_by_variance(&outputs.train)),
        ("Effective batch size", effective_batch_size(history)),
        ("Configuration", table(config)),
        ("Versions", table(versions)),
    ];
    for (title, content) in sections {
        let _ = writeln!(page, "<section>\n<h2>{title}</h2>\n{content}</section>");
    }
    page + "</html>\n"
}

const STYLE: &str = "<meta name=\"viewport\" content=\"width=device-width\">
<style>
  :root { color-scheme: light dark; --line: #8884; --soft: #888; }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 800px; margin: 2em auto; padding: 0 1em; }
  h1 { margin-bottom: 0; } h2 { margin: 2em 0 .3em; font-size: 1.15em; }
  .sub, figcaption { color: var(--soft); } .sub { margin-top: 0; } figure { margin: .6em 0 1.4em; }
  svg { max-width: 100%; height: auto; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { text-align: left; padding: .2em 1.4em .2em 0; border-bottom: 1px solid var(--line); vertical-align: top; }
  th { font-weight: 600; } td.n, th.n { text-align: right; }
</style>
";

/// What was run, in one line.
fn subtitle(config: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let parts = [
        text(&config["dataset"]["kind"]),
        text(&config["model"]["kind"]),
        text(&config["loss"]["kind"]),
        match &config["noise"] {
            Value::Null => "no simulated noise".into(),
            noise => format!("{} noise", text(&noise["distribution"]["kind"])),
        },
        format!("seed {}", config["seed"]),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// The test errors at the end and at their best.
fn summary(history: &History) -> String {
    let evaluations = &history.evaluations;
    let best = evaluations.iter().min_by(|a, b| a.rmse.total_cmp(&b.rmse));
    let (Some(last), Some(best)) = (evaluations.last(), best) else {
        return "<p>The test set was not evaluated.</p>\n".into();
    };
    let mut rows = String::new();
    for (name, EvaluationRecord { batch, epoch, rmse, mae, r2, normalized_mse, .. }) in
        [("at the end", last), ("at its best (lowest RMSE)", best)]
    {
        let r2 = r2.map_or("–".into(), digits);
        let _ = writeln!(
            rows,
            "<tr><td>{name}</td><td class=n>{epoch}</td><td class=n>{batch}</td><td class=n>{}</td>\
             <td class=n>{}</td><td class=n>{r2}</td><td class=n>{}</td></tr>",
            digits(*rmse),
            digits(*mae),
            digits(*normalized_mse)
        );
    }
    format!(
        "<table>\n<tr><th>test set</th><th class=n>epoch</th><th class=n>mini-batch</th><th class=n>RMSE</th>\
         <th class=n>MAE</th><th class=n>R²</th><th class=n>normalised MSE</th></tr>\n{rows}</table>\n"
    )
}

fn figure(chart: &Chart, caption: &str) -> String {
    format!("<figure>\n{}<figcaption>{caption}</figcaption>\n</figure>\n", chart.svg())
}

fn learning_curves(history: &History) -> String {
    let raw: Vec<(f64, f64)> = history.steps.iter().filter_map(|step| Some((step.batch as f64, step.loss?))).collect();
    let loss = Chart {
        x_label: "mini-batch".into(),
        y_label: "training loss (normalised)".into(),
        series: vec![
            Series { name: String::new(), style: Style::Faint, points: raw.clone(), spread: vec![] },
            Series { name: String::new(), style: Style::Line, points: smoothed(&raw), spread: vec![] },
        ],
        ..Chart::default()
    };
    let errors = history.evaluations.iter().map(|test| (test.batch as f64, test.rmse)).collect();
    let test = Chart {
        x_label: "mini-batch".into(),
        y_label: "test RMSE (label units)".into(),
        series: vec![Series { points: errors, ..Series::default() }],
        settled: true,
        ..Chart::default()
    };
    figure(&loss, "The loss of each mini-batch, weighted as in training, and its running mean.")
        + &figure(
            &test,
            "The error on clean test labels. Where it rises while the loss falls, the network learns the noise.",
        )
}

/// The running mean over a twentieth of the values.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let window = (points.len() / 20).max(1);
    let mut sum = 0.0;
    let mean = |(at, &(x, y)): (usize, &(f64, f64))| {
        sum += y;
        if at >= window {
            sum -= points[at - window].1;
        }
        (x, sum / (at + 1).min(window) as f64)
    };
    points.iter().enumerate().map(mean).collect()
}

fn predictions(test: &Part) -> String {
    let step = test.predictions.len().div_ceil(MOST_POINTS).max(1);
    let pairs = test.clean_labels.iter().zip(&test.predictions).step_by(step);
    let points = pairs.map(|(&label, &prediction)| (label, prediction)).collect();
    let chart = Chart {
        x_label: "true label (label units)".into(),
        y_label: "prediction (label units)".into(),
        series: vec![Series { style: Style::Points, points, ..Series::default() }],
        equality: true,
        ..Chart::default()
    };
    let some = if step > 1 { format!(" One row in {step} is shown.") } else { String::new() };
    figure(&chart, &format!("The test set; on the dashed line predictions are right.{some}"))
}

fn error_by_variance(train: &Part) -> String {
    let Some(variances) = &train.variances else {
        return "<p>The labels have no noise variances.</p>\n".into();
    };
    let mut order: Vec<usize> = (0..variances.len()).collect();
    order.sort_by(|&a, &b| variances[a].total_cmp(&variances[b]));
    let (least, most) =
        (order.first().map_or(0.0, |&row| variances[row]), order.last().map_or(0.0, |&row| variances[row]));
    if least == most {
        return format!("<p>All labels have the same noise variance, {}.</p>\n", digits(least));
    }
    let deciles: Vec<&[usize]> = order.chunks(order.len().div_ceil(10)).collect();
    let errors = |labels: &[f64]| -> Vec<(f64, f64)> {
        let rmse = |rows: &&[usize]| {
            let squares: f64 = rows.iter().map(|&row| (train.predictions[row] - labels[row]).powi(2)).sum();
            (squares / rows.len() as f64).sqrt()
        };
        (1..).map(f64::from).zip(deciles.iter().map(rmse)).collect()
    };
    let chart = Chart {
        x_label: format!("decile of the noise variance, {} to {}", digits(least), digits(most)),
        y_label: "RMSE (label units)".into(),
        series: vec![
            Series {
                name: "against the clean training labels".into(),
                style: Style::Bars,
                points: errors(&train.clean_labels),
                spread: vec![],
            },
            Series {
                name: "against the noisy ones".into(),
                style: Style::Line,
                points: errors(&train.labels),
                spread: vec![],
            },
        ],
        ..Chart::default()
    };
    figure(
        &chart,
        "The training set, its least noisy tenth on the left. The bars rise where the network has learnt the noise of \
         noisy labels; without that they are level.",
    )
}

fn effective_batch_size(history: &History) -> String {
    let points: Vec<(f64, f64)> =
        history.steps.iter().map(|step| (step.batch as f64, step.effective_batch_size)).collect();
    let chart = Chart {
        x_label: "mini-batch".into(),
        y_label: "effective batch size (rows)".into(),
        series: vec![
            Series { style: Style::Faint, points: points.clone(), ..Series::default() },
            Series { points: smoothed(&points), ..Series::default() },
        ],
        ..Chart::default()
    };
    figure(
        &chart,
        "(Σw)² / Σw²: how many equally weighted rows would say as much. A greater epsilon brings it nearer to the batch size.",
    )
}

/// A JSON object as a table of paths and values.
fn table(value: &Value) -> String {
    fn rows(path: &str, value: &Value, text: &mut String) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    rows(&path, value, text);
                }
            }
            value => {
                let shown = value.as_str().map_or_else(|| value.to_string(), String::from);
                let _ = writeln!(text, "<tr><td>{}</td><td>{}</td></tr>", escape(path), escape(&shown));
            }
        }
    }
    let mut text = String::new();
    rows("", value, &mut text);
    format!("<table>\n{text}</table>\n")
}

/// A number with about four digits that say something.
fn digits(value: f64) -> String {
    match value.abs() {
        magnitude if !(1e-4..1e7).contains(&magnitude) && magnitude != 0.0 => format!("{value:.3e}"),
        magnitude if magnitude >= 1000.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::example;
    use super::*;
    use serde_json::json;

    fn part(rows: usize, variances: Option<Vec<f64>>) -> Part {
        let labels: Vec<f64> = (0..rows).map(|row| row as f64).collect();
        Part {
            predictions: labels.iter().map(|label| label + 2.0).collect(),
            clean_labels: labels.clone(),
            labels,
            variances,
        }
    }

    #[test]
    fn the_page_has_every_part_and_escapes_what_it_shows() {
        let outputs = Outputs { train: part(50, Some((0..50).map(f64::from).collect())), test: part(5000, None) };
        let config = json!({"tag": "<b>&", "seed": 1, "loss": {"kind": "biv", "epsilon": 0.5}, "noise": null});
        let page = html(&config, &json!({"biv": "0"}), &example(100), &outputs);
        assert!(page.contains("<h1>&lt;b&gt;&amp;</h1>") && page.contains("biv · no simulated noise · seed 1"));
        assert_eq!(page.matches("<svg").count(), 2 * 5, "five charts, each with its area");
        assert!(page.contains("<td>loss.epsilon</td><td>0.5</td>"));
        // The lowest RMSE of the example is in its middle, at 60.
        assert!(page.contains("<td class=n>4</td><td class=n>40</td><td class=n>60.0</td>"), "{page}");
        assert!(page.contains("One row in 3 is shown"));
        assert!(!page.contains("NaN") && !page.contains("http"));
    }

    #[test]
    fn nothing_to_show_is_said() {
        let one = |variance: f64| Outputs { train: part(1, Some(vec![variance])), test: part(1, None) };
        let page = html(&json!({}), &json!({}), &History::default(), &one(3.0));
        assert!(page.contains("The test set was not evaluated") && page.contains("the same noise variance, 3.00"));
        assert!(!page.contains("NaN"));
        let none = Outputs { train: part(3, None), test: part(3, None) };
        assert!(html(&json!({}), &json!({}), &example(1), &none).contains("The labels have no noise variances"));
    }
}
