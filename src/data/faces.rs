//! Drawn faces whose age shows, in files named like UTKFace's: for tests and
//! demonstrations, which cannot ship photographs.

use crate::base::options::require;
use crate::base::random::{Purpose, stream};
use crate::{Error, Result};
use image::{Rgb, RgbImage};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use std::path::Path;

/// What [`draw_faces`] draws.
#[derive(Clone, Debug)]
pub struct FaceOptions {
    /// How many (default 200).
    pub count: usize,
    /// Height and width in pixels, 8 to 2000 (default 200).
    pub size: u32,
    /// The same seed draws the same faces (default 0).
    pub seed: u64,
}

impl Default for FaceOptions {
    fn default() -> Self {
        FaceOptions { count: 200, size: 200, seed: 0 }
    }
}

/// Draws faces of 1 to 100 years into `folder`, as JPEG. A few names are
/// irregular in the ways in which UTKFace's are.
///
/// # Errors
/// [`Error::InvalidArgument`] for a folder that is not empty, [`Error::InvalidConfig`], [`Error::Io`].
pub fn draw_faces(folder: &Path, options: &FaceOptions) -> Result<()> {
    require((1..=1_000_000).contains(&options.count), "faces.count", options.count, "1 to 1000000")?;
    require((8..=2000).contains(&options.size), "faces.size", options.size, "8 to 2000")?;
    let io = |error| Error::io(folder, error);
    std::fs::create_dir_all(folder).map_err(io)?;
    if std::fs::read_dir(folder).map_err(io)?.next().is_some() {
        return Err(Error::InvalidArgument(format!("{}: the folder is not empty: take another", folder.display())));
    }
    for index in 0..options.count {
        let mut generator = stream(options.seed, Purpose::Synthetic, index as u64);
        let age = generator.random_range(1..=100u32);
        let (gender, race) = (generator.random_range(0..2), generator.random_range(0..5));
        let timestamp = 20_170_000_000_000_000 + index;
        let name = match index % 20 {
            11 => format!("{age}_{gender}_{timestamp}.jpg.chip.jpg"),
            17 => format!("{age}_{gender}_{race}_ {timestamp}.jpg.chip.jpg"),
            _ => format!("{age}_{gender}_{race}_{timestamp}.jpg.chip.jpg"),
        };
        let path = folder.join(name);
        face(f64::from(age) / 100.0, options.size, &mut generator).save(&path).map_err(|error| match error {
            image::ImageError::IoError(error) => Error::io(&path, error),
            other => Error::Internal(format!("{}: {other}", path.display())),
        })?;
    }
    Ok(())
}

type Color = [f64; 3];

/// A picture in coordinates from -1 to 1, painted shape by shape.
struct Canvas {
    size: u32,
    pixels: Vec<Color>,
}

impl Canvas {
    /// Blends `color` into an ellipse with a soft edge. `opacity` is 0 to 1.
    fn ellipse(&mut self, center: [f64; 2], radii: [f64; 2], color: Color, opacity: f64) {
        let pixel = 2.0 / f64::from(self.size);
        for row in 0..self.size {
            for column in 0..self.size {
                let x = (f64::from(column) + 0.5) * pixel - 1.0 - center[0];
                let y = (f64::from(row) + 0.5) * pixel - 1.0 - center[1];
                let distance = ((x / radii[0]).hypot(y / radii[1]) - 1.0) * radii[0].min(radii[1]);
                let cover = opacity * (0.5 - distance / pixel).clamp(0.0, 1.0);
                if cover > 0.0 {
                    let below = &mut self.pixels[(row * self.size + column) as usize];
                    *below = mix(*below, color, cover);
                }
            }
        }
    }
}

/// From `a` (at 0) to `b` (at 1).
fn mix(a: Color, b: Color, share: f64) -> Color {
    std::array::from_fn(|channel| a[channel] + (b[channel] - a[channel]) * share)
}

/// A face; `age` is 0 to 1. Age makes the head longer, the eyes smaller, the hair
/// grey and higher, and draws lines; everything else is random.
fn face(age: f64, size: u32, generator: &mut ChaCha12Rng) -> RgbImage {
    let mut chance = |low: f64, high: f64| low + (high - low) * generator.random::<f64>();
    let background = [chance(0.2, 0.9), chance(0.2, 0.9), chance(0.2, 0.9)];
    let skin = mix([0.96, 0.80, 0.69], [0.45, 0.30, 0.22], chance(0.0, 1.0));
    let hair = mix([0.10, 0.07, 0.05], [0.62, 0.42, 0.20], chance(0.0, 1.0));
    let (x, y, scale) = (chance(-0.1, 0.1), chance(-0.02, 0.1), chance(0.9, 1.05));
    let (light, noise) = ([chance(-0.15, 0.15), chance(-0.15, 0.15)], chance(0.01, 0.03));

    let grey = ((age - 0.35) / 0.35).clamp(0.0, 1.0);
    let hair = mix(hair, [0.86, 0.86, 0.87], grey);
    let shadow = mix(skin, [0.0; 3], 0.45);
    let grown = (age / 0.2).min(1.0);
    let at = |dx: f64, dy: f64| [x + dx * scale, y + dy * scale];
    let radii = |a: f64, b: f64| [a * scale, b * scale];
    let half = 0.62 - 0.08 * grown;

    let mut canvas = Canvas { size, pixels: vec![background; (size * size) as usize] };
    canvas.ellipse(at(0.0, 1.15), radii(0.8, 0.45), mix(background, [0.1, 0.1, 0.3], 0.6), 1.0);
    canvas.ellipse(at(0.0, -0.12), radii(half + 0.09, 0.78), hair, 1.0);
    canvas.ellipse(at(0.0, 0.1 - 0.06 * age), radii(half, 0.62 + 0.12 * grown), skin, 1.0);
    // The hair's lower edge rises with age.
    canvas.ellipse(at(0.0, -0.78 - 0.22 * age), radii(half, 0.32), hair, 1.0);
    for side in [-1.0, 1.0] {
        let (eye, open) = (side * 0.24, 0.10 - 0.035 * grown - 0.02 * age);
        canvas.ellipse(at(eye, 0.0), radii(0.13 - 0.02 * grown, open), [0.97, 0.97, 0.95], 1.0);
        canvas.ellipse(at(eye, 0.0), radii(open * 0.8, open * 0.8), [0.15, 0.12, 0.10], 1.0);
        canvas.ellipse(at(eye, -0.17), radii(0.14, 0.02 + 0.015 * grown), mix(hair, [0.0; 3], 0.2), 0.9);
        // Bags under the eyes and lines beside the mouth.
        canvas.ellipse(at(eye, 0.13), radii(0.13, 0.018), shadow, age);
        canvas.ellipse(at(side * 0.27, 0.38), radii(0.015, 0.16), shadow, 0.9 * age);
    }
    canvas.ellipse(at(0.0, 0.2), radii(0.045 + 0.025 * age, 0.12), shadow, 0.5);
    canvas.ellipse(at(0.0, 0.47), radii(0.2, 0.055 - 0.025 * age), [0.65, 0.25, 0.25], 1.0);
    for line in 0..3 {
        let deep = (age * 4.0 - 1.0 - f64::from(line)).clamp(0.0, 1.0);
        canvas.ellipse(at(0.0, -0.28 - 0.08 * f64::from(line)), radii(0.3, 0.012), shadow, deep);
    }

    RgbImage::from_fn(size, size, |column, row| {
        let [x, y] = [column, row].map(|at| f64::from(at) / f64::from(size) * 2.0 - 1.0);
        let shade = 1.0 + light[0] * x + light[1] * y;
        let grain = noise * (generator.random::<f64>() - 0.5) * 2.0;
        let color = canvas.pixels[(row * size + column) as usize];
        Rgb(color.map(|value| ((value * shade + grain) * 255.0).round().clamp(0.0, 255.0) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ImageFolder, ImageOptions};
    use std::ops::ControlFlow;

    fn read(folder: &Path) -> ImageFolder {
        ImageFolder::read(folder, &ImageOptions::default(), &mut |_, _| ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn the_same_seed_draws_the_same_faces_and_the_folder_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let draw = |name: &str, seed: u64| {
            let path = folder.path().join(name);
            draw_faces(&path, &FaceOptions { count: 24, size: 16, seed }).unwrap();
            read(&path)
        };
        let (first, again, other) = (draw("a", 1), draw("b", 1), draw("c", 2));
        assert_eq!((&first.pixels, &first.ages), (&again.pixels, &again.ages));
        assert_ne!(first.pixels, other.pixels);
        assert_eq!((first.ages.len(), first.skipped.len()), (24, 0));
        let names: Vec<String> = first.files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
        assert!(names.iter().any(|name| name.contains(' ')), "a name with a space");
        assert!(names.iter().any(|name| name.matches('_').count() == 2), "a name without a race");
    }

    #[test]
    fn age_shows_in_the_hair() {
        // Just above the forehead is dark hair on young heads and grey hair on old ones.
        let brightness = |age: f64| {
            let faces = (0..20).map(|seed| {
                let image = face(age, 64, &mut stream(seed, Purpose::Synthetic, 0));
                f64::from(image.get_pixel(32, 6)[2])
            });
            faces.sum::<f64>() / 20.0
        };
        assert!(brightness(0.9) > brightness(0.2) + 60.0, "{} {}", brightness(0.9), brightness(0.2));
    }

    #[test]
    fn faults_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("letter"), "").unwrap();
        let fault = |options: FaceOptions| draw_faces(folder.path(), &options).unwrap_err().to_string();
        assert!(fault(FaceOptions::default()).ends_with("the folder is not empty: take another"));
        assert!(fault(FaceOptions { count: 0, ..FaceOptions::default() }).starts_with("faces.count: is 0"));
        assert!(fault(FaceOptions { size: 4, ..FaceOptions::default() }).starts_with("faces.size: is 4"));
    }
}
