/* The contract of the whole header, as a table: every function is called with each of its arguments wrong in every way
 * that its kind can be, the others right. Each call must say so, with a status that the function's documentation names,
 * and leave no trace, and the right call must still work.
 */
#include <ctype.h>

#include "common.h"
#include "dlpack.h"

/* What an argument is. */
enum kind {
  DATASET,
  MODEL,
  TRAINER,
  TEXT,
  JSON,
  PATH,
  NAME,
  OUT_HANDLE, /* where a handle goes */
  OUT_PLACE,  /* where a number or a pointer goes */
  STRUCT,     /* a struct that begins with struct_size */
  FEATURES,   /* an array that is read */
  VALUES,     /* as FEATURES, of numbers that are no features */
  NOISE,      /* as VALUES, at least 0; infinity is legal */
  GROUPS,     /* as VALUES; infinity is legal */
  OUT_ARRAY,
  TENSOR, /* by DLPack */
  BYTES,  /* a file's content */
  INDICES,
  COUNT_OF, /* a number of elements */
  ROWS,     /* a number of rows; more than there are is legal */
  EPOCHS,
  THREADS,
  LEVEL,
  RATE,
  ANY, /* every value is legal */
};

union value {
  const void *pointer;
  int64_t integer;
  double number;
};

enum { MOST = 6 };

struct row {
  const char *name;
  biv_status (*call)(const union value *a);
  int count;
  struct {
    enum kind kind;
    bool optional; /* NULL is legal */
    union value right;
  } arguments[MOST];
};

static char *folder;
static biv_dataset *data, *no_dataset;
static biv_model *model, *no_model;
static biv_trainer *trainer, *no_trainer;
static biv_text *text, *no_text;

/* Where results go. */
static void *handles[2];
static union {
  size_t struct_size;
  char bytes[256];
} result;
static double numbers[64];
static char description[4096];
static size_t needed;
static float all[200];
static const float x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
static const double y[] = {1, 2}, weights[8] = {0}, forty[40] = {0};
static const double column[] = {1, 2, 3, 4, 5};
static const int64_t indices[] = {3, 1};
static char model_bytes[20000], trainer_bytes[20000];
static size_t model_size, trainer_size;

#define CALLER(function, ...) \
  static biv_status call_##function(const union value *a) { return function(__VA_ARGS__); }
#define P(i) ((void *)a[i].pointer)

CALLER(biv_build_info, P(0))
CALLER(biv_set_log, (int32_t)a[0].integer, NULL, NULL)
CALLER(biv_config_schema, P(0), P(1))
CALLER(biv_cuda_device_count, P(0))
CALLER(biv_get_num_threads, P(0))
CALLER(biv_set_num_threads, (int32_t)a[0].integer)
CALLER(biv_dataset_create, P(0), P(1), P(2), P(3), P(4), P(5))
CALLER(biv_dataset_create_from_arrays, P(0), P(1), P(2), P(3))
CALLER(biv_dataset_create_from_arrays_with_std, P(0), P(1), P(2), P(3))
CALLER(biv_dataset_create_borrowed, P(0), P(1), P(2), P(3), NULL, NULL, P(4), P(5))
CALLER(biv_dataset_create_from_dlpack, P(0), P(1), P(2), P(3), NULL, P(4), P(5))
CALLER(biv_dataset_create_from_csv, P(0), P(1), P(2))
CALLER(biv_dataset_create_named, P(0), P(1), P(2))
CALLER(biv_dataset_create_from_images, P(0), P(1), P(2))
CALLER(biv_dataset_create_synthetic, P(0), P(1))
CALLER(biv_dataset_add_noise, P(0), P(1), P(2))
CALLER(biv_dataset_split, P(0), P(1), P(2), P(3))
CALLER(biv_dataset_subset, P(0), P(1), (size_t)a[2].integer, P(3))
CALLER(biv_dataset_shuffle, P(0), (uint64_t)a[1].integer, P(2))
CALLER(biv_dataset_append, P(0), P(1), P(2))
CALLER(biv_dataset_latest, P(0), (size_t)a[1].integer, P(2))
CALLER(biv_dataset_with_variances, P(0), P(1), P(2), P(3))
CALLER(biv_dataset_get_info, P(0), P(1))
CALLER(biv_dataset_copy_features, P(0), P(1))
CALLER(biv_dataset_copy_labels, P(0), P(1))
CALLER(biv_dataset_copy_clean_labels, P(0), P(1))
CALLER(biv_dataset_copy_variances, P(0), P(1))
CALLER(biv_noise_sample, P(0), (uint64_t)a[1].integer, P(2), 2)
CALLER(biv_loss_compute, P(0), P(1), P(2), P(3), P(4), P(5))
CALLER(biv_variance_model_fit, P(0), P(1), P(2))
CALLER(biv_fit, P(0), P(1), P(2), NULL, NULL, P(3), P(4))
CALLER(biv_model_create, P(0), P(1))
CALLER(biv_model_load, P(0), P(1))
CALLER(biv_model_save, P(0), P(1))
CALLER(biv_model_get_info, P(0), P(1))
CALLER(biv_dataset_describe, P(0), P(1), sizeof description, P(2))
CALLER(biv_model_load_from_memory, P(0), model_size, P(1))
CALLER(biv_model_save_to_memory, P(0), P(1), sizeof model_bytes, P(2))
CALLER(biv_model_copy, P(0), P(1))
CALLER(biv_model_export, P(0), P(1), P(2))
CALLER(biv_model_import_weights, P(0), P(1), P(2), P(3))
CALLER(biv_trainer_load_from_memory, P(0), trainer_size, P(1), P(2), P(3))
CALLER(biv_trainer_save_to_memory, P(0), P(1), sizeof trainer_bytes, P(2))
CALLER(biv_model_describe, P(0), P(1), sizeof description, P(2))
CALLER(biv_model_get_tensor, P(0), P(1), P(2))
CALLER(biv_model_set_tensor, P(0), P(1), P(2))
CALLER(biv_model_predict, P(0), P(1), P(2))
CALLER(biv_model_predict_with_variance, P(0), P(1), P(2), P(3))
CALLER(biv_model_predict_dlpack, P(0), P(1), P(2))
CALLER(biv_model_evaluate, P(0), P(1), P(2))
CALLER(biv_model_set_normalization, P(0), P(1), P(2), P(3), P(4))
CALLER(biv_model_reset_normalization, P(0))
CALLER(biv_trainer_create, P(0), P(1), P(2), P(3))
CALLER(biv_trainer_step, P(0), P(1))
CALLER(biv_trainer_step_on, P(0), P(1), P(2), P(3), P(4))
CALLER(biv_trainer_set_data, P(0), P(1))
CALLER(biv_trainer_set_validation, P(0), P(1))
CALLER(biv_trainer_fit, P(0), a[1].integer, P(2), NULL, NULL)
CALLER(biv_trainer_cancel, P(0))
CALLER(biv_trainer_get_progress, P(0), P(1))
CALLER(biv_trainer_describe, P(0), P(1), sizeof description, P(2))
CALLER(biv_trainer_evaluate, P(0), P(1), P(2))
CALLER(biv_trainer_predict, P(0), P(1), P(2))
CALLER(biv_trainer_get_learning_rate, P(0), P(1))
CALLER(biv_trainer_set_learning_rate, P(0), a[1].number)
CALLER(biv_trainer_get_model, P(0), P(1))
CALLER(biv_trainer_save, P(0), P(1))
CALLER(biv_trainer_load, P(0), P(1), P(2), P(3))
CALLER(biv_trainer_load_with, P(0), P(1), P(2), P(3))
CALLER(biv_experiment_resolve, P(0), P(1))
CALLER(biv_experiment_run, P(0), NULL, NULL, P(1))
CALLER(biv_sweep_run, P(0), NULL, NULL, P(1))
CALLER(biv_text_get, P(0), P(1))

static void free_dataset(void *handle) { biv_dataset_free(handle); }
static void free_model(void *handle) { biv_model_free(handle); }
static void free_trainer(void *handle) { biv_trainer_free(handle); }
static void free_text(void *handle) { biv_text_free(handle); }

/* Functions without an argument that can be wrong; the free functions take anything. */
static const char *const others[] = {"biv_status_name",
                                     "biv_version",
                                     "biv_abi_version",
                                     "biv_last_error_message",
                                     "biv_last_error_message_from_one",
                                     "biv_dataset_free",
                                     "biv_model_free",
                                     "biv_trainer_free",
                                     "biv_text_free"};

#define HANDLE(which, place) \
  { .kind = which, .right.pointer = (place) }
#define GIVEN(which, value) \
  { .kind = which, .right.pointer = (value) }
#define OPTIONAL(which, value) \
  { .kind = which, .optional = true, .right.pointer = (value) }
#define INTEGER(which, value) \
  { .kind = which, .right.integer = (value) }
#define MADE \
  { .kind = OUT_HANDLE, .right.pointer = &handles[0] }
#define PLACE(place) \
  { .kind = OUT_PLACE, .right.pointer = (place) }
#define FILLED \
  { .kind = STRUCT, .right.pointer = &result }
#define ROW(function, n, ...)                      \
  {                                                \
#function, call_##function, n, { __VA_ARGS__ } \
  }

static const char GAMMA[] = "{\"distribution\": {\"kind\": \"gamma\", \"mean\": 1, \"variance\": 2}}";
static const char NETWORK[] = "{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [8, 4], \"seed\": 3}";
static const char RUN[] =
    "{\"dataset\": {\"kind\": \"synthetic\", \"train_size\": 40, \"test_size\": 10}, \"epochs\": 1, "
    "\"batch_size\": 20, \"loss\": {\"kind\": \"mse\"}}";
static const char SWEEP[] =
    "{\"base\": {\"dataset\": {\"kind\": \"synthetic\", \"train_size\": 40, \"test_size\": 10}, \"epochs\": 1, "
    "\"batch_size\": 20}, \"grid\": {\"seeds\": [1], \"losses\": [{\"kind\": \"mse\"}]}}";

/* Whether the right call succeeds, with everything that it makes freed again. */
static biv_status right_call(const struct row *row, const union value *a) {
  memset(handles, 0, sizeof handles);
  result.struct_size = sizeof(biv_step); /* the least of all structs' sizes is taken */
  biv_status status = row->call(a);
  for (int i = 0; i < 2; i++) {
    biv_dataset_free(handles[i]);
    biv_model_free(handles[i]);
    biv_trainer_free(handles[i]);
    biv_text_free(handles[i]);
  }
  return status;
}

/* The statuses that the documentation of `function` in the header names, as bits. */
static uint32_t documented(const char *header, const char *function, bool follow) {
  char declaration[100];
  snprintf(declaration, sizeof declaration, "\nbiv_status %s(", function);
  const char *end = strstr(header, declaration), *start = end;
  if (end == NULL) return 0;
  while (start > header && strncmp(start, "/**", 3) != 0) start--;
  uint32_t statuses = 0;
  for (biv_status status = 1; status <= BIV_ERROR_DISTRIBUTED; status++) {
    const char *name = biv_status_name(status), *place = start;
    while ((place = strstr(place, name)) != NULL && place < end) {
      place += strlen(name);
      if (*place != '_' && !isupper((unsigned char)*place)) statuses |= 1u << status;
    }
  }
  /* "As biv_other_function()" */
  for (const char *place = start; follow && (place = strstr(place, "s biv_")) != NULL && place < end;) {
    char other[100];
    if (sscanf(place += 2, "%99[a-z_]", other) == 1) statuses |= documented(header, other, false);
  }
  return statuses;
}

/* The header's text. */
static char *header;

/* Wherever an argument is a pointer it may be NULL or not aligned, and a text not UTF-8: the header says that for all.
 */
static bool may_return(const struct row *row, biv_status status) {
  return status == BIV_ERROR_INVALID_ARGUMENT || (documented(header, row->name, true) >> status & 1) != 0;
}

/* The memory that results go to is filled with this before a call. */
enum { BEFORE = 0x11 };

static bool is_untouched(const void *memory, size_t size) {
  const unsigned char *bytes = memory;
  while (size > 0 && bytes[size - 1] == BEFORE) size--;
  return size == 0;
}

static uint64_t random_bits(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static long calls;
static size_t struct_size = sizeof(biv_step);

/* One wrong call: `what` is put in place of argument `at`. */
static void wrong(const struct row *row, union value *a, int at, union value what, const char *how) {
  union value right = a[at];
  a[at] = what;
  memset(handles, BEFORE, sizeof handles);
  memset(&result, BEFORE, sizeof result);
  memset(numbers, BEFORE, sizeof numbers);
  memset(description, BEFORE, sizeof description);
  memset(all, BEFORE, sizeof all);
  result.struct_size = struct_size;
  biv_status status = row->call(a);
  calls += 1;
  const char *message = biv_last_error_message();
  bool holds = status != BIV_OK && may_return(row, status) && message[0] != '\0' && strlen(message) < 2100;
  holds = holds && is_untouched(numbers, sizeof numbers) && is_untouched(description, sizeof description) &&
          is_untouched(all, sizeof all) && is_untouched(result.bytes + sizeof(size_t), sizeof result - sizeof(size_t));
  /* A handle's place that was given holds NULL or was not touched. */
  for (int i = 0; i < row->count; i++)
    if (row->arguments[i].kind == OUT_HANDLE && i != at)
      holds = holds && (*(void *const *)a[i].pointer == NULL || is_untouched(a[i].pointer, sizeof(void *)));
  if (!count_check(holds))
    printf("%s, argument %d, %.100s: %s: %s\n", row->name, at, how, biv_status_name(status), message);
  a[at] = right;
}

#define POINTER(to) ((union value){.pointer = (to)})
#define NUMBER(of) ((union value){.number = (of)})
#define INT(of) ((union value){.integer = (of)})

static void wrong_handles(const struct row *row, union value *a, int at, enum kind kind) {
  const void *freed[] = {no_dataset, no_model, no_trainer, no_text}, *others_[] = {data, model, trainer, text};
  wrong(row, a, at, POINTER(freed[kind]), "freed");
  for (int other = DATASET; other <= TEXT; other++)
    if (other != (int)kind) wrong(row, a, at, POINTER(others_[other]), "of another type");
  for (intptr_t small = 1; small < 20; small++) wrong(row, a, at, POINTER((void *)small), "a small number");
  for (int bit = 0; bit < 64; bit++)
    wrong(row, a, at, POINTER((void *)((uintptr_t)a[at].pointer ^ (uintptr_t)1 << bit)), "one bit is different");
  for (int i = 0; i < scaled(1000, 20); i++)
    wrong(row, a, at, POINTER((void *)(uintptr_t)random_bits()), "random bits");
}

static void wrong_json(const struct row *row, union value *a, int at) {
  static const char *const texts[] = {
      "{",   "nul",      "[1]",           "3",           "\"a\"", "{\"no_such_field\": 1}", "{\"a\" 1}",
      "{}x", "\xff\xfe", "{\"\xc3\": 1}", "{\"a\": 1,}", "\x01",  "{\"kind\": null}"};
  for (size_t i = 0; i < COUNT(texts); i++) wrong(row, a, at, POINTER(texts[i]), texts[i]);
  const char *right = a[at].pointer;
  size_t length = strlen(right);
  char *changed = malloc(2 * length + 100);
  for (size_t cut = 0; cut < length; cut++) {
    sprintf(changed, "%.*s", (int)cut, right);
    wrong(row, a, at, POINTER(changed), changed);
  }
  if (length > 2) {
    sprintf(changed, "{%.*s, %.*s}", (int)length - 2, right + 1, (int)length - 2, right + 1);
    wrong(row, a, at, POINTER(changed), "every field twice");
  }
  /* Each number and text in turn is something that is none. */
  static const char *const none[] = {"[[]]", "{\"\": []}", "1e999", "-1e308", "1 2", "\"\\ud800\""};
  for (size_t start = 1; start < length; start++) {
    bool begins = strchr(":[", right[start - 1]) != NULL || (right[start - 1] == ' ' && strchr(":,", right[start - 2]));
    size_t size = right[start] == '"' ? strcspn(right + start + 1, "\"") + 2 : strspn(right + start, "0123456789.");
    if (!begins || size == 0 || right[start + size] == ':') continue;
    for (size_t i = 0; i < COUNT(none); i++) {
      sprintf(changed, "%.*s%s%s", (int)start, right, none[i], right + start + size);
      wrong(row, a, at, POINTER(changed), changed);
    }
  }
  free(changed);
  size_t size = 10u << 20, depth = 100000;
  char *long_text = malloc(size + 1);
  memset(long_text, ' ', size);
  long_text[0] = '{';
  long_text[size] = '\0';
  wrong(row, a, at, POINTER(long_text), "10 MB");
  memset(long_text + 1, 'x', size - 1);
  wrong(row, a, at, POINTER(long_text), "10 MB of letters");
  memset(long_text, '[', depth);
  long_text[depth] = '\0';
  wrong(row, a, at, POINTER(long_text), "deeply nested");
  free(long_text);
}

static void wrong_paths(const struct row *row, union value *a, int at) {
  static char endless[200000];
  memset(endless, 'a', sizeof endless - 1);
  wrong(row, a, at, POINTER("/dev/null/file"), "no such folder");
  wrong(row, a, at, POINTER(""), "empty");
  wrong(row, a, at, POINTER(endless), "an endless name");
  wrong(row, a, at, POINTER("\xff\xfe/x"), "not UTF-8");
  wrong(row, a, at, POINTER(folder), "a folder of other things");
}

/* `right` is a biv_array or a biv_array_out: they have the same members. */
static void wrong_arrays(const struct row *row, union value *a, int at, enum kind kind) {
  const biv_array *right = a[at].pointer;
  biv_array array = *right;
  const int64_t huge[] = {INT64_MAX / 2, INT64_MAX / 2}, negative[] = {-1, -1},
                products[] = {(int64_t)1 << 32, (int64_t)1 << 32};
  const int64_t far_away[] = {INT64_MAX / 4, INT64_MAX / 4}, backwards[] = {-1, -1},
                farthest[] = {INT64_MIN, INT64_MIN}, none[] = {0, 0, 0, 0, 0, 0, 0, 0, 0};
  int64_t fewer[8];
  memcpy(fewer, right->shape, (size_t)right->rank * sizeof *fewer);
  fewer[0] -= 1;
#define WITH(change, how)                    \
  do {                                       \
    array = *right;                          \
    change;                                  \
    wrong(row, a, at, POINTER(&array), how); \
  } while (0)
  wrong(row, a, at, POINTER((const char *)right + 1), "a struct that is not aligned");
  WITH(array.data = (const char *)array.data + 1, "elements that are not aligned");
  WITH(array.data = NULL, "no data");
  WITH(array.dtype = 99, "an unknown type");
  WITH(array.dtype = -1, "a negative type");
  WITH(array.rank = -1, "a negative rank");
  WITH(array.rank = 0, "no dimension");
  WITH((array.rank = 9, array.shape = none), "too many dimensions");
  WITH(array.rank = INT32_MAX, "a huge rank");
  WITH(array.shape = NULL, "no shape");
  WITH(array.shape = huge, "a huge shape");
  WITH(array.shape = negative, "a negative shape");
  WITH((array.rank = 2, array.shape = products), "a shape whose product overflows");
  WITH(array.shape = fewer, "a shape that does not fit");
  WITH(array.size = -1, "a negative size");
  /* One element needs no stride and a buffer of its own size. */
  if (right->rank > 1 || right->shape[0] > 1) {
    WITH(array.strides = far_away, "strides that overflow");
    WITH(array.strides = farthest, "the most negative strides");
    WITH((array.strides = backwards, array.size = 1000), "elements before the buffer");
    WITH(array.size = 1, "a buffer that is too small");
  }
  if (kind == OUT_ARRAY) {
    const int64_t overlapping[] = {0, 0};
    WITH(array.strides = overlapping, "elements that overlap");
    return;
  }
  const double faults[] = {NAN, kind == GROUPS ? NAN : -INFINITY, kind == NOISE ? -1 : kind == GROUPS ? NAN : INFINITY};
  for (size_t i = 0; i < COUNT(faults); i++) {
    double wide[16] = {0};
    float narrow[16] = {0};
    wide[0] = faults[i];
    narrow[0] = (float)faults[i];
    WITH(array.data = array.dtype == BIV_F64 ? (const void *)wide : (const void *)narrow, "an illegal value");
  }
}

/* Tensors without a deleter, so that one serves many calls. */
static void wrong_tensors(const struct row *row, union value *a, int at) {
  const DLManagedTensorVersioned *right = a[at].pointer;
  DLManagedTensorVersioned tensor = *right;
  int64_t huge[] = {INT64_MAX / 2, INT64_MAX / 2}, negative[] = {-1, -1}, fewer[] = {1, 5};
#define CHANGED(change, how)                  \
  do {                                        \
    tensor = *right;                          \
    tensor.change;                            \
    wrong(row, a, at, POINTER(&tensor), how); \
  } while (0)
  wrong(row, a, at, POINTER((const char *)right + 1), "a struct that is not aligned");
  CHANGED(version.major = 0, "an older version");
  CHANGED(version.major = 2, "a later version");
  CHANGED(dl_tensor.data = NULL, "no data");
  CHANGED(dl_tensor.byte_offset = 1, "elements that are not aligned");
  CHANGED(dl_tensor.byte_offset = UINT64_MAX, "an offset that overflows");
  CHANGED(dl_tensor.device.device_type = kDLCUDA, "a GPU's memory");
  CHANGED(dl_tensor.device.device_type = INT32_MIN, "no device");
  CHANGED(dl_tensor.ndim = 0, "no dimension");
  CHANGED(dl_tensor.ndim = INT32_MAX, "too many dimensions");
  CHANGED(dl_tensor.shape = NULL, "no shape");
  CHANGED(dl_tensor.shape = huge, "a huge shape");
  CHANGED(dl_tensor.shape = negative, "a negative shape");
  CHANGED(dl_tensor.shape = fewer, "a shape that does not fit");
  CHANGED(dl_tensor.strides = huge, "strides that overflow");
  CHANGED(dl_tensor.dtype.code = 99, "an unknown type");
  CHANGED(dl_tensor.dtype.bits = 7, "an odd size");
  CHANGED(dl_tensor.dtype.lanes = 2, "two lanes");
}

static void every_way(const struct row *row, union value *a, int at) {
  static const size_t sizes[] = {0, 1, sizeof(size_t), 2 * sizeof(size_t) - 1, 4097, 1000000, SIZE_MAX};
  enum kind kind = row->arguments[at].kind;
  bool pointer = kind <= INDICES;
  if (pointer && !row->arguments[at].optional) {
    wrong(row, a, at, POINTER(NULL), "NULL");
    /* Options and variances may be NULL as such: what is said is what cannot do without them. */
    CHECK(kind == JSON || kind == VALUES || kind == NOISE || strstr(biv_last_error_message(), "NULL") != NULL);
  }
  switch (kind) {
    case DATASET:
    case MODEL:
    case TRAINER:
    case TEXT:
      wrong_handles(row, a, at, kind);
      break;
    case JSON:
      wrong_json(row, a, at);
      break;
    case PATH:
      wrong_paths(row, a, at);
      break;
    case NAME:
      wrong(row, a, at, POINTER("no such name"), "unknown");
      wrong(row, a, at, POINTER(""), "empty");
      wrong(row, a, at, POINTER("\xff"), "not UTF-8");
      break;
    case STRUCT:
      for (size_t i = 0; i < COUNT(sizes); i++) {
        struct_size = sizes[i];
        wrong(row, a, at, a[at], "a struct_size that is none");
      }
      struct_size = sizeof(biv_step);
      wrong(row, a, at, POINTER(result.bytes + 1), "a struct that is not aligned");
      break;
    case FEATURES:
    case VALUES:
    case NOISE:
    case GROUPS:
    case OUT_ARRAY:
      wrong_arrays(row, a, at, kind);
      break;
    case TENSOR:
      wrong_tensors(row, a, at);
      break;
    case BYTES: {
      static const char zeros[sizeof trainer_bytes];
      wrong(row, a, at, POINTER(zeros), "zeros");
      wrong(row, a, at, POINTER((const char *)a[at].pointer + 1), "not from its beginning");
      break;
    }
    case INDICES: {
      const int64_t beyond[] = {3, 40}, below[] = {-1, 1}, far_away[] = {INT64_MAX, INT64_MIN};
      wrong(row, a, at, POINTER(beyond), "beyond the rows");
      wrong(row, a, at, POINTER(below), "negative");
      wrong(row, a, at, POINTER(far_away), "huge");
      wrong(row, a, at, POINTER((const char *)below + 1), "not aligned");
      break;
    }
    case COUNT_OF:
      wrong(row, a, at, INT(0), "none");
      wrong(row, a, at, INT(-1), "SIZE_MAX");
      wrong(row, a, at, INT(INT64_MAX), "huge");
      break;
    case ROWS:
      wrong(row, a, at, INT(0), "none");
      break;
    case EPOCHS:
      wrong(row, a, at, INT(-1), "negative");
      wrong(row, a, at, INT(INT64_MIN), "the most negative");
      break;
    case THREADS:
      wrong(row, a, at, INT(0), "none");
      wrong(row, a, at, INT(-1), "negative");
      wrong(row, a, at, INT(INT32_MAX), "huge");
      break;
    case LEVEL:
      wrong(row, a, at, INT(-1), "below all levels");
      wrong(row, a, at, INT(3), "above all levels");
      wrong(row, a, at, INT(INT32_MIN), "the most negative");
      break;
    case RATE: {
      const double rates[] = {0, -1, NAN, INFINITY, -INFINITY};
      for (size_t i = 0; i < COUNT(rates); i++) wrong(row, a, at, NUMBER(rates[i]), "no rate");
      break;
    }
    case OUT_HANDLE:
    case OUT_PLACE:
      if (a[at].pointer != description && a[at].pointer != model_bytes && a[at].pointer != trainer_bytes)
        wrong(row, a, at, POINTER((char *)a[at].pointer + 1), "not aligned");
      break;
    case ANY:
      break;
  }
}

/* Every function that the header declares has its row. */
static void the_table_is_complete(const struct row *rows, size_t count) {
  char line[1000];
  int declared = 0;
  for (const char *rest = header; *rest != '\0'; rest += strcspn(rest, "\n") + 1) {
    snprintf(line, sizeof line, "%.*s", (int)strcspn(rest, "\n"), rest);
    char *name = strstr(line, "biv_"), *end = name ? strchr(name, '(') : NULL;
    if (line[0] == ' ' || line[0] == '/' || line[0] == '#' || line[0] == '}' || end == NULL || strstr(line, "typedef"))
      continue;
    for (char *space; (space = strchr(name, ' ')) != NULL && space < end;) name = strstr(space, "biv_");
    *end = '\0';
    bool known = false;
    for (size_t i = 0; i < count; i++) known = known || strcmp(rows[i].name, name) == 0;
    for (size_t i = 0; i < COUNT(others); i++) known = known || strcmp(others[i], name) == 0;
    if (!count_check(known)) printf("%s is not in the table\n", name);
    declared += 1;
  }
  CHECK((size_t)declared == count + COUNT(others));
}

/* What is no handle of its type is freed by nobody, and the last message stays. */
static void wrong_frees_do_nothing(void) {
  void (*const frees[])(void *) = {free_dataset, free_model, free_trainer, free_text};
  void *const ours[] = {data, model, trainer, text}, *const freed[] = {no_dataset, no_model, no_trainer, no_text};
  CHECK(biv_trainer_cancel(NULL) == BIV_ERROR_INVALID_HANDLE);
  char *message = strdup(biv_last_error_message());
  for (size_t i = 0; i < COUNT(frees); i++) {
    frees[i](NULL);
    for (size_t j = 0; j < COUNT(ours); j++) {
      frees[i](freed[j]);
      if (i != j) frees[i](ours[j]);
    }
    for (int j = 0; j < scaled(1000, 20); j++) frees[i]((void *)(uintptr_t)random_bits());
    calls += 1 + 4 + 3 + scaled(1000, 20);
  }
  CHECK(strcmp(message, biv_last_error_message()) == 0);
  free(message);
}

#ifdef BIV_FAULTS
int64_t biv_test_panic_at(int64_t number);

/* What the trainer's model predicts: no panic may change it but by the steps that are taken. */
static double predicted(void) {
  double out[2];
  CHECK_OK(biv_model_predict(model, F32(x, 2, 5), F64_OUT(out, 2)));
  return out[0];
}

/* Panics at every point that a call passes, one after the other: each is a status, and the call then works. */
static void a_panic_at_every_point(const struct row *row, const union value *a) {
  double before = predicted();
  int64_t point = 1;
  for (; point < 1000; point++) {
    biv_test_panic_at(point);
    biv_status status = right_call(row, a);
    if (biv_test_panic_at(0) > 0) break; /* it was not reached: the call passes no more points */
    calls += 1;
    if (!count_check(status == BIV_ERROR_INTERNAL))
      printf("%s, point %d: %s\n", row->name, (int)point, biv_status_name(status));
    check_status(right_call(row, a), BIV_OK, "", row->name, __FILE__, __LINE__);
  }
  CHECK(point > 1 && point < 1000);
  CHECK(predicted() == before);
}
#endif

int main(void) {
  folder = temporary_folder();
  data = noisy_dataset(40, 1);
  CHECK_OK(biv_fit(NETWORK, data, "{\"members\": 1, \"epochs\": 1}", NULL, NULL, &model, NULL));
  trainer = small_trainer(data, "{\"batch_size\": 10}");
  CHECK_OK(biv_experiment_resolve(RUN, &text));
  no_dataset = noisy_dataset(5, 1);
  no_model = small_model();
  no_trainer = small_trainer(data, "{\"batch_size\": 10}");
  CHECK_OK(biv_experiment_resolve(RUN, &no_text));
  biv_dataset_free(no_dataset);
  biv_model_free(no_model);
  biv_trainer_free(no_trainer);
  biv_text_free(no_text);
  char *csv = strdup(in(folder, "x.csv")), *saved = strdup(in(folder, "m.biv")),
       *checkpoint = strdup(in(folder, "t.biv")), *faces = strdup(in(folder, "faces"));
  write_text(csv, "y,a\n1,2\n3,4\n");
  draw_faces(faces, 1, 16);
  CHECK_OK(biv_model_save(model, saved));
  CHECK_OK(biv_trainer_save(trainer, checkpoint));
  CHECK_OK(biv_model_save_to_memory(model, model_bytes, sizeof model_bytes, &model_size));
  CHECK_OK(biv_trainer_save_to_memory(trainer, trainer_bytes, sizeof trainer_bytes, &trainer_size));
  /* A safetensors file without tensors. */
  char *exported = strdup(in(folder, "model.safetensors"));
  const char *weightless = in(folder, "none.safetensors");
  write_file(weightless, "\2\0\0\0\0\0\0\0{}", 10);

  int64_t table[] = {2, 5};
#define COLUMN(values)                                                                                     \
  {                                                                                                        \
    .version = {1, 3}, .dl_tensor = {(void *)(values), {kDLCPU, 0}, 1, {kDLFloat, 64, 1}, table, NULL, 0 } \
  }
  DLManagedTensorVersioned tensors[] = {COLUMN(x), COLUMN(y), COLUMN(y), COLUMN(y), COLUMN(numbers)};
  tensors[0].dl_tensor.ndim = 2;
  tensors[0].dl_tensor.dtype.bits = 32;
  const biv_array *features = F32(x, 2, 5), *labels = F64(y, 2), *noise = F64(forty, 40), *tensor = F64(weights, 8);
  const biv_array *by_column = F64(column, 5), *by_output = F64(column, 1);
  const biv_array_out *predictions = F64_OUT(numbers, 2), *more = F64_OUT(numbers + 2, 2),
                      *rows_of_labels = F64_OUT(numbers, 40, 1);
  const biv_array_out *all_features = F32_OUT(all, 40, 5), *tensor_out = F64_OUT(numbers, 8);

  const struct row rows[] = {
      ROW(biv_build_info, 1, PLACE(&handles[1])),
      ROW(biv_set_log, 1, INTEGER(LEVEL, BIV_LOG_SILENT)),
      ROW(biv_config_schema, 2, GIVEN(NAME, "csv"), PLACE(&handles[1])),
      ROW(biv_cuda_device_count, 1, PLACE(numbers)),
      ROW(biv_get_num_threads, 1, PLACE(numbers)),
      ROW(biv_set_num_threads, 1, INTEGER(THREADS, 1)),
      ROW(biv_dataset_create, 6, GIVEN(FEATURES, features), GIVEN(VALUES, labels), OPTIONAL(NOISE, labels),
          OPTIONAL(GROUPS, labels), OPTIONAL(JSON, "{\"missing_labels\": \"error\"}"), MADE),
      ROW(biv_dataset_create_from_arrays, 4, GIVEN(FEATURES, features), GIVEN(VALUES, labels), OPTIONAL(NOISE, labels),
          MADE),
      ROW(biv_dataset_create_from_arrays_with_std, 4, GIVEN(FEATURES, features), GIVEN(VALUES, labels),
          GIVEN(NOISE, labels), MADE),
      ROW(biv_dataset_create_borrowed, 6, GIVEN(FEATURES, features), GIVEN(VALUES, labels), OPTIONAL(NOISE, labels),
          OPTIONAL(GROUPS, labels), OPTIONAL(JSON, "{\"missing_labels\": \"error\"}"), MADE),
      ROW(biv_dataset_create_from_dlpack, 6, GIVEN(TENSOR, &tensors[0]), GIVEN(TENSOR, &tensors[1]),
          OPTIONAL(TENSOR, &tensors[2]), OPTIONAL(TENSOR, &tensors[3]),
          OPTIONAL(JSON, "{\"missing_labels\": \"error\"}"), MADE),
      ROW(biv_dataset_create_from_csv, 3, GIVEN(PATH, csv), GIVEN(JSON, "{\"labels\": [\"y\"]}"), MADE),
      ROW(biv_dataset_create_synthetic, 2, OPTIONAL(JSON, "{\"rows\": 10, \"features\": 5}"), MADE),
      ROW(biv_dataset_add_noise, 3, HANDLE(DATASET, data), GIVEN(JSON, GAMMA), MADE),
      ROW(biv_dataset_split, 4, HANDLE(DATASET, data), GIVEN(JSON, "{\"train_size\": 20}"), MADE,
          {.kind = OUT_HANDLE, .right.pointer = &handles[1]}),
      ROW(biv_dataset_describe, 3, HANDLE(DATASET, data), PLACE(description), OPTIONAL(OUT_PLACE, &needed)),
      ROW(biv_dataset_subset, 4, HANDLE(DATASET, data), GIVEN(INDICES, indices), INTEGER(COUNT_OF, 2), MADE),
      ROW(biv_dataset_shuffle, 3, HANDLE(DATASET, data), INTEGER(ANY, 1), MADE),
      ROW(biv_dataset_append, 3, HANDLE(DATASET, data), HANDLE(DATASET, data), MADE),
      ROW(biv_dataset_latest, 3, HANDLE(DATASET, data), INTEGER(ROWS, 3), MADE),
      ROW(biv_dataset_with_variances, 4, HANDLE(DATASET, data), GIVEN(NOISE, noise),
          OPTIONAL(JSON, "{\"standard_deviations\": true}"), MADE),
      ROW(biv_dataset_get_info, 2, HANDLE(DATASET, data), FILLED),
      ROW(biv_dataset_copy_features, 2, HANDLE(DATASET, data), GIVEN(OUT_ARRAY, all_features)),
      ROW(biv_dataset_copy_labels, 2, HANDLE(DATASET, data), GIVEN(OUT_ARRAY, rows_of_labels)),
      ROW(biv_dataset_copy_clean_labels, 2, HANDLE(DATASET, data), GIVEN(OUT_ARRAY, rows_of_labels)),
      ROW(biv_dataset_copy_variances, 2, HANDLE(DATASET, data), GIVEN(OUT_ARRAY, rows_of_labels)),
      ROW(biv_noise_sample, 3, GIVEN(JSON, "{\"kind\": \"gamma\", \"mean\": 1, \"variance\": 2}"), INTEGER(ANY, 1),
          PLACE(numbers)),
      ROW(biv_loss_compute, 6, OPTIONAL(JSON, "{\"kind\": \"biv\"}"), GIVEN(VALUES, labels), GIVEN(VALUES, labels),
          GIVEN(NOISE, labels), FILLED, OPTIONAL(OUT_ARRAY, predictions)),
      ROW(biv_variance_model_fit, 3, GIVEN(VALUES, labels), GIVEN(NOISE, labels), FILLED),
      ROW(biv_fit, 5, OPTIONAL(JSON, NETWORK), HANDLE(DATASET, data), OPTIONAL(JSON, "{\"members\": 2, \"epochs\": 1}"),
          MADE, {.kind = OUT_HANDLE, .optional = true, .right.pointer = &handles[1]}),
      ROW(biv_model_create, 2, GIVEN(JSON, "{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [8]}"), MADE),
      ROW(biv_model_load, 2, GIVEN(PATH, saved), MADE),
      ROW(biv_model_save, 2, HANDLE(MODEL, model), GIVEN(PATH, saved)),
      ROW(biv_model_get_info, 2, HANDLE(MODEL, model), FILLED),
      ROW(biv_model_load_from_memory, 2, GIVEN(BYTES, model_bytes), MADE),
      ROW(biv_model_save_to_memory, 3, HANDLE(MODEL, model), PLACE(model_bytes), OPTIONAL(OUT_PLACE, &needed)),
      ROW(biv_model_copy, 2, HANDLE(MODEL, model), MADE),
      ROW(biv_model_export, 3, HANDLE(MODEL, model), GIVEN(PATH, exported),
          OPTIONAL(JSON, "{\"format\": \"safetensors\"}")),
      ROW(biv_model_import_weights, 4, HANDLE(MODEL, model), GIVEN(PATH, weightless),
          GIVEN(JSON, "{\"strict\": false}"), OPTIONAL(OUT_HANDLE, &handles[0])),
      ROW(biv_trainer_load_from_memory, 4, GIVEN(BYTES, trainer_bytes), OPTIONAL(DATASET, data),
          OPTIONAL(JSON, "{\"device\": \"cpu\"}"), MADE),
      ROW(biv_trainer_save_to_memory, 3, HANDLE(TRAINER, trainer), PLACE(trainer_bytes), OPTIONAL(OUT_PLACE, &needed)),
      ROW(biv_model_describe, 3, HANDLE(MODEL, model), PLACE(description), OPTIONAL(OUT_PLACE, &needed)),
      ROW(biv_model_get_tensor, 3, HANDLE(MODEL, model), GIVEN(NAME, "0.bias"), GIVEN(OUT_ARRAY, tensor_out)),
      ROW(biv_model_set_tensor, 3, HANDLE(MODEL, model), GIVEN(NAME, "0.bias"), GIVEN(VALUES, tensor)),
      ROW(biv_model_predict, 3, HANDLE(MODEL, model), GIVEN(FEATURES, features), GIVEN(OUT_ARRAY, predictions)),
      ROW(biv_model_predict_with_variance, 4, HANDLE(MODEL, model), GIVEN(FEATURES, features),
          OPTIONAL(OUT_ARRAY, predictions), GIVEN(OUT_ARRAY, more)),
      ROW(biv_model_predict_dlpack, 3, HANDLE(MODEL, model), GIVEN(TENSOR, &tensors[0]), GIVEN(TENSOR, &tensors[4])),
      ROW(biv_model_evaluate, 3, HANDLE(MODEL, model), HANDLE(DATASET, data), FILLED),
      ROW(biv_trainer_create, 4, HANDLE(MODEL, model), OPTIONAL(DATASET, data), OPTIONAL(JSON, "{\"batch_size\": 10}"),
          MADE),
      ROW(biv_trainer_step, 2, HANDLE(TRAINER, trainer), OPTIONAL(STRUCT, &result)),
      ROW(biv_trainer_step_on, 5, HANDLE(TRAINER, trainer), GIVEN(FEATURES, features), GIVEN(VALUES, labels),
          GIVEN(NOISE, labels), OPTIONAL(STRUCT, &result)),
      ROW(biv_trainer_set_data, 2, HANDLE(TRAINER, trainer), HANDLE(DATASET, data)),
      ROW(biv_trainer_set_validation, 2, HANDLE(TRAINER, trainer), HANDLE(DATASET, data)),
      ROW(biv_trainer_fit, 3, HANDLE(TRAINER, trainer), INTEGER(EPOCHS, 1), OPTIONAL(DATASET, data)),
      ROW(biv_trainer_cancel, 1, HANDLE(TRAINER, trainer)),
      ROW(biv_trainer_get_progress, 2, HANDLE(TRAINER, trainer), FILLED),
      ROW(biv_trainer_describe, 3, HANDLE(TRAINER, trainer), PLACE(description), OPTIONAL(OUT_PLACE, &needed)),
      ROW(biv_trainer_evaluate, 3, HANDLE(TRAINER, trainer), HANDLE(DATASET, data), FILLED),
      ROW(biv_trainer_predict, 3, HANDLE(TRAINER, trainer), GIVEN(FEATURES, features), GIVEN(OUT_ARRAY, predictions)),
      ROW(biv_trainer_get_learning_rate, 2, HANDLE(TRAINER, trainer), PLACE(numbers)),
      ROW(biv_trainer_set_learning_rate, 2, HANDLE(TRAINER, trainer), {.kind = RATE, .right.number = 0.01}),
      ROW(biv_trainer_get_model, 2, HANDLE(TRAINER, trainer), MADE),
      ROW(biv_trainer_save, 2, HANDLE(TRAINER, trainer), GIVEN(PATH, checkpoint)),
      ROW(biv_trainer_load_with, 4, GIVEN(PATH, checkpoint), OPTIONAL(DATASET, data),
          OPTIONAL(JSON, "{\"accept_data\": true}"), MADE),
      ROW(biv_trainer_load, 4, GIVEN(PATH, checkpoint), OPTIONAL(DATASET, data), OPTIONAL(NAME, "cpu"), MADE),
      ROW(biv_experiment_resolve, 2, GIVEN(JSON, RUN), MADE),
      ROW(biv_experiment_run, 2, GIVEN(JSON, RUN),
          {.kind = OUT_HANDLE, .optional = true, .right.pointer = &handles[0]}),
      ROW(biv_sweep_run, 2, GIVEN(JSON, SWEEP), {.kind = OUT_HANDLE, .optional = true, .right.pointer = &handles[0]}),
      ROW(biv_dataset_create_from_images, 3, GIVEN(PATH, faces), OPTIONAL(JSON, "{}"), MADE),
      ROW(biv_dataset_create_named, 3, GIVEN(NAME, "bike"), OPTIONAL(PATH, csv), MADE),
      ROW(biv_model_set_normalization, 5, HANDLE(MODEL, model), GIVEN(VALUES, by_column), GIVEN(VALUES, by_column),
          GIVEN(VALUES, by_output), GIVEN(VALUES, by_output)),
      ROW(biv_model_reset_normalization, 1, HANDLE(MODEL, model)),
      ROW(biv_text_get, 2, HANDLE(TEXT, text), PLACE(&handles[1])),
  };
  size_t size = 0;
  header = (char *)read_file(BIV_HEADER, &size);
  CHECK(header != NULL);
  if (header == NULL) return report("contract");
  header[size] = '\0';
  the_table_is_complete(rows, COUNT(rows));
  wrong_frees_do_nothing();
  for (size_t i = 0; i < COUNT(rows); i++) {
    const struct row *row = &rows[i];
    union value a[MOST];
    for (int at = 0; at < row->count; at++) a[at] = row->arguments[at].right;
    /* The named data sets' files are not here: only wrong calls can be made. */
    bool works = strcmp(row->name, "biv_dataset_create_named") != 0;
    if (works) check_status(right_call(row, a), BIV_OK, "", row->name, __FILE__, __LINE__);
#ifdef BIV_FAULTS
    if (works) a_panic_at_every_point(row, a);
#else
    for (int at = 0; at < row->count; at++) every_way(row, a, at);
#endif
    if (works) check_status(right_call(row, a), BIV_OK, "", row->name, __FILE__, __LINE__);
  }
#ifdef BIV_FAULTS
  printf("faults: %zu functions, %ld panics\n", COUNT(rows), calls);
#else
  printf("contract: %zu functions, %ld wrong calls\n", COUNT(rows), calls);
#endif
  biv_dataset_free(data);
  biv_model_free(model);
  biv_trainer_free(trainer);
  biv_text_free(text);
  remove(in(folder, "x.csv"));
  files_in(faces, true);
  rmdir(faces);
  remove_folder(folder);
  free(csv);
  free(saved);
  free(checkpoint);
  free(faces);
  free(exported);
  free(header);
  return report("contract");
}
