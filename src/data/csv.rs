//! Data sets from CSV files with a header.

use super::columns::{Column, Columns, Encoding, UnseenCategories, none_of, require_distinct};
use super::features::gather_columns;
use super::groups::{GroupName, Groups, name_of_bytes};
use super::table::Rows;
use super::{Dataset, Features, MissingLabels};
use crate::base::memory::{make_room, reserve};
use crate::base::options::require;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::f64::consts::TAU;
use std::path::Path;

/// What the columns of a CSV file are. Names are those of the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvOptions {
    /// The label columns, at least one.
    pub labels: Vec<String>,
    /// The variance of each label's noise, as many columns as labels.
    #[serde(default)]
    pub variances: Vec<String>,
    /// Instead of variances: the standard error of each label.
    #[serde(default)]
    pub standard_errors: Vec<String>,
    /// What the standard errors are divided by (default 1): 1.645 makes margins of error at 90 % standard errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub error_divisor: Option<f64>,
    /// The feature columns, in this order; without them, all that have no other role.
    #[schemars(length(min = 1))]
    pub features: Option<Vec<String>>,
    /// Feature columns that are categories: one feature per distinct value, in sorted order.
    #[serde(default)]
    pub one_hot: Vec<String>,
    /// The values of a `one_hot` column, in the order of their features: any other is an error. A column that is not
    /// named here has the values that the file has, in sorted order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("additionalProperties" = {"type": "array", "items": {"type": "string"}, "minItems": 1}))]
    pub categories: BTreeMap<String, Vec<String>>,
    /// What a category is that is none of the known ones: of `categories`, or of the model that is evaluated on these
    /// rows (default `error`).
    #[serde(default)]
    pub unseen_categories: UnseenCategories,
    /// Cyclic feature columns with their period (24 for an hour): a cosine and a sine each.
    #[serde(default)]
    #[schemars(extend("additionalProperties" = {"type": "number", "exclusiveMinimum": 0}))]
    pub cyclic: BTreeMap<String, f64>,
    /// What separates the fields, one ASCII character (default ',').
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Whether a row with an empty field in a column that is used is left out instead of an error (default false).
    #[serde(default)]
    pub skip_missing: bool,
    /// What an empty label, or one of `NaN`, is (default `error`).
    #[serde(default)]
    pub missing_labels: MissingLabels,
    /// A column that says which rows belong together: no fold of a fit parts them.
    #[serde(default)]
    pub group: Option<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions {
            labels: vec![],
            variances: vec![],
            standard_errors: vec![],
            error_divisor: None,
            features: None,
            one_hot: vec![],
            categories: BTreeMap::new(),
            unseen_categories: UnseenCategories::Error,
            cyclic: BTreeMap::new(),
            delimiter: comma(),
            skip_missing: false,
            missing_labels: MissingLabels::Error,
            group: None,
        }
    }
}

impl CsvOptions {
    /// Whether the file says how noisy its labels are.
    pub(crate) fn has_variances(&self) -> bool {
        !self.variances.is_empty() || !self.standard_errors.is_empty()
    }
}

fn comma() -> char {
    ','
}

impl CsvOptions {
    /// Reads the features alone: the file needs no labels.
    ///
    /// # Errors
    /// As [`Dataset::from_csv`]; [`Error::InvalidConfig`] for a `one_hot` column whose values `categories` does not name:
    /// those of one file say nothing of another's.
    pub fn read_features(&self, path: &Path) -> Result<CsvFeatures> {
        self.validate_features()?;
        if let Some(name) = self.one_hot.iter().find(|name| !self.categories.contains_key(*name)) {
            let message = format!("does not have '{name}', must name the values of each one-hot column");
            return Err(Error::config("csv.categories", message));
        }
        let mut rows = Rows::open(path, self.delimiter)?;
        let mut features = FeatureColumns::new(&rows, self)?;
        let needed = if self.skip_missing { features.places() } else { vec![] };
        let mut numbers = vec![];
        while rows.advance()? {
            if rows.gap(&needed).is_none() {
                features.read(&rows)?;
                make_room(&mut numbers, 1)?;
                numbers.push(rows.row());
            }
        }
        if numbers.is_empty() {
            return Err(rows.none());
        }
        let columns = self.columns(features.described());
        let (values, width) = features.finish(numbers.len())?;
        Ok(CsvFeatures { values, width, rows: numbers, columns })
    }

    /// Reads the labels alone, row-major, and the variances of their noise.
    ///
    /// # Errors
    /// As [`Dataset::from_csv`].
    pub fn read_labels(&self, path: &Path) -> Result<(Vec<f64>, Option<Vec<f64>>)> {
        self.validate_targets()?;
        let mut rows = Rows::open(path, self.delimiter)?;
        let mut targets = TargetColumns::new(&rows, self)?;
        let needed = if self.skip_missing { targets.needed() } else { vec![] };
        while rows.advance()? {
            if rows.gap(&needed).is_none() {
                targets.read(&rows)?;
            }
        }
        if targets.labels.is_empty() {
            return Err(rows.none());
        }
        Ok((targets.labels, self.has_variances().then_some(targets.variances)))
    }
}

/// The features of a CSV file.
#[derive(Clone, Debug, PartialEq)]
pub struct CsvFeatures {
    /// Row-major.
    pub values: Vec<f64>,
    /// How many values a row has.
    pub width: usize,
    /// The number of each row in the file: the first after the header is 1.
    pub rows: Vec<u64>,
    /// What they are called.
    pub columns: Columns,
}

impl CsvFeatures {
    /// The features that `columns` name, in their order.
    ///
    /// # Errors
    /// As [`Dataset::matched_to`].
    pub fn matched_to(self, columns: &Columns) -> Result<Self> {
        if self.columns.features == columns.features {
            return Ok(self);
        }
        let places = columns.places_in(&self.columns, "the model")?;
        let values = gather_columns(&self.values, self.width, &places)?;
        Ok(CsvFeatures { values, width: places.len(), rows: self.rows, columns: columns.clone() })
    }
}

impl Dataset {
    /// Reads a CSV file.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a file or column that is not there; [`Error::Parse`]
    /// with row (the first after the header is 1) and column for what is not a number;
    /// [`Error::InvalidConfig`] for options that contradict each other.
    pub fn from_csv(path: &Path, options: &CsvOptions) -> Result<Self> {
        Ok(Self::from_csv_as_used(path, options)?.0)
    }

    /// As [`Dataset::from_csv`]; with the options as they were used, which name the features and the categories that were
    /// found. With them another file has the same features.
    ///
    /// # Errors
    /// As [`Dataset::from_csv`].
    pub fn from_csv_as_used(path: &Path, options: &CsvOptions) -> Result<(Self, CsvOptions)> {
        options.validate_targets()?;
        options.validate_features()?;
        let labels: HashSet<&String> = options.labels.iter().collect();
        if let Some(name) = options.features.iter().flatten().find(|name| labels.contains(name)) {
            return Err(Error::config("csv.features", format!("has '{name}', must not have a label")));
        }
        let mut rows = Rows::open(path, options.delimiter)?;
        let mut features = FeatureColumns::new(&rows, options)?;
        let mut targets = TargetColumns::new(&rows, options)?;
        let needed = if options.skip_missing { [features.places(), targets.needed()].concat() } else { vec![] };
        let mut left_out = vec![];
        while rows.advance()? {
            match rows.gap(&needed) {
                None => {
                    features.read(&rows)?;
                    targets.read(&rows)?;
                }
                Some(name) => {
                    make_room(&mut left_out, 1)?;
                    left_out.push(format!("row {}: column '{name}' is empty", rows.row()));
                }
            }
        }
        let TargetColumns { labels, variances, groups, .. } = targets;
        if labels.is_empty() {
            return Err(rows.none());
        }
        let outputs = options.labels.len();
        let columns = options.columns(features.described());
        let (x, width) = features.finish(labels.len() / outputs)?;
        let features = Features::from_f64(&x, width, width)?;
        let variances = options.has_variances().then_some(variances.into());
        let data = Dataset::assemble(features, vec![width], labels, outputs, variances, options.missing_labels)?;
        let data = if options.group.is_some() { data.with_groups(Groups::of(groups)?) } else { data };
        let used = options.with_features(&columns.features);
        Ok((data.with_columns(columns).with_left_out(left_out), used))
    }
}

impl CsvOptions {
    /// The options by which another file has the features that a model was trained on.
    pub fn of(columns: &Columns) -> Self {
        let Columns { features, labels, unseen_categories } = columns;
        let named = |encoding: fn(&Encoding) -> bool| {
            features.iter().filter(move |column| encoding(&column.encoding)).map(|column| column.name.clone())
        };
        let period = |column: &Column| match column.encoding {
            Encoding::Cyclic { period } => Some((column.name.clone(), period)),
            _ => None,
        };
        let options = CsvOptions {
            labels: labels.clone(),
            one_hot: named(|encoding| matches!(encoding, Encoding::OneHot { .. })).collect(),
            cyclic: features.iter().filter_map(period).collect(),
            unseen_categories: *unseen_categories,
            ..Self::default()
        };
        options.with_features(features)
    }

    /// What these features and the labels are called.
    fn columns(&self, features: Vec<Column>) -> Columns {
        Columns { features, labels: self.labels.clone(), unseen_categories: self.unseen_categories }
    }

    /// The same options, with the features and their categories by name.
    fn with_features(&self, features: &[Column]) -> Self {
        let categories = features.iter().filter_map(|column| match &column.encoding {
            Encoding::OneHot { categories } => Some((column.name.clone(), categories.clone())),
            _ => None,
        });
        let names = features.iter().map(|column| column.name.clone());
        CsvOptions { features: Some(names.collect()), categories: categories.collect(), ..self.clone() }
    }
}

impl CsvOptions {
    fn validate_targets(&self) -> Result<()> {
        let labels = self.labels.len();
        require(labels >= 1, "csv.labels", "empty", "at least one column")?;
        for (name, columns) in [("variances", &self.variances), ("standard_errors", &self.standard_errors)] {
            let path = format!("csv.{name}");
            let allowed = format!("as many columns as labels, {labels}");
            require(columns.is_empty() || columns.len() == labels, &path, columns.len(), &allowed)?;
        }
        let both = !self.variances.is_empty() && !self.standard_errors.is_empty();
        require(!both, "csv.standard_errors", "given beside variances", "left out")?;
        for (path, columns) in [
            ("csv.labels", &self.labels),
            ("csv.variances", &self.variances),
            ("csv.standard_errors", &self.standard_errors),
        ] {
            require_distinct(path, columns)?;
        }
        let divisor = self.error_divisor.unwrap_or(1.0);
        require(divisor > 0.0, "csv.error_divisor", divisor, "greater than 0")?;
        let has_effect = divisor == 1.0 || !self.standard_errors.is_empty();
        require(has_effect, "csv.error_divisor", "given without standard_errors", "left out: it divides those")?;
        self.validate_delimiter()
    }

    fn validate_delimiter(&self) -> Result<()> {
        let is_right = self.delimiter.is_ascii() && !['"', '\r', '\n', '\0'].contains(&self.delimiter);
        require(is_right, "csv.delimiter", self.delimiter.escape_default(), "one ASCII character, no quote or line end")
    }

    fn validate_features(&self) -> Result<()> {
        self.validate_delimiter()?;
        require_distinct("csv.features", self.features.iter().flatten())?;
        require_distinct("csv.one_hot", &self.one_hot)?;
        if let Some(name) = self.one_hot.iter().find(|name| self.cyclic.contains_key(*name)) {
            return Err(Error::config(
                format!("csv.cyclic.{name}"),
                "is given, must be left out: it is one of one_hot",
            ));
        }
        for (name, &period) in &self.cyclic {
            require(period > 0.0, format!("csv.cyclic.{name}"), period, "greater than 0")?;
        }
        for (name, values) in &self.categories {
            let path = format!("csv.categories.{name}");
            require(self.one_hot.contains(name), &path, "given", "left out: it is not one of one_hot")?;
            require(!values.is_empty(), &path, "empty", "a list of different values")?;
            require_distinct(&path, values)?;
        }
        Ok(())
    }
}

/// The label columns of a file, what says how noisy they are, and what was read of them.
struct TargetColumns {
    label_columns: Vec<usize>,
    variance_columns: Vec<usize>,
    error_columns: Vec<usize>,
    group_column: Option<usize>,
    error_divisor: f64,
    mask: bool,
    labels: Vec<f64>,
    variances: Vec<f64>,
    groups: Vec<GroupName>,
}

impl TargetColumns {
    fn new(rows: &Rows, options: &CsvOptions) -> Result<Self> {
        let columns = |names: &[String]| names.iter().map(|name| rows.column(name)).collect::<Result<Vec<_>>>();
        Ok(TargetColumns {
            label_columns: columns(&options.labels)?,
            variance_columns: columns(&options.variances)?,
            error_columns: columns(&options.standard_errors)?,
            group_column: options.group.as_ref().map(|name| rows.column(name)).transpose()?,
            error_divisor: options.error_divisor.unwrap_or(1.0),
            mask: options.missing_labels == MissingLabels::Mask,
            labels: vec![],
            variances: vec![],
            groups: vec![],
        })
    }

    /// The columns in which no field may be empty. A label that may be missing takes its noise with it.
    fn needed(&self) -> Vec<usize> {
        let noise = [&self.label_columns, &self.variance_columns, &self.error_columns];
        let noise = noise.into_iter().flatten().filter(|_| !self.mask);
        noise.chain(&self.group_column).copied().collect()
    }

    fn read(&mut self, rows: &Rows) -> Result<()> {
        let outputs = self.label_columns.len();
        make_room(&mut self.labels, outputs)?;
        make_room(&mut self.variances, outputs)?;
        for &column in &self.label_columns {
            let missing = self.mask && matches!(rows.text(column), "" | "NaN" | "nan" | "NA");
            self.labels.push(if missing { f64::NAN } else { rows.number(column)? });
        }
        let labels = &self.labels[self.labels.len() - outputs..];
        for (&column, label) in self.variance_columns.iter().zip(labels) {
            self.variances.push(if label.is_nan() { f64::INFINITY } else { rows.noise(column, "a variance")? });
        }
        for (&column, label) in self.error_columns.iter().zip(labels) {
            let error = if label.is_nan() { f64::INFINITY } else { rows.noise(column, "a standard error")? };
            let variance = (error / self.error_divisor).powi(2);
            if variance.is_infinite() && error.is_finite() {
                return Err(rows.fault(column, "is too large: its square is beyond f64"));
            }
            self.variances.push(variance);
        }
        if let Some(column) = self.group_column {
            if rows.text(column).is_empty() {
                return Err(rows.fault(column, "is empty, a group has a name"));
            }
            make_room(&mut self.groups, 1)?;
            self.groups.push(name_of_bytes(rows.text(column).as_bytes()));
        }
        Ok(())
    }
}

/// The feature columns of a file, and what was read of them.
struct FeatureColumns {
    names: Vec<String>,
    encoders: Vec<Encoder>,
    numbers: Vec<f64>,
    unseen: UnseenCategories,
}

impl FeatureColumns {
    fn new(rows: &Rows, options: &CsvOptions) -> Result<Self> {
        let CsvOptions { labels, variances, standard_errors, group, .. } = options;
        let others = [labels, variances, standard_errors].into_iter().flatten().chain(group);
        let others: HashSet<&String> = others.collect();
        let names: Vec<String> = match &options.features {
            Some(names) => names.clone(),
            None => rows.headers().iter().filter(|name| !others.contains(name)).cloned().collect(),
        };
        require(!names.is_empty(), "csv.features", "empty", "at least one column")?;
        let known: HashSet<&String> = names.iter().collect();
        for name in options.one_hot.iter().chain(options.cyclic.keys()) {
            rows.column(name)?;
            require(known.contains(name), "csv", format!("'{name}' not a feature"), "one of the features")?;
        }
        let one_hot: HashSet<&String> = options.one_hot.iter().collect();
        let encoder = |name: &String| {
            let column = rows.column(name)?;
            Ok(if one_hot.contains(name) {
                Encoder::OneHot(column, Categories::new(options.categories.get(name)))
            } else if let Some(&period) = options.cyclic.get(name) {
                Encoder::Cyclic(column, period)
            } else {
                Encoder::Number(column)
            })
        };
        let encoders = names.iter().map(encoder).collect::<Result<_>>()?;
        Ok(FeatureColumns { encoders, names, numbers: vec![], unseen: options.unseen_categories })
    }

    /// Where the columns are in the file.
    fn places(&self) -> Vec<usize> {
        let place = |encoder: &Encoder| match *encoder {
            Encoder::Number(column) | Encoder::Cyclic(column, _) | Encoder::OneHot(column, _) => column,
        };
        self.encoders.iter().map(place).collect()
    }

    fn read(&mut self, rows: &Rows) -> Result<()> {
        make_room(&mut self.numbers, MOST_NUMBERS * self.encoders.len())?;
        self.encoders.iter_mut().try_for_each(|encoder| encoder.encode(rows, &mut self.numbers))
    }

    /// The columns as features, with the categories that were found.
    fn described(&self) -> Vec<Column> {
        let column = |(name, encoder): (&String, &Encoder)| {
            let encoding = match encoder {
                Encoder::Number(_) => Encoding::Number,
                Encoder::Cyclic(_, period) => Encoding::Cyclic { period: *period },
                Encoder::OneHot(_, categories) => Encoding::OneHot { categories: categories.levels() },
            };
            Column { name: name.clone(), encoding }
        };
        self.names.iter().zip(&self.encoders).map(column).collect()
    }

    /// The features of the `rows` rows that were read, row-major, and how many each has.
    ///
    /// # Errors
    /// [`Error::Parse`] for categories that are none of the given ones.
    fn finish(self, rows: usize) -> Result<(Vec<f64>, usize)> {
        for encoder in &self.encoders {
            if let Encoder::OneHot(_, categories) = encoder
                && self.unseen == UnseenCategories::Error
            {
                categories.check()?;
            }
        }
        with_categories(self.numbers, &self.encoders, rows)
    }
}

/// How one column becomes features.
enum Encoder {
    Number(usize),
    Cyclic(usize, f64),
    OneHot(usize, Categories),
}

/// The most numbers that a field becomes, categories apart.
const MOST_NUMBERS: usize = 2;

/// A column of categories.
struct Categories {
    /// The distinct values: first those that were given, then the others, in the order in which they came.
    values: BTreeMap<String, usize>,
    /// The number of each row's.
    rows: Vec<usize>,
    /// How many were given; without any, those that come are all known.
    given: Option<usize>,
    /// Where the first value was that is none of the given ones.
    first_unseen: Option<String>,
}

impl Encoder {
    /// Takes the row: its numbers go to `features`, its category is kept.
    fn encode(&mut self, row: &Rows, features: &mut Vec<f64>) -> Result<()> {
        match self {
            Encoder::Number(column) => {
                let number = row.number(*column)?;
                if number.abs() > f64::from(f32::MAX) {
                    return Err(row.fault(*column, "is too large: features are single precision, at most 3.4e38"));
                }
                features.push(number);
            }
            Encoder::Cyclic(column, period) => features.extend(cyclic(row.number(*column)? / *period).map(f64::from)),
            Encoder::OneHot(column, categories) => categories.add(row, *column)?,
        }
        Ok(())
    }
}

impl Categories {
    /// These values, or all that come.
    fn new(given: Option<&Vec<String>>) -> Self {
        let values = given.into_iter().flatten().enumerate().map(|(number, value)| (value.clone(), number));
        Categories { values: values.collect(), rows: vec![], given: given.map(Vec::len), first_unseen: None }
    }

    fn add(&mut self, row: &Rows, column: usize) -> Result<()> {
        let (value, next) = (row.text(column), self.values.len());
        let number = match self.values.get(value) {
            Some(&number) => number,
            None if value.is_empty() => return Err(row.fault(column, "is empty, a category has a name")),
            None => {
                if self.given == Some(next) {
                    self.first_unseen = Some(row.place_of(column));
                }
                self.values.insert(value.into(), next);
                next
            }
        };
        make_room(&mut self.rows, 1)?;
        self.rows.push(number);
        Ok(())
    }

    /// The known values and their numbers in the order of their features: as they were given; else in numerical order
    /// if all are numbers, else in alphabetical order.
    fn in_order(&self) -> Vec<(&String, usize)> {
        let mut order: Vec<(&String, usize)> = self.values.iter().map(|(value, &number)| (value, number)).collect();
        let number = |value: &str| value.parse::<f64>().ok();
        if let Some(given) = self.given {
            order.retain(|&(_, number)| number < given);
            order.sort_by_key(|&(_, number)| number);
        } else if self.values.keys().all(|value| number(value).is_some()) {
            order.sort_by(|(a, _), (b, _)| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)));
        }
        order
    }

    fn levels(&self) -> Vec<String> {
        self.in_order().into_iter().map(|(value, _)| value.clone()).collect()
    }

    /// The rank of each value among the known ones, by its number.
    fn ranks(&self) -> Vec<Option<usize>> {
        let mut ranks = vec![None; self.values.len()];
        self.in_order().into_iter().enumerate().for_each(|(rank, (_, number))| ranks[number] = Some(rank));
        ranks
    }

    /// An error where there are values that are none of the given ones.
    fn check(&self) -> Result<()> {
        let Some(place) = &self.first_unseen else { return Ok(()) };
        let known = self.levels();
        let mut unseen: Vec<(&String, usize)> = self.values.iter().map(|(value, &number)| (value, number)).collect();
        unseen.retain(|&(_, number)| number >= known.len());
        unseen.sort_by_key(|&(_, number)| number);
        let unseen: Vec<&String> = unseen.into_iter().map(|(value, _)| value).collect();
        Err(Error::Parse(format!("{place}: {}", none_of(&unseen, &known))))
    }
}

/// The features, row-major, and how many each row has: the `numbers`, and between them a 1 among 0s for each category.
fn with_categories(numbers: Vec<f64>, encoders: &[Encoder], rows: usize) -> Result<(Vec<f64>, usize)> {
    // The rank of each value of a column of categories, and how many features it has.
    let ranks = encoders.iter().map(|encoder| match encoder {
        Encoder::OneHot(_, categories) => (categories.ranks(), categories.in_order().len()),
        _ => (vec![], 0),
    });
    let ranks: Vec<(Vec<Option<usize>>, usize)> = ranks.collect();
    let categories = ranks.iter().map(|(_, count)| count).sum::<usize>();
    let width = numbers.len() / rows + categories;
    if categories == 0 {
        return Ok((numbers, width));
    }
    let mut features = reserve(rows.saturating_mul(width))?;
    let mut numbers = numbers.into_iter();
    for row in 0..rows {
        for (encoder, (ranks, count)) in encoders.iter().zip(&ranks) {
            match encoder {
                Encoder::Number(_) => features.extend(numbers.by_ref().take(1)),
                Encoder::Cyclic(..) => features.extend(numbers.by_ref().take(2)),
                Encoder::OneHot(_, categories) => {
                    let rank = ranks[categories.rows[row]];
                    features.extend((0..*count).map(|other| if Some(other) == rank { 1.0 } else { 0.0 }));
                }
            }
        }
    }
    Ok((features, width))
}

/// Cosine and sine of a position on a circle of circumference 1.
pub(super) fn cyclic(turns: f64) -> [f32; 2] {
    let (sine, cosine) = (TAU * turns).sin_cos();
    [cosine as f32, sine as f32]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str, options: &str) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        std::fs::write(&path, content).unwrap();
        Dataset::from_csv(&path, &crate::base::options::parse("csv", options)?)
    }

    fn message(content: &str, options: &str) -> String {
        read(content, options).unwrap_err().to_string()
    }

    #[test]
    fn columns_take_their_roles() {
        let content = "hour,kind,y,moe,z\n0,b,1,3.29,5\n6,a,2,1.645,6\n";
        let options = r#"{"labels":["y"],"standard_errors":["moe"],"error_divisor":1.645,
                          "one_hot":["kind"],"cyclic":{"hour":24}}"#;
        let data = read(content, options).unwrap();
        assert_eq!(data.labels(), [1.0, 2.0]);
        assert_eq!(data.variances().unwrap(), [4.0, 1.0]);
        assert_eq!(data.feature_shape(), [5]);
        assert_eq!(data.feature_values().unwrap()[..5], [1.0, 0.0, 0.0, 1.0, 5.0]);
        assert_eq!(data.feature_values().unwrap()[6..], [1.0, 1.0, 0.0, 6.0]);
        assert!(data.feature_values().unwrap()[5].abs() < 1e-7);
    }

    #[test]
    fn one_hot_levels_of_numbers_are_in_numerical_order() {
        // In another order than that in which they come, nor its inverse.
        let data = read("k,y\n9,1\n10,1\n8,1\n", r#"{"labels":["y"],"one_hot":["k"]}"#).unwrap();
        assert_eq!(*data.feature_values().unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn categories_stand_between_numbers_and_fields_may_have_spaces_and_quotes() {
        let content = "a, k ,h,y\n 1,\"p, q\",0, 5 \n\" 2 \",b,6, 6\n3, b ,12,7\n";
        let data = read(content, r#"{"labels":["y"],"one_hot":["k"],"cyclic":{"h":24}}"#).unwrap();
        assert_eq!(data.labels(), [5.0, 6.0, 7.0]);
        let x: Vec<f32> = data.feature_values().unwrap().iter().map(|x| x.round()).collect();
        assert_eq!(x[..5], [1.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(x[5..10], [2.0, 1.0, 0.0, 0.0, 1.0]);
        assert_eq!(x[10..], [3.0, 1.0, 0.0, -1.0, 0.0]);
    }

    #[test]
    fn another_file_has_the_same_features_with_the_options_as_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let options = r#"{"labels":["y"],"one_hot":["k"],"cyclic":{"h":24},"skip_missing":true}"#;
        let options: CsvOptions = crate::base::options::parse("csv", options).unwrap();
        let train = file("train.csv", "k,y,a,h\nred,1,7,0\nblue,2,8,0\n10,3,9,0\n");
        let (data, used) = Dataset::from_csv_as_used(&train, &options).unwrap();
        assert_eq!(used.features.as_deref().unwrap(), ["k", "a", "h"]);
        assert_eq!(used.categories["k"], ["10", "blue", "red"]);
        // Other columns, another order, no labels, fewer categories, a gap.
        let new = file("new.csv", "h,extra,a,k\n0,x,7, red\n0,x,,blue\n0,x,9,10\n");
        let found = used.read_features(&new).unwrap();
        assert_eq!((found.width, &found.rows[..]), (6, &[1, 3][..]));
        let expected = data.subset(&[0, 2]).unwrap();
        let expected = expected.feature_values().unwrap();
        assert!(found.values.iter().zip(expected.iter()).all(|(&found, &expected)| found as f32 == expected));
        // As they are kept in a file.
        let text = serde_json::to_string(&used).unwrap();
        assert_eq!(crate::base::options::parse::<CsvOptions>("csv", &text).unwrap(), used);
        assert_eq!(
            *Dataset::from_csv(&train, &used).unwrap().feature_values().unwrap(),
            *data.feature_values().unwrap()
        );

        // Categories that were given keep their order.
        let mut given = used.clone();
        given.categories.get_mut("k").unwrap().reverse();
        assert_eq!(given.read_features(&new).unwrap().values[..4], [1.0, 0.0, 0.0, 7.0]);

        let fault = |content: &str, options: &CsvOptions| {
            options.read_features(&file("fault.csv", content)).unwrap_err().to_string()
        };
        let unseen = fault("h,a,k\n0,7,red\n0,7,green\n", &used);
        assert!(
            unseen.contains("row 2, column 'k': 'green' is none of the categories '10', 'blue', 'red'; with "),
            "{unseen}"
        );
        assert!(fault("h,k\n0,red\n", &used).contains("there is no column 'a'"));
        assert!(fault("h,a,k\n0,7,red\n", &options).starts_with("csv.categories: does not have 'k'"));
        for (categories, message) in [
            (("a", &["1"][..]), "csv.categories.a: is given, must be left out"),
            (("k", &["1", "1"][..]), "csv.categories.k: has '1' twice, must be a list of different names"),
        ] {
            let values = categories.1.iter().map(ToString::to_string).collect();
            let options = CsvOptions { categories: [(categories.0.into(), values)].into(), ..options.clone() };
            assert!(fault("h,a,k\n0,7,red\n", &options).contains(message));
        }
    }

    #[test]
    fn labels_are_read_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        std::fs::write(&path, "r,s\n-1e200,2\n3,\n4,inf\n").unwrap();
        let options = r#"{"labels":["r"],"standard_errors":["s"],"error_divisor":2,"skip_missing":true}"#;
        let options: CsvOptions = crate::base::options::parse("csv", options).unwrap();
        assert_eq!(options.read_labels(&path).unwrap(), (vec![-1e200, 4.0], Some(vec![1.0, f64::INFINITY])));
        let message = Dataset::from_csv(&path, &options).unwrap_err().to_string();
        assert!(message.starts_with("csv.features: is empty, must be at least one column"), "{message}");
    }

    #[test]
    fn faults_are_named_with_file_row_and_column() {
        let y = r#"{"labels":["y"]}"#;
        assert!(
            message("x,y\n1,2\n1,abc\n", y).ends_with("data.csv: line 3, row 2, column 'y': 'abc' is not a number")
        );
        assert!(
            message("x,y\n3e39,2\n", y)
                .ends_with("row 1, column 'x': '3e39' is too large: features are single precision, at most 3.4e38")
        );
        assert!(message("x,y\n1,inf\n", y).ends_with("'inf' is not finite"));
        assert!(message("x,y\n,1\n", y).ends_with("row 1, column 'x': '' is not a number"));
        assert!(message("x,y\n1,2\n1\n", y).ends_with("row 2 has 1 fields, the header has 2"));
        assert!(message("x,z,y\n1,2,3\n1,b,c\n", y).ends_with("row 2, column 'z': 'b' is not a number"));
        assert!(message("", y).contains("the file is empty"));
        assert!(message("x,y\n", y).ends_with("no rows below the header"));
        assert!(message("x,z\n1,2\n", y).ends_with("there is no column 'y', only 'x', 'z'"));
        let missing = Dataset::from_csv(Path::new("/no/such.csv"), &crate::base::options::parse("csv", y).unwrap());
        assert_eq!(missing.unwrap_err().to_string(), "/no/such.csv: no such file or folder");
        assert!(message("x,y\n1,2\n", r#"{"labels":["y"],"variances":["x","x"]}"#).contains("csv.variances: is 2"));
        assert!(
            message("x,v,y\n1,-2,2\n", r#"{"labels":["y"],"variances":["v"]}"#)
                .ends_with("row 1, column 'v': '-2' is negative, a variance never is")
        );
    }

    #[test]
    fn an_empty_category_or_group_is_a_gap_like_others() {
        let one_hot = r#"{"labels":["y"],"one_hot":["k"]}"#;
        for row in ["", "  ", "\"\""] {
            let found = message(&format!("k,y\na,1\n{row},2\nb,3\n"), one_hot);
            assert!(
                found.ends_with("data.csv: line 3, row 2, column 'k': '' is empty, a category has a name"),
                "{found}"
            );
        }
        let skipping = r#"{"labels":["y"],"one_hot":["k"],"skip_missing":true}"#;
        let data = read("k,y\na,1\n,2\nb,3\nc,\n", skipping).unwrap();
        assert_eq!((data.labels(), data.feature_shape()), (&[1.0, 3.0][..], &[2][..]));
        assert_eq!(data.left_out(), ["row 2: column 'k' is empty", "row 4: column 'y' is empty"]);
        let named = r#"{"labels":["y"],"one_hot":["k"],"categories":{"k":["","a"]}}"#;
        let data = read("k,y\na,1\n,2\n", named).unwrap();
        assert_eq!(*data.feature_values().unwrap(), [0.0, 1.0, 1.0, 0.0], "a name like others where it is given");
        let grouped = message("x,y,g\n1,1,a\n2,2,\n", r#"{"labels":["y"],"group":"g"}"#);
        assert!(grouped.ends_with("row 2, column 'g': '' is empty, a group has a name"), "{grouped}");
    }

    #[test]
    fn a_doubled_or_unnamed_column_is_not_one_of_all_others() {
        let y = r#"{"labels":["y"]}"#;
        assert!(message("temp,temp,y\n1,10,5\n", y).contains("the header has 'temp' twice, as columns 1 and 2"));
        assert!(message("x,y,y\n1,10,5\n", y).contains("the header has 'y' twice, as columns 2 and 3"));
        assert!(message("x,y,\n1,10,\n", y).contains("column 3 of the header has no name"));
        assert_eq!(
            *read("temp,temp,x,y\n1,10,3,5\n", r#"{"labels":["y"],"features":["x"]}"#)
                .unwrap()
                .feature_values()
                .unwrap(),
            [3.0]
        );
        for (options, expected) in [
            (r#"{"labels":["y","y"]}"#, "csv.labels: has 'y' twice"),
            (r#"{"labels":["y"],"features":["x","x"]}"#, "csv.features: has 'x' twice"),
            (r#"{"labels":["y"],"one_hot":["x"],"cyclic":{"x":2}}"#, "csv.cyclic.x: is given, must be left out"),
            (
                r#"{"labels":["y"],"variances":["v"],"error_divisor":2}"#,
                "csv.error_divisor: is given without standard_errors",
            ),
            (r#"{"labels":["y"],"error_divisor":1.645}"#, "csv.error_divisor: is given without standard_errors"),
            (r#"{"labels":["y"],"delimiter":"\""}"#, "csv.delimiter: is \\\", must be one ASCII character"),
        ] {
            let found = message("x,v,y\n1,10,5\n", options);
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn categories_that_are_not_known_are_listed_or_zeros() {
        let content = "k,y\nb,1\ngreen,2\nblue,3\ngreen,4\na,5\n";
        let known = r#""labels":["y"],"one_hot":["k"],"categories":{"k":["a","b"]}"#;
        let found = message(content, &format!("{{{known}}}"));
        let expected = "line 3, row 2, column 'k': 'green', 'blue' are none of the categories 'a', 'b'; with \
                        \"unseen_categories\": \"zeros\" such a row has none";
        assert!(found.ends_with(expected), "{found}");
        let data = read(content, &format!(r#"{{{known},"unseen_categories":"zeros"}}"#)).unwrap();
        assert_eq!(*data.feature_values().unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn many_columns_are_read() {
        // Where a column is looked for among all others, this takes minutes.
        let count = 200_000;
        let header: Vec<String> = (0..count).map(|k| format!("c{k}")).collect();
        let row: Vec<String> = (0..count).map(|k| k.to_string()).collect();
        let content = format!("{},y\n{},1\n", header.join(","), row.join(","));
        let data = read(&content, r#"{"labels":["y"]}"#).unwrap();
        assert_eq!((data.width(), data.feature_values().unwrap()[count - 1]), (count, (count - 1) as f32));
    }

    #[test]
    fn missing_labels_are_masked_by_option_and_infinite_noise_always() {
        let content = "x,y,s,g\n1,2,0.5,a\n2,,,b\n3,NaN,1,a\n4,5,inf,c\n";
        let options = r#"{"labels":["y"],"standard_errors":["s"],"group":"g","missing_labels":"mask"}"#;
        let data = read(content, options).unwrap();
        assert_eq!((data.rows(), data.masked(), data.feature_shape()), (4, 3, &[1][..]));
        assert_eq!(data.variances().unwrap(), [0.25, f64::INFINITY, f64::INFINITY, f64::INFINITY]);
        assert_eq!(data.groups().unwrap(), [0, 1, 0, 2]);
        assert_eq!(data.rows_with_labels().unwrap(), [0]);
        assert!(
            message(content, r#"{"labels":["y"],"standard_errors":["s"],"group":"g"}"#).contains("row 2, column 'y'")
        );
        let error =
            |text: &str| message(&format!("x,y,s\n1,2,{text}\n"), r#"{"labels":["y"],"standard_errors":["s"]}"#);
        assert!(error("1e200").ends_with("column 's': '1e200' is too large: its square is beyond f64"));
        assert!(error("1e999").contains("'1e999' is beyond f64"));
        assert!(error("NaN").ends_with("'NaN' is not a number"));
    }

    #[test]
    fn a_negative_standard_error_is_no_variance() {
        let negative = message("x,s,y\n1,2,2\n1,-2,2\n", r#"{"labels":["y"],"standard_errors":["s"]}"#);
        assert!(negative.ends_with("row 2, column 's': '-2' is negative, a standard error never is"), "{negative}");
    }

    #[test]
    fn rows_with_gaps_can_be_left_out() {
        let data = read("x,y\n,1\n3,2\n", r#"{"labels":["y"],"skip_missing":true}"#).unwrap();
        assert_eq!(data.labels(), [2.0]);
        let none = message("x,y\n,1\n2,\n", r#"{"labels":["y"],"skip_missing":true}"#);
        assert!(none.ends_with("data.csv: each of the 2 rows has an empty field in a column that is used"), "{none}");
        // Only in columns that are used.
        let data = read("w,x,y\n,1,1\n3,,2\n3,4,3\n", r#"{"labels":["y"],"features":["x"],"skip_missing":true}"#);
        assert_eq!(data.unwrap().labels(), [1.0, 3.0]);
    }
}
