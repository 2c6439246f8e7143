//! Seeded randomness: one independent ChaCha stream per purpose.
//!
//! A stream is a function of (seed, purpose, index) alone, so nothing that is
//! random ever depends on what was drawn before it, by whom, or on which
//! thread; and a checkpoint needs only counters, not generator states.
//! libtorch's global generator is neither read nor set.

use crate::Result;
use crate::base::memory::filled;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

/// What random numbers are for: each purpose has streams of its own.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Purpose {
    /// A model's initial weights.
    Initialisation = 1,
    /// The order of the rows in training, one stream per epoch.
    Shuffle = 2,
    /// The division of a data set into parts.
    Split = 3,
    /// The variance of each label.
    Variance = 4,
    /// The noise of each label, given its variance.
    LabelNoise = 5,
    /// The error in the variances that the loss is told.
    Disturbance = 6,
    /// Synthetic features.
    Synthetic = 7,
    /// The order of variances that are shuffled so that they carry no information.
    ShuffledVariances = 8,
    /// The order of the rows of a shuffled data set.
    ShuffledRows = 9,
    /// The folds of a fit.
    Folds = 10,
    /// Which values a dropout drops, one stream per step.
    Dropout = 11,
}

/// The generator for the `index`-th use of `purpose` under `seed`.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha12Rng {
    let mut generator = ChaCha12Rng::seed_from_u64(seed);
    generator.set_stream(((purpose as u64) << 56) | index);
    generator
}

/// A random order of `rows` rows.
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
pub fn permutation(rows: usize, generator: &mut ChaCha12Rng) -> Result<Vec<usize>> {
    let mut order = filled(rows, 0)?;
    permute(&mut order, generator, |row| row);
    Ok(order)
}

/// Writes all row numbers of a list of `order`'s length into it, in a random order; each as `number` makes it.
pub fn permute<T>(order: &mut [T], generator: &mut ChaCha12Rng, number: impl Fn(usize) -> T) {
    use rand::seq::SliceRandom;
    order.iter_mut().enumerate().for_each(|(row, slot)| *slot = number(row));
    order.shuffle(generator);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn a_stream_depends_on_seed_purpose_and_index_alone() {
        let draw = |seed, purpose, index| stream(seed, purpose, index).next_u64();
        let first = draw(1, Purpose::Shuffle, 0);
        assert_eq!(first, draw(1, Purpose::Shuffle, 0));
        assert_ne!(first, draw(2, Purpose::Shuffle, 0));
        assert_ne!(first, draw(1, Purpose::Split, 0));
        assert_ne!(first, draw(1, Purpose::Shuffle, 1));
    }
}
