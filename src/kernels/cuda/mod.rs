//! Kernels for NVIDIA GPUs, in `libbiv_cuda.so`.

mod graph;
pub(crate) mod images;
mod library;
pub(crate) mod mlp;

pub(crate) use graph::Graph;

/// Whether a test has a GPU and `libbiv_cuda.so`; says so if it has not.
#[cfg(test)]
pub(crate) fn has_gpu(test: &str) -> bool {
    use std::io::Write;

    let found = crate::torch::device::cuda_device_count() > 0 && Graph::require().is_ok();
    if !found {
        // The harness would keep what eprintln! says to itself.
        let _ = writeln!(std::io::stderr().lock(), "{test}: SKIPPED: there is no CUDA device, or no libbiv_cuda.so");
    }
    found
}
