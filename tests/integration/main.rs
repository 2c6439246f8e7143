//! The library and its program from outside: one program, linked once, with a module for each subject.
//!
//! A test that needs what not every machine has is ignored, with its reason; `tests/optional.sh` runs
//! those for which this machine has it.

mod architecture;
mod changed_data;
mod checkpoints;
mod common;
mod cuda;
mod distributed;
mod ensembles;
mod experiment;
mod fit;
mod golden;
mod growing_data;
mod image_networks;
mod numerics;
mod optimizers;
mod own_data;
mod process_group;
mod real_data;
mod shared_fits;
mod streams;
mod threads;
mod training;
