//! The values of tensors: as slices, as copies, and uploaded to a device.

use super::ffi::{AtTensor, pointer, torch};
use crate::base::memory::reserve;
use crate::{Error, Result};
use std::ffi::c_char;
use tch::{Device, Kind, Tensor};

unsafe extern "C" {
    fn biv_torch_memory(tensor: *const AtTensor, start: *mut *mut f32, count: *mut usize) -> bool;
    fn biv_torch_upload(target: *mut AtTensor, source: *const AtTensor) -> *mut c_char;
}

/// The values of a contiguous f32 tensor in the host's memory, row-major.
///
/// Code that changes a model's tensors or reads them here must hold that model's lock.
pub(crate) fn values(tensor: &Tensor) -> Result<&[f32]> {
    let (start, count) = memory(tensor)?;
    // SAFETY: the tensor, borrowed for as long as the slice, keeps its memory alive: `count` values from
    // `start` on. No tensor is written to while it is read, by the rule above.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// As [`values`], for writing. The tensors must not share memory.
pub(crate) fn values_mut<'a>(tensors: impl Iterator<Item = &'a mut Tensor>) -> Result<Vec<&'a mut [f32]>> {
    let places = tensors.map(|tensor| memory(tensor)).collect::<Result<Vec<_>>>()?;
    for (index, (start, count)) in places.iter().enumerate() {
        let overlaps = |(other, length): &(*mut f32, usize)| {
            *start < other.wrapping_add(*length) && *other < start.wrapping_add(*count)
        };
        if places[..index].iter().any(overlaps) {
            return Err(Error::Internal("two tensors of a list share memory".into()));
        }
    }
    // SAFETY: as in `values`; the tensors are borrowed for changing, and their memory does not overlap.
    Ok(places.into_iter().map(|(start, count)| unsafe { std::slice::from_raw_parts_mut(start, count) }).collect())
}

/// Where the values of a contiguous f32 tensor in the host's memory are, and how many.
fn memory(tensor: &Tensor) -> Result<(*mut f32, usize)> {
    let (mut start, mut count) = (std::ptr::null_mut::<f32>(), 0);
    // SAFETY: the tensor lives; the function writes to the two places.
    match unsafe { biv_torch_memory(tensor.as_ptr().cast(), &mut start, &mut count) } {
        false => Err(Error::Internal(format!("{tensor:?} is not a plain array"))),
        true if count == 0 => Ok((std::ptr::dangling_mut(), 0)),
        true => Ok((start, count)),
    }
}

/// Copies `source`, in the host's memory, into `target` without waiting for its device.
pub(crate) fn upload(target: &mut Tensor, source: &Tensor) -> Result<()> {
    // SAFETY: both are borrowed for the call, and what is read after it is a copy that C++ made.
    torch(unsafe { biv_torch_upload(target.as_mut_ptr().cast(), pointer(source)) })
}

/// A tensor's values in the host's memory, row-major.
pub(crate) fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let host = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = reserve(host.numel())?;
    values.resize(host.numel(), 0.0);
    host.f_copy_data(&mut values, host.numel())?;
    Ok(values)
}

/// The same images in the channels-last format: each pixel's channels are side by side in memory. Layers keep it.
pub(crate) fn channels_last(images: &Tensor) -> Result<Tensor> {
    Ok(images.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}
