//! Predictions for the rows of a CSV file.

use super::csv_fit::COLUMNS;
use super::file::read_value;
use crate::base::options;
use crate::data::CsvOptions;
use crate::data::array::ArrayView;
use crate::model::Model;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The options of the columns that a fit has kept in `columns`; without one, beside the file `path` of its `model`; where
/// there is none either, those that the model knows.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`], [`Error::InvalidConfig`].
pub fn read_columns(model: &Model, path: &Path, columns: Option<&PathBuf>) -> Result<CsvOptions> {
    let beside = path.with_file_name(COLUMNS);
    match (columns, model.columns()) {
        (None, Some(known)) if !beside.exists() => Ok(CsvOptions::of(known)),
        (columns, _) => options::from_value("csv", &read_value(columns.unwrap_or(&beside))?),
    }
}

/// What `model` predicts for the rows of `data`, whose features `columns` name, as CSV: the number
/// of the row (the first below the header is 1), for each output the prediction and, where the model has error bars, the
/// standard deviation of its error.
///
/// # Errors
/// Those of reading the file; [`Error::Shape`] when the features are not the model's.
pub fn predict_csv(model: &Model, data: &Path, columns: &CsvOptions) -> Result<String> {
    let features = columns.read_features(data)?;
    let features = match model.columns() {
        Some(known) => features.matched_to(known)?,
        None => features,
    };
    let (rows, outputs) = (features.rows.len(), model.outputs());
    let prediction = model.predict_array(&ArrayView::f64(&features.values, &[rows, features.width])?)?;
    let has_bars = prediction.variance.is_some();
    let labels = model.columns().map_or(&columns.labels, |known| &known.labels);
    let name = |number: usize| match labels.get(number) {
        _ if outputs == 1 => String::new(),
        Some(label) => format!("_{label}"),
        None => format!("_{}", number + 1),
    };
    let names = (0..outputs).map(name);
    let heads = names.flat_map(|name| [Some(format!("prediction{name}")), has_bars.then(|| format!("std{name}"))]);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let unwritten = |error: csv::Error| Error::Internal(error.to_string());
    writer.write_record(std::iter::once("row".to_string()).chain(heads.flatten())).map_err(unwritten)?;
    for (at, row) in features.rows.iter().enumerate() {
        let fields = (at * outputs..(at + 1) * outputs).flat_map(|at| {
            let variance = prediction.variance.as_ref().map(|variances| variances[at]);
            [Some(prediction.mean[at]), variance.map(f64::sqrt)]
        });
        let fields = fields.flatten().map(|value| value.to_string());
        writer.write_record(std::iter::once(row.to_string()).chain(fields)).map_err(unwritten)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::Internal(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| Error::Internal(error.to_string()))
}
