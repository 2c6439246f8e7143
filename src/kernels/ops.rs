//! The choice of an implementation by device, processor and type of values. Nothing else chooses one.
//!
//! An implementation may still decline a tensor for its shape or layout; then the next one is asked, and libtorch last.

use super::cpu::{self, Processor, Vectors};
use super::cuda::{self, Library};
use super::mlp::Plan;
use super::spec::{BatchNormSpec, Epilogue, Window};
use crate::Result;
use crate::base::log::{self, Level};
use crate::torch::Precision;
use crate::torch::runtime::has_fast_products;
use crate::torch::scopes::autocasts_on_cpu;
use pulp::Arch;
use std::sync::LazyLock;
use tch::{Device, Kind, Tensor};

/// What trains a multi-layer perceptron.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MlpImplementation {
    /// The CPU's kernel, [`mlp`](super::mlp).
    CpuKernel,
    /// The GPU's kernel, [`cuda::mlp`], which takes several steps at once.
    GpuKernel,
    /// libtorch's operations, forward and backward by hand.
    Operations,
    /// libtorch's automatic differentiation.
    Autograd,
}

/// The fastest implementation that trains a network of the shape `plan`.
///
/// # Errors
/// [`Error::Internal`](crate::Error::Internal) when CUDA fails.
pub(crate) fn mlp_implementation(plan: &Plan, device: Device, precision: Precision) -> Result<MlpImplementation> {
    Ok(match device {
        _ if precision == Precision::Bf16 => MlpImplementation::Autograd,
        Device::Cpu if is_for_cpu_kernel(plan.parameter_count(), has_fast_products()) => {
            if matches!(Arch::new(), Arch::Scalar) {
                log::once(Level::Warning, "multi-layer perceptrons train slowly: the processor has no AVX2");
            }
            MlpImplementation::CpuKernel
        }
        // The others know no other activation.
        _ if !plan.activation.is_relu() => MlpImplementation::Autograd,
        Device::Cuda(index) if precision == Precision::F32 && !plan.norm => match gpu_library() {
            Some(library) if cuda::mlp::fits(library, index, &plan.widths)? => MlpImplementation::GpuKernel,
            _ => MlpImplementation::Operations,
        },
        _ => MlpImplementation::Operations,
    })
}

/// Whether the CPU's kernel predicts with multi-layer perceptrons on `device`.
pub(crate) fn has_mlp_prediction(device: Device, precision: Precision) -> bool {
    device == Device::Cpu && precision != Precision::Bf16
}

/// Whether the CPU's kernel trains a network of so many weights faster than libtorch, whose matrix products are `fast`
/// or not. The kernel reads all weights once for each tile of rows: many of them are far from the core.
fn is_for_cpu_kernel(weights: usize, fast: bool) -> bool {
    const MOST_WEIGHTS: usize = 2_500_000;
    weights <= MOST_WEIGHTS || !fast
}

/// A convolution with square filters, by automatic differentiation.
pub(crate) fn conv2d(
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    match input.device() {
        Device::Cpu => {
            for &vectors in winograd_vectors(processor(), input.kind(), autocasts_on_cpu()) {
                if let Some(output) = cpu::winograd(vectors, input, weight, bias, stride, padding)? {
                    return Ok(output);
                }
            }
        }
        Device::Cuda(_) if bias.is_none() => {
            if let Some(library) = gpu_library()
                && let Some(output) = cuda::images::conv2d(library, input, weight, stride, padding)?
            {
                return Ok(output);
            }
        }
        _ => {}
    }
    let (stride, padding) = (stride as i64, padding as i64);
    Ok(input.f_conv2d(weight, bias, [stride, stride], [padding, padding], [1, 1], 1)?)
}

/// The instructions to try for a convolution, the fastest first. Channels that do not fill AVX-512's vectors may fill
/// those of AVX2.
pub(super) fn winograd_vectors(processor: &Processor, kind: Kind, autocast: bool) -> &'static [Vectors] {
    match (kind, autocast, processor.vectors) {
        (Kind::BFloat16, true, Vectors::Avx512) if processor.avx512_bf16 && !processor.amx_bf16 => &[Vectors::Avx512],
        (Kind::Float, false, Vectors::Avx512) => &[Vectors::Avx512, Vectors::Avx2],
        (Kind::Float, false, Vectors::Avx2) => &[Vectors::Avx2],
        _ => &[],
    }
}

/// The images `index` of `bytes`, `[rows, channels, height, width]`, as `scale * byte + shift` in bfloat16 and the
/// channels-last format; `None` where no kernel does both at once.
pub(crate) fn gather_images(bytes: &Tensor, index: &Tensor, scale: f64, shift: f64) -> Result<Option<Tensor>> {
    match bytes.device() {
        Device::Cuda(_) => {
            gpu_library().map_or(Ok(None), |library| cuda::images::gather_images(library, bytes, index, scale, shift))
        }
        _ => Ok(None),
    }
}

/// BatchNorm by automatic differentiation; `state` is its weight, its bias, and the running mean and variance.
pub(crate) fn batch_norm(
    input: &Tensor,
    state: [&Tensor; 4],
    spec: BatchNormSpec,
    epilogue: Epilogue,
) -> Result<Tensor> {
    if input.device().is_cuda()
        && spec.training
        && let Some(library) = gpu_library()
        && let Some(output) = cuda::images::batch_norm(library, input, state, spec, epilogue)?
    {
        return Ok(output);
    }
    if let Epilogue::ReluAndMaxPool(window) = epilogue {
        return max_pool(&batch_norm(input, state, spec, Epilogue::Relu)?, window);
    }
    if input.device() == Device::Cpu
        && let Some(output) = cpu::batch_norm(processor().vectors, input, state, spec, epilogue)?
    {
        return Ok(output);
    }
    let [weight, bias, mean, var] = state.map(Some);
    let BatchNormSpec { training, momentum, epsilon } = spec;
    finished(input.f_batch_norm(weight, bias, mean, var, training, momentum, epsilon, false)?, epilogue)
}

/// What is computed from the `output` of a BatchNorm after it, by libtorch's operations.
pub(super) fn finished(mut output: Tensor, epilogue: Epilogue) -> Result<Tensor> {
    if let Epilogue::ShortcutAndRelu(shortcut) = epilogue {
        output = output.f_add_(&shortcut.f_to_kind(output.kind())?)?;
    }
    if epilogue.has_relu() {
        output = output.f_relu_()?;
    }
    if let Epilogue::ReluAndMaxPool(window) = epilogue { max_pool(&output, window) } else { Ok(output) }
}

/// The largest value of each window.
pub(crate) fn max_pool(images: &Tensor, window: Window) -> Result<Tensor> {
    let [size, stride, padding] = window.sizes();
    Ok(images.f_max_pool2d(size, stride, padding, 1, false)?)
}

/// The processor. The log hears what it has.
pub(super) fn processor() -> &'static Processor {
    static PROCESSOR: LazyLock<Processor> = LazyLock::new(|| {
        let processor = Processor::detect();
        match processor.vectors {
            Vectors::Baseline => log::once(Level::Warning, "image networks on the CPU are slow: AVX2 is not in use"),
            vectors => log::once(Level::Info, &format!("image networks on the CPU use {}", vectors.name())),
        }
        processor
    });
    &PROCESSOR
}

/// The kernels for GPUs, if they can be used. The log hears whether they can.
fn gpu_library() -> Option<&'static Library> {
    static LIBRARY: LazyLock<Option<&Library>> = LazyLock::new(|| match Library::with_kernels() {
        Ok(library) => {
            log::once(Level::Info, "the kernels for GPUs are in use");
            Some(library)
        }
        Err(cause) => {
            log::once(Level::Warning, &format!("training on a GPU is slower than it could be: {cause}"));
            None
        }
    });
    *LIBRARY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::{Purpose, stream};
    use crate::kernels::spec::Activation;
    use crate::torch::device::set_threads;
    use crate::torch::scopes::Autocast;
    use crate::torch::tensor::to_f32;
    use rand::RngExt;
    use tch::{Device, Kind};

    #[test]
    fn networks_are_trained_by_the_implementation_that_is_the_fastest_for_them() {
        assert_eq!([2_400_000, 2_600_000].map(|weights| is_for_cpu_kernel(weights, true)), [true, false]);
        assert!(is_for_cpu_kernel(usize::MAX, false));
        let plan = Plan { widths: vec![3, 4, 1], norm: true, activation: Activation::Relu };
        let choose = |device, precision| mlp_implementation(&plan, device, precision).unwrap();
        assert_eq!(choose(Device::Cpu, Precision::F32), MlpImplementation::CpuKernel);
        assert_eq!(choose(Device::Cpu, Precision::Bf16), MlpImplementation::Autograd);
        assert_eq!(choose(Device::Cuda(0), Precision::F32), MlpImplementation::Operations, "it has BatchNorm");
    }

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

    /// A BatchNorm's output, its running statistics and, in training, all gradients, with a shortcut's if there is one.
    fn norm_results(images: &Tensor, shortcut: &Tensor, delta: &Tensor, training: bool, epilogue: &str) -> Vec<Tensor> {
        let channels = images.size()[1];
        let kind = if images.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let list = |start: f64| Tensor::arange(channels, (kind, images.device())) / channels + start;
        let leaf = |tensor: &Tensor| tensor.copy().set_requires_grad(true);
        let (images, shortcut, weight, bias) = (leaf(images), leaf(shortcut), leaf(&list(0.5)), leaf(&list(-0.5)));
        let (mean, var) = (list(0.0), list(1.0));
        let epilogue = match epilogue {
            "nothing" => Epilogue::Nothing,
            "relu" => Epilogue::Relu,
            "pool of 2" => Epilogue::ReluAndMaxPool(Window { size: 2, stride: 2, padding: 0 }),
            "pool of 3" => Epilogue::ReluAndMaxPool(Window { size: 3, stride: 2, padding: 1 }),
            _ => Epilogue::ShortcutAndRelu(&shortcut),
        };
        let spec = BatchNormSpec { training, momentum: 0.1, epsilon: 1e-5 };
        let norm = |state| batch_norm(&images, state, spec, epilogue).unwrap();
        if !training {
            return vec![tch::no_grad(|| norm([&weight, &bias, &mean, &var])), mean, var];
        }
        let output = norm([&weight, &bias, &mean, &var]);
        let loss = (&output * delta).sum(Kind::Double);
        let mut results = vec![output.detach(), mean, var];
        let mut leaves = vec![&images, &weight, &bias];
        if let Epilogue::ShortcutAndRelu(shortcut) = epilogue {
            leaves.push(shortcut);
        }
        results.extend(Tensor::run_backward(&[loss], &leaves, false, false));
        results
    }

    /// Images in the channels-last format go through our kernels, images of f64 in the other format through libtorch's.
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
                // Where the ReLU's input is almost 0, rounding decides which side it is on: there is no derivative to compare.
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
        // Two, four and eight channels for each thread; less than one block of pixels, and several.
        let shapes =
            [[4, 16, 2, 2], [5, 10, 20, 21], [3, 300, 9, 9], [2, 512, 7, 7], [1, 2048, 3, 3], [64, 64, 50, 51]];
        for shape in &shapes {
            for after in ["nothing", "relu", "shortcut", "pool of 2", "pool of 3"] {
                let [images, shortcut] =
                    [3.0, 0.0].map(|mean| (random(shape, Kind::Float) + mean).to_kind(Kind::BFloat16));
                // As above, almost 0 is not compared.
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
                let spec = BatchNormSpec { training: true, momentum: 0.1, epsilon: 1e-5 };
                let library = gpu_library().unwrap();
                let own =
                    cuda::images::batch_norm(library, &there(&images), state.each_ref(), spec, Epilogue::Relu).unwrap();
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
            assert!(
                cuda::images::conv2d(gpu_library().unwrap(), &images, &weight, 2, padding).unwrap().is_some(),
                "{shape:?}"
            );
        }
    }

    #[test]
    #[ignore = "needs a GPU: make gpu-check"]
    fn a_gpu_gathers_images() {
        let bytes = Tensor::arange(5 * 3 * 20 * 30, (Kind::Int64, Device::Cpu)).remainder(251.0).to_kind(Kind::Uint8);
        let bytes = bytes.view([5, 3, 20, 30]).to_device(Device::Cuda(0));
        let index = Tensor::from_slice(&[4i64, 0, 2, 4]).to_device(Device::Cuda(0));
        let found = gather_images(&bytes, &index, 0.01, -1.5).unwrap().unwrap();
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

    /// Limits the instructions that libtorch and the kernels use.
    const VECTORS: &str = "ATEN_CPU_CAPABILITY";

    /// Runs the test `name` again in processes whose instructions are limited: a process asks for them only once.
    fn repeat_with_fewer_instructions(name: &str) {
        if std::env::var_os(VECTORS).is_some() {
            return;
        }
        let test = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
        for vectors in ["avx2", "default"] {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            let output = command.args([&test, "--exact"]).env(VECTORS, vectors).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{vectors}: {text}");
        }
    }

    #[test]
    fn batch_norm_uses_the_instructions_that_libtorch_uses() {
        let mut random = random_tensors();
        let images = last(&random(&[4, 16, 3, 3], Kind::Float));
        let state = [0.5, -0.5, 0.1, 1.5].map(|start| random(&[16], Kind::Float) * 0.1 + start);
        let spec = BatchNormSpec { training: false, momentum: 0.1, epsilon: 1e-5 };
        let found = batch_norm(&images, state.each_ref(), spec, Epilogue::Nothing).unwrap();
        let [weight, bias, mean, inverse_std] =
            [&state[0], &state[1], &state[2], &(&state[3] + 1e-5).rsqrt()].map(|list| to_f32(list).unwrap());
        let exact = |multiply_add: fn(f32, f32, f32) -> f32| {
            let values = to_f32(&images).unwrap().into_iter().enumerate().map(|(at, x)| {
                let channel = at / 9 % 16;
                let scale = weight[channel] * inverse_std[channel];
                multiply_add(x, scale, bias[channel] - mean[channel] * scale)
            });
            values.collect::<Vec<_>>()
        };
        let (fused, rounded_twice) = (exact(f32::mul_add), exact(|a, b, c| a * b + c));
        assert_ne!(fused, rounded_twice);
        // Only the loops for AVX-512 multiply and add in one instruction.
        assert_eq!(to_f32(&found).unwrap(), if has_avx512() { fused } else { rounded_twice });
        repeat_with_fewer_instructions("batch_norm_uses_the_instructions_that_libtorch_uses");
    }

    #[test]
    fn images_have_libtorchs_convolutions_and_the_same_bits_with_any_number_of_threads() {
        compare_convolutions();
        repeat_with_fewer_instructions(
            "images_have_libtorchs_convolutions_and_the_same_bits_with_any_number_of_threads",
        );
    }

    fn compare_convolutions() {
        let mut random = random_tensors();
        let before = tch::get_num_threads();
        // [rows, channels, height, width], outputs, size of the filter, stride, and the precisions in which Winograd's
        // algorithm is used: for whole tiles, parts of them, more rows than registers hold, several rounds, channels for
        // AVX2 only; not for too few tiles, nor for what it does not support.
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
            // The rounding shows which implementation it was.
            let (stride, padding) = (stride as i64, size / 2);
            let direct = last(&images).f_conv2d(&weight, bias.as_ref(), stride, padding, 1, 1).unwrap();
            assert_eq!(results[2][0].equal(&direct), !winograd, "{case:?}, {kind:?}");
        }
    }

    /// Whether the processor has the instructions for it, and not AMX, with which libtorch is faster.
    fn has_winograd(kind: Kind) -> bool {
        let avx2 = limit() != "default" && ["avx2", "fma"].into_iter().all(has);
        if kind == Kind::Float { avx2 } else { has_avx512() && has("avx512_bf16") && !has("amx_bf16") }
    }

    fn has_avx512() -> bool {
        limit().is_empty() && ["avx512f", "avx512bw", "avx512dq", "avx512vl"].into_iter().all(has)
    }

    fn limit() -> String {
        std::env::var(VECTORS).unwrap_or_default()
    }

    /// Whether the processor has `feature`.
    fn has(feature: &str) -> bool {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        processor.split_whitespace().any(|word| word == feature)
    }
}
