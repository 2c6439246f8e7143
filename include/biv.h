/**
 * libbiv: batch inverse-variance training for regression labels of known noise.
 *
 * Generated from src/capi by the build (cbindgen). Do not edit.
 *
 * Errors. Every function that can fail returns a biv_status and gives its results through pointers, the
 * last parameters. On failure biv_last_error_message() says what was wrong, where, and what would be right;
 * handles and texts that were asked for are NULL, arrays and structs are as they were, and the objects
 * involved can still be used. Every function may return BIV_ERROR_INTERNAL, which is a defect of the library.
 *
 * Handles. biv_dataset, biv_model, biv_trainer and biv_text are opaque and checked in every call: NULL, a
 * freed handle, one of another type or any other value is BIV_ERROR_INVALID_HANDLE. Each is freed once, with
 * the _free function of its type, in any order: an object keeps alive what it depends on. A const handle is
 * one through which the call changes nothing that can be observed.
 *
 * Threads. Every function may be called from any thread. Calls on one handle take turns; calls on
 * different handles run at the same time. Callbacks run on a thread that has called the library, with its stack and
 * floating-point modes as they were.
 *
 * Memory. What the caller passes is copied before the call returns, unless the function says that it is handed over or
 * lent; what the library fills is the caller's.
 * Texts that the library returns are static, except the error message and those of a biv_text. Sizes are
 * checked for overflow, and pointers for NULL (BIV_ERROR_INVALID_ARGUMENT) and alignment; otherwise a
 * pointer must be valid for what its description says.
 *
 * Structs that are filled begin with struct_size. Set it to the struct's sizeof before the call: then
 * programs and libraries of different versions work together.
 *
 * Units. Labels, predictions and metrics are in the labels' unit, variances in its square. A trainer's
 * losses and epsilon are in normalised units, in which the training labels have variance 1, unless
 * "normalize" is false.
 *
 * Options are JSON in UTF-8 and read strictly: an unknown field, a wrong type or an illegal value is
 * BIV_ERROR_INVALID_CONFIG, and the message has its path. NULL stands for the defaults. biv_config_schema()
 * has the schemas.
 *
 * The process. The library never prints, exits, aborts, installs signal handlers or changes the environment,
 * and no panic and no C++ exception leaves it. The same seed gives the same result on the same machine and
 * number of threads, whatever the thread's floating-point modes; libtorch's global generator is neither read nor set.
 * After fork(), the process that made the first call that returns a status may go on; in the other each such call is
 * BIV_ERROR_UNSUPPORTED and touches nothing. exit() may be called while other threads are in the library. A call
 * needs 10 KiB of the thread's stack.
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

/** A tensor by DLPack 1.x, as dlpack.h declares it. */
struct DLManagedTensorVersioned;


/**
 * The elements are `float`.
 */
#define BIV_F32 1

/**
 * The elements are `double`.
 */
#define BIV_F64 2

/**
 * The ABI version of this header. It grows when programs have to be compiled again.
 */
#define BIV_ABI_VERSION 1

/**
 * The callback hears nothing.
 */
#define BIV_LOG_SILENT 0

/**
 * The callback hears what makes work slow and what was not expected.
 */
#define BIV_LOG_WARNING 1

/**
 * The callback also hears what is in use.
 */
#define BIV_LOG_INFO 2

/**
 * Images are decoded.
 */
#define BIV_STAGE_LOADING 1

/**
 * Mini-batches are trained on.
 */
#define BIV_STAGE_TRAINING 2

/**
 * The runs of a sweep are done.
 */
#define BIV_STAGE_SWEEP 3

/**
 * The flattest weights that the residuals do not speak against.
 */
#define BIV_VERDICT_PROFILE 1

/**
 * As BIV_VERDICT_PROFILE, and epsilon is the smallest that can be told apart from 0.
 */
#define BIV_VERDICT_FLOOR 2

/**
 * The variances explain less than their size says: epsilon is the residuals' variance beyond them.
 */
#define BIV_VERDICT_PAULE_MANDEL 3

/**
 * The variances say nothing: all weights are equal, epsilon is infinite.
 */
#define BIV_VERDICT_MSE 4

/**
 * There are fewer than 30 rows: as BIV_VERDICT_MSE.
 */
#define BIV_VERDICT_TOO_FEW_ROWS 5

/**
 * All variances are equal: as BIV_VERDICT_MSE.
 */
#define BIV_VERDICT_EQUAL_VARIANCES 6

/**
 * All residuals are 0: as BIV_VERDICT_MSE.
 */
#define BIV_VERDICT_ZERO_RESIDUALS 7

/**
 * Features, labels and, where they are known, the variances of the labels' noise, in the host's memory.
 * A data set never changes, so any number of threads may use it at the same time.
 */
typedef struct biv_dataset biv_dataset;

/**
 * A network and, once it was trained, the normalisation of its data. Calls on one model take turns. While a
 * trainer trains the model, other calls run between two steps.
 */
typedef struct biv_model biv_model;

/**
 * A text that the library made: JSON in UTF-8. It never changes.
 */
typedef struct biv_text biv_text;

/**
 * Trains one model. It shares the model and has its own copy of the data, or shares their memory, so their
 * handles may be freed. Calls on one trainer take turns, except biv_trainer_cancel() and biv_trainer_get_progress(), which
 * never wait.
 */
typedef struct biv_trainer biv_trainer;

/**
 * What a call returns: BIV_OK or one of the BIV_ERROR_ codes. Numbers never change and new ones may be
 * added: treat one that you do not know as an error.
 */
typedef int32_t biv_status;

/**
 * Hears a message of the library's; see biv_set_log().
 *
 * It may call every function of the library, on any handle, biv_set_log() included. It must return
 * normally: a C++ exception or longjmp that leaves it is undefined behaviour.
 *
 * @param user what biv_set_log() was given.
 * @param level BIV_LOG_WARNING or BIV_LOG_INFO.
 * @param message one sentence of UTF-8, valid during the call.
 */
typedef void (*biv_log_callback)(void *user, int32_t level, const char *message);

/**
 * An array that a function reads. It is copied before the function returns.
 *
 * Row-major (C) memory needs no strides. A column-major matrix of n rows and d columns has shape {n, d} and
 * strides {1, n}. Memory between the elements is not touched: another thread may write there meanwhile.
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
   * The distance from one index to the next, for each dimension, in elements; it may be negative or 0. NULL
   * for row-major memory.
   */
  const int64_t *strides;
  /**
   * How many elements the buffer has from `data` on, for a check that the array lies in it; 0 for no check.
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
   * The number of feature values in a row: the product of all dimensions but the first.
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
   * 1 when the labels have simulated noise and those before it are kept beside them, else 0.
   */
  int32_t has_clean_labels;
  /**
   * How many damaged images, or rows with an empty field, were left out when the data were read:
   * biv_dataset_describe() names them.
   */
  int64_t left_out;
  /**
   * How many labels are masked: missing, or of infinite variance.
   */
  int64_t masked_labels;
} biv_dataset_info;

/**
 * An array that a function fills. Different indices must be different elements. On failure nothing is written.
 *
 * Memory between the elements is not touched: two threads may fill two columns of one matrix at once.
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
   * The distance from one index to the next, for each dimension, in elements; it may be negative. NULL for
   * row-major memory.
   */
  const int64_t *strides;
  /**
   * How many elements the buffer has from `data` on, for a check that the array lies in it; 0 for no check.
   */
  int64_t size;
} biv_array_out;

/**
 * Called once when the library no longer needs what was lent.
 *
 * It may be called on any thread that is in a function of the library, which holds no lock then, or on one of the
 * library's own. It must return normally, and may call every function of the library.
 */
typedef void (*biv_release_callback)(void *user);

/**
 * The value of a loss on a mini-batch.
 */
typedef struct biv_loss_result {
  /**
   * Set to sizeof(biv_loss_result) before the call.
   */
  size_t struct_size;
  /**
   * The loss: for several outputs, the mean over them.
   */
  double value;
  /**
   * The effective batch size, (sum w)^2 / sum w^2 of the rows' weights w; for several outputs, the mean.
   */
  double effective_batch_size;
  /**
   * The epsilon that was used, in the unit of the variances: infinite where only equal weights reach the
   * minimum effective batch size, 0 for a loss without an epsilon.
   */
  double epsilon;
  /**
   * How many rows have a weight that is not 0.
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
   * 1 when the model has a normalisation, which its predictions undo, else 0.
   */
  int32_t normalized;
} biv_model_info;

/**
 * Errors of predictions on a data set; with several outputs, means over them. Masked labels do not count.
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
   * The square root of mse, in the labels' unit.
   */
  double rmse;
  /**
   * Mean absolute error, in the labels' unit.
   */
  double mae;
  /**
   * Coefficient of determination, without a unit; NaN where the labels are constant.
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
  /**
   * As rmse, with each label weighted by 1 / (scale v + tau2), where v is the variance of its noise and the rest is the
   * model's error bars; by 1 / v where the model has none. Without variances, rmse.
   */
  double weighted_rmse;
  /**
   * What rmse would be if the predictions were perfect: the square root of the mean v. NaN without variances.
   */
  double expected_rmse;
  /**
   * The mean of (label - prediction)^2 / variance, where the variance is the prediction's own and, for a label with
   * noise, scale v: 1 for error bars of the right size. NaN where the model has none.
   */
  double mean_z2;
  /**
   * The mean negative logarithm of a label's density in a normal distribution of that variance, in nats and the
   * labels' unit. NaN as mean_z2.
   */
  double nlpd;
  /**
   * The share of the labels within the central 68 % of that distribution. NaN as mean_z2.
   */
  double coverage_68;
  /**
   * The share of the labels within the central 95 %. NaN as mean_z2.
   */
  double coverage_95;
} biv_metrics;

/**
 * What one step did. With the option "members", loss, effective_batch_size and epsilon are means over the networks,
 * learning_rate is that of the first, and samples_used the most that one of them used.
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
   * The effective batch size, (sum w)^2 / sum w^2 of the rows' weights w: from 1 to the number of rows.
   */
  double effective_batch_size;
  /**
   * The epsilon that was used, in normalised units; 0 for a loss without an epsilon.
   */
  double epsilon;
  /**
   * The number of rows in the mini-batch.
   */
  int64_t rows;
  /**
   * How many of them have a weight that is not 0. Where the cutoff left none, no step was taken.
   */
  int64_t samples_used;
  /**
   * The learning rate of the step, as the schedule had it.
   */
  double learning_rate;
} biv_step;

/**
 * What one epoch did; means as in biv_step.
 */
typedef struct biv_epoch {
  /**
   * The size of this struct in the library. Fields of a later header lie beyond it and do not exist.
   */
  size_t struct_size;
  /**
   * The number of epochs completed, this one included.
   */
  int64_t epoch;
  /**
   * The number of mini-batches, the skipped ones included.
   */
  int64_t batches;
  /**
   * How many mini-batches were skipped because the cutoff left them no label.
   */
  int64_t skipped;
  /**
   * The mean loss of the mini-batches that were not skipped, in normalised units.
   */
  double loss;
  /**
   * The mean effective batch size of the same.
   */
  double effective_batch_size;
  /**
   * The errors on the test set; NULL where no test set was given. Valid during the callback.
   */
  const struct biv_metrics *test;
  /**
   * The mean squared error on the validation set, weighted by what the variance model says of the labels' noise, in
   * normalised units; NaN without one.
   */
  double validation_loss;
  /**
   * The number of the epoch of the least validation_loss so far; 0 without a validation set.
   */
  int64_t best_epoch;
  /**
   * The learning rate of the last step, as the schedule had it.
   */
  double learning_rate;
} biv_epoch;

/**
 * Hears of every epoch of biv_trainer_fit(), on the thread that called that.
 *
 * The trainer is not in use meanwhile: the callback may evaluate, predict, save and set the learning rate. It
 * must return normally: a C++ exception or longjmp that leaves it is undefined behaviour.
 *
 * @param user what biv_trainer_fit() was given.
 * @param epoch what the epoch did; valid during the call.
 * @return 0 to continue, anything else to stop.
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
   * The number of epochs completed.
   */
  int64_t epoch;
  /**
   * The number of mini-batches taken from the epoch in progress.
   */
  int64_t batch;
  /**
   * The number of steps taken.
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
   * The size of this struct in the library. Fields of a later header lie beyond it and do not exist.
   */
  size_t struct_size;
  /**
   * What `done` and `total` count: images (BIV_STAGE_LOADING), mini-batches (BIV_STAGE_TRAINING) or runs
   * (BIV_STAGE_SWEEP).
   */
  int32_t stage;
  /**
   * The name of the run: its tag, in a sweep its variant and seed. Valid during the callback.
   */
  const char *run;
  /**
   * How many are done.
   */
  int64_t done;
  /**
   * How many there are.
   */
  int64_t total;
  /**
   * The number of epochs completed.
   */
  int64_t epoch;
  /**
   * The number of epochs in all; 0 outside training.
   */
  int64_t epochs;
  /**
   * The mean training loss of the present epoch so far, in normalised units; NaN where there is none.
   */
  double loss;
  /**
   * The last RMSE on the test set, in the labels' unit, with what noise its labels have; NaN before the first.
   */
  double rmse;
  /**
   * Images or training rows per second; NaN for BIV_STAGE_SWEEP.
   */
  double samples_per_second;
  /**
   * The estimated time to the end, in seconds; NaN before there is one.
   */
  double seconds_left;
} biv_experiment_progress;

/**
 * Hears how far biv_experiment_run() or biv_sweep_run() has come, on the thread that called that.
 *
 * It may call every function of the library. It must return normally: a C++ exception or longjmp that leaves
 * it is undefined behaviour.
 *
 * @param user what the function was given.
 * @param progress valid during the call.
 * @return 0 to continue, anything else to stop.
 */
typedef int32_t (*biv_experiment_callback)(void *user,
                                           const struct biv_experiment_progress *progress);

/**
 * What residuals say of known variances: the variance of a residual is scale * variance + tau2.
 */
typedef struct biv_variance_model {
  /**
   * Set to sizeof(biv_variance_model) before the call.
   */
  size_t struct_size;
  /**
   * Weights are 1 / (variance + epsilon), in the unit of the variances; infinite for equal weights.
   */
  double epsilon;
  /**
   * How much of the variances that were given is there: at most 1; 0 where they say nothing.
   */
  double scale;
  /**
   * The part of the residuals' variance that the variances do not explain, in their unit.
   */
  double tau2;
  /**
   * Paule and Mandel's estimate of tau2 at scale 1.
   */
  double tau2_pm;
  /**
   * The epsilon of the greatest likelihood; it may be infinite.
   */
  double epsilon_best;
  /**
   * The smallest epsilon that was tried.
   */
  double epsilon_floor;
  /**
   * By how much the greatest log likelihood exceeds that of equal weights, per row, in nats.
   */
  double gain;
  /**
   * The standard error of gain.
   */
  double gain_se;
  /**
   * The mean of residual^2 / (scale * variance + tau2).
   */
  double mean_z2;
  /**
   * How many rows counted: those of infinite variance do not.
   */
  int64_t rows;
  /**
   * Why epsilon is what it is: BIV_VERDICT_PROFILE or another.
   */
  int32_t verdict;
  /**
   * What a user should know, a static text; NULL where all is well.
   */
  const char *warning;
} biv_variance_model;

/**
 * How far a fit has come.
 */
typedef struct biv_fit_progress {
  /**
   * The size of this struct in the library. Fields of a later header lie beyond it and do not exist.
   */
  size_t struct_size;
  /**
   * The number of epochs completed.
   */
  int64_t epoch;
  /**
   * The number of epochs in all.
   */
  int64_t epochs;
  /**
   * The number of mini-batches taken, of all networks.
   */
  int64_t steps;
  /**
   * The number of mini-batches in all.
   */
  int64_t total_steps;
  /**
   * The last loss on held-out rows, in normalised units; NaN before the first.
   */
  double held_out_loss;
  /**
   * The last epsilon of training for the first output, in the square of the labels' unit: infinite for equal weights,
   * NaN before the first.
   */
  double epsilon;
  /**
   * 1 while the final network of "members" 1 is trained, on all rows; else 0.
   */
  int32_t is_final;
} biv_fit_progress;

/**
 * Hears how far biv_fit() has come, some ten times a second and after each epoch, on the thread that called that.
 *
 * It may call every function of the library. It must return normally: a C++ exception or longjmp that leaves it is
 * undefined behaviour.
 *
 * @param user what biv_fit() was given.
 * @param progress valid during the call.
 * @return 0 to continue, anything else to stop; after the last epoch nothing is left to stop.
 */
typedef int32_t (*biv_fit_callback)(void *user, const struct biv_fit_progress *progress);

/**
 * The call succeeded.
 */
#define BIV_OK 0

/**
 * An argument has a value that the function does not accept.
 */
#define BIV_ERROR_INVALID_ARGUMENT 1

/**
 * A handle is NULL, was freed, or is of another type.
 */
#define BIV_ERROR_INVALID_HANDLE 2

/**
 * A field of the JSON options is unknown, missing, of the wrong type or out of range. The message names it.
 */
#define BIV_ERROR_INVALID_CONFIG 3

/**
 * The shapes of arrays do not fit each other, the data set or the model.
 */
#define BIV_ERROR_SHAPE 4

/**
 * A file, column or tensor does not exist.
 */
#define BIV_ERROR_NOT_FOUND 5

/**
 * The system refused to read or write, for example because of permissions or a full disk. A file that was to
 * be replaced is still there.
 */
#define BIV_ERROR_IO 6

/**
 * The content of a data file is not what its format requires. The message names the row and the column.
 */
#define BIV_ERROR_PARSE 7

/**
 * This object, or this build of the library, cannot do what was asked for.
 */
#define BIV_ERROR_UNSUPPORTED 8

/**
 * The object is in use by a call that has not returned: call again later.
 */
#define BIV_ERROR_BUSY 9

/**
 * A callback or biv_trainer_cancel() stopped the training. It can be continued.
 */
#define BIV_ERROR_CANCELLED 10

/**
 * There is no memory for a large buffer, in the host's memory or on the device. Where small amounts run
 * out too, the process may end.
 */
#define BIV_ERROR_OUT_OF_MEMORY 11

/**
 * The device does not exist, or it failed.
 */
#define BIV_ERROR_DEVICE 12

/**
 * A result is infinite or NaN.
 */
#define BIV_ERROR_NUMERICAL 13

/**
 * A saved file is damaged, was written by a later version, or is not libbiv's.
 */
#define BIV_ERROR_CORRUPT 14

/**
 * A defect in libbiv or libtorch. Please report the message.
 */
#define BIV_ERROR_INTERNAL 15

/**
 * The caller's buffer is too small. The function has said how large it must be.
 */
#define BIV_ERROR_BUFFER_TOO_SMALL 16

/**
 * Processes that train together do not: one has ended, hangs, or was given other options or data. The message
 * names it. The other processes get this status too.
 */
#define BIV_ERROR_DISTRIBUTED 17

#ifdef __cplusplus
extern "C" {
#endif /* __cplusplus */

/**
 * The name of a status, for example "BIV_ERROR_SHAPE", or "BIV_ERROR_UNKNOWN" for any other number: a static
 * text, never NULL, never to be freed. Any thread.
 */
const char *biv_status_name(biv_status status);

/**
 * The library's version, for example "0.1.0": a static text, never to be freed. Any thread.
 */
const char *biv_version(void);

/**
 * The library's ABI version. A program must have been compiled with the same BIV_ABI_VERSION. Any thread.
 */
int32_t biv_abi_version(void);

/**
 * What the library is built from and runs on, as JSON: {"version": "0.1.0", "abi_version": 1, "libtorch":
 * "2.11.0", "debug": false, "blas": "libtorch_cpu.so", "kernels": [{"name": "mlp_cpu", "in_use": true, "reason":
 * "AVX-512"}, {"name": "mlp_gpu", "in_use": false, "reason": "there is no NVIDIA GPU, or no driver for it"}, ...]}.
 *
 * "blas" is the library whose matrix product libtorch calls. It is libtorch's own ("libnvpl_blas_lp64_gomp.so.0" on
 * 64-bit Arm), whatever BLAS the host brought: this library sees to it when it is loaded (docs/linking.md). Another one
 * means that the system forbade it: then results differ in their last bits and speed may differ much. It is null where
 * that cannot be told.
 *
 * "kernels" are the library's own implementations: whether each is in use on this machine, with which instructions, or
 * why libtorch's operations serve instead. To find out, the first call loads libtorch's CUDA libraries if they are there.
 *
 * @param out set to a static text, never to be freed; NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_build_info(const char **out);

/**
 * What was wrong with this thread's last call, in one sentence of UTF-8; empty after a success.
 *
 * Never NULL, never to be freed. It is valid until this thread calls a function that returns a status;
 * the _free functions leave it alone.
 */
const char *biv_last_error_message(void);

/**
 * As biv_last_error_message(), with the rows, columns and indices of arrays and lists counted from 1, as Julia, MATLAB,
 * R and Fortran do: "row 5, label 1: NaN is not a number" instead of "row 4, label 0: ...". Rows of files count from 1 in
 * both.
 */
const char *biv_last_error_message_from_one(void);

/**
 * The JSON Schema of a kind of options, with the meaning and the default of every field.
 *
 * @param name "arrays", "variances", "csv", "images", "synthetic", "split", "noise", "distribution", "loss", "model",
 *   "export", "import", "trainer", "load", "fit", "settings", "experiment" or "sweep".
 * @param out set to a static text, never to be freed; NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_config_schema(const char *name,
                             const char **out);

/**
 * The number of CUDA devices that can be used.
 *
 * The first call loads libtorch's CUDA libraries, where they are installed.
 *
 * @param out set to 0 where there is no GPU, no driver or no CUDA library; that is no error.
 * @return BIV_OK, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_cuda_device_count(int32_t *out);

/**
 * How many threads libtorch uses inside one operation on the CPU. The number is the process's: a host
 * that uses libtorch itself shares it. By default there are as many as processors that the process may run
 * on or, where a cgroup limits their time (as a container's), as many as the limit has processors.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_get_num_threads(int32_t *out);

/**
 * Sets what biv_get_num_threads() gives. Results are reproducible for one
 * number of threads; with another one they may round differently.
 *
 * @param threads 1 to 1024. More than there are processors makes work slower; the log says so.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY where the system does not start so many
 * threads. Any thread, while nothing is training.
 */
biv_status biv_set_num_threads(int32_t threads);

/**
 * Sets who hears what the library says beside errors. By default nobody does.
 *
 * Each message is heard once in a process: for example that there are more threads than processors, or
 * which kernels are in use. A new callback first hears, during this call, what was said before and
 * nobody has heard. The callback and its level replace those before them.
 *
 * Threads. The callback is called on a thread that is in a function of the library, when that holds
 * no lock: at its end, after each epoch of biv_trainer_fit() and after each mini-batch of
 * biv_experiment_run() and biv_sweep_run(). Never on a thread of the library's own, and never on two
 * threads at the same time, so a message may be heard on another thread than where it arose.
 *
 * When this function returns, the callback that was there before is not running and is never called
 * again, so that its `user` may be freed. It waits for a call that is running on another thread: the
 * caller must hold no lock that the callback takes. Called from within the callback it does not wait.
 *
 * @param level BIV_LOG_SILENT, BIV_LOG_WARNING or BIV_LOG_INFO.
 * @param callback NULL for nobody.
 * @param user passed to the callback; the library never uses it otherwise.
 * @return BIV_OK, or BIV_ERROR_INVALID_ARGUMENT: then nothing has changed. Any thread.
 */
biv_status biv_set_log(int32_t level,
                       biv_log_callback callback,
                       void *user);

/**
 * Makes a data set of the caller's arrays, with everything that may be known of the labels.
 *
 * With "columns", the names of the features, a model that is trained on the data set knows them: other data with names
 * are then matched by name, whatever their order.
 *
 * A label of infinite variance is masked: it has no weight and counts in no statistic and no metric. With
 * "missing_labels" "mask", so is one of NaN.
 *
 * @param features @param labels as for biv_dataset_create_from_arrays().
 * @param noise the variances of the labels' noise or, with "standard_deviations" true, their square roots: the
 *   labels' shape, at least 0. NULL where they are unknown.
 * @param groups shape [rows]: rows of one number belong together, and no fold of biv_fit() parts them. NULL for none.
 * @param options JSON, schema "arrays": {"standard_deviations": false, "missing_labels": "error", "columns": [...]};
 *   NULL for these defaults and no names.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return as biv_dataset_create_from_arrays(), and BIV_ERROR_INVALID_CONFIG. Any thread.
 */
biv_status biv_dataset_create(const struct biv_array *features,
                              const struct biv_array *labels,
                              const struct biv_array *noise,
                              const struct biv_array *groups,
                              const char *options,
                              struct biv_dataset **out);

/**
 * Makes a data set of the caller's arrays. They are copied: labels and variances as f64, features as f32. A column
 * of f64 that lies far from 0 is centred before it is rounded, so that f32 keeps its differences.
 *
 * @param features shape [rows, ...]: any number of dimensions, of which the first counts the rows.
 * @param labels shape [rows] or [rows, outputs], in any unit.
 * @param variances the variances of the labels' noise: the labels' shape, the square of their unit, at
 *   least 0. An infinite one masks its label. NULL where they are unknown.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (no rows, a feature or label that is NaN or infinite, a
 *   negative variance, a feature too large for f32), BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_create_from_arrays(const struct biv_array *features,
                                          const struct biv_array *labels,
                                          const struct biv_array *variances,
                                          struct biv_dataset **out);

/**
 * As biv_dataset_create_from_arrays(), with standard deviations instead of variances.
 *
 * @param features @param labels as there.
 * @param standard_deviations those of the labels' noise: the labels' shape and unit, at least 0.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return as biv_dataset_create_from_arrays(). Any thread.
 */
biv_status biv_dataset_create_from_arrays_with_std(const struct biv_array *features,
                                                   const struct biv_array *labels,
                                                   const struct biv_array *standard_deviations,
                                                   struct biv_dataset **out);

/**
 * Reads a CSV file whose first line names the columns. The data set and every model that is trained on it know these
 * names: another file is matched by name where the model is evaluated or trained on it, whatever the order of its
 * columns and categories; columns that the model does not know are not used.
 *
 * @param path the file, UTF-8, as it is or packed by gzip. "{rank}" in it is the number of this process, as torchrun or
 *   Slurm's srun has set it: processes that hold their own rows read a file each.
 * @param options JSON, schema "csv": {"labels": ["income"], "standard_errors": ["moe"],
 *   "error_divisor": 1.645, "features": [...], "one_hot": [...], "cyclic": {"hour": 24}, "group": "county",
 *   "missing_labels": "mask", ...}.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_NOT_FOUND (the file or a column), BIV_ERROR_PARSE (the message names line, row
 *   and column; the first row below the header is 1), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT,
 *   BIV_ERROR_IO, BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_create_from_csv(const char *path,
                                       const char *options,
                                       struct biv_dataset **out);

/**
 * Reads a published data set from its files.
 *
 * @param name "bike" (UCI Bike Sharing, hour.csv: 19 features, label cnt) or "wine" (UCI Wine Quality, red
 *   and white: 11 features, label quality).
 * @param path the file, or the folder that holds the files, UTF-8.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return as biv_dataset_create_from_csv(). Any thread.
 */
biv_status biv_dataset_create_named(const char *name,
                                    const char *path,
                                    struct biv_dataset **out);

/**
 * Reads a folder of JPEG, PNG and WebP images, in the order of their names. A name begins with the image's label,
 * up to the first "_", as UTKFace's do with the age: 39_1_20170116174525125.jpg. It ends in .jpg, .jpeg, .jpe, .jfif,
 * .png or .webp, in small or capital letters; the content says which of the formats the file has. Other files, hidden
 * ones and folders are passed over. biv_dataset_describe() names what was left out, and why.
 *
 * A row's features have shape [3, height, width] and are the pixels' bytes divided by 255. They are kept as
 * bytes.
 *
 * @param folder UTF-8; "{rank}" in it as for biv_dataset_create_from_csv().
 * @param options JSON, schema "images": {"size": {"height": 64, "width": 48}, "corrupt": "skip", "subfolders": true,
 *   "orientation": "exif"}; {"size": 64} for squares; NULL for the defaults.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_NOT_FOUND (no folder, or no images in it), BIV_ERROR_PARSE (an image that is
 *   damaged or has no label; the message names it), BIV_ERROR_SHAPE (images of different sizes),
 *   BIV_ERROR_OUT_OF_MEMORY (more than "memory_limit", or no memory to decode an image),
 *   BIV_ERROR_INVALID_CONFIG, BIV_ERROR_IO. Any thread.
 */
biv_status biv_dataset_create_from_images(const char *folder,
                                          const char *options,
                                          struct biv_dataset **out);

/**
 * Makes a data set of a known function, Friedman's first: the features are uniform in [0, 1) and the label is
 * 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4, without noise.
 *
 * @param options JSON, schema "synthetic": {"rows": 2000, "features": 10, "outputs": 1, "seed": 0}.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_create_synthetic(const char *options,
                                        struct biv_dataset **out);

/**
 * Makes a copy whose labels have simulated noise of known variances. The labels before it are kept beside
 * them: a trainer takes its normalisation from those. Where the data set has variances, the new ones are added to
 * them.
 *
 * @param options JSON, schema "noise": {"distribution": {"kind": "uniform", "low": 0, "high": 1}
 *   or {"kind": "gamma", "mean": m, "variance": V} or {"kind": "binary_uniform", "components":
 *   [{"weight": 0.5, "low": 0, "high": 0.1}, {"low": 4, "high": 6}]}, "relative": true,
 *   "disturbance": 0, "seed": 0}.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_add_noise(const struct biv_dataset *dataset,
                                 const char *options,
                                 struct biv_dataset **out);

/**
 * Makes two data sets of copies: of the first train_size rows and of the last test_size rows, after a shuffle
 * unless "shuffle" is false.
 *
 * @param options JSON, schema "split": {"train_size": 500, "test_size": 100, "shuffle": true, "seed": 0};
 *   without "test_size", all other rows.
 * @param train @param test the new handles, to be freed with biv_dataset_free(); both NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG (a size of 0), BIV_ERROR_INVALID_ARGUMENT (no rows
 *   are left for the test part, or both together have more rows than there are), BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_split(const struct biv_dataset *dataset,
                             const char *options,
                             struct biv_dataset **train,
                             struct biv_dataset **test);

/**
 * Makes a data set of copies of some rows.
 *
 * @param indices the rows' numbers, counted from 0, in the order of the result; a row may occur more than
 *   once.
 * @param count how many numbers there are; at least 1.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT (no such row),
 *   BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_subset(const struct biv_dataset *dataset,
                              const int64_t *indices,
                              size_t count,
                              struct biv_dataset **out);

/**
 * Makes a copy with the rows in a random order.
 *
 * @param seed determines the order.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_shuffle(const struct biv_dataset *dataset,
                               uint64_t seed,
                               struct biv_dataset **out);

/**
 * Makes a data set of the rows of `dataset` and then those of `more`. It shares the memory of both: that takes time for
 * the new rows alone, microseconds for one, however many there were. Rows of several data sets are put together in one
 * piece of memory where somebody first wants them so: a training does, unless it has more than 16 MiB of features.
 *
 * Features are matched by name where both have names. Groups given as the same number, text or picture are one group. A
 * column of f64 that is centred stays centred where it is: the first rows should show where the columns lie.
 *
 * @param more rows of the same shape, as many labels in a row, with variances and groups if `dataset` has them.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure. The others may be freed before it.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE (rows of another shape, or without a column),
 *   BIV_ERROR_INVALID_ARGUMENT (only one of them has variances, or groups; a feature too large for f32),
 *   BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_append(const struct biv_dataset *dataset,
                              const struct biv_dataset *more,
                              struct biv_dataset **out);

/**
 * Makes a data set of the last rows, which share the memory of all. With biv_dataset_append() it is a window over
 * data that keep coming: rows that have left it are let go of, at the latest when as many again have left it.
 *
 * @param rows how many; all where there are no more. At least 1.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT (no rows), BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_latest(const struct biv_dataset *dataset,
                              size_t rows,
                              struct biv_dataset **out);

/**
 * Makes a data set of the same rows with other variances of the labels' noise. Everything else is shared. A label that
 * was masked by an infinite variance is so no more where the new one is finite; one that is missing stays masked.
 *
 * @param noise the variances or, with "standard_deviations" true, their square roots: the labels' shape, at least 0.
 * @param options JSON, schema "variances": {"standard_deviations": false}; NULL for this default.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (a variance that is NaN or
 *   negative), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_with_variances(const struct biv_dataset *dataset,
                                      const struct biv_array *noise,
                                      const char *options,
                                      struct biv_dataset **out);

/**
 * The data set's sizes.
 *
 * @param out a struct of the caller's, with its struct_size set.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_dataset_get_info(const struct biv_dataset *dataset, struct biv_dataset_info *out);

/**
 * Describes the data set as JSON: {"columns": {"features": [{"name": "temp", "encoding": "number"}, {"name": "hour",
 * "encoding": "cyclic", "period": 24}, {"name": "kind", "encoding": "one_hot", "categories": ["a", "b"]}], "labels":
 * ["y"], "unseen_categories": "error"}, "left_out": ["row 3: column 'temp' is empty"]}. The columns are null where they
 * have no names; "left_out" names what was left out when the data were read, and why.
 *
 * @param buffer @param capacity @param needed as for biv_model_describe().
 * @return as biv_model_describe(). Any thread.
 */
biv_status biv_dataset_describe(const struct biv_dataset *dataset,
                                char *buffer,
                                size_t capacity,
                                size_t *needed);

/**
 * Copies the features.
 *
 * @param out an array of the caller's to be filled, of the shape that the features were given in, [rows, ...],
 *   or of shape [rows, features].
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT,
 *   BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_dataset_copy_features(const struct biv_dataset *dataset,
                                     const struct biv_array_out *out);

/**
 * Copies the labels, in their unit.
 *
 * @param out an array of the caller's to be filled, of shape [rows, outputs], or [rows] for one output.
 * @return as biv_dataset_copy_features(). Any thread.
 */
biv_status biv_dataset_copy_labels(const struct biv_dataset *dataset,
                                   const struct biv_array_out *out);

/**
 * Copies the labels as they were before simulated noise was added; without such noise, the labels.
 *
 * @param out as for biv_dataset_copy_labels().
 * @return as biv_dataset_copy_features(). Any thread.
 */
biv_status biv_dataset_copy_clean_labels(const struct biv_dataset *dataset,
                                         const struct biv_array_out *out);

/**
 * Copies the variances of the labels' noise, in the square of the labels' unit.
 *
 * @param out as for biv_dataset_copy_labels().
 * @return as biv_dataset_copy_features(); BIV_ERROR_UNSUPPORTED where the variances are unknown. Any thread.
 */
biv_status biv_dataset_copy_variances(const struct biv_dataset *dataset,
                                      const struct biv_array_out *out);

/**
 * Frees a handle. Does nothing to NULL and to a handle that was freed before, and keeps the thread's last
 * message. A trainer has its own copy of what it needs. Any thread.
 */
void biv_dataset_free(struct biv_dataset *dataset);

/**
 * As biv_dataset_create(), of arrays that are lent: what is dense, in row-major order and of the type that is kept is
 * not copied. That is float for features, double for labels and for the variances of their noise; groups, standard
 * deviations and all other arrays are copied.
 *
 * What was lent must stay where it is and must not change until `release` is called: when the last data set or trainer
 * that shares it is freed, when nothing had to be kept, or when the call fails. The values are checked during this call
 * only.
 *
 * @param features @param labels @param noise @param groups @param options as for biv_dataset_create(). The structs
 *   themselves are read during the call only.
 * @param release called once with `user`, whatever this function returns; NULL for memory that stays for good.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return as biv_dataset_create_from_arrays(), and BIV_ERROR_INVALID_CONFIG. Any thread.
 */
biv_status biv_dataset_create_borrowed(const struct biv_array *features,
                                       const struct biv_array *labels,
                                       const struct biv_array *noise,
                                       const struct biv_array *groups,
                                       biv_release_callback release,
                                       void *user,
                                       const char *options,
                                       struct biv_dataset **out);

/**
 * Draws noise variances from a distribution, as biv_dataset_add_noise() does.
 *
 * @param distribution JSON, schema "distribution": {"kind": "gamma", "alpha": 2, "beta": 0.5}.
 * @param seed determines the variances.
 * @param variances the caller's room for `count` values; may be NULL where `count` is 0.
 * @param count how many to draw.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_noise_sample(const char *distribution,
                            uint64_t seed,
                            double *variances,
                            size_t count);

/**
 * Computes a loss and its gradient in double precision, for a training loop of the caller's own.
 *
 * With the errors e, the variances v and K rows: "mse" is (1/K) sum e^2; "cutoff_mse" is the mean of e^2 over the
 * rows with v < threshold; "iv" is (1/K) sum e^2/(v + epsilon); "biv" is sum w e^2 / sum w with
 * w = 1/(v + epsilon) (Mai, Khamies, Paull 2021). "gaussian" is the mean of (log s + e^2/s)/2, s = v + exp(q), where
 * q is a second prediction; "beta_nll" is the same with each row times s^beta, which counts as a constant (Seitzer,
 * Tavakoli, Antic, Martius 2022). Several outputs are computed each by itself; the loss is their mean. A label of
 * infinite variance has no weight, and K does not count it.
 *
 * @param loss JSON, schema "loss": {"kind": "biv", "epsilon": 0.1}; NULL for that. Epsilon may also be
 *   {"min_effective_batch_size": 64} or {"min_effective_batch_ratio": 0.5}. Epsilon and threshold are in the
 *   unit of the variances.
 * @param predictions @param labels shape [rows] or [rows, outputs], both the same, in any unit. For "gaussian" and
 *   "beta_nll" the predictions have shape [rows, 2 outputs]: in each row the values, then their q.
 * @param variances the labels' shape, the square of their unit, at least 0; may be NULL for "mse" and the likelihoods.
 * @param result a struct of the caller's, with its struct_size set.
 * @param gradient an array of the caller's to be filled, of the predictions' shape: the derivative of the
 *   loss by each prediction. NULL when not wanted.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (a value that is NaN
 *   or infinite, a negative variance, variances that are missing), BIV_ERROR_NUMERICAL (the loss is not
 *   finite), BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_loss_compute(const char *loss,
                            const struct biv_array *predictions,
                            const struct biv_array *labels,
                            const struct biv_array *variances,
                            struct biv_loss_result *result,
                            const struct biv_array_out *gradient);

/**
 * Makes a network on the CPU. Its initial weights are distributed as PyTorch's defaults; "seed" determines them.
 *
 * @param options JSON, schema "model": {"kind": "mlp", "inputs": 19, "hidden": [100, 50], "outputs": 1,
 *   "batch_norm": false, "seed": 0}, {"kind": "vanilla_ann", "dataset": "bike"}, {"kind": "vanilla_cnn",
 *   "height": 64, "width": 64}, {"kind": "resnet", "depth": 18, "height": 64, "width": 64}, or layers of your own:
 *   {"kind": "sequential", "input_shape": [19], "layers": [{"kind": "linear", "outputs": 64}, {"kind": "activation",
 *   "function": "silu"}, {"kind": "dropout", "p": 0.1}, {"kind": "linear", "outputs": 1}]}. A network that also
 *   predicts its variance, for the losses "gaussian" and "beta_nll": {"kind": "mean_variance", "network": {...}}.
 * @param out the new handle, to be freed with biv_model_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_model_create(const char *options,
                            struct biv_model **out);

/**
 * Reads a model that biv_model_save() wrote, or the one in a checkpoint of biv_trainer_save(), onto the CPU.
 *
 * @param path the file, UTF-8.
 * @param out the new handle, to be freed with biv_model_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO, BIV_ERROR_CORRUPT, BIV_ERROR_INVALID_ARGUMENT (the file
 *   is a fit's that is not complete), BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_model_load(const char *path,
                          struct biv_model **out);

/**
 * Saves the model's weights and normalisation. A file at `path` is replaced at once when the new one is
 * complete; on failure it is as it was. A symbolic link is followed.
 *
 * @param path the file, UTF-8.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_IO, BIV_ERROR_NOT_FOUND (no such folder),
 *   BIV_ERROR_INVALID_ARGUMENT (what is there is no regular file), BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_model_save(const struct biv_model *model,
                          const char *path);

/**
 * As biv_model_load(), of the file's bytes in memory. They are not needed after the call.
 *
 * @param bytes @param size what biv_model_save_to_memory() gave, or a file's content.
 * @param out the new handle, to be freed with biv_model_free(); NULL on failure.
 * @return as biv_model_load(). Any thread.
 */
biv_status biv_model_load_from_memory(const void *bytes, size_t size, struct biv_model **out);

/**
 * Writes what biv_model_save() saves into the caller's memory. A model that a trainer trains may change between two
 * calls, but not its size.
 *
 * @param buffer the caller's room; NULL with a capacity of 0 only asks for the size.
 * @param capacity the size of `buffer` in bytes.
 * @param needed set to the number of bytes; may be NULL.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_BUFFER_TOO_SMALL, BIV_ERROR_INVALID_ARGUMENT,
 *   BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_model_save_to_memory(const struct biv_model *model,
                                    void *buffer,
                                    size_t capacity,
                                    size_t *needed);

/**
 * Makes a model of its own with the same network, weights and normalisation, on the same device.
 *
 * @param out the new handle, to be freed with biv_model_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any
 *   thread.
 */
biv_status biv_model_copy(const struct biv_model *model,
                          struct biv_model **out);

/**
 * Writes the model for other programs. A file at `path` is replaced at once when the new one is complete.
 *
 * An ONNX file (opset 13) has the whole prediction. Its input "features" are floats of shape [rows, ...] for any number of
 * rows, in the unit of the training data (images: a byte / 255); its output "labels" has shape [rows, outputs], in the
 * labels' unit. A model that knows the variances of its errors has the output "variances" too, as
 * biv_model_predict_with_variance().
 *
 * A safetensors file has the tensors under PyTorch's names, for `load_state_dict`. The metadata of both have the
 * "normalization" and the "network" as in biv_model_describe().
 *
 * @param path the file, UTF-8.
 * @param options JSON, schema "export": {"format": "onnx"} or {"format": "safetensors"}; NULL for the format that the
 *   path ends with: .onnx or .safetensors.
 * @return as biv_model_save(), and BIV_ERROR_INVALID_CONFIG; for ONNX BIV_ERROR_NUMERICAL (a float does not hold a number
 *   of the normalisation) and BIV_ERROR_UNSUPPORTED (more than 2 GiB). Any thread.
 */
biv_status biv_model_export(const struct biv_model *model,
                            const char *path,
                            const char *options);

/**
 * Takes the weights of a safetensors file that another program saved, PyTorch for example, by their names and shapes:
 * all, or on error none. Names are those of biv_model_describe(), which are PyTorch's; `module.` and `_orig_mod.` in
 * the file's names are passed over, and so are counters called num_batches_tracked. f64, f16 and bf16 become f32.
 *
 * @param path the file, UTF-8.
 * @param options JSON, schema "import": {"strict": true}: the file must have all tensors of the model and no others.
 *   With false, those that both have are taken. NULL for the default.
 * @param report a new text, JSON with the names that were "imported", those of the model that are "missing" in the file
 *   and the file's that are "left_over", to be freed with biv_text_free(); NULL on failure. May be NULL.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO,
 *   BIV_ERROR_CORRUPT (no safetensors file), BIV_ERROR_SHAPE (a tensor has another shape), BIV_ERROR_INVALID_ARGUMENT
 *   (tensors are missing or left over: the message has twenty names of each; a value is not finite; integers),
 *   BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_model_import_weights(struct biv_model *model,
                                    const char *path,
                                    const char *options,
                                    struct biv_text **report);

/**
 * The model's sizes.
 *
 * @param out a struct of the caller's, with its struct_size set.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_model_get_info(const struct biv_model *model, struct biv_model_info *out);

/**
 * Describes the model as JSON: its options, its "network", which is each of its networks as "input_shape" and "layers"
 * (the options of kind "sequential" that make the same), its device, the name and shape of every tensor, its normalisation
 * {"feature_mean": [...], "feature_std": [...], "label_mean": [...], "label_std": [...]} (null where it has none) and
 * its error bars {"scale": [...], "tau2": [...], "mean_spread": [...]}, in the square of the labels' unit (null
 * likewise), and the columns of the data that it was trained on, as in biv_dataset_describe() (null likewise).
 *
 * @param buffer the caller's room for the text; NULL with a capacity of 0 only asks for the size.
 * @param capacity the size of `buffer` in bytes.
 * @param needed set to the size of the text in bytes, its NUL included; may be NULL.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_BUFFER_TOO_SMALL, BIV_ERROR_INVALID_ARGUMENT. Any
 *   thread.
 */
biv_status biv_model_describe(const struct biv_model *model,
                              char *buffer,
                              size_t capacity,
                              size_t *needed);

/**
 * Copies one of the model's tensors.
 *
 * @param name as in biv_model_describe() and in PyTorch's state_dict: "0.weight" has shape [outputs, inputs].
 * @param out an array of the caller's to be filled, of the tensor's shape.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_NOT_FOUND, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT,
 *   BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_model_get_tensor(const struct biv_model *model,
                                const char *name,
                                const struct biv_array_out *out);

/**
 * Overwrites one of the model's tensors.
 *
 * @param name as for biv_model_get_tensor().
 * @param values an array of exactly the tensor's shape. All values are finite, as f32 too.
 * @return as biv_model_get_tensor(). Any thread.
 */
biv_status biv_model_set_tensor(struct biv_model *model,
                                const char *name,
                                const struct biv_array *values);

/**
 * Predicts labels, in the labels' unit: a model that was trained with normalisation applies it to the features
 * and undoes it in the predictions.
 *
 * @param features shape [rows, ...] with as many values in a row as the model has inputs, in the unit of the
 *   training data, all finite. There may be no rows.
 * @param out an array of the caller's to be filled, of shape [rows, outputs], or [rows] for one output.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT,
 *   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
 */
biv_status biv_model_predict(const struct biv_model *model,
                             const struct biv_array *features,
                             const struct biv_array_out *out);

/**
 * Predicts true values and the variances of their errors, for a model that knows them: one of biv_fit(), or of kind
 * "mean_variance". For a label with noise of variance v, scale * v comes to it (scale: see biv_model_describe()).
 *
 * @param features as for biv_model_predict().
 * @param out the predictions, as there; NULL when not wanted.
 * @param variances an array of the caller's to be filled, of the same shape: in the square of the labels' unit.
 * @return as biv_model_predict(), and BIV_ERROR_UNSUPPORTED (the model knows nothing of its errors). Any thread.
 */
biv_status biv_model_predict_with_variance(const struct biv_model *model,
                                           const struct biv_array *features,
                                           const struct biv_array_out *out,
                                           const struct biv_array_out *variances);

/**
 * The errors of the model's predictions on a data set, measured against the labels that it has, and how well its
 * error bars hold.
 *
 * @param dataset any that fits the model.
 * @param out a struct of the caller's, with its struct_size set.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_NUMERICAL, BIV_ERROR_INVALID_ARGUMENT,
 *   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
 */
biv_status biv_model_evaluate(const struct biv_model *model,
                              const struct biv_dataset *dataset,
                              struct biv_metrics *out);

/**
 * Gives the model a normalisation: a feature x becomes (x - mean) / std before the network, and its outputs, times
 * the labels' std plus their mean, the predictions. A trainer that is made for the model later keeps it.
 *
 * @param feature_mean @param feature_std shape [inputs], or [1] for all features; the deviations are greater than 0.
 * @param label_mean @param label_std shape [outputs]; the same.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_OUT_OF_MEMORY. Any
 *   thread.
 */
biv_status biv_model_set_normalization(struct biv_model *model,
                                       const struct biv_array *feature_mean,
                                       const struct biv_array *feature_std,
                                       const struct biv_array *label_mean,
                                       const struct biv_array *label_std);

/**
 * Takes the model's normalisation away: features and predictions are then the network's own. A trainer that is made
 * for the model later fits a new one.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE. Any thread.
 */
biv_status biv_model_reset_normalization(struct biv_model *model);

/**
 * Frees a handle. Does nothing to NULL and to a handle that was freed before, and keeps the thread's last
 * message. A trainer keeps its model alive. Any thread.
 */
void biv_model_free(struct biv_model *model);

/**
 * Makes a trainer that starts from the model's weights as they are.
 *
 * With "normalize", features and labels are normalised by the statistics of the data set, of its labels before
 * the noise where that was simulated. A model that has a normalisation keeps it.
 *
 * @param model is moved to the trainer's device and trained in place: its predictions follow the training. With
 *   "members": M it becomes an ensemble of M networks, of which it is the first; they are trained side by side, each by
 *   itself. An ensemble of M stays what it is.
 * @param dataset is copied to the device, but for more than 16 MiB of numbers on a CPU: these are shared, and a
 *   mini-batch is normalised when it is its turn. NULL for a trainer that is used with biv_trainer_step_on(), or gets
 *   its data by biv_trainer_set_data().
 * @param options JSON, schema "trainer": {"loss": {"kind": "biv", "epsilon": 0.1}, "batch_size": 256,
 *   "learning_rate": 0.001, "normalize": true, "drop_last": true, "seed": 0, "device": "cpu",
 *   "optimizer": {"kind": "adam", ...}, "schedule": {"kind": "constant", ...}, "members": 5, "shared_batches": false,
 *   ...}; NULL for these defaults. Epsilon
 *   "auto", "patience" and the schedule "plateau" take a validation set: biv_trainer_set_validation().
 * @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_SHAPE,
 *   BIV_ERROR_INVALID_ARGUMENT (the loss needs variances and there are none; batch_size is more than the rows;
 *   a BatchNorm would get a mini-batch of one row), BIV_ERROR_DEVICE, BIV_ERROR_UNSUPPORTED (cuda_graph
 *   without libbiv_cuda.so), BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_trainer_create(struct biv_model *model,
                              const struct biv_dataset *dataset,
                              const char *options,
                              struct biv_trainer **out);

/**
 * Takes one step on the next mini-batch of the trainer's data set. Every epoch has an order of its own, which
 * the trainer's seed determines.
 *
 * @param out a struct of the caller's, with its struct_size set: what the step did. May be NULL.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_UNSUPPORTED (the trainer has
 *   no data set), BIV_ERROR_NUMERICAL (the loss is not finite; the weights are as before the step),
 *   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
 */
biv_status biv_trainer_step(struct biv_trainer *trainer,
                            struct biv_step *out);

/**
 * Takes one step on a mini-batch of the caller's. The order of the trainer's own data set is not changed.
 *
 * @param features @param labels @param variances as for biv_dataset_create_from_arrays().
 * @param out as for biv_trainer_step().
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_NUMERICAL
 *   (the loss is not finite; the weights are as before the step), BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE.
 *   Any thread.
 */
biv_status biv_trainer_step_on(struct biv_trainer *trainer,
                               const struct biv_array *features,
                               const struct biv_array *labels,
                               const struct biv_array *variances,
                               struct biv_step *out);

/**
 * Goes on with other data: weights, Adam's state, the normalisation and the numbers of steps and epochs stay. So does
 * the place in the epoch where an epoch of the new data has such a mini-batch; else the next epoch begins. With the same
 * data set it changes no bit of what follows. What is saved from now on goes on with the new data set.
 *
 * While biv_trainer_fit() runs on another thread, this waits for the end of its present epoch.
 *
 * Up to 16 MiB of features are normalised again, all of them, and beyond it a mini-batch at a time, as
 * biv_trainer_create() does. Either way all values are read once, and the rows get a new order: a time that grows with
 * the number of rows, about that of reading them from memory. Append many rows before a call.
 *
 * @param dataset rows with the features that the model was trained on. The handle may be freed.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, and as biv_trainer_create(): the trainer has its former data then. Any thread.
 */
biv_status biv_trainer_set_data(struct biv_trainer *trainer,
                                const struct biv_dataset *dataset);

/**
 * Judges the model on a validation set after each epoch of biv_trainer_fit() from now on.
 *
 * A loss of epsilon "auto" gets its epsilon from there; for the first epoch from its labels alone. Each
 * biv_trainer_fit() ends with the weights of the best epoch so far and, with the option "patience": N, ends when N
 * epochs were no better than the best. After biv_trainer_load(), give the same set again.
 *
 * @param dataset rows that are not trained on. The trainer shares it: the handle may be freed.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE (it does not fit the model), BIV_ERROR_INVALID_ARGUMENT
 *   (the loss needs variances and it has none), BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_trainer_set_validation(struct biv_trainer *trainer,
                                      const struct biv_dataset *dataset);

/**
 * Trains for a number of epochs. Where steps have begun an epoch, its rest is the first. With a validation set it may
 * end earlier, and the model has the weights of the best epoch then.
 *
 * @param epochs at least 0.
 * @param test a data set that the model is evaluated on after each epoch; may be NULL.
 * @param callback called after each epoch; may be NULL.
 * @param user passed to the callback.
 * @return BIV_OK, BIV_ERROR_CANCELLED (the callback or biv_trainer_cancel() stopped it; what was trained stays
 *   and the trainer can go on), BIV_ERROR_BUSY (another fit of this trainer is running),
 *   BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_SHAPE (the test set does not fit the
 *   model), BIV_ERROR_UNSUPPORTED (the trainer has no data set), BIV_ERROR_NUMERICAL (a loss is not finite),
 *   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
 */
biv_status biv_trainer_fit(struct biv_trainer *trainer,
                           int64_t epochs,
                           const struct biv_dataset *test,
                           biv_epoch_callback callback,
                           void *user);

/**
 * Makes the biv_trainer_fit() that is running return BIV_ERROR_CANCELLED after its present step. Where none is running,
 * the next one returns it before its first step: a fit that another thread is about to begin is not missed.
 *
 * A fit that returns, for this reason or another, has used up what was cancelled before. So one of 0 epochs takes
 * back a cancel that nothing has heard.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE. Any thread; never waits.
 */
biv_status biv_trainer_cancel(struct biv_trainer *trainer);

/**
 * How far training has come, for hosts that poll instead of being called back.
 *
 * @param out a struct of the caller's, with its struct_size set.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread; never waits.
 */
biv_status biv_trainer_get_progress(const struct biv_trainer *trainer, struct biv_progress *out);

/**
 * The errors of the model's predictions on a data set, measured against the labels that it has. A BatchNorm
 * uses its running statistics.
 *
 * @param dataset any that fits the model, the training data too.
 * @param out a struct of the caller's, with its struct_size set.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_SHAPE, BIV_ERROR_NUMERICAL, BIV_ERROR_INVALID_ARGUMENT,
 *   BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_DEVICE. Any thread.
 */
biv_status biv_trainer_evaluate(const struct biv_trainer *trainer,
                                const struct biv_dataset *dataset,
                                struct biv_metrics *out);

/**
 * Describes the trainer as JSON: its "options", of which the learning rate is the one that was set last; the
 * "learning_rate" of the next step, as the schedule has it; its "device"; its "kernel", which takes the steps: "mlp_cpu"
 * or "mlp_gpu", as in biv_build_info(), "graphs_gpu" where steps are recorded and repeated, "operations" for libtorch's
 * with the gradient by hand, or "autograd" for libtorch's automatic differentiation; and "accepted", in what its data
 * sets differed from those before, where that was accepted.
 *
 * @param buffer @param capacity @param needed as for biv_model_describe().
 * @return as biv_model_describe(). Any thread.
 */
biv_status biv_trainer_describe(const struct biv_trainer *trainer,
                                char *buffer,
                                size_t capacity,
                                size_t *needed);

/**
 * Predicts with the trainer's model.
 *
 * @param features @param out as for biv_model_predict().
 * @return as biv_model_predict(). Any thread.
 */
biv_status biv_trainer_predict(const struct biv_trainer *trainer,
                               const struct biv_array *features,
                               const struct biv_array_out *out);

/**
 * The learning rate, which the schedule multiplies: biv_step and biv_epoch have the product.
 *
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_trainer_get_learning_rate(const struct biv_trainer *trainer, double *out);

/**
 * Sets the learning rate from the next step on; a schedule multiplies it as before.
 *
 * @param learning_rate finite and greater than 0.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG. Any thread.
 */
biv_status biv_trainer_set_learning_rate(struct biv_trainer *trainer, double learning_rate);

/**
 * Makes another handle for the model that the trainer trains.
 *
 * @param out the new handle, to be freed with biv_model_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_trainer_get_model(const struct biv_trainer *trainer, struct biv_model **out);

/**
 * Saves a checkpoint: the model, its normalisation, the optimiser, the options and the position in the data. A
 * file at `path` is replaced at once when the new one is complete; on failure it is as it was. A symbolic
 * link is followed.
 *
 * @param path the file, UTF-8.
 * @return as biv_model_save(). Any thread.
 */
biv_status biv_trainer_save(const struct biv_trainer *trainer,
                            const char *path);

/**
 * Makes the trainer that biv_trainer_save() saved, with a model of its own. On a CPU, training continues bit
 * for bit as if it had never stopped.
 *
 * @param path the file, UTF-8.
 * @param dataset the one that the trainer was trained on; NULL where it had none.
 * @param device "cpu", "cuda", "cuda:N" or "auto", instead of the saved one; NULL to keep that.
 * @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_NOT_FOUND, BIV_ERROR_IO, BIV_ERROR_CORRUPT,
 *   BIV_ERROR_SHAPE (the data set has another number of rows or features), BIV_ERROR_INVALID_ARGUMENT (it is another
 *   one, and the message says in what it differs; the file is a model's; there is no such device),
 *   BIV_ERROR_DEVICE, BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_trainer_load(const char *path,
                            const struct biv_dataset *dataset,
                            const char *device,
                            struct biv_trainer **out);

/**
 * As biv_trainer_load(), with options. Training can go on with other data than the trainer was trained on: with the
 * epoch and the mini-batch where it was, or the next epoch where there is no such mini-batch. In what the data differ
 * is kept in the checkpoints that biv_trainer_save() makes from then on.
 *
 * @param path @param dataset as there.
 * @param options JSON, schema "load": {"device": "cpu", "accept_data": true}; NULL for the saved device and the same
 *   data.
 * @param out the new handle, to be freed with biv_trainer_free(); NULL on failure.
 * @return as biv_trainer_load(), and BIV_ERROR_INVALID_CONFIG. Any thread.
 */
biv_status biv_trainer_load_with(const char *path,
                                 const struct biv_dataset *dataset,
                                 const char *options,
                                 struct biv_trainer **out);

/**
 * As biv_trainer_load_with(), of the file's bytes in memory. They are not needed after the call.
 *
 * @param bytes @param size what biv_trainer_save_to_memory() gave, or a file's content.
 * @param dataset @param options @param out as there.
 * @return as biv_trainer_load(), and BIV_ERROR_INVALID_CONFIG. Any thread.
 */
biv_status biv_trainer_load_from_memory(const void *bytes,
                                        size_t size,
                                        const struct biv_dataset *dataset,
                                        const char *options,
                                        struct biv_trainer **out);

/**
 * Writes what biv_trainer_save() saves into the caller's memory.
 *
 * @param buffer @param capacity @param needed as for biv_model_save_to_memory().
 * @return as biv_model_save_to_memory(). Any thread.
 */
biv_status biv_trainer_save_to_memory(const struct biv_trainer *trainer,
                                      void *buffer,
                                      size_t capacity,
                                      size_t *needed);

/**
 * Frees a handle. Does nothing to NULL and to a handle that was freed before, and keeps the thread's last
 * message. A biv_trainer_fit() that is running ends after its present step with BIV_ERROR_CANCELLED, as no other call
 * could end it any more; other calls that are running do their work. Any thread.
 */
void biv_trainer_free(struct biv_trainer *trainer);

/**
 * Makes a data set of tensors that another library hands over by DLPack 1.x (dlpack.h, `__dlpack__(max_version=(1,
 * 0))`): NumPy, PyTorch, CuPy, JAX and others.
 *
 * Ownership. The tensors are the library's from the call on, whatever it returns. It calls the deleter of each once,
 * on any thread, when no data set and no trainer needs its memory any more. Hand over what no one else will delete:
 * from Python, rename the capsule to "used_dltensor_versioned" before the call.
 *
 * Copies. Features of float32, and labels and variances of float64, in C order are used where they are: they must not
 * change until their deleter is called, and their values are checked during this call only. All others are copied, and
 * their deleters called before the call returns.
 *
 * Types. Elements are float32 or float64; float16, bfloat16, integers and bool are converted. Features of uint8 in four
 * dimensions, [rows, channels, height, width], are images: each value is the byte divided by 255, and they stay bytes,
 * as in biv_dataset_create_from_images(). Strides may be anything, also 0 or negative; NULL stands for C order.
 *
 * Devices. The memory is the CPU's, or pinned for a GPU (kDLCUDAHost, kDLROCMHost). Tensors on a CUDA device (kDLCUDA,
 * kDLCUDAManaged) are copied to the CPU's memory, where a data set's statistics and divisions are computed, and their
 * deleters are called before the call returns; a trainer on a GPU copies there what it needs. That takes a libtorch with
 * CUDA and the device itself; without them, and from other devices, copy tensors to the CPU.
 *
 * @param features shape [rows, ...]: any number of dimensions, of which the first counts the rows.
 * @param labels shape [rows] or [rows, outputs], in any unit.
 * @param noise @param groups as for biv_dataset_create(); NULL for none.
 * @param stream the CUDA stream on which tensors on a GPU are written, as their producer was told it: before they are
 *   copied, the library waits for all work of their device, that of every stream (NULL and DLPack's numbers 1 and 2
 *   among them). (void *)-1 says that their values are there: it does not wait. It says nothing of tensors in the CPU's
 *   memory.
 * @param options JSON, schema "arrays", as for biv_dataset_create(); NULL for the defaults.
 * @param out the new handle, to be freed with biv_dataset_free(); NULL on failure.
 * @return as biv_dataset_create_from_arrays(), and BIV_ERROR_INVALID_CONFIG, BIV_ERROR_UNSUPPORTED (memory of another
 *   device, another major version of DLPack), BIV_ERROR_DEVICE (a copy from a GPU fails), BIV_ERROR_INVALID_ARGUMENT
 *   (another type of elements, one tensor for two arguments, an integer beyond 2^53). Any thread.
 */
biv_status biv_dataset_create_from_dlpack(struct DLManagedTensorVersioned *features,
                                          struct DLManagedTensorVersioned *labels,
                                          struct DLManagedTensorVersioned *noise,
                                          struct DLManagedTensorVersioned *groups,
                                          void *stream,
                                          const char *options,
                                          struct biv_dataset **out);

/**
 * As biv_model_predict(), with tensors by DLPack 1.x, of the types and devices that biv_dataset_create_from_dlpack()
 * takes.
 *
 * Both tensors are the library's from the call on, and it calls the deleter of each once before it returns, whatever
 * it returns: a producer's array stays alive for its own owners.
 *
 * @param features shape [rows, ...], as for biv_model_predict().
 * @param out is filled: float32 or float64, not read-only, different indices different elements, of shape [rows,
 *   outputs], or [rows] for one output. On failure it is as it was. On a GPU, the library waits for the device before it
 *   reads or writes, and what it writes is there when the call returns.
 * @return as biv_model_predict(); BIV_ERROR_UNSUPPORTED, BIV_ERROR_DEVICE and BIV_ERROR_INVALID_ARGUMENT as
 *   biv_dataset_create_from_dlpack(). Any thread.
 */
biv_status biv_model_predict_dlpack(const struct biv_model *model,
                                    struct DLManagedTensorVersioned *features,
                                    struct DLManagedTensorVersioned *out);

/**
 * Checks the description of an experiment and fills in every default. It reads no data and runs nothing.
 *
 * @param config JSON, schema "experiment". "settings" may hold the published settings strings,
 *   {"settings": {"experiment_settings": "tag,7159,bike,True,7000", "model_settings": "vanilla_ann,biv,0.5",
 *   "noise_settings": "True,uniform", "params_settings": "boundaries", "parameters": "0,1"}, "data": "folder"};
 *   other fields then replace what the strings say.
 * @param out a new text, the whole description as JSON, to be freed with biv_text_free(); NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_CONFIG (for a setting, the message names it, the position in it and what
 *   is allowed), BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_experiment_resolve(const char *config,
                                  struct biv_text **out);

/**
 * Runs an experiment: reads and splits the data, adds noise to the labels, trains and evaluates.
 *
 * Where "out" names a run directory, the configuration, the losses and predictions as CSV, the metrics as JSON
 * lines and TensorBoard events, the last checkpoint and a report are written there. With "resume" true, a run
 * that was interrupted continues from its last checkpoint; on a CPU its result is the same.
 *
 * @param config as for biv_experiment_resolve().
 * @param callback called after each mini-batch; may be NULL.
 * @param user passed to the callback.
 * @param out a new text, the result as JSON, to be freed with biv_text_free(); NULL on failure. It has the
 *   test errors at the end ("last") and at their best ("best"), in the labels' unit, and what is known of the
 *   test labels' noise: "clean" (none), "noisy" (its variances are known) or "unknown":
 *   {"epochs": 100, "last": {"test_labels": "clean", "rmse": 59.8, ...}, ...}.
 * @return BIV_OK, BIV_ERROR_CANCELLED (the callback stopped the run; in a run directory there is a
 *   checkpoint), BIV_ERROR_INVALID_CONFIG, BIV_ERROR_NOT_FOUND, BIV_ERROR_PARSE, BIV_ERROR_SHAPE,
 *   BIV_ERROR_INVALID_ARGUMENT (the run directory has something else in it, or train and test together are
 *   more than the data), BIV_ERROR_BUSY (another run is in progress there), BIV_ERROR_NUMERICAL,
 *   BIV_ERROR_IO, BIV_ERROR_OUT_OF_MEMORY, BIV_ERROR_UNSUPPORTED, BIV_ERROR_DEVICE, BIV_ERROR_CORRUPT. Any
 *   thread.
 */
biv_status biv_experiment_run(const char *config,
                              biv_experiment_callback callback,
                              void *user,
                              struct biv_text **out);

/**
 * Runs an experiment with every combination of losses, noises and seeds, several at a time, and gives the mean
 * and the spread of the results.
 *
 * @param sweep JSON, schema "sweep": {"base": {an experiment}, "grid": {"seeds": [1, 2, 3], "losses":
 *   [{"kind": "mse"}, {"kind": "biv"}], "noises": [...]}, "out": "folder", "jobs": 2}. Runs that are complete
 *   in the folder are not run again.
 * @param callback called after each mini-batch and each run; may be NULL.
 * @param user passed to the callback.
 * @param out a new text, the result as JSON, to be freed with biv_text_free(); NULL on failure. "table" has a
 *   row for each variant (with "test_labels", as in the result of a run), "runs" has each run with its "outcome" or
 *   its "error".
 * @return BIV_OK (also where single runs failed), BIV_ERROR_CANCELLED (the callback stopped the sweep),
 *   BIV_ERROR_INVALID_CONFIG, BIV_ERROR_INVALID_ARGUMENT, BIV_ERROR_NOT_FOUND, BIV_ERROR_PARSE, BIV_ERROR_IO,
 *   BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_sweep_run(const char *sweep,
                         biv_experiment_callback callback,
                         void *user,
                         struct biv_text **out);

/**
 * The characters of a text.
 *
 * @param out set to a NUL-terminated text that is valid until the handle is freed; NULL on failure.
 * @return BIV_OK, BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_ARGUMENT. Any thread.
 */
biv_status biv_text_get(const struct biv_text *text, const char **out);

/**
 * Frees a handle. Does nothing to NULL and to a handle that was freed before, and keeps the thread's last
 * message. Any thread.
 */
void biv_text_free(struct biv_text *text);

/**
 * Finds what the residuals of any model say of the variances that are known of its labels' noise: the epsilon of
 * inverse-variance weights, and how much of a residual's variance is noise.
 *
 * Epsilon is the largest that the profile likelihood, in which the scale is free, does not speak against by more
 * than one standard error; it is never below the tau2 of Paule and Mandel (1982).
 *
 * @param residuals shape [rows]: label minus prediction, of rows that training has not seen.
 * @param variances the same shape, the square of the residuals' unit, at least 0. A row of infinite variance counts
 *   nothing.
 * @param out a struct of the caller's, with its struct_size set.
 * @return BIV_OK, BIV_ERROR_SHAPE, BIV_ERROR_INVALID_ARGUMENT (a residual that is not finite, a variance that is
 *   negative or NaN), BIV_ERROR_OUT_OF_MEMORY. Any thread.
 */
biv_status biv_variance_model_fit(const struct biv_array *residuals,
                                  const struct biv_array *variances,
                                  struct biv_variance_model *out);

/**
 * Makes a trained model with error bars of a data set: nothing has to be tuned, and known variances help where they
 * can and do no harm where they cannot.
 *
 * By default five networks are trained side by side, each on the rows outside a fold of its own. What they miss of the
 * rows that they do not see gives the weights of the labels, the epoch to stop at and the size of the errors. The
 * model predicts their mean; biv_model_predict_with_variance() gives the error bars. Labels without variances are
 * weighted alike. Labels before simulated noise, kept beside it, are not looked at.
 *
 * @param model JSON, schema "model", of one network; its seed is the first network's. NULL for a multi-layer perceptron
 *   with hidden layers of 100 and 50.
 * @param dataset the training data. Rows of one group (biv_dataset_create()) stay in one fold.
 * @param options JSON, schema "fit": {"members": 5, "epochs": 100, "batch_size": 256, "learning_rate": 0.001,
 *   "seed": 0, "device": "cpu", "loss": {"kind": "biv", "epsilon": "auto"}, "checkpoint": "fit.biv"}; NULL for these
 *   defaults, without a checkpoint. "members" 1 is cheaper. A fit that finds its own checkpoint goes on from there. With
 *   "distributed" each of several processes makes this call, with the same arguments; all get the result.
 * @param callback called with the progress; may be NULL.
 * @param user passed to the callback.
 * @param out the new handle, to be freed with biv_model_free(); NULL on failure.
 * @param report a new text, what was found as JSON, to be freed with biv_text_free(); NULL on failure. The variance
 *   model, coverage and warnings: {"outputs": [{"variance_model": {"epsilon": ...}, "coverage_68": 0.69, ...}],
 *   "warnings": [], ...}; null stands for infinity. May be NULL.
 * @return BIV_OK, BIV_ERROR_CANCELLED (the callback stopped it; with a checkpoint, another call goes on),
 *   BIV_ERROR_INVALID_HANDLE, BIV_ERROR_INVALID_CONFIG, BIV_ERROR_SHAPE (model and data do not fit),
 *   BIV_ERROR_INVALID_ARGUMENT (fewer rows or groups than folds, a checkpoint of another fit), BIV_ERROR_NUMERICAL (a
 *   loss is not finite), BIV_ERROR_IO, BIV_ERROR_CORRUPT, BIV_ERROR_DEVICE, BIV_ERROR_OUT_OF_MEMORY,
 *   BIV_ERROR_DISTRIBUTED (another process failed). Any thread.
 */
biv_status biv_fit(const char *model,
                   const struct biv_dataset *dataset,
                   const char *options,
                   biv_fit_callback callback,
                   void *user,
                   struct biv_model **out,
                   struct biv_text **report);

#ifdef __cplusplus
}  // extern "C"
#endif  /* __cplusplus */

#endif  /* BIV_H */
