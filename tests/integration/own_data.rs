//! A user's own CSV files through the command line: fit, predict, variances.

use crate::common::{biv, complaint, stdout};
use biv::base::random::{Purpose, stream};
use biv::data::Dataset;
use biv::data::array::ArrayView;
use biv::model::Model;
use biv::train::loss::Loss;
use biv::train::metrics::Metrics;
use biv::train::trainer::{Trainer, TrainerOptions};
use rand::RngExt;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// 300 rows of a number, an hour and a category; half of the labels are noisy.
fn people() -> String {
    let mut random = stream(1, Purpose::Synthetic, 0);
    let mut text = "age,hour,kind,income,err\n".to_string();
    for row in 0..300 {
        let (age, hour, kind) = (20.0 + 40.0 * random.random::<f64>(), row % 24, ["b", "a", "c"][row % 3]);
        let err = if row % 2 == 0 { 0.1 } else { 3.0 };
        let income = age / 10.0 + (row % 3) as f64 + err * 3.4 * (random.random::<f64>() - 0.5);
        let _ = writeln!(text, "{age},{hour},{kind},{income},{err}");
    }
    text
}

/// The names of what is in a folder, hidden files apart.
fn files(folder: &Path) -> Vec<String> {
    let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fitted_to_a_file_and_predicts_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, new, out) = (path("people.csv"), path("new.csv"), path("fit"));
    std::fs::write(&data, people()).unwrap();
    // Other columns in another order, without labels.
    std::fs::write(&new, "kind,extra,hour,age\na,1,6,30\nc,2,0,50.5\nb,3,12,41\n").unwrap();
    let arguments = [
        "fit",
        &data,
        "--label=income",
        "--std=err",
        "--one-hot=kind",
        "--cyclic=hour=24",
        "--members=2",
        "--epochs=4",
        "--batch-size=32",
        "--hidden=8,4",
        "--seed=3",
        "--test",
        &data,
        "--out",
        &out,
    ];
    let printed = stdout(&arguments);
    for text in [
        "300 rows, stopped at epoch ",
        "verdict ",
        "scale ",
        "epsilon ",
        "tau ",
        "coverage ",
        "on the test file, noisy labels: RMSE ",
    ] {
        assert!(printed.contains(text), "{text}: {printed}");
    }
    assert!(printed.ends_with("fit/report.html\n"), "{printed}");
    let out = Path::new(&out);
    assert_eq!(files(out), ["columns.json", "fit.json", "model.biv", "report.html", "test.json"]);
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let report: Value = serde_json::from_str(&read("fit.json")).unwrap();
    assert_eq!(
        (&report["rows"], &report["members"], report["history"].as_array().unwrap().len()),
        (&300.into(), &2.into(), 8)
    );
    let output = &report["outputs"][0];
    let shares = output["coverage"].as_array().unwrap();
    let at_95 = shares.iter().find(|share| share["expected"] == 0.95).unwrap();
    let difference = at_95["observed"].as_f64().unwrap() - output["coverage_95"].as_f64().unwrap();
    assert!(shares.len() == 11 && difference.abs() < 1e-12, "{output}");
    let columns: Value = serde_json::from_str(&read("columns.json")).unwrap();
    assert_eq!(columns["features"], serde_json::json!(["age", "hour", "kind"]));
    assert_eq!(columns["categories"]["kind"], serde_json::json!(["a", "b", "c"]));
    let page = read("report.html");
    assert!(page.contains("<h1>people.csv</h1>") && page.contains("Errors on noisy test labels"));
    assert!(!page.contains("src=") && !page.contains("href="), "self-contained");

    let model = Model::load(&out.join("model.biv")).unwrap();
    let circle = |hour: f64| {
        let (sine, cosine) = (std::f64::consts::TAU * hour / 24.0).sin_cos();
        [f64::from(cosine as f32), f64::from(sine as f32)]
    };
    let features: Vec<f64> = [(30.0, 6.0, 0), (50.5, 0.0, 2), (41.0, 12.0, 1)]
        .into_iter()
        .flat_map(|(age, hour, kind)| {
            let kinds = (0..3).map(move |at| if at == kind { 1.0 } else { 0.0 });
            [age].into_iter().chain(circle(hour)).chain(kinds)
        })
        .collect();
    let expected = model.predict_array(&ArrayView::f64(&features, &[3, 6]).unwrap()).unwrap();
    let predictions = path("p.csv");
    let saved = out.join("model.biv");
    let model_file = saved.to_str().unwrap();
    assert_eq!(stdout(&["predict", model_file, &new, "--out", &predictions]), "");
    let text = std::fs::read_to_string(&predictions).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("row,prediction,std"));
    for (row, line) in lines.enumerate() {
        let fields: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
        let std = expected.variance.as_ref().unwrap()[row].sqrt();
        assert_eq!(fields, [row as f64 + 1.0, expected.mean[row], std]);
    }
    assert_eq!(text.lines().count(), 4);
    assert_eq!(stdout(&["predict", model_file, &new]), text, "without --out they are printed");
    // The model alone knows its columns, too.
    let alone = path("alone.biv");
    std::fs::copy(&saved, &alone).unwrap();
    assert_eq!(stdout(&["predict", &alone, &new]), text);

    // The folder is not empty; what is there stays.
    let refused = complaint(&arguments);
    assert!(refused.contains("neither empty nor the folder of a fit that was stopped"), "{refused}");
    std::fs::write(&new, "kind,hour,age\na,6,30\nd,0,50\n").unwrap();
    let unseen = complaint(&["predict", model_file, &new]);
    assert!(unseen.contains("row 2, column 'kind': 'd' is none of the categories 'a', 'b', 'c'"), "{unseen}");
    assert!(stdout(&["predict", model_file, &new, "--unseen-categories", "zeros"]).lines().count() == 3);
    std::fs::write(&new, "kind,age\na,6\n").unwrap();
    let missing = complaint(&["predict", model_file, &new]);
    assert!(missing.contains("there is no column 'hour', only 'kind', 'age'"), "{missing}");
}

#[test]
fn a_fit_says_what_its_labels_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("people.csv"), people()).unwrap();
    let exact: String =
        people().lines().skip(1).map(|row| format!("{},0\n", row.rsplit_once(',').unwrap().0)).collect();
    std::fs::write(path("exact.csv"), format!("age,hour,kind,income,err\n{exact}")).unwrap();
    let cases = [
        ("people.csv", "people.csv", true, "noisy labels", "noisy test labels", "noisy"),
        ("people.csv", "exact.csv", true, "noisy labels", "clean test labels", "clean"),
        ("exact.csv", "people.csv", true, "clean labels", "noisy test labels", "noisy"),
        ("people.csv", "people.csv", false, "labels of unknown noise", "test labels of unknown noise", "unknown"),
    ];
    for (at, (data, test, has_variances, fitted, tested, kind)) in cases.into_iter().enumerate() {
        let (data, test, out) = (path(data), path(test), path(&format!("fit-{at}")));
        let flags = "--label=income --features=age,hour --members=1 --epochs=2 --hidden=4";
        let mut arguments: Vec<&str> = ["fit", &data].into_iter().chain(flags.split(' ')).collect();
        arguments.extend(["--test", &test, "--out", &out]);
        arguments.extend(has_variances.then_some("--std=err"));
        let printed = stdout(&arguments);
        assert!(printed.contains(&format!("RMSE on held-out rows, {fitted}  ")), "{at}: {printed}");
        let test_labels = tested.replace("test ", "");
        assert!(printed.contains(&format!("on the test file, {test_labels}: RMSE ")), "{at}: {printed}");
        let page = std::fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
        assert!(page.contains(&format!("on held-out rows: {fitted}")), "{at}");
        assert!(page.contains(&format!("Errors on {tested}")), "{at}");
        assert_eq!(page.contains("clean"), fitted.contains("clean") || kind == "clean", "{at}");
        let errors = std::fs::read_to_string(Path::new(&out).join("test.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&errors).unwrap()["test_labels"], kind, "{at}");
    }
}

#[test]
fn several_outputs_have_their_names_and_gaps_their_rows_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (path("data.csv"), path("out"));
    let row = |at: i32| match at % 10 {
        3 => format!(";{at};1\n"),
        7 => format!("{at};;2\n"),
        _ => format!("{at};{};{}\n", at * 2, 5 - at),
    };
    std::fs::write(&data, "x;a;b\n".to_string() + &(0..60).map(row).collect::<String>()).unwrap();
    let shared = ["--delimiter=;", "--skip-missing"];
    let fit = ["fit", &data, "--label=a", "--label=b", "--mask-missing", "--members=1", "--epochs=1", "--out", &out];
    let printed = stdout(&[&fit[..], &shared[..]].concat());
    assert!(printed.contains("54 rows") && printed.contains("warning: the labels have no variances"), "{printed}");
    let model = path("out/model.biv");
    let text = stdout(&["predict", &model, &data]);
    assert!(text.starts_with("row,prediction_a,std_a,prediction_b,std_b\n1,"), "{text}");
    assert!(text.contains("\n3,") && !text.contains("\n4,") && text.contains("\n5,"), "row 4 has no feature: {text}");
    let by_hand = stdout(&[&["predict", &model, &data, "--features=x"], &shared[..]].concat());
    assert_eq!(by_hand, text);
    // The model alone knows the columns, but not how this file is written.
    std::fs::remove_file(path("out/columns.json")).unwrap();
    let hint = "there is no column 'x', only 'x;a;b': is csv.delimiter ';'?";
    assert!(complaint(&["predict", &model, &data]).contains(hint));
    assert_eq!(stdout(&[&["predict", &model, &data], &shared[..]].concat()), text);
    let columns = path("none.json");
    assert!(complaint(&["predict", &model, &data, "--columns", &columns]).contains("none.json: no such file"));
}

#[test]
fn variances_are_judged_by_residuals() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("residuals.csv");
    let data = data.to_str().unwrap();
    let mut text = "r,v,s\n".to_string();
    for row in 0..400 {
        let v = f64::from(row % 20 + 1);
        let sign = if row % 3 == 0 { 1.3 } else { -0.8 };
        let _ = writeln!(text, "{},{v},{}", sign * (v + 2.0).sqrt(), 2.0 * v.sqrt());
    }
    std::fs::write(data, &text).unwrap();
    let printed = stdout(&["variances", data, "--residual=r", "--variance=v"]);
    let found: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&found["rows"], &found["verdict"]), (&400.into(), &"profile".into()));
    assert_eq!(
        stdout(&["variances", data, "--residual=r", "--std=s", "--error-divisor=2"]).lines().count(),
        printed.lines().count()
    );
    for (arguments, message) in [
        (&["--residual=r"][..], "biv variances needs --variance COLUMN or --std COLUMN"),
        (&["--residual=q", "--variance=v"], "there is no column 'q', only 'r', 'v', 's'"),
    ] {
        let complaint = complaint(&[&["variances", data], arguments].concat());
        assert!(complaint.contains(message), "{complaint}");
    }
}

#[test]
fn a_fit_that_cannot_start_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (path("people.csv"), path("out"));
    std::fs::write(&data, people()).unwrap();
    for (arguments, message) in [
        (&["--label=wage"][..], "there is no column 'wage', only 'age', 'hour', 'kind', 'income', 'err'"),
        (&["--label=income"], "row 1, column 'kind': 'b' is not a number"),
        (&["--label=income", "--features=age", "--std=err", "--std=err"], "csv.standard_errors: is 2, must be as many"),
        (&["--label=income", "--features=age", "--one-hot=kind"], "csv: is 'kind' not a feature"),
        (&["--label=income", "--features=age", "--epochs=0"], "fit.epochs: is 0, must be at least 1"),
        (&["--label=income", "--features=age", "--test=/nowhere.csv"], "/nowhere.csv: no such file"),
    ] {
        let complaint = complaint(&[&["fit", &data, "--out", &out], arguments].concat());
        assert!(complaint.contains(message) && complaint.lines().count() == 1, "{arguments:?}: {complaint}");
    }
    for arguments in [&["--label=income", "--variance=err", "--std=err"][..], &["--label=income", "--cyclic=hour"], &[]]
    {
        let code = biv(&[&["fit", &data], arguments].concat()).output().unwrap().status.code();
        assert_eq!(code, Some(2), "a usage error: {arguments:?}");
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_second_file_is_matched_by_name_wherever_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, content: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let options = r#"{"labels":["y"],"one_hot":["k"]}"#;
        Dataset::from_csv(&path, &biv::base::options::parse("csv", options).unwrap()).unwrap()
    };
    let rows = || (0..60).map(|n| (n % 7, ["r", "g", "b"][n % 3], 3 * (n % 7) + n % 3));
    let first = read("a.csv", rows().fold("x,k,y\n".into(), |text, (x, k, y)| text + &format!("{x},{k},{y}\n")));
    // Two of the three categories, another order, and a column that the model does not know.
    let some = rows().filter(|row| row.1 != "b");
    let second = some.fold("y,id,k,x\n".into(), |text: String, (x, k, y)| text + &format!("{y},0,{k},{x}\n"));
    let second = read("b.csv", second);
    let expected: Vec<usize> = (0..60).filter(|n| n % 3 != 2).collect();
    let expected = first.subset(&expected).unwrap();

    let model = r#"{"kind":"mlp","inputs":4,"outputs":1,"hidden":[8]}"#;
    let model = Model::new(&biv::base::options::parse("model", model).unwrap()).unwrap();
    let shared = Arc::new(parking_lot::Mutex::new(model));
    let options = TrainerOptions { batch_size: 20, loss: Loss::Mse {}, ..TrainerOptions::default() };
    let mut trainer = Trainer::new(shared.clone(), Some(&first), &options).unwrap();
    for _ in 0..5 {
        trainer.epoch(|_, _| std::ops::ControlFlow::Continue(())).unwrap();
    }
    assert_eq!(trainer.evaluate(&second).unwrap(), trainer.evaluate(&expected).unwrap());
    assert_eq!(trainer.predict(&second).unwrap(), trainer.predict(&expected).unwrap());
    trainer.set_validation(Arc::new(second.clone())).unwrap();
    // A saved model knows the names; so does a trainer on the other file.
    let path = folder.path().join("model.biv");
    shared.lock().save(&path).unwrap();
    let loaded = Model::load(&path).unwrap();
    assert_eq!(loaded.columns(), first.columns().map(|columns| &**columns));
    assert_eq!(Metrics::of(&loaded, &second).unwrap(), Metrics::of(&loaded, &expected).unwrap());
    assert_eq!(loaded.predict_data(&second).unwrap(), loaded.predict_data(&expected).unwrap());
    let step = |data: &Dataset| {
        let model = Arc::new(parking_lot::Mutex::new(Model::load(&path).unwrap()));
        Trainer::new(model, Some(data), &options).unwrap().step().unwrap()
    };
    assert_eq!(step(&second), step(&expected));
    let renamed = read("c.csv", "z,k,y\n1,r,2\n".into());
    let refused = loaded.predict_data(&renamed).unwrap_err().to_string();
    assert!(refused.starts_with("the data have no column 'x': they have 'z', 'k'"), "{refused}");
}
