//! Whole experiments through the command line and the library: settings, run
//! directories, resuming, sweeps, and what goes wrong.

use crate::common::{biv, complaint, output, real_data, stdout};
use biv::Error;
use biv::experiment::{Config, Outcome, Progress, Stage, Sweep, run};
use biv::model::archive::{Archive, ArchiveKind};
use rand::Rng;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

/// A quick experiment on synthetic data, without a run directory.
fn synthetic() -> Value {
    json!({
        "tag": "quick", "seed": 5, "epochs": 3, "batch_size": 32,
        "dataset": {"kind": "synthetic", "train_size": 300, "test_size": 100},
        "model": {"kind": "mlp", "hidden": [16], "batch_norm": true},
        "noise": {"distribution": {"kind": "gamma", "mean": 20, "variance": 400}},
    })
}

fn with(mut base: Value, change: Value) -> Value {
    biv::experiment::overlay(&mut base, change);
    base
}

fn config(value: Value) -> Config {
    Config::from_value(value).unwrap()
}

fn unwatched(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// A JSON text without the fields that hold times and places.
fn timeless(text: &str) -> Vec<Value> {
    fn strip(value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.remove("time");
            fields.remove("out");
            fields.values_mut().for_each(strip);
        }
    }
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    values
        .map(|value| {
            let mut value = value.unwrap();
            strip(&mut value);
            value
        })
        .collect()
}

#[test]
fn settings_resolve_to_the_golden_configurations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/settings.json");
    let golden: Vec<Value> = serde_json::from_str(&read(&path)).unwrap();
    let resolved: Vec<Value> = golden
        .iter()
        .map(|entry| {
            let settings = entry["settings"].clone();
            let config = config(json!({ "settings": settings }));
            let law = config.noise.as_ref().map(|noise| format!("{:?}", noise.validate().unwrap()));
            json!({"settings": settings, "config": config.to_value(), "variances": law})
        })
        .collect();
    if std::env::var_os("BIV_UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&resolved).unwrap() + "\n").unwrap();
    }
    for (found, expected) in resolved.iter().zip(&golden) {
        assert_eq!(found, expected);
    }
    // The same through the command line, which prints the description that it would run.
    let entry = &golden[0];
    let mut arguments = vec!["run".to_string(), "--dry-run".into(), "--out".into(), "r".into()];
    for (name, value) in entry["settings"].as_object().unwrap() {
        arguments.push(format!("--{name}={}", value.as_str().unwrap()));
    }
    let printed = stdout(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut expected = entry["config"].clone();
    expected["out"] = json!("r");
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), expected);
}

#[test]
fn a_run_leaves_everything_behind_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a/run");
    let outcome = run(&config(with(synthetic(), json!({"out": out}))), &mut unwatched).unwrap();
    // 9 whole mini-batches of 32 in 300 rows, 3 epochs.
    assert_eq!((outcome.epochs, outcome.batches, outcome.skipped), (3, 27, 0));
    let mut names: Vec<String> =
        out.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = [
        ".lock",
        "checkpoint.biv",
        "config.json",
        "data.json",
        "metrics.jsonl",
        "report.html",
        "result.json",
        "results.zip",
        "tensorboard",
        "test_labels.csv",
        "test_losses.csv",
        "test_outs.csv",
        "train_labels.csv",
        "train_losses.csv",
        "train_outs.csv",
        "versions.json",
    ];
    assert_eq!(names, expected);

    let lines = |name: &str| read(out.join(name)).lines().count();
    assert_eq!((lines("train_losses.csv"), lines("test_losses.csv")), (28, 4));
    assert_eq!((lines("train_outs.csv"), lines("train_labels.csv")), (301, 301));
    assert_eq!((lines("test_outs.csv"), lines("test_labels.csv")), (101, 101));
    assert_eq!(lines("metrics.jsonl"), 30);
    // The errors in the result are those of the predictions in the files.
    let numbers = |name: &str| -> Vec<f64> {
        read(out.join(name)).lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect()
    };
    let (predictions, labels) = (numbers("test_outs.csv"), numbers("test_labels.csv"));
    let mse = predictions.iter().zip(&labels).map(|(p, y)| (p - y).powi(2)).sum::<f64>() / 100.0;
    assert!((mse.sqrt() - outcome.last.rmse).abs() < 1e-9 * mse, "{} {}", mse.sqrt(), outcome.last.rmse);

    let saved: Outcome = serde_json::from_str(&read(out.join("result.json"))).unwrap();
    assert_eq!(saved, outcome);
    let archive = zip::ZipArchive::new(std::fs::File::open(out.join("results.zip")).unwrap()).unwrap();
    assert_eq!(archive.len(), 6);
    let report = read(out.join("report.html"));
    assert!(report.contains("quick") && report.contains("<svg"));
    assert!(!report.contains("src=") && !report.contains("href="), "self-contained");
}

#[test]
fn every_report_says_what_its_test_labels_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows: String = (0..40).map(|x| format!("{x},{},{},0\n", x % 7, 1 + x % 3)).collect();
    std::fs::write(at("own.csv"), format!("x,y,v,zero\n{rows}")).unwrap();
    let wine: String = (0..40).map(|x| format!("{}{}\n", format!("{};", x % 9).repeat(11), x % 7)).collect();
    let head: String = (0..11).map(|at| format!("f{at};")).collect();
    for color in ["red", "white"] {
        std::fs::write(at(&format!("winequality-{color}.csv")), format!("{head}quality\n{wine}")).unwrap();
    }
    stdout(&["faces", at("utkf").to_str().unwrap(), "--count=24", "--size=64"]);

    let noise = json!({"distribution": {"kind": "gamma", "mean": 1, "variance": 1}});
    let own = |variances: &[&str]| {
        let columns = json!({"labels": ["y"], "features": ["x"], "variances": variances});
        json!({"kind": "csv", "train_size": 16, "file": "own.csv", "csv": columns})
    };
    let named = |kind: &str| json!({"kind": kind, "train_size": 16, "test_size": 8});
    let cases = [
        ("known", own(&["v"]), Value::Null, "noisy"),
        ("known, more simulated", own(&["v"]), noise.clone(), "noisy"),
        ("nothing known", own(&[]), Value::Null, "unknown"),
        ("simulated", own(&[]), noise.clone(), "unknown"),
        ("zeros", own(&["zero"]), Value::Null, "clean"),
        ("formula", named("synthetic"), noise.clone(), "clean"),
        ("wine", named("wine"), noise.clone(), "clean"),
        ("images", named("utkf"), noise.clone(), "unknown"),
    ];
    let variants: Vec<Value> = cases
        .iter()
        .map(|(name, dataset, noise, _)| json!({"name": name, "dataset": dataset, "noise": noise}))
        .collect();
    let base = json!({"data": folder.path(), "epochs": 1, "batch_size": 8, "loss": {"kind": "mse"}});
    let sweep = json!({"base": base, "grid": {"seeds": [1], "variants": variants}, "out": at("sweep")});
    let sweep = Sweep::from_json(&sweep.to_string()).unwrap();
    let mut shown = Vec::new();
    let outcomes = sweep.run(&mut |progress| {
        shown.extend(progress.rmse.is_finite().then(|| (progress.run.clone(), progress.test_labels.to_string())));
        ControlFlow::Continue(())
    });
    let outcomes = outcomes.unwrap();
    sweep.write_summary(&outcomes).unwrap();
    let (markdown, csv) = (read(at("sweep/table.md")), read(at("sweep/table.csv")));
    assert!(csv.lines().next().unwrap().ends_with(",test_labels"), "{csv}");
    for (place, ((name, _, noise, kind), cell)) in cases.iter().zip(sweep.cells()).enumerate() {
        assert_eq!(outcomes[place].error, None, "{name}");
        let file = |name: &str| cell.config.out.as_ref().unwrap().join(name);
        let described = match *kind {
            "unknown" => "test labels of unknown noise".to_string(),
            kind => format!("{kind} test labels"),
        };
        let page = read(file("report.html"));
        assert!(page.contains(&format!("Errors on {described}")), "{name}");
        assert!(page.contains(&format!("Error on {described}")), "{name}");
        assert!(page.contains(&format!("best RMSE on {described}, in label units")), "{name}");
        let before = "RMSE on labels before simulated noise";
        assert_eq!(page.contains(before), !noise.is_null() && *kind != "clean", "{name}");
        assert_eq!(page.contains("clean"), *kind == "clean", "{name}");

        let result: Value = serde_json::from_str(&read(file("result.json"))).unwrap();
        assert_eq!((&result["last"]["test_labels"], &result["best"]["test_labels"]), (&json!(kind), &json!(kind)));
        assert!(read(file("metrics.jsonl")).contains(&format!(r#""test_labels":"{kind}""#)), "{name}");
        assert!(read(file("test_losses.csv")).lines().last().unwrap().ends_with(&format!(",{kind}")), "{name}");
        let events = std::fs::read_dir(file("tensorboard")).unwrap().next().unwrap().unwrap();
        let events = String::from_utf8_lossy(&std::fs::read(events.path()).unwrap()).into_owned();
        assert!(events.contains(&format!("test_{kind}_labels/rmse")), "{name}");
        assert!(markdown.contains(&format!("| {name} | 1 | {kind} |")), "{name}: {markdown}");
        assert!(csv.lines().nth(place + 1).unwrap().ends_with(&format!(",{kind}")), "{name}: {csv}");
        let of_run: Vec<_> = shown.iter().filter(|(run, _)| *run == format!("{name}, seed 1")).collect();
        assert!(of_run.iter().all(|(_, shown)| shown == kind), "{name}: {of_run:?}");

        let (again, description) = (at("again").join(place.to_string()), at("one.json"));
        let mut config = cell.config.to_value();
        config.as_object_mut().unwrap().remove("resume");
        std::fs::write(&description, config.to_string()).unwrap();
        let said = output(&["run", description.to_str().unwrap(), "--out", again.to_str().unwrap()]);
        let (text, lines) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(text.contains(&format!("errors on {described}:")), "{name}: {text}{lines}");
        assert!(lines.contains(&format!("RMSE on {described} ")), "{name}: {lines}");
    }
    let curves = read(at("sweep/curves.svg"));
    assert!(curves.contains("Error on clean test labels and noisy test labels and test labels of unknown noise, mean"));
}

#[test]
fn a_run_that_fits_has_the_figures_of_the_fit() {
    let folder = tempfile::tempdir().unwrap();
    let change = json!({"out": folder.path(), "fit": {"members": 1}, "model": {"kind": "mlp", "hidden": [16]}});
    let mut shown = 0;
    let outcome = run(&config(with(synthetic(), change)), &mut |progress| {
        assert!(progress.done <= progress.total && progress.epoch <= progress.epochs, "{progress:?}");
        assert!(progress.seconds_left.is_nan() || progress.seconds_left < 1000.0, "{progress:?}");
        shown += 1;
        ControlFlow::Continue(())
    });
    assert!(outcome.unwrap().last.bars.is_some() && shown >= 4);
    let page = read(folder.path().join("report.html"));
    for title in ["Errors on clean test labels", "Which epsilon the residuals allow", "Loss on held-out rows"] {
        assert!(page.contains(title), "{title}");
    }
    assert!(!page.contains("Training loss"), "a fit records no steps");
    let report: Value = serde_json::from_str(&read(folder.path().join("fit.json"))).unwrap();
    assert_eq!((&report["members"], report["history"].as_array().unwrap().len()), (&json!(1), 3));
    biv::model::Model::load(&folder.path().join("model.biv")).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_result_with_or_without_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = |change: Value| run(&config(with(synthetic(), change)), &mut unwatched).unwrap();
    let first = outcome(json!({}));
    assert_eq!(outcome(json!({"out": folder.path().join("r")})).last.rmse, first.last.rmse);
    assert_ne!(outcome(json!({"seed": 6})).last.rmse, first.last.rmse);
    // How often the test set is looked at does not change the training.
    let often = outcome(json!({"eval_every": {"steps": 1}}));
    assert_eq!(often.last.rmse, first.last.rmse);
    assert!(often.best.rmse <= first.best.rmse);
}

/// Kills a run at random moments, BIV_KILLS times (8 unless told).
#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been() {
    let kills: u64 = std::env::var("BIV_KILLS").map_or(8, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let change = json!({"epochs": 40 * kills, "checkpoint_seconds": 0, "eval_every": {"steps": 7}});
    std::fs::write(&file, with(synthetic(), change).to_string()).unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let run_in = |out: &Path| {
        biv(&["run", file.to_str().unwrap(), "--resume", "--out", out.to_str().unwrap(), "--threads", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    assert!(run_in(&whole).wait().unwrap().success());
    let checkpoint = killed.join("checkpoint.biv");
    let saved = || std::fs::metadata(&checkpoint).and_then(|file| file.modified()).ok();
    for death in 0..kills {
        let before = saved();
        let mut child = run_in(&killed);
        // Every other one dies once it has gone further, however long it takes to begin, the others wherever they are.
        while death % 2 == 0 && saved() == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let random = biv::base::random::stream(death, biv::base::random::Purpose::Synthetic, 0).next_u64() % 250_000;
        std::thread::sleep(std::time::Duration::from_micros(random));
        assert_eq!(child.try_wait().unwrap(), None, "the run ended before it was killed");
        child.kill().unwrap();
        child.wait().unwrap();
        Archive::load(&checkpoint, ArchiveKind::Training).unwrap();
    }
    assert!(run_in(&killed).wait().unwrap().success());
    for name in ["result.json", "metrics.jsonl"] {
        assert!(timeless(&read(killed.join(name))) == timeless(&read(whole.join(name))), "{name} differs");
    }
    for name in ["train_losses.csv", "test_losses.csv", "test_outs.csv", "checkpoint.biv"] {
        assert!(
            std::fs::read(killed.join(name)).unwrap() == std::fs::read(whole.join(name)).unwrap(),
            "{name} differs"
        );
    }
    assert!(!killed.read_dir().unwrap().any(|entry| entry.unwrap().path().extension().is_some_and(|e| e == "tmp")));
}

#[test]
fn a_terminated_run_leaves_a_checkpoint_of_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("config.json"), folder.path().join("r"));
    std::fs::write(&file, with(synthetic(), json!({"epochs": 1_000_000})).to_string()).unwrap();
    let mut command = biv(&["run", file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--threads", "1"]);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    while !out.join("metrics.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && complaint.contains("the run was stopped after mini-batch"),
        "{complaint}"
    );
    Archive::load(&out.join("checkpoint.biv"), ArchiveKind::Training).unwrap();
}

#[test]
fn a_stopped_run_goes_on_and_a_complete_one_can_be_extended() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("r");
    let at = |change: Value| config(with(with(synthetic(), json!({"out": out})), change));
    let stopped = run(&at(json!({})), &mut |progress| {
        assert_eq!((progress.stage, progress.total), (Stage::Training, 27));
        if progress.done == 13 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Cancelled(message)) if message.contains("after mini-batch 13 of 27")));
    assert!(!out.join("result.json").exists());

    let refused = run(&at(json!({})), &mut unwatched).unwrap_err().to_string();
    assert!(refused.contains("a run is there already: resume it"), "{refused}");
    let other = run(&at(json!({"resume": true, "learning_rate": 0.5})), &mut unwatched).unwrap_err().to_string();
    assert!(other.contains("another experiment: its learning_rate is 0.01, not 0.5"), "{other}");

    let resumed = run(&at(json!({"resume": true})), &mut unwatched).unwrap();
    let whole = run(&config(synthetic()), &mut unwatched).unwrap();
    assert_eq!(resumed.last.rmse, whole.last.rmse);
    let extended = run(&at(json!({"resume": true, "epochs": 5})), &mut unwatched).unwrap();
    let longer = run(&config(with(synthetic(), json!({"epochs": 5}))), &mut unwatched).unwrap();
    assert_eq!(extended.last.rmse, longer.last.rmse);
    let shortened = run(&at(json!({"resume": true, "epochs": 2})), &mut unwatched).unwrap_err().to_string();
    assert_eq!(shortened, "epochs: is 2, the run has trained for 5 already");
}

#[test]
fn two_runs_do_not_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(with(synthetic(), json!({"out": folder.path().join("r"), "resume": true})));
    let mut inner = None;
    run(&config, &mut |_| {
        inner.get_or_insert_with(|| run(&config, &mut unwatched).unwrap_err());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(matches!(inner, Some(Error::Busy(message)) if message.contains("another run is going on there")));
}

#[test]
fn a_sweep_runs_each_cell_once_and_its_table_is_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = |jobs: usize| {
        let base = json!({"epochs": 2, "batch_size": 32, "model": {"kind": "mlp", "hidden": [8]},
                          "dataset": {"kind": "synthetic", "train_size": 200, "test_size": 50}});
        let noise = |mean: f64| json!({"distribution": {"kind": "gamma", "mean": mean, "variance": 100}});
        let grid = json!({"seeds": [1, 2, 3], "losses": [{"kind": "mse"}, {"kind": "biv", "epsilon": 0.5}],
                          "noises": [noise(10.0), noise(20.0)],
                          "variants": [{"name": "clean", "loss": {"kind": "mse"}, "noise": false}]});
        let options = json!({"base": base, "grid": grid, "out": folder.path().join(format!("{jobs}")), "jobs": jobs});
        Sweep::from_json(&options.to_string()).unwrap()
    };
    let (one, two) = (sweep(1), sweep(2));
    assert_eq!(one.cells().len(), 15);
    let (mut finished, mut threads) = (0, std::collections::HashSet::new());
    let outcomes = two
        .run(&mut |progress| {
            threads.insert(std::thread::current().id());
            finished += usize::from(progress.stage == Stage::Sweep);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((finished, threads.len()), (15, 1), "a callback for each run, all on this thread");
    let rmse = |outcomes: &[biv::experiment::CellOutcome]| -> Vec<f64> {
        outcomes.iter().map(|cell| cell.outcome.as_ref().unwrap().last.rmse).collect()
    };
    let alone = one.run(&mut unwatched).unwrap();
    assert_eq!(rmse(&outcomes), rmse(&alone), "the same results, one at a time or two");

    let table = biv::experiment::table(&outcomes);
    let names: Vec<&str> = table.rows.iter().map(|row| row.variant.as_str()).collect();
    let expected = ["mse, gamma (1)", "mse, gamma (2)", "biv 0.5, gamma (1)", "biv 0.5, gamma (2)", "clean"];
    assert_eq!(names, expected);
    let first = &rmse(&outcomes)[..3];
    let mean = first.iter().sum::<f64>() / 3.0;
    let std = (first.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    assert!((table.rows[0].rmse.mean - mean).abs() < 1e-12 && (table.rows[0].rmse.std - std).abs() < 1e-12);
    two.write_summary(&outcomes).unwrap();
    assert_eq!(read(folder.path().join("2/table.csv")).lines().count(), 6);
    assert!(read(folder.path().join("2/curves.svg")).contains("clean"));

    // What is complete is not run again, and what was lost is.
    let lost = folder.path().join("2/clean/seed-2");
    std::fs::remove_dir_all(&lost).unwrap();
    let mut ran = Vec::new();
    let again = two.run(&mut |progress| {
        ran.push(progress.run.clone());
        ControlFlow::Continue(())
    });
    ran.dedup();
    assert_eq!(ran, ["clean, seed 2"]);
    assert_eq!(rmse(&again.unwrap()), rmse(&alone));
}

#[test]
fn a_run_of_a_sweep_that_fails_leaves_the_others_alone() {
    let options = json!({
        "base": with(synthetic(), json!({"seed": null, "tag": null})),
        "grid": {"seeds": [1], "variants": [{"name": "wild", "learning_rate": 1e38}, {"name": "tame"}]},
    });
    let mut options = options;
    for field in ["seed", "tag"] {
        options["base"].as_object_mut().unwrap().remove(field);
    }
    let outcomes = Sweep::from_json(&options.to_string()).unwrap().run(&mut unwatched).unwrap();
    assert!(outcomes[0].error.as_ref().unwrap().contains("try a smaller learning rate"), "{:?}", outcomes[0].error);
    assert!(outcomes[1].outcome.is_some());
}

#[test]
fn the_command_line_sweeps_cell_by_cell_and_gathers() {
    let folder = tempfile::tempdir().unwrap();
    let (grid, out) = (folder.path().join("grid.toml"), folder.path().join("out"));
    let text = r#"
        [base]
        epochs = 1
        batch_size = 32
        dataset = { kind = "synthetic", train_size = 100, test_size = 20 }
        [grid]
        seeds = [1, 2]
        losses = [{ kind = "mse" }]
    "#;
    std::fs::write(&grid, text).unwrap();
    let (grid, out) = (grid.to_str().unwrap(), out.to_str().unwrap());
    assert_eq!(stdout(&["sweep", grid, "--count"]), "2\n");
    assert!(stdout(&["sweep", grid, "--out", out, "--only", "1"]).contains("| mse | 1 |"));
    let partial = output(&["sweep", grid, "--out", out, "--table"]);
    assert!(String::from_utf8_lossy(&partial.stderr).contains("1 of 2 runs are not complete"));
    stdout(&["sweep", grid, "--out", out, "--only", "0"]);
    let table = stdout(&["sweep", grid, "--out", out, "--table"]);
    assert!(table.contains("| mse | 2 |"), "{table}");
    assert_eq!(read(Path::new(out).join("table.md")), table);
    assert!(complaint(&["sweep", grid, "--out", out, "--only", "2"]).contains("run 2: does not exist, there are 2"));
}

#[test]
fn what_goes_wrong_is_said_and_nothing_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("file"), "").unwrap();
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::create_dir(path("full")).unwrap();
    std::fs::write(path("full/letter"), "dear").unwrap();
    std::fs::write(path("bad.toml"), "a = \n").unwrap();
    std::fs::write(path("bad.json"), r#"{"dataset": {"kind": "synthetic", "train_size": "many"}}"#).unwrap();
    let good = with(synthetic(), json!({"epochs": 1}));
    std::fs::write(path("good.json"), good.to_string()).unwrap();
    let (empty, file, full, out) = (path("empty"), path("file"), path("full"), path("out"));
    let utkf = ["--experiment_settings=t,1,utkf,True,10", "--model_settings=resnet,mse", "--noise_settings=False"];
    let bike =
        ["--experiment_settings=t,1,bike,True,300", "--model_settings=vanilla_ann,mse", "--noise_settings=False"];
    let (good, under_file) = (path("good.json"), format!("{}/run", path("file")));
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec![], "biv run needs a description"),
        (vec!["--model_settings=resnet,mse"], "settings.experiment_settings: is missing, must be text"),
        ([&bike[..], &["--batch=3"]].concat(), ""),
        (bike.to_vec(), "data: is missing, must be the folder where the data set \"bike\" is"),
        ([&bike[..], &["--data", "/nowhere"]].concat(), "/nowhere: no such file or folder"),
        ([&bike[..], &["--data", &empty]].concat(), "the folder has no 'hour.csv' or 'bike/hour.csv'"),
        ([&bike[..], &["--data", &file]].concat(), "the file is empty, a header"),
        ([&utkf[..], &["--data", &empty, "--set", "batch_size=5"]].concat(), "no images"),
        ([&utkf[..], &["--data", &empty]].concat(), "extra_exp, position 1 (batch_size): is 256, must be at most"),
        ([&bike[..], &["--eval-every", "often"]].concat(), "--eval-every: is 'often', must be like '2 epochs'"),
        ([&bike[..], &["--set", "epochs"]].concat(), "--set: is 'epochs', must be like"),
        ([&bike[..], &["--set", "epochs=many"]].concat(), "epochs: is 'many', must be a whole number"),
        (vec![&good, "--out", &full], "neither empty nor a run's folder"),
        (vec![&good, "--out", &under_file], "Not a directory"),
        (vec![&good, "--set", "dataset.train_size=0"], "dataset.train_size: is 0, must be at least 1"),
        (vec![&good, "--device", "abacus"], "device 'abacus' is unknown"),
    ];
    for (arguments, message) in cases {
        let mut arguments = [&["run"], &arguments[..]].concat();
        if !arguments.contains(&"--out") {
            arguments.extend(["--out", &out]);
        }
        if message.is_empty() {
            assert_eq!(output(&arguments).status.code(), Some(2), "a usage error");
            continue;
        }
        let complaint = complaint(&arguments);
        assert!(complaint.contains(message) && complaint.lines().count() == 1, "{arguments:?}: {complaint}");
    }
    std::fs::write(path("good.toml"), "[dataset]\nkind = \"synthetic\"\ntrain_size = 300\n[loss]\nkind = \"mse\"\n")
        .unwrap();
    let printed: Value = serde_json::from_str(&stdout(&["run", &path("good.toml"), "--dry-run"])).unwrap();
    assert_eq!((&printed["dataset"]["test_size"], &printed["out"]), (&json!(1000), &json!("runs/experiment-seed0")));
    for (name, message) in [("bad.toml", "bad.toml: line 1: "), ("bad.json", "dataset.train_size: is ")] {
        let complaint = complaint(&["run", &path(name)]);
        assert!(complaint.contains(message), "{complaint}");
    }
    assert!(!Path::new(&out).exists(), "nothing was begun");
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1, "what was there is left alone");
}

#[test]
#[ignore = "needs the real data sets: tests/optional.sh"]
fn the_published_command_lines_run_on_bike_and_wine() {
    let data = real_data("");
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        ["vanilla_ann,cutoffMSE", "True,binary_uniform", "meanvar_avg,0.5,3000", "True,0.5,1,0.3,0"],
        ["vanilla_ann,mse,0.5", "False", "", ""],
        ["vanilla_ann,biv,0.5", "True,uniform", "boundaries", "0,1"],
        ["vanilla_ann,iv,0.5", "True,uniform", "meanvar", "True,0.5,0.083"],
        ["vanilla_ann,biv,0.5", "True,gamma", "alphabeta", "1,1"],
        ["vanilla_ann,cutoffMSE,1", "True,binary_uniform", "meanvar_avg,0.5,2000", "False,0.5,1,0.08,0"],
    ];
    for (dataset, train) in [("bike", 7000), ("wine", 4000)] {
        for (at, [model, noise, kind, parameters]) in lines.iter().enumerate() {
            let out = folder.path().join(format!("{dataset}{at}"));
            let printed = stdout(&[
                "run",
                &format!("--experiment_settings=exp_tag,7159,{dataset},True,{train}"),
                &format!("--model_settings={model}"),
                &format!("--noise_settings={noise}"),
                &format!("--params_settings={kind}"),
                &format!("--parameters={parameters}"),
                "--epochs=1",
                &format!("--data={}", data.display()),
                &format!("--out={}", out.display()),
            ]);
            assert!(printed.contains("exp_tag, seed 7159: 1 epochs"), "{printed}");
            assert!(out.join("report.html").exists());
        }
    }
    let too_many = complaint(&[
        "run",
        "--experiment_settings=t,1,bike,True,14001",
        "--model_settings=vanilla_ann,mse",
        "--noise_settings=False",
        &format!("--data={}", data.display()),
        &format!("--out={}", folder.path().join("no").display()),
    ]);
    assert!(too_many.contains("train_size 14001 and test_size 3379"), "{too_many}");
}

#[test]
fn the_eight_published_command_lines_run_on_drawn_faces() {
    let folder = tempfile::tempdir().unwrap();
    let faces = folder.path().join("faces");
    stdout(&["faces", faces.to_str().unwrap(), "--count=24", "--size=64"]);
    let golden = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/settings.json"));
    let golden: Vec<Value> = serde_json::from_str(&golden).unwrap();
    for (at, entry) in golden.iter().take(8).enumerate() {
        let out = folder.path().join(format!("{at}"));
        let mut arguments = vec!["run".to_string(), "--epochs=1".into()];
        for (name, value) in entry["settings"].as_object().unwrap() {
            arguments.push(format!("--{name}={}", value.as_str().unwrap()));
        }
        // The strings ask for 16,000 images: few of them will do.
        for set in ["dataset.train_size=16", "dataset.test_size=8", "batch_size=8"] {
            arguments.extend(["--set".into(), set.into()]);
        }
        arguments.extend([format!("--data={}", faces.display()), format!("--out={}", out.display())]);
        let printed = stdout(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(printed.contains("1 epochs, 2 mini-batches"), "{printed}");
        let losses = read(out.join("train_losses.csv"));
        let steps: Vec<Vec<&str>> = losses.lines().skip(1).map(|line| line.split(',').collect()).collect();
        assert_eq!(steps.len(), 2);
        for step in &steps {
            assert!(step[5] == "0" || step[2].parse::<f64>().unwrap() > 0.0, "{losses}");
        }
        // In the last line half of the labels have a variance of 4,000, beyond the cutoff.
        let used: usize = steps.iter().map(|step| step[5].parse::<usize>().unwrap()).sum();
        assert!(if at == 7 { (1..16).contains(&used) } else { at == 0 || used == 16 }, "{at}: {losses}");
        assert_eq!(read(out.join("test_outs.csv")).lines().count(), 9);
    }
}

#[test]
fn a_network_learns_the_age_of_drawn_faces_and_images_resume() {
    let folder = tempfile::tempdir().unwrap();
    let faces = folder.path().join("faces");
    stdout(&["faces", faces.to_str().unwrap(), "--count=260", "--size=64"]);
    let base = json!({
        "tag": "faces", "data": faces, "epochs": 6, "batch_size": 20, "learning_rate": 0.003,
        "dataset": {"kind": "utkf", "train_size": 200, "test_size": 60, "keep_groups": true},
        "loss": {"kind": "biv", "epsilon": 0.5},
        "noise": {"distribution": {"kind": "gamma", "mean": 100, "variance": 10000}},
    });
    let mut decoded = 0;
    let whole = run(&config(base.clone()), &mut |progress| {
        if progress.stage == Stage::Loading {
            decoded = progress.done;
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(decoded, 260);
    // The ages spread by 29 years.
    assert!(whole.best.rmse < 15.0, "{}", whole.best.rmse);

    let out = with(base, json!({"out": folder.path().join("r"), "resume": true}));
    let stopped = run(&config(out.clone()), &mut |progress| {
        let stop = progress.stage == Stage::Training && progress.done == 33;
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Cancelled(_))));
    assert_eq!(run(&config(out), &mut unwatched).unwrap().last.rmse, whole.last.rmse);
}

#[test]
fn what_is_wrong_with_a_folder_of_images_is_said_before_they_are_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let faces = folder.path().join("faces");
    stdout(&["faces", faces.to_str().unwrap(), "--count=30", "--size=48"]);
    for number in 0..25 {
        std::fs::write(faces.join(format!("note-{number}.txt")), "").unwrap();
    }
    let base = json!({
        "data": faces, "epochs": 1, "batch_size": 5, "loss": {"kind": "mse"},
        "dataset": {"kind": "utkf", "train_size": 10, "test_size": 5},
    });
    let small = "dataset.images.size.height: is 48, must be at least 64: 6 poolings halve the image; that is the first \
                 image's own size";
    for (change, message) in [
        (json!({}), small),
        (json!({"dataset": {"train_size": 26}, "model": {"kind": "resnet"}}), "together at most the 30 rows"),
        (json!({"dataset": {"train_size": 26}}), "; 25 left out of the data: "),
        (json!({"device": "cuda:99"}), "cuda:99"),
    ] {
        let result = run(&config(with(base.clone(), change)), &mut |progress| panic!("{progress:?}"));
        let fault = result.unwrap_err().to_string();
        assert!(fault.contains(message), "{fault}");
    }

    // What was left out is named, but no long list fills the screen.
    let (file, out) = (folder.path().join("resized.json"), folder.path().join("run"));
    let resized = with(base.clone(), json!({"dataset": {"images": {"size": 64}}}));
    std::fs::write(&file, resized.to_string()).unwrap();
    let printed = stdout(&["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(printed.contains("  25 left out of the data: ") && printed.contains("; and 20 more"), "{printed}");
    let result: Value = serde_json::from_str(&read(out.join("result.json"))).unwrap();
    assert_eq!(result["left_out"].as_array().unwrap().len(), 25);

    // In a sweep it is the fault of the run whose network does not take them, or of all.
    let sweep =
        |models: Value| Sweep::from_value(&json!({"base": base, "grid": {"seeds": [0], "variants": models}})).unwrap();
    let (cnn, resnet) = (json!({"kind": "vanilla_cnn"}), json!({"kind": "resnet"}));
    let (cnn, resnet) = (json!({"name": "cnn", "model": cnn}), json!({"name": "resnet", "model": resnet}));
    let outcomes = sweep(json!([cnn, resnet])).run(&mut unwatched).unwrap();
    assert!(outcomes[0].error.as_ref().unwrap().contains("at least 64"), "{:?}", outcomes[0].error);
    assert!(outcomes[1].outcome.is_some(), "{:?}", outcomes[1].error);
    let none = sweep(json!([cnn])).run(&mut |progress| panic!("{progress:?}")).unwrap_err().to_string();
    assert!(none.contains(small), "{none}");
}
