//! Kernels and graphs for NVIDIA GPUs, which are in `libbiv_cuda.so`.

mod graph;
pub(crate) mod images;
mod library;
pub(crate) mod mlp;

pub(crate) use graph::Graph;
pub(crate) use library::Library;
