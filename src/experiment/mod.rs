//! The published experiment: settings, runs, sweeps and their reports.

mod config;
mod directory;
mod file;
mod history;
mod outcome;
mod progress;
mod report;
mod run;
mod settings;
mod source;
mod sweep;

pub use config::{Cadence, Config, DatasetKind, DatasetOptions, Network, overlay};
pub use file::read_value;
pub use history::{EvaluationRecord, History, Outputs, Record, SetOutputs, StepRecord};
pub use outcome::{CellOutcome, Outcome};
pub use progress::{Progress, Stage, Watch};
pub use report::{Row, Spread, Table, table};
pub use run::{run, run_on};
pub use settings::Settings;
pub use sweep::{Cell, Grid, Sweep, SweepOptions, Variant};
