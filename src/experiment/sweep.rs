//! Many runs: every loss with every noise and every seed, several at a time, and the mean of their results.

use super::config::{Config, overlay};
use super::directory::RunDirectory;
use super::history::History;
use super::outcome::{CellOutcome, Outcome};
use super::progress::{Pace, Progress, Stage, Watch};
use super::run::{run, run_on};
use super::{report, source};
use crate::base::options::{self, require};
use crate::data::Dataset;
use crate::kernels::team::limit_threads;
use crate::torch::{device, ending};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often a worker reports its progress, which wakes the watching thread.
const INTERVAL: Duration = Duration::from_millis(10);

/// A grid of runs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepOptions {
    /// What all the runs have in common: the fields of a [`Config`], or `settings`.
    #[serde(default)]
    pub base: Map<String, Value>,
    /// How they differ.
    pub grid: Grid,
    /// The folder of the run directories, `VARIANT/seed-N`; runs that are complete there are not
    /// run again, others go on from their checkpoints. Without it nothing is written.
    pub out: Option<PathBuf>,
    /// How many runs go on at the same time (default 1).
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub jobs: usize,
}

/// How the runs of a sweep differ: losses x noises, and the variants, each in every setting and with every seed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// The seeds, at least one.
    #[schemars(length(min = 1))]
    pub seeds: Vec<u64>,
    /// Values of `loss`.
    #[serde(default)]
    pub losses: Vec<Value>,
    /// Values of `noise`; `false` is none.
    #[serde(default)]
    pub noises: Vec<Value>,
    /// Other combinations of fields, each with a name.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// What all of these are run in, one setting after the other; each has a name. Without any, the base alone.
    #[serde(default)]
    pub settings: Vec<Variant>,
}

/// A named change of the base.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Variant {
    /// Its name in tables, charts and, but for odd characters, of its folder.
    pub name: String,
    /// The fields that it changes.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

fn one() -> usize {
    1
}

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The name of its variant.
    pub variant: String,
    /// What it computes.
    pub config: Config,
}

/// A sweep, every run's description checked.
#[derive(Clone, Debug)]
pub struct Sweep {
    cells: Vec<Cell>,
    jobs: usize,
    out: Option<PathBuf>,
}

impl Sweep {
    /// Reads a [`SweepOptions`].
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], with the variant where it is one's.
    pub fn from_json(json: &str) -> Result<Self> {
        Self::from_value(&options::read("sweep", json)?)
    }

    /// As [`Sweep::from_json`].
    ///
    /// # Errors
    /// As [`Sweep::from_json`].
    pub fn from_value(value: &Value) -> Result<Self> {
        let SweepOptions { base, grid, out, jobs } = options::from_value("sweep", value)?;
        for field in ["out", "resume", "seed", "tag"] {
            require(!base.contains_key(field), format!("sweep.base.{field}"), "given", "left out: the sweep sets it")?;
        }
        let variants = grid.variants();
        let mut folders = HashMap::new();
        let mut cells = Vec::new();
        for Variant { name, fields } in &variants {
            let folder = folder(name);
            if let Some(other) = folders.insert(folder.clone(), name) {
                return Err(Error::config(
                    "sweep.grid",
                    format!("'{other}' and '{name}' have the same folder, '{folder}'"),
                ));
            }
            for &seed in &grid.seeds {
                let mut value = Value::Object(base.clone());
                overlay(&mut value, Value::Object(fields.clone()));
                overlay(&mut value, json!({"seed": seed, "tag": name}));
                if let Some(out) = &out {
                    let out = out.join(&folder).join(format!("seed-{seed}"));
                    overlay(&mut value, json!({"out": out, "resume": true}));
                }
                if value["noise"] == false {
                    value["noise"] = Value::Null;
                }
                let config =
                    Config::from_value(value).map_err(|error| error.moved("", &format!("variant '{name}': ")))?;
                let alone = "left out: a sweep runs in one process, its runs side by side";
                require(config.distributed.is_none(), "distributed", "given", alone)?;
                cells.push(Cell { variant: name.clone(), config });
            }
        }
        Ok(Sweep { cells, jobs, out })
    }

    /// Whether the sweep has a folder.
    pub fn has_folder(&self) -> bool {
        self.out.is_some()
    }

    /// The runs, the seeds of one variant after each other.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The same sweep with only the run `index`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is none.
    pub fn only(&self, index: usize) -> Result<Self> {
        let count = self.cells.len();
        let cell = self.cells.get(index).cloned();
        let missing = || Error::InvalidArgument(format!("does not exist, there are {count}")).at([("run", index)]);
        let cell = cell.ok_or_else(missing)?;
        Ok(Sweep { cells: vec![cell], ..self.clone() })
    }

    /// Runs what is not complete yet, and returns the outcomes of all runs. A run that fails does not stop the
    /// others. `watch` is called on this thread, with the progress of single runs and, after each run, of the sweep.
    ///
    /// # Errors
    /// Those of reading the data; [`Error::Cancelled`] when `watch` stopped it.
    pub fn run(&self, watch: Watch) -> Result<Vec<CellOutcome>> {
        let mut outcomes = self.complete();
        let data = self.load(watch)?;
        for (cell, found) in self.cells.iter().zip(&mut outcomes).filter(|(_, found)| found.outcome.is_some()) {
            if let (Some(data), Some(path)) = (self.data_of(cell, &data), &cell.config.out)
                && let Err(error) = RunDirectory::check_data(path, &cell.config, data)
            {
                (found.outcome, found.error) = (None, Some(error.to_string()));
            }
        }
        let is_open = |at: &usize| outcomes[*at].outcome.is_none() && outcomes[*at].error.is_none();
        let open: Vec<usize> = (0..self.cells.len()).filter(is_open).collect();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        // A short queue, so that runs do not get far after `watch` stops them.
        let (sender, receiver) = mpsc::sync_channel(8);
        let finished = self.cells.len() - open.len();
        let pace = Pace::new(finished as u64, self.cells.len() as u64);
        let jobs = self.jobs.min(open.len());
        let threads = device::threads().div_ceil(jobs.max(1));
        let _away = ending::away();
        std::thread::scope(|scope| {
            for worker in 0..jobs {
                let (sender, next, stop, open, data) = (sender.clone(), &next, &stop, &open, &data);
                let work = move || {
                    limit_threads(threads);
                    let _at_work = ending::at_work();
                    let mut shown: Option<Instant> = None;
                    while let Some(&at) = open.get(next.fetch_add(1, Relaxed)).filter(|_| !stop.load(Relaxed)) {
                        let mut show = |progress: &Progress| {
                            if shown.is_none_or(|last| last.elapsed() >= INTERVAL) {
                                shown = Some(Instant::now());
                                let _ = sender.send(Message::Progress(self.named(at, progress)));
                            }
                            if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                        };
                        let config = &self.cells[at].config;
                        let result = match self.data_of(&self.cells[at], data) {
                            Some(data) => run_on(config, data, &mut show),
                            None => run(config, &mut show),
                        };
                        let _ = sender.send(Message::Finished(at, Box::new(result)));
                    }
                };
                let spawned = std::thread::Builder::new().name(format!("biv-sweep-{worker}")).spawn_scoped(scope, work);
                spawned.map_err(|error| Error::OutOfMemory(format!("no thread for a run: {error}")))?;
            }
            drop(sender);
            let mut done = finished as u64;
            for message in receiver {
                let shown = match message {
                    Message::Progress(progress) => watch(&progress),
                    Message::Finished(_, result) if matches!(*result, Err(Error::Cancelled(_))) => continue,
                    Message::Finished(at, result) => {
                        done += 1;
                        match *result {
                            Ok(outcome) => outcomes[at].outcome = Some(outcome),
                            Err(error) => outcomes[at].error = Some(error.to_string()),
                        }
                        watch(&pace.at(Stage::Sweep, &self.name(at), done, f64::NAN))
                    }
                };
                if shown.is_break() {
                    stop.store(true, Relaxed);
                }
            }
            match stop.load(Relaxed) && done < self.cells.len() as u64 {
                true => Err(Error::Cancelled(format!("the sweep was stopped with {done} runs complete"))),
                false => Ok(()),
            }
        })?;
        Ok(outcomes)
    }

    /// The outcomes of the runs that are complete in the sweep's folder; runs nothing.
    pub fn complete(&self) -> Vec<CellOutcome> {
        let outcome = |cell: &Cell| {
            let config = &cell.config;
            let outcome = config.out.as_ref().and_then(|path| RunDirectory::result(path, config));
            CellOutcome { variant: cell.variant.clone(), seed: config.seed, outcome, error: None }
        };
        self.cells.iter().map(outcome).collect()
    }

    /// Writes `table.md`, `table.csv` and `curves.svg` to the sweep's folder.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`]; [`Error::Unsupported`] for a sweep without a folder.
    pub fn write_summary(&self, outcomes: &[CellOutcome]) -> Result<()> {
        let Some(out) = &self.out else {
            return Err(Error::Unsupported("the sweep has no folder for its summary".into()));
        };
        let table = report::table(outcomes);
        std::fs::create_dir_all(out).map_err(|error| Error::io(out, error))?;
        let complete = self.cells.iter().zip(outcomes).filter(|(_, outcome)| outcome.outcome.is_some());
        let histories = complete.map(|(cell, _)| {
            let path = cell.config.out.clone().unwrap_or_default().join("metrics.jsonl");
            Ok((cell.variant.as_str(), History::read(&path)?))
        });
        let curves = report::curves(&histories.collect::<Result<Vec<_>>>()?);
        for (name, content) in [("table.md", table.markdown()), ("table.csv", table.csv()), ("curves.svg", curves)] {
            crate::base::files::replace(&out.join(name), content.as_bytes())?;
        }
        Ok(())
    }

    /// The data sets of the runs, each read once.
    fn load(&self, watch: Watch) -> Result<HashMap<String, Dataset>> {
        let mut data = HashMap::new();
        for Cell { config, .. } in &self.cells {
            let Some(key) = source_key(config) else { continue };
            if let Entry::Vacant(entry) = data.entry(key.clone()) {
                // Images that one network does not take may be for another: its run fails by itself.
                let takes = |size| {
                    let others = self.cells.iter().map(|other| &other.config);
                    let sharing = others.filter(|other| source_key(other).as_ref() == Some(&key));
                    sharing.map(|other| other.check_images(size)).reduce(Result::or).unwrap_or(Ok(()))
                };
                entry.insert(source::load(config, &takes, watch)?);
            }
        }
        Ok(data)
    }

    fn data_of<'a>(&self, cell: &Cell, data: &'a HashMap<String, Dataset>) -> Option<&'a Dataset> {
        source_key(&cell.config).and_then(|key| data.get(&key))
    }

    fn name(&self, at: usize) -> String {
        format!("{}, seed {}", self.cells[at].variant, self.cells[at].config.seed)
    }

    fn named(&self, at: usize, progress: &Progress) -> Progress {
        Progress { run: self.name(at), ..progress.clone() }
    }
}

/// What a worker reports.
enum Message {
    Progress(Progress),
    Finished(usize, Box<Result<Outcome>>),
}

/// What identifies the data set of a config. A synthetic set has none: it depends on the run's seed.
fn source_key(config: &Config) -> Option<String> {
    let shared = config.dataset.kind != super::DatasetKind::Synthetic;
    shared.then(|| json!([config.dataset, config.data]).to_string())
}

impl Grid {
    /// The variants: losses x noises unless both are empty beside others, then the named ones.
    fn variants(&self) -> Vec<Variant> {
        let axis = |name: &str, values: &[Value]| -> Vec<(String, Map<String, Value>)> {
            if values.is_empty() {
                return vec![(String::new(), Map::new())];
            }
            let several = |label: &str| values.iter().filter(|value| self::label(value) == label).count() > 1;
            let entry = |(at, value): (usize, &Value)| {
                let mut label = label(value);
                if several(&label) {
                    label = format!("{label} ({})", at + 1);
                }
                (label, Map::from_iter([(name.to_string(), value.clone())]))
            };
            values.iter().enumerate().map(entry).collect()
        };
        let mut variants = Vec::new();
        if !self.losses.is_empty() || !self.noises.is_empty() || self.variants.is_empty() {
            for (loss, loss_fields) in axis("loss", &self.losses) {
                for (noise, noise_fields) in axis("noise", &self.noises) {
                    let shown = |name: &String| !name.is_empty() && (*name != noise || self.noises.len() > 1);
                    let names: Vec<String> = [loss.clone(), noise.clone()].into_iter().filter(shown).collect();
                    let name = if names.is_empty() { "base".into() } else { names.join(", ") };
                    let mut fields = loss_fields.clone();
                    fields.extend(noise_fields);
                    variants.push(Variant { name, fields });
                }
            }
        }
        variants.extend(self.variants.iter().cloned());
        if self.settings.is_empty() {
            return variants;
        }
        let within = |setting: &Variant, variant: &Variant| {
            let mut fields = Value::Object(setting.fields.clone());
            overlay(&mut fields, Value::Object(variant.fields.clone()));
            let Value::Object(fields) = fields else { return variant.clone() };
            Variant { name: format!("{}, {}", setting.name, variant.name), fields }
        };
        self.settings.iter().flat_map(|setting| variants.iter().map(move |variant| within(setting, variant))).collect()
    }
}

/// A short name for a loss or a noise: its kind with its number, if it has one.
fn label(value: &Value) -> String {
    let kind = value["kind"].as_str().or(value["distribution"]["kind"].as_str()).unwrap_or("no noise");
    let parameter = ["epsilon", "threshold"].iter().filter_map(|name| match &value[*name] {
        Value::Number(number) => Some(number.to_string()),
        Value::Object(fields) => fields.iter().next().map(|(name, value)| format!("{name} {value}")),
        _ => None,
    });
    [kind.to_string()].into_iter().chain(parameter).collect::<Vec<_>>().join(" ")
}

/// A variant's name as a folder: without characters that mean something to shells and file systems.
fn folder(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._+-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "variant".into() } else { name.into() }
}
