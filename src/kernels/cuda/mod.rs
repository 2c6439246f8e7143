//! Kernels and graphs for NVIDIA GPUs, which are in `libbiv_cuda.so`.

mod graph;
pub(crate) mod images;
mod interface;
mod library;
pub(crate) mod mlp;

pub(crate) use graph::Graph;
pub(crate) use interface::QueuedStep;
pub(crate) use library::Library;
