//! Folders of images whose labels are in their names, as UTKFace's ages are.

use super::Dataset;
use super::decode::{Buffers, Fault, ImageSize, LARGEST_SIDE, decode};
use crate::base::threads;
use crate::{Error, Result};
use image::RgbImage;
use pulp::Arch;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    /// The size to which every image is brought; without it all must have the first one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ImageSize>,
    /// What happens with files that are damaged or have no age in their name (default `refuse`).
    pub corrupt: Corrupt,
    /// The most memory that the pixels may take, in bytes (default 8 GiB).
    pub memory_limit: u64,
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
        ImageOptions { size: None, corrupt: Corrupt::Refuse, memory_limit: 8 << 30 }
    }
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
    /// The files, in the order of their names.
    pub files: Vec<PathBuf>,
    /// Rows of the same number are the same picture.
    pub groups: Vec<u32>,
    /// The files that were left out, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Ages beyond this are mistakes.
const OLDEST: u32 = 150;

impl ImageFolder {
    /// Reads the JPEG and PNG files in `folder`, in parallel. A file's label is
    /// the number before the first `_` of its name; the rest of the name does
    /// not matter. `progress` is shown the number of files done and of all, on
    /// this thread, and may stop it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a folder that does not exist or has no images;
    /// [`Error::Parse`] with the file for one that is damaged or has no age;
    /// [`Error::Shape`] for sizes that differ; [`Error::OutOfMemory`] beyond the
    /// limit, before anything is decoded, and where there is no memory to decode
    /// an image; [`Error::Cancelled`].
    pub fn read(
        folder: &Path,
        options: &ImageOptions,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        if let Some(ImageSize { height, width }) = options.size {
            for (name, side) in [("height", height), ("width", width)] {
                let path = format!("images.size.{name}");
                crate::base::options::require((1..=LARGEST_SIDE).contains(&side), &path, side, "1 to 16384")?;
            }
        }
        let mut skipped = Vec::new();
        let mut skip = |file: PathBuf, reason: String| match options.corrupt {
            Corrupt::Refuse => Err(Error::Parse(format!("{}: {reason}", file.display()))),
            Corrupt::Skip => {
                skipped.push((file, reason));
                Ok(())
            }
        };

        let mut candidates = Vec::new();
        for file in list(folder)? {
            match age(&file) {
                Some(age) => candidates.push((file, age)),
                None => skip(file, "has no age, a number from 0 to 150 and a '_', at the start of its name".into())?,
            }
        }
        let size = match options.size {
            Some(size) => size,
            None => first_size(&candidates)?,
        };
        let width = 3 * size.height as usize * size.width as usize;
        let mut pixels = allocate(candidates.len(), width, options)?;

        let results = decode_all(&candidates, size, options.size.is_some(), &mut pixels, progress)?;
        let (mut rows, mut groups, mut next_group) = (Vec::new(), Vec::new(), 0u32);
        // The rows, by checksum, that are the first of their groups.
        let mut known: HashMap<u32, Vec<usize>> = HashMap::new();
        for (at, ((file, age), result)) in candidates.into_iter().zip(results).enumerate() {
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
                        "{}: the image is {} x {} pixels, others are {} x {}: give images.size to resize them",
                        file.display(),
                        found.height,
                        found.width,
                        size.height,
                        size.width
                    )));
                }
                Err(Fault::Corrupt(reason)) => skip(file, reason)?,
                Err(Fault::Memory) => {
                    return Err(Error::OutOfMemory(format!("{}: no memory to decode the image", file.display())));
                }
            }
        }
        if rows.is_empty() {
            return Err(Error::NotFound(format!("{}: no image could be used", folder.display())));
        }
        pixels.truncate(rows.len() * width);
        let (files, ages) = rows.into_iter().unzip();
        Ok(ImageFolder { pixels, size, ages, files, groups, skipped })
    }

    /// The images with their ages as labels.
    ///
    /// # Errors
    /// As [`Dataset::from_pixels`].
    pub fn into_dataset(self) -> Result<Dataset> {
        let shape = [3, self.size.height as usize, self.size.width as usize];
        let left_out = self.skipped.iter().map(|(file, reason)| format!("{}: {reason}", file.display())).collect();
        Ok(Dataset::from_pixels(self.pixels, shape, self.ages, Some(self.groups))?.with_left_out(left_out))
    }
}

/// The files of images in `folder`, in the order of their names.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |error| Error::io(folder, error);
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(io)?;
    let is_image = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        ["jpg", "jpeg", "png"].contains(&extension.as_str())
    };
    let mut files: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).filter(is_image).collect();
    if files.is_empty() {
        let folder = folder.display();
        return Err(Error::NotFound(format!("{folder}: there are no images, files that end in .jpg, .jpeg or .png")));
    }
    files.sort();
    Ok(files)
}

/// The number before the first `_` of a file's name.
fn age(file: &Path) -> Option<f64> {
    let name = file.file_name()?.to_str()?;
    let age: u32 = name.split_once('_')?.0.parse().ok()?;
    (age <= OLDEST).then_some(f64::from(age))
}

/// The size of the first image that has one.
fn first_size(candidates: &[(PathBuf, f64)]) -> Result<ImageSize> {
    let Some((first, _)) = candidates.first() else {
        return Err(Error::NotFound("no image has an age in its name".into()));
    };
    let sizes = candidates.iter().filter_map(|(file, _)| image::image_dimensions(file).ok());
    let size = sizes.map(|(width, height)| ImageSize { height, width }).next();
    size.ok_or_else(|| Error::Parse(format!("{}: no image, and neither are the others", first.display())))
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

/// Decodes every file into its part of `pixels`, and gives each one's checksum.
fn decode_all(
    candidates: &[(PathBuf, f64)],
    size: ImageSize,
    resize: bool,
    pixels: &mut [u8],
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<std::result::Result<u32, Fault>>> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = threads::pool("images", count)?;
    let (stop, done, (sender, receiver)) = (AtomicBool::new(false), AtomicUsize::new(0), mpsc::channel());
    let width = pixels.len() / candidates.len().max(1);
    let mut results = Vec::new();
    results.resize_with(candidates.len(), || Err(Fault::Corrupt("was not read".into())));
    let parts = candidates.iter().zip(pixels.chunks_mut(width)).zip(&mut results);
    let mut parts: Vec<_> = parts.collect();
    pool.in_place_scope(|scope| {
        let (stop, done) = (&stop, &done);
        scope.spawn(move |_| {
            let start = || (sender.clone(), Instant::now(), Buffers::default());
            parts.par_iter_mut().for_each_init(start, |(sender, reported, buffers), (((file, _), part), result)| {
                if stop.load(Relaxed) {
                    return;
                }
                // A panic of the decoder means that the image is damaged.
                let decoded = catch_unwind(AssertUnwindSafe(|| decode(file, size, resize, buffers)));
                let decoded = decoded.unwrap_or_else(|_| Err(Fault::Corrupt("the decoder failed".into())));
                **result = decoded.map(|image| {
                    Arch::new().dispatch(|| planes(&image, part));
                    buffers.reuse(image);
                    // Only pictures whose red planes have the same checksum are compared.
                    crc32c::crc32c(&part[..part.len() / 3])
                });
                done.fetch_add(1, Relaxed);
                if reported.elapsed() >= INTERVAL {
                    *reported = Instant::now();
                    let _ = sender.send(());
                }
            });
        });
        for () in receiver {
            if progress(done.load(Relaxed), candidates.len()).is_break() {
                stop.store(true, Relaxed);
            }
        }
    });
    if done.into_inner() == candidates.len() && progress(candidates.len(), candidates.len()).is_break() {
        stop.store(true, Relaxed);
    }
    if stop.load(Relaxed) {
        return Err(Error::Cancelled("reading images was stopped".into()));
    }
    Ok(results)
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
    use image::{DynamicImage, GrayImage, Rgb};

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
        let images = read(folder.path(), "{}").unwrap();
        assert_eq!(images.ages, [100.0, 39.0, 61.0, 9.0]);
        assert_eq!((images.size, images.groups), (ImageSize { height: 4, width: 6 }, vec![0, 1, 2, 2]));
        assert_eq!(images.pixels[..72], [50; 72], "grey becomes three equal planes");
        // Red of the second image's second row, and its blue.
        assert_eq!(images.pixels[72 + 6..72 + 12], [0, 10, 20, 30, 40, 50]);
        assert_eq!(images.pixels[72 + 48..144], [8; 24]);
        let data = read(folder.path(), "{}").unwrap().into_dataset().unwrap();
        assert_eq!((data.rows(), data.feature_shape()), (4, &[3, 4, 6][..]));
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
        assert!(fault(r#"{"size":{"height":4}}"#).contains("missing field `width`"));

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
        assert!(sizes.contains("7_.png: the image is 4 x 4 pixels, others are 4 x 5"), "{sizes}");
        std::fs::remove_file(at("10_.png")).unwrap();
        std::fs::remove_file(at("7_.png")).unwrap();
        assert!(fault(r#"{"corrupt":"skip"}"#).contains("no image"), "{}", fault(r#"{"corrupt":"skip"}"#));
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
