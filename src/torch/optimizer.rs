//! Steps of optimisers by libtorch's fused kernels. In the guarded form the device itself decides whether the step counts.

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
        decoupled: bool,
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
        decoupled: bool,
    ) -> *mut c_char;
    fn biv_torch_fused_sgd(
        parameters: *const *const AtTensor,
        gradients: *const *const AtTensor,
        momenta: *const *const AtTensor,
        count: usize,
        learning_rate: f64,
        device_learning_rate: *const AtTensor,
        found_inf: *const AtTensor,
        momentum: f64,
        dampening: f64,
        weight_decay: f64,
        nesterov: bool,
        is_first: bool,
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
    /// Whether the weight decay shrinks the weights themselves, as AdamW's, rather than enters the gradient.
    pub decoupled: bool,
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
            constants.decoupled,
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
            constants.decoupled,
        )
    })
}

/// What one step of gradient descent works on: three lists of equal length.
pub(crate) struct SgdTensors<'a> {
    pub parameters: &'a [Tensor],
    pub gradients: &'a [Tensor],
    pub momenta: &'a [Tensor],
}

/// The constants of gradient descent.
#[derive(Clone, Copy)]
pub(crate) struct SgdConstants {
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    pub nesterov: bool,
}

/// The learning rate of a step of gradient descent.
pub(crate) enum SgdRate<'a> {
    Host(f64),
    /// An f32 scalar on the tensors' device, and one that is 1 where the step must change nothing; else 0.
    Guarded(&'a Tensor, &'a Tensor),
}

/// One step of gradient descent in place, by libtorch's fused kernel; `is_first` where there was none before.
pub(crate) fn fused_sgd(tensors: &SgdTensors, constants: SgdConstants, rate: &SgdRate, is_first: bool) -> Result<()> {
    let (count, lists) = pointers([tensors.parameters, tensors.gradients, tensors.momenta])?;
    let (host, device, found_inf) = match *rate {
        SgdRate::Host(rate) => (rate, std::ptr::null(), std::ptr::null()),
        SgdRate::Guarded(rate, found_inf) => (0.0, pointer(rate), pointer(found_inf)),
    };
    // SAFETY: every list holds `count` pointers to tensors that are borrowed for the call, as are the two scalars, which
    // may be null.
    torch(unsafe {
        biv_torch_fused_sgd(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            lists[2].as_ptr(),
            count,
            host,
            device,
            found_inf,
            constants.momentum,
            constants.dampening,
            constants.weight_decay,
            constants.nesterov,
            is_first,
        )
    })
}

/// The length of all `lists`, and each as C++ takes it.
fn pointers<const N: usize>(lists: [&[Tensor]; N]) -> Result<(usize, [Vec<*const AtTensor>; N])> {
    let count = lists[0].len();
    if lists.iter().any(|list| list.len() != count) {
        return Err(Error::Internal("the optimiser's lists of tensors differ in length".into()));
    }
    Ok((count, lists.map(|list| list.iter().map(pointer).collect())))
}
