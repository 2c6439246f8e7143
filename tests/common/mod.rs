//! What several integration tests need.

use biv::data::{Dataset, SplitOptions, SyntheticOptions};
use biv::model::{Model, ModelOptions};
use biv::noise::NoiseOptions;
use biv::options::parse;
use biv::trainer::{EpochReport, SharedModel, StepReport, Trainer, TrainerOptions};
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// A model made of JSON options.
pub fn model(json: &str) -> SharedModel {
    let options: ModelOptions = parse("model", json).unwrap();
    Arc::new(Mutex::new(Model::new(&options).unwrap()))
}

/// A trainer of `model` made of JSON options.
pub fn trainer(model: SharedModel, data: &Dataset, json: &str) -> biv::Result<Trainer> {
    Trainer::new(model, Some(data), &parse::<TrainerOptions>("trainer", json)?)
}

/// `data` with noise made of JSON options.
pub fn noisy(data: &Dataset, json: &str) -> Dataset {
    parse::<NoiseOptions>("noise", json).unwrap().apply(data).unwrap()
}

/// Noisy training rows and clean test rows of Friedman's function.
pub fn friedman(rows: usize, outputs: usize) -> (Dataset, Dataset) {
    let clean = Dataset::synthetic(&SyntheticOptions { rows, features: 8, outputs, seed: 5 }).unwrap();
    let split = SplitOptions { train_size: rows * 2 / 3, test_size: None, shuffle: true, seed: 1 };
    let (train, test) = clean.split(&split).unwrap();
    (noisy(&train, r#"{"distribution": {"kind": "gamma", "mean": 1, "variance": 2}, "relative": true}"#), test)
}

/// An epoch that nobody watches.
pub fn epoch(trainer: &mut Trainer) -> EpochReport {
    trainer.epoch(|_: &Trainer, _: &StepReport| ControlFlow::Continue(())).unwrap()
}

/// A file of the real data sets, which are not part of the project: under
/// BIV_DATA_DIR, or in the folder beside the checkout. Says so when it is missing.
pub fn real_data(file: &str) -> Option<PathBuf> {
    let folder = std::env::var("BIV_DATA_DIR").unwrap_or_else(|_| "../shared/data".into());
    let path = PathBuf::from(folder).join(file);
    if path.exists() {
        return Some(path);
    }
    println!("SKIPPED: {} is not there; set BIV_DATA_DIR to the folder of the real data", path.display());
    None
}
