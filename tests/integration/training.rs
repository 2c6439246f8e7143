//! Training as a whole: it learns, it resumes, it stops, it reports.

use crate::common::{epoch, model, noisy, trainer};
use biv::Error;
use biv::data::{Dataset, SplitOptions, SyntheticOptions};
use biv::train::session::Session;
use biv::train::trainer::{StepReport, Trainer};
use std::ops::ControlFlow;
use std::sync::Arc;

const MLP: &str = r#"{"kind": "mlp", "inputs": 8, "hidden": [32, 16], "seed": 3}"#;
const MLP_BATCH_NORM: &str = r#"{"kind": "mlp", "inputs": 8, "hidden": [32, 16], "batch_norm": true}"#;

/// Noisy training rows and clean test rows of Friedman's function.
fn friedman(rows: usize, outputs: usize) -> (Dataset, Dataset) {
    let clean = Dataset::synthetic(&SyntheticOptions { rows, features: 8, outputs, seed: 5 }).unwrap();
    let split = SplitOptions { train_size: rows * 2 / 3, test_size: None, shuffle: true, seed: 1, keep_groups: false };
    let (train, test) = clean.split(&split).unwrap();
    (noisy(&train, r#"{"distribution": {"kind": "gamma", "mean": 1, "variance": 2}, "relative": true}"#), test)
}

#[test]
fn biv_learns_more_from_noisy_labels_than_mse() {
    let (train, test) = friedman(3000, 1);
    let rmse = |loss: &str| {
        let options = format!(r#"{{"loss": {{"kind": "{loss}"}}, "batch_size": 64, "learning_rate": 0.003}}"#);
        let mut trainer = trainer(model(MLP), &train, &options).unwrap();
        for _ in 0..30 {
            epoch(&mut trainer);
        }
        trainer.evaluate(&test).unwrap().rmse
    };
    let (biv, mse) = (rmse("biv"), rmse("mse"));
    assert!(biv < 0.8 * mse, "biv {biv}, mse {mse}");
}

#[test]
fn a_saved_trainer_goes_on_bit_for_bit() {
    let (train, test) = friedman(900, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.biv");
    for network in [MLP, MLP_BATCH_NORM] {
        let options =
            r#"{"batch_size": 50, "seed": 9, "loss": {"kind": "biv", "epsilon": {"min_effective_batch_ratio": 0.6}}}"#;
        let mut uninterrupted = trainer(model(network), &train, options).unwrap();
        // Into the middle of the second epoch, with a learning rate of its own.
        for _ in 0..17 {
            uninterrupted.step().unwrap();
        }
        uninterrupted.set_learning_rate(0.002).unwrap();
        uninterrupted.save(&path).unwrap();
        let mut resumed = Trainer::load(&path, Some(&train), None).unwrap();
        assert_eq!((resumed.position(), resumed.learning_rate()), (uninterrupted.position(), 0.002));
        for _ in 0..40 {
            assert_eq!(uninterrupted.step().unwrap(), resumed.step().unwrap());
        }
        assert_eq!(uninterrupted.evaluate(&test).unwrap(), resumed.evaluate(&test).unwrap());
        assert_eq!(resumed.steps(), 57);
    }
}

#[test]
fn the_seed_alone_determines_training() {
    let (train, _) = friedman(600, 1);
    let losses = |seed: u64| {
        let mut trainer = trainer(model(MLP), &train, &format!(r#"{{"batch_size": 32, "seed": {seed}}}"#)).unwrap();
        tch::manual_seed(seed as i64 + 17);
        (0..20).map(|_| trainer.step().unwrap().loss).collect::<Vec<_>>()
    };
    assert_eq!(losses(1), losses(1));
    assert_ne!(losses(1), losses(2));
}

#[test]
fn checkpoints_of_other_data_are_refused() {
    let (train, test) = friedman(600, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.biv");
    trainer(model(MLP), &train, r#"{"batch_size": 32}"#).unwrap().save(&path).unwrap();
    let fault = |data: &Dataset| Trainer::load(&path, Some(data), None).unwrap_err().to_string();
    assert_eq!(
        fault(&test),
        "the data set is not the one that the checkpoint was made with: it has 200 rows, there were 400"
    );
    let wide = Dataset::new(vec![0.0; 400 * 9], vec![9], vec![0.0; 400], 1, Some(vec![1.0; 400])).unwrap();
    assert_eq!(fault(&wide), "rows of the data set have 9 features, the model has 8");
}

#[test]
fn a_fit_is_cancelled_by_its_callback_or_another_thread_and_goes_on() {
    let (train, test) = friedman(600, 1);
    let session = Session::new(trainer(model(MLP), &train, r#"{"batch_size": 8}"#).unwrap());
    let mut epochs = Vec::new();
    let stopped = session.fit(10, Some(&test), |report, metrics| {
        // The trainer is free: what a callback wants from it does not wait for ever.
        assert_eq!(session.trainer().evaluate(&test).unwrap().rmse, metrics.unwrap().rmse);
        let again = session.fit(1, None, |_, _| ControlFlow::Continue(()));
        assert!(matches!(again, Err(Error::Busy(_))));
        epochs.push(report.epoch);
        if report.epoch == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Cancelled(_))));
    assert_eq!(epochs, [1, 2]);

    std::thread::scope(|scope| {
        let fit = scope.spawn(|| session.fit(u64::MAX, None, |_, _| ControlFlow::Continue(())));
        while session.progress().epoch < 3 || !session.progress().running {
            std::thread::yield_now();
        }
        session.cancel();
        assert!(matches!(fit.join().unwrap(), Err(Error::Cancelled(_))));
    });
    let before = session.progress();
    assert!(!before.running);
    session
        .fit(1, None, |report, _| {
            assert_eq!(report.epoch, before.epoch + 1);
            ControlFlow::Continue(())
        })
        .unwrap();
}

#[test]
fn a_cutoff_that_leaves_nothing_takes_no_step_and_says_so() {
    let (train, _) = friedman(600, 1);
    let train = noisy(&train, r#"{"distribution": {"kind": "uniform", "low": 5, "high": 6}, "relative": true}"#);
    let mut trainer = trainer(model(MLP), &train, r#"{"loss": {"kind": "cutoff_mse"}, "batch_size": 32}"#).unwrap();
    let report = epoch(&mut trainer);
    assert_eq!((report.batches, report.skipped, trainer.steps()), (12, 12, 0));
}

#[test]
fn a_cutoff_is_given_in_the_labels_unit() {
    let (train, _) = friedman(600, 1);
    let below = train.variances().unwrap().iter().filter(|v| **v < 20.0).count();
    let options = r#"{"loss": {"kind": "cutoff_mse", "threshold": 20}, "batch_size": 400}"#;
    assert_eq!(trainer(model(MLP), &train, options).unwrap().step().unwrap().samples_used, below);
}

#[test]
fn each_step_reports_the_batch_it_asked_for() {
    let (train, _) = friedman(600, 1);
    let options = r#"{"loss": {"kind": "biv", "epsilon": {"min_effective_batch_size": 40}}, "batch_size": 64}"#;
    let mut trainer = trainer(model(MLP), &train, options).unwrap();
    for _ in 0..12 {
        let step = trainer.step().unwrap();
        assert!((step.effective_batch_size - 40.0).abs() < 1e-6, "{step:?}");
        assert!(step.epsilon > 0.0 && step.rows == 64 && step.samples_used == 64);
    }
}

#[test]
fn several_outputs_train_together() {
    let (train, test) = friedman(3000, 3);
    let network = r#"{"kind": "mlp", "inputs": 8, "outputs": 3, "hidden": [64]}"#;
    let mut trainer = trainer(model(network), &train, r#"{"batch_size": 64, "learning_rate": 0.003}"#).unwrap();
    let before = trainer.evaluate(&test).unwrap();
    for _ in 0..30 {
        epoch(&mut trainer);
    }
    let after = trainer.evaluate(&test).unwrap();
    assert!(after.rmse < 0.5 * before.rmse && after.r2 > 0.7, "{before:?} {after:?}");
    let predictions = trainer.model().lock().predict(&test.feature_values().unwrap()).unwrap();
    let mse =
        predictions.iter().zip(test.labels()).map(|(p, y)| (p - y).powi(2)).sum::<f64>() / predictions.len() as f64;
    assert!((mse - after.mse).abs() < 1e-9 * mse);
}

#[test]
fn divergence_stops_at_the_step_and_keeps_the_weights() {
    let (train, _) = friedman(600, 1);
    let shared = model(MLP);
    let mut trainer =
        trainer(shared.clone(), &train, r#"{"learning_rate": 1e30, "batch_size": 32, "normalize": false}"#).unwrap();
    let error = (0..50).find_map(|_| trainer.step().err()).expect("it diverges");
    assert!(error.to_string().contains("the loss is") && error.to_string().contains("(epoch 1)"), "{error}");
    let weights = shared.lock().tensor("0.weight").unwrap();
    assert!(trainer.step().is_err());
    assert_eq!(weights, shared.lock().tensor("0.weight").unwrap());
}

#[test]
fn a_step_that_fails_leaves_the_running_statistics_too() {
    let (train, test) = friedman(600, 1);
    let mut trainer = trainer(model(MLP_BATCH_NORM), &train, r#"{"batch_size": 32}"#).unwrap();
    epoch(&mut trainer);
    let before = trainer.evaluate(&test).unwrap();
    let x = train.subset(&[0, 1]).unwrap().feature_values().unwrap().into_owned();
    let extreme = Dataset::new(x, vec![8], vec![1e30, -1e30], 1, Some(vec![1.0; 2])).unwrap();
    assert!(matches!(trainer.step_on(&extreme).unwrap_err().bare(), Error::Numerical(_)));
    assert_eq!(trainer.evaluate(&test).unwrap(), before);
}

#[test]
fn a_checkpoint_keeps_its_place_without_its_data() {
    let (train, _) = friedman(600, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.biv");
    let mut trainer = trainer(model(MLP), &train, r#"{"batch_size": 32}"#).unwrap();
    for _ in 0..17 {
        trainer.step().unwrap();
    }
    trainer.save(&path).unwrap();
    Trainer::load(&path, None, None).unwrap().save(&path).unwrap();
    let mut resumed = Trainer::load(&path, Some(&train), None).unwrap();
    assert_eq!(resumed.step().unwrap(), trainer.step().unwrap());
}

#[test]
fn a_fine_tuned_model_keeps_its_normalisation() {
    let (train, test) = friedman(900, 1);
    let shared = model(MLP);
    // Training in the user's own units leaves the model without one.
    drop(trainer(shared.clone(), &train, r#"{"normalize": false}"#).unwrap());
    assert_eq!(shared.lock().normalization(), None);
    drop(trainer(shared.clone(), &train, "{}").unwrap());
    let fitted = shared.lock().normalization().cloned();
    let second = trainer(shared.clone(), &test, r#"{"loss": {"kind": "mse"}, "batch_size": 10}"#).unwrap();
    assert!(fitted.is_some() && shared.lock().normalization().cloned() == fitted);
    drop(second);
}

#[test]
fn misfits_are_named() {
    let (train, test) = friedman(600, 1);
    let fault = |network: &str, data: &Dataset, options: &str| {
        let model = model(network);
        let fault = trainer(model.clone(), data, options).map(|_| ()).unwrap_err().to_string();
        assert_eq!(model.lock().normalization(), None, "a trainer that is not made leaves the model as it was");
        fault
    };
    assert_eq!(fault(MLP, &test, "{}"), "the loss 'biv' needs the variances of the labels, the data have none");
    let narrow = r#"{"kind": "mlp", "inputs": 7, "hidden": []}"#;
    assert_eq!(fault(narrow, &train, "{}"), "rows of the data set have 8 features, the model has 7");
    let two = r#"{"kind": "mlp", "inputs": 8, "outputs": 2, "hidden": []}"#;
    assert_eq!(fault(two, &train, "{}"), "rows of the data set have 1 labels, the model has 2");
    let too_many = r#"{"batch_size": 16, "loss": {"kind": "biv", "epsilon": {"min_effective_batch_size": 16}}}"#;
    assert!(fault(MLP, &train, too_many).contains("min_effective_batch_size: is 16, must be less than batch_size, 16"));
    let single = "has one of a single row: BatchNorm needs at least 2";
    assert!(fault(MLP_BATCH_NORM, &train, r#"{"batch_size": 1}"#).ends_with(single));
    assert!(fault(MLP_BATCH_NORM, &train, r#"{"batch_size": 57, "drop_last": false}"#).ends_with(single));
}

#[test]
fn a_model_is_saved_with_its_normalisation() {
    let (train, test) = friedman(900, 1);
    let mut trainer = trainer(model(MLP_BATCH_NORM), &train, r#"{"batch_size": 32}"#).unwrap();
    epoch(&mut trainer);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.biv");
    trainer.model().lock().save(&path).unwrap();
    let loaded = biv::model::Model::load(&path).unwrap();
    let original = trainer.model().lock().predict(&test.feature_values().unwrap()).unwrap();
    assert_eq!(loaded.predict(&test.feature_values().unwrap()).unwrap(), original);
    assert_eq!(Arc::strong_count(trainer.model()), 1);
}

/// What the first step says of data of which one value is wild.
fn first_fault(
    features: Vec<f32>,
    labels: Vec<f64>,
    variances: Option<Vec<f64>>,
    network: &str,
    options: &str,
) -> String {
    let data = Dataset::new(features, vec![2], labels, 1, variances).unwrap();
    match trainer(model(network), &data, options) {
        Err(error) => error.to_string(),
        Ok(mut trainer) => match trainer.epoch(|_: &Trainer, _: &StepReport| ControlFlow::Continue(())) {
            Err(error) => error.to_string(),
            Ok(report) => format!("loss {}", report.loss),
        },
    }
}

#[test]
fn a_first_loss_that_is_infinite_names_the_row() {
    let features = || (0..60).map(|k| (k % 7) as f32).collect::<Vec<_>>();
    let labels =
        |at: usize, value: f64| (0..30).map(|k| if k == at { value } else { (k % 5) as f64 }).collect::<Vec<_>>();
    let mlp = r#"{"kind": "mlp", "inputs": 2, "hidden": [4]}"#;
    let norm = r#"{"kind": "mlp", "inputs": 2, "hidden": [4], "batch_norm": true}"#;
    let mse = |rest: &str| format!(r#"{{"loss": {{"kind": "mse"}}, "batch_size": 10{rest}}}"#);
    for network in [mlp, norm] {
        for precision in ["f32", "bf16"] {
            let plain = mse(&format!(r#", "normalize": false, "precision": "{precision}""#));
            let found = first_fault(features(), labels(17, 1e200), None, network, &plain);
            assert!(found.starts_with("row 17, label 0: 1e200 is 1e200 in normalised units"), "{found}");
            // It is a number of single precision, but its square is none.
            for (at, value) in [(23, 1e25), (0, -1e30)] {
                let found = first_fault(features(), labels(at, value), None, network, &plain);
                let begin = format!("row {at}, label 0: makes the loss of step ");
                assert!(found.starts_with(&begin), "{network} {precision}: {found}");
            }
        }
    }
    let plain = mse(r#", "normalize": false"#);
    let mut wild = features();
    wild[2 * 11 + 1] = 3e38;
    wild[2 * 11] = 3e38;
    let found = first_fault(wild, labels(0, 0.0), None, mlp, &plain);
    assert!(found.contains("row 11, "), "{found}");
    // Masked rows count as rows.
    let mut variances = vec![1.0; 30];
    variances[3] = f64::INFINITY;
    let biv = r#"{"batch_size": 10, "normalize": false}"#;
    let found = first_fault(features(), labels(23, 1e25), Some(variances), mlp, biv);
    assert!(found.contains("row 23, label 0: makes"), "{found}");
    // Mini-batches of the caller's.
    let batch = Dataset::new(features(), vec![2], labels(7, 1e25), 1, None).unwrap();
    let first = Dataset::new(features(), vec![2], labels(0, 0.0), 1, None).unwrap();
    let mut caller = trainer(model(mlp), &first, &plain).unwrap();
    let found = caller.step_on(&batch).unwrap_err().to_string();
    assert!(found.contains("row 7, label 0: makes"), "{found}");
    // Where the data are in range, it is the learning rate.
    let fast = mse(r#", "normalize": false, "learning_rate": 1e30"#);
    let found = first_fault(features(), labels(0, 0.0), None, mlp, &fast);
    assert!(
        found.starts_with("step 2 (epoch 1): the loss is") && found.contains("try a smaller learning rate"),
        "{found}"
    );
    // Normalised, and in a fit.
    let found = first_fault(features(), labels(17, 1e300), None, mlp, &mse(""));
    assert!(found.contains("row 17"), "{found}");
}
