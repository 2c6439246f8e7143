//! The published convolutional network for images.

use super::image::Image;
use super::init::elements;
use super::layers::{Layer, Network, Sequential, Window};
use crate::Result;
use crate::base::options::require;
use rand_chacha::ChaCha12Rng;

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
pub(super) fn vanilla_cnn(image: Image, outputs: usize, generator: &mut ChaCha12Rng) -> Result<Network> {
    check(image)?;
    require(outputs >= 1, "model.outputs", outputs, "at least 1")?;
    let mut layers = Vec::new();
    let mut width = image.channels;
    for channels in CHANNELS {
        layers.extend([
            Layer::conv(width, channels, Window { size: 3, stride: 1, padding: 1 }, generator)?,
            Layer::batch_norm(channels)?,
            Layer::Relu,
            Layer::MaxPool(Window { size: 2, stride: 2, padding: 0 }),
        ]);
        width = channels;
    }
    let features = elements(&[width, image.height / REDUCTION, image.width / REDUCTION])?;
    layers.extend([Layer::Flatten, Layer::linear(features, outputs, generator)?]);
    // The last BatchNorm sees images of 2 by 2 at least: one row is enough.
    Ok(Network {
        layers: Sequential::numbered(layers),
        input_shape: image.shape(),
        outputs,
        smallest_batch: 1,
        plan: None,
    })
}
