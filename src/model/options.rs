//! Which networks there are, and the options of each.

use super::cnn::{self, vanilla_cnn};
use super::description::{Description, LayerOptions};
use super::image::Image;
use super::layers::Network;
use super::mlp::{Hidden, Norm, mlp};
use super::resnet::resnet;
use crate::base::options::require;
use crate::kernels::spec::Activation;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which network, and its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelOptions {
    /// Linear layers with an activation between them.
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
        /// Whether a BatchNorm follows each hidden Linear (default false): the same as `norm` `batch_norm`.
        #[serde(default)]
        batch_norm: bool,
        /// What normalises the values of each hidden Linear (default nothing).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        norm: Option<Norm>,
        /// What follows each hidden Linear and what normalises it (default `relu`).
        #[serde(default, skip_serializing_if = "Activation::is_relu")]
        activation: Activation,
        /// The probability with which a dropout after each activation drops a value in training, in [0, 1) (default 0).
        #[serde(default, skip_serializing_if = "is_zero")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        dropout: f64,
        /// The seed of the initial weights and of the dropout (default 0).
        #[serde(default)]
        seed: u64,
    },
    /// Layers of the caller's choice, one after the other.
    Sequential {
        /// The shape of one row's features: `[inputs]` for tables, `[channels, height, width]` for images.
        #[schemars(inner(range(min = 1)))]
        input_shape: Vec<usize>,
        /// The layers, of which the last gives the outputs.
        layers: Vec<LayerOptions>,
        /// The seed of the initial weights and of the dropout (default 0).
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

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl ModelOptions {
    /// A multi-layer perceptron with ReLU.
    pub fn mlp(inputs: usize, hidden: &[usize], outputs: usize, batch_norm: bool, seed: u64) -> Self {
        let (hidden, activation) = (hidden.to_vec(), Activation::Relu);
        ModelOptions::Mlp { inputs, outputs, hidden, batch_norm, norm: None, activation, dropout: 0.0, seed }
    }

    /// The networks with their initial weights: one, or those of an ensemble.
    pub(super) fn build(&self) -> Result<Vec<Network>> {
        let mut path = "model.".to_string();
        let (members, network) = match self {
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
        if matches!(network, ModelOptions::MeanVariance { .. } | ModelOptions::Ensemble { .. }) {
            return Err(Error::config(
                path + "kind",
                "is a network in a network, must be 'mlp', 'sequential', 'vanilla_ann', 'vanilla_cnn' or 'resnet'; \
                 within an ensemble, 'mean_variance' too",
            ));
        }
        let moved = |error: Error| error.moved("model.", &path);
        let description = network.description().map_err(moved)?;
        let seeds = (0..members).map(|number| network.seed().wrapping_add(number as u64));
        seeds.map(|seed| description.build(seed, heads).map_err(moved)).collect()
    }

    /// What a single network is made of, without the outputs that `mean_variance` adds.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn description(&self) -> Result<Description> {
        match *self {
            ModelOptions::Mlp { inputs, outputs, ref hidden, batch_norm, norm, activation, dropout, .. } => {
                let norm = match (batch_norm, norm) {
                    (true, Some(Norm::LayerNorm)) => {
                        return Err(Error::config("model.norm", "is 'layer_norm', and batch_norm is true: give one"));
                    }
                    (true, _) => Some(Norm::BatchNorm),
                    (false, norm) => norm,
                };
                mlp(inputs, hidden, outputs, &Hidden { norm, activation, dropout })
            }
            ModelOptions::Sequential { ref input_shape, ref layers, .. } => {
                Ok(Description { input_shape: input_shape.clone(), layers: layers.clone() })
            }
            ModelOptions::VanillaAnn { dataset, .. } => {
                let (inputs, norm) = match dataset {
                    Table::Bike => (19, None),
                    Table::Wine => (11, Some(Norm::BatchNorm)),
                };
                mlp(inputs, &[100, 50, 20, 10], 1, &Hidden { norm, activation: Activation::Relu, dropout: 0.0 })
            }
            ModelOptions::VanillaCnn { height, width, channels, outputs, .. } => {
                vanilla_cnn(Image { channels, height, width }, outputs)
            }
            ModelOptions::Resnet { depth, height, width, channels, outputs, .. } => {
                resnet(depth, Image { channels, height, width }, outputs)
            }
            ModelOptions::MeanVariance { ref network } | ModelOptions::Ensemble { ref network, .. } => {
                network.description()
            }
        }
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
            ModelOptions::Mlp { .. } | ModelOptions::Sequential { .. } | ModelOptions::VanillaAnn { .. } => Ok(()),
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
            | ModelOptions::Sequential { seed, .. }
            | ModelOptions::VanillaAnn { seed, .. }
            | ModelOptions::VanillaCnn { seed, .. }
            | ModelOptions::Resnet { seed, .. } => *seed = seed.wrapping_add(by),
            ModelOptions::MeanVariance { network } | ModelOptions::Ensemble { network, .. } => {
                **network = network.reseeded(by);
            }
        }
        options
    }

    /// The seed of the first network.
    fn seed(&self) -> u64 {
        match self {
            ModelOptions::Mlp { seed, .. }
            | ModelOptions::Sequential { seed, .. }
            | ModelOptions::VanillaAnn { seed, .. }
            | ModelOptions::VanillaCnn { seed, .. }
            | ModelOptions::Resnet { seed, .. } => *seed,
            ModelOptions::MeanVariance { network } | ModelOptions::Ensemble { network, .. } => network.seed(),
        }
    }
}
