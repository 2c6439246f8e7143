//! The part of the C ABI that needs nothing of libtorch: handles, arrays, structs and texts. Every buffer is
//! exactly as large as its description says, so that Miri (`make miri`) finds an access beside it. Wrong
//! arguments are tests/c/contract.c's.

use super::*;
use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};

/// An array that begins at `data`.
fn described<T>(data: *const T, shape: &[i64], strides: Option<&[i64]>) -> biv_array {
    biv_array {
        data: data.cast(),
        dtype: if size_of::<T>() == 4 { BIV_F32 } else { BIV_F64 },
        rank: shape.len() as i32,
        shape: shape.as_ptr(),
        strides: strides.map_or(null(), <[i64]>::as_ptr),
        size: 0,
    }
}

/// As [`described`], to be filled.
fn to_fill<T>(data: *mut T, shape: &[i64], strides: Option<&[i64]>) -> biv_array_out {
    let biv_array { dtype, rank, shape, strides, size, .. } = described(data, shape, strides);
    biv_array_out { data: data.cast(), dtype, rank, shape, strides, size }
}

/// Four rows of two features and one label of known variance.
fn dataset() -> *mut biv_dataset {
    let (x, y, mut out) = ([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [1.0f64, 2.0, 3.0, 4.0], null_mut());
    let labels = described(y.as_ptr(), &[4], None);
    // SAFETY: the arrays are as large as their shapes.
    let status =
        unsafe { biv_dataset_create_from_arrays(&described(x.as_ptr(), &[4, 2], None), &labels, &labels, &mut out) };
    assert_eq!(status, BIV_OK);
    out
}

#[test]
fn arrays_are_read_and_filled_in_every_order() {
    // Features by columns, labels from the last to the first, one variance for all.
    let (x, y, v) = ([1.0f64, 3.0, 5.0, 2.0, 4.0, 6.0], [30.0f32, 20.0, 10.0], [0.5f64]);
    let mut data = null_mut();
    // SAFETY: the arrays are as large as their shapes and strides.
    unsafe {
        let features = described(x.as_ptr(), &[3, 2], Some(&[1, 3]));
        let labels = described(y.as_ptr().add(2), &[3], Some(&[-1]));
        let variances = described(v.as_ptr(), &[3, 1], Some(&[0, 7]));
        assert_eq!(biv_dataset_create_from_arrays(&features, &labels, &variances, &mut data), BIV_OK);

        // Every second element, from the end.
        let mut scattered = [0.0f64; 11];
        let out = to_fill(scattered.as_mut_ptr().add(10), &[3, 2], Some(&[-4, -2]));
        assert_eq!(biv_dataset_copy_features(data, &out), BIV_OK);
        assert_eq!(scattered, [6.0, 0.0, 5.0, 0.0, 4.0, 0.0, 3.0, 0.0, 2.0, 0.0, 1.0]);
        let mut labels = [0.0f32; 3];
        assert_eq!(biv_dataset_copy_labels(data, &to_fill(labels.as_mut_ptr(), &[3, 1], None)), BIV_OK);
        assert_eq!(labels, [10.0, 20.0, 30.0]);
        let mut variances = [0.0f64; 3];
        assert_eq!(biv_dataset_copy_variances(data, &to_fill(variances.as_mut_ptr(), &[3], None)), BIV_OK);
        assert_eq!(variances, [0.5; 3]);
    }
    biv_dataset_free(data);
}

/// Two threads fill a column each of one row-major matrix, and a third reads another while they do.
#[test]
fn the_gaps_between_an_arrays_elements_are_anothers() {
    let (data, mut matrix) = (dataset(), [[0.0f64, 0.0, 7.0]; 4]);
    let (place, data) = (matrix.as_mut_ptr().cast::<f64>() as usize, data as usize);
    std::thread::scope(|scope| {
        for column in 0..2 {
            scope.spawn(move || {
                let column = (place as *mut f64).wrapping_add(column);
                // SAFETY: the matrix outlives the threads; each writes its own column.
                let status = unsafe { biv_dataset_copy_labels(data as *const _, &to_fill(column, &[4], Some(&[3]))) };
                assert_eq!(status, BIV_OK);
            });
        }
        scope.spawn(move || {
            let column = described((place as *const f64).wrapping_add(2), &[4], Some(&[3]));
            let mut read = null_mut();
            // SAFETY: as above; nobody writes this column.
            assert_eq!(unsafe { biv_dataset_create_from_arrays(&column, &column, null(), &mut read) }, BIV_OK);
            biv_dataset_free(read);
        });
    });
    assert_eq!(matrix, [1.0, 2.0, 3.0, 4.0].map(|label| [label, label, 7.0]));
    biv_dataset_free(data as *mut _);
}

#[test]
fn structs_of_older_and_later_headers_are_filled_as_far_as_they_go() {
    let data = dataset();
    for size in [16usize, 24, size_of::<biv_dataset_info>(), 4096] {
        let mut memory = vec![u64::MAX; size / 8].into_boxed_slice();
        memory[0] = size as u64;
        // SAFETY: the struct is as large as it says.
        assert_eq!(unsafe { biv_dataset_get_info(data, memory.as_mut_ptr().cast()) }, BIV_OK);
        assert_eq!((memory[0], memory[1]), (size as u64, 4));
        let beyond = (size_of::<biv_dataset_info>() / 8).min(memory.len());
        assert!(memory[beyond..].iter().all(|&word| word == 0));
    }
    biv_dataset_free(data);
}

#[test]
fn handles_are_made_used_and_freed_by_threads_at_the_same_time() {
    let shared = dataset() as usize;
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                let (mut copy, mut labels) = (null_mut(), [0.0f64; 4]);
                // SAFETY: the array is as large as its shape.
                let (made, read) = unsafe {
                    let made = biv_dataset_shuffle(shared as *const _, thread, &mut copy);
                    (made, biv_dataset_copy_labels(copy, &to_fill(labels.as_mut_ptr(), &[4], None)))
                };
                // Another thread may have freed it first: then it is no handle any more.
                assert_eq!(made, read);
                assert_eq!(labels.iter().sum::<f64>(), if made == BIV_OK { 10.0 } else { 0.0 });
                assert!([BIV_OK, BIV_ERROR_INVALID_HANDLE].contains(&made));
                biv_dataset_free(copy);
                biv_dataset_free(shared as *mut _);
            });
        }
    });
}

#[test]
fn parts_are_copies_of_their_own() {
    let data = dataset();
    let (mut train, mut test, mut rows) = (null_mut(), null_mut(), null_mut());
    // SAFETY: C strings, arrays as large as their shapes, places for handles.
    unsafe {
        let options = cr#"{"train_size": 1, "shuffle": false}"#;
        assert_eq!(biv_dataset_split(data, options.as_ptr(), &mut train, &mut test), BIV_OK);
        biv_dataset_free(data);
        assert_eq!(biv_dataset_subset(test, [2i64, 0].as_ptr(), 2, &mut rows), BIV_OK);
        biv_dataset_free(test);
        let (mut noisy, mut labels) = (null_mut(), [0.0f64; 2]);
        let noise = cr#"{"distribution": {"kind": "gamma", "mean": 1, "variance": 2}, "disturbance": 1}"#;
        assert_eq!(biv_dataset_add_noise(rows, noise.as_ptr(), &mut noisy), BIV_OK);
        let out = to_fill(labels.as_mut_ptr(), &[2], None);
        assert_eq!(biv_dataset_copy_clean_labels(noisy, &out), BIV_OK);
        assert_eq!(labels, [4.0, 2.0]);
        for handle in [train, rows, noisy] {
            biv_dataset_free(handle);
        }
    }
}

#[test]
fn losses_and_noise_fill_the_callers_memory() {
    let (p, y, v) = ([1.0f64, 2.0, 5.0], [1.0f64, 4.0, 4.0], [0.0f64, 1.0, 3.0]);
    let (mut gradient, mut drawn) = ([0.0f64; 3], [0.0f64; 3]);
    let (mut result, shape) = ([size_of::<biv_loss_result>() as u64; 5], [3i64]);
    // SAFETY: arrays as large as their shapes, a struct of its size, C strings.
    unsafe {
        let [p, y, v] = [&p, &y, &v].map(|values| described(values.as_ptr(), &shape, None));
        let out = to_fill(gradient.as_mut_ptr(), &shape, None);
        let loss = cr#"{"kind": "iv", "epsilon": 1}"#;
        assert_eq!(biv_loss_compute(loss.as_ptr(), &p, &y, &v, result.as_mut_ptr().cast(), &out), BIV_OK);
        assert_eq!((f64::from_bits(result[1]), gradient), (0.75, [0.0, -2.0 / 3.0, 1.0 / 6.0]));
        let law = cr#"{"kind": "uniform", "low": 2, "high": 2}"#;
        assert_eq!(biv_noise_sample(law.as_ptr(), 1, drawn.as_mut_ptr(), 3), BIV_OK);
        assert_eq!(drawn, [2.0; 3]);
        assert_eq!(biv_noise_sample(law.as_ptr(), 1, null_mut(), 0), BIV_OK);
    }
}

#[test]
fn texts_live_as_long_as_is_said() {
    let mut resolved = null_mut();
    let mut text: *const c_char = null();
    // SAFETY: C strings that outlive the calls, places for what is asked for.
    unsafe {
        let config = cr#"{"dataset": {"kind": "wine", "train_size": 500}, "loss": {"kind": "mse"}}"#;
        assert_eq!(biv_experiment_resolve(config.as_ptr(), &mut resolved), BIV_OK);
        assert_eq!(biv_text_get(resolved, &mut text), BIV_OK);
        assert!(CStr::from_ptr(text).to_str().unwrap().contains("vanilla_ann"));
        biv_text_free(resolved);
        assert_eq!(biv_text_get(resolved, &mut text), BIV_ERROR_INVALID_HANDLE);
        assert!(text.is_null());

        let before = biv_last_error_message();
        biv_text_free(resolved);
        assert!(CStr::from_ptr(before).to_str().unwrap().ends_with("was freed, or never was a handle"));
    }
}
