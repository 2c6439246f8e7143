/* Every function of the header, as a program would use it, with the values that come out. */
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common.h"

/* The library whose matrix product libtorch calls. */
#ifdef __aarch64__
#define OWN_BLAS "libnvpl_blas_lp64_gomp.so.0"
#else
#define OWN_BLAS "libtorch_cpu.so"
#endif

/* The library. */

static void versions_agree(void) {
  char version[32];
  snprintf(version, sizeof version, "%d.%d.%d", BIV_VERSION_MAJOR, BIV_VERSION_MINOR, BIV_VERSION_PATCH);
  CHECK(strcmp(version, BIV_VERSION) == 0);
  CHECK(strcmp(biv_version(), BIV_VERSION) == 0);
  CHECK(biv_abi_version() == BIV_ABI_VERSION);
  const char *info = "";
  CHECK_OK(biv_build_info(&info));
  CHECK(strstr(info, "\"version\":\"" BIV_VERSION "\"") != NULL);
  CHECK(strstr(info, "\"libtorch\":\"2.") != NULL);
  CHECK(strstr(info, "\"blas\":\"" OWN_BLAS "\"") != NULL);
}

static void every_status_has_its_name(void) {
#define NAMED(status) \
  { status, #status }
  static const struct {
    biv_status status;
    const char *name;
  } known[] = {
      NAMED(BIV_OK),
      NAMED(BIV_ERROR_INVALID_ARGUMENT),
      NAMED(BIV_ERROR_INVALID_HANDLE),
      NAMED(BIV_ERROR_INVALID_CONFIG),
      NAMED(BIV_ERROR_SHAPE),
      NAMED(BIV_ERROR_NOT_FOUND),
      NAMED(BIV_ERROR_IO),
      NAMED(BIV_ERROR_PARSE),
      NAMED(BIV_ERROR_UNSUPPORTED),
      NAMED(BIV_ERROR_BUSY),
      NAMED(BIV_ERROR_CANCELLED),
      NAMED(BIV_ERROR_OUT_OF_MEMORY),
      NAMED(BIV_ERROR_DEVICE),
      NAMED(BIV_ERROR_NUMERICAL),
      NAMED(BIV_ERROR_CORRUPT),
      NAMED(BIV_ERROR_INTERNAL),
      NAMED(BIV_ERROR_BUFFER_TOO_SMALL),
      NAMED(BIV_ERROR_DISTRIBUTED),
  };
#undef NAMED
  for (size_t i = 0; i < COUNT(known); i++) {
    /* Codes are stable: a program may have stored them. */
    CHECK(known[i].status == (biv_status)i);
    CHECK(strcmp(biv_status_name(known[i].status), known[i].name) == 0);
  }
  CHECK(strcmp(biv_status_name(-1), "BIV_ERROR_UNKNOWN") == 0);
  CHECK(strcmp(biv_status_name((biv_status)COUNT(known)), "BIV_ERROR_UNKNOWN") == 0);
}

static void every_kind_of_options_has_a_schema(void) {
  static const char *const schemas[][2] = {
      {"csv", "\"standard_errors\""},
      {"synthetic", "\"rows\""},
      {"split", "\"train_size\""},
      {"noise", "\"disturbance\""},
      {"distribution", "gamma"},
      {"loss", "cutoff_mse"},
      {"model", "\"hidden\""},
      {"trainer", "\"batch_size\""},
      {"arrays", "\"missing_labels\""},
      {"variances", "\"standard_deviations\""},
      {"fit", "\"members\""},
      {"load", "\"accept_data\""},
      {"export", "onnx"},
  };
  for (size_t i = 0; i < COUNT(schemas); i++) {
    const char *schema = NULL;
    CHECK_OK(biv_config_schema(schemas[i][0], &schema));
    CHECK(schema[0] == '{' && strstr(schema, schemas[i][1]) != NULL);
  }
}

/* libtorch would wait for them for ever. */
static void a_number_that_does_not_start_is_refused(void) {
  struct rlimit old, limit;
  getrlimit(RLIMIT_AS, &old);
  unsigned long pages = 0;
  FILE *memory = fopen("/proc/self/statm", "r");
  CHECK(memory != NULL && fscanf(memory, "%lu", &pages) == 1);
  fclose(memory);
  limit = old;
  limit.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + (1u << 30);
  int32_t before = 0, after = 0;
  CHECK_OK(biv_get_num_threads(&before));
  setrlimit(RLIMIT_AS, &limit);
  CHECK_STATUS(biv_set_num_threads(1000), BIV_ERROR_OUT_OF_MEMORY, "of 999 threads, then: ");
  setrlimit(RLIMIT_AS, &old);
  CHECK_OK(biv_get_num_threads(&after));
  CHECK(after == before);
}

static void threads_and_devices_are_told(void) {
  int32_t before = 0, after = 0, devices = -1;
  CHECK_OK(biv_get_num_threads(&before));
  CHECK(before >= 1);
  CHECK_OK(biv_set_num_threads(before + 1));
  CHECK_OK(biv_get_num_threads(&after));
  CHECK(after == before + 1);
  CHECK_STATUS(biv_set_num_threads(1025), BIV_ERROR_INVALID_CONFIG, "threads: is 1025, must be 1 to 1024");
  if (getenv("BIV_TEST_SMALL") == NULL) a_number_that_does_not_start_is_refused();
  CHECK_OK(biv_set_num_threads(before));
  CHECK_OK(biv_cuda_device_count(&devices));
  CHECK(devices >= 0);
}

/* Data sets. */

static bool has_sizes(const biv_dataset *dataset, int64_t rows, int64_t features, int64_t outputs) {
  biv_dataset_info info = SIZED(biv_dataset_info);
  CHECK_OK(biv_dataset_get_info(dataset, &info));
  return info.rows == rows && info.features == features && info.outputs == outputs;
}

static void arrays_of_both_types_and_any_rank_come_back(void) {
  const float single[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const double twice[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const double labels[12] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1e300};
  const struct {
    const biv_array *features, *labels;
    const biv_array_out *copy;
    int64_t rows, width, outputs;
  } forms[] = {
      {F32(single, 12), F64(labels, 12), F32_OUT((float[12]){0}, 12), 12, 1, 1},
      {F64(twice, 12), F64(labels, 12, 1), F32_OUT((float[12]){0}, 12), 12, 1, 1},
      {F32(single, 4, 3), F64(labels, 4, 3), F32_OUT((float[12]){0}, 4, 3), 4, 3, 3},
      {F64(twice, 2, 2, 3), F64(labels, 2, 2), F32_OUT((float[12]){0}, 2, 2, 3), 2, 6, 2},
      {F32(single, 1, 1, 3, 2, 2), F64(labels, 1), F32_OUT((float[12]){0}, 1, 1, 3, 2, 2), 1, 12, 1},
  };
  for (size_t i = 0; i < COUNT(forms); i++) {
    biv_dataset *dataset = NULL;
    CHECK_OK(biv_dataset_create_from_arrays(forms[i].features, forms[i].labels, NULL, &dataset));
    CHECK(has_sizes(dataset, forms[i].rows, forms[i].width, forms[i].outputs));
    CHECK_OK(biv_dataset_copy_features(dataset, forms[i].copy));
    CHECK(memcmp(forms[i].copy->data, single, sizeof single) == 0);
    double copy[12];
    CHECK_OK(biv_dataset_copy_labels(dataset, F64_OUT(copy, forms[i].rows, forms[i].outputs)));
    CHECK(memcmp(copy, labels, (size_t)(forms[i].rows * forms[i].outputs) * sizeof(double)) == 0);
    biv_dataset_free(dataset);
  }
}

/* What the caller passed is its own again: changing it changes nothing. */
static void arrays_are_copied(void) {
  float features[2] = {1, 2}, copy[2];
  biv_dataset *dataset = NULL;
  CHECK_OK(biv_dataset_create_from_arrays(F32(features, 2), F32(features, 2), NULL, &dataset));
  features[0] = -1;
  CHECK_OK(biv_dataset_copy_features(dataset, F32_OUT(copy, 2)));
  CHECK(copy[0] == 1);
  CHECK_OK(biv_dataset_copy_labels(dataset, F32_OUT(copy, 2)));
  CHECK(copy[0] == 1);
  biv_dataset_free(dataset);
}

/* The matrix {{1, 2}, {3, 4}, {5, 6}} in the memory orders that hosts have. */
static void strides_of_every_sign_are_read(void) {
  const double column_major[] = {1, 3, 5, 2, 4, 6}, reversed[] = {6, 5, 4, 3, 2, 1},
               padded[] = {1, 2, 0, 3, 4, 0, 5, 6};
  const double labels[] = {3, 2, 1}, one[] = {7};
  const biv_array forms[] = {
      {column_major, BIV_F64, 2, SIZES(3, 2), SIZES(1, 3), 6},
      {&reversed[5], BIV_F64, 2, SIZES(3, 2), SIZES(-2, -1), 0},
      {padded, BIV_F64, 2, SIZES(3, 2), SIZES(3, 1), 8},
      /* A stride over one index is never taken. */
      {column_major, BIV_F64, 3, SIZES(3, 1, 2), SIZES(1, INT64_MAX, 3), 6},
  };
  const biv_array backwards = {&labels[2], BIV_F64, 1, SIZES(3), SIZES(-1), 0};
  const biv_array constant = {one, BIV_F64, 1, SIZES(3), SIZES(0), 1};
  for (size_t i = 0; i < COUNT(forms); i++) {
    biv_dataset *dataset = NULL;
    double features[6], copy[3], variances[3];
    CHECK_OK(biv_dataset_create_from_arrays(&forms[i], &backwards, &constant, &dataset));
    CHECK_OK(
        biv_dataset_copy_features(dataset, forms[i].rank == 2 ? F64_OUT(features, 3, 2) : F64_OUT(features, 3, 1, 2)));
    CHECK(memcmp(features, (double[]){1, 2, 3, 4, 5, 6}, sizeof features) == 0);
    CHECK_OK(biv_dataset_copy_labels(dataset, F64_OUT(copy, 3)));
    CHECK(memcmp(copy, (double[]){1, 2, 3}, sizeof copy) == 0);
    CHECK_OK(biv_dataset_copy_variances(dataset, F64_OUT(variances, 3)));
    CHECK(memcmp(variances, (double[]){7, 7, 7}, sizeof variances) == 0);
    biv_dataset_free(dataset);
  }
}

static void outputs_may_have_strides_and_gaps(void) {
  const float features[] = {1, 2, 3, 4, 5, 6};
  const double labels[] = {1, 2, 3};
  biv_dataset *dataset = NULL;
  CHECK_OK(biv_dataset_create_from_arrays(F32(features, 3, 2), F64(labels, 3), NULL, &dataset));
  float column_major[6];
  CHECK_OK(biv_dataset_copy_features(dataset, &(biv_array_out){column_major, BIV_F32, 2, SIZES(3, 2), SIZES(1, 3), 6}));
  CHECK(memcmp(column_major, (float[]){1, 3, 5, 2, 4, 6}, sizeof column_major) == 0);
  double gaps[6] = {-1, -1, -1, -1, -1, -1};
  CHECK_OK(biv_dataset_copy_labels(dataset, &(biv_array_out){&gaps[4], BIV_F64, 1, SIZES(3), SIZES(-2), 0}));
  CHECK(memcmp(gaps, (double[]){3, -1, 2, -1, 1, -1}, sizeof gaps) == 0);
  biv_dataset_free(dataset);
}

static void standard_deviations_become_variances(void) {
  const float features[] = {1, 2, 3};
  const double labels[] = {1, 2, 3}, deviations[] = {2, 0.5, 0}, expected[] = {4, 0.25, 0};
  biv_dataset *dataset = NULL;
  CHECK_OK(biv_dataset_create_from_arrays_with_std(F32(features, 3), F64(labels, 3), F64(deviations, 3), &dataset));
  double variances[3];
  CHECK_OK(biv_dataset_copy_variances(dataset, F64_OUT(variances, 3)));
  CHECK(memcmp(variances, expected, sizeof variances) == 0);
  biv_dataset_info info = SIZED(biv_dataset_info);
  CHECK_OK(biv_dataset_get_info(dataset, &info));
  CHECK(info.has_variances == 1 && info.has_clean_labels == 0);
  biv_dataset_free(dataset);
}

static void csv_columns_take_their_roles(const char *folder) {
  const char *path = in(folder, "income.csv");
  write_text(path, "hour,kind,income,moe,age\n0,b,10,3.29,5\n6,a,20,1.645,6\n");
  biv_dataset *dataset = NULL;
  CHECK_OK(biv_dataset_create_from_csv(path,
                                       "{\"labels\": [\"income\"], \"standard_errors\": [\"moe\"], "
                                       "\"error_divisor\": 1.645, \"one_hot\": [\"kind\"], \"cyclic\": {\"hour\": 24}}",
                                       &dataset));
  CHECK(has_sizes(dataset, 2, 5, 1));
  /* Cosine and sine of the hour, the kinds a and b, the age. */
  const double expected[10] = {1, 0, 0, 1, 5, 0, 1, 1, 0, 6};
  double features[10], labels[2], variances[2];
  CHECK_OK(biv_dataset_copy_features(dataset, F64_OUT(features, 2, 5)));
  for (int i = 0; i < 10; i++) CHECK_NEAR(features[i], expected[i], 1e-6);
  CHECK_OK(biv_dataset_copy_labels(dataset, F64_OUT(labels, 2)));
  CHECK(labels[0] == 10 && labels[1] == 20);
  CHECK_OK(biv_dataset_copy_variances(dataset, F64_OUT(variances, 2, 1)));
  CHECK_NEAR(variances[0], 4, 1e-12);
  CHECK_NEAR(variances[1], 1, 1e-12);
  biv_dataset_free(dataset);
}

static void other_data_are_matched_by_name(const char *folder) {
  const char *path = in(folder, "first.csv"), *options = "{\"labels\": [\"y\"]}";
  biv_dataset *first = NULL, *second = NULL, *third = NULL, *arrays = NULL;
  biv_trainer *trainer = NULL;
  biv_model *model = NULL;
  write_text(path, "a,b,y\n1,10,12\n2,20,24\n3,10,16\n4,30,38\n");
  CHECK_OK(biv_dataset_create_from_csv(path, options, &first));
  write_text(path, "y,b,a\n12,10,1\n24,20,2\n16,10,3\n38,30,4\n");
  CHECK_OK(biv_dataset_create_from_csv(path, options, &second));
  write_text(path, "a,c,y\n1,10,12\n");
  CHECK_OK(biv_dataset_create_from_csv(path, options, &third));
  CHECK_OK(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 2, \"hidden\": [4]}", &model));
  CHECK_OK(biv_trainer_create(model, first, "{\"loss\": {\"kind\": \"mse\"}, \"batch_size\": 2}", &trainer));
  biv_metrics expected = {.struct_size = sizeof expected}, found = expected;
  CHECK_OK(biv_trainer_evaluate(trainer, first, &expected));
  CHECK_OK(biv_trainer_evaluate(trainer, second, &found));
  CHECK(expected.rmse == found.rmse);
  CHECK_STATUS(biv_trainer_evaluate(trainer, third, &found), BIV_ERROR_SHAPE,
               "the data have no column 'b': they have 'a', 'c', the model has 'a', 'b'");
  /* Arrays may have names, too: here those of the first file, in another order. */
  const double x[8] = {10, 1, 20, 2, 10, 3, 30, 4}, y[4] = {12, 24, 16, 38};
  CHECK_OK(biv_dataset_create(F64(x, 4, 2), F64(y, 4), NULL, NULL, "{\"columns\": [\"b\", \"a\"]}", &arrays));
  CHECK_OK(biv_trainer_evaluate(trainer, arrays, &found));
  CHECK(expected.rmse == found.rmse);
  biv_dataset *none = NULL;
  CHECK_STATUS(biv_dataset_create(F64(x, 4, 2), F64(y, 4), NULL, NULL, "{\"columns\": [\"b\"]}", &none),
               BIV_ERROR_INVALID_CONFIG, "arrays.columns: is 1 names, must be 2");
  char text[4000];
  CHECK_OK(biv_dataset_describe(first, text, sizeof text, NULL));
  CHECK(strstr(text, "{\"encoding\":\"number\",\"name\":\"a\"},{\"encoding\":\"number\",\"name\":\"b\"}") != NULL);
  CHECK(strstr(text, "\"labels\":[\"y\"]") != NULL && strstr(text, "\"left_out\":[]") != NULL);
  CHECK_OK(biv_model_describe(model, text, sizeof text, NULL));
  CHECK(strstr(text, "\"labels\":[\"y\"]") != NULL);
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(first);
  biv_dataset_free(second);
  biv_dataset_free(third);
  biv_dataset_free(arrays);
}

static void named_sets_are_read_from_a_file_or_a_folder(const char *folder) {
  write_text(in(folder, "hour.csv"),
             "instant,dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed,casual,"
             "registered,cnt\n1,2011-01-01,1,0,1,0,0,6,0,1,0.24,0.28,0.81,0,3,13,16\n"
             "2,2011-01-01,1,0,1,1,0,6,0,1,0.22,0.27,0.8,0,8,32,40\n");
  const char *const paths[] = {in(folder, "hour.csv"), folder};
  for (size_t i = 0; i < COUNT(paths); i++) {
    biv_dataset *dataset = NULL;
    double labels[2];
    CHECK_OK(biv_dataset_create_named("bike", paths[i], &dataset));
    CHECK(has_sizes(dataset, 2, 19, 1));
    CHECK_OK(biv_dataset_copy_labels(dataset, F64_OUT(labels, 2)));
    CHECK(labels[0] == 16 && labels[1] == 40);
    biv_dataset_free(dataset);
  }
}

static void synthetic_labels_are_friedmans_function(void) {
  biv_dataset *dataset = NULL;
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 50, \"features\": 6, \"outputs\": 2, \"seed\": 4}", &dataset));
  CHECK(has_sizes(dataset, 50, 6, 2));
  double features[50][6], labels[50][2];
  CHECK_OK(biv_dataset_copy_features(dataset, F64_OUT(features, 50, 6)));
  CHECK_OK(biv_dataset_copy_labels(dataset, F64_OUT(labels, 50, 2)));
  for (int row = 0; row < 50; row++) {
    const double *x = features[row];
    double y = 10 * sin(acos(-1) * x[0] * x[1]) + 20 * pow(x[2] - 0.5, 2) + 10 * x[3] + 5 * x[4];
    CHECK_NEAR(labels[row][0], y, 1e-12);
  }
  biv_dataset_free(dataset);
}

static void noise_changes_the_labels_and_keeps_the_clean_ones(void) {
  enum { ROWS = 1000 };
  biv_dataset *clean = NULL, *noisy = NULL, *again = NULL;
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 1000}", &clean));
  const char *noise = "{\"distribution\": {\"kind\": \"uniform\", \"low\": 1, \"high\": 9}, \"seed\": 5}";
  CHECK_OK(biv_dataset_add_noise(clean, noise, &noisy));
  CHECK_OK(biv_dataset_add_noise(clean, noise, &again));
  static double before[ROWS], after[ROWS], kept[ROWS], variances[ROWS], repeated[ROWS];
  CHECK_OK(biv_dataset_copy_labels(clean, F64_OUT(before, ROWS)));
  CHECK_OK(biv_dataset_copy_labels(noisy, F64_OUT(after, ROWS)));
  CHECK_OK(biv_dataset_copy_labels(again, F64_OUT(repeated, ROWS)));
  CHECK_OK(biv_dataset_copy_clean_labels(noisy, F64_OUT(kept, ROWS)));
  CHECK_OK(biv_dataset_copy_variances(noisy, F64_OUT(variances, ROWS)));
  CHECK(memcmp(before, kept, sizeof before) == 0);
  CHECK(memcmp(after, repeated, sizeof after) == 0);
  CHECK_OK(biv_dataset_copy_clean_labels(clean, F64_OUT(kept, ROWS)));
  CHECK(memcmp(before, kept, sizeof before) == 0);
  int changed = 0, in_range = 0;
  double square = 0;
  for (int row = 0; row < ROWS; row++) {
    changed += after[row] != before[row];
    in_range += variances[row] >= 1 && variances[row] < 9;
    square += pow(after[row] - before[row], 2) / variances[row] / ROWS;
  }
  CHECK(changed == ROWS && in_range == ROWS);
  /* Noise divided by its own deviation has variance 1; with 1000 draws, 0.8 to 1.2 is over four deviations. */
  CHECK(square > 0.8 && square < 1.2);
  biv_dataset_info info = SIZED(biv_dataset_info);
  CHECK_OK(biv_dataset_get_info(noisy, &info));
  CHECK(info.has_variances == 1 && info.has_clean_labels == 1);
  CHECK_OK(biv_dataset_get_info(clean, &info));
  CHECK(info.has_variances == 0 && info.has_clean_labels == 0);
  biv_dataset_free(clean);
  biv_dataset_free(noisy);
  biv_dataset_free(again);
}

/* Ten rows whose label, feature and variance are the row's number. */
static biv_dataset *numbered(void) {
  const double numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  biv_dataset *dataset = NULL;
  CHECK_OK(biv_dataset_create_from_arrays(F64(numbers, 10), F64(numbers, 10), F64(numbers, 10), &dataset));
  return dataset;
}

/* The rows that a part of numbered() holds, checked to be whole rows. */
static void rows_of(const biv_dataset *dataset, double *rows, int64_t count) {
  double features[10], variances[10];
  CHECK(has_sizes(dataset, count, 1, 1));
  CHECK_OK(biv_dataset_copy_labels(dataset, F64_OUT(rows, count)));
  CHECK_OK(biv_dataset_copy_features(dataset, F64_OUT(features, count, 1)));
  CHECK_OK(biv_dataset_copy_variances(dataset, F64_OUT(variances, count)));
  CHECK(memcmp(rows, features, (size_t)count * sizeof(double)) == 0);
  CHECK(memcmp(rows, variances, (size_t)count * sizeof(double)) == 0);
}

static void splits_are_disjoint_and_their_seed_decides(void) {
  biv_dataset *all = numbered(), *train = NULL, *test = NULL;
  double rows[3][10];
  const char *const options[] = {"{\"train_size\": 7, \"seed\": 1}", "{\"train_size\": 7, \"seed\": 1}",
                                 "{\"train_size\": 7, \"seed\": 2}"};
  for (int i = 0; i < 3; i++) {
    CHECK_OK(biv_dataset_split(all, options[i], &train, &test));
    rows_of(train, rows[i], 7);
    rows_of(test, rows[i] + 7, 3);
    bool seen[10] = {false};
    for (int row = 0; row < 10; row++) seen[(int)rows[i][row]] = true;
    for (int row = 0; row < 10; row++) CHECK(seen[row]);
    biv_dataset_free(train);
    biv_dataset_free(test);
  }
  CHECK(memcmp(rows[0], rows[1], sizeof rows[0]) == 0);
  CHECK(memcmp(rows[0], rows[2], sizeof rows[0]) != 0);
  /* Without a shuffle: the first rows and the last. */
  CHECK_OK(biv_dataset_split(all, "{\"train_size\": 2, \"test_size\": 3, \"shuffle\": false}", &train, &test));
  rows_of(train, rows[0], 2);
  rows_of(test, rows[1], 3);
  CHECK(rows[0][0] == 0 && rows[0][1] == 1);
  CHECK(rows[1][0] == 7 && rows[1][1] == 8 && rows[1][2] == 9);
  biv_dataset_free(train);
  biv_dataset_free(test);
  biv_dataset_free(all);
}

static void subsets_and_shuffles_keep_rows_whole(void) {
  biv_dataset *all = numbered(), *part = NULL;
  double rows[3][10];
  CHECK_OK(biv_dataset_subset(all, (int64_t[]){9, 0, 9, 4}, 4, &part));
  rows_of(part, rows[0], 4);
  CHECK(memcmp(rows[0], (double[]){9, 0, 9, 4}, 4 * sizeof(double)) == 0);
  biv_dataset_free(part);
  const uint64_t seeds[] = {7, 7, UINT64_MAX};
  for (int i = 0; i < 3; i++) {
    CHECK_OK(biv_dataset_shuffle(all, seeds[i], &part));
    rows_of(part, rows[i], 10);
    biv_dataset_free(part);
  }
  CHECK(memcmp(rows[0], rows[1], sizeof rows[0]) == 0);
  CHECK(memcmp(rows[0], rows[2], sizeof rows[0]) != 0);
  biv_dataset_free(all);
}

static void data_grow_while_a_trainer_goes_on(void) {
  biv_dataset *all = noisy_dataset(60, 1), *data = NULL, *row = NULL, *grown = NULL, *window = NULL, *certain = NULL;
  double labels[60], grown_labels[60], last[3], noise[60];
  int64_t numbers[60];
  for (int i = 0; i < 60; i++) {
    numbers[i] = i;
    noise[i] = 3;
  }
  CHECK_OK(biv_dataset_copy_labels(all, F64_OUT(labels, 60)));
  CHECK_OK(biv_dataset_subset(all, numbers, 40, &data));
  biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 10}"),
              *same = small_trainer(data, "{\"batch_size\": 10}");
  biv_step step = SIZED(biv_step), other = SIZED(biv_step);
  for (int i = 0; i < 6; i++) {
    CHECK_OK(biv_trainer_step(trainer, &step));
    CHECK_OK(biv_trainer_step(same, &other));
    CHECK_OK(biv_trainer_set_data(same, data));
    CHECK(step.loss == other.loss);
  }
  /* The data set that came before each of these may be freed. */
  for (int i = 40; i < 60; i++) {
    CHECK_OK(biv_dataset_subset(all, &numbers[i], 1, &row));
    CHECK_OK(biv_dataset_append(data, row, &grown));
    biv_dataset_free(row);
    biv_dataset_free(data);
    data = grown;
  }
  CHECK_OK(biv_dataset_copy_labels(data, F64_OUT(grown_labels, 60)));
  CHECK(memcmp(labels, grown_labels, sizeof labels) == 0);
  CHECK_OK(biv_trainer_set_data(trainer, data));
  biv_progress progress = SIZED(biv_progress);
  CHECK_OK(biv_trainer_get_progress(trainer, &progress));
  CHECK(progress.steps == 6 && progress.epoch == 1 && progress.batch == 2);
  CHECK_OK(biv_trainer_step(trainer, &step));

  CHECK_OK(biv_dataset_latest(data, 3, &window));
  CHECK_OK(biv_dataset_copy_labels(window, F64_OUT(last, 3)));
  CHECK(memcmp(last, labels + 57, sizeof last) == 0);
  CHECK_OK(biv_dataset_with_variances(data, F64(noise, 60), "{\"standard_deviations\": true}", &certain));
  CHECK_OK(biv_dataset_copy_variances(certain, F64_OUT(noise, 60)));
  CHECK(noise[0] == 9 && noise[59] == 9);
  grown = window;
  CHECK_STATUS(biv_dataset_latest(data, 0, &grown), BIV_ERROR_INVALID_ARGUMENT, "at least one row");
  CHECK(grown == NULL);
  CHECK_STATUS(biv_dataset_with_variances(data, F64(noise, 3), NULL, &grown), BIV_ERROR_SHAPE, "have 3 rows");
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 3, \"features\": 6}", &row));
  CHECK_STATUS(biv_dataset_append(data, row, &grown), BIV_ERROR_SHAPE, "cannot be appended");
  CHECK_STATUS(biv_trainer_set_data(trainer, row), BIV_ERROR_SHAPE, "6 features");
  CHECK_OK(biv_trainer_step(trainer, &step));
  biv_dataset_free(row);
  biv_dataset_free(certain);
  biv_dataset_free(window);
  biv_dataset_free(data);
  biv_dataset_free(all);
  biv_trainer_free(trainer);
  biv_trainer_free(same);
}

static void infinite_and_missing_labels_are_masked(void) {
  const float features[] = {1, 2, 3};
  const double labels[] = {1, NAN, 3}, complete[] = {1, 2, 3}, deviations[] = {2, 1, INFINITY}, numbers[] = {7, 7, 8};
  const char *options = "{\"standard_deviations\": true, \"missing_labels\": \"mask\"}";
  biv_dataset *dataset = NULL;
  CHECK_OK(
      biv_dataset_create(F32(features, 3), F64(labels, 3), F64(deviations, 3), F64(numbers, 3), options, &dataset));
  biv_dataset_info info = SIZED(biv_dataset_info);
  CHECK_OK(biv_dataset_get_info(dataset, &info));
  CHECK(info.rows == 3 && info.masked_labels == 2 && info.has_variances == 1);
  double noise[3], copy[3];
  CHECK_OK(biv_dataset_copy_variances(dataset, F64_OUT(noise, 3)));
  CHECK(noise[0] == 4 && isinf(noise[1]) && isinf(noise[2]));
  CHECK_OK(biv_dataset_copy_labels(dataset, F64_OUT(copy, 3)));
  CHECK(copy[0] == 1 && isnan(copy[1]) && copy[2] == 3);
  biv_dataset_free(dataset);
  /* The defaults: variances, and NaN is an error that names the row. */
  CHECK_OK(biv_dataset_create(F32(features, 3), F64(complete, 3), F64(deviations, 3), NULL, NULL, &dataset));
  CHECK_OK(biv_dataset_get_info(dataset, &info));
  CHECK(info.masked_labels == 1);
  CHECK_OK(biv_dataset_copy_variances(dataset, F64_OUT(noise, 3)));
  CHECK(noise[0] == 2 && noise[1] == 1 && isinf(noise[2]));
  biv_dataset_free(dataset);
  CHECK_STATUS(biv_dataset_create(F32(features, 3), F64(labels, 3), NULL, NULL, NULL, &dataset),
               BIV_ERROR_INVALID_ARGUMENT, "row 1");
  CHECK_STATUS(biv_dataset_create(F32(features, 3), F64(complete, 3), NULL, F64(labels, 3), NULL, &dataset),
               BIV_ERROR_INVALID_ARGUMENT, "row 1: the group is NaN");
  CHECK_STATUS(biv_dataset_create(F32(features, 3), F64(complete, 3), NULL, F64(labels, 2), NULL, &dataset),
               BIV_ERROR_SHAPE, "groups have shape [2], expected [3]");
  CHECK(dataset == NULL);
}

/* Rows without labels train and count as if they were not there. */
static void masked_rows_are_as_rows_that_are_not_there(void) {
  enum { KEPT = 96, ALL = 128 };
  biv_dataset *data = noisy_dataset(ALL, 3);
  static double features[ALL][5], given[ALL], noise[ALL], guess[2][ALL];
  CHECK_OK(biv_dataset_copy_features(data, F64_OUT(features, ALL, 5)));
  CHECK_OK(biv_dataset_copy_labels(data, F64_OUT(given, ALL)));
  CHECK_OK(biv_dataset_copy_variances(data, F64_OUT(noise, ALL)));
  biv_dataset *masked = NULL, *without = NULL;
  CHECK_OK(biv_dataset_create(F64(features, KEPT, 5), F64(given, KEPT), F64(noise, KEPT), NULL, NULL, &without));
  for (int row = KEPT; row < ALL; row++) given[row] = NAN;
  CHECK_OK(biv_dataset_create(F64(features, ALL, 5), F64(given, ALL), F64(noise, ALL), NULL,
                              "{\"missing_labels\": \"mask\"}", &masked));
  const biv_dataset *both[] = {masked, without};
  for (int which = 0; which < 2; which++) {
    biv_trainer *trainer = small_trainer(both[which], "{\"batch_size\": 32, \"learning_rate\": 0.01}");
    CHECK_OK(biv_trainer_fit(trainer, 5, NULL, NULL, NULL));
    CHECK_OK(biv_trainer_predict(trainer, F64(features, ALL, 5), F64_OUT(guess[which], ALL)));
    biv_metrics metrics = SIZED(biv_metrics), expected = SIZED(biv_metrics);
    CHECK_OK(biv_trainer_evaluate(trainer, masked, &metrics));
    CHECK_OK(biv_trainer_evaluate(trainer, without, &expected));
    CHECK_NEAR(metrics.mse, expected.mse, 1e-12);
    biv_trainer_free(trainer);
  }
  CHECK(memcmp(guess[0], guess[1], sizeof guess[0]) == 0);
  for (int which = 0; which < 2; which++) {
    biv_model *model = NULL;
    CHECK_OK(
        biv_fit(NULL, both[which], "{\"members\": 2, \"epochs\": 3, \"batch_size\": 32}", NULL, NULL, &model, NULL));
    CHECK_OK(biv_model_predict(model, F64(features, ALL, 5), F64_OUT(guess[which], ALL)));
    biv_model_free(model);
  }
  CHECK(memcmp(guess[0], guess[1], sizeof guess[0]) == 0);
  biv_dataset_free(data);
  biv_dataset_free(masked);
  biv_dataset_free(without);
}

static void noise_samples_are_in_range_and_repeat(void) {
  const char *uniform = "{\"kind\": \"uniform\", \"mean\": 2, \"variance\": 1.3333333333333333}";
  double first[500], second[500], other[500];
  CHECK_OK(biv_noise_sample(uniform, 8, first, 500));
  CHECK_OK(biv_noise_sample(uniform, 8, second, 500));
  CHECK_OK(biv_noise_sample(uniform, 9, other, 500));
  CHECK(memcmp(first, second, sizeof first) == 0);
  CHECK(memcmp(first, other, sizeof first) != 0);
  /* mean -+ sqrt(3 V): 0 to 4. */
  int in_range = 0;
  for (int i = 0; i < 500; i++) in_range += first[i] >= -1e-12 && first[i] <= 4 + 1e-12;
  CHECK(in_range == 500);
  CHECK_OK(
      biv_noise_sample("{\"kind\": \"binary_uniform\", \"components\": [{\"weight\": 0.5, \"low\": 0, \"high\": 0.1}, "
                       "{\"low\": 4, \"high\": 6}]}",
                       1, first, 500));
  int low = 0, high = 0;
  for (int i = 0; i < 500; i++) low += first[i] >= 0 && first[i] <= 0.1, high += first[i] >= 4 && first[i] <= 6;
  /* Half of them each; 200 of 500 is over four deviations away. */
  CHECK(low + high == 500 && low > 200 && high > 200);
  double mean = 0;
  CHECK_OK(biv_noise_sample("{\"kind\": \"gamma\", \"alpha\": 2, \"beta\": 0.5}", 1, first, 500));
  for (int i = 0; i < 500; i++) mean += first[i] / 500;
  /* alpha / beta = 4, deviation of the mean sqrt(2) / 0.5 / sqrt(500) = 0.13. */
  CHECK(mean > 3.4 && mean < 4.6);
  CHECK_OK(biv_noise_sample(uniform, 8, NULL, 0));
}

/* Losses: errors 1, 2, 3 and, with epsilon 0.1, weights 2, 1, 1/2. */

static const double predictions[] = {1, 2, 4}, labels[] = {0, 0, 1}, variances[] = {0.4, 0.9, 1.9};

static biv_loss_result loss_of(const char *loss, const biv_array_out *gradient) {
  biv_loss_result result = SIZED(biv_loss_result);
  CHECK_OK(biv_loss_compute(loss, F64(predictions, 3), F64(labels, 3), F64(variances, 3), &result, gradient));
  return result;
}

static void losses_match_their_formulas(void) {
  static const struct {
    const char *loss;
    double value, effective, epsilon, gradient[3];
    int64_t used;
  } expected[] = {
      {"{\"kind\": \"mse\"}", 14.0 / 3, 3, 0, {2.0 / 3, 4.0 / 3, 2}, 3},
      {"{\"kind\": \"cutoff_mse\", \"threshold\": 1}", 2.5, 2, 0, {1, 2, 0}, 2},
      {"{\"kind\": \"iv\", \"epsilon\": 0.1}", 3.5, 12.25 / 5.25, 0.1, {4.0 / 3, 4.0 / 3, 1}, 3},
      {"{\"kind\": \"biv\", \"epsilon\": 0.1}", 3, 12.25 / 5.25, 0.1, {4 / 3.5, 4 / 3.5, 3 / 3.5}, 3},
      {NULL, 3, 12.25 / 5.25, 0.1, {4 / 3.5, 4 / 3.5, 3 / 3.5}, 3},
  };
  for (size_t i = 0; i < COUNT(expected); i++) {
    double gradient[3] = {0};
    biv_loss_result result = loss_of(expected[i].loss, F64_OUT(gradient, 3));
    CHECK_NEAR(result.value, expected[i].value, 1e-12);
    CHECK_NEAR(result.effective_batch_size, expected[i].effective, 1e-12);
    CHECK(result.epsilon == expected[i].epsilon);
    CHECK(result.samples_used == expected[i].used);
    for (int row = 0; row < 3; row++) CHECK_NEAR(gradient[row], expected[i].gradient[row], 1e-12);
    CHECK(loss_of(expected[i].loss, NULL).value == result.value);
  }
}

static void a_minimum_effective_batch_chooses_epsilon(void) {
  /* Three of three rows: only equal weights do, which is the MSE. */
  biv_loss_result all = loss_of("{\"kind\": \"biv\", \"epsilon\": {\"min_effective_batch_size\": 3}}", NULL);
  CHECK_NEAR(all.value, 14.0 / 3, 1e-12);
  CHECK(all.effective_batch_size == 3 && isinf(all.epsilon));
  /* The smallest epsilon that does: the batch is just as large as asked for. */
  biv_loss_result some = loss_of("{\"kind\": \"biv\", \"epsilon\": {\"min_effective_batch_size\": 2.5}}", NULL);
  CHECK(some.effective_batch_size >= 2.5 && some.epsilon > 0 && isfinite(some.epsilon));
  CHECK_NEAR(some.effective_batch_size, 2.5, 1e-9);
  /* Half the batch is there without any epsilon. */
  biv_loss_result half = loss_of("{\"kind\": \"biv\", \"epsilon\": {\"min_effective_batch_ratio\": 0.5}}", NULL);
  CHECK(half.epsilon == 0 && half.effective_batch_size > 1.5);
}

static void equal_variances_use_the_whole_batch(void) {
  biv_loss_result result = SIZED(biv_loss_result);
  const double equal[] = {0.7, 0.7, 0.7};
  CHECK_OK(biv_loss_compute(NULL, F64(predictions, 3), F64(labels, 3), F64(equal, 3), &result, NULL));
  CHECK(result.effective_batch_size == 3);
  CHECK_NEAR(result.value, 14.0 / 3, 1e-12);
}

/* Two outputs: the mean of both; f32 and column-major arrays all the same. */
static void losses_average_over_the_outputs(void) {
  const float columns[] = {1, 2, 4, 2, 3, 3}, truth[] = {0, 0, 1, 0, 0, 0}, noise[] = {0.4f, 0.9f, 1.9f, 1, 1, 1};
#define COLUMNS(values) (&(biv_array){values, BIV_F32, 2, SIZES(3, 2), SIZES(1, 3), 6})
  double gradient[6];
  biv_loss_result result = SIZED(biv_loss_result);
  CHECK_OK(biv_loss_compute(NULL, COLUMNS(columns), COLUMNS(truth), COLUMNS(noise), &result,
                            &(biv_array_out){gradient, BIV_F64, 2, SIZES(3, 2), SIZES(1, 3), 6}));
  CHECK_NEAR(result.value, (3 + 22.0 / 3) / 2, 1e-6);
  CHECK_NEAR(result.effective_batch_size, (12.25 / 5.25 + 3) / 2, 1e-6);
  CHECK_NEAR(gradient[0], 4 / 3.5 / 2, 1e-6);
  CHECK_NEAR(gradient[3], 2.0 * 2 / 3 / 2, 1e-6);
#undef COLUMNS
}

/* A label of infinite variance is as one that is not there. */
static void losses_leave_masked_labels_out(void) {
  static const char *const kinds[] = {"mse", "cutoff_mse", "iv", "biv"};
  const double more_predictions[] = {1, 2, 4, 1e6}, more_labels[] = {0, 0, 1, 0},
               more_variances[] = {0.4, 0.9, 1.9, INFINITY};
  for (size_t i = 0; i < COUNT(kinds); i++) {
    char loss[40];
    snprintf(loss, sizeof loss, "{\"kind\": \"%s\"}", kinds[i]);
    double gradient[4], expected[3];
    biv_loss_result result = SIZED(biv_loss_result), without = loss_of(loss, F64_OUT(expected, 3));
    CHECK_OK(biv_loss_compute(loss, F64(more_predictions, 4), F64(more_labels, 4), F64(more_variances, 4), &result,
                              F64_OUT(gradient, 4)));
    CHECK(result.value == without.value && result.samples_used == without.samples_used);
    CHECK(memcmp(gradient, expected, sizeof expected) == 0 && gradient[3] == 0);
  }
}

/* Each row's prediction and the logarithm of its variance, beside the value and the slope that the formula has. */
static void likelihoods_match_their_formula_and_its_slope(void) {
  const double guess[3][2] = {{1, 0.2}, {2, -1}, {4, 1.5}};
  double value = 0, gradient[6], found[2];
  for (int row = 0; row < 3; row++) {
    double total = variances[row] + exp(guess[row][1]);
    value += (log(total) + pow(guess[row][0] - labels[row], 2) / total) / 2 / 3;
  }
  biv_loss_result result = SIZED(biv_loss_result);
  const char *gaussian = "{\"kind\": \"gaussian\"}", *flat = "{\"kind\": \"beta_nll\", \"beta\": 1}";
  CHECK_OK(biv_loss_compute(gaussian, F64(guess, 3, 2), F64(labels, 3), F64(variances, 3), &result,
                            F64_OUT(gradient, 3, 2)));
  CHECK_NEAR(result.value, value, 1e-12);
  CHECK(result.epsilon == 0 && result.samples_used == 3);
  for (int at = 0; at < 6; at++) {
    for (int side = 0; side < 2; side++) {
      double moved[6];
      memcpy(moved, guess, sizeof moved);
      moved[at] += side == 0 ? -1e-5 : 1e-5;
      CHECK_OK(biv_loss_compute(gaussian, F64(moved, 3, 2), F64(labels, 3, 1), F64(variances, 3, 1), &result, NULL));
      found[side] = result.value;
    }
    CHECK_NEAR(gradient[at], (found[1] - found[0]) / 2e-5, 1e-8);
  }
  /* With beta 1 the variance leaves the slope of the prediction: (2 e / s / 2) s / K. */
  CHECK_OK(
      biv_loss_compute(flat, F64(guess, 3, 2), F64(labels, 3), F64(variances, 3), &result, F64_OUT(gradient, 3, 2)));
  for (int row = 0; row < 3; row++) CHECK_NEAR(gradient[2 * row], (guess[row][0] - labels[row]) / 3, 1e-12);
  /* Without variances the network's own is all. */
  CHECK_OK(biv_loss_compute(gaussian, F64(guess, 3, 2), F64(labels, 3), NULL, &result, NULL));
  CHECK_NEAR(result.value, ((0.2 + exp(-0.2)) + (-1 + 4 * exp(1)) + (1.5 + 9 * exp(-1.5))) / 6, 1e-12);
  CHECK_STATUS(biv_loss_compute(gaussian, F64(guess, 2, 3), F64(labels, 2), NULL, &result, NULL), BIV_ERROR_SHAPE,
               "predictions");
  CHECK_STATUS(biv_loss_compute(gaussian, F64(predictions, 3), F64(labels, 3), NULL, &result, NULL), BIV_ERROR_SHAPE,
               "expected [rows, 2 outputs]");
  CHECK_STATUS(biv_loss_compute("{\"kind\": \"biv\", \"epsilon\": \"auto\"}", F64(predictions, 3), F64(labels, 3),
                                F64(variances, 3), &result, NULL),
               BIV_ERROR_INVALID_CONFIG, "is found in training");
}

/* The variance model. */

enum { RESIDUALS = 4000 };

/* Numbers in (0, 1). */
static double uniform(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return ((double)(state >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void) { return sqrt(-2 * log(uniform())) * cos(2 * acos(-1) * uniform()); }

/* Residuals of variance v + 0.25, where v is exponential with mean 1. */
static void residuals_tell_how_far_variances_hold(void) {
  static double noise[RESIDUALS], wider[RESIDUALS], residuals[2 * RESIDUALS];
  double square = 0;
  for (int row = 0; row < RESIDUALS; row++) {
    noise[row] = -log(uniform());
    wider[row] = 100 * noise[row];
    residuals[2 * row] = sqrt(noise[row] + 0.25) * normal();
  }
  /* Every other element of an array: strides. */
  const biv_array every_other = {residuals, BIV_F64, 1, SIZES(RESIDUALS), SIZES(2), 2 * RESIDUALS};
  biv_variance_model found = SIZED(biv_variance_model), scaled_up = SIZED(biv_variance_model);
  CHECK_OK(biv_variance_model_fit(&every_other, F64(noise, RESIDUALS), &found));
  CHECK(found.verdict == BIV_VERDICT_PROFILE && found.rows == RESIDUALS && found.warning == NULL);
  CHECK(found.epsilon > 0.1 && found.epsilon < 1 && found.scale > 0.7 && found.scale <= 1);
  CHECK_NEAR(found.tau2, found.scale * found.epsilon, 1e-12);
  CHECK(found.epsilon >= found.tau2_pm && found.epsilon >= found.epsilon_best && found.gain > 2 * found.gain_se);
  for (int row = 0; row < RESIDUALS; row++)
    square += pow(residuals[2 * row], 2) / (found.scale * noise[row] + found.tau2) / RESIDUALS;
  CHECK_NEAR(found.mean_z2, square, 1e-9);
  CHECK_NEAR(square, 1, 0.1);
  /* The unit of the variances only changes how much of them there is. */
  CHECK_OK(biv_variance_model_fit(&every_other, F64(wider, RESIDUALS), &scaled_up));
  CHECK(scaled_up.verdict == BIV_VERDICT_PROFILE);
  CHECK_NEAR(scaled_up.epsilon / (100 * found.epsilon), 1, 1e-9);
  CHECK_NEAR(100 * scaled_up.scale / found.scale, 1, 1e-9);
  CHECK_NEAR(scaled_up.tau2 / found.tau2, 1, 1e-9);
  CHECK(scaled_up.warning != NULL && strstr(scaled_up.warning, "overstated") != NULL);
  /* An infinite variance counts nothing. */
  noise[0] = INFINITY;
  CHECK_OK(biv_variance_model_fit(&every_other, F64(noise, RESIDUALS), &found));
  CHECK(found.rows == RESIDUALS - 1);
  /* What can be said of few rows, equal variances and no residuals, and of noise that has nothing to do with them. */
  const double ones[40] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                           1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
               zeros[40] = {0};
  const struct {
    const double *residuals, *variances;
    int64_t rows;
    int32_t verdict;
  } cases[] = {{ones, noise + 1, 29, BIV_VERDICT_TOO_FEW_ROWS},
               {residuals, ones, 40, BIV_VERDICT_EQUAL_VARIANCES},
               {zeros, noise + 1, 40, BIV_VERDICT_ZERO_RESIDUALS},
               {ones, noise + 1, 40, BIV_VERDICT_MSE}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    CHECK_OK(
        biv_variance_model_fit(F64(cases[i].residuals, cases[i].rows), F64(cases[i].variances, cases[i].rows), &found));
    CHECK(found.verdict == cases[i].verdict && isinf(found.epsilon) && found.scale == 0);
  }
}

static void impossible_residuals_name_their_row(void) {
  biv_variance_model found = SIZED(biv_variance_model);
  const double good[] = {1, 2, 3}, missing[] = {1, 2, NAN}, negative[] = {1, -2, 3};
  const biv_status invalid = BIV_ERROR_INVALID_ARGUMENT;
  CHECK_STATUS(biv_variance_model_fit(NULL, F64(good, 3), &found), invalid, "residuals is NULL");
  CHECK_STATUS(biv_variance_model_fit(F64(good, 3), NULL, &found), invalid, "variances is NULL");
  CHECK_STATUS(biv_variance_model_fit(F64(good, 3), F64(good, 3), NULL), invalid, "biv_variance_model is NULL");
  CHECK_STATUS(biv_variance_model_fit(F64(missing, 3), F64(good, 3), &found), invalid, "row 2");
  CHECK_STATUS(biv_variance_model_fit(F64(good, 3), F64(missing, 3), &found), invalid, "row 2: the variance NaN");
  CHECK_STATUS(biv_variance_model_fit(F64(good, 3), F64(negative, 3), &found), invalid, "row 1: the variance -2");
  CHECK_STATUS(biv_variance_model_fit(F64(good, 3), F64(good, 2), &found), BIV_ERROR_SHAPE, "3 residuals and 2");
  CHECK_STATUS(biv_variance_model_fit(F64(good, 3, 1), F64(good, 3), &found), BIV_ERROR_SHAPE, "expected [rows]");
}

/* Models. */

static void models_tell_their_sizes(void) {
  biv_model *model = NULL;
  CHECK_OK(biv_model_create("{\"kind\": \"vanilla_ann\", \"dataset\": \"bike\"}", &model));
  biv_model_info info = SIZED(biv_model_info);
  CHECK_OK(biv_model_get_info(model, &info));
  CHECK(info.inputs == 19 && info.outputs == 1 && info.normalized == 0);
  CHECK(info.parameters == 20 * 100 + 101 * 50 + 51 * 20 + 21 * 10 + 11);
  biv_model_free(model);
}

static void descriptions_ask_for_the_room_they_need(void) {
  biv_model *model = small_model();
  size_t needed = 0;
  CHECK_OK(biv_model_describe(model, NULL, 0, &needed));
  char *text = malloc(needed);
  memset(text, 'x', needed);
  size_t again = 0;
  CHECK_STATUS(biv_model_describe(model, text, needed - 1, &again), BIV_ERROR_BUFFER_TOO_SMALL, "the text needs");
  CHECK(again == needed && text[0] == 'x');
  CHECK_OK(biv_model_describe(model, text, needed, NULL));
  CHECK(strlen(text) + 1 == needed);
  CHECK(strstr(text, "\"0.weight\"") != NULL && strstr(text, "[8,5]") != NULL && strstr(text, "\"cpu\"") != NULL);
  free(text);
  biv_model_free(model);
}

/* y = 2 x0 - 3 x1 + x2 / 2 + 1, in numbers that f32 has exactly. */
static biv_model *linear_model(void) {
  biv_model *model = NULL;
  CHECK_OK(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 3, \"hidden\": []}", &model));
  const double weight[] = {2, -3, 0.5}, bias[] = {1};
  CHECK_OK(biv_model_set_tensor(model, "0.weight", F64(weight, 1, 3)));
  CHECK_OK(biv_model_set_tensor(model, "0.bias", F64(bias, 1)));
  return model;
}

static void a_linear_model_predicts_what_its_tensors_say(void) {
  biv_model *model = linear_model();
  float weight[3], bias[1];
  CHECK_OK(biv_model_get_tensor(model, "0.weight", F32_OUT(weight, 1, 3)));
  CHECK_OK(biv_model_get_tensor(model, "0.bias", F32_OUT(bias, 1)));
  CHECK(weight[0] == 2 && weight[1] == -3 && weight[2] == 0.5f && bias[0] == 1);
  const float features[] = {1, 1, 2, 0, 0, 0, -4, 2, 8};
  double found[3];
  CHECK_OK(biv_model_predict(model, F32(features, 3, 3), F64_OUT(found, 3)));
  CHECK(found[0] == 1 && found[1] == 1 && found[2] == -9);
  /* No rows give no predictions. */
  CHECK_OK(biv_model_predict(model, F32(NULL, 0, 3), F64_OUT(NULL, 0)));
  biv_model_free(model);
}

static void seeds_decide_the_initial_weights(void) {
  biv_model *model = NULL;
  float weights[3][15];
  for (int i = 0; i < 3; i++) {
    char options[96];
    snprintf(options, sizeof options, "{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [3], \"seed\": %d}", i / 2);
    CHECK_OK(biv_model_create(options, &model));
    CHECK_OK(biv_model_get_tensor(model, "0.weight", F32_OUT(weights[i], 3, 5)));
    biv_model_free(model);
  }
  CHECK(memcmp(weights[0], weights[1], sizeof weights[0]) == 0);
  CHECK(memcmp(weights[0], weights[2], sizeof weights[0]) != 0);
}

static void saved_models_predict_the_same(const char *folder) {
  biv_dataset *data = noisy_dataset(64, 1);
  biv_model *model = small_model(), *loaded = NULL;
  biv_trainer *trainer = NULL;
  CHECK_OK(biv_trainer_create(model, data, "{\"batch_size\": 16}", &trainer));
  CHECK_OK(biv_trainer_fit(trainer, 2, NULL, NULL, NULL));
  double features[64][5], before[64], after[64];
  CHECK_OK(biv_dataset_copy_features(data, F64_OUT(features, 64, 5)));
  CHECK_OK(biv_model_predict(model, F64(features, 64, 5), F64_OUT(before, 64, 1)));
  const char *path = in(folder, "model.biv");
  CHECK_OK(biv_model_save(model, path));
  CHECK_OK(biv_model_load(path, &loaded));
  CHECK_OK(biv_model_predict(loaded, F64(features, 64, 5), F64_OUT(after, 64)));
  CHECK(memcmp(before, after, sizeof before) == 0);
  biv_model_info info = SIZED(biv_model_info);
  CHECK_OK(biv_model_get_info(loaded, &info));
  CHECK(info.normalized == 1);
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_model_free(loaded);
  biv_dataset_free(data);
}

static void models_are_exported_to_onnx(const char *folder) {
  biv_model *model = linear_model();
  const char *path = in(folder, "model.onnx"), *other = in(folder, "model.bin");
  CHECK_OK(biv_model_export(model, path, NULL));
  CHECK_OK(biv_model_export(model, other, "{\"format\": \"onnx\"}"));
  size_t size = 0, other_size = 0;
  unsigned char *file = read_file(path, &size), *same = read_file(other, &other_size);
  /* Field 1, the version of the format, is 8. */
  CHECK(size == other_size && memcmp(file, same, size) == 0 && file[0] == 1 << 3 && file[1] == 8);
  free(file);
  free(same);
  CHECK_STATUS(biv_model_export(model, other, NULL), BIV_ERROR_INVALID_ARGUMENT, "in .onnx or .safetensors");
  CHECK_STATUS(biv_model_export(model, other, "{\"format\": \"pt\"}"), BIV_ERROR_INVALID_CONFIG, "export.format");
  CHECK_STATUS(biv_model_export(model, in(folder, "none/model.onnx"), NULL), BIV_ERROR_NOT_FOUND, "none");
  const double zero[] = {0}, one[] = {1}, huge[] = {1e39};
  CHECK_OK(biv_model_set_normalization(model, F64(zero, 1), F64(one, 1), F64(huge, 1), F64(one, 1)));
  CHECK_STATUS(biv_model_export(model, path, NULL), BIV_ERROR_NUMERICAL, "normalization.label_mean is 1e39");
  biv_model_free(model);
}

/* The description of a model, to be freed. */
static char *description_of(const biv_model *model) {
  size_t needed = 0;
  CHECK_OK(biv_model_describe(model, NULL, 0, &needed));
  char *text = malloc(needed);
  CHECK_OK(biv_model_describe(model, text, needed, NULL));
  return text;
}

static bool describes(const biv_model *model, const char *part) {
  char *text = description_of(model);
  bool found = strstr(text, part) != NULL;
  if (!found) printf("%s\n", text);
  free(text);
  return found;
}

static void a_normalization_can_be_given_and_taken_away(const char *folder) {
  biv_model *model = linear_model(), *loaded = NULL;
  const double mean[] = {1, 1, 2}, deviation[] = {2, 0.5, 4}, label_mean[] = {10}, label_deviation[] = {3};
  const double one[] = {2}, zero[] = {0}, negative[] = {1, -1, 1};
  const float features[] = {1, 1, 2, 3, 1, 2};
  double found[2];
  CHECK(describes(model, "\"normalization\":null") && describes(model, "\"error_bars\":null"));
  CHECK_OK(
      biv_model_set_normalization(model, F64(mean, 3), F64(deviation, 3), F64(label_mean, 1), F64(label_deviation, 1)));
  biv_model_info info = SIZED(biv_model_info);
  CHECK_OK(biv_model_get_info(model, &info));
  CHECK(info.normalized == 1);
  /* (x - mean) / std is 0 and (1, 0, 0): the network says 1 and 3, which is 10 + 3 times as much. */
  CHECK_OK(biv_model_predict(model, F32(features, 2, 3), F64_OUT(found, 2)));
  CHECK(found[0] == 13 && found[1] == 19);
  CHECK(describes(model, "\"feature_mean\":[1.0,1.0,2.0]") && describes(model, "\"feature_std\":[2.0,0.5,4.0]"));
  CHECK(describes(model, "\"label_mean\":[10.0]") && describes(model, "\"label_std\":[3.0]"));
  const char *path = in(folder, "normalized.biv");
  CHECK_OK(biv_model_save(model, path));
  CHECK_OK(biv_model_load(path, &loaded));
  CHECK_OK(biv_model_predict(loaded, F32(features, 2, 3), F64_OUT(found, 2)));
  CHECK(found[0] == 13 && found[1] == 19);
  /* One number for all features. */
  CHECK_OK(biv_model_set_normalization(model, F64(one, 1), F64(one, 1), F64(label_mean, 1), F64(label_deviation, 1)));
  CHECK_OK(biv_model_predict(model, F32(features, 1, 3), F64_OUT(found, 1)));
  CHECK(found[0] == 10 + 3 * (1 - 1 + 1.5));
  /* What is no normalisation changes nothing. */
  CHECK_STATUS(biv_model_set_normalization(model, F64(mean, 3), F64(negative, 3), F64(one, 1), F64(one, 1)),
               BIV_ERROR_INVALID_ARGUMENT, "");
  CHECK_STATUS(biv_model_set_normalization(model, F64(mean, 3), F64(deviation, 3), F64(one, 1), F64(zero, 1)),
               BIV_ERROR_INVALID_ARGUMENT, "");
  CHECK_STATUS(biv_model_set_normalization(model, F64(mean, 2), F64(deviation, 2), F64(one, 1), F64(one, 1)),
               BIV_ERROR_SHAPE, "");
  CHECK_STATUS(biv_model_set_normalization(model, F64(mean, 3), F64(deviation, 3), F64(one, 1), F64(mean, 2)),
               BIV_ERROR_SHAPE, "");
  CHECK_OK(biv_model_predict(model, F32(features, 1, 3), F64_OUT(found + 1, 1)));
  CHECK(found[0] == found[1]);
  CHECK_OK(biv_model_reset_normalization(model));
  CHECK_OK(biv_model_predict(model, F32(features, 1, 3), F64_OUT(found, 1)));
  CHECK(found[0] == 1 && describes(model, "\"normalization\":null"));
  biv_model_free(model);
  biv_model_free(loaded);
}

/* A trainer keeps a normalisation that was given, and fits one where there is none. */
static void trainers_keep_a_given_normalization(void) {
  const double one[] = {2};
  biv_dataset *data = noisy_dataset(64, 1);
  biv_model *model = small_model();
  biv_trainer *trainer = NULL;
  for (int given = 1; given >= 0; given--) {
    if (given) CHECK_OK(biv_model_set_normalization(model, F64(one, 1), F64(one, 1), F64(one, 1), F64(one, 1)));
    if (!given) CHECK_OK(biv_model_reset_normalization(model));
    CHECK_OK(biv_trainer_create(model, data, "{\"batch_size\": 16}", &trainer));
    CHECK_OK(biv_trainer_step(trainer, NULL));
    char *text = description_of(model);
    CHECK((strstr(text, "\"label_mean\":[2.0]") != NULL) == given && strstr(text, "\"label_mean\"") != NULL);
    free(text);
    biv_trainer_free(trainer);
  }
  biv_model_free(model);
  biv_dataset_free(data);
}

/* A network that predicts its variance learns it: the labels' noise has the variance 4 and says nothing of it. */
static void networks_may_predict_their_variance(const char *folder) {
  enum { MANY = 1000 };
  static double features[MANY][5], guess[MANY], own[MANY], again[MANY], own_again[MANY];
  biv_dataset *clean = NULL, *noisy = NULL, *data = NULL;
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 1000, \"features\": 5}", &clean));
  CHECK_OK(
      biv_dataset_add_noise(clean, "{\"distribution\": {\"kind\": \"uniform\", \"low\": 3.9, \"high\": 4.1}}", &noisy));
  CHECK_OK(biv_dataset_copy_features(noisy, F64_OUT(features, MANY, 5)));
  CHECK_OK(biv_dataset_copy_labels(noisy, F64_OUT(guess, MANY)));
  CHECK_OK(biv_dataset_create_from_arrays(F64(features, MANY, 5), F64(guess, MANY), NULL, &data));
  static const char *const losses[] = {"gaussian", "beta_nll"};
  for (size_t i = 0; i < COUNT(losses); i++) {
    biv_model *model = NULL, *loaded = NULL;
    biv_trainer *trainer = NULL;
    char options[120];
    snprintf(options, sizeof options, "{\"loss\": {\"kind\": \"%s\"}, \"batch_size\": 100, \"learning_rate\": 0.01}",
             losses[i]);
    CHECK_OK(
        biv_model_create("{\"kind\": \"mean_variance\", \"network\": {\"kind\": \"mlp\", \"inputs\": 5, "
                         "\"hidden\": [16], \"seed\": 1}}",
                         &model));
    biv_model_info info = SIZED(biv_model_info);
    CHECK_OK(biv_model_get_info(model, &info));
    CHECK(info.outputs == 1 && info.parameters == 5 * 16 + 16 + 2 * 16 + 2);
    CHECK_OK(biv_trainer_create(model, data, options, &trainer));
    CHECK_OK(biv_trainer_fit(trainer, scaled(60, 5), NULL, NULL, NULL));
    CHECK_OK(biv_model_predict_with_variance(model, F64(features, MANY, 5), F64_OUT(guess, MANY), F64_OUT(own, MANY)));
    CHECK_OK(biv_model_predict(model, F64(features, MANY, 5), F64_OUT(again, MANY)));
    CHECK(memcmp(guess, again, sizeof guess) == 0);
    double mean = 0, least = own[0];
    for (int row = 0; row < MANY; row++) mean += own[row] / MANY, least = fmin(least, own[row]);
    CHECK(least > 0 && mean > 2.5 && mean < scaled(8, 40));
    biv_metrics metrics = SIZED(biv_metrics);
    CHECK_OK(biv_model_evaluate(model, data, &metrics));
    CHECK(metrics.mean_z2 > 0.7 && metrics.mean_z2 < 1.4 && isnan(metrics.expected_rmse));
    const char *path = in(folder, "own.biv");
    CHECK_OK(biv_model_save(model, path));
    CHECK_OK(biv_model_load(path, &loaded));
    CHECK_OK(biv_model_predict_with_variance(loaded, F64(features, MANY, 5), F64_OUT(again, MANY),
                                             F64_OUT(own_again, MANY)));
    CHECK(memcmp(guess, again, sizeof guess) == 0 && memcmp(own, own_again, sizeof own) == 0);
    biv_model_free(loaded);
    biv_model_free(model);
    biv_trainer_free(trainer);
  }
  biv_dataset_free(clean);
  biv_dataset_free(noisy);
  biv_dataset_free(data);
}

/* Fits: binary noise, which half of the labels have and half have hardly. */

enum { TRAINED = 600, TESTED = 300 };
static const char small_fit[] = "{\"members\": 2, \"epochs\": 4, \"batch_size\": 64, \"seed\": 5}";
static const char small_network[] = "{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [16], \"seed\": 1}";

static biv_dataset *binary_noise(int rows, int seed) {
  return dataset_with_noise(rows, seed,
                            "{\"distribution\": {\"kind\": \"binary_uniform\", \"components\": [{\"weight\": 0.5, "
                            "\"low\": 0, \"high\": 0.1}, "
                            "{\"low\": 100, \"high\": 200}]}, \"seed\": 2}");
}

/* What a callback of biv_fit() saw, and when it is to stop. */
typedef struct {
  int64_t calls, stop_after, steps;
} fit_visitor;

static int32_t watch_fit(void *user, const biv_fit_progress *progress) {
  fit_visitor *seen = user;
  seen->calls += 1;
  CHECK(progress->struct_size == sizeof *progress && progress->is_final == 0);
  CHECK(progress->epoch >= 0 && progress->epoch <= progress->epochs && progress->epochs >= 4);
  CHECK(progress->steps >= seen->steps && progress->steps <= progress->total_steps);
  CHECK(isnan(progress->held_out_loss) == (progress->epoch == 0) && !(progress->epsilon < 0));
  seen->steps = progress->steps;
  /* It may use the library. */
  double variance;
  CHECK_OK(biv_noise_sample("{\"kind\": \"gamma\", \"alpha\": 2, \"beta\": 0.5}", 1, &variance, 1));
  return seen->calls == seen->stop_after;
}

/* The root mean square error on clean labels. */
static double error_of(const biv_dataset *data, const char *options, const biv_dataset *clean) {
  biv_model *model = NULL;
  biv_metrics metrics = SIZED(biv_metrics);
  CHECK_OK(biv_fit(NULL, data, options, NULL, NULL, &model, NULL));
  CHECK_OK(biv_model_evaluate(model, clean, &metrics));
  biv_model_free(model);
  return metrics.rmse;
}

static void fits_use_the_variances(void) {
  biv_dataset *data = binary_noise(TRAINED, 1), *clean = NULL;
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 300, \"features\": 5, \"seed\": 8}", &clean));
  /* Too long for valgrind, and fewer epochs would not show it. */
  const char *by_variance = "{\"members\": 2, \"epochs\": 60, \"batch_size\": 64, \"learning_rate\": 0.003}",
             *alike =
                 "{\"members\": 2, \"epochs\": 60, \"batch_size\": 64, \"learning_rate\": 0.003, "
                 "\"loss\": {\"kind\": \"mse\"}}";
  if (scaled(1, 0)) {
    double better = error_of(data, by_variance, clean), worse = error_of(data, alike, clean);
    CHECK(better < 0.9 * worse);
    /* One network, trained again on all rows. */
    CHECK(error_of(data, "{\"members\": 1, \"epochs\": 60, \"batch_size\": 64, \"learning_rate\": 0.003}", clean) <
          worse);
  }
  biv_dataset_free(data);
  biv_dataset_free(clean);
}

static void fits_report_and_keep_their_error_bars(const char *folder) {
  biv_dataset *data = binary_noise(TRAINED, 1), *test = binary_noise(TESTED, 8);
  biv_model *model = NULL, *loaded = NULL;
  biv_text *report = NULL;
  fit_visitor seen = {0};
  CHECK_OK(biv_fit(small_network, data, small_fit, watch_fit, &seen, &model, &report));
  CHECK(seen.calls >= 4 && seen.steps > 0);
  const char *text = NULL;
  CHECK_OK(biv_text_get(report, &text));
  CHECK(text[0] == '{' && strstr(text, "\"variance_model\":{\"epsilon\":") != NULL);
  CHECK(strstr(text, "\"coverage_68\":") != NULL && strstr(text, "\"warnings\":[") != NULL);
  CHECK(strstr(text, "\"rows\":600") != NULL && strstr(text, "\"members\":2") != NULL);
  biv_text_free(report);
  CHECK(describes(model, "\"error_bars\":{\"mean_spread\":["));

  static double features[TESTED][5], guess[2][TESTED], own[2][TESTED], column_major[2][TESTED];
  CHECK_OK(biv_dataset_copy_features(test, F64_OUT(features, TESTED, 5)));
  const biv_array *rows = F64(features, TESTED, 5);
  CHECK_OK(biv_model_predict_with_variance(model, rows, F64_OUT(guess[0], TESTED), F64_OUT(own[0], TESTED, 1)));
  CHECK_OK(biv_model_predict(model, rows, F64_OUT(guess[1], TESTED)));
  CHECK(memcmp(guess[0], guess[1], sizeof guess[0]) == 0);
  int positive = 0;
  for (int row = 0; row < TESTED; row++) positive += own[0][row] > 0;
  CHECK(positive == TESTED);
  /* The variances alone, and both into one array backwards. */
  CHECK_OK(biv_model_predict_with_variance(model, rows, NULL, F64_OUT(own[1], TESTED)));
  CHECK(memcmp(own[0], own[1], sizeof own[0]) == 0);
  double *both = &column_major[0][0];
  const biv_array_out first = {both + 2 * TESTED - 2, BIV_F64, 1, SIZES(TESTED), SIZES(-2), 0};
  const biv_array_out second = {both + 2 * TESTED - 1, BIV_F64, 1, SIZES(TESTED), SIZES(-2), 0};
  CHECK_OK(biv_model_predict_with_variance(model, rows, &first, &second));
  CHECK(both[0] == guess[0][TESTED - 1] && both[1] == own[0][TESTED - 1] && both[2 * TESTED - 1] == own[0][0]);

  biv_metrics metrics = SIZED(biv_metrics);
  CHECK_OK(biv_model_evaluate(model, test, &metrics));
  CHECK(metrics.rows == TESTED && metrics.coverage_68 > 0 && metrics.coverage_68 < metrics.coverage_95);
  CHECK(metrics.coverage_95 <= 1 && metrics.mean_z2 > 0 && isfinite(metrics.nlpd));
  double noise[TESTED], mean = 0;
  CHECK_OK(biv_dataset_copy_variances(test, F64_OUT(noise, TESTED)));
  for (int row = 0; row < TESTED; row++) mean += noise[row] / TESTED;
  CHECK_NEAR(metrics.expected_rmse, sqrt(mean), 1e-9);
  CHECK(metrics.weighted_rmse > 0 && metrics.weighted_rmse < metrics.rmse);

  const char *path = in(folder, "fitted.biv");
  CHECK_OK(biv_model_save(model, path));
  CHECK_OK(biv_model_load(path, &loaded));
  CHECK_OK(biv_model_predict_with_variance(loaded, rows, F64_OUT(guess[1], TESTED), F64_OUT(own[1], TESTED)));
  CHECK(memcmp(guess[0], guess[1], sizeof guess[0]) == 0 && memcmp(own[0], own[1], sizeof own[0]) == 0);
  biv_model_free(loaded);
  biv_model_free(model);
  /* A model that knows nothing of its errors says so, and its metrics too. */
  model = small_model();
  CHECK_STATUS(biv_model_predict_with_variance(model, rows, NULL, F64_OUT(own[1], TESTED)), BIV_ERROR_UNSUPPORTED,
               "knows nothing of its errors");
  CHECK_OK(biv_model_evaluate(model, test, &metrics));
  CHECK(isfinite(metrics.rmse) && isnan(metrics.coverage_68) && isnan(metrics.mean_z2) && isnan(metrics.nlpd));
  biv_model_free(model);
  biv_dataset_free(data);
  biv_dataset_free(test);
}

/* A fit that was stopped goes on from its checkpoint to the same bits. */
static void stopped_fits_go_on(const char *folder) {
  biv_dataset *data = binary_noise(TRAINED, 1);
  static double features[TRAINED][5], guess[2][TRAINED], own[2][TRAINED];
  CHECK_OK(biv_dataset_copy_features(data, F64_OUT(features, TRAINED, 5)));
  for (int members = 1; members <= 2; members++) {
    char options[2 * PATH_MAX], plain[200], *path = strdup(in(folder, members == 1 ? "one.biv" : "two.biv"));
    snprintf(plain, sizeof plain, "{\"members\": %d, \"epochs\": 6, \"batch_size\": 64", members);
    snprintf(options, sizeof options, "%s, \"checkpoint\": \"%s\"}", plain, path);
    strcat(plain, "}");
    biv_model *model = NULL;
    biv_text *report = NULL;
    CHECK_OK(biv_fit(small_network, data, plain, NULL, NULL, &model, NULL));
    CHECK_OK(biv_model_predict_with_variance(model, F64(features, TRAINED, 5), F64_OUT(guess[0], TRAINED),
                                             F64_OUT(own[0], TRAINED)));
    biv_model_free(model);
    fit_visitor seen = {.stop_after = 2};
    model = (biv_model *)&seen, report = (biv_text *)&seen;
    CHECK_STATUS(biv_fit(small_network, data, options, watch_fit, &seen, &model, &report), BIV_ERROR_CANCELLED, "");
    CHECK(seen.calls == 2 && model == NULL && report == NULL);
    CHECK_OK(biv_fit(small_network, data, options, NULL, NULL, &model, &report));
    CHECK_OK(biv_model_predict_with_variance(model, F64(features, TRAINED, 5), F64_OUT(guess[1], TRAINED),
                                             F64_OUT(own[1], TRAINED)));
    CHECK(memcmp(guess[0], guess[1], sizeof guess[0]) == 0 && memcmp(own[0], own[1], sizeof own[0]) == 0);
    biv_model_free(model);
    biv_text_free(report);
    free(path);
  }
  biv_dataset_free(data);
}

static void fits_say_what_is_wrong(void) {
  biv_dataset *data = binary_noise(40, 1), *wide = NULL, *grouped = NULL;
  biv_model *model = NULL;
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 40, \"features\": 6}", &wide));
  CHECK_STATUS(biv_fit(small_network, wide, NULL, NULL, NULL, &model, NULL), BIV_ERROR_SHAPE, "6 features");
  CHECK_STATUS(biv_fit(NULL, data, "{\"members\": 0}", NULL, NULL, &model, NULL), BIV_ERROR_INVALID_CONFIG,
               "fit.members: is 0");
  CHECK_STATUS(biv_fit(NULL, data, "{\"member\": 2}", NULL, NULL, &model, NULL), BIV_ERROR_INVALID_CONFIG, "member");
  CHECK_STATUS(biv_fit(NULL, data, "{\"members\": 41}", NULL, NULL, &model, NULL), BIV_ERROR_INVALID_ARGUMENT, "41");
  /* Two groups make no five folds. */
  double features[40][5], targets[40], groups[40];
  CHECK_OK(biv_dataset_copy_features(data, F64_OUT(features, 40, 5)));
  CHECK_OK(biv_dataset_copy_labels(data, F64_OUT(targets, 40)));
  for (int row = 0; row < 40; row++) groups[row] = row % 2;
  CHECK_OK(biv_dataset_create(F64(features, 40, 5), F64(targets, 40), NULL, F64(groups, 40), NULL, &grouped));
  CHECK_STATUS(biv_fit(NULL, grouped, NULL, NULL, NULL, &model, NULL), BIV_ERROR_INVALID_ARGUMENT, "group");
  CHECK(model == NULL);
  CHECK_OK(biv_fit(NULL, grouped, "{\"members\": 2, \"epochs\": 1}", NULL, NULL, &model, NULL));
  biv_model_free(model);
  biv_dataset_free(data);
  biv_dataset_free(wide);
  biv_dataset_free(grouped);
}

/* Trainers: 200 rows, 6 mini-batches of 32 to an epoch. */

enum { ROWS = 200, BATCH = 32, BATCHES = ROWS / BATCH };
static const char batches_of_32[] = "{\"batch_size\": 32, \"learning_rate\": 0.01, \"seed\": 2}";

/* A trainer on data and with a model that have no handles any more. */
static biv_trainer *trainer_of_200_rows(void) {
  biv_dataset *data = noisy_dataset(ROWS, 1);
  biv_trainer *trainer = small_trainer(data, batches_of_32);
  biv_dataset_free(data);
  return trainer;
}

static void steps_report_what_they_did(void) {
  biv_trainer *trainer = trainer_of_200_rows();
  for (int i = 0; i < 2 * BATCHES; i++) {
    biv_step step = SIZED(biv_step);
    CHECK_OK(biv_trainer_step(trainer, &step));
    CHECK(step.rows == BATCH && step.samples_used == BATCH && step.epsilon == 0.1);
    CHECK(step.effective_batch_size >= 1 && step.effective_batch_size < BATCH);
    CHECK(isfinite(step.loss) && step.loss > 0 && step.learning_rate == 0.01);
  }
  CHECK_OK(biv_trainer_step(trainer, NULL));
  biv_progress progress = SIZED(biv_progress);
  CHECK_OK(biv_trainer_get_progress(trainer, &progress));
  CHECK(progress.epoch == 2 && progress.batch == 1 && progress.steps == 2 * BATCHES + 1 && progress.running == 0);
  biv_trainer_free(trainer);
}

/* The members of a trainer are what trainings alone with their seeds are, also from a checkpoint. */
static void members_train_side_by_side(const char *folder) {
  enum { MEMBERS = 3 };
  biv_dataset *data = noisy_dataset(ROWS, 1);
  biv_model *together = NULL, *alone[MEMBERS];
  biv_trainer *trainer = NULL, *trainers[MEMBERS], *resumed = NULL;
  char options[200], path[600];
  CHECK_OK(biv_model_create(small_network, &together));
  CHECK_OK(biv_trainer_create(together, data, "{\"batch_size\": 32, \"seed\": 4, \"members\": 3}", &trainer));
  for (int i = 0; i < MEMBERS; i++) {
    snprintf(options, sizeof options, "{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [16], \"seed\": %d}", 1 + i);
    CHECK_OK(biv_model_create(options, &alone[i]));
    snprintf(options, sizeof options, "{\"batch_size\": 32, \"seed\": %d}", 4 + i);
    CHECK_OK(biv_trainer_create(alone[i], data, options, &trainers[i]));
    CHECK_OK(biv_trainer_fit(trainers[i], 2, NULL, NULL, NULL));
  }
  CHECK_OK(biv_trainer_step(trainer, NULL));
  snprintf(path, sizeof path, "%s/members.biv", folder);
  CHECK_OK(biv_trainer_save(trainer, path));
  CHECK_OK(biv_trainer_load(path, data, NULL, &resumed));
  CHECK_OK(biv_trainer_fit(trainer, 2, NULL, NULL, NULL));
  CHECK_OK(biv_trainer_fit(resumed, 2, NULL, NULL, NULL));
  double features[ROWS][5], mean[ROWS], again[ROWS], each[MEMBERS][ROWS];
  CHECK_OK(biv_dataset_copy_features(data, F64_OUT(features, ROWS, 5)));
  CHECK_OK(biv_model_predict(together, F64(features, ROWS, 5), F64_OUT(mean, ROWS)));
  CHECK_OK(biv_trainer_predict(resumed, F64(features, ROWS, 5), F64_OUT(again, ROWS)));
  for (int i = 0; i < MEMBERS; i++) {
    CHECK_OK(biv_model_predict(alone[i], F64(features, ROWS, 5), F64_OUT(each[i], ROWS)));
    float expected[16], found[16];
    snprintf(options, sizeof options, "members.%d.0.bias", i);
    CHECK_OK(biv_model_get_tensor(alone[i], "0.bias", F32_OUT(expected, 16)));
    CHECK_OK(biv_model_get_tensor(together, options, F32_OUT(found, 16)));
    CHECK(memcmp(expected, found, sizeof found) == 0);
    biv_model_free(alone[i]);
    biv_trainer_free(trainers[i]);
  }
  CHECK(memcmp(mean, again, sizeof mean) == 0);
  for (int i = 0; i < ROWS; i++) CHECK_NEAR(mean[i], (each[0][i] + each[1][i] + each[2][i]) / MEMBERS, 1e-9);
  biv_trainer *other = NULL;
  CHECK_STATUS(biv_trainer_create(together, data, "{\"batch_size\": 32, \"members\": 2}", &other),
               BIV_ERROR_INVALID_CONFIG, "trainer.members: is 2, the model is an ensemble of 3 networks");
  biv_trainer_free(resumed);
  biv_trainer_free(trainer);
  biv_model_free(together);
  biv_dataset_free(data);
}

/* The model is trained in place, and the loss comes down. */
static void training_learns(void) {
  biv_dataset *data = NULL;
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 200, \"features\": 5}", &data));
  biv_trainer *trainer =
      small_trainer(data, "{\"loss\": {\"kind\": \"mse\"}, \"batch_size\": 32, \"learning_rate\": 0.02}");
  biv_metrics before = SIZED(biv_metrics), after = SIZED(biv_metrics);
  CHECK_OK(biv_trainer_evaluate(trainer, data, &before));
  CHECK_OK(biv_trainer_fit(trainer, scaled(40, 20), NULL, NULL, NULL));
  CHECK_OK(biv_trainer_evaluate(trainer, data, &after));
  CHECK(after.mse < before.mse / 2 && after.r2 > before.r2);
  biv_trainer_free(trainer);
  biv_dataset_free(data);
}

/* A cutoff below every variance leaves nothing to learn from: no step, and no error. */
static void a_cutoff_may_leave_no_label(void) {
  biv_dataset *data = noisy_dataset(ROWS, 1);
  biv_trainer *trainer =
      small_trainer(data, "{\"loss\": {\"kind\": \"cutoff_mse\", \"threshold\": 1e-300}, \"batch_size\": 32}");
  biv_step step = SIZED(biv_step);
  CHECK_OK(biv_trainer_step(trainer, &step));
  CHECK(step.samples_used == 0 && step.loss == 0 && step.rows == BATCH);
  biv_progress progress = SIZED(biv_progress);
  CHECK_OK(biv_trainer_get_progress(trainer, &progress));
  CHECK(progress.steps == 0 && progress.batch == 1);
  biv_trainer_free(trainer);
  biv_dataset_free(data);
}

static void callers_may_bring_their_own_batches(void) {
  biv_model *model = linear_model();
  biv_trainer *trainer = NULL;
  CHECK_OK(biv_trainer_create(model, NULL, NULL, &trainer));
  const float features[] = {1, 1, 2, 0, 0, 0};
  const double targets[] = {3, 1}, noise[] = {0.4, 0.9};
  biv_step step = SIZED(biv_step);
  CHECK_OK(biv_trainer_step_on(trainer, F32(features, 2, 3), F64(targets, 2), F64(noise, 2), &step));
  /* Predictions 1 and 1: errors -2 and 0, weights 2 and 1. */
  CHECK_NEAR(step.loss, 8.0 / 3, 1e-6);
  CHECK_NEAR(step.effective_batch_size, 9.0 / 5, 1e-12);
  CHECK(step.rows == 2 && step.epsilon == 0.1);
  /* Adam's first step is the learning rate, against the gradient's sign. */
  float bias[1];
  CHECK_OK(biv_model_get_tensor(model, "0.bias", F32_OUT(bias, 1)));
  CHECK_NEAR(bias[0], 1.001, 1e-6);
  CHECK_OK(biv_trainer_step_on(trainer, F32(features, 2, 3), F64(targets, 2), F64(noise, 2), NULL));
  biv_trainer_free(trainer);
  biv_model_free(model);
}

/* On the mini-batches above with an optimiser of one's own, until the learning rate has warmed up. */
static void optimizers_and_schedules_are_chosen_by_options(void) {
  biv_model *model = linear_model();
  biv_trainer *trainer = NULL;
  CHECK_OK(biv_trainer_create(model, NULL,
                              "{\"optimizer\": {\"kind\": \"sgd\", \"momentum\": 0.5}, \"learning_rate\": 0.1,"
                              " \"schedule\": {\"kind\": \"constant\", \"warmup_steps\": 4}, \"clip_norm\": 0.25}",
                              &trainer));
  const float features[] = {1, 1, 2, 0, 0, 0};
  const double targets[] = {3, 1}, noise[] = {0.4, 0.9};
  float before[1], after[1];
  CHECK_OK(biv_model_get_tensor(model, "0.bias", F32_OUT(before, 1)));
  char text[2000];
  CHECK_OK(biv_trainer_describe(trainer, text, sizeof text, NULL));
  CHECK(strstr(text, "\"learning_rate\":0.025,") != NULL && strstr(text, "\"momentum\":0.5") != NULL);
  biv_step step = SIZED(biv_step);
  for (int i = 0; i < 6; i++) {
    CHECK_OK(biv_trainer_step_on(trainer, F32(features, 2, 3), F64(targets, 2), F64(noise, 2), &step));
    CHECK_NEAR(step.learning_rate, i < 4 ? 0.1 * (i + 1) / 4 : 0.1, 1e-15);
    if (i > 0) continue;
    /* The error is that of the row (1, 1, 2), so the gradient is along (1, 1, 2, 1), cut to a norm of a quarter. */
    CHECK_OK(biv_model_get_tensor(model, "0.bias", F32_OUT(after, 1)));
    CHECK_NEAR(after[0] - before[0], 0.025 * 0.25 / sqrt(7), 1e-6);
  }
  double rate;
  CHECK_OK(biv_trainer_get_learning_rate(trainer, &rate));
  CHECK(rate == 0.1);
  biv_trainer_free(trainer);
  biv_model_free(model);
}

/* What a callback saw, and what it is to do. */
typedef struct {
  biv_trainer *trainer;
  const biv_dataset *test;
  const char *path;
  int calls, stop_after;
} visitor;

static int32_t count_epochs(void *user, const biv_epoch *epoch) {
  visitor *seen = user;
  seen->calls += 1;
  CHECK(epoch->struct_size == sizeof(biv_epoch));
  CHECK(epoch->epoch == seen->calls && epoch->batches == BATCHES && epoch->skipped == 0);
  CHECK(isfinite(epoch->loss) && epoch->effective_batch_size >= 1 && epoch->effective_batch_size <= BATCH);
  CHECK((epoch->test != NULL) == (seen->test != NULL));
  CHECK(isnan(epoch->validation_loss) && epoch->best_epoch == 0 && epoch->learning_rate == 0.01);
  if (epoch->test != NULL) {
    biv_metrics metrics = SIZED(biv_metrics);
    CHECK_OK(biv_trainer_evaluate(seen->trainer, seen->test, &metrics));
    CHECK(epoch->test->struct_size == sizeof metrics);
    CHECK(epoch->test->rows == 50 && epoch->test->mse == metrics.mse);
  }
  return seen->calls == seen->stop_after;
}

static void fitting_calls_back_after_every_epoch(void) {
  biv_dataset *test = noisy_dataset(50, 9);
  biv_trainer *trainer = trainer_of_200_rows();
  visitor seen = {.trainer = trainer, .test = test};
  CHECK_OK(biv_trainer_fit(trainer, 3, test, count_epochs, &seen));
  CHECK(seen.calls == 3);
  CHECK_OK(biv_trainer_fit(trainer, 0, test, count_epochs, &seen));
  CHECK(seen.calls == 3);
  /* The fourth epoch in all, without a test set; the fifth and last asked for is not reached. */
  seen.test = NULL;
  seen.stop_after = 4;
  CHECK_STATUS(biv_trainer_fit(trainer, 2, NULL, count_epochs, &seen), BIV_ERROR_CANCELLED, "after epoch 4");
  CHECK(seen.calls == 4);
  CHECK_OK(biv_trainer_fit(trainer, 1, NULL, NULL, NULL));
  biv_progress progress = SIZED(biv_progress);
  CHECK_OK(biv_trainer_get_progress(trainer, &progress));
  CHECK(progress.epoch == 5 && progress.batch == 0 && progress.steps == 5 * BATCHES && progress.loss > 0);
  biv_trainer_free(trainer);
  biv_dataset_free(test);
}

/* An epoch that steps have begun is finished by a fit, not begun again. */
static void fitting_goes_on_in_mid_epoch(void) {
  biv_trainer *trainer = trainer_of_200_rows();
  for (int i = 0; i < 2; i++) CHECK_OK(biv_trainer_step(trainer, NULL));
  CHECK_OK(biv_trainer_fit(trainer, 1, NULL, NULL, NULL));
  biv_progress progress = SIZED(biv_progress);
  CHECK_OK(biv_trainer_get_progress(trainer, &progress));
  CHECK(progress.epoch == 1 && progress.batch == 0 && progress.steps == BATCHES);
  biv_trainer_free(trainer);
}

static int32_t use_the_trainer(void *user, const biv_epoch *epoch) {
  visitor *seen = user;
  seen->calls += 1;
  biv_metrics metrics = SIZED(biv_metrics);
  biv_progress progress = SIZED(biv_progress);
  double prediction;
  CHECK_OK(biv_trainer_evaluate(seen->trainer, seen->test, &metrics));
  CHECK_OK(biv_trainer_predict(seen->trainer, F64(((double[]){0, 0, 0, 0, 0}), 1, 5), F64_OUT(&prediction, 1)));
  CHECK_OK(biv_trainer_save(seen->trainer, seen->path));
  CHECK_OK(biv_trainer_set_learning_rate(seen->trainer, 0.01 / (double)epoch->epoch));
  CHECK_OK(biv_trainer_get_progress(seen->trainer, &progress));
  CHECK(progress.running == 1);
  CHECK_STATUS(biv_trainer_fit(seen->trainer, 1, NULL, NULL, NULL), BIV_ERROR_BUSY, "fitting already");
  return 0;
}

static void callbacks_may_use_the_trainer(const char *folder) {
  biv_dataset *test = noisy_dataset(50, 9);
  visitor seen = {.trainer = trainer_of_200_rows(), .test = test, .path = in(folder, "callback.biv")};
  CHECK_OK(biv_trainer_fit(seen.trainer, 2, NULL, use_the_trainer, &seen));
  CHECK(seen.calls == 2);
  double rate = 0;
  CHECK_OK(biv_trainer_get_learning_rate(seen.trainer, &rate));
  CHECK(rate == 0.005);
  biv_trainer_free(seen.trainer);
  biv_dataset_free(test);
}

/* What validation said after each epoch. */
typedef struct {
  double losses[600];
  int64_t calls, best;
} judge;

static int32_t keep_the_judgement(void *user, const biv_epoch *epoch) {
  judge *seen = user;
  seen->losses[seen->calls++] = epoch->validation_loss;
  seen->best = epoch->best_epoch;
  return 0;
}

/* Training ends when the validation set says so, and with the weights that were best there. */
static void validation_stops_and_keeps_the_best(const char *folder) {
  static judge seen, again, more;
  biv_dataset *data = binary_noise(100, 1), *held_out = binary_noise(100, 8), *clean = NULL;
  const char *options =
      "{\"loss\": {\"kind\": \"biv\", \"epsilon\": \"auto\"}, \"batch_size\": 20, \"learning_rate\": 0.02, "
      "\"patience\": 3, \"normalization\": \"labels\"}";
  biv_trainer *trainer = small_trainer(data, options), *resumed = NULL;
  CHECK_STATUS(biv_trainer_fit(trainer, 1, NULL, NULL, NULL), BIV_ERROR_INVALID_ARGUMENT, "validation");
  CHECK_OK(biv_trainer_set_validation(trainer, held_out));
  CHECK_OK(biv_trainer_fit(trainer, 500, NULL, keep_the_judgement, &seen));
  CHECK(seen.calls > 3 && seen.calls < 500 && seen.best == seen.calls - 3);
  for (int64_t epoch = 0; epoch < seen.calls; epoch++)
    CHECK(isfinite(seen.losses[epoch]) && seen.losses[epoch] >= seen.losses[seen.best - 1]);

  /* The best weights: those of a trainer that is stopped there. */
  double features[100][5], kept[100], expected[100];
  CHECK_OK(biv_dataset_copy_features(held_out, F64_OUT(features, 100, 5)));
  CHECK_OK(biv_trainer_predict(trainer, F64(features, 100, 5), F64_OUT(kept, 100)));
  biv_trainer *shorter = small_trainer(data, options);
  CHECK_OK(biv_trainer_set_validation(shorter, held_out));
  CHECK_OK(biv_trainer_fit(shorter, seen.best, NULL, keep_the_judgement, &again));
  CHECK(again.best == seen.best && memcmp(again.losses, seen.losses, (size_t)seen.best * sizeof(double)) == 0);
  CHECK_OK(biv_trainer_predict(shorter, F64(features, 100, 5), F64_OUT(expected, 100)));
  CHECK(memcmp(kept, expected, sizeof kept) == 0);

  /* A checkpoint takes the same set again and goes on with the count of epochs. */
  const char *path = in(folder, "validated.biv");
  CHECK_OK(biv_trainer_save(shorter, path));
  CHECK_OK(biv_trainer_load(path, data, NULL, &resumed));
  CHECK_OK(biv_trainer_set_validation(resumed, held_out));
  CHECK_OK(biv_trainer_fit(resumed, 500, NULL, keep_the_judgement, &more));
  CHECK(more.calls == 3 && more.best == seen.best);
  CHECK(memcmp(more.losses, seen.losses + seen.best, 3 * sizeof(double)) == 0);
  CHECK_OK(biv_trainer_predict(resumed, F64(features, 100, 5), F64_OUT(expected, 100)));
  CHECK(memcmp(kept, expected, sizeof kept) == 0);

  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 40, \"features\": 5}", &clean));
  CHECK_STATUS(biv_trainer_set_validation(trainer, clean), BIV_ERROR_INVALID_ARGUMENT, "needs the variances");
  biv_dataset_free(clean);
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 40, \"features\": 6}", &clean));
  CHECK_STATUS(biv_trainer_set_validation(trainer, clean), BIV_ERROR_SHAPE, "6 features");
  biv_trainer_free(trainer);
  biv_trainer_free(shorter);
  biv_trainer_free(resumed);
  biv_dataset_free(data);
  biv_dataset_free(held_out);
  biv_dataset_free(clean);
}

static void metrics_can_be_computed_again_from_predictions(void) {
  biv_dataset *test = noisy_dataset(50, 9);
  biv_trainer *trainer = trainer_of_200_rows();
  biv_metrics found = SIZED(biv_metrics);
  CHECK_OK(biv_trainer_evaluate(trainer, test, &found));
  double features[50][5], truth[50], guess[50], mean = 0, mse = 0, mae = 0, spread = 0;
  CHECK_OK(biv_dataset_copy_features(test, F64_OUT(features, 50, 5)));
  CHECK_OK(biv_dataset_copy_labels(test, F64_OUT(truth, 50)));
  CHECK_OK(biv_trainer_predict(trainer, F64(features, 50, 5), F64_OUT(guess, 50)));
  for (int row = 0; row < 50; row++) {
    mean += truth[row] / 50;
    mse += pow(guess[row] - truth[row], 2) / 50;
    mae += fabs(guess[row] - truth[row]) / 50;
  }
  for (int row = 0; row < 50; row++) spread += pow(truth[row] - mean, 2) / 50;
  CHECK(found.rows == 50);
  CHECK_NEAR(found.mse, mse, 1e-9);
  CHECK_NEAR(found.mae, mae, 1e-9);
  CHECK_NEAR(found.r2, 1 - mse / spread, 1e-9);
  CHECK(found.rmse == sqrt(found.mse) && found.normalized_rmse == sqrt(found.normalized_mse));
  /* One scale, the deviation of the training labels, lies between both units. */
  CHECK_NEAR(found.mse / found.normalized_mse, pow(found.mae / found.normalized_mae, 2), 1e-9);
  biv_trainer_free(trainer);
  biv_dataset_free(test);
}

static void a_trainer_gives_its_model(void) {
  biv_trainer *trainer = trainer_of_200_rows();
  biv_model *model = NULL;
  CHECK_OK(biv_trainer_get_model(trainer, &model));
  const double features[] = {0.1, 0.2, 0.3, 0.4, 0.5};
  double before, after, by_trainer;
  CHECK_OK(biv_model_predict(model, F64(features, 1, 5), F64_OUT(&before, 1)));
  CHECK_OK(biv_trainer_step(trainer, NULL));
  CHECK_OK(biv_model_predict(model, F64(features, 1, 5), F64_OUT(&after, 1)));
  CHECK_OK(biv_trainer_predict(trainer, F64(features, 1, 5), F64_OUT(&by_trainer, 1)));
  CHECK(before != after && after == by_trainer);
  /* The model outlives the trainer. */
  biv_trainer_free(trainer);
  CHECK_OK(biv_model_predict(model, F64(features, 1, 5), F64_OUT(&before, 1)));
  CHECK(before == after);
  biv_model_free(model);
}

static double step_loss(biv_trainer *trainer) {
  biv_step step = SIZED(biv_step);
  CHECK_OK(biv_trainer_step(trainer, &step));
  return step.loss;
}

static double prediction_of(const biv_model *model) {
  const double features[] = {0.1, 0.2, 0.3, 0.4, 0.5};
  double prediction;
  CHECK_OK(biv_model_predict(model, F64(features, 1, 5), F64_OUT(&prediction, 1)));
  return prediction;
}

static void models_and_trainers_go_through_memory(const char *folder) {
  biv_dataset *data = noisy_dataset(ROWS, 1);
  biv_trainer *trainer = small_trainer(data, batches_of_32), *resumed = NULL;
  biv_model *model = NULL, *loaded = NULL, *copy = NULL, *inside = NULL;
  for (int i = 0; i < 3; i++) CHECK_OK(biv_trainer_step(trainer, NULL));
  CHECK_OK(biv_trainer_get_model(trainer, &model));
  double expected = prediction_of(model);

  size_t needed = 0, same = 0;
  CHECK_OK(biv_model_save_to_memory(model, NULL, 0, &needed));
  unsigned char *bytes = malloc(needed);
  CHECK_STATUS(biv_model_save_to_memory(model, bytes, needed - 1, &same), BIV_ERROR_BUFFER_TOO_SMALL, "needs");
  CHECK_OK(biv_model_save_to_memory(model, bytes, needed, &same));
  CHECK(same == needed);
  /* The bytes are those of the file. */
  const char *path = in(folder, "memory.biv");
  CHECK_OK(biv_model_save(model, path));
  size_t size = 0;
  unsigned char *file = read_file(path, &size);
  CHECK(size == needed && memcmp(file, bytes, size) == 0);
  CHECK_OK(biv_model_load_from_memory(bytes, needed, &loaded));
  CHECK(prediction_of(loaded) == expected);
  biv_model *none = NULL;
  CHECK_STATUS(biv_model_load_from_memory(bytes, needed - 1, &none), BIV_ERROR_CORRUPT, "the bytes: ");
  CHECK_STATUS(biv_model_load_from_memory(NULL, 5, &none), BIV_ERROR_INVALID_ARGUMENT, "bytes is NULL");
  CHECK_STATUS(biv_model_load_from_memory(NULL, 0, &none), BIV_ERROR_CORRUPT, "the bytes: ");
  free(bytes);
  free(file);

  CHECK_OK(biv_trainer_save_to_memory(trainer, NULL, 0, &needed));
  bytes = malloc(needed);
  CHECK_OK(biv_trainer_save_to_memory(trainer, bytes, needed, NULL));
  CHECK_OK(biv_trainer_load_from_memory(bytes, needed, data, NULL, &resumed));
  CHECK_OK(biv_model_load_from_memory(bytes, needed, &inside));
  CHECK(prediction_of(inside) == expected);
  free(bytes);

  CHECK_OK(biv_model_copy(model, &copy));
  for (int i = 0; i < 10; i++) CHECK(step_loss(trainer) == step_loss(resumed));
  CHECK(prediction_of(model) != expected && prediction_of(copy) == expected);
  biv_trainer_free(trainer);
  biv_trainer_free(resumed);
  biv_model_free(model);
  biv_model_free(loaded);
  biv_model_free(copy);
  biv_model_free(inside);
  biv_dataset_free(data);
}

/* A trainer saved after `steps` goes on bit for bit as the one that never stopped. */
static void saved_training_goes_on_after(int steps, const char *folder) {
  const char *path = in(folder, "training.biv");
  biv_dataset *data = noisy_dataset(ROWS, 1);
  biv_trainer *trainer = small_trainer(data, batches_of_32), *resumed = NULL;
  for (int i = 0; i < steps; i++) CHECK_OK(biv_trainer_step(trainer, NULL));
  CHECK_OK(biv_trainer_set_learning_rate(trainer, 0.02));
  CHECK_OK(biv_trainer_save(trainer, path));
  CHECK_OK(biv_trainer_load(path, data, NULL, &resumed));
  biv_progress progress = SIZED(biv_progress);
  CHECK_OK(biv_trainer_get_progress(resumed, &progress));
  CHECK(progress.steps == steps && progress.epoch == steps / BATCHES && progress.batch == steps % BATCHES);
  double rate = 0;
  CHECK_OK(biv_trainer_get_learning_rate(resumed, &rate));
  CHECK(rate == 0.02);
  for (int i = 0; i < 30; i++) CHECK(step_loss(trainer) == step_loss(resumed));
  biv_trainer_free(trainer);
  biv_trainer_free(resumed);
  biv_dataset_free(data);
}

/* A trainer of a network of layers, on data of 5 features; NULL where the layers are refused, which `said` tells. */
static biv_trainer *layered_trainer(const biv_dataset *data, const char *layers, const char *said) {
  char options[1000];
  snprintf(options, sizeof options, "{\"kind\": \"sequential\", \"input_shape\": [5], \"layers\": [%s]}", layers);
  biv_model *model = NULL;
  biv_trainer *trainer = NULL;
  if (said != NULL) {
    CHECK_STATUS(biv_model_create(options, &model), BIV_ERROR_INVALID_CONFIG, said);
    return NULL;
  }
  CHECK_OK(biv_model_create(options, &model));
  CHECK_OK(biv_trainer_create(model, data, "{\"batch_size\": 32, \"learning_rate\": 0.01}", &trainer));
  biv_model_free(model);
  return trainer;
}

static bool trains_by(const biv_trainer *trainer, const char *kernel) {
  char text[2000], part[100];
  snprintf(part, sizeof part, "\"kernel\":\"%s\"", kernel);
  CHECK_OK(biv_trainer_describe(trainer, text, sizeof text, NULL));
  return strstr(text, part) != NULL && strstr(text, "\"device\":\"cpu\"") != NULL &&
         strstr(text, "\"learning_rate\":0.01") != NULL;
}

#define LINEAR(outputs) "{\"kind\": \"linear\", \"outputs\": " #outputs "}"

static void networks_are_made_of_layers(const char *folder) {
  biv_dataset *data = noisy_dataset(ROWS, 1);
  const char *silu = LINEAR(16) ", {\"kind\": \"activation\", \"function\": \"silu\"}, " LINEAR(1);
  biv_trainer *perceptron = layered_trainer(data, silu, NULL), *resumed = NULL;
  CHECK(trains_by(perceptron, "mlp_cpu"));
  biv_trainer_free(perceptron);
  /* Dropout, norms and residuals: the same bits after a checkpoint, dropped values and all. */
  const char *layers = LINEAR(16) ", {\"kind\": \"layer_norm\"}, {\"kind\": \"activation\", \"function\": \"gelu\"},"
                                  "{\"kind\": \"dropout\", \"p\": 0.2}, {\"kind\": \"residual\", \"layers\": [" LINEAR(16) ","
                                  "{\"kind\": \"batch_norm\"}]}, {\"kind\": \"activation\", \"function\": \"relu\"}," LINEAR(1);
  biv_trainer *trainer = layered_trainer(data, layers, NULL);
  CHECK(trains_by(trainer, "autograd"));
  double first = 0, last = 0;
  for (int i = 0; i < 200; i++) {
    double loss = step_loss(trainer);
    if (i < 20) first += loss;
    if (i >= 180) last += loss;
  }
  CHECK(last < 0.7 * first);
  const char *path = in(folder, "layers.biv");
  CHECK_OK(biv_trainer_save(trainer, path));
  CHECK_OK(biv_trainer_load(path, data, NULL, &resumed));
  for (int i = 0; i < 20; i++) CHECK(step_loss(trainer) == step_loss(resumed));
  biv_model *model = NULL;
  CHECK_OK(biv_trainer_get_model(trainer, &model));
  CHECK(describes(model, "\"network\":{\"input_shape\":[5],\"layers\":[{\"kind\":\"linear\",\"outputs\":16}"));
  CHECK(describes(model, "\"name\":\"4.1.running_var\""));
  /* Without dropout predictions are always the same. */
  const double features[] = {0.1, 0.2, 0.3, 0.4, 0.5};
  double one, again;
  CHECK_OK(biv_model_predict(model, F64(features, 1, 5), F64_OUT(&one, 1)));
  CHECK_OK(biv_model_predict(model, F64(features, 1, 5), F64_OUT(&again, 1)));
  CHECK(one == again);
  biv_model_free(model);
  biv_trainer_free(trainer);
  biv_trainer_free(resumed);
  layered_trainer(data, LINEAR(4) ", {\"kind\": \"max_pool\", \"size\": 2}",
                  "model.layers[1]: takes images, [channels, height, width], gets rows of shape [4]");
  layered_trainer(data, LINEAR(4) ", {\"kind\": \"activation\", \"function\": \"rely\"}", "model.layers[1].function");
  biv_dataset_free(data);
}

/* Networks with an activation of any name, by the kernels. */
static void perceptrons_have_any_activation(void) {
  static const char *const names[] = {"relu", "leaky_relu", "tanh", "sigmoid", "silu", "gelu", "softplus"};
  biv_dataset *data = noisy_dataset(ROWS, 1);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char options[200];
    snprintf(
        options, sizeof options,
        "{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [16, 8], \"activation\": \"%s\", \"norm\": \"batch_norm\"}",
        names[i]);
    biv_model *model = NULL;
    biv_trainer *trainer = NULL;
    CHECK_OK(biv_model_create(options, &model));
    CHECK_OK(biv_trainer_create(model, data, "{\"batch_size\": 32, \"learning_rate\": 0.01}", &trainer));
    CHECK(trains_by(trainer, "mlp_cpu"));
    double first = step_loss(trainer);
    for (int step = 0; step < 100; step++) CHECK_OK(biv_trainer_step(trainer, NULL));
    CHECK(step_loss(trainer) < first);
    biv_trainer_free(trainer);
    biv_model_free(model);
  }
  biv_dataset_free(data);
}

/* The same without data of its own, for a caller that brings batches. */
static void saved_training_without_data_goes_on(const char *folder) {
  const char *path = in(folder, "batches.biv");
  biv_trainer *trainer = small_trainer(NULL, NULL), *resumed = NULL;
  const float features[] = {1, 2, 3, 4, 5, 5, 4, 3, 2, 1};
  const double targets[] = {1, -1}, noise[] = {1, 2};
  double losses[2][5];
  CHECK_OK(biv_trainer_step_on(trainer, F32(features, 2, 5), F64(targets, 2), F64(noise, 2), NULL));
  CHECK_OK(biv_trainer_save(trainer, path));
  CHECK_OK(biv_trainer_load(path, NULL, "cpu", &resumed));
  biv_trainer *both[] = {trainer, resumed};
  for (int which = 0; which < 2; which++) {
    for (int i = 0; i < 5; i++) {
      biv_step step = SIZED(biv_step);
      CHECK_OK(biv_trainer_step_on(both[which], F32(features, 2, 5), F64(targets, 2), F64(noise, 2), &step));
      losses[which][i] = step.loss;
    }
    biv_trainer_free(both[which]);
  }
  CHECK(memcmp(losses[0], losses[1], sizeof losses[0]) == 0);
}

/* Cancels as soon as the fit has taken a step. */
static void *cancel_when_running(void *user) {
  biv_progress progress = SIZED(biv_progress);
  while (!progress.running || progress.steps == 0) {
    if (biv_trainer_get_progress(user, &progress) != BIV_OK) break;
    usleep(100);
  }
  CHECK_OK(biv_trainer_cancel(user));
  return NULL;
}

static void another_thread_may_cancel(void) {
  biv_trainer *trainer = trainer_of_200_rows();
  biv_progress before = SIZED(biv_progress), after = SIZED(biv_progress);
  /* Without a fit it counts for the next one, once; one of no epochs only takes it back. */
  for (int epochs = 1; epochs >= 0; --epochs) {
    CHECK_OK(biv_trainer_get_progress(trainer, &before));
    CHECK_OK(biv_trainer_cancel(trainer));
    CHECK_OK(biv_trainer_cancel(trainer));
    CHECK_STATUS(biv_trainer_fit(trainer, epochs, NULL, NULL, NULL), BIV_ERROR_CANCELLED, "before it began");
    CHECK_OK(biv_trainer_get_progress(trainer, &after));
    CHECK(after.steps == before.steps && after.running == 0);
    CHECK_OK(biv_trainer_fit(trainer, 1, NULL, NULL, NULL));
  }
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, cancel_when_running, trainer) == 0);
  CHECK_STATUS(biv_trainer_fit(trainer, 1000000000, NULL, NULL, NULL), BIV_ERROR_CANCELLED, "cancelled");
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK_OK(biv_trainer_get_progress(trainer, &before));
  CHECK(before.running == 0 && before.steps > BATCHES);
  CHECK_OK(biv_trainer_fit(trainer, 1, NULL, NULL, NULL));
  CHECK_OK(biv_trainer_get_progress(trainer, &after));
  CHECK(after.epoch == before.epoch + 1 && after.batch == 0);
  biv_trainer_free(trainer);
}

static int32_t free_this(void *trainer, const biv_epoch *epoch) {
  biv_trainer_free(trainer);
  return epoch->epoch > 1;
}

static void a_trainer_that_is_freed_ends_its_fit(void) {
  biv_trainer *trainer = trainer_of_200_rows();
  biv_progress progress = SIZED(biv_progress);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, fit_until_cancelled, trainer) == 0);
  while (progress.steps == 0) {
    CHECK_OK(biv_trainer_get_progress(trainer, &progress));
    usleep(100);
  }
  biv_trainer_free(trainer);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK_STATUS(biv_trainer_cancel(trainer), BIV_ERROR_INVALID_HANDLE, "freed");

  trainer = trainer_of_200_rows();
  CHECK_STATUS(biv_trainer_fit(trainer, 1000000000, NULL, free_this, trainer), BIV_ERROR_CANCELLED, "after epoch 1");
}

int main(void) {
  /* A cancel that is not heard must not hang the tests. */
  alarm(900);
  char *folder = temporary_folder();

  versions_agree();
  every_status_has_its_name();
  every_kind_of_options_has_a_schema();
  threads_and_devices_are_told();

  arrays_of_both_types_and_any_rank_come_back();
  arrays_are_copied();
  strides_of_every_sign_are_read();
  outputs_may_have_strides_and_gaps();
  standard_deviations_become_variances();
  csv_columns_take_their_roles(folder);
  other_data_are_matched_by_name(folder);
  named_sets_are_read_from_a_file_or_a_folder(folder);
  synthetic_labels_are_friedmans_function();
  noise_changes_the_labels_and_keeps_the_clean_ones();
  splits_are_disjoint_and_their_seed_decides();
  subsets_and_shuffles_keep_rows_whole();
  data_grow_while_a_trainer_goes_on();
  infinite_and_missing_labels_are_masked();
  masked_rows_are_as_rows_that_are_not_there();
  noise_samples_are_in_range_and_repeat();

  losses_match_their_formulas();
  a_minimum_effective_batch_chooses_epsilon();
  equal_variances_use_the_whole_batch();
  losses_average_over_the_outputs();
  losses_leave_masked_labels_out();
  likelihoods_match_their_formula_and_its_slope();

  residuals_tell_how_far_variances_hold();
  impossible_residuals_name_their_row();

  models_tell_their_sizes();
  descriptions_ask_for_the_room_they_need();
  a_linear_model_predicts_what_its_tensors_say();
  seeds_decide_the_initial_weights();
  saved_models_predict_the_same(folder);
  models_are_exported_to_onnx(folder);
  a_normalization_can_be_given_and_taken_away(folder);
  trainers_keep_a_given_normalization();
  networks_may_predict_their_variance(folder);

  fits_use_the_variances();
  fits_report_and_keep_their_error_bars(folder);
  stopped_fits_go_on(folder);
  fits_say_what_is_wrong();

  steps_report_what_they_did();
  members_train_side_by_side(folder);
  training_learns();
  a_cutoff_may_leave_no_label();
  callers_may_bring_their_own_batches();
  optimizers_and_schedules_are_chosen_by_options();
  fitting_calls_back_after_every_epoch();
  fitting_goes_on_in_mid_epoch();
  callbacks_may_use_the_trainer(folder);
  validation_stops_and_keeps_the_best(folder);
  metrics_can_be_computed_again_from_predictions();
  a_trainer_gives_its_model();
  networks_are_made_of_layers(folder);
  models_and_trainers_go_through_memory(folder);
  perceptrons_have_any_activation();
  saved_training_goes_on_after(BATCHES, folder);
  saved_training_goes_on_after(BATCHES + 1, folder);
  saved_training_without_data_goes_on(folder);
  another_thread_may_cancel();
  a_trainer_that_is_freed_ends_its_fit();

  remove_folder(folder);
  return report("api");
}
