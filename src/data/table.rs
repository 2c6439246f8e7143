//! The rows of a CSV file, and the place of a fault in it.

use super::text_file::{self, Broken, Quotes, open, unreadable};
use crate::base::error::quoted;
use crate::{Error, Result};
use csv::{ErrorKind, Position, Reader, ReaderBuilder, StringRecord};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How much of a file is read at once, in bytes.
const BUFFER: usize = 64 << 10;

/// The most characters of a field that a message repeats.
const SHOWN: usize = 80;

/// A CSV file, row by row, each as long as the header.
pub(super) struct Rows {
    file: PathBuf,
    delimiter: u8,
    headers: Vec<String>,
    places: HashMap<String, Places>,
    reader: Reader<Quotes<Box<dyn Read>>>,
    /// The present row.
    record: StringRecord,
}

/// The columns of one name.
struct Places {
    first: usize,
    second: Option<usize>,
}

impl Rows {
    pub(super) fn open(path: &Path, delimiter: char) -> Result<Self> {
        let delimiter = delimiter as u8;
        let input = Quotes::new(open(path)?, delimiter);
        let reader = ReaderBuilder::new().delimiter(delimiter).buffer_capacity(BUFFER).from_reader(input);
        let (file, record) = (path.into(), StringRecord::new());
        let mut rows = Rows { file, delimiter, headers: vec![], places: HashMap::new(), reader, record };
        let headers = rows.reader.headers().cloned().map_err(|error| rows.unreadable(error))?;
        rows.headers = headers.iter().map(|name| name.trim().into()).collect();
        if rows.headers.iter().all(String::is_empty) {
            let file = path.display();
            return Err(Error::Parse(format!("{file}: the file is empty, a header with the columns' names is needed")));
        }
        for (at, name) in rows.headers.iter().enumerate() {
            let places = rows.places.entry(name.clone()).or_insert(Places { first: at, second: None });
            if places.first != at {
                places.second.get_or_insert(at);
            }
        }
        Ok(rows)
    }

    /// Goes to the next row, where there is one.
    pub(super) fn advance(&mut self) -> Result<bool> {
        self.reader.read_record(&mut self.record).map_err(|error| self.unreadable(error))
    }

    /// The error for a file of which no row was taken.
    pub(super) fn none(&self) -> Error {
        let file = self.file.display();
        Error::Parse(match self.reader.position().record() {
            ..=1 => format!("{file}: no rows below the header"),
            after => format!("{file}: each of the {} rows has an empty field in a column that is used", after - 1),
        })
    }

    /// The columns' names, without the spaces around them.
    pub(super) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// The place of the column `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Parse`] where the header has the name twice, or where it is empty.
    pub(super) fn column(&self, name: &str) -> Result<usize> {
        let file = self.file.display();
        match self.places.get(name) {
            Some(&Places { first, .. }) if name.is_empty() => {
                let column = first + 1;
                Err(Error::Parse(format!(
                    "{file}: column {column} of the header has no name: name it, or list the features"
                )))
            }
            Some(&Places { first, second: None }) => Ok(first),
            Some(&Places { first, second: Some(second) }) => {
                let (first, second) = (first + 1, second + 1);
                Err(Error::Parse(format!(
                    "{file}: the header has '{name}' twice, as columns {first} and {second}: rename one of them"
                )))
            }
            None => {
                let (headers, hint) = (quoted(&self.headers), self.delimiter_hint());
                Err(Error::NotFound(format!("{file}: there is no column '{name}', only {headers}{hint}")))
            }
        }
    }

    /// What a header of one column with another delimiter in its name suggests.
    fn delimiter_hint(&self) -> String {
        let [header] = &self.headers[..] else { return String::new() };
        let others = [';', '\t', '|', ','].into_iter().filter(|&other| other as u8 != self.delimiter);
        let mut others = others.filter(|&other| header.contains(other));
        others.next().map_or_else(String::new, |other| format!(": is csv.delimiter '{}'?", other.escape_default()))
    }

    /// The number of the row: the first after the header is 1.
    pub(super) fn row(&self) -> u64 {
        self.record.position().map_or(0, Position::record)
    }

    /// The first of these columns in which the row's field is empty.
    pub(super) fn gap(&self, columns: &[usize]) -> Option<&str> {
        columns.iter().find(|&&column| self.text(column).is_empty()).map(|&column| self.headers[column].as_str())
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
    pub(super) fn noise(&self, column: usize, what: &str) -> Result<f64> {
        match self.text(column).parse::<f64>() {
            Ok(number) if number < 0.0 => Err(self.fault(column, &format!("is negative, {what} never is"))),
            Ok(number) if number.is_infinite() && self.text(column).bytes().any(|byte| byte.is_ascii_digit()) => {
                Err(self.fault(column, "is beyond f64; where the label says nothing, 'inf' does"))
            }
            Ok(number) if !number.is_nan() => Ok(number),
            _ => Err(self.fault(column, "is not a number")),
        }
    }

    /// File, line, row and column of a field of the row.
    #[cold]
    pub(super) fn place_of(&self, column: usize) -> String {
        let lines_before = (0..column).map(|column| lines_in(&self.record[column])).sum();
        let place = self.place(self.record.position(), lines_before);
        format!("{place}, column '{}'", self.headers[column])
    }

    /// A parse error about a field of the row.
    #[cold]
    pub(super) fn fault(&self, column: usize, fault: &str) -> Error {
        let text = self.text(column);
        let shown = match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text.into(),
        };
        Error::Parse(format!("{}: '{shown}' {fault}", self.place_of(column)))
    }

    /// File, line and row of a record, or of what stands `lines` lines below its first.
    fn place(&self, position: Option<&Position>, lines: u64) -> String {
        let file = self.file.display();
        let Some(position) = position else { return format!("{file}") };
        let line = text_file::line(&self.file, position.byte()).map(|line| format!(" line {}", line + lines));
        let row = match position.record() {
            0 => None,
            row => Some(format!(" row {row}")),
        };
        let parts: Vec<String> = line.into_iter().chain(row).collect();
        format!("{file}:{}", parts.join(","))
    }

    /// What the reader's error says of the file.
    fn unreadable(&self, error: csv::Error) -> Error {
        let (file, message) = (self.file.display(), error.to_string());
        match error.into_kind() {
            ErrorKind::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Broken>()) {
                Some(broken) => self.broken(broken),
                None => unreadable(&self.file, error),
            },
            ErrorKind::UnequalLengths { pos, expected_len, len } => {
                let place = self.place(pos.as_ref(), 0);
                Error::Parse(format!("{place} has {len} fields, the header has {expected_len}"))
            }
            ErrorKind::Utf8 { pos, err } => {
                let column = match self.headers.get(err.field()) {
                    Some(name) => format!("column '{name}'"),
                    None => format!("column {} of the header", err.field() + 1),
                };
                let place = self.place(pos.as_ref(), 0);
                Error::Parse(format!(
                    "{place}, {column}: is not UTF-8 (Latin-1, as Excel writes?): save the file as UTF-8"
                ))
            }
            _ => Error::Parse(format!("{file}: {message}")),
        }
    }

    /// What is wrong, with the line, the row and the column where it is.
    fn broken(&self, broken: &Broken) -> Error {
        let file = self.file.display();
        let place = || -> Option<String> {
            // The bytes before it and one more, so that the last field is the one in which it is.
            let input = open(&self.file).ok()?.take(broken.at).chain(&b"x"[..]);
            let mut reader = ReaderBuilder::new().delimiter(self.delimiter).flexible(true).from_reader(input);
            // The own headers may not be there yet.
            let headers = reader.headers().ok()?.clone();
            let (mut record, mut column, mut row) = (csv::ByteRecord::new(), headers.len(), 0);
            while reader.read_byte_record(&mut record).ok()? {
                (row, column) = (record.position()?.record(), record.len());
            }
            let line = text_file::line(&self.file, broken.at)?;
            Some(match headers.get(column - 1) {
                Some(name) if row > 0 => format!(" line {line}, row {row}, column '{}':", name.trim()),
                _ => format!(" line {line}, column {column}:"),
            })
        };
        Error::Parse(format!("{file}:{} {}", place().unwrap_or_default(), broken.what))
    }
}

/// How many line ends a text has.
fn lines_in(text: &str) -> u64 {
    text.replace("\r\n", "\n").matches(['\r', '\n']).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The texts of the column `name`, or the message without the folder's name.
    fn column(content: &[u8], delimiter: char, name: &str) -> std::result::Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        std::fs::write(&path, content).unwrap();
        let read = || {
            let mut rows = Rows::open(&path, delimiter)?;
            let column = rows.column(name)?;
            let mut texts = vec![];
            while rows.advance()? {
                texts.push(rows.text(column).to_string());
            }
            Ok(texts)
        };
        read().map_err(|error: Error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    fn fault(content: &[u8]) -> String {
        column(content, ',', "x").unwrap_err()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_name_that_is_there_twice_is_no_column() {
        let doubled = "data.csv: the header has 'x' twice, as columns 1 and 3: rename one of them";
        for header in ["x,y,x", "x,y, x ", "\"x\",y,x\t", "\u{feff}x,y,x,x"] {
            assert_eq!(fault(format!("{header}\n1,2,3\n").as_bytes()), doubled);
        }
        assert_eq!(column(b"x,y,y\n1,2,3\n", ',', "x").unwrap(), ["1"], "another column's name does not matter");
        let unnamed = column(b"x,,y\n1,2,3\n", ',', "").unwrap_err();
        assert!(unnamed.starts_with("data.csv: column 2 of the header has no name"), "{unnamed}");
    }

    #[test]
    fn a_quote_that_is_not_closed_is_named_with_its_place() {
        let text = "the quote that opens here is not closed before the field ends";
        let start = |content: &str, place: &str| {
            let found = fault(content.as_bytes());
            assert!(found.starts_with(&format!("data.csv: {place} {text}")), "{found}");
        };
        start("x,y,note\n1,10,ok\n2,20,\"5 inch\n3,30,ok\n4,40,ok\n", "line 3, row 2, column 'note':");
        start("x,y\n\"1,2\n", "line 2, row 1, column 'x':");
        start("x, y\n1,2\n3,\"4\n5,6\n7,\"8\n", "line 3, row 2, column 'y':");
        start("x,y\n\n\"a\nb\",1\n1,\"2\n", "line 5, row 2, column 'y':");
        start("x,\"y\n1,2\n", "line 1, column 2:");
        // Also where it is far from the beginning, and in a gzip file.
        let mut long = "x,y\n".to_string() + &"1,\"2\"\n".repeat(50_000) + "3,\"4\n" + &"5,6\n".repeat(50_000);
        start(&long, "line 50002, row 50001, column 'y':");
        let packed = fault(&gzip(long.as_bytes()));
        assert!(packed.starts_with("data.csv: line 50002, row 50001, column 'y':"), "{packed}");
        long = long.replace("3,\"4\n", "3,4\n");
        assert_eq!(column(&gzip(long.as_bytes()), ',', "y").unwrap().len(), 100_001);
    }

    #[test]
    fn places_count_blank_lines_and_lines_within_fields() {
        let place = |content: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("data.csv");
            std::fs::write(&path, content).unwrap();
            let mut rows = Rows::open(&path, ',').unwrap();
            while rows.advance().unwrap() {
                if let Err(error) = rows.number(1) {
                    return error.to_string().split_once("data.csv: ").unwrap().1.to_string();
                }
            }
            unreachable!("no fault in {content:?}");
        };
        let fault = "column 'y': 'z' is not a number";
        assert_eq!(place("x,y\n1,2\n1,z\n"), format!("line 3, row 2, {fault}"));
        assert_eq!(place("\n\nx,y\n\n1,2\n\r\n\n1,z\n"), format!("line 8, row 2, {fault}"));
        assert_eq!(place("x,y\r1,2\r1,z\r"), format!("line 3, row 2, {fault}"));
        assert_eq!(place("x,y\r\n\"a\nb\",2\r\n\"c\nd\",z\r\n"), format!("line 5, row 2, {fault}"));
        let long = place(&format!("x,y\n1,{}\n", "ä".repeat(100)));
        assert_eq!(long, format!("line 2, row 1, column 'y': '{}...' is not a number", "ä".repeat(80)));
    }

    #[test]
    fn files_that_are_no_csv_are_named() {
        let utf16 = |order: fn(u16) -> [u8; 2]| "\u{feff}x,y\n1,2\n".encode_utf16().flat_map(order).collect::<Vec<_>>();
        for (content, expected) in [
            (utf16(u16::to_le_bytes), "the file is UTF-16"),
            (utf16(u16::to_be_bytes), "the file is UTF-16"),
            (utf16(u16::to_le_bytes)[2..].to_vec(), "line 1, column 1: the file is binary or UTF-16"),
            (b"PK\x03\x04rest".to_vec(), "the file is an Excel workbook or another zip file: save the sheet"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1".to_vec(), "the file is an old Excel workbook"),
            (b"PAR1\x15".to_vec(), "the file is a Parquet file"),
            (gzip(&gzip(b"x,y\n1,2\n")), "the file is a gzip file in a gzip file"),
            (gzip(b"PK\x03\x04rest"), "the file is an Excel workbook"),
            (gzip(b"x,y\n1,2\n")[..15].to_vec(), "the gzip file is damaged or cut short"),
            (b"<!DOCTYPE html><html>".to_vec(), "the file is a web page"),
            (b"\n <html>".to_vec(), "the file is a web page"),
            (b"{\"x\": [1]}".to_vec(), "the file is JSON"),
            (b"version https://git-lfs.github.com/spec/v1".to_vec(), "the file is the pointer to a file in Git LFS"),
            (b"sep=;\nx;y\n1;2\n".to_vec(), "line 1 is a note to Excel, 'sep=;': remove the line and give the option"),
            (b"\xef\xbb\xbf\"sep=\t\"\r\n".to_vec(), "line 1 is a note to Excel, 'sep=\\t'"),
            (b"gr\xf6\xdfe,y\n1,2\n".to_vec(), "line 1, column 1 of the header: is not UTF-8"),
            (b"x,y\n1,2\n\nM\xfcller,2\n".to_vec(), "line 4, row 2, column 'x': is not UTF-8"),
            (b"x;y\n1;2\n".to_vec(), "there is no column 'x', only 'x;y': is csv.delimiter ';'?"),
            (b"x\ty\n1\t2\n".to_vec(), "there is no column 'x', only 'x\ty': is csv.delimiter '\\t'?"),
            (b"".to_vec(), "the file is empty"),
            (b"\n\n".to_vec(), "the file is empty"),
            (b"x,y\n1,2\n\n1,2,3\n".to_vec(), "line 4, row 2 has 3 fields, the header has 2"),
        ] {
            let found = fault(&content);
            assert!(found.starts_with(&format!("data.csv: {expected}")), "{found}");
        }
        assert_eq!(column(&gzip(b"\xef\xbb\xbfx\t, y\n1,2\n"), ',', "x").unwrap(), ["1"]);
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.csv");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let refused = Rows::open(&pipe, ',').err().unwrap().to_string();
        assert!(refused.ends_with("pipe.csv: a pipe or a device, not a file"), "{refused}");
    }

    #[test]
    fn a_list_of_many_columns_is_shortened() {
        let header: Vec<String> = (0..100_000).map(|k| format!("c{k}")).collect();
        let found = fault(header.join(",").as_bytes());
        assert!(found.ends_with("'c19', ... (99980 more)") && found.len() < 300, "{found}");
    }
}
