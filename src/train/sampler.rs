//! The order in which training sees the rows: seeded, shuffled mini-batches.

use crate::base::memory::make_room;
use crate::base::random::{Purpose, permute, stream};
use crate::{Error, Result};

/// Walks through shuffled rows in mini-batches, epoch after epoch; in one order, or in several side by side.
///
/// The order of an epoch is a function of its seed and the epoch's number, so
/// the two counters of [`Position`] are all that a checkpoint has to keep.
#[derive(Debug)]
pub struct Sampler {
    rows: usize,
    batch_size: usize,
    drop_last: bool,
    position: Position,
    /// Each with its seed.
    orders: Vec<(u64, Vec<u32>)>,
}

/// How far training has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Epochs completed.
    pub epoch: u64,
    /// Mini-batches taken from the epoch in progress.
    pub batch: usize,
}

impl Sampler {
    /// Starts at `position` or, where an epoch has no such mini-batch, with the next epoch. There is an order for each of
    /// `seeds`.
    ///
    /// # Errors
    /// As [`Sampler::set_rows`].
    pub fn new(rows: usize, batch_size: usize, drop_last: bool, seeds: &[u64], position: Position) -> Result<Self> {
        let orders = seeds.iter().map(|&seed| (seed, vec![])).collect();
        let mut sampler = Sampler { rows, batch_size, drop_last, position, orders };
        sampler.set_rows(rows)?;
        Ok(sampler)
    }

    /// Goes on with `rows` other rows: with the mini-batch where it is or, where an epoch has no such one, with the next
    /// epoch. Their orders take the place of the former rows', so that there are never both.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when no mini-batch would be complete, and for more than 4,294,967,295 rows;
    /// [`Error::OutOfMemory`]. The rows are the former ones then.
    pub fn set_rows(&mut self, rows: usize) -> Result<()> {
        let batch_size = self.batch_size;
        if u32::try_from(rows).is_err() {
            return Err(Error::InvalidArgument(format!("training takes {} rows at most, there are {rows}", u32::MAX)));
        }
        if self.drop_last && batch_size > rows {
            return Err(Error::InvalidArgument(format!(
                "batch_size {batch_size} is more than the {rows} training rows and drop_last leaves incomplete \
                 mini-batches out: take a smaller batch_size, or drop_last false"
            )));
        }
        for (_, order) in &mut self.orders {
            make_room(order, rows.saturating_sub(order.len()))?;
        }
        self.orders.iter_mut().for_each(|(_, order)| order.resize(rows, 0));
        self.rows = rows;
        if self.position.batch >= self.batches_per_epoch() {
            self.position = Position { epoch: self.position.epoch + 1, batch: 0 };
        }
        self.shuffle();
        Ok(())
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many mini-batches an epoch has.
    pub fn batches_per_epoch(&self) -> usize {
        if self.drop_last { self.rows / self.batch_size } else { self.rows.div_ceil(self.batch_size) }
    }

    /// The rows of the next mini-batch in the first order. It stays the next one until [`Sampler::advance`].
    pub fn batch(&self) -> Vec<usize> {
        self.batch_of(0)
    }

    /// As [`Sampler::batch`], in order number `order`; where there is one order, in that.
    pub fn batch_of(&self, order: usize) -> Vec<usize> {
        let start = self.position.batch * self.batch_size;
        let (_, order) = &self.orders[order.min(self.orders.len() - 1)];
        let rows = &order[start..self.rows.min(start + self.batch_size)];
        rows.iter().map(|&row| row as usize).collect()
    }

    /// How many orders there are.
    pub fn orders(&self) -> usize {
        self.orders.len()
    }

    /// Goes on to the next mini-batch, and past the epoch's last one to the next epoch.
    pub fn advance(&mut self) {
        self.position.batch += 1;
        if self.position.batch == self.batches_per_epoch() {
            self.position = Position { epoch: self.position.epoch + 1, batch: 0 };
            self.shuffle();
        }
    }

    /// Where training is.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes to `position`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when an epoch has no such mini-batch.
    pub fn seek(&mut self, position: Position) -> Result<()> {
        if position.batch >= self.batches_per_epoch() {
            let (batch, batches) = (position.batch, self.batches_per_epoch());
            return Err(Error::InvalidArgument(format!("mini-batch {batch} was asked for, an epoch has {batches}")));
        }
        self.position = position;
        self.shuffle();
        Ok(())
    }

    fn shuffle(&mut self) {
        for (seed, order) in &mut self.orders {
            permute(order, &mut stream(*seed, Purpose::Shuffle, self.position.epoch), |row| row as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_shows_each_row_once_at_most(rows in 1usize..200, size in 1usize..50, drop_last: bool, seed: u64) {
            prop_assume!(!drop_last || size <= rows);
            let mut sampler = Sampler::new(rows, size, drop_last, &[seed], Position::default()).unwrap();
            let mut seen = Vec::new();
            while sampler.position().epoch == 0 {
                seen.extend(sampler.batch());
                sampler.advance();
            }
            let expected = if drop_last { rows / size * size } else { rows };
            prop_assert_eq!(seen.len(), expected);
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), expected);
        }

        #[test]
        fn a_position_is_all_there_is_to_keep(steps in 0usize..40, seed: u64) {
            let mut walked = Sampler::new(23, 4, false, &[seed], Position::default()).unwrap();
            (0..steps).for_each(|_| walked.advance());
            let mut jumped = Sampler::new(23, 4, false, &[seed], Position::default()).unwrap();
            jumped.seek(walked.position()).unwrap();
            prop_assert_eq!(walked.batch(), jumped.batch());
            let begun = Sampler::new(23, 4, false, &[seed], walked.position()).unwrap();
            prop_assert_eq!(walked.batch(), begun.batch());
            let next = Sampler::new(23, 4, false, &[seed], Position { batch: 6, ..walked.position() }).unwrap();
            prop_assert_eq!(next.position(), Position { epoch: walked.position().epoch + 1, batch: 0 });
        }

        #[test]
        fn other_rows_are_as_if_the_sampler_had_begun_with_them(
            before in 1usize..60, after in 1usize..60, steps in 0usize..40, seed: u64
        ) {
            let mut sampler = Sampler::new(before, 4, false, &[seed], Position::default()).unwrap();
            (0..steps).for_each(|_| sampler.advance());
            let mut begun = Sampler::new(after, 4, false, &[seed], sampler.position()).unwrap();
            sampler.set_rows(after).unwrap();
            for _ in 0..20 {
                prop_assert_eq!((sampler.position(), sampler.batch()), (begun.position(), begun.batch()));
                sampler.advance();
                begun.advance();
            }
        }
    }

    #[test]
    fn epochs_differ_and_too_small_a_set_is_an_error() {
        let mut sampler = Sampler::new(100, 100, true, &[1], Position::default()).unwrap();
        let first = sampler.batch();
        sampler.advance();
        let second = sampler.batch();
        assert_ne!(first, second);
        // What is refused changes nothing.
        assert!(sampler.set_rows(99).is_err() && sampler.set_rows(1 << 32).is_err());
        assert_eq!((sampler.position().epoch, sampler.batch()), (1, second));
        assert!(
            Sampler::new(3, 4, true, &[0], Position::default())
                .unwrap_err()
                .to_string()
                .contains("more than the 3 training rows")
        );
    }
}
