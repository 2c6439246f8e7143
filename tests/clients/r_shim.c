/* What R calls (client.R): it passes doubles by pointer, its matrices column-major. */
#include <R.h>
#include <biv.h>

static void check(biv_status status) {
  if (status != BIV_OK) error("%s", biv_last_error_message());
}

void biv_r_train(double *x, double *y, double *v, int *sizes, char **options, double *rmse) {
  int64_t shape[] = {sizes[0], sizes[1]}, strides[] = {1, sizes[0]};
  biv_array features = {x, BIV_F64, 2, shape, strides, 0};
  biv_array labels = {y, BIV_F64, 1, shape, NULL, 0}, variances = {v, BIV_F64, 1, shape, NULL, 0};
  biv_dataset *data;
  biv_model *model;
  biv_trainer *trainer;
  biv_metrics metrics = {.struct_size = sizeof metrics};
  check(biv_set_num_threads(1));
  check(biv_dataset_create_from_arrays(&features, &labels, &variances, &data));
  check(biv_model_create(options[0], &model));
  check(biv_trainer_create(model, data, options[1], &trainer));
  check(biv_trainer_fit(trainer, 5, NULL, NULL, NULL));
  check(biv_trainer_evaluate(trainer, data, &metrics));
  *rmse = metrics.rmse;
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(data);
}
