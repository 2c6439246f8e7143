//! Data sets from CSV files with a header.

use super::Dataset;
use crate::array::{collect, reserve};
use crate::options::require;
use crate::{Error, Result};
use ::csv::{ByteRecord, ReaderBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    #[serde(default = "unity")]
    pub error_divisor: f64,
    /// The feature columns, in this order; without them, all that have no other role.
    pub features: Option<Vec<String>>,
    /// Feature columns that are categories: one feature per distinct value, in sorted order.
    #[serde(default)]
    pub one_hot: Vec<String>,
    /// Feature columns that go round, with their period (24 for an hour): a cosine and a sine each.
    #[serde(default)]
    pub cyclic: BTreeMap<String, f64>,
    /// What separates the fields, one ASCII character (default ',').
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Whether a row with an empty field in a column that is used is left out instead of an error (default false).
    #[serde(default)]
    pub skip_missing: bool,
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

impl Dataset {
    /// Reads a CSV file.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a file or column that is not there; [`Error::Parse`]
    /// with row (the first after the header is 1) and column for what is not a number;
    /// [`Error::InvalidConfig`] for options that contradict each other.
    pub fn from_csv(path: &Path, options: &CsvOptions) -> Result<Self> {
        validate(options)?;
        let mut table = Table::read(path, options.delimiter)?;
        let targets: Vec<&String> =
            [&options.labels, &options.variances, &options.standard_errors].into_iter().flatten().collect();
        let features: Vec<String> = match &options.features {
            Some(names) => names.clone(),
            None => table.headers.iter().filter(|name| !targets.contains(name)).cloned().collect(),
        };
        for name in options.one_hot.iter().chain(options.cyclic.keys()) {
            require(features.contains(name), "csv", format!("'{name}' not a feature"), "one of the features")?;
        }
        if options.skip_missing {
            let used = features.iter().chain(targets).map(|name| table.column(name)).collect::<Result<Vec<_>>>()?;
            let mut rows = std::mem::take(&mut table.rows);
            rows.retain(|&row| used.iter().all(|&column| !table.field(row, column).is_empty()));
            table.rows = rows;
        }

        let encoders = features.iter().map(|name| Encoder::new(&table, name, options)).collect::<Result<Vec<_>>>()?;
        let (rows, width) = (table.rows()?, encoders.iter().map(Encoder::width).sum::<usize>());
        let mut x = reserve(rows.saturating_mul(width))?;
        for row in 0..rows {
            for encoder in &encoders {
                encoder.encode(&table, row, &mut x)?;
            }
        }
        let labels = table.matrix(&options.labels)?;
        let variances = if !options.variances.is_empty() {
            Some(table.matrix(&options.variances)?)
        } else if !options.standard_errors.is_empty() {
            let errors = table.matrix(&options.standard_errors)?;
            let columns = options.standard_errors.len();
            if let Some(at) = errors.iter().position(|&error| error < 0.0) {
                let column = table.column(&options.standard_errors[at % columns])?;
                return Err(table.fault(at / columns, column, "is negative, a standard error never is"));
            }
            Some(errors.into_iter().map(|error| (error / options.error_divisor).powi(2)).collect())
        } else {
            None
        };
        Dataset::new(x, vec![width], labels, options.labels.len(), variances)
    }
}

fn validate(options: &CsvOptions) -> Result<()> {
    let labels = options.labels.len();
    require(labels >= 1, "csv.labels", "empty", "at least one column")?;
    for (name, columns) in [("variances", &options.variances), ("standard_errors", &options.standard_errors)] {
        let path = format!("csv.{name}");
        let allowed = format!("as many columns as labels, {labels}");
        require(columns.is_empty() || columns.len() == labels, &path, columns.len(), &allowed)?;
    }
    let both = !options.variances.is_empty() && !options.standard_errors.is_empty();
    require(!both, "csv.standard_errors", "given beside variances", "left out")?;
    require(options.delimiter.is_ascii(), "csv.delimiter", options.delimiter, "one ASCII character")?;
    require(options.error_divisor > 0.0, "csv.error_divisor", options.error_divisor, "greater than 0")?;
    for (name, &period) in &options.cyclic {
        require(period > 0.0, &format!("csv.cyclic.{name}"), period, "greater than 0")?;
    }
    Ok(())
}

/// How one column becomes features.
enum Encoder {
    Number(usize),
    OneHot(usize, Vec<String>),
    Cyclic(usize, f64),
}

impl Encoder {
    fn new(table: &Table, name: &str, options: &CsvOptions) -> Result<Self> {
        let column = table.column(name)?;
        Ok(if options.one_hot.iter().any(|other| other == name) {
            Encoder::OneHot(column, table.levels(column))
        } else if let Some(&period) = options.cyclic.get(name) {
            Encoder::Cyclic(column, period)
        } else {
            Encoder::Number(column)
        })
    }

    /// How many features it becomes.
    fn width(&self) -> usize {
        match self {
            Encoder::Number(_) => 1,
            Encoder::OneHot(_, levels) => levels.len(),
            Encoder::Cyclic(..) => 2,
        }
    }

    fn encode(&self, table: &Table, row: usize, features: &mut Vec<f32>) -> Result<()> {
        match self {
            Encoder::Number(column) => features.push(table.number(row, *column)? as f32),
            Encoder::OneHot(column, levels) => {
                let value = table.text(row, *column);
                features.extend(levels.iter().map(|level| if level == value { 1.0 } else { 0.0 }));
            }
            Encoder::Cyclic(column, period) => features.extend(cyclic(table.number(row, *column)? / period)),
        }
        Ok(())
    }
}

/// Cosine and sine of a position on a circle of circumference 1.
pub(super) fn cyclic(turns: f64) -> [f32; 2] {
    let (sine, cosine) = (TAU * turns).sin_cos();
    [cosine as f32, sine as f32]
}

/// A CSV file in memory, every row as long as the header.
pub(super) struct Table {
    file: String,
    headers: Vec<String>,
    /// All fields below the header, one after the other, and where each ends.
    text: String,
    ends: Vec<usize>,
    /// The rows that count, by their number in the file.
    rows: Vec<usize>,
}

impl Table {
    pub(super) fn read(path: &Path, delimiter: char) -> Result<Self> {
        let file = path.display().to_string();
        let input = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
        let mut reader = ReaderBuilder::new().delimiter(delimiter as u8).buffer_capacity(1 << 18).from_reader(input);
        let parse = |error: ::csv::Error| {
            let message = error.to_string();
            match error.into_kind() {
                ::csv::ErrorKind::Io(error) => Error::io(path, error),
                ::csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                    let row = pos.map_or(0, |position| position.record());
                    Error::Parse(format!("{file}: row {row} has {len} fields, the header has {expected_len}"))
                }
                _ => Error::Parse(format!("{file}: {message}")),
            }
        };
        let headers: Vec<String> =
            reader.headers().map_err(parse)?.iter().map(|name| name.trim_matches(['\u{feff}', ' ']).into()).collect();
        if headers.iter().all(String::is_empty) {
            return Err(Error::Parse(format!("{file}: the file is empty, a header with the columns' names is needed")));
        }
        let (mut text, mut ends, mut record) = (Vec::new(), Vec::new(), ByteRecord::new());
        let full = |_| Error::OutOfMemory(format!("{file}: no memory for the file"));
        while reader.read_byte_record(&mut record).map_err(parse)? {
            text.try_reserve(record.as_slice().len()).map_err(full)?;
            ends.try_reserve(headers.len()).map_err(full)?;
            let start = text.len();
            text.extend_from_slice(record.as_slice());
            ends.extend((0..record.len()).filter_map(|column| record.range(column)).map(|range| start + range.end));
        }
        let text = String::from_utf8(text).map_err(|error| {
            let field = ends.partition_point(|&end| end <= error.utf8_error().valid_up_to());
            let (row, name) = (field / headers.len() + 1, &headers[field % headers.len()]);
            Error::Parse(format!("{file}: row {row}, column '{name}': is not UTF-8"))
        })?;
        let rows = collect(0..ends.len() / headers.len())?;
        Ok(Table { file, headers, text, ends, rows })
    }

    /// The number of rows, at least 1.
    pub(super) fn rows(&self) -> Result<usize> {
        match self.rows.len() {
            0 => Err(Error::Parse(format!("{}: no rows below the header", self.file))),
            rows => Ok(rows),
        }
    }

    pub(super) fn column(&self, name: &str) -> Result<usize> {
        self.headers.iter().position(|header| header == name).ok_or_else(|| {
            let file = &self.file;
            Error::NotFound(format!("{file}: there is no column '{name}', only '{}'", self.headers.join("', '")))
        })
    }

    pub(super) fn text(&self, row: usize, column: usize) -> &str {
        self.field(self.rows[row], column)
    }

    /// A field of row number `row` of the file, without the spaces around it.
    fn field(&self, row: usize, column: usize) -> &str {
        let at = row * self.headers.len() + column;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        // Halves of a character in two fields are valid together, and nothing by themselves.
        let text = self.text.get(start..self.ends[at]).unwrap_or("\u{fffd}");
        text.trim_ascii()
    }

    pub(super) fn number(&self, row: usize, column: usize) -> Result<f64> {
        let text = self.text(row, column);
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) => Err(self.fault(row, column, "is not finite")),
            Err(_) => Err(self.fault(row, column, "is not a number")),
        }
    }

    /// A parse error about one field.
    pub(super) fn fault(&self, row: usize, column: usize, fault: &str) -> Error {
        let (file, name, text) = (&self.file, &self.headers[column], self.text(row, column));
        Error::Parse(format!("{file}: row {}, column '{name}': '{text}' {fault}", self.rows[row] + 1))
    }

    fn matrix(&self, names: &[String]) -> Result<Vec<f64>> {
        let columns = names.iter().map(|name| self.column(name)).collect::<Result<Vec<_>>>()?;
        let fields = (0..self.rows()?).flat_map(|row| columns.iter().map(move |&column| (row, column)));
        fields.map(|(row, column)| self.number(row, column)).collect()
    }

    /// The distinct values of a column: in numerical order if all are numbers, else in alphabetical.
    fn levels(&self, column: usize) -> Vec<String> {
        let mut levels: Vec<String> = (0..self.rows.len()).map(|row| self.text(row, column).into()).collect();
        levels.sort();
        levels.dedup();
        if let Ok(numbers) = levels.iter().map(|level| level.parse::<f64>()).collect::<std::result::Result<Vec<_>, _>>()
        {
            let mut order: Vec<(f64, String)> = numbers.into_iter().zip(levels).collect();
            order.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            levels = order.into_iter().map(|(_, level)| level).collect();
        }
        levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str, options: &str) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        std::fs::write(&path, content).unwrap();
        Dataset::from_csv(&path, &crate::options::parse("csv", options)?)
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
        let data = read("k,y\n10,1\n9,1\n", r#"{"labels":["y"],"one_hot":["k"]}"#).unwrap();
        assert_eq!(*data.feature_values().unwrap(), [0.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn faults_are_named_with_file_row_and_column() {
        let y = r#"{"labels":["y"]}"#;
        assert!(message("x,y\n1,2\n1,abc\n", y).ends_with("data.csv: row 2, column 'y': 'abc' is not a number"));
        assert!(message("x,y\n1,inf\n", y).ends_with("'inf' is not finite"));
        assert!(message("x,y\n,1\n", y).ends_with("row 1, column 'x': '' is not a number"));
        assert!(message("x,y\n1,2\n1\n", y).ends_with("row 2 has 1 fields, the header has 2"));
        assert!(message("", y).contains("the file is empty"));
        assert!(message("x,y\n", y).ends_with("no rows below the header"));
        assert!(message("x,z\n1,2\n", y).ends_with("there is no column 'y', only 'x', 'z'"));
        let missing = Dataset::from_csv(Path::new("/no/such.csv"), &crate::options::parse("csv", y).unwrap());
        assert_eq!(missing.unwrap_err().to_string(), "/no/such.csv: no such file or folder");
        assert!(message("x,y\n1,2\n", r#"{"labels":["y"],"variances":["x","x"]}"#).contains("csv.variances: is 2"));
        assert!(
            message("x,v,y\n1,-2,2\n", r#"{"labels":["y"],"variances":["v"]}"#).contains("-2 must not be negative")
        );
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
    }
}
