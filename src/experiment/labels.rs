//! What reports may claim of the labels that errors are measured against.

use super::config::DatasetKind;
use crate::data::Dataset;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is known of the noise of labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// They are taken to have none: they are a formula's, the published experiment takes them so (Bike Sharing, Wine
    /// Quality), or all their variances are 0.
    Clean,
    /// They have noise, whose variances are known.
    Noisy,
    /// Nothing is known: a table without variances, a folder of images.
    #[default]
    Unknown,
}

impl LabelKind {
    /// That of the labels of `data`, which is a data set of this kind, or a part of one, without simulated noise.
    pub(super) fn of(kind: DatasetKind, data: &Dataset) -> Self {
        let variances = data.variances().unwrap_or_default().iter().copied();
        // A masked label has an infinite variance, and counts in no error.
        let largest = variances.filter(|variance| variance.is_finite()).reduce(f64::max);
        match (kind, largest) {
            (DatasetKind::Bike | DatasetKind::Wine | DatasetKind::Synthetic, _) | (_, Some(0.0)) => LabelKind::Clean,
            (_, Some(_)) => LabelKind::Noisy,
            (DatasetKind::Csv | DatasetKind::Utkf, None) => LabelKind::Unknown,
        }
    }

    /// `labels`, which is what they are called, with what is known of them: "noisy test labels".
    pub fn describe(self, labels: &str) -> String {
        match self {
            LabelKind::Clean | LabelKind::Noisy => format!("{self} {labels}"),
            LabelKind::Unknown => format!("{labels} of unknown noise"),
        }
    }

    /// A sentence on what that means for errors on `labels`, which is what they are called.
    pub(super) fn meaning(self, labels: &str) -> String {
        match self {
            LabelKind::Clean => format!("The {labels} are taken to have no noise."),
            LabelKind::Noisy => format!("The {labels} have noise of known variances, which is in the errors too."),
            LabelKind::Unknown => {
                format!("Whether the {labels} have noise is not known; what they have is in the errors too.")
            }
        }
    }
}

impl fmt::Display for LabelKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            LabelKind::Clean => "clean",
            LabelKind::Noisy => "noisy",
            LabelKind::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::SyntheticOptions;

    #[test]
    fn reports_claim_what_is_known_and_no_more() {
        let rows = |variances: Option<[f64; 2]>| {
            Dataset::new(vec![0.0; 2], vec![1], vec![1.0, 2.0], 1, variances.map(Vec::from)).unwrap()
        };
        let csv = |variances| LabelKind::of(DatasetKind::Csv, &rows(variances));
        assert_eq!(csv(None), LabelKind::Unknown);
        assert_eq!(csv(Some([0.0, 0.5])), LabelKind::Noisy);
        assert_eq!(csv(Some([5e-324, f64::INFINITY])), LabelKind::Noisy);
        assert_eq!(csv(Some([0.0, -0.0])), LabelKind::Clean);
        assert_eq!(csv(Some([0.0, f64::INFINITY])), LabelKind::Clean, "the masked one does not count");
        assert_eq!(csv(Some([f64::INFINITY; 2])), LabelKind::Unknown);

        for kind in [DatasetKind::Bike, DatasetKind::Wine, DatasetKind::Synthetic] {
            assert_eq!(LabelKind::of(kind, &rows(None)), LabelKind::Clean, "{kind:?}");
        }
        let data = Dataset::synthetic(&SyntheticOptions { rows: 2, features: 5, outputs: 1, seed: 0 }).unwrap();
        assert_eq!(LabelKind::of(DatasetKind::Synthetic, &data), LabelKind::Clean);
        let images = Dataset::from_pixels(vec![0; 3], [3, 1, 1], vec![30.0], None).unwrap();
        assert_eq!(LabelKind::of(DatasetKind::Utkf, &images), LabelKind::Unknown, "anyone's folder");
    }
}
