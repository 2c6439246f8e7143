//! Reports of runs and sweeps: pages, charts, tables, TensorBoard's events.

mod axis;
mod charts;
mod figures;
mod fit_figures;
mod fit_page;
mod html;
mod page;
mod sweep_table;
mod tensorboard;
mod text;

pub(super) use fit_page::fit_html;
pub(super) use html::html;
pub(super) use sweep_table::curves;
pub use sweep_table::{Row, Spread, Table, table};
pub(super) use tensorboard::EventWriter;
