//! Small multi-layer perceptrons on a GPU: steps wait until their losses are asked for, and are then taken together by
//! one start of a kernel.

use super::{MiniBatch, StepLoss, StepStrategy, Weights};
use crate::kernels::adam_step::AdamStep;
use crate::kernels::cuda::QueuedStep;
use crate::kernels::cuda::mlp::{QueuedSteps, TrainingTensors, train};
use crate::kernels::optimizer::OptimizerOptions;
use crate::model::Networks;
use crate::{Error, Result};
use tch::Tensor;

/// No more steps than this wait together.
const MOST_STEPS: usize = 64;

/// Mini-batches of so many rows together wait no longer.
const MANY_ROWS: usize = 1 << 20;

/// The steps that wait.
#[derive(Debug)]
pub(super) struct GpuQueue {
    widths: Vec<usize>,
    steps: Vec<QueuedStep>,
    rows: Vec<i64>,
    coefficients: Vec<f32>,
    /// The features and labels of all of them.
    data: Option<[Tensor; 2]>,
}

impl GpuQueue {
    /// For networks of these widths.
    pub(super) fn new(widths: &[usize]) -> Self {
        GpuQueue { widths: widths.to_vec(), steps: vec![], rows: vec![], coefficients: vec![], data: None }
    }

    fn forget(&mut self) {
        self.data = None;
        self.steps.clear();
        self.rows.clear();
        self.coefficients.clear();
    }
}

fn foreign() -> Error {
    Error::Internal("the kernel takes steps of Adam alone".into())
}

impl StepStrategy for GpuQueue {
    fn name(&self) -> &'static str {
        "mlp_gpu"
    }

    fn step(&mut self, _: Networks, weights: &mut Weights, batch: &MiniBatch, learning_rate: f64) -> Result<StepLoss> {
        let features = batch.features.numbers()?;
        match &self.data {
            None => self.data = Some([features.f_detach()?, batch.labels.f_detach()?]),
            Some([first, _]) if first.data_ptr() == features.data_ptr() => {}
            Some(_) => return Err(Error::Internal("steps on other data wait to be taken".into())),
        }
        let number = weights.optimizer.steps() + self.steps.len() as u64 + 1;
        let OptimizerOptions::Adam(options) = &weights.optimizer.options().optimizer else { return Err(foreign()) };
        let adam = AdamStep::new(options, number, learning_rate);
        self.steps.push(QueuedStep { first: self.rows.len() as i32, rows: batch.rows.len() as i32, adam });
        self.rows.extend(batch.rows.iter().map(|&row| row as i64));
        self.coefficients.extend(batch.coefficients);
        Ok(StepLoss::Queued)
    }

    fn is_due(&self, _: usize) -> bool {
        self.steps.len() >= MOST_STEPS || self.rows.len() >= MANY_ROWS
    }

    /// Takes the steps. The losses are NaN after the first that is not finite.
    fn read(&mut self, networks: Networks, weights: &mut Weights, _: &[StepLoss]) -> Result<Vec<f64>> {
        let Some([features, labels]) = self.data.take() else { return Ok(vec![]) };
        let mut parameters = networks.flat()?.shallow_clone();
        let [means, squares] = weights.optimizer.state() else { return Err(foreign()) };
        let state = TrainingTensors {
            features: &features,
            labels: &labels,
            parameters: &mut parameters,
            means: &mut means.all,
            squares: &mut squares.all,
        };
        let steps = QueuedSteps { steps: &self.steps, rows: &self.rows, coefficients: &self.coefficients };
        let losses = train(&self.widths, state, steps);
        self.forget();
        let losses = losses?;
        let counted = losses.iter().take_while(|loss| loss.is_finite()).count();
        weights.optimizer.set_steps(weights.optimizer.steps() + counted as u64);
        Ok(losses.into_iter().map(f64::from).collect())
    }

    fn clear(&mut self, _: &Weights) -> Result<()> {
        self.forget();
        Ok(())
    }
}
