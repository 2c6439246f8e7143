//! A mini-batch on its way to the device.

use crate::Result;
use crate::data::Normalization;
use crate::model::batch::Source;
use crate::torch::Precision;
use crate::torch::tensor::upload;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Some rows of normalised data, and the weights of their squared errors.
#[derive(Clone, Copy, Debug)]
pub struct MiniBatch<'a> {
    /// All features that this process holds.
    pub features: &'a Source,
    /// The labels of the same rows, `[rows, outputs]`.
    pub labels: &'a Tensor,
    /// Which rows these are, where they are not all.
    pub held: Option<&'a Held>,
    /// Which rows are the mini-batch.
    pub rows: &'a [usize],
    /// One for each squared error, row-major.
    pub coefficients: &'a [f32],
    /// For a likelihood the variances of the labels' noise, as the coefficients.
    pub variances: Option<&'a [f32]>,
    /// What the features were or are to be normalised with.
    pub normalization: &'a Normalization,
}

/// Which rows of the data this process holds.
#[derive(Clone, Debug)]
pub enum Held {
    /// Those of these numbers.
    Part(Range<usize>),
    /// For the number of each row, its place among those held.
    Places(Vec<Option<usize>>),
}

impl Held {
    /// The place of row number `row` among those that are held, if it is one of them.
    pub fn place(&self, row: usize) -> Option<usize> {
        match self {
            Held::Part(part) => part.contains(&row).then(|| row - part.start),
            Held::Places(places) => places[row],
        }
    }
}

/// What the host tells the device of a mini-batch.
#[derive(Debug)]
pub(super) struct Selection {
    /// The rows' numbers.
    indices: Tensor,
    coefficients: Tensor,
    variances: Option<Tensor>,
}

impl Selection {
    pub(super) fn new(batch: &MiniBatch, device: Device) -> Result<Self> {
        let empty = |count: usize, kind| Tensor::f_empty([count as i64], (kind, device));
        let indices = empty(batch.rows.len(), Kind::Int64)?;
        let coefficients = empty(batch.coefficients.len(), Kind::Float)?;
        let variances = batch.variances.map(|variances| empty(variances.len(), Kind::Float)).transpose()?;
        let mut selection = Selection { indices, coefficients, variances };
        selection.upload(batch)?;
        Ok(selection)
    }

    /// Writes another mini-batch of as many rows over it. The host does not wait for the device.
    pub(super) fn upload(&mut self, batch: &MiniBatch) -> Result<()> {
        let indices: Vec<i64> = batch.rows.iter().map(|&row| row as i64).collect();
        upload(&mut self.indices, &Tensor::f_from_slice(&indices)?)?;
        upload(&mut self.coefficients, &Tensor::f_from_slice(batch.coefficients)?)?;
        match (&mut self.variances, batch.variances) {
            (Some(place), Some(variances)) => upload(place, &Tensor::f_from_slice(variances)?),
            _ => Ok(()),
        }
    }
}

/// A mini-batch as tensors on the device.
pub(super) struct Inputs {
    pub features: Tensor,
    pub labels: Tensor,
    /// As the labels.
    pub coefficients: Tensor,
    /// As the labels, for a likelihood.
    pub variances: Option<Tensor>,
}

impl Inputs {
    pub(super) fn new(batch: &MiniBatch, selection: &Selection, precision: Precision) -> Result<Self> {
        let labels = batch.labels.f_index_select(0, &selection.indices)?;
        Ok(Inputs {
            features: batch.features.batch(batch.rows, &selection.indices, batch.normalization, precision)?,
            coefficients: selection.coefficients.f_view_as(&labels)?,
            variances: selection.variances.as_ref().map(|variances| variances.f_view_as(&labels)).transpose()?,
            labels,
        })
    }
}
