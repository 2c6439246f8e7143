//! Arithmetic of our own, where libtorch's is slower.

pub(crate) mod adam_step;
#[allow(unsafe_code)]
pub(crate) mod cuda;
pub mod mlp;
#[allow(unsafe_code)]
pub(crate) mod ops;
pub(crate) mod spec;
pub mod team;
