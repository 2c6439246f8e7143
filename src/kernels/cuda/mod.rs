//! Kernels for NVIDIA GPUs, in `libbiv_cuda.so`.

mod graph;
pub(crate) mod images;
mod library;
pub(crate) mod mlp;

pub(crate) use graph::Graph;
