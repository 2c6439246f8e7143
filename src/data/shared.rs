//! Values that never change and have several owners.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Values in memory that nobody writes to: a vector's, or memory that a host lent. A clone shares them; they are given
/// back when the last one is dropped, on whichever thread that is.
pub struct Shared<T> {
    owner: Arc<dyn AsRef<[T]> + Send + Sync>,
    range: Range<usize>,
}

impl<T> Shared<T> {
    /// The values of `owner`, which lives as long as anything shares them. It must always give the same ones.
    pub fn lent(owner: Arc<dyn AsRef<[T]> + Send + Sync>) -> Self {
        let range = 0..(*owner).as_ref().len();
        Shared { owner, range }
    }

    /// Those at `range`, without a copy.
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        let first = self.range.start;
        Shared { owner: self.owner.clone(), range: first + range.start..first + range.end }
    }
}

impl<T: Send + Sync + 'static> From<Vec<T>> for Shared<T> {
    fn from(values: Vec<T>) -> Self {
        Shared::lent(Arc::new(values))
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared { owner: self.owner.clone(), range: self.range.clone() }
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} shared values", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    struct Lent(Vec<f32>, Arc<AtomicUsize>);

    impl AsRef<[f32]> for Lent {
        fn as_ref(&self) -> &[f32] {
            &self.0
        }
    }

    impl Drop for Lent {
        fn drop(&mut self) {
            self.1.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn lent_memory_is_not_copied_and_given_back_once() {
        let returned = Arc::new(AtomicUsize::new(0));
        let values = vec![1.0, 2.0, 3.0, 4.0];
        let place = values.as_ptr();
        let lent = Shared::lent(Arc::new(Lent(values, returned.clone())));
        let data = Dataset::from_shared(lent.clone(), vec![2], vec![5.0, 6.0].into(), 1, None).unwrap();
        assert_eq!(data.feature_values().unwrap().as_ptr(), place);
        drop(lent);
        let same = data.clone();
        drop(data);
        assert_eq!((returned.load(Relaxed), same.rows()), (0, 2));
        drop(same);
        assert_eq!(returned.load(Relaxed), 1);
        // Nor is it kept where it is refused.
        let faulty = Shared::lent(Arc::new(Lent(vec![f32::NAN], returned.clone())));
        assert!(Dataset::from_shared(faulty, vec![1], vec![1.0].into(), 1, None).is_err());
        assert_eq!(returned.load(Relaxed), 2);
    }
}
