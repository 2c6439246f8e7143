//! The published convolutional network for images.

use super::description::{Description, Initialisation, LayerOptions};
use super::image::Image;
use crate::Result;
use crate::base::options::require;
use crate::kernels::spec::Activation;

/// The channels of the blocks.
const CHANNELS: [usize; 6] = [10, 20, 32, 64, 128, 256];

/// Each block halves height and width.
const REDUCTION: usize = 1 << CHANNELS.len();

/// Checks that the network can take such images.
pub(super) fn check(image: Image) -> Result<()> {
    image.validate()?;
    let allowed = format!("at least {REDUCTION}: {} poolings halve the image", CHANNELS.len());
    require(image.height >= REDUCTION, "model.height", image.height, &allowed)?;
    require(image.width >= REDUCTION, "model.width", image.width, &allowed)
}

/// Blocks of Conv 3x3, BatchNorm, ReLU and MaxPool 2, then a Linear from all that is left.
pub(super) fn vanilla_cnn(image: Image, outputs: usize) -> Result<Description> {
    check(image)?;
    require(outputs >= 1, "model.outputs", outputs, "at least 1")?;
    let block = |outputs: usize| {
        [
            LayerOptions::Conv2d {
                outputs,
                size: 3,
                stride: 1,
                padding: 1,
                bias: true,
                init: Initialisation::Uniform,
                name: None,
            },
            LayerOptions::BatchNorm { name: None },
            LayerOptions::Activation { function: Activation::Relu },
            LayerOptions::MaxPool { size: 2, stride: None, padding: 0 },
        ]
    };
    let mut layers: Vec<LayerOptions> = CHANNELS.into_iter().flat_map(block).collect();
    layers.extend([LayerOptions::Flatten {}, LayerOptions::linear(outputs)]);
    Ok(Description { input_shape: image.shape(), layers })
}
