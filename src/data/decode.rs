//! One image from its file.

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage, imageops};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read};
use std::mem::take;
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// No image has more pixels than this in a row or a column.
pub(super) const LARGEST_SIDE: u32 = 16_384;

/// No file has more bytes than this, and neither has an image.
const LARGEST_FILE: u64 = 256 << 20;

/// The size of an image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageSize {
    /// From top to bottom.
    pub height: u32,
    /// From left to right.
    pub width: u32,
}

/// Why an image cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is of another size than the others.
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

/// The image in `file`. One that is not of `size` is brought to it, if it is to `resize`.
pub(super) fn decode(file: &Path, size: ImageSize, resize: bool, buffers: &mut Buffers) -> Result<RgbImage, Fault> {
    let Buffers { file: bytes, pixels } = buffers;
    bytes.clear();
    let read = File::open(file).and_then(|input| input.take(LARGEST_FILE).read_to_end(bytes));
    read.map_err(|error| if error.kind() == ErrorKind::OutOfMemory { Fault::Memory } else { corrupt(error) })?;
    let start_of_jpeg = [0xff, 0xd8, 0xff];
    let image = if bytes.starts_with(&start_of_jpeg) { jpeg(bytes, take(pixels))? } else { any_format(bytes)? };
    let found = ImageSize { height: image.height(), width: image.width() };
    match (found == size, resize) {
        (true, _) => Ok(image),
        (false, true) => Ok(imageops::resize(&image, size.width, size.height, imageops::FilterType::Triangle)),
        (false, false) => Err(Fault::Size(found)),
    }
}

/// Decodes a JPEG into the memory of `pixels`.
fn jpeg(bytes: &[u8], mut pixels: Vec<u8>) -> Result<RgbImage, Fault> {
    let side = LARGEST_SIDE as usize;
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(side).set_max_height(side);
    let options = options.jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(corrupt)?;
    let (Some((width, height)), Some(length)) = (decoder.dimensions(), decoder.output_buffer_size()) else {
        return Err(corrupt("the image has no size"));
    };
    if length as u64 > LARGEST_FILE {
        return Err(corrupt(format!("{length} bytes are more than the largest image may have, {LARGEST_FILE}")));
    }
    pixels.try_reserve(length.saturating_sub(pixels.len())).map_err(|_| Fault::Memory)?;
    pixels.resize(length, 0);
    decoder.decode_into(&mut pixels).map_err(corrupt)?;
    if is_cut_short(bytes) {
        return Err(corrupt("the end of the image is missing"));
    }
    let image = RgbImage::from_raw(width as u32, height as u32, pixels);
    image.ok_or_else(|| corrupt("the decoder gave too few pixels"))
}

/// Decodes an image of another format than JPEG.
fn any_format(bytes: &[u8]) -> Result<RgbImage, Fault> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(corrupt)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(LARGEST_FILE);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(corrupt)?;
    // The image itself is in the limit, too.
    limits.reserve(decoder.total_bytes()).map_err(corrupt)?;
    decoder.set_limits(limits).map_err(corrupt)?;
    Ok(DynamicImage::from_decoder(decoder).map_err(corrupt)?.into_rgb8())
}

/// Whether a JPEG's last scan has no end marker after it: the decoder would make what is missing grey.
fn is_cut_short(jpeg: &[u8]) -> bool {
    let (start_of_scan, end_of_image) = ([0xff, 0xda], [0xff, 0xd9]);
    let end = jpeg.windows(2).rposition(|pair| pair == end_of_image).unwrap_or(0);
    jpeg[end..].windows(2).any(|pair| pair == start_of_scan)
}
