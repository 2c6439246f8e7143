//! A run's directory: one process at a time, a log that only grows, files that
//! are whole at every moment.

use super::config::Config;
use super::history::{History, Outputs, Record, SetOutputs};
use super::outcome::Outcome;
use super::report::{self, EventWriter};
use crate::base::files;
use crate::data::{Dataset, Fingerprint, left_out_note};
use crate::model::Model;
use crate::torch::device;
use crate::train::fit::FitReport;
use crate::train::trainer::Trainer;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const DATA: &str = "data.json";
const LOG: &str = "metrics.jsonl";
pub(super) const CHECKPOINT: &str = "checkpoint.biv";
const LOCK: &str = ".lock";
const RESULT: &str = "result.json";

/// Fields of a config that may differ when a run is resumed: they do not change
/// what is computed up to a given mini-batch.
const RESUMABLE_FIELDS: [&str; 8] =
    ["data", "out", "resume", "accept_data", "device", "checkpoint_seconds", "epochs", "distributed"];

/// An open run directory.
#[derive(Debug)]
pub(super) struct RunDirectory {
    path: PathBuf,
    data: RunData,
    /// Locked while this value lives; the system releases the lock however the process ends.
    _lock: File,
}

/// What a run's data were.
#[derive(Debug, Serialize, Deserialize)]
struct RunData {
    /// Of the whole data set, before it was divided.
    fingerprint: Fingerprint,
    /// In what they differed from those before when the run was resumed with other ones, which was accepted.
    #[serde(default)]
    accepted: Vec<String>,
}

impl RunData {
    /// That of `data`, with which the run in the folder `path` begins or goes on.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where they are others than before and `accept` is false; [`Error::Corrupt`].
    fn of(path: &Path, data: &Dataset, accept: bool) -> Result<Self> {
        let file = path.join(DATA);
        // A run of an earlier version does not say what its data were.
        if !file.exists() {
            return Ok(RunData { fingerprint: data.fingerprint(), accepted: vec![] });
        }
        let text = std::fs::read(&file).map_err(|error| Error::io(&file, error))?;
        let parsed = serde_json::from_slice::<RunData>(&text);
        let mut before = parsed.map_err(|error| Error::Corrupt(format!("{}: {error}", file.display())))?;
        match before.fingerprint.difference(data) {
            None => Ok(before),
            Some(difference) if accept => {
                before.accepted.push(difference);
                Ok(RunData { fingerprint: data.fingerprint(), ..before })
            }
            Some(difference) => Err(Error::InvalidArgument(format!(
                "{}: the data set is not the one that the run began with: {difference}; take another folder, or accept \
                 it (accept_data)",
                path.display()
            ))),
        }
    }
}

impl RunDirectory {
    /// Says whether the directory holds a run, which `config` resumes. It is an error if it holds another
    /// experiment, a run that is not to be resumed, or files of other kinds.
    pub(super) fn check(path: &Path, config: &Config) -> Result<bool> {
        let folder = path.display();
        if !path.exists() {
            return Ok(false);
        }
        let begun = path.join(CONFIG).exists();
        if begun && !config.resume {
            return Err(Error::InvalidArgument(format!(
                "{folder}: a run is there already: resume it, or take another"
            )));
        }
        if !begun && names(path)?.iter().any(|name| !is_passing(name)) {
            return Err(Error::InvalidArgument(format!("{folder}: neither empty nor a run's folder: take another")));
        }
        if begun {
            check_same(path, config)?;
        }
        Ok(begun)
    }

    /// Creates the directory, or with `config.resume` opens one that holds the same experiment.
    /// The directory then says what `data`, the whole data set, were: other ones are refused unless the config accepts
    /// them.
    pub(super) fn open(path: &Path, config: &Config, data: &Dataset) -> Result<Self> {
        let io = |error| Error::io(path, error);
        Self::check(path, config)?;
        let lock = lock(path)?;
        // Checked again under the lock: another run may have begun and ended meanwhile.
        if Self::check(path, config)? {
            // A process that was killed while it wrote has left them.
            for name in names(path)?.iter().filter(|name| is_temporary(name)) {
                std::fs::remove_file(path.join(name)).map_err(io)?;
            }
        }
        let data = RunData::of(path, data, config.accept_data)?;
        // A run that is extended keeps the newest description.
        write_json(&path.join(CONFIG), &config.to_value())?;
        write_json(&path.join(DATA), &data)?;
        write_json(&path.join("versions.json"), &versions(&config.device))?;
        Ok(RunDirectory { path: path.to_path_buf(), data, _lock: lock })
    }

    /// In what the data differed from those before where the run went on nevertheless.
    pub(super) fn accepted_data(&self) -> &[String] {
        &self.data.accepted
    }

    /// The file of the last checkpoint, if there was one.
    pub(super) fn checkpoint(&self) -> Option<PathBuf> {
        Some(self.path.join(CHECKPOINT)).filter(|path| path.exists())
    }

    /// Opens the log, cut off after the first `batches` mini-batches.
    pub(super) fn log(&self, batches: u64) -> Result<(Log, History)> {
        let path = self.path.join(LOG);
        let mut history = if batches > 0 { History::read(&path)? } else { History::default() };
        history.truncate(batches);
        if history.steps.len() as u64 != batches {
            let (file, found) = (path.display(), history.steps.len());
            return Err(Error::Corrupt(format!(
                "{file}: has {found} mini-batches, the checkpoint was made after {batches}"
            )));
        }
        let mut lines = String::new();
        for record in history.records() {
            lines += &line(&record)?;
        }
        files::replace(&path, lines.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|error| Error::io(&path, error))?;
        let events = EventWriter::create(&self.path.join("tensorboard"), &history, super::history::now())?;
        let checkpoint = self.path.join(CHECKPOINT);
        Ok((Log { path, file: BufWriter::new(file), events, checkpoint }, history))
    }

    /// Writes the files of a complete run, with figures of its `fit` if it was one. The result is written last: its presence marks a complete run.
    pub(super) fn finish(
        &self,
        config: &Config,
        history: &History,
        outputs: &Outputs,
        outcome: &Outcome,
        fit: Option<&FitReport>,
    ) -> Result<()> {
        let tables = tables(history, outputs);
        for (name, content) in &tables {
            files::replace(&self.path.join(name), content.as_bytes())?;
        }
        files::replace(&self.path.join("results.zip"), &zipped(&tables)?)?;
        let accepted = outcome.accepted_data.iter();
        let notes =
            accepted.map(|difference| format!("The run went on with other data than it began with: {difference}."));
        let notes = notes.chain(left_out_note(&outcome.left_out)).collect();
        let page = report::html(&config.to_value(), &versions(&config.device), history, outputs, fit, notes);
        files::replace(&self.path.join("report.html"), page.as_bytes())?;
        write_json(&self.path.join(RESULT), outcome)
    }

    /// As [`RunDirectory::finish`], of a fit: with the model and the fit's report.
    pub(super) fn finish_fit(
        &self,
        config: &Config,
        history: &History,
        outputs: &Outputs,
        outcome: &Outcome,
        model: &Model,
        report: &FitReport,
    ) -> Result<()> {
        model.save(&self.path.join("model.biv"))?;
        write_json(&self.path.join("fit.json"), report)?;
        self.finish(config, history, outputs, outcome, Some(report))
    }

    /// As [`RunDirectory::open`] an error where the complete run in `path` was of other data than `data`, unless the
    /// config accepts them.
    pub(super) fn check_data(path: &Path, config: &Config, data: &Dataset) -> Result<()> {
        write_json(&path.join(DATA), &RunData::of(path, data, config.accept_data)?)
    }

    /// The result of the run in `path`, if it is complete and computes what `config` says.
    pub(super) fn result(path: &Path, config: &Config) -> Option<Outcome> {
        check_same(path, config).ok()?;
        let outcome: Outcome = serde_json::from_slice(&std::fs::read(path.join(RESULT)).ok()?).ok()?;
        Some(outcome).filter(|outcome| outcome.epochs == config.epochs())
    }
}

/// What a run has measured so far, on disk.
pub(super) struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    events: EventWriter,
    checkpoint: PathBuf,
}

impl Log {
    /// Adds a record.
    pub(super) fn record(&mut self, record: &Record) -> Result<()> {
        self.file.write_all(line(record)?.as_bytes()).map_err(|error| Error::io(&self.path, error))?;
        self.events.append(record)
    }

    /// Hands what was recorded to the system, so that other processes see it.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| Error::io(&self.path, error))?;
        self.events.flush()
    }

    /// Puts the log on disk, then the trainer, so that the log always goes at least as far as the checkpoint.
    pub(super) fn checkpoint(&mut self, trainer: &Trainer) -> Result<()> {
        self.flush()?;
        self.file.get_ref().sync_data().map_err(|error| Error::io(&self.path, error))?;
        trainer.save(&self.checkpoint)
    }
}

fn line(record: &Record) -> Result<String> {
    serde_json::to_string(record).map(|text| text + "\n").map_err(|error| Error::Internal(error.to_string()))
}

/// Makes the folder where it is missing, and keeps others out of it while the result lives.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let io = |error| Error::io(folder, error);
    std::fs::create_dir_all(folder).map_err(io)?;
    let lock = File::create(folder.join(LOCK)).map_err(io)?;
    lock.try_lock().map_err(|_| Error::Busy(format!("{}: another run is going on there", folder.display())))?;
    Ok(lock)
}

/// Whether a file of this name is there while a run goes on, and says nothing.
pub(super) fn is_passing(name: &str) -> bool {
    name == LOCK || is_temporary(name)
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(".biv-") && name.ends_with(".tmp")
}

/// The names of what is in `folder`.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| Error::io(folder, error))?;
    Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// An error unless the run in `folder` computes what `config` says.
fn check_same(folder: &Path, config: &Config) -> Result<()> {
    let path = folder.join(CONFIG);
    let text = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
    let parsed = serde_json::from_slice::<Value>(&text);
    let there = parsed.map_err(|error| Error::Corrupt(format!("{}: {error}", path.display())))?;
    let here = config.to_value();
    let fields = here.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| !RESUMABLE_FIELDS.contains(&name.as_str())) {
        if there.get(name) != Some(value) {
            let there = there.get(name).unwrap_or(&Value::Null);
            return Err(Error::InvalidArgument(format!(
                "{}: the run there is another experiment: its {name} is {there}, not {value}",
                folder.display()
            )));
        }
    }
    Ok(())
}

/// What a run's numbers depend on besides its config.
pub(super) fn versions(device: &str) -> Value {
    json!({
        "biv": env!("CARGO_PKG_VERSION"),
        "libtorch": crate::torch::runtime::torch_version(),
        "device": device::resolve(device).map(device::name).unwrap_or_default(),
        "threads": device::threads(),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Internal(error.to_string()))?;
    files::replace(path, (text + "\n").as_bytes())
}

/// The six files of the published code, by name.
fn tables(history: &History, outputs: &Outputs) -> [(&'static str, String); 6] {
    let mut steps = "batch,epoch,loss,effective_batch_size,epsilon,samples_used\n".to_string();
    for step in &history.steps {
        let loss = step.loss.map(|loss| loss.to_string()).unwrap_or_default();
        let (size, epsilon, used) = (step.effective_batch_size, step.epsilon, step.samples_used);
        let _ = writeln!(steps, "{},{},{loss},{size},{epsilon},{used}", step.batch, step.epoch);
    }
    let mut evaluations = "batch,epoch,loss,mse,rmse,mae,r2,test_labels\n".to_string();
    for test in &history.evaluations {
        let r2 = test.r2.map(|r2| r2.to_string()).unwrap_or_default();
        let (loss, mse, rmse, mae) = (test.normalized_mse, test.mse, test.rmse, test.mae);
        let kind = test.test_labels;
        let _ = writeln!(evaluations, "{},{},{loss},{mse},{rmse},{mae},{r2},{kind}", test.batch, test.epoch);
    }
    let predictions = |part: &SetOutputs| {
        let mut text = "prediction\n".to_string();
        for prediction in &part.predictions {
            let _ = writeln!(text, "{prediction}");
        }
        text
    };
    let labels = |part: &SetOutputs| {
        let mut text = "label,clean_label,variance\n".to_string();
        for (row, (label, before)) in part.labels.iter().zip(&part.clean_labels).enumerate() {
            let variance = part.variances.as_ref().map(|variances| variances[row].to_string()).unwrap_or_default();
            let _ = writeln!(text, "{label},{before},{variance}");
        }
        text
    };
    [
        ("train_losses.csv", steps),
        ("test_losses.csv", evaluations),
        ("train_outs.csv", predictions(&outputs.train)),
        ("train_labels.csv", labels(&outputs.train)),
        ("test_outs.csv", predictions(&outputs.test)),
        ("test_labels.csv", labels(&outputs.test)),
    ]
}

/// One archive of the files.
fn zipped(tables: &[(&str, String)]) -> Result<Vec<u8>> {
    let write = || -> zip::result::ZipResult<Vec<u8>> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in tables {
            archive.start_file(*name, zip::write::SimpleFileOptions::default())?;
            archive.write_all(content.as_bytes())?;
        }
        Ok(archive.finish()?.into_inner())
    };
    write().map_err(|error| Error::Internal(format!("results.zip: {error}")))
}
