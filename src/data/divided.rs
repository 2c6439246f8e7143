//! A data set of which several processes hold the rows: a part each, one part after the other.

use super::{Chunks, Dataset, Features};
use crate::Result;
use crate::base::memory::reserve;
use std::ops::Range;
use std::sync::Arc;

/// What the processes that hold the parts do together. All of them make the same calls in the same order.
pub(crate) trait Holders {
    /// Which part this process holds, from 0.
    fn number(&self) -> usize;

    /// What each process gives, in the order of the parts.
    ///
    /// # Errors
    /// Where another process fails or there is no memory.
    fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>>;

    /// Has the processes `add` to `sums` one after the other, in the order of the parts. All of them get the result.
    ///
    /// # Errors
    /// As [`Holders::gather`].
    fn in_turn(&self, sums: &mut [f64], add: &mut dyn FnMut(&mut [f64])) -> Result<()>;
}

/// What the holder of a part knows of all rows.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Which of the rows the part is.
    pub own: Range<usize>,
    /// The labels of all rows, with their variances and what they were before noise. It has no features.
    pub labels: Dataset,
}

impl Whole {
    /// Of what `own` is this process's part of. The parts have as many labels a row; all of them have variances, or none
    /// has, and likewise labels before noise.
    ///
    /// # Errors
    /// As [`Holders::gather`].
    pub fn gather(own: &Dataset, holders: &dyn Holders) -> Result<Self> {
        let outputs = own.outputs();
        let parts = holders.gather(own.labels())?;
        let rows = |parts: &[Vec<f64>]| parts.iter().map(Vec::len).sum::<usize>() / outputs;
        let first = rows(&parts[..holders.number()]);
        let all = |values: &Chunks<f64>| concatenated(holders.gather(values.joined()?)?);
        let labels = Dataset {
            features: Features::Numbers { values: vec![].into(), offsets: Arc::default(), constants: Arc::default() },
            feature_shape: vec![0],
            labels: concatenated(parts)?,
            outputs,
            variances: own.variances.as_ref().map(all).transpose()?,
            masked: 0,
            clean_labels: own.clean_labels.as_ref().map(all).transpose()?,
            groups: None,
            columns: None,
            left_out: Arc::default(),
        };
        let labels = Dataset { masked: labels.count_masked(), ..labels };
        Ok(Whole { own: first..first + own.rows(), labels })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.labels.rows()
    }
}

fn concatenated(parts: Vec<Vec<f64>>) -> Result<Chunks<f64>> {
    let mut all = reserve(parts.iter().map(Vec::len).sum())?;
    parts.iter().for_each(|part| all.extend_from_slice(part));
    Ok(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::{Purpose, stream};
    use crate::data::array::ArrayView;
    use crate::data::{ArrayOptions, Fingerprint, LabelStatistics, MissingLabels, Normalization};
    use parking_lot::Mutex;
    use rand::RngExt;
    use std::sync::Barrier;

    /// Threads as the processes.
    struct Threads {
        barrier: Barrier,
        said: Vec<Mutex<Vec<f64>>>,
    }

    struct Thread<'a>(usize, &'a Threads);

    impl Holders for Thread<'_> {
        fn number(&self) -> usize {
            self.0
        }

        fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>> {
            *self.1.said[self.0].lock() = own.to_vec();
            self.1.barrier.wait();
            let all = self.1.said.iter().map(|said| said.lock().clone()).collect();
            self.1.barrier.wait();
            Ok(all)
        }

        fn in_turn(&self, sums: &mut [f64], add: &mut dyn FnMut(&mut [f64])) -> Result<()> {
            for turn in 0..self.1.said.len() {
                if turn == self.0 {
                    add(sums);
                }
                sums.copy_from_slice(&self.gather(sums)?[turn]);
            }
            Ok(())
        }
    }

    /// What the holders of `parts` find of the whole.
    fn found(parts: &[Dataset]) -> Vec<(Range<usize>, Normalization, Fingerprint)> {
        let said = parts.iter().map(|_| Mutex::default()).collect();
        let threads = Threads { barrier: Barrier::new(parts.len()), said };
        std::thread::scope(|scope| {
            let work = |number: usize| {
                let (holder, own) = (Thread(number, &threads), &parts[number]);
                let whole = Whole::gather(own, &holder).unwrap();
                let normalization = whole.normalization(own, &holder, LabelStatistics::Labels).unwrap();
                let fingerprint = whole.fingerprint(own, &holder).unwrap();
                (whole.own, normalization, fingerprint)
            };
            let handles: Vec<_> = (0..parts.len()).map(|number| scope.spawn(move || work(number))).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        })
    }

    fn parts(whole: &Dataset, sizes: &[usize]) -> Vec<Dataset> {
        let mut first = 0;
        let mut part = |size: &usize| {
            first += size;
            whole.slice(first - size..first)
        };
        sizes.iter().map(&mut part).collect()
    }

    fn table(far: f64) -> Dataset {
        let mut random = stream(5, Purpose::Synthetic, 0);
        let rows = 1000;
        let x: Vec<f64> = (0..3 * rows).map(|_| far + random.random_range(-1.0..1.0)).collect();
        let v: Vec<f64> = (0..2 * rows).map(|_| 10f64.powf(random.random_range(-3.0..1.0))).collect();
        let mut y: Vec<f64> = v.iter().map(|v| 5.0 + v.sqrt() * random.random_range(-2.0..2.0)).collect();
        y[7] = f64::NAN;
        let view = |values, width| ArrayView::f64(values, &[rows, width]).unwrap();
        let options = ArrayOptions { missing_labels: MissingLabels::Mask, ..ArrayOptions::default() };
        Dataset::from_arrays_with(&view(&x, 3), &view(&y, 2), Some(&view(&v, 2)), None, &options).unwrap()
    }

    #[test]
    fn the_holders_of_parts_find_what_one_finds_in_all_rows() {
        let images =
            Dataset::from_pixels((0..240).collect(), [1, 4, 4], (0..15).map(f64::from).collect(), None).unwrap();
        let shaped = Dataset::new((0..180).map(|x| x as f32).collect(), vec![1, 3, 4], vec![1.0; 15], 1, None).unwrap();
        for (all, sizes) in [(table(0.0), [1, 640, 359]), (images, [3, 11, 1]), (shaped, [3, 11, 1])] {
            let expected = Normalization::fit(&all, LabelStatistics::Labels);
            let found = found(&parts(&all, &sizes));
            for (own, normalization, _) in &found {
                assert_eq!(normalization, &expected, "to the last bit");
                assert!(sizes.contains(&own.len()));
            }
            assert_eq!((found[0].0.start, found[2].0.end), (0, all.rows()));
        }
        // Each part of a table that is far from 0 is centred by itself.
        let all = table(1e6);
        let mut own = parts(&all, &[400, 600]);
        let centre = |data: &Dataset| {
            let x = data.features().rows().to_f64(3).unwrap();
            let view = |values, width| ArrayView::f64(values, &[data.rows(), width]).unwrap();
            let (y, v) = (
                data.labels().iter().map(|y| if y.is_nan() { 0.0 } else { *y }).collect::<Vec<_>>(),
                data.variances().unwrap(),
            );
            Dataset::from_arrays(&view(&x, 3), &view(&y, 2), Some(&view(v, 2))).unwrap()
        };
        own.iter_mut().for_each(|part| *part = centre(part));
        let expected = Normalization::fit(&all, LabelStatistics::Labels);
        let found = found(&own);
        assert_eq!(found[0].1, found[1].1);
        for column in 0..3 {
            assert!((found[0].1.feature_mean[column] - expected.feature_mean[column]).abs() < 1e-8);
            assert!((found[0].1.feature_std[column] / expected.feature_std[column] - 1.0).abs() < 1e-8);
        }
    }

    #[test]
    fn the_same_rows_are_the_same_data_however_they_are_divided() {
        let all = table(0.0);
        let before = found(&parts(&all, &[1, 640, 359])).swap_remove(1).2;
        let now = found(&parts(&all, &[500, 500])).swap_remove(0).2;
        assert_eq!(before, now);
        assert_eq!((before.difference(&all), all.fingerprint().difference_from(&now)), (None, None));
        let changed = all.append(&all.latest(1).unwrap()).unwrap();
        let longer = found(&parts(&changed, &[500, 501])).swap_remove(0).2;
        assert_eq!(before.difference_from(&longer).unwrap(), "it has 1001 rows, there were 1000");
        assert!(before.difference(&changed).unwrap().starts_with("it has 1001 rows, there were 1000"));
        let [first, second] = &parts(&all, &[500, 500])[..] else { panic!() };
        let turned = found(&[second.clone(), first.clone()]).swap_remove(0).2;
        assert_eq!(before.difference_from(&turned).unwrap(), "its rows are in another order");
        // Another feature.
        let mut x = all.feature_values().unwrap().into_owned();
        x[1500] += 1.0;
        let other = Dataset { features: Features::from_f32(x, 3).unwrap(), ..all.clone() };
        let other = found(&parts(&other, &[500, 500])).swap_remove(0).2;
        assert_eq!(before.difference_from(&other).unwrap(), "its features are others");
        // The features of two rows for each other's.
        let mut x = all.feature_values().unwrap().into_owned();
        (0..3).for_each(|column| x.swap(column, 3 + column));
        let other = Dataset { features: Features::from_f32(x, 3).unwrap(), ..all.clone() };
        let other = found(&parts(&other, &[500, 500])).swap_remove(0).2;
        assert_eq!(before.difference_from(&other).unwrap(), "its features are others");
    }
}
