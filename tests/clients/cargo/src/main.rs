//! client.c in Rust over the C functions, for programs that link the installed library.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};

const ROWS: usize = 256;
const COLUMNS: usize = 8;
const BIV_OK: i32 = 0;
const BIV_F64: i32 = 2;

#[repr(C)]
struct Array {
    data: *const f64,
    dtype: i32,
    rank: i32,
    shape: *const i64,
    strides: *const i64,
    size: i64,
}

/// biv_metrics. The numbers after rows are mse, rmse, mae and so on.
#[repr(C)]
struct Metrics {
    struct_size: usize,
    rows: i64,
    numbers: [f64; 13],
}

unsafe extern "C" {
    fn biv_last_error_message() -> *const c_char;
    fn biv_set_num_threads(threads: i32) -> i32;
    fn biv_dataset_create_from_arrays(x: &Array, y: &Array, v: &Array, out: &mut *mut c_void) -> i32;
    fn biv_model_create(options: *const c_char, out: &mut *mut c_void) -> i32;
    fn biv_trainer_create(
        model: *mut c_void,
        data: *const c_void,
        options: *const c_char,
        out: &mut *mut c_void,
    ) -> i32;
    fn biv_trainer_fit(
        trainer: *mut c_void,
        epochs: i64,
        test: *const c_void,
        callback: *const c_void,
        user: *mut c_void,
    ) -> i32;
    fn biv_trainer_evaluate(trainer: *const c_void, data: *const c_void, out: &mut Metrics) -> i32;
    fn biv_trainer_free(trainer: *mut c_void);
    fn biv_model_free(model: *mut c_void);
    fn biv_dataset_free(data: *mut c_void);
}

fn check(status: i32) {
    // SAFETY: the message is a text that ends in NUL.
    assert_eq!(status, BIV_OK, "{:?}", unsafe { CStr::from_ptr(biv_last_error_message()) });
}

fn array(values: &[f64], shape: &[i64]) -> Array {
    Array {
        data: values.as_ptr(),
        dtype: BIV_F64,
        rank: shape.len() as i32,
        shape: shape.as_ptr(),
        strides: null(),
        size: 0,
    }
}

fn main() {
    let [_, model_options, trainer_options] =
        [0, 1, 2].map(|i| CString::new(std::env::args().nth(i).unwrap()).unwrap());
    let x: Vec<f64> = (0..ROWS * COLUMNS).map(|i| (i * 37 % 101) as f64 / 64.0).collect();
    let y: Vec<f64> = x.chunks(COLUMNS).map(|row| row[0] - 2.0 * row[1] * row[2]).collect();
    let v: Vec<f64> = (0..ROWS).map(|i| if i % 2 == 1 { 0.0625 } else { 4.0 }).collect();
    let shape = [ROWS as i64, COLUMNS as i64];
    let [x, y, v] = [array(&x, &shape), array(&y, &shape[..1]), array(&v, &shape[..1])];
    let (mut data, mut model, mut trainer) = (null_mut(), null_mut(), null_mut());
    let mut metrics = Metrics { struct_size: size_of::<Metrics>(), rows: 0, numbers: [0.0; 13] };
    // SAFETY: the declarations are those of biv.h, and the arrays outlive the calls.
    unsafe {
        check(biv_set_num_threads(1));
        check(biv_dataset_create_from_arrays(&x, &y, &v, &mut data));
        check(biv_model_create(model_options.as_ptr(), &mut model));
        check(biv_trainer_create(model, data, trainer_options.as_ptr(), &mut trainer));
        check(biv_trainer_fit(trainer, 5, null(), null(), null_mut()));
        check(biv_trainer_evaluate(trainer, data, &mut metrics));
        biv_trainer_free(trainer);
        biv_model_free(model);
        biv_dataset_free(data);
    }
    // Rust prints as many digits as tell the number apart; 17 always do.
    println!("{:.17}", metrics.numbers[1]);
}
