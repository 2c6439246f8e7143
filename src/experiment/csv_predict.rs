//! Predictions for the rows of a CSV file.

use super::csv_fit::COLUMNS;
use super::file::read_value;
use crate::base::options;
use crate::data::CsvOptions;
use crate::data::array::ArrayView;
use crate::model::Model;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The options of the columns that a fit has kept in `columns`; without one, beside its `model`.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`], [`Error::InvalidConfig`].
pub fn read_columns(model: &Path, columns: Option<&PathBuf>) -> Result<CsvOptions> {
    let beside = model.with_file_name(COLUMNS);
    let path = columns.unwrap_or(&beside);
    options::from_value("csv", &read_value(path)?)
}

/// What the model in the file `model` predicts for the rows of `data`, whose features `columns` name, as CSV: the number
/// of the row (the first below the header is 1), for each output the prediction and, where the model has error bars, the
/// standard deviation of its error.
///
/// # Errors
/// Those of reading the two files; [`Error::Shape`] when the features are not the model's.
pub fn predict_csv(model: &Path, data: &Path, columns: &CsvOptions) -> Result<String> {
    let model = Model::load(model)?;
    let features = columns.read_features(data)?;
    let (rows, outputs) = (features.rows.len(), model.outputs());
    let prediction = model.predict_array(&ArrayView::f64(&features.values, &[rows, features.width])?)?;
    let has_bars = prediction.variance.is_some();
    let name = |number: usize| match columns.labels.get(number) {
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
