//! A run as one HTML page: metrics, learning curves, predictions, configuration.
//!
//! The page is one file without scripts or anything from elsewhere, so it can
//! be mailed, archived and read without a network.

use super::charts::{Chart, Kind, Series};
use super::text::{escape, integer, number};
use crate::experiment::history::{EvaluationRecord, History, Outputs, Part};
use jiff::Timestamp;
use serde_json::Value;

/// The most points that a scatter plot shows.
const POINTS: usize = 2000;

/// The widest running mean, in mini-batches.
const WINDOW: usize = 200;

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#f5f7fa;--card:#fff;--text:#1f2933;--soft:#52606d;--line:#e4e7eb;--mark:#0072b2}\
@media(prefers-color-scheme:dark){:root{--page:#12181f;--card:#1b232c;--text:#e4e7eb;--soft:#9aa5b1;--line:#323f4b;\
--mark:#4ba3e3}}\
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--text);line-height:1.5;\
font:15px system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}\
main{max-width:1160px;margin:0 auto;padding:36px 20px 60px}h1{margin:0;font-size:30px;overflow-wrap:anywhere}\
h2{margin:36px 0 14px;font-size:19px}.soft,figcaption{color:var(--soft)}p{margin:4px 0 0}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:14px;margin-top:24px}\
.tile,figure,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}\
.tile{padding:14px 18px}.tile b{display:block;font-size:26px;font-weight:600;line-height:1.3}\
.tile:first-child b{color:var(--mark)}.tile span{font-size:13px;color:var(--soft)}\
.figures{margin-top:18px;display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,500px),1fr));gap:18px}\
figure{margin:0;padding:14px 14px 16px}figure svg{display:block;width:100%;height:auto}\
figcaption{padding:6px 10px 0;font-size:13.5px}.card{padding:6px 18px;overflow-x:auto}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:7px 14px 7px 0;text-align:left;font-weight:400;border-top:1px solid var(--line);vertical-align:top}\
tr:first-child>*{border-top:0}th{color:var(--soft)}td{overflow-wrap:anywhere}.numbers :is(td,th):not(:first-child)\
{text-align:right}figure h2{margin:2px 10px 10px;font-size:16px}figure table{margin:0 10px 8px;width:calc(100% - 20px)}\
.settings th{width:38%}\
code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}";

/// The page of a run. `config` is the resolved configuration, whose `tag` is the title; `versions` is what made
/// the run: libraries, hardware. All text in them is escaped. Nothing has to be there: a run without evaluations,
/// or without steps, has a page too.
pub fn html(config: &Value, versions: &Value, history: &History, outputs: &Outputs) -> String {
    let tag = config.get("tag").and_then(Value::as_str).unwrap_or("Training run");
    let figures = [
        summary(history),
        test_error(history),
        training_loss(history),
        effective_batch_size(history),
        predictions(&outputs.test),
        error_by_variance(&outputs.train),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{tag}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><h1>{tag}</h1>\n<p class=\"soft\">{overview}</p></header>\n{tiles}\n\
         <div class=\"figures\">\n{figures}</div>\n\
         <h2>Configuration</h2>\n{config}\n<h2>Versions</h2>\n{versions}\n</main>\n</body>\n</html>\n",
        tag = escape(tag),
        overview = overview(history, outputs),
        tiles = tiles(history),
        figures = figures.concat(),
        config = settings(config),
        versions = settings(versions),
    )
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
    let counts = [
        (epochs, "epoch", "epochs"),
        (history.steps.len() as u64, "mini-batch", "mini-batches"),
        (outputs.train.labels.len() as u64, "training label", "training labels"),
        (outputs.test.labels.len() as u64, "test label", "test labels"),
    ];
    parts
        .extend(counts.map(|(count, one, many)| format!("{} {}", integer(count), if count == 1 { one } else { many })));
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

/// The evaluation with the least RMSE, the first of equals.
fn best(history: &History) -> Option<&EvaluationRecord> {
    history.evaluations.iter().min_by(|a, b| a.rmse.total_cmp(&b.rmse))
}

/// The numbers that a reader looks for first.
fn tiles(history: &History) -> String {
    let mut tiles = Vec::new();
    if let (Some(best), Some(last)) = (best(history), history.evaluations.last()) {
        let worse = match 100.0 * (last.rmse / best.rmse - 1.0) {
            worse if worse.is_finite() && worse > 0.0 => format!(", {worse:.1} % above the best"),
            _ => String::new(),
        };
        tiles.push((number(best.rmse), format!("best test RMSE in label units, epoch {}", best.epoch)));
        tiles.push((number(last.rmse), format!("final test RMSE, epoch {}{worse}", last.epoch)));
        tiles.push((best.r2.map_or("–".into(), number), "R² at the best RMSE; 1 is perfect".into()));
        tiles
            .push((number(best.normalized_mse), "normalised MSE there; always predicting the mean has about 1".into()));
    }
    let sizes: Vec<f64> = history.steps.iter().map(|step| step.effective_batch_size).collect();
    if !sizes.is_empty() {
        tiles.push((number(mean(&sizes)), "effective batch size on average, in samples".into()));
    }
    let tiles =
        tiles.iter().map(|(value, what)| format!("<div class=\"tile\"><b>{value}</b><span>{what}</span></div>\n"));
    format!("<div class=\"tiles\">\n{}</div>", tiles.collect::<String>())
}

/// The metrics at the best evaluation and at the last one.
fn summary(history: &History) -> String {
    const TITLE: &str = "Errors on the clean test set";
    let (Some(best), Some(last)) = (best(history), history.evaluations.last()) else {
        return note(TITLE, "The run was never evaluated.");
    };
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
    let row = |(name, metric): Metric| {
        let cell = |test| format!("<td>{}</td>", metric(test).map_or("–".into(), number));
        format!("<tr><th scope=\"row\">{name}</th>{}{}</tr>\n", cell(best), cell(last))
    };
    let column = |name, test: &EvaluationRecord| {
        format!("<th scope=\"col\">{name}<br/>epoch {}<br/>mini-batch {}</th>", test.epoch, integer(test.batch))
    };
    format!(
        "<figure><h2>{TITLE}</h2><table class=\"numbers\">\n<tr><td></td>{}{}</tr>\n{}</table>\
         <figcaption>Lower is better, except for R²; the best evaluation is the one with the least RMSE, and since \
         the test set chose it, it flatters a little.</figcaption></figure>\n",
        column("best", best),
        column("final", last),
        metrics.map(row).concat()
    )
}

/// A chart with the sentence that says how to read it.
fn figure(chart: &Chart, caption: &str) -> String {
    format!("<figure>{}<figcaption>{caption}</figcaption></figure>\n", chart.svg())
}

/// What stands in the place of a figure that cannot be drawn.
fn note(title: &str, why: &str) -> String {
    format!("<figure><h2>{title}</h2><figcaption>{why}</figcaption></figure>\n")
}

/// A quantity per mini-batch: the raw values, pale, and their running mean. Also the mean's width.
fn smoothed(name: &str, color: usize, points: Vec<(f64, f64)>) -> (Vec<Series>, usize) {
    let half = (points.len() / 100).min(WINDOW / 2);
    let running = |at: usize| {
        let window = &points[at.saturating_sub(half)..points.len().min(at + half + 1)];
        let window: Vec<f64> = window.iter().map(|point| point.1).collect();
        (points[at].0, mean(&window))
    };
    let means = (0..points.len()).map(running).collect();
    if half == 0 {
        return (vec![Series::new(name, Kind::Line, color, points)], 1);
    }
    let raw = Series::new("each mini-batch", Kind::Faint, color, points);
    (vec![raw, Series::new("running mean", Kind::Line, color, means)], 2 * half + 1)
}

/// Whether values are better shown by their logarithm: positive, and the largest more than five times the least.
fn spans_magnitudes<'a>(series: impl IntoIterator<Item = &'a (f64, f64)>) -> bool {
    let (mut low, mut high) = (f64::INFINITY, 0.0f64);
    for (_, y) in series {
        (low, high) = (low.min(*y), high.max(*y));
    }
    low > 0.0 && high > 5.0 * low
}

fn training_loss(history: &History) -> String {
    let points: Vec<_> = history.steps.iter().filter_map(|step| Some((step.batch as f64, step.loss?))).collect();
    let skipped = history.steps.len() - points.len();
    let log_y = spans_magnitudes(&points);
    let (series, window) = smoothed("loss", 0, points);
    let mut caption = format!(
        "The loss that training lowers, on noisy labels and weighted as the method says{}; how far it falls below the \
         noise tells how much noise is learnt by heart.",
        if window > 1 { format!(", with its mean over {window} mini-batches") } else { String::new() }
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

fn test_error(history: &History) -> String {
    let place = |test: &EvaluationRecord| (test.batch as f64, test.rmse);
    let points: Vec<_> = history.evaluations.iter().map(place).collect();
    let best = best(history).map(place).into_iter().collect();
    let chart = Chart {
        title: "Test error".into(),
        x_label: "mini-batch".into(),
        y_label: "RMSE (label units)".into(),
        log_y: spans_magnitudes(&points),
        series: vec![Series::new("test RMSE", Kind::Line, 0, points), Series::new("best", Kind::Points, 1, best)],
        ..Chart::default()
    };
    figure(&chart, "Lower is better; a rise after the best point means that training has begun to fit the noise.")
}

fn predictions(test: &Part) -> String {
    let pairs: Vec<_> = test.clean_labels.iter().copied().zip(test.predictions.iter().copied()).collect();
    let shown = pairs.len().min(POINTS);
    // Evenly spread over the rows, so that the same run always shows the same points.
    let points: Vec<_> = (0..shown).map(|at| pairs[at * pairs.len() / shown]).collect();
    let finite = points.iter().flat_map(|&(x, y)| [x, y]).filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
    let chart = Chart {
        title: "Predictions on the test set".into(),
        x_label: "true label (label units)".into(),
        y_label: "prediction (label units)".into(),
        series: vec![
            Series::new("test rows", Kind::Points, 0, points),
            Series::new("prediction = label", Kind::Reference, 0, vec![(low, low), (high, high)]),
        ],
        ..Chart::default()
    };
    let part = match pairs.len() {
        rows if rows > shown => {
            format!(" {} of {} rows are shown.", integer(shown as u64), integer(rows as u64))
        }
        _ => String::new(),
    };
    figure(&chart, &format!("Each point is a row; the closer to the dashed line, the better the prediction.{part}"))
}

fn error_by_variance(train: &Part) -> String {
    let title = "Error by noise variance, training set";
    let variances = train.variances.as_deref().unwrap_or_default();
    let errors = train.predictions.iter().zip(&train.clean_labels).map(|(prediction, label)| prediction - label);
    let mut rows: Vec<(f64, f64)> = variances.iter().copied().zip(errors).collect();
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
        let place = (group + 1) as f64;
        ((place, mean(&squares).sqrt()), (place, number(mean(&variances))))
    });
    let (points, x_ticks) = bars.unzip();
    let chart = Chart {
        title: title.into(),
        x_label: "mean noise variance of each tenth of the labels (label units squared)".into(),
        y_label: "RMSE on clean labels (label units)".into(),
        x_ticks,
        series: vec![Series::new("", Kind::Bars, 0, points)],
        ..Chart::default()
    };
    figure(
        &chart,
        "From the tenth of the training labels with the least noise (left) to that with the most: bars that rise to \
         the right mean that noise was learnt by heart, level bars that it was not.",
    )
}

fn effective_batch_size(history: &History) -> String {
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

/// The mean, without overflow on the way; 0 of nothing.
fn mean(values: &[f64]) -> f64 {
    values.iter().map(|value| value / values.len() as f64).sum()
}

/// A JSON value as a table of paths and values.
fn settings(value: &Value) -> String {
    let mut rows = Vec::new();
    flatten(String::new(), value, &mut rows);
    let rows = rows.iter().map(|(path, value)| {
        format!(
            "<tr><th scope=\"row\"><code>{}</code></th><td><code>{}</code></td></tr>\n",
            escape(path),
            escape(value)
        )
    });
    format!("<div class=\"card\"><table class=\"settings\">\n{}</table></div>", rows.collect::<String>())
}

/// The leaves of `value`, each with its path: objects are entered, and arrays that hold objects or arrays.
fn flatten(path: String, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(format!("{path}{dot}{name}"), value, rows);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (at, item) in items.iter().enumerate() {
                flatten(format!("{path}[{at}]"), item, rows);
            }
        }
        Value::String(text) => rows.push((path, text.clone())),
        Value::Array(items) => {
            rows.push((path, items.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")));
        }
        other => rows.push((path, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::charts::tests::elements;
    use super::*;
    use crate::experiment::history::StepRecord;
    use crate::experiment::history::tests::{evaluation, step};
    use serde_json::json;

    fn run() -> (History, Outputs) {
        let history = History {
            steps: (1..=600).map(|batch| step(batch, 1.0 + 10.0 / batch as f64)).collect(),
            evaluations: (1..=6)
                .map(|at| evaluation(100 * at, [9.0, 4.0, 2.0, 1.5, 1.6, 1.75][at as usize - 1]))
                .collect(),
        };
        let clean_labels: Vec<f64> = (0..3000).map(|at| f64::from(at % 97)).collect();
        let part = |variances: Option<Vec<f64>>| Part {
            labels: clean_labels.clone(),
            clean_labels: clean_labels.clone(),
            // In each hundred rows the error is the number of the hundred.
            predictions: clean_labels.iter().enumerate().map(|(at, label)| label + (at / 300) as f64).collect(),
            variances,
        };
        (history, Outputs { train: part(Some((0..3000).map(f64::from).collect())), test: part(None) })
    }

    #[test]
    fn a_page_shows_the_run_and_escapes_its_configuration() {
        let (history, outputs) = run();
        let config = json!({"tag": "<b>&\"tag\"", "model": {"hidden": [50, 20], "kind": "<script>"},
                            "schedule": [{"epoch": 5}], "none": {}});
        let page = html(&config, &json!({"libbiv": "0.1.0"}), &history, &outputs);
        let found = elements(page.strip_prefix("<!DOCTYPE html>").unwrap());
        assert_eq!((found["svg"], found["figure"], found["title"]), (5, 6, 6));
        assert_eq!(found["circle"], 2000 + 6 + 1 + 2, "points, evaluations, the best, and two keys");
        for absent in ["script", "link", "img", "b&"] {
            assert!(!found.contains_key(absent), "{absent}");
        }
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("url("));
        for text in [
            "<h1>&lt;b&gt;&amp;&quot;tag&quot;</h1>",
            "<code>model.hidden</code></th><td><code>50, 20</code>",
            "<code>schedule[0].epoch</code></th><td><code>5</code>",
            "&lt;script&gt;",
            "<b>1.500</b><span>best test RMSE in label units, epoch 200</span>",
            "16.7 % above the best",
            "<th scope=\"row\">MSE, normalised</th><td>0.5625</td><td>0.7656</td>",
            "2,000 of 3,000 rows are shown",
        ] {
            assert!(page.contains(text), "{text}");
        }
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
    fn a_running_mean_is_as_wide_as_it_says() {
        let (series, width) = smoothed("loss", 0, (0..500).map(|at| (f64::from(at), f64::from(at % 2))).collect());
        assert_eq!((series.len(), width), (2, 11));
        assert!((series[1].points[250].1 - 6.0 / 11.0).abs() < 1e-12);
        assert!((series[1].points[0].1 - 0.5).abs() < 1e-12, "the first has only six values around it");
        assert_eq!(smoothed("loss", 0, vec![(1.0, 2.0)]).0.len(), 1);
    }

    #[test]
    fn degenerate_runs_have_a_page() {
        let part = |value: f64, rows: usize| Part {
            labels: vec![value; rows],
            clean_labels: vec![value; rows],
            variances: Some((0..rows).map(|row| value * row as f64).collect()),
            predictions: vec![-value; rows],
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
                let page = html(&json!({}), &json!(null), &history, &outputs);
                elements(page.strip_prefix("<!DOCTYPE html>").unwrap());
                assert!(page.contains("<h1>Training run</h1>") && !page.contains("NaN"), "{value} {rows}");
            }
        }
    }
}
