#include <biv.h>
#include <stdio.h>

int main(void) {
  /* 2,000 rows of y = x0 + 2 x1, each label with noise whose variance is known. */
  enum { ROWS = 2000 };
  static double x[ROWS][2], y[ROWS], v[ROWS];
  for (int i = 0; i < ROWS; ++i) {
    x[i][0] = i % 61 / 61.0, x[i][1] = i % 53 / 53.0;
    v[i] = i % 2 ? 0.01 : 4;
    y[i] = x[i][0] + 2 * x[i][1] + (i % 2 ? 0.346 : 6.93) * (i * 7919 % 1000 / 1000.0 - 0.5);
  }
  int64_t table[] = {ROWS, 2}, column[] = {ROWS};
  biv_array features = {x, BIV_F64, 2, table, NULL, 0};
  biv_array labels = {y, BIV_F64, 1, column, NULL, 0}, variances = {v, BIV_F64, 1, column, NULL, 0};

  double at[] = {0.5, 0.5}, prediction;
  int64_t one_row[] = {1, 2};
  biv_array where = {at, BIV_F64, 2, one_row, NULL, 0};
  biv_array_out what = {&prediction, BIV_F64, 1, one_row, NULL, 0};

  biv_dataset *data = NULL;
  biv_model *model = NULL;
  int failed = biv_dataset_create_from_arrays(&features, &labels, &variances, &data) ||
               biv_fit(NULL, data, NULL, NULL, NULL, &model, NULL) || biv_model_predict(model, &where, &what) ||
               biv_model_save(model, "model.biv");
  if (failed)
    fprintf(stderr, "%s\n", biv_last_error_message());
  else
    printf("y(0.5, 0.5) = 1.5, predicted %.2f\n", prediction);
  biv_model_free(model);
  biv_dataset_free(data);
  return failed;
}
