//! Data sets from CSV files with a header.

use super::{Dataset, Features, MissingLabels};
use crate::base::memory::{make_room, reserve};
use crate::base::options::require;
use crate::{Error, Result};
use ::csv::{ErrorKind, Position, Reader, ReaderBuilder, StringRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::f64::consts::TAU;
use std::fs::File;
use std::path::{Path, PathBuf};

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
    #[serde(default = "unity")]
    pub error_divisor: f64,
    /// The feature columns, in this order; without them, all that have no other role.
    pub features: Option<Vec<String>>,
    /// Feature columns that are categories: one feature per distinct value, in sorted order.
    #[serde(default)]
    pub one_hot: Vec<String>,
    /// The values of a `one_hot` column, in the order of their features: any other is an error. A column that is not
    /// named here has the values that the file has, in sorted order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub categories: BTreeMap<String, Vec<String>>,
    /// Cyclic feature columns with their period (24 for an hour): a cosine and a sine each.
    #[serde(default)]
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

impl CsvOptions {
    /// Whether the file says how noisy its labels are.
    pub(crate) fn has_variances(&self) -> bool {
        !self.variances.is_empty() || !self.standard_errors.is_empty()
    }
}

fn unity() -> f64 {
    1.0
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
        let needed = if self.skip_missing { features.columns() } else { vec![] };
        let mut numbers = vec![];
        while rows.advance()? {
            if rows.has_all(&needed) {
                features.read(&rows)?;
                make_room(&mut numbers, 1)?;
                numbers.push(rows.row());
            }
        }
        if numbers.is_empty() {
            return Err(rows.none());
        }
        let (values, width) = features.finish(numbers.len())?;
        Ok(CsvFeatures { values, width, rows: numbers })
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
            if rows.has_all(&needed) {
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
        if let Some(name) = options.features.iter().flatten().find(|name| options.labels.contains(name)) {
            return Err(Error::config("csv.features", format!("has '{name}', must not have a label")));
        }
        let mut rows = Rows::open(path, options.delimiter)?;
        let mut features = FeatureColumns::new(&rows, options)?;
        let mut targets = TargetColumns::new(&rows, options)?;
        let needed = if options.skip_missing { [features.columns(), targets.needed()].concat() } else { vec![] };
        while rows.advance()? {
            if rows.has_all(&needed) {
                features.read(&rows)?;
                targets.read(&rows)?;
            }
        }
        let TargetColumns { labels, variances, groups, .. } = targets;
        if labels.is_empty() {
            return Err(rows.none());
        }
        let outputs = options.labels.len();
        let (names, categories) = (features.names.clone(), features.categories());
        let used = CsvOptions { features: Some(names), categories, ..options.clone() };
        let (x, width) = features.finish(labels.len() / outputs)?;
        let features = Features::from_f64(&x, width, width)?;
        let variances = options.has_variances().then_some(variances);
        let data = Dataset::assemble(features, vec![width], labels, outputs, variances, options.missing_labels)?;
        Ok((if options.group.is_some() { data.with_groups(groups) } else { data }, used))
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
        require(self.delimiter.is_ascii(), "csv.delimiter", self.delimiter, "one ASCII character")?;
        require(self.error_divisor > 0.0, "csv.error_divisor", self.error_divisor, "greater than 0")
    }

    fn validate_features(&self) -> Result<()> {
        require(self.delimiter.is_ascii(), "csv.delimiter", self.delimiter, "one ASCII character")?;
        for (name, &period) in &self.cyclic {
            require(period > 0.0, &format!("csv.cyclic.{name}"), period, "greater than 0")?;
        }
        for (name, values) in &self.categories {
            let path = format!("csv.categories.{name}");
            require(self.one_hot.contains(name), &path, "given", "left out: it is not one of one_hot")?;
            let mut distinct = values.clone();
            distinct.sort();
            distinct.dedup();
            let count = values.len();
            require(count > 0 && distinct.len() == count, &path, format!("{values:?}"), "a list of different values")?;
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
    groups: Vec<u32>,
    group_numbers: HashMap<String, u32>,
}

impl TargetColumns {
    fn new(rows: &Rows, options: &CsvOptions) -> Result<Self> {
        let columns = |names: &[String]| names.iter().map(|name| rows.column(name)).collect::<Result<Vec<_>>>();
        Ok(TargetColumns {
            label_columns: columns(&options.labels)?,
            variance_columns: columns(&options.variances)?,
            error_columns: columns(&options.standard_errors)?,
            group_column: options.group.as_ref().map(|name| rows.column(name)).transpose()?,
            error_divisor: options.error_divisor,
            mask: options.missing_labels == MissingLabels::Mask,
            labels: vec![],
            variances: vec![],
            groups: vec![],
            group_numbers: HashMap::new(),
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
            let next = self.group_numbers.len() as u32;
            make_room(&mut self.groups, 1)?;
            self.groups.push(match self.group_numbers.get(rows.text(column)) {
                Some(&number) => number,
                None => *self.group_numbers.entry(rows.text(column).into()).or_insert(next),
            });
        }
        Ok(())
    }
}

/// The feature columns of a file, and what was read of them.
struct FeatureColumns {
    names: Vec<String>,
    encoders: Vec<Encoder>,
    numbers: Vec<f64>,
}

impl FeatureColumns {
    fn new(rows: &Rows, options: &CsvOptions) -> Result<Self> {
        let CsvOptions { labels, variances, standard_errors, group, .. } = options;
        let others: Vec<&String> = [labels, variances, standard_errors].into_iter().flatten().chain(group).collect();
        let names: Vec<String> = match &options.features {
            Some(names) => names.clone(),
            None => rows.headers.iter().filter(|name| !others.contains(name)).cloned().collect(),
        };
        require(!names.is_empty(), "csv.features", "empty", "at least one column")?;
        for name in options.one_hot.iter().chain(options.cyclic.keys()) {
            require(names.contains(name), "csv", format!("'{name}' not a feature"), "one of the features")?;
        }
        let encoders = names.iter().map(|name| Ok(Encoder::new(rows.column(name)?, name, options)));
        Ok(FeatureColumns { encoders: encoders.collect::<Result<_>>()?, names, numbers: vec![] })
    }

    fn columns(&self) -> Vec<usize> {
        let column = |encoder: &Encoder| match *encoder {
            Encoder::Number(column) | Encoder::Cyclic(column, _) | Encoder::OneHot(column, _) => column,
        };
        self.encoders.iter().map(column).collect()
    }

    fn read(&mut self, rows: &Rows) -> Result<()> {
        make_room(&mut self.numbers, MOST_NUMBERS * self.encoders.len())?;
        self.encoders.iter_mut().try_for_each(|encoder| encoder.encode(rows, &mut self.numbers))
    }

    /// The values of each column of categories, in the order of their features.
    fn categories(&self) -> BTreeMap<String, Vec<String>> {
        let levels = self.names.iter().zip(&self.encoders).filter_map(|(name, encoder)| match encoder {
            Encoder::OneHot(_, categories) => Some((name.clone(), categories.levels())),
            _ => None,
        });
        levels.collect()
    }

    /// The features of the `rows` rows that were read, row-major, and how many each has.
    fn finish(self, rows: usize) -> Result<(Vec<f64>, usize)> {
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
    /// The distinct values, numbered in the order in which they came.
    values: BTreeMap<String, usize>,
    /// The number of each row's.
    rows: Vec<usize>,
    /// Whether the values were given: there are no others, and their order is that of their features.
    given: bool,
}

impl Encoder {
    fn new(column: usize, name: &String, options: &CsvOptions) -> Self {
        if options.one_hot.contains(name) {
            Encoder::OneHot(column, Categories::new(options.categories.get(name)))
        } else if let Some(&period) = options.cyclic.get(name) {
            Encoder::Cyclic(column, period)
        } else {
            Encoder::Number(column)
        }
    }

    /// Takes the row: its numbers go to `features`, its category is kept.
    fn encode(&mut self, row: &Rows, features: &mut Vec<f64>) -> Result<()> {
        match self {
            Encoder::Number(column) => features.push(row.number(*column)?),
            Encoder::Cyclic(column, period) => features.extend(cyclic(row.number(*column)? / *period).map(f64::from)),
            Encoder::OneHot(column, categories) => {
                let (value, next) = (row.text(*column), categories.values.len());
                let number = match categories.values.get(value) {
                    Some(&number) => number,
                    None if categories.given => {
                        let known = categories.levels().join("', '");
                        return Err(row.fault(*column, &format!("is none of the categories '{known}'")));
                    }
                    None => *categories.values.entry(value.into()).or_insert(next),
                };
                make_room(&mut categories.rows, 1)?;
                categories.rows.push(number);
            }
        }
        Ok(())
    }
}

impl Categories {
    /// These values, or all that come.
    fn new(given: Option<&Vec<String>>) -> Self {
        let values = given.into_iter().flatten().enumerate().map(|(number, value)| (value.clone(), number));
        Categories { values: values.collect(), rows: vec![], given: given.is_some() }
    }

    /// The values and their numbers in the order of their features: as they were given; else in numerical order if all
    /// are numbers, else in alphabetical order.
    fn in_order(&self) -> Vec<(&String, usize)> {
        let mut order: Vec<(&String, usize)> = self.values.iter().map(|(value, &number)| (value, number)).collect();
        let number = |value: &str| value.parse::<f64>().ok();
        if self.given {
            order.sort_by_key(|&(_, number)| number);
        } else if self.values.keys().all(|value| number(value).is_some()) {
            order.sort_by(|(a, _), (b, _)| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)));
        }
        order
    }

    fn levels(&self) -> Vec<String> {
        self.in_order().into_iter().map(|(value, _)| value.clone()).collect()
    }

    /// The rank of each value, by its number.
    fn ranks(&self) -> Vec<usize> {
        let mut ranks = vec![0; self.values.len()];
        self.in_order().into_iter().enumerate().for_each(|(rank, (_, number))| ranks[number] = rank);
        ranks
    }
}

/// The features, row-major, and how many each row has: the `numbers`, and between them a 1 among 0s for each category.
fn with_categories(numbers: Vec<f64>, encoders: &[Encoder], rows: usize) -> Result<(Vec<f64>, usize)> {
    let ranks = encoders.iter().map(|encoder| match encoder {
        Encoder::OneHot(_, categories) => categories.ranks(),
        _ => vec![],
    });
    let ranks: Vec<Vec<usize>> = ranks.collect();
    let categories = ranks.iter().map(Vec::len).sum::<usize>();
    let width = numbers.len() / rows + categories;
    if categories == 0 {
        return Ok((numbers, width));
    }
    let mut features = reserve(rows.saturating_mul(width))?;
    let mut numbers = numbers.into_iter();
    for row in 0..rows {
        for (encoder, ranks) in encoders.iter().zip(&ranks) {
            match encoder {
                Encoder::Number(_) => features.extend(numbers.by_ref().take(1)),
                Encoder::Cyclic(..) => features.extend(numbers.by_ref().take(2)),
                Encoder::OneHot(_, categories) => {
                    let rank = ranks[categories.rows[row]];
                    features.extend((0..ranks.len()).map(|other| if other == rank { 1.0 } else { 0.0 }));
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

/// How much of a file is read at once, in bytes.
const BUFFER: usize = 64 << 10;

/// A CSV file, row by row, each as long as the header.
pub(super) struct Rows {
    file: PathBuf,
    headers: Vec<String>,
    reader: Reader<File>,
    /// The present row.
    record: StringRecord,
}

impl Rows {
    pub(super) fn open(path: &Path, delimiter: char) -> Result<Self> {
        let input = File::open(path).map_err(|error| Error::io(path, error))?;
        let reader = ReaderBuilder::new().delimiter(delimiter as u8).buffer_capacity(BUFFER).from_reader(input);
        let mut rows = Rows { file: path.into(), headers: vec![], reader, record: StringRecord::new() };
        let headers = rows.reader.headers().cloned().map_err(|error| rows.unreadable(error))?;
        rows.headers = headers.iter().map(|name| name.trim_matches(['\u{feff}', ' ']).into()).collect();
        if rows.headers.iter().all(String::is_empty) {
            let file = path.display();
            return Err(Error::Parse(format!("{file}: the file is empty, a header with the columns' names is needed")));
        }
        Ok(rows)
    }

    /// Goes to the next row, where there is one.
    pub(super) fn advance(&mut self) -> Result<bool> {
        self.reader.read_record(&mut self.record).map_err(|error| self.unreadable(error))
    }

    /// The error for a file without any rows.
    pub(super) fn none(&self) -> Error {
        Error::Parse(format!("{}: no rows below the header", self.file.display()))
    }

    pub(super) fn column(&self, name: &str) -> Result<usize> {
        self.headers.iter().position(|header| header == name).ok_or_else(|| {
            let file = self.file.display();
            Error::NotFound(format!("{file}: there is no column '{name}', only '{}'", self.headers.join("', '")))
        })
    }

    /// The number of the row: the first after the header is 1.
    fn row(&self) -> u64 {
        self.record.position().map_or(0, Position::record)
    }

    /// Whether no field of the row in these columns is empty.
    fn has_all(&self, columns: &[usize]) -> bool {
        columns.iter().all(|&column| !self.text(column).is_empty())
    }

    /// A field of the row, without the spaces around it.
    pub(super) fn text(&self, column: usize) -> &str {
        self.record[column].trim_ascii()
    }

    pub(super) fn number(&self, column: usize) -> Result<f64> {
        let field = &self.record[column];
        // Most have no spaces around them.
        match field.parse::<f64>().or_else(|_| field.trim_ascii().parse()) {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) => Err(self.fault(column, "is not finite")),
            Err(_) => Err(self.fault(column, "is not a number")),
        }
    }

    /// The size of a label's noise: not negative, and infinite where the label says nothing.
    fn noise(&self, column: usize, what: &str) -> Result<f64> {
        match self.text(column).parse::<f64>() {
            Ok(number) if number < 0.0 => Err(self.fault(column, &format!("is negative, {what} never is"))),
            Ok(number) if number.is_infinite() && self.text(column).bytes().any(|byte| byte.is_ascii_digit()) => {
                Err(self.fault(column, "is beyond f64; where the label says nothing, 'inf' does"))
            }
            Ok(number) if !number.is_nan() => Ok(number),
            _ => Err(self.fault(column, "is not a number")),
        }
    }

    /// A parse error about a field of the row.
    #[cold]
    pub(super) fn fault(&self, column: usize, fault: &str) -> Error {
        let (row, name) = (self.row(), &self.headers[column]);
        Error::Parse(format!("{}: row {row}, column '{name}': '{}' {fault}", self.file.display(), self.text(column)))
    }

    /// What the reader's error says of the file.
    fn unreadable(&self, error: ::csv::Error) -> Error {
        let (file, message) = (self.file.display(), error.to_string());
        let row = |position: Option<Position>| position.map_or(0, |position| position.record());
        match error.into_kind() {
            ErrorKind::Io(error) => Error::io(&self.file, error),
            ErrorKind::UnequalLengths { pos, expected_len, len } => {
                Error::Parse(format!("{file}: row {} has {len} fields, the header has {expected_len}", row(pos)))
            }
            ErrorKind::Utf8 { pos, err } if err.field() < self.headers.len() => {
                let name = &self.headers[err.field()];
                Error::Parse(format!("{file}: row {}, column '{name}': is not UTF-8", row(pos)))
            }
            _ => Error::Parse(format!("{file}: {message}")),
        }
    }
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
            unseen.ends_with("row 2, column 'k': 'green' is none of the categories '10', 'blue', 'red'"),
            "{unseen}"
        );
        assert!(fault("h,k\n0,red\n", &used).contains("there is no column 'a'"));
        assert!(fault("h,a,k\n0,7,red\n", &options).starts_with("csv.categories: does not have 'k'"));
        for (categories, message) in [
            (("a", &["1"][..]), "csv.categories.a: is given, must be left out"),
            (("k", &["1", "1"][..]), "csv.categories.k: is [\"1\", \"1\"], must be a list of different values"),
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
        assert!(message("x,y\n1,2\n1,abc\n", y).ends_with("data.csv: row 2, column 'y': 'abc' is not a number"));
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
        assert!(message("x,y\n,1\n", r#"{"labels":["y"],"skip_missing":true}"#).ends_with("no rows below the header"));
        // Only in columns that are used.
        let data = read("w,x,y\n,1,1\n3,,2\n3,4,3\n", r#"{"labels":["y"],"features":["x"],"skip_missing":true}"#);
        assert_eq!(data.unwrap().labels(), [1.0, 3.0]);
    }
}
