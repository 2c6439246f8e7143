//! Every tensor here is one that its deleter frees: a second call would be a double free, none a leak, and both counts
//! are compared after each call.

use super::super::*;
use super::*;
use crate::data::Features;
use std::ffi::CStr;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A producer's tensor and all that it points to.
struct Producer {
    managed: DLManagedTensorVersioned,
    data: Box<[u64]>,
    shape: Vec<i64>,
    strides: Vec<i64>,
    deleted: Arc<AtomicUsize>,
}

unsafe extern "C" fn delete(tensor: *mut DLManagedTensorVersioned) {
    // SAFETY: `tensor` is in the box that its context points to, which is freed here.
    let producer = unsafe { Box::from_raw((*tensor).manager_ctx.cast::<Producer>()) };
    producer.deleted.fetch_add(1, SeqCst);
}

const F32: DLDataType = DLDataType { code: FLOAT, bits: 32, lanes: 1 };
const F64: DLDataType = DLDataType { code: FLOAT, bits: 64, lanes: 1 };

/// A tensor in C order of `values`, and how often it was deleted.
fn tensor<T: Copy>(
    values: &[T],
    dtype: DLDataType,
    shape: &[i64],
) -> (*mut DLManagedTensorVersioned, Arc<AtomicUsize>) {
    let mut data = vec![0u64; size_of_val(values).div_ceil(8).max(1)].into_boxed_slice();
    // SAFETY: there is room for the values.
    unsafe { values.as_ptr().copy_to_nonoverlapping(data.as_mut_ptr().cast(), values.len()) };
    let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).chain([0]).collect();
    let deleted = Arc::new(AtomicUsize::new(0));
    let dl_tensor = DLTensor {
        data: null_mut(),
        device: DLDevice { device_type: 1, device_id: 0 },
        ndim: shape.len() as i32,
        dtype,
        shape: null_mut(),
        strides: null_mut(),
        byte_offset: 0,
    };
    let version = DLPackVersion { major: 1, minor: 3 };
    let managed =
        DLManagedTensorVersioned { version, manager_ctx: null_mut(), deleter: Some(delete), flags: 0, dl_tensor };
    let producer = Producer { managed, data, shape: shape.to_vec(), strides, deleted: deleted.clone() };
    let producer = Box::into_raw(Box::new(producer));
    // SAFETY: the box is ours until the library gets it.
    unsafe {
        (*producer).managed.manager_ctx = producer.cast();
        (*producer).managed.dl_tensor.data = (*producer).data.as_mut_ptr().cast();
        (*producer).managed.dl_tensor.shape = (*producer).shape.as_mut_ptr();
        (*producer).managed.dl_tensor.strides = (*producer).strides.as_mut_ptr();
        (&raw mut (*producer).managed, deleted)
    }
}

fn message() -> String {
    // SAFETY: the text lives until this thread's next call.
    unsafe { CStr::from_ptr(biv_last_error_message()) }.to_str().unwrap().to_string()
}

/// The size of the first dimension.
fn size(tensor: &mut DLManagedTensorVersioned) -> &mut i64 {
    // SAFETY: every tensor here has one.
    unsafe { &mut *tensor.dl_tensor.shape }
}

/// The strides of the first two dimensions.
fn strides(tensor: &mut DLManagedTensorVersioned) -> &mut [i64; 2] {
    // SAFETY: every tensor here has room for two.
    unsafe { &mut *tensor.dl_tensor.strides.cast() }
}

/// The first eight bytes of the data.
fn number(tensor: &mut DLManagedTensorVersioned) -> &mut f64 {
    // SAFETY: every tensor here has them, aligned.
    unsafe { &mut *tensor.dl_tensor.data.cast() }
}

type Change = fn(&mut DLManagedTensorVersioned);

/// Makes a data set, with `change` made to the tensor number `at`: the status, the handle, and how often each tensor was
/// deleted.
fn made(change: Change, at: usize) -> (biv_status, *mut biv_dataset, [usize; 4]) {
    let features = tensor(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], F32, &[3, 2]);
    let columns = [[1.0f64, 2.0, 3.0], [0.1, 0.2, 0.3], [7.0, 7.0, 8.0]].map(|values| tensor(&values, F64, &[3]));
    let [labels, noise, groups] = columns;
    let tensors = [features, labels, noise, groups];
    let mut out = 8 as *mut biv_dataset;
    let [x, y, v, g] = [0, 1, 2, 3].map(|at| tensors[at].0);
    // SAFETY: the tensors are as large as they say.
    let status = unsafe {
        change(&mut *tensors[at].0);
        biv_dataset_create_from_dlpack(x, y, v, g, null_mut(), null(), &mut out)
    };
    let counts = tensors.map(|(_, deleted)| deleted.load(SeqCst));
    (status, out, counts)
}

#[test]
fn faults_are_named_and_every_tensor_is_deleted_once() {
    fn with(change: Change, status: biv_status, text: &'static str) -> (Change, biv_status, &'static str) {
        (change, status, text)
    }
    fn of_none(device_type: i32) -> DLDevice {
        DLDevice { device_type, device_id: 99 }
    }
    let faults = [
        with(|t| t.version.major = 0, BIV_ERROR_UNSUPPORTED, "is of DLPack 0.3, must be of 1.x"),
        with(|t| t.version.major = 2, BIV_ERROR_UNSUPPORTED, "is of DLPack 2.3"),
        with(|t| t.dl_tensor.device = of_none(2), BIV_ERROR_UNSUPPORTED, "is on a CUDA device (device_type 2"),
        with(|t| t.dl_tensor.device = of_none(10), BIV_ERROR_UNSUPPORTED, "copy it to the CPU first"),
        with(|t| t.dl_tensor.device = of_none(13), BIV_ERROR_UNSUPPORTED, "CUDA manages"),
        with(|t| t.dl_tensor.device = of_none(-1), BIV_ERROR_UNSUPPORTED, "another device"),
        with(|t| t.dl_tensor.ndim = 0, BIV_ERROR_SHAPE, "ndim is 0, must be 1 to 8"),
        with(|t| t.dl_tensor.ndim = 9, BIV_ERROR_SHAPE, "ndim is 9"),
        with(|t| t.dl_tensor.ndim = i32::MIN, BIV_ERROR_SHAPE, "ndim is -2147483648"),
        with(|t| t.dl_tensor.shape = null_mut(), BIV_ERROR_INVALID_ARGUMENT, "shape is NULL"),
        with(|t| t.dl_tensor.data = null_mut(), BIV_ERROR_INVALID_ARGUMENT, "data is NULL"),
        with(|t| t.dl_tensor.byte_offset = 1, BIV_ERROR_INVALID_ARGUMENT, "not aligned"),
        with(|t| t.dl_tensor.byte_offset = u64::MAX - 7, BIV_ERROR_INVALID_ARGUMENT, "exceeds memory"),
        with(|t| t.dl_tensor.data = 2 as _, BIV_ERROR_INVALID_ARGUMENT, "not aligned"),
        with(|t| t.dl_tensor.dtype.lanes = 0, BIV_ERROR_INVALID_ARGUMENT, "0 lanes"),
        with(|t| t.dl_tensor.dtype.lanes = 4, BIV_ERROR_INVALID_ARGUMENT, "4 lanes, must be float32"),
        with(|t| t.dl_tensor.dtype.code = 5, BIV_ERROR_INVALID_ARGUMENT, "type code 5"),
        with(|t| t.dl_tensor.dtype.bits = 8, BIV_ERROR_INVALID_ARGUMENT, "8 bits"),
        with(|t| *size(t) = -3, BIV_ERROR_SHAPE, "negative"),
        with(|t| *size(t) = i64::MAX, BIV_ERROR_SHAPE, "exceeds memory"),
        with(|t| strides(t)[0] = i64::MAX, BIV_ERROR_SHAPE, "exceeds memory"),
        with(|t| strides(t)[0] = i64::MIN, BIV_ERROR_SHAPE, "exceeds memory"),
        with(|t| *size(t) = 2, BIV_ERROR_SHAPE, " have "),
        with(|t| *size(t) = 0, BIV_ERROR_SHAPE, " have "),
        with(|t| *number(t) = f64::NAN, BIV_ERROR_INVALID_ARGUMENT, "NaN"),
    ];
    for at in 0..4 {
        for &(change, status, text) in &faults {
            let (found, handle, deleted) = made(change, at);
            let said = message();
            let named = ["features", "labels", "noise", "groups", "variances"].iter().any(|name| said.contains(name));
            assert!(said.contains(text) && (named || text == "NaN"), "tensor {at}: expected {text:?}, found {said:?}");
            assert_eq!((found, handle, deleted), (status, null_mut(), [1; 4]), "tensor {at}: {said}");
        }
    }
}

#[test]
fn a_tensor_that_is_handed_over_twice_or_is_missing_is_an_error() {
    let call = |x, y, v, out| {
        // SAFETY: tensors as large as they say.
        unsafe { biv_dataset_create_from_dlpack(x, y, v, null_mut(), null_mut(), null(), out) }
    };
    let mut out = null_mut();
    let ((x, deleted), (y, too)) = (tensor(&[1.0f64, 2.0], F64, &[2]), tensor(&[1.0f64, 2.0], F64, &[2]));
    assert_eq!(call(x, x, null_mut(), &mut out), BIV_ERROR_INVALID_ARGUMENT);
    assert_eq!(message(), "labels is the same tensor as features, each is handed over once");
    assert_eq!(call(null_mut(), y, y, &mut out), BIV_ERROR_INVALID_ARGUMENT);
    assert_eq!(message(), "features is NULL");
    assert_eq!((deleted.load(SeqCst), too.load(SeqCst)), (1, 1));

    let ((x, deleted), (y, too)) = (tensor(&[1.0f64, 2.0], F64, &[2]), tensor(&[1.0f64, 2.0], F64, &[2]));
    assert_eq!(call(x, y, null_mut(), null_mut()), BIV_ERROR_INVALID_ARGUMENT);
    assert_eq!((deleted.load(SeqCst), too.load(SeqCst)), (1, 1));
    // What is no struct has no deleter.
    let (y, too) = tensor(&[1.0f64, 2.0], F64, &[2]);
    assert_eq!(call(4 as _, y, null_mut(), &mut out), BIV_ERROR_INVALID_ARGUMENT);
    assert_eq!((&*message(), too.load(SeqCst)), ("features is not aligned to 8 bytes", 1));

    let ((x, deleted), (y, too)) = (tensor(&[1.0f64, 2.0], F64, &[2]), tensor(&[1.0f64, 2.0], F64, &[2]));
    // SAFETY: tensors as large as they say, and a C string.
    let status = unsafe {
        biv_dataset_create_from_dlpack(x, y, null_mut(), null_mut(), null_mut(), c"{\"a\": 1}".as_ptr(), &mut out)
    };
    assert_eq!((status, deleted.load(SeqCst), too.load(SeqCst)), (BIV_ERROR_INVALID_CONFIG, 1, 1));
}

/// The values of a tensor with `change` made to it: as they are read where they are, and copied as from another device.
fn read_and_copied<T: Copy>(values: &[T], dtype: DLDataType, shape: &[i64], change: Change) -> [Result<Vec<f64>>; 2] {
    let (managed, _) = tensor(values, dtype, shape);
    // SAFETY: the tensor is as large as it says until it is deleted.
    unsafe {
        change(&mut *managed);
        let there: Lender = Arc::new(());
        let read = super::values(&(*managed).dl_tensor, "x", &there);
        let copied = copied(&(*managed).dl_tensor, "x", Device::Cpu, true);
        let result = [read, copied].map(|view| view?.to_f64());
        delete(managed);
        result
    }
}

#[test]
fn tensors_that_are_copied_are_those_that_are_read() {
    fn check<T: Copy>(values: &[T], code: u8, shape: &[i64], change: Change) {
        let dtype = DLDataType { code, bits: (8 * size_of::<T>()) as u8, lanes: 1 };
        let [read, copied] = read_and_copied(values, dtype, shape, change).map(Result::unwrap);
        assert_eq!(copied, read, "code {code}, {} bits, {shape:?}", dtype.bits);
    }
    let changes: [Change; 8] = [
        |_| {},
        |t| t.dl_tensor.strides = null_mut(),
        |t| *strides(t) = [1, 3],
        |t| *strides(t) = [0, 1],
        |t| *strides(t) = [0, 0],
        |t| *strides(t) = [1, 2],
        // From the end.
        |t| {
            t.dl_tensor.byte_offset = 5 * u64::from(t.dl_tensor.dtype.bits) / 8;
            *strides(t) = [-2, -1];
        },
        // The second column, from the end, and a row that stands for all.
        |t| {
            t.dl_tensor.byte_offset = 5 * u64::from(t.dl_tensor.dtype.bits) / 8;
            *size(t) = 2;
            *strides(t) = [-4, 0];
        },
    ];
    for change in changes {
        check(&[1.5f32, -2.0, 3.0, f32::MIN, 5.0, 6.0], FLOAT, &[3, 2], change);
        check(&[1.5f64, -2.0, 3.0, f64::MAX, 5.0, 6.0], FLOAT, &[3, 2], change);
        check(&[0x3e00u16, 0xfbff, 1, 2, 3, 4], FLOAT, &[3, 2], change);
        check(&[0x3fc0u16, 0xc2f7, 1, 2, 3, 4], BFLOAT, &[3, 2], change);
        check(&[true, false, false, true, true, false], BOOL, &[3, 2], change);
        check(&[-128i8, 127, 3, 4, 5, 6], INT, &[3, 2], change);
        check(&[-300i16, 300, 3, 4, 5, 6], INT, &[3, 2], change);
        check(&[i32::MIN, i32::MAX, 3, 4, 5, 6], INT, &[3, 2], change);
        check(&[-5_000_000i64, 1 << 53, 3, 4, 5, 6], INT, &[3, 2], change);
        check(&[0u8, 255, 3, 4, 5, 6], UINT, &[3, 2], change);
        check(&[0u16, 65_535, 3, 4, 5, 6], UINT, &[3, 2], change);
        check(&[u32::MAX, 1, 3, 4, 5, 6], UINT, &[3, 2], change);
        check(&[1u64 << 53, 1, 3, 4, 5, 6], UINT, &[3, 2], change);
    }
    // Images, rows of more dimensions by columns, and no rows.
    check(&[0u8, 51, 102, 255, 1, 2, 3, 4], UINT, &[2, 1, 2, 2], |_| {});
    check(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], FLOAT, &[2, 2, 2], |t| *strides(t) = [1, 4]);
    check::<f64>(&[], FLOAT, &[0, 2], |_| {});
    check::<f32>(&[], FLOAT, &[0, 2], |t| t.dl_tensor.data = null_mut());

    // What is wrong is said before anything is read.
    let faults: [(Change, &str); 7] = [
        (|t| t.dl_tensor.data = null_mut(), "x.data is NULL"),
        (|t| t.dl_tensor.byte_offset = 1, "x.data is not aligned to its elements' size"),
        (|t| t.dl_tensor.byte_offset = u64::MAX - 7, "exceeds memory"),
        (|t| *size(t) = i64::MAX, "exceeds memory"),
        (|t| t.dl_tensor.ndim = 9, "x.ndim is 9"),
        (|t| t.dl_tensor.dtype.bits = 4, "x has elements of type code 2, 4 bits, 1 lanes, must be"),
        (|t| t.dl_tensor.dtype.code = 5, "x has elements of type code 5, 64 bits, 1 lanes, must be"),
    ];
    for (change, expected) in faults {
        let [_, copied] = read_and_copied(&[1.0f64, 2.0], F64, &[2], change);
        let message = copied.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_is_copied_is_lent_on_and_sent_back() {
    let (managed, _) = tensor(&[1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0], F64, &[3, 2]);
    // SAFETY: the tensor is as large as it says until it is deleted.
    unsafe {
        // The copy is the data set's: there is no other.
        let view = copied(&(*managed).dl_tensor, "x", Device::Cpu, false).unwrap();
        let shared = view.to_shared_f64().unwrap();
        assert_eq!(
            (shared.as_ptr(), &shared[..]),
            (view.as_f64().unwrap().as_ptr(), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..])
        );
        // The second column from the end, whose neighbours stay as they are.
        let second = &mut *managed;
        second.dl_tensor.byte_offset = 40;
        second.dl_tensor.ndim = 1;
        *strides(second) = [-2, 0];
        let mut staged = Staged::new(&second.dl_tensor, "x", Device::Cpu).unwrap();
        let there = described(&staged.tensor(), "x").unwrap();
        let biv_array { data, dtype, rank, shape, strides, size } = there;
        let there = biv_array_out { data: data.cast_mut(), dtype, rank, shape, strides, size };
        super::super::array::fill(&there, "x", &[3], &[7.0, 8.0, 9.0]).unwrap();
        let now = || std::slice::from_raw_parts((*managed).dl_tensor.data.cast::<f64>(), 6).to_vec();
        assert_eq!(now(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        staged.send().unwrap();
        assert_eq!(now(), [1.0, 9.0, 3.0, 8.0, 5.0, 7.0]);
        delete(managed);
    }
}

#[test]
fn a_stream_says_nothing_of_tensors_on_the_cpu() {
    for stream in [1usize, 2, 0x7f00_0000_1000, usize::MAX] {
        let ((x, _), (y, _)) = (tensor(&[1.0f32, 2.0], F32, &[2]), tensor(&[1.0f64, 2.0], F64, &[2]));
        let mut data = null_mut();
        // SAFETY: tensors as large as they say.
        let status =
            unsafe { biv_dataset_create_from_dlpack(x, y, null_mut(), null_mut(), stream as _, null(), &mut data) };
        assert_eq!(status, BIV_OK, "{}", message());
        biv_dataset_free(data);
    }
}

/// As `tensor`, of the first values of `there`, a tensor on a GPU that outlives it.
fn on_gpu(there: &tch::Tensor, dtype: DLDataType, shape: &[i64]) -> (*mut DLManagedTensorVersioned, Arc<AtomicUsize>) {
    let (managed, deleted) = tensor::<f64>(&[], dtype, shape);
    // SAFETY: the tensor is ours until the library gets it.
    unsafe {
        (*managed).dl_tensor.data = there.data_ptr();
        (*managed).dl_tensor.device.device_type = CUDA;
    }
    (managed, deleted)
}

#[test]
#[ignore = "needs a GPU: make gpu-check"]
fn tensors_on_a_gpu_are_copied_once_and_predicted_into() {
    crate::torch::device::resolve("cuda:0").unwrap();
    let gpu = |values: &[f64], kind| tch::Tensor::from_slice(values).to_kind(kind).to_device(Device::Cuda(0));
    let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0]);
    let (features, labels) = (gpu(&x, tch::Kind::Float), gpu(&y, tch::Kind::Double));
    let changes: [(Change, [f64; 6]); 4] = [
        (|_| {}, x),
        (|t| *strides(t) = [1, 3], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
        (
            |t| {
                t.dl_tensor.byte_offset = 20;
                *strides(t) = [-2, -1];
            },
            [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
        ),
        (|t| *strides(t) = [0, 1], [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]),
    ];
    for stream in [0usize, 1, 2, usize::MAX] {
        for (change, expected) in changes {
            let ((x, deleted), (y, too)) = (on_gpu(&features, F32, &[3, 2]), on_gpu(&labels, F64, &[3]));
            let mut data = null_mut();
            // SAFETY: tensors as large as they say, which outlive the call.
            let status = unsafe {
                change(&mut *x);
                biv_dataset_create_from_dlpack(x, y, null_mut(), null_mut(), stream as _, null(), &mut data)
            };
            assert_eq!((status, deleted.load(SeqCst), too.load(SeqCst)), (BIV_OK, 1, 1), "{}", message());
            let set = handle::get(data).unwrap();
            assert_eq!(
                (set.features().rows().to_f64(2).unwrap(), set.labels()),
                (expected.to_vec(), &[7.0, 8.0, 9.0][..])
            );
            biv_dataset_free(data);
        }
    }
    // Memory that is none of the device's is refused.
    let ((x, deleted), (y, _)) = (tensor(&x.map(|value| value as f32), F32, &[3, 2]), on_gpu(&labels, F64, &[3]));
    let mut data = null_mut();
    // SAFETY: as above.
    let status = unsafe {
        (*x).dl_tensor.device.device_type = CUDA;
        biv_dataset_create_from_dlpack(x, y, null_mut(), null_mut(), null_mut(), null(), &mut data)
    };
    assert_eq!((status, deleted.load(SeqCst)), (BIV_ERROR_DEVICE, 1), "{}", message());

    let (mut model, mut expected) = (null_mut(), [0.0f64; 3]);
    let rows = tch::Tensor::zeros([3, 2], (tch::Kind::Double, Device::Cuda(0)));
    // SAFETY: a C string, arrays and tensors as large as they say.
    unsafe {
        assert_eq!(biv_model_create(cr#"{"kind":"mlp","inputs":2,"hidden":[4]}"#.as_ptr(), &mut model), BIV_OK);
        let ((features, _), (host, _)) = (on_gpu(&features, F32, &[3, 2]), tensor(&[0.0f64; 3], F64, &[3]));
        (*host).deleter = None;
        assert_eq!(biv_model_predict_dlpack(model, features, host), BIV_OK, "{}", message());
        std::ptr::copy_nonoverlapping((*host).dl_tensor.data.cast::<f64>(), expected.as_mut_ptr(), 3);
        delete(host);
    }
    // Into the first column, from the end.
    let ((features, _), (out, deleted)) = (on_gpu(&features, F32, &[3, 2]), on_gpu(&rows, F64, &[3]));
    // SAFETY: as above.
    let status = unsafe {
        (*out).dl_tensor.byte_offset = 32;
        *(*out).dl_tensor.strides = -2;
        biv_model_predict_dlpack(model, features, out)
    };
    assert_eq!((status, deleted.load(SeqCst)), (BIV_OK, 1), "{}", message());
    let found = crate::torch::tensor::to_f32(&rows).unwrap();
    let [a, b, c] = expected.map(|value| value as f32);
    assert_eq!(found, [c, 0.0, b, 0.0, a, 0.0]);
    biv_model_free(model);
}

#[test]
fn dense_tensors_of_the_kept_type_are_lent_until_nobody_shares_them() {
    let (x, features_deleted) = tensor(&[1.0f32, 2.0, 3.0, 4.0], F32, &[2, 2]);
    let (y, labels_deleted) = tensor(&[5.0f64, 6.0], F64, &[2]);
    let (v, variances_deleted) = tensor(&[0.5f32, 1.5], F32, &[2]);
    let (mut data, mut noisy) = (null_mut(), null_mut());
    let counts = || [&features_deleted, &labels_deleted, &variances_deleted].map(|deleted| deleted.load(SeqCst));
    // SAFETY: tensors as large as they say; what they point to lives until they are deleted.
    unsafe {
        let places = ((*x).dl_tensor.data.cast_const().cast(), (*y).dl_tensor.data.cast_const().cast());
        assert_eq!(biv_dataset_create_from_dlpack(x, y, v, null_mut(), null_mut(), null(), &mut data), BIV_OK);
        assert_eq!(counts(), [0, 0, 1]);
        {
            let data: Arc<Dataset> = handle::get(data).unwrap();
            assert_eq!((data.feature_values().unwrap().as_ptr(), data.labels().as_ptr()), places);
            assert_eq!(data.variances().unwrap(), [0.5, 1.5]);
        }
        // Noise makes new labels, but has the same features and, as its clean labels, the same labels.
        let noise = cr#"{"distribution": {"kind": "gamma", "mean": 1, "variance": 2}}"#;
        assert_eq!(biv_dataset_add_noise(data, noise.as_ptr(), &mut noisy), BIV_OK);
    }
    biv_dataset_free(data);
    assert_eq!(counts(), [0, 0, 1]);
    let noisy = noisy as usize;
    std::thread::spawn(move || biv_dataset_free(noisy as *mut _)).join().unwrap();
    assert_eq!(counts(), [1, 1, 1]);
}

#[test]
fn strided_tensors_are_copied_and_deleted_at_once() {
    let changes: [(Change, [f64; 6]); 5] = [
        (|t| t.dl_tensor.strides = null_mut(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        (|t| *strides(t) = [1, 3], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
        (
            |t| {
                t.dl_tensor.byte_offset = 20;
                *strides(t) = [-2, -1];
            },
            [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
        ),
        (|t| *strides(t) = [0, 1], [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]),
        (|t| *strides(t) = [1, 2], [1.0, 3.0, 2.0, 4.0, 3.0, 5.0]),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let (status, data, deleted) = made(change, 0);
        assert_eq!((status, deleted), (BIV_OK, [usize::from(number > 0), 0, 0, 1]), "{number}: {}", message());
        let values = handle::get(data).unwrap().features().rows().to_f64(2).unwrap();
        assert_eq!(values, expected, "{number}");
        biv_dataset_free(data);
    }
}

#[test]
fn elements_of_every_type_are_converted() {
    fn check<T: Copy>(values: [T; 2], code: u8, expected: [f64; 2]) {
        let dtype = DLDataType { code, bits: (8 * size_of::<T>()) as u8, lanes: 1 };
        let ((x, _), (y, _)) = (tensor(&values, dtype, &[2, 1]), tensor(&values, dtype, &[2]));
        let mut data = null_mut();
        // SAFETY: tensors as large as they say.
        let status =
            unsafe { biv_dataset_create_from_dlpack(x, y, null_mut(), null_mut(), null_mut(), null(), &mut data) };
        assert_eq!(status, BIV_OK, "code {code}, {} bits: {}", dtype.bits, message());
        let data_set = handle::get(data).unwrap();
        assert_eq!(data_set.labels(), expected);
        assert_eq!(data_set.features().rows().to_f64(1).unwrap(), expected);
        biv_dataset_free(data);
    }
    check([1.5f32, -2.0], FLOAT, [1.5, -2.0]);
    check([1.5f64, -2.0], FLOAT, [1.5, -2.0]);
    // By hand: 1.5, and the largest of each type of 16 bits that is no power of two.
    check([0x3e00u16, 0xfbff], FLOAT, [1.5, -65504.0]);
    check([0x3fc0u16, 0xc2f7], BFLOAT, [1.5, -123.5]);
    check([true, false], BOOL, [1.0, 0.0]);
    check([-128i8, 127], INT, [-128.0, 127.0]);
    check([-300i16, 300], INT, [-300.0, 300.0]);
    check([-70_000i32, 70_000], INT, [-70_000.0, 70_000.0]);
    check([-5_000_000i64, 5_000_000], INT, [-5e6, 5e6]);
    check([0u8, 255], UINT, [0.0, 255.0]);
    check([0u16, 65_535], UINT, [0.0, 65_535.0]);
    check([1u32 << 31, 1], UINT, [2_147_483_648.0, 1.0]);
    check([7u64, 1], UINT, [7.0, 1.0]);

    let ((x, deleted), (y, _)) = (
        tensor(&[(1i64 << 53) + 1, 0], DLDataType { code: INT, bits: 64, lanes: 1 }, &[2]),
        tensor(&[0.0f64; 2], F64, &[2]),
    );
    let mut data = null_mut();
    // SAFETY: tensors as large as they say.
    let status = unsafe { biv_dataset_create_from_dlpack(x, y, null_mut(), null_mut(), null_mut(), null(), &mut data) };
    assert_eq!((status, deleted.load(SeqCst)), (BIV_ERROR_INVALID_ARGUMENT, 1));
    assert_eq!(message(), "features has the number 9007199254740993, must be from -2^53 to 2^53");
}

#[test]
fn images_of_bytes_stay_bytes() {
    let bytes: [u8; 8] = [0, 51, 102, 255, 1, 2, 3, 4];
    let dtype = DLDataType { code: UINT, bits: 8, lanes: 1 };
    for (last, lent) in [([4, 4, 2, 1], true), ([1, 1, 2, 4], false)] {
        let ((x, deleted), (y, _)) = (tensor(&bytes, dtype, &[2, 1, 2, 2]), tensor(&[1.0f64, 2.0], F64, &[2]));
        let mut data = null_mut();
        // SAFETY: tensors as large as they say.
        let status = unsafe {
            (*x).dl_tensor.strides.cast::<[i64; 4]>().write(last);
            biv_dataset_create_from_dlpack(x, y, null_mut(), null_mut(), null_mut(), null(), &mut data)
        };
        assert_eq!((status, deleted.load(SeqCst)), (BIV_OK, usize::from(!lent)), "{}", message());
        {
            let data = handle::get(data).unwrap();
            let Features::Pixels { pixels, .. } = data.features() else { panic!("the bytes became numbers") };
            let expected = if lent { bytes } else { [0, 1, 102, 3, 51, 2, 255, 4] };
            assert_eq!(pixels.as_slice(), expected);
            assert_eq!(data.feature_shape(), [1, 2, 2]);
        }
        biv_dataset_free(data);
        assert_eq!(deleted.load(SeqCst), 1);
    }
}

#[test]
fn a_tensor_without_a_deleter_is_its_producers() {
    let ((x, kept), (y, deleted)) = (tensor(&[1.0f32, 2.0], F32, &[2]), tensor(&[1.0f64, 2.0], F64, &[2]));
    let mut data = null_mut();
    // SAFETY: tensors as large as they say; the first is deleted when the library is done with it.
    unsafe {
        (*x).deleter = None;
        let status = biv_dataset_create_from_dlpack(x, y, null_mut(), null_mut(), null_mut(), null(), &mut data);
        assert_eq!(status, BIV_OK, "{}", message());
        biv_dataset_free(data);
        assert_eq!((kept.load(SeqCst), deleted.load(SeqCst)), (0, 1));
        delete(x);
    }
}
