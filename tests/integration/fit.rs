//! A user's own data: statistics, masks, fits, error bars, validation sets.

use crate::common::{epoch, model, noisy, trainer};
use biv::Error;
use biv::base::options::parse;
use biv::data::array::ArrayView;
use biv::data::{ArrayOptions, Dataset, MissingLabels, SplitOptions, SyntheticOptions};
use biv::model::{Model, ModelOptions};
use biv::train::fit::{FitOptions, FitReport, default_network, fit};
use biv::train::loss::Loss;
use biv::train::metrics::Metrics;
use biv::train::session::Session;
use biv::train::trainer::Trainer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::StandardNormal;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Half of the labels nearly exact, half with six times the labels' own variance.
const BINARY: &str = r#"{"distribution": {"kind": "binary_uniform", "components": [
    {"weight": 0.5, "low": 0, "high": 0.1}, {"low": 6, "high": 6}]}, "relative": true}"#;

/// Rows of Friedman's function: noisy ones, and clean ones to judge by.
fn friedman(rows: usize, outputs: usize) -> (Dataset, Dataset) {
    let clean = Dataset::synthetic(&SyntheticOptions { rows: rows + 1000, features: 8, outputs, seed: 5 }).unwrap();
    let split = SplitOptions { train_size: rows, test_size: None, shuffle: true, seed: 1, keep_groups: false };
    let (train, test) = clean.split(&split).unwrap();
    (noisy(&train, BINARY), test)
}

fn epochs(trainer: &mut Trainer, count: usize) {
    for _ in 0..count {
        epoch(trainer);
    }
}

fn fitted(data: &Dataset, options: &str) -> (Model, FitReport) {
    let options: FitOptions = parse("fit", options).unwrap();
    fit(&default_network(data), data, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn predictions(model: &Model, data: &Dataset) -> (Vec<f64>, Option<Vec<f64>>) {
    let prediction = model.predict_data(data).unwrap();
    (prediction.mean, prediction.variance)
}

/// A data set of arrays as a user has them.
fn arrays(x: &[f64], y: &[f64], noise: Option<&[f64]>, options: &str) -> biv::Result<Dataset> {
    let rows = y.len();
    let view = |values| ArrayView::f64(values, &[rows]).unwrap();
    let noise = noise.map(view);
    let x = ArrayView::f64(x, &[rows, x.len() / rows]).unwrap();
    Dataset::from_arrays_with(&x, &view(y), noise.as_ref(), None, &parse::<ArrayOptions>("arrays", options)?)
}

#[test]
fn a_fit_is_better_than_mse_where_variances_tell_and_equal_where_they_do_not() {
    let (train, test) = friedman(1200, 1);
    let rmse = |data: &Dataset, options: &str| Metrics::of(&fitted(data, options).0, &test).unwrap().rmse;
    let options = |rest: &str| format!(r#"{{"epochs": 60, "batch_size": 64{rest}}}"#);
    let (automatic, mse) = (rmse(&train, &options("")), rmse(&train, &options(r#", "loss": {"kind": "mse"}"#)));
    let single = rmse(&train, &options(r#", "members": 1"#));
    assert!(automatic < 0.75 * mse && single < 0.8 * mse, "auto {automatic}, one network {single}, mse {mse}");

    let shuffled: String = BINARY.replacen('{', r#"{"shuffled": true, "#, 1);
    let clean = Dataset::synthetic(&SyntheticOptions { rows: 1200, features: 8, outputs: 1, seed: 5 }).unwrap();
    let useless = noisy(&clean, &shuffled);
    let (model, report) = fitted(&useless, &options(""));
    let (equal, _) = fitted(&useless, &options(r#", "loss": {"kind": "mse"}"#));
    assert_eq!(predictions(&model, &test), predictions(&equal, &test));
    assert_eq!(report.outputs[0].training_epsilon, f64::INFINITY);
}

#[test]
fn a_fit_says_how_far_it_is_off_and_is_kept_in_a_file() {
    let (train, test) = friedman(1500, 1);
    let (model, report) = fitted(&train, r#"{"epochs": 60, "batch_size": 64}"#);
    assert_eq!((model.members(), report.members, report.epochs), (5, 5, 75));
    let bars = Metrics::of(&model, &test).unwrap().bars.unwrap();
    assert!((0.6..0.95).contains(&bars.coverage_68) && (0.9..1.0).contains(&bars.coverage_95), "{bars:?}");
    // Of held-out labels, whose noise counts.
    let held_out = &report.outputs[0];
    assert!(
        (0.6..0.76).contains(&held_out.coverage_68) && (0.92..0.98).contains(&held_out.coverage_95),
        "{held_out:?}"
    );
    assert!((held_out.mean_z2 - 1.0).abs() < 0.15, "{held_out:?}");

    let file = tempfile::NamedTempFile::new().unwrap();
    model.save(file.path()).unwrap();
    let loaded = Model::load(file.path()).unwrap();
    assert_eq!(predictions(&loaded, &test), predictions(&model, &test));
    assert_eq!(loaded.tensor("members.4.0.weight").unwrap(), model.tensor("members.4.0.weight").unwrap());
    // A trainer goes on with all networks, and knows nothing of the errors of new weights.
    let shared = Arc::new(parking_lot::Mutex::new(loaded));
    let mut trainer = trainer(shared, &train, r#"{"learning_rate": 0.0001}"#).unwrap();
    trainer.step().unwrap();
    assert!(trainer.model().lock().error_bars().is_none());
}

#[test]
fn a_fit_goes_on_from_its_checkpoint_bit_for_bit() {
    let (train, test) = friedman(400, 2);
    let folder = tempfile::tempdir().unwrap();
    for (members, epochs) in [(3, 12), (1, 10)] {
        let options = |rest: &str| -> FitOptions {
            let base = format!(r#"{{"members": {members}, "epochs": {epochs}, "batch_size": 32, "seed": 2{rest}}}"#);
            parse("fit", &base).unwrap()
        };
        let network = default_network(&train);
        let (whole, expected) = fit(&network, &train, &options(""), &mut |_| ControlFlow::Continue(())).unwrap();
        let path = folder.path().join(format!("{members}.biv"));
        let kept = options(&format!(r#", "checkpoint": {path:?}"#));
        let mut stops = 0;
        let (model, report) = loop {
            // Every call gets some epochs further; with one member also into the final training.
            let mut heard = 0;
            let attempt = fit(&network, &train, &kept, &mut |_| {
                heard += 1;
                if heard > 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            match attempt {
                Ok(done) => break done,
                Err(Error::Cancelled(_)) => stops += 1,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(stops > 1, "{stops}");
        assert_eq!((report, predictions(&model, &test)), (expected, predictions(&whole, &test)));
        // A label of the data is another one.
        let other = noisy(&train, r#"{"distribution": {"kind": "uniform", "low": 0, "high": 1e-6}}"#);
        let refused = fit(&network, &other, &kept, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
        assert!(refused.contains("the checkpoint is of a fit of other data: its labels"), "{refused}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_of_a_fit() {
    let (train, test) = friedman(300, 1);
    let on = |threads| {
        biv::kernels::team::with_threads(threads, || {
            predictions(&fitted(&train, r#"{"epochs": 5, "batch_size": 32}"#).0, &test)
        })
    };
    assert_eq!(on(1), on(2));
}

#[test]
fn few_rows_and_unknown_variances_weigh_all_labels_alike_and_say_so() {
    let (train, _) = friedman(300, 1);
    let warnings = |data: &Dataset| {
        let (_, report) = fitted(data, r#"{"epochs": 2, "batch_size": 8}"#);
        assert_eq!(report.loss, Loss::Mse {});
        report.warnings
    };
    let few = train.subset(&(0..20).collect::<Vec<_>>()).unwrap();
    assert!(warnings(&few)[0].starts_with("20 rows are too few to learn from variances"));
    let unknown = Dataset::synthetic(&SyntheticOptions { rows: 60, features: 5, outputs: 1, seed: 1 }).unwrap();
    assert!(warnings(&unknown)[0].starts_with("the labels have no variances"));
    let two = train.subset(&[0, 1]).unwrap();
    let options: FitOptions = parse("fit", "{}").unwrap();
    let error = fit(&default_network(&two), &two, &options, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "2 rows with labels do not make 5 folds: take fewer");
    // One network holds one of two rows out, and cannot do with less.
    let single: FitOptions = parse("fit", r#"{"members": 1, "epochs": 2}"#).unwrap();
    assert!(fit(&default_network(&two), &two, &single, &mut |_| ControlFlow::Continue(())).is_ok());
    let one = train.subset(&[0]).unwrap();
    let error = fit(&default_network(&one), &one, &single, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "1 rows with labels do not make 2 folds: take fewer");
}

/// One label in ten has a known standard deviation of 1e5, the others of 0.1.
#[test]
fn a_few_wild_labels_do_no_harm_without_options() {
    let mut random = ChaCha12Rng::seed_from_u64(3);
    let truth = |x: f64| (3.0 * x).sin();
    let x: Vec<f64> = (0..2000).map(|_| random.random_range(-1.0..1.0)).collect();
    let std: Vec<f64> = (0..2000).map(|row| if row % 10 == 0 { 1e5 } else { 0.1 }).collect();
    let y: Vec<f64> =
        x.iter().zip(&std).map(|(x, s)| truth(*x) + s * random.sample::<f64, _>(StandardNormal)).collect();
    let all = arrays(&x, &y, Some(&std), r#"{"standard_deviations": true}"#).unwrap();
    let good = all.subset(&(0..2000).filter(|row| row % 10 != 0).collect::<Vec<_>>()).unwrap();
    let grid: Vec<f64> = (0..500).map(|at| f64::from(at) / 250.0 - 1.0).collect();
    let judge = arrays(&grid, &grid.iter().map(|x| truth(*x)).collect::<Vec<_>>(), None, "{}").unwrap();
    let trained = |data: &Dataset| {
        let network = model(r#"{"kind": "mlp", "inputs": 1, "hidden": [100, 50]}"#);
        let mut trainer = trainer(network, data, "{}").unwrap();
        epochs(&mut trainer, 100);
        trainer.evaluate(&judge).unwrap().rmse
    };
    let fit_of = |data: &Dataset| Metrics::of(&fitted(data, "{}").0, &judge).unwrap().rmse;
    let (with_all, with_good) = (trained(&all), trained(&good));
    assert!(with_all < 1.5 * with_good, "a trainer: {with_all}, the good labels alone {with_good}");
    let (with_all, with_good) = (fit_of(&all), fit_of(&good));
    assert!(with_all < 1.5 * with_good, "a fit: {with_all}, the good labels alone {with_good}");
}

#[test]
fn a_julian_date_is_a_feature_like_any_other() {
    let rows = 2000;
    let date = |row: usize| 2_460_000.5 + row as f64 / rows as f64;
    let x: Vec<f64> = (0..rows).map(date).collect();
    let y: Vec<f64> = (0..rows).map(|row| (3.0 * std::f64::consts::TAU * row as f64 / rows as f64).sin()).collect();
    let data = arrays(&x, &y, None, "{}").unwrap();
    let network = model(r#"{"kind": "mlp", "inputs": 1, "hidden": [100, 50]}"#);
    let mut trainer =
        trainer(network, &data, r#"{"loss": {"kind": "mse"}, "batch_size": 64, "learning_rate": 0.003}"#).unwrap();
    epochs(&mut trainer, 100);
    let r2 = trainer.evaluate(&data).unwrap().r2;
    assert!(r2 > 0.99, "{r2}");
    // Predictions see the same features, whatever the source.
    let found = trainer.model().lock().predict_array(&ArrayView::f64(&x, &[rows, 1]).unwrap()).unwrap().mean;
    let expected = trainer.predict(&data).unwrap();
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "array and data set differ");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nights.csv");
    let lines: String = x.iter().zip(&y).map(|(x, y)| format!("{x},{y}\n")).collect();
    std::fs::write(&path, format!("date,y\n{lines}")).unwrap();
    let csv = Dataset::from_csv(&path, &parse("csv", r#"{"labels": ["y"]}"#).unwrap()).unwrap();
    assert_eq!(trainer.predict(&csv).unwrap(), expected);
}

#[test]
fn masked_rows_are_as_if_they_were_not_there() {
    let (train, test) = friedman(200, 1);
    let (x, mut y) = (train.features().rows().to_f64(8).unwrap(), train.labels().to_vec());
    let mut v = train.variances().unwrap().to_vec();
    // Without a label, and with one that says nothing.
    let masked = [3, 77, 78, 199];
    y[3] = f64::NAN;
    y[77] = f64::NAN;
    v[77] = f64::NAN;
    v[78] = f64::INFINITY;
    v[199] = f64::INFINITY;
    let all = arrays(&x, &y, Some(&v), r#"{"missing_labels": "mask"}"#).unwrap();
    assert_eq!(all.masked(), 4);
    let kept: Vec<usize> = (0..200).filter(|row| !masked.contains(row)).collect();
    let rest = all.subset(&kept).unwrap();
    assert_eq!(rest.masked(), 0);
    for loss in [r#"{"kind": "biv", "epsilon": 0.1}"#, r#"{"kind": "mse"}"#, r#"{"kind": "cutoff_mse"}"#] {
        let train = |data: &Dataset| {
            let options = format!(r#"{{"batch_size": 32, "loss": {loss}}}"#);
            let network = model(r#"{"kind": "mlp", "inputs": 8, "hidden": [16]}"#);
            let mut trainer = trainer(network, data, &options).unwrap();
            epochs(&mut trainer, 3);
            trainer
        };
        let (with, without) = (train(&all), train(&rest));
        assert_eq!(with.predict(&test).unwrap(), without.predict(&test).unwrap());
        let (with, without) = (with.evaluate(&all).unwrap(), without.evaluate(&rest).unwrap());
        assert_eq!((with.rmse, with.r2, with.weighted_rmse), (without.rmse, without.r2, without.weighted_rmse));
    }
    assert_eq!(
        predictions(&fitted(&all, r#"{"epochs": 3}"#).0, &test),
        predictions(&fitted(&rest, r#"{"epochs": 3}"#).0, &test)
    );

    let error =
        |x: &[f64], y: &[f64], v: &[f64], options: &str| arrays(x, y, Some(v), options).unwrap_err().to_string();
    assert_eq!(error(&x, &y, &v, "{}"), "row 3, label 0: NaN is not a finite number");
    assert_eq!(error(&[1.0], &[1.0], &[f64::NAN], "{}"), "row 0, variance 0: NaN is not a number");
    // A mini-batch without any label takes no step; a data set without any is of no use.
    let nothing = arrays(&[1.0; 8], &[f64::NAN], None, r#"{"missing_labels": "mask"}"#).unwrap();
    let mut trainer =
        trainer(model(r#"{"kind": "mlp", "inputs": 8, "hidden": [4]}"#), &all, r#"{"batch_size": 32}"#).unwrap();
    let before = trainer.predict(&test).unwrap();
    let mask = arrays(&[1.0; 8], &[1.0], Some(&[f64::INFINITY]), "{}").unwrap();
    let step = trainer.step_on(&mask).unwrap();
    assert_eq!((step.samples_used, trainer.steps()), (0, 0));
    assert_eq!(trainer.predict(&test).unwrap(), before);
    let message = "every label is missing or has an infinite variance";
    assert_eq!(trainer.evaluate(&nothing).unwrap_err().to_string(), message);
    let options: FitOptions = parse("fit", "{}").unwrap();
    let error = fit(&default_network(&nothing), &nothing, &options, &mut |_| ControlFlow::Continue(()));
    assert_eq!(error.unwrap_err().to_string(), message);
}

/// Each output by itself: where one label is missing the others still count.
#[test]
fn a_row_with_one_label_of_two_trains_that_one() {
    let labels = [1.0, f64::NAN, f64::NAN, 4.0, 5.0, 6.0];
    let x: Vec<f64> = vec![0.0, 1.0, 2.0];
    let options = ArrayOptions { missing_labels: MissingLabels::Mask, ..ArrayOptions::default() };
    let (x, y) = (ArrayView::f64(&x, &[3]).unwrap(), ArrayView::f64(&labels, &[3, 2]).unwrap());
    let data = Dataset::from_arrays_with(&x, &y, None, None, &options).unwrap();
    let network = model(r#"{"kind": "mlp", "inputs": 1, "outputs": 2, "hidden": []}"#);
    let mut trainer =
        trainer(network, &data, r#"{"loss": {"kind": "mse"}, "batch_size": 3, "learning_rate": 0.05}"#).unwrap();
    for _ in 0..600 {
        trainer.step().unwrap();
    }
    // Two known labels for each output: a line goes through both.
    let found = trainer.predict(&data).unwrap();
    for (at, label) in labels.iter().enumerate().filter(|(_, label)| !label.is_nan()) {
        assert!((found[at] - label).abs() < 0.05, "{found:?}");
    }
    assert!(trainer.evaluate(&data).unwrap().rmse < 0.05);
}

#[test]
fn a_validation_set_finds_epsilon_and_keeps_the_best_epoch() {
    let (train, judge) = friedman(1200, 1);
    let part = |from: usize, to: usize| train.subset(&(from..to).collect::<Vec<_>>()).unwrap();
    let (seen, unseen) = (part(0, 900), Arc::new(part(900, 1200)));
    let network = || model(r#"{"kind": "mlp", "inputs": 8, "hidden": [100, 50]}"#);
    let options =
        r#"{"loss": {"kind": "biv", "epsilon": "auto"}, "batch_size": 64, "patience": 15, "normalization": "labels"}"#;
    let mut first = trainer(network(), &seen, options).unwrap();
    let error = first.step().unwrap_err().to_string();
    assert!(error.contains("the epsilon 'auto' is found on a validation set"), "{error}");
    first.set_validation(unseen.clone()).unwrap();
    let session = Session::new(first);
    let mut reports = vec![];
    session
        .fit(400, None, |report, _| {
            reports.push(report.validation.unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
    let best = reports.iter().map(|report| report.loss).fold(f64::INFINITY, f64::min);
    let last = reports.last().unwrap();
    assert!(reports.len() < 400 && reports.len() as u64 == last.best_epoch + 15, "{} epochs", reports.len());
    assert_eq!(reports[last.best_epoch as usize - 1].loss, best);
    let kept = session.trainer().evaluate(&judge).unwrap().rmse;

    // From a checkpoint in the middle it goes on bit for bit.
    let mut whole = trainer(network(), &seen, options).unwrap();
    whole.set_validation(unseen.clone()).unwrap();
    epochs(&mut whole, 7);
    let file = tempfile::NamedTempFile::new().unwrap();
    whole.save(file.path()).unwrap();
    let mut resumed = Trainer::load(file.path(), Some(&seen), None).unwrap();
    resumed.set_validation(unseen.clone()).unwrap();
    for _ in 0..5 {
        assert_eq!(epoch(&mut whole), epoch(&mut resumed));
    }
    assert_eq!(whole.predict(&judge).unwrap(), resumed.predict(&judge).unwrap());

    let mut equal =
        trainer(network(), &seen, r#"{"loss": {"kind": "mse"}, "batch_size": 64, "normalization": "labels"}"#).unwrap();
    epochs(&mut equal, reports.len());
    let mse = equal.evaluate(&judge).unwrap().rmse;
    assert!(kept < 0.8 * mse, "auto {kept}, mse {mse}");
}

/// Labels whose spread grows with x: the network says how far it is off, beyond the noise that is known.
#[test]
fn a_network_learns_its_own_variance_beside_the_noise() {
    let mut random = ChaCha12Rng::seed_from_u64(8);
    let own = |x: f64| 0.05 + 0.4 * x;
    let x: Vec<f64> = (0..4000).map(|_| random.random_range(0.0..1.0)).collect();
    let v: Vec<f64> = (0..4000).map(|_| random.random_range(0.0..0.5)).collect();
    let y: Vec<f64> = x
        .iter()
        .zip(&v)
        .map(|(x, v)| 2.0 * x + (own(*x).powi(2) + v).sqrt() * random.sample::<f64, _>(StandardNormal))
        .collect();
    let data = arrays(&x, &y, Some(&v), "{}").unwrap();
    for loss in [r#"{"kind": "gaussian"}"#, r#"{"kind": "beta_nll"}"#] {
        let network = model(r#"{"kind": "mean_variance", "network": {"kind": "mlp", "inputs": 1, "hidden": [32]}}"#);
        assert_eq!(network.lock().outputs(), 1);
        let options = format!(r#"{{"loss": {loss}, "batch_size": 128, "learning_rate": 0.01}}"#);
        let mut trainer = trainer(network, &data, &options).unwrap();
        epochs(&mut trainer, 60);
        let bars = trainer.evaluate(&data).unwrap().bars.unwrap();
        assert!((bars.mean_z2 - 1.0).abs() < 0.15 && (0.63..0.73).contains(&bars.coverage_68), "{loss}: {bars:?}");
        let grid = [0.1, 0.9];
        let found = trainer.model().lock().predict_array(&ArrayView::f64(&grid, &[2, 1]).unwrap()).unwrap();
        for (at, x) in grid.iter().enumerate() {
            assert!((found.mean[at] - 2.0 * x).abs() < 0.15, "{loss}: {found:?}");
            let std = found.variance.as_ref().unwrap()[at].sqrt();
            assert!((std / own(*x)).ln().abs() < 0.5, "{loss} at {x}: {std}, truly {}", own(*x));
        }
    }
    let fault = |network: &str, loss: &str| {
        trainer(model(network), &data, &format!(r#"{{"loss": {loss}}}"#)).unwrap_err().to_string()
    };
    let (plain, both) = (
        r#"{"kind": "mlp", "inputs": 1, "hidden": [4]}"#,
        r#"{"kind": "mean_variance", "network": {"kind": "mlp", "inputs": 1, "hidden": [4]}}"#,
    );
    assert!(fault(plain, r#"{"kind": "gaussian"}"#).contains("a model of kind 'mean_variance'"));
    assert!(fault(both, r#"{"kind": "mse"}"#).contains("must be 'gaussian' or 'beta_nll'"));
}

#[test]
fn networks_in_networks_are_an_error_and_options_are_read_strictly() {
    let build = |json: &str| parse::<ModelOptions>("model", json).and_then(|options| Model::new(&options));
    let mlp = r#"{"kind": "mlp", "inputs": 2, "hidden": [3]}"#;
    let ensemble = format!(r#"{{"kind": "ensemble", "members": 2, "network": {mlp}}}"#);
    let single = build(mlp).unwrap();
    let two = build(&ensemble).unwrap();
    // The first network has the seed, the second another.
    assert_eq!(two.tensor("members.0.0.weight").unwrap(), single.tensor("0.weight").unwrap());
    assert_ne!(two.tensor("members.1.0.weight").unwrap(), single.tensor("0.weight").unwrap());
    let nested = format!(r#"{{"kind": "ensemble", "members": 2, "network": {ensemble}}}"#);
    assert!(build(&nested).unwrap_err().to_string().starts_with("model.network.kind: is a network in a network"));
    let fault = |json: &str| {
        parse::<FitOptions>("fit", json)
            .and_then(|options| {
                let data = Dataset::synthetic(&SyntheticOptions { rows: 50, features: 5, outputs: 1, seed: 1 })?;
                fit(&default_network(&data), &data, &options, &mut |_| ControlFlow::Continue(())).map(|_| ())
            })
            .unwrap_err()
            .to_string()
    };
    assert!(fault(r#"{"members": 0}"#).starts_with("fit.members: is 0, must be 1 to 1000"));
    assert!(fault(r#"{"distributed": {"rows": "own"}}"#).starts_with("fit.distributed.rows: is 'own', must be 'all'"));
    assert!(fault(r#"{"learning_rate": 0}"#).starts_with("fit.learning_rate: is 0"));
    assert!(fault(r#"{"loss": {"kind": "biv", "epsilon": {"auto": 0}}}"#).starts_with("fit.loss.epsilon.auto: is 0"));
    assert!(fault(r#"{"loss": {"kind": "biv", "epsilon": "aut"}}"#).contains("'auto' or {\"auto\": ...}"));
    assert!(fault(r#"{"epoch": 3}"#).starts_with("fit.epoch: is no known field (did you mean 'epochs'?)"));
}
