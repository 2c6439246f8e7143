//! Values that grow at their end: what is appended shares the memory of what was there.

use super::Shared;
use crate::Result;
use crate::base::memory::reserve;
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Values in one or several chunks of shared memory. They never change; a clone shares them.
///
/// A chunk that is appended is copied together with those before it that are no larger, so that n values which come one
/// by one make log n chunks and are copied log n times each. Large chunks are never copied by that.
pub struct Chunks<T>(Arc<Inner<T>>);

struct Inner<T> {
    len: usize,
    /// None once the values are in `whole`, which is set under this lock.
    chunks: Mutex<Vec<Shared<T>>>,
    /// All values in one piece.
    whole: OnceLock<Shared<T>>,
}

/// A chunk of as many bytes stays as it is.
const LARGE: usize = 16 << 20;

impl<T: Copy + Send + Sync + 'static> Chunks<T> {
    fn new(mut chunks: Vec<Shared<T>>) -> Self {
        let len = chunks.iter().map(|chunk| chunk.len()).sum();
        let whole = if chunks.len() == 1 { chunks.pop() } else { None };
        let whole = whole.map_or_else(OnceLock::new, OnceLock::from);
        Chunks(Arc::new(Inner { len, chunks: Mutex::new(chunks), whole }))
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chunks, in their order.
    pub fn chunks(&self) -> Vec<Shared<T>> {
        let chunks = self.0.chunks.lock();
        match self.0.whole.get() {
            Some(whole) => vec![whole.clone()],
            None => chunks.clone(),
        }
    }

    /// All values in one piece. Where they are in several chunks the first call copies them, and lets go of the chunks.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn joined(&self) -> Result<&[T]> {
        if self.0.whole.get().is_none() {
            let mut chunks = self.0.chunks.lock();
            if self.0.whole.get().is_none() {
                let whole = join(&chunks)?;
                self.0.whole.get_or_init(|| whole);
                chunks.clear();
            }
        }
        Ok(self.0.whole.get().map_or(&[], |whole| whole))
    }

    /// As [`Chunks::joined`], where no error can be told of.
    ///
    /// # Panics
    /// Where there is no memory for a copy.
    pub fn as_slice(&self) -> &[T] {
        match self.joined() {
            Ok(values) => values,
            Err(error) => panic!("{error}"),
        }
    }

    /// These values and then those of `more`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn append(&self, more: &Self) -> Result<Self> {
        let mut chunks = self.chunks();
        for chunk in more.chunks() {
            chunks.push(chunk);
            merge_last(&mut chunks)?;
        }
        Ok(Self::new(chunks))
    }

    /// The first `count` values, at most all of them.
    pub fn first(&self, count: usize) -> Self {
        self.slice(0, count.min(self.len()))
    }

    /// The values from `start` to `end`, without a copy.
    pub fn slice(&self, start: usize, end: usize) -> Self {
        let mut before = 0;
        let cut = |chunk: Shared<T>| {
            let (from, to) = (start.max(before), end.min(before + chunk.len()));
            let piece = (from < to).then(|| chunk.slice(from - before..to - before));
            before += chunk.len();
            piece
        };
        Self::new(self.chunks().into_iter().filter_map(cut).collect())
    }

    /// The rows `rows`, of `width` values each, which is how the values came into their chunks.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn gather(&self, width: usize, rows: &[usize]) -> Result<Vec<T>> {
        let chunks = self.chunks();
        let slices: Vec<&[T]> = chunks.iter().map(|chunk| &**chunk).collect();
        if let [whole] = slices[..] {
            return super::gather(whole, width, rows);
        }
        // Where each chunk ends.
        let ends: Vec<usize> = slices
            .iter()
            .scan(0, |end, slice| {
                *end += slice.len();
                Some(*end)
            })
            .collect();
        let mut result = reserve(rows.len() * width)?;
        for &row in rows {
            let at = row * width;
            let chunk = ends.partition_point(|&end| end <= at);
            let start = at + slices[chunk].len() - ends[chunk];
            result.extend_from_slice(&slices[chunk][start..start + width]);
        }
        Ok(result)
    }
}

/// The values of `chunks` in one piece.
fn join<T: Copy + Send + Sync + 'static>(chunks: &[Shared<T>]) -> Result<Shared<T>> {
    let mut all = reserve(chunks.iter().map(|chunk| chunk.len()).sum())?;
    chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
    Ok(all.into())
}

/// Makes the last chunk one with those before it that are no larger.
fn merge_last<T: Copy + Send + Sync + 'static>(chunks: &mut Vec<Shared<T>>) -> Result<()> {
    let (mut start, mut len) = (chunks.len(), 0);
    while let Some(chunk) = chunks[..start].last().filter(|chunk| len == 0 || chunk.len() <= len) {
        if size_of_val::<[T]>(chunk) >= LARGE {
            break;
        }
        len += chunk.len();
        start -= 1;
    }
    if start + 1 < chunks.len() {
        let merged = join(&chunks[start..])?;
        chunks.truncate(start);
        chunks.push(merged);
    }
    Ok(())
}

impl<T: Copy + Send + Sync + 'static> From<Shared<T>> for Chunks<T> {
    fn from(values: Shared<T>) -> Self {
        Chunks::new(vec![values])
    }
}

impl<T: Copy + Send + Sync + 'static> From<Vec<T>> for Chunks<T> {
    fn from(values: Vec<T>) -> Self {
        Shared::from(values).into()
    }
}

impl<T> Clone for Chunks<T> {
    fn clone(&self) -> Self {
        Chunks(self.0.clone())
    }
}

impl<T> fmt::Debug for Chunks<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} values in chunks", self.0.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_are_what_was_appended(parts in proptest::collection::vec(1usize..9, 1..40), kept in 1usize..100) {
            let mut expected: Vec<usize> = vec![];
            let mut all: Option<Chunks<usize>> = None;
            for part in parts {
                let more: Vec<usize> = (expected.len()..expected.len() + 2 * part).collect();
                expected.extend(&more);
                let more = Chunks::from(more);
                all = Some(match all { Some(all) => all.append(&more).unwrap(), None => more });
            }
            let all = all.unwrap();
            let rows: Vec<usize> = (0..expected.len() / 2).rev().step_by(3).collect();
            let gathered = all.gather(2, &rows).unwrap();
            prop_assert!(gathered.chunks(2).zip(&rows).all(|(pair, row)| pair == [2 * row, 2 * row + 1]));
            let kept = (2 * kept).min(expected.len());
            prop_assert_eq!(all.first(2 * kept).len(), (2 * kept).min(expected.len()));
            let (first, middle) = (all.first(kept), all.slice(kept / 2, kept));
            prop_assert_eq!(first.as_slice(), &expected[..kept]);
            prop_assert_eq!(middle.as_slice(), &expected[kept / 2..kept]);
            prop_assert_eq!(all.as_slice(), &expected[..]);
            prop_assert_eq!(all.gather(2, &rows).unwrap(), gathered);
        }
    }

    #[test]
    fn values_that_come_one_by_one_make_few_chunks_and_share_the_first() {
        let base = Chunks::from(vec![0u8; LARGE]);
        let mut all = base.clone();
        for value in 0..1000 {
            all = all.append(&vec![value as u8].into()).unwrap();
        }
        let chunks = all.chunks();
        assert!(chunks.len() <= 11, "{chunks:?}");
        assert_eq!(chunks[0].as_ptr(), base.as_slice().as_ptr());
        assert_eq!(all.as_slice()[LARGE + 999], 999u32 as u8);
        // In one piece now, which is what grows from here on.
        assert_eq!(all.append(&vec![7].into()).unwrap().chunks()[0].as_ptr(), all.as_slice().as_ptr());
    }
}
