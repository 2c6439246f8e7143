//! Batch inverse-variance training for regression labels of known noise.
//!
//! The floors of the house, the highest first; a module imports only from its own floor and those below:
//!
//! | floor | its job |
//! |---|---|
//! | [`capi`] | the C ABI: a thin layer over all of this (beside it `bin/biv`, the command line) |
//! | [`experiment`] | the published experiment: settings, runs, sweeps, reports |
//! | [`train`] | mini-batches, losses, steps, epochs, evaluation, fitting from any thread |
//! | [`model`] | networks, their initial weights, prediction, files of models |
//! | [`kernels`] | arithmetic of our own, where libtorch's is slower |
//! | [`data`] | data sets: from arrays, tables, images and formulas; label noise; normalisation |
//! | [`mod@torch`] | what libtorch has and tch does not bind |
//! | [`base`] | errors, options, memory, files, threads, randomness |
//!
//! ```
//! use biv::base::options::parse;
//! use biv::data::{Dataset, SplitOptions, SyntheticOptions, noise::NoiseOptions};
//! use biv::model::{Model, ModelOptions};
//! use biv::train::trainer::{Trainer, TrainerOptions};
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

pub mod base;
#[allow(unsafe_code)]
pub mod capi;
pub mod data;
pub mod experiment;
pub mod kernels;
pub mod model;
#[allow(unsafe_code)]
pub mod torch;
pub mod train;

pub use base::{Error, Result};
