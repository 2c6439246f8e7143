//! Which networks there are, and the options of each.

use super::cnn::vanilla_cnn;
use super::image::Image;
use super::layers::Network;
use super::mlp::mlp;
use super::resnet::resnet;
use crate::Result;
use crate::base::random::{Purpose, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which network, and its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelOptions {
    /// Linear layers with ReLU between them.
    Mlp {
        /// The number of feature values per row.
        inputs: usize,
        /// The number of labels per row (default 1).
        #[serde(default = "one")]
        outputs: usize,
        /// The width of each hidden layer.
        hidden: Vec<usize>,
        /// Whether a BatchNorm follows each hidden Linear (default false).
        #[serde(default)]
        batch_norm: bool,
        /// The seed of the initial weights (default 0).
        #[serde(default)]
        seed: u64,
    },
    /// The published network for tables, with hidden layers of 100, 50, 20 and 10.
    VanillaAnn {
        /// Which data set it is for: `bike` has 19 inputs, `wine` 11 and a BatchNorm after each hidden Linear.
        dataset: Table,
        /// The seed of the initial weights (default 0).
        #[serde(default)]
        seed: u64,
    },
    /// The published network for images: six blocks of convolution, BatchNorm, ReLU and pooling, and a Linear.
    VanillaCnn {
        /// The height of an image in pixels, at least 64.
        height: usize,
        /// The width of an image in pixels, at least 64.
        width: usize,
        /// The number of values per pixel (default 3).
        #[serde(default = "three")]
        channels: usize,
        /// The number of labels per image (default 1).
        #[serde(default = "one")]
        outputs: usize,
        /// The seed of the initial weights (default 0).
        #[serde(default)]
        seed: u64,
    },
    /// torchvision's ResNet with a last layer of `outputs`.
    Resnet {
        /// The number of layers with weights: 18 (default), 34 or 50.
        #[serde(default = "eighteen")]
        depth: usize,
        /// The height of an image in pixels.
        height: usize,
        /// The width of an image in pixels.
        width: usize,
        /// The number of values per pixel (default 3).
        #[serde(default = "three")]
        channels: usize,
        /// The number of labels per image (default 1).
        #[serde(default = "one")]
        outputs: usize,
        /// The seed of the initial weights (default 0).
        #[serde(default)]
        seed: u64,
    },
}

/// A data set that `vanilla_ann` was published for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Bike Sharing.
    Bike,
    /// Wine Quality.
    Wine,
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

fn eighteen() -> usize {
    18
}

impl ModelOptions {
    /// The network with its initial weights.
    pub(super) fn build(&self) -> Result<Network> {
        let generator = |seed| stream(seed, Purpose::Initialisation, 0);
        match *self {
            ModelOptions::Mlp { inputs, outputs, ref hidden, batch_norm, seed } => {
                mlp(inputs, hidden, outputs, batch_norm, &mut generator(seed))
            }
            ModelOptions::VanillaAnn { dataset, seed } => {
                let (inputs, batch_norm) = match dataset {
                    Table::Bike => (19, false),
                    Table::Wine => (11, true),
                };
                mlp(inputs, &[100, 50, 20, 10], 1, batch_norm, &mut generator(seed))
            }
            ModelOptions::VanillaCnn { height, width, channels, outputs, seed } => {
                vanilla_cnn(Image { channels, height, width }, outputs, &mut generator(seed))
            }
            ModelOptions::Resnet { depth, height, width, channels, outputs, seed } => {
                resnet(depth, Image { channels, height, width }, outputs, &mut generator(seed))
            }
        }
    }
}
