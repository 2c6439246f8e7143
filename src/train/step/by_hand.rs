//! Multi-layer perceptrons on any device: forward and backward by hand over libtorch's operations.
//!
//! The derivatives are those of [`kernel`](crate::kernels::mlp). Without automatic differentiation a step has
//! few and large operations, whose results go to the same memory in every step.

use super::inputs::Inputs;
use crate::Result;
use crate::kernels::mlp::Plan;
use crate::kernels::spec::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM};
use crate::torch::ops::{batch_norm_backward, linear_relu};
use tch::{Kind, Tensor};

/// The memory of training, allocated once for each number of rows.
#[derive(Debug)]
pub(super) struct Layers {
    plan: Plan,
    /// The mini-batch's.
    rows: i64,
    layers: Vec<Layer>,
}

/// What one Linear layer and all that follows it up to the next write.
#[derive(Debug)]
struct Layer {
    /// Of the Linear; with a ReLU after it and no BatchNorm, of both.
    linear: Tensor,
    norm: Option<Norm>,
    /// The derivative of the loss for the layer's output, then for that of the Linear.
    delta: Tensor,
    weight_gradient: Tensor,
    bias_gradient: Tensor,
}

/// What a BatchNorm writes.
#[derive(Debug)]
struct Norm {
    /// Of the BatchNorm and the ReLU after it.
    output: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
}

impl Layer {
    /// What the next layer takes.
    fn output(&self) -> &Tensor {
        self.norm.as_ref().map_or(&self.linear, |norm| &norm.output)
    }
}

impl Layers {
    /// For networks of the shape `plan`.
    pub(super) fn new(plan: &Plan) -> Self {
        Layers { plan: plan.clone(), rows: 0, layers: vec![] }
    }

    /// The loss, and its gradient for each of `parameters`, which live until the next call. Moves the running
    /// statistics, `buffers`.
    pub(super) fn gradients(
        &mut self,
        parameters: &[Tensor],
        buffers: &[Tensor],
        inputs: &Inputs,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        tch::no_grad(|| {
            self.allocate(&inputs.features)?;
            self.forward(parameters, buffers, &inputs.features)?;
            let loss = self.compare(inputs)?;
            Ok((loss, self.backward(parameters, &inputs.features)?))
        })
    }

    /// Forgets the memory: the next step allocates it anew.
    pub(super) fn clear(&mut self) {
        (self.rows, self.layers) = (0, vec![]);
    }

    fn allocate(&mut self, features: &Tensor) -> Result<()> {
        let rows = features.size()[0];
        if rows == self.rows {
            return Ok(());
        }
        self.clear();
        let empty = |shape: &[i64]| Tensor::f_empty(shape, (Kind::Float, features.device()));
        for layer in 0..self.plan.layers() {
            let (inputs, outputs) = (self.plan.widths[layer] as i64, self.plan.widths[layer + 1] as i64);
            let norm = (self.plan.norm && self.plan.is_hidden(layer)).then(|| {
                Ok::<_, crate::Error>(Norm {
                    output: empty(&[rows, outputs])?,
                    mean: empty(&[outputs])?,
                    inverse_std: empty(&[outputs])?,
                })
            });
            self.layers.push(Layer {
                linear: empty(&[rows, outputs])?,
                norm: norm.transpose()?,
                delta: empty(&[rows, outputs])?,
                weight_gradient: empty(&[outputs, inputs])?,
                bias_gradient: empty(&[outputs])?,
            });
        }
        self.rows = rows;
        Ok(())
    }

    fn forward(&self, parameters: &[Tensor], buffers: &[Tensor], features: &Tensor) -> Result<()> {
        let mut x = features;
        for (index, layer) in self.layers.iter().enumerate() {
            let parameters = &parameters[self.plan.first_parameter(index)..];
            let (weight, bias) = (&parameters[0], &parameters[1]);
            match &layer.norm {
                Some(Norm { output, mean, inverse_std }) => {
                    let _ = bias.f_addmm_out(&layer.linear, x, &weight.f_numpy_t()?)?;
                    let (scale, shift) = (Some(&parameters[2]), Some(&parameters[3]));
                    let (running_mean, running_var) = (Some(&buffers[2 * index]), Some(&buffers[2 * index + 1]));
                    let (momentum, epsilon) = (BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON);
                    let _ = layer.linear.f_native_batch_norm_out(
                        output,
                        mean,
                        inverse_std,
                        scale,
                        shift,
                        running_mean,
                        running_var,
                        true,
                        momentum,
                        epsilon,
                    )?;
                    let _ = output.shallow_clone().f_relu_()?;
                }
                // The product, the bias and the ReLU in one go.
                None if self.plan.is_hidden(index) => {
                    linear_relu(&mut layer.linear.shallow_clone(), bias, x, weight)?;
                }
                None => {
                    let _ = bias.f_addmm_out(&layer.linear, x, &weight.f_numpy_t()?)?;
                }
            }
            x = layer.output();
        }
        Ok(())
    }

    /// The loss; leaves its derivative for the predictions in the last layer.
    fn compare(&self, inputs: &Inputs) -> Result<Tensor> {
        let [.., Layer { linear: predictions, delta, .. }] = &self.layers[..] else {
            return Err(crate::Error::Internal("a network without layers".into()));
        };
        let error = predictions.shallow_clone().f_sub_(&inputs.labels)?;
        let _ = error.f_mul_out(delta, &inputs.coefficients)?;
        let loss = delta.f_mul(&error)?.f_sum(Kind::Float)?;
        let _ = delta.shallow_clone().f_mul_scalar_(2.0)?;
        Ok(loss)
    }

    fn backward(&self, parameters: &[Tensor], features: &Tensor) -> Result<Vec<Tensor>> {
        // From the last layer to the first, and from a layer's last parameter to its first.
        let mut gradients = Vec::with_capacity(parameters.len());
        for index in (0..self.layers.len()).rev() {
            let (before, after) = self.layers.split_at(index);
            let layer = &after[0];
            let parameters = &parameters[self.plan.first_parameter(index)..];
            let mut delta = layer.delta.shallow_clone();
            if self.plan.is_hidden(index) {
                let _ = layer.output().f_threshold_backward_grad_input(&delta, &delta, 0.0)?;
            }
            if let Some(norm) = &layer.norm {
                let [before_norm, scale, shift] = batch_norm_backward(
                    &delta,
                    &layer.linear,
                    &parameters[2],
                    &norm.mean,
                    &norm.inverse_std,
                    BATCH_NORM_EPSILON,
                )?;
                gradients.extend([shift, scale]);
                delta = before_norm;
            }
            let _ = delta.f_sum_intlist_out(&layer.bias_gradient, 0, false, Kind::Float)?;
            let input = before.last().map_or(features, Layer::output);
            let _ = delta.f_numpy_t()?.f_mm_out(&layer.weight_gradient, input)?;
            gradients.extend([layer.bias_gradient.shallow_clone(), layer.weight_gradient.shallow_clone()]);
            if let Some(before) = before.last() {
                let _ = delta.f_mm_out(&before.delta, &parameters[0])?;
            }
        }
        gradients.reverse();
        Ok(gradients)
    }
}
