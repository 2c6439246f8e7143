/* The gateway between MATLAB or Octave and libbiv: biv_mex(COMMAND, ...) looks COMMAND up in one table.
 *
 * Only the package +biv calls it. Handles travel as uint64 scalars, options as JSON, arrays as they are
 * (column-major, described by strides). Errors come out as biv:<Status> with the library's message.
 * Nothing that the library has to free is alive where an error is raised; what mxMalloc gave, the host frees.
 */
#ifndef _GNU_SOURCE /* MATLAB's mex defines it */
#define _GNU_SOURCE
#endif
#include <biv.h>
#include <biv_library.h> /* of build.m: BIV_LIBRARY_FOLDER, where the library is installed */
#include <ctype.h>
#include <dlfcn.h>
#include <mex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- The library -------------------------------------------------------------------------------------- */

/* Every function of biv.h. */
/* clang-format off */
#define FUNCTIONS(X) \
  X(status_name) X(version) X(abi_version) X(build_info) X(last_error_message) X(last_error_message_from_one) \
  X(set_log) X(config_schema) X(cuda_device_count) X(get_num_threads) X(set_num_threads) X(dataset_create) X(dataset_create_from_arrays) \
  X(dataset_create_from_arrays_with_std) X(dataset_create_borrowed) X(dataset_create_from_dlpack) X(dataset_create_from_csv) X(dataset_create_named) \
  X(dataset_create_from_images) X(dataset_create_synthetic) X(dataset_add_noise) X(dataset_split) \
  X(dataset_subset) X(dataset_shuffle) X(dataset_append) X(dataset_latest) X(dataset_with_variances) X(dataset_get_info) X(dataset_describe) X(dataset_copy_features) X(dataset_copy_labels) \
  X(dataset_copy_clean_labels) X(dataset_copy_variances) X(dataset_free) X(noise_sample) X(loss_compute) \
  X(model_create) X(model_load) X(model_load_from_memory) X(model_save_to_memory) X(model_copy) X(model_export) X(model_import_weights) \
  X(model_save) X(model_get_info) X(model_describe) X(model_get_tensor) \
  X(model_set_tensor) X(model_predict) X(model_predict_with_variance) X(model_predict_dlpack) X(model_evaluate) X(model_set_normalization) \
  X(model_reset_normalization) X(model_free) X(trainer_create) X(trainer_step) X(trainer_step_on) \
  X(trainer_set_data) X(trainer_set_validation) X(trainer_fit) X(trainer_cancel) X(trainer_get_progress) X(trainer_describe) \
  X(trainer_evaluate) X(trainer_predict) \
  X(trainer_get_learning_rate) X(trainer_set_learning_rate) X(trainer_get_model) X(trainer_save) X(trainer_load) X(trainer_load_with) \
  X(trainer_load_from_memory) X(trainer_save_to_memory) X(trainer_free) X(variance_model_fit) X(fit) X(experiment_resolve) X(experiment_run) X(sweep_run) X(text_get) X(text_free)
/* clang-format on */

#define POINTER(name) __typeof__(biv_##name) *name;
static struct {
  FUNCTIONS(POINTER)
  void *handle;
} biv;

static void *open_library(const char *path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }

/* BIV_LIBRARY where it is set; else beside this file, or where it was installed when this file was built; else where
 * the system looks. */
static void *find_library(void) {
  const char *given = getenv("BIV_LIBRARY");
  if (given && *given) return open_library(given);
  char name[64], path[4096];
  snprintf(name, sizeof name, "libbiv.so.%d.%d", BIV_VERSION_MAJOR, BIV_VERSION_MINOR);
  Dl_info here;
  const char *slash = dladdr((void *)&biv, &here) && here.dli_fname ? strrchr(here.dli_fname, '/') : NULL;
  if (slash) {
    snprintf(path, sizeof path, "%.*s/%s", (int)(slash - here.dli_fname), here.dli_fname, name);
    if (access(path, R_OK) == 0) return open_library(path);
  }
  snprintf(path, sizeof path, "%s/%s", BIV_LIBRARY_FOLDER, name);
  return open_library(access(path, R_OK) == 0 ? path : name);
}

static void load_library(void) {
  void *handle = find_library();
  if (!handle)
    mexErrMsgIdAndTxt("biv:Library", "libbiv cannot be loaded: %s (BIV_LIBRARY may name the file)", dlerror());
#define RESOLVE(name)                                       \
  if (!(*(void **)&biv.name = dlsym(handle, "biv_" #name))) \
    mexErrMsgIdAndTxt("biv:Library", "libbiv has no function biv_" #name ": it is another version");
  FUNCTIONS(RESOLVE)
  if (biv.abi_version() != BIV_ABI_VERSION)
    mexErrMsgIdAndTxt("biv:Library", "libbiv has ABI version %d, biv_mex was built for %d", (int)biv.abi_version(),
                      BIV_ABI_VERSION);
  biv.handle = handle;
  mexLock(); /* libtorch's threads do not survive unloading */
}

/* Raises the error biv:InvalidArgument for BIV_ERROR_INVALID_ARGUMENT, and so on. */
static void check_with(biv_status status, const char *message) {
  if (status == BIV_OK) return;
  char id[64] = "biv:";
  size_t length = strlen(id);
  int upper = 1;
  for (const char *c = biv.status_name(status) + strlen("BIV_ERROR_"); *c && length < sizeof id - 1; ++c) {
    if (*c != '_') id[length++] = (char)(upper ? *c : tolower((unsigned char)*c));
    upper = *c == '_';
  }
  id[length] = '\0';
  mexErrMsgIdAndTxt(id, "%s", message);
}

static void check(biv_status status) { check_with(status, biv.last_error_message_from_one()); }

static void refuse(const char *name, const char *problem) {
  mexErrMsgIdAndTxt("biv:InvalidArgument", "%s: %s", name, problem);
}

/* ---- Arguments ---------------------------------------------------------------------------------------- */

/* A handle; what is none becomes NULL, which the library refuses. */
static void *key(const mxArray *in) {
  if (!mxIsUint64(in) || mxGetNumberOfElements(in) != 1) return NULL;
  return (void *)(uintptr_t) * (const uint64_t *)mxGetData(in);
}

/* In UTF-8: Octave's texts are that already, MATLAB's are converted. */
#ifdef MATLAB_MEX_FILE
#define TEXT_OF(in) mxArrayToUTF8String(in)
#else
#define TEXT_OF(in) mxArrayToString(in)
#endif

static const char *text(const mxArray *in, const char *name) {
  mxArray *converted = NULL;
  if (mxIsClass(in, "string")) { /* MATLAB's "text"; Octave has none */
    mxArray *given = (mxArray *)in;
    mexCallMATLAB(1, &converted, 1, &given, "char");
    in = converted;
  }
  if (!mxIsChar(in) || mxGetM(in) > 1) refuse(name, "must be text, a row of characters");
  return TEXT_OF(in);
}

static double number(const mxArray *in, const char *name) {
  if (!mxIsNumeric(in) || mxIsComplex(in) || mxGetNumberOfElements(in) != 1) refuse(name, "must be a number");
  return mxGetScalar(in);
}

/* A whole number from `low` on that a double holds exactly. */
static int64_t whole(const mxArray *in, const char *name, int64_t low) {
  double value = number(in, name);
  if (!(value >= (double)low && value <= 9007199254740992.0) || value != (double)(int64_t)value)
    mexErrMsgIdAndTxt("biv:InvalidArgument", "%s: is %g, must be a whole number of at least %d", name, value, (int)low);
  return (int64_t)value;
}

/* A seed: a double, or all 64 bits of a uint64. */
static uint64_t seed(const mxArray *in) {
  if (mxIsUint64(in) && mxGetNumberOfElements(in) == 1) return *(const uint64_t *)mxGetData(in);
  return (uint64_t)whole(in, "seed", 0);
}

enum { MAX_RANK = 8 };

/* What biv_array points to. */
typedef struct {
  int64_t shape[MAX_RANK], strides[MAX_RANK];
  biv_array array;
} view;

static void column_major(const int64_t *shape, int rank, int64_t *strides) {
  int64_t stride = 1;
  for (int i = 0; i < rank; ++i) {
    strides[i] = stride;
    stride *= shape[i];
  }
}

/* A numeric array in place. [] of an optional one gives NULL. `shape`, unless NULL or [], is a row of the sizes
 * that the array has including trailing ones, which the host drops. */
static const biv_array *array(view *v, const mxArray *in, const char *name, int optional, const mxArray *shape) {
  if (optional && mxIsEmpty(in)) return NULL;
  if (!(mxIsDouble(in) || mxIsSingle(in)) || mxIsComplex(in) || mxIsSparse(in))
    mexErrMsgIdAndTxt("biv:InvalidArgument", "%s: must be a full, real array of doubles or singles, is %s%s", name,
                      mxIsComplex(in)  ? "complex "
                      : mxIsSparse(in) ? "sparse "
                                       : "",
                      mxGetClassName(in));
  int given = shape && !mxIsEmpty(shape);
  size_t rank = given ? mxGetNumberOfElements(shape) : (size_t)mxGetNumberOfDimensions(in);
  if (rank > MAX_RANK) refuse(name, "has more than 8 dimensions");
  for (size_t i = 0; i < rank; ++i)
    v->shape[i] = given ? (int64_t)((const double *)mxGetData(shape))[i] : (int64_t)mxGetDimensions(in)[i];
  column_major(v->shape, (int)rank, v->strides);
  v->array = (biv_array){mxGetData(in), mxIsSingle(in) ? BIV_F32 : BIV_F64, (int32_t)rank, v->shape,
                         v->strides,    (int64_t)mxGetNumberOfElements(in)};
  return &v->array;
}

/* A vector in place, whether it is a row or a column. */
static const biv_array *vector(view *v, const mxArray *in, const char *name) {
  array(v, in, name, 0, NULL);
  int64_t count = (int64_t)mxGetNumberOfElements(in);
  if (v->array.rank != 2 || (count && v->shape[0] != count && v->shape[1] != count)) refuse(name, "must be a vector");
  v->shape[0] = count;
  v->strides[0] = 1;
  v->array.rank = 1;
  return &v->array;
}

/* ---- Results ------------------------------------------------------------------------------------------ */

static mxArray *handle(void *value) {
  mxArray *out = mxCreateNumericMatrix(1, 1, mxUINT64_CLASS, mxREAL);
  *(uint64_t *)mxGetData(out) = (uint64_t)(uintptr_t)value;
  return out;
}

/* The text, which is freed. */
static mxArray *take_text(biv_text *json) {
  const char *string;
  check(biv.text_get(json, &string));
  mxArray *out = mxCreateString(string);
  biv.text_free(json);
  return out;
}

/* A new array of doubles for the library to fill. */
static const biv_array_out *fresh(view *v, biv_array_out *out, mxArray **result, const int64_t *shape, int rank) {
  mwSize sizes[MAX_RANK] = {1, 1};
  for (int i = 0; i < rank; ++i) {
    v->shape[i] = shape[i];
    sizes[i] = (mwSize)shape[i];
  }
  *result = mxCreateNumericArray((mwSize)(rank == 1 ? 2 : rank), sizes, mxDOUBLE_CLASS, mxREAL);
  column_major(v->shape, rank, v->strides);
  *out =
      (biv_array_out){mxGetData(*result), BIV_F64, rank, v->shape, v->strides, (int64_t)mxGetNumberOfElements(*result)};
  return out;
}

static const biv_array_out *fresh_matrix(view *v, biv_array_out *out, mxArray **result, int64_t rows, int64_t columns) {
  int64_t shape[] = {rows, columns};
  return fresh(v, out, result, shape, 2);
}

static mxArray *new_struct(void) { return mxCreateStructMatrix(1, 1, 0, NULL); }

static void set(mxArray *out, const char *field, mxArray *value) {
  mxSetFieldByNumber(out, 0, mxAddField(out, field), value);
}

#define NUMBER(out, from, field) set(out, #field, mxCreateDoubleScalar((double)(from).field))
#define FLAG(out, from, field) set(out, #field, mxCreateLogicalScalar((from).field != 0))

static mxArray *metrics_struct(const biv_metrics *metrics) {
  mxArray *out = new_struct();
  NUMBER(out, *metrics, rows);
  NUMBER(out, *metrics, mse);
  NUMBER(out, *metrics, rmse);
  NUMBER(out, *metrics, mae);
  NUMBER(out, *metrics, r2);
  NUMBER(out, *metrics, normalized_mse);
  NUMBER(out, *metrics, normalized_rmse);
  NUMBER(out, *metrics, normalized_mae);
  NUMBER(out, *metrics, weighted_rmse);
  NUMBER(out, *metrics, expected_rmse);
  NUMBER(out, *metrics, mean_z2);
  NUMBER(out, *metrics, nlpd);
  NUMBER(out, *metrics, coverage_68);
  NUMBER(out, *metrics, coverage_95);
  return out;
}

static mxArray *step_struct(const biv_step *step) {
  mxArray *out = new_struct();
  NUMBER(out, *step, loss);
  NUMBER(out, *step, effective_batch_size);
  NUMBER(out, *step, epsilon);
  NUMBER(out, *step, rows);
  NUMBER(out, *step, samples_used);
  NUMBER(out, *step, learning_rate);
  return out;
}

/* ---- Training and its callbacks ----------------------------------------------------------------------- */

/* The library trains on a thread of its own and the host's thread calls the function handle, so that whatever
 * leaves the interpreter there (Ctrl-C in Octave is a C++ exception) never passes through the library: `finish`
 * stops the training first. */
typedef struct job {
  biv_status (*train)(struct job *);
  mxArray *(*describe)(const void *event);
  biv_trainer *trainer;
  const biv_dataset *test;
  const biv_dataset *data; /* of biv_fit */
  const char *network;     /* of biv_fit: the model's options, or NULL */
  const char *config;      /* of biv_fit, an experiment or a sweep */
  int64_t epochs;
  biv_status (*run)(const char *, biv_experiment_callback, void *, biv_text **);
  biv_model *model;
  biv_text *result;
  biv_status status;
  char message[1024];

  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  const void *event; /* what the library tells the callback, until that has answered */
  int stop, done, joined;
} job;

static void *work(void *user) {
  job *j = user;
  j->status = j->train(j);
  snprintf(j->message, sizeof j->message, "%s", biv.last_error_message_from_one());
  pthread_mutex_lock(&j->lock);
  j->done = 1;
  pthread_cond_signal(&j->changed);
  pthread_mutex_unlock(&j->lock);
  return NULL;
}

/* On the library's thread: waits for the host's answer. */
static int32_t tell(job *j, const void *event) {
  pthread_mutex_lock(&j->lock);
  if (!j->stop) j->event = event;
  pthread_cond_signal(&j->changed);
  while (j->event) pthread_cond_wait(&j->changed, &j->lock);
  int32_t stop = j->stop;
  pthread_mutex_unlock(&j->lock);
  return stop;
}

/* On the host's thread: the next event, or NULL at the end. */
static const void *next_event(job *j) {
  pthread_mutex_lock(&j->lock);
  while (!j->event && !j->done) pthread_cond_wait(&j->changed, &j->lock);
  const void *event = j->event;
  pthread_mutex_unlock(&j->lock);
  return event;
}

static void answer(job *j, int stop) {
  pthread_mutex_lock(&j->lock);
  j->stop |= stop;
  j->event = NULL;
  pthread_cond_signal(&j->changed);
  pthread_mutex_unlock(&j->lock);
}

static void finish(job *j) {
  if (j->joined) return;
  answer(j, 1);
  pthread_join(j->thread, NULL);
  j->joined = 1;
}

/* Calls a function handle of one argument; whether it wants to stop. */
static int32_t call(const mxArray *function, mxArray *event) {
  mxArray *in[] = {(mxArray *)function, event}, *out = NULL;
  mxArray *exception = mexCallMATLABWithTrap(1, &out, 2, in, "feval");
  int32_t stop = exception || !out || mxGetScalar(out) != 0;
  if (exception) mxDestroyArray(exception);
  if (out) mxDestroyArray(out);
  mxDestroyArray(event);
  return stop;
}

/* Trains, and calls the function handle with every event. */
static void train(job *j, const mxArray *function) {
  __attribute__((cleanup(finish))) job running = *j;
  pthread_mutex_init(&running.lock, NULL);
  pthread_cond_init(&running.changed, NULL);
  if (pthread_create(&running.thread, NULL, work, &running) != 0) {
    running.joined = 1;
    mexErrMsgIdAndTxt("biv:OutOfMemory", "no thread can be started");
  }
  const void *event;
  while ((event = next_event(&running))) answer(&running, call(function, running.describe(event)));
  finish(&running);
  *j = running;
}

static mxArray *epoch_struct(const void *event) {
  const biv_epoch *epoch = event;
  mxArray *out = new_struct();
  NUMBER(out, *epoch, epoch);
  NUMBER(out, *epoch, batches);
  NUMBER(out, *epoch, skipped);
  NUMBER(out, *epoch, loss);
  NUMBER(out, *epoch, effective_batch_size);
  NUMBER(out, *epoch, validation_loss);
  NUMBER(out, *epoch, best_epoch);
  NUMBER(out, *epoch, learning_rate);
  set(out, "test", epoch->test ? metrics_struct(epoch->test) : mxCreateDoubleMatrix(0, 0, mxREAL));
  return out;
}

static mxArray *progress_struct(const void *event) {
  static const char *const stages[] = {"", "loading", "training", "sweep"};
  const biv_experiment_progress *progress = event;
  mxArray *out = new_struct();
  set(out, "stage", mxCreateString(progress->stage > 0 && progress->stage < 4 ? stages[progress->stage] : ""));
  set(out, "run", mxCreateString(progress->run));
  NUMBER(out, *progress, done);
  NUMBER(out, *progress, total);
  NUMBER(out, *progress, epoch);
  NUMBER(out, *progress, epochs);
  NUMBER(out, *progress, loss);
  NUMBER(out, *progress, rmse);
  NUMBER(out, *progress, samples_per_second);
  NUMBER(out, *progress, seconds_left);
  return out;
}

static mxArray *fit_struct(const void *event) {
  const biv_fit_progress *progress = event;
  mxArray *out = new_struct();
  NUMBER(out, *progress, epoch);
  NUMBER(out, *progress, epochs);
  NUMBER(out, *progress, steps);
  NUMBER(out, *progress, total_steps);
  NUMBER(out, *progress, held_out_loss);
  NUMBER(out, *progress, epsilon);
  FLAG(out, *progress, is_final);
  return out;
}

static int32_t on_epoch(void *user, const biv_epoch *epoch) { return tell(user, epoch); }
static int32_t on_fit(void *user, const biv_fit_progress *progress) { return tell(user, progress); }
static int32_t on_progress(void *user, const biv_experiment_progress *progress) { return tell(user, progress); }

static biv_status fit_data(job *j) { return biv.fit(j->network, j->data, j->config, on_fit, j, &j->model, &j->result); }
static biv_status fit(job *j) { return biv.trainer_fit(j->trainer, j->epochs, j->test, on_epoch, j); }
static biv_status experiment(job *j) { return j->run(j->config, on_progress, j, &j->result); }

/* ---- The log ------------------------------------------------------------------------------------------ */

/* Messages that the host has not asked for yet, one to a line. They wait here because the library may say them on the
 * thread that trains, which must not enter the interpreter. */
static struct {
  pthread_mutex_t lock;
  char *text;
  size_t size;
} said = {PTHREAD_MUTEX_INITIALIZER, NULL, 0};

static void on_log(void *user, int32_t level, const char *message) {
  (void)user;
  const char *kind = level == BIV_LOG_WARNING ? "warning" : "info";
  size_t more = strlen(kind) + strlen(message) + 3;
  pthread_mutex_lock(&said.lock);
  char *longer = realloc(said.text, said.size + more + 1);
  if (longer) {
    snprintf(longer + said.size, more + 1, "%s: %s\n", kind, message);
    said.text = longer;
    said.size += more;
  }
  pthread_mutex_unlock(&said.lock);
}

/* ---- Commands: `in` has as many arguments as the table says, `out` room for as many results ------------- */

typedef const mxArray *const *arguments;

static void version(mxArray **out, arguments in) {
  (void)in;
  out[0] = mxCreateString(biv.version());
}

static void build_info(mxArray **out, arguments in) {
  (void)in;
  const char *json;
  check(biv.build_info(&json));
  out[0] = mxCreateString(json);
}

static void set_log(mxArray **out, arguments in) {
  (void)out;
  static const char *const levels[] = {"silent", "warning", "info"};
  const char *level = text(in[0], "level");
  for (int32_t i = BIV_LOG_SILENT; i <= BIV_LOG_INFO; ++i) {
    if (strcmp(level, levels[i]) != 0) continue;
    check(biv.set_log(i, on_log, NULL));
    return;
  }
  refuse("level", "must be 'silent', 'warning' or 'info'");
}

/* what was said since the last call */
static void messages(mxArray **out, arguments in) {
  (void)in;
  pthread_mutex_lock(&said.lock);
  char *text = said.text;
  said.text = NULL;
  said.size = 0;
  pthread_mutex_unlock(&said.lock);
  out[0] = mxCreateString(text ? text : "");
  free(text);
}

static void schema(mxArray **out, arguments in) {
  const char *json;
  check(biv.config_schema(text(in[0], "name"), &json));
  out[0] = mxCreateString(json);
}

static void cuda_devices(mxArray **out, arguments in) {
  (void)in;
  int32_t count;
  check(biv.cuda_device_count(&count));
  out[0] = mxCreateDoubleScalar(count);
}

static void get_threads(mxArray **out, arguments in) {
  (void)in;
  int32_t threads;
  check(biv.get_num_threads(&threads));
  out[0] = mxCreateDoubleScalar(threads);
}

static void set_threads(mxArray **out, arguments in) {
  (void)out;
  int64_t threads = whole(in[0], "threads", 1);
  check(biv.set_num_threads(threads > INT32_MAX ? INT32_MAX : (int32_t)threads));
}

/* features, labels, their noise or [], the rows' groups or [], options */
static void dataset_from_arrays(mxArray **out, arguments in) {
  view x, y, v, g;
  biv_dataset *dataset;
  const char *options = text(in[4], "options");
  const biv_array *features = array(&x, in[0], "features", 0, NULL), *labels = array(&y, in[1], "labels", 0, NULL),
                  *noise = array(&v, in[2], "noise", 1, NULL),
                  *groups = mxIsEmpty(in[3]) ? NULL : vector(&g, in[3], "groups");
  check(biv.dataset_create(features, labels, noise, groups, options, &dataset));
  out[0] = handle(dataset);
}

static void dataset_from_csv(mxArray **out, arguments in) {
  biv_dataset *dataset;
  check(biv.dataset_create_from_csv(text(in[0], "path"), text(in[1], "options"), &dataset));
  out[0] = handle(dataset);
}

static void dataset_named(mxArray **out, arguments in) {
  biv_dataset *dataset;
  check(biv.dataset_create_named(text(in[0], "name"), text(in[1], "path"), &dataset));
  out[0] = handle(dataset);
}

static void dataset_from_images(mxArray **out, arguments in) {
  biv_dataset *dataset;
  check(biv.dataset_create_from_images(text(in[0], "folder"), text(in[1], "options"), &dataset));
  out[0] = handle(dataset);
}

static void dataset_synthetic(mxArray **out, arguments in) {
  biv_dataset *dataset;
  check(biv.dataset_create_synthetic(text(in[0], "options"), &dataset));
  out[0] = handle(dataset);
}

static void dataset_add_noise(mxArray **out, arguments in) {
  biv_dataset *dataset;
  check(biv.dataset_add_noise(key(in[0]), text(in[1], "options"), &dataset));
  out[0] = handle(dataset);
}

static void dataset_split(mxArray **out, arguments in) {
  biv_dataset *train, *test;
  check(biv.dataset_split(key(in[0]), text(in[1], "options"), &train, &test));
  out[0] = handle(train);
  out[1] = handle(test);
}

/* the rows' numbers, counted from 1 */
static void dataset_subset(mxArray **out, arguments in) {
  biv_dataset *dataset;
  if (!mxIsDouble(in[1]) || mxIsComplex(in[1]) || mxIsSparse(in[1])) refuse("rows", "must be numbers of rows");
  size_t count = mxGetNumberOfElements(in[1]);
  const double *numbers = mxGetData(in[1]);
  int64_t *indices = mxMalloc(sizeof *indices * (count + 1));
  for (size_t i = 0; i < count; ++i) indices[i] = (int64_t)numbers[i] - 1;
  check(biv.dataset_subset(key(in[0]), indices, count, &dataset));
  mxFree(indices);
  out[0] = handle(dataset);
}

static void dataset_shuffle(mxArray **out, arguments in) {
  biv_dataset *dataset;
  check(biv.dataset_shuffle(key(in[0]), seed(in[1]), &dataset));
  out[0] = handle(dataset);
}

static void dataset_append(mxArray **out, arguments in) {
  biv_dataset *dataset;
  check(biv.dataset_append(key(in[0]), key(in[1]), &dataset));
  out[0] = handle(dataset);
}

static void dataset_latest(mxArray **out, arguments in) {
  biv_dataset *dataset;
  check(biv.dataset_latest(key(in[0]), (size_t)whole(in[1], "rows", 1), &dataset));
  out[0] = handle(dataset);
}

/* the handle, the noise, the options */
static void dataset_with_variances(mxArray **out, arguments in) {
  view v;
  biv_dataset *dataset;
  const char *options = text(in[2], "options");
  check(biv.dataset_with_variances(key(in[0]), array(&v, in[1], "noise", 0, NULL), options, &dataset));
  out[0] = handle(dataset);
}

static biv_dataset_info dataset_sizes(const mxArray *dataset) {
  biv_dataset_info info = {.struct_size = sizeof info};
  check(biv.dataset_get_info(key(dataset), &info));
  return info;
}

static void dataset_info(mxArray **out, arguments in) {
  biv_dataset_info info = dataset_sizes(in[0]);
  out[0] = new_struct();
  NUMBER(out[0], info, rows);
  NUMBER(out[0], info, features);
  NUMBER(out[0], info, outputs);
  FLAG(out[0], info, has_variances);
  FLAG(out[0], info, has_clean_labels);
  NUMBER(out[0], info, left_out);
  NUMBER(out[0], info, masked_labels);
}

/* the handle, the sizes of a row's dimensions or [] */
static void dataset_features(mxArray **out, arguments in) {
  view v;
  biv_array_out x;
  biv_dataset_info info = dataset_sizes(in[0]);
  int64_t shape[MAX_RANK] = {info.rows, info.features};
  size_t dimensions = mxGetNumberOfElements(in[1]);
  if (dimensions > MAX_RANK - 1) refuse("shape", "has more than 7 sizes");
  int64_t features = 1;
  for (size_t i = 0; i < dimensions; ++i) {
    shape[i + 1] = (int64_t)((const double *)mxGetData(in[1]))[i];
    features *= shape[i + 1] > info.features ? 0 : shape[i + 1];
  }
  if (dimensions && features != info.features) refuse("shape", "must have as many values as a row has features");
  check(biv.dataset_copy_features(key(in[0]), fresh(&v, &x, out, shape, dimensions ? (int)dimensions + 1 : 2)));
}

static void copy_columns(mxArray **out, arguments in, biv_status (*copy)(const biv_dataset *, const biv_array_out *)) {
  view v;
  biv_array_out y;
  biv_dataset_info info = dataset_sizes(in[0]);
  check(copy(key(in[0]), fresh_matrix(&v, &y, out, info.rows, info.outputs)));
}

static void dataset_labels(mxArray **out, arguments in) { copy_columns(out, in, biv.dataset_copy_labels); }
static void dataset_clean_labels(mxArray **out, arguments in) { copy_columns(out, in, biv.dataset_copy_clean_labels); }
static void dataset_variances(mxArray **out, arguments in) { copy_columns(out, in, biv.dataset_copy_variances); }

static void dataset_free(mxArray **out, arguments in) {
  (void)out;
  biv.dataset_free(key(in[0]));
}

/* the distribution, the seed, how many */
static void noise_sample(mxArray **out, arguments in) {
  int64_t count = whole(in[2], "count", 0);
  out[0] = mxCreateDoubleMatrix((mwSize)count, 1, mxREAL);
  check(biv.noise_sample(text(in[0], "distribution"), seed(in[1]), mxGetData(out[0]), (size_t)count));
}

/* the loss, predictions, labels, variances or [] */
static void loss_compute(mxArray **out, arguments in) {
  view p, y, v, g;
  biv_array_out gradient;
  biv_loss_result result = {.struct_size = sizeof result};
  const char *loss = text(in[0], "loss");
  const biv_array *predictions = array(&p, in[1], "predictions", 0, NULL),
                  *labels = array(&y, in[2], "labels", 0, NULL), *variances = array(&v, in[3], "variances", 1, NULL);
  check(biv.loss_compute(loss, predictions, labels, variances, &result,
                         fresh(&g, &gradient, &out[1], p.shape, predictions->rank)));
  out[0] = new_struct();
  NUMBER(out[0], result, value);
  NUMBER(out[0], result, effective_batch_size);
  NUMBER(out[0], result, epsilon);
  NUMBER(out[0], result, samples_used);
}

static void model_create(mxArray **out, arguments in) {
  biv_model *model;
  check(biv.model_create(text(in[0], "options"), &model));
  out[0] = handle(model);
}

static void model_load(mxArray **out, arguments in) {
  biv_model *model;
  check(biv.model_load(text(in[0], "path"), &model));
  out[0] = handle(model);
}

static void model_copy(mxArray **out, arguments in) {
  biv_model *model;
  check(biv.model_copy(key(in[0]), &model));
  out[0] = handle(model);
}

/* the handle, the file, options */
static void model_export(mxArray **out, arguments in) {
  (void)out;
  check(biv.model_export(key(in[0]), text(in[1], "path"), text(in[2], "options")));
}

/* the same */
static void model_import_weights(mxArray **out, arguments in) {
  biv_text *report;
  check(biv.model_import_weights(key(in[0]), text(in[1], "path"), text(in[2], "options"), &report));
  out[0] = take_text(report);
}

static void model_save(mxArray **out, arguments in) {
  (void)out;
  check(biv.model_save(key(in[0]), text(in[1], "path")));
}

static void model_info(mxArray **out, arguments in) {
  biv_model_info info = {.struct_size = sizeof info};
  check(biv.model_get_info(key(in[0]), &info));
  out[0] = new_struct();
  NUMBER(out[0], info, inputs);
  NUMBER(out[0], info, outputs);
  NUMBER(out[0], info, parameters);
  FLAG(out[0], info, normalized);
}

/* The text that a C function copies. */
#define COPIED_TEXT(function)                                       \
  static void function(mxArray **out, arguments in) {               \
    size_t needed = 0;                                              \
    biv_status status = biv.function(key(in[0]), NULL, 0, &needed); \
    if (status != BIV_ERROR_BUFFER_TOO_SMALL) check(status);        \
    char *json = mxMalloc(needed);                                  \
    check(biv.function(key(in[0]), json, needed, NULL));            \
    out[0] = mxCreateString(json);                                  \
    mxFree(json);                                                   \
  }

COPIED_TEXT(model_describe)
COPIED_TEXT(dataset_describe)
COPIED_TEXT(trainer_describe)

/* the handle, the tensor's name, its shape */
static void model_get_tensor(mxArray **out, arguments in) {
  view v;
  biv_array_out tensor;
  int64_t shape[MAX_RANK] = {1};
  size_t rank = mxGetNumberOfElements(in[2]);
  if (rank > MAX_RANK) refuse("shape", "has more than 8 sizes");
  for (size_t i = 0; i < rank; ++i) shape[i] = (int64_t)((const double *)mxGetData(in[2]))[i];
  check(biv.model_get_tensor(key(in[0]), text(in[1], "name"), fresh(&v, &tensor, out, shape, rank ? (int)rank : 1)));
}

/* the handle, the tensor's name, values, their shape or [] */
static void model_set_tensor(mxArray **out, arguments in) {
  (void)out;
  view v;
  check(biv.model_set_tensor(key(in[0]), text(in[1], "name"), array(&v, in[2], "values", 0, in[3])));
}

/* The first dimension, the rows. */
static int64_t rows(const mxArray *in) { return (int64_t)mxGetDimensions(in)[0]; }

static int64_t model_outputs(const biv_model *model) {
  biv_model_info info = {.struct_size = sizeof info};
  check(biv.model_get_info(model, &info));
  return info.outputs;
}

static void model_predict(mxArray **out, arguments in) {
  view x, p;
  biv_array_out predictions;
  const biv_array *features = array(&x, in[1], "features", 0, NULL);
  int64_t outputs = model_outputs(key(in[0]));
  check(biv.model_predict(key(in[0]), features, fresh_matrix(&p, &predictions, out, rows(in[1]), outputs)));
}

/* predictions and their variances */
static void model_predict_with_variance(mxArray **out, arguments in) {
  view x, p, v;
  biv_array_out predictions, variances;
  const biv_array *features = array(&x, in[1], "features", 0, NULL);
  int64_t outputs = model_outputs(key(in[0]));
  check(biv.model_predict_with_variance(key(in[0]), features,
                                        fresh_matrix(&p, &predictions, &out[0], rows(in[1]), outputs),
                                        fresh_matrix(&v, &variances, &out[1], rows(in[1]), outputs)));
}

static void model_evaluate(mxArray **out, arguments in) {
  biv_metrics metrics = {.struct_size = sizeof metrics};
  check(biv.model_evaluate(key(in[0]), key(in[1]), &metrics));
  out[0] = metrics_struct(&metrics);
}

/* the handle, means and deviations of the features, the same of the labels */
static void model_set_normalization(mxArray **out, arguments in) {
  (void)out;
  view v[4];
  check(biv.model_set_normalization(key(in[0]), vector(&v[0], in[1], "feature_mean"),
                                    vector(&v[1], in[2], "feature_std"), vector(&v[2], in[3], "label_mean"),
                                    vector(&v[3], in[4], "label_std")));
}

static void model_reset_normalization(mxArray **out, arguments in) {
  (void)out;
  check(biv.model_reset_normalization(key(in[0])));
}

static void model_free(mxArray **out, arguments in) {
  (void)out;
  biv.model_free(key(in[0]));
}

/* the model, the data set or [], options */
static void trainer_create(mxArray **out, arguments in) {
  biv_trainer *trainer;
  const char *options = text(in[2], "options");
  if (!mxIsEmpty(in[1])) dataset_sizes(in[1]); /* a deleted one is an error, not "none" */
  check(biv.trainer_create(key(in[0]), key(in[1]), options, &trainer));
  out[0] = handle(trainer);
}

static void trainer_step(mxArray **out, arguments in) {
  biv_step step = {.struct_size = sizeof step};
  check(biv.trainer_step(key(in[0]), &step));
  out[0] = step_struct(&step);
}

/* the handle, features, labels, variances or [] */
static void trainer_step_on(mxArray **out, arguments in) {
  view x, y, v;
  biv_step step = {.struct_size = sizeof step};
  check(biv.trainer_step_on(key(in[0]), array(&x, in[1], "features", 0, NULL), array(&y, in[2], "labels", 0, NULL),
                            array(&v, in[3], "variances", 1, NULL), &step));
  out[0] = step_struct(&step);
}

static void trainer_set_data(mxArray **out, arguments in) {
  (void)out;
  check(biv.trainer_set_data(key(in[0]), key(in[1])));
}

static void trainer_set_validation(mxArray **out, arguments in) {
  (void)out;
  check(biv.trainer_set_validation(key(in[0]), key(in[1])));
}

/* the handle, epochs, the test set or [], a function handle */
static void trainer_fit(mxArray **out, arguments in) {
  (void)out;
  int64_t epochs = whole(in[1], "epochs", 1);
  if (!mxIsEmpty(in[2])) dataset_sizes(in[2]);
  job j = {.train = fit, .describe = epoch_struct, .trainer = key(in[0]), .test = key(in[2]), .epochs = epochs};
  train(&j, in[3]);
  check_with(j.status, j.message);
}

static void trainer_cancel(mxArray **out, arguments in) {
  (void)out;
  check(biv.trainer_cancel(key(in[0])));
}

static void trainer_progress(mxArray **out, arguments in) {
  biv_progress progress = {.struct_size = sizeof progress};
  check(biv.trainer_get_progress(key(in[0]), &progress));
  out[0] = new_struct();
  NUMBER(out[0], progress, epoch);
  NUMBER(out[0], progress, batch);
  NUMBER(out[0], progress, steps);
  NUMBER(out[0], progress, loss);
  FLAG(out[0], progress, running);
}

static void trainer_evaluate(mxArray **out, arguments in) {
  biv_metrics metrics = {.struct_size = sizeof metrics};
  check(biv.trainer_evaluate(key(in[0]), key(in[1]), &metrics));
  out[0] = metrics_struct(&metrics);
}

static void trainer_predict(mxArray **out, arguments in) {
  view x, p;
  biv_array_out predictions;
  const biv_array *features = array(&x, in[1], "features", 0, NULL);
  biv_model *model;
  check(biv.trainer_get_model(key(in[0]), &model));
  int64_t outputs = model_outputs(model);
  biv.model_free(model);
  check(biv.trainer_predict(key(in[0]), features, fresh_matrix(&p, &predictions, out, rows(in[1]), outputs)));
}

static void trainer_get_learning_rate(mxArray **out, arguments in) {
  double rate;
  check(biv.trainer_get_learning_rate(key(in[0]), &rate));
  out[0] = mxCreateDoubleScalar(rate);
}

static void trainer_set_learning_rate(mxArray **out, arguments in) {
  (void)out;
  check(biv.trainer_set_learning_rate(key(in[0]), number(in[1], "learning_rate")));
}

static void trainer_model(mxArray **out, arguments in) {
  biv_model *model;
  check(biv.trainer_get_model(key(in[0]), &model));
  out[0] = handle(model);
}

static void trainer_save(mxArray **out, arguments in) {
  (void)out;
  check(biv.trainer_save(key(in[0]), text(in[1], "path")));
}

/* the path, the data set or [], the options */
static void trainer_load(mxArray **out, arguments in) {
  biv_trainer *trainer;
  const char *path = text(in[0], "path"), *options = text(in[2], "options");
  if (!mxIsEmpty(in[1])) dataset_sizes(in[1]);
  check(biv.trainer_load_with(path, key(in[1]), options, &trainer));
  out[0] = handle(trainer);
}

static void trainer_free(mxArray **out, arguments in) {
  (void)out;
  biv.trainer_free(key(in[0]));
}

/* residuals, variances */
static void variance_model(mxArray **out, arguments in) {
  static const char *const verdicts[] = {
      "",
      [BIV_VERDICT_PROFILE] = "profile",
      [BIV_VERDICT_FLOOR] = "floor",
      [BIV_VERDICT_PAULE_MANDEL] = "paule-mandel",
      [BIV_VERDICT_MSE] = "mse",
      [BIV_VERDICT_TOO_FEW_ROWS] = "too-few-rows",
      [BIV_VERDICT_EQUAL_VARIANCES] = "equal-variances",
      [BIV_VERDICT_ZERO_RESIDUALS] = "zero-residuals",
  };
  view r, v;
  biv_variance_model model = {.struct_size = sizeof model};
  const biv_array *residuals = vector(&r, in[0], "residuals"), *variances = vector(&v, in[1], "variances");
  check(biv.variance_model_fit(residuals, variances, &model));
  int known = model.verdict > 0 && model.verdict < (int32_t)(sizeof verdicts / sizeof *verdicts);
  out[0] = new_struct();
  NUMBER(out[0], model, epsilon);
  NUMBER(out[0], model, scale);
  NUMBER(out[0], model, tau2);
  NUMBER(out[0], model, tau2_pm);
  NUMBER(out[0], model, epsilon_best);
  NUMBER(out[0], model, epsilon_floor);
  NUMBER(out[0], model, gain);
  NUMBER(out[0], model, gain_se);
  NUMBER(out[0], model, mean_z2);
  NUMBER(out[0], model, rows);
  set(out[0], "verdict", mxCreateString(known ? verdicts[model.verdict] : ""));
  set(out[0], "warning", mxCreateString(model.warning ? model.warning : ""));
}

/* the network's options or [], the data set, options, a function handle: the model and the report */
static void model_fit(mxArray **out, arguments in) {
  job j = {.train = fit_data, .describe = fit_struct, .data = key(in[1])};
  j.network = mxIsEmpty(in[0]) ? NULL : text(in[0], "model");
  j.config = text(in[2], "options");
  train(&j, in[3]);
  check_with(j.status, j.message);
  out[0] = handle(j.model);
  out[1] = take_text(j.result);
}

static void experiment_resolve(mxArray **out, arguments in) {
  biv_text *json;
  check(biv.experiment_resolve(text(in[0], "config"), &json));
  out[0] = take_text(json);
}

/* the description, a function handle */
static void run(mxArray **out, arguments in, job j, const char *name) {
  j.train = experiment;
  j.describe = progress_struct;
  j.config = text(in[0], name);
  train(&j, in[1]);
  check_with(j.status, j.message);
  out[0] = take_text(j.result);
}

static void experiment_run(mxArray **out, arguments in) { run(out, in, (job){.run = biv.experiment_run}, "config"); }
static void sweep_run(mxArray **out, arguments in) { run(out, in, (job){.run = biv.sweep_run}, "sweep"); }

/* ---- The gateway -------------------------------------------------------------------------------------- */

enum { MAX_RESULTS = 2 };

static const struct command {
  const char *name;
  void (*function)(mxArray **out, arguments in);
  int inputs;
} commands[] = {
#define COMMAND(name, inputs) \
  { #name, name, inputs }
    COMMAND(version, 0),
    COMMAND(build_info, 0),
    COMMAND(set_log, 1),
    COMMAND(messages, 0),
    COMMAND(schema, 1),
    COMMAND(cuda_devices, 0),
    COMMAND(get_threads, 0),
    COMMAND(set_threads, 1),
    COMMAND(dataset_from_arrays, 5),
    COMMAND(dataset_from_csv, 2),
    COMMAND(dataset_named, 2),
    COMMAND(dataset_from_images, 2),
    COMMAND(dataset_synthetic, 1),
    COMMAND(dataset_add_noise, 2),
    COMMAND(dataset_split, 2),
    COMMAND(dataset_subset, 2),
    COMMAND(dataset_shuffle, 2),
    COMMAND(dataset_append, 2),
    COMMAND(dataset_latest, 2),
    COMMAND(dataset_with_variances, 3),
    COMMAND(dataset_info, 1),
    COMMAND(dataset_describe, 1),
    COMMAND(dataset_features, 2),
    COMMAND(dataset_labels, 1),
    COMMAND(dataset_clean_labels, 1),
    COMMAND(dataset_variances, 1),
    COMMAND(dataset_free, 1),
    COMMAND(noise_sample, 3),
    COMMAND(loss_compute, 4),
    COMMAND(model_create, 1),
    COMMAND(model_load, 1),
    COMMAND(model_copy, 1),
    COMMAND(model_export, 3),
    COMMAND(model_import_weights, 3),
    COMMAND(model_save, 2),
    COMMAND(model_info, 1),
    COMMAND(model_describe, 1),
    COMMAND(model_get_tensor, 3),
    COMMAND(model_set_tensor, 4),
    COMMAND(model_predict, 2),
    COMMAND(model_predict_with_variance, 2),
    COMMAND(model_evaluate, 2),
    COMMAND(model_set_normalization, 5),
    COMMAND(model_reset_normalization, 1),
    COMMAND(model_fit, 4),
    COMMAND(model_free, 1),
    COMMAND(trainer_create, 3),
    COMMAND(trainer_step, 1),
    COMMAND(trainer_step_on, 4),
    COMMAND(trainer_set_data, 2),
    COMMAND(trainer_set_validation, 2),
    COMMAND(trainer_fit, 4),
    COMMAND(trainer_cancel, 1),
    COMMAND(trainer_progress, 1),
    COMMAND(trainer_describe, 1),
    COMMAND(trainer_evaluate, 2),
    COMMAND(trainer_predict, 2),
    COMMAND(trainer_get_learning_rate, 1),
    COMMAND(trainer_set_learning_rate, 2),
    COMMAND(trainer_model, 1),
    COMMAND(trainer_save, 2),
    COMMAND(trainer_load, 3),
    COMMAND(trainer_free, 1),
    COMMAND(variance_model, 2),
    COMMAND(experiment_resolve, 1),
    COMMAND(experiment_run, 2),
    COMMAND(sweep_run, 2),
};

void mexFunction(int nlhs, mxArray *plhs[], int nrhs, const mxArray *prhs[]) {
  if (!biv.handle) load_library();
  if (nrhs == 0) refuse("biv_mex", "the first argument must be a command; use the package biv instead");
  const char *name = text(prhs[0], "command");
  for (size_t i = 0; i < sizeof commands / sizeof *commands; ++i) {
    if (strcmp(name, commands[i].name) != 0) continue;
    if (nrhs - 1 != commands[i].inputs || nlhs > MAX_RESULTS) refuse(name, "wrong number of arguments");
    mxArray *out[MAX_RESULTS] = {NULL, NULL};
    commands[i].function(out, prhs + 1);
    for (int j = 0; j < MAX_RESULTS; ++j)
      if (j == 0 ? out[j] != NULL : j < nlhs)
        plhs[j] = out[j];
      else if (out[j])
        mxDestroyArray(out[j]);
    return;
  }
  mexErrMsgIdAndTxt("biv:InvalidArgument", "biv_mex has no command '%s'", name);
}
