//! Data sets: where they come from, their label noise, how they are divided and normalised.

pub mod array;
mod columns;
mod csv;
mod dataset;
mod decode;
mod faces;
mod features;
mod fingerprint;
mod image_content;
mod image_files;
mod images;
mod named;
pub mod noise;
mod normalization;
mod split;
mod synthetic;
mod table;
mod text_file;
mod variance_model;
mod variances;

pub use self::csv::{CsvFeatures, CsvOptions};
pub use columns::{Column, Columns, Encoding, UnseenCategories};
pub use dataset::{ArrayOptions, Dataset, MissingLabels, left_out_note};
pub use decode::{ImageSize, Orientation};
pub use faces::{FaceOptions, draw_faces};
pub use features::{FeatureRows, Features};
pub(crate) use features::{check as check_features, gather, less};
pub use fingerprint::Fingerprint;
pub use images::{Corrupt, FoundImages, ImageFolder, ImageOptions};
pub use named::NamedDataset;
pub use normalization::{LabelStatistics, Normalization, Scale};
pub use split::SplitOptions;
pub use synthetic::{SyntheticOptions, friedman};
pub use variance_model::{ProfilePoint, VarianceModel, Verdict};
pub(crate) use variance_model::{Search, are_weights_flat};
