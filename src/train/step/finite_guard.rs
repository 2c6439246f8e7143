//! Steps that the host does not wait for: the device itself decides whether they count.

use crate::Result;
use crate::train::adam::Adam;
use tch::{Device, Kind, Tensor};

/// What such steps keep on the device, all f32 scalars.
#[derive(Debug)]
pub(super) struct Guard {
    /// 1 from the first loss on that is not finite, until [`Guard::reset`]: steps change nothing then.
    failed: Tensor,
    /// How many steps counted.
    steps: Tensor,
    learning_rate: Tensor,
    /// The same in the host's memory.
    host_learning_rate: f64,
}

impl Guard {
    pub(super) fn new(device: Device) -> Result<Self> {
        let zero = || Tensor::f_zeros([], (Kind::Float, device));
        Ok(Guard { failed: zero()?, steps: zero()?, learning_rate: zero()?, host_learning_rate: 0.0 })
    }

    pub(super) fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        if learning_rate != self.host_learning_rate {
            let _ = self.learning_rate.f_fill_(learning_rate)?;
            self.host_learning_rate = learning_rate;
        }
        Ok(())
    }

    /// Moves the parameters against the gradients of `loss`. Where that is not finite, nothing moves, and the
    /// buffers become what they were before.
    pub(super) fn step(
        &mut self,
        optimizer: &mut Adam,
        [parameters, gradients]: [&[Tensor]; 2],
        [buffers, before]: [&[Tensor]; 2],
        loss: &Tensor,
    ) -> Result<()> {
        tch::no_grad(|| {
            let finite = loss.f_isfinite()?;
            let _ = self.failed.f_logical_or_(&finite.f_logical_not()?)?;
            let _ = self.steps.f_add_(&self.failed.f_rsub_scalar(1.0)?)?;
            let failed = self.failed.f_ne(0.0)?;
            for (buffer, before) in buffers.iter().zip(before) {
                let _ = before.f_where_self_out(buffer, &failed, buffer)?;
            }
            optimizer.guarded_step(parameters, gradients, &self.steps, &self.learning_rate, &self.failed)
        })
    }

    /// Lets steps count again, the next one being number `steps + 1`.
    pub(super) fn reset(&mut self, steps: u64) -> Result<()> {
        let _ = self.failed.f_zero_()?;
        let _ = self.steps.f_fill_(steps as f64)?;
        Ok(())
    }
}
