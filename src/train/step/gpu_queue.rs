//! Steps of small multi-layer perceptrons on a GPU: they wait until their losses are asked for, and are then taken
//! together by one start of a kernel.

use super::MiniBatch;
use crate::kernels::adam_step::AdamStep;
use crate::kernels::cuda::mlp::{State, Step, Steps, train};
use crate::torch::flat::Flat;
use crate::{Error, Result};
use tch::Tensor;

/// The steps that wait.
#[derive(Debug)]
pub(super) struct Queue {
    widths: Vec<usize>,
    steps: Vec<Step>,
    rows: Vec<i64>,
    coefficients: Vec<f32>,
    /// The features and labels of all of them.
    data: Option<[Tensor; 2]>,
}

impl Queue {
    /// For networks of these widths.
    pub(super) fn new(widths: &[usize]) -> Self {
        Queue { widths: widths.to_vec(), steps: vec![], rows: vec![], coefficients: vec![], data: None }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether the mini-batches that wait are large enough together.
    pub(super) fn is_full(&self) -> bool {
        const MOST_STEPS: usize = 64;
        const MANY_ROWS: usize = 1 << 20;
        self.steps.len() >= MOST_STEPS || self.rows.len() >= MANY_ROWS
    }

    /// Adds a step on `batch`, which is of the same data as those before it.
    pub(super) fn push(&mut self, batch: &MiniBatch, adam: AdamStep) -> Result<()> {
        let features = batch.features.numbers()?;
        match &self.data {
            None => self.data = Some([features.f_detach()?, batch.labels.f_detach()?]),
            Some([first, _]) if first.data_ptr() == features.data_ptr() => {}
            Some(_) => return Err(Error::Internal("steps on other data wait to be taken".into())),
        }
        self.steps.push(Step { first: self.rows.len() as i32, rows: batch.rows.len() as i32, adam });
        self.rows.extend(batch.rows.iter().map(|&row| row as i64));
        self.coefficients.extend(batch.coefficients);
        Ok(())
    }

    /// Takes the steps. Returns their losses, which are NaN after the first that is not finite; from that one on
    /// nothing has changed.
    pub(super) fn run(&mut self, parameters: &mut Tensor, [means, squares]: [&mut Flat; 2]) -> Result<Vec<f32>> {
        let Some([features, labels]) = self.data.take() else { return Ok(vec![]) };
        let state = State {
            features: &features,
            labels: &labels,
            parameters,
            means: &mut means.all,
            squares: &mut squares.all,
        };
        let steps = Steps { steps: &self.steps, rows: &self.rows, coefficients: &self.coefficients };
        let losses = train(&self.widths, state, steps);
        self.steps.clear();
        self.rows.clear();
        self.coefficients.clear();
        losses
    }
}
