//! A data set in memory: features, labels and the variances of the labels' noise.

use super::array::{ArrayView, Elements, width_of};
use super::columns::Columns;
use super::groups::{Groups, name_of_number};
use super::{Chunks, Features, Shared};
use crate::base::memory::collect;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// What [`Dataset::from_arrays_with`] is told of the arrays.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArrayOptions {
    /// Whether the noise is given by standard deviations instead of variances (default false).
    pub standard_deviations: bool,
    /// What a label of NaN is (default `error`).
    pub missing_labels: MissingLabels,
    /// The names of the features, as many as a row has (default none).
    pub columns: Vec<String>,
}

/// What [`Dataset::with_noise_of`] is told of its array.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VarianceOptions {
    /// Whether the noise is given by standard deviations instead of variances (default false).
    pub standard_deviations: bool,
}

/// What a label that is not there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingLabels {
    /// An error, which names it.
    #[default]
    Error,
    /// Masked: it has no weight and counts in no statistic and no metric.
    Mask,
}

/// Features, labels and, where they are known, the variances of the labels'
/// noise. It never changes: to divide it or to add noise makes a new one.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// `rows` times the product of `feature_shape`.
    pub(super) features: Features,
    pub(super) feature_shape: Vec<usize>,
    /// Row-major, `rows x outputs`, in the user's units. NaN where there is none.
    pub(super) labels: Chunks<f64>,
    pub(super) outputs: usize,
    /// As `labels`, in the square of their units. Infinite where the label says nothing, or is not there.
    pub(super) variances: Option<Chunks<f64>>,
    /// How many labels are masked: not there, or of infinite variance.
    pub(super) masked: usize,
    /// The labels before simulated noise.
    pub(super) clean_labels: Option<Chunks<f64>>,
    /// Which rows belong together: copies of a picture, visits of a patient.
    pub(super) groups: Option<Groups>,
    /// What the features and labels are called, where they have names.
    pub(super) columns: Option<Arc<Columns>>,
    /// What was left out when the data set was read, and why.
    pub(super) left_out: Arc<Vec<String>>,
}

impl Dataset {
    /// Copies a caller's arrays, but for memory that was lent and is as it is kept: f32 features and f64 labels and
    /// variances in C order.
    ///
    /// `features` has shape `[rows, ...]`, any number of dimensions from one
    /// (one feature) up; `labels` and `variances` `[rows]` or `[rows, outputs]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the arrays do not fit together; [`Error::InvalidArgument`] for no rows, NaN, infinity
    /// (but for a variance: such a label is masked) or a negative variance.
    pub fn from_arrays(features: &ArrayView, labels: &ArrayView, variances: Option<&ArrayView>) -> Result<Self> {
        Self::from_arrays_with(features, labels, variances, None, &ArrayOptions::default())
    }

    /// As [`Dataset::from_arrays`], with `noise` as `options` say. Rows whose `groups`, of shape `[rows]`, are the same
    /// number belong together: no division of the rows parts them that is asked not to.
    ///
    /// # Errors
    /// As [`Dataset::from_arrays`]; [`Error::InvalidArgument`] for a group of NaN.
    pub fn from_arrays_with(
        features: &ArrayView,
        labels: &ArrayView,
        noise: Option<&ArrayView>,
        groups: Option<&ArrayView>,
        options: &ArrayOptions,
    ) -> Result<Self> {
        let [rows, shape @ ..] = features.shape() else {
            return Err(Error::Shape("features must have at least one dimension, the rows".into()));
        };
        let outputs = outputs_of("labels", labels, *rows)?;
        let shape = if shape.is_empty() { vec![1] } else { shape.to_vec() };
        let width = width_of(&shape);
        check_sizes(&shape, outputs, *rows)?;
        let columns = if shape.len() == 1 { width } else { 1 };
        let features = match features.elements() {
            Elements::F32(_) => Features::from_f32(features.to_shared_f32()?, width)?,
            Elements::F64(_) => Features::from_f64(&features.as_f64()?, width, columns)?,
            Elements::Pixels(_) => Features::from_pixels(features.to_shared_bytes()?, *rows)?,
        };
        let labels = labels.to_shared_f64()?;
        let missing = options.missing_labels;
        let variances = |noise| noise_variances(noise, &labels, outputs, options.standard_deviations, missing);
        let variances = noise.map(variances).transpose()?;
        let groups = groups.map(|groups| named_groups(groups, *rows)).transpose()?;
        let columns = match &options.columns[..] {
            [] => None,
            _ if matches!(features, Features::Pixels { .. }) => {
                return Err(Error::config("arrays.columns", "must be empty: the bytes of images have no names"));
            }
            names => Some(Arc::new(Columns::of_numbers(names, width)?)),
        };
        let data = Self::assemble(features, shape, labels, outputs, variances, missing)?;
        Ok(Dataset { groups, columns, ..data })
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
        Self::from_shared(features.into(), feature_shape, labels.into(), outputs, variances.map(Into::into))
    }

    /// As [`Dataset::new`], of memory that is shared instead of copied.
    ///
    /// # Errors
    /// As [`Dataset::from_arrays`].
    pub fn from_shared(
        features: Shared<f32>,
        feature_shape: Vec<usize>,
        labels: Shared<f64>,
        outputs: usize,
        variances: Option<Shared<f64>>,
    ) -> Result<Self> {
        let width = width_of(&feature_shape);
        let rows = labels.len() / outputs.max(1);
        check_sizes(&feature_shape, outputs, rows)?;
        if features.len() != rows.saturating_mul(width) || labels.len() != rows * outputs {
            return Err(Error::Shape(format!(
                "{} feature values do not make {rows} rows of shape {feature_shape:?}",
                features.len()
            )));
        }
        let features = Features::from_f32(features, width)?;
        Self::assemble(features, feature_shape, labels, outputs, variances, MissingLabels::Error)
    }

    /// Images as their bytes, `rows` times the product of `shape` (channels, height,
    /// width), with one label each. Images of the same group are the same picture.
    ///
    /// # Errors
    /// As [`Dataset::from_arrays`].
    pub fn from_pixels(pixels: Vec<u8>, shape: [usize; 3], labels: Vec<f64>, groups: Option<Vec<u32>>) -> Result<Self> {
        let (rows, width) = (labels.len(), width_of(&shape));
        let bytes = rows.saturating_mul(width);
        if bytes == 0 || pixels.len() != bytes || groups.as_ref().is_some_and(|g| g.len() != rows) {
            let bytes = pixels.len();
            return Err(Error::Shape(format!("{bytes} bytes do not make {rows} images of shape {shape:?}")));
        }
        let features = Features::from_pixels(pixels, rows)?;
        let name = |&group: &u32| name_of_number(group.into());
        let groups = groups.map(|groups| Groups::of(groups.iter().map(name))).transpose()?;
        Ok(Dataset { groups, ..Self::assemble(features, shape.to_vec(), labels, 1, None, MissingLabels::Error)? })
    }

    /// A data set whose features were checked.
    pub(super) fn assemble(
        features: Features,
        feature_shape: Vec<usize>,
        labels: impl Into<Shared<f64>>,
        outputs: usize,
        variances: Option<Shared<f64>>,
        missing: MissingLabels,
    ) -> Result<Self> {
        let labels = labels.into();
        check(&labels, outputs, "label", |label| {
            let masked = missing == MissingLabels::Mask && label.is_nan();
            (!label.is_finite() && !masked).then_some("is not a finite number")
        })?;
        let variances = variances.map(|variances| checked(variances, &labels, outputs, missing)).transpose()?;
        let data = Dataset {
            features,
            feature_shape,
            labels: labels.into(),
            outputs,
            variances: variances.map(Into::into),
            masked: 0,
            clean_labels: None,
            groups: None,
            columns: None,
            left_out: Arc::default(),
        };
        Ok(Dataset { masked: data.count_masked(), ..data })
    }

    /// How many labels are missing or of infinite variance.
    pub(super) fn count_masked(&self) -> usize {
        match self.variances() {
            Some(variances) => variances.iter().filter(|variance| variance.is_infinite()).count(),
            None => self.labels().iter().filter(|label| label.is_nan()).count(),
        }
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

    /// What the features and labels are called; `None` where they have no names, as arrays have none.
    pub fn columns(&self) -> Option<&Arc<Columns>> {
        self.columns.as_ref()
    }

    /// The same rows, whose features and labels are called so.
    pub(super) fn with_columns(self, columns: Columns) -> Self {
        Dataset { columns: Some(Arc::new(columns)), ..self }
    }

    /// The same rows, whose feature number k is number `places[k]` of these, or 0 where it is none of them.
    pub(super) fn with_features_of(&self, places: &[Option<usize>], columns: Columns) -> Result<Self> {
        let features = self.features.columns(places, self.width())?;
        let columns = Some(Arc::new(columns));
        Ok(Dataset { features, feature_shape: vec![places.len()], columns, ..self.clone() })
    }

    /// What was left out when the data set was read, and why: damaged images, rows with empty fields.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The same rows, of which those of one group belong together.
    pub(super) fn with_groups(self, groups: Groups) -> Self {
        Dataset { groups: Some(groups), ..self }
    }

    /// The same rows with a note of what was left out.
    pub(super) fn with_left_out(self, left_out: Vec<String>) -> Self {
        Dataset { left_out: Arc::new(left_out), ..self }
    }

    /// The same rows without what no step looks at: groups, labels before noise, notes.
    pub(crate) fn without_remarks(&self) -> Self {
        Dataset { clean_labels: None, groups: None, left_out: Arc::default(), ..self.clone() }
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

    /// The labels, row-major, `rows x outputs`. One that is missing is NaN.
    pub fn labels(&self) -> &[f64] {
        self.labels.as_slice()
    }

    /// As [`Dataset::labels`], in the pieces of memory where they are: whole rows each.
    pub(crate) fn label_chunks(&self) -> Vec<Shared<f64>> {
        self.labels.chunks()
    }

    /// The variances of the labels' noise, as the labels; `None` where they are unknown. Infinite for a masked label.
    pub fn variances(&self) -> Option<&[f64]> {
        self.variances.as_ref().map(Chunks::as_slice)
    }

    /// Whether the variances of the labels' noise are known.
    pub fn has_variances(&self) -> bool {
        self.variances.is_some()
    }

    /// How many labels are masked: missing, or of infinite variance.
    pub fn masked(&self) -> usize {
        self.masked
    }

    /// Whether the label at `at`, counted in [`Dataset::labels`], is not masked.
    pub fn is_known(&self, at: usize) -> bool {
        match self.variances() {
            Some(variances) => variances[at].is_finite(),
            None => !self.labels()[at].is_nan(),
        }
    }

    /// The rows that have a label which is not masked; `None` where all have.
    pub(crate) fn rows_with_labels(&self) -> Option<Vec<usize>> {
        let outputs = self.outputs;
        let is_labelled = |row: &usize| (row * outputs..(row + 1) * outputs).any(|at| self.is_known(at));
        let rows: Vec<usize> =
            if self.masked == 0 { return None } else { (0..self.rows()).filter(is_labelled).collect() };
        (rows.len() < self.rows()).then_some(rows)
    }

    /// One number per row: rows that have the same one belong together.
    pub(crate) fn groups(&self) -> Option<&[u32]> {
        self.groups.as_ref().map(Groups::numbers)
    }

    /// The labels before simulated noise; without any, the labels.
    pub fn clean_labels(&self) -> &[f64] {
        self.clean().as_slice()
    }

    pub(super) fn clean(&self) -> &Chunks<f64> {
        self.clean_labels.as_ref().unwrap_or(&self.labels)
    }

    /// Whether the labels carry simulated noise.
    pub fn has_clean_labels(&self) -> bool {
        self.clean_labels.is_some()
    }

    /// The same rows with noisy labels of known variance; the clean ones are kept beside them.
    pub(crate) fn with_noise(&self, labels: Vec<f64>, variances: Vec<f64>) -> Result<Self> {
        let (features, shape) = (self.features.clone(), self.feature_shape.clone());
        let missing = if self.masked > 0 { MissingLabels::Mask } else { MissingLabels::Error };
        let noisy = Self::assemble(features, shape, labels, self.outputs, Some(variances.into()), missing)?;
        let (groups, columns, left_out) = (self.groups.clone(), self.columns.clone(), self.left_out.clone());
        let clean_labels = Some(self.clean().clone());
        Ok(Dataset { clean_labels, groups, columns, left_out, ..noisy })
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
            let fault = format!("does not exist, there are {} rows", self.rows());
            return Err(Error::InvalidArgument(fault).at([("row", *index)]));
        }
        let labels = |values: &Chunks<f64>| Ok::<_, Error>(Chunks::from(values.gather(self.outputs, indices)?));
        let masked_in = |&row: &usize| (row * self.outputs..(row + 1) * self.outputs).filter(|&at| !self.is_known(at));
        let masked = if self.masked == 0 { 0 } else { indices.iter().flat_map(masked_in).count() };
        Ok(Dataset {
            features: self.features.subset(indices, self.width())?,
            feature_shape: self.feature_shape.clone(),
            labels: labels(&self.labels)?,
            outputs: self.outputs,
            variances: self.variances.as_ref().map(labels).transpose()?,
            masked,
            clean_labels: self.clean_labels.as_ref().map(labels).transpose()?,
            groups: self.groups.as_ref().map(|groups| groups.subset(indices)).transpose()?,
            columns: self.columns.clone(),
            left_out: self.left_out.clone(),
        })
    }
}

/// A sentence on what was left out of a data set, where anything was: how much, and the first few.
pub fn left_out_note(left_out: &[String]) -> Option<String> {
    const SHOWN: usize = 5;
    let first = left_out.get(..SHOWN).unwrap_or(left_out).join("; ");
    match left_out.len() {
        0 => None,
        count @ ..=SHOWN => Some(format!("{count} left out of the data: {first}")),
        count => Some(format!("{count} left out of the data: {first}; and {} more", count - SHOWN)),
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

/// What is wrong with a variance or a standard deviation.
fn variance_fault(value: f64) -> Option<&'static str> {
    match value {
        value if value.is_nan() => Some("is not a number"),
        value if value < 0.0 => Some("must not be negative"),
        _ => None,
    }
}

/// The variances of the noise of `labels`, of an array of them or of their square roots.
pub(super) fn noise_variances(
    noise: &ArrayView,
    labels: &[f64],
    outputs: usize,
    are_deviations: bool,
    missing: MissingLabels,
) -> Result<Shared<f64>> {
    let name = if are_deviations { "standard deviation" } else { "variance" };
    let rows = labels.len() / outputs;
    let found = outputs_of(&format!("{name}s"), noise, rows)?;
    if found != outputs {
        let (found, expected) = (noise.shape(), [rows, outputs]);
        return Err(Error::Shape(format!("{name}s have shape {found:?}, the labels have {expected:?}")));
    }
    if !are_deviations {
        return noise.to_shared_f64();
    }
    let mut values = noise.to_f64()?;
    mask_noise(&mut values, labels, missing);
    check(&values, outputs, name, variance_fault)?;
    if let Some(at) = values.iter().position(|s| s.is_finite() && !(s * s).is_finite()) {
        let value = values[at];
        let fault = format!("the square of {value} is beyond f64; where the label says nothing, infinity does");
        return Err(Error::InvalidArgument(fault).at([("row", at / outputs), (name, at % outputs)]));
    }
    values.iter_mut().for_each(|s| *s *= *s);
    Ok(values.into())
}

/// The variances of the noise of `labels`, which may be variances; infinite for a label that is missing.
pub(super) fn checked(
    variances: Shared<f64>,
    labels: &[f64],
    outputs: usize,
    missing: MissingLabels,
) -> Result<Shared<f64>> {
    if variances.len() != labels.len() {
        let (found, expected) = (variances.len(), labels.len());
        return Err(Error::Shape(format!("{found} variances were given for {expected} labels")));
    }
    let mut variances = variances;
    if missing == MissingLabels::Mask && labels.iter().any(|label| label.is_nan()) {
        let mut masked = collect(variances.iter().copied())?;
        mask_noise(&mut masked, labels, missing);
        variances = masked.into();
    }
    check(&variances, outputs, "variance", variance_fault)?;
    Ok(variances)
}

/// Where a label is missing that may be, its noise is infinite, whatever was given.
fn mask_noise(noise: &mut [f64], labels: &[f64], missing: MissingLabels) {
    if missing == MissingLabels::Mask {
        let missing = noise.iter_mut().zip(labels).filter(|(_, label)| label.is_nan());
        missing.for_each(|(noise, _)| *noise = f64::INFINITY);
    }
}

/// An error unless a row has features and labels, and there is one.
fn check_sizes(feature_shape: &[usize], outputs: usize, rows: usize) -> Result<()> {
    if feature_shape.contains(&0) || outputs == 0 {
        return Err(Error::Shape(format!(
            "a row has features of shape {feature_shape:?} and {outputs} labels: it needs at least one of each"
        )));
    }
    if rows == 0 {
        return Err(Error::InvalidArgument("a data set needs at least one row".into()));
    }
    Ok(())
}

/// An error that names the first value that has a fault.
fn check(
    values: &[f64],
    columns: usize,
    name: &'static str,
    fault: impl Fn(f64) -> Option<&'static str>,
) -> Result<()> {
    for (at, &value) in values.iter().enumerate() {
        if let Some(fault) = fault(value) {
            let fault = Error::InvalidArgument(format!("{value} {fault}"));
            return Err(fault.at([("row", at / columns), (name, at % columns)]));
        }
    }
    Ok(())
}

/// The groups of rows whose `groups` are the same number.
fn named_groups(groups: &ArrayView, rows: usize) -> Result<Groups> {
    if groups.shape() != [rows] {
        return Err(Error::Shape(format!("groups have shape {:?}, expected [{rows}]", groups.shape())));
    }
    let groups = groups.to_f64()?;
    if let Some(row) = groups.iter().position(|group| group.is_nan()) {
        return Err(Error::InvalidArgument("the group is NaN".into()).at([("row", row)]));
    }
    Groups::of(groups.into_iter().map(name_of_number))
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
        // More values in a row than there are numbers for, and no rows.
        let none = ArrayView::f32(&[], &[0, 1 << 40, 1 << 40]).unwrap();
        let no_labels = ArrayView::f64(&[], &[0]).unwrap();
        assert_eq!(message(Dataset::from_arrays(&none, &no_labels, None)), "a data set needs at least one row");
        assert_eq!(
            message(Dataset::new(vec![], vec![1 << 63, 2], vec![1.0], 1, None)),
            "0 feature values do not make 1 rows of shape [9223372036854775808, 2]"
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
        assert_eq!(message(two_rows.subset(&[1, 2])), "row 2: does not exist, there are 2 rows");
    }
}
