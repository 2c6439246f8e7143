//! What several modules need.

use biv::base::options::parse;
use biv::data::Dataset;
use biv::data::noise::NoiseOptions;
use biv::model::{Model, ModelOptions};
use biv::train::trainer::{EpochReport, SharedModel, StepReport, Trainer, TrainerOptions};
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

/// An epoch that nobody watches.
pub fn epoch(trainer: &mut Trainer) -> EpochReport {
    trainer.epoch(|_: &Trainer, _: &StepReport| ControlFlow::Continue(())).unwrap()
}

/// A file or folder of the real data sets, which are no part of the project: under BIV_DATA_DIR.
pub fn real_data(name: &str) -> PathBuf {
    let folder = std::env::var_os("BIV_DATA_DIR").expect("BIV_DATA_DIR is the folder of the real data sets");
    PathBuf::from(folder).join(name)
}
