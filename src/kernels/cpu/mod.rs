//! Kernels for the CPU in C++: convolutions and BatchNorm of images in the channels-last format.
//!
//! Each gives `None` for tensors that it does not take. Which one to call is for [`ops`](super::ops) to say.

use super::spec::{BatchNormSpec, Epilogue};
use crate::Result;
use crate::torch::ffi::{AtTensor, pointer, torch};
use std::ffi::{c_char, c_int};
use tch::Tensor;

unsafe extern "C" {
    fn biv_cpu_vectors() -> c_int;
    fn biv_cpu_has_avx512_bf16() -> bool;
    fn biv_cpu_has_amx_bf16() -> bool;
    fn biv_cpu_winograd(
        vectors: c_int,
        input: *const AtTensor,
        weight: *const AtTensor,
        bias: *const AtTensor,
        stride: i64,
        padding: i64,
        result: *mut *mut AtTensor,
    ) -> *mut c_char;
    fn biv_cpu_batch_norm(
        vectors: c_int,
        input: *const AtTensor,
        weight: *const AtTensor,
        bias: *const AtTensor,
        running_mean: *const AtTensor,
        running_var: *const AtTensor,
        shortcut: *const AtTensor,
        training: bool,
        momentum: f64,
        epsilon: f64,
        relu: bool,
        result: *mut *mut AtTensor,
    ) -> *mut c_char;
}

/// The instruction sets that the kernels are compiled for, numbered as in `features.hpp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vectors {
    Baseline = 0,
    Avx2 = 1,
    Avx512 = 2,
}

impl Vectors {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Vectors::Baseline if cfg!(target_arch = "aarch64") => "NEON",
            Vectors::Baseline => "the compiler's baseline instructions",
            Vectors::Avx2 => "AVX2",
            Vectors::Avx512 => "AVX-512",
        }
    }
}

/// What the processor can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor {
    /// The widest that libtorch uses here: the environment's `ATEN_CPU_CAPABILITY` limits both.
    pub vectors: Vectors,
    /// Whether AVX-512 has products of bfloat16.
    pub avx512_bf16: bool,
    /// Whether AMX has them: libtorch's convolutions use it, and are then the fastest.
    pub amx_bf16: bool,
}

impl Processor {
    pub(crate) fn detect() -> Self {
        // SAFETY: the functions take nothing and may be called at any time.
        let (vectors, avx512_bf16, amx_bf16) =
            unsafe { (biv_cpu_vectors(), biv_cpu_has_avx512_bf16(), biv_cpu_has_amx_bf16()) };
        let vectors = match vectors {
            2 => Vectors::Avx512,
            1 => Vectors::Avx2,
            _ => Vectors::Baseline,
        };
        Processor { vectors, avx512_bf16, amx_bf16 }
    }
}

/// A convolution with square filters by Winograd's algorithm and the instructions of `vectors`, which the processor has.
pub(crate) fn winograd(
    vectors: Vectors,
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Option<Tensor>> {
    let mut result = std::ptr::null_mut();
    let bias = bias.map_or(std::ptr::null(), pointer);
    let (vectors, stride, padding) = (vectors as c_int, stride as i64, padding as i64);
    // SAFETY: all are borrowed for the call, or null; `result` is a place for one.
    torch(unsafe { biv_cpu_winograd(vectors, pointer(input), pointer(weight), bias, stride, padding, &mut result) })?;
    // SAFETY: C++ has succeeded, so this is null or a tensor made with new, which is ours.
    Ok(unsafe { owned(result) })
}

/// BatchNorm, and a ReLU or a shortcut and a ReLU as its epilogue, by the instructions of `vectors`, which the processor
/// has. `state` is its weight, its bias, and the running mean and variance.
pub(crate) fn batch_norm(
    vectors: Vectors,
    input: &Tensor,
    state: [&Tensor; 4],
    spec: BatchNormSpec,
    epilogue: Epilogue,
) -> Result<Option<Tensor>> {
    let mut result = std::ptr::null_mut();
    let [weight, bias, mean, var] = state.map(pointer);
    let BatchNormSpec { training, momentum, epsilon } = spec;
    // SAFETY: all are borrowed for the call, or null; `result` is a place for one. The running statistics are changed
    // behind a shared tensor, as tch's own operations do.
    torch(unsafe {
        biv_cpu_batch_norm(
            vectors as c_int,
            pointer(input),
            weight,
            bias,
            mean,
            var,
            epilogue.shortcut(),
            training,
            momentum,
            epsilon,
            epilogue.has_relu(),
            &mut result,
        )
    })?;
    // SAFETY: C++ has succeeded, so this is null or a tensor made with new, which is ours.
    Ok(unsafe { owned(result) })
}

/// The tensor that C++ gave, if it gave one.
///
/// # Safety
/// `result` is null or a tensor made with new that nobody else owns.
pub(super) unsafe fn owned(result: *mut AtTensor) -> Option<Tensor> {
    // SAFETY: as the function's.
    (!result.is_null()).then(|| unsafe { Tensor::from_ptr(result.cast()) })
}
