//! Training that goes on with other data than it began with: it is refused with what differs, or accepted and recorded.

use crate::common::{biv, complaint};
use biv::Error;
use biv::base::options::parse;
use biv::data::Dataset;
use biv::experiment::{Config, Sweep, run};
use biv::model::Model;
use biv::train::checkpoint::LoadOptions;
use biv::train::loss::Loss;
use biv::train::trainer::{Trainer, TrainerOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// A table of the columns `a`, `b`, `y` and `v`, whose rows are these.
fn table(rows: impl IntoIterator<Item = [i32; 4]>) -> String {
    let mut text = "a,b,y,v\n".to_string();
    for [a, b, y, v] in rows {
        let _ = writeln!(text, "{a},{b},{y},{v}");
    }
    text
}

/// Row `n` of the data that training begins with.
fn row(n: i32) -> [i32; 4] {
    [n % 10, n % 7, 3 * (n % 10) + n, 1 + n % 3]
}

/// What may happen to the file, and what is said then.
fn changes() -> Vec<(String, &'static str)> {
    let rows = || (0..60).map(row);
    let changed = |at: i32, column: usize| {
        table((0..60).map(|n| {
            let mut values = row(n);
            values[column] += i32::from(n == at);
            values
        }))
    };
    vec![
        (changed(17, 2), "its labels are others"),
        (table(rows().chain((60..160).map(row))), "it has 160 rows, there were 60: 100 were appended"),
        (table(rows().skip(1)), "it has 59 rows, there were 60"),
        (table(rows().rev()), "its rows are in another order"),
        (changed(59, 3), "its variances are others"),
        (changed(0, 1), "its features are others"),
        (table((0..60).map(|n| row(n * 8 + 3))), "its features, labels and variances are others"),
        (table(rows()).replacen("b,", "renamed,", 1), "it has the column 'renamed' where 'b' was"),
    ]
}

fn description(data: &Path, out: &Path, change: Value) -> Value {
    let mut value = json!({
        "tag": "t", "seed": 1, "epochs": 4, "batch_size": 16, "data": data, "out": out,
        "dataset": {"kind": "csv", "train_size": 40, "csv": {"labels": ["y"], "variances": ["v"]}},
        "model": {"kind": "mlp", "hidden": [4]}, "loss": {"kind": "mse"},
    });
    biv::experiment::overlay(&mut value, change);
    value
}

#[test]
fn a_run_goes_on_with_the_data_that_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out, file) = (folder.path().join("d.csv"), folder.path().join("r"), folder.path().join("c.json"));
    let config = |change: Value| Config::from_value(description(&data, &out, change)).unwrap();
    std::fs::write(&data, table((0..60).map(row))).unwrap();
    let stopped = run(&config(json!({})), &mut |progress| match progress.done {
        3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(Error::Cancelled(_))));
    let names = || {
        let mut names: Vec<_> = out.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (names(), std::fs::read(out.join("checkpoint.biv")).unwrap());
    std::fs::write(&file, description(&data, &out, json!({})).to_string()).unwrap();
    let arguments = ["run", file.to_str().unwrap(), "--resume"];
    for (content, difference) in changes() {
        std::fs::write(&data, content).unwrap();
        let refused = complaint(&arguments);
        let expected =
            format!("the data set is not the one that the run began with: {difference}; take another folder");
        assert!(refused.contains(&expected), "{difference}: {refused}");
        assert_eq!(before, (names(), std::fs::read(out.join("checkpoint.biv")).unwrap()), "nothing was touched");
    }
    let (content, difference) = changes().swap_remove(1);
    std::fs::write(&data, content).unwrap();
    let accepted = biv(&[&arguments[..], &["--accept-data"]].concat()).output().unwrap();
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let result: Value = serde_json::from_str(&read("result.json")).unwrap();
    assert_eq!(result["accepted_data"], json!([difference]));
    assert!(read("report.html").contains(&format!("other data than it began with: {difference}.")));
    assert!(read("data.json").contains(difference));
    // From now on these are the run's data.
    run(&config(json!({"resume": true, "epochs": 5})), &mut |_| ControlFlow::Continue(())).unwrap();
}

#[test]
fn a_sweep_does_not_mix_runs_of_different_data() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("d.csv"), folder.path().join("s"));
    std::fs::write(&data, table((0..60).map(row))).unwrap();
    let sweep = |seeds: Value, accept: bool| {
        let mut base = description(&data, &out, json!({}));
        base.as_object_mut().unwrap().retain(|name, _| !["tag", "seed", "out"].contains(&name.as_str()));
        base["accept_data"] = accept.into();
        let sweep = json!({"base": base, "grid": {"seeds": seeds}, "out": out});
        Sweep::from_json(&sweep.to_string()).unwrap().run(&mut |_| ControlFlow::Continue(())).unwrap()
    };
    assert!(sweep(json!([1]), false).iter().all(|run| run.error.is_none()));
    let (content, difference) = changes().swap_remove(0);
    std::fs::write(&data, content).unwrap();
    let runs = sweep(json!([1, 2]), false);
    assert!(runs[0].error.as_ref().unwrap().contains(difference), "{:?}", runs[0].error);
    assert!(runs[0].outcome.is_none() && runs[1].outcome.is_some(), "a new run is of the new data");
    assert!(sweep(json!([1, 2]), true).iter().all(|run| run.outcome.is_some()));
}

#[test]
fn a_fit_goes_on_with_the_data_that_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (path("d.csv"), path("f"));
    let arguments = ["fit", &data, "--label=y", "--variance=v", "--members=1", "--hidden=4", "--epochs=100000"];
    let arguments = [&arguments[..], &["--out", &out]].concat();
    std::fs::write(&data, table((0..60).map(row))).unwrap();
    let mut child = biv(&arguments).stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn();
    let child = child.as_mut().unwrap();
    while !Path::new(&out).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    child.wait().unwrap();
    for (content, difference) in changes() {
        std::fs::write(&data, content).unwrap();
        let refused = complaint(&arguments);
        assert!(refused.contains(&format!("the checkpoint is of a fit of other data: {difference}")), "{refused}");
    }
}

#[test]
fn a_trainer_goes_on_with_the_data_that_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let read = |content: &str| {
        let path = folder.path().join("d.csv");
        std::fs::write(&path, content).unwrap();
        let options = r#"{"labels": ["y"], "variances": ["v"]}"#;
        Dataset::from_csv(&path, &parse("csv", options).unwrap()).unwrap()
    };
    let first = read(&table((0..60).map(row)));
    let model = Model::new(&parse("model", r#"{"kind": "mlp", "inputs": 2, "hidden": [4]}"#).unwrap()).unwrap();
    let options = TrainerOptions { loss: Loss::Mse {}, batch_size: 16, ..TrainerOptions::default() };
    let mut trainer = Trainer::new(Arc::new(Mutex::new(model)), Some(&first), &options).unwrap();
    for _ in 0..5 {
        trainer.step().unwrap();
    }
    let path = folder.path().join("t.biv");
    trainer.save(&path).unwrap();
    for (content, difference) in changes() {
        let error = Trainer::load(&path, Some(&read(&content)), None).unwrap_err().to_string();
        let is_renamed = difference.contains("renamed");
        let expected = if is_renamed { "the data have no column 'b': they have 'a', 'renamed'" } else { difference };
        assert!(error.contains(expected), "{difference}: {error}");
    }
    // Columns in another order are the same data.
    let swapped =
        (0..60).map(row).fold("y,v,b,a\n".to_string(), |text, [a, b, y, v]| text + &format!("{y},{v},{b},{a}\n"));
    let mut again = Trainer::load(&path, Some(&read(&swapped)), None).unwrap();
    assert_eq!(again.step().unwrap(), trainer.step().unwrap());
    // Accepted, the next mini-batch is where it was; of fewer rows an epoch may have ended.
    let accept = LoadOptions { accept_data: true, ..LoadOptions::default() };
    let longer = read(&changes()[1].0);
    let accepted = Trainer::load_with(&path, Some(&longer), &accept).unwrap();
    assert_eq!(accepted.position(), biv::train::sampler::Position { epoch: 1, batch: 2 });
    assert_eq!(accepted.accepted(), ["it has 160 rows, there were 60: 100 were appended"]);
    let shorter = read(&table((0..20).map(row)));
    let mut accepted = Trainer::load_with(&path, Some(&shorter), &accept).unwrap();
    assert_eq!(accepted.position(), biv::train::sampler::Position { epoch: 2, batch: 0 });
    accepted.step().unwrap();
    accepted.save(&path).unwrap();
    assert_eq!(Trainer::load(&path, Some(&shorter), None).unwrap().accepted(), ["it has 20 rows, there were 60"]);
}
