//! Numbers at their limits: results are finite and right, or a clear error.

// Not all of it is needed here.
use crate::common::{epoch, model, trainer};
#[allow(dead_code)]
use biv::Error;
use biv::data::Dataset;
use biv::train::loss::{Epsilon, Loss, MinimumBatch, Weights};

/// Variances at the limits of what a label may come with.
fn extremes() -> Vec<(&'static str, Vec<f64>)> {
    vec![
        ("all 0", vec![0.0; 5]),
        ("all 1e-30", vec![1e-30; 5]),
        ("all 1e30", vec![1e30; 5]),
        ("all 1e-300", vec![1e-300; 5]),
        ("all 1e300", vec![1e300; 5]),
        ("one 0", vec![0.0, 1.0, 2.0, 3.0, 4.0]),
        ("one tiny", vec![1e-30, 1.0, 2.0, 3.0, 4.0]),
        ("one huge", vec![1e30, 1.0, 2.0, 3.0, 4.0]),
        ("sixty orders of magnitude", vec![1e-30, 1e-15, 1.0, 1e15, 1e30]),
        ("a single row", vec![7.0]),
        ("a single row without noise", vec![0.0]),
    ]
}

fn weights(loss: &Loss, variances: &[f64]) -> biv::Result<Weights> {
    loss.weights(variances.len(), 1, Some(variances), &[1.0])
}

fn close(found: f64, expected: f64) -> bool {
    found.is_finite() && (found - expected).abs() <= 1e-12 * expected.abs()
}

#[test]
fn weights_of_extreme_variances_follow_the_formula() {
    for (name, variances) in extremes() {
        for epsilon in [1e-300, 1e-30, 0.1, 1e30, 1e300] {
            // Dividing all by the largest keeps the formula itself within the numbers.
            let largest = variances.iter().copied().fold(epsilon, f64::max);
            let raw: Vec<f64> = variances.iter().map(|v| 1.0 / (v / largest + epsilon / largest)).collect();
            let sum: f64 = raw.iter().sum();
            let biv = weights(&Loss::Biv { epsilon: Epsilon::Fixed(epsilon) }, &variances).unwrap();
            for (found, raw) in biv.coefficients.iter().zip(&raw) {
                assert!(close(*found, raw / sum), "biv, {name}, epsilon {epsilon}: {found}, {}", raw / sum);
            }
            let size = sum / raw.iter().map(|w| w * (w / sum)).sum::<f64>();
            assert!(close(biv.effective_batch_size, size), "{name}, epsilon {epsilon}: {biv:?}, {size}");

            let iv = weights(&Loss::Iv { epsilon: Epsilon::Fixed(epsilon) }, &variances).unwrap();
            for (found, v) in iv.coefficients.iter().zip(&variances) {
                let expected = 1.0 / (v + epsilon) / variances.len() as f64;
                assert!(close(*found, expected), "iv, {name}, epsilon {epsilon}: {found}, {expected}");
            }
        }
    }
}

#[test]
fn an_effective_batch_size_is_reached_whatever_the_variances() {
    for (name, variances) in extremes() {
        let rows = variances.len() as f64;
        for target in [1.0, 1.5, 3.0, 4.999, 5.0] {
            let epsilon = Epsilon::Minimum(MinimumBatch::Size(target));
            let found = weights(&Loss::Biv { epsilon }, &variances).unwrap();
            let sum: f64 = found.coefficients.iter().sum();
            assert!((sum - 1.0).abs() < 1e-9, "{name}, at least {target}: {found:?}");
            let reached = found.effective_batch_size >= target.min(rows) * (1.0 - 1e-9);
            assert!(
                reached && found.effective_batch_size <= rows * (1.0 + 1e-9),
                "{name}, at least {target}: {found:?}"
            );
        }
    }
}

#[test]
fn an_infinite_weight_is_an_error_that_says_what_to_do() {
    let loss = Loss::Iv { epsilon: Epsilon::Minimum(MinimumBatch::Size(1.0)) };
    let error = weights(&loss, &[0.0, 1.0]).unwrap_err();
    assert!(matches!(error, Error::Numerical(_)));
    assert!(error.to_string().contains("choose a greater epsilon, or the loss 'biv'"), "{error}");
}

/// Ten rows, 2 features each, with unit variances.
fn rows(features: impl Fn(usize) -> f32, labels: impl Fn(usize) -> f64) -> Dataset {
    let features = (0..20).map(features).collect();
    Dataset::new(features, vec![2], (0..10).map(labels).collect(), 1, Some(vec![1.0; 10])).unwrap()
}

const NETWORKS: [&str; 2] = [
    r#"{"kind": "mlp", "inputs": 2, "hidden": [6, 4]}"#,
    r#"{"kind": "mlp", "inputs": 2, "hidden": [6, 4], "batch_norm": true}"#,
];

#[test]
fn constant_labels_are_learned() {
    let data = rows(|at| at as f32, |_| 1e6);
    for network in NETWORKS {
        let mut trainer = trainer(model(network), &data, r#"{"batch_size": 5, "learning_rate": 0.01}"#).unwrap();
        for _ in 0..300 {
            epoch(&mut trainer);
        }
        for prediction in trainer.predict(&data).unwrap() {
            assert!((prediction - 1e6).abs() < 0.2, "{network}: {prediction}");
        }
        let metrics = trainer.evaluate(&data).unwrap();
        assert!(metrics.rmse < 0.2 && metrics.mae < 0.2, "{metrics:?}");
    }
}

#[test]
fn constant_features_leave_the_labels_mean() {
    let data = rows(|_| 3.5, |at| at as f64);
    for network in NETWORKS {
        let mut trainer = trainer(model(network), &data, r#"{"batch_size": 10, "learning_rate": 0.01}"#).unwrap();
        for _ in 0..300 {
            epoch(&mut trainer);
        }
        for prediction in trainer.predict(&data).unwrap() {
            assert!((prediction - 4.5).abs() < 0.1, "{network}: {prediction}");
        }
    }
}

#[test]
fn mini_batches_of_one_row_train_but_for_batch_norm() {
    let data = rows(|at| at as f32, |at| at as f64);
    let mut alone = trainer(model(NETWORKS[0]), &data, r#"{"batch_size": 1, "learning_rate": 0.01}"#).unwrap();
    let first = epoch(&mut alone);
    assert_eq!((first.batches, first.effective_batch_size), (10, 1.0));
    for _ in 0..200 {
        epoch(&mut alone);
    }
    assert!(alone.evaluate(&data).unwrap().mse < 4.0);
    let error = trainer(model(NETWORKS[1]), &data, r#"{"batch_size": 1}"#).unwrap_err();
    assert!(error.to_string().contains("BatchNorm needs at least 2"), "{error}");
}

#[test]
fn features_and_labels_of_any_scale_train_alike() {
    let final_mse = |scale: f64| {
        let data = rows(|at| ((at % 7) as f64 * scale) as f32, |at| at as f64 * scale);
        let mut trainer = trainer(model(NETWORKS[0]), &data, r#"{"batch_size": 10, "loss": {"kind": "mse"}}"#).unwrap();
        for _ in 0..50 {
            epoch(&mut trainer);
        }
        trainer.evaluate(&data).unwrap().mse / (scale * scale)
    };
    let expected = final_mse(1.0);
    for scale in [1e-20, 1e-10, 1e10, 1e20] {
        let found = final_mse(scale);
        assert!((found - expected).abs() < 1e-4 * expected, "{scale}: {found}, {expected}");
    }
}

#[test]
fn a_loss_that_overflows_names_the_step_and_changes_nothing() {
    let data = rows(|at| at as f32, |at| at as f64);
    for network in NETWORKS {
        let mut trainer = trainer(model(network), &data, r#"{"batch_size": 5}"#).unwrap();
        epoch(&mut trainer);
        let before = trainer.predict(&data).unwrap();
        let vast = rows(|at| at as f32, |at| at as f64 * 1e30);
        let error = trainer.step_on(&vast).unwrap_err();
        assert!(matches!(error.bare(), Error::Numerical(_)), "{error}");
        assert!(error.to_string().contains("label 0: makes the loss of step 3 inf"), "{error}");
        assert_eq!(trainer.predict(&data).unwrap(), before);
        epoch(&mut trainer);
    }
}
