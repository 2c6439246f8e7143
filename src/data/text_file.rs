//! A text file of a table, as bytes: unpacked where it is gzip, and refused where it is something else.

use crate::base::files;
use crate::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use memchr::memchr2;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

/// How many bytes tell what a file is.
const START: u64 = 512;

/// How files begin that are no text, what they are, and what to do. The number is where the bytes stand.
const OTHERS: [(usize, &[u8], &str); 19] = [
    (0, b"\xff\xfe", "is UTF-16, as Excel's 'Unicode text' is: save it as UTF-8"),
    (0, b"\xfe\xff", "is UTF-16, as Excel's 'Unicode text' is: save it as UTF-8"),
    (0, b"PK\x03\x04", "is an Excel workbook or another zip file: save the sheet, or what is in it, as CSV"),
    (0, b"\xd0\xcf\x11\xe0", "is an old Excel workbook: save the sheet as CSV"),
    (0, b"PAR1", "is a Parquet file: write it as CSV"),
    (0, b"ARROW1", "is an Arrow file: write it as CSV"),
    (0, b"FEA1", "is a Feather file: write it as CSV"),
    (0, b"\x89HDF", "is an HDF5 file: write its table as CSV"),
    (0, b"MATLAB 5.0 MAT", "is a MATLAB file: write its table as CSV"),
    (0, b"\x93NUMPY", "is a NumPy array: write it as CSV with a header, or pass it as an array"),
    (0, b"SQLite format 3", "is an SQLite database: write the table as CSV"),
    (0, b"\x1f\x8b", "is a gzip file in a gzip file: unpack it once"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed by zstd: unpack it, or use gzip"),
    (0, b"\xfd7zXZ", "is compressed by xz: unpack it, or use gzip"),
    (4, b"1AY&SY", "is compressed by bzip2: unpack it, or use gzip"),
    (257, b"ustar", "is a tar file: unpack it"),
    (0, b"%PDF-", "is a PDF: export its table as CSV"),
    (0, b"{\"", "is JSON: write it as CSV"),
    (0, b"version https://git-lfs", "is the pointer to a file in Git LFS: 'git lfs pull' fetches the file itself"),
];

/// A fault in the bytes, with the place of its first one.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct Broken {
    /// How many bytes come before it.
    pub at: u64,
    /// What is wrong, to stand after the place.
    pub what: &'static str,
}

/// The bytes of a text file, without a byte order mark.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Io`]; [`Error::Parse`] for a file that is no text, with what it is.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let io = |error| Error::io(path, error);
    let refused = |what: &str| Error::Parse(format!("{}: the file {what}", path.display()));
    let mut file = BufReader::new(files::open(path)?);
    let mut input: Box<dyn Read> = if file.fill_buf().map_err(io)?.starts_with(b"\x1f\x8b") {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut start = vec![];
    input.by_ref().take(START).read_to_end(&mut start).map_err(|error| unreadable(path, error))?;
    let stands_at =
        |&&(at, bytes, _): &&(usize, &[u8], &str)| start.get(at..).is_some_and(|rest| rest.starts_with(bytes));
    if let Some((.., what)) = OTHERS.iter().find(stands_at) {
        return Err(refused(what));
    }
    start.drain(..if start.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 });
    let text = start.trim_ascii_start().to_ascii_lowercase();
    if ["<!doctype", "<html", "<?xml"].iter().any(|tag| text.starts_with(tag.as_bytes())) {
        return Err(refused("is a web page or XML: look at it in an editor, a download may have failed"));
    }
    if let Some(rest) = text.strip_prefix(b"sep=").or_else(|| text.strip_prefix(b"\"sep=")) {
        let separator = char::from(rest.first().copied().unwrap_or(b';')).escape_default();
        return Err(Error::Parse(format!(
            "{}: line 1 is a note to Excel, 'sep={separator}': remove the line and give the option csv.delimiter \
             '{separator}'",
            path.display()
        )));
    }
    Ok(Box::new(Cursor::new(start).chain(input)))
}

/// What the error of reading a file says of it.
pub(super) fn unreadable(path: &Path, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        // The system never says so of a file: the decoder does.
        InvalidData | InvalidInput | UnexpectedEof => {
            Error::Parse(format!("{}: the gzip file is damaged or cut short: {error}", path.display()))
        }
        _ => Error::io(path, error),
    }
}

/// The number of the line, as an editor counts, of the byte at `place` or, where line ends stand there, of the next
/// one that is none. `None` where the file cannot be read again.
pub(super) fn line(path: &Path, place: u64) -> Option<u64> {
    let mut input = BufReader::new(open(path).ok()?);
    let (mut line, mut before, mut at) = (1, 0, 0);
    loop {
        let bytes = input.fill_buf().ok()?;
        let length = bytes.len();
        for &byte in bytes {
            let is_end = byte == b'\r' || byte == b'\n';
            if at >= place && !is_end {
                return Some(line);
            }
            if is_end && !(byte == b'\n' && before == b'\r') {
                line += 1;
            }
            (before, at) = (byte, at + 1);
        }
        if length == 0 {
            return Some(line);
        }
        input.consume(length);
    }
}

/// Bytes of CSV in which every quoted field ends where it seems to, and no byte is 0. The parser behind it would read on
/// to the next quote, however many rows that takes.
pub(super) struct Quotes<R> {
    input: R,
    delimiter: u8,
    state: State,
    /// How many bytes came before those that are read next.
    place: u64,
    /// The last of them.
    last: u8,
    /// Where the quoted field began that is open, or was last.
    opened: u64,
}

/// Where the next byte stands.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Outside,
    Quoted,
    /// After a quote in a quoted field: its end, or the first of two.
    AfterQuote,
    /// In the spaces after the closing quote.
    Closed,
}

impl<R: Read> Quotes<R> {
    pub(super) fn new(input: R, delimiter: u8) -> Self {
        Quotes { input, delimiter, state: State::Outside, place: 0, last: b'\n', opened: 0 }
    }

    fn check(&mut self, bytes: &[u8]) -> std::result::Result<(), Broken> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Outside | State::Quoted => {
                    let Some(distance) = memchr2(b'"', 0, &bytes[at..]) else { break };
                    let quote = at + distance;
                    if bytes[quote] == 0 {
                        let what = "the file is binary or UTF-16, not text in UTF-8";
                        return Err(Broken { at: self.place + quote as u64, what });
                    }
                    if self.state == State::Quoted {
                        self.state = State::AfterQuote;
                    } else {
                        let before = if quote == 0 { self.last } else { bytes[quote - 1] };
                        // Anywhere else in a field it is a character like others: 5" is five inches.
                        if [self.delimiter, b'\r', b'\n'].contains(&before) {
                            (self.state, self.opened) = (State::Quoted, self.place + quote as u64);
                        }
                    }
                    at = quote;
                }
                State::AfterQuote | State::Closed => {
                    self.state = match bytes[at] {
                        b'"' if self.state == State::AfterQuote => State::Quoted,
                        b'\r' | b'\n' => State::Outside,
                        byte if byte == self.delimiter => State::Outside,
                        b' ' | b'\t' => State::Closed,
                        _ => return Err(self.unclosed()),
                    };
                }
            }
            at += 1;
        }
        self.place += bytes.len() as u64;
        self.last = bytes.last().copied().unwrap_or(self.last);
        Ok(())
    }

    fn unclosed(&self) -> Broken {
        let what = "the quote that opens here is not closed before the field ends; a quote in a quoted field is \
                    written twice, \"\"";
        Broken { at: self.opened, what }
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        let checked = match count {
            0 if self.state == State::Quoted && !buffer.is_empty() => Err(self.unclosed()),
            _ => self.check(&buffer[..count]),
        };
        checked.map_err(std::io::Error::other)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads by small pieces, so that every rule is tried at their borders.
    fn check(text: &[u8], piece: usize) -> std::result::Result<(), (u64, &'static str)> {
        let mut quotes = Quotes::new(text, b',');
        let mut buffer = vec![0; piece];
        loop {
            match quotes.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    let broken = error.get_ref().unwrap().downcast_ref::<Broken>().unwrap();
                    return Err((broken.at, broken.what));
                }
            }
        }
    }

    #[test]
    fn a_quote_is_closed_where_its_field_ends() {
        let unclosed = |text: &str, at: usize| {
            for piece in [1, 2, 3, 1000] {
                let found = check(text.as_bytes(), piece).unwrap_err();
                assert_eq!(found.0, at as u64, "{text:?} by {piece}");
                assert!(found.1.contains("not closed"), "{}", found.1);
            }
        };
        unclosed("a,\"5 inch\n3,ok\n", 2);
        unclosed("\"", 0);
        unclosed("a\n\"b\"\"", 2);
        unclosed("a,\"b\"c\n", 2);
        unclosed("a,\"b\" \"\n", 2);
        // The second quote that is never closed ends the first one's field, but not where a field ends.
        unclosed("1,\"5 inch\n2,ok\n3,\"6 inch\n", 2);
        unclosed("1,\"5 inch\n2,\"ok\"\n", 2);
        for right in [
            "a,\"b\"\n",
            "\"a\"\"\",\"\"\n\"x\ny\" ,5\"\n",
            "5\" pipe,6\"",
            "",
            "\"a\"",
            "\"a\"\r\n\"b\"\r",
            "\"\"\"\"",
        ] {
            for piece in [1, 2, 3, 1000] {
                assert_eq!(check(right.as_bytes(), piece), Ok(()), "{right:?} by {piece}");
            }
        }
        assert_eq!(check(b"ab\0c", 1).unwrap_err().0, 2);
    }

    proptest! {
        #[test]
        fn what_a_writer_of_csv_writes_is_right(
            rows in prop::collection::vec(prop::collection::vec("[a\",\r\n ]{0,5}", 3), 1..6),
            piece in 1usize..9,
        ) {
            let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Necessary).from_writer(vec![]);
            rows.iter().for_each(|row| writer.write_record(row).unwrap());
            prop_assert_eq!(check(&writer.into_inner().unwrap(), piece), Ok(()));
        }
    }

    #[test]
    fn lines_are_counted_as_an_editor_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        for (text, place, expected) in [
            ("a\nb\nc", 2, 2),
            ("a\r\nb\r\nc", 6, 3),
            ("a\rb\rc", 4, 3),
            // A place before blank lines is that of what follows them.
            ("a\n\n\r\n\rb", 2, 5),
            ("\u{feff}a\nb", 2, 2),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(line(&path, place), Some(expected), "{text:?}");
        }
    }
}
