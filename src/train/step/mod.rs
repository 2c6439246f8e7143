//! One training step, from a mini-batch to moved weights, by the fastest way that network and device allow.

mod by_hand;
mod cuda_graph;
mod finite_guard;
mod gpu_queue;
mod inputs;
#[cfg(test)]
mod tests;

use crate::Result;
use crate::kernels::adam_step::{AdamOptions, AdamStep};
use crate::kernels::cuda;
use crate::kernels::mlp::{self, Kernel};
use crate::kernels::team::Team;
use crate::model::Model;
use crate::model::archive::Archive;
use crate::torch::runtime::has_fast_products;
use crate::torch::scopes::{Switch, SwitchedOn};
use crate::torch::tensor::{to_f32, values, values_mut};
use crate::torch::{Pool, Precision};
use crate::train::adam::Adam;
use by_hand::Layers;
use cuda_graph::Recorder;
use finite_guard::Guard;
use gpu_queue::Queue;
pub use inputs::MiniBatch;
use inputs::{Inputs, Selection};
use tch::{Kind, Tensor};

/// After so many steps a device's losses are read: few enough that a fit soon sees that it is to end.
const BLOCK: usize = 16;

/// The most weights of a network that the kernel trains where libtorch has fast products: it goes through them once for
/// each tile of rows, and more of them are far from the core.
const KERNEL_WEIGHTS: usize = 2_500_000;

/// Whether the kernel trains a network the fastest, beside libtorch's products, `fast` or not.
fn suits_kernel(weights: usize, fast: bool) -> bool {
    weights <= KERNEL_WEIGHTS || !fast
}

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
    /// What the large tensors of a step are in.
    memory: Pool,
    /// Where the host does not wait for the device.
    guard: Option<Guard>,
    /// Where such steps are CUDA graphs.
    recorder: Option<Recorder>,
    /// What it wants of libtorch on a GPU.
    switches: Vec<SwitchedOn>,
}

/// How the gradient is found.
#[derive(Debug)]
enum Way {
    /// By hand, without libtorch: multi-layer perceptrons on the CPU, but very wide ones.
    Kernel(Box<Kernel>),
    /// By hand, without libtorch, and several steps at once: small multi-layer perceptrons on a GPU.
    Queue(Box<Queue>),
    /// By hand, over libtorch's operations: other multi-layer perceptrons.
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
    /// The step is taken by [`Engine::read`].
    Queued,
}

impl Engine {
    /// For the tensors that `model` has now. With `cuda_graph`, steps on a GPU are recorded and repeated.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); [`Error::Unsupported`](crate::Error::Unsupported) where
    /// CUDA graphs are asked for and `libbiv_cuda.so` is not there.
    pub fn new(model: &Model, adam: &AdamOptions, precision: Precision, cuda_graph: bool) -> Result<Self> {
        let device = model.device();
        let way = match (model.kernel_plan(precision), model.plan()) {
            (Some(plan), _) if suits_kernel(plan.parameter_count(), has_fast_products()) => {
                Way::Kernel(Box::new(Kernel::new(plan)))
            }
            (_, Some(plan)) if precision == Precision::F32 && !plan.norm && cuda::mlp::fits(device, &plan.widths)? => {
                Way::Queue(Box::new(Queue::new(&plan.widths)))
            }
            (_, Some(plan)) if precision != Precision::Bf16 => Way::Layers(Box::new(Layers::new(plan))),
            _ => Way::Autograd,
        };
        let deferred = device.is_cuda() && !matches!(way, Way::Queue(_));
        let guard = deferred.then(|| Guard::new(device)).transpose()?;
        let mut engine = Engine::by(way, guard, model, adam, precision)?;
        if device.is_cuda() && precision == Precision::Tf32 {
            engine.switches = vec![SwitchedOn::new(Switch::MatrixTf32)?, SwitchedOn::new(Switch::ConvolutionTf32)?];
        }
        if device.is_cuda() && model.input_shape().len() > 1 {
            engine.switches.push(SwitchedOn::new(Switch::ConvolutionSearch)?);
        }
        engine.recorder = (deferred && cuda_graph).then(|| Recorder::new(device)).transpose()?;
        Ok(engine)
    }

    fn by(way: Way, guard: Option<Guard>, model: &Model, adam: &AdamOptions, precision: Precision) -> Result<Self> {
        let (parameters, buffers) = (model.parameters(), model.buffers());
        let optimizer = Adam::new(adam.clone(), &parameters)?;
        let (memory, recorder, switches) = (Pool::new()?, None, vec![]);
        Ok(Engine { parameters, buffers, optimizer, precision, way, memory, guard, recorder, switches })
    }

    /// What the large tensors of a step are in, and an evaluation's may be.
    pub(crate) fn memory(&self) -> &Pool {
        &self.memory
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// Whether the losses of the latest `steps`, all that have not been read, are to be read before another one.
    pub fn is_due(&self, steps: usize) -> bool {
        match &self.way {
            Way::Queue(queue) => queue.is_full(),
            _ if self.guard.is_some() => steps >= BLOCK,
            _ => steps >= 1,
        }
    }

    /// The values of the losses of the latest steps for `model`, all that have not been read yet. A step whose loss is
    /// not finite has changed nothing, nor have those after it: none of them is counted.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) when libtorch fails.
    pub fn read(&mut self, model: &Model, losses: &[StepLoss]) -> Result<Vec<f64>> {
        if let Way::Queue(queue) = &mut self.way {
            let values = queue.run(&mut model.flat()?.shallow_clone(), self.optimizer.moments().into())?;
            let taken = values.iter().take_while(|value| value.is_finite()).count();
            self.optimizer.set_steps(self.optimizer.steps() + taken as u64);
            return Ok(values.into_iter().map(f64::from).collect());
        }
        let pending = losses.iter().filter_map(|loss| match loss {
            StepLoss::Pending(tensor) => Some(tensor),
            _ => None,
        });
        let pending: Vec<&Tensor> = pending.collect();
        // Read at once.
        let pending = if pending.is_empty() { vec![] } else { to_f32(&Tensor::f_stack(&pending, 0)?)? };
        let mut pending = pending.into_iter().map(f64::from);
        let value = |loss: &StepLoss| match loss {
            StepLoss::Known(value) => *value,
            StepLoss::Pending(_) | StepLoss::Queued => pending.next().unwrap_or(f64::NAN),
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
        match &mut self.way {
            Way::Kernel(kernel) => {
                let adam = AdamStep::new(self.optimizer.options(), self.optimizer.steps() + 1, learning_rate);
                let mut parameters = model.flat()?.shallow_clone();
                let (means, squares) = self.optimizer.moments();
                let flat = [&mut parameters, &mut means.all, &mut squares.all];
                let mut lists = values_mut(flat.into_iter().chain(&mut self.buffers))?.into_iter();
                let [parameters, means, squares] = [(); 3].map(|()| lists.next().unwrap_or_default());
                let state = mlp::State { parameters, means, squares, buffers: lists.collect() };
                let batch = mlp::Batch {
                    features: values(batch.features.numbers()?)?,
                    labels: values(batch.labels)?,
                    rows: batch.rows,
                    coefficients: batch.coefficients,
                };
                let loss = kernel.step(state, &batch, &adam, &Team::gather())?;
                if loss.is_finite() {
                    self.optimizer.set_steps(self.optimizer.steps() + 1);
                }
                Ok(StepLoss::Known(loss))
            }
            Way::Queue(queue) => {
                let number = self.optimizer.steps() + queue.len() as u64 + 1;
                queue.push(batch, AdamStep::new(self.optimizer.options(), number, learning_rate))?;
                Ok(StepLoss::Queued)
            }
            Way::Layers(_) | Way::Autograd => {
                let _memory = self.memory.enter();
                match &mut self.guard {
                    Some(guard) => {
                        guard.set_learning_rate(learning_rate)?;
                        self.deferred(model, batch)
                    }
                    None => self.by_libtorch(model, batch, learning_rate),
                }
            }
        }
    }

    /// A step that the host waits for.
    fn by_libtorch(&mut self, model: &Model, batch: &MiniBatch, learning_rate: f64) -> Result<StepLoss> {
        let before = self.buffers_copied()?;
        let (loss, gradients) = self.gradients(model, batch, &Selection::new(batch, model.device())?)?;
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

    /// A step that it does not wait for.
    fn deferred(&mut self, model: &Model, batch: &MiniBatch) -> Result<StepLoss> {
        let mut recorder = self.recorder.take();
        let loss = match &mut recorder {
            Some(recorder) => self.repeated(recorder, model, batch),
            None => self.guarded(model, batch, &Selection::new(batch, model.device())?),
        };
        self.recorder = recorder;
        let loss = loss?;
        self.optimizer.set_steps(self.optimizer.steps() + 1);
        Ok(StepLoss::Pending(loss))
    }

    /// A step that is recorded when it is due, and repeated from then on. Returns its loss.
    fn repeated(&mut self, recorder: &mut Recorder, model: &Model, batch: &MiniBatch) -> Result<Tensor> {
        if recorder.is_due(batch, &self.parameters)? {
            // What a recording works on is its own.
            self.forget_memory();
            let parameters: Vec<Tensor> = self.parameters.iter().map(Tensor::shallow_clone).collect();
            let recorded = recorder.record(batch, &parameters, |selection| self.guarded(model, batch, selection));
            self.forget_memory();
            recorded?;
        }
        match recorder.replay(batch, &self.parameters)? {
            Some(loss) => Ok(loss),
            None => self.guarded(model, batch, &Selection::new(batch, model.device())?),
        }
    }

    fn forget_memory(&mut self) {
        if let Way::Layers(layers) = &mut self.way {
            layers.clear();
        }
    }

    /// All of a step that happens on the device, which decides whether it counts. Returns its loss.
    fn guarded(&mut self, model: &Model, batch: &MiniBatch, selection: &Selection) -> Result<Tensor> {
        let before = self.buffers_copied()?;
        let (loss, gradients) = self.gradients(model, batch, selection)?;
        if let Some(guard) = &mut self.guard {
            let (moved, restored) = ([&self.parameters[..], &gradients], [&self.buffers[..], &before]);
            guard.step(&mut self.optimizer, moved, restored, &loss)?;
        }
        Ok(loss)
    }

    fn buffers_copied(&self) -> Result<Vec<Tensor>> {
        self.buffers.iter().map(|buffer| Ok(buffer.f_detach_copy()?)).collect()
    }

    /// The loss and its gradients. Moves the running statistics.
    fn gradients(&mut self, model: &Model, batch: &MiniBatch, selection: &Selection) -> Result<(Tensor, Vec<Tensor>)> {
        let inputs = Inputs::new(batch, selection, self.precision)?;
        match &mut self.way {
            Way::Layers(layers) => layers.gradients(&self.parameters, &self.buffers, &inputs),
            _ => autograd(model, &self.parameters, &inputs, self.precision),
        }
    }

    /// Adds the optimiser's state to `archive`.
    pub(crate) fn store(&self, archive: &mut Archive) -> Result<()> {
        self.optimizer.store(archive)
    }

    /// Takes the optimiser's state from `archive`, `steps` steps on.
    pub(crate) fn restore(&mut self, archive: &Archive, steps: u64) -> Result<()> {
        self.optimizer = self.optimizer.restored(archive, steps)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.clear();
        }
        self.guard.as_mut().map_or(Ok(()), |guard| guard.reset(steps))
    }
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
