//! Training: a loss weighs the rows of mini-batches, Adam moves the weights, metrics tell how far it has come.

pub mod adam;
pub mod loss;
pub mod metrics;
pub mod sampler;
pub mod session;
pub mod step;
pub mod trainer;
