//! The names of a data set's features: what data from another file are matched by.

use super::Dataset;
use crate::base::error::quoted;
use crate::base::options::require;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// What the features and labels of a data set are called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// The columns that became features, in their order.
    pub features: Vec<Column>,
    /// The labels, in their order.
    pub labels: Vec<String>,
    /// What a category is that a model does not know (default `error`).
    #[serde(default)]
    pub unseen_categories: UnseenCategories,
}

/// A column that became one feature or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// How it became features.
    #[serde(flatten)]
    pub encoding: Encoding,
}

/// How a column becomes features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "encoding", rename_all = "snake_case")]
pub enum Encoding {
    /// One feature, the number itself.
    Number,
    /// Two features, the cosine and the sine of the place in the period.
    Cyclic {
        /// The period, in the column's unit.
        period: f64,
    },
    /// A feature for each category, 1 where the row has it and else 0.
    OneHot {
        /// The categories, in the order of their features.
        categories: Vec<String>,
    },
}

/// What a category is that is none of those which are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnseenCategories {
    /// An error, which lists them.
    #[default]
    Error,
    /// A row of zeros: none of the known ones.
    Zeros,
}

impl Column {
    /// How many features it became.
    pub fn width(&self) -> usize {
        match &self.encoding {
            Encoding::Number => 1,
            Encoding::Cyclic { .. } => 2,
            Encoding::OneHot { categories } => categories.len(),
        }
    }
}

impl Columns {
    /// Columns of numbers with these names, for rows of `width` values.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for another number of names, or one that occurs twice.
    pub(super) fn of_numbers(names: &[String], width: usize) -> Result<Self> {
        require(names.len() == width, "arrays.columns", format!("{} names", names.len()), &format!("{width}"))?;
        require_distinct("arrays.columns", names)?;
        let column = |name: &String| Column { name: name.clone(), encoding: Encoding::Number };
        let features = names.iter().map(column).collect();
        Ok(Columns { features, labels: vec![], unseen_categories: UnseenCategories::Error })
    }

    /// How many features there are.
    pub fn width(&self) -> usize {
        self.features.iter().map(Column::width).sum()
    }

    /// For each feature of `self`, the place of the same one among those of `other`; `None` for a category that `other`
    /// does not have. An error calls what has `self` by the name `whose`.
    pub(super) fn places_in(&self, other: &Columns, whose: &str) -> Result<Vec<Option<usize>>> {
        let mut found = HashMap::new();
        let mut place = 0;
        for column in &other.features {
            found.insert(column.name.as_str(), (place, column));
            place += column.width();
        }
        let mut places = Vec::new();
        for column in &self.features {
            let Some(&(first, theirs)) = found.get(column.name.as_str()) else {
                let names = |columns: &Columns| quoted(columns.features.iter().map(|column| &column.name));
                let (name, theirs, ours) = (&column.name, names(other), names(self));
                return Err(Error::Shape(format!(
                    "the data have no column '{name}': they have {theirs}, {whose} has {ours}"
                )));
            };
            match (&column.encoding, &theirs.encoding) {
                (Encoding::OneHot { categories: ours }, Encoding::OneHot { categories: theirs }) => {
                    if other.unseen_categories == UnseenCategories::Error {
                        let known: HashSet<&String> = ours.iter().collect();
                        let unseen: Vec<&String> = theirs.iter().filter(|category| !known.contains(category)).collect();
                        if !unseen.is_empty() {
                            let fault = none_of(&unseen, ours);
                            return Err(Error::Shape(format!("column '{}': {fault}", column.name)));
                        }
                    }
                    let at: HashMap<_, _> = theirs.iter().enumerate().map(|(at, category)| (category, at)).collect();
                    places.extend(ours.iter().map(|category| at.get(category).map(|at| first + at)));
                }
                (ours, theirs) if ours == theirs => places.extend((first..first + column.width()).map(Some)),
                (ours, theirs) => {
                    return Err(Error::Shape(format!(
                        "column '{}' is {} in the data, {} in {whose}",
                        column.name,
                        theirs.description(),
                        ours.description()
                    )));
                }
            }
        }
        Ok(places)
    }
}

/// An error where a list of the options has a name twice.
pub(super) fn require_distinct<'a>(path: &str, names: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let mut known = HashSet::new();
    match names.into_iter().find(|name| !known.insert(*name)) {
        Some(name) => Err(Error::config(path, format!("has '{name}' twice, must be a list of different names"))),
        None => Ok(()),
    }
}

/// What is wrong with categories that are not among the `known` ones.
pub(super) fn none_of(unseen: &[&String], known: &[String]) -> String {
    let are = if unseen.len() == 1 { "is" } else { "are" };
    format!(
        "{} {are} none of the categories {}; with \"unseen_categories\": \"zeros\" such a row has none",
        quoted(unseen),
        quoted(known)
    )
}

impl Encoding {
    fn description(&self) -> String {
        match self {
            Encoding::Number => "a number".into(),
            Encoding::Cyclic { period } => format!("cyclic with period {period}"),
            Encoding::OneHot { .. } => "one-hot".into(),
        }
    }
}

impl Dataset {
    /// The data with the features that `columns` name, in their order; as they are where the data have no names. Other
    /// columns of theirs are left out, and a category that none of their rows has is a column of zeros.
    ///
    /// # Errors
    /// [`Error::Shape`] for a column that they do not have or encode in another way, for a category that is none of
    /// those in `columns` (unless they were read with `unseen_categories` `zeros`), and for the same labels in another
    /// order; [`Error::OutOfMemory`].
    pub fn matched_to(&self, columns: &Columns) -> Result<Cow<'_, Self>> {
        self.matched(columns, "the model")
    }

    /// As [`Dataset::matched_to`], with the columns of what an error calls `whose`.
    pub(super) fn matched(&self, columns: &Columns, whose: &str) -> Result<Cow<'_, Self>> {
        let Some(own) = self.columns() else { return Ok(Cow::Borrowed(self)) };
        if own.labels != columns.labels && is_permutation(&own.labels, &columns.labels) {
            let (found, expected) = (quoted(&own.labels), quoted(&columns.labels));
            return Err(Error::Shape(format!("the labels are {found}, {whose} has them in another order: {expected}")));
        }
        if own.features == columns.features {
            return Ok(Cow::Borrowed(self));
        }
        let places = columns.places_in(own, whose)?;
        let labels = own.labels.clone();
        let matched = Columns { labels, unseen_categories: own.unseen_categories, ..columns.clone() };
        Ok(Cow::Owned(self.with_features_of(&places, matched)?))
    }
}

/// Whether two lists have the same names, in whatever order.
fn is_permutation(a: &[String], b: &[String]) -> bool {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    a.len() == b.len() && sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::parse;

    fn read(content: &str, options: &str) -> Dataset {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        std::fs::write(&path, content).unwrap();
        Dataset::from_csv(&path, &parse("csv", options).unwrap()).unwrap()
    }

    const OPTIONS: &str = r#"{"labels":["y"],"one_hot":["k"],"cyclic":{"h":24}}"#;

    fn first() -> Dataset {
        read("a,k,h,y\n1,red,0,10\n2,blue,6,20\n", OPTIONS)
    }

    #[test]
    fn another_file_is_matched_by_name() {
        let first = first();
        let columns = first.columns().unwrap();
        assert!(matches!(first.matched_to(columns).unwrap(), Cow::Borrowed(_)));
        // Another order, a column more, fewer categories, a column far from 0, which has an offset.
        let second = read("extra,y,k,h,a\n9,30,red,12,2460000.5\n9,40,red,0,2460001.5\n", OPTIONS);
        let matched = second.matched_to(columns).unwrap();
        let features = matched.features().rows().to_f64(5).unwrap();
        let rounded: Vec<f64> = features.iter().map(|x| (x * 1e6).round() / 1e6).collect();
        assert_eq!(rounded, [2460000.5, 0.0, 1.0, -1.0, 0.0, 2460001.5, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!((matched.labels(), matched.feature_shape()), (&[30.0, 40.0][..], &[5][..]));
        assert_eq!(matched.columns().unwrap().features, columns.features);
        // What has no names is taken as it is.
        let unnamed = Dataset::new(vec![1.0; 5], vec![5], vec![1.0], 1, None).unwrap();
        assert!(matches!(unnamed.matched_to(columns).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn what_does_not_match_is_refused() {
        let first = first();
        let fault = |content: &str, options: &str| {
            read(content, options).matched_to(first.columns().unwrap()).unwrap_err().to_string()
        };
        assert_eq!(
            fault("b,k,h,y\n1,red,0,10\n", OPTIONS),
            "the data have no column 'a': they have 'b', 'k', 'h', the model has 'a', 'k', 'h'"
        );
        assert!(
            fault("a,k,h,y\n1,green,0,10\n2,red,0,1\n3,violet,0,1\n", OPTIONS)
                .starts_with("column 'k': 'green', 'violet' are none of the categories 'blue', 'red'")
        );
        assert_eq!(
            fault("a,k,h,y\n1,2,0,10\n", r#"{"labels":["y"],"cyclic":{"h":24}}"#),
            "column 'k' is a number in the data, one-hot in the model"
        );
        assert_eq!(
            fault("a,k,h,y\n1,red,0,10\n", r#"{"labels":["y"],"one_hot":["k"],"cyclic":{"h":12}}"#),
            "column 'h' is cyclic with period 12 in the data, cyclic with period 24 in the model"
        );
        let zeros = r#"{"labels":["y"],"one_hot":["k"],"cyclic":{"h":24},"unseen_categories":"zeros"}"#;
        let matched = read("h,a,k,y\n0,7,green,10\n", zeros);
        let matched = matched.matched_to(first.columns().unwrap()).unwrap();
        assert_eq!(*matched.feature_values().unwrap(), [7.0, 0.0, 0.0, 1.0, 0.0]);
        let two = read("x,y,z\n1,2,3\n", r#"{"labels":["y","z"]}"#);
        let swapped = read("x,y,z\n1,2,3\n", r#"{"labels":["z","y"]}"#);
        assert_eq!(
            swapped.matched_to(two.columns().unwrap()).unwrap_err().to_string(),
            "the labels are 'z', 'y', the model has them in another order: 'y', 'z'"
        );
    }

    #[test]
    fn columns_are_kept_as_json() {
        let first = first();
        let columns = &**first.columns().unwrap();
        let text = serde_json::to_string(columns).unwrap();
        assert_eq!(
            text,
            r#"{"features":[{"name":"a","encoding":"number"},{"name":"k","encoding":"one_hot","categories":["blue","red"]},{"name":"h","encoding":"cyclic","period":24.0}],"labels":["y"],"unseen_categories":"error"}"#
        );
        assert_eq!(serde_json::from_str::<Columns>(&text).unwrap(), *columns);
    }
}
