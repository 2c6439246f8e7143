//! One training step, from a mini-batch to moved weights, by the fastest way that network and device allow.

use crate::archive::Archive;
use crate::batch::Source;
use crate::data::Normalization;
use crate::kernel::{self, Kernel, Team};
use crate::model::{Model, Precision};
use crate::optim::{Adam, AdamOptions, AdamStep};
use crate::{Result, shim};
use tch::{Kind, Tensor};

/// Moves a model's weights against the gradient of a weighted sum of squared errors.
///
/// Every way computes the same: they differ in their rounding.
#[derive(Debug)]
pub struct Engine {
    parameters: Vec<Tensor>,
    /// What a forward pass in training changes: the running statistics of BatchNorm.
    buffers: Vec<Tensor>,
    optimizer: Adam,
    precision: Precision,
    way: Way,
}

/// How the gradient is found.
#[derive(Debug)]
enum Way {
    /// By hand, without libtorch: multi-layer perceptrons on the CPU.
    Kernel(Box<Kernel>),
    /// By libtorch's automatic differentiation: everything else.
    Autograd,
}

/// Some rows of normalised data, and the weights of their squared errors.
#[derive(Clone, Copy, Debug)]
pub struct MiniBatch<'a> {
    /// All features.
    pub features: &'a Source,
    /// All labels, `[rows, outputs]`.
    pub labels: &'a Tensor,
    /// Which rows are the mini-batch.
    pub rows: &'a [usize],
    /// One for each squared error, row-major.
    pub coefficients: &'a [f32],
    /// What the features were or are to be normalised with.
    pub normalization: &'a Normalization,
}

impl Engine {
    /// For the tensors that `model` has now.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new(model: &Model, adam: &AdamOptions, precision: Precision) -> Result<Self> {
        let way = match model.kernel_plan(precision) {
            Some(plan) => Way::Kernel(Box::new(Kernel::new(plan))),
            None => Way::Autograd,
        };
        Engine::by(way, model, adam, precision)
    }

    fn by(way: Way, model: &Model, adam: &AdamOptions, precision: Precision) -> Result<Self> {
        let (parameters, buffers) = (model.parameters(), model.buffers());
        let optimizer = Adam::new(adam.clone(), &parameters)?;
        Ok(Engine { parameters, buffers, optimizer, precision, way })
    }

    /// The threads that share the steps: whoever takes many steps does so within [`Team::run`].
    pub fn team(&self) -> Team {
        match self.way {
            Way::Kernel(_) => Team::gather(),
            Way::Autograd => Team::alone(),
        }
    }

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// One step for `model`, the one that the engine was made for. Returns the loss before
    /// the step; where that is not finite, nothing has changed.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::OutOfMemory`](crate::Error::OutOfMemory),
    /// [`Error::Internal`](crate::Error::Internal) when libtorch fails.
    pub fn step(&mut self, model: &Model, batch: &MiniBatch, learning_rate: f64) -> Result<f64> {
        let team = self.team();
        match &mut self.way {
            Way::Kernel(kernel) => {
                let adam = AdamStep::new(self.optimizer.options(), self.optimizer.steps() + 1, learning_rate);
                let (means, squares) = self.optimizer.moments();
                let state = kernel::State {
                    parameters: shim::values_mut(&mut self.parameters)?,
                    buffers: shim::values_mut(&mut self.buffers)?,
                    means: shim::values_mut(means)?,
                    squares: shim::values_mut(squares)?,
                };
                let batch = kernel::Batch {
                    features: shim::values(batch.features.numbers()?)?,
                    labels: shim::values(batch.labels)?,
                    rows: batch.rows,
                    coefficients: batch.coefficients,
                };
                let loss = kernel.step(state, &batch, &adam, &team);
                if loss.is_finite() {
                    self.optimizer.count_step();
                }
                Ok(loss)
            }
            // The host may have switched gradients off on this thread.
            Way::Autograd => tch::with_grad(|| self.autograd(model, batch, learning_rate)),
        }
    }

    fn autograd(&mut self, model: &Model, batch: &MiniBatch, learning_rate: f64) -> Result<f64> {
        let device = model.device();
        let indices: Vec<i64> = batch.rows.iter().map(|&row| row as i64).collect();
        let indices = Tensor::f_from_slice(&indices)?.f_to_device(device)?;
        let features = batch.features.batch(batch.rows, &indices, batch.normalization)?;
        let labels = batch.labels.f_index_select(0, &indices)?;
        let coefficients = Tensor::f_from_slice(batch.coefficients)?.f_view_as(&labels)?.f_to_device(device)?;
        let before = self.buffers.iter().map(|buffer| Ok(buffer.f_detach_copy()?)).collect::<Result<Vec<_>>>()?;

        let error = model.forward(&features, true, self.precision)?.f_sub(&labels)?;
        let loss = error.f_square()?.f_mul(&coefficients)?.f_sum(Kind::Float)?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            for (buffer, before) in self.buffers.iter_mut().zip(&before) {
                tch::no_grad(|| buffer.f_copy_(before))?;
            }
            return Ok(value);
        }
        let gradients = Tensor::f_run_backward(&[loss], &self.parameters, false, false)?;
        // A convolution's may come in the channels-last format; Adam walks through memory.
        let gradients = gradients.iter().map(|gradient| Ok(gradient.f_contiguous()?)).collect::<Result<Vec<_>>>()?;
        self.optimizer.step(&self.parameters, &gradients, learning_rate)?;
        Ok(value)
    }

    /// Adds the optimiser's state to `archive`.
    pub(crate) fn store(&self, archive: &mut Archive) -> Result<()> {
        self.optimizer.store(archive)
    }

    /// Takes the optimiser's state from `archive`, `steps` steps on.
    pub(crate) fn restore(&mut self, archive: &Archive, steps: u64) -> Result<()> {
        self.optimizer = self.optimizer.restored(archive, steps)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Archive;
    use crate::data::Dataset;
    use crate::model::ModelOptions;
    use crate::random::{Purpose, permutation, stream};
    use proptest::prelude::*;
    use pulp::Arch;
    use rand::RngExt;

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
            let &[inputs, ref hidden @ .., outputs] = widths else { panic!("a network has inputs and outputs") };
            let mut generator = stream(seed, Purpose::Synthetic, 0);
            let hidden = hidden.to_vec();
            let model = Model::new(&ModelOptions::Mlp { inputs, outputs, hidden, batch_norm, seed }).unwrap();
            let mut numbers =
                |count: usize| -> Vec<f32> { (0..count).map(|_| generator.random_range(-2.0..2.0)).collect() };
            let labels = numbers(rows * outputs).into_iter().map(f64::from).collect();
            let data = Dataset::new(numbers(rows * inputs), vec![inputs], labels, outputs, None).unwrap();
            let coefficients = numbers(rows * outputs).iter().map(|c| c.abs() / (rows * outputs) as f32).collect();
            let normalization = Normalization::identity(outputs);
            Case {
                features: Source::new(&data, &[inputs], &normalization, model.device()).unwrap(),
                labels: crate::batch::labels(&data, &normalization, model.device()).unwrap(),
                order: permutation(rows, &mut stream(seed, Purpose::Shuffle, 0)),
                coefficients,
                model,
                normalization,
            }
        }

        /// The losses of some steps by `way`, and then the optimiser's means, the buffers and the parameters.
        fn train(&mut self, way: Way, steps: usize) -> (Vec<f64>, [Vec<Vec<f32>>; 3]) {
            let mut archive = Archive::new(crate::archive::ArchiveKind::Model, &()).unwrap();
            self.model.store(&mut archive).unwrap();
            let mut engine = Engine::by(way, &self.model, &AdamOptions::default(), Precision::F32).unwrap();
            let Case { features, labels, order, coefficients, normalization, .. } = &*self;
            let batch = MiniBatch { features, labels, rows: order, coefficients, normalization };
            let losses = (0..steps).map(|_| engine.step(&self.model, &batch, 1e-3).unwrap()).collect();
            let copy =
                |tensors: &[Tensor]| tensors.iter().map(|tensor| crate::model::to_f32(tensor).unwrap()).collect();
            let (means, _) = engine.optimizer.moments();
            let state = [copy(means), copy(&engine.buffers), copy(&engine.parameters)];
            self.model.restore(&archive).unwrap();
            (losses, state)
        }

        /// The gradients in double precision, to measure others by: of these features, and of features of
        /// which each number is another by up to 1e-5 of itself. Single precision cannot be nearer to the
        /// first than those are where it is nearest to a kink: a ReLU on the other side of 0 may move much.
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
            let mut generator = stream(0, Purpose::Disturbance, 0);
            std::array::from_fn(|k| {
                let scale = if k == 0 { 0.0 } else { 1e-5 };
                let factors: Vec<f64> =
                    (0..features.numel()).map(|_| 1.0 + scale * generator.random_range(-1.0..1.0)).collect();
                let features = &features * Tensor::from_slice(&factors).view_as(&features);
                let error = self.model.forward(&features, true, Precision::F32).unwrap() - &labels;
                let loss = (&coefficients * error.square()).sum(Kind::Double);
                let gradients = Tensor::run_backward(&[loss], &self.model.parameters(), false, false);
                gradients.iter().map(|gradient| crate::model::to_f32(gradient).unwrap()).collect()
            })
        }

        fn kernel(&self, arch: Arch) -> Way {
            Way::Kernel(Box::new(Kernel::on(self.model.kernel_plan(Precision::F32).unwrap(), arch)))
        }
    }

    /// The instruction sets of this machine.
    fn archs() -> Vec<Arch> {
        let mut archs = vec![Arch::Scalar];
        #[cfg(target_arch = "x86_64")]
        archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
        #[cfg(target_arch = "x86_64")]
        archs.extend(pulp::x86::V4::try_new().map(Arch::V4));
        archs
    }

    fn largest(values: &[f32]) -> f32 {
        values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()))
    }

    /// The greatest difference between twins, measured by the largest number of its tensor, and by no less
    /// than a thousandth of the largest of all: the gradient of a bias before a BatchNorm is 0 but for rounding.
    fn difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
        assert_eq!(found.len(), expected.len());
        let all = expected.iter().map(|tensor| largest(tensor)).fold(0.0, f32::max);
        let pairs = found.iter().zip(expected).map(|(found, expected)| {
            let difference: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
            assert_eq!(found.len(), expected.len());
            largest(&difference) / largest(expected).max(1e-3 * all).max(1e-30)
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

        /// To rounding: what libtorch's own single precision loses, or a change of the features in the fifth
        /// digit moves.
        #[test]
        fn the_kernel_finds_the_gradients_of_any_network(
            widths in prop::collection::vec(width(), 2..=10), batch_norm: bool, rows in 2usize..200, seed: u64,
        ) {
            let case = || Case::new(&widths, batch_norm, rows, seed);
            let [exact, neighbours @ ..] = case().gradients();
            let moved = neighbours.iter().fold((0.0f64, 0.0f32), |moved, gradients| {
                (moved.0.max(distance(gradients, &exact)), moved.1.max(difference(gradients, &exact)))
            });
            // Nothing can be said of a network that a change of 1e-5 makes another one.
            prop_assume!(moved.0 < 0.1);
            // After one step Adam's means are a tenth of the gradients.
            let error = |means: Vec<Vec<f32>>| {
                let gradients: Vec<Vec<f32>> =
                    means.into_iter().map(|mean| mean.into_iter().map(|value| 10.0 * value).collect()).collect();
                (distance(&gradients, &exact), difference(&gradients, &exact))
            };
            let (loss, [means, buffers, _]) = case().train(Way::Autograd, 1);
            let own = error(means);
            let allowed = (1e-3 + 3.0 * moved.0 + 10.0 * own.0, 0.03 + 3.0 * moved.1 + 10.0 * own.1);
            for arch in archs() {
                let mut case = case();
                let (found, [means, found_buffers, _]) = case.train(case.kernel(arch), 1);
                prop_assert!((found[0] - loss[0]).abs() <= 1e-3 * loss[0].abs(), "{arch:?}: {found:?}, {loss:?}");
                let (error, buffers) = (error(means), difference(&found_buffers, &buffers));
                prop_assert!(error.0 < allowed.0 && error.1 < allowed.1, "{arch:?}: {error:?}, allowed {allowed:?}");
                prop_assert!(buffers < 1e-3, "{arch:?}: {buffers}");
            }
        }
    }

    #[test]
    fn the_kernel_follows_autograd_over_many_steps() {
        for batch_norm in [false, true] {
            let mut case = Case::new(&[19, 100, 50, 20, 10, 1], batch_norm, 256, 1);
            let (losses, _) = case.train(Way::Autograd, 50);
            assert!(losses[49] < 0.8 * losses[0], "{losses:?}");
            for arch in archs() {
                let (found, _) = case.train(case.kernel(arch), 50);
                for (found, expected) in found.iter().zip(&losses) {
                    assert!((found - expected).abs() < 1e-3 * expected, "{arch:?}: {found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn predictions_are_autograds() {
        for (batch_norm, rows) in [(false, 1), (false, 700), (true, 700)] {
            let case = Case::new(&[5, 40, 17, 3], batch_norm, rows.max(2), 4);
            for _ in 0..3 {
                // It moves BatchNorm's running statistics.
                let _ = case.model.forward(case.features.numbers().unwrap(), true, Precision::F32).unwrap();
            }
            let features = crate::model::to_f32(case.features.numbers().unwrap()).unwrap();
            let features = &features[..5 * rows];
            let x = Tensor::from_slice(features).view([rows as i64, 5]);
            let expected = crate::model::to_f32(&case.model.forward(&x, false, Precision::F32).unwrap()).unwrap();
            let found: Vec<f32> = case.model.predict(features).unwrap().into_iter().map(|p| p as f32).collect();
            assert!(difference(&[found], &[expected]) < 1e-5);
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let threads = tch::get_num_threads();
        for batch_norm in [false, true] {
            let mut case = Case::new(&[7, 33, 64, 2], batch_norm, 1000, 2);
            let mut train = |threads: i32| {
                crate::device::set_threads(threads).unwrap();
                case.train(case.kernel(Arch::new()), 5)
            };
            assert_eq!(train(1), train(3));
        }
        crate::device::set_threads(threads).unwrap();
    }

    #[test]
    fn a_loss_that_is_not_finite_changes_nothing() {
        for batch_norm in [false, true] {
            let mut case = Case::new(&[3, 8, 1], batch_norm, 100, 3);
            let (_, before) = case.train(case.kernel(Arch::new()), 0);
            case.coefficients[99] = f32::INFINITY;
            for way in [case.kernel(Arch::new()), Way::Autograd] {
                let (loss, after) = case.train(way, 1);
                assert!(!loss[0].is_finite());
                assert_eq!(after, before);
            }
        }
    }
}
