//! Training of small multi-layer perceptrons by a kernel on a GPU: one launch takes many steps.

use super::interface::QueuedStep;
use super::library::Library;
use crate::torch::ffi::{pointer, torch};
use crate::{Error, Result};
use tch::Tensor;

/// Steps to take, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueuedSteps<'a> {
    pub steps: &'a [QueuedStep],
    /// The rows of all mini-batches, one mini-batch after the other.
    pub rows: &'a [i64],
    /// The weights of the squared errors, one for each row and output.
    pub coefficients: &'a [f32],
}

/// The tensors that the steps read and change: f32, on one GPU.
#[derive(Debug)]
pub(crate) struct TrainingTensors<'a> {
    pub features: &'a Tensor,
    pub labels: &'a Tensor,
    /// All layers' weights and biases, and Adam's moments, in that order.
    pub parameters: &'a mut Tensor,
    pub means: &'a mut Tensor,
    pub squares: &'a mut Tensor,
}

/// Whether the kernel takes networks of these widths on GPU number `device`.
pub(crate) fn fits(library: &Library, device: usize, widths: &[usize]) -> Result<bool> {
    let (widths, mut fits) = (numbers(widths), false);
    // SAFETY: the list has one number more than there are layers; `fits` is a place for the result.
    torch(unsafe { (library.mlp_fits)(device as i32, widths.as_ptr(), widths.len() - 1, &mut fits) })?;
    Ok(fits)
}

/// Takes `steps` and waits for their losses. The first step whose loss is not finite changes nothing, nor do those after
/// it.
pub(crate) fn train(widths: &[usize], state: TrainingTensors, steps: QueuedSteps) -> Result<Vec<f32>> {
    let [rows, outputs] = [state.labels.size()[0], state.labels.size()[1]];
    let within =
        |step: &QueuedStep| 0 <= step.first && 0 < step.rows && (step.first + step.rows) as usize <= steps.rows.len();
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
    // SAFETY: the tensors are borrowed for the call, at whose end the GPU is done with them. Their sizes and those of the
    // lists were checked. There is room for the loss of each step.
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
