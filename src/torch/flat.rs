//! Tensors whose values are side by side in one tensor.

use crate::Result;
use tch::{Device, Kind, Tensor};

/// Some tensors that are parts of one.
#[derive(Debug)]
pub(crate) struct Flat {
    /// The values of all parts, in their order.
    pub all: Tensor,
    /// The parts, each in its own shape.
    pub parts: Vec<Tensor>,
}

impl Flat {
    /// Zeros in the shapes of `tensors`, which are f32 and on one device.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn zeros(tensors: &[Tensor]) -> Result<Self> {
        let counts = tensors.iter().map(|tensor| tensor.numel() as i64);
        let device = tensors.first().map_or(Device::Cpu, Tensor::device);
        let all = Tensor::f_zeros([counts.clone().sum::<i64>()], (Kind::Float, device))?;
        let mut start = 0;
        let parts = tensors.iter().zip(counts).map(|(tensor, count)| {
            start += count;
            Ok(all.f_narrow(0, start - count, count)?.f_view(tensor.size().as_slice())?)
        });
        let parts = parts.collect::<Result<_>>()?;
        Ok(Flat { all, parts })
    }

    /// Copies of `tensors`, which are f32 and on one device.
    ///
    /// # Errors
    /// As [`Flat::zeros`].
    pub fn copied(tensors: &[Tensor]) -> Result<Self> {
        let mut flat = Flat::zeros(tensors)?;
        for (part, tensor) in flat.parts.iter_mut().zip(tensors) {
            part.f_copy_(&tensor.f_detach()?)?;
        }
        Ok(flat)
    }
}
