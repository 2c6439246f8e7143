//! One image from its file.

use super::images::ImageSize;
use crate::threads::check_room;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage, imageops};
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read};
use std::mem::take;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// No image has more pixels than this in a row or a column.
pub(super) const LARGEST_SIDE: u32 = 16_384;

/// No file has more bytes than this, and neither has an image.
const LARGEST_FILE: u64 = 256 << 20;

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

/// Sees to it that there is memory for decoders, which end the process where they get none.
#[derive(Debug)]
pub(super) struct Room {
    /// How many threads decode.
    threads: usize,
    /// The standard library's: others take memory of their own for a thread that waits.
    gate: RwLock<()>,
}

/// Held while an image is decoded: beside others or alone.
type Place<'a> = (Option<RwLockReadGuard<'a, ()>>, Option<RwLockWriteGuard<'a, ()>>);

impl Room {
    pub(super) fn new(threads: usize) -> Self {
        Room { threads, gate: RwLock::new(()) }
    }

    /// For work that takes `bytes` at most: beside others where all threads can have as much, else alone.
    fn enter(&self, bytes: usize) -> Result<Place<'_>, Fault> {
        // A decoder that panicked has left nothing undone.
        let beside = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if has_room(bytes.saturating_mul(self.threads)) {
            return Ok((Some(beside), None));
        }
        drop(beside);
        let alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        if has_room(bytes) { Ok((None, Some(alone))) } else { Err(Fault::Memory) }
    }
}

fn has_room(bytes: usize) -> bool {
    check_room(bytes, || "an image".into()).is_ok()
}

/// The most bytes that it takes to decode an image of the size `found` and to bring it to `size`.
fn need(found: ImageSize, size: ImageSize) -> usize {
    let pixels = |height: u32, width: u32| height as usize * width as usize;
    // A progressive JPEG's coefficients or a PNG's 16 bits of four channels, a few rows of them, and the pixels.
    let decoding = 16 * pixels(found.height + 64, found.width);
    // Between its two passes are four numbers of single precision.
    let resizing =
        if found == size { 0 } else { 16 * pixels(size.height, found.width) + 3 * pixels(size.height, size.width) };
    decoding + resizing
}

/// The image in `file`. One that is not of `size` is brought to it, if it is to `resize`.
pub(super) fn decode(
    file: &Path,
    size: ImageSize,
    resize: bool,
    room: &Room,
    buffers: &mut Buffers,
) -> Result<RgbImage, Fault> {
    let Buffers { file: bytes, pixels } = buffers;
    bytes.clear();
    let read = File::open(file).and_then(|input| input.take(LARGEST_FILE).read_to_end(bytes));
    read.map_err(|error| if error.kind() == ErrorKind::OutOfMemory { Fault::Memory } else { corrupt(error) })?;
    let enter = |found| room.enter(need(found, if resize { size } else { found }));
    let start_of_jpeg = [0xff, 0xd8, 0xff];
    let (image, _place) =
        if bytes.starts_with(&start_of_jpeg) { jpeg(bytes, take(pixels), enter)? } else { any_format(bytes, enter)? };
    let found = ImageSize { height: image.height(), width: image.width() };
    match (found == size, resize) {
        (true, _) => Ok(image),
        (false, true) => Ok(imageops::resize(&image, size.width, size.height, imageops::FilterType::Triangle)),
        (false, false) => Err(Fault::Size(found)),
    }
}

/// Decodes a JPEG into the memory of `pixels`, once one of its size may `enter`.
fn jpeg<P>(
    bytes: &[u8],
    mut pixels: Vec<u8>,
    enter: impl FnOnce(ImageSize) -> Result<P, Fault>,
) -> Result<(RgbImage, P), Fault> {
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
    let (width, height) = (width as u32, height as u32);
    let place = enter(ImageSize { height, width })?;
    pixels.resize(length, 0);
    decoder.decode_into(&mut pixels).map_err(corrupt)?;
    if is_cut_short(bytes) {
        return Err(corrupt("the end of the image is missing"));
    }
    let image = RgbImage::from_raw(width, height, pixels);
    Ok((image.ok_or_else(|| corrupt("the decoder gave too few pixels"))?, place))
}

/// Decodes an image of another format than JPEG, once one of its size may `enter`.
fn any_format<P>(bytes: &[u8], enter: impl FnOnce(ImageSize) -> Result<P, Fault>) -> Result<(RgbImage, P), Fault> {
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
    let (width, height) = decoder.dimensions();
    let place = enter(ImageSize { height, width })?;
    Ok((DynamicImage::from_decoder(decoder).map_err(corrupt)?.into_rgb8(), place))
}

/// Whether a JPEG's last scan has no end marker after it: the decoder would make what is missing grey.
fn is_cut_short(jpeg: &[u8]) -> bool {
    let (start_of_scan, end_of_image) = ([0xff, 0xda], [0xff, 0xd9]);
    let end = jpeg.windows(2).rposition(|pair| pair == end_of_image).unwrap_or(0);
    jpeg[end..].windows(2).any(|pair| pair == start_of_scan)
}
