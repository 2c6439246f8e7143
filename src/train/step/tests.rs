//! Every strategy finds the same gradients.

use super::*;
use crate::base::fault;
use crate::base::random::{Purpose, permutation, stream};
use crate::data::Dataset;
use crate::data::Normalization;
use crate::kernels::adam_step::{AdamOptions, AdamwOptions};
use crate::kernels::optimizer::OptimizerOptions;
use crate::kernels::sgd_step::SgdOptions;
use crate::kernels::spec::Activation;
use crate::model::archive::Archive;
use crate::model::batch::Source;
use crate::model::{ModelOptions, Pass};
use crate::torch::runtime::has_fast_products;
use crate::torch::tensor::to_f32;
use proptest::prelude::*;
use pulp::Arch;
use rand::RngExt;
use serde_json::{Value, json};
use tch::{Device, Kind};

/// The strategy that the others are measured by: automatic differentiation, and the host waits for each step.
fn autograd() -> Box<dyn StepStrategy> {
    Box::new(Synchronous::new(Gradients::by_autograd(Precision::F32, None)))
}

/// Adam as it is by default.
fn adam() -> UpdateOptions {
    UpdateOptions { optimizer: OptimizerOptions::Adam(AdamOptions::default()), clip_norm: None }
}

/// A network and rows for it.
struct Case {
    model: Model,
    features: Source,
    labels: Tensor,
    order: Vec<usize>,
    coefficients: Vec<f32>,
    normalization: Normalization,
}

impl Case {
    fn new(widths: &[usize], batch_norm: bool, rows: usize, seed: u64) -> Self {
        Case::with(widths, batch_norm, Activation::Relu, rows, seed)
    }

    fn with(widths: &[usize], batch_norm: bool, function: Activation, rows: usize, seed: u64) -> Self {
        let &[inputs, ref hidden @ .., outputs] = widths else { panic!("a network has inputs and outputs") };
        let mut generator = stream(seed, Purpose::Synthetic, 0);
        let mut options = ModelOptions::mlp(inputs, hidden, outputs, batch_norm, seed);
        if let ModelOptions::Mlp { activation, .. } = &mut options {
            *activation = function;
        }
        let model = Model::new(&options).unwrap();
        let mut numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|_| generator.random_range(-2.0..2.0)).collect() };
        let labels = numbers(rows * outputs).into_iter().map(f64::from).collect();
        let data = Dataset::new(numbers(rows * inputs), vec![inputs], labels, outputs, None).unwrap();
        let coefficients = numbers(rows * outputs).iter().map(|c| c.abs() / (rows * outputs) as f32).collect();
        let normalization = Normalization::identity(outputs);
        Case {
            features: Source::new(&data, &[inputs], &normalization, model.device()).unwrap(),
            labels: crate::model::batch::labels(&data, &normalization, model.device()).unwrap(),
            order: permutation(rows, &mut stream(seed, Purpose::Shuffle, 0)).unwrap(),
            coefficients,
            model,
            normalization,
        }
    }

    /// The losses of some steps by `strategy`, and then the optimiser's means, the buffers and the parameters.
    fn train(&mut self, strategy: Box<dyn StepStrategy>, steps: usize) -> (Vec<f64>, [Vec<Vec<f32>>; 3]) {
        self.train_with(strategy, &adam(), 1e-3, steps)
    }

    /// As [`Case::train`], with another optimiser; then what it keeps first.
    fn train_with(
        &mut self,
        strategy: Box<dyn StepStrategy>,
        update: &UpdateOptions,
        learning_rate: f64,
        steps: usize,
    ) -> (Vec<f64>, [Vec<Vec<f32>>; 3]) {
        let mut archive = Archive::new(crate::model::archive::ArchiveKind::Model, &()).unwrap();
        self.model.store(&mut archive).unwrap();
        let mut engine = Engine::with(strategy, self.model.whole(), update).unwrap();
        let Case { features, labels, order, coefficients, normalization, .. } = &*self;
        let batch =
            MiniBatch { features, labels, held: None, rows: order, coefficients, variances: None, normalization };
        let losses: Vec<StepLoss> =
            (0..steps).map(|_| engine.step(&self.model, &batch, learning_rate).unwrap()).collect();
        let losses = engine.read(&self.model, &losses).unwrap();
        let means = copies(&engine.weights.optimizer.state()[0].parts);
        let state = [means, copies(&engine.weights.buffers), copies(&engine.weights.parameters)];
        self.model.restore(&archive).unwrap();
        (losses, state)
    }

    /// The gradients in double precision, to measure others by: of this network and these features, and of neighbours
    /// of which each number is another by up to 1e-5 of itself. Single precision cannot be nearer to the first than
    /// those are where it is nearest to a kink: a ReLU on the other side of 0 may move much.
    fn gradients(self) -> [Vec<Vec<f32>>; 9] {
        for mut state in self.model.state() {
            let double = state.tensor.to_kind(Kind::Double).detach();
            tch::no_grad(|| state.tensor.set_data(&double));
        }
        let rows: Vec<i64> = self.order.iter().map(|&row| row as i64).collect();
        let rows = Tensor::from_slice(&rows);
        let features = self.features.numbers().unwrap().index_select(0, &rows).to_kind(Kind::Double);
        let labels = self.labels.index_select(0, &rows);
        let coefficients = Tensor::from_slice(&self.coefficients).view_as(&labels);
        let parameters = self.model.whole().parameters();
        let exact: Vec<Tensor> = parameters.iter().map(Tensor::detach_copy).collect();
        let mut generator = stream(0, Purpose::Disturbance, 0);
        std::array::from_fn(|k| {
            let scale = if k == 0 { 0.0 } else { 1e-5 };
            let mut neighbour = |numbers: &Tensor| {
                let factors = (0..numbers.numel()).map(|_| 1.0 + scale * generator.random_range(-1.0..1.0));
                numbers * Tensor::from_slice(&factors.collect::<Vec<f64>>()).view_as(numbers)
            };
            let features = neighbour(&features);
            for (parameter, exact) in parameters.iter().zip(&exact) {
                tch::no_grad(|| parameter.shallow_clone().copy_(&neighbour(exact)));
            }
            let error = self.model.forward(&features, Pass::training(0), Precision::F32).unwrap() - &labels;
            let loss = (&coefficients * error.square()).sum(Kind::Double);
            let gradients = Tensor::run_backward(&[loss], &parameters, false, false);
            gradients.iter().map(|gradient| to_f32(gradient).unwrap()).collect()
        })
    }

    /// Every strategy but [`autograd`], by name.
    fn others(&self) -> Vec<(String, Box<dyn StepStrategy>)> {
        let layers = || Gradients::by_hand(self.model.whole().plan().unwrap(), Precision::F32);
        let mut strategies: Vec<_> = archs().into_iter().map(|arch| (format!("{arch:?}"), self.kernel(arch))).collect();
        if self.model.whole().plan().unwrap().activation.is_relu() {
            strategies.push(("by hand".into(), Box::new(Synchronous::new(layers()))));
            strategies.push(("by hand, deferred".into(), self.deferred(layers())));
            strategies.push(("by hand, distributed".into(), self.distributed(layers(), json!({}))));
        }
        let autograd = || Gradients::by_autograd(Precision::F32, None);
        strategies.push(("autograd, deferred".into(), self.deferred(autograd())));
        let synchronised = json!({"batch_norm": "synchronised"});
        strategies.push(("autograd, distributed".into(), self.distributed(autograd(), synchronised)));
        if !self.model.whole().plan().unwrap().norm {
            let shares = json!({"deterministic": true, "shares": 3});
            strategies.push(("autograd, in shares".into(), self.distributed(autograd(), shares)));
        }
        strategies
    }

    fn deferred(&self, gradients: Gradients) -> Box<dyn StepStrategy> {
        Box::new(Deferred::new(gradients, self.model.device()).unwrap())
    }

    /// By one process of one.
    fn distributed(&self, gradients: Gradients, mut options: Value) -> Box<dyn StepStrategy> {
        options["rank"] = json!(0);
        options["world_size"] = json!(1);
        let ranks = Ranks::join(&serde_json::from_value(options).unwrap()).unwrap();
        Box::new(Distributed::new(gradients, self.model.whole(), ranks).unwrap())
    }

    fn kernel(&self, arch: Arch) -> Box<dyn StepStrategy> {
        Box::new(CpuMlp::on(self.model.whole().plan().unwrap(), arch))
    }
}

const ACTIVATIONS: [Activation; 7] = [
    Activation::Relu,
    Activation::LeakyRelu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Silu,
    Activation::Gelu,
    Activation::Softplus,
];

/// The instruction sets of this machine.
fn archs() -> Vec<Arch> {
    let mut archs = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
    #[cfg(target_arch = "x86_64")]
    archs.extend(pulp::x86::V4::try_new().map(Arch::V4));
    #[cfg(target_arch = "aarch64")]
    archs.extend(pulp::aarch64::Neon::try_new().map(Arch::Neon));
    archs
}

fn copies(tensors: &[Tensor]) -> Vec<Vec<f32>> {
    tensors.iter().map(|tensor| to_f32(tensor).unwrap()).collect()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()))
}

/// The greatest difference between twins, measured by the largest number of its tensor, and by no less
/// than a hundredth of the largest of all: gradients before a BatchNorm may be 0 but for rounding.
fn difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let all = expected.iter().map(|tensor| largest(tensor)).fold(0.0, f32::max);
    let pairs = found.iter().zip(expected).map(|(found, expected)| {
        let difference: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        assert_eq!(found.len(), expected.len());
        largest(&difference) / largest(expected).max(1e-2 * all).max(1e-30)
    });
    pairs.fold(0.0, f32::max)
}

/// The length of the difference of two lists of tensors, measured by the length of the second.
fn distance(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    let difference = length(&mut pairs.map(|(a, b)| f64::from(a - b)));
    difference / length(&mut expected.iter().flatten().map(|&value| f64::from(value))).max(1e-30)
}

fn width() -> impl Strategy<Value = usize> {
    (0.0..=10.0f64).prop_map(|log| log.exp2().round() as usize)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// To rounding.
    #[test]
    fn every_strategy_finds_the_gradients_of_any_network(
        widths in prop::collection::vec(width(), 2..=10), batch_norm: bool, rows in 2usize..200, seed: u64,
        activation in prop_oneof![Just(Activation::Relu), prop::sample::select(&ACTIVATIONS[..])],
    ) {
        let case = || Case::with(&widths, batch_norm, activation, rows, seed);
        let [exact, neighbours @ ..] = case().gradients();
        let moved = neighbours.iter().fold((0.0f64, 0.0f32), |moved, gradients| {
            (moved.0.max(distance(gradients, &exact)), moved.1.max(difference(gradients, &exact)))
        });
        // About a quarter of the networks are so near to a kink that a change in the fifth digit moves their gradients.
        // Rounding may do the same, so they say nothing.
        prop_assume!(moved.0 < 1e-3 && moved.1 < 1e-2);
        // After one step Adam's means are a tenth of the gradients.
        let error = |means: Vec<Vec<f32>>| {
            let gradients: Vec<Vec<f32>> =
                means.into_iter().map(|mean| mean.into_iter().map(|value| 10.0 * value).collect()).collect();
            (distance(&gradients, &exact), difference(&gradients, &exact))
        };
        let mut case = case();
        let (loss, [means, buffers, _]) = case.train(autograd(), 1);
        let own = error(means);
        // Nor of those in which libtorch's own single precision loses as much.
        prop_assume!(own.0 < 1e-4 && own.1 < 1e-2);
        for (name, strategy) in case.others() {
            let (found, [means, found_buffers, _]) = case.train(strategy, 1);
            prop_assert!((found[0] - loss[0]).abs() <= 1e-3 * loss[0].abs(), "{name}: {found:?}, {loss:?}");
            let (error, buffers) = (error(means), difference(&found_buffers, &buffers));
            prop_assert!(error.0 < 1e-3 && error.1 < 0.05, "{name}: {error:?}");
            prop_assert!(buffers < 1e-3, "{name}: {buffers}");
        }
    }
}

#[test]
fn every_strategy_follows_autograd_over_many_steps() {
    for (batch_norm, activation) in [false, true].into_iter().flat_map(|norm| ACTIVATIONS.map(|which| (norm, which))) {
        let mut case = Case::with(&[19, 100, 50, 20, 10, 1], batch_norm, activation, 256, 1);
        let (losses, _) = case.train(autograd(), 50);
        assert!(losses[49] < 0.99 * losses[0], "{activation:?}: {losses:?}");
        // Small gradients, of which Adam takes little but the sign, differ by their rounding.
        let tolerance = if activation.is_relu() { 1e-3 } else { 1e-2 };
        for (name, strategy) in case.others() {
            let (found, _) = case.train(strategy, 50);
            for (found, expected) in found.iter().zip(&losses) {
                assert!((found - expected).abs() < tolerance * expected, "{name}, {activation:?}: {found}, {expected}");
            }
        }
    }
}

/// Optimisers other than plain Adam, each with a learning rate, by name.
fn optimizers() -> Vec<(&'static str, UpdateOptions, f64)> {
    let with = |optimizer| UpdateOptions { optimizer, clip_norm: None };
    let clipped = |optimizer| UpdateOptions { optimizer, clip_norm: Some(0.5) };
    let adam = AdamOptions { beta1: 0.8, weight_decay: 0.1, ..AdamOptions::default() };
    let adamw = OptimizerOptions::Adamw(AdamwOptions { weight_decay: 5.0, ..AdamwOptions::default() });
    let plain = SgdOptions { weight_decay: 0.1, ..SgdOptions::default() };
    let dampened = OptimizerOptions::Sgd(SgdOptions { momentum: 0.9, dampening: 0.4, ..plain.clone() });
    let nesterov = OptimizerOptions::Sgd(SgdOptions { momentum: 0.9, nesterov: true, ..plain.clone() });
    vec![
        ("adam with weight decay", with(OptimizerOptions::Adam(adam.clone())), 1e-3),
        ("adam, clipped", clipped(OptimizerOptions::Adam(adam)), 1e-3),
        ("adamw", with(adamw), 1e-3),
        ("sgd", with(OptimizerOptions::Sgd(plain.clone())), 1e-2),
        ("sgd, clipped", clipped(OptimizerOptions::Sgd(plain)), 1e-2),
        ("momentum, dampened", with(dampened), 1e-2),
        ("nesterov, clipped", clipped(nesterov), 1e-2),
    ]
}

#[test]
fn every_strategy_follows_autograd_with_every_optimizer() {
    for (what, update, rate) in optimizers() {
        for (batch_norm, rows) in [(false, 700), (true, 100)] {
            let mut case = Case::new(&[7, 33, 20, 2], batch_norm, rows, 5);
            let (losses, [_, _, expected]) = case.train_with(autograd(), &update, rate, 30);
            assert!(losses[29] < losses[0], "{what}: {losses:?}");
            for (name, strategy) in case.others() {
                let (found, [_, _, parameters]) = case.train_with(strategy, &update, rate, 30);
                for (found, expected) in found.iter().zip(&losses) {
                    assert!((found - expected).abs() < 3e-4 * expected, "{what}, {name}: {found}, {expected}");
                }
                // A bias before a BatchNorm has no gradient but rounding.
                let distance = distance(&parameters, &expected);
                assert!(batch_norm || distance < 1e-3, "{what}, {name}: {distance}");
            }
        }
    }
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing_with_any_optimizer() {
    let mut case = Case::new(&[3, 8, 1], true, 100, 3);
    let (_, before) = case.train(autograd(), 0);
    case.coefficients[99] = f32::INFINITY;
    for (what, update, rate) in optimizers() {
        let mut strategies = case.others();
        strategies.push(("autograd".into(), autograd()));
        for (name, strategy) in strategies {
            let (loss, after) = case.train_with(strategy, &update, rate, 2);
            assert!(!loss[0].is_finite(), "{what}, {name}");
            assert_eq!(after, before, "{what}, {name}");
        }
    }
}

/// The kernel's chunks go through their tiles several times, or have the weights divided among threads.
#[test]
fn every_strategy_finds_the_gradients_of_large_batches_and_networks() {
    let cases: [(&[usize], usize); 2] = [(&[19, 100, 50, 20, 10, 1], 3000), (&[300, 250, 3], 1000)];
    for (widths, rows) in cases {
        let mut case = Case::new(widths, false, rows, 1);
        let (_, [expected, ..]) = case.train(autograd(), 1);
        for (name, strategy) in case.others() {
            let (_, [found, ..]) = case.train(strategy, 1);
            let distance = distance(&found, &expected);
            assert!(distance < 1e-4, "{name}: {distance}");
        }
    }
}

/// The name of the strategy that is taken on `device`.
fn chosen(device: Device, widths: &[usize], norm: bool, precision: Precision) -> &'static str {
    let mut case = Case::new(widths, norm, 2, 1);
    case.model.to_device(device).unwrap();
    strategy(
        case.model.whole(),
        StepOptions { precision, cuda_graph: false, plain_adam: true, likelihood: None, ranks: None },
    )
    .unwrap()
    .name()
}

#[test]
#[ignore = "needs a GPU: make gpu-check"]
fn a_gpu_trains_small_networks_by_its_kernel() {
    let name = |widths: &[usize], norm, precision| chosen(Device::Cuda(0), widths, norm, precision);
    assert_eq!(name(&[19, 100, 50, 20, 10, 1], false, Precision::F32), "mlp_gpu");
    assert_eq!(name(&[19, 100, 50, 20, 10, 1], true, Precision::F32), "operations");
    assert_eq!(name(&[19, 100, 50, 20, 10, 1], false, Precision::Tf32), "operations");
    assert_eq!(name(&[19, 100, 50, 20, 10, 1], false, Precision::Bf16), "autograd");
    assert_eq!(name(&[10, 1000, 1000, 1], false, Precision::F32), "operations");
    assert_eq!(name(&[1; 18], false, Precision::F32), "operations");
}

#[test]
fn the_kernel_trains_what_it_is_fastest_for() {
    let name = |widths: &[usize], precision| chosen(Device::Cpu, widths, false, precision);
    assert_eq!(name(&[10, 1000, 1], Precision::F32), "mlp_cpu");
    // 2.6 million weights.
    let fastest = if has_fast_products() { "operations" } else { "mlp_cpu" };
    assert_eq!(name(&[10, 1600, 1600, 1], Precision::F32), fastest);
    assert_eq!(name(&[10, 1600, 1600, 1], Precision::Bf16), "autograd");
}

#[test]
fn predictions_are_autograds_with_any_number_of_threads() {
    let before = tch::get_num_threads();
    let normalization = Normalization {
        feature_mean: vec![0.5, -1.0, 2.0, 0.0, 1e4],
        feature_std: vec![2.0, 0.5, 1.0, 3.0, 1e3],
        label_mean: vec![1.0, -2.0, 0.0],
        label_std: vec![3.0, 0.1, 1.0],
    };
    // The last are for several threads.
    let sizes = [(false, 1), (false, 20), (false, 40), (true, 700), (false, 4000), (true, 4000)];
    let relu = sizes.map(|(norm, rows)| (norm, rows, Activation::Relu));
    let others = ACTIVATIONS.into_iter().flat_map(|which| [(false, 100, which), (true, 100, which)]);
    for (batch_norm, rows, activation) in relu.into_iter().chain(others) {
        let mut case = Case::with(&[5, 40, 17, 3], batch_norm, activation, rows.max(2), 4);
        for _ in 0..3 {
            // It moves BatchNorm's running statistics.
            let _ = case.model.forward(case.features.numbers().unwrap(), Pass::training(0), Precision::F32).unwrap();
        }
        let normal = to_f32(case.features.numbers().unwrap()).unwrap();
        let units = normalization.feature_mean.iter().zip(&normalization.feature_std).cycle();
        let features: Vec<f32> = normal.iter().zip(units).map(|(x, (m, s))| (f64::from(*x) * s + m) as f32).collect();
        let features = &features[..5 * rows];
        case.model.set_normalization(normalization.clone());
        let x = Tensor::from_slice(&normal[..5 * rows]).view([rows as i64, 5]);
        let output = to_f32(&case.model.forward(&x, Pass::Evaluation, Precision::F32).unwrap()).unwrap();
        let output: Vec<f64> = output.into_iter().map(f64::from).collect();
        let expected: Vec<f32> = normalization.predictions(&output).map(|p| p as f32).collect();
        let predict = |threads: i32| {
            crate::torch::device::set_threads(threads).unwrap();
            case.model.predict(features).unwrap().into_iter().map(|p| p as f32).collect::<Vec<_>>()
        };
        let found = predict(1);
        assert!([2, 3].iter().all(|&threads| predict(threads) == found));
        for output in 0..3 {
            let column = |values: &[f32]| vec![values.iter().skip(output).step_by(3).copied().collect::<Vec<_>>()];
            let difference = difference(&column(&found), &column(&expected));
            assert!(difference < 1e-5, "{activation:?}, {rows} rows, output {output}: {difference}");
        }
    }
    crate::torch::device::set_threads(before).unwrap();
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let threads = tch::get_num_threads();
    // Chunks with a gradient each; BatchNorm; more weights than those are for.
    let cases: [(&[usize], bool, usize); 3] =
        [(&[7, 33, 64, 2], false, 1000), (&[7, 33, 64, 2], true, 1000), (&[300, 250, 3], false, 300)];
    for (widths, batch_norm, rows) in cases {
        let mut case = Case::new(widths, batch_norm, rows, 2);
        let mut train = |threads: i32| {
            crate::torch::device::set_threads(threads).unwrap();
            case.train(case.kernel(Arch::new()), 5)
        };
        assert_eq!(train(1), train(3));
        // The norm of the gradient is a sum over all of it.
        let (_, clipped, rate) = optimizers().swap_remove(1);
        let mut train = |threads: i32| {
            crate::torch::device::set_threads(threads).unwrap();
            case.train_with(case.kernel(Arch::new()), &clipped, rate, 5)
        };
        assert_eq!(train(1), train(3));
    }
    crate::torch::device::set_threads(threads).unwrap();
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    for batch_norm in [false, true] {
        let mut case = Case::new(&[3, 8, 1], batch_norm, 100, 3);
        let (_, before) = case.train(autograd(), 0);
        case.coefficients[99] = f32::INFINITY;
        let mut strategies = case.others();
        strategies.push(("autograd".into(), autograd()));
        for (name, strategy) in strategies {
            let (loss, after) = case.train(strategy, 1);
            assert!(!loss[0].is_finite(), "{name}");
            assert_eq!(after, before, "{name}");
        }
    }
}

#[test]
fn steps_after_a_loss_that_is_not_finite_wait_until_it_is_read() {
    let mut case = Case::new(&[3, 8, 1], true, 100, 3);
    let (expected, [means, buffers, _]) = case.train(autograd(), 3);
    let strategy = case.deferred(Gradients::by_autograd(Precision::F32, None));
    let mut engine = Engine::with(strategy, case.model.whole(), &adam()).unwrap();
    let Case { features, labels, order, coefficients, normalization, .. } = &case;
    let infinite = vec![f32::INFINITY; coefficients.len()];
    let step = |engine: &mut Engine, coefficients: &[f32]| {
        let batch =
            MiniBatch { features, labels, held: None, rows: order, coefficients, variances: None, normalization };
        engine.step(&case.model, &batch, 1e-3).unwrap()
    };
    let losses = [coefficients, &infinite, coefficients, coefficients].map(|c| step(&mut engine, c));
    let mut found = engine.read(&case.model, &losses).unwrap();
    assert_eq!(found.iter().map(|loss| loss.is_finite()).collect::<Vec<_>>(), [true, false, true, true]);
    assert_eq!(engine.steps(), 1);

    found.truncate(1);
    let losses = [coefficients; 2].map(|c| step(&mut engine, c));
    found.extend(engine.read(&case.model, &losses).unwrap());
    assert_eq!(engine.steps(), 3);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5 * expected, "{found}, {expected}");
    }
    assert!(difference(&copies(&engine.weights.optimizer.state()[0].parts), &means) < 1e-4);
    assert!(difference(&copies(&engine.weights.buffers), &buffers) < 1e-4);
}

#[test]
fn a_panic_within_a_step_changes_nothing() {
    let case = Case::new(&[3, 8, 1], true, 100, 3);
    let Case { model, features, labels, order, coefficients, normalization } = &case;
    let batch = MiniBatch { features, labels, held: None, rows: order, coefficients, variances: None, normalization };
    let state = || [copies(&model.whole().buffers()), copies(&model.whole().parameters())];
    let before = state();
    let mut strategies = case.others();
    strategies.push(("autograd".into(), autograd()));
    for (name, strategy) in strategies {
        let mut engine = Engine::with(strategy, model.whole(), &adam()).unwrap();
        fault::panic_at(1);
        let step = std::panic::AssertUnwindSafe(|| engine.step(model, &batch, 1e-3));
        assert!(std::panic::catch_unwind(step).is_err(), "{name} has a fault point");
        assert_eq!(state(), before, "{name}");
        assert_eq!(engine.steps(), 0, "{name}");
    }
}

#[test]
fn a_rank_that_fails_changes_nothing_and_says_why() {
    let mut case = Case::new(&[3, 8, 1], true, 100, 3);
    let strategy =
        case.distributed(Gradients::by_autograd(Precision::F32, None), json!({"batch_norm": "synchronised"}));
    let mut engine = Engine::with(strategy, case.model.whole(), &adam()).unwrap();
    let state = |case: &Case| [copies(&case.model.whole().buffers()), copies(&case.model.whole().parameters())];
    let before = state(&case);
    let step = |case: &Case, engine: &mut Engine| {
        let Case { model, features, labels, order, coefficients, normalization } = case;
        let batch =
            MiniBatch { features, labels, held: None, rows: order, coefficients, variances: None, normalization };
        engine.step(model, &batch, 1e-3)
    };
    let last = std::mem::replace(&mut case.order[99], 100);
    let error = step(&case, &mut engine).unwrap_err().to_string();
    assert!(error.contains("index out of range"), "{error}");
    assert_eq!((state(&case), engine.steps()), (before, 0));
    case.order[99] = last;
    assert!(step(&case, &mut engine).is_ok() && engine.steps() == 1);
}
