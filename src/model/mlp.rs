//! Multi-layer perceptrons, for tables.

use super::init::elements;
use super::layers::{Layer, Network, Sequential};
use crate::Result;
use crate::base::Path;
use crate::base::options::require;
use crate::kernels::mlp::Plan;
use rand_chacha::ChaCha12Rng;

/// Linear layers between `inputs`, the `hidden` widths and `outputs`, each but
/// the last followed by a ReLU, with a BatchNorm before it on request.
pub(super) fn mlp(
    inputs: usize,
    hidden: &[usize],
    outputs: usize,
    batch_norm: bool,
    generator: &mut ChaCha12Rng,
) -> Result<Network> {
    require(inputs >= 1, "model.inputs", inputs, "at least 1")?;
    require(outputs >= 1, "model.outputs", outputs, "at least 1")?;
    for (layer, &width) in hidden.iter().enumerate() {
        require(width >= 1, Path::from("model.hidden").item(layer), width, "at least 1")?;
    }
    let widths: Vec<usize> = [inputs].into_iter().chain(hidden.iter().copied()).chain([outputs]).collect();
    widths.windows(2).try_for_each(|pair| elements(pair).map(|_| ()))?;
    let mut layers = Vec::new();
    for (index, pair) in widths.windows(2).enumerate() {
        layers.push(Layer::linear(pair[0], pair[1], generator)?);
        if index < hidden.len() {
            if batch_norm {
                layers.push(Layer::batch_norm(pair[1])?);
            }
            layers.push(Layer::Relu);
        }
    }
    let smallest_batch = if batch_norm && !hidden.is_empty() { 2 } else { 1 };
    let plan = Some(Plan { widths, norm: batch_norm });
    Ok(Network { layers: Sequential::numbered(layers), input_shape: vec![inputs], outputs, smallest_batch, plan })
}
