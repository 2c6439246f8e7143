//! The shape of a multi-layer perceptron, and how its values are laid out in lists.

use crate::kernels::spec::Activation;
use std::ops::Range;

/// The shape of a network of Linear layers with an activation between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The number of features, the width of each hidden layer, the number of outputs.
    pub widths: Vec<usize>,
    /// Whether a BatchNorm follows each hidden Linear.
    pub norm: bool,
    /// What follows each hidden Linear and its BatchNorm.
    pub activation: Activation,
}

impl Plan {
    /// The number of Linear layers.
    pub(crate) fn layers(&self) -> usize {
        self.widths.len() - 1
    }

    /// Where the neurons of `layer` are in a list of all layers' neurons, in which one extra place follows each layer.
    pub(super) fn neurons(&self, layer: usize) -> Range<usize> {
        let start = self.widths[1..=layer].iter().sum::<usize>() + layer;
        start..start + self.widths[layer + 1]
    }

    /// The length of such a list.
    pub(super) fn neuron_count(&self) -> usize {
        self.neurons(self.layers() - 1).end + 1
    }

    /// The number of trainable values.
    pub(crate) fn parameter_count(&self) -> usize {
        (0..self.layers()).flat_map(|layer| self.sizes(layer)).sum()
    }

    /// The number of trainable values of `layer`: weight, bias, and both of its BatchNorm.
    pub(super) fn sizes(&self, layer: usize) -> [usize; 3] {
        let (inputs, outputs) = (self.widths[layer], self.widths[layer + 1]);
        let norm = if self.norm && self.is_hidden(layer) { 2 * outputs } else { 0 };
        [inputs * outputs, outputs, norm]
    }

    /// Whether an activation follows `layer`.
    pub(crate) fn is_hidden(&self, layer: usize) -> bool {
        layer + 1 < self.layers()
    }

    /// Splits a list of all parameters into those of each layer.
    pub(super) fn split<'a>(&self, mut list: &'a [f32]) -> Vec<[&'a [f32]; 3]> {
        let layers = (0..self.layers()).map(|layer| {
            self.sizes(layer).map(|count| {
                let (first, rest) = list.split_at(count);
                list = rest;
                first
            })
        });
        layers.collect()
    }

    /// Splits the parameters of `layer` off the front of a list: weight, bias, and both of its BatchNorm.
    pub(super) fn split_off<'a>(&self, layer: usize, list: &mut &'a mut [f32]) -> [&'a mut [f32]; 3] {
        self.sizes(layer).map(|count| split_off(list, count))
    }

    /// The index of the weight of `layer` in the list of the trainable tensors. Its bias and its BatchNorm's follow.
    pub(crate) fn first_parameter(&self, layer: usize) -> usize {
        layer * if self.norm { 4 } else { 2 }
    }

    /// Ranges of layers that a tile passes without results of the other tiles: with BatchNorm one layer each, else all.
    pub(super) fn segments(&self) -> Vec<Range<usize>> {
        let length = if self.norm { 1 } else { self.layers() };
        (0..self.layers()).step_by(length).map(|start| start..start + length).collect()
    }
}

/// For each layer its weight (`outputs x inputs`, row-major), its bias, and its BatchNorm's weight and bias in one list.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a>(pub &'a [[&'a [f32]; 3]]);

impl<'a> Parameters<'a> {
    pub(super) fn linear(self, layer: usize) -> (&'a [f32], &'a [f32]) {
        let [weight, bias, _] = self.0[layer];
        (weight, bias)
    }

    pub(super) fn norm(self, layer: usize) -> (&'a [f32], &'a [f32]) {
        let [.., norm] = self.0[layer];
        norm.split_at(norm.len() / 2)
    }
}

/// A mini-batch: the data set's values in normalised units, and which of its rows to take.
#[derive(Clone, Copy, Debug)]
pub struct BatchSlices<'a> {
    /// The features of the whole data set, row-major.
    pub features: &'a [f32],
    /// The labels of the whole data set, row-major.
    pub labels: &'a [f32],
    /// The rows of the data set that are in the mini-batch.
    pub rows: &'a [usize],
    /// The weights of the mini-batch's squared errors, one for each row and output, row-major.
    pub coefficients: &'a [f32],
}

/// Everything that a step changes.
#[derive(Debug)]
pub struct TrainingState<'a> {
    /// All trainable values: for each layer its weight, its bias, and its BatchNorm's weight and bias.
    pub parameters: &'a mut [f32],
    /// The lists that the optimiser keeps, each in the order of the parameters: Adam's running means of the gradients and
    /// of their squares, or the momentum.
    pub optimizer: Vec<&'a mut [f32]>,
    /// Each BatchNorm's running mean and variance, in the order of the layers.
    pub buffers: Vec<&'a mut [f32]>,
}

/// A neuron's statistics over a mini-batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NormStatistics {
    pub mean: f32,
    /// The population variance.
    pub variance: f32,
    /// `1 / sqrt(variance + epsilon)`.
    pub inverse_std: f32,
}

/// Splits the first `count` values off the front of `list`.
pub(super) fn split_off<'a>(list: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
    let (first, rest) = std::mem::take(list).split_at_mut(count);
    *list = rest;
    first
}
