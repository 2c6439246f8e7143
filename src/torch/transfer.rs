//! Copies between the host's memory and arrays in a device's that are no tensors of libtorch's.

use super::ffi::torch;
use crate::Result;
use std::ffi::{c_char, c_int, c_void};
use tch::Device;

unsafe extern "C" {
    fn biv_torch_transfer(
        start: *mut c_void,
        device: c_int,
        size: usize,
        shape: *const i64,
        strides: *const i64,
        rank: usize,
        dense: *mut c_void,
        to_device: bool,
        wait: bool,
    ) -> *mut c_char;
}

/// An array in a device's memory.
#[derive(Debug)]
pub(crate) struct DeviceArray {
    /// Its lowest element.
    pub start: *mut c_void,
    pub device: Device,
    /// Of an element, in bytes: 1, 2, 4 or 8.
    pub size: usize,
    pub shape: Vec<i64>,
    /// In elements, none of them negative.
    pub strides: Vec<i64>,
}

impl DeviceArray {
    /// Copies the elements to `dense`, in C order. Where `wait`, all work that the device has been given is done first.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) where libtorch refuses, as for memory of another device;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    ///
    /// # Safety
    /// The elements are there and nothing writes to them, and `dense` has room for them.
    pub unsafe fn read(&self, dense: &mut [u64], wait: bool) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.transfer(dense, false, wait) }
    }

    /// Copies `dense`, in C order, to the elements, when all work is done that the device has been given.
    ///
    /// # Errors
    /// As [`DeviceArray::read`].
    ///
    /// # Safety
    /// The elements are there, no two of them in one place, nothing else uses them, and `dense` has as many.
    pub unsafe fn write(&self, dense: &mut [u64]) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.transfer(dense, true, true) }
    }

    /// # Safety
    /// As [`DeviceArray::read`], or as [`DeviceArray::write`].
    unsafe fn transfer(&self, dense: &mut [u64], to_device: bool, wait: bool) -> Result<()> {
        let device = if let Device::Cuda(number) = self.device { number as c_int } else { -1 };
        let (shape, strides, dense) = (self.shape.as_ptr(), self.strides.as_ptr(), dense.as_mut_ptr().cast());
        let rank = self.shape.len();
        // SAFETY: the lists have `rank` numbers each; the rest is the caller's promise.
        torch(unsafe {
            biv_torch_transfer(self.start, device, self.size, shape, strides, rank, dense, to_device, wait)
        })
    }
}
