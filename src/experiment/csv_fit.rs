//! A fit of a CSV file, and the folder that it leaves behind.

use super::config::DatasetKind;
use super::directory::{CHECKPOINT, is_passing, lock, names, versions, write_json};
use super::history::{EvaluationRecord, SetOutputs};
use super::labels::LabelKind;
use super::progress::{Pace, Watch};
use super::report;
use crate::base::files;
use crate::data::{CsvOptions, Dataset, left_out_note};
use crate::model::{Model, ModelOptions};
use crate::torch::device;
use crate::train::distributed::{Ranks, all_or_none};
use crate::train::fit::{FitOptions, FitReport, fit};
use crate::train::metrics::Metrics;
use crate::{Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The file of the columns, beside the model.
pub(super) const COLUMNS: &str = "columns.json";

const MODEL: &str = "model.biv";
const REPORT: &str = "fit.json";
const PAGE: &str = "report.html";
const TEST: &str = "test.json";

/// What is fitted, how, and where the results go.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvFit {
    /// The file of the data.
    pub data: PathBuf,
    /// What its columns are.
    pub columns: CsvOptions,
    /// A file of other rows, on which the model is evaluated at the end.
    pub test: Option<PathBuf>,
    /// The width of each hidden layer.
    pub hidden: Vec<usize>,
    /// How the fit goes. Its seed is the networks' too, and the checkpoint is in the folder.
    pub options: FitOptions,
    /// The folder of the results.
    pub out: PathBuf,
}

/// What [`fit_csv`] has found.
#[derive(Debug)]
pub struct CsvFitOutcome {
    /// The model.
    pub model: Model,
    /// What the fit says.
    pub report: FitReport,
    /// What is known of the noise of the labels that it was fitted to, and is judged by.
    pub labels: LabelKind,
    /// The errors on the test file, if there was one.
    pub test: Option<EvaluationRecord>,
    /// The file of the report.
    pub page: PathBuf,
}

/// Fits a model to a CSV file. The folder then has the model, the options of the columns as they were used, the report
/// and its page. A fit that was stopped goes on from the checkpoint in the folder. Of several processes, which `distributed`
/// in the options says, the first one writes the folder, and all have the same outcome.
///
/// # Errors
/// Those of reading the data, of [`fit()`] and of writing; [`Error::InvalidArgument`] for a folder that is not empty and
/// does not hold a fit that was stopped; [`Error::Busy`] while another fit is going on there.
pub fn fit_csv(job: &CsvFit, watch: Watch) -> Result<CsvFitOutcome> {
    // A fit that cannot start leaves no folder behind.
    job.options.validate()?;
    device::resolve(&job.options.device)?;
    let ranks = job.options.distributed.as_ref().map(Ranks::join).transpose();
    let ranks = ranks.map_err(|error| error.moved("trainer", "fit"))?;
    let writes = ranks.as_ref().is_none_or(|ranks| ranks.writes());
    let (data, columns, test, _lock) = all_or_none(ranks.as_deref(), || {
        if writes {
            check(&job.out)?;
        }
        let (data, columns) = Dataset::from_csv_as_used(&job.data, &job.columns)?;
        let test = match &job.test {
            Some(path) => Some(Dataset::from_csv(path, &CsvOptions { group: None, ..columns.clone() })?),
            None => None,
        };
        let lock = if writes { Some(lock(&job.out)?) } else { None };
        if writes {
            // Checked again under the lock: another fit may have begun and ended meanwhile.
            check(&job.out)?;
        }
        Ok((data, columns, test, lock))
    })?;
    let checkpoint = job.out.join(CHECKPOINT);
    let options = FitOptions { checkpoint: Some(checkpoint.clone()), ..job.options.clone() };
    let (inputs, outputs, seed) = (data.width(), data.outputs(), options.seed);
    let network = ModelOptions::mlp(inputs, &job.hidden, outputs, false, seed);
    let name = job.data.file_name().unwrap_or_default().to_string_lossy();
    let mut pace = None;
    let fitted = fit(&network, &data, &options, &mut |progress| {
        watch(&Pace::of_fit(&mut pace, &name, options.batch_size, progress))
    });
    let (model, mut report) = fitted.map_err(|error| match error {
        Error::Cancelled(message) => Error::Cancelled(format!("{message}: the same command goes on from there")),
        other => other,
    })?;
    let notes = [Some(&data), test.as_ref()].into_iter().flatten().filter_map(|data| left_out_note(data.left_out()));
    report.warnings.extend(notes);
    let tested = match &test {
        Some(test) => {
            let kind = LabelKind::of(DatasetKind::Csv, test);
            let evaluation = EvaluationRecord::new(0, report.stop_epoch, kind, &Metrics::of(&model, test)?);
            Some((evaluation, SetOutputs::new(test, kind, model.predict_data(test)?.mean)))
        }
        None => None,
    };

    let kind = LabelKind::of(DatasetKind::Csv, &data);
    let labels: Vec<&str> = columns.labels.iter().map(String::as_str).collect();
    let config =
        json!({"data": job.data, "test": job.test, "columns": columns, "hidden": job.hidden, "fit": job.options});
    let shown = tested.as_ref().map(|(evaluation, outputs)| (evaluation, outputs));
    let page = report::fit_html(&name, &config, &versions(&options.device), &report, &labels, kind, shown);
    let file = |name: &str| job.out.join(name);
    let write = || {
        write_json(&file(COLUMNS), &columns)?;
        write_json(&file(REPORT), &report)?;
        if let Some((evaluation, _)) = &tested {
            write_json(&file(TEST), evaluation)?;
        }
        files::replace(&file(PAGE), page.as_bytes())?;
        model.save(&file(MODEL))?;
        if checkpoint.exists() {
            std::fs::remove_file(&checkpoint).map_err(|error| Error::io(&checkpoint, error))?;
        }
        Ok(())
    };
    all_or_none(ranks.as_deref(), || if writes { write() } else { Ok(()) })?;
    Ok(CsvFitOutcome { model, report, labels: kind, test: tested.map(|(evaluation, _)| evaluation), page: file(PAGE) })
}

/// An error where a folder is neither empty nor that of a fit that was stopped.
fn check(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let mut names = names(folder)?;
    names.retain(|name| !is_passing(name));
    let is_stopped = names.iter().any(|name| name == CHECKPOINT);
    let ours = [CHECKPOINT, COLUMNS, REPORT, TEST, PAGE, MODEL];
    if names.is_empty() || is_stopped && names.iter().all(|name| ours.contains(&name.as_str())) {
        return Ok(());
    }
    let folder = folder.display();
    Err(Error::InvalidArgument(format!(
        "{folder}: neither empty nor the folder of a fit that was stopped: take another"
    )))
}
