//! Shuffles of a data set and its division into a training and a test set.

use super::Dataset;
use crate::base::memory::{collect, reserve};
use crate::base::random::{Purpose, permutation, stream};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;

/// How [`Dataset::split`] divides the rows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitOptions {
    /// The number of training rows, the first ones.
    #[schemars(range(min = 1))]
    pub train_size: usize,
    /// The number of test rows, the last ones (default all others).
    #[schemars(range(min = 1))]
    pub test_size: Option<usize>,
    /// Whether the rows are shuffled first (default true).
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// The seed of the shuffle (default 0).
    #[serde(default)]
    pub seed: u64,
    /// Whether identical images stay together, so that none is in both sets (default false). It shuffles.
    #[serde(default)]
    pub keep_groups: bool,
}

fn yes() -> bool {
    true
}

impl SplitOptions {
    /// The sizes of both sets, of `rows`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a set is empty or both need more rows than there are.
    pub fn sizes(&self, rows: usize) -> Result<(usize, usize)> {
        let train = self.train_size;
        let test = self.test_size.unwrap_or(rows.saturating_sub(train));
        if train == 0 || test == 0 || train.checked_add(test).is_none_or(|sum| sum > rows) {
            return Err(Error::InvalidArgument(format!(
                "train_size {train} and test_size {test} must be at least 1 each and together at most the {rows} rows"
            )));
        }
        Ok((train, test))
    }
}

impl Dataset {
    /// All rows in a random order that `seed` determines. It is not the order in which [`Dataset::split`] divides.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn shuffled(&self, seed: u64) -> Result<Self> {
        self.subset(&permutation(self.rows(), &mut stream(seed, Purpose::ShuffledRows, 0))?)
    }

    /// The first `train_size` rows and the last `test_size`, by default in a random order.
    ///
    /// # Errors
    /// As [`SplitOptions::sizes`].
    pub fn split(&self, options: &SplitOptions) -> Result<(Self, Self)> {
        let rows = self.rows();
        let (train, test) = options.sizes(rows)?;
        let order = if options.shuffle || options.keep_groups {
            permutation(rows, &mut stream(options.seed, Purpose::Split, 0))?
        } else {
            collect(0..rows)?
        };
        if options.keep_groups {
            let (first, second) = self.whole_groups(&order, train, test)?;
            return Ok((self.subset(&first)?, self.subset(&second)?));
        }
        Ok((self.subset(&order[..train])?, self.subset(&order[rows - test..])?))
    }

    /// `train` and `test` rows such that no group has rows in both. The groups come in the order of their first
    /// rows in `order`; each goes to the training set if it fits there, else to the test set if it fits there.
    fn whole_groups(&self, order: &[usize], train: usize, test: usize) -> Result<(Vec<usize>, Vec<usize>)> {
        let Some(groups) = self.groups() else {
            return Err(Error::Unsupported("keep_groups: only image folders say which rows are the same".into()));
        };
        let mut members: HashMap<u32, Vec<usize>> = HashMap::new();
        for &row in order {
            members.entry(groups[row]).or_default().push(row);
        }
        let (mut first, mut second) = (reserve(train)?, reserve(test)?);
        for &row in order {
            let Some(group) = members.remove(&groups[row]) else { continue };
            for (rows, size) in [(&mut first, train), (&mut second, test)] {
                if rows.len() + group.len() <= size {
                    rows.extend(group);
                    break;
                }
            }
        }
        if first.len() < train || second.len() < test {
            let (a, b) = (first.len(), second.len());
            return Err(Error::InvalidArgument(format!(
                "keep_groups: with identical images together only {a} of {train} training and {b} of {test} test rows \
                 fit: take fewer"
            )));
        }
        Ok((first, second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn five_rows() -> Dataset {
        let features = (0..10).map(|i| i as f32).collect();
        Dataset::new(features, vec![2], vec![0.0, 1.0, 2.0, 3.0, 4.0], 1, Some(vec![0.5; 5])).unwrap()
    }

    #[test]
    fn split_keeps_rows_whole_and_apart() {
        let options = SplitOptions { train_size: 3, test_size: None, shuffle: true, seed: 4, keep_groups: false };
        let (train, test) = five_rows().split(&options).unwrap();
        let mut labels = [train.labels(), test.labels()].concat();
        for part in [&train, &test] {
            for (row, label) in part.labels().iter().enumerate() {
                assert_eq!(
                    part.feature_values().unwrap()[2 * row..2 * row + 2],
                    [2.0 * *label as f32, 2.0 * *label as f32 + 1.0]
                );
            }
        }
        labels.sort_by(f64::total_cmp);
        assert_eq!(labels, [0.0, 1.0, 2.0, 3.0, 4.0]);
        let unshuffled =
            SplitOptions { train_size: 1, test_size: Some(2), shuffle: false, seed: 0, keep_groups: false };
        assert_eq!(five_rows().split(&unshuffled).unwrap().1.labels(), [3.0, 4.0]);
        let more = SplitOptions { train_size: 4, test_size: Some(2), ..unshuffled };
        assert!(five_rows().split(&more).unwrap_err().to_string().contains("together at most the 5 rows"));
    }

    #[test]
    fn shuffle_and_split_of_one_seed_are_independent() {
        let data = Dataset::new(vec![0.0; 100], vec![1], (0..100).map(f64::from).collect(), 1, None).unwrap();
        let shuffled = data.shuffled(4).unwrap();
        let options = SplitOptions { train_size: 99, test_size: None, shuffle: true, seed: 4, keep_groups: false };
        assert_ne!(shuffled.labels()[..99], *data.split(&options).unwrap().0.labels());
        assert_eq!(shuffled.labels(), data.shuffled(4).unwrap().labels());
        let mut labels = shuffled.labels().to_vec();
        labels.sort_by(f64::total_cmp);
        assert_eq!(labels, data.labels());
    }

    #[test]
    fn images_stay_bytes_and_identical_ones_stay_together() {
        let images = |groups| {
            let (pixels, labels) = ((0..=239).collect(), (0..20).map(f64::from).collect());
            Dataset::from_pixels(pixels, [3, 2, 2], labels, Some(groups)).unwrap()
        };
        let split = |data: &Dataset, seed, train_size| {
            data.split(&SplitOptions { train_size, test_size: Some(7), shuffle: true, seed, keep_groups: true })
        };
        // Row k belongs to group k / 2, but for the last four rows, each a group of its own.
        let data = images((0..20).map(|k| if k < 16 { k / 2 } else { k }).collect());
        for seed in 0..20 {
            let (train, test) = split(&data, seed, 13).unwrap();
            assert_eq!((train.rows(), test.rows()), (13, 7));
            let (first, second) = (train.groups().unwrap(), test.groups().unwrap());
            assert!(first.iter().all(|group| !second.contains(group)), "{first:?} {second:?}");
            let row = test.labels()[3] as u8;
            let x = test.feature_values().unwrap();
            assert_eq!(x[36..38], [f32::from(12 * row) / 255.0, f32::from(12 * row + 1) / 255.0]);
        }
        let pairs = images((0..20).map(|k| k / 2).collect());
        let message = split(&pairs, 0, 13).unwrap_err().to_string();
        assert!(message.contains("only 12 of 13 training and 6 of 7 test rows fit"), "{message}");
        let message = split(&five_rows(), 0, 1).unwrap_err().to_string();
        assert!(message.contains("together at most the 5 rows"), "{message}");
    }
}
