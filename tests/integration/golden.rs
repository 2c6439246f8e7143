//! Values and training runs against PyTorch's (tests/golden/make_goldens.py).

use biv::data::{Dataset, Normalization, VarianceModel};
use biv::model::archive::{Archive, ArchiveKind, StoredArray};
use biv::model::{Model, ModelOptions, Pass, TensorInfo};
use biv::torch::Precision;
use biv::train::loss::{Loss, smallest_epsilon};
use biv::train::schedule::{Plateau, Schedule};
use biv::train::trainer::{Trainer, TrainerOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tch::{Kind, Tensor};

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

/// The mini-batches of a golden case.
fn batches(case: &Value) -> Vec<Dataset> {
    let inputs = case["inputs"].as_u64().unwrap() as usize;
    let batch = |batch: &Value| {
        let variances = Some(numbers(&batch["variances"]));
        Dataset::new(features(batch), vec![inputs], numbers(&batch["labels"]), 1, variances).unwrap()
    };
    case["batches"].as_array().unwrap().iter().map(batch).collect()
}

fn check_training(folder: &Path) {
    for case in cases(folder, "mlp_adam.json") {
        let batches = batches(&case);
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

fn check_optimizers(folder: &Path) {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("optimizers.json")).unwrap()).unwrap();
    let batches = batches(&file);
    for case in file["cases"].as_array().unwrap() {
        let mut options = json!({"loss": file["loss"]});
        for name in ["optimizer", "learning_rate", "clip_norm"] {
            options[name] = case[name].clone();
        }
        let shared = Arc::new(Mutex::new(model(&file, "initial")));
        let mut trainer = Trainer::new(shared.clone(), None, &serde_json::from_value(options).unwrap()).unwrap();
        let expected = numbers(&case["losses"]);
        let losses = (0..expected.len()).map(|step| trainer.step_on(&batches[step % batches.len()]).unwrap().loss);
        let what = format!("{}, clip_norm {}", case["optimizer"], case["clip_norm"]);
        for (found, expected) in losses.zip(expected) {
            assert!((found - expected).abs() <= 1e-4 * expected, "{what}: loss {found}, PyTorch has {expected}");
        }
        let predictions = shared.lock().predict(&features(&file["batches"][0])).unwrap();
        assert_close(&what, &predictions, &numbers(&case["final_predictions"]), 1e-4);
    }
    for case in file["schedules"].as_array().unwrap() {
        let schedule: Schedule = serde_json::from_value(case["schedule"].clone()).unwrap();
        let (rate, per_epoch) = (case["learning_rate"].as_f64().unwrap(), case["steps_per_epoch"].as_u64().unwrap());
        let (mut plateau, mut rates) = (Plateau::default(), vec![]);
        for (epoch, loss) in numbers(&case["validation_losses"]).into_iter().enumerate() {
            let steps = epoch as u64 * per_epoch..(epoch as u64 + 1) * per_epoch;
            rates.extend(steps.map(|step| rate * schedule.factor(epoch as u64, step, &plateau)));
            schedule.observe(loss, &mut plateau);
        }
        assert_close(&case["schedule"].to_string(), &rates, &numbers(&case["rates"]), 1e-12);
    }
}

fn check_predictions(folder: &Path) {
    for case in cases(folder, "mlp_adam.json") {
        let predictions = model(&case, "final").predict(&features(&case["batches"][0])).unwrap();
        assert_close("predictions", &predictions, &numbers(&case["final_predictions"]), 1e-6);
    }
}

/// The values of tensor `index` that make_goldens.py has too (its `fill` says how).
fn fill(seed: u64, index: u32, count: usize, centre: f64, scale: f64) -> Vec<f32> {
    let offset = 0x9e37_79b9u32.wrapping_mul(index).wrapping_add(0x85eb_ca6bu32.wrapping_mul(seed as u32));
    let value = |element: u32| {
        let mut h = element.wrapping_add(offset);
        h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
        h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
        h ^= h >> 16;
        let u = f64::from(h >> 8) / f64::from(1 << 23) - 1.0;
        (centre + scale * u) as f32
    };
    (0..count as u32).map(value).collect()
}

/// As `fill`, in f64 and in [-1, 1).
fn uniform(seed: u64, index: u32, count: usize) -> Vec<f64> {
    // What f32 holds exactly: 24 bits.
    fill(seed, index, count, 0.0, 1.0).into_iter().map(f64::from).collect()
}

/// Residuals and variances of a case of make_variance_models.py (`random_case`).
fn variance_case(seed: u64) -> (Vec<f64>, Vec<f64>) {
    let rows = 30 + (seed as usize * 7919) % 471;
    let [first, second, third] = [0, 1, 2].map(|index| uniform(seed, index, rows));
    let tiny = 2f64.powi(-24);
    let variance = |u: f64| match seed % 4 {
        0 => (u + 1.0) / 2.0,
        1 => -((u + 1.0 + tiny) / 2.0).ln(),
        2 => 10f64.powf(3.0 * u),
        _ => {
            if u < 0.0 {
                0.05
            } else {
                2.0
            }
        }
    };
    let mut variances: Vec<f64> = third.into_iter().map(variance).collect();
    if seed.is_multiple_of(5) {
        variances[..rows / 20].fill(0.0);
    }
    let (scale, tau2) = ([1.0, 0.3, 2.0, 0.01][seed as usize / 4 % 4], 10f64.powf((seed % 13) as f64 / 3.0 - 3.0));
    let normal = first.iter().zip(&second).map(|(first, second)| {
        (-2.0 * ((first + 1.0 + tiny) / 2.0).ln()).sqrt() * (std::f64::consts::PI * second).cos()
    });
    let residuals = normal.zip(&variances).map(|(normal, v)| (scale * v + tau2).sqrt() * normal).collect();
    variances.rotate_right(if seed.is_multiple_of(7) { rows / 2 } else { 0 });
    (residuals, variances)
}

/// A network with the weights of the golden files.
fn filled(options: &Value, seed: u64) -> Model {
    let mut model = Model::new(&serde_json::from_value::<ModelOptions>(options.clone()).unwrap()).unwrap();
    for (index, TensorInfo { name, shape, .. }) in model.tensors().into_iter().enumerate() {
        let count: usize = shape.iter().product();
        let (centre, scale) = match shape[..] {
            [first, _, ..] => (0.0, (6.0 / (count / first) as f64).sqrt()),
            _ if name.ends_with("bias") || name.ends_with("mean") => (0.0, 0.25),
            _ => (1.0, 0.25),
        };
        let values = fill(seed, index as u32, count, centre, scale);
        model.set_tensor(&name, &StoredArray::f32(shape, &values).unwrap()).unwrap();
    }
    model.set_normalization(Normalization::identity(1));
    model
}

/// The mini-batch of the golden files.
fn images(model: &Model, seed: u64, rows: usize) -> Dataset {
    let column = |index, centre, scale| fill(seed, index, rows, centre, scale).into_iter().map(f64::from).collect();
    let features = fill(seed, 1000, rows * model.inputs(), 0.0, 1.7);
    Dataset::new(features, model.input_shape().to_vec(), column(1001, 0.0, 1.7), 1, Some(column(1002, 1.0, 1.0)))
        .unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

/// PyTorch's side is in float64: the tolerances are those of float32 (README.md beside the files).
fn check_networks(folder: &Path, file: &str) {
    for case in cases(folder, file) {
        let (seed, rows) = (case["seed"].as_u64().unwrap(), case["rows"].as_u64().unwrap() as usize);
        let model = filled(&case["model"], seed);
        let batch = images(&model, seed, rows);
        let what = |name: &str| format!("{} {name}", case["model"]);
        assert_close(
            &what("evaluation"),
            &model.predict(&batch.feature_values().unwrap()).unwrap(),
            &numbers(&case["evaluation"]),
            5e-5,
        );

        let shape: Vec<i64> = [rows].iter().chain(model.input_shape()).map(|&size| size as i64).collect();
        let x = Tensor::from_slice(&batch.feature_values().unwrap()).reshape(shape);
        let output = model.forward(&x, Pass::training(0), Precision::F32).unwrap();
        assert_close(&what("training"), &values(&output), &numbers(&case["training"]), 5e-4);
        for (name, sum) in case["running"].as_object().unwrap() {
            let running = model.tensor(name).unwrap().to_f32().unwrap();
            let scale: f64 = running.iter().map(|value| f64::from(value.abs())).sum();
            let found: f64 = running.iter().copied().map(f64::from).sum();
            assert!(
                (found - sum.as_f64().unwrap()).abs() <= 1e-5 * scale,
                "{}: {found}, PyTorch has {sum}",
                what(name)
            );
        }
        if case["gradients"].is_object() {
            check_image_gradients(&case, &batch);
            check_image_training(&case, &batch);
        }
    }
}

fn image_trainer(case: &Value) -> Trainer {
    let options = json!({"loss": case["loss"], "learning_rate": case["learning_rate"]});
    let shared = Arc::new(Mutex::new(filled(&case["model"], case["seed"].as_u64().unwrap())));
    Trainer::new(shared, None, &serde_json::from_value(options).unwrap()).unwrap()
}

/// After one step Adam's means, which a checkpoint has, are a tenth of the gradients.
fn check_image_gradients(case: &Value, batch: &Dataset) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.biv");
    let mut trainer = image_trainer(case);
    trainer.step_on(batch).unwrap();
    trainer.save(&path).unwrap();
    let checkpoint = Archive::load(&path, ArchiveKind::Training).unwrap();
    let names: Vec<String> = trainer
        .model()
        .lock()
        .tensors()
        .into_iter()
        .filter(|tensor| tensor.trainable)
        .map(|tensor| tensor.name)
        .collect();
    let expected = case["gradients"].as_object().unwrap();
    assert_eq!(expected.len(), names.len());
    let norm = |name: &str| expected[name]["norm"].as_f64().unwrap();
    let largest = names.iter().map(|name| norm(name)).fold(0.0, f64::max);
    for (index, name) in names.iter().enumerate() {
        let mean = checkpoint.get(&format!("adam.mean.{index}")).unwrap().to_f32().unwrap();
        let gradient: Vec<f64> = mean.into_iter().map(|value| 10.0 * f64::from(value)).collect();
        // A ReLU or a pooling that rounding decides moves single elements by 1e-3 of the norm;
        // a bias before a BatchNorm has no gradient but rounding errors.
        let tolerance = 1e-2 * norm(name) + 1e-6 * largest;
        let found = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!((found - norm(name)).abs() <= tolerance, "{name}: norm {found}, PyTorch has {}", norm(name));
        for (found, expected) in gradient.iter().zip(numbers(&expected[name]["head"])) {
            assert!((found - expected).abs() <= tolerance, "{name}: {found}, PyTorch has {expected}");
        }
    }
}

fn check_image_training(case: &Value, batch: &Dataset) {
    let mut trainer = image_trainer(case);
    for (step, expected) in numbers(&case["losses"]).into_iter().enumerate() {
        let found = trainer.step_on(batch).unwrap().loss;
        let tolerance = if step == 0 { 1e-5 } else { 5e-2 };
        assert!((found - expected).abs() <= tolerance * expected, "step {step}: loss {found}, PyTorch has {expected}");
    }
}

#[test]
fn image_networks_and_their_training_equal_pytorchs() {
    assert_eq!(cases(&committed(), "images.json").len(), 4);
    check_networks(&committed(), "images.json");
}

#[test]
fn networks_by_description_and_their_training_equal_pytorchs() {
    assert!(cases(&committed(), "layers.json").len() >= 10);
    check_networks(&committed(), "layers.json");
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
fn fifty_steps_of_each_optimizer_and_the_rates_of_each_schedule_are_pytorchs() {
    check_optimizers(&committed());
}

#[test]
fn evaluation_with_pytorchs_weights_gives_pytorchs_predictions() {
    check_predictions(&committed());
}

/// The same with other inputs, from the PyTorch of PYTHON.
#[test]
#[ignore = "needs a PYTHON with torch and numpy: tests/optional.sh"]
fn everything_agrees_with_the_pytorch_installed_here() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
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
    check_optimizers(folder.path());
    check_predictions(folder.path());
    check_networks(folder.path(), "images.json");
    check_networks(folder.path(), "layers.json");
}

#[test]
fn variance_models_are_those_of_another_implementation() {
    let text = std::fs::read_to_string(committed().join("variance_models.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let check = |what: &str, residuals: &[f64], variances: &[f64], expected: &Value| {
        let found = serde_json::to_value(VarianceModel::fit(residuals, variances).unwrap()).unwrap();
        assert_eq!(found["verdict"], expected["verdict"], "{what}: {found}");
        for (name, value) in
            expected.as_object().unwrap().iter().filter(|(name, _)| !["name", "verdict"].contains(&name.as_str()))
        {
            let close = match (found[name].as_f64(), value.as_f64()) {
                (Some(found), Some(value)) => (found - value).abs() <= 1e-6 * value.abs().max(1e-6),
                // Infinite.
                (found, value) => found == value,
            };
            assert!(close, "{what}, {name}: {}, elsewhere {value}", found[name]);
        }
    };
    let list = |name: &str| numbers(&file[name]);
    let (v, z, decades) = (list("variances"), list("normal"), list("decades"));
    let shuffled: Vec<f64> = list("order").into_iter().map(|at| v[at as usize]).collect();
    let few: Vec<f64> = v.iter().enumerate().map(|(row, &v)| if row < 50 { 0.0 } else { v }).collect();
    let times = |factor: f64| v.iter().map(|v| factor * v).collect::<Vec<_>>();
    let residuals = |variances: &[f64], scale: f64, tau2: f64| -> Vec<f64> {
        variances.iter().zip(&z).map(|(v, z)| (scale * v + tau2).sqrt() * z).collect()
    };
    let plain = residuals(&v, 1.0, 0.25);
    let table: [(Vec<f64>, Vec<f64>); 9] = [
        (plain.clone(), v.clone()),
        (plain.clone(), times(100.0)),
        (plain.clone(), times(0.01)),
        (plain, shuffled),
        (residuals(&v, 1.0, 100.0), v.clone()),
        (residuals(&v, 1.0, 0.0), v.clone()),
        (residuals(&few, 1.0, 0.25), few),
        (residuals(&decades, 1.0, 1e-3), decades.clone()),
        (residuals(&v, 10.0, 0.1), v.clone()),
    ];
    for ((residuals, variances), expected) in table.iter().zip(file["table"].as_array().unwrap()) {
        check(expected["name"].as_str().unwrap(), residuals, variances, expected);
    }
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 1000);
    for (seed, expected) in cases.iter().enumerate() {
        let (residuals, variances) = variance_case(seed as u64);
        check(&format!("case {seed}"), &residuals, &variances, expected);
    }
}
