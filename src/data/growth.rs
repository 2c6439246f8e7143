//! Data sets that come of others: by rows that come later, by rows that go, by other variances.

use super::array::ArrayView;
use super::dataset::{MissingLabels, VarianceOptions, noise_variances};
use super::{Chunks, Dataset, Shared};
use crate::{Error, Result};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

impl Dataset {
    /// These rows and then those of `more`. Both stay as they are and share their memory with the new data set: it takes
    /// time for the new rows only, not for those that were there.
    ///
    /// Features are matched by name where both have names. A column that is centred stays centred where it is, so the
    /// first rows should show where the columns lie. Groups of the same name, number or picture are one.
    ///
    /// # Errors
    /// [`Error::Shape`] when the rows are of another shape, and as [`Dataset::matched_to`]; [`Error::InvalidArgument`]
    /// where only one of them has variances, or groups; [`Error::OutOfMemory`].
    pub fn append(&self, more: &Dataset) -> Result<Self> {
        let more = match self.columns() {
            Some(columns) => more.matched(columns, "the data set")?,
            None => Cow::Borrowed(more),
        };
        if (self.feature_shape(), self.outputs()) != (more.feature_shape(), more.outputs()) {
            return Err(Error::Shape(format!(
                "rows with features of shape {:?} and {} labels cannot be appended to rows with features of shape {:?} \
                 and {} labels",
                more.feature_shape(),
                more.outputs(),
                self.feature_shape(),
                self.outputs()
            )));
        }
        let variances = both(self.variances.as_ref(), more.variances.as_ref(), "variances")?;
        let groups = both(self.groups.as_ref(), more.groups.as_ref(), "groups")?;
        let has_clean_labels = self.has_clean_labels() || more.has_clean_labels();
        let clean_labels = || self.clean().append(more.clean());
        let left_out = match (self.left_out(), more.left_out()) {
            (_, []) => self.left_out.clone(),
            (before, after) => Arc::new([before, after].concat()),
        };
        Ok(Dataset {
            features: self.features.append(&more.features, self.width())?,
            labels: self.labels.append(&more.labels)?,
            variances: variances.map(|(before, after)| before.append(after)).transpose()?,
            masked: self.masked() + more.masked(),
            clean_labels: has_clean_labels.then(clean_labels).transpose()?,
            groups: groups.map(|(before, after)| before.append(after)).transpose()?,
            left_out,
            ..self.clone()
        })
    }

    /// The last `rows` rows, or all where there are no more. They share the memory of this data set.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no rows; [`Error::OutOfMemory`].
    pub fn latest(&self, rows: usize) -> Result<Self> {
        if rows == 0 {
            return Err(Error::InvalidArgument(
                "a data set needs at least one row, the latest 0 were asked for".into(),
            ));
        }
        if rows >= self.rows() {
            return Ok(self.clone());
        }
        let latest = self.slice(self.rows() - rows..self.rows());
        Ok(Dataset { features: latest.features.without_others(self.width())?, ..latest })
    }

    /// Some of the rows, one at least. They share the memory of this data set.
    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        let Range { start, end } = rows;
        let part = |values: &Chunks<f64>| values.slice(start * self.outputs(), end * self.outputs());
        let data = Dataset {
            features: self.features.slice(start, end, self.width()),
            labels: part(&self.labels),
            variances: self.variances.as_ref().map(part),
            clean_labels: self.clean_labels.as_ref().map(part),
            groups: self.groups.as_ref().map(|groups| groups.slice(start, end)),
            ..self.clone()
        };
        let masked = if self.masked() == 0 { 0 } else { data.count_masked() };
        Dataset { masked, ..data }
    }

    /// The same rows with other `variances` of the labels' noise, row-major as the labels. Everything else is shared.
    /// A label that was masked for its infinite variance is not masked any more where the new one is finite.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of variances; [`Error::InvalidArgument`] for one that is NaN or negative.
    pub fn with_variances(&self, variances: impl Into<Shared<f64>>) -> Result<Self> {
        let missing = if self.masked() > 0 { MissingLabels::Mask } else { MissingLabels::Error };
        let variances = super::dataset::checked(variances.into(), self.labels(), self.outputs(), missing)?;
        let data = Dataset { variances: Some(variances.into()), ..self.clone() };
        Ok(Dataset { masked: data.count_masked(), ..data })
    }

    /// As [`Dataset::with_variances`], of an array of the labels' shape, `[rows]` or `[rows, outputs]`, which is copied.
    ///
    /// # Errors
    /// As [`Dataset::with_variances`].
    pub fn with_noise_of(&self, noise: &ArrayView, options: &VarianceOptions) -> Result<Self> {
        let missing = if self.masked() > 0 { MissingLabels::Mask } else { MissingLabels::Error };
        let variances = noise_variances(noise, self.labels(), self.outputs(), options.standard_deviations, missing)?;
        self.with_variances(variances)
    }
}

/// What both data sets have, or neither.
fn both<T>(before: Option<T>, after: Option<T>, what: &str) -> Result<Option<(T, T)>> {
    match (before, after) {
        (Some(before), Some(after)) => Ok(Some((before, after))),
        (None, None) => Ok(None),
        (before, _) => {
            let fault = match before {
                Some(_) => format!("the data set has {what}, the rows to append have none"),
                None => format!("the rows to append have {what}, the data set has none"),
            };
            Err(Error::InvalidArgument(format!("{fault}: both need them, or neither")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::parse;
    use crate::data::noise::NoiseOptions;
    use crate::data::{ArrayOptions, Features};
    use proptest::prelude::*;

    /// Rows `from..to` of one table, as one data set: a label in seven is missing, groups of three rows.
    fn rows(from: usize, to: usize, outputs: usize, options: &str) -> Dataset {
        let count = to - from;
        let x: Vec<f32> = (from * 3..to * 3).map(|k| ((k * 7919) % 101) as f32).collect();
        let label = |k: usize| if k.is_multiple_of(7) { f64::NAN } else { k as f64 / 3.0 };
        let y: Vec<f64> = (from * outputs..to * outputs).map(label).collect();
        let v: Vec<f64> = (from * outputs..to * outputs).map(|k| (k % 5) as f64).collect();
        let g: Vec<f64> = (from..to).map(|k| (k % 11 / 3) as f64).collect();
        let labels = |values| ArrayView::f64(values, &[count, outputs]).unwrap();
        let groups = ArrayView::f64(&g, &[count]).unwrap();
        let options: ArrayOptions = parse("arrays", options).unwrap();
        let features = ArrayView::f32(&x, &[count, 3]).unwrap();
        Dataset::from_arrays_with(&features, &labels(&y), Some(&labels(&v)), Some(&groups), &options).unwrap()
    }

    const MASK: &str = r#"{"missing_labels":"mask","columns":["a","b","c"]}"#;

    /// What can be seen of a data set. NaN is equal to itself here.
    fn seen(data: &Dataset) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {} {:?} {:?}",
            data.fingerprint(),
            data.feature_values().unwrap(),
            data.labels(),
            data.variances(),
            data.groups(),
            data.masked(),
            data.left_out(),
            data.clean_labels(),
        )
    }

    proptest! {
        #[test]
        fn rows_that_are_appended_are_those_given_at_once(
            sizes in proptest::collection::vec(1usize..9, 2..20), outputs in 1usize..3, latest in 1usize..60
        ) {
            let mut data = rows(0, sizes[0], outputs, MASK);
            let mut end = sizes[0];
            for size in &sizes[1..] {
                // Another branch changes nothing in this one.
                let _ = data.append(&rows(1000, 1010, outputs, MASK)).unwrap();
                data = data.append(&rows(end, end + size, outputs, MASK)).unwrap();
                end += size;
            }
            prop_assert_eq!(seen(&data), seen(&rows(0, end, outputs, MASK)));
            let latest = latest.min(end);
            let window = data.latest(latest).unwrap();
            let expected = data.subset(&(end - latest..end).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(seen(&window), seen(&expected));
            prop_assert_eq!(data.latest(end + 3).unwrap().rows(), end);
        }
    }

    #[test]
    fn memory_is_shared_and_the_first_data_set_stays_as_it_was() {
        let base = rows(0, 1000, 1, MASK);
        let before = seen(&base);
        let grown = base.append(&rows(1000, 1001, 1, MASK)).unwrap();
        let place = |data: &Dataset| match data.features() {
            Features::Numbers { values, .. } => values.chunks()[0].as_ptr(),
            Features::Pixels { .. } => unreachable!(),
        };
        assert_eq!(place(&grown), place(&base));
        let other = grown.with_variances(vec![1.0; 1001]).unwrap();
        assert_eq!((place(&other), other.labels().as_ptr()), (place(&base), grown.labels().as_ptr()));
        assert_eq!(seen(&base), before);
    }

    #[test]
    fn a_column_stays_centred_where_it_was_and_single_rows_keep_their_digits() {
        let time = |row: usize| 1.7e9 + row as f64 / 8.0;
        let of = |from: usize, to: usize| {
            let x: Vec<f64> = (from..to).flat_map(|row| [time(row), 0.1]).collect();
            let y = vec![0.0; to - from];
            let x = ArrayView::f64(&x, &[to - from, 2]).unwrap();
            Dataset::from_arrays(&x, &ArrayView::f64(&y, &[to - from]).unwrap(), None).unwrap()
        };
        let mut data = of(0, 100);
        for row in 100..120 {
            data = data.append(&of(row, row + 1)).unwrap();
        }
        data = data.append(&of(120, 200)).unwrap();
        let given = data.features().rows().to_f64(2).unwrap();
        assert!((0..200).all(|row| (given[2 * row] - time(row)).abs() < 1e-4));
        // Rows in the middle of a column that others began elsewhere: less precise, and no more than f32 is.
        let plain = Dataset::new(vec![3.0, 4.0], vec![2], vec![0.0], 1, None).unwrap().append(&of(7, 9)).unwrap();
        assert_eq!(plain.feature_values().unwrap()[2..], [time(7) as f32, 0.1, time(8) as f32, 0.1]);
    }

    #[test]
    fn features_are_matched_by_name() {
        let (base, other) =
            (rows(0, 4, 1, MASK), rows(4, 6, 1, r#"{"missing_labels":"mask","columns":["c","a","b"]}"#));
        let grown = base.append(&other).unwrap();
        let (x, theirs) = (grown.feature_values().unwrap(), other.feature_values().unwrap());
        assert_eq!(x[12..15], [theirs[1], theirs[2], theirs[0]]);
        let message = base.append(&rows(4, 6, 1, r#"{"missing_labels":"mask","columns":["c","a","d"]}"#)).unwrap_err();
        let expected = "the data have no column 'b': they have 'c', 'a', 'd', the data set has 'a', 'b', 'c'";
        assert_eq!(message.to_string(), expected);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let base = Dataset::new(vec![1.0, 2.0], vec![1], vec![1.0, 2.0], 1, None).unwrap();
        let message = |more: &Dataset| base.append(more).unwrap_err().to_string();
        let wide = Dataset::new(vec![1.0, 2.0], vec![2], vec![1.0], 1, None).unwrap();
        assert_eq!(
            message(&wide),
            "rows with features of shape [2] and 1 labels cannot be appended to rows with features of shape [1] and 1 \
             labels"
        );
        let known = base.with_variances(vec![1.0, 2.0]).unwrap();
        let fault = "the rows to append have variances, the data set has none: both need them, or neither";
        assert_eq!(message(&known), fault);
        assert!(known.append(&base).unwrap_err().to_string().starts_with("the data set has variances, the rows"));
        assert!(base.latest(0).unwrap_err().to_string().contains("at least one row"));
        let wrong = |variances: Vec<f64>| base.with_variances(variances).unwrap_err().to_string();
        assert_eq!(wrong(vec![1.0]), "1 variances were given for 2 labels");
        assert_eq!(wrong(vec![1.0, -1.0]), "row 1, variance 0: -1 must not be negative");
    }

    #[test]
    fn other_variances_unmask_labels_that_are_there() {
        let data = rows(0, 15, 1, MASK);
        assert_eq!(data.masked(), 3);
        let infinite = data.with_variances(vec![f64::INFINITY; 15]).unwrap();
        let finite = infinite.with_variances(vec![2.0; 15]).unwrap();
        assert_eq!((infinite.masked(), finite.masked()), (15, 3));
        let view = [3.0; 15];
        let view = ArrayView::f64(&view, &[15]).unwrap();
        let told = data.with_noise_of(&view, &VarianceOptions { standard_deviations: true }).unwrap();
        assert_eq!((told.variances().unwrap()[0], told.variances().unwrap()[1]), (f64::INFINITY, 9.0));
    }

    #[test]
    fn labels_before_noise_are_kept_where_one_part_has_them() {
        let clean = Dataset::new(vec![1.0, 2.0], vec![1], vec![5.0, 6.0], 1, Some(vec![0.0; 2])).unwrap();
        let noise: NoiseOptions = parse("noise", r#"{"distribution":{"kind":"uniform","low":1,"high":2}}"#).unwrap();
        let noisy = noise.apply(&clean).unwrap();
        for grown in [clean.append(&noisy).unwrap(), noisy.append(&clean).unwrap()] {
            assert!(grown.has_clean_labels());
            assert_eq!(grown.clean_labels(), [5.0, 6.0, 5.0, 6.0]);
        }
        assert_eq!(noisy.append(&clean).unwrap().labels()[2..], [5.0, 6.0]);
    }

    #[test]
    fn a_window_over_images_lets_go_of_those_that_left_it() {
        let image = |value: u8| Dataset::from_pixels(vec![value; 12], [3, 2, 2], vec![f64::from(value)], None).unwrap();
        let mut window = image(0);
        for value in 1..100 {
            window = window.append(&image(value)).unwrap().latest(10).unwrap();
            let Features::Pixels { pixels, .. } = window.features() else { unreachable!() };
            assert!(pixels.len() <= 12 * 20);
        }
        let first: Vec<f32> = window.feature_values().unwrap().iter().copied().step_by(12).collect();
        assert_eq!(first, (90..100).map(|value| value as f32 / 255.0).collect::<Vec<_>>());
        let numbers = Dataset::new(vec![1.0; 12], vec![3, 2, 2], vec![1.0], 1, None).unwrap();
        assert_eq!(window.append(&numbers).unwrap_err().to_string(), "numbers cannot be appended to images");
        assert_eq!(numbers.append(&window).unwrap_err().to_string(), "images cannot be appended to numbers");
    }
}
