//! The limits that the schemas say are those of the options' own checks: both are asked about values on either side.

use crate::Result;
use crate::base::options::{from_value, schema};
use crate::data::noise::{NoiseOptions, VarianceDistribution};
use crate::data::{CsvOptions, Dataset, SplitOptions, SyntheticOptions};
use crate::experiment::Config;
use crate::model::{Model, ModelOptions};
use crate::train::fit::FitOptions;
use crate::train::loss::Loss;
use crate::train::trainer::TrainerOptions;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Values around every limit.
const PROBES: &[f64] = &[
    -1.0, -1e-9, 0.0, 1e-9, 0.049, 0.05, 0.5, 0.95, 0.951, 0.999, 1.0, 1.001, 1.5, 4.0, 5.0, 18.0, 19.0, 63.0, 64.0,
    1000.0, 1001.0,
];

/// Tried with the loss alone: in a training it depends on the size of the mini-batches.
const DEPENDENT: &str = "min_effective_batch_size";

/// As JSON writes it; a whole number without a fraction, which serde wants.
fn number(probe: f64) -> Value {
    if probe.fract() == 0.0 { json!(probe as i64) } else { json!(probe) }
}

/// The places of the numbers in `value`, as JSON pointers.
fn numbers(value: &Value, place: &str) -> Vec<String> {
    let parts: Vec<(String, &Value)> = match value {
        Value::Number(_) => return vec![place.to_string()],
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), field)).collect(),
        _ => return vec![],
    };
    parts.iter().flat_map(|(name, part)| numbers(part, &format!("{place}/{name}"))).collect()
}

/// The fields that have limits in a schema, but for the 0 of whole numbers.
fn limited(schema: &Value, field: &str, found: &mut BTreeSet<String>) {
    const LIMITS: [&str; 5] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum"];
    let is_limit = |limit: &Value| *limit != json!(0) || schema["format"] == "double";
    if LIMITS.iter().any(|name| schema.get(name).is_some_and(is_limit)) && schema["type"] != "string" {
        found.insert(field.to_string());
    }
    match schema {
        Value::Array(parts) => parts.iter().for_each(|part| limited(part, field, found)),
        Value::Object(parts) => {
            for (name, part) in parts.iter().filter(|(name, _)| *name != "default") {
                match (&**name, part) {
                    ("properties", Value::Object(fields)) => {
                        fields.iter().for_each(|(name, schema)| limited(schema, name, found));
                    }
                    _ => limited(part, field, found),
                }
            }
        }
        _ => {}
    }
}

/// Options, and those of their numbers that stay, because others depend on them or they are tried by themselves.
type Document = (Value, &'static [&'static str]);

/// Options of which every number is tried by itself.
fn free(options: Value) -> Document {
    (options, &[])
}

/// Asserts that the schema of `T` and `check` agree on every number in `documents`, which have all that have limits.
fn agree<T: DeserializeOwned + JsonSchema + 'static>(
    documents: &[Document],
    probes: &[f64],
    check: impl Fn(T) -> Result<()>,
) {
    agree_on(documents, probes, check);
    let (mut visited, mut fields) = (BTreeSet::new(), BTreeSet::new());
    for (document, _) in documents {
        visited.extend(numbers(document, "").iter().flat_map(|place| place.split('/')).map(String::from));
    }
    limited(&serde_json::from_str(&schema::<T>()).unwrap(), "", &mut fields);
    let unseen: Vec<_> = fields.difference(&visited).filter(|field| **field != DEPENDENT).collect();
    assert!(unseen.is_empty(), "{unseen:?} of {}", std::any::type_name::<T>());
}

/// As [`agree`], for documents that need not have all that have limits.
fn agree_on<T: DeserializeOwned + JsonSchema + 'static>(
    documents: &[Document],
    probes: &[f64],
    check: impl Fn(T) -> Result<()>,
) {
    let by_schema = |value: &Value| from_value::<T>("options", value).map(|_| ()).map_err(|error| error.to_string());
    let by_check = |value: &Value| match serde_json::from_value(value.clone()) {
        Ok(options) => check(options).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    for (document, held) in documents {
        assert_eq!((by_schema(document), by_check(document)), (Ok(()), Ok(())), "{document}");
        let is_tried = |place: &String| !held.iter().any(|name| place.ends_with(&format!("/{name}")));
        for place in numbers(document, "").into_iter().filter(is_tried) {
            for &probe in probes {
                let mut changed = document.clone();
                *changed.pointer_mut(&place).unwrap() = number(probe);
                let (schema, check) = (by_schema(&changed), by_check(&changed));
                assert_eq!(schema.is_ok(), check.is_ok(), "{place} {changed}: {schema:?} {check:?}");
            }
        }
    }
}

#[test]
fn schemas_of_networks_are_their_checks() {
    let check = |options| Model::new(&options).map(|_| ());
    let sequential = |input_shape: &[usize], layers: Value| json!({"kind": "sequential", "input_shape": input_shape, "layers": layers});
    let (flatten, linear) = (json!({"kind": "flatten"}), json!({"kind": "linear", "outputs": 2}));
    let conv = json!({"kind": "conv2d", "outputs": 2, "size": 1, "stride": 1, "padding": 1});
    let pool = |kind: &str| json!({"kind": kind, "size": 1, "stride": 1, "padding": 0});
    // The padding of a pooling depends on its size, and a window's size on that of the images.
    let layers = [
        free(sequential(&[2, 3, 4], json!([flatten, linear, {"kind": "dropout", "p": 0.5}]))),
        (sequential(&[1, 70, 70], json!([conv, flatten, linear])), &["0", "1", "2"][..]),
        (
            sequential(&[1, 70, 70], json!([pool("max_pool"), pool("avg_pool"), flatten, linear])),
            &["0", "1", "2", "padding"][..],
        ),
    ];
    agree_on::<ModelOptions>(&layers, &[65_536.0], check);
    let published = [
        json!({"kind": "mlp", "inputs": 2, "outputs": 1, "hidden": [3, 4], "dropout": 0.5}),
        json!({"kind": "vanilla_cnn", "height": 64, "width": 64, "channels": 1, "outputs": 1}),
        json!({"kind": "resnet", "depth": 18, "height": 8, "width": 8, "channels": 1, "outputs": 1}),
        json!({"kind": "ensemble", "members": 2, "network": {"kind": "mlp", "inputs": 1, "hidden": []}}),
    ];
    let documents: Vec<Document> = published.map(free).into_iter().chain(layers).collect();
    agree::<ModelOptions>(&documents, &[-1.0, 0.0, 0.999, 1.0, 1.5, 63.0, 64.0], check);
}

#[test]
fn schemas_of_losses_and_training_are_their_checks() {
    let losses = [
        json!({"kind": "cutoff_mse", "threshold": 1}),
        json!({"kind": "biv", "epsilon": 0.5}),
        json!({"kind": "iv", "epsilon": {"min_effective_batch_size": 2}}),
        json!({"kind": "iv", "epsilon": {"min_effective_batch_ratio": 0.5}}),
        json!({"kind": "biv", "epsilon": {"auto": 0.5}}),
        json!({"kind": "beta_nll", "beta": 0.5}),
    ]
    .map(free);
    agree::<Loss>(&losses, PROBES, |loss| loss.validate("loss"));
    let adam = json!({"beta1": 0.5, "beta2": 0.5, "epsilon": 0.5, "weight_decay": 0.5});
    let sizes = json!({"batch_size": 5, "learning_rate": 0.5, "adam": adam, "clip_norm": 0.5});
    let mut with_losses: Vec<Value> = losses.iter().map(|(loss, _)| json!({"loss": loss})).collect();
    with_losses.retain(|options| !options.to_string().contains(DEPENDENT));
    let optimizers = [
        json!({"kind": "adam", "beta1": 0.5, "beta2": 0.5, "epsilon": 0.5, "weight_decay": 0.5}),
        json!({"kind": "adamw", "beta1": 0.5, "beta2": 0.5, "epsilon": 0.5, "weight_decay": 0.5}),
        json!({"kind": "sgd", "momentum": 0.5, "dampening": 0.5, "weight_decay": 0.5}),
    ];
    let schedules = [
        json!({"kind": "constant", "warmup_steps": 5}),
        json!({"kind": "step", "epochs": 5, "gamma": 0.5, "warmup_steps": 5}),
        json!({"kind": "cosine", "epochs": 5, "min_factor": 0.5, "warmup_steps": 5}),
        json!({"kind": "plateau", "factor": 0.5, "patience": 5, "threshold": 0.5, "min_factor": 0.5}),
    ];
    let mut moves: Vec<Document> = optimizers.map(|optimizer| free(json!({"optimizer": optimizer}))).to_vec();
    moves.extend(schedules.map(|schedule| free(json!({"schedule": schedule}))));
    let mut trainers = vec![free(sizes.clone()), free(json!({"patience": 1})), free(json!({"members": 5}))];
    let distributed = json!({"rank": 1, "world_size": 4, "port": 5, "timeout_seconds": 5, "shares": 5});
    trainers.push(free(json!({"distributed": distributed.clone()})));
    trainers.extend(moves.clone());
    trainers.extend(with_losses.iter().cloned().map(free));
    agree::<TrainerOptions>(&trainers, PROBES, |options| options.validate());
    let fit = json!({"members": 2, "epochs": 3, "held_out": 0.5, "checkpoint_seconds": 1});
    let mut fits = vec![free(sizes), free(fit), free(json!({"distributed": distributed}))];
    fits.extend(moves);
    fits.extend(with_losses.iter().cloned().map(free));
    agree::<FitOptions>(&fits, PROBES, |options| options.validate());
    let uniform = json!({"kind": "uniform", "low": 0, "high": 1e6});
    let dataset = json!({"kind": "synthetic", "train_size": 1, "test_size": 1});
    let mut configs = [
        json!({"dataset": dataset, "fit": {"members": 1, "held_out": 0.5}, "epochs": 1, "drop_last": false}),
        json!({"dataset": dataset, "eval_every": {"steps": 1}, "loss": {"kind": "mse"}, "drop_last": false,
               "batch_size": 1, "learning_rate": 1, "checkpoint_seconds": 1}),
        json!({"dataset": dataset, "eval_every": {"epochs": 1}, "loss": {"kind": "mse"}, "drop_last": false,
               "model": {"kind": "mlp", "hidden": [1]}, "distributed": {"port": 5, "timeout_seconds": 5, "shares": 5}}),
        json!({"dataset": {"kind": "utkf", "train_size": 1}, "loss": {"kind": "mse"}, "drop_last": false,
               "model": {"kind": "resnet", "depth": 18}}),
        json!({"dataset": {"kind": "utkf", "train_size": 1, "images": {"size": {"height": 8, "width": 8}}},
               "loss": {"kind": "mse"}, "drop_last": false, "model": {"kind": "resnet", "depth": 18}}),
        json!({"dataset": {"kind": "utkf", "train_size": 1, "images": {"size": 8, "memory_limit": 1}},
               "loss": {"kind": "mse"}, "drop_last": false, "model": {"kind": "resnet", "depth": 18}}),
    ]
    .map(free)
    .to_vec();
    let csv = json!({"labels": ["y"], "standard_errors": ["s"], "error_divisor": 2, "cyclic": {"hour": 24}});
    let dataset_of_csv = json!({"kind": "csv", "train_size": 1, "csv": csv});
    configs.push((json!({"dataset": dataset_of_csv, "drop_last": false}), &["error_divisor", "hour"]));
    let noisy = |law: Value| json!({"dataset": dataset, "noise": {"distribution": law}, "drop_last": false});
    configs.extend(distributions().map(|(law, held)| (noisy(law), held)));
    configs.extend(with_losses.into_iter().map(|mut options| {
        options["dataset"] = dataset.clone();
        options["noise"] = json!({"distribution": uniform, "times_measured": 1, "disturbance": 1});
        options["drop_last"] = json!(false);
        options["fit"] = json!({});
        (options, &["low", "high"] as &[_])
    }));
    agree::<Config>(&configs, PROBES, |config| config.resolved().map(|_| ()));
}

/// Each way to give a distribution.
fn distributions() -> [Document; 9] {
    let two = |first: Value, second: Value| json!({"kind": "binary_uniform", "components": [first, second]});
    let mut averaged = two(json!({"weight": 0, "mean": 0, "variance": 0}), json!({"variance": 0}));
    averaged["average"] = json!(1);
    [
        (json!({"kind": "uniform", "low": 0, "high": 1e6}), &["high"]),
        (json!({"kind": "uniform", "low": 0, "high": 1}), &["low"]),
        (json!({"kind": "uniform", "mean": 1e6, "variance": 1}), &["mean"]),
        (json!({"kind": "uniform", "mean": 1, "heteroscedasticity": 0.5}), &[]),
        (two(json!({"weight": 0.5, "low": 0, "high": 1}), json!({"low": 0, "high": 1})), &["low"]),
        (averaged, &["weight", "mean", "variance"]),
        (json!({"kind": "gamma", "alpha": 1, "beta": 1}), &[]),
        (json!({"kind": "gamma", "mean": 1, "variance": 1}), &[]),
        (json!({"kind": "uniform", "mean": 1, "variance": 0}), &["variance"]),
    ]
}

#[test]
fn schemas_of_data_and_noise_are_their_checks() {
    agree::<VarianceDistribution>(&distributions(), PROBES, |law| law.law().map(|_| ()));
    let noisy = |law| json!({"distribution": law, "disturbance": 1, "times_measured": 1});
    agree::<NoiseOptions>(&distributions().map(|(law, held)| (noisy(law), held)), PROBES, |noise| {
        noise.validate().map(|_| ())
    });
    let data = Dataset::new(vec![1.0; 2002], vec![1], vec![2.0; 2002], 1, None).unwrap();
    let split = json!({"train_size": 1, "test_size": 1, "seed": 1});
    agree::<SplitOptions>(&[free(split)], PROBES, |options| data.split(&options).map(|_| ()));
    let synthetic = json!({"rows": 1, "features": 5, "outputs": 1});
    agree::<SyntheticOptions>(&[free(synthetic)], PROBES, |options| Dataset::synthetic(&options).map(|_| ()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hour,y,s\n1,2,3\n").unwrap();
    let csv = json!({"labels": ["y"], "standard_errors": ["s"], "error_divisor": 2, "cyclic": {"hour": 24}});
    agree::<CsvOptions>(&[free(csv)], PROBES, |options| Dataset::from_csv(file.path(), &options).map(|_| ()));
}
