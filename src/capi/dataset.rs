//! Data sets.

use super::array::{biv_array, biv_array_out, fill, view, view_optional};
use super::boundary::boundary;
use super::status::biv_status;
use super::{handle, pointer};
use crate::base::memory::collect;
use crate::data::noise::NoiseOptions;
use crate::data::{Dataset, ImageFolder, NamedDataset, SplitOptions, SyntheticOptions};
use crate::{Error, Result};
use std::ffi::c_char;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Features, labels and, where they are known, the variances of the labels'
/// noise, in the host's memory. It never changes after it was made, so any
/// number of threads may use it at the same time.
pub struct biv_dataset {
    _private: (),
}

/// The sizes of a data set.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_dataset_info {
    /// Set to sizeof(biv_dataset_info) before the call.
    pub struct_size: usize,
    /// The number of rows.
    pub rows: i64,
    /// The number of feature values in a row: the product of its feature dimensions.
    pub features: i64,
    /// The number of labels in a row.
    pub outputs: i64,
    /// 1 when the variances of the labels are known, else 0.
    pub has_variances: i32,
    /// 1 when the labels carry simulated noise and the clean ones are kept beside them, else 0.
    pub has_clean_labels: i32,
    /// How many damaged images were left out when it was read.
    pub left_out: i64,
}

// SAFETY: `repr(C)`, numbers only, the size first.
unsafe impl pointer::SizedStruct for biv_dataset_info {
    const NAME: &'static str = "biv_dataset_info";
}

/// Makes a data set of the caller's arrays, which are copied (features to f32,
/// labels and variances to f64).
///
/// @param features shape [rows, ...]: any number of dimensions, the first is the rows.
/// @param labels shape [rows] or [rows, outputs], in any unit.
/// @param variances as labels, in the square of their unit, at least 0; NULL when unknown.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (no rows, NaN,
///   infinite, a negative variance, a feature beyond f32), BIV_ERROR_OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_from_arrays(
    features: *const biv_array,
    labels: *const biv_array,
    variances: *const biv_array,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let (features, labels) = (view(features, "features")?, view(labels, "labels")?);
            let variances = view_optional(variances, "variances")?;
            Dataset::from_arrays(&features, &labels, variances.as_ref()).map(Arc::new)
        })
    })
}

/// As biv_dataset_create_from_arrays(), with the standard deviations of the
/// labels' noise, in the labels' unit, instead of their variances.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_from_arrays_with_std(
    features: *const biv_array,
    labels: *const biv_array,
    standard_deviations: *const biv_array,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let (features, labels) = (view(features, "features")?, view(labels, "labels")?);
            let deviations = view(standard_deviations, "standard_deviations")?;
            Dataset::from_standard_deviations(&features, &labels, &deviations).map(Arc::new)
        })
    })
}

/// Reads a CSV file with a header.
///
/// @param path UTF-8.
/// @param options JSON, schema "csv": {"labels": ["income"], "standard_errors": ["moe"],
///   "error_divisor": 1.645, "features": [...], "one_hot": [...], "cyclic": {"hour": 24}, ...}.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_NOT_FOUND (file or column), BIV_ERROR_PARSE (with row and
///   column), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_from_csv(
    path: *const c_char,
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let path = Path::new(pointer::text(path, "path")?);
            Dataset::from_csv(path, &pointer::options(options, "csv")?).map(Arc::new)
        })
    })
}

/// Reads a data set that has a format of its own.
///
/// @param name "bike" (UCI Bike Sharing, hour.csv: 19 features, label cnt) or "wine" (UCI
///   Wine Quality, red and white: 11 features, label quality).
/// @param path the file, or the folder that holds the files.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return as biv_dataset_create_from_csv().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_named(
    name: *const c_char,
    path: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let name: NamedDataset = pointer::text(name, "name")?.parse()?;
            name.load(Path::new(pointer::text(path, "path")?)).map(Arc::new)
        })
    })
}

/// Reads a folder of images whose files' names begin with the label, up to the first "_", as UTKFace's
/// with the age: 39_1_20170116174525125.jpg. JPEG and PNG, in the order of their names. A row's features have
/// shape [3, height, width] and are bytes / 255; they are kept as bytes.
///
/// @param options JSON, schema "images": {"size": {"height": 64, "width": 64}, "corrupt": "skip"}; may be NULL.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_NOT_FOUND (no folder, no images), BIV_ERROR_PARSE (an image that is damaged or
///   without an age, with its name), BIV_ERROR_OUT_OF_MEMORY (more than "memory_limit", or no memory to decode an
///   image), BIV_ERROR_SHAPE (sizes that differ), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_from_images(
    folder: *const c_char,
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let folder = Path::new(pointer::text(folder, "folder")?);
            let options = pointer::options(options, "images")?;
            let unwatched = &mut |_, _| ControlFlow::Continue(());
            ImageFolder::read(folder, &options, unwatched)?.into_dataset().map(Arc::new)
        })
    })
}

/// Makes a data set whose clean function is known: Friedman's first,
/// 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4 of features uniform in [0, 1).
///
/// @param options JSON, schema "synthetic": {"rows": 2000, "features": 10, "outputs": 1, "seed": 0}.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_synthetic(
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            Dataset::synthetic(&pointer::options::<SyntheticOptions>(options, "synthetic")?).map(Arc::new)
        })
    })
}

/// A copy with simulated noise on the labels and the variances of that noise.
/// The clean labels are kept beside them, for normalisation. Where variances
/// are known already, the new ones add to them.
///
/// @param options JSON, schema "noise": {"distribution": {"kind": "uniform", "low": 0, "high": 1}
///   or {"kind": "gamma", "mean": m, "variance": V} or {"kind": "binary_uniform", "components":
///   [{"weight": 0.5, "low": 0, "high": 0.1}, {"low": 4, "high": 6}]}, "relative": true,
///   "disturbance": 0, "seed": 0}.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_add_noise(
    dataset: *const biv_dataset,
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let dataset = handle::get(dataset)?;
            pointer::options::<NoiseOptions>(options, "noise")?.apply(&dataset).map(Arc::new)
        })
    })
}

/// Two copies of parts: the first train_size rows and the last test_size rows,
/// shuffled before by default.
///
/// @param options JSON, schema "split": {"train_size": n, "test_size": m (default: the rest),
///   "shuffle": true, "seed": 0}.
/// @param train @param test the new handles, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG,
///   BIV_ERROR_INVALID_ARGUMENT when the parts are empty or more than there is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_split(
    dataset: *const biv_dataset,
    options: *const c_char,
    train: *mut *mut biv_dataset,
    test: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        let cleared = pointer::write(train, std::ptr::null_mut(), "train");
        pointer::write(test, std::ptr::null_mut(), "test").and(cleared)?;
        if std::ptr::eq(train, test) {
            return Err(Error::InvalidArgument("train and test are the same place".into()));
        }
        let options: SplitOptions = pointer::options(options, "split")?;
        let (first, second) = handle::get(dataset)?.split(&options)?;
        handle::create(train, || Ok(Arc::new(first)))?;
        handle::create(test, || Ok(Arc::new(second)))
    })
}

/// A copy of the rows `indices`, counted from 0, in that order; a row may occur more than once.
///
/// @param indices @param count at least one.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_subset(
    dataset: *const biv_dataset,
    indices: *const i64,
    count: usize,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let dataset = handle::get(dataset)?;
            let indices = pointer::slice(indices, count, "indices")?.iter().map(|&index| {
                usize::try_from(index).map_err(|_| Error::InvalidArgument(format!("the index {index} is negative")))
            });
            dataset.subset(&indices.collect::<Result<Vec<_>>>()?).map(Arc::new)
        })
    })
}

/// A copy with the rows in a random order, which `seed` determines.
///
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_OUT_OF_MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_shuffle(
    dataset: *const biv_dataset,
    seed: u64,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe { handle::create(out, || handle::get(dataset)?.shuffled(seed).map(Arc::new)) })
}

/// The data set's sizes.
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_get_info(dataset: *const biv_dataset, out: *mut biv_dataset_info) -> biv_status {
    boundary(|| {
        let dataset = handle::get(dataset)?;
        let info = biv_dataset_info {
            struct_size: 0,
            rows: dataset.rows() as i64,
            features: dataset.width() as i64,
            outputs: dataset.outputs() as i64,
            has_variances: dataset.variances().is_some().into(),
            has_clean_labels: dataset.has_clean_labels().into(),
            left_out: dataset.left_out().len() as i64,
        };
        // SAFETY: the header's contract for `out`.
        unsafe { pointer::write_sized(out, info) }
    })
}

/// Copies the features into an array of shape [rows, ...] as they were given, or [rows, features].
///
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_copy_features(
    dataset: *const biv_dataset,
    out: *const biv_array_out,
) -> biv_status {
    boundary(|| {
        let dataset = handle::get(dataset)?;
        let shape: Vec<usize> = [dataset.rows()].iter().chain(dataset.feature_shape()).copied().collect();
        let values = collect(dataset.feature_values()?.iter().map(|&value| f64::from(value)))?;
        // SAFETY: the header's contract for `out`.
        let filled = unsafe { fill(out, "out", &shape, &values) };
        match filled {
            // SAFETY: as above.
            Err(Error::Shape(_)) => unsafe { fill(out, "out", &[dataset.rows(), dataset.width()], &values) }.or(filled),
            filled => filled,
        }
    })
}

/// Copies the labels, in their unit, into an array of shape [rows, outputs], or [rows] for one output.
///
/// @return as biv_dataset_copy_features().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_copy_labels(dataset: *const biv_dataset, out: *const biv_array_out) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { copy_columns(&*handle::get(dataset)?, out, |dataset| Ok(dataset.labels())) })
}

/// Copies the labels as they were before simulated noise; without such noise, the labels.
///
/// @return as biv_dataset_copy_features().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_copy_clean_labels(
    dataset: *const biv_dataset,
    out: *const biv_array_out,
) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { copy_columns(&*handle::get(dataset)?, out, |dataset| Ok(dataset.clean_labels())) })
}

/// Copies the variances of the labels' noise, shaped as the labels.
///
/// @return as biv_dataset_copy_features(); BIV_ERROR_UNSUPPORTED when they are unknown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_copy_variances(
    dataset: *const biv_dataset,
    out: *const biv_array_out,
) -> biv_status {
    fn variances(dataset: &Dataset) -> Result<&[f64]> {
        dataset.variances().ok_or_else(|| Error::Unsupported("the data set has no variances".into()))
    }
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { copy_columns(&*handle::get(dataset)?, out, variances) })
}

/// Copies one value per label.
///
/// # Safety
/// As [`fill`].
unsafe fn copy_columns(
    dataset: &Dataset,
    out: *const biv_array_out,
    values: impl FnOnce(&Dataset) -> Result<&[f64]>,
) -> Result<()> {
    let values = values(dataset)?;
    // SAFETY: the caller's promise.
    unsafe { fill(out, "out", &[dataset.rows(), dataset.outputs()], values) }
}

/// Frees a handle. NULL and a handle that was freed before are left alone, and so is the last message.
/// Trainers made from the data set keep what they need of it. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_dataset_free(dataset: *mut biv_dataset) {
    handle::free(dataset);
}
