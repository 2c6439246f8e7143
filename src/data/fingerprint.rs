//! What tells a data set from another one: kept where training stops, and compared where it goes on.

use super::{Chunks, Dataset, Features, Holders, Whole};
use crate::Result;
use serde::{Deserialize, Serialize};
use twox_hash::{XxHash3_64, XxHash3_128};

/// Digests of the parts of a data set. They find accidents, not forgeries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    rows: usize,
    /// Of all features; of a data set that was there in parts, see [`by_rows`].
    features: String,
    labels: String,
    variances: Option<String>,
    /// Of the labels before simulated noise.
    clean_labels: Option<String>,
    groups: Option<String>,
    /// Of the rows' labels in whatever order.
    unordered: String,
    /// What the features and the labels are called.
    names: Option<Vec<String>>,
}

impl Dataset {
    /// What tells the data set from others.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint_of_first(self.rows())
    }

    /// That of the first `rows` rows.
    fn fingerprint_of_first(&self, rows: usize) -> Fingerprint {
        let (width, labels) = (self.width(), rows * self.outputs());
        let numbers = |values: &Chunks<f64>| Digest::new().of_first(values, labels).finish();
        let shape: Vec<u64> = self.feature_shape().iter().map(|&size| size as u64).collect();
        let features = Digest::new().of(bytemuck::cast_slice(&shape));
        let features = match self.features() {
            Features::Numbers { values, offsets, .. } => {
                features.of_first(values, rows * width).of(bytemuck::cast_slice(offsets))
            }
            Features::Pixels { pixels, rows: places } => {
                let pixels = pixels.as_slice();
                let images = places.as_slice()[..rows].iter().map(|place| &pixels[place * width..(place + 1) * width]);
                images.fold(features, Digest::of)
            }
        };
        let row = |labels: &[f64]| XxHash3_64::oneshot(bytemuck::cast_slice(labels));
        let unordered = self
            .labels
            .first(labels)
            .chunks()
            .iter()
            .fold(0u64, |sum, chunk| chunk.chunks(self.outputs()).map(row).fold(sum, u64::wrapping_add));
        Fingerprint {
            rows,
            features: features.finish(),
            labels: numbers(&self.labels),
            variances: self.variances.as_ref().map(numbers),
            clean_labels: self.clean_labels.as_ref().map(numbers),
            groups: self.groups().map(|groups| Digest::new().of(bytemuck::cast_slice(&groups[..rows])).finish()),
            unordered: format!("{unordered:016x}"),
            names: self.names(),
        }
    }

    /// What the features and the labels are called.
    fn names(&self) -> Option<Vec<String>> {
        self.columns().map(|columns| {
            let features = columns.features.iter().map(|column| column.name.clone());
            features.chain(columns.labels.iter().cloned()).collect()
        })
    }
}

/// What the digest of features begins with that is a sum over the rows: however these are divided, it is the same.
const BY_ROWS: &str = "rows:";

/// The digest of features of which each part was centred by itself: it says nothing.
const CENTRED: &str = "rows:centred";

/// The digest of the features of rows of this shape whose own digests have this sum.
fn by_rows(shape: &[usize], sum: Option<u64>) -> String {
    let digest = |sum: u64| {
        let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        let digest = Digest::new().of(bytemuck::cast_slice(&shape)).of(&sum.to_le_bytes());
        format!("{BY_ROWS}{}", digest.finish())
    };
    sum.map_or_else(|| CENTRED.into(), digest)
}

impl Dataset {
    /// The sum of the digests of the rows' features, which are those of the rows from number `first` on of a whole; `None`
    /// where they were centred.
    fn sum_of_digests(&self, first: usize) -> Option<u64> {
        let width = self.width();
        let mut number = first as u64;
        let mut digest = |row: &[u8]| {
            number += 1;
            XxHash3_64::oneshot_with_seed(number, row)
        };
        match self.features() {
            Features::Numbers { offsets, .. } if !offsets.is_empty() => None,
            Features::Numbers { values, .. } => {
                let chunks = values.chunks();
                let rows = chunks.iter().flat_map(|chunk| chunk.chunks(width));
                Some(rows.map(|row| digest(bytemuck::cast_slice(row))).fold(0, u64::wrapping_add))
            }
            Features::Pixels { pixels, rows } => {
                let pixels = pixels.as_slice();
                let rows = rows.as_slice().iter().map(|place| &pixels[place * width..(place + 1) * width]);
                Some(rows.map(digest).fold(0, u64::wrapping_add))
            }
        }
    }
}

impl Whole {
    /// What tells all rows from others, of which this process holds `own`. Groups do not count.
    ///
    /// # Errors
    /// As [`Holders::gather`].
    pub fn fingerprint(&self, own: &Dataset, holders: &dyn Holders) -> Result<Fingerprint> {
        // Halves, which are exact as numbers.
        let sum = own.sum_of_digests(self.own.start).map(|sum| [(sum >> 32) as f64, (sum & 0xffff_ffff) as f64]);
        let sums = holders.gather(sum.as_ref().map_or(&[], |sum| &sum[..]))?;
        let sums = sums.iter().map(|sum| match sum[..] {
            [high, low] => Some(((high as u64) << 32) + low as u64),
            _ => None,
        });
        let sum = sums.collect::<Option<Vec<u64>>>().map(|sums| sums.into_iter().fold(0, u64::wrapping_add));
        Ok(Fingerprint { features: by_rows(own.feature_shape(), sum), names: own.names(), ..self.labels.fingerprint() })
    }
}

impl Fingerprint {
    /// How many rows there were.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// In what the data set `now` differs from the one that this was taken of; `None` where it is the same.
    pub fn difference(&self, now: &Dataset) -> Option<String> {
        let mut found = now.fingerprint();
        if self.features.starts_with(BY_ROWS) {
            found.features = by_rows(now.feature_shape(), now.sum_of_digests(0));
        }
        let difference = self.difference_from(&found)?;
        let (before, after) = (self.rows, found.rows);
        let is_longer = after > before
            && self.difference_of_names(&found).is_none()
            && self.parts_unlike(&now.fingerprint_of_first(before)).is_empty();
        Some(if is_longer { format!("{difference}: {} were appended", after - before) } else { difference })
    }

    /// As [`Fingerprint::difference`], from the data set that `found` was taken of.
    pub(crate) fn difference_from(&self, found: &Fingerprint) -> Option<String> {
        if let Some(difference) = self.difference_of_names(found) {
            return Some(difference);
        }
        if found.rows != self.rows {
            return Some(format!("it has {} rows, there were {}", found.rows, self.rows));
        }
        let parts = self.parts_unlike(found);
        let [first @ .., last] = &parts[..] else { return None };
        if found.labels != self.labels && found.unordered == self.unordered {
            return Some("its rows are in another order".into());
        }
        Some(match (first, &self.variances, &found.variances) {
            ([], None, Some(_)) => "it has variances, there were none".into(),
            ([], Some(_), None) => "it has no variances, there were some".into(),
            ([], ..) => format!("its {last} are others"),
            _ => format!("its {} and {last} are others", first.join(", ")),
        })
    }

    /// The parts of `other`, with as many rows, that differ.
    fn parts_unlike(&self, other: &Fingerprint) -> Vec<&'static str> {
        let are_by_rows = [self, other].map(|print| print.features.starts_with(BY_ROWS));
        // Digests of two kinds say nothing of each other.
        let says_nothing =
            are_by_rows[0] != are_by_rows[1] || [self, other].iter().any(|print| print.features == CENTRED);
        let parts = [
            ("features", says_nothing || self.features == other.features),
            ("labels", self.labels == other.labels),
            ("variances", self.variances == other.variances),
            ("labels before noise", self.clean_labels == other.clean_labels),
            ("groups", are_by_rows.contains(&true) || self.groups == other.groups),
        ];
        parts.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }

    /// Which names differ.
    fn difference_of_names(&self, found: &Fingerprint) -> Option<String> {
        let (before, after) = (self.names.as_ref()?, found.names.as_ref()?);
        if before.len() != after.len() {
            return Some(format!("it has {} named columns, there were {}", after.len(), before.len()));
        }
        let (before, after) = before.iter().zip(after).find(|(before, after)| before != after)?;
        Some(format!("it has the column '{after}' where '{before}' was"))
    }
}

/// The digest of some bytes and their lengths.
struct Digest(XxHash3_128);

impl Digest {
    fn new() -> Self {
        Digest(XxHash3_128::new())
    }

    fn of(mut self, bytes: &[u8]) -> Self {
        self.0.write(&(bytes.len() as u64).to_le_bytes());
        self.0.write(bytes);
        self
    }

    /// Of the first `count` of `values`, in however many chunks they are.
    fn of_first<T: bytemuck::NoUninit + Copy + Send + Sync>(mut self, values: &Chunks<T>, count: usize) -> Self {
        self.0.write(&((count * size_of::<T>()) as u64).to_le_bytes());
        values.first(count).chunks().iter().for_each(|chunk| self.0.write(bytemuck::cast_slice(chunk)));
        self
    }

    fn finish(self) -> String {
        format!("{:032x}", self.0.finish_128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::parse;

    fn read(content: &str) -> Dataset {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        std::fs::write(&path, content).unwrap();
        let options =
            if content.contains(",v") { r#"{"labels":["y"],"variances":["v"]}"# } else { r#"{"labels":["y"]}"# };
        Dataset::from_csv(&path, &parse("csv", options).unwrap()).unwrap()
    }

    #[test]
    fn what_differs_is_said() {
        let before = read("a,b,y,v\n1,2,3,1\n4,5,6,2\n7,8,9,1\n").fingerprint();
        let difference = |content: &str| before.difference(&read(content)).unwrap_or_default();
        assert_eq!(difference("a,b,y,v\n1,2,3,1\n4,5,6,2\n7,8,9,1\n"), "");
        for (content, expected) in [
            ("a,b,y,v\n1,2,3,1\n4,5,6.5,2\n7,8,9,1\n", "its labels are others"),
            ("a,b,y,v\n1,2,3,1\n4,5,6,2\n7,8.5,9,1\n", "its features are others"),
            ("a,b,y,v\n1,2,3,1\n4,5,6,3\n7,8,9,1\n", "its variances are others"),
            ("a,b,y\n1,2,3\n4,5,6\n7,8,9\n", "it has no variances, there were some"),
            ("a,b,y,v\n4,5,6,2\n1,2,3,1\n7,8,9,1\n", "its rows are in another order"),
            ("a,b,y,v\n1,2,3,1\n4,5,6,2\n7,8,9,1\n1,1,1,1\n", "it has 4 rows, there were 3: 1 were appended"),
            ("a,b,y,v\n1,2,3,1\n4,5,6,2\n7,8,8,1\n1,1,1,1\n", "it has 4 rows, there were 3"),
            ("a,b,y,v\n1,2,3,1\n4,5,6,2\n", "it has 2 rows, there were 3"),
            ("a,c,y,v\n1,2,3,1\n4,5,6,2\n7,8,9,1\n", "it has the column 'c' where 'b' was"),
            ("a,b,z,y,v\n1,2,0,3,1\n4,5,0,6,2\n7,8,0,9,1\n", "it has 4 named columns, there were 3"),
            ("a,b,y,v\n9,8,7,6\n5,4,3,2\n1,2,3,4\n", "its features, labels and variances are others"),
        ] {
            assert_eq!(difference(content), expected);
        }
    }

    #[test]
    fn images_and_groups_count_too() {
        let images = |first: u8, groups| {
            let pixels = (0..24).map(|k| if k == 0 { first } else { k }).collect();
            Dataset::from_pixels(pixels, [3, 2, 2], vec![5.0, 6.0], Some(groups)).unwrap()
        };
        let before = images(0, vec![0, 1]).fingerprint();
        assert_eq!(before.difference(&images(0, vec![0, 1])), None);
        assert_eq!(before.difference(&images(9, vec![0, 1])).unwrap(), "its features are others");
        assert_eq!(before.difference(&images(0, vec![0, 0])).unwrap(), "its groups are others");
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), before);
    }
}
