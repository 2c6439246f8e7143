//! The nodes of each kind of layer, as they predict: ONNX's operators of opset 13.

use super::graph::Graph;
use super::messages::AttributeProto;
use crate::Result;
use crate::kernels::spec::{Activation, BATCH_NORM_EPSILON, LEAKY_RELU_SLOPE};
use crate::model::layers::{LAYER_NORM_EPSILON, Layer, Sequential, Window};
use std::f64::consts::SQRT_2;
use tch::Tensor;

impl Graph {
    /// What the layers make of `x`. The names of their tensors begin with `prefix`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(super) fn sequential(&mut self, layers: &Sequential, prefix: &str, x: &str) -> Result<String> {
        let mut x = x.to_string();
        for (name, layer) in layers.named_layers() {
            x = self.layer(layer, &format!("{prefix}{name}"), x)?;
        }
        Ok(x)
    }

    fn layer(&mut self, layer: &Layer, name: &str, x: String) -> Result<String> {
        Ok(match layer {
            Layer::Linear { weight, bias } => {
                let operands = self.operands(x, name, &[("weight", Some(weight)), ("bias", bias.as_ref())])?;
                self.apply_with("Gemm", &operands, vec![AttributeProto::int("transB", 1)])
            }
            Layer::Conv { weight, bias, window } => {
                let operands = self.operands(x, name, &[("weight", Some(weight)), ("bias", bias.as_ref())])?;
                self.apply_with("Conv", &operands, sliding(*window))
            }
            Layer::BatchNorm { weight, bias, running_mean, running_var } => {
                let tensors =
                    [("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var)];
                let operands = self.operands(x, name, &tensors.map(|(name, tensor)| (name, Some(tensor))))?;
                self.apply_with(
                    "BatchNormalization",
                    &operands,
                    vec![AttributeProto::float("epsilon", BATCH_NORM_EPSILON)],
                )
            }
            Layer::LayerNorm { weight, bias } => self.layer_norm(&x, name, weight, bias)?,
            Layer::Activation { function, .. } => self.activation(*function, &x)?,
            Layer::Dropout { .. } => x,
            Layer::MaxPool(window) => self.apply_with("MaxPool", &[x], sliding(*window)),
            Layer::AvgPool(window) => {
                let mut attributes = sliding(*window);
                attributes.push(AttributeProto::int("count_include_pad", 1));
                self.apply_with("AveragePool", &[x], attributes)
            }
            Layer::GlobalAvgPool => self.apply("GlobalAveragePool", &[x]),
            Layer::Flatten => self.apply_with("Flatten", &[x], vec![AttributeProto::int("axis", 1)]),
            Layer::Residual { body, shortcut } => {
                let shortcut = self.sequential(shortcut, &format!("{name}.downsample."), &x)?;
                let sum = [self.sequential(body, &format!("{name}."), &x)?, shortcut];
                self.apply("Add", &sum)
            }
        })
    }

    /// `x`, and the tensors of the layer `name` that are there.
    fn operands(&mut self, x: String, name: &str, tensors: &[(&str, Option<&Tensor>)]) -> Result<Vec<String>> {
        let mut operands = vec![x];
        for (tensor, values) in tensors {
            if let Some(values) = values {
                operands.push(self.tensor(&format!("{name}.{tensor}"), values)?);
            }
        }
        Ok(operands)
    }

    /// By its parts: LayerNormalization is of opset 17.
    fn layer_norm(&mut self, x: &str, name: &str, weight: &Tensor, bias: &Tensor) -> Result<String> {
        let axes = || vec![AttributeProto::ints("axes", -(weight.dim() as i64)..0)];
        let mean = self.apply_with("ReduceMean", &[x], axes());
        let centred = self.apply("Sub", &[x, &mean]);
        let squares = self.apply("Mul", &[&centred, &centred]);
        let variance = self.apply_with("ReduceMean", &[squares], axes());
        let epsilon = self.constant(LAYER_NORM_EPSILON)?;
        let variance = self.apply("Add", &[variance, epsilon]);
        let deviation = self.apply("Sqrt", &[variance]);
        let normalized = self.apply("Div", &[centred, deviation]);
        let weight = self.tensor(&format!("{name}.weight"), weight)?;
        let scaled = self.apply("Mul", &[normalized, weight]);
        let bias = self.tensor(&format!("{name}.bias"), bias)?;
        Ok(self.apply("Add", &[scaled, bias]))
    }

    fn activation(&mut self, function: Activation, x: &str) -> Result<String> {
        Ok(match function {
            Activation::Relu => self.apply("Relu", &[x]),
            Activation::LeakyRelu => {
                self.apply_with("LeakyRelu", &[x], vec![AttributeProto::float("alpha", LEAKY_RELU_SLOPE)])
            }
            Activation::Tanh => self.apply("Tanh", &[x]),
            Activation::Sigmoid => self.apply("Sigmoid", &[x]),
            Activation::Silu => {
                let sigmoid = self.apply("Sigmoid", &[x]);
                self.apply("Mul", &[x, &sigmoid])
            }
            Activation::Gelu => {
                // x / 2 (1 + erf(x / sqrt 2)); Gelu itself is of opset 20.
                let (root, one, half) = (self.constant(SQRT_2)?, self.constant(1.0)?, self.constant(0.5)?);
                let scaled = self.apply("Div", &[x, &root]);
                let erf = self.apply("Erf", &[scaled]);
                let twice = self.apply("Add", &[erf, one]);
                let product = self.apply("Mul", &[x, &twice]);
                self.apply("Mul", &[product, half])
            }
            Activation::Softplus => self.apply("Softplus", &[x]),
        })
    }
}

/// The attributes of a window that slides over an image.
fn sliding(window: Window) -> Vec<AttributeProto> {
    let [size, stride, padding] = window.sizes();
    vec![
        AttributeProto::ints("kernel_shape", [size; 2]),
        AttributeProto::ints("strides", [stride; 2]),
        AttributeProto::ints("pads", [padding; 4]),
    ]
}
