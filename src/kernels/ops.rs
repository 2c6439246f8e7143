//! The layers of image networks, each by the implementation that suits device, processor and type.

use super::cuda;
use super::spec::{BatchNorm, Epilogue, Window};
use crate::Result;
use crate::torch::ffi::{AtTensor, pointer, torch};
use std::ffi::c_char;
use tch::Tensor;

unsafe extern "C" {
    fn biv_cpu_batch_norm(
        input: *const AtTensor,
        weight: *const AtTensor,
        bias: *const AtTensor,
        running_mean: *const AtTensor,
        running_var: *const AtTensor,
        shortcut: *const AtTensor,
        training: bool,
        momentum: f64,
        epsilon: f64,
        relu: bool,
        result: *mut *mut AtTensor,
    ) -> *mut c_char;
    fn biv_cpu_conv2d(
        input: *const AtTensor,
        weight: *const AtTensor,
        bias: *const AtTensor,
        stride: i64,
        padding: i64,
        result: *mut *mut AtTensor,
    ) -> *mut c_char;
}

/// A convolution with square filters, by automatic differentiation.
pub(crate) fn conv2d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    if bias.is_none()
        && let Some(output) = cuda::images::conv2d(input, weight, stride, padding)?
    {
        return Ok(output);
    }
    let mut result = std::ptr::null_mut();
    let bias = bias.map_or(std::ptr::null(), pointer);
    let (stride, padding) = (stride as i64, padding as i64);
    // SAFETY: all are borrowed for the call, or null; `result` is a place for one.
    torch(unsafe { biv_cpu_conv2d(pointer(input), pointer(weight), bias, stride, padding, &mut result) })?;
    // SAFETY: C++ has succeeded, so this is a tensor made with new, which is ours.
    Ok(unsafe { Tensor::from_ptr(result.cast()) })
}

/// The images `index` of `bytes`, `[rows, channels, height, width]`, as `scale * byte + shift` in bfloat16 and the
/// channels-last format; `None` where no kernel does both at once.
pub(crate) fn gather_images(bytes: &Tensor, index: &Tensor, scale: f64, shift: f64) -> Result<Option<Tensor>> {
    cuda::images::gather_images(bytes, index, scale, shift)
}

/// BatchNorm by automatic differentiation; `state` is its weight, its bias, and the running mean and variance.
pub(crate) fn batch_norm(input: &Tensor, state: [&Tensor; 4], how: BatchNorm, after: Epilogue) -> Result<Tensor> {
    if how.training
        && let Some(output) = cuda::images::batch_norm(input, state, how, after)?
    {
        return Ok(output);
    }
    if let Epilogue::ReluAndMaxPool(window) = after {
        return max_pool(&batch_norm(input, state, how, Epilogue::Relu)?, window);
    }
    let mut result = std::ptr::null_mut();
    let [weight, bias, mean, var] = state.map(pointer);
    let BatchNorm { training, momentum, epsilon } = how;
    // SAFETY: all are borrowed for the call, or null; `result` is a place for one. The running statistics are changed
    // behind a shared tensor, as tch's own operations do.
    torch(unsafe {
        biv_cpu_batch_norm(
            pointer(input),
            weight,
            bias,
            mean,
            var,
            after.shortcut(),
            training,
            momentum,
            epsilon,
            after.relu(),
            &mut result,
        )
    })?;
    // SAFETY: C++ has succeeded, so this is a tensor made with new, which is ours.
    Ok(unsafe { Tensor::from_ptr(result.cast()) })
}

/// The largest value of each window.
pub(crate) fn max_pool(images: &Tensor, window: Window) -> Result<Tensor> {
    let [size, stride, padding] = [window.size, window.stride, window.padding].map(|number| number as i64);
    Ok(images.f_max_pool2d(size, stride, padding, 1, false)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::{Purpose, stream};
    use crate::torch::device::set_threads;
    use crate::torch::scopes::Autocast;
    use rand::RngExt;
    use tch::{Device, Kind};

    /// Makes tensors of a shape and a kind, whose values are between -1 and 1.
    fn random_tensors() -> impl FnMut(&[i64], Kind) -> Tensor {
        let mut generator = stream(1, Purpose::Synthetic, 0);
        move |shape, kind| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| generator.random_range(-1.0..1.0)).collect();
            Tensor::from_slice(&values).view(shape).to_kind(kind)
        }
    }

    /// In the channels-last format.
    fn last(images: &Tensor) -> Tensor {
        images.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
    }

    /// What a BatchNorm makes of images, with its running statistics, its gradients and, in training, a shortcut's.
    fn norm_results(images: &Tensor, shortcut: &Tensor, delta: &Tensor, training: bool, after: &str) -> Vec<Tensor> {
        let channels = images.size()[1];
        let kind = if images.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let list = |start: f64| Tensor::arange(channels, (kind, images.device())) / channels + start;
        let leaf = |tensor: &Tensor| tensor.copy().set_requires_grad(true);
        let (images, shortcut, weight, bias) = (leaf(images), leaf(shortcut), leaf(&list(0.5)), leaf(&list(-0.5)));
        let (mean, var) = (list(0.0), list(1.0));
        let after = match after {
            "nothing" => Epilogue::Nothing,
            "relu" => Epilogue::Relu,
            "pool of 2" => Epilogue::ReluAndMaxPool(Window { size: 2, stride: 2, padding: 0 }),
            "pool of 3" => Epilogue::ReluAndMaxPool(Window { size: 3, stride: 2, padding: 1 }),
            _ => Epilogue::ShortcutAndRelu(&shortcut),
        };
        let how = BatchNorm { training, momentum: 0.1, epsilon: 1e-5 };
        let norm = |state| batch_norm(&images, state, how, after).unwrap();
        if !training {
            return vec![tch::no_grad(|| norm([&weight, &bias, &mean, &var])), mean, var];
        }
        let output = norm([&weight, &bias, &mean, &var]);
        let loss = (&output * delta).sum(Kind::Double);
        let mut results = vec![output.detach(), mean, var];
        let mut leaves = vec![&images, &weight, &bias];
        if let Epilogue::ShortcutAndRelu(shortcut) = after {
            leaves.push(shortcut);
        }
        results.extend(Tensor::run_backward(&[loss], &leaves, false, false));
        results
    }

    /// Images in the channels-last format go another way than those of f64 in the other format, which libtorch has.
    #[test]
    fn images_have_libtorchs_batch_norm_and_the_same_bits_with_any_number_of_threads() {
        let mut random = random_tensors();
        let before = tch::get_num_threads();
        // A few pixels, a few blocks of them, and more blocks than parts.
        let shapes = [[4, 16, 1, 2], [1, 1, 9, 9], [5, 10, 20, 20], [3, 33, 7, 5], [5, 300, 9, 9], [64, 3, 50, 50]];
        for (shape, kind) in shapes.iter().flat_map(|shape| [(shape, Kind::Float), (shape, Kind::BFloat16)]) {
            for (training, after) in [true, false]
                .into_iter()
                .flat_map(|training| ["nothing", "relu", "shortcut"].map(|after| (training, after)))
            {
                let (images, shortcut, delta) = (random(shape, kind) + 3, random(shape, kind), random(shape, kind));
                let exact = |delta: &Tensor, after| {
                    norm_results(&double(&images), &double(&shortcut), &double(delta), training, after)
                };
                // Which side of zero rounding takes is left open.
                let added = f64::from(after == "shortcut");
                let before_relu = exact(&delta, "nothing").swap_remove(0) + double(&shortcut) * added;
                let delta = &delta * before_relu.abs().gt(1e-4).to_kind(kind);
                let expected = exact(&delta, after);
                let output = if after == "nothing" { before_relu } else { before_relu.relu() };
                assert_close(&expected[0], &output, 1e-12, after);
                let mut results = Vec::new();
                for threads in [1, 2, 3] {
                    set_threads(threads).unwrap();
                    results.push(norm_results(&last(&images), &last(&shortcut), &last(&delta), training, after));
                }
                set_threads(before).unwrap();
                for (place, expected) in expected.iter().enumerate() {
                    let found = &results[0][place];
                    let tolerance = if found.kind() == Kind::BFloat16 { 0.01 } else { 2e-5 };
                    let what = format!("{shape:?} {kind:?}, training {training}, {after}, result {place}");
                    assert_close(found, expected, tolerance, &what);
                    assert!(results.iter().all(|result| result[place].equal(found)), "{what}");
                }
            }
        }
    }

    fn double(tensor: &Tensor) -> Tensor {
        tensor.to_device(Device::Cpu).to_kind(Kind::Double)
    }

    /// `tolerance` is part of the largest value.
    fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
        assert_eq!(found.size(), expected.size(), "{what}");
        let difference = (double(found) - double(expected)).abs().max().double_value(&[]);
        let scale = double(expected).abs().max().double_value(&[]).max(1e-3);
        assert!(difference <= tolerance * scale, "{what}: {difference} of {scale}");
    }

    #[test]
    #[ignore = "needs a GPU: make gpu-check"]
    fn a_gpu_has_libtorchs_batch_norm() {
        let mut random = random_tensors();
        // Two, four and eight channels to a thread, less than a block of pixels, several of them.
        let shapes =
            [[4, 16, 2, 2], [5, 10, 20, 21], [3, 300, 9, 9], [2, 512, 7, 7], [1, 2048, 3, 3], [64, 64, 50, 51]];
        for shape in &shapes {
            for after in ["nothing", "relu", "shortcut", "pool of 2", "pool of 3"] {
                let [images, shortcut] =
                    [3.0, 0.0].map(|mean| (random(shape, Kind::Float) + mean).to_kind(Kind::BFloat16));
                // Which side of zero rounding takes is left open.
                let exact =
                    |delta: &Tensor, after| norm_results(&double(&images), &double(&shortcut), delta, true, after);
                let one = Tensor::from(1.0);
                let added = f64::from(after == "shortcut");
                let before_relu = exact(&one, "nothing").swap_remove(0) + double(&shortcut) * added;
                let output = exact(&one, after).swap_remove(0);
                let clear = match after.starts_with("pool") {
                    true => output.gt(1e-4).logical_or(&output.eq(0.0)),
                    false => before_relu.abs().gt(1e-4),
                };
                let delta = random(&output.size(), Kind::BFloat16) * clear.to_kind(Kind::BFloat16);
                let there = |tensor: &Tensor| last(&tensor.to_device(Device::Cuda(0)));
                let found = norm_results(&there(&images), &there(&shortcut), &there(&delta), true, after);
                for (place, (found, expected)) in found.iter().zip(exact(&double(&delta), after)).enumerate() {
                    let tolerance = if found.kind() == Kind::BFloat16 { 0.01 } else { 5e-5 };
                    assert_close(found, &expected, tolerance, &format!("{shape:?}, {after}, result {place}"));
                }
                let state = [1.0; 4].map(|value| Tensor::full([shape[1]], value, (Kind::Float, Device::Cuda(0))));
                let how = BatchNorm { training: true, momentum: 0.1, epsilon: 1e-5 };
                let own = cuda::images::batch_norm(&there(&images), state.each_ref(), how, Epilogue::Relu).unwrap();
                assert!(own.is_some(), "{shape:?}");
            }
        }
    }

    #[test]
    #[ignore = "needs a GPU: make gpu-check"]
    fn a_gpu_has_libtorchs_first_convolution() {
        let mut random = random_tensors();
        for (shape, outputs, size) in [([2, 3, 32, 32], 8, 7), ([3, 1, 33, 20], 4, 3), ([2, 4, 17, 19], 16, 5)] {
            let (images, weight) =
                (random(&shape, Kind::BFloat16), random(&[outputs, shape[1], size, size], Kind::BFloat16));
            let padding = size as usize / 2;
            let results = |images: &Tensor, weight: &Tensor, delta: Option<&Tensor>| {
                let weight = weight.copy().set_requires_grad(true);
                let output = conv2d(images, &weight, None, 2, padding).unwrap();
                let loss = delta.map_or_else(|| output.sum(Kind::Double), |delta| (&output * delta).sum(Kind::Double));
                [output.detach(), Tensor::run_backward(&[loss], &[&weight], false, false).swap_remove(0)]
            };
            let delta = random(&results(&double(&images), &double(&weight), None)[0].size(), Kind::BFloat16);
            let expected = results(&double(&images), &double(&weight), Some(&double(&delta)));
            let [images, weight, delta] = [&images, &weight, &delta].map(|tensor| tensor.to_device(Device::Cuda(0)));
            let _autocast = Autocast::new(Device::Cuda(0), true).unwrap();
            let found = results(&images, &weight.to_kind(Kind::Float), Some(&delta));
            for (found, expected) in found.iter().zip(&expected) {
                assert_close(found, expected, 0.01, &format!("{shape:?}, {outputs}, {size}"));
            }
            assert!(cuda::images::conv2d(&images, &weight, 2, padding).unwrap().is_some(), "{shape:?}");
        }
    }

    #[test]
    #[ignore = "needs a GPU: make gpu-check"]
    fn a_gpu_gathers_images() {
        let bytes = Tensor::arange(5 * 3 * 20 * 30, (Kind::Int64, Device::Cpu)).remainder(251.0).to_kind(Kind::Uint8);
        let bytes = bytes.view([5, 3, 20, 30]).to_device(Device::Cuda(0));
        let index = Tensor::from_slice(&[4i64, 0, 2, 4]).to_device(Device::Cuda(0));
        let found = cuda::images::gather_images(&bytes, &index, 0.01, -1.5).unwrap().unwrap();
        assert_close(&found, &(double(&bytes.index_select(0, &index)) * 0.01 - 1.5), 0.004, "images");
    }

    /// A convolution of images, with its gradients: by the images, by the weight and, where there is one, by the bias.
    fn conv_results(
        images: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        delta: &Tensor,
        stride: usize,
    ) -> Vec<Tensor> {
        let leaf = |tensor: &Tensor| tensor.copy().set_requires_grad(true);
        let (images, weight, bias) = (leaf(images), leaf(weight), bias.map(leaf));
        let padding = weight.size()[2] as usize / 2;
        let output = conv2d(&images, &weight, bias.as_ref(), stride, padding).unwrap();
        let leaves: Vec<&Tensor> = [&images, &weight].into_iter().chain(&bias).collect();
        let gradients = Tensor::run_backward(&[(&output * delta).sum(Kind::Double)], &leaves, false, false);
        std::iter::once(output.detach()).chain(gradients).collect()
    }

    /// The instructions that libtorch may take, of those that the processor has.
    const VECTORS: &str = "ATEN_CPU_CAPABILITY";

    #[test]
    fn images_have_libtorchs_convolutions_and_the_same_bits_with_any_number_of_threads() {
        compare_convolutions();
        if std::env::var_os(VECTORS).is_some() {
            return;
        }
        // Other processors' ways. A process asks for its vectors once.
        let test = format!(
            "{}::images_have_libtorchs_convolutions_and_the_same_bits_with_any_number_of_threads",
            module_path!().split_once("::").unwrap().1
        );
        for vectors in ["avx2", "default"] {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            let output = command.args([&test, "--exact"]).env(VECTORS, vectors).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{vectors}: {text}");
        }
    }

    fn compare_convolutions() {
        let mut random = random_tensors();
        let before = tch::get_num_threads();
        // [rows, channels, height, width], outputs, size of the filter, stride, and in which precision it goes by
        // Winograd's way: whole tiles, parts of them, more rows than registers have, several chunks, channels for
        // AVX2 only; too few tiles, what does not fit.
        let both = &[Kind::Float, Kind::BFloat16][..];
        let cases = [
            ([4, 32, 4, 4], 32, 3, 1, both),
            ([2, 32, 13, 9], 96, 3, 1, both),
            ([40, 96, 7, 6], 64, 3, 1, both),
            ([7, 32, 50, 49], 32, 3, 1, both),
            ([3, 48, 9, 8], 80, 3, 1, &[Kind::Float]),
            ([3, 32, 4, 4], 32, 3, 1, &[]),
            ([3, 32, 8, 8], 32, 3, 2, &[]),
            ([3, 32, 8, 8], 32, 1, 1, &[]),
            ([3, 40, 8, 8], 32, 3, 1, &[]),
            ([3, 32, 8, 8], 40, 3, 1, &[]),
            ([3, 16, 8, 8], 32, 3, 1, &[]),
            ([3, 32, 8, 8], 16, 3, 1, &[]),
            ([8, 32, 2, 2], 32, 3, 1, &[]),
        ];
        for (case, kind, with_bias) in
            cases.iter().flat_map(|case| both.iter().flat_map(move |&kind| [(case, kind, true), (case, kind, false)]))
        {
            let &(shape, outputs, size, stride, winograd) = case;
            let winograd = winograd.contains(&kind) && has_winograd(kind);
            let images = random(&shape, kind);
            let weight = random(&[outputs, shape[1], size, size], Kind::Float);
            let bias = with_bias.then(|| random(&[outputs], Kind::Float));
            let output = [shape[0], outputs, (shape[2] - 1) / stride + 1, (shape[3] - 1) / stride + 1];
            let delta = random(&output, kind);
            let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
            let bias_double = bias.as_ref().map(double);
            let stride = stride as usize;
            let expected =
                conv_results(&double(&images), &double(&weight), bias_double.as_ref(), &double(&delta), stride);
            let _autocast = Autocast::new(Device::Cpu, kind == Kind::BFloat16).unwrap();
            let mut results = Vec::new();
            for threads in [1, 2, 3] {
                set_threads(threads).unwrap();
                results.push(conv_results(&last(&images), &weight, bias.as_ref(), &last(&delta), stride));
            }
            set_threads(before).unwrap();
            let tolerance = if kind == Kind::BFloat16 { 0.01 } else { 3e-5 };
            for (place, expected) in expected.iter().enumerate() {
                let found = &results[0][place];
                let difference = (double(found) - expected).abs().max().double_value(&[]);
                let scale = expected.abs().max().double_value(&[]);
                let what = format!("{case:?}, {kind:?}, bias {with_bias}, result {place}");
                assert!(difference <= tolerance * scale, "{what}: {difference} of {scale}");
                assert!(!winograd || results.iter().all(|result| result[place].equal(found)), "{what}");
            }
            // Which way it went shows in the rounding.
            let (stride, padding) = (stride as i64, size / 2);
            let direct = last(&images).f_conv2d(&weight, bias.as_ref(), stride, padding, 1, 1).unwrap();
            assert_eq!(results[2][0].equal(&direct), !winograd, "{case:?}, {kind:?}");
        }
    }

    /// Whether there are the instructions for it, and none that are faster without.
    fn has_winograd(kind: Kind) -> bool {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let has = |feature| processor.split_whitespace().any(|word| word == feature);
        let limit = std::env::var(VECTORS).unwrap_or_default();
        let avx512 = limit.is_empty() && ["avx512f", "avx512bw", "avx512dq", "avx512vl"].into_iter().all(has);
        let avx2 = limit != "default" && ["avx2", "fma"].into_iter().all(has);
        if kind == Kind::Float { avx2 } else { avx512 && has("avx512_bf16") && !has("amx_bf16") }
    }
}
