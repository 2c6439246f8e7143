//! What every other module stands on: errors, options, memory, files, threads, randomness.

pub(crate) mod error;
pub(crate) mod fault;
pub mod files;
pub(crate) mod infinite;
pub mod log;
pub mod memory;
pub mod options;
pub(crate) mod place;
pub mod random;
mod schema;
pub(crate) mod threads;

pub use error::{Error, Result};
pub use place::{Element, Path};
