//! Data sets.

use super::array::{biv_array, biv_array_out, fill, view, view_optional};
use super::boundary::boundary;
use super::handle::{self, Handle};
use super::pointer;
use super::status::biv_status;
use crate::base::Element;
use crate::data::noise::NoiseOptions;
use crate::data::{ArrayOptions, Dataset, ImageFolder, NamedDataset, SplitOptions, SyntheticOptions, VarianceOptions};
use crate::train::distributed::path_of_rank;
use crate::{Error, Result};
use std::ffi::c_char;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Features, labels and, where they are known, the variances of the labels' noise, in the host's memory.
/// A data set never changes, so any number of threads may use it at the same time.
pub struct biv_dataset {
    _private: (),
}

impl Handle for biv_dataset {
    type Target = Dataset;
    const NAME: &'static str = "biv_dataset";
}

/// The sizes of a data set.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct biv_dataset_info {
    /// Set to sizeof(biv_dataset_info) before the call.
    pub struct_size: usize,
    /// The number of rows.
    pub rows: i64,
    /// The number of feature values in a row: the product of all dimensions but the first.
    pub features: i64,
    /// The number of labels in a row.
    pub outputs: i64,
    /// 1 when the variances of the labels are known, else 0.
    pub has_variances: i32,
    /// 1 when the labels have simulated noise and those before it are kept beside them, else 0.
    pub has_clean_labels: i32,
    /// How many damaged images, or rows with an empty field, were left out when the data were read:
    /// biv_dataset_describe() names them.
    pub left_out: i64,
    /// How many labels are masked: missing, or of infinite variance.
    pub masked_labels: i64,
}

// SAFETY: `repr(C)`, numbers only, the size first.
unsafe impl pointer::SizedStruct for biv_dataset_info {
    const NAME: &'static str = "biv_dataset_info";
}

/// Makes a data set of the caller's arrays, with everything that may be known of the labels.
///
/// With "columns", the names of the features, a model that is trained on the data set knows them: other data with names
/// are then matched by name, whatever their order.
///
/// A label of infinite variance is masked: it has no weight and counts in no statistic and no metric. With
/// "missing_labels" "mask", so is one of NaN.
///
/// @param features @param labels as for biv_dataset_create_from_arrays().
/// @param noise the variances of the labels' noise or, with "standard_deviations" true, their square roots: the
///   labels' shape, at least 0. NULL where they are unknown.
/// @param groups shape [rows]: rows of one number belong together, and no fold of biv_fit() parts them. NULL for none.
/// @param options JSON, schema "arrays": {"standard_deviations": false, "missing_labels": "error", "columns": [...]};
///   NULL for these defaults and no names.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return as biv_dataset_create_from_arrays(), and BIV_ERROR_INVALID_CONFIG. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create(
    features: *const biv_array,
    labels: *const biv_array,
    noise: *const biv_array,
    groups: *const biv_array,
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let (features, labels) = (view(features, "features")?, view(labels, "labels")?);
            let (noise, groups) = (view_optional(noise, "noise")?, view_optional(groups, "groups")?);
            let options: ArrayOptions = pointer::options(options, "arrays")?;
            Dataset::from_arrays_with(&features, &labels, noise.as_ref(), groups.as_ref(), &options).map(Arc::new)
        })
    })
}

/// Makes a data set of the caller's arrays. They are copied: labels and variances as f64, features as f32. A column
/// of f64 that lies far from 0 is centred before it is rounded, so that f32 keeps its differences.
///
/// @param features shape [rows, ...]: any number of dimensions, of which the first counts the rows.
/// @param labels shape [rows] or [rows, outputs], in any unit.
/// @param variances the variances of the labels' noise: the labels' shape, the square of their unit, at
///   least 0. An infinite one masks its label. NULL where they are unknown.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (no rows, a feature or label that is NaN or infinite, a
///   negative variance, a feature too large for f32), BIV_ERROR_OUT_OF_MEMORY. Any thread.
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

/// As biv_dataset_create_from_arrays(), with standard deviations instead of variances.
///
/// @param features @param labels as there.
/// @param standard_deviations those of the labels' noise: the labels' shape and unit, at least 0.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return as biv_dataset_create_from_arrays(). Any thread.
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
            let options = ArrayOptions { standard_deviations: true, ..ArrayOptions::default() };
            Dataset::from_arrays_with(&features, &labels, Some(&deviations), None, &options).map(Arc::new)
        })
    })
}

/// Reads a CSV file whose first line names the columns. The data set and every model that is trained on it know these
/// names: another file is matched by name where the model is evaluated or trained on it, whatever the order of its
/// columns and categories; columns that the model does not know are not used.
///
/// @param path the file, UTF-8, as it is or packed by gzip. "{rank}" in it is the number of this process, as torchrun or
///   Slurm's srun has set it: processes that hold their own rows read a file each.
/// @param options JSON, schema "csv": {"labels": ["income"], "standard_errors": ["moe"],
///   "error_divisor": 1.645, "features": [...], "one_hot": [...], "cyclic": {"hour": 24}, "group": "county",
///   "missing_labels": "mask", ...}.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_NOT_FOUND (the file or a column), BIV_ERROR_PARSE (the message names line, row
///   and column; the first row below the header is 1), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT,
///   BIV_ERROR_IO, BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_from_csv(
    path: *const c_char,
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let path = path_of_rank(pointer::text(path, "path")?, &|name| std::env::var(name).ok())?;
            Dataset::from_csv(Path::new(&*path), &pointer::options(options, "csv")?).map(Arc::new)
        })
    })
}

/// Reads a published data set from its files.
///
/// @param name "bike" (UCI Bike Sharing, hour.csv: 19 features, label cnt) or "wine" (UCI Wine Quality, red
///   and white: 11 features, label quality).
/// @param path the file, or the folder that holds the files, UTF-8.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return as biv_dataset_create_from_csv(). Any thread.
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

/// Reads a folder of JPEG, PNG and WebP images, in the order of their names. A name begins with the image's label,
/// up to the first "_", as UTKFace's do with the age: 39_1_20170116174525125.jpg. It ends in .jpg, .jpeg, .jpe, .jfif,
/// .png or .webp, in small or capital letters; the content says which of the formats the file has. Other files, hidden
/// ones and folders are passed over. biv_dataset_describe() names what was left out, and why.
///
/// A row's features have shape [3, height, width] and are the pixels' bytes divided by 255. They are kept as
/// bytes.
///
/// @param folder UTF-8; "{rank}" in it as for biv_dataset_create_from_csv().
/// @param options JSON, schema "images": {"size": {"height": 64, "width": 48}, "corrupt": "skip", "subfolders": true,
///   "orientation": "exif"}; {"size": 64} for squares; NULL for the defaults.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_NOT_FOUND (no folder, or no images in it), BIV_ERROR_PARSE (an image that is
///   damaged or has no label; the message names it), BIV_ERROR_SHAPE (images of different sizes),
///   BIV_ERROR_OUT_OF_MEMORY (more than "memory_limit", or no memory to decode an image),
///   BIV_ERROR_INVALID_CONFIG, BIV_ERROR_IO. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_create_from_images(
    folder: *const c_char,
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let folder = path_of_rank(pointer::text(folder, "folder")?, &|name| std::env::var(name).ok())?;
            let options = pointer::options(options, "images")?;
            let unwatched = &mut |_, _| ControlFlow::Continue(());
            ImageFolder::read(Path::new(&*folder), &options, unwatched)?.into_dataset().map(Arc::new)
        })
    })
}

/// Makes a data set of a known function, Friedman's first: the features are uniform in [0, 1) and the label is
/// 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4, without noise.
///
/// @param options JSON, schema "synthetic": {"rows": 2000, "features": 10, "outputs": 1, "seed": 0}.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY. Any thread.
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

/// Makes a copy whose labels have simulated noise of known variances. The labels before it are kept beside
/// them: a trainer takes its normalisation from those. Where the data set has variances, the new ones are added to
/// them.
///
/// @param options JSON, schema "noise": {"distribution": {"kind": "uniform", "low": 0, "high": 1}
///   or {"kind": "gamma", "mean": m, "variance": V} or {"kind": "binary_uniform", "components":
///   [{"weight": 0.5, "low": 0, "high": 0.1}, {"low": 4, "high": 6}]}, "relative": true,
///   "disturbance": 0, "seed": 0}.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY. Any thread.
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

/// Makes two data sets of copies: of the first train_size rows and of the last test_size rows, after a shuffle
/// unless "shuffle" is false.
///
/// @param options JSON, schema "split": {"train_size": 500, "test_size": 100, "shuffle": true, "seed": 0};
///   without "test_size", all other rows.
/// @param train @param test the new handles, to be freed with biv_dataset_free(); both NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG (a size of 0), BIV_ERROR_INVALID_ARGUMENT (no rows
///   are left for the test part, or both together have more rows than there are), BIV_ERROR_OUT_OF_MEMORY. Any thread.
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

/// Makes a data set of copies of some rows.
///
/// @param indices the rows' numbers, counted from 0, in the order of the result; a row may occur more than
///   once.
/// @param count how many numbers there are; at least 1.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT (no such row),
///   BIV_ERROR_OUT_OF_MEMORY. Any thread.
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
                let missing = || Error::InvalidArgument(format!("does not exist, there are {} rows", dataset.rows()));
                let element = Element(vec![("row", index)]);
                usize::try_from(index).map_err(|_| Error::At { element, error: missing().into() })
            });
            dataset.subset(&indices.collect::<Result<Vec<_>>>()?).map(Arc::new)
        })
    })
}

/// Makes a copy with the rows in a random order.
///
/// @param seed determines the order.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_shuffle(
    dataset: *const biv_dataset,
    seed: u64,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe { handle::create(out, || handle::get(dataset)?.shuffled(seed).map(Arc::new)) })
}

/// Makes a data set of the rows of `dataset` and then those of `more`. It shares the memory of both: that takes time for
/// the new rows alone, microseconds for one, however many there were. Rows of several data sets are put together in one
/// piece of memory where somebody first wants them so: a training does, unless it has more than 16 MiB of features.
///
/// Features are matched by name where both have names. Groups given as the same number, text or picture are one group. A
/// column of f64 that is centred stays centred where it is: the first rows should show where the columns lie.
///
/// @param more rows of the same shape, as many labels in a row, with variances and groups if `dataset` has them.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure. The others may be freed before it.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE (rows of another shape, or without a column),
///   BIV_ERROR_INVALID_ARGUMENT (only one of them has variances, or groups; a feature too large for f32),
///   BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_append(
    dataset: *const biv_dataset,
    more: *const biv_dataset,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { handle::create(out, || handle::get(dataset)?.append(&*handle::get(more)?).map(Arc::new)) })
}

/// Makes a data set of the last rows, which share the memory of all. With biv_dataset_append() it is a window over
/// data that keep coming: rows that have left it are let go of, at the latest when as many again have left it.
///
/// @param rows how many; all where there are no more. At least 1.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT (no rows), BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_latest(
    dataset: *const biv_dataset,
    rows: usize,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { handle::create(out, || handle::get(dataset)?.latest(rows).map(Arc::new)) })
}

/// Makes a data set of the same rows with other variances of the labels' noise. Everything else is shared. A label that
/// was masked by an infinite variance is so no more where the new one is finite; one that is missing stays masked.
///
/// @param noise the variances or, with "standard_deviations" true, their square roots: the labels' shape, at least 0.
/// @param options JSON, schema "variances": {"standard_deviations": false}; NULL for this default.
/// @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (a variance that is NaN or
///   negative), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_with_variances(
    dataset: *const biv_dataset,
    noise: *const biv_array,
    options: *const c_char,
    out: *mut *mut biv_dataset,
) -> biv_status {
    // SAFETY: the header's contract for all pointers.
    boundary(|| unsafe {
        handle::create(out, || {
            let dataset = handle::get(dataset)?;
            let noise = view(noise, "noise")?;
            let options: VarianceOptions = pointer::options(options, "variances")?;
            dataset.with_noise_of(&noise, &options).map(Arc::new)
        })
    })
}

/// The data set's sizes.
///
/// @param out a struct of the caller's, with its struct_size set.
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_get_info(dataset: *const biv_dataset, out: *mut biv_dataset_info) -> biv_status {
    boundary(|| {
        let dataset = handle::get(dataset)?;
        let info = biv_dataset_info {
            struct_size: 0,
            rows: dataset.rows() as i64,
            features: dataset.width() as i64,
            outputs: dataset.outputs() as i64,
            has_variances: dataset.has_variances().into(),
            has_clean_labels: dataset.has_clean_labels().into(),
            left_out: dataset.left_out().len() as i64,
            masked_labels: dataset.masked() as i64,
        };
        // SAFETY: the header's contract for `out`.
        unsafe { pointer::write_sized(out, info) }
    })
}

/// Describes the data set as JSON: {"columns": {"features": [{"name": "temp", "encoding": "number"}, {"name": "hour",
/// "encoding": "cyclic", "period": 24}, {"name": "kind", "encoding": "one_hot", "categories": ["a", "b"]}], "labels":
/// ["y"], "unseen_categories": "error"}, "left_out": ["row 3: column 'temp' is empty"]}. The columns are null where they
/// have no names; "left_out" names what was left out when the data were read, and why.
///
/// @param buffer @param capacity @param needed as for biv_model_describe().
/// @return as biv_model_describe(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_describe(
    dataset: *const biv_dataset,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> biv_status {
    boundary(|| {
        let dataset = handle::get(dataset)?;
        let columns = dataset.columns().map(|columns| &**columns);
        let text = serde_json::json!({"columns": columns, "left_out": dataset.left_out()}).to_string();
        // SAFETY: the header's contract for the buffer.
        unsafe { pointer::copy_text(&text, buffer, capacity, needed) }
    })
}

/// Copies the features.
///
/// @param out an array of the caller's to be filled, of the shape that the features were given in, [rows, ...],
///   or of shape [rows, features].
/// @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT,
///   BIV_ERROR_OUT_OF_MEMORY. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_copy_features(
    dataset: *const biv_dataset,
    out: *const biv_array_out,
) -> biv_status {
    boundary(|| {
        let dataset = handle::get(dataset)?;
        let shape: Vec<usize> = [dataset.rows()].iter().chain(dataset.feature_shape()).copied().collect();
        let values = dataset.features().rows().to_f64(dataset.width())?;
        // SAFETY: the header's contract for `out`.
        let filled = unsafe { fill(out, "out", &shape, &values) };
        match filled {
            // SAFETY: as above.
            Err(Error::Shape(_)) => unsafe { fill(out, "out", &[dataset.rows(), dataset.width()], &values) }.or(filled),
            filled => filled,
        }
    })
}

/// Copies the labels, in their unit.
///
/// @param out an array of the caller's to be filled, of shape [rows, outputs], or [rows] for one output.
/// @return as biv_dataset_copy_features(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_copy_labels(dataset: *const biv_dataset, out: *const biv_array_out) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { copy_columns(&*handle::get(dataset)?, out, |dataset| Ok(dataset.labels())) })
}

/// Copies the labels as they were before simulated noise was added; without such noise, the labels.
///
/// @param out as for biv_dataset_copy_labels().
/// @return as biv_dataset_copy_features(). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn biv_dataset_copy_clean_labels(
    dataset: *const biv_dataset,
    out: *const biv_array_out,
) -> biv_status {
    // SAFETY: the header's contract for `out`.
    boundary(|| unsafe { copy_columns(&*handle::get(dataset)?, out, |dataset| Ok(dataset.clean_labels())) })
}

/// Copies the variances of the labels' noise, in the square of the labels' unit.
///
/// @param out as for biv_dataset_copy_labels().
/// @return as biv_dataset_copy_features(); BIV_ERROR_UNSUPPORTED where the variances are unknown. Any thread.
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

/// Frees a handle. Does nothing to NULL and to a handle that was freed before, and keeps the thread's last
/// message. A trainer has its own copy of what it needs. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn biv_dataset_free(dataset: *mut biv_dataset) {
    handle::free(dataset);
}
