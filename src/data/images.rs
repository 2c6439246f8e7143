//! Folders of images whose labels are in their names, as UTKFace's ages are.

use super::Dataset;
use super::decode::{Buffers, Fault, ImageSize, LARGEST_SIDE, Orientation, decode, fit, size_of};
use super::groups::{Groups, name_of_bytes};
use super::image_files::{LISTED_ENDINGS, Listing, Remark, list};
use crate::base::options::require;
use crate::base::threads;
use crate::torch::ending;
use crate::{Error, Result};
use image::RgbImage;
use parking_lot::Mutex;
use pulp::Arch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often a decoding thread reports its progress, which wakes the watching thread.
const INTERVAL: Duration = Duration::from_millis(10);

/// How a folder of images is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageOptions {
    /// The size to which every image is brought, as an object or, for a square, one number; without it all must have
    /// the first one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ImageSize>,
    /// What happens with files that are damaged or have no age in their name (default `refuse`).
    pub corrupt: Corrupt,
    /// Whether the folders below are read, too (default false).
    #[serde(skip_serializing_if = "is_default")]
    pub subfolders: bool,
    /// Which way up the images are: with their pixels as `stored` (default), or turned as their `exif` data say.
    #[serde(skip_serializing_if = "is_default")]
    pub orientation: Orientation,
    /// The most memory that the pixels may take, in bytes (default 8 GiB).
    #[schemars(range(min = 1))]
    pub memory_limit: u64,
}

/// Whether an option has to be written down: descriptions stay as they were before it was there.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What happens with a file that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Corrupt {
    /// It is an error.
    #[default]
    Refuse,
    /// It is left out.
    Skip,
}

impl Default for ImageOptions {
    fn default() -> Self {
        ImageOptions {
            size: None,
            corrupt: Corrupt::Refuse,
            subfolders: false,
            orientation: Orientation::Stored,
            memory_limit: 8 << 30,
        }
    }
}

impl ImageOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn validate(&self) -> Result<()> {
        if let Some(ImageSize { height, width }) = self.size {
            for (name, side) in [("height", height), ("width", width)] {
                let path = format!("images.size.{name}");
                require((1..=LARGEST_SIDE).contains(&side), &path, side, "1 to 16384")?;
            }
        }
        require(self.memory_limit >= 1, "images.memory_limit", self.memory_limit, "at least 1")
    }

    /// What becomes of `file`, which cannot be used for this `reason`: a note in `skipped`, or an error.
    fn reject(&self, skipped: &mut Vec<Remark>, file: PathBuf, reason: String) -> Result<()> {
        match self.corrupt {
            Corrupt::Refuse => Err(Error::Parse(said_of(&(file, reason)))),
            Corrupt::Skip => {
                skipped.push((file, reason));
                Ok(())
            }
        }
    }
}

/// A remark as one line.
fn said_of((path, reason): &Remark) -> String {
    format!("{}: {reason}", path.display())
}

/// Decoded images with their labels.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    /// Bytes, row-major, `[rows, 3, height, width]`: red, green, blue.
    pub pixels: Vec<u8>,
    /// The size of all the images.
    pub size: ImageSize,
    /// The number at the beginning of each file's name.
    pub ages: Vec<f64>,
    /// The files, in the order of their paths.
    pub files: Vec<PathBuf>,
    /// Rows of the same number are the same picture.
    pub groups: Vec<u32>,
    /// The files and folders that were left out, and why, in the order of their paths.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Ages beyond this are mistakes.
const OLDEST: u32 = 150;

impl ImageFolder {
    /// Reads the images in `folder`: [`FoundImages::find`], then [`FoundImages::decode`].
    ///
    /// # Errors
    /// As these two.
    pub fn read(
        folder: &Path,
        options: &ImageOptions,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        FoundImages::find(folder, options)?.decode(progress)
    }

    /// The images with their ages as labels.
    ///
    /// # Errors
    /// As [`Dataset::from_pixels`].
    pub fn into_dataset(self) -> Result<Dataset> {
        let shape = [3, self.size.height as usize, self.size.width as usize];
        let left_out = self.skipped.iter().map(said_of).collect();
        let width = shape.iter().product::<usize>();
        let (mut pictures, mut names) = (self.pixels.chunks(width), vec![]);
        // A group's first row comes before those of later groups.
        for &group in &self.groups {
            let picture = pictures.next().unwrap_or_default();
            if group as usize == names.len() {
                names.push(name_of_bytes(picture));
            }
        }
        let groups = Groups::of(self.groups.iter().map(|&group| names[group as usize]))?;
        Ok(Dataset::from_pixels(self.pixels, shape, self.ages, None)?.with_groups(groups).with_left_out(left_out))
    }
}

/// The images of a folder, of which no more than the first are decoded yet.
#[derive(Debug)]
pub struct FoundImages {
    folder: PathBuf,
    options: ImageOptions,
    /// The files and their ages, in the order of their paths.
    images: Vec<(PathBuf, f64)>,
    /// The size of all of them, and the file that has given it.
    size: (ImageSize, Option<PathBuf>),
    skipped: Vec<Remark>,
}

impl FoundImages {
    /// Finds the JPEG, PNG and WebP files in `folder`. A file's label is the number before the first `_` of its name;
    /// the rest of the name does not matter. What is named like no image is left out.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a folder that does not exist or has no images; [`Error::Parse`] with the file for one
    /// that has no age, or the first one's damage; [`Error::InvalidConfig`]; [`Error::Io`].
    pub fn find(folder: &Path, options: &ImageOptions) -> Result<Self> {
        options.validate()?;
        let Listing { images: files, mut unusable, passed_over: mut skipped } = list(folder, options.subfolders)?;
        if files.is_empty() && unusable.is_empty() {
            let rest = match skipped.iter().min() {
                Some(first) => format!("; what is there was passed over, as {}", said_of(first)),
                None => String::new(),
            };
            let folder = folder.display();
            return Err(Error::NotFound(format!(
                "{folder}: there are no images, files that end in {LISTED_ENDINGS}{rest}"
            )));
        }
        let mut images = Vec::new();
        for file in files {
            match age(&file) {
                Some(age) => images.push((file, age)),
                None => {
                    let reason = "has no age, a number from 0 to 150 and a '_', at the start of its name";
                    unusable.push((file, reason.into()));
                }
            }
        }
        unusable.sort();
        let passed_over = skipped.len();
        for (file, reason) in unusable {
            options.reject(&mut skipped, file, reason)?;
        }
        if images.is_empty() {
            return Err(none_usable(folder, skipped.get(passed_over)));
        }
        skipped.sort();
        images.sort_by(|(one, _), (other, _)| one.cmp(other));
        let size = match options.size {
            Some(size) => (size, None),
            None => first_size(folder, &images, options)?,
        };
        Ok(FoundImages { folder: folder.to_path_buf(), options: options.clone(), images, size, skipped })
    }

    /// How many there are; some may be damaged.
    pub fn count(&self) -> usize {
        self.images.len()
    }

    /// What is left out already, and why.
    pub fn left_out(&self) -> Vec<String> {
        self.skipped.iter().map(said_of).collect()
    }

    /// The size that all of them will have.
    pub fn size(&self) -> ImageSize {
        self.size.0
    }

    /// Decodes the images, in parallel. `progress` is shown the number of files done and of all, on this thread, and
    /// may stop it.
    ///
    /// # Errors
    /// [`Error::Parse`] with the file for one that is damaged; [`Error::Shape`] for sizes that differ;
    /// [`Error::OutOfMemory`] beyond the limit, before anything is decoded, and where there is no memory to decode an
    /// image; [`Error::NotFound`] where no image could be used; [`Error::Cancelled`].
    pub fn decode(self, progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<ImageFolder> {
        let size = self.size();
        let width = 3 * size.height as usize * size.width as usize;
        let mut pixels = allocate(self.images.len(), width, &self.options)?;
        let results = self.decode_all(width, &mut pixels, progress)?;
        let FoundImages { folder, options, images, size: (_, first), mut skipped } = self;
        let passed_over = skipped.len();
        let (mut rows, mut groups, mut next_group) = (Vec::new(), Vec::new(), 0u32);
        // The rows, by checksum, that are the first of their groups.
        let mut known: HashMap<u32, Vec<usize>> = HashMap::new();
        for (at, ((file, age), result)) in images.into_iter().zip(results).enumerate() {
            match result {
                Ok(checksum) => {
                    let row = rows.len();
                    if row < at {
                        pixels.copy_within(at * width..(at + 1) * width, row * width);
                    }
                    let picture = |row: usize| &pixels[row * width..(row + 1) * width];
                    let alike = known.entry(checksum).or_default();
                    match alike.iter().find(|&&other| picture(other) == picture(row)) {
                        Some(&other) => groups.push(groups[other]),
                        None => {
                            alike.push(row);
                            groups.push(next_group);
                            next_group += 1;
                        }
                    }
                    rows.push((file, age));
                }
                Err(Fault::Size(found)) => {
                    return Err(Error::Shape(format!(
                        "{}: the image is {} x {} pixels, the first one, {}, is {} x {}: give images.size to resize them",
                        file.display(),
                        found.height,
                        found.width,
                        first.unwrap_or_default().display(),
                        size.height,
                        size.width
                    )));
                }
                Err(Fault::Corrupt(reason)) => options.reject(&mut skipped, file, reason)?,
                Err(Fault::Memory) => return Err(no_memory(&file)),
            }
        }
        if rows.is_empty() {
            return Err(none_usable(&folder, skipped.get(passed_over)));
        }
        skipped.sort();
        pixels.truncate(rows.len() * width);
        let (files, ages) = rows.into_iter().unzip();
        Ok(ImageFolder { pixels, size, ages, files, groups, skipped })
    }

    /// Decodes every file into its part of `pixels`, and gives each one's checksum. Files are taken in their order, and
    /// none after one with a fault that ends it all: that is then the first such fault, whatever the threads do.
    fn decode_all(
        &self,
        width: usize,
        pixels: &mut [u8],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<std::result::Result<u32, Fault>>> {
        let FoundImages { options, images, size: (size, _), .. } = self;
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = threads::pool("images", count)?;
        let (stop, failed, done) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        let mut results = Vec::new();
        results.resize_with(images.len(), || Err(Fault::Corrupt("was not read".into())));
        let parts = Mutex::new(images.iter().zip(pixels.chunks_mut(width)).zip(&mut results));
        let (sender, receiver) = mpsc::channel();
        let _away = ending::away();
        pool.in_place_scope(|scope| {
            let (stop, failed, done, parts) = (&stop, &failed, &done, &parts);
            for _ in 0..count {
                let sender = sender.clone();
                scope.spawn(move |_| {
                    let (mut reported, mut buffers) = (Instant::now(), Buffers::default());
                    while !stop.load(Relaxed) && !failed.load(Relaxed) {
                        let next = parts.lock().next();
                        let Some((((file, _), part), result)) = next else { break };
                        let decoded = decode(file, options.orientation, &mut buffers);
                        let decoded = decoded.and_then(|image| fit(image, *size, options.size.is_some()));
                        *result = decoded.map(|image| {
                            Arch::new().dispatch(|| planes(&image, part));
                            buffers.reuse(image);
                            // Only pictures whose red planes have the same checksum are compared.
                            crc32c::crc32c(&part[..part.len() / 3])
                        });
                        let ends_all = match result {
                            Ok(_) => false,
                            Err(Fault::Corrupt(_)) => options.corrupt == Corrupt::Refuse,
                            Err(_) => true,
                        };
                        failed.fetch_or(ends_all, Relaxed);
                        done.fetch_add(1, Relaxed);
                        if reported.elapsed() >= INTERVAL {
                            reported = Instant::now();
                            let _ = sender.send(());
                        }
                    }
                });
            }
            drop(sender);
            for () in receiver {
                if progress(done.load(Relaxed), images.len()).is_break() {
                    stop.store(true, Relaxed);
                }
            }
        });
        if done.into_inner() == images.len() && progress(images.len(), images.len()).is_break() {
            stop.store(true, Relaxed);
        }
        if stop.load(Relaxed) {
            return Err(Error::Cancelled("reading images was stopped".into()));
        }
        Ok(results)
    }
}

/// The number before the first `_` of a file's name; the rest may be any bytes.
fn age(file: &Path) -> Option<f64> {
    let name = file.file_name()?.as_encoded_bytes();
    let digits = name.split(|&byte| byte == b'_').next().filter(|digits| digits.len() < name.len())?;
    let age: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (age <= OLDEST).then_some(f64::from(age))
}

/// The size of the first image that can be used, and its file. It is decoded for that: of one that is cut short, the
/// header would be there.
fn first_size(
    folder: &Path,
    images: &[(PathBuf, f64)],
    options: &ImageOptions,
) -> Result<(ImageSize, Option<PathBuf>)> {
    let mut skipped = Vec::new();
    for (file, _) in images {
        match decode(file, options.orientation, &mut Buffers::default()) {
            Ok(image) => return Ok((size_of(&image), Some(file.clone()))),
            Err(Fault::Corrupt(reason)) => options.reject(&mut skipped, file.clone(), reason)?,
            Err(_) => return Err(no_memory(file)),
        }
    }
    Err(none_usable(folder, skipped.first()))
}

fn none_usable(folder: &Path, first: Option<&Remark>) -> Error {
    let why = first.map_or_else(String::new, |remark| format!("; {}", said_of(remark)));
    Error::NotFound(format!("{}: no image could be used{why}", folder.display()))
}

fn no_memory(file: &Path) -> Error {
    Error::OutOfMemory(format!("{}: no memory to decode the image", file.display()))
}

/// Memory for the pixels, zeroed.
fn allocate(rows: usize, width: usize, options: &ImageOptions) -> Result<Vec<u8>> {
    let bytes = rows.checked_mul(width).filter(|&bytes| bytes as u64 <= options.memory_limit);
    let Some(bytes) = bytes else {
        let (needed, limit) = (rows as u128 * width as u128, options.memory_limit);
        return Err(Error::OutOfMemory(format!(
            "{rows} images need {needed} bytes, images.memory_limit is {limit}: raise it or give a smaller images.size"
        )));
    };
    crate::base::memory::zeroed(bytes)
}

/// Copies pixels of three bytes into three planes.
#[inline(always)]
fn planes(image: &RgbImage, planes: &mut [u8]) {
    let (red, rest) = planes.split_at_mut(planes.len() / 3);
    let (green, blue) = rest.split_at_mut(rest.len() / 2);
    let pixels = image.as_raw().as_chunks::<3>().0;
    for (((red, green), blue), pixel) in red.iter_mut().zip(green).zip(blue).zip(pixels) {
        [*red, *green, *blue] = *pixel;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, GrayImage, ImageFormat, Rgb};

    fn read(folder: &Path, options: &str) -> Result<ImageFolder> {
        ImageFolder::read(folder, &crate::base::options::parse("images", options)?, &mut |_, _| {
            ControlFlow::Continue(())
        })
    }

    /// A picture that is easy to recognise: red rises to the right, green downwards, blue is `blue`.
    fn picture(height: u32, width: u32, blue: u8) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8 * 10, y as u8 * 10, blue]))
    }

    #[test]
    fn irregular_names_and_formats_are_read_in_the_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        picture(4, 6, 7).save(at("9_0_2_20170116.PNG")).unwrap();
        picture(4, 6, 8).save(at("39_1_20170116174525125.jpg.chip.png")).unwrap();
        picture(4, 6, 7).save(at("61_1 3_2017.png")).unwrap();
        DynamicImage::from(GrayImage::from_pixel(6, 4, image::Luma([50]))).save(at("100_x.jpeg")).unwrap();
        std::fs::write(at("readme.txt"), "not an image").unwrap();
        std::fs::write(at(".DS_Store"), "not an image either").unwrap();
        let images = read(folder.path(), "{}").unwrap();
        assert_eq!(images.ages, [100.0, 39.0, 61.0, 9.0]);
        assert_eq!((images.size, images.groups), (ImageSize { height: 4, width: 6 }, vec![0, 1, 2, 2]));
        assert_eq!(images.pixels[..72], [50; 72], "grey becomes three equal planes");
        // Red of the second image's second row, and its blue.
        assert_eq!(images.pixels[72 + 6..72 + 12], [0, 10, 20, 30, 40, 50]);
        assert_eq!(images.pixels[72 + 48..144], [8; 24]);
        let data = read(folder.path(), "{}").unwrap().into_dataset().unwrap();
        assert_eq!((data.rows(), data.feature_shape()), (4, &[3, 4, 6][..]));
        assert!(data.left_out()[0].ends_with(".DS_Store: hidden, its name begins with a '.'"), "{:?}", data.left_out());
        assert!(data.left_out()[1].contains("readme.txt: its name does not end in .jpg, "), "{:?}", data.left_out());
    }

    #[test]
    fn images_are_resized_and_jpeg_is_close() {
        let folder = tempfile::tempdir().unwrap();
        RgbImage::from_pixel(40, 30, Rgb([200, 100, 50])).save(folder.path().join("5_.jpg")).unwrap();
        RgbImage::from_pixel(8, 8, Rgb([200, 100, 50])).save(folder.path().join("6_.png")).unwrap();
        let images = read(folder.path(), r#"{"size":{"height":8,"width":8}}"#).unwrap();
        assert_eq!(images.pixels.len(), 2 * 3 * 64);
        for (plane, color) in images.pixels.chunks(64).zip([200, 100, 50, 200, 100, 50]) {
            assert!(plane.iter().all(|&byte| i32::from(byte).abs_diff(color) <= 3), "{plane:?}");
        }
    }

    #[test]
    fn faults_are_named_or_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let fault = |options: &str| read(folder.path(), options).unwrap_err().to_string();
        assert!(read(&at("none"), "{}").unwrap_err().to_string().ends_with("none: no such file or folder"));
        assert!(fault("{}").contains("there are no images, files that end in .jpg"));
        picture(4, 4, 0).save(at("7_.png")).unwrap();
        assert!(read(&at("7_.png"), "{}").unwrap_err().to_string().contains("Not a directory"));
        assert!(fault(r#"{"memory_limit":47}"#).contains("1 images need 48 bytes, images.memory_limit is 47"));
        assert!(fault(r#"{"size":{"height":0,"width":4}}"#).contains("images.size.height: is 0"));
        assert!(fault(r#"{"size":{"height":4}}"#).contains("images.size.width: is missing, must be a whole number"));
        assert!(fault(r#"{"memory_limit":0}"#).contains("images.memory_limit: is 0, must be at least 1"));

        std::fs::write(at("8_.jpg"), "no picture").unwrap();
        assert!(fault("{}").contains("8_.jpg: "), "{}", fault("{}"));
        std::fs::write(at("face.jpg"), "").unwrap();
        assert!(fault("{}").contains("face.jpg: has no age"), "{}", fault("{}"));
        std::fs::write(at("151_.jpg"), "").unwrap();
        let bytes = std::fs::read(at("7_.png")).unwrap();
        std::fs::write(at("9_cut.png"), &bytes[..bytes.len() / 2]).unwrap();
        picture(4, 4, 0).save(at("11_.jpeg")).unwrap();
        let bytes = std::fs::read(at("11_.jpeg")).unwrap();
        std::fs::write(at("11_.jpeg"), &bytes[..bytes.len() - 2]).unwrap();
        let images = read(folder.path(), r#"{"corrupt":"skip"}"#).unwrap();
        assert_eq!((&images.ages[..], images.pixels.len()), (&[7.0][..], 48));
        assert_eq!(images.pixels[..8], [0, 10, 20, 30, 0, 10, 20, 30], "it comes after one that was left out");
        let mut names: Vec<String> =
            images.skipped.iter().map(|(file, _)| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!(names, ["11_.jpeg", "151_.jpg", "8_.jpg", "9_cut.png", "face.jpg"]);
        let data = images.into_dataset().unwrap();
        assert_eq!(data.left_out().len(), 5);
        assert!(
            data.left_out().iter().any(|file| file.ends_with("11_.jpeg: the end of the image is missing")),
            "{:?}",
            data.left_out()
        );

        picture(4, 5, 0).save(at("10_.png")).unwrap();
        let sizes = fault(r#"{"corrupt":"skip"}"#);
        assert!(sizes.contains("7_.png: the image is 4 x 4 pixels, the first one, "), "{sizes}");
        assert!(sizes.contains("10_.png, is 4 x 5: give images.size"), "{sizes}");
        std::fs::remove_file(at("10_.png")).unwrap();
        std::fs::remove_file(at("7_.png")).unwrap();
        assert!(fault(r#"{"corrupt":"skip"}"#).contains("no image"), "{}", fault(r#"{"corrupt":"skip"}"#));
    }

    /// The names of what was left out, without the folder's.
    fn left_out(images: &ImageFolder, folder: &Path) -> Vec<String> {
        let name = |(path, _): &Remark| path.strip_prefix(folder).unwrap().display().to_string();
        images.skipped.iter().map(name).collect()
    }

    #[test]
    fn the_content_counts_and_not_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        picture(4, 6, 7).save_with_format(at("20_a.jpg"), ImageFormat::Png).unwrap();
        for options in ["{}", r#"{"size":{"height":4,"width":6}}"#] {
            assert_eq!(read(folder.path(), options).unwrap().pixels[48..], [7; 24], "alone, {options}");
        }
        picture(4, 6, 8).save_with_format(at("21_.webp"), ImageFormat::Png).unwrap();
        picture(4, 6, 9).save_with_format(at("22_.PNG"), ImageFormat::WebP).unwrap();
        RgbImage::from_pixel(6, 4, Rgb([9; 3])).save_with_format(at("23_.png"), ImageFormat::Jpeg).unwrap();
        for ending in ["jpe", "JFIF", "jpeg", "WebP"] {
            picture(4, 6, 9).save_with_format(at(&format!("24_.{ending}")), ImageFormat::WebP).unwrap();
        }
        let images = read(folder.path(), "{}").unwrap();
        assert_eq!(images.ages, [20.0, 21.0, 22.0, 23.0, 24.0, 24.0, 24.0, 24.0]);
        assert_eq!(images.groups, [0, 1, 2, 3, 2, 2, 2, 2]);
    }

    #[test]
    fn what_nothing_can_be_read_of_is_said_of_the_first_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("20_a.jpg"), "<!doctype html>").unwrap();
        std::fs::write(at("21_a.jpg"), "").unwrap();
        for options in ["{}", r#"{"size":4}"#, r#"{"corrupt":"skip"}"#, r#"{"corrupt":"skip","size":4}"#] {
            let fault = read(folder.path(), options).unwrap_err().to_string();
            assert!(fault.contains("20_a.jpg: the file is a web page"), "{options}: {fault}");
        }
        picture(4, 4, 0).save(at("22_.png")).unwrap();
        assert!(read(folder.path(), "{}").unwrap_err().to_string().contains("20_a.jpg: the file is a web page"));
        assert_eq!(read(folder.path(), r#"{"corrupt":"skip"}"#).unwrap().ages, [22.0]);
    }

    #[test]
    fn the_first_image_that_can_be_used_gives_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        picture(9, 9, 0).save(at("1_.png")).unwrap();
        let bytes = std::fs::read(at("1_.png")).unwrap();
        std::fs::write(at("1_.png"), &bytes[..bytes.len() - 20]).unwrap();
        picture(4, 6, 0).save(at("2_.png")).unwrap();
        let images = read(folder.path(), r#"{"corrupt":"skip"}"#).unwrap();
        assert_eq!((images.size, &images.ages[..]), (ImageSize { height: 4, width: 6 }, &[2.0][..]));
    }

    #[test]
    fn names_of_any_bytes_are_read() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        for name in [&b"30_\xfcber.jpg"[..], b"31_\xff\xfe.jpg", "32_\u{fc}ber \u{1f600}.jpg".as_bytes()] {
            let path = folder.path().join(std::ffi::OsStr::from_bytes(name));
            picture(4, 4, 0).save_with_format(path, ImageFormat::Png).unwrap();
        }
        assert_eq!(read(folder.path(), "{}").unwrap().ages, [30.0, 31.0, 32.0]);
        let path = folder.path().join(std::ffi::OsStr::from_bytes(b"\xfc33_.jpg"));
        picture(4, 4, 0).save_with_format(path, ImageFormat::Png).unwrap();
        let fault = read(folder.path(), "{}").unwrap_err().to_string();
        assert!(fault.contains("33_.jpg: has no age"), "{fault}");
    }

    #[test]
    fn folders_below_are_read_if_asked_for_and_named_if_not() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for inner in ["b/deep", "5_x.jpg", ".git"] {
            std::fs::create_dir_all(at(inner)).unwrap();
        }
        assert!(read(folder.path(), "{}").unwrap_err().to_string().contains("there are no images"));
        for (age, name) in [(1, "b.png"), (2, "b/deep/2_.png"), (3, "b/3_.png"), (4, "5_x.jpg/4_.png"), (5, "9_.png")] {
            let path = if name.contains("_.") { at(name) } else { at("1_.png") };
            picture(4, 4, age).save(path).unwrap();
        }
        let images = read(folder.path(), "{}").unwrap();
        assert_eq!(images.ages, [1.0, 9.0]);
        assert_eq!(left_out(&images, folder.path()), [".git", "5_x.jpg", "b"]);
        assert!(images.skipped[2].1.contains("\"subfolders\": true"), "{:?}", images.skipped);

        // Links in circles, to what is there already, up, to nothing, and to one image.
        symlink("..", at("b/deep/circle")).unwrap();
        symlink("b", at("a_link")).unwrap();
        symlink("/", at("root")).unwrap();
        symlink(".", at("itself")).unwrap();
        symlink("nothing", at("nothing")).unwrap();
        symlink("b/3_.png", at("7_link.png")).unwrap();
        let images = read(folder.path(), r#"{"subfolders":true}"#).unwrap();
        let relative = images.files.iter().map(|file| file.strip_prefix(folder.path()).unwrap().display().to_string());
        let relative: Vec<String> = relative.collect();
        assert_eq!(relative, ["1_.png", "5_x.jpg/4_.png", "7_link.png", "9_.png", "b/3_.png", "b/deep/2_.png"]);
        let expected = [".git", "a_link", "b/deep/circle", "itself", "nothing", "root"];
        assert_eq!(left_out(&images, folder.path()), expected);
        assert_eq!(images.groups, [0, 1, 2, 3, 2, 4]);
    }

    #[test]
    fn what_is_no_file_is_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        picture(4, 4, 0).save(at("7_.png")).unwrap();
        let make_pipe = |name: &str| {
            assert!(std::process::Command::new("mkfifo").arg(at(name)).status().unwrap().success());
        };
        make_pipe("notes");
        assert_eq!(left_out(&read(folder.path(), "{}").unwrap(), folder.path()), ["notes"]);
        make_pipe("5_.jpg");
        let fault = read(folder.path(), "{}").unwrap_err().to_string();
        assert!(fault.ends_with("5_.jpg: a pipe, a socket or a device, not a file"), "{fault}");
        let _socket = std::os::unix::net::UnixListener::bind(at("6_.jpg")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("8_.jpg")).unwrap();
        std::os::unix::fs::symlink("nothing", at("9_.jpg")).unwrap();
        let images = read(folder.path(), r#"{"corrupt":"skip"}"#).unwrap();
        assert_eq!(left_out(&images, folder.path()), ["5_.jpg", "6_.jpg", "8_.jpg", "9_.jpg", "notes"]);
        assert_eq!(images.skipped[3].1, "a link to what does not exist");
    }

    #[test]
    fn the_first_fault_ends_it_all() {
        let folder = tempfile::tempdir().unwrap();
        for age in 10..100 {
            picture(4, 4, age).save(folder.path().join(format!("{age}_.png"))).unwrap();
        }
        std::fs::write(folder.path().join("12_.png"), "").unwrap();
        for (spoil, fault) in [(false, "12_.png: the file is empty"), (true, "11_.png: the image is 5 x 4 pixels")] {
            if spoil {
                picture(5, 4, 0).save(folder.path().join("11_.png")).unwrap();
            }
            for _ in 0..10 {
                let mut seen = 0;
                let images = ImageFolder::read(folder.path(), &ImageOptions::default(), &mut |done, _| {
                    seen = done;
                    ControlFlow::Continue(())
                });
                assert!(images.unwrap_err().to_string().contains(fault));
                assert!(seen < 90, "{seen} are decoded");
            }
        }
    }

    #[test]
    fn progress_is_told_and_may_stop() {
        let folder = tempfile::tempdir().unwrap();
        for age in 1..=20 {
            picture(4, 4, age).save(folder.path().join(format!("{age}_.png"))).unwrap();
        }
        let (mut seen, thread) = (Vec::new(), std::thread::current().id());
        ImageFolder::read(folder.path(), &ImageOptions::default(), &mut |done, total| {
            assert_eq!((total, std::thread::current().id()), (20, thread));
            seen.push(done);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(seen.is_sorted() && seen.last() == Some(&20), "{seen:?}");
        let stopped = ImageFolder::read(folder.path(), &ImageOptions::default(), &mut |_, _| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Cancelled(_))));
    }
}
