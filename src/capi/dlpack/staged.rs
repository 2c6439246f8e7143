//! Tensors in a GPU's memory: their elements are copied to the host's, or from there.

use super::super::array::{biv_array, layout};
use super::{CPU, DLDataType, DLDevice, DLTensor, described, unknown_type};
use crate::Result;
use crate::base::memory::filled;
use crate::data::array::Layout;
use crate::torch::transfer::DeviceArray;
use std::ffi::c_void;
use tch::Device;

/// Room in the host's memory for a tensor's elements, each of them once.
pub(super) struct Staged {
    /// In C order, those that an index with a negative stride counts last first.
    pub elements: Vec<u64>,
    /// How the tensor lies there.
    shape: Vec<i64>,
    strides: Vec<i64>,
    byte_offset: usize,
    dtype: DLDataType,
    there: DeviceArray,
}

impl Staged {
    /// Room for the elements of `tensor`, whose memory is that of `device`. Nothing is copied yet.
    ///
    /// # Errors
    /// For everything that is wrong with the tensor but its device; [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    ///
    /// # Safety
    /// The tensor follows dlpack.h.
    pub unsafe fn new(tensor: &DLTensor, name: &str, device: Device) -> Result<Self> {
        let (array, dtype) = (described(tensor, name)?, tensor.dtype);
        // SAFETY: the caller's promise: sizes and strides are there.
        let (layout, start) = unsafe {
            match dtype.bits {
                8 => lowest::<u8>(&array, name)?,
                16 => lowest::<u16>(&array, name)?,
                32 => lowest::<u32>(&array, name)?,
                64 => lowest::<u64>(&array, name)?,
                _ => return Err(unknown_type(name, dtype, "of 8, 16, 32 or 64 bits")),
            }
        };
        let size = usize::from(dtype.bits) / 8;
        // What an index without a stride counts is one element.
        let axes = || layout.shape().iter().zip(layout.strides());
        let sizes: Vec<usize> = axes().map(|(&size, &stride)| if stride == 0 { 1 } else { size }).collect();
        let (mut strides, mut origin, mut count) = (vec![0; sizes.len()], 0, 1);
        for (axis, &stride) in layout.strides().iter().enumerate().rev().filter(|&(_, &stride)| stride != 0) {
            strides[axis] = stride.signum() as i64 * count as i64;
            origin += if stride < 0 { (sizes[axis] - 1) * count } else { 0 };
            count *= sizes[axis];
        }
        let count = if layout.extent() == 0 { 0 } else { count };
        Ok(Staged {
            elements: filled((count * size).div_ceil(size_of::<u64>()), 0)?,
            shape: layout.shape().iter().map(|&size| size as i64).collect(),
            strides,
            byte_offset: origin * size,
            dtype,
            there: DeviceArray {
                start,
                device,
                size,
                shape: sizes.iter().map(|&size| size as i64).collect(),
                strides: layout.strides().iter().map(|stride| stride.unsigned_abs() as i64).collect(),
            },
        })
    }

    /// The tensor, with its elements in the room. It is valid as long as these are where they are.
    pub fn tensor(&mut self) -> DLTensor {
        DLTensor {
            data: self.elements.as_mut_ptr().cast(),
            device: DLDevice { device_type: CPU, device_id: 0 },
            ndim: self.shape.len() as i32,
            dtype: self.dtype,
            shape: self.shape.as_mut_ptr(),
            strides: self.strides.as_mut_ptr(),
            byte_offset: self.byte_offset as u64,
        }
    }

    /// Copies the tensor's elements into the room. Where `wait`, all work that the device has been given is done first.
    ///
    /// # Safety
    /// The tensor's elements are there, on its device, and nothing writes to them.
    pub unsafe fn fetch(&mut self, wait: bool) -> Result<()> {
        // SAFETY: the caller's promise, and the room was made for them.
        if self.elements.is_empty() { Ok(()) } else { unsafe { self.there.read(&mut self.elements, wait) } }
    }

    /// Copies what is in the room to the tensor's elements.
    ///
    /// # Safety
    /// As [`Staged::fetch`]; no two of the elements are in one place, and nothing else uses them.
    pub unsafe fn send(&mut self) -> Result<()> {
        // SAFETY: as above.
        if self.elements.is_empty() { Ok(()) } else { unsafe { self.there.write(&mut self.elements) } }
    }
}

/// Where the elements lie, of type `T`, and the lowest of them.
///
/// # Safety
/// As [`layout`].
unsafe fn lowest<T>(array: &biv_array, name: &str) -> Result<(Layout, *mut c_void)> {
    // SAFETY: the caller's promise.
    let (layout, lowest) = unsafe { layout::<T>(array, name)? };
    Ok((layout, lowest.cast_mut().cast()))
}
