//! Residual networks (He et al. 2015) as torchvision builds them: version 1.5,
//! where the 3x3 convolution of a bottleneck has the stride.

use super::description::{Description, Initialisation, LayerOptions};
use super::image::Image;
use crate::base::options::require;
use crate::kernels::spec::Activation;
use crate::{Error, Result};

const RELU: LayerOptions = LayerOptions::Activation { function: Activation::Relu };

/// The ResNet of `depth` 18, 34 or 50, with `outputs` instead of 1000 classes.
pub(super) fn resnet(depth: usize, image: Image, outputs: usize) -> Result<Description> {
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
        conv("conv1", width, 7, 2),
        batch_norm("bn1"),
        RELU,
        LayerOptions::MaxPool { size: 3, stride: Some(2), padding: 1 },
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
            layers.extend([residual(format!("layer{}.{block}", stage + 1), &mut width, &convolutions), RELU]);
        }
    }
    layers.extend([
        LayerOptions::GlobalAvgPool {},
        LayerOptions::Flatten {},
        LayerOptions::Linear { outputs, bias: true, init: Initialisation::Uniform, name: Some("fc".into()) },
    ]);
    Ok(Description { input_shape: image.shape(), layers })
}

/// One block on `width` channels, which it changes to its own: `convolutions` of
/// (size, stride, channels), each with a BatchNorm and a ReLU between them. Where
/// the shape changes, the shortcut is a convolution too.
fn residual(name: String, width: &mut usize, convolutions: &[(usize, usize, usize)]) -> LayerOptions {
    let (inputs, mut total_stride) = (*width, 1);
    let mut layers = Vec::new();
    for (index, &(size, stride, channels)) in convolutions.iter().enumerate() {
        let number = index + 1;
        if index > 0 {
            layers.push(RELU);
        }
        layers.push(conv(&format!("conv{number}"), channels, size, stride));
        layers.push(batch_norm(&format!("bn{number}")));
        *width = channels;
        total_stride *= stride;
    }
    let shortcut = if total_stride == 1 && inputs == *width {
        vec![]
    } else {
        vec![conv("0", *width, 1, total_stride), batch_norm("1")]
    };
    LayerOptions::Residual { layers, shortcut, name: Some(name) }
}

/// A convolution without a bias that, with a stride of 1, keeps the image's size.
fn conv(name: &str, outputs: usize, size: usize, stride: usize) -> LayerOptions {
    LayerOptions::Conv2d {
        outputs,
        size,
        stride,
        padding: size / 2,
        bias: false,
        init: Initialisation::KaimingNormal,
        name: Some(name.into()),
    }
}

fn batch_norm(name: &str) -> LayerOptions {
    LayerOptions::BatchNorm { name: Some(name.into()) }
}
