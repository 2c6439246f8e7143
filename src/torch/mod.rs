//! What libtorch has and tch does not bind, safe to use.

mod arena;
pub mod device;
pub(crate) mod ending;
pub(crate) mod ffi;
pub(crate) mod flat;
pub(crate) mod ops;
pub(crate) mod optimizer;
mod precision;
pub mod process_group;
pub(crate) mod rank_sum;
pub(crate) mod runtime;
pub(crate) mod scopes;
mod store;
pub(crate) mod tensor;
pub(crate) mod transfer;

pub(crate) use arena::Arena;
pub use precision::Precision;
