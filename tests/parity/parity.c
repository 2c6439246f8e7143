/* The parity experiment from C: see run.sh. */
#include <biv.h>
#include <stdio.h>

static int fail(void) {
  fprintf(stderr, "%s\n", biv_last_error_message());
  return 1;
}

int main(int count, char **arguments) {
  biv_dataset *data = NULL, *train = NULL, *test = NULL, *noisy = NULL;
  biv_model *model = NULL;
  biv_trainer *trainer = NULL;
  double values[121];
  if (count != 2 || biv_set_num_threads(1) ||
      biv_dataset_create_synthetic("{\"rows\": 600, \"features\": 10, \"seed\": 7}", &data) ||
      biv_dataset_split(data, "{\"train_size\": 500, \"test_size\": 100, \"seed\": 7}", &train, &test) ||
      biv_dataset_add_noise(
          train, "{\"distribution\": {\"kind\": \"gamma\", \"mean\": 20, \"variance\": 400}, \"seed\": 7}", &noisy) ||
      biv_model_create("{\"kind\": \"mlp\", \"inputs\": 10, \"hidden\": [32, 16], \"seed\": 7}", &model) ||
      biv_trainer_create(model, noisy,
                         "{\"loss\": {\"kind\": \"biv\", \"epsilon\": 0.1}, \"batch_size\": 25, "
                         "\"learning_rate\": 0.01, \"seed\": 7}",
                         &trainer))
    return fail();
  for (int i = 0; i < 20; ++i) {
    biv_step step = {.struct_size = sizeof step};
    if (biv_trainer_step(trainer, &step)) return fail();
    values[i] = step.loss;
  }
  biv_metrics metrics = {.struct_size = sizeof metrics};
  static float x[100][10];
  int64_t shape[] = {100, 10}, rows[] = {100};
  biv_array_out features = {x, BIV_F32, 2, shape, NULL, 0}, predictions = {values + 21, BIV_F64, 1, rows, NULL, 0};
  biv_array again = {x, BIV_F32, 2, shape, NULL, 0};
  if (biv_trainer_evaluate(trainer, test, &metrics) || biv_dataset_copy_features(test, &features) ||
      biv_trainer_predict(trainer, &again, &predictions))
    return fail();
  values[20] = metrics.rmse;
  FILE *file = fopen(arguments[1], "wb");
  return file == NULL || fwrite(values, sizeof *values, 121, file) != 121 || fclose(file) != 0;
}
