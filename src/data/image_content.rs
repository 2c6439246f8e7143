//! What the bytes of a file are, whatever its name says, and where the picture in them ends.

use memchr::{memchr, memmem};

/// A format of images that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    WebP,
}

/// How the formats begin. Of WebP the file's length comes next, and then its name.
const JPEG: &[u8] = b"\xff\xd8\xff";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const RIFF: &[u8] = b"RIFF";

/// How many bytes tell what another file is.
const START: usize = 512;

/// How other files begin, and what they are. The number is where the bytes stand.
const OTHERS: [(usize, &[u8], &str); 29] = [
    (0, b"version https://git-lfs", "is the pointer to a file in Git LFS ('git lfs pull' fetches the file itself)"),
    (0, b"/annex/objects/", "is the pointer to a file in git-annex ('git annex get' fetches the file itself)"),
    (0, b"\x89PNG", "is PNG that was changed when it was copied, as line ends of a text are"),
    (0, b"%PDF-", "is a PDF"),
    (0, b"GIF8", "is GIF"),
    (0, b"BM", "is BMP"),
    (0, b"II*\0", "is TIFF or a camera's raw file"),
    (0, b"MM\0*", "is TIFF or a camera's raw file"),
    (4, b"ftypavi", "is AVIF"),
    (4, b"ftyphe", "is HEIC"),
    (4, b"ftypmif1", "is HEIC or AVIF"),
    (4, b"ftypmsf1", "is HEIC or AVIF"),
    (4, b"ftypcrx", "is a camera's raw file"),
    (4, b"ftyp", "is a video"),
    (4, b"jP  ", "is JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "is JPEG 2000"),
    (4, b"JXL ", "is JPEG XL"),
    (0, b"\xff\x0a", "is JPEG XL"),
    (0, b"8BPS", "is a Photoshop document"),
    (0, b"\0\0\x01\0", "is an icon"),
    (0, b"qoif", "is QOI"),
    (0, b"\x76\x2f\x31\x01", "is OpenEXR"),
    (128, b"DICM", "is DICOM"),
    (0, b"\x93NUMPY", "is a NumPy array"),
    (0, b"\x89HDF", "is an HDF5 file"),
    (0, b"\0\x05\x16\x07", "is what macOS notes of another file"),
    (0, b"PK\x03\x04", "is a zip file"),
    (0, b"\x1f\x8b", "is a gzip file"),
    (0, RIFF, "is a sound or a video"),
];

/// The format of the picture at the beginning of a file, and its bytes without those that follow its end, of which
/// there may be some: phones append videos and second pictures.
///
/// # Errors
/// What the file is instead, or that the picture is cut short.
pub(super) fn picture(bytes: &[u8]) -> Result<(Format, &[u8]), String> {
    let (format, end) = if bytes.starts_with(JPEG) {
        (Format::Jpeg, end_of_jpeg(bytes))
    } else if bytes.starts_with(PNG) {
        (Format::Png, end_of_png(bytes))
    } else if bytes.starts_with(RIFF) && bytes.get(8..12) == Some(b"WEBP") {
        (Format::WebP, end_of_webp(bytes))
    } else {
        return Err(other(bytes));
    };
    let picture = end.and_then(|end| bytes.get(..end));
    picture.map(|picture| (format, picture)).ok_or_else(|| CUT_SHORT.into())
}

const CUT_SHORT: &str = "the end of the image is missing";

/// The place after a JPEG's own end marker, which is found from segment to segment: other pictures in them, as in EXIF,
/// have end markers too.
fn end_of_jpeg(jpeg: &[u8]) -> Option<usize> {
    let (mut at, mut scan) = (2, None);
    loop {
        // A scan's data run to the next marker; between segments a decoder passes over such bytes, too.
        at += memchr(0xff, jpeg.get(at..)?)?;
        // A marker may have more than one 0xff before its code.
        at += jpeg[at..].iter().position(|&byte| byte != 0xff)? + 1;
        match jpeg[at - 1] {
            // A 0xff of the data, and markers without a length.
            0x00 | 0x01 | 0xd0..=0xd7 => {}
            0xd9 => break,
            // Another picture begins.
            0xd8 => return None,
            // What never stands between scans or after them.
            marker if scan.is_some() && !matches!(marker, 0xc4 | 0xda..=0xdd | 0xe0..=0xef | 0xfe) => return None,
            marker => {
                let length = usize::from(u16::from_be_bytes(*jpeg[at..].first_chunk()?));
                at += if length < 2 { return None } else { length };
                if marker == 0xda {
                    scan.get_or_insert(at);
                }
            }
        }
    }
    // In the data of a scan that breaks off, the marker found may be of what was appended: of a video, whose first box
    // is "ftyp" with a length of less than 256.
    let data = &jpeg[scan.unwrap_or(at).min(at)..at];
    let begins_video = |place: usize| place >= 4 && data[place - 4..].starts_with(&[0, 0, 0]);
    (!memmem::find_iter(data, b"ftyp").any(begins_video)).then_some(at)
}

/// The place after a PNG's last chunk.
fn end_of_png(png: &[u8]) -> Option<usize> {
    let mut at = PNG.len();
    loop {
        let length = u32::from_be_bytes(*png.get(at..)?.first_chunk()?) as usize;
        let is_last = png.get(at + 4..at + 8)? == b"IEND";
        // Length, type and checksum have four bytes each.
        at = at.checked_add(12)?.checked_add(length)?;
        if is_last {
            return Some(at);
        }
    }
}

/// The place after a WebP's last chunk, from the length at its beginning. A program that was stopped has left a 0 there.
fn end_of_webp(webp: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*webp.get(4..)?.first_chunk()?);
    (length as usize).checked_add(8).filter(|_| length > 0)
}

/// What a file is that is no image of a format that is read.
fn other(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(START)];
    let begins_whole = [JPEG, PNG, RIFF].iter().any(|whole| !start.is_empty() && whole.starts_with(start));
    if begins_whole || start.starts_with(RIFF) && start.len() < 12 {
        return CUT_SHORT.into();
    }
    let stands_at = |at: usize, mark: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start().to_ascii_lowercase();
    let begins = |marks: &[&str]| marks.iter().any(|mark| text.starts_with(mark.as_bytes()));
    let what = if start.is_empty() {
        "is empty"
    } else if bytes.iter().all(|&byte| byte == 0) {
        "holds nothing but zeros (a copy or a download may have failed)"
    } else if begins(&["<!doctype", "<html", "<head", "<body", "<!--"]) {
        "is a web page (a download may have failed)"
    } else if begins(&["<svg", "<?xml"]) {
        "is SVG or other XML"
    } else if let Some((.., what)) =
        OTHERS.iter().find(|(at, mark, _)| stands_at(*at, mark) && !(*mark == b"BM" && is_text(start)))
    {
        what
    } else if is_text(start) {
        "is a text"
    } else {
        "is of another format"
    };
    format!("the file {what}; only JPEG, PNG and WebP are read")
}

/// Whether a file that begins so can be a text.
fn is_text(start: &[u8]) -> bool {
    let is_whole = std::str::from_utf8(start).map_or_else(|error| error.error_len().is_none(), |_| true);
    is_whole && start.iter().all(|&byte| byte >= 0x20 || byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageFormat, RgbImage};
    use proptest::prelude::*;

    /// A JPEG of 16 x 16 grey pixels in six scans, by libjpeg.
    const PROGRESSIVE: &str = "ffd8ffe000104a46494600010100000100010000ffdb0043001b12141714111b1716171e1c1b2028422b28252\
        528513a3d3042605564645f555d5b6a7899816a7190735b5d85b586909ea3abadab6780bcc9baa6c799a8aba4ffc200 0b0800100010010111\
        00ffc4001500010100000000000000000000000000000102ffda0008010100000001288fffc4001810000301010000000000000000000000\
        0001023111ffda0008010100010502ca7da319ffc400191000030003000000000000000000000000000111213141ffda0008010100063f02\
        84c1aad0f87fffc4001f100100010401050000000000000000000001110021315141617181c1f0ffda0008010100013f218855f915ebaa71\
        44138d669cafa8edf78a5594590dc6bfffda0008010100000010dfffc4001c1001010002030101000000000000000000011121410031516\
        171ffda0008010100013f100a506540b72c1c5894c41c71a2a47b9143aee79b3a9ca0a24615c9fd619ee3eb8617b41b841f2dd77b2f3fffd9";

    /// A JPEG of 16 x 16 grey pixels with restart markers, by libjpeg.
    const RESTARTED: &str = "ffd8ffe000104a46494600010100000100010000ffdb00430050373c463c32504641465a55505f78c882786e6e7\
        8f5afb991c8ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffc0\
        000b080010001001011100ffc400160001010100000000000000000000000000000102ffc400211000011205050100000000000000000000\
        0102110021415161031231b1f0e1ffdd00040001ffda0008010100003f00336a00675049cda9d3523fffd0aa2a5b25800fc5b9c47fffd119\
        29ca7711d4e9e95a3fffd2c924ee2cccc660fb3f23ffd9";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter_map(|digit| char::from(digit).to_digit(16)).map(|d| d as u8).collect();
        digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
    }

    /// A picture whose data are not simple.
    fn noise() -> RgbImage {
        RgbImage::from_fn(40, 24, |x, y| image::Rgb([x * x * 7 + y * 131, x * y * 17, y * y * 29].map(|v| v as u8)))
    }

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut file = std::io::Cursor::new(vec![]);
        match format {
            ImageFormat::Jpeg => {
                let mut encoder = JpegEncoder::new_with_quality(&mut file, 95);
                encoder.encode(noise().as_raw(), 40, 24, ExtendedColorType::Rgb8).unwrap();
            }
            other => noise().write_to(&mut file, other).unwrap(),
        }
        file.into_inner()
    }

    fn jpegs() -> Vec<Vec<u8>> {
        let plain = encoded(ImageFormat::Jpeg);
        assert!(memmem::find(&plain, b"\xff\0").is_some(), "data with a 0xff");
        // EXIF with a picture of its own, a comment with an end marker, and markers of several bytes.
        let thumbnail = bytes(RESTARTED);
        let length = (2 + 6 + thumbnail.len()) as u16;
        let exif = [b"\xff\xe1", &length.to_be_bytes()[..], b"Exif\0\0", &thumbnail].concat();
        let comment = b"\xff\xff\xff\xfe\0\x08\xff\xd9\xff\xda\xff\xd8";
        let full = [&plain[..2], &exif, comment, b"\xff\xff", &plain[2..]].concat();
        vec![plain, full, bytes(PROGRESSIVE), bytes(RESTARTED)]
    }

    fn appended() -> Vec<Vec<u8>> {
        let video = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\x10\0mdat\xff\xda\0\x08\xff\xd8\xff\xd9\x12\xff\xd9";
        vec![vec![], vec![0; 100], video.to_vec(), bytes(PROGRESSIVE), b"\xff\xda\0\x08".to_vec(), b"\xff\xd9".to_vec()]
    }

    #[test]
    fn a_picture_ends_at_its_own_end_whatever_follows() {
        let pngs = [(Format::Png, encoded(ImageFormat::Png)), (Format::WebP, encoded(ImageFormat::WebP))];
        for (format, file) in jpegs().into_iter().map(|file| (Format::Jpeg, file)).chain(pngs) {
            for rest in appended() {
                assert_eq!(picture(&[&file[..], &rest].concat()), Ok((format, &file[..])));
            }
        }
    }

    #[test]
    fn a_picture_that_is_cut_short_has_no_end() {
        for file in [encoded(ImageFormat::Png), encoded(ImageFormat::WebP)].into_iter().chain(jpegs()) {
            for length in 1..file.len() {
                assert_eq!(picture(&file[..length]).unwrap_err(), CUT_SHORT, "{length} bytes");
            }
        }
        let mut unfinished = encoded(ImageFormat::WebP);
        unfinished[4..8].fill(0);
        assert_eq!(picture(&unfinished).unwrap_err(), CUT_SHORT);
        // The end markers of what was appended are not the picture's.
        for file in jpegs() {
            let scan = memmem::rfind(&file, b"\xff\xda").unwrap() + 2;
            let scan = scan + usize::from(file[scan + 1]);
            for rest in &appended()[..4] {
                // Not within a marker, of which the first byte and the next one's make another.
                for length in (scan..file.len() - 2).filter(|&length| file[length - 1] != 0xff) {
                    let cut = [&file[..length], rest].concat();
                    assert_eq!(picture(&cut).unwrap_err(), CUT_SHORT, "{length} bytes and {rest:x?}");
                }
            }
        }
    }

    #[test]
    fn other_files_are_named() {
        let bitmap = b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0";
        for (start, what) in [
            (&b""[..], "is empty"),
            (&[0; 600], "holds nothing but zeros"),
            (b" <!DOCTYPE html><html>", "is a web page"),
            (b"<HTML>404", "is a web page"),
            (b"\xef\xbb\xbf\r\n<!-- cached --><html>", "is a web page"),
            (b"/annex/objects/SHA256E-s1--0.jpg\n", "is the pointer to a file in git-annex"),
            (b"\x89PNG\n\x1a\n\0\0\0\rIHDR", "is PNG that was changed when it was copied"),
            (b"<?xml version='1.0'?><svg>", "is SVG or other XML"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "is the pointer to a file in Git LFS"),
            ("BMW is a Grüner".as_bytes(), "is a text"),
            (b"GIF89a\x01\0\x01\0", "is GIF"),
            (bitmap, "is BMP"),
            (b"II*\0\x08\0\0\0", "is TIFF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "is HEIC"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "is AVIF"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0", "is a video"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "is a sound or a video"),
            (b"%PDF-1.7", "is a PDF"),
            (b"\x01\x02\x03\xfe", "is of another format"),
        ] {
            let said = picture(start).unwrap_err();
            assert!(said.starts_with(&format!("the file {what}")), "{start:x?}: {said}");
            assert!(said.ends_with("only JPEG, PNG and WebP are read"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_picture_or_an_error(
            start in prop::sample::select(vec![JPEG, PNG, RIFF, b"RIFF\x40\0\0\0WEBP", b""]),
            rest in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 8, 0xc4, 0xd0, 0xd8, 0xd9, 0xda, 0xff]), 0..40),
        ) {
            let file = [start, &rest].concat();
            if let Ok((_, picture)) = picture(&file) {
                prop_assert!(file.starts_with(picture));
            }
        }
    }
}
