//! Tensors by DLPack 1.x, as NumPy, PyTorch, CuPy and JAX hand them over: checked here before anything reads them.

use super::array::{Lender, biv_array, biv_array_out, elements, view_of};
use super::boundary::{boundary, without_locks};
use super::caller::in_host;
use super::dataset::biv_dataset;
use super::handle;
use super::model::{biv_model, predict};
use super::pointer;
use super::status::biv_status;
use crate::base::memory::collect;
use crate::data::array::{ArrayView, Elements};
use crate::data::{ArrayOptions, Dataset};
use crate::torch::device::cuda_device_count;
use crate::{Error, Result};
use half::{bf16, f16};
use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::Arc;
use tch::Device;

mod staged;

use staged::Staged;

/// Where a tensor's memory is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DLDevice {
    /// One of DLPack's numbers: 1 is the CPU.
    pub device_type: i32,
    /// Which of several.
    pub device_id: i32,
}

/// What an element is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DLDataType {
    /// One of DLPack's numbers: 2 is a float.
    pub code: u8,
    /// The size.
    pub bits: u8,
    /// How many numbers an element has.
    pub lanes: u16,
}

/// An array.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DLTensor {
    /// Where the memory begins.
    pub data: *mut c_void,
    /// What memory it is.
    pub device: DLDevice,
    /// The number of dimensions.
    pub ndim: i32,
    /// The elements' type.
    pub dtype: DLDataType,
    /// The size of each dimension.
    pub shape: *mut i64,
    /// The distance from one index to the next, in elements; NULL for C order.
    pub strides: *mut i64,
    /// How far from `data` the element is whose indices are all 0, in bytes.
    pub byte_offset: u64,
}

/// The version of DLPack that a struct follows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DLPackVersion {
    /// Another one has another layout.
    pub major: u32,
    /// A later one has more constants.
    pub minor: u32,
}

/// A tensor that changes its owner.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DLManagedTensorVersioned {
    /// What it follows.
    pub version: DLPackVersion,
    /// The producer's own.
    pub manager_ctx: *mut c_void,
    /// Frees the tensor and this struct; called by its last owner.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensorVersioned)>,
    /// Bits: 1 is read-only.
    pub flags: u64,
    /// The tensor.
    pub dl_tensor: DLTensor,
}

// The layout of dlpack.h. Up to the flags it is that of every version.
const _: () = {
    assert!(size_of::<DLTensor>() == 48 && size_of::<DLManagedTensorVersioned>() == 80);
    assert!(offset_of!(DLManagedTensorVersioned, deleter) == 16);
    assert!(offset_of!(DLManagedTensorVersioned, flags) == 24);
    assert!(offset_of!(DLManagedTensorVersioned, dl_tensor) == 32);
};

/// The version whose layout is known.
const MAJOR: u32 = 1;
/// The flag of memory that is not to be written to.
const READ_ONLY: u64 = 1;
/// The most dimensions that a tensor may have here.
const MAX_DIMENSIONS: i32 = 8;
/// Whole numbers up to this one are f64 numbers.
const EXACT: u64 = 1 << 53;

/// Makes a data set of tensors that another library hands over by DLPack 1.x (dlpack.h, `__dlpack__(max_version=(1,
/// 0))`): NumPy, PyTorch, CuPy, JAX and others.
///
/// Ownership. The tensors are the library's from the call on, whatever it returns. It calls the deleter of each once,
/// on any thread, when no data set and no trainer needs its memory any more. Hand over what no one else will delete:
/// from Python, rename the capsule to "used_dltensor_versioned" before the call.
///
/// Copies. Features of float32, and labels and variances of float64, in C order are used where they are: they must not
/// change until their deleter is called, and their values are checked during this call only. All others are copied, and
/// their deleters called before the call returns.
///
/// Types. Elements are float32 or float64; float16, bfloat16, integers and bool are converted. Features of uint8 in four
/// dimensions, [rows, channels, height, width], are images: each value is the byte divided by 255, and they stay bytes,
/// as in biv_dataset_create_from_images(). Strides may be anything, also 0 or negative; NULL stands for C order.
///
/// Devices. The memory is the CPU's, or pinned for a GPU (kDLCUDAHost, kDLROCMHost). Tensors on a CUDA device (kDLCUDA,
/// kDLCUDAManaged) are copied to the CPU's memory, where a data set's statistics and divisions are computed, and their
/// deleters are called before the call returns; a trainer on a GPU copies there what it needs. That takes a libtorch with
/// CUDA and the device itself; without them, and from other devices, copy tensors to the CPU.
///
/// @param features shape [rows, ...]: any number of dimensions, of which the first counts the rows.
/// @param labels shape [rows] or [rows, outputs], in any unit.
/// @param noise @param groups as for biv_dataset_create(); NULL for none.
/// @param stream the CUDA stream on which tensors on a GPU are written, as their producer was told it: before they are
///   copied, the library waits for all work of their device, that of every stream (NULL and DLPack's numbers 1 and 2
///   among them). (void *)-1 says that their values are there: it does not wait. It says nothing of tensors in the CPU's
///   memory.
/// @param options JSON, schema "arrays", as for biv_dataset_create(); NULL for the defaults.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return as biv_dataset_create_from_arrays(), and BIV_ERROR_INVALID_CONFIG, BIV_ERROR_UNSUPPORTED (memory of another
///   device, another major version of DLPack), BIV_ERROR_DEVICE (a copy from a GPU fails), BIV_ERROR_INVALID_ARGUMENT
///   (another type of elements, one tensor for two arguments, an integer beyond 2^53). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_from_dlpack(
    features: *mut DLManagedTensorVersioned,
    labels: *mut DLManagedTensorVersioned,
    noise: *mut DLManagedTensorVersioned,
    groups: *mut DLManagedTensorVersioned,
    stream: *mut c_void,
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    let [features, labels, noise, groups] =
        unsafe { take([(features, "features"), (labels, "labels"), (noise, "noise"), (groups, "groups")]) };
    // SAFETY: as above.
    boundary(move || unsafe {
        handle::create(out, || {
            let wait = stream.addr() != usize::MAX;
            let (features, labels) = (features.view(wait)?, labels.view(wait)?);
            let (noise, groups) = (noise.view_optional(wait)?, groups.view_optional(wait)?);
            let options: ArrayOptions = pointer::options(options, "arrays")?;
            Dataset::from_arrays_with(&features, &labels, noise.as_ref(), groups.as_ref(), &options).map(Arc::new)
        })
    })
}

/// As biv_model_predict(), with tensors by DLPack 1.x, of the types and devices that biv_dataset_create_from_dlpack()
/// takes.
///
/// Both tensors are the library's from the call on, and it calls the deleter of each once before it returns, whatever
/// it returns: a producer's array stays alive for its own owners.
///
/// @param features shape [rows, ...], as for biv_model_predict().
/// @param out is filled: float32 or float64, not read-only, different indices different elements, of shape [rows,
///   outputs], or [rows] for one output. On failure it is as it was. On a GPU, the library waits for the device before it
///   reads or writes, and what it writes is there when the call returns.
/// @return as biv_model_predict(); BIV_ERROR_UNSUPPORTED, BIV_ERROR_DEVICE and BIV_ERROR_INVALID_ARGUMENT as
///   biv_dataset_create_from_dlpack(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_model_predict_dlpack(
    model: *const biv_model,
    features: *mut DLManagedTensorVersioned,
    out: *mut DLManagedTensorVersioned,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    let [features, out] = unsafe { take([(features, "features"), (out, "out")]) };
    // SAFETY: as above.
    boundary(move || unsafe {
        let (features, (array, staged)) = (features.view(true)?, out.to_fill()?);
        predict(&handle::get(model)?.lock(), &features, &array)?;
        match staged {
            Some(mut staged) => staged.send().map_err(|error| not_copied(out.name, error)),
            None => Ok(()),
        }
    })
}

/// A tensor of the library's: dropped, its deleter is called.
struct Owned(NonNull<DLManagedTensorVersioned>);

// SAFETY: the tensor is only read, and DLPack's deleters may be called on any thread.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        let tensor = self.0.as_ptr();
        // SAFETY: the tensor was handed over and lives until its deleter is called, here and once. The deleter is at
        // the same place in every version.
        let deleter = unsafe { (&raw const (*tensor).deleter).read() };
        if let Some(deleter) = deleter {
            // SAFETY: as above.
            without_locks(move || in_host(|| unsafe { deleter(tensor) }));
        }
    }
}

/// One argument of a call.
struct Given {
    name: &'static str,
    tensor: Result<Option<Arc<Owned>>>,
}

/// Takes the tensors of a call over, each once: dropped, those that nobody keeps are deleted.
///
/// # Safety
/// Each is NULL or a tensor whose ownership passes to the library.
unsafe fn take<const N: usize>(given: [(*mut DLManagedTensorVersioned, &'static str); N]) -> [Given; N] {
    std::array::from_fn(|at| {
        let (tensor, name) = given[at];
        let before = given[..at].iter().find(|(other, _)| *other == tensor);
        let tensor = match (NonNull::new(tensor), before) {
            (None, _) => Ok(None),
            (Some(tensor), _) if !tensor.is_aligned() => {
                Err(Error::InvalidArgument(format!("{name} is not aligned to {} bytes", align_of::<DLTensor>())))
            }
            (Some(_), Some((_, first))) => {
                Err(Error::InvalidArgument(format!("{name} is the same tensor as {first}, each is handed over once")))
            }
            (Some(tensor), None) => Ok(Some(Arc::new(Owned(tensor)))),
        };
        Given { name, tensor }
    })
}

impl Given {
    /// The tensor's values. For those on a GPU it waits for all work of that, if `wait`.
    ///
    /// # Safety
    /// The tensor, if any, follows dlpack.h.
    unsafe fn view(&self, wait: bool) -> Result<ArrayView<'_>> {
        // SAFETY: the caller's promise.
        let view = unsafe { self.view_optional(wait)? };
        view.ok_or_else(|| Error::InvalidArgument(format!("{} is NULL", self.name)))
    }

    /// The same; none for NULL.
    ///
    /// # Safety
    /// As [`Given::view`].
    unsafe fn view_optional(&self, wait: bool) -> Result<Option<ArrayView<'_>>> {
        // SAFETY: the caller's promise; the tensor lives as long as its owner.
        unsafe {
            let Some(owned) = self.tensor()? else { return Ok(None) };
            let (tensor, lender): (_, Lender) = (&owned.0.as_ref().dl_tensor, owned.clone());
            let view = match device_of(tensor, self.name)? {
                Device::Cpu => values(tensor, self.name, &lender),
                device => copied(tensor, self.name, device, wait),
            };
            view.map(Some)
        }
    }

    /// The tensor as an array to be filled. Where it is on a GPU, that is room to be sent there.
    ///
    /// # Safety
    /// As [`Given::view`].
    unsafe fn to_fill(&self) -> Result<(biv_array_out, Option<Staged>)> {
        let name = self.name;
        // SAFETY: the caller's promise.
        let tensor = unsafe { self.tensor()?.map(|owned| owned.0.as_ref()) };
        let tensor = tensor.ok_or_else(|| Error::InvalidArgument(format!("{name} is NULL")))?;
        if tensor.flags & READ_ONLY != 0 {
            return Err(Error::InvalidArgument(format!("{name} is read-only")));
        }
        let mut staged = match device_of(&tensor.dl_tensor, name)? {
            Device::Cpu => None,
            // SAFETY: the caller's promise.
            device => Some(unsafe { Staged::new(&tensor.dl_tensor, name, device)? }),
        };
        let there = staged.as_mut().map_or(tensor.dl_tensor, Staged::tensor);
        let biv_array { data, dtype, rank, shape, strides, size } = described(&there, name)?;
        if dtype == 0 {
            return Err(unknown_type(name, tensor.dl_tensor.dtype, "float32 or float64"));
        }
        Ok((biv_array_out { data: data.cast_mut(), dtype, rank, shape, strides, size }, staged))
    }

    /// The tensor, of the version that is known.
    ///
    /// # Safety
    /// As [`Given::view`].
    unsafe fn tensor(&self) -> Result<Option<&Arc<Owned>>> {
        let name = self.name;
        let tensor = match &self.tensor {
            Ok(None) => return Ok(None),
            Ok(Some(owned)) => owned,
            Err(error) => return Err(Error::InvalidArgument(error.to_string())),
        };
        // SAFETY: the caller's promise; every version begins with its number.
        let DLPackVersion { major, minor } = unsafe { (&raw const (*tensor.0.as_ptr()).version).read() };
        if major != MAJOR {
            return Err(Error::Unsupported(format!(
                "{name} is of DLPack {major}.{minor}, must be of {MAJOR}.x: ask its producer for max_version ({MAJOR}, 0)"
            )));
        }
        Ok(Some(tensor))
    }
}

const CPU: i32 = 1;
const CUDA: i32 = 2;
const CUDA_HOST: i32 = 3;
const ROCM: i32 = 10;
const ROCM_HOST: i32 = 11;
const CUDA_MANAGED: i32 = 13;

/// Whose memory the tensor's is: the host's, or that of a CUDA device that is there.
fn device_of(tensor: &DLTensor, name: &str) -> Result<Device> {
    let DLDevice { device_type, device_id } = tensor.device;
    let place = match device_type {
        CPU | CUDA_HOST | ROCM_HOST => return Ok(Device::Cpu),
        CUDA | CUDA_MANAGED => match usize::try_from(device_id) {
            Ok(number) if number < cuda_device_count() => return Ok(Device::Cuda(number)),
            _ if device_type == CUDA => "a CUDA device",
            _ => "memory that CUDA manages",
        },
        ROCM => "a ROCm device",
        _ => "another device",
    };
    Err(Error::Unsupported(format!(
        "{name} is on {place} (device_type {device_type}, device_id {device_id}): copy it to the CPU first"
    )))
}

/// A tensor as an array of the library's: its dtype is 0 where that has no number for it.
fn described(tensor: &DLTensor, name: &str) -> Result<biv_array> {
    let DLTensor { data, ndim, dtype, shape, strides, byte_offset, .. } = *tensor;
    if !(1..=MAX_DIMENSIONS).contains(&ndim) {
        return Err(Error::Shape(format!("{name}.ndim is {ndim}, must be 1 to {MAX_DIMENSIONS}")));
    }
    let beyond = || Error::InvalidArgument(format!("{name}.byte_offset is {byte_offset}, which exceeds memory"));
    let offset = usize::try_from(byte_offset).map_err(|_| beyond())?;
    data.addr().checked_add(offset).filter(|&end| end <= isize::MAX as usize).ok_or_else(beyond)?;
    let data = if data.is_null() { data } else { data.wrapping_byte_add(offset) };
    let dtype = match dtype {
        DLDataType { code: FLOAT, bits: 32, lanes: 1 } => super::BIV_F32,
        DLDataType { code: FLOAT, bits: 64, lanes: 1 } => super::BIV_F64,
        _ => 0,
    };
    Ok(biv_array { data, dtype, rank: ndim, shape, strides, size: 0 })
}

const INT: u8 = 0;
const UINT: u8 = 1;
const FLOAT: u8 = 2;
const BFLOAT: u8 = 4;
const BOOL: u8 = 6;

fn unknown_type(name: &str, dtype: DLDataType, allowed: &str) -> Error {
    let DLDataType { code, bits, lanes } = dtype;
    Error::InvalidArgument(format!(
        "{name} has elements of type code {code}, {bits} bits, {lanes} lanes, must be {allowed}"
    ))
}

/// The values of a tensor on `device`, which are copied. Where `wait`, all work of the device is done first.
///
/// # Safety
/// The tensor follows dlpack.h, and its values are there.
unsafe fn copied(tensor: &DLTensor, name: &str, device: Device, wait: bool) -> Result<ArrayView<'static>> {
    // SAFETY: the caller's promise.
    unsafe {
        let mut staged = Staged::new(tensor, name, device)?;
        staged.fetch(wait).map_err(|error| not_copied(name, error))?;
        let tensor = staged.tensor();
        let lender: Lender = Arc::new(staged.elements);
        values(&tensor, name, &lender)
    }
}

fn not_copied(name: &str, error: Error) -> Error {
    match error {
        Error::Internal(cause) => {
            Error::Device(format!("{name} cannot be copied between its device and the CPU: {cause}"))
        }
        other => other,
    }
}

/// The values of a tensor that `lender` lends.
///
/// # Safety
/// It follows dlpack.h, and its values are there and do not change, as long as the lender lives.
unsafe fn values<'a>(tensor: &DLTensor, name: &str, lender: &Lender) -> Result<ArrayView<'a>> {
    let array = described(tensor, name)?;
    let DLDataType { code, bits, lanes } = tensor.dtype;
    // SAFETY: the caller's promise: the elements have the type that the tensor says.
    unsafe {
        match (code, bits, lanes) {
            (FLOAT, 32 | 64, 1) => view_of(&array, name, Some(lender)),
            (UINT, 8, 1) if tensor.ndim == 4 => {
                let (bytes, layout) = elements(&array, name, Some(lender))?;
                ArrayView::new(Elements::Pixels(bytes), layout)
            }
            (FLOAT, 16, 1) => floats(&array, name, f16::to_f32),
            (BFLOAT, 16, 1) => floats(&array, name, bf16::to_f32),
            (BOOL, 8, 1) => integers(&array, name, |value: u8| i128::from(value != 0)),
            (INT, 8, 1) => integers::<i8>(&array, name, i128::from),
            (INT, 16, 1) => integers::<i16>(&array, name, i128::from),
            (INT, 32, 1) => integers::<i32>(&array, name, i128::from),
            (INT, 64, 1) => integers::<i64>(&array, name, i128::from),
            (UINT, 8, 1) => integers::<u8>(&array, name, i128::from),
            (UINT, 16, 1) => integers::<u16>(&array, name, i128::from),
            (UINT, 32, 1) => integers::<u32>(&array, name, i128::from),
            (UINT, 64, 1) => integers::<u64>(&array, name, i128::from),
            _ => {
                let allowed = "float32, float64, float16, bfloat16, an integer or bool";
                Err(unknown_type(name, tensor.dtype, allowed))
            }
        }
    }
}

/// A copy of an array of short floats.
///
/// # Safety
/// As [`values`], with elements of type `T`.
unsafe fn floats<'a, T: Copy + Send + Sync + 'static>(
    array: &biv_array,
    name: &str,
    convert: fn(T) -> f32,
) -> Result<ArrayView<'a>> {
    // SAFETY: the caller's promise.
    let (given, layout) = unsafe { elements::<T>(array, name, None)? };
    let converted = collect(given.iter().map(|&value| convert(value)))?;
    ArrayView::new(Elements::F32(converted.into()), layout)
}

/// A copy of an array of integers.
///
/// # Safety
/// As [`values`], with elements of type `T`.
unsafe fn integers<'a, T: Copy + Send + Sync + 'static>(
    array: &biv_array,
    name: &str,
    widen: fn(T) -> i128,
) -> Result<ArrayView<'a>> {
    // SAFETY: the caller's promise.
    let (given, layout) = unsafe { elements::<T>(array, name, None)? };
    if let Some(value) = given.iter().map(|&value| widen(value)).find(|value| value.unsigned_abs() > EXACT.into()) {
        return Err(Error::InvalidArgument(format!("{name} has the number {value}, must be from -2^53 to 2^53")));
    }
    let converted = collect(given.iter().map(|&value| widen(value) as f64))?;
    ArrayView::new(Elements::F64(converted.into()), layout)
}

#[cfg(test)]
mod tests;
