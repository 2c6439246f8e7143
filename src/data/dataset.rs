//! A data set in memory: features, labels and the variances of the labels' noise.

use super::Features;
use super::array::ArrayView;
use super::features::gather;
use crate::base::memory::collect;
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// Features, labels and, where they are known, the variances of the labels'
/// noise. It never changes: to divide it or to add noise makes a new one.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// `rows` times the product of `feature_shape`.
    features: Features,
    feature_shape: Vec<usize>,
    /// Row-major, `rows x outputs`, in the user's units.
    labels: Vec<f64>,
    outputs: usize,
    /// As `labels`, in the square of their units.
    variances: Option<Vec<f64>>,
    /// The labels before simulated noise.
    clean_labels: Option<Vec<f64>>,
    /// One number per row; rows that have the same one are the same picture.
    pub(super) groups: Option<Vec<u32>>,
    /// What was left out when the data set was read, and why.
    left_out: Arc<Vec<String>>,
}

impl Dataset {
    /// Copies a caller's arrays.
    ///
    /// `features` has shape `[rows, ...]`, any number of dimensions from one
    /// (one feature) up; `labels` and `variances` `[rows]` or `[rows, outputs]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the arrays do not fit together;
    /// [`Error::InvalidArgument`] for no rows, NaN, infinity or a negative variance.
    pub fn from_arrays(features: &ArrayView, labels: &ArrayView, variances: Option<&ArrayView>) -> Result<Self> {
        let [rows, feature_shape @ ..] = features.shape() else {
            return Err(Error::Shape("features must have at least one dimension, the rows".into()));
        };
        let outputs = outputs_of("labels", labels, *rows)?;
        if let Some(variances) = variances
            && outputs_of("variances", variances, *rows)? != outputs
        {
            let (found, expected) = (variances.shape(), labels.shape());
            return Err(Error::Shape(format!("variances have shape {found:?}, the labels have {expected:?}")));
        }
        let feature_shape = if feature_shape.is_empty() { &[1] } else { feature_shape };
        Self::new(
            features.to_f32()?,
            feature_shape.to_vec(),
            labels.to_f64()?,
            outputs,
            variances.map(ArrayView::to_f64).transpose()?,
        )
    }

    /// As [`Dataset::from_arrays`], with the standard deviations of the labels' noise.
    ///
    /// # Errors
    /// As [`Dataset::from_arrays`]; a negative standard deviation is an error.
    pub fn from_standard_deviations(features: &ArrayView, labels: &ArrayView, deviations: &ArrayView) -> Result<Self> {
        let values = deviations.to_f64()?;
        let columns = deviations.shape().get(1).copied().unwrap_or(1);
        check(&values, columns, "standard deviation", non_negative)?;
        let squares = collect(values.iter().map(|s| s * s))?;
        Self::from_arrays(features, labels, Some(&ArrayView::f64(&squares, deviations.shape())?))
    }

    /// A data set from row-major values.
    ///
    /// # Errors
    /// As [`Dataset::from_arrays`].
    pub fn new(
        features: Vec<f32>,
        feature_shape: Vec<usize>,
        labels: Vec<f64>,
        outputs: usize,
        variances: Option<Vec<f64>>,
    ) -> Result<Self> {
        let width: usize = feature_shape.iter().product();
        if width == 0 || outputs == 0 {
            return Err(Error::Shape(format!(
                "a row has features of shape {feature_shape:?} and {outputs} labels: it needs at least one of each"
            )));
        }
        let rows = labels.len() / outputs;
        if rows == 0 {
            return Err(Error::InvalidArgument("a data set needs at least one row".into()));
        }
        if features.len() != rows * width || labels.len() != rows * outputs {
            return Err(Error::Shape(format!(
                "{} feature values do not make {rows} rows of shape {feature_shape:?}",
                features.len()
            )));
        }
        if let Some(at) = features.iter().position(|value| !value.is_finite()) {
            return Err(Error::InvalidArgument(format!(
                "row {}, feature {}: {} is not a finite single-precision number",
                at / width,
                at % width,
                features[at]
            )));
        }
        Self::assemble(Features::Numbers(Arc::new(features)), feature_shape, labels, outputs, variances)
    }

    /// Images as their bytes, `rows` times the product of `shape` (channels, height,
    /// width), with one label each. Images of the same group are the same picture.
    ///
    /// # Errors
    /// As [`Dataset::from_arrays`].
    pub fn from_pixels(pixels: Vec<u8>, shape: [usize; 3], labels: Vec<f64>, groups: Option<Vec<u32>>) -> Result<Self> {
        let (rows, width) = (labels.len(), shape.iter().product::<usize>());
        if rows == 0 || width == 0 || pixels.len() != rows * width || groups.as_ref().is_some_and(|g| g.len() != rows) {
            let bytes = pixels.len();
            return Err(Error::Shape(format!("{bytes} bytes do not make {rows} images of shape {shape:?}")));
        }
        let features = Features::Pixels { pixels: Arc::new(pixels), rows: Arc::new((0..rows).collect()) };
        Ok(Dataset { groups, ..Self::assemble(features, shape.to_vec(), labels, 1, None)? })
    }

    /// A data set whose features were checked.
    fn assemble(
        features: Features,
        feature_shape: Vec<usize>,
        labels: Vec<f64>,
        outputs: usize,
        variances: Option<Vec<f64>>,
    ) -> Result<Self> {
        check(&labels, outputs, "label", |_| None)?;
        if let Some(variances) = &variances {
            if variances.len() != labels.len() {
                let (found, expected) = (variances.len(), labels.len());
                return Err(Error::Shape(format!("{found} variances were given for {expected} labels")));
            }
            check(variances, outputs, "variance", non_negative)?;
        }
        Ok(Dataset {
            features,
            feature_shape,
            labels,
            outputs,
            variances,
            clean_labels: None,
            groups: None,
            left_out: Arc::default(),
        })
    }

    /// The number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.labels.len() / self.outputs
    }

    /// The shape of one row's features.
    pub fn feature_shape(&self) -> &[usize] {
        &self.feature_shape
    }

    /// How many feature values a row has.
    pub fn width(&self) -> usize {
        self.feature_shape.iter().product()
    }

    /// How many labels a row has.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// What was left out when the data set was read, and why: damaged images.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The same rows with a note of what was left out.
    pub(super) fn with_left_out(self, left_out: Vec<String>) -> Self {
        Dataset { left_out: Arc::new(left_out), ..self }
    }

    /// The features.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The values of the features, row-major.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] for images, which are bytes otherwise.
    pub fn feature_values(&self) -> Result<Cow<'_, [f32]>> {
        self.features.rows().to_f32(self.width())
    }

    /// The labels, row-major, `rows x outputs`.
    pub fn labels(&self) -> &[f64] {
        &self.labels
    }

    /// The variances of the labels' noise, as the labels; `None` where they are unknown.
    pub fn variances(&self) -> Option<&[f64]> {
        self.variances.as_deref()
    }

    /// The labels before simulated noise; without any, the labels.
    pub fn clean_labels(&self) -> &[f64] {
        self.clean_labels.as_deref().unwrap_or(&self.labels)
    }

    /// Whether the labels carry simulated noise.
    pub fn has_clean_labels(&self) -> bool {
        self.clean_labels.is_some()
    }

    /// The same rows with noisy labels of known variance; the clean ones are kept beside them.
    pub(crate) fn with_noise(&self, labels: Vec<f64>, variances: Vec<f64>) -> Result<Self> {
        let (features, shape) = (self.features.clone(), self.feature_shape.clone());
        let noisy = Self::assemble(features, shape, labels, self.outputs, Some(variances))?;
        let (groups, left_out) = (self.groups.clone(), self.left_out.clone());
        let clean_labels = Some(collect(self.clean_labels().iter().copied())?);
        Ok(Dataset { clean_labels, groups, left_out, ..noisy })
    }

    /// The rows `indices`, in that order; a row may occur more than once.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no rows or one that does not exist.
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        if indices.is_empty() {
            return Err(Error::InvalidArgument("a data set needs at least one row, no indices were given".into()));
        }
        if let Some(index) = indices.iter().find(|&&index| index >= self.rows()) {
            return Err(Error::InvalidArgument(format!("row {index} was asked for, there are {} rows", self.rows())));
        }
        let labels = |values: &[f64]| gather(values, self.outputs, indices);
        Ok(Dataset {
            features: self.features.subset(indices, self.width())?,
            feature_shape: self.feature_shape.clone(),
            labels: labels(&self.labels)?,
            outputs: self.outputs,
            variances: self.variances().map(labels).transpose()?,
            clean_labels: self.clean_labels.as_deref().map(labels).transpose()?,
            groups: self.groups.as_deref().map(|groups| gather(groups, 1, indices)).transpose()?,
            left_out: self.left_out.clone(),
        })
    }
}

/// How many labels a row has in an array of labels or variances.
fn outputs_of(name: &str, array: &ArrayView, rows: usize) -> Result<usize> {
    let outputs = match array.shape() {
        [_] => 1,
        [_, outputs] => *outputs,
        shape => return Err(Error::Shape(format!("{name} have shape {shape:?}, expected [rows] or [rows, outputs]"))),
    };
    match array.shape()[0] {
        found if found == rows => Ok(outputs),
        found => Err(Error::Shape(format!("{name} have {found} rows, the features have {rows}"))),
    }
}

fn non_negative(value: f64) -> Option<&'static str> {
    (value < 0.0).then_some("must not be negative")
}

/// Every value must be finite and pass `fault`.
fn check(values: &[f64], columns: usize, name: &str, fault: impl Fn(f64) -> Option<&'static str>) -> Result<()> {
    for (at, &value) in values.iter().enumerate() {
        let fault = if value.is_finite() { fault(value) } else { Some("is not a finite number") };
        if let Some(fault) = fault {
            let columns = columns.max(1);
            let (row, column) = (at / columns, at % columns);
            return Err(Error::InvalidArgument(format!("row {row}, {name} {column}: {value} {fault}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_with_their_row() {
        let features: [f32; 4] = [0.0, 1.0, 2.0, f32::NAN];
        let labels = [1.0, 2.0];
        let x = |values| ArrayView::f32(values, &[2, 2]).unwrap();
        let y = ArrayView::f64(&labels, &[2]).unwrap();
        let message = |result: Result<Dataset>| result.unwrap_err().to_string();
        assert_eq!(
            message(Dataset::from_arrays(&x(&features), &y, None)),
            "row 1, feature 1: NaN is not a finite single-precision number"
        );
        let features = [0.0; 4];
        let variances = [1.0, -2.0];
        assert_eq!(
            message(Dataset::from_arrays(&x(&features), &y, Some(&ArrayView::f64(&variances, &[2]).unwrap()))),
            "row 1, variance 0: -2 must not be negative"
        );
        assert_eq!(
            message(Dataset::from_arrays(&x(&features), &ArrayView::f64(&[1.0; 3], &[3]).unwrap(), None)),
            "labels have 3 rows, the features have 2"
        );
        let two_rows = Dataset::from_arrays(&x(&features), &y, None).unwrap();
        assert_eq!(message(two_rows.subset(&[1, 2])), "row 2 was asked for, there are 2 rows");
    }
}
