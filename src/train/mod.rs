//! Training: a loss weighs the rows of mini-batches, an optimiser moves the weights, metrics tell how far it has come.

pub mod checkpoint;
pub mod distributed;
mod ensemble;
mod first_loss;
pub mod fit;
mod held_out;
mod learner;
pub mod loss;
pub mod metrics;
pub mod optimizer;
mod options;
pub mod sampler;
pub mod schedule;
pub mod session;
mod step;
pub mod trainer;
mod training_data;
mod validation;
