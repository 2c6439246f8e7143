//! The published experiment, whole: settings, runs, sweeps and what they leave behind.

mod charts;
mod config;
mod directory;
mod file;
mod history;
mod progress;
mod report;
mod run;
mod settings;
mod source;
mod summary;
mod sweep;
mod tensorboard;
mod text;

pub use config::{Cadence, Config, DatasetKind, DatasetOptions, Network, overlay};
pub use file::read_value;
pub use history::{EvaluationRecord, History, Outputs, Part, Record, StepRecord};
pub use progress::{Progress, Stage, Watch};
pub use run::{Outcome, run, run_on};
pub use settings::Settings;
pub use summary::{Row, Spread, Table, table};
pub use sweep::{Cell, CellOutcome, Grid, Sweep, SweepOptions, Variant};

/// Seconds since 1970.
fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|since| since.as_secs_f64()).unwrap_or_default()
}
