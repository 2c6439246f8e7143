//! Residual networks (He et al. 2015) as torchvision builds them: version 1.5,
//! where the 3x3 convolution of a bottleneck has the stride.

use super::image::Image;
use super::layers::{Layer, Network, Sequential, Window};
use crate::base::options::require;
use crate::{Error, Result};
use rand_chacha::ChaCha12Rng;

/// The input is halved by the first convolution, the pooling and three of the four stages.
const REDUCTION: usize = 32;

/// The ResNet of `depth` 18, 34 or 50, with `outputs` instead of 1000 classes.
pub(super) fn resnet(depth: usize, image: Image, outputs: usize, generator: &mut ChaCha12Rng) -> Result<Network> {
    image.validate()?;
    require(outputs >= 1, "model.outputs", outputs, "at least 1")?;
    let (blocks, bottleneck) = match depth {
        18 => ([2, 2, 2, 2], false),
        34 => ([3, 4, 6, 3], false),
        50 => ([3, 4, 6, 3], true),
        _ => return Err(Error::config("model.depth", format!("is {depth}, must be 18, 34 or 50"))),
    };
    let mut width = 64;
    let mut layers = vec![
        (
            "conv1".into(),
            Layer::residual_conv(image.channels, width, Window { size: 7, stride: 2, padding: 3 }, generator)?,
        ),
        ("bn1".into(), Layer::batch_norm(width)?),
        ("relu".into(), Layer::Relu),
        ("maxpool".into(), Layer::MaxPool(Window { size: 3, stride: 2, padding: 1 })),
    ];
    for (stage, count) in blocks.into_iter().enumerate() {
        let channels = 64 << stage;
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let convolutions = if bottleneck {
                vec![(1, 1, channels), (3, stride, channels), (1, 1, 4 * channels)]
            } else {
                vec![(3, stride, channels), (3, 1, channels)]
            };
            layers.push((format!("layer{}.{block}", stage + 1), residual(&mut width, &convolutions, generator)?));
        }
    }
    layers.extend([
        ("avgpool".into(), Layer::AveragePool),
        ("flatten".into(), Layer::Flatten),
        ("fc".into(), Layer::linear(width, outputs, generator)?),
    ]);
    let smallest_batch = if image.height.max(image.width) <= REDUCTION { 2 } else { 1 };
    Ok(Network { layers: Sequential::named(layers), input_shape: image.shape(), outputs, smallest_batch, plan: None })
}

/// One block on `width` channels, which it changes to its own: `convolutions` of
/// (size, stride, channels), each with a BatchNorm and a ReLU between them. Where
/// the shape changes, the shortcut is a convolution too.
fn residual(width: &mut usize, convolutions: &[(usize, usize, usize)], generator: &mut ChaCha12Rng) -> Result<Layer> {
    let (inputs, mut total_stride) = (*width, 1);
    let mut body = Vec::new();
    for (index, &(size, stride, channels)) in convolutions.iter().enumerate() {
        let number = index + 1;
        if index > 0 {
            body.push(("relu".into(), Layer::Relu));
        }
        let window = Window { size, stride, padding: size / 2 };
        body.push((format!("conv{number}"), Layer::residual_conv(*width, channels, window, generator)?));
        body.push((format!("bn{number}"), Layer::batch_norm(channels)?));
        *width = channels;
        total_stride *= stride;
    }
    let shortcut = if total_stride == 1 && inputs == *width {
        Sequential::default()
    } else {
        let window = Window { size: 1, stride: total_stride, padding: 0 };
        Sequential::numbered(vec![Layer::residual_conv(inputs, *width, window, generator)?, Layer::batch_norm(*width)?])
    };
    Ok(Layer::Residual { body: Sequential::named(body), shortcut })
}
