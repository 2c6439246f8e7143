//! Arithmetic of our own, where libtorch's is slower.

pub(crate) mod adam_step;
#[allow(unsafe_code)]
pub(crate) mod cpu;
#[allow(unsafe_code)]
pub(crate) mod cuda;
pub mod mlp;
pub(crate) mod ops;
pub(crate) mod optimizer;
pub(crate) mod rank_norm;
mod report;
pub(crate) mod sgd_step;
pub(crate) mod spec;
pub mod team;

pub use report::{KernelReport, report};
