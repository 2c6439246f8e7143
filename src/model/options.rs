//! Which networks there are, and the options of each.

use super::cnn::{self, vanilla_cnn};
use super::image::Image;
use super::layers::Network;
use super::mlp::mlp;
use super::resnet::resnet;
use crate::base::options::require;
use crate::base::random::{Purpose, stream};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which network, and its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelOptions {
    /// Linear layers with ReLU between them.
    Mlp {
        /// The number of feature values per row.
        #[schemars(range(min = 1))]
        inputs: usize,
        /// The number of labels per row (default 1).
        #[serde(default = "one")]
        #[schemars(range(min = 1))]
        outputs: usize,
        /// The width of each hidden layer.
        #[schemars(inner(range(min = 1)))]
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
        #[schemars(range(min = 64))]
        height: usize,
        /// The width of an image in pixels, at least 64.
        #[schemars(range(min = 64))]
        width: usize,
        /// The number of values per pixel (default 3).
        #[serde(default = "three")]
        #[schemars(range(min = 1))]
        channels: usize,
        /// The number of labels per image (default 1).
        #[serde(default = "one")]
        #[schemars(range(min = 1))]
        outputs: usize,
        /// The seed of the initial weights (default 0).
        #[serde(default)]
        seed: u64,
    },
    /// torchvision's ResNet with a last layer of `outputs`.
    Resnet {
        /// The number of layers with weights: 18 (default), 34 or 50.
        #[serde(default = "eighteen")]
        #[schemars(extend("enum" = [18, 34, 50]))]
        depth: usize,
        /// The height of an image in pixels.
        #[schemars(range(min = 1))]
        height: usize,
        /// The width of an image in pixels.
        #[schemars(range(min = 1))]
        width: usize,
        /// The number of values per pixel (default 3).
        #[serde(default = "three")]
        #[schemars(range(min = 1))]
        channels: usize,
        /// The number of labels per image (default 1).
        #[serde(default = "one")]
        #[schemars(range(min = 1))]
        outputs: usize,
        /// The seed of the initial weights (default 0).
        #[serde(default)]
        seed: u64,
    },
    /// A network with a second output for each label: the logarithm of the variance of what it misses, in normalised
    /// units. The losses `gaussian` and `beta_nll` train it.
    MeanVariance {
        /// The network; its `outputs` are the labels.
        network: Box<ModelOptions>,
    },
    /// Several networks, of which the mean predicts. A fit makes one.
    Ensemble {
        /// How many.
        #[schemars(range(min = 1))]
        members: usize,
        /// What each is; their seeds are this one's and those that follow.
        network: Box<ModelOptions>,
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
    /// The networks with their initial weights: one, or those of an ensemble.
    pub(super) fn build(&self) -> Result<Vec<Network>> {
        let mut path = "model.".to_string();
        let (count, network) = match self {
            ModelOptions::Ensemble { members, network } => {
                require(*members >= 1, "model.members", *members, "at least 1")?;
                path += "network.";
                (*members, &**network)
            }
            single => (1, single),
        };
        let (network, heads) = match network {
            ModelOptions::MeanVariance { network } => {
                path += "network.";
                (&**network, 2)
            }
            plain => (plain, 1),
        };
        let made = (0..count).map(|number| network.network(number as u64, heads));
        made.map(|network| network.map_err(|error| error.moved("model.", &path))).collect()
    }

    /// Checks the size of the images that the network takes, which does not need the network.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub(crate) fn check_images(&self) -> Result<()> {
        match *self {
            ModelOptions::VanillaCnn { height, width, channels, .. } => cnn::check(Image { channels, height, width }),
            ModelOptions::Resnet { height, width, channels, .. } => Image { channels, height, width }.validate(),
            ModelOptions::MeanVariance { ref network } | ModelOptions::Ensemble { ref network, .. } => {
                network.check_images()
            }
            ModelOptions::Mlp { .. } | ModelOptions::VanillaAnn { .. } => Ok(()),
        }
    }

    /// Whether the network has, after its outputs, the logarithms of their variances.
    pub fn predicts_variance(&self) -> bool {
        match self {
            ModelOptions::MeanVariance { .. } => true,
            ModelOptions::Ensemble { network, .. } => network.predicts_variance(),
            _ => false,
        }
    }

    /// The same network with a seed that is `by` greater.
    pub(crate) fn reseeded(&self, by: u64) -> Self {
        let mut options = self.clone();
        match &mut options {
            ModelOptions::Mlp { seed, .. }
            | ModelOptions::VanillaAnn { seed, .. }
            | ModelOptions::VanillaCnn { seed, .. }
            | ModelOptions::Resnet { seed, .. } => *seed = seed.wrapping_add(by),
            ModelOptions::MeanVariance { network } | ModelOptions::Ensemble { network, .. } => {
                **network = network.reseeded(by);
            }
        }
        options
    }

    /// A single network with `heads` times its outputs, of a seed that is `number` greater.
    fn network(&self, number: u64, heads: usize) -> Result<Network> {
        let generator = |seed: u64| stream(seed.wrapping_add(number), Purpose::Initialisation, 0);
        // More outputs than there is room for are an error of the network.
        let outputs = |outputs: usize| outputs.saturating_mul(heads);
        match *self {
            ModelOptions::Mlp { inputs, outputs: labels, ref hidden, batch_norm, seed } => {
                mlp(inputs, hidden, outputs(labels), batch_norm, &mut generator(seed))
            }
            ModelOptions::VanillaAnn { dataset, seed } => {
                let (inputs, batch_norm) = match dataset {
                    Table::Bike => (19, false),
                    Table::Wine => (11, true),
                };
                mlp(inputs, &[100, 50, 20, 10], outputs(1), batch_norm, &mut generator(seed))
            }
            ModelOptions::VanillaCnn { height, width, channels, outputs: labels, seed } => {
                vanilla_cnn(Image { channels, height, width }, outputs(labels), &mut generator(seed))
            }
            ModelOptions::Resnet { depth, height, width, channels, outputs: labels, seed } => {
                resnet(depth, Image { channels, height, width }, outputs(labels), &mut generator(seed))
            }
            ModelOptions::MeanVariance { .. } | ModelOptions::Ensemble { .. } => Err(Error::config(
                "model.kind",
                "is a network in a network, must be 'mlp', 'vanilla_ann', 'vanilla_cnn' or 'resnet'; within an \
                 ensemble, 'mean_variance' too",
            )),
        }
    }
}
