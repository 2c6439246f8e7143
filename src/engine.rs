//! One training step, from a mini-batch to moved weights, by the fastest way that network and device allow.

use crate::archive::Archive;
use crate::batch::Source;
use crate::data::Normalization;
use crate::kernel::{self, Kernel};
use crate::model::{Model, Precision};
use crate::optim::{Adam, AdamOptions, AdamStep};
use crate::{Result, shim};
use tch::{Kind, Tensor};

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
}

/// How the gradient is found.
#[derive(Debug)]
enum Way {
    /// By hand, without libtorch: multi-layer perceptrons on the CPU.
    Kernel(Box<Kernel>),
    /// By libtorch's automatic differentiation: everything else.
    Autograd,
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
        let way = match model.kernel_plan(precision) {
            Some(plan) => Way::Kernel(Box::new(Kernel::new(plan))),
            None => Way::Autograd,
        };
        Engine::by(way, model, adam, precision)
    }

    fn by(way: Way, model: &Model, adam: &AdamOptions, precision: Precision) -> Result<Self> {
        let (parameters, buffers) = (model.parameters(), model.buffers());
        let optimizer = Adam::new(adam.clone(), &parameters)?;
        Ok(Engine { parameters, buffers, optimizer, precision, way })
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// One step for `model`, the one that the engine was made for. Returns the loss before
    /// the step; where that is not finite, nothing has changed.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::OutOfMemory`](crate::Error::OutOfMemory),
    /// [`Error::Internal`](crate::Error::Internal) when libtorch fails.
    pub fn step(&mut self, model: &Model, batch: &MiniBatch, learning_rate: f64) -> Result<f64> {
        let threads = kernel::threads();
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
                let loss = kernel.step(state, &batch, &adam, threads);
                if loss.is_finite() {
                    self.optimizer.count_step();
                }
                Ok(loss)
            }
            // The host may have switched gradients off on this thread.
            Way::Autograd => tch::with_grad(|| self.autograd(model, batch, learning_rate)),
        }
    }

    fn autograd(&mut self, model: &Model, batch: &MiniBatch, learning_rate: f64) -> Result<f64> {
        let device = model.device();
        let indices: Vec<i64> = batch.rows.iter().map(|&row| row as i64).collect();
        let indices = Tensor::f_from_slice(&indices)?.f_to_device(device)?;
        let features = batch.features.batch(batch.rows, &indices, batch.normalization)?;
        let labels = batch.labels.f_index_select(0, &indices)?;
        let coefficients = Tensor::f_from_slice(batch.coefficients)?.f_view_as(&labels)?.f_to_device(device)?;
        let before = self.buffers.iter().map(|buffer| Ok(buffer.f_detach_copy()?)).collect::<Result<Vec<_>>>()?;

        let error = model.forward(&features, true, self.precision)?.f_sub(&labels)?;
        let loss = error.f_square()?.f_mul(&coefficients)?.f_sum(Kind::Float)?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            for (buffer, before) in self.buffers.iter_mut().zip(&before) {
                tch::no_grad(|| buffer.f_copy_(before))?;
            }
            return Ok(value);
        }
        let gradients = Tensor::f_run_backward(&[loss], &self.parameters, false, false)?;
        // A convolution's may come in the channels-last format; Adam walks through memory.
        let gradients = gradients.iter().map(|gradient| Ok(gradient.f_contiguous()?)).collect::<Result<Vec<_>>>()?;
        self.optimizer.step(&self.parameters, &gradients, learning_rate)?;
        Ok(value)
    }

    /// Adds the optimiser's state to `archive`.
    pub(crate) fn store(&self, archive: &mut Archive) -> Result<()> {
        self.optimizer.store(archive)
    }

    /// Takes the optimiser's state from `archive`, `steps` steps on.
    pub(crate) fn restore(&mut self, archive: &Archive, steps: u64) -> Result<()> {
        self.optimizer = self.optimizer.restored(archive, steps)?;
        Ok(())
    }
}
