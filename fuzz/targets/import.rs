//! Weights of other programs: safetensors files of any bytes, and well-formed ones with any names, types and values. After
//! an error the model is as before; what is taken predicts.

#![no_main]

use biv_fuzz::*;
use libfuzzer_sys::fuzz_target;
use safetensors::{Dtype, tensor::TensorView};
use std::collections::BTreeMap;
use std::ptr::null_mut;

const PREFIXES: [&str; 5] = ["", "module.", "_orig_mod.", "_orig_mod.module.", "other."];
const NAMES: [&str; 7] = ["0.weight", "0.bias", "2.weight", "2.bias", "1.num_batches_tracked", "2", "module"];
const TYPES: [Dtype; 6] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::BF16, Dtype::I64, Dtype::BOOL];

/// A file whose tensors each take five bytes of `input`: name, prefix, type, shape, and what their values are made of.
fn well_formed(input: &[u8]) -> Vec<u8> {
    let shapes: [&[usize]; 6] = [&[3, 2], &[3], &[1, 3], &[1], &[2, 3], &[0]];
    let tensors = input.chunks_exact(5).take(12).map(|part| {
        let name = format!("{}{}", PREFIXES[usize::from(part[1]) % 5], NAMES[usize::from(part[0]) % 7]);
        let (dtype, shape) = (TYPES[usize::from(part[2]) % 6], shapes[usize::from(part[3]) % 6].to_vec());
        let size = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name, (dtype, shape, vec![part[4]; size]))
    });
    // A file has each name once.
    let tensors: BTreeMap<_, _> = tensors.collect();
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).expect("the size is that of the shape"))
    });
    safetensors::serialize(views, None).expect("a file")
}

/// All values of the model's four tensors.
fn weights(model: *const biv_model) -> Vec<f64> {
    let tensors = [(c"0.weight", &[3, 2][..]), (c"0.bias", &[3]), (c"2.weight", &[1, 3]), (c"2.bias", &[1])];
    let values = tensors.map(|(name, shape)| {
        let mut values = vec![0.0; shape.iter().product::<i64>() as usize];
        // SAFETY: the array is as large as its shape says.
        let status = unsafe { biv_model_get_tensor(model, name.as_ptr(), &array_out(&mut values, shape)) };
        assert_eq!(check_status(status), BIV_OK);
        values
    });
    values.concat()
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let content = if first % 2 == 0 { rest.to_vec() } else { well_formed(rest) };
    let options = if first % 4 < 2 { c"{\"strict\": true}" } else { c"{\"strict\": false}" };
    with_file("weights.safetensors", &content, |path| {
        let path = c_string(path.as_os_str().as_encoded_bytes());
        let network = c"{\"kind\": \"mlp\", \"inputs\": 2, \"hidden\": [3]}";
        // SAFETY: C strings that outlive the calls, handles that were just made.
        unsafe {
            let model = made(|out| biv_model_create(network.as_ptr(), out)).expect("a model");
            let before = weights(model);
            match made(|out| biv_model_import_weights(model, path.as_ptr(), options.as_ptr(), out)) {
                Ok(report) => {
                    let mut text = null_mut::<std::ffi::c_char>().cast_const();
                    assert_eq!(check_status(biv_text_get(report, &mut text)), BIV_OK);
                    biv_text_free(report);
                    assert!(weights(model).iter().all(|weight| weight.is_finite()));
                    use_model(model);
                }
                Err(_) => assert_eq!(weights(model), before),
            }
            biv_model_free(model);
        }
    });
});
