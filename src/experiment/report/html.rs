//! A run as one HTML page: metrics, figures, configuration.
//!
//! The page is one file without scripts or anything from elsewhere, so it can
//! be mailed, archived and read without a network.

use super::figures::{effective_batch_size, error_by_variance, mean, note, predictions, test_error, training_loss};
use super::text::{escape, integer, number};
use crate::experiment::history::{EvaluationRecord, History, Outputs};
use jiff::Timestamp;
use serde_json::Value;

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

/// The numbers that a reader looks for first.
fn tiles(history: &History) -> String {
    let mut tiles = Vec::new();
    if let (Some(best), Some(last)) = (history.best(), history.evaluations.last()) {
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
    let (Some(best), Some(last)) = (history.best(), history.evaluations.last()) else {
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
    use super::super::figures::tests::run;
    use super::*;
    use crate::experiment::history::tests::{evaluation, step};
    use crate::experiment::history::{SetOutputs, StepRecord};
    use serde_json::json;

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
    fn degenerate_runs_have_a_page() {
        let part = |value: f64, rows: usize| SetOutputs {
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
