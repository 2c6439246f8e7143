/* Bad input: each gives its status and a message that says what is wrong, and nothing is harmed. */
#include "common.h"

/* Ten features-and-label rows of no importance. */
static const double ones[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

static biv_dataset *plain_dataset(void) {
  biv_dataset *data = NULL;
  CHECK_OK(biv_dataset_create_from_arrays(F64(ones, 10), F64(ones, 10), NULL, &data));
  return data;
}

/* What asks for a handle gets NULL when it fails. */
#define CHECK_CREATE(type, call, status, text)              \
  do {                                                      \
    type *created = (type *)(uintptr_t)1, **out = &created; \
    CHECK_STATUS(call, status, text);                       \
    CHECK(created == NULL);                                 \
  } while (0)

static void test_null_pointers(const biv_dataset *data, biv_model *model, biv_trainer *trainer) {
  const biv_status invalid = BIV_ERROR_INVALID_ARGUMENT;
  const char *text = NULL, *synthetic = "{\"rows\": 9}", *uniform = "{\"kind\": \"uniform\", \"low\": 0, \"high\": 1}";
  biv_dataset *part = NULL;
  double number = 0;
  CHECK_STATUS(biv_config_schema(NULL, &text), invalid, "name is NULL");
  CHECK_STATUS(biv_config_schema("loss", NULL), invalid, "out is NULL");
  CHECK_STATUS(biv_config_schema("los", &text), invalid, "there are no options 'los', only 'csv'");
  CHECK_STATUS(biv_cuda_device_count(NULL), invalid, "out is NULL");
  CHECK_STATUS(biv_get_num_threads(NULL), invalid, "out is NULL");
  CHECK_STATUS(biv_set_num_threads(0), BIV_ERROR_INVALID_CONFIG, "threads: is 0, must be 1 to 4096");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(NULL, F64(ones, 10), NULL, out), invalid,
               "features is NULL");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(F64(ones, 10), NULL, NULL, out), invalid, "labels is NULL");
  CHECK_STATUS(biv_dataset_create_from_arrays(F64(ones, 10), F64(ones, 10), NULL, NULL), invalid, "(out) is NULL");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays_with_std(F64(ones, 10), F64(ones, 10), NULL, out), invalid,
               "standard_deviations is NULL");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_csv(NULL, "{\"labels\": [\"y\"]}", out), invalid, "path is NULL");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_csv("a.csv", NULL, out), BIV_ERROR_INVALID_CONFIG,
               "missing field `labels`");
  CHECK_CREATE(biv_dataset, biv_dataset_create_named(NULL, "a", out), invalid, "name is NULL");
  CHECK_CREATE(biv_dataset, biv_dataset_create_named("bike", NULL, out), invalid, "path is NULL");
  CHECK_CREATE(biv_dataset, biv_dataset_create_named("bikes", "a", out), invalid, "allowed are 'bike' and 'wine'");
  CHECK_STATUS(biv_dataset_create_synthetic(synthetic, NULL), invalid, "(out) is NULL");
  CHECK_STATUS(biv_dataset_add_noise(data, "{}", NULL), invalid, "(out) is NULL");
  CHECK_STATUS(biv_dataset_split(data, "{\"train_size\": 1}", NULL, &part), invalid, "train is NULL");
  CHECK_STATUS(biv_dataset_split(data, "{\"train_size\": 1}", &part, NULL), invalid, "test is NULL");
  CHECK_CREATE(biv_dataset, biv_dataset_subset(data, NULL, 2, out), invalid, "indices is NULL");
  CHECK_STATUS(biv_dataset_shuffle(data, 0, NULL), invalid, "(out) is NULL");
  CHECK_STATUS(biv_dataset_get_info(data, NULL), invalid, "biv_dataset_info is NULL");
  CHECK_STATUS(biv_dataset_copy_labels(data, NULL), invalid, "out is NULL");
  CHECK_STATUS(biv_dataset_copy_variances(data, F64_OUT(&number, 1)), BIV_ERROR_UNSUPPORTED, "has no variances");
  CHECK_STATUS(biv_noise_sample(uniform, 0, NULL, 3), invalid, "variances is NULL");
  CHECK_STATUS(biv_noise_sample(NULL, 0, &number, 1), BIV_ERROR_INVALID_CONFIG, "missing field `kind`");
  CHECK_STATUS(biv_loss_compute(NULL, NULL, F64(ones, 3), F64(ones, 3), NULL, NULL), invalid, "predictions is NULL");
  CHECK_STATUS(biv_loss_compute(NULL, F64(ones, 3), F64(ones, 3), F64(ones, 3), NULL, NULL), invalid,
               "biv_loss_result is NULL");
  CHECK_CREATE(biv_model, biv_model_create(NULL, out), BIV_ERROR_INVALID_CONFIG, "missing field `kind`");
  CHECK_CREATE(biv_model, biv_model_load(NULL, out), invalid, "path is NULL");
  CHECK_STATUS(biv_model_save(model, NULL), invalid, "path is NULL");
  CHECK_STATUS(biv_model_get_info(model, NULL), invalid, "biv_model_info is NULL");
  CHECK_STATUS(biv_model_describe(model, NULL, 10, NULL), invalid, "buffer is NULL");
  CHECK_STATUS(biv_model_get_tensor(model, NULL, F64_OUT(&number, 1)), invalid, "name is NULL");
  CHECK_STATUS(biv_model_set_tensor(model, "0.bias", NULL), invalid, "values is NULL");
  CHECK_STATUS(biv_model_predict(model, NULL, F64_OUT(&number, 1)), invalid, "features is NULL");
  CHECK_STATUS(biv_model_predict(model, F64(ones, 1, 5), NULL), invalid, "out is NULL");
  CHECK_STATUS(biv_trainer_step_on(trainer, NULL, F64(ones, 1), NULL, NULL), invalid, "features is NULL");
  CHECK_STATUS(biv_trainer_get_progress(trainer, NULL), invalid, "biv_progress is NULL");
  CHECK_STATUS(biv_trainer_get_learning_rate(trainer, NULL), invalid, "out is NULL");
  CHECK_STATUS(biv_trainer_get_model(trainer, NULL), invalid, "(out) is NULL");
  CHECK_STATUS(biv_trainer_save(trainer, NULL), invalid, "path is NULL");
  CHECK_CREATE(biv_trainer, biv_trainer_load(NULL, NULL, NULL, out), invalid, "path is NULL");
}

/* Every function that takes a handle, with one that is none of its own. */
static void check_handle(const void *bad, const char *text) {
  const biv_status invalid = BIV_ERROR_INVALID_HANDLE;
  biv_dataset_info dataset_info = SIZED(biv_dataset_info);
  biv_model_info model_info = SIZED(biv_model_info);
  biv_metrics metrics = SIZED(biv_metrics);
  biv_progress progress = SIZED(biv_progress);
  biv_dataset *train = NULL, *test = NULL;
  double number = 0;
  const int64_t index = 0;
  CHECK_CREATE(biv_dataset, biv_dataset_add_noise(bad, "{}", out), invalid, text);
  CHECK_STATUS(biv_dataset_split(bad, "{\"train_size\": 1}", &train, &test), invalid, text);
  CHECK(train == NULL && test == NULL);
  CHECK_CREATE(biv_dataset, biv_dataset_subset(bad, &index, 1, out), invalid, text);
  CHECK_CREATE(biv_dataset, biv_dataset_shuffle(bad, 0, out), invalid, text);
  CHECK_STATUS(biv_dataset_get_info(bad, &dataset_info), invalid, text);
  CHECK_STATUS(biv_dataset_copy_features(bad, F64_OUT(&number, 1)), invalid, text);
  CHECK_STATUS(biv_dataset_copy_labels(bad, F64_OUT(&number, 1)), invalid, text);
  CHECK_STATUS(biv_dataset_copy_clean_labels(bad, F64_OUT(&number, 1)), invalid, text);
  CHECK_STATUS(biv_dataset_copy_variances(bad, F64_OUT(&number, 1)), invalid, text);
  CHECK_STATUS(biv_model_save(bad, "/tmp/never"), invalid, text);
  CHECK_STATUS(biv_model_get_info(bad, &model_info), invalid, text);
  CHECK_STATUS(biv_model_describe(bad, NULL, 0, NULL), invalid, text);
  CHECK_STATUS(biv_model_get_tensor(bad, "0.bias", F64_OUT(&number, 1)), invalid, text);
  CHECK_STATUS(biv_model_set_tensor(bad, "0.bias", F64(ones, 1)), invalid, text);
  CHECK_STATUS(biv_model_predict(bad, F64(ones, 1, 5), F64_OUT(&number, 1)), invalid, text);
  CHECK_CREATE(biv_trainer, biv_trainer_create(bad, NULL, NULL, out), invalid, text);
  CHECK_STATUS(biv_trainer_step(bad, NULL), invalid, text);
  CHECK_STATUS(biv_trainer_step_on(bad, F64(ones, 1, 5), F64(ones, 1), NULL, NULL), invalid, text);
  CHECK_STATUS(biv_trainer_fit(bad, 1, NULL, NULL, NULL), invalid, text);
  CHECK_STATUS(biv_trainer_cancel(bad), invalid, text);
  CHECK_STATUS(biv_trainer_get_progress(bad, &progress), invalid, text);
  CHECK_STATUS(biv_trainer_evaluate(bad, NULL, &metrics), invalid, text);
  CHECK_STATUS(biv_trainer_predict(bad, F64(ones, 1, 5), F64_OUT(&number, 1)), invalid, text);
  CHECK_STATUS(biv_trainer_get_learning_rate(bad, &number), invalid, text);
  CHECK_STATUS(biv_trainer_set_learning_rate(bad, 0.1), invalid, text);
  CHECK_CREATE(biv_model, biv_trainer_get_model(bad, out), invalid, text);
  CHECK_STATUS(biv_trainer_save(bad, "/tmp/never"), invalid, text);
}

static void test_handles(const biv_dataset *data, const biv_model *model, const biv_trainer *trainer) {
  check_handle(NULL, "handle is NULL");
  check_handle((void *)(uintptr_t)0x1234567812345678, "was freed, or never was a handle");
  check_handle((void *)UINTPTR_MAX, "was freed, or never was a handle");
  biv_dataset *freed = plain_dataset();
  biv_dataset_free(freed);
  biv_dataset_free(freed); /* again, and harmless */
  check_handle(freed, "was freed, or never was a handle");

  CHECK_STATUS(biv_model_save((const biv_model *)data, "/tmp/never"), BIV_ERROR_INVALID_HANDLE,
               "a biv_model handle was expected, this is a biv_dataset");
  CHECK_STATUS(biv_trainer_step((const biv_trainer *)model, NULL), BIV_ERROR_INVALID_HANDLE,
               "a biv_trainer handle was expected, this is a biv_model");
  CHECK_CREATE(biv_dataset, biv_dataset_shuffle((const biv_dataset *)trainer, 0, out), BIV_ERROR_INVALID_HANDLE,
               "a biv_dataset handle was expected, this is a biv_trainer");
  CHECK_CREATE(biv_trainer, biv_trainer_create(model, (const biv_dataset *)model, NULL, out), BIV_ERROR_INVALID_HANDLE,
               "a biv_dataset handle was expected");

  /* Freeing what is not its own leaves it, and the message, alone. */
  biv_dataset_info info = SIZED(biv_dataset_info);
  CHECK_STATUS(biv_trainer_cancel(NULL), BIV_ERROR_INVALID_HANDLE, "NULL");
  biv_model_free((biv_model *)data);
  biv_trainer_free(NULL);
  CHECK(strstr(biv_last_error_message(), "NULL") != NULL);
  CHECK_OK(biv_dataset_get_info(data, &info));
}

static void test_arrays(const biv_dataset *data) {
  const biv_status shape = BIV_ERROR_SHAPE, invalid = BIV_ERROR_INVALID_ARGUMENT;
  biv_array x = *F64(ones, 5, 2);
#define CHECK_ARRAY(status, text) \
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(&x, F64(ones, 5), NULL, out), status, text)
  x.dtype = 3;
  CHECK_ARRAY(invalid, "features.dtype is 3, must be BIV_F32 (1) or BIV_F64 (2)");
  x = *F64(ones, 5, 2), x.rank = 0;
  CHECK_ARRAY(shape, "features.rank is 0, must be 1 to 8");
  x.rank = 9;
  CHECK_ARRAY(shape, "features.rank is 9");
  x = *F64(ones, 5, -2);
  CHECK_ARRAY(shape, "has the size -2, which is negative");
  x = *F64(ones, INT64_MAX, 2);
  CHECK_ARRAY(shape, "exceeds memory");
  x = *F64(ones, 5, 2), x.strides = SIZES(INT64_MAX, 1);
  CHECK_ARRAY(shape, "exceeds memory");
  x.strides = SIZES(3, 1), x.size = 10;
  CHECK_ARRAY(shape, "features reaches 0 elements before data and 14 from there, its size is 10");
  x.strides = SIZES(-2, 1);
  CHECK_ARRAY(shape, "features reaches 8 elements before data");
  x = *F64(NULL, 5, 2);
  CHECK_ARRAY(invalid, "features.data is NULL");
  x = *F64(ones, 5, 2), x.shape = NULL;
  CHECK_ARRAY(invalid, "features.shape is NULL");
  x = *F64((const char *)ones + 1, 4, 2);
  CHECK_ARRAY(invalid, "features.data is not aligned");
  x = *F64(ones, 0, 2);
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(&x, F64(ones, 0), NULL, out), invalid, "at least one row");
  x = *F64(ones, 5, 2);
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(&x, F64(ones, 4), NULL, out), shape,
               "labels have 4 rows, the features have 5");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(&x, F64(ones, 5), F64(ones, 5, 2), out), shape,
               "variances have shape [5, 2]");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(&x, F64(ones, 5, 1, 1), NULL, out), shape,
               "expected [rows] or [rows, outputs]");

  double found[20];
  biv_array_out overlapping = *F64_OUT(found, 10, 1);
  overlapping.strides = SIZES(0, 1);
  CHECK_STATUS(biv_dataset_copy_labels(data, &overlapping), shape, "make its elements overlap");
  CHECK_STATUS(biv_dataset_copy_labels(data, F64_OUT(found, 9)), shape, "has shape [9], the result has shape [10, 1]");
}

static void test_values(void) {
  const biv_status invalid = BIV_ERROR_INVALID_ARGUMENT;
  const double bad[] = {NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < COUNT(bad); ++i) {
    const double values[] = {1, 2, bad[i], 4};
    CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(F64(values, 2, 2), F64(ones, 2), NULL, out), invalid,
                 "row 1, feature 0:");
    CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(F64(ones, 4), F64(values, 4), NULL, out), invalid,
                 "row 2, label 0:");
    CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(F64(ones, 4), F64(ones, 4), F64(values, 4), out), invalid,
                 "row 2, variance 0:");
    CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays_with_std(F64(ones, 4), F64(ones, 4), F64(values, 4), out),
                 invalid, "row 2, standard deviation 0:");
    biv_loss_result result = SIZED(biv_loss_result);
    CHECK_STATUS(biv_loss_compute(NULL, F64(values, 4), F64(ones, 4), F64(ones, 4), &result, NULL), invalid,
                 "predictions: element 2 is");
    CHECK_STATUS(biv_loss_compute(NULL, F64(ones, 4), F64(values, 4), F64(ones, 4), &result, NULL), invalid,
                 "labels: element 2 is");
    CHECK_STATUS(biv_loss_compute(NULL, F64(ones, 4), F64(ones, 4), F64(values, 4), &result, NULL), invalid,
                 "variances: element 2 is");
  }
  const double negative[] = {1, -2}, huge[] = {1, 1e300};
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(F64(ones, 2), F64(ones, 2), F64(negative, 2), out), invalid,
               "row 1, variance 0: -2 must not be negative");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays_with_std(F64(ones, 2), F64(ones, 2), F64(negative, 2), out),
               invalid, "row 1, standard deviation 0: -2 must not be negative");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_arrays(F64(huge, 2), F64(ones, 2), NULL, out), invalid,
               "not a finite single-precision number");
}

static void test_parts(const biv_dataset *data) {
  biv_dataset *train = NULL, *test = NULL;
  const int64_t indices[] = {0, 10, -1};
  CHECK_STATUS(biv_dataset_split(data, "{\"train_size\": 8, \"test_size\": 3}", &train, &test),
               BIV_ERROR_INVALID_ARGUMENT, "train_size 8 and test_size 3 must be at least 1 each and together at most");
  CHECK_STATUS(biv_dataset_split(data, "{\"train_size\": 0}", &train, &test), BIV_ERROR_INVALID_ARGUMENT, "at least 1");
  CHECK_STATUS(biv_dataset_split(data, "{}", &train, &test), BIV_ERROR_INVALID_CONFIG, "missing field `train_size`");
  CHECK_CREATE(biv_dataset, biv_dataset_subset(data, indices, 2, out), BIV_ERROR_INVALID_ARGUMENT,
               "row 10 was asked for, there are 10 rows");
  CHECK_CREATE(biv_dataset, biv_dataset_subset(data, indices, 3, out), BIV_ERROR_INVALID_ARGUMENT,
               "the index -1 is negative");
  CHECK_CREATE(biv_dataset, biv_dataset_subset(data, indices, 0, out), BIV_ERROR_INVALID_ARGUMENT, "at least one row");
}

static void test_csv(const char *folder) {
  static const struct {
    const char *content;
    biv_status status;
    const char *text;
  } cases[] = {
      {"x,cnt\n1,2\n1,abc\n", BIV_ERROR_PARSE, "row 2, column 'cnt': 'abc' is not a number"},
      {"x,cnt\n1,2\n1\n", BIV_ERROR_PARSE, "row 2 has 1 fields, the header has 2"},
      {"x,cnt\n1,nan\n", BIV_ERROR_PARSE, "row 1, column 'cnt': 'nan' is not finite"},
      {"", BIV_ERROR_PARSE, "the file is empty"},
      {"x,cnt\n", BIV_ERROR_PARSE, "no rows below the header"},
      {"x,count\n1,2\n", BIV_ERROR_NOT_FOUND, "there is no column 'cnt', only 'x', 'count'"},
      {"x,cnt\n\xff,2\n", BIV_ERROR_PARSE, "UTF-8"},
  };
  const char *path = in(folder, "data.csv"), *options = "{\"labels\": [\"cnt\"]}";
  for (size_t i = 0; i < COUNT(cases); ++i) {
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fputs(cases[i].content, file) >= 0 && fclose(file) == 0);
    CHECK_CREATE(biv_dataset, biv_dataset_create_from_csv(path, options, out), cases[i].status, cases[i].text);
  }
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_csv("/no/such.csv", options, out), BIV_ERROR_NOT_FOUND,
               "/no/such.csv: no such file or folder");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_csv(folder, options, out), BIV_ERROR_IO, folder);
  CHECK_CREATE(biv_dataset, biv_dataset_create_named("bike", folder, out), BIV_ERROR_NOT_FOUND, "hour.csv: no such");
  CHECK_CREATE(biv_dataset, biv_dataset_create_from_csv("\xff\xfe", options, out), BIV_ERROR_INVALID_ARGUMENT,
               "path is not UTF-8");
}

/* `count` times `unit`, as text. */
static char *repeated(const char *unit, size_t count) {
  size_t length = strlen(unit);
  char *text = malloc(length * count + 1);
  for (size_t i = 0; i < count; ++i) memcpy(text + i * length, unit, length);
  text[length * count] = 0;
  return text;
}

static void test_options(const biv_dataset *noisy, const biv_dataset *plain, const biv_model *model) {
  static const struct {
    const char *options;
    biv_status status;
    const char *text;
  } trainers[] = {
      {"{\"batch\": 3}", BIV_ERROR_INVALID_CONFIG, "unknown field `batch`, expected one of `loss`, `batch_size`"},
      {"{\"batch_size\": \"3\"}", BIV_ERROR_INVALID_CONFIG, "trainer.batch_size: invalid type: string"},
      {"{\"batch_size\": -3}", BIV_ERROR_INVALID_CONFIG, "trainer.batch_size: invalid value: integer `-3`"},
      {"{\"batch_size\": 0}", BIV_ERROR_INVALID_CONFIG, "trainer.batch_size: is 0, must be at least 1"},
      {"{\"batch_size\": 201}", BIV_ERROR_INVALID_ARGUMENT, "batch_size 201 is more than the 200 training rows"},
      {"{\"learning_rate\": 0}", BIV_ERROR_INVALID_CONFIG, "trainer.learning_rate: is 0, must be greater than 0"},
      {"{\"learning_rate\": 1e999}", BIV_ERROR_INVALID_CONFIG, "number out of range"},
      {"{\"loss\": {\"kind\": \"biv\", \"epsilon\": 0}}", BIV_ERROR_INVALID_CONFIG,
       "trainer.loss.epsilon: is 0, must be greater than 0"},
      {"{\"loss\": {\"kind\": \"iv\", \"epsilon\": -1}}", BIV_ERROR_INVALID_CONFIG, "trainer.loss.epsilon: is -1"},
      {"{\"loss\": {\"kind\": \"l1\"}}", BIV_ERROR_INVALID_CONFIG, "trainer.loss.kind: unknown variant `l1`"},
      {"{\"adam\": {\"beta1\": 1}}", BIV_ERROR_INVALID_CONFIG, "trainer.adam.beta1: is 1, must be in [0, 1)"},
      {"{\"device\": \"gpu\"}", BIV_ERROR_INVALID_ARGUMENT, "device 'gpu' is unknown, allowed are 'cpu', 'cuda'"},
      {"{\"device\": \"cuda:9999\"}", BIV_ERROR_DEVICE, "device 'cuda:9999'"},
      {"", BIV_ERROR_INVALID_CONFIG, "trainer: EOF"},
      {"{} {}", BIV_ERROR_INVALID_CONFIG, "trailing characters"},
      {"[1]", BIV_ERROR_INVALID_CONFIG, "trainer"},
      {"\xff", BIV_ERROR_INVALID_ARGUMENT, "trainer is not UTF-8"},
  };
  for (size_t i = 0; i < COUNT(trainers); ++i)
    CHECK_CREATE(biv_trainer, biv_trainer_create(model, noisy, trainers[i].options, out), trainers[i].status,
                 trainers[i].text);
  char *deep = repeated("[", 100000), *large = repeated("[0],", scaled(2500000, 1000));
  CHECK_CREATE(biv_trainer, biv_trainer_create(model, noisy, deep, out), BIV_ERROR_INVALID_CONFIG, "trainer");
  CHECK_CREATE(biv_trainer, biv_trainer_create(model, noisy, large, out), BIV_ERROR_INVALID_CONFIG, "trainer");
  free(deep);
  free(large);

  biv_model *one = NULL;
  CHECK_OK(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 1, \"hidden\": []}", &one));
  static const char *const kinds[] = {"biv", "iv", "cutoff_mse"};
  for (size_t i = 0; i < COUNT(kinds); ++i) {
    char options[64], message[64];
    snprintf(options, sizeof options, "{\"loss\": {\"kind\": \"%s\"}}", kinds[i]);
    snprintf(message, sizeof message, "the loss '%s' needs the variances", kinds[i]);
    CHECK_CREATE(biv_trainer, biv_trainer_create(one, plain, options, out), BIV_ERROR_INVALID_ARGUMENT, message);
    snprintf(options, sizeof options, "{\"kind\": \"%s\"}", kinds[i]);
    biv_loss_result result = SIZED(biv_loss_result);
    CHECK_STATUS(biv_loss_compute(options, F64(ones, 2), F64(ones, 2), NULL, &result, NULL), BIV_ERROR_INVALID_ARGUMENT,
                 message);
  }
  CHECK_CREATE(biv_trainer, biv_trainer_create(one, noisy, NULL, out), BIV_ERROR_SHAPE,
               "rows of the data set have 5 features, the model has 1");
  biv_model_free(one);

  static const struct {
    const char *options;
    biv_status status;
    const char *text;
  } models[] = {
      {"{\"kind\": \"mlp\", \"inputs\": 0, \"hidden\": []}", BIV_ERROR_INVALID_CONFIG, "model.inputs: is 0"},
      {"{\"kind\": \"mlp\", \"inputs\": 1, \"hidden\": [0]}", BIV_ERROR_INVALID_CONFIG, "model.hidden[0]: is 0"},
      {"{\"kind\": \"mlp\", \"inputs\": 1, \"hidden\": [], \"x\": 1}", BIV_ERROR_INVALID_CONFIG, "unknown field `x`"},
      {"{\"kind\": \"mlp\", \"inputs\": 1000000, \"hidden\": [1000000]}", BIV_ERROR_OUT_OF_MEMORY, "memory"},
      {"{\"kind\": \"mlp\", \"inputs\": 1, \"hidden\": [9223372036854775807, 9]}", BIV_ERROR_OUT_OF_MEMORY, "memory"},
  };
  for (size_t i = 0; i < COUNT(models); ++i)
    CHECK_CREATE(biv_model, biv_model_create(models[i].options, out), models[i].status, models[i].text);

  static const struct {
    const char *options, *text;
  } noises[] = {
      {"{\"kind\": \"uniform\", \"low\": -1, \"high\": 1}", "low: is -1, must be at least 0"},
      {"{\"kind\": \"uniform\", \"mean\": 1, \"variance\": 1}", "is 1, with mean 1 it must be at most 0.333"},
      {"{\"kind\": \"gamma\", \"alpha\": -1, \"beta\": 1}", "must be alpha and beta greater than 0"},
      {"{\"kind\": \"binary_uniform\", \"components\": [{\"weight\": 0.4, \"low\": 0, \"high\": 1}]}",
       "total weight 1"},
  };
  for (size_t i = 0; i < COUNT(noises); ++i) {
    char options[256];
    double number;
    CHECK_STATUS(biv_noise_sample(noises[i].options, 0, &number, 1), BIV_ERROR_INVALID_CONFIG, noises[i].text);
    snprintf(options, sizeof options, "{\"distribution\": %s}", noises[i].options);
    CHECK_CREATE(biv_dataset, biv_dataset_add_noise(plain, options, out), BIV_ERROR_INVALID_CONFIG, noises[i].text);
  }
  CHECK_CREATE(biv_dataset, biv_dataset_create_synthetic("{\"rows\": 0}", out), BIV_ERROR_INVALID_CONFIG,
               "synthetic.rows: is 0, must be at least 1");
  CHECK_CREATE(biv_dataset, biv_dataset_create_synthetic("{\"rows\": 1000000000000000}", out), BIV_ERROR_OUT_OF_MEMORY,
               "1000000000000000 rows");
}

static void test_models(biv_model *model) {
  double found[8];
  CHECK_STATUS(biv_model_get_tensor(model, "9.weight", F64_OUT(found, 8)), BIV_ERROR_NOT_FOUND,
               "no tensor '9.weight', only '0.weight', '0.bias'");
  CHECK_STATUS(biv_model_get_tensor(model, "0.bias", F64_OUT(found, 7)), BIV_ERROR_SHAPE, "has shape [7]");
  CHECK_STATUS(biv_model_set_tensor(model, "0.bias", F64(ones, 7)), BIV_ERROR_SHAPE, "has shape [7], the model's");
  const double bad[8] = {NAN};
  CHECK_STATUS(biv_model_set_tensor(model, "0.bias", F64(bad, 8)), BIV_ERROR_INVALID_ARGUMENT, "not finite");
  CHECK_STATUS(biv_model_predict(model, F64(ones, 2, 4), F64_OUT(found, 2)), BIV_ERROR_SHAPE,
               "features have 4 values in a row, the model has 5 inputs");
  CHECK_STATUS(biv_model_predict(model, F64(bad, 1, 5), F64_OUT(found, 1)), BIV_ERROR_INVALID_ARGUMENT,
               "row 0, feature 0: NaN is not finite");
  CHECK_STATUS(biv_model_predict(model, F64(ones, 2, 5), F64_OUT(found, 3)), BIV_ERROR_SHAPE, "has shape [3]");
}

static void test_trainers(biv_trainer *trainer, const biv_dataset *plain, const biv_dataset *noisy) {
  const double bad_rates[] = {0, -1, NAN, INFINITY};
  for (size_t i = 0; i < COUNT(bad_rates); ++i)
    CHECK_STATUS(biv_trainer_set_learning_rate(trainer, bad_rates[i]), BIV_ERROR_INVALID_CONFIG,
                 "must be greater than 0 and finite");
  biv_metrics metrics = SIZED(biv_metrics);
  CHECK_STATUS(biv_trainer_fit(trainer, -1, NULL, NULL, NULL), BIV_ERROR_INVALID_ARGUMENT, "epochs is -1");
  CHECK_STATUS(biv_trainer_evaluate(trainer, plain, &metrics), BIV_ERROR_SHAPE, "have 1 features, the model has 5");
  CHECK_STATUS(biv_trainer_step_on(trainer, F64(ones, 2, 4), F64(ones, 2), F64(ones, 2), NULL), BIV_ERROR_SHAPE,
               "have 4 features, the model has 5");
  CHECK_STATUS(biv_trainer_step_on(trainer, F64(ones, 2, 5), F64(ones, 2), NULL, NULL), BIV_ERROR_INVALID_ARGUMENT,
               "'biv' needs the variances");
  /* A struct without its size, and one of a later header. */
  metrics.struct_size = 0;
  CHECK_STATUS(biv_trainer_evaluate(trainer, noisy, &metrics), BIV_ERROR_INVALID_ARGUMENT,
               "struct_size is 0: set it to sizeof(biv_metrics)");
  metrics.struct_size = (size_t)-1;
  CHECK_STATUS(biv_trainer_evaluate(trainer, noisy, &metrics), BIV_ERROR_INVALID_ARGUMENT, "struct_size is");
  struct {
    biv_metrics known;
    double later[2];
  } larger = {.known = {.struct_size = sizeof larger}, .later = {7, 7}};
  CHECK_OK(biv_trainer_evaluate(trainer, noisy, &larger.known));
  CHECK(larger.known.rmse > 0 && larger.later[0] == 0 && larger.later[1] == 0);
  /* A struct of an earlier header: what it does not have stays as it is. */
  biv_metrics smaller = {.struct_size = offsetof(biv_metrics, mae), .mae = -7};
  CHECK_OK(biv_trainer_evaluate(trainer, noisy, &smaller));
  CHECK(smaller.rmse == larger.known.rmse && smaller.mae == -7);

  biv_model *model = small_model();
  biv_trainer *online = NULL, *wild = NULL;
  CHECK_OK(biv_trainer_create(model, NULL, NULL, &online));
  CHECK_STATUS(biv_trainer_step(online, NULL), BIV_ERROR_UNSUPPORTED, "made without a data set");
  CHECK_STATUS(biv_trainer_fit(online, 1, NULL, NULL, NULL), BIV_ERROR_UNSUPPORTED, "made without a data set");
  biv_trainer_free(online);

  /* Training that diverges stops where it does, and says so each time. */
  CHECK_OK(biv_trainer_create(model, noisy, "{\"learning_rate\": 1e30, \"batch_size\": 16}", &wild));
  CHECK_STATUS(biv_trainer_fit(wild, 5, NULL, NULL, NULL), BIV_ERROR_NUMERICAL, "(epoch 1): the loss is");
  CHECK_STATUS(biv_trainer_step(wild, NULL), BIV_ERROR_NUMERICAL, "try a smaller learning rate");
  biv_trainer_free(wild);
  biv_model_free(model);

  /* After all this the trainer works. */
  CHECK_OK(biv_trainer_fit(trainer, 1, NULL, NULL, NULL));
}

int main(void) {
  char *folder = temporary_folder();
  biv_dataset *noisy = noisy_dataset(200, 1), *plain = plain_dataset();
  biv_model *model = small_model();
  biv_trainer *trainer = small_trainer(noisy, "{\"batch_size\": 16}");
  test_null_pointers(plain, model, trainer);
  test_handles(plain, model, trainer);
  test_arrays(plain);
  test_values();
  test_parts(plain);
  test_csv(folder);
  test_options(noisy, plain, model);
  test_models(model);
  test_trainers(trainer, plain, noisy);
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(plain);
  biv_dataset_free(noisy);
  remove_folder(folder);
  return report("misuse");
}
