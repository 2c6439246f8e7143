/* What every client here does: it makes 256 rows, trains the model of its first argument with the options of its
 * second, and prints the RMSE with 17 digits. C90. */
#include <biv.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS 256
#define COLUMNS 8

static void check(biv_status status) {
  if (status == BIV_OK) return;
  fprintf(stderr, "%s\n", biv_last_error_message());
  exit(1);
}

#ifdef HOST_BLAS
extern double ddot_(const int *n, const double *x, const int *dx, const double *y, const int *dy);
#endif

int main(int count, char **arguments) {
  static double x[ROWS * COLUMNS], y[ROWS], v[ROWS];
  int64_t shape[2];
  biv_array features = {0}, labels, variances;
  biv_dataset *data;
  biv_model *model;
  biv_trainer *trainer;
  biv_metrics metrics;
  const char *info;
  int i;

  if (count < 3) return 2;
  for (i = 0; i < ROWS * COLUMNS; ++i) x[i] = i * 37 % 101 / 64.0;
  for (i = 0; i < ROWS; ++i) {
    y[i] = x[COLUMNS * i] - 2 * x[COLUMNS * i + 1] * x[COLUMNS * i + 2];
    v[i] = i % 2 ? 0.0625 : 4;
  }
  shape[0] = ROWS;
  shape[1] = COLUMNS;
  features.data = x;
  features.dtype = BIV_F64;
  features.rank = 2;
  features.shape = shape;
  labels = features;
  labels.data = y;
  labels.rank = 1;
  variances = labels;
  variances.data = v;

  check(biv_set_num_threads(1));
  check(biv_dataset_create_from_arrays(&features, &labels, &variances, &data));
  check(biv_model_create(arguments[1], &model));
  check(biv_trainer_create(model, data, arguments[2], &trainer));
  check(biv_trainer_fit(trainer, 5, NULL, NULL, NULL));
  metrics.struct_size = sizeof metrics;
  check(biv_trainer_evaluate(trainer, data, &metrics));
  printf("%.17g\n", metrics.rmse);
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(data);

  check(biv_build_info(&info));
  if (count > 3) fprintf(stderr, "%s\n", info);
#ifdef HOST_BLAS
  {
    /* The host's own BLAS is still the host's. */
    const int one = 1;
    const double two = 2, three = 3;
    if (ddot_(&one, &two, &one, &three, &one) != 6) return 3;
  }
#endif
  return 0;
}
