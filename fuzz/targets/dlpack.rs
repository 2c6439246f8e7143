//! Tensors by DLPack with anything in their structs. Their elements lie in memory that is there, or they have none: then
//! each call takes or refuses them, reads nothing else, and calls every deleter once.

#![no_main]

use arbitrary::Arbitrary;
use biv_fuzz::*;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};

/// The memory of one tensor, whose data begin in its middle.
const WORDS: usize = 512;

#[derive(Arbitrary, Debug)]
struct Given {
    major: u8,
    minor: u8,
    flags: u8,
    device: u8,
    ndim: u8,
    code: u8,
    bits: u8,
    lanes: u8,
    shape: [Size; 9],
    strides: Option<[Size; 9]>,
    offset: Size,
    fill: u8,
    no_shape: bool,
}

/// The most elements: with strides of 0 little memory is there for any number of them, and a copy takes its time.
const MOST: i128 = 1 << 16;

/// A size or a stride: most often a small one.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Size {
    Small(u8),
    Negative(u8),
    Any(i64),
}

impl Size {
    fn get(self) -> i64 {
        match self {
            Size::Small(size) => i64::from(size) % 7,
            Size::Negative(size) => -(i64::from(size) % 7),
            Size::Any(size) => size,
        }
    }
}

/// One of `values`, the first of which is the most frequent.
fn one_of<T: Copy>(values: &[T], which: u8) -> T {
    values.get(usize::from(which) % (2 * values.len())).copied().unwrap_or(values[0])
}

/// A tensor and all that it points to.
struct Tensor {
    managed: DLManagedTensorVersioned,
    shape: [i64; 9],
    strides: [i64; 9],
    data: [u64; WORDS],
    deleted: Cell<u32>,
}

unsafe extern "C" fn count(tensor: *mut DLManagedTensorVersioned) {
    // SAFETY: the context is the tensor's, which outlives the call.
    let deleted = unsafe { &*(*tensor).manager_ctx.cast::<Cell<u32>>() };
    deleted.set(deleted.get() + 1);
}

impl Given {
    fn tensor(&self) -> Box<Tensor> {
        let version = DLPackVersion { major: one_of(&[1, 0, 2], self.major), minor: self.minor.into() };
        let code = one_of(&[2, 0, 1, 4, 6, 5, 200], self.code);
        let bits = one_of(&[64, 32, 16, 8, 1, 0, 255], self.bits);
        let dl_tensor = DLTensor {
            data: null_mut(),
            device: DLDevice { device_type: one_of(&[1, 3, 2, 11, 0, -7], self.device), device_id: 0 },
            ndim: one_of(&[2, 1, 4, 3, 8, 9, 0, -1], self.ndim),
            dtype: DLDataType { code, bits, lanes: one_of(&[1, 0, 2], self.lanes) },
            shape: null_mut(),
            strides: null_mut(),
            byte_offset: self.offset.get() as u64,
        };
        let flags = (self.flags % 8).into();
        let managed =
            DLManagedTensorVersioned { version, manager_ctx: null_mut(), deleter: Some(count), flags, dl_tensor };
        let (shape, strides) = (self.shape.map(Size::get), self.strides.unwrap_or(self.shape).map(Size::get));
        let number = f64::from(self.fill) / 16.0;
        // What is a number in every type: the same byte, or the same f64.
        let data = if self.fill % 2 == 0 { [number.to_bits(); WORDS] } else { [u64::from_ne_bytes([self.fill; 8]); WORDS] };
        let mut tensor = Box::new(Tensor { managed, shape, strides, data, deleted: Cell::new(0) });
        let place = if self.is_there(&tensor) { tensor.data[WORDS / 2..].as_mut_ptr().cast() } else { null_mut() };
        tensor.managed.dl_tensor.data = place;
        tensor.managed.dl_tensor.shape = if self.no_shape { null_mut() } else { tensor.shape.as_mut_ptr() };
        tensor.managed.dl_tensor.strides = if self.strides.is_some() { tensor.strides.as_mut_ptr() } else { null_mut() };
        tensor.managed.manager_ctx = (&raw mut tensor.deleted).cast::<c_void>();
        tensor
    }

    /// Whether all elements lie in the tensor's memory.
    fn is_there(&self, tensor: &Tensor) -> bool {
        let DLTensor { ndim, dtype, byte_offset, .. } = tensor.managed.dl_tensor;
        let size = i128::from(dtype.bits / 8);
        let (mut low, mut high, mut next) = (0i128, 0i128, 1i128);
        for axis in (0..usize::try_from(ndim).unwrap_or(0).min(9)).rev() {
            let steps = i128::from(tensor.shape[axis]) - 1;
            let stride = if self.strides.is_some() { tensor.strides[axis].into() } else { next };
            let Some(reach) = stride.checked_mul(steps) else { return false };
            let side = if reach < 0 { &mut low } else { &mut high };
            let (Some(sum), Some(more)) = (side.checked_add(reach), next.checked_mul(steps + 1)) else { return false };
            (*side, next) = (sum, more);
        }
        let half = (WORDS * 4) as i128;
        let start = i128::from(byte_offset);
        let fits = |at: i128| at.checked_mul(size).is_some_and(|at| (-half..half - size).contains(&(start + at)));
        next <= MOST && fits(low) && fits(high)
    }
}

#[derive(Arbitrary, Debug)]
struct Case {
    tensors: [Given; 4],
    noise: bool,
    groups: bool,
    same: bool,
    masked: bool,
}

libfuzzer_sys::fuzz_target!(|case: Case| {
    let [mut x, mut y, mut v, mut g] = case.tensors.each_ref().map(Given::tensor);
    let options = if case.masked { c"{\"missing_labels\": \"mask\"}".as_ptr() } else { null() };
    let labels: *mut DLManagedTensorVersioned = if case.same { &mut x.managed } else { &mut y.managed };
    let noise: *mut DLManagedTensorVersioned = if case.noise { &mut v.managed } else { null_mut() };
    let groups: *mut DLManagedTensorVersioned = if case.groups { &mut g.managed } else { null_mut() };
    // SAFETY: the tensors outlive the data set, and their elements are there.
    let made = made(|out| unsafe {
        biv_dataset_create_from_dlpack(&mut x.managed, labels, noise, groups, null_mut(), options, out)
    });
    if let Ok(data) = made {
        if !case.masked {
            examine(data);
        }
        biv_dataset_free(data);
    }
    for (used, tensor) in [(true, &x), (!case.same, &y), (case.noise, &v), (case.groups, &g)] {
        assert_eq!(tensor.deleted.get(), u32::from(used));
    }

    let [mut features, mut out] = [&case.tensors[0], &case.tensors[1]].map(Given::tensor);
    let model = made_model();
    // SAFETY: as above.
    unsafe { check_status(biv_model_predict_dlpack(model, &mut features.managed, &mut out.managed)) };
    biv_model_free(model);
    assert_eq!([features.deleted.get(), out.deleted.get()], [1, 1]);
});

fn made_model() -> *mut biv_model {
    let options = c"{\"kind\": \"mlp\", \"inputs\": 2, \"hidden\": []}";
    // SAFETY: a C string and a place for a handle.
    made(|out| unsafe { biv_model_create(options.as_ptr(), out) }).expect("a model")
}
