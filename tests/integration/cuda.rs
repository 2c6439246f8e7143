//! A GPU trains as the CPU does.

use crate::common::{epoch, model, noisy, trainer};
use biv::data::{Dataset, SyntheticOptions};
use biv::train::trainer::{StepReport, Trainer};
use biv::{Error, Result};
use std::ops::ControlFlow;

const MLP: &str = r#"{"kind": "mlp", "inputs": 19, "hidden": [100, 50, 20, 10], "seed": 3}"#;
const MLP_BATCH_NORM: &str = r#"{"kind": "mlp", "inputs": 19, "hidden": [64, 32], "outputs": 2, "batch_norm": true}"#;
const MLP_WIDE: &str = r#"{"kind": "mlp", "inputs": 19, "hidden": [300, 40], "outputs": 2}"#;
const LINEAR: &str = r#"{"kind": "mlp", "inputs": 19, "hidden": []}"#;
/// Too large for the kernel of small ones.
const MLP_LARGE: &str = r#"{"kind": "mlp", "inputs": 19, "hidden": [400, 400]}"#;
const CNN: &str = r#"{"kind": "vanilla_cnn", "height": 64, "width": 64, "seed": 2}"#;
const RESNET: &str = r#"{"kind": "resnet", "height": 96, "width": 96, "seed": 1}"#;

/// Friedman's function with noise.
fn table(rows: usize, outputs: usize) -> Dataset {
    let clean = Dataset::synthetic(&SyntheticOptions { rows, features: 19, outputs, seed: 5 }).unwrap();
    noisy(&clean, r#"{"distribution": {"kind": "gamma", "mean": 1, "variance": 2}, "relative": true}"#)
}

/// Images as bytes, of random brightness, which is the label.
fn images(rows: usize, size: usize) -> Dataset {
    let labels: Vec<f64> = (0..rows).map(|row| (row * 37 % 101) as f64 / 101.0).collect();
    let texture = |at: usize| (at as u32).wrapping_mul(2_654_435_761) >> 25;
    let values = 3 * size * size;
    let pixels = (0..rows * values).map(|at| (100.0 * labels[at / values]) as u8 + texture(at) as u8).collect();
    let clean = Dataset::from_pixels(pixels, [3, size, size], labels, None).unwrap();
    noisy(&clean, r#"{"distribution": {"kind": "gamma", "mean": 0.1, "variance": 0.02}, "relative": true}"#)
}

/// `options` with the device among them.
fn on(device: &str, options: &str) -> String {
    format!(r#"{{"device": "{device}", {options}}}"#)
}

/// The losses of some epochs.
fn losses(trainer: &mut Trainer, epochs: usize) -> Vec<f64> {
    let mut losses = Vec::new();
    for _ in 0..epochs {
        let watch = |_: &Trainer, step: &StepReport| {
            losses.push(step.loss);
            ControlFlow::Continue(())
        };
        trainer.epoch(watch).unwrap();
    }
    losses
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= tolerance * expected.abs().max(0.1), "{what}, {at}: {found}, on the CPU {expected}");
    }
}

#[test]
#[ignore = "needs a GPU: make gpu-check"]
fn losses_are_the_cpus() {
    let f32 = r#""precision": "f32""#;
    let bf16 = r#""precision": "bf16""#;
    for (network, data, batch, epochs, precision, tolerance) in [
        (MLP, table(1000, 1), 128, 5, f32, 1e-3),
        // More rows than the GPU takes at once.
        (MLP_WIDE, table(5000, 2), 2500, 3, f32, 1e-3),
        (LINEAR, table(100, 1), 1, 1, f32, 1e-3),
        (MLP_LARGE, table(1000, 1), 128, 2, f32, 1e-3),
        (MLP_BATCH_NORM, table(1000, 2), 128, 5, f32, 1e-3),
        (MLP, table(1000, 1), 128, 2, bf16, 0.05),
        (CNN, images(96, 64), 32, 2, f32, 0.02),
        (RESNET, images(64, 96), 32, 2, f32, 0.02),
        (CNN, images(96, 64), 32, 2, bf16, 0.1),
        (RESNET, images(64, 96), 32, 2, bf16, 0.1),
    ] {
        // Slow enough for rounding not to grow into another way down.
        let options = format!(r#""batch_size": {batch}, "drop_last": false, "learning_rate": 1e-4, {precision}"#);
        let [expected, found] = ["cpu", "cuda"]
            .map(|device| losses(&mut trainer(model(network), &data, &on(device, &options)).unwrap(), epochs));
        eprintln!("{network}, {precision}: {found:?}, on the CPU {expected:?}");
        assert_close(&found, &expected, tolerance, &format!("{network}, {precision}"));
    }
}

#[test]
#[ignore = "needs a GPU: make gpu-check"]
fn a_checkpoint_goes_on_on_the_other_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.biv");
    let data = table(600, 2);
    let networks = [MLP_BATCH_NORM, MLP_WIDE];
    for (network, from, to) in networks.iter().flat_map(|network| [(network, "cuda", "cpu"), (network, "cpu", "cuda")])
    {
        let mut uninterrupted = trainer(model(network), &data, &on(from, r#""batch_size": 50"#)).unwrap();
        losses(&mut uninterrupted, 2);
        uninterrupted.save(&path).unwrap();
        let mut resumed = Trainer::load(&path, Some(&data), Some(to)).unwrap();
        assert_eq!((resumed.steps(), resumed.position()), (uninterrupted.steps(), uninterrupted.position()));
        let predictions = |trainer: &Trainer| trainer.predict(&data).unwrap();
        assert_close(&predictions(&resumed), &predictions(&uninterrupted), 1e-4, "predictions");
        assert_close(&losses(&mut resumed, 2), &losses(&mut uninterrupted, 2), 1e-3, "losses");
    }
}

#[test]
#[ignore = "needs a GPU: make gpu-check"]
fn divergence_stops_at_the_step_and_keeps_the_weights() {
    let data = table(2000, 1);
    let ends = ["cpu", "cuda"].map(|device| {
        let mut trainer = trainer(model(MLP), &data, &on(device, r#""batch_size": 20"#)).unwrap();
        losses(&mut trainer, 1);
        // So large that the next losses overflow, in the middle of a block.
        trainer.set_learning_rate(1e12).unwrap();
        let error = trainer.epoch(|_, _| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, Error::Numerical(_)), "{device}: {error}");
        assert!(error.to_string().contains(&format!("step {} (epoch 2)", trainer.steps() + 1)), "{device}: {error}");
        assert_eq!(trainer.position().batch as u64, trainer.steps() - 100, "{device}");
        // The same mini-batch again, from the same weights.
        assert!(matches!(trainer.step(), Err(Error::Numerical(_))), "{device}");
        let weights = trainer.model().lock().tensor("0.weight").unwrap().to_f32().unwrap();
        assert!(weights.iter().all(|weight| weight.is_finite()), "{device}");
        (trainer.steps(), trainer.position())
    });
    assert_eq!(ends[0], ends[1]);
}

#[test]
#[ignore = "needs a GPU: make gpu-check"]
fn a_recorded_step_is_the_step() {
    for (network, data, precision) in [
        (MLP_LARGE, table(1000, 1), "f32"),
        (MLP_BATCH_NORM, table(1000, 2), "f32"),
        (MLP, table(1000, 1), "bf16"),
        (CNN, images(176, 64), "f32"),
        (RESNET, images(144, 96), "bf16"),
    ] {
        let train = |graph: bool| -> Result<Vec<f64>> {
            let options =
                format!(r#""batch_size": 32, "drop_last": false, "precision": "{precision}", "cuda_graph": {graph}"#);
            let mut trainer = trainer(model(network), &data, &on("cuda", &options))?;
            let mut found = losses(&mut trainer, 2);
            trainer.set_learning_rate(1e-4)?;
            // A mini-batch of the caller's in between.
            found.push(trainer.step_on(&data.subset(&(0..32).collect::<Vec<_>>())?)?.loss);
            found.extend(losses(&mut trainer, 1));
            Ok(found)
        };
        let tolerance = if precision == "bf16" { 0.2 } else { 0.02 };
        assert_close(&train(true).unwrap(), &train(false).unwrap(), tolerance, network);
    }
}

#[test]
#[ignore = "needs a GPU: make gpu-check"]
fn a_small_network_repeats_itself() {
    let data = table(1000, 2);
    let options = r#""batch_size": 100, "adam": {"weight_decay": 0.01}"#;
    let [first, again] =
        [(); 2].map(|()| losses(&mut trainer(model(MLP_WIDE), &data, &on("cuda", options)).unwrap(), 20));
    assert_eq!(first, again);
    // Of the caller's mini-batches, between them, and of weight decay the CPU knows the same.
    let [expected, found] = ["cpu", "cuda"].map(|device| {
        let mut trainer = trainer(model(MLP_WIDE), &data, &on(device, options)).unwrap();
        let mut found = losses(&mut trainer, 1);
        found.push(trainer.step_on(&data.subset(&(0..70).collect::<Vec<_>>()).unwrap()).unwrap().loss);
        trainer.set_learning_rate(1e-4).unwrap();
        found.push(trainer.step().unwrap().loss);
        found.extend(losses(&mut trainer, 1));
        assert_eq!(trainer.steps(), 21);
        found
    });
    assert_close(&found, &expected, 1e-3, "steps on the caller's mini-batches");
}

#[test]
#[ignore = "needs a GPU: make gpu-check"]
fn a_cnn_learns() {
    let data = images(64, 64);
    let options = on("cuda", r#""batch_size": 16, "precision": "bf16""#);
    let mut trainer = trainer(model(CNN), &data, &options).unwrap();
    let first = epoch(&mut trainer).loss;
    let last = (0..20).map(|_| epoch(&mut trainer).loss).last().unwrap();
    assert!(last < 0.8 * first, "the loss went from {first} to {last}");
    assert!(trainer.evaluate(&data).unwrap().rmse.is_finite());
}
