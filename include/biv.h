/**
 * libbiv: batch inverse-variance training for regression labels of known noise.
 *
 * Generated from src/capi by the build (cbindgen). Do not edit.
 *
 * Every function that can fail returns a biv_status and gives its results through
 * pointers, the last parameters. On failure biv_last_error_message() says what was
 * wrong, where, and what would be right; handles that were asked for are NULL.
 *
 * Handles. biv_dataset, biv_model, biv_trainer and biv_text are opaque and checked on every
 * call: NULL, a freed handle, one of another type or any other value gives
 * BIV_ERROR_INVALID_HANDLE. Each is freed once, with its own _free function, in any
 * order: what depends on an object keeps it alive.
 *
 * Threads. Every function may be called from any thread. Calls on one handle take
 * turns, calls on different handles run at the same time.
 *
 * Memory. What the caller passes is copied before the call returns; what the
 * library fills is the caller's. Strings that it returns are static, but for the
 * message and those in a biv_text. Sizes are checked for overflow, pointers for NULL and alignment; beyond
 * that a pointer must be valid for what its description says.
 *
 * Structs that are filled begin with struct_size: set it to the struct's sizeof
 * before the call, so that programs and libraries of different age work together.
 *
 * Options are JSON in UTF-8, read strictly: an unknown field, a wrong type or an
 * illegal value is BIV_ERROR_INVALID_CONFIG with its path. biv_config_schema() has
 * their schemas.
 *
 * The library never prints, exits, aborts, installs signal handlers or changes the
 * environment, and lets no panic or C++ exception out. The same seed gives the same
 * result on the same machine and number of threads; libtorch's global generator is
 * neither read nor set. After fork(), only the process that loaded the library may
 * go on using it.
 */


#ifndef BIV_H
#define BIV_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header; biv_version() is the library's. */
#define BIV_VERSION "0.1.0"
#define BIV_VERSION_MAJOR 0
#define BIV_VERSION_MINOR 1
#define BIV_VERSION_PATCH 0


/**
 * The elements are `float`.
 */
#define BIV_F32 1

/**
 * The elements are `double`.
 */
#define BIV_F64 2

/**
 * The ABI's version: it grows when a program has to be compiled again. biv_abi_version() is the library's.
 */
#define BIV_ABI_VERSION 1

/**
 * Images are being decoded.
 */
#define BIV_STAGE_LOADING 1

/**
 * Mini-batches are being trained on.
 */
#define BIV_STAGE_TRAINING 2

/**
 * Runs of a sweep have ended.
 */
#define BIV_STAGE_SWEEP 3

/**
 * Features, labels and, where they are known, the variances of the labels'
 * noise, in the host's memory. It never changes after it was made, so any
 * number of threads may use it at the same time.
 */
typedef struct biv_dataset biv_dataset;

/**
 * A network and, once it was trained, the normalisation of its data. Any thread
 * may use it; calls on one model take turns. While a trainer trains it, other
 * calls come in between two steps.
 */
typedef struct biv_model biv_model;

/**
 * A text that the library made, JSON in UTF-8.
 */
typedef struct biv_text biv_text;

/**
 * Trains one model with Adam. It keeps what it needs of model and data, so
 * their handles may be freed. Any thread may use it; calls on one trainer take
 * turns, except biv_trainer_cancel() and biv_trainer_get_progress(), which never wait.
 */
typedef struct biv_trainer biv_trainer;

/**
 * What a call returns: BIV_OK or one of the BIV_ERROR_ codes. Codes are only ever added.
 */
typedef int32_t biv_status;

/**
 * An array that a function reads. The function copies what it needs: the memory
 * is the caller's again when the call returns.
 *
 * Row-major (C) memory needs no strides. For a column-major matrix of n rows
 * and d columns: shape {n, d}, strides {1, n}.
 */
typedef struct biv_array {
  /**
   * The element whose indices are all 0. NULL only in an array of no elements.
   */
  const void *data;
  /**
   * BIV_F32 or BIV_F64.
   */
  int32_t dtype;
  /**
   * The number of dimensions, 1 to 8.
   */
  int32_t rank;
  /**
   * The size of each dimension: `rank` numbers.
   */
  const int64_t *shape;
  /**
   * From one index to the next, for each dimension, in elements, negative or 0 too; NULL for row-major.
   */
  const int64_t *strides;
  /**
   * How many elements the buffer has from `data` on, to be checked against; 0 when not stated.
   */
  int64_t size;
} biv_array;

/**
 * The sizes of a data set.
 */
typedef struct biv_dataset_info {
  /**
   * Set to sizeof(biv_dataset_info) before the call.
   */
  size_t struct_size;
  /**
   * The number of rows.
   */
  int64_t rows;
  /**
   * The number of feature values in a row: the product of its feature dimensions.
   */
  int64_t features;
  /**
   * The number of labels in a row.
   */
  int64_t outputs;
  /**
   * 1 when the variances of the labels are known, else 0.
   */
  int32_t has_variances;
  /**
   * 1 when the labels carry simulated noise and the clean ones are kept beside them, else 0.
   */
  int32_t has_clean_labels;
  /**
   * How many damaged images were left out when it was read.
   */
  int64_t left_out;
} biv_dataset_info;

/**
 * An array that a function fills, described like biv_array. Different indices
 * must be different elements. Nothing is written unless the call succeeds.
 */
typedef struct biv_array_out {
  /**
   * The element whose indices are all 0.
   */
  void *data;
  /**
   * BIV_F32 or BIV_F64.
   */
  int32_t dtype;
  /**
   * The number of dimensions, 1 to 8.
   */
  int32_t rank;
  /**
   * The size of each dimension: `rank` numbers.
   */
  const int64_t *shape;
  /**
   * From one index to the next, for each dimension, in elements; NULL for row-major.
   */
  const int64_t *strides;
  /**
   * How many elements the buffer has from `data` on, to be checked against; 0 when not stated.
   */
  int64_t size;
} biv_array_out;

/**
 * A loss on a mini-batch.
 */
typedef struct biv_loss_result {
  /**
   * Set to sizeof(biv_loss_result) before the call.
   */
  size_t struct_size;
  /**
   * The loss.
   */
  double value;
  /**
   * The effective batch size (sum w)^2 / sum w^2; the mean over the outputs.
   */
  double effective_batch_size;
  /**
   * The epsilon used, infinite where only equal weights reach a minimum batch; 0 for losses without one.
   */
  double epsilon;
  /**
   * How many rows have a weight.
   */
  int64_t samples_used;
} biv_loss_result;

/**
 * The sizes of a model.
 */
typedef struct biv_model_info {
  /**
   * Set to sizeof(biv_model_info) before the call.
   */
  size_t struct_size;
  /**
   * The number of feature values in a row.
   */
  int64_t inputs;
  /**
   * The number of predictions for a row.
   */
  int64_t outputs;
  /**
   * The number of trainable values.
   */
  int64_t parameters;
  /**
   * 1 when predictions are in the labels' unit by the model's own normalisation, else 0.
   */
  int32_t normalized;
} biv_model_info;

/**
 * What one step did.
 */
typedef struct biv_step {
  /**
   * Set to sizeof(biv_step) before the call.
   */
  size_t struct_size;
  /**
   * The mini-batch's loss before the step, in normalised units.
   */
  double loss;
  /**
   * The effective batch size (sum w)^2 / sum w^2, from 1 to the number of rows.
   */
  double effective_batch_size;
  /**
   * The epsilon used, in normalised units; 0 for losses without one.
   */
  double epsilon;
  /**
   * The number of rows in the mini-batch.
   */
  int64_t rows;
  /**
   * How many of them have a weight. 0: the cutoff left none and no step was taken.
   */
  int64_t samples_used;
} biv_step;

/**
 * Errors of predictions on a data set; with several outputs, means over them.
 */
typedef struct biv_metrics {
  /**
   * Set to sizeof(biv_metrics) before the call.
   */
  size_t struct_size;
  /**
   * The number of rows.
   */
  int64_t rows;
  /**
   * Mean squared error, in the square of the labels' unit.
   */
  double mse;
  /**
   * Its square root.
   */
  double rmse;
  /**
   * Mean absolute error, in the labels' unit.
   */
  double mae;
  /**
   * Coefficient of determination, the same in every unit; NaN where the labels are constant.
   */
  double r2;
  /**
   * mse in normalised units.
   */
  double normalized_mse;
  /**
   * rmse in normalised units.
   */
  double normalized_rmse;
  /**
   * mae in normalised units.
   */
  double normalized_mae;
} biv_metrics;

/**
 * What one epoch did.
 */
typedef struct biv_epoch {
  /**
   * The size of this struct in the library: fields beyond it do not exist.
   */
  size_t struct_size;
  /**
   * The number of epochs completed, this one included.
   */
  int64_t epoch;
  /**
   * Mini-batches seen, those without a label to learn from included.
   */
  int64_t batches;
  /**
   * Mini-batches that were skipped because the cutoff left no label.
   */
  int64_t skipped;
  /**
   * The mean loss of the others, in normalised units.
   */
  double loss;
  /**
   * Their mean effective batch size.
   */
  double effective_batch_size;
  /**
   * The metrics on the test set; NULL when none was given. Valid during the callback.
   */
  const struct biv_metrics *test;
} biv_epoch;

/**
 * Called by biv_trainer_fit() after every epoch, on the thread that called it.
 * The trainer is free meanwhile: the callback may evaluate, predict, save and set
 * the learning rate. It must return normally: an exception or longjmp that
 * leaves it is undefined behaviour.
 *
 * @param user what biv_trainer_fit() was given.
 * @param epoch valid during the call.
 * @return 0 to go on, anything else to stop.
 */
typedef int32_t (*biv_epoch_callback)(void *user, const struct biv_epoch *epoch);

/**
 * How far training has come.
 */
typedef struct biv_progress {
  /**
   * Set to sizeof(biv_progress) before the call.
   */
  size_t struct_size;
  /**
   * Epochs completed.
   */
  int64_t epoch;
  /**
   * Mini-batches taken from the epoch in progress.
   */
  int64_t batch;
  /**
   * Steps taken.
   */
  int64_t steps;
  /**
   * The loss of the last step, in normalised units; 0 before the first.
   */
  double loss;
  /**
   * 1 while biv_trainer_fit() is running, else 0.
   */
  int32_t running;
} biv_progress;

/**
 * How far a long computation has come.
 */
typedef struct biv_experiment_progress {
  /**
   * The size of this struct in the library: fields beyond it do not exist.
   */
  size_t struct_size;
  /**
   * BIV_STAGE_LOADING, BIV_STAGE_TRAINING or BIV_STAGE_SWEEP: what `done` and `total` count.
   */
  int32_t stage;
  /**
   * The run: its tag, in a sweep its variant and seed. Valid during the callback.
   */
  const char *run;
  /**
   * Images, mini-batches or runs done.
   */
  int64_t done;
  /**
   * Of how many.
   */
  int64_t total;
  /**
   * Epochs completed.
   */
  int64_t epoch;
  /**
   * Of how many; 0 outside training.
   */
  int64_t epochs;
  /**
   * The mean training loss of the present epoch so far, in normalised units; NaN where there is none.
   */
  double loss;
  /**
   * The last RMSE on the test set, in the labels' unit; NaN before the first.
   */
  double rmse;
  /**
   * Images or training rows per second; NaN for BIV_STAGE_SWEEP.
   */
  double samples_per_second;
  /**
   * An estimate; NaN before there is one.
   */
  double seconds_left;
} biv_experiment_progress;

/**
 * Called often by biv_experiment_run() and biv_sweep_run(), on the thread that called them. It must
 * return normally: an exception or longjmp that leaves it is undefined behaviour.
 *
 * @param user what the function was given.
 * @param progress valid during the call.
 * @return 0 to go on, anything else to stop.
 */
typedef int32_t (*biv_experiment_callback)(void *user,
                                           const struct biv_experiment_progress *progress);

/**
 * The call did what it says.
 */
#define BIV_OK 0

/**
 * An argument's value is not one that the function takes: correct the call.
 */
#define BIV_ERROR_INVALID_ARGUMENT 1

/**
 * A handle is NULL, freed, or of another type: correct the call.
 */
#define BIV_ERROR_INVALID_HANDLE 2

/**
 * A field of the JSON options is unknown, of the wrong type or out of range: the message has its path.
 */
#define BIV_ERROR_INVALID_CONFIG 3

/**
 * Arrays do not fit together, or not the model.
 */
#define BIV_ERROR_SHAPE 4

/**
 * A file, column or tensor does not exist.
 */
#define BIV_ERROR_NOT_FOUND 5

/**
 * The system refused to read or write: permissions, a full disk. What was saved before is still there.
 */
#define BIV_ERROR_IO 6

/**
 * A data file's content is not what its format says: the message has row and column.
 */
#define BIV_ERROR_PARSE 7

/**
 * The call is legal, but not for this object.
 */
#define BIV_ERROR_UNSUPPORTED 8

/**
 * The object is fitting: call again when that has returned.
 */
#define BIV_ERROR_BUSY 9

/**
 * Training was stopped by the callback or by biv_trainer_cancel. The trainer can go on.
 */
#define BIV_ERROR_CANCELLED 10

/**
 * Memory ran out, the host's or the device's.
 */
#define BIV_ERROR_OUT_OF_MEMORY 11

/**
 * The device does not exist or cannot be used.
 */
#define BIV_ERROR_DEVICE 12

/**
 * A number became infinite or NaN.
 */
#define BIV_ERROR_NUMERICAL 13

/**
 * A saved file is damaged, of a later version, or not one of libbiv's.
 */
#define BIV_ERROR_CORRUPT 14

/**
 * A defect in libbiv or libtorch, contained: please report the message.
 */
#define BIV_ERROR_INTERNAL 15

/**
 * A buffer of the caller's is too small: the function says how much is needed.
 */
#define BIV_ERROR_BUFFER_TOO_SMALL 16

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The name of a status, for example "BIV_ERROR_SHAPE"; "BIV_ERROR_UNKNOWN" for
 * a number that is none. Never NULL, static, never to be freed. Any thread.
 */
const char *biv_status_name(biv_status status);

/**
 * The library's version, for example "0.1.0". Static, never to be freed. Any thread.
 */
const char *biv_version(void);

/**
 * The library's ABI version: a program must have been compiled with the same BIV_ABI_VERSION. Any thread.
 */
int32_t biv_abi_version(void);

/**
 * What the library was built from and runs on, as JSON: version, libtorch, debug or
 * release, and "blas", the library whose matrix product libtorch calls. That is
 * "libtorch_cpu.so", unless a BLAS of the host's comes before it: then results differ
 * in their last bits, and speed by as much as the libraries do (docs/linking.md).
 * Static, never to be freed. Any thread.
 */
const char *biv_build_info(void);

/**
 * What was wrong with this thread's last call, in one sentence of UTF-8; empty
 * after a success. Never NULL, valid until this thread's next call that returns a status
 * (the _free functions leave it alone), never to be freed.
 */
const char *biv_last_error_message(void);

/**
 * The JSON Schema of the options called `name`: "csv", "synthetic", "split",
 * "noise", "distribution", "loss", "model", "trainer", "images", "faces", "settings", "experiment" or "sweep".
 *
 * @param out set to a static string, never to be freed.
 * @return BIV_OK or BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_config_schema(const char *name,
                             const char **out);

/**
 * The number of CUDA devices that can be used. 0 is no error: no GPU, no driver
 * or no CUDA libraries. The first call loads them. Any thread.
 *
 * @return BIV_OK or BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_cuda_device_count(int32_t *out);

/**
 * How many threads libtorch uses inside one operation on the CPU. It is a
 * property of the process, shared with a host that uses libtorch itself.
 *
 * @return BIV_OK or BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_get_num_threads(int32_t *out);

/**
 * Sets what biv_get_num_threads gives, at least 1. libbiv never does so by
 * itself. Results are reproducible for one number of threads; another one may
 * round differently.
 *
 * @return BIV_OK or BIV_ERROR_INVALID_CONFIG. Call it while nothing is training.
 */
biv_status biv_set_num_threads(int32_t threads);

/**
 * Makes a data set of the caller's arrays, which are copied (features to f32,
 * labels and variances to f64).
 *
 * @param features shape [rows, ...]: any number of dimensions, the first is the rows.
 * @param labels shape [rows] or [rows, outputs], in any unit.
 * @param variances as labels, in the square of their unit, at least 0; NULL when unknown.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (no rows, NaN,
 *   infinite, a negative variance, a feature beyond f32), BIV_ERROR_OUT_OF_MEMORY.
 */
biv_status biv_dataset_create_from_arrays(const struct biv_array *features,
                                          const struct biv_array *labels,
                                          const struct biv_array *variances,
                                          struct biv_dataset **out);

/**
 * As biv_dataset_create_from_arrays(), with the standard deviations of the
 * labels' noise, in the labels' unit, instead of their variances.
 */
biv_status biv_dataset_create_from_arrays_with_std(const struct biv_array *features,
                                                   const struct biv_array *labels,
                                                   const struct biv_array *standard_deviations,
                                                   struct biv_dataset **out);

/**
 * Reads a CSV file with a header.
 *
 * @param path UTF-8.
 * @param options JSON, schema "csv": {"labels": ["income"], "standard_errors": ["moe"],
 *   "error_divisor": 1.645, "features": [...], "one_hot": [...], "cyclic": {"hour": 24}, ...}.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_NOT_FOUND (file or column), BIV_ERROR_PARSE (with row and
 *   column), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_IO.
 */
biv_status biv_dataset_create_from_csv(const char *path,
                                       const char *options,
                                       struct biv_dataset **out);

/**
 * Reads a data set that has a format of its own.
 *
 * @param name "bike" (UCI Bike Sharing, hour.csv: 19 features, label cnt) or "wine" (UCI
 *   Wine Quality, red and white: 11 features, label quality).
 * @param path the file, or the folder that holds the files.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return as biv_dataset_create_from_csv().
 */
biv_status biv_dataset_create_named(const char *name, const char *path, struct biv_dataset **out);

/**
 * Reads a folder of images whose files' names begin with the label, up to the first "_", as UTKFace's
 * with the age: 39_1_20170116174525125.jpg. JPEG and PNG, in the order of their names. A row's features have
 * shape [3, height, width] and are bytes / 255; they are kept as bytes.
 *
 * @param options JSON, schema "images": {"size": {"height": 64, "width": 64}, "corrupt": "skip"}; may be NULL.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_NOT_FOUND (no folder, no images), BIV_ERROR_PARSE (an image that is damaged or
 *   without an age, with its name), BIV_ERROR_OUT_OF_MEMORY (more than "memory_limit", or no memory to decode an
 *   image), BIV_ERROR_SHAPE (sizes that differ), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_IO.
 */
biv_status biv_dataset_create_from_images(const char *folder,
                                          const char *options,
                                          struct biv_dataset **out);

/**
 * Makes a data set whose clean function is known: Friedman's first,
 * 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4 of features uniform in [0, 1).
 *
 * @param options JSON, schema "synthetic": {"rows": 2000, "features": 10, "outputs": 1, "seed": 0}.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY.
 */
biv_status biv_dataset_create_synthetic(const char *options, struct biv_dataset **out);

/**
 * A copy with simulated noise on the labels and the variances of that noise.
 * The clean labels are kept beside them, for normalisation. Where variances
 * are known already, the new ones add to them.
 *
 * @param options JSON, schema "noise": {"distribution": {"kind": "uniform", "low": 0, "high": 1}
 *   or {"kind": "gamma", "mean": m, "variance": V} or {"kind": "binary_uniform", "components":
 *   [{"weight": 0.5, "low": 0, "high": 0.1}, {"low": 4, "high": 6}]}, "relative": true,
 *   "disturbance": 0, "seed": 0}.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY.
 */
biv_status biv_dataset_add_noise(const struct biv_dataset *dataset,
                                 const char *options,
                                 struct biv_dataset **out);

/**
 * Two copies of parts: the first train_size rows and the last test_size rows,
 * shuffled before by default.
 *
 * @param options JSON, schema "split": {"train_size": n, "test_size": m (default: the rest),
 *   "shuffle": true, "seed": 0}.
 * @param train @param test the new handles, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG,
 *   BIV_ERROR_INVALID_ARGUMENT when the parts are empty or more than there is.
 */
biv_status biv_dataset_split(const struct biv_dataset *dataset,
                             const char *options,
                             struct biv_dataset **train,
                             struct biv_dataset **test);

/**
 * A copy of the rows `indices`, counted from 0, in that order; a row may occur more than once.
 *
 * @param indices @param count at least one.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_dataset_subset(const struct biv_dataset *dataset,
                              const int64_t *indices,
                              size_t count,
                              struct biv_dataset **out);

/**
 * A copy with the rows in a random order, which `seed` determines.
 *
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_OUT_OF_MEMORY.
 */
biv_status biv_dataset_shuffle(const struct biv_dataset *dataset,
                               uint64_t seed,
                               struct biv_dataset **out);

/**
 * The data set's sizes.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_dataset_get_info(const struct biv_dataset *dataset, struct biv_dataset_info *out);

/**
 * Copies the features into an array of shape [rows, ...] as they were given, or [rows, features].
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_dataset_copy_features(const struct biv_dataset *dataset,
                                     const struct biv_array_out *out);

/**
 * Copies the labels, in their unit, into an array of shape [rows, outputs], or [rows] for one output.
 *
 * @return as biv_dataset_copy_features().
 */
biv_status biv_dataset_copy_labels(const struct biv_dataset *dataset,
                                   const struct biv_array_out *out);

/**
 * Copies the labels as they were before simulated noise; without such noise, the labels.
 *
 * @return as biv_dataset_copy_features().
 */
biv_status biv_dataset_copy_clean_labels(const struct biv_dataset *dataset,
                                         const struct biv_array_out *out);

/**
 * Copies the variances of the labels' noise, shaped as the labels.
 *
 * @return as biv_dataset_copy_features(); BIV_ERROR_UNSUPPORTED when they are unknown.
 */
biv_status biv_dataset_copy_variances(const struct biv_dataset *dataset,
                                      const struct biv_array_out *out);

/**
 * Frees a handle. NULL and a handle that was freed before are left alone, and so is the last message.
 * Trainers made from the data set keep what they need of it. Any thread.
 */
void biv_dataset_free(struct biv_dataset *dataset);

/**
 * Draws noise variances, as biv_dataset_add_noise() does.
 *
 * @param distribution JSON, schema "distribution": {"kind": "gamma", "alpha": 2, "beta": 0.5}.
 * @param seed the same seed gives the same variances.
 * @param variances room for `count` values.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_noise_sample(const char *distribution,
                            uint64_t seed,
                            double *variances,
                            size_t count);

/**
 * Computes a loss and its gradient in double precision, with no model and no
 * trainer: mse (1/K) sum e^2; cutoff_mse the mean of e^2 where v < threshold;
 * iv (1/K) sum e^2/(v + epsilon); biv sum w e^2 / sum w, w = 1/(v + epsilon)
 * (Mai, Khamies, Paull 2021). Several outputs: the mean over them, each by itself.
 *
 * @param loss JSON, schema "loss": {"kind": "biv", "epsilon": 0.1}; NULL for that.
 *   Epsilon may also be {"min_effective_batch_size": 64} or {"min_effective_batch_ratio": 0.5}.
 * @param predictions @param labels @param variances shape [rows] or [rows, outputs], all three
 *   the same. Epsilon and threshold are in the unit of the variances. variances may be NULL for mse.
 * @param result what it amounts to.
 * @param gradient the derivative by each prediction, shaped as they are; NULL when not wanted.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (NaN,
 *   infinite, negative variance, variances missing), BIV_ERROR_NUMERICAL. Any thread.
 */
biv_status biv_loss_compute(const char *loss,
                            const struct biv_array *predictions,
                            const struct biv_array *labels,
                            const struct biv_array *variances,
                            struct biv_loss_result *result,
                            const struct biv_array_out *gradient);

/**
 * Makes a network on the CPU, its weights drawn as PyTorch's defaults by a seed of its own.
 *
 * @param options JSON, schema "model": {"kind": "mlp", "inputs": 19, "hidden": [100, 50],
 *   "outputs": 1, "batch_norm": false, "seed": 0} or {"kind": "vanilla_ann", "dataset": "bike"}.
 * @param out the new handle, to be freed with biv_model_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY.
 */
biv_status biv_model_create(const char *options, struct biv_model **out);

/**
 * Reads the model that biv_model_save() wrote, onto the CPU.
 *
 * @param out the new handle, to be freed with biv_model_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO, BIV_ERROR_CORRUPT,
 *   BIV_ERROR_INVALID_ARGUMENT for a training checkpoint.
 */
biv_status biv_model_load(const char *path, struct biv_model **out);

/**
 * Saves weights and normalisation. A file at `path` is replaced, in one go, when the new one is complete.
 *
 * A link is followed.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_IO, BIV_ERROR_NOT_FOUND (no such folder),
 *   BIV_ERROR_INVALID_ARGUMENT (no regular file): on failure an older file is untouched.
 */
biv_status biv_model_save(const struct biv_model *model,
                          const char *path);

/**
 * The model's sizes.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_model_get_info(const struct biv_model *model, struct biv_model_info *out);

/**
 * Describes the model as JSON: its options, its device and the name and shape of every tensor.
 *
 * @param buffer room for `capacity` bytes; NULL with capacity 0 only asks for the size.
 * @param needed set to the size of the text with its NUL; may be NULL.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_BUFFER_TOO_SMALL, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_model_describe(const struct biv_model *model,
                              char *buffer,
                              size_t capacity,
                              size_t *needed);

/**
 * Copies one of the model's tensors.
 *
 * @param name as in biv_model_describe() and in PyTorch's state_dict: "0.weight" has shape [outputs, inputs].
 * @param out an array of the tensor's shape.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_NOT_FOUND, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_model_get_tensor(const struct biv_model *model,
                                const char *name,
                                const struct biv_array_out *out);

/**
 * Overwrites one of the model's tensors.
 *
 * @param values an array of exactly the tensor's shape, all finite.
 * @return as biv_model_get_tensor().
 */
biv_status biv_model_set_tensor(const struct biv_model *model,
                                const char *name,
                                const struct biv_array *values);

/**
 * Predicts labels, in the labels' unit (where the model was trained with normalisation, by undoing it).
 *
 * @param features shape [rows, ...] with as many values in a row as the model has inputs, in
 *   their own unit, all finite. No rows give no predictions.
 * @param out shape [rows, outputs], or [rows] for one output.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_OUT_OF_MEMORY.
 */
biv_status biv_model_predict(const struct biv_model *model,
                             const struct biv_array *features,
                             const struct biv_array_out *out);

/**
 * Frees a handle. NULL and a handle that was freed before are left alone, and so is the last message.
 * A trainer keeps its model alive. Any thread.
 */
void biv_model_free(struct biv_model *model);

/**
 * Makes a trainer that starts from the model's present weights and moves them to its device.
 *
 * @param model trained in place: predictions of the model follow the training.
 * @param dataset copied to the device; NULL for a trainer that only biv_trainer_step_on() feeds.
 * @param options JSON, schema "trainer": {"loss": {"kind": "biv", "epsilon": 0.1}, "batch_size": 256,
 *   "learning_rate": 0.001, "normalize": true, "drop_last": true, "seed": 0, "device": "cpu",
 *   "adam": {...}}; NULL for these defaults. The statistics for normalisation come from the
 *   data set's labels before simulated noise; a model that has some already keeps them.
 * @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_SHAPE,
 *   BIV_ERROR_INVALID_ARGUMENT (the loss needs variances and there are none; batch_size is more
 *   than the rows; a BatchNorm would see a mini-batch of one row), BIV_ERROR_DEVICE,
 *   BIV_ERROR_UNSUPPORTED (cuda_graph without libbiv_cuda.so), BIV_ERROR_OUT_OF_MEMORY.
 */
biv_status biv_trainer_create(const struct biv_model *model,
                              const struct biv_dataset *dataset,
                              const char *options,
                              struct biv_trainer **out);

/**
 * Takes one step on the next mini-batch of the trainer's data set: a seeded
 * shuffle, anew every epoch.
 *
 * @param out what the step did; may be NULL.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_UNSUPPORTED (no data set),
 *   BIV_ERROR_NUMERICAL (the loss is not finite: the weights are as before the step).
 */
biv_status biv_trainer_step(const struct biv_trainer *trainer, struct biv_step *out);

/**
 * Takes one step on a mini-batch of the caller's, in the user's units; arrays as in
 * biv_dataset_create_from_arrays(). The data set's own order is left as it is.
 *
 * @param out what the step did; may be NULL.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_NUMERICAL.
 */
biv_status biv_trainer_step_on(const struct biv_trainer *trainer,
                               const struct biv_array *features,
                               const struct biv_array *labels,
                               const struct biv_array *variances,
                               struct biv_step *out);

/**
 * Trains for `epochs` epochs (the first may be the rest of one that was begun).
 *
 * @param test evaluated after each epoch; may be NULL.
 * @param callback called after each epoch; may be NULL.
 * @param user passed to the callback.
 * @return BIV_OK, BIV_ERROR_CANCELLED (by the callback or biv_trainer_cancel(): what was trained
 *   stays and the trainer can go on), BIV_ERROR_BUSY (it is fitting already),
 *   BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_SHAPE, BIV_ERROR_UNSUPPORTED,
 *   BIV_ERROR_NUMERICAL.
 */
biv_status biv_trainer_fit(const struct biv_trainer *trainer,
                           int64_t epochs,
                           const struct biv_dataset *test,
                           biv_epoch_callback callback,
                           void *user);

/**
 * Makes the biv_trainer_fit() that is running on another thread return
 * BIV_ERROR_CANCELLED after its present step. Does nothing when none is running.
 * Never waits.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE.
 */
biv_status biv_trainer_cancel(const struct biv_trainer *trainer);

/**
 * How far training has come, for hosts that poll instead of taking callbacks. Never waits.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_trainer_get_progress(const struct biv_trainer *trainer, struct biv_progress *out);

/**
 * The model's errors on a data set, in evaluation mode.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_NUMERICAL, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_trainer_evaluate(const struct biv_trainer *trainer,
                                const struct biv_dataset *dataset,
                                struct biv_metrics *out);

/**
 * Predicts with the trainer's model: as biv_model_predict().
 */
biv_status biv_trainer_predict(const struct biv_trainer *trainer,
                               const struct biv_array *features,
                               const struct biv_array_out *out);

/**
 * Adam's learning rate.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_trainer_get_learning_rate(const struct biv_trainer *trainer, double *out);

/**
 * Sets the learning rate from the next step on.
 *
 * @param learning_rate finite and greater than 0.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG.
 */
biv_status biv_trainer_set_learning_rate(const struct biv_trainer *trainer, double learning_rate);

/**
 * A new handle for the model in training.
 *
 * @param out to be freed with biv_model_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_trainer_get_model(const struct biv_trainer *trainer, struct biv_model **out);

/**
 * Saves a checkpoint: model, normalisation, optimiser, options and position. A
 * file at `path` is replaced, in one go, when the new one is complete.
 *
 * A link is followed.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_IO, BIV_ERROR_NOT_FOUND (no such folder),
 *   BIV_ERROR_INVALID_ARGUMENT (no regular file): on failure an older file is untouched.
 */
biv_status biv_trainer_save(const struct biv_trainer *trainer, const char *path);

/**
 * Makes the trainer that biv_trainer_save() saved, with a model of its own. On
 * a CPU, training goes on bit for bit as if it had never stopped.
 *
 * @param dataset the one it was trained on; NULL when it had none.
 * @param device replaces the saved device; NULL to keep it.
 * @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO, BIV_ERROR_CORRUPT, BIV_ERROR_SHAPE (the
 *   data set is another one), BIV_ERROR_INVALID_ARGUMENT (a model file), BIV_ERROR_DEVICE.
 */
biv_status biv_trainer_load(const char *path,
                            const struct biv_dataset *dataset,
                            const char *device,
                            struct biv_trainer **out);

/**
 * Frees a handle. NULL and a handle that was freed before are left alone. A
 * call that is running on another thread ends in its own time. Any thread.
 */
void biv_trainer_free(struct biv_trainer *trainer);

/**
 * Checks an experiment's description and fills in every default; runs nothing.
 *
 * @param config JSON, schema "experiment". Under "settings" it may hold the published settings strings,
 *   {"settings": {"experiment_settings": "tag,7159,bike,True,7000", "model_settings": "vanilla_ann,biv,0.5",
 *   "noise_settings": "True,uniform", "params_settings": "boundaries", "parameters": "0,1"}, "data": "folder"};
 *   the other fields then change what these say.
 * @param out the whole description as JSON, to be freed with biv_text_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG (the message names the setting, the position in it and what is
 *   allowed), BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_experiment_resolve(const char *config,
                                  struct biv_text **out);

/**
 * Runs an experiment: reads and divides the data, makes the labels noisy, trains, evaluates, and, where
 * "out" names a run directory, leaves there the configuration, the losses and predictions as CSV,
 * metrics as JSON lines and TensorBoard events, the last checkpoint and a report. With "resume" true a
 * run that was broken off goes on from its last checkpoint, to the same result on a CPU.
 *
 * @param config as for biv_experiment_resolve().
 * @param callback called after each mini-batch; may be NULL.
 * @param user passed to the callback.
 * @param out the result as JSON, to be freed with biv_text_free(), with the test errors at the end
 *   ("last") and at their best ("best"): {"epochs": 100, "last": {"rmse": 59.8, ...}, ...}; NULL on failure.
 * @return BIV_OK, BIV_ERROR_CANCELLED (by the callback: with a run directory, a checkpoint was written),
 *   BIV_ERROR_INVALID_CONFIG, BIV_ERROR_NOT_FOUND, BIV_ERROR_PARSE, BIV_ERROR_INVALID_ARGUMENT (the run
 *   directory is in use for something else, or train and test are more than the data), BIV_ERROR_BUSY
 *   (a run is going on there), BIV_ERROR_NUMERICAL, BIV_ERROR_IO, BIV_ERROR_OUT_OF_MEMORY,
 *   BIV_ERROR_DEVICE, BIV_ERROR_CORRUPT. Any thread.
 */
biv_status biv_experiment_run(const char *config,
                              biv_experiment_callback callback,
                              void *user,
                              struct biv_text **out);

/**
 * Runs every loss with every noise and every seed, several at a time, and gives mean and spread.
 *
 * @param sweep JSON, schema "sweep": {"base": {an experiment}, "grid": {"seeds": [1, 2, 3], "losses":
 *   [{"kind": "mse"}, {"kind": "biv"}], "noises": [...]}, "out": "folder", "jobs": 2}. Runs that are complete
 *   in the folder are not run again.
 * @param callback called after each mini-batch and each run; may be NULL.
 * @param user passed to the callback.
 * @param out the result as JSON, to be freed with biv_text_free(): "table", a row per variant, and "runs",
 *   each with its "outcome" or its "error"; NULL on failure. A run that fails leaves the others alone.
 * @return BIV_OK (even where single runs failed), BIV_ERROR_CANCELLED, BIV_ERROR_INVALID_CONFIG,
 *   BIV_ERROR_NOT_FOUND, BIV_ERROR_PARSE, BIV_ERROR_IO, BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_sweep_run(const char *sweep,
                         biv_experiment_callback callback,
                         void *user,
                         struct biv_text **out);

/**
 * Draws simple faces whose age shows, in files named like UTKFace's, for tests and demonstrations.
 *
 * @param folder is created; must be empty if it exists.
 * @param options JSON, schema "faces": {"count": 100, "size": 64, "seed": 0}.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_IO, BIV_ERROR_NOT_FOUND (the path
 *   is empty). Any thread.
 */
biv_status biv_faces_draw(const char *folder,
                          const char *options);

/**
 * The text itself.
 *
 * @param out valid until the handle is freed.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT.
 */
biv_status biv_text_get(const struct biv_text *text, const char **out);

/**
 * Frees a handle. NULL and a handle that was freed before are left alone. Any thread.
 */
void biv_text_free(struct biv_text *text);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BIV_H */
