//! The published experiment: settings, runs, sweeps and their reports; fits of a user's own CSV files.

mod config;
mod csv_fit;
mod csv_predict;
mod directory;
mod file;
mod history;
mod labels;
mod outcome;
mod progress;
mod report;
mod run;
mod settings;
mod source;
mod sweep;

pub use config::{Cadence, Config, DatasetKind, DatasetOptions, Network, overlay};
pub use csv_fit::{CsvFit, CsvFitOutcome, fit_csv};
pub use csv_predict::{predict_csv, read_columns};
pub use file::read_value;
pub use history::{EvaluationRecord, History, Outputs, Record, SetOutputs, StepRecord};
pub use labels::LabelKind;
pub use outcome::{CellOutcome, Outcome};
pub use progress::{Progress, Stage, Watch};
pub use report::{Row, Spread, Table, table};
pub use run::{run, run_on};
pub use settings::Settings;
pub use sweep::{Cell, Grid, Sweep, SweepOptions, Variant};
