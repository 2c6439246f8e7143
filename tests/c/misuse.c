/* What the messages say: of each kind of error what was wrong, where, and what would be right. That every function
 * refuses every wrong argument and writes nothing is contract.c's. */
#include "common.h"

#define INVALID BIV_ERROR_INVALID_ARGUMENT
#define CONFIG BIV_ERROR_INVALID_CONFIG
#define SHAPE BIV_ERROR_SHAPE

/* A call that would make a handle, into `made`, fails and leaves NULL there. */
#define MAKES_NOTHING(type, call, status, text)                        \
  do {                                                                 \
    type *made = (type *)&passed;                                      \
    check_status((call), (status), (text), #call, __FILE__, __LINE__); \
    CHECK(made == NULL);                                               \
  } while (0)
#define NO_DATASET(call, status, text) MAKES_NOTHING(biv_dataset, call, status, text)
#define NO_MODEL(call, status, text) MAKES_NOTHING(biv_model, call, status, text)
#define NO_TRAINER(call, status, text) MAKES_NOTHING(biv_trainer, call, status, text)

/* A data set of 40 rows with variances, a model for it and its trainer: shared, as no failing call changes them. */
static biv_dataset *data;
static biv_model *model;
static biv_trainer *trainer;
static char *folder;

static const float x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
static const double y[] = {1, 2};
static double one[1] = {7};

static void nothing_was_harmed(void) {
  biv_metrics metrics = SIZED(biv_metrics);
  CHECK_OK(biv_trainer_evaluate(trainer, data, &metrics));
  CHECK(metrics.rows == 40 && isfinite(metrics.mse));
}

/* Pointers and handles. */

static void null_pointers_are_named(void) {
  const double *values = y;
  const char *text;
  CHECK_STATUS(biv_config_schema(NULL, &text), INVALID, "name is NULL");
  CHECK_STATUS(biv_cuda_device_count(NULL), INVALID, "out is NULL");
  NO_DATASET(biv_dataset_create_from_arrays(NULL, F64(values, 2), NULL, &made), INVALID, "features is NULL");
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 2, 5), NULL, NULL, &made), INVALID, "labels is NULL");
  NO_DATASET(biv_dataset_create_from_arrays_with_std(F32(x, 2), F64(values, 2), NULL, &made), INVALID,
             "standard_deviations is NULL");
  CHECK_STATUS(biv_dataset_create_synthetic("{\"rows\": 1}", NULL), INVALID, "out) is NULL");
  NO_DATASET(biv_dataset_split(data, "{\"train_size\": 1}", NULL, &made), INVALID, "train is NULL");
  NO_DATASET(biv_dataset_subset(data, NULL, 1, &made), INVALID, "indices is NULL");
  CHECK_STATUS(biv_dataset_get_info(data, NULL), INVALID, "biv_dataset_info is NULL");
  CHECK_STATUS(biv_model_describe(model, NULL, 100, NULL), INVALID, "buffer is NULL");
  NO_MODEL(biv_model_load(NULL, &made), INVALID, "path is NULL");
  /* Options that are NULL are the defaults: what is said is which of them has none. */
  NO_MODEL(biv_model_create(NULL, &made), CONFIG, "model.kind: is missing, must be 'mlp'");
  NO_DATASET(biv_dataset_create_synthetic(NULL, &made), CONFIG, "synthetic.rows: is missing, must be a whole number");
}

static void handles_are_told_apart(void) {
  biv_dataset_info info = SIZED(biv_dataset_info);
  biv_dataset *freed = noisy_dataset(5, 1);
  biv_dataset_free(freed);
  const biv_status bad = BIV_ERROR_INVALID_HANDLE;
  CHECK_STATUS(biv_dataset_get_info(NULL, &info), bad, "the biv_dataset handle is NULL");
  CHECK_STATUS(biv_dataset_get_info(freed, &info), bad, "was freed, or never was a handle");
  CHECK_STATUS(biv_dataset_get_info((biv_dataset *)model, &info), bad,
               "a biv_dataset handle was expected, this is a biv_model");
  CHECK_STATUS(biv_trainer_cancel((biv_trainer *)data), bad,
               "a biv_trainer handle was expected, this is a biv_dataset");
}

/* Arrays. */

/* Arrays that no memory can hold or that are not described right, with what is said of them. */
static void impossible_arrays_are_named(void) {
  static const char unaligned[20];
  const struct {
    biv_array array;
    biv_status status;
    const char *text;
  } impossible[] = {
      {{x, 0, 1, SIZES(2), NULL, 0}, INVALID, "dtype is 0, must be BIV_F32 (1) or BIV_F64 (2)"},
      {{x, 3, 1, SIZES(2), NULL, 0}, INVALID, "dtype is 3"},
      {{x, BIV_F32, 0, SIZES(2), NULL, 0}, SHAPE, "rank is 0, must be 1 to 8"},
      {{x, BIV_F32, 9, SIZES(1, 1, 1, 1, 1, 1, 1, 1, 1), NULL, 0}, SHAPE, "rank is 9"},
      {{x, BIV_F32, -1, SIZES(2), NULL, 0}, SHAPE, "rank is -1"},
      {{x, BIV_F32, 1, NULL, NULL, 0}, INVALID, "shape is NULL"},
      {{x, BIV_F32, 2, SIZES(2, -5), NULL, 0}, SHAPE, "has the size -5, which is negative"},
      {{x, BIV_F32, 2, SIZES(INT64_MAX, 2), NULL, 0}, SHAPE, "exceeds memory"},
      {{x, BIV_F32, 1, SIZES(INT64_MAX), NULL, 0}, SHAPE, "exceeds memory"},
      {{x, BIV_F32, 4, SIZES(1 << 20, 1 << 20, 1 << 20, 1 << 20), NULL, 0}, SHAPE, "exceeds memory"},
      {{x, BIV_F32, 3, SIZES(0, INT64_MAX, INT64_MAX), NULL, 0}, SHAPE, ""},
      {{x, BIV_F32, 2, SIZES(2, 5), SIZES(INT64_MAX, 1), 0}, SHAPE, "exceeds memory"},
      {{x, BIV_F32, 2, SIZES(2, 5), SIZES(INT64_MIN, 1), 0}, SHAPE, "exceeds memory"},
      {{x, BIV_F32, 2, SIZES(3, 5), SIZES(INT64_MIN, 1), 0}, SHAPE, "exceeds memory"},
      {{x, BIV_F32, 2, SIZES(2, 5), NULL, 9}, SHAPE, "10 from there, its size is 9"},
      {{x, BIV_F32, 2, SIZES(2, 5), SIZES(6, 1), 10}, SHAPE, "11 from there, its size is 10"},
      {{x + 5, BIV_F32, 2, SIZES(2, 5), SIZES(-5, 1), 10}, SHAPE, "reaches 5 elements before data"},
      {{x, BIV_F32, 2, SIZES(2, 5), NULL, -1}, SHAPE, "its size is -1"},
      {{NULL, BIV_F32, 2, SIZES(2, 5), NULL, 0}, INVALID, "data is NULL"},
      {{unaligned + 1, BIV_F32, 1, SIZES(2), NULL, 0}, INVALID, "data is not aligned"},
      {{(const char *)x + 2, BIV_F64, 1, SIZES(2), NULL, 0}, INVALID, "data is not aligned"},
  };
  for (size_t i = 0; i < COUNT(impossible); i++) {
    NO_DATASET(biv_dataset_create_from_arrays(&impossible[i].array, F64(y, 2), NULL, &made), impossible[i].status,
               impossible[i].text);
  }
  biv_array *unaligned_struct = (biv_array *)(void *)(unaligned + 1);
  NO_DATASET(biv_dataset_create_from_arrays(unaligned_struct, F64(y, 2), NULL, &made), INVALID, "not aligned");
  /* One value as 2^40 of them: more than memory, and an error instead of the end. */
  const biv_array endless = {y, BIV_F64, 1, SIZES((int64_t)1 << 40), SIZES(0), 1};
  NO_DATASET(biv_dataset_create_from_arrays(&endless, &endless, NULL, &made), BIV_ERROR_OUT_OF_MEMORY, "no memory for");
  nothing_was_harmed();
}

static void outputs_that_do_not_fit_are_named(void) {
  double labels[40];
  const struct {
    biv_array_out out;
    biv_status status;
    const char *text;
  } outputs[] = {
      {{labels, BIV_F64, 1, SIZES(39), NULL, 0}, SHAPE, "out: the array has shape [39], the result has shape [40, 1]"},
      {{labels, BIV_F64, 2, SIZES(40, 2), SIZES(1, 0), 0}, SHAPE, "out: the strides make elements overlap"},
      {{labels, BIV_F64, 1, SIZES(40), NULL, 39}, SHAPE, "40 from there, its size is 39"},
      {{NULL, BIV_F64, 1, SIZES(40), NULL, 0}, INVALID, "out.data is NULL"},
      {{(char *)labels + 1, BIV_F32, 1, SIZES(40), NULL, 0}, INVALID, "out.data is not aligned"},
      {{labels, 7, 1, SIZES(40), NULL, 0}, INVALID, "out.dtype is 7"},
      {{labels, BIV_F64, 1, NULL, NULL, 0}, INVALID, "out.shape is NULL"},
  };
  for (size_t i = 0; i < COUNT(outputs); i++)
    CHECK_STATUS(biv_dataset_copy_labels(data, &outputs[i].out), outputs[i].status, outputs[i].text);
}

static void struct_sizes_are_named(void) {
  biv_metrics metrics = {.struct_size = 0};
  CHECK_STATUS(biv_trainer_evaluate(trainer, data, &metrics), INVALID,
               "struct_size is 0: set it to sizeof(biv_metrics) before the call");
}

/* Data sets. */

static void arrays_that_do_not_fit_together_are_refused(void) {
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 0, 5), F64(y, 0), NULL, &made), INVALID, "at least one row");
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 2, 0), F64(y, 2), NULL, &made), SHAPE, "at least one of each");
  NO_DATASET(biv_dataset_create_from_arrays(F64(y, 0, 1), F64(y, 0), NULL, &made), INVALID, "at least one row");
  NO_DATASET(biv_dataset_create_from_arrays(F64(y, 2, 0), F64(y, 2), NULL, &made), SHAPE, "at least one of each");
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 2, 5), F64(y, 2, 0), NULL, &made), SHAPE, "at least one of each");
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 2, 5), F64(y, 1), NULL, &made), SHAPE,
             "labels have 1 rows, the features have 2");
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 1, 5), F64(y, 2), NULL, &made), SHAPE,
             "labels have 2 rows, the features have 1");
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 2, 5), F64(y, 2, 1, 1), NULL, &made), SHAPE, "labels have shape");
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 2, 5), F64(y, 2), F64(y, 1), &made), SHAPE,
             "variances have 1 rows, the features have 2");
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 1, 5), F64(y, 1, 2), F64(y, 1), &made), SHAPE,
             "variances have shape [1], the labels have [1, 2]");
}

/* The last message begins with `from_zero`, and counted from 1 with `from_one`. */
static void check_both_counts(biv_status status, const char *from_zero, const char *from_one) {
  CHECK(status != BIV_OK);
  CHECK(strncmp(biv_last_error_message(), from_zero, strlen(from_zero)) == 0);
  CHECK(strncmp(biv_last_error_message_from_one(), from_one, strlen(from_one)) == 0);
}

static void messages_count_from_one_for_hosts_that_do(void) {
  biv_dataset *made = NULL;
  biv_model *built = NULL;
  const double bad[] = {1, NAN};
  check_both_counts(biv_dataset_create_from_arrays(F64(bad, 1, 2), F64(y, 1), NULL, &made),
                    "row 0, feature 1: NaN is not", "row 1, feature 2: NaN is not");
  check_both_counts(biv_dataset_create_from_arrays(F32(x, 2), F64(bad, 2), NULL, &made), "row 1, label 0: NaN",
                    "row 2, label 1: NaN");
  check_both_counts(biv_dataset_subset(data, SIZES(-1), 1, &made), "row -1: does not", "row 0: does not");
  check_both_counts(biv_dataset_subset(data, SIZES(INT64_MAX), 1, &made), "row 9223372036854775807: does not",
                    "row 9223372036854775807: does not");
  check_both_counts(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 2, \"hidden\": [4, 4, -1]}", &built),
                    "model.hidden[2]: is -1", "model.hidden[3]: is -1");
  /* The rows of a file count from 1 for everyone. */
  const char *path = in(folder, "rows.csv");
  write_text(path, "x,y\n1,2\n3,z\n");
  CHECK(biv_dataset_create_from_csv(path, "{\"labels\": \"y\"}", &made) == BIV_ERROR_PARSE);
  CHECK(strstr(biv_last_error_message(), "line 3, row 2, column 'y': 'z'") != NULL);
  CHECK(strcmp(biv_last_error_message(), biv_last_error_message_from_one()) == 0);
  CHECK(made == NULL && built == NULL);
}

static void values_that_are_no_data_are_named(void) {
  const double wrong[] = {NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < COUNT(wrong); i++) {
    const double bad[] = {1, wrong[i]};
    NO_DATASET(biv_dataset_create_from_arrays(F64(bad, 1, 2), F64(y, 1), NULL, &made), INVALID, "row 0, feature 1");
    NO_DATASET(biv_dataset_create_from_arrays(F32(x, 2), F64(bad, 2), NULL, &made), INVALID, "row 1");
    /* An infinite variance masks its label. */
    if (wrong[i] == INFINITY) continue;
    NO_DATASET(biv_dataset_create_from_arrays(F32(x, 2), F64(y, 2), F64(bad, 2), &made), INVALID, "row 1");
    NO_DATASET(biv_dataset_create_from_arrays_with_std(F32(x, 2), F64(y, 2), F64(bad, 2), &made), INVALID, "row 1");
  }
  const double beyond_f32[] = {1, 1e39}, negative[] = {1, -0.5};
  NO_DATASET(biv_dataset_create_from_arrays(F64(beyond_f32, 2), F64(y, 2), NULL, &made), INVALID, "single-precision");
  NO_DATASET(biv_dataset_create_from_arrays(F32(x, 2), F64(y, 2), F64(negative, 2), &made), INVALID,
             "-0.5 must not be negative");
  NO_DATASET(biv_dataset_create_from_arrays_with_std(F32(x, 2), F64(y, 2), F64(negative, 2), &made), INVALID,
             "-0.5 must not be negative");
}

static void parts_that_do_not_exist_are_refused(void) {
  static const struct {
    const char *options;
    biv_status status;
    const char *text;
  } splits[] = {
      {"{\"train_size\": 30, \"test_size\": 11}", INVALID, "together at most the 40 rows"},
      {"{\"train_size\": 40}", INVALID, "must be at least 1 each"},
      {"{\"train_size\": 0}", CONFIG, "split.train_size: is 0, must be at least 1"},
      {"{\"train_size\": 18446744073709551615, \"test_size\": 2}", INVALID, "together at most"},
      {"{\"train_size\": -1}", CONFIG, "split.train_size: is -1, must be at least 1"},
      {"{}", CONFIG, "split.train_size: is missing, must be a whole number"},
  };
  for (size_t i = 0; i < COUNT(splits); i++) {
    biv_dataset *train = data, *test = data;
    CHECK_STATUS(biv_dataset_split(data, splits[i].options, &train, &test), splits[i].status, splits[i].text);
    CHECK(train == NULL && test == NULL);
  }
  NO_DATASET(biv_dataset_subset(data, SIZES(0, 40), 2, &made), INVALID, "row 40: does not exist, there are 40 rows");
  NO_DATASET(biv_dataset_subset(data, SIZES(-1), 1, &made), INVALID, "row -1: does not exist, there are 40 rows");
  NO_DATASET(biv_dataset_subset(data, SIZES(INT64_MIN), 1, &made), INVALID, "row -9223372036854775808: ");
  NO_DATASET(biv_dataset_subset(data, NULL, 0, &made), INVALID, "at least one row");
  NO_DATASET(biv_dataset_subset(data, SIZES(0), SIZE_MAX, &made), INVALID, "more than memory holds");
  biv_dataset *clean = NULL;
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 1}", &clean));
  CHECK_STATUS(biv_dataset_copy_variances(clean, F64_OUT(one, 1)), BIV_ERROR_UNSUPPORTED, "has no variances");
  biv_dataset_free(clean);
}

/* One handle for two parts would lose the first. */
static void a_split_needs_two_places(void) {
  biv_dataset *both = NULL;
  CHECK_STATUS(biv_dataset_split(data, "{\"train_size\": 20}", &both, &both), INVALID, "are the same place");
  biv_dataset_free(both);
}

static void csv_faults_are_named_with_row_and_column(void) {
  static const struct {
    const char *content, *options;
    biv_status status;
    const char *text;
  } files[] = {
      {"x,cnt\n1,2\n1,abc\n", "{\"labels\": [\"cnt\"]}", BIV_ERROR_PARSE, "row 2, column 'cnt': 'abc' is not a number"},
      {"x,y\n1,inf\n", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE, "row 1, column 'y': 'inf' is not finite"},
      {"x,y\n1,nan\n", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE, "'nan' is not finite"},
      {"x,y\n,1\n", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE, "row 1, column 'x': '' is not a number"},
      {"x,y\n1,2\n3\n", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE, "row 2 has 1 fields, the header has 2"},
      {"x,y\n1,2\n3,4,5\n", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE, "row 2 has 3 fields, the header has 2"},
      {"", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE, "the file is empty"},
      {"x,y\n", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE, "no rows below the header"},
      {"x,y\n1,\xff\n", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE, "UTF-8"},
      {"x,z\n1,2\n", "{\"labels\": [\"y\"]}", BIV_ERROR_NOT_FOUND, "there is no column 'y', only 'x', 'z'"},
      {"x,y\n1,2\n", "{\"labels\": [\"y\"], \"features\": [\"q\"]}", BIV_ERROR_NOT_FOUND, "there is no column 'q'"},
      {"x,y\n1,2\n", "{\"labels\": [\"y\"], \"variances\": [\"v\"]}", BIV_ERROR_NOT_FOUND, "there is no column 'v'"},
      {"x,y\n1,2\n", "{\"labels\": [\"y\"], \"features\": []}", CONFIG,
       "csv.features: is an empty list, must have at least 1"},
      {"x,v,y\n1,-2,3\n", "{\"labels\": [\"y\"], \"variances\": [\"v\"]}", BIV_ERROR_PARSE,
       "row 1, column 'v': '-2' is negative, a variance never is"},
      {"x,s,y\n1,-2,3\n", "{\"labels\": [\"y\"], \"standard_errors\": [\"s\"]}", BIV_ERROR_PARSE,
       "row 1, column 's': '-2' is negative"},
      {"temp,temp,y\n1,10,5\n", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE,
       "the header has 'temp' twice, as columns 1 and 2"},
      {"x,y,note\n1,10,ok\n2,20,\"5 inch\n3,30,ok\n", "{\"labels\": [\"y\"], \"features\": [\"x\"]}", BIV_ERROR_PARSE,
       "line 3, row 2, column 'note': the quote that opens here is not closed"},
      {"x,y,v\n\n1,2,3\n1,2,-999\n", "{\"labels\": [\"y\"], \"variances\": [\"v\"]}", BIV_ERROR_PARSE,
       "line 4, row 2, column 'v': '-999' is negative"},
      {"x,y,s\n1,2,1e200\n", "{\"labels\": [\"y\"], \"standard_errors\": [\"s\"]}", BIV_ERROR_PARSE,
       "line 2, row 1, column 's': '1e200' is too large"},
      {"x,y\n3e39,2\n", "{\"labels\": [\"y\"]}", BIV_ERROR_PARSE, "line 2, row 1, column 'x': '3e39' is too large"},
      {"k,y\na,1\n,2\n", "{\"labels\": [\"y\"], \"one_hot\": [\"k\"]}", BIV_ERROR_PARSE,
       "line 3, row 2, column 'k': '' is empty"},
      {"x,v,y\n1,2,3\n", "{\"labels\": [\"y\"], \"variances\": [\"v\"], \"error_divisor\": 2}", CONFIG,
       "csv.error_divisor: is given without standard_errors"},
      {"x,y\n1,2\n", "{\"labels\": []}", CONFIG, "csv.labels: is empty"},
      {"x,y\n1,2\n", "{\"labels\": [\"y\"], \"variances\": [\"x\", \"x\"]}", CONFIG, "csv.variances: is 2"},
      {"x,y\n1,2\n", "{\"labels\": [\"y\"], \"cyclic\": {\"x\": 0}}", CONFIG, "csv.cyclic.x: is 0"},
      {"x,y\n1,2\n", "{\"labels\": [\"y\"], \"one_hot\": [\"q\"]}", BIV_ERROR_NOT_FOUND,
       "there is no column 'q', only 'x', 'y'"},
      {"x,y\n1,2\n", "{\"labels\": [\"y\"], \"error_divisor\": 0}", CONFIG, "csv.error_divisor: is 0"},
      {"x,y\n1,2\n", "{\"labels\": [\"y\"], \"delimiter\": \";;\"}", CONFIG, "csv.delimiter"},
  };
  const char *path = in(folder, "bad.csv");
  for (size_t i = 0; i < COUNT(files); i++) {
    write_text(path, files[i].content);
    NO_DATASET(biv_dataset_create_from_csv(path, files[i].options, &made), files[i].status, files[i].text);
  }
  /* The row's number, with the header not counted. */
  FILE *file = fopen(path, "w");
  fprintf(file, "temp,cnt\n");
  for (int row = 1; row <= 20; row++) fprintf(file, row == 17 ? "%d,abc\n" : "%d,5\n", row);
  fclose(file);
  NO_DATASET(biv_dataset_create_from_csv(path, "{\"labels\": [\"cnt\"]}", &made), BIV_ERROR_PARSE,
             "row 17, column 'cnt': 'abc' is not a number");
}

static void paths_that_lead_nowhere_are_named(void) {
  const char *y = "{\"labels\": [\"y\"]}", *missing = in(folder, "no such file");
  NO_DATASET(biv_dataset_create_from_csv(missing, y, &made), BIV_ERROR_NOT_FOUND, "no such file: no such file");
  NO_DATASET(biv_dataset_create_from_csv("", y, &made), BIV_ERROR_NOT_FOUND, "no such file");
  NO_DATASET(biv_dataset_create_from_csv("\xff\xfe", y, &made), INVALID, "path is not UTF-8");
  NO_DATASET(biv_dataset_create_from_csv(folder, y, &made), BIV_ERROR_IO, "directory");
  NO_DATASET(biv_dataset_create_named("bike", missing, &made), BIV_ERROR_NOT_FOUND, "no such file");
  NO_DATASET(biv_dataset_create_named("wine", folder, &made), BIV_ERROR_NOT_FOUND, "winequality-red.csv");
  NO_DATASET(biv_dataset_create_named("mnist", folder, &made), INVALID, "'mnist' is unknown, allowed are");
  NO_DATASET(biv_dataset_create_named("\xff", folder, &made), INVALID, "name is not UTF-8");
  NO_MODEL(biv_model_load(missing, &made), BIV_ERROR_NOT_FOUND, "no such file");
  NO_MODEL(biv_model_load("\xc3(", &made), INVALID, "path is not UTF-8");
  NO_MODEL(biv_model_load(folder, &made), BIV_ERROR_IO, "directory");
  NO_TRAINER(biv_trainer_load(missing, data, NULL, &made), BIV_ERROR_NOT_FOUND, "no such file");
  NO_TRAINER(biv_trainer_load("\x80", data, NULL, &made), INVALID, "path is not UTF-8");
  CHECK_STATUS(biv_model_save(model, "\xff"), INVALID, "path is not UTF-8");
  CHECK_STATUS(biv_trainer_save(trainer, "\xff"), INVALID, "path is not UTF-8");
}

static void illegal_noise_is_refused(void) {
  static const char *const illegal[][2] = {
      {"{\"kind\": \"uniform\", \"low\": -1, \"high\": 1}", "low: is -1, must be at least 0"},
      {"{\"kind\": \"uniform\", \"low\": 2, \"high\": 1}", "high: is 1, must be at least low, 2"},
      {"{\"kind\": \"uniform\", \"mean\": 1, \"variance\": 0.5}", "it must be at most 0.333"},
      {"{\"kind\": \"uniform\", \"mean\": 1, \"heteroscedasticity\": 1.5}", "is 1.5, must be in [0, 1]"},
      {"{\"kind\": \"uniform\", \"low\": 1}", "do not determine it"},
      {"{\"kind\": \"uniform\"}", "do not determine it"},
      {"{\"kind\": \"gamma\", \"alpha\": 0, \"beta\": 1}", "greater than 0"},
      {"{\"kind\": \"gamma\", \"mean\": 1, \"variance\": 0}", "greater than 0"},
      {"{\"kind\": \"gamma\", \"mean\": 1}", "give either alpha and beta"},
      {"{\"kind\": \"binary_uniform\", \"components\": []}", "components: is an empty list, must have at least 1"},
      {"{\"kind\": \"binary_uniform\", \"components\": [{\"weight\": 0.5, \"low\": 0, \"high\": 1}, "
       "{\"weight\": 0.4, \"low\": 0, \"high\": 1}]}",
       "of total weight 0.9, must be of total weight 1"},
      {"{\"kind\": \"binary_uniform\", \"components\": [{\"weight\": 2, \"low\": 0, \"high\": 1}]}", "weight: is 2"},
      {"{\"kind\": \"normal\"}", "distribution.kind: is 'normal', must be 'uniform', 'binary_uniform' or 'gamma'"},
      {"{\"kind\": \"uniform\", \"lo\": 0}", "distribution.lo: is no known field (did you mean 'low'?)"},
  };
  char options[400];
  for (size_t i = 0; i < COUNT(illegal); i++) {
    one[0] = 7;
    CHECK_STATUS(biv_noise_sample(illegal[i][0], 0, one, 1), CONFIG, illegal[i][1]);
    CHECK(one[0] == 7);
    snprintf(options, sizeof options, "{\"distribution\": %s}", illegal[i][0]);
    NO_DATASET(biv_dataset_add_noise(data, options, &made), CONFIG, illegal[i][1]);
  }
  NO_DATASET(biv_dataset_add_noise(data,
                                   "{\"distribution\": {\"kind\": \"uniform\", \"low\": 0, \"high\": 1}, "
                                   "\"disturbance\": -1}",
                                   &made),
             CONFIG, "noise.disturbance: is -1");
  CHECK_STATUS(biv_noise_sample("{\"kind\": \"gamma\", \"alpha\": 1, \"beta\": 1}", 0, one, SIZE_MAX), INVALID,
               "more than memory holds");
}

static void synthetic_sizes_are_checked(void) {
  static const struct {
    const char *options;
    biv_status status;
    const char *text;
  } wrong[] = {
      {"{\"rows\": 0}", CONFIG, "synthetic.rows: is 0, must be at least 1"},
      {"{\"rows\": 1, \"features\": 4}", CONFIG, "synthetic.features: is 4, must be at least 5"},
      {"{\"rows\": 1, \"outputs\": 0}", CONFIG, "synthetic.outputs: is 0"},
      {"{\"rows\": 18446744073709551615}", BIV_ERROR_OUT_OF_MEMORY, "rows of 10 features"},
      {"{\"rows\": 1000000000000000}", BIV_ERROR_OUT_OF_MEMORY, "rows of 10 features"},
      {"{\"rows\": 1, \"features\": 18446744073709551615}", BIV_ERROR_OUT_OF_MEMORY, "1 rows of"},
  };
  for (size_t i = 0; i < COUNT(wrong); i++) {
    NO_DATASET(biv_dataset_create_synthetic(wrong[i].options, &made), wrong[i].status, wrong[i].text);
  }
}

/* JSON. */

static void options_are_read_strictly(void) {
  static const char *const synthetic[][2] = {
      {"{\"rows\": 1, \"row\": 1}",
       "synthetic.row: is no known field (did you mean 'rows'?), allowed are 'features', 'outputs', 'rows', 'seed'"},
      {"{\"rows\": \"1\"}", "synthetic.rows: is '1', must be a whole number"},
      {"{\"rows\": 1.5}", "synthetic.rows: is 1.5, must be a whole number"},
      {"{\"rows\": -1}", "synthetic.rows: is -1, must be at least 1"},
      {"{\"rows\": 99999999999999999999}", "synthetic.rows: is 1e+20, must be at most 18446744073709551615"},
      {"{\"rows\": null}", "synthetic.rows: is null, must be a whole number"},
      {"{\"rows\": 1, \"rows\": 2}", "synthetic.rows: is there twice at line 1 column "},
      {"{\"rows\": 1", "EOF while parsing"},
      {"{\"rows\": 1,}", "trailing comma"},
      {"{\"rows\": 1} x", "trailing characters"},
      {"{rows: 1}", "key must be a string"},
      {"{\"rows\": NaN}", "synthetic.rows"},
      {"", "EOF while parsing"},
      {"null", "synthetic: is null, must be an object { ... }"},
      {"17", "synthetic: is 17, must be an object { ... }"},
  };
  for (size_t i = 0; i < COUNT(synthetic); i++) {
    NO_DATASET(biv_dataset_create_synthetic(synthetic[i][0], &made), CONFIG, synthetic[i][1]);
  }
  NO_DATASET(biv_dataset_create_synthetic("{\"rows\": \"\xff\"}", &made), INVALID, "synthetic is not UTF-8");

  static const char *const trainers[][2] = {
      {"{\"batchsize\": 1}", "trainer.batchsize: is no known field (did you mean 'batch_size'?), allowed are "},
      {"{\"batch_size\": 0}", "trainer.batch_size: is 0, must be at least 1"},
      {"{\"learning_rate\": 0}", "trainer.learning_rate: is 0, must be greater than 0"},
      {"{\"learning_rate\": -1}", "trainer.learning_rate: is -1"},
      {"{\"learning_rate\": 1e999}", "trainer.learning_rate"},
      {"{\"normalize\": 1}", "trainer.normalize: is 1, must be true or false"},
      {"{\"seed\": -1}", "trainer.seed"},
      {"{\"loss\": \"biv\"}", "trainer.loss: is 'biv', must be an object { ... }"},
      {"{\"loss\": {}}", "trainer.loss.kind: is missing, must be 'mse', 'cutoff_mse', 'iv', "},
      {"{\"loss\": {\"kind\": \"l1\"}}", "trainer.loss.kind: is 'l1', must be 'mse', "},
      {"{\"loss\": {\"kind\": \"mse\", \"epsilon\": 1}}",
       "trainer.loss.epsilon: is no known field, allowed are 'kind'"},
      {"{\"loss\": {\"kind\": \"biv\", \"epsilon\": 0}}", "trainer.loss.epsilon: is 0, must be greater than 0"},
      {"{\"loss\": {\"kind\": \"iv\", \"epsilon\": -0.1}}", "trainer.loss.epsilon: is -0.1"},
      {"{\"loss\": {\"kind\": \"biv\", \"epsilon\": \"small\"}}",
       "trainer.loss.epsilon: is 'small', must be a number, "},
      {"{\"loss\": {\"kind\": \"biv\", \"epsilon\": {\"min_effective_batch_size\": 0}}}", "is 0, must be at least 1"},
      {"{\"loss\": {\"kind\": \"biv\", \"epsilon\": {\"min_effective_batch_ratio\": 1}}}", "is 1, must be in (0, 1)"},
      {"{\"batch_size\": 8, \"loss\": {\"kind\": \"biv\", \"epsilon\": {\"min_effective_batch_size\": 8}}}",
       "is 8, must be less than batch_size, 8"},
      {"{\"loss\": {\"kind\": \"cutoff_mse\", \"threshold\": 0}}", "trainer.loss.threshold: is 0"},
      {"{\"adam\": {\"beta1\": 1}}", "trainer.adam.beta1: is 1, must be in [0, 1)"},
      {"{\"adam\": {\"epsilon\": 0}}", "trainer.adam.epsilon: is 0"},
      {"{\"adam\": {\"weight_decay\": -1}}", "trainer.adam.weight_decay: is -1"},
      {"{\"adam\": {\"amsgrad\": true}}", "trainer.adam.amsgrad: is no known field, allowed are"},
      {"{\"optimizer\": {\"kind\": \"sdg\"}}", "trainer.optimizer.kind: is 'sdg', must be 'adam', 'adamw' or 'sgd'"},
      {"{\"optimizer\": {\"kind\": \"sgd\", \"nesterov\": true}}", "trainer.optimizer.nesterov: needs a momentum"},
      {"{\"adam\": {\"beta1\": 0.5}, \"optimizer\": {\"kind\": \"adam\"}}", "trainer.adam: has constants beside"},
      {"{\"schedule\": {\"kind\": \"step\"}}", "trainer.schedule.epochs: is missing, must be a whole number"},
      {"{\"schedule\": {\"kind\": \"cosine\", \"epochs\": 0}}", "trainer.schedule.epochs: is 0, must be at least 1"},
      {"{\"clip_norm\": 0}", "trainer.clip_norm: is 0, must be greater than 0"},
  };
  for (size_t i = 0; i < COUNT(trainers); i++) {
    NO_TRAINER(biv_trainer_create(model, data, trainers[i][0], &made), CONFIG, trainers[i][1]);
  }

  static const char *const models[][2] = {
      {"{}", "model.kind: is missing, must be 'mlp'"},
      {"{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": \"8\"}",
       "model.hidden: is '8', must be a list of whole numbers"},
      {"{\"kind\": \"ensemble\", \"members\": 2, \"network\": {\"kind\": \"mlp\", \"inputs\": 1.5, \"hidden\": 8}}",
       "model.network.inputs: is 1.5, must be a whole number"},
      {"{\"kind\": \"cnn\"}", "model.kind: is 'cnn', must be 'mlp', "},
      {"{\"kind\": \"mlp\", \"inputs\": 5}", "model.hidden: is missing, must be a list of whole numbers"},
      {"{\"kind\": \"mlp\", \"inputs\": 0, \"hidden\": []}", "model.inputs: is 0, must be at least 1"},
      {"{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [8, 0]}", "model.hidden[1]: is 0"},
      {"{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [], \"outputs\": 0}", "model.outputs: is 0"},
      {"{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [], \"drop_out\": 0.5}", "model.drop_out: is no known field"},
      {"{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [], \"dropout\": 1}", "model.dropout: is 1, must be in [0, 1)"},
      {"{\"kind\": \"sequential\", \"input_shape\": [5], \"layers\": [{\"kind\": \"conv3d\"}]}",
       "model.layers[0].kind: is 'conv3d', must be 'linear', "},
      {"{\"kind\": \"vanilla_ann\", \"dataset\": \"mnist\"}", "model.dataset: is 'mnist', must be 'bike' or 'wine'"},
  };
  for (size_t i = 0; i < COUNT(models); i++) NO_MODEL(biv_model_create(models[i][0], &made), CONFIG, models[i][1]);
  const char *text = model ? "set" : NULL;
  CHECK_STATUS(biv_config_schema("trainers", &text), INVALID,
               "no options 'trainers', only 'arrays', 'variances', 'csv'");
  CHECK(text == NULL);
}

/* Losses. */

static void losses_refuse_what_has_no_value(void) {
  biv_loss_result result = SIZED(biv_loss_result);
  static const char *const needy[] = {"{\"kind\": \"biv\"}", "{\"kind\": \"iv\"}", "{\"kind\": \"cutoff_mse\"}"};
  for (size_t i = 0; i < COUNT(needy); i++) {
    CHECK_STATUS(biv_loss_compute(needy[i], F64(y, 2), F64(y, 2), NULL, &result, NULL), INVALID, "needs the variances");
  }
  const double bad[][2] = {{1, NAN}, {1, INFINITY}, {1, -INFINITY}}, negative[] = {1, -1};
  for (size_t i = 0; i < COUNT(bad); i++) {
    CHECK_STATUS(biv_loss_compute(NULL, F64(bad[i], 2), F64(y, 2), F64(y, 2), &result, NULL), INVALID,
                 "row 1, prediction 0: ");
    CHECK_STATUS(biv_loss_compute(NULL, F64(y, 2), F64(bad[i], 2), F64(y, 2), &result, NULL), INVALID,
                 "row 1, label 0: ");
    if (bad[i][1] == INFINITY) continue; /* it masks its label */
    CHECK_STATUS(biv_loss_compute(NULL, F64(y, 2), F64(y, 2), F64(bad[i], 2), &result, NULL), INVALID,
                 "row 1, variance 0: ");
  }
  CHECK_STATUS(biv_loss_compute(NULL, F64(y, 2), F64(y, 2), F64(negative, 2), &result, NULL), INVALID,
               "row 1, variance 0: -1 must not be negative");
  CHECK_STATUS(biv_loss_compute(NULL, F64(y, 2), F64(y, 1), F64(y, 2), &result, NULL), SHAPE, "labels must have");
  CHECK_STATUS(biv_loss_compute(NULL, F64(y, 2), F64(y, 2), F64(y, 1), &result, NULL), SHAPE, "variances must have");
  CHECK_STATUS(biv_loss_compute(NULL, F64(y, 2), F64(y, 2, 1), F64(y, 2), &result, NULL), SHAPE, "labels must have");
  CHECK_STATUS(biv_loss_compute(NULL, F64(y, 1, 1, 2), F64(y, 1, 1, 2), F64(y, 1, 1, 2), &result, NULL), SHAPE,
               "expected [rows, outputs]");
  CHECK_STATUS(biv_loss_compute(NULL, F64(y, 0), F64(y, 0), F64(y, 0), &result, NULL), SHAPE, "0 predictions");
  CHECK_STATUS(biv_loss_compute(NULL, F64(y, 2, 0), F64(y, 2, 0), F64(y, 2, 0), &result, NULL), SHAPE, "0 predictions");
  CHECK_STATUS(biv_loss_compute("{\"kind\": \"biv\", \"epsilon\": 0}", F64(y, 2), F64(y, 2), F64(y, 2), &result, NULL),
               CONFIG, "loss.epsilon: is 0, must be greater than 0");
  CHECK_STATUS(biv_loss_compute("{\"kind\": \"biv\", \"epsilon\": -1}", F64(y, 2), F64(y, 2), F64(y, 2), &result, NULL),
               CONFIG, "loss.epsilon: is -1");
  const double vast[] = {1e300, -1e300};
  CHECK_STATUS(biv_loss_compute("{\"kind\": \"mse\"}", F64(vast, 2), F64(y, 2), NULL, &result, NULL),
               BIV_ERROR_NUMERICAL, "the loss is inf");
  double gradient[3] = {7, 7, 7};
  CHECK_STATUS(biv_loss_compute(NULL, F64(y, 2), F64(y, 2), F64(y, 2), &result, F64_OUT(gradient, 3)), SHAPE,
               "gradient: the array has shape [3]");
  CHECK(gradient[0] == 7);
}

/* Models. */

static void models_beyond_memory_are_an_error(void) {
  NO_MODEL(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 1000000, \"hidden\": [1000000]}", &made),
           BIV_ERROR_OUT_OF_MEMORY, "no memory for 1000000000000 values");
  NO_MODEL(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 18446744073709551615, \"hidden\": [2]}", &made),
           BIV_ERROR_OUT_OF_MEMORY, "exceeds memory");
}

static void tensors_must_exist_and_fit(void) {
  const double bad[] = {NAN}, beyond_f32[] = {1e39};
  CHECK_STATUS(biv_model_get_tensor(model, "weight", F64_OUT(one, 1)), BIV_ERROR_NOT_FOUND,
               "no tensor 'weight', only '0.weight', '0.bias'");
  CHECK_STATUS(biv_model_set_tensor(model, "6.weight", F64(one, 1)), BIV_ERROR_NOT_FOUND, "no tensor '6.weight'");
  CHECK_STATUS(biv_model_set_tensor(model, "\xff", F64(one, 1)), INVALID, "name is not UTF-8");
  CHECK_STATUS(biv_model_get_tensor(model, "4.weight", F64_OUT(one, 1)), SHAPE, "the result has shape [1, 4]");
  CHECK_STATUS(biv_model_set_tensor(model, "4.bias", F64(y, 2)), SHAPE, "has shape [2], the model's has [1]");
  CHECK_STATUS(biv_model_set_tensor(model, "4.bias", F64(y, 1, 1)), SHAPE, "has shape [1, 1], the model's has [1]");
  CHECK_STATUS(biv_model_set_tensor(model, "4.bias", F64(bad, 1)), INVALID, "a value is not finite");
  CHECK_STATUS(biv_model_set_tensor(model, "4.bias", F64(beyond_f32, 1)), INVALID, "a value is not finite");
  nothing_was_harmed();
}

static void features_must_fit_the_model(void) {
  const float bad[] = {1, 2, NAN, 4, 5};
  CHECK_STATUS(biv_model_predict(model, F32(x, 2, 4), F64_OUT(one, 1)), SHAPE, "features have 4 values in a row");
  CHECK_STATUS(biv_trainer_predict(trainer, F32(x, 5), F64_OUT(one, 1)), SHAPE, "the model has 5 inputs");
  CHECK_STATUS(biv_model_predict(model, F32(bad, 1, 5), F64_OUT(one, 1)), INVALID,
               "row 0, feature 2: NaN is not a finite single-precision number");
  NO_TRAINER(biv_trainer_create(model, data, "{\"batch_size\": 10, \"device\": \"\"}", &made), INVALID, "device ''");
}

/* Trainers. */

static biv_dataset *six_features(void) {
  biv_dataset *wide = NULL;
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 40, \"features\": 6}", &wide));
  return wide;
}

static void data_must_fit_the_model(void) {
  biv_dataset *wide = six_features(), *twofold = NULL;
  biv_metrics metrics = SIZED(biv_metrics);
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 40, \"features\": 5, \"outputs\": 2}", &twofold));
  const char *mse = "{\"loss\": {\"kind\": \"mse\"}, \"batch_size\": 10}";
  NO_TRAINER(biv_trainer_create(model, wide, mse, &made), SHAPE, "have 6 features, the model has 5");
  NO_TRAINER(biv_trainer_create(model, twofold, mse, &made), SHAPE, "have 2 labels, the model has 1");
  CHECK_STATUS(biv_trainer_evaluate(trainer, wide, &metrics), SHAPE, "have 6 features");
  CHECK_STATUS(biv_trainer_evaluate(trainer, twofold, &metrics), SHAPE, "have 2 labels");
  CHECK_STATUS(biv_trainer_step_on(trainer, F32(x, 2, 4), F64(y, 2), F64(y, 2), NULL), SHAPE, "have 4 features");
  /* A test set that does not fit is found before an epoch is spent. */
  CHECK_STATUS(biv_trainer_fit(trainer, 1, wide, NULL, NULL), SHAPE, "have 6 features");
  biv_progress progress = SIZED(biv_progress);
  CHECK_OK(biv_trainer_get_progress(trainer, &progress));
  CHECK(progress.steps == 0);
  biv_dataset_free(wide);
  biv_dataset_free(twofold);
}

static void losses_with_variances_need_them(void) {
  static const char *const needy[] = {"{\"loss\": {\"kind\": \"biv\"}, \"batch_size\": 10}",
                                      "{\"loss\": {\"kind\": \"iv\"}, \"batch_size\": 10}",
                                      "{\"loss\": {\"kind\": \"cutoff_mse\"}, \"batch_size\": 10}"};
  biv_dataset *clean = NULL;
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 40, \"features\": 5}", &clean));
  for (size_t i = 0; i < COUNT(needy); i++) {
    NO_TRAINER(biv_trainer_create(model, clean, needy[i], &made), INVALID, "needs the variances of the labels");
  }
  CHECK_STATUS(biv_trainer_step_on(trainer, F32(x, 2, 5), F64(y, 2), NULL, NULL), INVALID, "needs the variances");
  biv_dataset_free(clean);
}

static void batches_must_be_possible(void) {
  NO_TRAINER(biv_trainer_create(model, data, NULL, &made), INVALID, "batch_size 256 is more than the 40 training rows");
  NO_TRAINER(biv_trainer_create(model, data, "{\"batch_size\": 18446744073709551615}", &made), INVALID, "is more than");
  biv_trainer *whole = small_trainer(data, "{\"batch_size\": 18446744073709551615, \"drop_last\": false}");
  biv_step step = SIZED(biv_step);
  CHECK_OK(biv_trainer_step(whole, &step));
  CHECK(step.rows == 40);
  biv_trainer_free(whole);
  /* Nothing to step on, to fit to, or to step with. */
  biv_trainer *without = small_trainer(NULL, NULL);
  CHECK_STATUS(biv_trainer_step(without, NULL), BIV_ERROR_UNSUPPORTED, "made without a data set");
  CHECK_STATUS(biv_trainer_fit(without, 1, NULL, NULL, NULL), BIV_ERROR_UNSUPPORTED, "made without a data set");
  CHECK_STATUS(biv_trainer_step_on(without, F32(x, 0, 5), F64(y, 0), F64(y, 0), NULL), INVALID, "at least one row");
  biv_trainer_free(without);
}

static void devices_that_are_not_there_are_named(void) {
  int32_t devices = 0;
  CHECK_OK(biv_cuda_device_count(&devices));
  const char *absent =
      devices == 0 ? "{\"batch_size\": 10, \"device\": \"cuda\"}" : "{\"batch_size\": 10, \"device\": \"cuda:4711\"}";
  NO_TRAINER(biv_trainer_create(model, data, absent, &made), BIV_ERROR_DEVICE, "device 'cuda");
  static const char *const unknown[] = {"gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", ""};
  for (size_t i = 0; i < COUNT(unknown); i++) {
    char options[80];
    snprintf(options, sizeof options, "{\"batch_size\": 10, \"device\": \"%s\"}", unknown[i]);
    NO_TRAINER(biv_trainer_create(model, data, options, &made), INVALID,
               "is unknown, allowed are 'cpu', 'cuda', 'cuda:N' and 'auto'");
  }
  const char *path = in(folder, "device.biv");
  CHECK_OK(biv_trainer_save(trainer, path));
  NO_TRAINER(biv_trainer_load(path, data, "gpu", &made), INVALID, "device 'gpu' is unknown");
  NO_TRAINER(biv_trainer_load(path, data, "\xff", &made), INVALID, "device is not UTF-8");
  nothing_was_harmed();
}

static void learning_rates_and_epochs_are_checked(void) {
  const double rates[] = {0, -0.0, -1, NAN, INFINITY, -INFINITY};
  double before = 0, after = 0;
  CHECK_OK(biv_trainer_get_learning_rate(trainer, &before));
  for (size_t i = 0; i < COUNT(rates); i++) {
    CHECK_STATUS(biv_trainer_set_learning_rate(trainer, rates[i]), CONFIG, "must be greater than 0 and finite");
  }
  CHECK_OK(biv_trainer_get_learning_rate(trainer, &after));
  CHECK(before == after);
  CHECK_STATUS(biv_trainer_fit(trainer, -1, NULL, NULL, NULL), INVALID, "epochs is -1, must be at least 0");
  CHECK_STATUS(biv_trainer_fit(trainer, INT64_MIN, NULL, NULL, NULL), INVALID, "must be at least 0");
}

/* A step that would leave the finite numbers is not taken, and says which it was. */
static void diverging_training_says_at_which_step(const char *loss) {
  char options[120], first[] = "step 1 (epoch 1)";
  snprintf(options, sizeof options, "{\"loss\": {\"kind\": \"%s\"}, \"batch_size\": 10, \"learning_rate\": 1e30}",
           loss);
  biv_trainer *wild = small_trainer(data, options);
  biv_model *its_model = NULL;
  CHECK_OK(biv_trainer_get_model(wild, &its_model));
  float before[40], after[40];
  biv_status status = BIV_OK;
  for (int step = 1; step <= 100 && status == BIV_OK; step++) {
    first[5] = (char)('0' + step);
    CHECK_OK(biv_model_get_tensor(its_model, "0.weight", F32_OUT(before, 8, 5)));
    status = biv_trainer_step(wild, NULL);
  }
  CHECK_STATUS(status, BIV_ERROR_NUMERICAL, "try a smaller learning rate than 1");
  CHECK(strstr(biv_last_error_message(), first) != NULL);
  CHECK_OK(biv_model_get_tensor(its_model, "0.weight", F32_OUT(after, 8, 5)));
  CHECK(memcmp(before, after, sizeof before) == 0);
  CHECK_STATUS(biv_trainer_fit(wild, 1, NULL, NULL, NULL), BIV_ERROR_NUMERICAL, first);
  biv_model_free(its_model);
  biv_trainer_free(wild);
}

/* A batch that overflows changes nothing, BatchNorm's running statistics included, and the next one is fine. */
static void a_batch_that_overflows_leaves_no_trace(bool batch_norm) {
  biv_model *fresh = NULL;
  biv_trainer *careful = NULL;
  CHECK_OK(biv_model_create(batch_norm ? "{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [4], \"batch_norm\": true}"
                                       : "{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [4]}",
                            &fresh));
  CHECK_OK(biv_trainer_create(fresh, NULL, "{\"loss\": {\"kind\": \"mse\"}}", &careful));
  const double vast[] = {1e30, -1e30};
  double before[2], after[2];
  CHECK_OK(biv_trainer_step_on(careful, F32(x, 2, 5), F64(y, 2), NULL, NULL));
  CHECK_OK(biv_model_predict(fresh, F32(x, 2, 5), F64_OUT(before, 2)));
  CHECK_STATUS(biv_trainer_step_on(careful, F32(x, 2, 5), F64(vast, 2), NULL, NULL), BIV_ERROR_NUMERICAL,
               "row 0, label 0: makes the loss of step 2 inf: about 1.00000e30");
  CHECK_OK(biv_model_predict(fresh, F32(x, 2, 5), F64_OUT(after, 2)));
  CHECK(memcmp(before, after, sizeof before) == 0);
  CHECK_OK(biv_trainer_step_on(careful, F32(x, 2, 5), F64(y, 2), NULL, NULL));
  biv_trainer_free(careful);
  biv_model_free(fresh);
}

static void batch_norm_needs_two_rows(void) {
  biv_model *normed = NULL;
  biv_trainer *careful = NULL;
  CHECK_OK(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [4], \"batch_norm\": true}", &normed));
  CHECK_OK(biv_trainer_create(normed, NULL, NULL, &careful));
  CHECK_STATUS(biv_trainer_step_on(careful, F32(x, 1, 5), F64(y, 1), F64(y, 1), NULL), SHAPE, "needs at least 2");
  biv_trainer_free(careful);
  biv_model_free(normed);
}

int main(void) {
  alarm(900);
  folder = temporary_folder();
  data = noisy_dataset(40, 1);
  model = small_model();
  CHECK_OK(biv_trainer_create(model, data, "{\"batch_size\": 10}", &trainer));

  null_pointers_are_named();
  handles_are_told_apart();

  impossible_arrays_are_named();
  outputs_that_do_not_fit_are_named();
  struct_sizes_are_named();

  arrays_that_do_not_fit_together_are_refused();
  messages_count_from_one_for_hosts_that_do();
  values_that_are_no_data_are_named();
  parts_that_do_not_exist_are_refused();
  a_split_needs_two_places();
  csv_faults_are_named_with_row_and_column();
  paths_that_lead_nowhere_are_named();
  illegal_noise_is_refused();
  synthetic_sizes_are_checked();

  options_are_read_strictly();

  losses_refuse_what_has_no_value();
  models_beyond_memory_are_an_error();
  tensors_must_exist_and_fit();
  features_must_fit_the_model();

  data_must_fit_the_model();
  losses_with_variances_need_them();
  batches_must_be_possible();
  devices_that_are_not_there_are_named();
  learning_rates_and_epochs_are_checked();
  diverging_training_says_at_which_step("iv");
  diverging_training_says_at_which_step("mse");
  a_batch_that_overflows_leaves_no_trace(false);
  a_batch_that_overflows_leaves_no_trace(true);
  batch_norm_needs_two_rows();

  nothing_was_harmed();
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(data);
  remove_folder(folder);
  return report("misuse");
}
