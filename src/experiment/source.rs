//! An experiment's data: located, read, divided, with noise on the training labels.

use super::config::{Config, DatasetKind};
use super::progress::{Pace, Stage, Watch};
use crate::data::noise::NoiseOptions;
use crate::data::{Dataset, FoundImages, ImageSize, NamedDataset, SplitOptions, SyntheticOptions, left_out_note};
use crate::{Error, Result};
use std::path::PathBuf;

/// Reads the whole data set that `config` names. Images are decoded only if there are enough and `takes` their size.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Parse`], [`Error::OutOfMemory`]; [`Error::InvalidArgument`] when the sets need more
/// images than there are; [`Error::InvalidConfig`] when their file or folder is not given; that of `takes`;
/// [`Error::Cancelled`] when `watch` stops it.
pub fn load(config: &Config, takes: &dyn Fn(ImageSize) -> Result<()>, watch: Watch) -> Result<Dataset> {
    let options = &config.dataset;
    match options.kind {
        DatasetKind::Bike => NamedDataset::Bike.load(&locate(config, &["hour.csv", "bike/hour.csv"])?),
        DatasetKind::Wine => {
            let file = locate(config, &["winequality-red.csv", "wine/winequality-red.csv"])?;
            NamedDataset::Wine.load(file.parent().unwrap_or(&file))
        }
        DatasetKind::Utkf => {
            let folder = locate(config, &["utkf", "UTKFace", "utkface", "."])?;
            let mut pace = None;
            let moved = |error: Error| error.moved("images.", "dataset.images.");
            let images = FoundImages::find(&folder, &options.images.clone().unwrap_or_default()).map_err(moved)?;
            let enough = split_options(config).sizes(images.count());
            enough.map_err(|error| match (error, left_out_note(&images.left_out())) {
                (Error::InvalidArgument(message), Some(note)) => Error::InvalidArgument(format!("{message}; {note}")),
                (error, _) => error,
            })?;
            takes(images.size())?;
            images
                .decode(&mut |done, total| {
                    let pace = pace.get_or_insert_with(|| Pace::new(done as u64, total as u64));
                    watch(&pace.at(Stage::Loading, &config.tag, done as u64, 1.0))
                })
                .map_err(moved)?
                .into_dataset()
        }
        DatasetKind::Synthetic => Dataset::synthetic(&SyntheticOptions {
            rows: options.train_size.saturating_add(options.test_size.unwrap_or_default()),
            features: 10,
            outputs: 1,
            seed: config.seed,
        }),
        DatasetKind::Csv => match (&config.data, &options.csv) {
            (Some(path), Some(columns)) => {
                let path = options.file.as_ref().map_or_else(|| path.clone(), |file| path.join(file));
                Dataset::from_csv(&path, columns).map_err(|error| error.moved("csv.", "dataset.csv."))
            }
            _ => Err(Error::config("data", "is missing, must be the CSV file")),
        },
    }
}

/// The file or folder of the data: `config.data` itself if it is a file, else the first of `candidates` that exists
/// in that folder.
fn locate(config: &Config, candidates: &[&str]) -> Result<PathBuf> {
    let name = serde_json::to_value(config.dataset.kind).unwrap_or_default();
    let Some(path) = &config.data else {
        return Err(Error::config("data", format!("is missing, must be the folder where the data set {name} is")));
    };
    if !path.is_dir() {
        std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
        return Ok(path.clone());
    }
    let found = candidates.iter().map(|candidate| path.join(candidate)).find(|candidate| candidate.exists());
    let (folder, candidates) = (path.display(), candidates.join("' or '"));
    found.ok_or_else(|| Error::NotFound(format!("{folder}: the folder has no '{candidates}'")))
}

/// Training and test set; the training labels have the noise of `config`.
///
/// # Errors
/// [`Error::InvalidArgument`] when the sets need more rows than there are; [`Error::InvalidConfig`].
pub fn divide(config: &Config, data: &Dataset) -> Result<(Dataset, Dataset)> {
    let (train, test) = data.split(&split_options(config))?;
    let train = match &config.noise {
        Some(noise) => NoiseOptions { seed: noise.seed.or(Some(config.seed)), ..noise.clone() }.apply(&train)?,
        None => train,
    };
    Ok((train, test))
}

/// How the data are divided.
fn split_options(config: &Config) -> SplitOptions {
    let options = &config.dataset;
    SplitOptions {
        train_size: options.train_size,
        test_size: options.test_size,
        shuffle: true,
        seed: config.seed,
        keep_groups: options.keep_groups,
    }
}
