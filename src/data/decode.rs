//! One image from its file.

use super::image_content::{Format, picture};
use crate::Error;
use crate::base::files;
use image::metadata::Orientation as Turn;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, imageops};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt::Formatter;
use std::io::{Cursor, Read};
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// No image has more pixels than this in a row or a column.
pub(super) const LARGEST_SIDE: u32 = 16_384;

/// No file has more bytes than this, and neither has an image.
const LARGEST_FILE: u64 = 256 << 20;

/// The size of an image in pixels. In JSON it is an object of both, or one number for a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ImageSize {
    /// From top to bottom.
    pub height: u32,
    /// From left to right.
    pub width: u32,
}

impl<'de> Deserialize<'de> for ImageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SideOrSides)
    }
}

/// Reads an [`ImageSize`].
struct SideOrSides;

impl<'de> Visitor<'de> for SideOrSides {
    type Value = ImageSize;

    fn expecting(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str(r#"a number of pixels, or an object {"height": ..., "width": ...}"#)
    }

    fn visit_u64<E: serde::de::Error>(self, side: u64) -> Result<ImageSize, E> {
        let side = u32::try_from(side).map_err(|_| E::invalid_value(Unexpected::Unsigned(side), &self))?;
        Ok(ImageSize { height: side, width: side })
    }

    fn visit_i64<E: serde::de::Error>(self, side: i64) -> Result<ImageSize, E> {
        let side = u32::try_from(side).map_err(|_| E::invalid_value(Unexpected::Signed(side), &self))?;
        Ok(ImageSize { height: side, width: side })
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<ImageSize, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Sides {
            height: u32,
            width: u32,
        }
        let Sides { height, width } = Sides::deserialize(MapAccessDeserializer::new(fields))?;
        Ok(ImageSize { height, width })
    }
}

impl JsonSchema for ImageSize {
    fn schema_name() -> Cow<'static, str> {
        "ImageSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let side = |what: &str| {
            json_schema!({
                "description": what, "type": "integer", "minimum": 1, "maximum": LARGEST_SIDE,
            })
        };
        json_schema!({
            "description": "The size of an image in pixels.",
            "anyOf": [
                side("Both sides of a square."),
                {
                    "type": "object",
                    "properties": {"height": side("From top to bottom."), "width": side("From left to right.")},
                    "required": ["height", "width"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// Which way up an image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Orientation {
    /// As its pixels are stored.
    #[default]
    Stored,
    /// As it is to be shown: turned and mirrored as its EXIF data say, where it has them.
    Exif,
}

/// Why an image cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is of another size than the first.
    Size(ImageSize),
    /// It is damaged.
    Corrupt(String),
    /// There is no memory to decode it.
    Memory,
}

fn corrupt(error: impl ToString) -> Fault {
    Fault::Corrupt(error.to_string())
}

/// What a thread uses for one image after the other.
#[derive(Default)]
pub(super) struct Buffers {
    file: Vec<u8>,
    /// Three bytes per pixel.
    pixels: Vec<u8>,
}

impl Buffers {
    /// Takes back the memory of an image that [`decode`] gave.
    pub(super) fn reuse(&mut self, image: RgbImage) {
        self.pixels = image.into_raw();
    }
}

/// The image in `file`.
pub(super) fn decode(file: &Path, orientation: Orientation, buffers: &mut Buffers) -> Result<RgbImage, Fault> {
    let Buffers { file: bytes, pixels } = buffers;
    bytes.clear();
    let read = files::open(file)
        .and_then(|input| input.take(LARGEST_FILE).read_to_end(bytes).map_err(|error| Error::io(file, error)));
    read.map_err(|error| match error {
        Error::OutOfMemory(_) => Fault::Memory,
        // The path stands before it already.
        Error::Io { source, .. } => corrupt(source),
        _ => corrupt("the file is gone"),
    })?;
    // A panic of the decoder means that the image is damaged.
    let decoded = catch_unwind(AssertUnwindSafe(|| match picture(bytes).map_err(Fault::Corrupt)? {
        (Format::Jpeg, picture) => {
            let length = picture.len();
            bytes.truncate(length);
            jpeg(bytes, orientation, take(pixels))
        }
        (Format::Png, picture) => other_format(ImageFormat::Png, picture, orientation),
        (Format::WebP, picture) => other_format(ImageFormat::WebP, picture, orientation),
    }));
    decoded.unwrap_or_else(|_| Err(Fault::Corrupt("the decoder failed".into())))
}

/// The image in `size`. One of another size is brought to it, if it is to `resize`.
pub(super) fn fit(image: RgbImage, size: ImageSize, resize: bool) -> Result<RgbImage, Fault> {
    let found = size_of(&image);
    match (found == size, resize) {
        (true, _) => Ok(image),
        (false, true) => Ok(imageops::resize(&image, size.width, size.height, imageops::FilterType::Triangle)),
        (false, false) => Err(Fault::Size(found)),
    }
}

pub(super) fn size_of(image: &RgbImage) -> ImageSize {
    ImageSize { height: image.height(), width: image.width() }
}

/// What is put in the place of a JPEG's end marker: bits that are all ones, of which no code is made, and the marker. A
/// picture with all its data does not reach the ones. Where data are missing, the decoder would go on with zeros, which
/// are codes, but not with these.
const END_OF_JPEG: [u8; 18] = *b"\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\xd9";

/// Decodes a JPEG, the end marker included, into the memory of `pixels`.
fn jpeg(bytes: &mut Vec<u8>, orientation: Orientation, mut pixels: Vec<u8>) -> Result<RgbImage, Fault> {
    bytes.truncate(bytes.len() - 2);
    bytes.try_reserve(END_OF_JPEG.len()).map_err(|_| Fault::Memory)?;
    bytes.extend(END_OF_JPEG);
    let side = LARGEST_SIDE as usize;
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(side).set_max_height(side);
    let options = options.jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes[..]), options);
    decoder.decode_headers().map_err(corrupt)?;
    let (Some((width, height)), Some(length)) = (decoder.dimensions(), decoder.output_buffer_size()) else {
        return Err(corrupt("the image has no size"));
    };
    if length as u64 > LARGEST_FILE {
        return Err(corrupt(format!("{length} bytes are more than the largest image may have, {LARGEST_FILE}")));
    }
    pixels.try_reserve(length.saturating_sub(pixels.len())).map_err(|_| Fault::Memory)?;
    pixels.resize(length, 0);
    // In the headers much may be forgiven; in the data, the decoder would forgive by grey pixels.
    decoder.set_options(options.set_strict_mode(true));
    let decoded = decoder.decode_into(&mut pixels);
    decoded.map_err(|error| corrupt(format!("the end of the image is missing, or its data are damaged: {error}")))?;
    let image = RgbImage::from_raw(width as u32, height as u32, pixels);
    let image = image.ok_or_else(|| corrupt("the decoder gave too few pixels"))?;
    Ok(match turn(orientation, || decoder.exif().cloned()) {
        Turn::NoTransforms => image,
        turn => turned(DynamicImage::from(image), turn),
    })
}

/// Decodes an image of another format than JPEG.
fn other_format(format: ImageFormat, bytes: &[u8], orientation: Orientation) -> Result<RgbImage, Fault> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(LARGEST_FILE);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(corrupt)?;
    // The image itself is in the limit, too.
    limits.reserve(decoder.total_bytes()).map_err(corrupt)?;
    decoder.set_limits(limits).map_err(corrupt)?;
    let turn = turn(orientation, || decoder.exif_metadata().unwrap_or_default());
    Ok(turned(DynamicImage::from_decoder(decoder).map_err(corrupt)?, turn))
}

/// How an image with these EXIF data is to be turned.
fn turn(orientation: Orientation, exif: impl FnOnce() -> Option<Vec<u8>>) -> Turn {
    let exif = if orientation == Orientation::Exif { exif() } else { None };
    // Some programs write the beginning of a JPEG's segment to a WebP, too.
    let turn = exif.and_then(|exif| Turn::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif)));
    turn.unwrap_or(Turn::NoTransforms)
}

fn turned(mut image: DynamicImage, turn: Turn) -> RgbImage {
    image.apply_orientation(turn);
    image.into_rgb8()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::codecs::webp::WebPEncoder;
    use image::{ExtendedColorType, ImageEncoder, Rgb};

    const SIZE: ImageSize = ImageSize { height: 16, width: 32 };

    /// Blocks of 8 x 8 pixels, each of its own brightness.
    fn stored(row: u32, column: u32) -> u8 {
        (20 + 40 * (row / 8) + 25 * (column / 8)) as u8
    }

    /// What EXIF says with `orientation`: in which corner of the picture the first stored pixel is, and along which
    /// side the first stored row runs.
    fn shown(orientation: u8, row: u32, column: u32) -> u8 {
        let ImageSize { height, width } = SIZE;
        // The stored row and column from the other end.
        let (row_from_end, column_from_end) = (|at: u32| height - 1 - at, |at: u32| width - 1 - at);
        match orientation {
            1 => stored(row, column),
            2 => stored(row, column_from_end(column)),
            3 => stored(row_from_end(row), column_from_end(column)),
            4 => stored(row_from_end(row), column),
            5 => stored(column, row),
            6 => stored(row_from_end(column), row),
            7 => stored(row_from_end(column), column_from_end(row)),
            _ => stored(column, column_from_end(row)),
        }
    }

    /// EXIF data with a picture's orientation as their only entry, in one of the two orders of bytes.
    fn exif(orientation: u8, big: bool) -> Vec<u8> {
        match big {
            true => [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation, 0, 0, 0, 0, 0, 0][..]].concat(),
            false => {
                [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation, 0, 0, 0, 0, 0, 0, 0][..]].concat()
            }
        }
    }

    fn encode(encoder: impl ImageEncoder, exif: Vec<u8>) {
        let image = RgbImage::from_fn(SIZE.width, SIZE.height, |x, y| Rgb([stored(y, x); 3]));
        let mut encoder = encoder;
        encoder.set_exif_metadata(exif).unwrap();
        encoder.write_image(image.as_raw(), SIZE.width, SIZE.height, ExtendedColorType::Rgb8).unwrap();
    }

    #[test]
    fn images_are_turned_as_their_exif_data_say_if_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("5_");
        for (orientation, big, format) in
            (0..=9u8).flat_map(|at| [false, true].map(|big| (at, big))).flat_map(|(at, big)| {
                ["jpeg", "png", "webp", "webp with a segment's beginning"].map(|format| (at, big, format))
            })
        {
            let (mut bytes, exif) = (vec![], exif(orientation, big));
            match format {
                "jpeg" => encode(JpegEncoder::new_with_quality(&mut bytes, 100), exif),
                "png" => encode(PngEncoder::new(&mut bytes), exif),
                "webp" => encode(WebPEncoder::new_lossless(&mut bytes), exif),
                _ => encode(WebPEncoder::new_lossless(&mut bytes), [b"Exif\0\0", &exif[..]].concat()),
            }
            std::fs::write(&file, bytes).unwrap();
            for wanted in [Orientation::Stored, Orientation::Exif] {
                // 0 and 9 are none.
                let is_turned = wanted == Orientation::Exif && (1..=8).contains(&orientation);
                let orientation = if is_turned { orientation } else { 1 };
                let image = decode(&file, wanted, &mut Buffers::default()).unwrap();
                let swapped = ImageSize { height: SIZE.width, width: SIZE.height };
                assert_eq!(size_of(&image), if orientation >= 5 { swapped } else { SIZE }, "{format} {orientation}");
                for (column, row, pixel) in image.enumerate_pixels() {
                    let expected = shown(orientation, row, column);
                    assert!(pixel[1].abs_diff(expected) <= 4, "{format} {orientation}: {row}, {column}: {pixel:?}");
                }
            }
        }
    }

    #[test]
    fn a_jpeg_whose_data_break_off_is_refused_although_an_end_marker_follows() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("5_");
        let picture =
            RgbImage::from_fn(64, 48, |x, y| Rgb([x * x * 7 + y * 131, x * y * 17, y * y * 29].map(|v| v as u8)));
        let mut jpeg = vec![];
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, 90)).unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            decode(&file, Orientation::Stored, &mut Buffers::default())
        };
        let whole = read(&jpeg).unwrap();
        assert!(picture.iter().zip(whole.iter()).all(|(one, other)| one.abs_diff(*other) < 60));
        for cut in [jpeg.len() / 2, jpeg.len() - 100] {
            for end in [&b"\xff\xd9"[..], b"a trailer\xff\xd9", b"a trailer\xff\xd9 and more"] {
                let Err(Fault::Corrupt(reason)) = read(&[&jpeg[..cut], end].concat()) else {
                    panic!("read: {cut}, {end:?}")
                };
                assert!(reason.starts_with("the end of the image is missing, or its data are damaged: "), "{reason}");
            }
        }
    }

    #[test]
    fn a_size_is_an_object_or_one_number() {
        let read = |json: &str| crate::base::options::parse::<ImageSize>("size", json);
        assert_eq!(read("64").unwrap(), ImageSize { height: 64, width: 64 });
        assert_eq!(read(r#"{"width": 32, "height": 16}"#).unwrap(), SIZE);
        assert_eq!(toml::from_str::<crate::data::ImageOptions>("size = 64").unwrap().size, Some(read("64").unwrap()));
        for (json, message) in [
            ("-1", "size: is -1, must be 1 to 16384"),
            ("4294967296", "size: is 4294967296, must be 1 to 16384"),
            ("6.5", "size: is 6.5, must be a whole number"),
            ("\"64\"", "size: is '64', must be a whole number or an object { ... }"),
            (r#"{"height": 4}"#, "size.width: is missing, must be a whole number"),
            (r#"{"height": 4, "width": "x"}"#, "size.width: is 'x', must be a whole number"),
            (
                r#"{"height": 4, "width": 4, "depth": 4}"#,
                "size.depth: is no known field, allowed are 'height', 'width'",
            ),
        ] {
            assert!(read(json).unwrap_err().to_string().starts_with(message), "{json}: {}", read(json).unwrap_err());
        }
        assert!(read("[4, 4]").unwrap_err().to_string().starts_with("size: is a list"));
        let schema: serde_json::Value =
            serde_json::from_str(&crate::base::options::schema::<crate::data::ImageOptions>()).unwrap();
        let size = &schema["$defs"]["ImageSize"]["anyOf"];
        assert_eq!((&size[0]["minimum"], &size[0]["maximum"]), (&1.into(), &LARGEST_SIDE.into()), "{schema}");
        assert_eq!(size[1]["properties"]["width"]["maximum"], LARGEST_SIDE, "{schema}");
        assert_eq!(schema["properties"]["memory_limit"]["minimum"], 1, "{schema}");
    }
}
