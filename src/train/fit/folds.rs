//! The division of rows into folds: alike in their variances, groups whole.

use crate::base::random::{Purpose, stream};
use crate::data::Dataset;
use crate::{Error, Result};
use rand::seq::SliceRandom;

/// How many rows there are or, where rows belong together, groups of them.
pub(super) fn units(data: &Dataset) -> usize {
    data.groups().map_or(data.rows(), |groups| groups.iter().max().map_or(0, |&last| last as usize + 1))
}

/// The fold of each row, less than `count`. Rows, or groups of them, are sorted by their variance and cut into blocks of
/// `count`, of which each fold gets one.
///
/// # Errors
/// [`Error::InvalidArgument`] when there are fewer rows or groups than folds.
pub(super) fn folds(data: &Dataset, noise: &[f64], count: usize, seed: u64) -> Result<Vec<usize>> {
    let (rows, outputs) = (data.rows(), data.outputs());
    let unit_of = |row: usize| data.groups().map_or(row, |groups| groups[row] as usize);
    let units = units(data);
    // Of each group, the sum of its labels' variances and how many they are.
    let mut sums = vec![(0.0, 0usize); units];
    for row in 0..rows {
        let known = noise[row * outputs..(row + 1) * outputs].iter().filter(|variance| variance.is_finite());
        let (sum, number) = &mut sums[unit_of(row)];
        known.for_each(|variance| {
            *sum += variance;
            *number += 1;
        });
    }
    let mut order: Vec<usize> = (0..units).filter(|&unit| sums[unit].1 > 0).collect();
    if order.len() < count {
        let (found, what) = (order.len(), if data.groups().is_some() { "groups" } else { "rows" });
        return Err(Error::InvalidArgument(format!(
            "{found} {what} with labels do not make {count} folds: take fewer"
        )));
    }
    let mut random = stream(seed, Purpose::Folds, 0);
    order.shuffle(&mut random);
    order.sort_by(|&a, &b| (sums[a].0 / sums[a].1 as f64).total_cmp(&(sums[b].0 / sums[b].1 as f64)));
    let mut fold = vec![0; units];
    for block in order.chunks(count) {
        let mut numbers: Vec<usize> = (0..count).collect();
        numbers.shuffle(&mut random);
        block.iter().zip(numbers).for_each(|(&unit, number)| fold[unit] = number);
    }
    Ok((0..rows).map(|row| fold[unit_of(row)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ArrayOptions;
    use crate::data::array::ArrayView;
    use proptest::prelude::*;

    fn data(variances: &[f64], groups: Option<&[f64]>) -> Dataset {
        let rows = variances.len();
        let zeros = vec![0.0; rows];
        let view = |values| ArrayView::f64(values, &[rows]).unwrap();
        let groups = groups.map(view);
        let options = ArrayOptions::default();
        Dataset::from_arrays_with(&view(&zeros), &view(&zeros), Some(&view(variances)), groups.as_ref(), &options)
            .unwrap()
    }

    proptest! {
        #[test]
        fn folds_are_alike_in_size_and_variance(rows in 5usize..300, count in 2usize..6, seed: u64) {
            let variances: Vec<f64> = (0..rows).map(|row| ((row * 7919) % rows) as f64).collect();
            let data = data(&variances, None);
            let folds = folds(&data, &variances, count, seed).unwrap();
            let sizes: Vec<usize> = (0..count).map(|fold| folds.iter().filter(|&&f| f == fold).count()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
            // In each block of neighbours in variance, every fold once.
            let mut order: Vec<usize> = (0..rows).collect();
            order.sort_by(|&a, &b| variances[a].total_cmp(&variances[b]));
            for block in order.chunks_exact(count) {
                let mut there: Vec<usize> = block.iter().map(|&row| folds[row]).collect();
                there.sort_unstable();
                prop_assert_eq!(there, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn groups_stay_whole_and_too_few_are_an_error() {
        let variances: Vec<f64> = (0..40).map(f64::from).collect();
        let groups: Vec<f64> = (0..40).map(|row| f64::from(row % 8) * 1.5).collect();
        let data = data(&variances, Some(&groups));
        let found = folds(&data, &variances, 5, 3).unwrap();
        assert!((0..40).all(|row| found[row] == found[row % 8]));
        assert!((0..5).all(|fold| found.contains(&fold)));
        let message = folds(&data, &variances, 9, 3).unwrap_err().to_string();
        assert_eq!(message, "8 groups with labels do not make 9 folds: take fewer");
    }
}
