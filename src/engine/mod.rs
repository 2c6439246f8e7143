//! One training step, from a mini-batch to moved weights, by the fastest way that network and device allow.

mod guard;
mod layers;
#[cfg(test)]
mod tests;

use crate::archive::Archive;
use crate::batch::Source;
use crate::data::Normalization;
use crate::kernel::{self, Kernel, Team};
use crate::model::{Model, Precision, to_f32};
use crate::optim::{Adam, AdamOptions, AdamStep};
use crate::{Result, shim};
use guard::Guard;
use layers::Layers;
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

/// After so many steps a device's losses are read: few enough that a fit soon sees that it is to end.
const BLOCK: usize = 16;

/// Moves a model's weights against the gradient of a weighted sum of squared errors.
///
/// Every way computes the same: they differ in their rounding.
#[derive(Debug)]
pub struct Engine {
    parameters: Vec<Tensor>,
    /// What a forward pass in training changes: the running statistics of BatchNorm.
    buffers: Vec<Tensor>,
    optimizer: Adam,
    precision: Precision,
    way: Way,
    /// Where the host does not wait for the device.
    guard: Option<Guard>,
}

/// How the gradient is found.
#[derive(Debug)]
enum Way {
    /// By hand, without libtorch: multi-layer perceptrons on the CPU.
    Kernel(Box<Kernel>),
    /// By hand, over libtorch's operations: multi-layer perceptrons elsewhere.
    Layers(Box<Layers>),
    /// By libtorch's automatic differentiation: everything else.
    Autograd,
}

/// A mini-batch's loss before the step on it.
#[derive(Debug)]
pub enum StepLoss {
    /// Where it is not finite, the step has changed nothing.
    Known(f64),
    /// On a device that may still be at work on it: [`Engine::read`] waits.
    Pending(Tensor),
}

/// Some rows of normalised data, and the weights of their squared errors.
#[derive(Clone, Copy, Debug)]
pub struct MiniBatch<'a> {
    /// All features.
    pub features: &'a Source,
    /// All labels, `[rows, outputs]`.
    pub labels: &'a Tensor,
    /// Which rows are the mini-batch.
    pub rows: &'a [usize],
    /// One for each squared error, row-major.
    pub coefficients: &'a [f32],
    /// What the features were or are to be normalised with.
    pub normalization: &'a Normalization,
}

impl Engine {
    /// For the tensors that `model` has now.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new(model: &Model, adam: &AdamOptions, precision: Precision) -> Result<Self> {
        let way = match (model.kernel_plan(precision), model.plan()) {
            (Some(plan), _) => Way::Kernel(Box::new(Kernel::new(plan))),
            (None, Some(plan)) if precision == Precision::F32 => Way::Layers(Box::new(Layers::new(plan))),
            _ => Way::Autograd,
        };
        let guard = model.device().is_cuda().then(|| Guard::new(model.device())).transpose()?;
        Engine::by(way, guard, model, adam, precision)
    }

    fn by(way: Way, guard: Option<Guard>, model: &Model, adam: &AdamOptions, precision: Precision) -> Result<Self> {
        let (parameters, buffers) = (model.parameters(), model.buffers());
        let optimizer = Adam::new(adam.clone(), &parameters)?;
        Ok(Engine { parameters, buffers, optimizer, precision, way, guard })
    }

    /// The threads that share the steps: whoever takes many steps does so within [`Team::run`].
    pub fn team(&self) -> Team {
        match self.way {
            Way::Kernel(_) => Team::gather(),
            Way::Layers(_) | Way::Autograd => Team::alone(),
        }
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// How many steps may be taken before their losses are read.
    pub fn block(&self) -> usize {
        if self.guard.is_some() { BLOCK } else { 1 }
    }

    /// The values of the losses of the latest steps, all that have not been read yet. A step whose loss is not
    /// finite has changed nothing, nor have those after it: none of them is counted.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) when libtorch fails.
    pub fn read(&mut self, losses: &[StepLoss]) -> Result<Vec<f64>> {
        let mut pending = losses.iter().filter_map(|loss| match loss {
            StepLoss::Pending(tensor) => Some(tensor),
            StepLoss::Known(_) => None,
        });
        let pending = match pending.by_ref().collect::<Vec<_>>() {
            none if none.is_empty() => vec![],
            pending => to_f32(&Tensor::f_stack(&pending, 0)?)?,
        };
        let mut pending = pending.into_iter().map(f64::from);
        let value = |loss: &StepLoss| match loss {
            StepLoss::Known(value) => *value,
            StepLoss::Pending(_) => pending.next().unwrap_or(f64::NAN),
        };
        let values: Vec<f64> = losses.iter().map(value).collect();
        if let (Some(guard), Some(failed)) = (&mut self.guard, values.iter().position(|value| !value.is_finite())) {
            let steps = self.optimizer.steps() - (values.len() - failed) as u64;
            self.optimizer.set_steps(steps);
            guard.reset(steps)?;
        }
        Ok(values)
    }

    /// One step for `model`, the one that the engine was made for.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::OutOfMemory`](crate::Error::OutOfMemory),
    /// [`Error::Internal`](crate::Error::Internal) when libtorch fails.
    pub fn step(&mut self, model: &Model, batch: &MiniBatch, learning_rate: f64) -> Result<StepLoss> {
        let team = self.team();
        match &mut self.way {
            Way::Kernel(kernel) => {
                let adam = AdamStep::new(self.optimizer.options(), self.optimizer.steps() + 1, learning_rate);
                let (means, squares) = self.optimizer.moments();
                let state = kernel::State {
                    parameters: shim::values_mut(&mut self.parameters)?,
                    buffers: shim::values_mut(&mut self.buffers)?,
                    means: shim::values_mut(means)?,
                    squares: shim::values_mut(squares)?,
                };
                let batch = kernel::Batch {
                    features: shim::values(batch.features.numbers()?)?,
                    labels: shim::values(batch.labels)?,
                    rows: batch.rows,
                    coefficients: batch.coefficients,
                };
                let loss = kernel.step(state, &batch, &adam, &team);
                if loss.is_finite() {
                    self.optimizer.set_steps(self.optimizer.steps() + 1);
                }
                Ok(StepLoss::Known(loss))
            }
            Way::Layers(_) | Way::Autograd => self.by_libtorch(model, batch, learning_rate),
        }
    }

    fn by_libtorch(&mut self, model: &Model, batch: &MiniBatch, learning_rate: f64) -> Result<StepLoss> {
        let inputs = Inputs::new(batch, model.device())?;
        let before = self.buffers.iter().map(|buffer| Ok(buffer.f_detach_copy()?)).collect::<Result<Vec<_>>>()?;
        let (loss, gradients) = match &mut self.way {
            Way::Layers(layers) => layers.gradients(&self.parameters, &self.buffers, &inputs)?,
            _ => autograd(model, &self.parameters, &inputs, self.precision)?,
        };
        if let Some(guard) = &mut self.guard {
            guard.set_learning_rate(learning_rate)?;
            let (moved, restored) = ([&self.parameters[..], &gradients], [&self.buffers[..], &before]);
            guard.step(&mut self.optimizer, moved, restored, &loss)?;
            self.optimizer.set_steps(self.optimizer.steps() + 1);
            return Ok(StepLoss::Pending(loss));
        }
        let value = loss.f_double_value(&[])?;
        if value.is_finite() {
            self.optimizer.step(&self.parameters, &gradients, learning_rate)?;
        } else {
            for (buffer, before) in self.buffers.iter_mut().zip(&before) {
                tch::no_grad(|| buffer.f_copy_(before))?;
            }
        }
        Ok(StepLoss::Known(value))
    }

    /// Adds the optimiser's state to `archive`.
    pub(crate) fn store(&self, archive: &mut Archive) -> Result<()> {
        self.optimizer.store(archive)
    }

    /// Takes the optimiser's state from `archive`, `steps` steps on.
    pub(crate) fn restore(&mut self, archive: &Archive, steps: u64) -> Result<()> {
        self.optimizer = self.optimizer.restored(archive, steps)?;
        self.guard.as_mut().map_or(Ok(()), |guard| guard.reset(steps))
    }
}

/// A mini-batch as tensors on the device.
struct Inputs {
    features: Tensor,
    labels: Tensor,
    /// As the labels.
    coefficients: Tensor,
}

impl Inputs {
    fn new(batch: &MiniBatch, device: Device) -> Result<Self> {
        let indices: Vec<i64> = batch.rows.iter().map(|&row| row as i64).collect();
        let indices = uploaded(&indices, device)?;
        let labels = batch.labels.f_index_select(0, &indices)?;
        Ok(Inputs {
            features: batch.features.batch(batch.rows, &indices, batch.normalization)?,
            coefficients: uploaded(batch.coefficients, device)?.f_view_as(&labels)?,
            labels,
        })
    }
}

/// `values` on `device`, for which the host does not wait.
fn uploaded<T: Element>(values: &[T], device: Device) -> Result<Tensor> {
    let mut target = Tensor::f_empty([values.len() as i64], (T::KIND, device))?;
    shim::step::upload(&mut target, &Tensor::f_from_slice(values)?)?;
    Ok(target)
}

/// The loss, and its gradient for each of `parameters`.
fn autograd(
    model: &Model,
    parameters: &[Tensor],
    inputs: &Inputs,
    precision: Precision,
) -> Result<(Tensor, Vec<Tensor>)> {
    // The host may have switched gradients off on this thread.
    tch::with_grad(|| {
        let error = model.forward(&inputs.features, true, precision)?.f_sub(&inputs.labels)?;
        let loss = error.f_square()?.f_mul(&inputs.coefficients)?.f_sum(Kind::Float)?;
        let gradients = Tensor::f_run_backward(&[&loss], parameters, false, false)?;
        // A convolution's may come in the channels-last format; Adam walks through memory.
        let gradients = gradients.iter().map(|gradient| Ok(gradient.f_contiguous()?)).collect::<Result<_>>()?;
        Ok((loss.f_detach()?, gradients))
    })
}
