//! Data sets: where they come from, how they are divided and normalised.

mod csv;
mod dataset;
mod features;
mod named;
mod normalization;
mod synthetic;

pub use self::csv::CsvOptions;
pub(crate) use dataset::gather;
pub use dataset::{Dataset, SplitOptions};
pub use features::{FeatureRows, Features};
pub use named::NamedDataset;
pub use normalization::Normalization;
pub use synthetic::{SyntheticOptions, friedman};
