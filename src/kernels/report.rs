//! Which kernels are in use here, and why others are not.

use super::cpu::{Processor, Vectors};
use super::cuda::Library;
use super::ops::processor;
use crate::torch::device::cuda_device_count;
use crate::torch::runtime::load_cuda;
use pulp::Arch;
use serde::Serialize;

/// A kernel of the library, or a library that it could use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelReport {
    /// What it computes and where, for example `mlp_cpu`.
    pub name: &'static str,
    /// Whether it is in use. Otherwise libtorch's operations are.
    pub in_use: bool,
    /// The instructions or the library that it uses, or why it is not in use.
    pub reason: String,
}

/// All kernels. Loads libtorch's CUDA libraries if they are there.
pub fn report() -> Vec<KernelReport> {
    let entry = |name, found: Result<&str, &str>| KernelReport {
        name,
        in_use: found.is_ok(),
        reason: found.unwrap_or_else(|reason| reason).to_string(),
    };
    let processor = processor();
    let (graphs, kernels) = (on_gpu(Library::get), on_gpu(Library::with_kernels));
    let [graphs, kernels] = [&graphs, &kernels].map(|found| found.as_ref().copied().map_err(String::as_str));
    vec![
        entry("mlp_cpu", Ok(mlp_instructions())),
        entry("conv2d_f32_cpu", conv2d_f32(processor)),
        entry("conv2d_bf16_cpu", conv2d_bf16(processor)),
        entry("batch_norm_cpu", Ok(processor.vectors.name())),
        entry("mlp_gpu", kernels),
        entry("images_bf16_gpu", kernels),
        entry("graphs_gpu", graphs),
        entry("nccl", Err("training runs on one GPU, which needs no NCCL")),
    ]
}

fn mlp_instructions() -> &'static str {
    match Arch::new() {
        Arch::Scalar => "no vectors: the processor has no AVX2",
        #[cfg(target_arch = "x86_64")]
        Arch::V4(_) => "AVX-512",
        #[cfg(target_arch = "x86_64")]
        Arch::V3(_) => "AVX2",
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(_) => "NEON",
        _ => "the processor's vectors",
    }
}

fn conv2d_f32(processor: &Processor) -> Result<&'static str, &'static str> {
    match processor.vectors {
        Vectors::Baseline => Err("no AVX2 is in use"),
        vectors => Ok(vectors.name()),
    }
}

fn conv2d_bf16(processor: &Processor) -> Result<&'static str, &'static str> {
    match processor {
        Processor { vectors: Vectors::Baseline | Vectors::Avx2, .. } => Err("no AVX-512 is in use"),
        Processor { avx512_bf16: false, .. } => Err("the processor has no products of bfloat16 in AVX-512"),
        Processor { amx_bf16: true, .. } => Err("libtorch uses the processor's AMX, which is faster"),
        _ => Ok("AVX-512 with products of bfloat16"),
    }
}

/// The name of the library that `find` finds where there is a GPU.
fn on_gpu(find: fn() -> crate::Result<&'static Library>) -> Result<&'static str, String> {
    load_cuda().map_err(|cause| format!("libtorch's CUDA libraries are not there: {cause}"))?;
    match cuda_device_count() {
        0 => Err("there is no NVIDIA GPU, or no driver for it".into()),
        _ => find().map(|_| "libbiv_cuda.so").map_err(|cause| cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ops::winograd_vectors;
    use super::*;
    use tch::Kind;

    #[test]
    fn the_report_says_what_is_chosen() {
        for vectors in [Vectors::Baseline, Vectors::Avx2, Vectors::Avx512] {
            for (avx512_bf16, amx_bf16) in [(false, false), (true, false), (true, true)] {
                let processor = Processor { vectors, avx512_bf16, amx_bf16 };
                let is_chosen = |kind, autocast| !winograd_vectors(&processor, kind, autocast).is_empty();
                assert_eq!(conv2d_f32(&processor).is_ok(), is_chosen(Kind::Float, false), "{processor:?}");
                assert_eq!(conv2d_bf16(&processor).is_ok(), is_chosen(Kind::BFloat16, true), "{processor:?}");
            }
        }
        let report = report();
        assert!(report.iter().all(|kernel| !kernel.reason.is_empty()));
        let gpu = report.iter().find(|kernel| kernel.name == "mlp_gpu").unwrap();
        if cuda_device_count() == 0 {
            assert!(!gpu.in_use && (gpu.reason.contains("CUDA libraries") || gpu.reason.contains("GPU")), "{gpu:?}");
        }
    }
}
