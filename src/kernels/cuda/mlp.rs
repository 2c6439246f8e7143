//! Training of small multi-layer perceptrons by a kernel on a GPU: many steps in one start.

use super::library::Library;
use crate::kernels::adam_step::AdamStep;
use crate::torch::ffi::{pointer, torch};
use crate::{Error, Result};
use tch::{Device, Tensor};

/// A mini-batch's place in a list of the rows of all, and the numbers with which the weights move.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub first: i32,
    pub rows: i32,
    pub adam: AdamStep,
}

/// Steps to take, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps<'a> {
    pub steps: &'a [Step],
    /// Of the mini-batches, one after the other.
    pub rows: &'a [i64],
    /// One for each row and output.
    pub coefficients: &'a [f32],
}

/// What the steps read and change, f32 on one GPU.
#[derive(Debug)]
pub(crate) struct State<'a> {
    pub features: &'a Tensor,
    pub labels: &'a Tensor,
    /// All layers' weights and biases, and Adam's moments, in that order.
    pub parameters: &'a mut Tensor,
    pub means: &'a mut Tensor,
    pub squares: &'a mut Tensor,
}

/// Whether the kernel is there, and takes networks of these widths on `device`.
pub(crate) fn fits(device: Device, widths: &[usize]) -> Result<bool> {
    let (Device::Cuda(index), Ok(library)) = (device, Library::get()) else { return Ok(false) };
    let (widths, mut fits) = (numbers(widths), false);
    // SAFETY: the list has one number more than there are layers; `fits` is a place for the result.
    torch(unsafe { (library.mlp_fits)(index as i32, widths.as_ptr(), widths.len() - 1, &mut fits) })?;
    Ok(fits)
}

/// Takes `steps` and waits for their losses. From the first that is not finite on, nothing changes.
pub(crate) fn train(widths: &[usize], state: State, steps: Steps) -> Result<Vec<f32>> {
    let [rows, outputs] = [state.labels.size()[0], state.labels.size()[1]];
    let within =
        |step: &Step| 0 <= step.first && 0 < step.rows && (step.first + step.rows) as usize <= steps.rows.len();
    let parameters: usize = widths.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum();
    let flat = [&*state.parameters, state.means, state.squares];
    if flat.iter().any(|list| list.numel() != parameters)
        || state.features.size() != [rows, widths[0] as i64]
        || widths.last() != Some(&(outputs as usize))
        || steps.coefficients.len() != steps.rows.len() * outputs as usize
        || !steps.steps.iter().all(within)
        || !steps.rows.iter().all(|row| (0..rows).contains(row))
    {
        return Err(Error::Internal("the steps do not fit the network or the data".into()));
    }
    let (library, widths) = (Library::get()?, numbers(widths));
    let mut losses = vec![0.0; steps.steps.len()];
    // SAFETY: the tensors are borrowed for the call, at whose end the GPU is done with them, and of the sizes that
    // were checked, as are the lists; there is room for a loss of each step.
    torch(unsafe {
        (library.mlp_train)(
            pointer(state.features),
            pointer(state.labels),
            state.parameters.as_mut_ptr().cast(),
            state.means.as_mut_ptr().cast(),
            state.squares.as_mut_ptr().cast(),
            widths.as_ptr(),
            widths.len() - 1,
            steps.steps.as_ptr(),
            steps.steps.len(),
            steps.rows.as_ptr(),
            steps.rows.len(),
            steps.coefficients.as_ptr(),
            losses.as_mut_ptr(),
        )
    })?;
    Ok(losses)
}

fn numbers(widths: &[usize]) -> Vec<i64> {
    widths.iter().map(|&width| width as i64).collect()
}
