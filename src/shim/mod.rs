//! The safe side of `shim.cpp`: what libtorch has and tch does not bind.

pub(crate) mod cuda;
mod pool;
pub(crate) mod step;

use crate::{Error, Result};
pub(crate) use pool::Pool;
use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use tch::{Device, TchError, Tensor};

/// An `at::Tensor`, only ever behind a pointer.
#[repr(C)]
struct AtTensor {
    _private: [u8; 0],
}

/// A `c10::InferenceMode`, only ever behind a pointer.
#[repr(C)]
struct InferenceMode {
    _private: [u8; 0],
}

/// A thread's autocast for one type of device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct AutocastState {
    enabled: bool,
    cached: bool,
    /// An `at::ScalarType`.
    dtype: i8,
}

unsafe extern "C" {
    fn biv_shim_fused_adam(
        parameters: *const *const AtTensor,
        gradients: *const *const AtTensor,
        means: *const *const AtTensor,
        squares: *const *const AtTensor,
        steps: *const *const AtTensor,
        count: usize,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
    ) -> *mut c_char;
    fn biv_shim_autocast_set(cuda: bool, enabled: bool, before: *mut AutocastState) -> *mut c_char;
    fn biv_shim_autocast_restore(cuda: bool, before: *const AutocastState) -> *mut c_char;
    fn biv_shim_ordinary_mode_enter() -> *mut InferenceMode;
    fn biv_shim_ordinary_mode_leave(mode: *mut InferenceMode);
    fn biv_shim_memory(tensor: *const AtTensor, start: *mut *mut f32, count: *mut usize) -> bool;
    fn biv_shim_load_cuda() -> *mut c_char;
    fn biv_shim_blas() -> *mut c_char;
    fn biv_shim_intel() -> bool;
    fn biv_shim_torch_version() -> *const c_char;
}

/// What one fused Adam step works on: five lists of equal length.
pub(crate) struct AdamTensors<'a> {
    pub parameters: &'a [Tensor],
    pub gradients: &'a [Tensor],
    pub means: &'a [Tensor],
    pub squares: &'a [Tensor],
    pub steps: &'a [Tensor],
}

/// The numbers of an Adam step.
pub(crate) struct AdamNumbers {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub epsilon: f64,
}

/// One step of Adam in place, by libtorch's fused kernel.
pub(crate) fn fused_adam(tensors: &AdamTensors, numbers: &AdamNumbers) -> Result<()> {
    let lists = [tensors.parameters, tensors.gradients, tensors.means, tensors.squares, tensors.steps];
    let count = tensors.parameters.len();
    if lists.iter().any(|list| list.len() != count) {
        return Err(Error::Internal("Adam's lists of tensors differ in length".into()));
    }
    let lists = lists.map(|list| list.iter().map(|tensor| tensor.as_ptr().cast()).collect::<Vec<_>>());
    // SAFETY: every list holds `count` pointers to tensors that are borrowed for the call.
    torch(unsafe {
        biv_shim_fused_adam(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            lists[2].as_ptr(),
            lists[3].as_ptr(),
            lists[4].as_ptr(),
            count,
            numbers.learning_rate,
            numbers.beta1,
            numbers.beta2,
            numbers.weight_decay,
            numbers.epsilon,
        )
    })
}

/// The values of a contiguous f32 tensor in the host's memory, row-major.
///
/// Whoever changes a model's tensors holds that model's lock, and so does whoever reads them here.
pub(crate) fn values(tensor: &Tensor) -> Result<&[f32]> {
    let (start, count) = memory(tensor)?;
    // SAFETY: the tensor, borrowed for as long as the slice, keeps its memory alive: `count` values from
    // `start` on. No tensor is written to while it is read, by the rule above.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// As [`values`], to be changed. The tensors share no memory.
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
    match unsafe { biv_shim_memory(tensor.as_ptr().cast(), &mut start, &mut count) } {
        false => Err(Error::Internal(format!("{tensor:?} is not a plain array"))),
        true if count == 0 => Ok((std::ptr::dangling_mut(), 0)),
        true => Ok((start, count)),
    }
}

/// While it lives, this thread's autocast is bfloat16 or off, whatever the host
/// has set; then it is as before.
#[derive(Debug)]
pub(crate) struct Autocast {
    cuda: bool,
    before: AutocastState,
    /// It belongs to the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl Autocast {
    /// For operations on `device`.
    pub(crate) fn new(device: Device, enabled: bool) -> Result<Self> {
        let cuda = device.is_cuda();
        let mut before = AutocastState::default();
        // SAFETY: `before` is a place for the state, and lives through the call.
        message(unsafe { biv_shim_autocast_set(cuda, enabled, &mut before) }).map_err(Error::Internal)?;
        Ok(Autocast { cuda, before, _not_send: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: `before` is a state that the shim wrote.
        let restored = message(unsafe { biv_shim_autocast_restore(self.cuda, &self.before) });
        debug_assert_eq!(restored, Ok(()), "libtorch takes back the state that it gave");
    }
}

/// While it lives, this thread is in libtorch's ordinary mode: tensors that are made can be trained, even where the
/// host is in its inference mode. Then it is as before.
pub(crate) struct OrdinaryMode(*mut InferenceMode);

impl OrdinaryMode {
    pub(crate) fn new() -> Self {
        // SAFETY: the function takes nothing and may be called at any time.
        OrdinaryMode(unsafe { biv_shim_ordinary_mode_enter() })
    }
}

impl Drop for OrdinaryMode {
    fn drop(&mut self) {
        // SAFETY: the shim gave the pointer, on this thread as it is not `Send`, and takes NULL too.
        unsafe { biv_shim_ordinary_mode_leave(self.0) };
    }
}

/// Loads libtorch's CUDA libraries into the process, once per call that finds them missing.
pub(crate) fn load_cuda() -> Result<()> {
    // SAFETY: the function takes nothing and may be called at any time.
    message(unsafe { biv_shim_load_cuda() }).map_err(Error::Device)
}

/// The file name of the library that multiplies matrices for libtorch: its own,
/// unless a BLAS of the host's hides it. `None` where that cannot be told.
pub(crate) fn blas() -> Option<String> {
    // SAFETY: the function takes nothing and may be called at any time.
    let path = take(unsafe { biv_shim_blas() })?;
    Some(path.rsplit('/').next().unwrap_or_default().to_string())
}

/// Asks the system for large pages where `memory` has not been touched: its first use is faster then.
pub(crate) fn prefer_large_pages(memory: &mut [u8]) {
    const PAGE: usize = 2 << 20;
    let start = memory.as_ptr().align_offset(PAGE).min(memory.len());
    let pages = &mut memory[start..];
    // SAFETY: whole pages of memory that is borrowed; the advice changes none of their values, and may be refused.
    unsafe { libc::madvise(pages.as_mut_ptr().cast(), pages.len() / PAGE * PAGE, libc::MADV_HUGEPAGE) };
}

/// Whether libtorch's products of large matrices come near the processor's limit: those of MKL do on Intel's.
pub(crate) fn has_fast_products() -> bool {
    // SAFETY: the function takes nothing and may be called at any time.
    unsafe { biv_shim_intel() }
}

/// The version of the libtorch that was compiled against.
pub(crate) fn torch_version() -> &'static str {
    // SAFETY: the function returns a string literal.
    unsafe { CStr::from_ptr(biv_shim_torch_version()) }.to_str().unwrap_or_default()
}

/// What libtorch said, as an error of the kind that it is.
fn torch(text: *mut c_char) -> Result<()> {
    message(text).map_err(|text| Error::from(TchError::Torch(text)))
}

/// Takes a message of the shim's, NULL meaning success.
fn message(text: *mut c_char) -> std::result::Result<(), String> {
    take(text).map_or(Ok(()), Err)
}

/// Takes a text of the shim's.
fn take(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the shim returns NULL or a NUL-terminated string from strdup, which is ours to free.
    unsafe {
        let owned = CStr::from_ptr(text).to_string_lossy().into_owned();
        libc::free(text.cast());
        Some(owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// The kind in which this thread multiplies matrices at present.
    fn kind_of_product() -> Kind {
        let ones = Tensor::f_ones([2, 2], (Kind::Float, Device::Cpu)).unwrap();
        ones.f_matmul(&ones).unwrap().kind()
    }

    #[test]
    fn autocast_leaves_the_threads_state_as_it_was() {
        let outer = Autocast::new(Device::Cpu, true).unwrap();
        assert_eq!(kind_of_product(), Kind::BFloat16);
        {
            let inner = Autocast::new(Device::Cpu, false).unwrap();
            assert_eq!((inner.before.enabled, inner.before.cached), (true, false));
            assert_eq!(kind_of_product(), Kind::Float, "a host's autocast is switched off");
        }
        assert_eq!(kind_of_product(), Kind::BFloat16);
        assert_eq!(std::thread::spawn(kind_of_product).join().unwrap(), Kind::Float, "other threads are not touched");
        let before = outer.before;
        drop(outer);
        assert_eq!(kind_of_product(), Kind::Float);
        let panicked = std::panic::catch_unwind(|| {
            let _autocast = Autocast::new(Device::Cpu, true).unwrap();
            panic!("within a forward pass");
        });
        assert!(panicked.is_err());
        assert_eq!(kind_of_product(), Kind::Float);
        assert_eq!(Autocast::new(Device::Cpu, false).unwrap().before, before);
    }
}
