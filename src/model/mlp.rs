//! Multi-layer perceptrons, for tables.

use super::description::{Description, LayerOptions};
use crate::Result;
use crate::base::Path;
use crate::base::options::require;
use crate::kernels::spec::Activation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What normalises the values of each hidden layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Over a mini-batch.
    BatchNorm,
    /// Over a row's own values.
    LayerNorm,
}

/// What follows each hidden Linear.
pub(super) struct Hidden {
    pub norm: Option<Norm>,
    pub activation: Activation,
    /// The probability of a dropout, none where it is 0.
    pub dropout: f64,
}

/// Linear layers between `inputs`, the `widths` of the hidden ones and `outputs`, each but the last followed by what
/// `hidden` says.
pub(super) fn mlp(inputs: usize, widths: &[usize], outputs: usize, hidden: &Hidden) -> Result<Description> {
    require(inputs >= 1, "model.inputs", inputs, "at least 1")?;
    require(outputs >= 1, "model.outputs", outputs, "at least 1")?;
    require((0.0..1.0).contains(&hidden.dropout), "model.dropout", hidden.dropout, "in [0, 1)")?;
    let mut layers = Vec::new();
    for (layer, &width) in widths.iter().enumerate() {
        require(width >= 1, Path::from("model.hidden").item(layer), width, "at least 1")?;
        layers.push(LayerOptions::linear(width));
        layers.extend(hidden.norm.map(|norm| match norm {
            Norm::BatchNorm => LayerOptions::BatchNorm { name: None },
            Norm::LayerNorm => LayerOptions::LayerNorm { name: None },
        }));
        layers.push(LayerOptions::Activation { function: hidden.activation });
        if hidden.dropout > 0.0 {
            layers.push(LayerOptions::Dropout { p: hidden.dropout });
        }
    }
    layers.push(LayerOptions::linear(outputs));
    Ok(Description { input_shape: vec![inputs], layers })
}
