//! Adam by libtorch's fused kernel. In the guarded form the device itself decides whether the step counts.

use super::ffi::{AtTensor, pointer, torch};
use crate::{Error, Result};
use std::ffi::c_char;
use tch::Tensor;

unsafe extern "C" {
    fn biv_torch_fused_adam(
        parameters: *const *const AtTensor,
        gradients: *const *const AtTensor,
        means: *const *const AtTensor,
        squares: *const *const AtTensor,
        steps: *const *const AtTensor,
        count: usize,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
    ) -> *mut c_char;
    fn biv_torch_guarded_adam(
        parameters: *const *const AtTensor,
        gradients: *const *const AtTensor,
        means: *const *const AtTensor,
        squares: *const *const AtTensor,
        count: usize,
        steps: *const AtTensor,
        learning_rate: *const AtTensor,
        found_inf: *const AtTensor,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
    ) -> *mut c_char;
}

/// What one fused Adam step works on: five lists of equal length.
pub(crate) struct AdamTensors<'a> {
    pub parameters: &'a [Tensor],
    pub gradients: &'a [Tensor],
    pub means: &'a [Tensor],
    pub squares: &'a [Tensor],
    pub steps: &'a [Tensor],
}

/// Adam's constants.
#[derive(Clone, Copy)]
pub(crate) struct AdamConstants {
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub epsilon: f64,
}

/// One step of Adam in place, by libtorch's fused kernel.
pub(crate) fn fused_adam(tensors: &AdamTensors, constants: AdamConstants, learning_rate: f64) -> Result<()> {
    let (count, lists) =
        pointers([tensors.parameters, tensors.gradients, tensors.means, tensors.squares, tensors.steps])?;
    // SAFETY: every list holds `count` pointers to tensors that are borrowed for the call.
    torch(unsafe {
        biv_torch_fused_adam(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            lists[2].as_ptr(),
            lists[3].as_ptr(),
            lists[4].as_ptr(),
            count,
            learning_rate,
            constants.beta1,
            constants.beta2,
            constants.weight_decay,
            constants.epsilon,
        )
    })
}

/// What one guarded Adam step works on: four lists of equal length, and three f32 scalars on their device.
pub(crate) struct GuardedAdam<'a> {
    pub parameters: &'a [Tensor],
    pub gradients: &'a [Tensor],
    pub means: &'a [Tensor],
    pub squares: &'a [Tensor],
    /// The step's number, counted from 1.
    pub steps: &'a Tensor,
    pub learning_rate: &'a Tensor,
    /// 1 where the step must change nothing, because a loss was not finite; else 0.
    pub found_inf: &'a Tensor,
}

/// One step of Adam in place, by libtorch's fused kernel.
pub(crate) fn guarded_adam(tensors: &GuardedAdam, constants: AdamConstants) -> Result<()> {
    let (count, lists) = pointers([tensors.parameters, tensors.gradients, tensors.means, tensors.squares])?;
    // SAFETY: every list holds `count` pointers to tensors that are borrowed for the call, as are the others.
    torch(unsafe {
        biv_torch_guarded_adam(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            lists[2].as_ptr(),
            lists[3].as_ptr(),
            count,
            pointer(tensors.steps),
            pointer(tensors.learning_rate),
            pointer(tensors.found_inf),
            constants.beta1,
            constants.beta2,
            constants.weight_decay,
            constants.epsilon,
        )
    })
}

/// The length of all `lists`, and each as C++ takes it.
fn pointers<const N: usize>(lists: [&[Tensor]; N]) -> Result<(usize, [Vec<*const AtTensor>; N])> {
    let count = lists[0].len();
    if lists.iter().any(|list| list.len() != count) {
        return Err(Error::Internal("Adam's lists of tensors differ in length".into()));
    }
    Ok((count, lists.map(|list| list.iter().map(pointer).collect())))
}
