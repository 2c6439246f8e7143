//! Batch inverse-variance training for regression labels of known noise.
//!
//! The modules in the order in which data flows:
//!
//! | module | its job |
//! |---|---|
//! | [`mod@array`] | strided views of a caller's memory |
//! | [`data`] | data sets: from arrays, CSV files and formulas; division; normalisation |
//! | [`noise`] | simulated label noise of random variance |
//! | [`sampler`] | the shuffled order of the rows |
//! | [`batch`] | mini-batches as tensors: gathered, normalised |
//! | [`model`] | networks, their initial weights, prediction |
//! | [`loss`] | mse, cutoff, iv and biv as weights of squared errors; choosing epsilon |
//! | [`optim`] | Adam |
//! | [`engine`] | one training step, by the fastest way there is |
//! | [`kernel`] | multi-layer perceptrons on the CPU by hand: forward, backward and Adam |
//! | [`trainer`] | steps, epochs, evaluation, checkpoints |
//! | [`session`] | fitting with callbacks and cancellation, from any thread |
//! | [`metrics`] | MSE, RMSE, MAE, R2 |
//! | [`files`], [`archive`] | files replaced in one go; saved models and checkpoints |
//! | [`experiment`] | the published experiment: settings, runs, sweeps, reports |
//! | [`capi`] | the C ABI: a thin layer over all of this, and with the C++ shim the only unsafe code |
//!
//! ```
//! use biv::data::{Dataset, SplitOptions, SyntheticOptions};
//! use biv::model::{Model, ModelOptions};
//! use biv::{noise::NoiseOptions, options::parse, trainer::{Trainer, TrainerOptions}};
//! use std::sync::Arc;
//!
//! let clean = Dataset::synthetic(&SyntheticOptions { rows: 2000, features: 10, outputs: 1, seed: 0 })?;
//! let (train, test) = clean.split(&SplitOptions { train_size: 1500, test_size: None, shuffle: true, seed: 0, keep_groups: false })?;
//! let noise: NoiseOptions = parse("noise", r#"{"distribution": {"kind": "gamma", "mean": 20, "variance": 900}}"#)?;
//! let train = noise.apply(&train)?;
//!
//! let model: ModelOptions = parse("model", r#"{"kind": "mlp", "inputs": 10, "hidden": [32]}"#)?;
//! let model = Arc::new(parking_lot::Mutex::new(Model::new(&model)?));
//! let mut trainer = Trainer::new(model, Some(&train), &TrainerOptions::default())?;
//! let before = trainer.evaluate(&test)?.rmse;
//! for _ in 0..40 {
//!     trainer.epoch(|_, _| std::ops::ControlFlow::Continue(()))?;
//! }
//! assert!(trainer.evaluate(&test)?.rmse < 0.8 * before);
//! # Ok::<(), biv::Error>(())
//! ```
#![deny(unsafe_code)]

pub mod archive;
pub mod array;
pub mod batch;
#[allow(unsafe_code)]
pub mod capi;
pub mod data;
pub mod device;
pub mod engine;
mod error;
pub mod experiment;
mod fault;
pub mod files;
mod flat;
pub mod kernel;
pub mod loss;
pub mod metrics;
pub mod model;
pub mod noise;
pub mod optim;
pub mod options;
pub mod random;
pub mod sampler;
pub mod session;
#[allow(unsafe_code)]
mod shim;
mod threads;
pub mod trainer;

pub use error::{Error, Result};
