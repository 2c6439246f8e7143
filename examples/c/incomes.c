/* Survey estimates with margins of error: the incomes of US counties (ACS 2017). Reads them from a CSV file, trains
 * with early stopping by a callback, saves and loads the model, and predicts with it.
 *
 *   incomes [FILE.csv]    without the file, on synthetic data */
#include <biv.h>
#include <stdio.h>

/* Stops when the test error has not fallen for ten epochs. */
struct patience {
  double best;
  int since;
};

static int watch(void *user, const biv_epoch *epoch) {
  struct patience *patience = user;
  if (patience->since == 0 || epoch->test->rmse < patience->best) {
    patience->best = epoch->test->rmse;
    patience->since = 1;
  } else {
    patience->since += 1;
  }
  return patience->since > 10; /* anything but 0 stops */
}

static int fail(void) {
  fprintf(stderr, "%s\n", biv_last_error_message());
  return 1;
}

int main(int count, char **arguments) {
  biv_dataset *data = NULL, *train = NULL, *test = NULL;
  if (count > 1) {
    /* Margins of error at 90 % are 1.645 times the standard errors. */
    const char *columns =
        "{\"labels\": [\"Income\"], \"standard_errors\": [\"IncomeErr\"], \"error_divisor\": 1.645, "
        "\"features\": [\"Poverty\", \"Professional\", \"MeanCommute\", \"Drive\", \"WorkAtHome\", \"Unemployment\"], "
        "\"skip_missing\": true}";
    if (biv_dataset_create_from_csv(arguments[1], columns, &data)) return fail();
  } else {
    biv_dataset *clean = NULL;
    const char *noise = "{\"distribution\": {\"kind\": \"gamma\", \"mean\": 5, \"variance\": 50}}";
    if (biv_dataset_create_synthetic("{\"rows\": 3000, \"features\": 6}", &clean) ||
        biv_dataset_add_noise(clean, noise, &data))
      return fail();
    biv_dataset_free(clean);
    printf("no file was given: synthetic data\n");
  }

  biv_model *model = NULL;
  biv_trainer *trainer = NULL;
  struct patience patience = {0, 0};
  if (biv_dataset_split(data, "{\"train_size\": 2400}", &train, &test) ||
      biv_model_create("{\"kind\": \"mlp\", \"inputs\": 6, \"hidden\": [32, 16]}", &model) ||
      biv_trainer_create(model, train, "{\"batch_size\": 64, \"learning_rate\": 0.003}", &trainer))
    return fail();
  biv_status status = biv_trainer_fit(trainer, 200, test, watch, &patience);
  if (status != BIV_OK && status != BIV_ERROR_CANCELLED) return fail();
  biv_progress progress = {.struct_size = sizeof progress};
  if (biv_trainer_get_progress(trainer, &progress)) return fail();
  printf("%lld epochs, best RMSE on noisy test labels %.2f\n", (long long)progress.epoch, patience.best);

  /* A loaded model predicts the same: the file has the weights and the normalisation. */
  biv_model *loaded = NULL;
  double first = 0, again = 0, row[6];
  int64_t one_by_6[] = {1, 6}, one[] = {1}, index[] = {0};
  biv_dataset *single = NULL;
  biv_array_out features = {row, BIV_F64, 2, one_by_6, NULL, 0};
  biv_array given = {row, BIV_F64, 2, one_by_6, NULL, 0};
  if (biv_dataset_subset(test, index, 1, &single) || biv_dataset_copy_features(single, &features) ||
      biv_model_save(model, "incomes.biv") || biv_model_load("incomes.biv", &loaded) ||
      biv_model_predict(model, &given, &(biv_array_out){&first, BIV_F64, 1, one, NULL, 0}) ||
      biv_model_predict(loaded, &given, &(biv_array_out){&again, BIV_F64, 1, one, NULL, 0}))
    return fail();
  printf("predicted %.2f, and %.2f from the file\n", first, again);

  biv_dataset_free(data), biv_dataset_free(train), biv_dataset_free(test), biv_dataset_free(single);
  biv_model_free(model), biv_model_free(loaded), biv_trainer_free(trainer);
  return first != again;
}
