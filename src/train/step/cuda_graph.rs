//! Whole steps as CUDA graphs: recorded once, then each is three calls.

use super::{MiniBatch, Selection};
use crate::Result;
use crate::kernels::cuda::Graph;
use tch::{Device, Tensor};

/// Steps on mini-batches alike before one is recorded: libtorch allocates and chooses in the first.
const WARM_UP: usize = 3;

/// What steps have in common that one recording does for: the data, the weights' memory, the number of rows.
#[derive(Debug)]
struct Likeness {
    /// They are held, so that no others come to have their addresses.
    labels: Tensor,
    weight: Tensor,
    rows: usize,
}

impl Likeness {
    fn new(batch: &MiniBatch, parameters: &[Tensor]) -> Result<Self> {
        Ok(Likeness { labels: batch.labels.f_detach()?, weight: parameters[0].f_detach()?, rows: batch.rows.len() })
    }

    fn is_of(&self, batch: &MiniBatch, parameters: &[Tensor]) -> bool {
        self.labels.data_ptr() == batch.labels.data_ptr()
            && self.weight.data_ptr() == parameters[0].data_ptr()
            && self.rows == batch.rows.len()
    }
}

/// Records a step and repeats it on other mini-batches of the same data.
#[derive(Debug)]
pub(super) struct Recorder {
    device: Device,
    /// Of the latest mini-batches, and how many there were.
    latest: Option<(Likeness, usize)>,
    recorded: Option<Recorded>,
}

/// A step that was recorded.
#[derive(Debug)]
struct Recorded {
    likeness: Likeness,
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
    pub(super) fn new(device: Device) -> Result<Self> {
        Graph::require()?;
        Ok(Recorder { device, latest: None, recorded: None })
    }

    /// The step on `batch`, where it was recorded. Returns its loss.
    pub(super) fn replay(&mut self, batch: &MiniBatch, parameters: &[Tensor]) -> Result<Option<Tensor>> {
        match self.recorded.as_mut().filter(|recorded| recorded.likeness.is_of(batch, parameters)) {
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
    pub(super) fn is_due(&mut self, batch: &MiniBatch, parameters: &[Tensor]) -> Result<bool> {
        if self.recorded.is_some() {
            return Ok(false);
        }
        let (likeness, alike) = match self.latest.take() {
            Some((likeness, count)) if likeness.is_of(batch, parameters) => (likeness, count + 1),
            _ => (Likeness::new(batch, parameters)?, 0),
        };
        self.latest = Some((likeness, alike));
        Ok(alike >= WARM_UP)
    }

    /// Records `step` on `batch`, without taking it.
    pub(super) fn record(
        &mut self,
        batch: &MiniBatch,
        parameters: &[Tensor],
        step: impl FnOnce(&Selection) -> Result<Tensor>,
    ) -> Result<()> {
        let selection = Selection::new(batch, self.device)?;
        let (graph, loss) = Graph::record(self.device, || step(&selection))?;
        self.latest = None;
        self.recorded = Some(Recorded { likeness: Likeness::new(batch, parameters)?, selection, loss, graph });
        Ok(())
    }

    /// Forgets what was recorded.
    pub(super) fn clear(&mut self) {
        (self.latest, self.recorded) = (None, None);
    }
}
