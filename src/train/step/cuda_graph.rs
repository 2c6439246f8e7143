//! Whole steps as CUDA graphs: recorded once, then each is three calls.

use super::deferred::Deferred;
use super::inputs::Selection;
use super::{MiniBatch, StepLoss, StepStrategy, Weights};
use crate::Result;
use crate::kernels::cuda::Graph;
use crate::model::Networks;
use tch::{Device, Tensor};

/// Steps on mini-batches alike before one is recorded: libtorch allocates and chooses in the first.
const WARM_UP: usize = 3;

/// What steps have in common that one recording does for: the data, the weights' memory, the number of rows.
#[derive(Debug)]
struct GraphKey {
    /// They are held, so that no others come to have their addresses.
    labels: Tensor,
    weight: Tensor,
    rows: usize,
}

impl GraphKey {
    fn new(batch: &MiniBatch, parameters: &[Tensor]) -> Result<Self> {
        Ok(GraphKey { labels: batch.labels.f_detach()?, weight: parameters[0].f_detach()?, rows: batch.rows.len() })
    }

    fn is_of(&self, batch: &MiniBatch, parameters: &[Tensor]) -> bool {
        self.labels.data_ptr() == batch.labels.data_ptr()
            && self.weight.data_ptr() == parameters[0].data_ptr()
            && self.rows == batch.rows.len()
    }
}

/// Deferred steps that are recorded when they have become alike, and repeated from then on.
#[derive(Debug)]
pub(super) struct CudaGraph {
    deferred: Deferred,
    recorder: Recorder,
}

impl CudaGraph {
    /// Records the steps of `deferred` on `device`.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) without the library that this needs.
    pub(super) fn new(deferred: Deferred, device: Device) -> Result<Self> {
        Ok(CudaGraph { deferred, recorder: Recorder::new(device)? })
    }
}

impl StepStrategy for CudaGraph {
    fn name(&self) -> &'static str {
        "graphs_gpu"
    }

    fn step(
        &mut self,
        networks: Networks,
        weights: &mut Weights,
        batch: &MiniBatch,
        learning_rate: f64,
    ) -> Result<StepLoss> {
        let CudaGraph { deferred, recorder } = self;
        deferred.take(weights, learning_rate, |deferred, weights| {
            if recorder.is_due(batch, &weights.parameters)? {
                // What a recording works on is its own.
                deferred.gradients.clear();
                let key = GraphKey::new(batch, &weights.parameters)?;
                let recorded =
                    recorder.record(batch, key, |selection| deferred.on_device(networks, weights, batch, selection));
                deferred.gradients.clear();
                recorded?;
            }
            match recorder.replay(batch, &weights.parameters)? {
                Some(loss) => Ok(loss),
                None => deferred.on_device(networks, weights, batch, &Selection::new(batch, networks.device())?),
            }
        })
    }

    fn is_due(&self, unread: usize) -> bool {
        self.deferred.is_due(unread)
    }

    fn read(&mut self, networks: Networks, weights: &mut Weights, losses: &[StepLoss]) -> Result<Vec<f64>> {
        self.deferred.read(networks, weights, losses)
    }

    fn clear(&mut self, weights: &Weights) -> Result<()> {
        self.recorder.clear();
        self.deferred.clear(weights)
    }
}

/// Records a step and repeats it on other mini-batches of the same data.
#[derive(Debug)]
struct Recorder {
    device: Device,
    /// Of the latest mini-batches, and how many there were.
    latest: Option<(GraphKey, usize)>,
    recorded: Option<Recorded>,
}

/// A step that was recorded.
#[derive(Debug)]
struct Recorded {
    key: GraphKey,
    /// What it reads: written to before each repetition.
    selection: Selection,
    /// Written by each repetition.
    loss: Tensor,
    graph: Graph,
}

impl Recorder {
    /// For steps on `device`.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) without the library that this needs.
    fn new(device: Device) -> Result<Self> {
        Graph::require()?;
        Ok(Recorder { device, latest: None, recorded: None })
    }

    /// The step on `batch`, where it was recorded. Returns its loss.
    fn replay(&mut self, batch: &MiniBatch, parameters: &[Tensor]) -> Result<Option<Tensor>> {
        match self.recorded.as_mut().filter(|recorded| recorded.key.is_of(batch, parameters)) {
            None => Ok(None),
            Some(recorded) => {
                recorded.selection.upload(batch)?;
                recorded.graph.replay()?;
                // The next repetition overwrites it.
                Ok(Some(recorded.loss.f_detach_copy()?))
            }
        }
    }

    /// Whether the step on `batch` is to be recorded: the first that so many steps were like.
    fn is_due(&mut self, batch: &MiniBatch, parameters: &[Tensor]) -> Result<bool> {
        if self.recorded.is_some() {
            return Ok(false);
        }
        let (key, alike) = match self.latest.take() {
            Some((key, count)) if key.is_of(batch, parameters) => (key, count + 1),
            _ => (GraphKey::new(batch, parameters)?, 0),
        };
        self.latest = Some((key, alike));
        Ok(alike >= WARM_UP)
    }

    /// Records `step` on `batch`, without taking it.
    fn record(
        &mut self,
        batch: &MiniBatch,
        key: GraphKey,
        step: impl FnOnce(&Selection) -> Result<Tensor>,
    ) -> Result<()> {
        let selection = Selection::new(batch, self.device)?;
        let (graph, loss) = Graph::record(self.device, || step(&selection))?;
        self.latest = None;
        self.recorded = Some(Recorded { key, selection, loss, graph });
        Ok(())
    }

    /// Forgets what was recorded.
    fn clear(&mut self) {
        (self.latest, self.recorded) = (None, None);
    }
}
