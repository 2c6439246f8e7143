//! The C ABI: each function checks its arguments, makes one call into the safe
//! API and turns the result into a status. Its contract stands at the top of
//! the header (cbindgen.toml). Unsafe code lives only here, in `torch` and in `kernels`.

#![allow(non_camel_case_types)]
// Every exported function has the same contract, the header's: pointers are
// NULL or valid for what the parameter's description says.
#![allow(clippy::missing_safety_doc)]
// The header's documentation: [rows] is a shape there, not a link.
#![allow(rustdoc::broken_intra_doc_links)]

mod array;
mod boundary;
mod caller;
mod dataset;
mod dlpack;
mod experiment;
mod fit;
mod handle;
mod lent;
mod log;
mod loss;
mod model;
mod noise;
mod pointer;
mod process;
#[cfg(test)]
mod ranges;
mod runtime;
mod status;
#[cfg(test)]
mod tests;
mod trainer;

pub use array::*;
pub use dataset::*;
pub use dlpack::*;
pub use experiment::*;
pub use fit::*;
pub use lent::*;
pub use log::*;
pub use loss::*;
pub use model::*;
pub use noise::*;
pub use runtime::*;
pub use status::*;
pub use trainer::*;
