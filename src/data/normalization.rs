//! Normalisation: features and labels to mean 0 and standard deviation 1.

use super::features::is_far;
use super::variance_model::{Search, are_weights_flat};
use super::{Dataset, Features, Holders, VarianceModel, Whole};
use crate::base::memory::collect;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// Means and standard deviations, fitted on training data and applied to all.
///
/// Tables are normalised per feature, anything with more dimensions (images)
/// by one mean and deviation. The deviation is the population's, but 1 where it
/// would be 0 (a constant feature or label).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Normalization {
    /// One value per feature, or one for all.
    pub feature_mean: Vec<f64>,
    /// As `feature_mean`.
    pub feature_std: Vec<f64>,
    /// One value per output, in the labels' unit.
    pub label_mean: Vec<f64>,
    /// As `label_mean`.
    pub label_std: Vec<f64>,
}

/// Which labels [`Normalization::fit`] looks at, where noise was simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelStatistics {
    /// The labels before the noise: the published experiment's protocol. Labels that were noisy from the start are seen
    /// as by `labels`.
    #[default]
    Clean,
    /// The noisy labels, as a user has them; where their variances tell, without the noise that these stand for.
    Labels,
}

/// The conversion of a feature to normalised units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    mean: f64,
    /// 1 / standard deviation.
    factor: f64,
}

impl Scale {
    /// The normalised value.
    #[inline(always)]
    pub fn apply(self, value: f32) -> f32 {
        ((f64::from(value) - self.mean) * self.factor) as f32
    }
}

/// Has what it is given add to sums over rows of which some may be elsewhere: see [`Holders::in_turn`].
type InTurn<'a, E> = dyn Fn(&mut [f64], &mut dyn FnMut(&mut [f64])) -> std::result::Result<(), E> + 'a;

/// The means and standard deviations of columns.
type Moments<E> = std::result::Result<(Vec<f64>, Vec<f64>), E>;

impl Whole {
    /// The statistics of all rows, of which this process holds `own`: the same as [`Normalization::fit`]'s to the last bit,
    /// unless each part was centred by itself, where they differ by rounding.
    ///
    /// # Errors
    /// As [`Holders::gather`].
    pub fn normalization(&self, own: &Dataset, holders: &dyn Holders, of: LabelStatistics) -> Result<Normalization> {
        let offsets = holders.gather(own.features().offsets())?;
        let in_turn = |sums: &mut [f64], add: &mut dyn FnMut(&mut [f64])| holders.in_turn(sums, add);
        let (feature_mean, feature_std) = feature_statistics(own, self.rows(), &offsets[0], &in_turn)?;
        let (label_mean, label_std) = label_statistics(&self.labels, of);
        Ok(Normalization { feature_mean, feature_std, label_mean, label_std })
    }
}

impl LabelStatistics {
    /// Whether it is what the published experiment does.
    pub(crate) fn is_published(&self) -> bool {
        *self == LabelStatistics::Clean
    }
}

impl Normalization {
    /// The statistics of `data`; of its labels, what `of` says.
    pub fn fit(data: &Dataset, of: LabelStatistics) -> Self {
        let Ok((feature_mean, feature_std)) = feature_statistics(data, data.rows(), data.features().offsets(), &alone);
        let (label_mean, label_std) = label_statistics(data, of);
        Normalization { feature_mean, feature_std, label_mean, label_std }
    }

    /// The normalisation that changes nothing.
    pub fn identity(outputs: usize) -> Self {
        Normalization {
            feature_mean: vec![0.0],
            feature_std: vec![1.0],
            label_mean: vec![0.0; outputs],
            label_std: vec![1.0; outputs],
        }
    }

    fn lengths(&self) -> [usize; 4] {
        [&self.feature_mean, &self.feature_std, &self.label_mean, &self.label_std].map(Vec::len)
    }

    /// Whether there are as many numbers as rows of `width` features and `outputs` labels need.
    pub(crate) fn has_sizes(&self, width: usize, outputs: usize) -> bool {
        let columns = self.feature_mean.len();
        [1, width].contains(&columns) && self.lengths() == [columns, columns, outputs, outputs]
    }

    /// An error unless these are statistics of rows of `width` features and `outputs` labels.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn check(&self, width: usize, outputs: usize) -> Result<()> {
        if !self.has_sizes(width, outputs) {
            let lengths = self.lengths();
            let message = format!("the normalisation has {lengths:?} values for {width} features and {outputs} labels");
            return Err(Error::Corrupt(message));
        }
        let means = self.feature_mean.iter().chain(&self.label_mean);
        let deviations = self.feature_std.iter().chain(&self.label_std);
        let mut factors = deviations.clone().map(|std| std.recip());
        if means.chain(deviations).any(|value| !value.is_finite())
            || factors.any(|factor| factor <= 0.0 || !factor.is_finite())
        {
            return Err(Error::Corrupt("the normalisation has a value that is no mean or no deviation".into()));
        }
        Ok(())
    }

    /// The conversion to normalised units of each of a row's `width` features, which are less `offsets`: one for each
    /// feature, one for all, or none.
    ///
    /// # Errors
    /// [`Error::Shape`] when the statistics are those of rows of another width.
    pub fn scales(&self, width: usize, offsets: &[f64]) -> Result<Vec<Scale>> {
        let columns = self.feature_mean.len();
        if columns != 1 && columns != width {
            return Err(Error::Shape(format!("rows have {width} features, the normalisation was fitted on {columns}")));
        }
        let scale = |feature: usize| {
            let column = feature.min(columns - 1);
            let offset = offsets.get(feature.min(offsets.len().saturating_sub(1))).unwrap_or(&0.0);
            Scale { mean: self.feature_mean[column] - offset, factor: self.feature_std[column].recip() }
        };
        collect((0..width).map(scale))
    }

    /// What is to be taken off features in f64 before they become f32: the means of columns that lie far from 0; nothing
    /// where there are none.
    pub fn offsets(&self) -> Vec<f64> {
        let columns = self.feature_mean.iter().zip(&self.feature_std);
        let offsets: Vec<f64> = columns.map(|(&mean, &std)| if is_far(mean, std) { mean } else { 0.0 }).collect();
        if offsets.iter().any(|&offset| offset != 0.0) { offsets } else { vec![] }
    }

    /// Normalised features, for rows of `width` values each, less `offsets`.
    ///
    /// # Errors
    /// As [`Normalization::scales`].
    pub fn features(&self, features: &[f32], width: usize, offsets: &[f64]) -> Result<Vec<f32>> {
        let scales = self.scales(width, offsets)?;
        let mut result = crate::base::memory::reserve(features.len())?;
        for row in features.chunks(width) {
            result.extend(row.iter().zip(&scales).map(|(&value, scale)| scale.apply(value)));
        }
        Ok(result)
    }

    /// Labels in normalised units.
    pub fn labels(&self, labels: &[f64]) -> impl ExactSizeIterator<Item = f64> {
        self.per_output(labels, |value, mean, std| (value - mean) / std)
    }

    /// Variances in normalised units.
    pub fn variances(&self, variances: &[f64]) -> impl ExactSizeIterator<Item = f64> {
        self.per_output(variances, |value, _, std| value / (std * std))
    }

    /// The variances of the noise of the labels of `data` in normalised units: 0 where they are unknown, infinite for masked
    /// labels.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn noise(&self, data: &Dataset) -> Result<Vec<f64>> {
        match data.variances() {
            Some(variances) => collect(self.variances(variances)),
            None => collect(data.labels().iter().map(|label| if label.is_nan() { f64::INFINITY } else { 0.0 })),
        }
    }

    /// Normalised predictions in the labels' own units.
    pub fn predictions(&self, predictions: &[f64]) -> impl ExactSizeIterator<Item = f64> {
        self.per_output(predictions, |value, mean, std| value * std + mean)
    }

    /// Normalised variances in the square of the labels' own units.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn squares(&self, variances: &[f64]) -> Result<Vec<f64>> {
        collect(self.per_output(variances, |value, _, std| value * (std * std)))
    }

    fn per_output(&self, values: &[f64], convert: impl Fn(f64, f64, f64) -> f64) -> impl ExactSizeIterator<Item = f64> {
        let mut next = 0;
        values.iter().map(move |&value| {
            let output = next;
            next = if output + 1 < self.label_mean.len() { output + 1 } else { 0 };
            convert(value, self.label_mean[output], self.label_std[output])
        })
    }
}

/// Has `add` add to `sums`: all rows are here.
fn alone(sums: &mut [f64], add: &mut dyn FnMut(&mut [f64])) -> std::result::Result<(), Infallible> {
    add(sums);
    Ok(())
}

/// Mean and population standard deviation of the features of `rows` rows. `data` are some of them, and `in_turn` has what is
/// here added to the sums over all. `base` are the offsets of the first of the rows.
fn feature_statistics<E>(data: &Dataset, rows: usize, base: &[f64], in_turn: &InTurn<E>) -> Moments<E> {
    let columns = if data.feature_shape().len() == 1 { data.width() } else { 1 };
    match data.features() {
        Features::Numbers { values, offsets, .. } => {
            let chunks = values.chunks();
            let chunks: Vec<&[f32]> = chunks.iter().map(|chunk| &**chunk).collect();
            let offset = |offsets: &[f64], column| offsets.get(column).copied().unwrap_or_default();
            let shift = (0..columns).map(|column| offset(offsets, column) - offset(base, column));
            let shift = if **offsets == base { vec![] } else { shift.collect() };
            // Of an image's numbers each is a row of the one column.
            let rows = rows * (data.width() / columns);
            statistics(columns, &chunks, |&value| f64::from(value), [base, &shift], rows, in_turn)
        }
        Features::Pixels { pixels, rows: places } => {
            pixel_statistics(pixels.as_slice(), places.as_slice(), data.width(), rows, in_turn)
        }
    }
}

/// Mean and standard deviation of the labels of `data`, one per output; of which labels, `of` says.
fn label_statistics(data: &Dataset, of: LabelStatistics) -> (Vec<f64>, Vec<f64>) {
    let outputs = data.outputs();
    let is_clean = of == LabelStatistics::Clean && data.has_clean_labels();
    let labels = if is_clean { data.clean_labels() } else { data.labels() };
    let known = |output: usize| (output..labels.len()).step_by(outputs).filter(|&at| data.is_known(at));
    let column = |values: &[f64], output| known(output).map(|at| values[at]).collect::<Vec<_>>();
    let is_one_column = outputs == 1 && data.masked() == 0;
    let (mut label_mean, mut label_std) = if data.masked() == 0 {
        plain_statistics(outputs, labels)
    } else {
        let columns = (0..outputs).map(|output| plain_statistics(1, &column(labels, output)));
        columns.map(|(mean, std)| (mean[0], std[0])).unzip()
    };
    if let Some(variances) = data.variances().filter(|_| !is_clean) {
        for (output, (mean, std)) in label_mean.iter_mut().zip(&mut label_std).enumerate() {
            let found = if is_one_column {
                without_noise(labels, variances)
            } else {
                without_noise(&column(labels, output), &column(variances, output))
            };
            (*mean, *std) = found.unwrap_or((*mean, *std));
        }
    }
    (label_mean, label_std)
}

/// Mean and population standard deviation of each column of values that are all here.
fn plain_statistics(columns: usize, values: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let Ok(statistics) = statistics(columns, &[values], |&value| value, [&[], &[]], values.len() / columns, &alone);
    statistics
}

/// Mean and population standard deviation of each column of `rows` rows, in two passes. `chunks` are whole rows each, of
/// values less `base` and `shift`, one for each column, or none; `in_turn` has them added to the sums over all rows.
fn statistics<T, E>(
    columns: usize,
    chunks: &[&[T]],
    number: impl Fn(&T) -> f64,
    [base, shift]: [&[f64]; 2],
    rows: usize,
    in_turn: &InTurn<E>,
) -> Moments<E> {
    let (rows, own) = (rows as f64, (chunks.iter().map(|chunk| chunk.len()).sum::<usize>() / columns) as f64);
    let values = || chunks.iter().flat_map(|chunk| chunk.chunks_exact(columns));
    let mut mean = vec![0.0; columns];
    in_turn(&mut mean, &mut |mean| {
        for row in values() {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += number(value) / rows;
            }
        }
        mean.iter_mut().zip(shift).for_each(|(sum, shift)| *sum += shift * (own / rows));
    })?;
    let mut centre = mean.clone();
    centre.iter_mut().zip(shift).for_each(|(centre, shift)| *centre -= shift);
    let mut std = vec![0.0; columns];
    in_turn(&mut std, &mut |std| {
        for row in values() {
            for ((sum, value), centre) in std.iter_mut().zip(row).zip(&centre) {
                *sum += (number(value) - centre).powi(2) / rows;
            }
        }
    })?;
    for (mean, base) in mean.iter_mut().zip(base) {
        *mean += base;
    }
    for (variance, &mean) in std.iter_mut().zip(&mean) {
        *variance = deviation(*variance, mean);
    }
    Ok((mean, std))
}

/// Mean and standard deviation of what `labels` would be without their noise of known `variances`; `None` where the
/// plain statistics say as much.
///
/// A label has the variance `tau2 + scale v` around the mean: the variance model of a network that knows the mean only.
fn without_noise(labels: &[f64], variances: &[f64]) -> Option<(f64, f64)> {
    /// The mean is settled on so many rows.
    const MANY: usize = 1 << 16;
    /// The last word have all rows, or so many of them: what those say of a variance is exact to a thousandth.
    const MOST: usize = 1 << 21;
    const ROUNDS: usize = 5;
    if labels.is_empty() {
        return None;
    }
    let mut sorted: Vec<f64> = variances.iter().copied().step_by(variances.len().div_ceil(MANY)).collect();
    let middle = sorted.len() / 2;
    let (_, &mut median, _) = sorted.select_nth_unstable_by(middle, f64::total_cmp);
    let mut epsilon = median;
    let mut mean = weighted_mean(labels, variances, epsilon);
    let mut model = None;
    for round in 1..=ROUNDS {
        let step = labels.len().div_ceil(if round < ROUNDS { MANY } else { MOST });
        let squares: Vec<f64> = labels.iter().step_by(step).map(|label| (label - mean).powi(2)).collect();
        let some: Vec<f64> = if step > 1 { variances.iter().step_by(step).copied().collect() } else { vec![] };
        let known = if step > 1 { &some[..] } else { variances };
        let found = VarianceModel::of_telling_rows(&squares, known, Search::Fine);
        epsilon = found.epsilon;
        mean = weighted_mean(labels, variances, epsilon);
        model = Some(found);
    }
    let model = model.filter(|model| !are_weights_flat(model.epsilon, variances.iter().copied()))?;
    Some((mean, deviation(model.tau2, mean)))
}

/// The mean of `values` with the weights `1 / (variance + epsilon)`.
fn weighted_mean(values: &[f64], variances: &[f64], epsilon: f64) -> f64 {
    let (mut weights, mut mean) = (0.0, 0.0);
    for (value, variance) in values.iter().zip(variances) {
        // Relative to the greatest weight: no scale of variances is special.
        let weight = if epsilon.is_infinite() { 1.0 } else { (1.0 + variance / epsilon).recip() };
        if weight > 0.0 {
            weights += weight;
            mean += (value - mean) * (weight / weights);
        }
    }
    mean
}

/// The square root of `variance`, or 1 for that of a constant.
fn deviation(variance: f64, mean: f64) -> f64 {
    let deviation = variance.sqrt();
    // Below this the differences are rounding errors of a constant.
    if !deviation.is_finite() || deviation <= mean.abs() * 1e-12 { 1.0 } else { deviation }
}

/// One mean and deviation of all the pixels of `count` images of `width` bytes each; a byte b is b / 255. The images `rows`
/// are here, and `in_turn` has them counted with the others.
fn pixel_statistics<E>(pixels: &[u8], rows: &[usize], width: usize, count: usize, in_turn: &InTurn<E>) -> Moments<E> {
    let mut own = [0u64; 256];
    for &row in rows {
        for &byte in &pixels[row * width..(row + 1) * width] {
            own[usize::from(byte)] += 1;
        }
    }
    // Whole numbers, which are exact.
    let mut counts = [0.0; 256];
    in_turn(&mut counts, &mut |counts| counts.iter_mut().zip(own).for_each(|(sum, own)| *sum += own as f64))?;
    let total = (count * width) as f64;
    let average = |value: &dyn Fn(f64) -> f64| {
        counts.iter().enumerate().map(|(byte, count)| count / total * value(byte as f64 / 255.0)).sum::<f64>()
    };
    let mean = average(&|value| value);
    Ok((vec![mean], vec![deviation(average(&|value| (value - mean).powi(2)), mean)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::{Purpose, stream};
    use rand::RngExt;
    use rand::seq::SliceRandom;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn statistics_are_per_feature_and_constants_stay_finite() {
        let data = Dataset::new(vec![1.0, 7.0, 5.0, 7.0], vec![2], vec![10.0, 30.0], 1, None).unwrap();
        let fitted = Normalization::fit(&data, LabelStatistics::Clean);
        assert_eq!((&fitted.feature_mean[..], &fitted.feature_std[..]), (&[3.0, 7.0][..], &[2.0, 1.0][..]));
        assert_eq!((fitted.label_mean[0], fitted.label_std[0]), (20.0, 10.0));
        assert_eq!(fitted.features(&[1.0, 7.0, 5.0, 7.0], 2, &[]).unwrap(), [-1.0, 0.0, 1.0, 0.0]);
        assert!(fitted.labels(data.labels()).eq([-1.0, 1.0]));
        assert!(fitted.variances(&[100.0, 50.0]).eq([1.0, 0.5]));
        assert!(fitted.predictions(&[-1.0, 1.0]).eq(data.labels().iter().copied()));
        assert!(fitted.features(&[0.0; 3], 3, &[]).is_err());
    }

    #[test]
    fn statistics_of_other_rows_are_found_out() {
        let fitted = Normalization {
            feature_mean: vec![0.0, 1.0],
            feature_std: vec![1.0, 2.0],
            label_mean: vec![5.0],
            label_std: vec![0.5],
        };
        assert!(fitted.check(2, 1).is_ok() && Normalization::identity(3).check(7, 3).is_ok());
        assert!(fitted.check(3, 1).is_err() && fitted.check(2, 2).is_err());
        let wrong = [
            Normalization { feature_std: vec![1.0], ..fitted.clone() },
            Normalization { label_std: vec![], ..fitted.clone() },
            Normalization { label_mean: vec![f64::NAN], ..fitted.clone() },
            Normalization { label_std: vec![0.0], ..fitted.clone() },
            Normalization { feature_std: vec![1.0, -2.0], ..fitted.clone() },
            // What it would be multiplied by is infinite.
            Normalization { feature_std: vec![1.0, 1e-310], ..fitted },
        ];
        assert!(wrong.iter().all(|wrong| matches!(wrong.check(2, 1), Err(Error::Corrupt(_)))));
    }

    #[test]
    fn images_share_one_mean_and_simulated_noise_does_not_count() {
        let data = Dataset::new(vec![0.0, 2.0, 4.0, 6.0], vec![2, 1], vec![1.0, 3.0], 1, None).unwrap();
        assert_eq!(Normalization::fit(&data, LabelStatistics::Clean).feature_mean, [3.0]);
        let pixels = Dataset::from_pixels(vec![0, 51, 102, 255, 9, 9], [1, 1, 2], vec![1.0, 3.0, 9.0], None).unwrap();
        let fitted = Normalization::fit(&pixels.subset(&[0, 1]).unwrap(), LabelStatistics::Clean);
        assert!((fitted.feature_mean[0] - 0.4).abs() < 1e-12);
        assert!((fitted.feature_std[0] - 0.14f64.sqrt()).abs() < 1e-12);
        let noisy = data.with_noise(vec![-50.0, 90.0], vec![1.0, 1.0]).unwrap();
        assert_eq!(
            Normalization::fit(&noisy, LabelStatistics::Clean),
            Normalization::fit(&data, LabelStatistics::Clean)
        );
    }

    /// Clean labels of mean 14.4 and standard deviation 5, with noise of these variances.
    fn noisy(seed: u64, mut variance: impl FnMut(usize, f64) -> f64) -> Dataset {
        let mut random = stream(seed, Purpose::Synthetic, 0);
        let mut normal = move || -> f64 { StandardNormal.sample(&mut random) };
        let mut uniform = stream(seed, Purpose::Synthetic, 1);
        let (mut labels, mut variances) = (vec![], vec![]);
        for row in 0..4000 {
            let v = variance(row, uniform.random());
            variances.push(v);
            labels.push(14.4 + 5.0 * normal() + v.sqrt() * normal());
        }
        Dataset::new(vec![0.0; 4000], vec![1], labels, 1, Some(variances)).unwrap()
    }

    fn labels_of(data: &Dataset) -> (f64, f64) {
        let fitted = Normalization::fit(data, LabelStatistics::Clean);
        (fitted.label_mean[0], fitted.label_std[0])
    }

    fn plain(data: &Dataset) -> (f64, f64) {
        let (mean, std) = plain_statistics(1, data.labels());
        (mean[0], std[0])
    }

    #[test]
    fn label_statistics_see_through_known_noise() {
        for (what, data, tolerance) in [
            ("gamma, mean 25", noisy(1, |_, u| -25.0 * (1.0 - u).ln()), 0.3),
            ("one in ten near 1e3", noisy(2, |row, u| if row % 10 == 0 { 1e3 + u } else { u }), 0.3),
            ("one in ten near 1e5", noisy(3, |row, u| if row % 10 == 0 { 1e5 + u } else { u }), 0.3),
        ] {
            let (mean, std) = labels_of(&data);
            assert!((mean - 14.4).abs() < tolerance && (std - 5.0).abs() < tolerance, "{what}: {mean}, {std}");
            assert!((plain(&data).1 - 5.0).abs() > 2.0, "{what}: the plain deviation holds the noise");
        }
        for wild in [1e7, 1e10, 1e20, 1e300] {
            let (mean, std) = labels_of(&noisy(4, |row, _| if row % 10 == 0 { wild } else { 1.0 }));
            assert!((mean - 14.4).abs() < 0.3 && (std - 5.0).abs() < 0.3, "{wild}: {mean}, {std}");
        }
    }

    #[test]
    fn variances_in_another_unit_change_no_statistic() {
        let data = noisy(5, |_, u| -25.0 * (1.0 - u).ln());
        let hundred = data.variances().unwrap().iter().map(|v| 100.0 * v).collect();
        let scaled = Dataset::new(vec![0.0; 4000], vec![1], data.labels().to_vec(), 1, Some(hundred)).unwrap();
        let ((mean, std), found) = (labels_of(&data), labels_of(&scaled));
        assert!((found.0 - mean).abs() < 0.02 && (found.1 - std).abs() < 0.02, "{found:?} {mean} {std}");
    }

    #[test]
    fn variances_that_say_nothing_leave_the_statistics_bit_for_bit() {
        let equal = noisy(6, |_, _| 3.0);
        let zero = noisy(7, |_, _| 0.0);
        let tiny = noisy(8, |_, u| 1e-6 * u);
        let data = noisy(9, |_, u| -25.0 * (1.0 - u).ln());
        let mut shuffled = data.variances().unwrap().to_vec();
        shuffled.shuffle(&mut stream(9, Purpose::ShuffledVariances, 0));
        let shuffled = Dataset::new(vec![0.0; 4000], vec![1], data.labels().to_vec(), 1, Some(shuffled)).unwrap();
        for (what, data) in [("equal", equal), ("zero", zero), ("tiny", tiny), ("shuffled", shuffled)] {
            assert_eq!(labels_of(&data), plain(&data), "{what}");
        }
    }
}
