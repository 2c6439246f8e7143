//! What several modules need.

use biv::base::options::parse;
use biv::data::Dataset;
use biv::data::noise::NoiseOptions;
use biv::model::{Model, ModelOptions};
use biv::train::trainer::{EpochReport, SharedModel, StepReport, Trainer, TrainerOptions};
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
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

/// The command line program.
pub fn biv(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_biv"));
    command.args(arguments).env_remove("BIV_DATA_DIR").stdin(Stdio::null());
    command
}

pub fn output(arguments: &[&str]) -> Output {
    biv(arguments).output().unwrap()
}

/// What it prints, when it succeeds.
pub fn stdout(arguments: &[&str]) -> String {
    let output = output(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it complains of, when it fails.
pub fn complaint(arguments: &[&str]) -> String {
    let output = output(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}
