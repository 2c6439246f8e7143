//! Data sets: where they come from, how they are divided and normalised.

mod csv;
mod dataset;
mod decode;
mod faces;
mod features;
mod images;
mod named;
mod normalization;
mod synthetic;

pub use self::csv::CsvOptions;
pub(crate) use dataset::gather;
pub use dataset::{Dataset, SplitOptions};
pub use faces::{FaceOptions, draw_faces};
pub use features::{FeatureRows, Features};
pub use images::{Corrupt, ImageFolder, ImageOptions, ImageSize};
pub use named::NamedDataset;
pub use normalization::{Normalization, Scale};
pub use synthetic::{SyntheticOptions, friedman};
