//! One training step, from a mini-batch to moved weights, by the fastest strategy that network and device allow.
//!
//! A strategy is a type of its own in a file of its own; [`strategy`] is the one place that chooses.

mod by_hand;
mod cpu_mlp;
mod cuda_graph;
mod deferred;
mod distributed;
mod finite_guard;
mod gpu_queue;
mod gradients;
mod inputs;
mod synchronous;
#[cfg(test)]
mod tests;

use crate::kernels::mlp::Plan;
use crate::kernels::ops::{MlpImplementation, mlp_implementation};
use crate::model::archive::Archive;
use crate::model::{Model, Networks};
use crate::torch::scopes::{Switch, SwitchedOn};
use crate::torch::{Arena, Precision};
use crate::train::distributed::Ranks;
use crate::train::optimizer::{Optimizer, UpdateOptions};
use crate::{Error, Result};
use cpu_mlp::CpuMlp;
pub(super) use cpu_mlp::{Kept, Lent};
use cuda_graph::CudaGraph;
use deferred::Deferred;
use distributed::Distributed;
use gpu_queue::GpuQueue;
use gradients::Gradients;
pub(super) use inputs::{Held, MiniBatch};
use std::fmt::Debug;
use std::sync::Arc;
use synchronous::Synchronous;
use tch::Tensor;

/// A way to take a step. All of them compute the same; they differ in their rounding.
trait StepStrategy: Debug + Send {
    /// Moves `weights`, those of `networks`, against the gradient of the loss on `batch`.
    fn step(
        &mut self,
        networks: Networks,
        weights: &mut Weights,
        batch: &MiniBatch,
        learning_rate: f64,
    ) -> Result<StepLoss>;

    /// The network whose values are `flat`, for steps that any thread may take; `None` where steps are libtorch's or a
    /// GPU's.
    fn lend<'a>(&'a mut self, _flat: &'a mut Tensor, _weights: &'a mut Weights) -> Result<Option<Lent<'a>>> {
        Ok(None)
    }

    /// What takes the steps, as [`Engine::name`].
    fn name(&self) -> &'static str;

    /// Whether a step is work for the library's own threads alone.
    fn uses_own_threads(&self) -> bool {
        false
    }

    /// Whether the losses of the latest `unread` steps are to be read before another step.
    fn is_due(&self, unread: usize) -> bool {
        unread >= 1
    }

    /// The values of `losses`, those of the latest steps, none of which was read before. A step whose loss is not
    /// finite has changed nothing, nor have those after it: none of them is counted.
    fn read(&mut self, _networks: Networks, _weights: &mut Weights, losses: &[StepLoss]) -> Result<Vec<f64>> {
        losses.iter().map(StepLoss::known).collect()
    }

    /// Forgets what belongs to earlier weights and data: `weights`, or the data, were replaced.
    fn clear(&mut self, _weights: &Weights) -> Result<()> {
        Ok(())
    }
}

/// What steps are to be like.
#[derive(Clone, Debug)]
pub(super) struct StepOptions {
    /// The arithmetic of the network.
    pub precision: Precision,
    /// Whether steps on a GPU are recorded and repeated.
    pub cuda_graph: bool,
    /// Whether the optimiser is Adam and gradients are not clipped, which is what the GPU's kernel and graphs are for.
    pub plain_adam: bool,
    /// The beta of a likelihood; without it the loss is a weighted sum of squared errors.
    pub likelihood: Option<f64>,
    /// The processes that take steps together, if this is one of several.
    pub ranks: Option<Arc<Ranks>>,
}

/// The fastest strategy for `networks`.
fn strategy(networks: Networks, options: StepOptions) -> Result<Box<dyn StepStrategy>> {
    let StepOptions { precision, cuda_graph, plain_adam, likelihood, ranks } = options;
    let device = networks.device();
    if let Some(ranks) = ranks {
        let is_by_hand = |plan: &&Plan| {
            let divides_norm = plan.norm && ranks.norm_group().is_some();
            likelihood.is_none() && precision != Precision::Bf16 && plan.activation.is_relu() && !divides_norm
        };
        let gradients = match networks.plan().filter(is_by_hand) {
            Some(plan) => Gradients::by_hand(plan, precision),
            None => Gradients::by_autograd(precision, likelihood),
        };
        return Ok(Box::new(Distributed::new(gradients, networks, ranks)?));
    }
    let gradients = match networks.plan().filter(|_| likelihood.is_none()) {
        None => Gradients::by_autograd(precision, likelihood),
        Some(plan) => match mlp_implementation(plan, device, precision)? {
            MlpImplementation::CpuKernel => return Ok(Box::new(CpuMlp::new(plan))),
            MlpImplementation::GpuKernel if plain_adam => return Ok(Box::new(GpuQueue::new(&plan.widths))),
            MlpImplementation::GpuKernel | MlpImplementation::Operations => Gradients::by_hand(plan, precision),
            MlpImplementation::Autograd => Gradients::by_autograd(precision, None),
        },
    };
    // A recording would repeat the masks of one step.
    let is_recorded = cuda_graph && plain_adam && !networks.has_dropout();
    Ok(match (device.is_cuda(), is_recorded) {
        (false, _) => Box::new(Synchronous::new(gradients)),
        (true, false) => Box::new(Deferred::new(gradients, device)?),
        (true, true) => Box::new(CudaGraph::new(Deferred::new(gradients, device)?, device)?),
    })
}

/// What a step changes.
#[derive(Debug)]
struct Weights {
    parameters: Vec<Tensor>,
    /// What a forward pass in training changes: the running statistics of BatchNorm.
    buffers: Vec<Tensor>,
    optimizer: Optimizer,
}

/// A mini-batch's loss before the step on it.
#[derive(Debug)]
pub(super) enum StepLoss {
    /// Where it is not finite, the step has changed nothing.
    Known(f64),
    /// On a device that may still be at work on it: [`Engine::read`] waits.
    Pending(Tensor),
    /// The step is taken by [`Engine::read`].
    Queued,
}

impl StepLoss {
    fn known(&self) -> Result<f64> {
        if let StepLoss::Known(value) = self { Ok(*value) } else { Err(self.foreign()) }
    }

    fn pending(&self) -> Result<&Tensor> {
        if let StepLoss::Pending(tensor) = self { Ok(tensor) } else { Err(self.foreign()) }
    }

    fn foreign(&self) -> Error {
        Error::Internal(format!("{self:?} is the loss of another strategy"))
    }
}

/// Moves a model's weights, or those of one of its networks, against the gradient of a loss: a weighted sum of squared
/// errors, or a likelihood.
#[derive(Debug)]
pub(super) struct Engine {
    /// Which network of the model; without it, all of them as one.
    number: Option<usize>,
    weights: Weights,
    strategy: Box<dyn StepStrategy>,
    arena: Arena,
    /// What it wants of libtorch on a GPU, for as long as it lives.
    _switches: Vec<SwitchedOn>,
    /// How many of the latest steps wait to be taken.
    queued: u64,
}

impl Engine {
    /// For the tensors that `model`, or network `number` of it, has now.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); [`Error::Unsupported`](crate::Error::Unsupported) where
    /// CUDA graphs are asked for and `libbiv_cuda.so` is not there.
    pub(super) fn new(
        model: &Model,
        number: Option<usize>,
        update: &UpdateOptions,
        options: StepOptions,
    ) -> Result<Self> {
        let precision = options.precision;
        let mut switches = vec![];
        if model.device().is_cuda() && precision == Precision::Tf32 {
            switches.extend([SwitchedOn::new(Switch::MatrixTf32)?, SwitchedOn::new(Switch::ConvolutionTf32)?]);
        }
        if model.device().is_cuda() && model.input_shape().len() > 1 {
            switches.push(SwitchedOn::new(Switch::ConvolutionSearch)?);
        }
        let networks = number.map_or(Ok(model.whole()), |number| model.network(number))?;
        let engine = Engine::with(strategy(networks, options)?, networks, update)?;
        Ok(Engine { number, _switches: switches, ..engine })
    }

    fn with(strategy: Box<dyn StepStrategy>, networks: Networks, update: &UpdateOptions) -> Result<Self> {
        let (parameters, buffers) = (networks.parameters(), networks.buffers());
        let optimizer = Optimizer::new(update, &parameters)?;
        let weights = Weights { parameters, buffers, optimizer };
        Ok(Engine { number: None, weights, strategy, arena: Arena::new()?, _switches: vec![], queued: 0 })
    }

    /// What the large tensors of a step are in, and an evaluation's may be.
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// How many steps were taken.
    pub(super) fn steps(&self) -> u64 {
        self.weights.optimizer.steps()
    }

    /// What takes the steps, as [`Trainer::kernel`](super::trainer::Trainer::kernel).
    pub(super) fn name(&self) -> &'static str {
        self.strategy.name()
    }

    /// How many steps were begun: those that were taken, and those that wait.
    pub(super) fn begun(&self) -> u64 {
        self.steps() + self.queued
    }

    /// Whether a step is work for the library's own threads alone, which can be one.
    pub(super) fn runs_on_one_thread(&self) -> bool {
        self.strategy.uses_own_threads()
    }

    /// Whether the losses of the latest `unread` steps, all that have not been read, are to be read before another one.
    pub(super) fn is_due(&self, unread: usize) -> bool {
        self.strategy.is_due(unread)
    }

    /// One step for `model`, the one that the engine was made for.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::OutOfMemory`](crate::Error::OutOfMemory),
    /// [`Error::Internal`](crate::Error::Internal) when libtorch fails.
    pub(super) fn step(&mut self, model: &Model, batch: &MiniBatch, learning_rate: f64) -> Result<StepLoss> {
        let _arena = self.arena.enter();
        let networks = self.networks(model)?;
        let loss = self.strategy.step(networks, &mut self.weights, batch, learning_rate)?;
        self.queued += u64::from(matches!(loss, StepLoss::Queued));
        Ok(loss)
    }

    /// The values of the losses of the latest steps for `model`, all that have not been read yet. A step whose loss is
    /// not finite has changed nothing, nor have those after it: none of them is counted.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) when libtorch fails.
    pub(super) fn read(&mut self, model: &Model, losses: &[StepLoss]) -> Result<Vec<f64>> {
        self.queued = 0;
        let networks = self.networks(model)?;
        self.strategy.read(networks, &mut self.weights, losses)
    }

    /// What of `model` the engine moves.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) for another model.
    pub(super) fn networks<'a>(&self, model: &'a Model) -> Result<Networks<'a>> {
        self.number.map_or(Ok(model.whole()), |number| model.network(number))
    }

    /// How many trainable values there are.
    pub(super) fn parameter_count(&self) -> usize {
        self.weights.parameters.iter().map(Tensor::numel).sum()
    }

    /// The values of `model` that the engine moves, side by side, for [`Engine::lend`].
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) unless it is a single multi-layer perceptron.
    pub(super) fn flat(&self, model: &Model) -> Result<Tensor> {
        Ok(self.networks(model)?.flat()?.shallow_clone())
    }

    /// The network, for steps that any thread may take. `flat` is what [`Engine::flat`] gave.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) unless [`Engine::runs_on_one_thread`].
    pub(super) fn lend<'a>(&'a mut self, flat: &'a mut Tensor) -> Result<Lent<'a>> {
        let lent = self.strategy.lend(flat, &mut self.weights)?;
        lent.ok_or_else(|| Error::Internal("the steps are not the library's own work".into()))
    }

    /// A copy of what steps change, and the number of steps. No step may be unread.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(super) fn keep(&mut self) -> Result<(Vec<Tensor>, u64)> {
        let copies = self.lists().iter().map(|list| Ok(list.f_detach_copy()?)).collect::<Result<_>>()?;
        Ok((copies, self.steps()))
    }

    /// Goes back to what [`Engine::keep`] kept.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) when libtorch fails.
    pub(super) fn put_back(&mut self, (copies, steps): &(Vec<Tensor>, u64)) -> Result<()> {
        let mut lists = self.lists();
        tch::no_grad(|| lists.iter_mut().zip(copies).try_for_each(|(list, copy)| list.f_copy_(copy)))?;
        self.weights.optimizer.set_steps(*steps);
        self.queued = 0;
        self.strategy.clear(&self.weights)
    }

    /// All that steps change.
    fn lists(&mut self) -> Vec<Tensor> {
        let Weights { parameters, buffers, optimizer } = &mut self.weights;
        let kept = optimizer.state().iter().map(|list| &list.all);
        parameters.iter().chain(buffers.iter()).chain(kept).map(Tensor::shallow_clone).collect()
    }

    /// Forgets what belongs to the data of earlier steps.
    pub(super) fn forget_data(&mut self) -> Result<()> {
        self.strategy.clear(&self.weights)
    }

    /// Adds the optimiser's state to `archive`.
    pub(super) fn store(&self, archive: &mut Archive) -> Result<()> {
        self.weights.optimizer.store(archive)
    }

    /// Takes the optimiser's state from `archive`, `steps` steps on.
    pub(super) fn restore(&mut self, archive: &Archive, steps: u64) -> Result<()> {
        self.weights.optimizer = self.weights.optimizer.restored(archive, steps)?;
        self.queued = 0;
        self.strategy.clear(&self.weights)
    }
}
