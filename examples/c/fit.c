/* From data to a model with error bars in one call. Half of the labels are nearly exact and half are off by about 10;
 * the library is told which variance the noise of each label has, and finds out itself how much to make of it. */
#include <biv.h>
#include <math.h>
#include <stdio.h>

static int fail(void) {
  fprintf(stderr, "%s\n", biv_last_error_message());
  return 1;
}

/* Says how far the fit has come at every third part of it. */
static int32_t watch(void *user, const biv_fit_progress *progress) {
  int64_t *said = user, part = 3 * progress->steps / progress->total_steps;
  if (part > *said) printf("%lld of %lld steps\n", (long long)progress->steps, (long long)progress->total_steps);
  if (part > *said) *said = part;
  return 0; /* anything else stops */
}

int main(void) {
  enum { TRAINED = 1000, TESTED = 500, FEATURES = 10 };
  /* Friedman's function; your own arrays come in by biv_dataset_create(). */
  biv_dataset *all = NULL, *clean = NULL, *test = NULL, *train = NULL;
  const char *noise =
      "{\"distribution\": {\"kind\": \"binary_uniform\", \"components\": [{\"weight\": 0.5, \"low\": 0, "
      "\"high\": 0.1}, {\"low\": 80, \"high\": 120}]}, \"seed\": 2}";
  if (biv_dataset_create_synthetic("{\"rows\": 1500, \"features\": 10, \"seed\": 1}", &all) ||
      biv_dataset_split(all, "{\"train_size\": 1000}", &clean, &test) || biv_dataset_add_noise(clean, noise, &train))
    return fail();

  biv_model *model = NULL;
  biv_text *report = NULL;
  int64_t said = 0;
  const char *options = "{\"members\": 3, \"epochs\": 30, \"batch_size\": 64, \"learning_rate\": 0.003}", *text = NULL;
  if (biv_fit(NULL, train, options, watch, &said, &model, &report) || biv_text_get(report, &text)) return fail();
  printf("report: %.100s ...\n", text);

  static double features[TESTED * FEATURES], truth[TESTED], predicted[TESTED], variance[TESTED];
  int64_t table[] = {TESTED, FEATURES}, column[] = {TESTED};
  biv_metrics metrics = {.struct_size = sizeof metrics};
  if (biv_model_evaluate(model, test, &metrics) ||
      biv_dataset_copy_features(test, &(biv_array_out){features, BIV_F64, 2, table, NULL, 0}) ||
      biv_dataset_copy_labels(test, &(biv_array_out){truth, BIV_F64, 1, column, NULL, 0}) ||
      biv_model_predict_with_variance(model, &(biv_array){features, BIV_F64, 2, table, NULL, 0},
                                      &(biv_array_out){predicted, BIV_F64, 1, column, NULL, 0},
                                      &(biv_array_out){variance, BIV_F64, 1, column, NULL, 0}))
    return fail();
  printf("RMSE %.2f on %d clean labels; %.0f %% of them are within the bars of 95 %%\n", metrics.rmse, TESTED,
         100 * metrics.coverage_95);
  for (int row = 0; row < 3; row++)
    printf("predicted %.1f +- %.1f, true %.1f\n", predicted[row], sqrt(variance[row]), truth[row]);

  biv_dataset_free(all), biv_dataset_free(clean), biv_dataset_free(test), biv_dataset_free(train);
  biv_model_free(model), biv_text_free(report);
  return !(metrics.rmse < 3);
}
