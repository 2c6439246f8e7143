//! Trainers of several networks: each gets the bits of a training alone.

use crate::common::{epoch, model, noisy, trainer};
use biv::Error;
use biv::data::{Dataset, SyntheticOptions};
use biv::kernels::team;
use biv::model::Model;
use biv::train::trainer::{StepReport, Trainer};
use std::ops::ControlFlow;

const MEMBERS: usize = 5;

const EPSILONS: [&str; 2] = ["0.2", r#"{"min_effective_batch_ratio": 0.7}"#];

/// By the kernel, the kernel with what a step beside the weights changes, and libtorch's operations with random numbers.
const NETWORKS: [&str; 3] =
    [r#""hidden": [16, 8]"#, r#""hidden": [16, 8], "batch_norm": true"#, r#""hidden": [16, 8], "dropout": 0.2"#];

fn rows() -> Dataset {
    let clean = Dataset::synthetic(&SyntheticOptions { rows: 420, features: 6, outputs: 1, seed: 5 }).unwrap();
    noisy(&clean, r#"{"distribution": {"kind": "gamma", "mean": 1, "variance": 2}, "relative": true}"#)
}

/// The network of `fields` with seed 20 and those that follow.
fn network(fields: &str, number: usize) -> String {
    format!(r#"{{"kind": "mlp", "inputs": 6, {fields}, "seed": {}}}"#, 20 + number)
}

fn options(epsilon: &str, seed: usize, more: &str) -> String {
    format!(
        r#"{{"loss": {{"kind": "biv", "epsilon": {epsilon}}}, "batch_size": 32, "learning_rate": 0.01, "seed": {seed},
            "schedule": {{"kind": "cosine", "epochs": 5, "warmup_steps": 9}} {more}}}"#
    )
}

fn ensemble(fields: &str, epsilon: &str, is_shared: bool) -> Trainer {
    let more = format!(r#", "members": {MEMBERS}, "shared_batches": {is_shared}"#);
    trainer(model(&network(fields, 0)), &rows(), &options(epsilon, 7, &more)).unwrap()
}

/// The trainings that [`ensemble`] has side by side.
fn alone(fields: &str, epsilon: &str, is_shared: bool) -> Vec<Trainer> {
    let one = |number: usize| {
        let seed = if is_shared { 7 } else { 7 + number };
        trainer(model(&network(fields, number)), &rows(), &options(epsilon, seed, "")).unwrap()
    };
    (0..MEMBERS).map(one).collect()
}

/// The values of the tensors whose names begin with `prefix`.
fn weights(model: &Model, prefix: &str) -> Vec<Vec<f32>> {
    let names = model.tensors().into_iter().map(|tensor| tensor.name).filter(|name| name.starts_with(prefix));
    names.map(|name| model.tensor(&name).unwrap().to_f32().unwrap()).collect()
}

fn assert_same(ensemble: &Trainer, alone: &[Trainer], what: &str) {
    let model = ensemble.model().lock();
    for (number, one) in alone.iter().enumerate() {
        let found = weights(&model, &format!("members.{number}."));
        assert!(found == weights(&one.model().lock(), ""), "{what}: network {number}");
    }
}

fn mean(reports: &[StepReport], of: fn(&StepReport) -> f64) -> f64 {
    reports.iter().map(of).sum::<f64>() / reports.len() as f64
}

#[test]
fn each_network_has_the_bits_of_a_training_alone_also_from_a_checkpoint() {
    for (fields, epsilon, is_shared) in
        NETWORKS.iter().flat_map(|n| EPSILONS.iter().flat_map(move |e| [(n, e, true), (n, e, false)]))
    {
        let what = format!("{fields} {epsilon} {is_shared}");
        let (mut together, mut single) = (ensemble(fields, epsilon, is_shared), alone(fields, epsilon, is_shared));
        for _ in 0..17 {
            let found = together.step().unwrap();
            let expected: Vec<_> = single.iter_mut().map(|one| one.step().unwrap()).collect();
            assert!((found.loss / mean(&expected, |step| step.loss) - 1.0).abs() < 1e-12, "{what}");
            let size = mean(&expected, |step| step.effective_batch_size);
            assert!((found.effective_batch_size / size - 1.0).abs() < 1e-12, "{what}");
            assert!((found.epsilon / mean(&expected, |step| step.epsilon) - 1.0).abs() < 1e-12, "{what}");
            assert_eq!(found.learning_rate, expected[0].learning_rate, "{what}");
        }
        let mut resumed =
            Trainer::from_bytes(&together.to_bytes().unwrap(), &"a checkpoint", Some(&rows()), &Default::default())
                .unwrap();
        assert_eq!((resumed.steps(), resumed.position()), (17, together.position()));
        // The rest of the second epoch of 13 steps, and two more: 52 steps in all, of which most are taken in blocks.
        for _ in 0..3 {
            let expected: Vec<_> = single.iter_mut().map(epoch).collect();
            let (found, again) = (epoch(&mut together), epoch(&mut resumed));
            assert_eq!(found, again, "{what}");
            assert_eq!(
                (found.batches, found.learning_rate),
                (expected[0].batches, expected[0].learning_rate),
                "{what}"
            );
            let loss = expected.iter().map(|epoch| epoch.loss).sum::<f64>() / MEMBERS as f64;
            assert!((found.loss / loss - 1.0).abs() < 1e-12, "{what}");
        }
        assert_eq!(together.steps(), 52);
        assert_same(&together, &single, &what);
        assert_same(&resumed, &single, &what);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_of_an_ensemble() {
    let trained = |threads| {
        team::with_threads(threads, || {
            // Large enough that threads share the work.
            let mut trainer = ensemble(r#""hidden": [64, 32]"#, EPSILONS[1], false);
            for _ in 0..4 {
                epoch(&mut trainer);
            }
            weights(&trainer.model().lock(), "")
        })
    };
    assert!(trained(1) == trained(2));
}

#[test]
fn an_ensemble_is_the_model_of_a_fit_and_trains_on() {
    let mut together = ensemble(NETWORKS[0], EPSILONS[0], false);
    let mut single = alone(NETWORKS[0], EPSILONS[0], false);
    epoch(&mut together);
    for one in &mut single {
        epoch(one);
    }
    let features = rows().feature_values().unwrap().into_owned();
    let shared = together.model().clone();
    let predictions = shared.lock().predict(&features).unwrap();
    assert_eq!(shared.lock().members(), MEMBERS);
    let each: Vec<_> = single.iter().map(|one| one.model().lock().predict(&features).unwrap()).collect();
    for (row, found) in predictions.iter().enumerate() {
        let mean = each.iter().map(|of| of[row]).sum::<f64>() / MEMBERS as f64;
        assert!((found - mean).abs() < 1e-9 * mean.abs().max(1.0));
    }
    let loaded = Model::from_bytes(&shared.lock().to_bytes().unwrap(), &"a model").unwrap();
    assert_eq!(loaded.predict(&features).unwrap(), predictions);

    // Another trainer goes on with the five; one of four does not, nor one that knew a single network.
    let more = format!(r#", "members": {MEMBERS}"#);
    let mut next = trainer(shared.clone(), &rows(), &options(EPSILONS[0], 1, &more)).unwrap();
    next.step().unwrap();
    let four = trainer(shared.clone(), &rows(), &options(EPSILONS[0], 1, r#", "members": 4"#)).unwrap_err();
    assert_eq!(four.to_string(), "trainer.members: is 4, the model is an ensemble of 5 networks");
    let lone = model(&network(NETWORKS[0], 0));
    let mut before = trainer(lone.clone(), &rows(), &options(EPSILONS[0], 1, "")).unwrap();
    let _grown = trainer(lone, &rows(), &options(EPSILONS[0], 1, &more)).unwrap();
    assert!(before.step().unwrap_err().to_string().contains("has made an ensemble of the model"));
}

#[test]
fn a_validation_set_judges_the_mean_of_the_networks() {
    let validation = std::sync::Arc::new(rows());
    let made = || {
        let mut trainer = ensemble(NETWORKS[0], r#""auto""#, true);
        assert!(trainer.step().unwrap_err().to_string().contains("give the trainer one"));
        trainer.set_validation(validation.clone()).unwrap();
        trainer
    };
    let mut trainer = made();
    epoch(&mut trainer);
    let bytes = trainer.to_bytes().unwrap();
    let mut resumed = Trainer::from_bytes(&bytes, &"a checkpoint", Some(&rows()), &Default::default()).unwrap();
    resumed.set_validation(validation.clone()).unwrap();
    for _ in 0..3 {
        let report = epoch(&mut trainer);
        assert_eq!(report, epoch(&mut resumed));
        assert!(report.validation.unwrap().loss > 0.0);
    }
}

#[test]
fn a_loss_that_is_not_finite_leaves_all_networks_as_before_its_step() {
    let wild = |seed: usize, more: &str| {
        let optimizer = r#""optimizer": {"kind": "sgd"}, "learning_rate": 100"#;
        format!(r#"{{"loss": {{"kind": "mse"}}, "batch_size": 32, "seed": {seed}, {optimizer} {more}}}"#)
    };
    let mut failures = 0;
    for fields in NETWORKS {
        let mut single: Vec<Trainer> = (0..MEMBERS)
            .map(|number| trainer(model(&network(fields, number)), &rows(), &wild(7 + number, "")).unwrap())
            .collect();
        let more = format!(r#", "members": {MEMBERS}"#);
        let mut together = trainer(model(&network(fields, 0)), &rows(), &wild(7, &more)).unwrap();
        // An epoch's steps are taken together: the first one that fails is within them, or BatchNorm saves them all.
        let failed = together.epoch(|_, _| ControlFlow::Continue(()));
        let Err(error) = failed else { continue };
        failures += 1;
        assert!(matches!(error, Error::Numerical(_) | Error::At { .. }), "{error}");
        let steps = together.steps() as usize;
        assert!(steps > 0 && steps == together.position().batch, "{steps}");
        for one in &mut single {
            for _ in 0..steps {
                one.step().unwrap();
            }
        }
        assert_same(&together, &single, fields);
        assert!(single.iter_mut().any(|one| one.step().is_err()), "one of them fails at step {}", steps + 1);
        assert!(together.step().is_err(), "and again");
        assert_eq!(together.steps() as usize, steps);
    }
    assert!(failures >= 2, "by the kernel and by libtorch's operations");
}
