//! Networks for images in training: precision, checkpoints, the memory of prediction.

use biv::base::options::parse;
use biv::data::Dataset;
use biv::model::{Model, ModelOptions, Pass};
use biv::torch::Precision;
use biv::train::trainer::{SharedModel, Trainer};
use parking_lot::Mutex;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

const CNN: &str = r#"{"kind": "vanilla_cnn", "height": 64, "width": 64, "seed": 2}"#;
const RESNET: &str = r#"{"kind": "resnet", "height": 32, "width": 32, "channels": 1}"#;

/// ResNets of small images have so few values per channel that rounding shows: a larger one.
const RESNET_64: &str = r#"{"kind": "resnet", "height": 64, "width": 64, "channels": 1}"#;

fn model(json: &str) -> SharedModel {
    Arc::new(Mutex::new(Model::new(&parse::<ModelOptions>("model", json).unwrap()).unwrap()))
}

fn trainer(model: SharedModel, data: &Dataset, json: &str) -> biv::Result<Trainer> {
    Trainer::new(model, Some(data), &parse("trainer", json)?)
}

/// Images of random brightness, which is the label.
fn images(rows: usize, channels: usize, size: usize) -> Dataset {
    let labels: Vec<f64> = (0..rows).map(|row| (row * 37 % 101) as f64 / 101.0).collect();
    let pixels = channels * size * size;
    let texture = |at: usize| ((at as u32).wrapping_mul(2_654_435_761) >> 16) as f32 / 65536.0;
    let features = (0..rows * pixels).map(|at| labels[at / pixels] as f32 + texture(at)).collect();
    let variances = (0..rows).map(|row| (row % 5) as f64 / 50.0).collect();
    Dataset::new(features, vec![channels, size, size], labels, 1, Some(variances)).unwrap()
}

/// The kind in which this thread multiplies matrices at present.
fn kind_of_product() -> Kind {
    let ones = Tensor::f_ones([2, 2], (Kind::Float, Device::Cpu)).unwrap();
    ones.f_matmul(&ones).unwrap().kind()
}

/// All trainable values.
fn weights(trainer: &Trainer) -> Vec<f32> {
    let model = trainer.model().lock();
    let names: Vec<String> =
        model.tensors().into_iter().filter(|tensor| tensor.trainable).map(|tensor| tensor.name).collect();
    names.iter().flat_map(|name| model.tensor(name).unwrap().to_f32().unwrap()).collect()
}

#[test]
fn a_cnn_learns_and_its_checkpoint_goes_on_bit_for_bit() {
    let data = images(48, 3, 64);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.biv");
    for precision in ["f32", "bf16"] {
        let options = format!(r#"{{"batch_size": 16, "precision": "{precision}"}}"#);
        let mut uninterrupted = trainer(model(CNN), &data, &options).unwrap();
        let first = uninterrupted.step().unwrap().loss;
        for _ in 0..9 {
            uninterrupted.step().unwrap();
        }
        uninterrupted.save(&path).unwrap();
        let mut resumed = Trainer::load(&path, Some(&data), None).unwrap();
        assert_eq!(resumed.options(), uninterrupted.options());
        for _ in 0..5 {
            assert_eq!(uninterrupted.step().unwrap(), resumed.step().unwrap());
        }
        assert_eq!(weights(&uninterrupted), weights(&resumed));
        let metrics = resumed.evaluate(&data).unwrap();
        assert_eq!(uninterrupted.evaluate(&data).unwrap(), metrics);
        let last = resumed.step().unwrap().loss;
        assert!(last < 0.5 * first, "{precision}: the loss went from {first} to {last}");
    }
}

#[test]
fn bf16_differs_from_f32_a_little_and_leaves_the_thread_as_it_was() {
    for (network, channels, size) in [(CNN, 3, 64), (RESNET_64, 1, 64)] {
        let data = images(16, channels, size);
        let shape = [16, channels as i64, size as i64, size as i64];
        let x = Tensor::from_slice(&data.feature_values().unwrap()).view(shape);
        let shared = model(network);
        let forward = |precision| {
            let output = shared.lock().forward(&x, Pass::Evaluation, precision).unwrap();
            assert_eq!((output.kind(), kind_of_product()), (Kind::Float, Kind::Float));
            Vec::<f32>::try_from(output.detach().view(-1)).unwrap()
        };
        let (f32, bf16) = (forward(Precision::F32), forward(Precision::Bf16));
        let scale = f32.iter().fold(0.0f32, |scale, value| scale.max(value.abs()));
        let difference = f32.iter().zip(&bf16).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 0.05 * scale, "{network}: {difference} of {scale}");
        // bfloat16 has 8 significant bits: the layers truly computed in it.
        assert!(difference > 1e-4 * scale, "{network}: {difference} of {scale}");
    }
}

/// Adam's first step is the gradient's sign: the two precisions must agree on
/// most of them, and would not if one walked through memory in another order.
#[test]
fn a_step_in_bf16_goes_where_one_in_f32_goes() {
    for (network, channels, size) in [(CNN, 3, 64), (RESNET_64, 1, 64)] {
        let data = images(16, channels, size);
        let moves = |precision: &str| {
            let options = format!(r#"{{"batch_size": 16, "precision": "{precision}"}}"#);
            let mut trainer = trainer(model(network), &data, &options).unwrap();
            let before = weights(&trainer);
            trainer.step().unwrap();
            assert_eq!(kind_of_product(), Kind::Float);
            weights(&trainer).iter().zip(before).map(|(after, before)| after - before).collect::<Vec<_>>()
        };
        let (f32, bf16) = (moves("f32"), moves("bf16"));
        let agreeing = f32.iter().zip(&bf16).filter(|(a, b)| *a * *b > 0.0).count();
        let moved = f32.iter().filter(|step| **step != 0.0).count();
        assert!(agreeing as f64 > 0.8 * moved as f64, "{network}: {agreeing} of {moved}");
    }
}

#[test]
fn evaluation_has_the_precision_of_training() {
    let data = images(16, 3, 64);
    let evaluate = |precision: &str| {
        let options = format!(r#"{{"batch_size": 16, "precision": "{precision}"}}"#);
        trainer(model(CNN), &data, &options).unwrap().evaluate(&data).unwrap().rmse
    };
    let (f32, bf16) = (evaluate("f32"), evaluate("bf16"));
    assert!(f32 != bf16 && (f32 - bf16).abs() < 0.05 * f32, "{f32} {bf16}");
}

#[test]
fn a_single_image_trains_where_its_channels_have_several_values() {
    let step = |network: &str, channels, size| {
        let data = images(2, channels, size);
        trainer(model(network), &data, r#"{"batch_size": 1}"#).and_then(|mut trainer| trainer.step())
    };
    assert!(step(CNN, 3, 64).is_ok());
    assert!(step(&RESNET.replace("32", "33"), 1, 33).is_ok());
    let fault = step(RESNET, 1, 32).unwrap_err().to_string();
    assert!(fault.ends_with("has one of a single row: BatchNorm needs at least 2"), "{fault}");
    let alone = images(2, 1, 32).subset(&[0]).unwrap();
    let mut trainer = trainer(model(RESNET), &images(2, 1, 32), r#"{"batch_size": 2}"#).unwrap();
    let fault = trainer.step_on(&alone).unwrap_err().to_string();
    assert_eq!(fault, "a mini-batch of 1 row: BatchNorm needs at least 2 in training");
}

#[test]
fn prediction_goes_in_parts_that_bound_memory() {
    let rows = |json: &str| model(json).lock().prediction_rows();
    assert_eq!(rows(r#"{"kind": "mlp", "inputs": 19, "hidden": [4]}"#), 16_384);
    assert_eq!(rows(r#"{"kind": "vanilla_cnn", "height": 200, "width": 200}"#), 69);
    assert_eq!(rows(r#"{"kind": "resnet", "height": 4000, "width": 4000}"#), 1);

    // Two whole parts and the rest, against the rows one by one.
    let shared = model(r#"{"kind": "resnet", "height": 512, "width": 512, "channels": 8}"#);
    let model = shared.lock();
    assert_eq!(model.prediction_rows(), 4);
    let data = images(9, 8, 512);
    let together = model.predict(&data.feature_values().unwrap()).unwrap();
    for (row, expected) in together.iter().enumerate() {
        let alone =
            model.predict(&data.feature_values().unwrap()[row * data.width()..(row + 1) * data.width()]).unwrap()[0];
        assert!((alone - expected).abs() < 1e-4 * expected.abs(), "row {row}: {alone}, with others {expected}");
    }
}
