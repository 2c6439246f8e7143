/* Every function of the header, as a program would use it, with the values that come out. */
#include <pthread.h>

#include "common.h"

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
  CHECK(strstr(info, "\"blas\":\"libtorch_cpu.so\"") != NULL);
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
      {"csv", "\"standard_errors\""}, {"synthetic", "\"rows\""},     {"split", "\"train_size\""},
      {"noise", "\"disturbance\""},   {"distribution", "gamma"},     {"loss", "cutoff_mse"},
      {"model", "\"hidden\""},        {"trainer", "\"batch_size\""},
  };
  for (size_t i = 0; i < COUNT(schemas); i++) {
    const char *schema = NULL;
    CHECK_OK(biv_config_schema(schemas[i][0], &schema));
    CHECK(schema[0] == '{' && strstr(schema, schemas[i][1]) != NULL);
  }
}

static void threads_and_devices_are_told(void) {
  int32_t before = 0, after = 0, devices = -1;
  CHECK_OK(biv_get_num_threads(&before));
  CHECK(before >= 1);
  CHECK_OK(biv_set_num_threads(before + 1));
  CHECK_OK(biv_get_num_threads(&after));
  CHECK(after == before + 1);
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
    CHECK(isfinite(step.loss) && step.loss > 0);
  }
  CHECK_OK(biv_trainer_step(trainer, NULL));
  biv_progress progress = SIZED(biv_progress);
  CHECK_OK(biv_trainer_get_progress(trainer, &progress));
  CHECK(progress.epoch == 2 && progress.batch == 1 && progress.steps == 2 * BATCHES + 1 && progress.running == 0);
  biv_trainer_free(trainer);
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
  /* Without a fit it does nothing, not even to the next one. */
  CHECK_OK(biv_trainer_cancel(trainer));
  CHECK_OK(biv_trainer_fit(trainer, 1, NULL, NULL, NULL));
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, cancel_when_running, trainer) == 0);
  CHECK_STATUS(biv_trainer_fit(trainer, 1000000000, NULL, NULL, NULL), BIV_ERROR_CANCELLED, "cancelled");
  CHECK(pthread_join(thread, NULL) == 0);
  biv_progress before = SIZED(biv_progress), after = SIZED(biv_progress);
  CHECK_OK(biv_trainer_get_progress(trainer, &before));
  CHECK(before.running == 0 && before.steps > BATCHES);
  CHECK_OK(biv_trainer_fit(trainer, 1, NULL, NULL, NULL));
  CHECK_OK(biv_trainer_get_progress(trainer, &after));
  CHECK(after.epoch == before.epoch + 1 && after.batch == 0);
  biv_trainer_free(trainer);
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
  named_sets_are_read_from_a_file_or_a_folder(folder);
  synthetic_labels_are_friedmans_function();
  noise_changes_the_labels_and_keeps_the_clean_ones();
  splits_are_disjoint_and_their_seed_decides();
  subsets_and_shuffles_keep_rows_whole();
  noise_samples_are_in_range_and_repeat();

  losses_match_their_formulas();
  a_minimum_effective_batch_chooses_epsilon();
  equal_variances_use_the_whole_batch();
  losses_average_over_the_outputs();

  models_tell_their_sizes();
  descriptions_ask_for_the_room_they_need();
  a_linear_model_predicts_what_its_tensors_say();
  seeds_decide_the_initial_weights();
  saved_models_predict_the_same(folder);

  steps_report_what_they_did();
  training_learns();
  a_cutoff_may_leave_no_label();
  callers_may_bring_their_own_batches();
  fitting_calls_back_after_every_epoch();
  fitting_goes_on_in_mid_epoch();
  callbacks_may_use_the_trainer(folder);
  metrics_can_be_computed_again_from_predictions();
  a_trainer_gives_its_model();
  saved_training_goes_on_after(BATCHES, folder);
  saved_training_goes_on_after(BATCHES + 1, folder);
  saved_training_without_data_goes_on(folder);
  another_thread_may_cancel();

  remove_folder(folder);
  return report("api");
}
