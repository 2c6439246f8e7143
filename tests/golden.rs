//! Values and training runs against PyTorch's (tests/golden/make_goldens.py).

use biv::archive::StoredArray;
use biv::data::{Dataset, Normalization};
use biv::loss::{Loss, smallest_epsilon};
use biv::model::{Model, ModelOptions};
use biv::trainer::{Trainer, TrainerOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases(folder: &Path, name: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-12, |scale: f64, value| scale.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance * scale, "{what}[{at}]: {found}, PyTorch has {expected}");
    }
}

fn check_losses(folder: &Path) {
    for case in cases(folder, "losses.json") {
        let loss: Loss = serde_json::from_value(case["loss"].clone()).unwrap();
        let outputs = case["outputs"].as_u64().unwrap() as usize;
        let [predictions, labels, variances] = ["predictions", "labels", "variances"].map(|name| numbers(&case[name]));
        let found = loss.evaluate(outputs, &predictions, &labels, Some(&variances)).unwrap();
        let what = format!("{} of {} rows", case["loss"], case["rows"]);
        assert_close(&what, &[found.value], &[case["value"].as_f64().unwrap()], 1e-6);
        assert_close(&what, &found.gradient, &numbers(&case["gradient"]), 1e-6);
    }
}

fn check_epsilons(folder: &Path) {
    for case in cases(folder, "epsilon.json") {
        let (target, expected) = (case["target"].as_f64().unwrap(), case["epsilon"].as_f64().unwrap());
        let found = smallest_epsilon(&numbers(&case["variances"]), target);
        assert!((found - expected).abs() <= 1e-9 * expected, "{found}, exactly {expected}");
    }
}

/// A model with the weights of a golden case's `state` and no normalisation to apply.
fn model(case: &Value, state: &str) -> Model {
    let options =
        json!({"kind": "mlp", "inputs": case["inputs"], "hidden": case["hidden"], "batch_norm": case["batch_norm"]});
    let mut model = Model::new(&serde_json::from_value::<ModelOptions>(options).unwrap()).unwrap();
    for (name, tensor) in case[state].as_object().unwrap() {
        let shape = numbers(&tensor["shape"]).iter().map(|&size| size as usize).collect();
        let values: Vec<f32> = numbers(&tensor["data"]).iter().map(|&value| value as f32).collect();
        model.set_tensor(name, &StoredArray::f32(shape, &values).unwrap()).unwrap();
    }
    model.set_normalization(Normalization::identity(1));
    model
}

fn features(batch: &Value) -> Vec<f32> {
    numbers(&batch["features"]).iter().map(|&value| value as f32).collect()
}

fn check_training(folder: &Path) {
    for case in cases(folder, "mlp_adam.json") {
        let inputs = case["inputs"].as_u64().unwrap() as usize;
        let batches: Vec<Dataset> = case["batches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|batch| {
                let variances = Some(numbers(&batch["variances"]));
                Dataset::new(features(batch), vec![inputs], numbers(&batch["labels"]), 1, variances).unwrap()
            })
            .collect();
        let options = json!({"loss": case["loss"], "learning_rate": case["learning_rate"]});
        let options: TrainerOptions = serde_json::from_value(options).unwrap();
        let shared = Arc::new(Mutex::new(model(&case, "initial")));
        let mut trainer = Trainer::new(shared.clone(), None, &options).unwrap();
        let steps = case["steps"].as_u64().unwrap() as usize;
        let losses: Vec<f64> =
            (0..steps).map(|step| trainer.step_on(&batches[step % batches.len()]).unwrap().loss).collect();
        let what = format!("batch_norm {}", case["batch_norm"]);
        let expected = numbers(&case["losses"]);
        assert_eq!(losses.len(), expected.len());
        assert!((losses[0] - expected[0]).abs() <= 1e-6 * expected[0], "{what}: {} {}", losses[0], expected[0]);
        for (found, expected) in losses.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-4 * expected, "{what}: loss {found}, PyTorch has {expected}");
        }
        let predictions = shared.lock().predict(&features(&case["batches"][0])).unwrap();
        // Behind a BatchNorm a bias has no gradient but rounding errors, which Adam
        // makes steps of: PyTorch itself does not reproduce its evaluation mode closer.
        let tolerance = if case["batch_norm"] == true { 0.05 } else { 1e-4 };
        assert_close(&what, &predictions, &numbers(&case["final_predictions"]), tolerance);
    }
}

fn check_predictions(folder: &Path) {
    for case in cases(folder, "mlp_adam.json") {
        let predictions = model(&case, "final").predict(&features(&case["batches"][0])).unwrap();
        assert_close("predictions", &predictions, &numbers(&case["final_predictions"]), 1e-6);
    }
}

#[test]
fn losses_and_gradients_equal_pytorchs() {
    assert!(cases(&committed(), "losses.json").len() >= 20);
    check_losses(&committed());
}

#[test]
fn chosen_epsilons_equal_those_of_exact_arithmetic() {
    check_epsilons(&committed());
}

#[test]
fn fifty_steps_of_adam_follow_pytorchs() {
    check_training(&committed());
}

#[test]
fn evaluation_with_pytorchs_weights_gives_pytorchs_predictions() {
    check_predictions(&committed());
}

/// The same with other inputs, where PyTorch's Python side is installed.
#[test]
fn everything_agrees_with_the_pytorch_installed_here() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let installed = Command::new(&python).args(["-c", "import torch, numpy"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        // Not println: the test runner would keep it to itself.
        let skipped = "SKIPPED: it has no torch and numpy; set PYTHON to one that has";
        let _ = writeln!(std::io::stderr(), "{python}: {skipped}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(&python)
        .arg(committed().join("make_goldens.py"))
        .args(["--seed", "1", "--out"])
        .arg(folder.path())
        .status();
    assert!(made.unwrap().success());
    check_losses(folder.path());
    check_epsilons(folder.path());
    check_training(folder.path());
    check_predictions(folder.path());
}
